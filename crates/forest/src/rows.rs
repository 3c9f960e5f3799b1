//! Rows to predict.

use crate::dataset::Feature;
use crate::error::{DataError, PredictError};
use crate::table::{Table, Values};

/// Rows of numbers, one after another; NaN is a missing value.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    width: usize,
    values: Vec<f64>,
}

impl Rows {
    /// Rows of `width` numbers each, one row after another in `values`.
    ///
    /// # Errors
    /// [`PredictError::Unlike`] if the numbers do not make whole rows.
    pub fn new(width: usize, values: Vec<f64>) -> Result<Self, PredictError> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(PredictError::Unlike(format!(
                "{} numbers do not make whole rows of {width}",
                values.len()
            )));
        }
        Ok(Self { width, values })
    }

    /// One row.
    #[must_use]
    pub fn one(values: &[f64]) -> Self {
        Self {
            width: values.len().max(1),
            values: values.to_vec(),
        }
    }

    /// The columns of a table that a model wants, found by name, in the model's order. Other
    /// columns are ignored; a text that the model has never seen counts as missing.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`] if one is not there, [`DataError::WrongKind`] if it holds texts
    /// instead of numbers or the other way about.
    pub fn of_table(table: &Table, features: &[Feature]) -> Result<Self, DataError> {
        Ok(Self::of_columns(&columns_of(table, features)?, table.len()))
    }

    pub(crate) fn of_columns(columns: &[Vec<f64>], rows: usize) -> Self {
        let mut values = Vec::with_capacity(rows * columns.len());
        for row in 0..rows {
            values.extend(
                columns
                    .iter()
                    .map(|column| column.get(row).copied().unwrap_or(f64::NAN)),
            );
        }
        Self {
            width: columns.len().max(1),
            values,
        }
    }

    /// Numbers in a row.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// How many rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The numbers of so many rows at a time, one row after another; the last ones may be fewer.
    #[must_use]
    pub fn blocks(&self, rows: usize) -> Vec<&[f64]> {
        let numbers = self.width.saturating_mul(rows.max(1));
        self.values.chunks(numbers).collect()
    }

    /// One row.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<&[f64]> {
        let start = row.checked_mul(self.width)?;
        self.values.get(start..start.checked_add(self.width)?)
    }

    pub(crate) fn column(&self, column: usize) -> Vec<f64> {
        self.values
            .iter()
            .copied()
            .skip(column)
            .step_by(self.width)
            .collect()
    }

    pub(crate) fn replace_column(&mut self, column: usize, values: &[f64]) {
        let slots = self.values.iter_mut().skip(column).step_by(self.width);
        for (slot, value) in slots.zip(values) {
            *slot = *value;
        }
    }

    pub(crate) fn values(&self) -> &[f64] {
        &self.values
    }
}

/// A model's columns out of a table.
pub(crate) fn columns_of(table: &Table, features: &[Feature]) -> Result<Vec<Vec<f64>>, DataError> {
    let column = |feature: &Feature| {
        let column = table.column(&feature.name)?;
        match (&column.values, feature.levels.is_empty()) {
            (Values::Numbers(values), true) => Ok(values.clone()),
            (Values::Texts { levels, of }, false) => {
                let known = feature.numbers_of(levels);
                let number = |code: &u32| known.get(*code as usize).copied().unwrap_or(f64::NAN);
                Ok(of.iter().map(number).collect())
            }
            (Values::Missing(rows), _) => Ok(vec![f64::NAN; *rows]),
            (values, numbers) => Err(DataError::WrongKind {
                column: feature.name.clone(),
                found: values.kind(),
                expected: if numbers { "numbers" } else { "texts" },
            }),
        }
    };
    features.iter().map(column).collect()
}

impl Feature {
    /// For each of some texts the number that it is to the model; unknown texts are missing.
    pub(crate) fn numbers_of(&self, texts: &[String]) -> Vec<f64> {
        let number = |text: &String| match self.levels.binary_search(text) {
            Ok(place) => place as f64,
            Err(_) => f64::NAN,
        };
        texts.iter().map(number).collect()
    }
}
