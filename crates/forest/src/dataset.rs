//! Data to learn from: columns of features and a target.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::limits::{
    MAX_AUTO_CLASSES, MAX_CELLS, MAX_CLASSES, MAX_COLUMNS, MAX_LEVELS, MAX_NAME_BYTES, MAX_ROWS,
    MAX_TARGET,
};
use crate::rows::Rows;
use crate::seed::Stream;
use crate::table::{Column, CsvOptions, NO_LEVEL, Table, Values, too_large};

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
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    pub(crate) features: Vec<Feature>,
    pub(crate) columns: Vec<Vec<f64>>,
    pub(crate) target_name: String,
    pub(crate) target: Target,
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
        };
        dataset.check()?;
        Ok(dataset)
    }

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
        Self::from_table(Table::read_csv(input, options)?, target, kind)
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

    /// The content's BLAKE3 hash: names, levels, every value and the target, in their order.
    /// Independent of the form in which a data set is stored or sent.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"cpe-forest data set 1\n");
        let text = |hasher: &mut blake3::Hasher, text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        hasher.update(&(self.len() as u64).to_le_bytes());
        hasher.update(&(self.features.len() as u64).to_le_bytes());
        for (feature, column) in self.features.iter().zip(&self.columns) {
            text(&mut hasher, &feature.name);
            hasher.update(&(feature.levels.len() as u64).to_le_bytes());
            for level in &feature.levels {
                text(&mut hasher, level);
            }
            hash_numbers(&mut hasher, column);
        }
        text(&mut hasher, &self.target_name);
        match &self.target {
            Target::Classes { names, of } => {
                hasher.update(&(names.len() as u64).to_le_bytes());
                for name in names {
                    text(&mut hasher, name);
                }
                for class in of {
                    hasher.update(&class.to_le_bytes());
                }
            }
            Target::Numbers(values) => {
                hasher.update(&u64::MAX.to_le_bytes());
                hash_numbers(&mut hasher, values);
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// Holds whatever the parts came from to the type's invariant.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let wrong = |reason: String| Err(DataError::Inconsistent(reason));
        let rows = self.len();
        let limits = [
            ("the number of rows", rows, MAX_ROWS),
            ("the number of features", self.features.len(), MAX_COLUMNS),
            (
                "rows times columns",
                rows.saturating_mul(self.features.len()),
                MAX_CELLS,
            ),
        ];
        for (what, found, limit) in limits {
            if found > limit {
                return Err(too_large(what, found as u64, limit as u64));
            }
        }
        if rows == 0 {
            return Err(DataError::NoRows);
        }
        if self.features.is_empty() {
            return wrong("there is no feature besides the target".to_owned());
        }
        if self.features.len() != self.columns.len() {
            let (names, columns) = (self.features.len(), self.columns.len());
            return wrong(format!(
                "{names} features are named, {columns} columns are given"
            ));
        }
        check_features(&self.features)?;
        for (feature, column) in self.features.iter().zip(&self.columns) {
            if column.len() != rows {
                let (name, found) = (&feature.name, column.len());
                return wrong(format!(
                    "column \"{name}\" has {found} rows, the target {rows}"
                ));
            }
            let levels = feature.levels.len() as f64;
            if let Some(row) = column.iter().position(|value| {
                value.is_infinite()
                    || (levels > 0.0
                        && !value.is_nan()
                        && (value.fract() != 0.0 || !(0.0..levels).contains(value)))
            }) {
                let name = &feature.name;
                return wrong(format!(
                    "column \"{name}\" has an impossible value in row {row}"
                ));
            }
        }
        self.check_target()
    }

    fn check_target(&self) -> Result<(), DataError> {
        let wrong = |reason: String| Err(DataError::Inconsistent(reason));
        if self
            .features
            .iter()
            .any(|feature| feature.name == self.target_name)
        {
            return wrong(format!(
                "\"{}\" is both a feature and the target",
                self.target_name
            ));
        }
        match &self.target {
            Target::Classes { names, of } => {
                if names.len() > MAX_CLASSES {
                    let found = names.len() as u64;
                    return Err(too_large(
                        "the number of classes",
                        found,
                        MAX_CLASSES as u64,
                    ));
                }
                check_names("class", names)?;
                if of.iter().any(|&class| class as usize >= names.len()) {
                    return wrong("a row has a class without a name".to_owned());
                }
            }
            Target::Numbers(values) => {
                // A NaN is in no range, so it is found here too.
                let found = values
                    .iter()
                    .position(|value| !(-MAX_TARGET..=MAX_TARGET).contains(value));
                if let Some(row) = found {
                    return Err(DataError::TargetTooLarge {
                        row: row + 1,
                        column: self.target_name.clone(),
                        value: values.get(row).copied().unwrap_or(f64::NAN),
                        bound: MAX_TARGET,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Names and levels of features within their bounds and without repetition.
pub(crate) fn check_features(features: &[Feature]) -> Result<(), DataError> {
    check_names("feature", features.iter().map(|feature| &feature.name))?;
    for feature in features {
        if feature.levels.len() > MAX_LEVELS {
            let what = format!("the number of texts of \"{}\"", feature.name);
            return Err(too_large(
                &what,
                feature.levels.len() as u64,
                MAX_LEVELS as u64,
            ));
        }
        check_names("text", &feature.levels)?;
    }
    Ok(())
}

pub(crate) fn check_names<'a>(
    what: &str,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), DataError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if name.len() > MAX_NAME_BYTES {
            let what = format!("the name of a {what}, in bytes,");
            return Err(too_large(&what, name.len() as u64, MAX_NAME_BYTES as u64));
        }
        if !seen.insert(name) {
            return Err(DataError::Inconsistent(format!(
                "the {what} \"{name}\" is there twice"
            )));
        }
    }
    Ok(())
}

pub(crate) fn level_number(code: u32) -> f64 {
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

/// All NaNs are one value, and so are both zeros, as they are to a tree.
fn hash_numbers(hasher: &mut blake3::Hasher, values: &[f64]) {
    for value in values {
        let value = if value.is_nan() {
            f64::NAN
        } else {
            value + 0.0
        };
        hasher.update(&value.to_bits().to_le_bytes());
    }
}

fn target_of(column: Column, kind: TargetKind, table: &Table) -> Result<Target, DataError> {
    let missing = |row: usize| DataError::MissingTarget {
        line: table.line(row),
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
