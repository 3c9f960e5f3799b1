//! How good predictions are.

use serde::{Deserialize, Serialize};

use crate::dataset::Target;
use crate::error::PredictError;
use crate::tally::Prediction;

/// How predictions compare with what was so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// Of classes.
    Classes(ClassScore),
    /// Of numbers.
    Numbers(NumberScore),
}

/// How good told classes are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Rows that were scored.
    pub rows: usize,
    /// Share of rows told right.
    pub accuracy: f64,
    /// Mean over classes that occur of the share told right: what guessing one class for all
    /// cannot raise.
    pub balanced_accuracy: f64,
    /// The classes' names.
    pub classes: Vec<String>,
    /// For each true class (rows) how often each class was told (columns).
    pub confusion: Vec<Vec<u64>>,
}

/// How good told numbers are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NumberScore {
    /// Rows that were scored.
    pub rows: usize,
    /// Share of the variance explained: 1 is perfect, 0 is as good as telling the mean always.
    pub r2: f64,
    /// Mean absolute error, in the target's unit.
    pub mae: f64,
    /// Root of the mean squared error, in the target's unit.
    pub rmse: f64,
}

impl Score {
    /// The one number to compare models by: accuracy or R2.
    #[must_use]
    pub const fn main(&self) -> f64 {
        match self {
            Self::Classes(score) => score.accuracy,
            Self::Numbers(score) => score.r2,
        }
    }

    /// Rows that were scored.
    #[must_use]
    pub const fn rows(&self) -> usize {
        match self {
            Self::Classes(score) => score.rows,
            Self::Numbers(score) => score.rows,
        }
    }

    /// Scores predictions, one for each of the target's rows; `None` is not counted.
    pub(crate) fn of<'a>(
        told: impl ExactSizeIterator<Item = Option<Told>> + 'a,
        target: &Target,
        classes: &[String],
    ) -> Result<Self, PredictError> {
        if told.len() != target.len() {
            return Err(PredictError::WrongData(format!(
                "{} predictions for {} rows",
                told.len(),
                target.len()
            )));
        }
        match target {
            Target::Classes { names, of } => {
                // The data may know other classes, or the same in another order.
                let known: Vec<Option<usize>> = names
                    .iter()
                    .map(|name| classes.iter().position(|class| class == name))
                    .collect();
                let pairs = told.zip(of).filter_map(|(told, of)| Some((told?, *of)));
                score_classes(pairs, names, &known, classes)
            }
            Target::Numbers(values) => {
                let pairs: Vec<(f64, f64)> = told
                    .zip(values)
                    .filter_map(|(told, value)| match told {
                        Some(Told::Number(told)) => Some((told, *value)),
                        _ => None,
                    })
                    .collect();
                Ok(Self::Numbers(score_numbers(&pairs)))
            }
        }
    }
}

/// A prediction without its reasons.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    Class(usize),
    Number(f64),
}

impl From<&Prediction> for Told {
    fn from(prediction: &Prediction) -> Self {
        match prediction {
            Prediction::Class { index, .. } => Self::Class(*index as usize),
            Prediction::Number { value } => Self::Number(*value),
        }
    }
}

fn score_classes(
    pairs: impl Iterator<Item = (Told, u32)>,
    names: &[String],
    known: &[Option<usize>],
    classes: &[String],
) -> Result<Score, PredictError> {
    let mut confusion = vec![vec![0_u64; classes.len()]; classes.len()];
    let mut rows = 0;
    for (told, class) in pairs {
        let truth = known
            .get(class as usize)
            .copied()
            .flatten()
            .ok_or_else(|| {
                let name = names.get(class as usize).cloned().unwrap_or_default();
                PredictError::WrongData(format!("the model does not know the class \"{name}\""))
            })?;
        let Told::Class(told) = told else {
            return Err(PredictError::WrongData(
                "the model tells numbers".to_owned(),
            ));
        };
        if let Some(count) = confusion.get_mut(truth).and_then(|row| row.get_mut(told)) {
            *count += 1;
            rows += 1;
        }
    }
    let mut right = 0;
    let (mut recalls, mut occurring) = (0.0, 0);
    for (class, row) in confusion.iter().enumerate() {
        let hit = row.get(class).copied().unwrap_or(0);
        let all: u64 = row.iter().sum();
        right += hit;
        if all > 0 {
            recalls += hit as f64 / all as f64;
            occurring += 1;
        }
    }
    Ok(Score::Classes(ClassScore {
        rows,
        accuracy: right as f64 / rows.max(1) as f64,
        balanced_accuracy: recalls / f64::from(occurring.max(1)),
        classes: classes.to_vec(),
        confusion,
    }))
}

fn score_numbers(pairs: &[(f64, f64)]) -> NumberScore {
    let count = pairs.len().max(1) as f64;
    let mean = pairs.iter().map(|(_, value)| value).sum::<f64>() / count;
    let squared = |f: fn(f64, f64, f64) -> f64| -> f64 {
        pairs
            .iter()
            .map(|&(told, value)| f(told, value, mean).powi(2))
            .sum()
    };
    let residual = squared(|told, value, _| told - value);
    let total = squared(|_, value, mean| value - mean);
    NumberScore {
        rows: pairs.len(),
        r2: if total > 0.0 {
            1.0 - residual / total
        } else {
            0.0
        },
        mae: pairs
            .iter()
            .map(|(told, value)| (told - value).abs())
            .sum::<f64>()
            / count,
        rmse: (residual / count).sqrt(),
    }
}
