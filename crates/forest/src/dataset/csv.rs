//! Tables as data sets, and data sets as CSV.

use std::io::{Read, Write};

use super::{Dataset, Feature, Target, TargetKind};
use crate::error::DataError;
use crate::limits::{MAX_AUTO_CLASSES, MAX_CLASSES};
use crate::manifest::Manifest;
use crate::rows::{Rows, columns_of};
use crate::spec::Task;
use crate::table::{Column, CsvOptions, NO_LEVEL, Table, Values, too_large};

impl Dataset {
    /// Reads a CSV; `target` names the column to be told, all others are features.
    ///
    /// # Errors
    /// As [`Table::read_csv`] and [`from_table`](Self::from_table).
    pub fn from_csv(
        input: impl Read,
        target: &str,
        kind: TargetKind,
        options: &CsvOptions,
    ) -> Result<Self, DataError> {
        let table = Table::read_csv(input, options)?;
        Self::of_table(table, target, kind, options.weights.as_deref())
    }

    /// As [`from_table`](Self::from_table), with the column that says how much each row counts.
    ///
    /// # Errors
    /// As [`from_table`](Self::from_table), and as [`with_weights`](Self::with_weights);
    /// [`DataError::Inconsistent`] if one column is to be both.
    pub fn of_table(
        mut table: Table,
        target: &str,
        kind: TargetKind,
        weights: Option<&str>,
    ) -> Result<Self, DataError> {
        let Some(name) = weights else {
            return Self::from_table(table, target, kind);
        };
        if name == target {
            return Err(DataError::Inconsistent(format!(
                "column \"{name}\" is to be told, so it cannot say how much each row counts"
            )));
        }
        let weights = weights_of(table.take(name)?, &table)?;
        let mut data = Self::from_table(table, target, kind)?.with_weights(weights)?;
        data.weights_name = Some(name.to_owned());
        Ok(data)
    }

    /// Makes a data set of a table; `target` names the column to be told.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`] if there is no such column, [`DataError::MissingTarget`] if one
    /// of its cells is empty, [`DataError::WrongKind`] if texts are to be numbers.
    pub fn from_table(mut table: Table, target: &str, kind: TargetKind) -> Result<Self, DataError> {
        table.column(target)?;
        let place = table
            .columns
            .iter()
            .position(|column| column.name == target);
        let column = table.columns.remove(place.unwrap_or(0));
        let told = target_of(column, kind, &table)?;
        let mut features = Vec::with_capacity(table.columns.len());
        let mut columns = Vec::with_capacity(table.columns.len());
        for column in table.columns {
            let (levels, values) = match column.values {
                Values::Numbers(values) => (Vec::new(), values),
                Values::Texts { levels, of } => {
                    (levels, of.into_iter().map(level_number).collect())
                }
                Values::Missing(_) => {
                    return Err(DataError::AllMissing {
                        column: column.name,
                    });
                }
            };
            features.push(Feature {
                name: column.name,
                levels,
            });
            columns.push(values);
        }
        Self::new(features, columns, target, told)
    }

    /// Writes a CSV that reads back as this data set: features, then the target.
    ///
    /// # Errors
    /// [`DataError::Write`] as the writer says.
    pub fn write_csv(&self, output: impl Write) -> Result<(), DataError> {
        let failed = |error: csv::Error| DataError::Write(error.into());
        let mut writer = csv::Writer::from_writer(output);
        let names = self.features.iter().map(|feature| feature.name.as_str());
        writer
            .write_record(names.chain([self.target_name.as_str()]))
            .map_err(failed)?;
        for row in 0..self.len() {
            for (feature, column) in self.features.iter().zip(&self.columns) {
                let value = column.get(row).copied().unwrap_or(f64::NAN);
                writer.write_field(cell(feature, value)).map_err(failed)?;
            }
            writer.write_field(self.target_text(row)).map_err(failed)?;
            writer.write_record(None::<&[u8]>).map_err(failed)?;
        }
        writer.flush().map_err(DataError::Write)
    }
}

impl Manifest {
    /// Reads rows to tell from a CSV: the model's columns, by name; others may hold anything. A
    /// text that the model has never seen counts as missing.
    ///
    /// # Errors
    /// As [`Table::read_csv`] and [`Rows::of_table`].
    pub fn read_rows(&self, input: impl Read, delimiter: u8) -> Result<Rows, DataError> {
        let options = CsvOptions {
            delimiter,
            ..self.options()
        };
        Rows::of_table(&Table::read_csv(input, &options)?, self.features())
    }

    /// Reads rows with what is true of them, to evaluate the model, from a CSV.
    ///
    /// # Errors
    /// As [`read_rows`](Self::read_rows), and as [`Dataset::from_table`] for the target.
    pub fn read_labelled(&self, input: impl Read, delimiter: u8) -> Result<Dataset, DataError> {
        let options = CsvOptions {
            delimiter,
            ..self.labelled_options()
        };
        self.labelled(Table::read_csv(input, &options)?)
    }

    /// As [`read_labelled`](Self::read_labelled), from a table that was read with
    /// [`labelled_options`](Self::labelled_options).
    ///
    /// # Errors
    /// As [`Rows::of_table`], and as [`Dataset::from_table`] for the target.
    pub fn labelled(&self, mut table: Table) -> Result<Dataset, DataError> {
        let columns = columns_of(&table, self.features())?;
        let target = table.take(self.target())?;
        let target = target_of(target, self.target_kind(), &table)?;
        Dataset::new(self.features().to_vec(), columns, self.target(), target)
    }

    /// The data this model was trained with, from a table that was read with
    /// [`training_options`](Self::training_options).
    ///
    /// # Errors
    /// As [`Dataset::of_table`].
    pub fn training(&self, table: Table) -> Result<Dataset, DataError> {
        Dataset::of_table(table, self.target(), self.target_kind(), self.weights())
    }

    const fn target_kind(&self) -> TargetKind {
        match self.spec().task {
            Task::Classify => TargetKind::Classes,
            Task::Regress => TargetKind::Numbers,
        }
    }

    /// Whether its classes are texts that numbers are not written as: `01`, or `red`. Read as
    /// numbers they would be others.
    fn tells_texts(&self) -> bool {
        let number = |class: &String| {
            let number: Result<f64, _> = class.parse();
            number.is_ok_and(|number| number.to_string() == *class)
        };
        !self.classes().iter().all(number)
    }

    /// As [`options`](Self::options), to read rows of which is known what is true of them.
    #[must_use]
    pub fn labelled_options(&self) -> CsvOptions {
        let mut options = self.options();
        if let Some(only) = &mut options.only {
            only.push(self.target().to_owned());
        }
        if self.tells_texts() {
            options.text.push(self.target().to_owned());
        }
        options
    }

    /// As [`labelled_options`](Self::labelled_options), to read what the model was trained with.
    #[must_use]
    pub fn training_options(&self) -> CsvOptions {
        let mut options = self.labelled_options();
        options.weights = self.weights().map(str::to_owned);
        if let Some(only) = &mut options.only {
            only.extend(options.weights.clone());
        }
        options
    }

    /// How to read what this model is to be asked of: its columns only, as texts those that are
    /// texts to it, of which it knows those it was trained with, and as numbers the others.
    #[must_use]
    pub fn options(&self) -> CsvOptions {
        let (texts, numbers): (Vec<_>, Vec<_>) = self
            .features()
            .iter()
            .partition(|feature| !feature.levels.is_empty());
        let known = texts.iter().map(|feature| {
            let levels = feature.levels.iter().cloned();
            (feature.name.clone(), levels.collect())
        });
        let named = |features: &[&Feature]| features.iter().map(|it| it.name.clone()).collect();
        CsvOptions {
            text: named(&texts),
            number: named(&numbers),
            only: Some(self.features().iter().map(|it| it.name.clone()).collect()),
            known: known.collect(),
            ..CsvOptions::default()
        }
    }
}

fn weights_of(column: Column, table: &Table) -> Result<Vec<f64>, DataError> {
    let Values::Numbers(weights) = column.values else {
        return Err(DataError::WrongKind {
            column: column.name,
            found: column.values.kind(),
            expected: "numbers as weights",
        });
    };
    match weights.iter().position(|weight| weight.is_nan()) {
        Some(row) => Err(DataError::MissingTarget {
            place: table.place(row),
            column: column.name,
        }),
        None => Ok(weights),
    }
}

fn level_number(code: u32) -> f64 {
    if code == NO_LEVEL {
        f64::NAN
    } else {
        f64::from(code)
    }
}

fn cell(feature: &Feature, value: f64) -> String {
    if value.is_nan() {
        return String::new();
    }
    if feature.levels.is_empty() {
        return value.to_string();
    }
    feature
        .levels
        .get(value as usize)
        .cloned()
        .unwrap_or_default()
}

fn target_of(column: Column, kind: TargetKind, table: &Table) -> Result<Target, DataError> {
    let missing = |row: usize| DataError::MissingTarget {
        place: table.place(row),
        column: column.name.clone(),
    };
    match column.values {
        Values::Texts { levels, of } => {
            if kind == TargetKind::Numbers {
                return Err(DataError::WrongKind {
                    column: column.name,
                    found: "texts",
                    expected: "numbers as its target",
                });
            }
            if let Some(row) = of.iter().position(|&code| code == NO_LEVEL) {
                return Err(missing(row));
            }
            Ok(Target::Classes { names: levels, of })
        }
        Values::Missing(_) => Err(missing(0)),
        Values::Numbers(values) => {
            if let Some(row) = values.iter().position(|value| value.is_nan()) {
                return Err(missing(row));
            }
            let mut distinct = values.clone();
            distinct.sort_by(f64::total_cmp);
            distinct.dedup();
            let few_and_whole = distinct.len() <= MAX_AUTO_CLASSES
                && distinct.iter().all(|value| value.fract() == 0.0);
            match kind {
                TargetKind::Numbers => Ok(Target::Numbers(values)),
                TargetKind::Auto if !few_and_whole => Ok(Target::Numbers(values)),
                _ if distinct.len() > MAX_CLASSES => Err(too_large(
                    "the number of classes",
                    distinct.len() as u64,
                    MAX_CLASSES as u64,
                )),
                _ => Ok(Target::Classes {
                    of: values
                        .iter()
                        .map(|value| distinct.partition_point(|other| other < value) as u32)
                        .collect(),
                    names: distinct.iter().map(f64::to_string).collect(),
                }),
            }
        }
    }
}
