//! Plots of a forest as SVG files that stand for themselves: what its columns are worth, and what
//! it told against what was so.

use std::fmt::Write as _;

use crate::card::ModelCard;
use crate::dataset::Target;
use crate::forest::Judged;
use crate::score::ClassScore;
use crate::tally::Prediction;

pub(crate) use self::canvas::short;
use self::canvas::{Canvas, Plane};

mod canvas;

/// Columns in the plot of importances, the most important first.
const COLUMNS_MAX: usize = 20;

/// Rows and columns of a confusion matrix that are drawn.
const CLASSES_MAX: usize = 16;

/// Curves of one plot.
const CURVES_MAX: usize = 8;

/// Points of a curve or cloud: more would make the file large and the picture no better.
const POINTS_MAX: usize = 2_000;

/// Bins of the plot of calibration.
const BINS: usize = 10;

/// Colours of curves: Okabe and Ito's, which most colour-blind people can tell apart.
const COLOURS: [&str; CURVES_MAX] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#666666",
];

/// What each column is worth, as bars.
#[must_use]
pub fn importances(card: &ModelCard) -> String {
    let mut features: Vec<_> = card.features.iter().collect();
    features.sort_by(|a, b| b.importance.total_cmp(&a.importance));
    let all = features.len();
    features.truncate(COLUMNS_MAX);
    let most = features.first().map_or(0.0, |feature| feature.importance);
    let (left, top, step) = (210.0, 56.0, 24.0);
    let height = top + step * features.len() as f64 + 40.0;
    let mut canvas = Canvas::new(640.0, height, "Importance of columns");
    canvas.note(&format!("share in what the cuts gained; {}", card.target));
    for (place, feature) in features.iter().enumerate() {
        let y = top + step * place as f64;
        let wide = 350.0 * feature.importance / most.max(f64::MIN_POSITIVE);
        canvas.text_end(left - 8.0, y + 14.0, &short(&feature.name, 28));
        canvas.rect(left, y + 2.0, wide.max(1.0), step - 7.0, COLOURS[0], 1.0);
        let percent = format!("{:.1} %", 100.0 * feature.importance);
        canvas.text(left + wide.max(1.0) + 6.0, y + 14.0, &percent);
    }
    if all > COLUMNS_MAX {
        let y = top + step * features.len() as f64 + 18.0;
        canvas.text(left, y, &format!("and {} more", all - COLUMNS_MAX));
    }
    canvas.finish()
}

/// For each true class how often each class was told.
#[must_use]
pub fn confusion(score: &ClassScore) -> String {
    let shown = score.classes.len().min(CLASSES_MAX);
    let (left, top) = (150.0, 92.0);
    let cell = (480.0 / shown.max(1) as f64).min(110.0);
    let tall = cell.min(64.0);
    let height = top + tall * shown as f64 + 30.0;
    let mut canvas = Canvas::new(660.0, height, "What was told of which class");
    let accuracy = 100.0 * score.accuracy;
    canvas.note(&format!(
        "{} rows, {accuracy:.1} % right; a line for each true class",
        score.rows
    ));
    let letters = (cell / 7.5) as usize;
    for (place, class) in score.classes.iter().take(shown).enumerate() {
        let middle = left + cell * (place as f64 + 0.5);
        canvas.text_middle(middle, top - 10.0, &short(class, letters));
        let y = top + tall * (place as f64 + 0.5) + 4.0;
        canvas.text_end(left - 8.0, y, &short(class, 18));
    }
    for (row, counts) in score.confusion.iter().take(shown).enumerate() {
        let all: u64 = counts.iter().sum();
        for (column, count) in counts.iter().take(shown).enumerate() {
            let share = *count as f64 / all.max(1) as f64;
            let (x, y) = (left + cell * column as f64, top + tall * row as f64);
            let colour = if row == column {
                COLOURS[2]
            } else {
                COLOURS[1]
            };
            // Nothing is drawn faintly too, so that the grid can be seen.
            canvas.rect(
                x + 1.0,
                y + 1.0,
                cell - 2.0,
                tall - 2.0,
                colour,
                0.08 + 0.62 * share,
            );
            canvas.text_middle(x + cell / 2.0, y + tall / 2.0 + 4.0, &count.to_string());
        }
    }
    if score.classes.len() > shown {
        let more = score.classes.len() - shown;
        canvas.text(left, height - 10.0, &format!("and {more} more classes"));
    }
    canvas.finish()
}

/// For each row the probability of a class, and whether it is that class.
fn cases(judged: &Judged, class: usize, name: &str) -> Vec<(f64, bool)> {
    let Target::Classes { names, of } = &judged.truth else {
        return Vec::new();
    };
    let is = |row: usize| {
        let own = of.get(row).and_then(|class| names.get(*class as usize));
        own.is_some_and(|own| own == name)
    };
    let rows = judged.predictions.rows.iter().enumerate();
    let case = |(row, told): (usize, &Prediction)| match told {
        Prediction::Class { probabilities, .. } => {
            Some((probabilities.get(class).copied()?, is(row)))
        }
        Prediction::Number { .. } => None,
    };
    rows.filter_map(case).collect()
}

/// The curve of a class, false alarms against hits for each threshold, and the area below it:
/// the chance that a row of the class gets a higher probability than one of another. None if all
/// rows or none are of the class.
fn roc_of(mut cases: Vec<(f64, bool)>) -> Option<(Vec<(f64, f64)>, f64)> {
    let hits = cases.iter().filter(|case| case.1).count() as f64;
    let others = cases.len() as f64 - hits;
    if hits == 0.0 || others == 0.0 {
        return None;
    }
    cases.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut curve, mut area) = (vec![(0.0, 0.0)], 0.0);
    let (mut hit, mut missed) = (0.0, 0.0);
    for equal in cases.chunk_by(|a, b| a.0 == b.0) {
        let (before_hit, before_missed) = (hit, missed);
        let found = equal.iter().filter(|case| case.1).count() as f64;
        hit += found;
        missed += equal.len() as f64 - found;
        // Rows of one probability are in no order: half of their pairs count.
        area += (missed - before_missed) * f64::midpoint(before_hit, hit);
        curve.push((missed / others, hit / hits));
    }
    Some((curve, area / (hits * others)))
}

/// Hits against false alarms: for two classes of the second, for more of each against the rest.
#[must_use]
pub fn roc(judged: &Judged, card: &ModelCard) -> String {
    let mut canvas = Canvas::new(640.0, 470.0, "Hits against false alarms (ROC)");
    canvas.note("each class against the rest, with the area below its curve");
    let plane = Plane::square(&mut canvas, "false alarms", "hits");
    plane.diagonal(&mut canvas);
    let first = usize::from(card.classes.len() == 2);
    let mut line = 0;
    for (class, name) in card.classes.iter().enumerate().skip(first).take(CURVES_MAX) {
        let Some((curve, area)) = roc_of(cases(judged, class, name)) else {
            continue;
        };
        let colour = COLOURS.get(line).copied().unwrap_or(COLOURS[0]);
        plane.curve(&mut canvas, &thinned(&curve), colour);
        canvas.legend(line, colour, &format!("{} {area:.3}", short(name, 18)));
        line += 1;
    }
    canvas.finish()
}

/// How often a class was right for each probability that it was told with: on the diagonal, the
/// probabilities are what they say. Of two classes the second, of more the one that was told.
#[must_use]
pub fn calibration(judged: &Judged, card: &ModelCard) -> String {
    let mut canvas = Canvas::new(640.0, 470.0, "Are probabilities what they say?");
    let cases = match card.classes.as_slice() {
        [_, second] => {
            canvas.note(&format!("rows by the told probability of \"{second}\""));
            cases(judged, 1, second)
        }
        classes => {
            canvas.note("rows by the probability of the class that was told");
            let of_class = |(class, name): (usize, &String)| {
                let told = |told: &Prediction| match told {
                    Prediction::Class { index, .. } => *index as usize == class,
                    Prediction::Number { .. } => false,
                };
                let rows = judged.predictions.rows.iter();
                let all = cases(judged, class, name).into_iter();
                let own = all
                    .zip(rows)
                    .filter(|(_, row)| told(row))
                    .map(|(case, _)| case);
                own.collect::<Vec<_>>()
            };
            classes.iter().enumerate().flat_map(of_class).collect()
        }
    };
    let plane = Plane::square(&mut canvas, "told probability", "share that was so");
    plane.diagonal(&mut canvas);
    let mut bins = [(0.0, 0.0, 0_u32); BINS];
    for (probability, is) in cases {
        let place = ((probability * BINS as f64) as usize).min(BINS - 1);
        if let Some((sum, hits, rows)) = bins.get_mut(place) {
            *sum += probability;
            *hits += f64::from(u8::from(is));
            *rows += 1;
        }
    }
    let filled = bins.iter().filter(|bin| bin.2 > 0);
    let point =
        |&(sum, hits, rows): &(f64, f64, u32)| (sum / f64::from(rows), hits / f64::from(rows));
    let curve: Vec<(f64, f64)> = filled.clone().map(point).collect();
    plane.curve(&mut canvas, &curve, COLOURS[0]);
    let most = filled.clone().map(|bin| bin.2).max().unwrap_or(1);
    for (bin, &(x, y)) in filled.zip(&curve) {
        let size = 3.0 + 7.0 * (f64::from(bin.2) / f64::from(most)).sqrt();
        plane.point(&mut canvas, (x, y), size, COLOURS[0], 0.8);
    }
    canvas.legend(0, COLOURS[0], "larger: more rows");
    canvas.finish()
}

/// Told numbers against true ones.
#[must_use]
pub fn told(judged: &Judged, card: &ModelCard) -> String {
    let mut canvas = Canvas::new(640.0, 470.0, "Told against true");
    let Target::Numbers(truth) = &judged.truth else {
        return canvas.finish();
    };
    let number = |told: &Prediction| match told {
        Prediction::Number { value } => *value,
        Prediction::Class { .. } => 0.0,
    };
    let told = judged.predictions.rows.iter().map(number);
    let pairs: Vec<(f64, f64)> = truth.iter().copied().zip(told).collect();
    canvas.note(&format!("{}, {} rows", card.target, pairs.len()));
    let all = || pairs.iter().flat_map(|pair| [pair.0, pair.1]);
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return canvas.finish();
    }
    let plane = Plane::of(
        &mut canvas,
        (low, high.max(low + f64::MIN_POSITIVE)),
        "true",
        "told",
    );
    plane.diagonal(&mut canvas);
    for pair in thinned(&pairs) {
        plane.point(&mut canvas, pair, 3.0, COLOURS[0], 0.4);
    }
    canvas.finish()
}

/// At most [`POINTS_MAX`] of many points, evenly, the last among them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let mut some: Vec<_> = points.iter().copied().step_by(step).collect();
    if !points.len().saturating_sub(1).is_multiple_of(step) {
        some.extend(points.last());
    }
    some
}

/// Lines of text with a bar for each of some shares, the largest first, for a terminal of 80
/// columns. Shares below zero have no bar.
#[must_use]
pub fn bars(title: &str, names: &[&str], shares: &[f64]) -> String {
    const NAME: usize = 28;
    const BAR: f64 = 36.0;
    let mut pairs: Vec<(&str, f64)> = names.iter().copied().zip(shares.iter().copied()).collect();
    pairs.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most = pairs
        .first()
        .map_or(0.0, |pair| pair.1)
        .max(f64::MIN_POSITIVE);
    let mut text = format!("{title}\n");
    for (name, share) in pairs.iter().take(COLUMNS_MAX) {
        let eighths = (BAR * 8.0 * (share / most).clamp(0.0, 1.0)).round() as usize;
        let mut bar = "█".repeat(eighths / 8);
        bar.extend(
            ["▏", "▎", "▍", "▌", "▋", "▊", "▉"]
                .get((eighths % 8).wrapping_sub(1))
                .copied(),
        );
        let line = format!(
            "  {:NAME$} {:6.2} % {bar}",
            short(name, NAME),
            100.0 * share
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if pairs.len() > COLUMNS_MAX {
        let _ = writeln!(text, "  and {} more", pairs.len() - COLUMNS_MAX);
    }
    text
}

#[cfg(test)]
mod tests;
