use super::*;
use crate::dataset::Dataset;
use crate::forest::Forest;
use crate::spec::ForestSpec;

#[test]
fn the_area_is_the_chance_to_be_ranked_right() {
    let area = |cases: &[(f64, bool)]| roc_of(cases.to_vec()).unwrap().1;
    assert_eq!(area(&[(0.9, true), (0.1, false)]), 1.0);
    assert_eq!(area(&[(0.1, true), (0.9, false)]), 0.0);
    assert_eq!(area(&[(0.5, true), (0.5, false), (0.5, true)]), 0.5);
    // Of the four pairs three are in order.
    assert_eq!(
        area(&[(0.8, true), (0.6, false), (0.4, true), (0.2, false)]),
        0.75
    );
    assert!(roc_of(vec![(0.5, true)]).is_none());
}

#[test]
fn plots_are_whole_files_with_what_they_should_show() {
    let (train, test) = Dataset::breast_cancer().split(0.3, 1).unwrap();
    let forest = Forest::grow(&train, &ForestSpec::classify().with_trees(20)).unwrap();
    let card = ModelCard::new(&forest);
    let judged = forest.evaluated(&test).unwrap();
    let crate::score::Score::Classes(score) = forest.evaluate(&test).unwrap() else {
        panic!("classes are scored");
    };
    for (plot, shows) in [
        (importances(&card), vec!["worst perimeter", "and 10 more"]),
        (confusion(&score), vec!["benign", "malignant", "171 rows"]),
        (
            roc(&judged, &card),
            vec!["malignant 0.9", "polyline", "false alarms"],
        ),
        (
            calibration(&judged, &card),
            vec!["circle", "told probability"],
        ),
    ] {
        assert!(plot.starts_with("<svg xmlns") && plot.ends_with("</svg>\n"));
        for part in shows {
            assert!(plot.contains(part), "{part} is not in {plot}");
        }
    }
    let (train, test) = Dataset::diabetes().split(0.3, 1).unwrap();
    let forest = Forest::grow(&train, &ForestSpec::regress().with_trees(20)).unwrap();
    let plot = told(&forest.evaluated(&test).unwrap(), &ModelCard::new(&forest));
    assert_eq!(plot.matches("<circle").count(), test.len());
}

#[test]
fn bars_fit_a_terminal_and_the_largest_stands_first() {
    let long = "a column with a name that is far too long to be shown";
    let text = bars("Shares", &["small", long, "none"], &[0.25, 0.75, -0.1]);
    assert_eq!(
        text,
        "Shares\n  a column with a name that i…  75.00 % \
         ████████████████████████████████████\n  small                         25.00 % \
         ████████████\n  none                         -10.00 %\n"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn names_cannot_break_out_of_a_plot() {
    let mut canvas = Canvas::new(10.0, 10.0, "<script>&\"\u{1b}");
    canvas.text(0.0, 0.0, "</svg>");
    let svg = canvas.finish();
    assert!(svg.contains("&lt;script&gt;&amp;&quot;\u{fffd}") && svg.contains("&lt;/svg&gt;"));
    assert_eq!(svg.matches("</svg>").count(), 1);
}
