//! Data to learn from: columns of features and a target.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::error::DataError;
#[cfg(doc)]
use crate::limits::{MAX_AUTO_CLASSES, MAX_TARGET, MAX_WEIGHT};
use crate::ranks::Ranks;
use crate::rows::Rows;
use crate::seed::Stream;

pub(crate) mod content;
mod csv;

/// One input of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// The column's name.
    pub name: String,
    /// The texts it may hold, sorted; text number `i` is the number `i` to the model. Empty for a
    /// column of numbers.
    pub levels: Vec<String>,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// One of several classes.
    Classes {
        /// The classes' names. From a CSV: sorted, as numbers if all are.
        names: Vec<String>,
        /// For each row the index of its class.
        of: Vec<u32>,
    },
    /// A finite number for each row.
    Numbers(Vec<f64>),
}

impl Target {
    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { of, .. } => of.len(),
            Self::Numbers(values) => values.len(),
        }
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `classes` or `numbers`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Classes { .. } => "classes",
            Self::Numbers(_) => "numbers",
        }
    }
}

/// Whether a target column holds classes or numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// Texts are classes; numbers are, if they are whole and at most [`MAX_AUTO_CLASSES`]
    /// different ones.
    #[default]
    Auto,
    /// Classes, even if they look like numbers.
    Classes,
    /// Numbers.
    Numbers,
}

/// Rows of features with a target.
///
/// Invariant: every column and the target have the same length, features are finite or NaN (a
/// missing value), classes are below their number and targets finite.
///
/// Two data sets are equal if their [`hash`](Dataset::hash) is: missing values equal each other.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) features: Vec<Feature>,
    pub(crate) columns: Vec<Vec<f64>>,
    pub(crate) target_name: String,
    pub(crate) target: Target,
    /// How much each row counts; none if all alike.
    pub(crate) weights: Option<Vec<f64>>,
    /// The column that the weights stood in, if they came from a table. No part of the content.
    pub(crate) weights_name: Option<String>,
    /// The columns as ranks, once somebody has asked: whoever grows one grove grows more.
    pub(crate) ranks: OnceLock<Arc<Ranks>>,
    /// The content's hash, once somebody has asked.
    pub(crate) hash: OnceLock<[u8; 32]>,
}

impl PartialEq for Dataset {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Dataset {
    /// Puts a data set together from its parts.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] if lengths, classes or names do not fit, [`DataError::TooLarge`]
    /// beyond a bound, [`DataError::TargetTooLarge`] for a number beyond [`MAX_TARGET`].
    pub fn new(
        features: Vec<Feature>,
        columns: Vec<Vec<f64>>,
        target_name: impl Into<String>,
        target: Target,
    ) -> Result<Self, DataError> {
        let dataset = Self {
            features,
            columns,
            target_name: target_name.into(),
            target,
            weights: None,
            weights_name: None,
            ranks: OnceLock::new(),
            hash: OnceLock::new(),
        };
        dataset.check()?;
        Ok(dataset)
    }

    /// The same with a weight for each row: how often it is drawn, in proportion. A row of weight
    /// 0 is never learnt from.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] if there are not as many as rows, one is negative, above
    /// [`MAX_WEIGHT`] or no number, or all are 0.
    pub fn with_weights(mut self, weights: Vec<f64>) -> Result<Self, DataError> {
        self.weights = Some(weights);
        self.hash = OnceLock::new();
        self.check()?;
        Ok(self)
    }

    /// How much each row counts; none if all alike.
    #[must_use]
    pub fn weights(&self) -> Option<&[f64]> {
        self.weights.as_deref()
    }

    /// The column that the weights stood in, if they came from a table.
    #[must_use]
    pub fn weights_name(&self) -> Option<&str> {
        self.weights_name.as_deref()
    }

    /// The rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.target.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.target.is_empty()
    }

    /// The features in the order of the model's columns.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// One feature's values for all rows; NaN is missing.
    #[must_use]
    pub fn column(&self, feature: usize) -> Option<&[f64]> {
        self.columns.get(feature).map(Vec::as_slice)
    }

    /// The columns as ranks.
    pub(crate) fn ranks(&self) -> &Ranks {
        self.ranks
            .get_or_init(|| Arc::new(Ranks::of(&self.columns)))
    }

    /// The target column's name.
    #[must_use]
    pub fn target_name(&self) -> &str {
        &self.target_name
    }

    /// What is to be told of each row.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The target of one row as it stands in a CSV.
    #[must_use]
    pub fn target_text(&self, row: usize) -> String {
        match &self.target {
            Target::Classes { names, of } => of
                .get(row)
                .and_then(|class| names.get(*class as usize))
                .cloned()
                .unwrap_or_default(),
            Target::Numbers(values) => values.get(row).map(f64::to_string).unwrap_or_default(),
        }
    }

    /// The features without the target, row by row, as prediction takes them.
    #[must_use]
    pub fn rows(&self) -> Rows {
        Rows::of_columns(&self.columns, self.len())
    }

    /// Some of the rows, in the order given. Rows that are not there are left out; classes keep
    /// their names even if no row has them.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        fn pick<T: Copy>(values: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter()
                .filter_map(|&row| values.get(row).copied())
                .collect()
        }
        Self {
            features: self.features.clone(),
            columns: self
                .columns
                .iter()
                .map(|column| pick(column, rows))
                .collect(),
            target_name: self.target_name.clone(),
            target: match &self.target {
                Target::Classes { names, of } => Target::Classes {
                    names: names.clone(),
                    of: pick(of, rows),
                },
                Target::Numbers(values) => Target::Numbers(pick(values, rows)),
            },
            weights: self.weights.as_ref().map(|weights| pick(weights, rows)),
            weights_name: self.weights_name.clone(),
            ranks: OnceLock::new(),
            hash: OnceLock::new(),
        }
    }

    /// Parts the rows into some to learn from and some to test with. Each class gives the same
    /// share (rounded) to the test; rows keep their order. The same seed gives the same parts.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] if `test_share` is not between 0 and 1, or a part is empty.
    pub fn split(&self, test_share: f64, seed: u64) -> Result<(Self, Self), DataError> {
        if !(test_share > 0.0 && test_share < 1.0) {
            return Err(DataError::Inconsistent(format!(
                "the share of test rows is {test_share}, it must be above 0 and below 1"
            )));
        }
        let strata: Vec<Vec<usize>> = match &self.target {
            Target::Numbers(values) => vec![(0..values.len()).collect()],
            Target::Classes { names, of } => {
                let mut strata = vec![Vec::new(); names.len()];
                for (row, class) in of.iter().enumerate() {
                    if let Some(stratum) = strata.get_mut(*class as usize) {
                        stratum.push(row);
                    }
                }
                strata
            }
        };
        let mut stream = Stream::new(seed);
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for mut stratum in strata {
            stream.shuffle(&mut stratum);
            let tested = (stratum.len() as f64 * test_share).round() as usize;
            train.extend(stratum.split_off(tested.min(stratum.len())));
            test.extend(stratum);
        }
        if train.is_empty() || test.is_empty() {
            return Err(DataError::Inconsistent(format!(
                "{} rows cannot be parted with a share of {test_share}",
                self.len()
            )));
        }
        train.sort_unstable();
        test.sort_unstable();
        Ok((self.select(&train), self.select(&test)))
    }
}

#[cfg(test)]
mod tests;
