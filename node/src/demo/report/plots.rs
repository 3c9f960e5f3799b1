//! The plots of the report: SVG that takes its colours from the page.

use std::fmt::Write;

use super::escape;
use crate::demo::summary::{NodeSummary, Phase};

/// Width of a plot in its own units; the page scales it.
const WIDTH: f64 = 480.0;

/// Width of one that spans the page.
const WIDE: f64 = 980.0;

/// Bins of the histogram.
const BINS: usize = 20;

/// Colours for nodes there are.
const NODE_COLOURS: usize = 6;

/// Rows and columns of a confusion matrix that are drawn.
const CLASSES_MAX: usize = 12;

/// The colour of a node.
pub(super) fn colour(node: usize) -> String {
    format!("var(--n{})", node % NODE_COLOURS)
}

fn svg(width: f64, height: f64, label: &str, body: &str) -> String {
    let label = escape(label);
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">{body}</svg>"
    )
}

fn text(x: f64, y: f64, attributes: &str, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>",
        escape(words)
    )
}

fn bar(x: f64, y: f64, width: f64, height: f64, fill: &str, says: &str) -> String {
    let says = escape(says);
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" \
         fill=\"{fill}\"><title>{says}</title></rect>"
    )
}

/// How often each class was told for each true class.
pub(super) fn confusion(classes: &[String], confusion: &[Vec<u64>]) -> String {
    let shown = classes.len().min(CLASSES_MAX);
    let (left, top) = (120.0, 46.0);
    let cell = ((WIDTH - left) / shown.max(1) as f64).min(130.0);
    let tall = cell.min(78.0);
    let mut body = text(left, 14.0, "class=\"soft\"", "told by the forest");
    body += &text(0.0, 14.0, "class=\"soft\"", "truth");
    for (row, (class, counts)) in classes.iter().zip(confusion).take(shown).enumerate() {
        let y = top + row as f64 * tall;
        body += &text(0.0, y + tall / 2.0 + 4.0, "", &short(class, 16));
        let head = left + (row as f64 + 0.5) * cell;
        body += &text(
            head,
            top - 12.0,
            "text-anchor=\"middle\"",
            &short(class, 16),
        );
        let all = counts.iter().sum::<u64>().max(1);
        for (column, count) in counts.iter().take(shown).enumerate() {
            let share = *count as f64 / all as f64;
            let x = left + column as f64 * cell;
            let fill = if row == column {
                "var(--good)"
            } else {
                "var(--bad)"
            };
            let says = format!("{class}: {count} of {all}");
            // Nothing is drawn faintly too, so that the grid can be seen.
            let shade = 0.07 + 0.63 * share;
            let _ = write!(
                body,
                "<g fill-opacity=\"{shade:.2}\">{}</g>",
                bar(x + 2.0, y + 2.0, cell - 4.0, tall - 4.0, fill, &says)
            );
            let (x, y) = (x + cell / 2.0, y + tall / 2.0);
            let size = "text-anchor=\"middle\" style=\"font-size:17px\"";
            body += &text(x, y + 2.0, size, &count.to_string());
            let part = format!("{:.1} %", 100.0 * share);
            body += &text(x, y + 18.0, "text-anchor=\"middle\" class=\"soft\"", &part);
        }
    }
    svg(
        WIDTH,
        top + shown as f64 * tall + 4.0,
        "confusion matrix",
        &body,
    )
}

/// How many cases have which probability of the watched class; each with whether it is of it.
pub(super) fn histogram(cases: &[(f64, bool)], limits: [f64; 2]) -> String {
    let (left, bottom, top) = (34.0, 200.0, 12.0);
    let mut bins = [(0_u32, 0_u32); BINS];
    for (probability, is) in cases {
        let bin = ((probability * BINS as f64) as usize).min(BINS - 1);
        if let Some((no, yes)) = bins.get_mut(bin) {
            *(if *is { yes } else { no }) += 1;
        }
    }
    let most = bins
        .iter()
        .map(|(no, yes)| no + yes)
        .max()
        .unwrap_or(0)
        .max(1);
    let wide = WIDTH - left - 12.0;
    // The square root keeps the few doubtful cases visible beside the many clear ones.
    let height = |count: u32| (f64::from(count) / f64::from(most)).sqrt() * (bottom - top);
    let mut body = String::new();
    for mark in marks(most) {
        let y = bottom - height(mark);
        let _ = write!(
            body,
            "<line class=\"axis\" x1=\"{left}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        );
        body += &text(
            left - 6.0,
            y + 4.0,
            "text-anchor=\"end\" class=\"soft\"",
            &mark.to_string(),
        );
    }
    let step = wide / BINS as f64;
    for (bin, (no, yes)) in bins.into_iter().enumerate() {
        let x = left + bin as f64 * step;
        let whole = height(no + yes);
        let part = if no + yes == 0 {
            0.0
        } else {
            whole * f64::from(yes) / f64::from(no + yes)
        };
        let from = bin as f64 / BINS as f64;
        let says = format!(
            "{from:.2} to {:.2}: {yes} yes, {no} no",
            from + 1.0 / BINS as f64
        );
        if no > 0 {
            body += &bar(
                x + 1.0,
                bottom - whole,
                step - 2.0,
                whole - part,
                "var(--no)",
                &says,
            );
        }
        if yes > 0 {
            body += &bar(
                x + 1.0,
                bottom - part,
                step - 2.0,
                part,
                "var(--yes)",
                &says,
            );
        }
    }
    for limit in limits {
        let x = left + limit * wide;
        let _ = write!(
            body,
            "<line class=\"limit\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>"
        );
    }
    for tick in 0..=5_u32 {
        let share = f64::from(tick) / 5.0;
        let x = left + share * wide;
        body += &text(
            x,
            bottom + 17.0,
            "text-anchor=\"middle\" class=\"soft\"",
            &format!("{share:.1}"),
        );
    }
    svg(WIDTH, bottom + 24.0, "histogram of probabilities", &body)
}

/// Round counts to draw lines at.
fn marks(most: u32) -> Vec<u32> {
    let steps = [1, 5, 20, 50, 100, 500, 2000, 10_000, 100_000, 1_000_000];
    steps.into_iter().filter(|step| *step <= most).collect()
}

/// Bars with names and values.
pub(super) fn bars(rows: &[(String, f64, String, String)]) -> String {
    let (left, tall) = (168.0, 26.0);
    let most = rows
        .iter()
        .map(|(_, value, ..)| *value)
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let mut body = String::new();
    for (row, (name, value, shown, fill)) in rows.iter().enumerate() {
        let y = row as f64 * tall;
        let width = (WIDTH - left - 58.0) * value / most;
        body += &text(
            left - 8.0,
            y + 17.0,
            "text-anchor=\"end\"",
            &short(name, 24),
        );
        body += &bar(
            left,
            y + 4.0,
            width.max(1.0),
            tall - 8.0,
            fill,
            &format!("{name}: {shown}"),
        );
        body += &text(left + width + 7.0, y + 17.0, "class=\"soft\"", shown);
    }
    svg(WIDTH, rows.len() as f64 * tall + 2.0, "bars", &body)
}

/// What happened when: a row for the phases, and one for each node with its groves.
pub(super) fn timeline(phases: &[Phase], nodes: &[NodeSummary], grown: &[(f64, String)]) -> String {
    let (left, tall) = (64.0, 30.0);
    let end = phases.iter().map(|phase| phase.to).fold(0.1, f64::max);
    let x = |at: f64| left + (WIDE - left - 16.0) * at / end;
    let bottom = tall * (nodes.len() + 1) as f64 + 6.0;
    let mut body = String::new();
    for tick in 0..=8_u32 {
        let at = end * f64::from(tick) / 8.0;
        let _ = write!(
            body,
            "<line class=\"axis\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{bottom}\"/>",
            x(at)
        );
        body += &text(
            x(at),
            bottom + 15.0,
            "text-anchor=\"middle\" class=\"soft\"",
            &format!("{at:.1} s"),
        );
    }
    for Phase { name, from, to } in phases {
        let width = (x(*to) - x(*from)).max(2.0);
        let says = format!("{name}: {from:.2} s to {to:.2} s");
        body += &bar(x(*from), 5.0, width, tall - 10.0, "var(--line)", &says);
        if width > 9.0 * name.len() as f64 {
            body += &text(x(*from) + 6.0, 19.0, "", name);
        }
    }
    for (row, node) in nodes.iter().enumerate() {
        let y = tall * (row as f64 + 1.5);
        body += &text(0.0, y + 4.0, "", &format!("node {}", short(&node.name, 4)));
        for (at, _) in grown.iter().filter(|(_, by)| *by == node.name) {
            let _ = write!(
                body,
                "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{}\" fill-opacity=\"0.8\"><title>a grove \
                 from node {}, {at:.2} s</title></circle>",
                x(*at),
                colour(row),
                escape(&node.name)
            );
        }
    }
    svg(WIDE, bottom + 22.0, "timeline", &body)
}

fn short(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars()
        .take(chars.saturating_sub(1))
        .chain(['…'])
        .collect()
}
