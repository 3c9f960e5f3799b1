//! The report: one HTML page that needs nothing else, in light and dark.

mod plots;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::cases::Decision;
use super::summary::Summary;
use crate::exit::{About, Fault};

/// How it looks.
const STYLE: &str = include_str!("report/style.css");

/// Features shown.
const FEATURES_MAX: usize = 12;

/// Cases for a second opinion shown.
const UNSURE_MAX: usize = 40;

/// The probabilities between which the triage rules doubt.
const LIMITS: [f64; 2] = [0.15, 0.85];

/// Writes the report into a folder, which is made when it is not there, and says where it is.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(folder: &Path, summary: &Summary) -> Result<PathBuf, Fault> {
    std::fs::create_dir_all(folder).about(format!("cannot make {}", folder.display()))?;
    let path = folder.join("report.html");
    std::fs::write(&path, page(summary)).about(format!("cannot write {}", path.display()))?;
    Ok(std::path::absolute(&path).unwrap_or(path))
}

/// The whole page.
pub(crate) fn page(summary: &Summary) -> String {
    let title = "A forest grown by a crowd";
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title} · CPE</title>\n\
         <style>\n{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n"
    );
    let _ = writeln!(
        html,
        "<p>{} nodes shared one tuple space, grew {} trees on {} rows of “{}”, and decided {} \
         held-out cases with a forest agent and an agent of CLIPS rules.</p>",
        summary.nodes.len(),
        summary.trees,
        summary.trained_on,
        escape(&summary.data),
        summary.cases.len()
    );
    html += &tiles(summary);
    html += "<main>\n";
    html += &judged(summary);
    html += &grown(summary);
    html += &unsure(summary);
    html += "</main>\n";
    let _ = writeln!(
        html,
        "<footer>Written by <code>cpe demo</code>, cpe {}. This page loads nothing from \
         elsewhere.</footer>\n</body></html>",
        env!("CARGO_PKG_VERSION")
    );
    html
}

fn tiles(summary: &Summary) -> String {
    let equal = summary.hash == summary.local_hash;
    let unsure = summary
        .decisions()
        .get(&Decision::SecondOpinion)
        .map_or(0, |(count, _)| *count);
    let tiles = [
        (
            format!("{:.1} %", 100.0 * summary.accuracy),
            "accuracy on held-out cases",
        ),
        (
            summary
                .out_of_bag
                .map_or_else(|| "–".to_owned(), |score| format!("{:.1} %", 100.0 * score)),
            "out-of-bag score",
        ),
        (
            format!("{unsure} of {}", summary.cases.len()),
            "cases for a second opinion",
        ),
        (
            format!("{:.0}", summary.tuples_per_second),
            "tuples decided a second",
        ),
        (
            format!("{:.0}", summary.messages_per_second),
            "messages of the space a second",
        ),
        (
            (if equal { "equal" } else { "NOT equal" }).to_owned(),
            "to the forest grown in one process",
        ),
    ];
    let tile = |(value, name): &(String, &str)| {
        format!("<div class=\"tile\"><b>{value}</b><span>{name}</span></div>\n")
    };
    format!(
        "<div class=\"tiles\">\n{}</div>\n",
        tiles.iter().map(tile).collect::<String>()
    )
}

/// What the forest and the rules made of the cases.
fn judged(summary: &Summary) -> String {
    let watched = summary
        .classes
        .get(summary.watched)
        .map_or("", String::as_str);
    let other = summary.called(Decision::ClearNo);
    let other = escape(other.trim_start_matches("confident: "));
    let cases = summary.cases.iter();
    let cases: Vec<_> = cases
        .map(|case| (case.probability, case.truth == summary.watched))
        .collect();
    let mut html = section(
        "",
        "Confusion matrix",
        "What the held-out cases were, and what the forest told.",
        &plots::confusion(&summary.classes, &summary.confusion),
    );
    let key = format!(
        "Held-out cases by the forest's probability of {0}, on a square-root scale. Between the \
         dashed lines the rules doubt.\
         <span class=\"nowrap\"><span class=\"key\" style=\"background:var(--no)\"></span>\
         {other}</span> \
         <span class=\"nowrap\"><span class=\"key\" style=\"background:var(--yes)\"></span>\
         {0}</span>",
        escape(watched)
    );
    html += &section(
        "",
        "How sure the forest is",
        &key,
        &plots::histogram(&cases, LIMITS),
    );
    let rows = summary
        .decisions()
        .into_iter()
        .map(|(decision, (count, of))| {
            let fill = match decision {
                Decision::ClearNo => "var(--no)",
                Decision::ClearYes => "var(--yes)",
                Decision::SecondOpinion => "var(--mid)",
            };
            let shown = format!("{count} ({of})");
            (
                summary.called(decision),
                count as f64,
                shown,
                fill.to_owned(),
            )
        });
    let rows: Vec<_> = rows.collect();
    let says = format!(
        "Cases by decision of the rules; in brackets those that are {}.",
        escape(watched)
    );
    html += &section("", "Decisions", &says, &plots::bars(&rows));
    html
}

/// Which features the trees used.
fn mattered(summary: &Summary) -> String {
    let rows = summary.importance.iter().take(FEATURES_MAX);
    let rows: Vec<_> = rows
        .map(|(name, share)| {
            (
                name.clone(),
                *share,
                format!("{:.1} %", 100.0 * share),
                "var(--n0)".to_owned(),
            )
        })
        .collect();
    let says = "Each feature's share in what the trees gained by their cuts.";
    section("", "What mattered", says, &plots::bars(&rows))
}

/// Who grew the forest, of what, when, and the proof.
fn grown(summary: &Summary) -> String {
    let rows = summary.nodes.iter().enumerate().map(|(n, node)| {
        let name = format!("node {}", node.name);
        (
            name,
            f64::from(node.groves),
            node.groves.to_string(),
            plots::colour(n),
        )
    });
    let rows: Vec<_> = rows.collect();
    let mut html = section(
        "",
        "Groves by node",
        "Each node took grove tasks from the space as it had time.",
        &plots::bars(&rows),
    );
    html += &mattered(summary);
    let mut table = String::from(
        "<div class=\"scroll\"><table><tr><th>node</th><th class=\"n\">groves grown</th>\
         <th class=\"n\">cases judged</th><th class=\"n\">cases decided</th></tr>\n",
    );
    for node in &summary.nodes {
        let _ = writeln!(
            table,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            escape(&node.name),
            node.groves,
            node.judged,
            node.decided
        );
    }
    table += "</table></div>";
    let equal = summary.hash == summary.local_hash;
    let (class, verdict) = if equal {
        ("ok", "The same forest, byte for byte.")
    } else {
        ("wrong", "Not the same!")
    };
    let _ = write!(
        table,
        "<p>The forest grown by the mesh, and grown once more in one process:</p>\
         <code>{}<br>{}</code><p class=\"{class}\">{verdict}</p>",
        escape(&summary.hash),
        escape(&summary.local_hash)
    );
    html += &section("", "Work and proof", "Who did what.", &table);
    let says = "Phases of the demo; a dot is a grove that came from a node.";
    let plot = plots::timeline(&summary.phases, &summary.nodes, &summary.grown);
    let plot = format!("<div class=\"scroll\">{plot}</div>");
    html += &section("wide", "Timeline", says, &plot);
    html
}

/// The cases that the rules did not decide alone.
fn unsure(summary: &Summary) -> String {
    let unsure = summary
        .cases
        .iter()
        .filter(|case| case.decision == Decision::SecondOpinion);
    let mut table = String::from(
        "<div class=\"scroll\"><table><tr><th class=\"n\">case</th><th>truth</th>\
         <th class=\"n\">probability</th><th>reason</th></tr>\n",
    );
    for case in unsure.clone().take(UNSURE_MAX) {
        let truth = summary.classes.get(case.truth).map_or("", String::as_str);
        let _ = writeln!(
            table,
            "<tr><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{:.2}</td><td>{}</td></tr>",
            case.id,
            escape(truth),
            case.probability,
            escape(&case.reason)
        );
    }
    table += "</table></div>";
    let count = unsure.count();
    let says = match count {
        0..=UNSURE_MAX => "The reasons are those the rules gave.".to_owned(),
        _ => format!("The first {UNSURE_MAX} of {count}; the reasons are those the rules gave."),
    };
    section("wide", "Cases for a second opinion", &says, &table)
}

/// `says` and `body` are HTML.
fn section(class: &str, title: &str, says: &str, body: &str) -> String {
    format!("<section class=\"{class}\"><h2>{title}</h2><p>{says}</p>\n{body}</section>\n")
}

/// Text as it stands in HTML, in and between tags. Control characters have no place there.
fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '&' => html.push_str("&amp;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c if c.is_control() => html.push('\u{fffd}'),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::summary;
    use super::*;

    /// Every tag that is opened is closed, in order.
    fn well_formed(html: &str) {
        let mut open: Vec<&str> = Vec::new();
        for part in html.split('<').skip(1) {
            let (tag, _) = part
                .split_once('>')
                .unwrap_or_else(|| panic!("no end: {part}"));
            let name = tag.split([' ', '\n', '/']).next().unwrap();
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "at {part}");
            } else if !(tag.starts_with('!')
                || tag.ends_with('/')
                || ["meta", "br"].contains(&name))
            {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let html = page(&summary());
        well_formed(&html);
        for outside in [
            "http:", "https:", "<script", "<link", "@import", "url(", "src=",
        ] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("prefers-color-scheme: dark"));
        assert_eq!(html.matches("<svg").count(), 6);
        assert!(!html.contains("NaN"));
    }

    #[test]
    fn names_from_data_cannot_become_markup() {
        let mut summary = summary();
        summary.classes = vec!["<b>".to_owned(), "\"><script>".to_owned()];
        summary.data = "<img src=x>".to_owned();
        summary.nodes[0].name = "<i>".to_owned();
        let html = page(&summary);
        well_formed(&html);
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b>&"));
    }

    #[test]
    fn a_page_of_no_cases_is_whole_too() {
        let mut summary = summary();
        (summary.cases, summary.importance, summary.grown) = (Vec::new(), Vec::new(), Vec::new());
        let html = page(&summary);
        well_formed(&html);
        assert!(!html.contains("NaN") && !html.contains("inf"));
    }
}
