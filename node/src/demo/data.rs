//! What the demo learns from, and what it is examined with.

use std::fs::File;
use std::io::BufReader;

use cpe_forest::{CsvOptions, Dataset, ForestSpec, Target, TargetKind};
use serde_json::{Value, json};

use super::DemoArgs;
use crate::exit::{About, Fault};

/// Share of the rows that the forest does not learn from.
const HELD_OUT: f64 = 0.3;

/// The number that decides all random choices: every run of the demo does the same.
const SEED: u64 = 42;

/// Features named as the reason for a decision.
const REASONS: usize = 3;

/// Rows of the small job that shows that all nodes grow trees.
const WARM_UP_ROWS: usize = 200;

/// The data, parted.
#[derive(Debug)]
pub(crate) struct Data {
    /// What it is called in the report.
    pub(crate) name: String,
    /// Whether it is the data that comes with the binary.
    pub(crate) bundled: bool,
    /// To learn from.
    pub(crate) train: Dataset,
    /// To be examined with.
    pub(crate) test: Dataset,
    /// The classes.
    pub(crate) classes: Vec<String>,
    /// The class whose probability the triage looks at: the rarest.
    pub(crate) watched: usize,
    /// Mean and standard deviation of each feature over the training rows.
    spreads: Vec<(f64, f64)>,
}

impl Data {
    /// Reads what the arguments name.
    ///
    /// # Errors
    /// When the file cannot be read, or its target holds no classes.
    pub(crate) fn of(args: &DemoArgs) -> Result<Self, Fault> {
        let (name, bundled, data) = match (&args.data, &args.target) {
            (Some(path), Some(target)) => {
                let name = path.display().to_string();
                let file = File::open(path).about(format!("cannot read {name}"))?;
                let (file, options) = (BufReader::new(file), CsvOptions::default());
                let data = Dataset::from_csv(file, target, TargetKind::Auto, &options);
                (name.clone(), false, data.about(name)?)
            }
            _ => {
                let name = "Breast Cancer Wisconsin (Diagnostic)".to_owned();
                (name, true, Dataset::breast_cancer())
            }
        };
        let Target::Classes { names, of } = data.target() else {
            let target = data.target_name();
            return Err(Fault::usage(format!(
                "column `{target}` holds numbers, and the demo decides between classes"
            ))
            .next(format!(
                "`cpe forest train {name} --target {target}` learns numbers"
            )));
        };
        let classes = names.clone();
        let count = |class: usize| of.iter().filter(|of| **of as usize == class).count();
        let watched = (0..classes.len())
            .min_by_key(|class| count(*class))
            .unwrap_or(0);
        let (train, test) = data.split(HELD_OUT, SEED).about(&name)?;
        let features = 0..train.features().len();
        let spreads = features.map(|feature| spread(train.column(feature).unwrap_or(&[])));
        let spreads = spreads.collect();
        Ok(Self {
            name,
            bundled,
            train,
            test,
            classes,
            watched,
            spreads,
        })
    }

    /// What forest to grow: groves enough for every node to get some.
    pub(crate) fn spec(&self, trees: u32, nodes: u32) -> ForestSpec {
        let mut spec = ForestSpec::classify().with_trees(trees).with_seed(SEED);
        spec.grove_trees = (trees / (2 * nodes.max(1))).clamp(1, 10);
        spec
    }

    /// A small forest of small data, two groves for each node.
    pub(crate) fn warm_up(&self, nodes: u32) -> (Dataset, ForestSpec) {
        let step = self.train.len().div_ceil(WARM_UP_ROWS).max(1);
        let mut rows: Vec<usize> = (0..self.train.len()).step_by(step).collect();
        if let Target::Classes { of, .. } = self.train.target() {
            // One of each class at least: a forest of one class is refused.
            let first = |class: u32| of.iter().position(|of| *of == class);
            rows.extend((0..self.classes.len()).filter_map(|class| first(class as u32)));
        }
        rows.sort_unstable();
        rows.dedup();
        let mut spec = ForestSpec::classify().with_trees(2 * nodes);
        spec.grove_trees = 1;
        (self.train.select(&rows), spec)
    }

    /// The class the triage looks at.
    pub(crate) fn watched_class(&self) -> &str {
        self.classes.get(self.watched).map_or("", String::as_str)
    }

    /// A held-out case as the forest agent takes it.
    pub(crate) fn case(&self, row: usize) -> Value {
        let rows = self.test.rows();
        let values = rows.row(row).unwrap_or(&[]);
        let value = |(feature, value): (&cpe_forest::Feature, &f64)| {
            if value.is_nan() {
                Value::Null
            } else if feature.levels.is_empty() {
                json!(value)
            } else {
                json!(feature.levels.get(*value as usize))
            }
        };
        self.test.features().iter().zip(values).map(value).collect()
    }

    /// What is most unusual about a held-out case among what matters to the forest.
    pub(crate) fn reasons(&self, row: usize, importance: &[f64]) -> Vec<String> {
        let rows = self.test.rows();
        let values = rows.row(row).unwrap_or(&[]);
        let weigh = |(n, value): (usize, &f64)| {
            let (mean, deviation) = self.spreads.get(n)?;
            let off = (value - mean) / deviation;
            let weight = importance.get(n)? * off.abs();
            weight.is_finite().then_some((weight, n, off))
        };
        let mut weights: Vec<_> = values.iter().enumerate().filter_map(weigh).collect();
        weights.sort_by(|a, b| b.0.total_cmp(&a.0));
        let text = |(_, n, off): &(f64, usize, f64)| {
            let name = self
                .test
                .features()
                .get(*n)
                .map_or("", |feature| &feature.name);
            let how = if *off < 0.0 { "low" } else { "high" };
            format!("{how} {name}")
        };
        weights.iter().take(REASONS).map(text).collect()
    }
}

/// Mean and standard deviation of what is not missing.
fn spread(column: &[f64]) -> (f64, f64) {
    let there = || column.iter().filter(|value| !value.is_nan());
    let count = there().count().max(1) as f64;
    let mean = there().sum::<f64>() / count;
    let square = there().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, square.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled() -> Data {
        let args = DemoArgs {
            data: None,
            target: None,
            keep: false,
            trees: 100,
            nodes: 3,
            report: "r".into(),
        };
        Data::of(&args).unwrap()
    }

    #[test]
    fn the_bundled_data_is_parted_and_malignant_is_watched() {
        let data = bundled();
        assert_eq!(data.train.len() + data.test.len(), 569);
        assert_eq!(data.watched_class(), "malignant");
        assert_eq!(data.case(0).as_array().unwrap().len(), 30);
    }

    #[test]
    fn there_are_groves_for_every_node() {
        let data = bundled();
        assert_eq!(data.spec(100, 3).groves(), 10);
        for (trees, nodes) in [(20, 3), (6, 3), (3, 3), (100, 16)] {
            let spec = data.spec(trees, nodes);
            assert!(
                spec.groves() >= nodes.min(trees),
                "{trees} trees, {nodes} nodes"
            );
        }
    }

    #[test]
    fn the_warm_up_is_small_and_can_be_grown() {
        let (data, spec) = bundled().warm_up(3);
        assert!(data.len() <= WARM_UP_ROWS + 2);
        assert_eq!(
            cpe_forest::Forest::grow(&data, &spec)
                .unwrap()
                .groves()
                .len(),
            6
        );
    }

    #[test]
    fn what_is_far_off_and_matters_is_the_reason() {
        let data = bundled();
        let mut importance = vec![0.0; 30];
        importance[3] = 1.0;
        importance[7] = 1.0;
        let reasons = data.reasons(0, &importance);
        assert_eq!(reasons.len(), REASONS);
        let names: Vec<_> = [3, 7]
            .map(|n: usize| data.test.features()[n].name.clone())
            .into();
        for reason in &reasons[..2] {
            assert!(
                names.iter().any(|name| reason.ends_with(name.as_str())),
                "{reason}"
            );
        }
    }
}
