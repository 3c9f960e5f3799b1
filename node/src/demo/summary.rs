//! What the demo found out: checks, and the table on the terminal.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cases::{Case, Decision};

/// The accuracy that a forest reaches on the bundled data, if nothing is broken. It has 0.95.
const ACCURACY_MIN: f64 = 0.9;

/// Columns of the table.
const WIDTH: usize = 78;

/// Everything the table, the report and the JSON show.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// The data's name.
    pub(crate) data: String,
    /// Whether it is the data that comes with the binary.
    pub(crate) bundled: bool,
    /// Rows to learn from.
    pub(crate) trained_on: usize,
    /// Features of a row.
    pub(crate) features: usize,
    /// The classes.
    pub(crate) classes: Vec<String>,
    /// Index of the class the triage looks at.
    pub(crate) watched: usize,
    /// Trees of the forest.
    pub(crate) trees: u32,
    /// Groves of the forest.
    pub(crate) groves: u32,
    /// The forest grown by the mesh: its hash.
    pub(crate) hash: String,
    /// The forest grown in one process: its hash.
    pub(crate) local_hash: String,
    /// Share of the training rows told right by trees that had not seen them.
    pub(crate) out_of_bag: Option<f64>,
    /// Share of the held-out cases told right by the forest agent.
    pub(crate) accuracy: f64,
    /// For each true class (rows) how often each class was told (columns).
    pub(crate) confusion: Vec<Vec<u64>>,
    /// The nodes, in order.
    pub(crate) nodes: Vec<NodeSummary>,
    /// Nodes that died meanwhile.
    pub(crate) died: Vec<String>,
    /// Each feature and its share in what the trees gained, the largest first.
    pub(crate) importance: Vec<(String, f64)>,
    /// When each grove came, and from which node.
    pub(crate) grown: Vec<(f64, String)>,
    /// What was done from when to when, in seconds since the beginning.
    pub(crate) phases: Vec<Phase>,
    /// Entries decided by all homes a second, while forest and cases were worked on.
    pub(crate) tuples_per_second: f64,
    /// Messages of the space that all nodes sent a second, likewise; the agents' own, which go on
    /// another stream, are not counted.
    pub(crate) messages_per_second: f64,
    /// The cases.
    #[serde(skip)]
    pub(crate) cases: Vec<Case>,
}

/// What a node did.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct NodeSummary {
    /// Its name.
    pub(crate) name: String,
    /// Groves it grew.
    pub(crate) groves: u32,
    /// Cases its forest agent judged.
    pub(crate) judged: usize,
    /// Cases its triage agent decided.
    pub(crate) decided: usize,
}

/// A part of the demo.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Phase {
    /// Its name.
    pub(crate) name: &'static str,
    /// When it began.
    pub(crate) from: f64,
    /// When it ended.
    pub(crate) to: f64,
}

/// The confusion matrix of cases, and the share of them told right.
pub(crate) fn confusion(cases: &[Case], classes: usize) -> (Vec<Vec<u64>>, f64) {
    let mut confusion = vec![vec![0; classes]; classes];
    for case in cases {
        if let Some(count) = confusion
            .get_mut(case.truth)
            .and_then(|row| row.get_mut(case.told))
        {
            *count += 1;
        }
    }
    let right = cases.iter().filter(|case| case.truth == case.told).count();
    (confusion, right as f64 / cases.len().max(1) as f64)
}

impl Summary {
    /// What is not as it must be; empty when all is well.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if self.hash != self.local_hash {
            failures.push("the forest of the mesh is not the one grown in one process".to_owned());
        }
        if self.bundled && self.accuracy < ACCURACY_MIN {
            let accuracy = self.accuracy;
            failures.push(format!(
                "the accuracy is {accuracy:.3}, below {ACCURACY_MIN}"
            ));
        }
        // With fewer groves than nodes some have nothing to do; and one may be too late for any
        // where the others are faster. That each works was seen otherwise by then.
        let worked = self.nodes.iter().filter(|node| node.groves > 0).count();
        let living = self.nodes.len().saturating_sub(self.died.len());
        let enough = living.min(self.groves as usize).min(2);
        if worked < enough {
            failures.push(format!("{worked} nodes grew the whole forest"));
        }
        failures
    }

    /// What a decision is called.
    pub(crate) fn called(&self, decision: Decision) -> String {
        let watched = self.classes.get(self.watched).map_or("", String::as_str);
        let other = match self.classes.as_slice() {
            [a, b] => if self.watched == 0 { b } else { a }.clone(),
            _ => format!("not {watched}"),
        };
        match decision {
            Decision::ClearNo => format!("confident: {other}"),
            Decision::ClearYes => format!("confident: {watched}"),
            Decision::SecondOpinion => "second opinion".to_owned(),
        }
    }

    /// For each decision how many cases, and how many of those are of the watched class.
    pub(crate) fn decisions(&self) -> BTreeMap<Decision, (usize, usize)> {
        let all = [
            Decision::ClearNo,
            Decision::SecondOpinion,
            Decision::ClearYes,
        ];
        let mut counts: BTreeMap<_, _> =
            all.into_iter().map(|decision| (decision, (0, 0))).collect();
        for case in &self.cases {
            let (count, watched) = counts.entry(case.decision).or_default();
            *count += 1;
            *watched += usize::from(case.truth == self.watched);
        }
        counts
    }

    /// The table: lines of at most 80 columns.
    pub(crate) fn table(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let rule = |title: &str| {
            let dashes = WIDTH.saturating_sub(title.chars().count() + 4);
            format!("── {title} {}", "─".repeat(dashes))
        };
        let mut row = |name: &str, value: String| {
            lines.push(cut(&format!("  {name:<26}{value}")));
        };
        row("data", self.data.clone());
        row(
            "rows",
            format!(
                "{} to learn from, {} held out",
                self.trained_on,
                self.cases.len()
            ),
        );
        row(
            "forest",
            format!("{} trees in {} groves", self.trees, self.groves),
        );
        row(
            "accuracy",
            format!("{:.1} % of held-out cases", 100.0 * self.accuracy),
        );
        if let Some(score) = self.out_of_bag {
            row(
                "out-of-bag score",
                format!("{:.1} % of training rows", 100.0 * score),
            );
        }
        let speed = format!(
            "{:.0} decided, {:.0} sent",
            self.tuples_per_second, self.messages_per_second
        );
        row("space: tuples, messages/s", speed);
        lines.insert(0, rule("result"));

        lines.push(rule("confusion (rows: truth, columns: told by the forest)"));
        let names: Vec<String> = self.classes.iter().map(|name| short(name, 12)).collect();
        let cells =
            |cells: Vec<String>| cells.iter().map(|c| format!("{c:>14}")).collect::<String>();
        lines.push(cut(&format!("  {:<16}{}", "", cells(names.clone()))));
        for (name, counts) in names.iter().zip(&self.confusion) {
            let counts = counts.iter().map(u64::to_string).collect();
            lines.push(cut(&format!("  {name:<16}{}", cells(counts))));
        }

        lines.push(rule("decisions of the triage rules"));
        let watched = self.classes.get(self.watched).map_or("", String::as_str);
        for (decision, (count, of)) in self.decisions() {
            let called = self.called(decision);
            lines.push(cut(&format!(
                "  {called:<26}{count:>6} cases, {of} of them {watched}"
            )));
        }
        let unsure = |case: &&Case| case.decision == Decision::SecondOpinion;
        if let Some(case) = self.cases.iter().find(unsure) {
            lines.push(cut(&format!("  e.g. case {}: {}", case.id, case.reason)));
        }

        lines.push(rule("nodes"));
        lines.push(format!(
            "  {:<16}{:>14}{:>14}{:>14}",
            "", "groves grown", "cases judged", "decided"
        ));
        for node in &self.nodes {
            let NodeSummary {
                name,
                groves,
                judged,
                decided,
            } = node;
            lines.push(format!("  {name:<16}{groves:>14}{judged:>14}{decided:>14}"));
        }

        if !self.died.is_empty() {
            let names = self.died.join(", ");
            lines.push(cut(&format!(
                "  died on the way: {names}; the others did its work"
            )));
        }

        lines.push(rule("proof"));
        let by = format!("grown by {} nodes", self.nodes.len());
        for (how, hash) in [
            (by.as_str(), &self.hash),
            ("grown in one", &self.local_hash),
        ] {
            lines.push(format!("  {how:<26}{}", short(hash, 32)));
        }
        let equal = self.hash == self.local_hash;
        lines.push(format!(
            "  {}",
            if equal {
                "the same forest, byte for byte"
            } else {
                "NOT THE SAME"
            }
        ));
        lines
    }
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

/// A line without control characters, cut to the width.
fn cut(line: &str) -> String {
    let clean: String = line
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    short(&clean, WIDTH)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A summary of made-up cases.
    pub(crate) fn summary() -> Summary {
        let case = |id: usize| {
            let probability = (id * 37 % 101) as f64 / 100.0;
            let decision = match probability {
                p if p <= 0.15 => Decision::ClearNo,
                p if p >= 0.85 => Decision::ClearYes,
                _ => Decision::SecondOpinion,
            };
            let truth = usize::from(probability + (id % 7) as f64 / 20.0 > 0.6);
            let told = usize::from(probability > 0.5);
            let reason = "it is <close> & \"odd\"; ".repeat(9);
            Case {
                id,
                truth,
                told,
                probability,
                decision,
                reason,
            }
        };
        let cases: Vec<_> = (0..171).map(case).collect();
        let (confusion, _) = confusion(&cases, 2);
        let node = |(name, groves): (&str, u32)| NodeSummary {
            name: name.to_owned(),
            groves,
            judged: if name == "b" { 171 } else { 0 },
            decided: if name == "c" { 171 } else { 0 },
        };
        let names = [
            "worst area",
            "worst perimeter",
            "mean <texture>",
            "radius error",
        ];
        Summary {
            data: "Breast Cancer Wisconsin (Diagnostic)".to_owned(),
            bundled: true,
            trained_on: 398,
            features: 30,
            classes: vec!["benign".to_owned(), "malignant".to_owned()],
            watched: 1,
            trees: 100,
            groves: 10,
            hash: "ab".repeat(32),
            local_hash: "ab".repeat(32),
            out_of_bag: Some(0.962),
            accuracy: 0.953,
            confusion,
            died: Vec::new(),
            nodes: [("a", 4), ("b", 3), ("c", 3)]
                .into_iter()
                .map(node)
                .collect(),
            importance: names
                .into_iter()
                .zip([0.3, 0.2, 0.1, 0.05])
                .map(|(n, s)| (n.to_owned(), s))
                .collect(),
            grown: (0..10)
                .map(|n| {
                    (
                        2.0 + f64::from(n) / 5.0,
                        ["a", "b", "c"][n as usize % 3].to_owned(),
                    )
                })
                .collect(),
            phases: vec![
                Phase {
                    name: "mesh",
                    from: 0.0,
                    to: 1.4,
                },
                Phase {
                    name: "grow",
                    from: 1.6,
                    to: 4.0,
                },
                Phase {
                    name: "cases",
                    from: 4.2,
                    to: 6.1,
                },
            ],
            tuples_per_second: 312.0,
            messages_per_second: 1804.0,
            cases,
        }
    }

    #[test]
    fn a_good_run_has_no_failures_and_each_fault_is_named() {
        assert_eq!(summary().failures(), Vec::<String>::new());
        let check = |change: fn(&mut Summary), said: &str| {
            let mut summary = summary();
            change(&mut summary);
            let failures = summary.failures();
            assert!(
                failures.len() == 1 && failures[0].contains(said),
                "{failures:?}"
            );
        };
        check(
            |summary| summary.local_hash = "cd".repeat(32),
            "not the one grown in one process",
        );
        check(|summary| summary.accuracy = 0.89, "below 0.9");
        let mut late = summary();
        late.nodes[2].groves = 0;
        assert_eq!(late.failures(), Vec::<String>::new());
        let alone = |summary: &mut Summary| {
            summary.nodes[1].groves = 0;
            summary.nodes[2].groves = 0;
        };
        check(alone, "1 nodes grew the whole forest");
        let mut own = summary();
        (own.bundled, own.accuracy) = (false, 0.5);
        assert_eq!(own.failures(), Vec::<String>::new());
    }

    #[test]
    fn the_table_fits_80_columns_whatever_the_names() {
        let mut summary = summary();
        summary.data = "x".repeat(200);
        summary.classes = vec!["é".repeat(90), "b\u{1b}[31m".to_owned()];
        let table = summary.table();
        assert!(
            table.iter().all(|line| line.chars().count() <= 80),
            "{table:#?}"
        );
        assert!(!table.concat().contains('\u{1b}'));
        assert!(
            table
                .iter()
                .any(|line| line.contains("the same forest, byte for byte"))
        );
    }

    #[test]
    fn the_confusion_counts_cases_by_truth_and_answer() {
        let summary = summary();
        let (confusion, accuracy) = confusion(&summary.cases, 2);
        assert_eq!(confusion.iter().flatten().sum::<u64>(), 171);
        let right = confusion[0][0] + confusion[1][1];
        assert!((accuracy - right as f64 / 171.0).abs() < 1e-12);
    }

    #[test]
    fn decisions_are_called_after_the_classes() {
        let mut summary = summary();
        assert_eq!(summary.called(Decision::ClearNo), "confident: benign");
        assert_eq!(summary.called(Decision::ClearYes), "confident: malignant");
        summary.classes.push("third".to_owned());
        assert_eq!(
            summary.called(Decision::ClearNo),
            "confident: not malignant"
        );
        assert_eq!(
            summary
                .decisions()
                .values()
                .map(|(count, _)| count)
                .sum::<usize>(),
            171
        );
    }
}
