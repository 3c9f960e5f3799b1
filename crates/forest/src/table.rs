//! CSV in: a header, then rows; each column becomes numbers or texts by what is in its cells.

use std::collections::BTreeMap;
use std::io::Read;

use csv::{ByteRecord, ReaderBuilder};

use crate::error::DataError;
use crate::limits::{MAX_CELLS, MAX_COLUMNS, MAX_CSV_BYTES, MAX_NAME_BYTES, MAX_ROWS};

use self::column::{Builder, Forced};

mod column;

/// Cells that mean "not known", besides white space. Compared without regard to case.
pub const MISSING: [&str; 5] = ["na", "n/a", "nan", "null", "?"];

/// The code of a missing text.
pub(crate) const NO_LEVEL: u32 = u32::MAX;

/// How to read a CSV.
#[derive(Clone, Debug)]
pub struct CsvOptions {
    /// What stands between cells. A comma by default.
    pub delimiter: u8,
    /// Columns to take as text although they may look like numbers.
    pub text: Vec<String>,
    /// Columns to take as numbers: a text in one is an error even where all are texts.
    pub number: Vec<String>,
    /// The column that holds how much each row counts; it is no feature.
    pub weights: Option<String>,
    /// Columns to leave out.
    pub ignore: Vec<String>,
    /// Columns to read, if not all: others may hold anything.
    pub only: Option<Vec<String>>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: b',',
            text: Vec::new(),
            number: Vec::new(),
            weights: None,
            ignore: Vec::new(),
            only: None,
        }
    }
}

impl CsvOptions {
    fn forced(&self, name: &str) -> Option<Forced> {
        let listed = |names: &[String]| names.iter().any(|listed| listed == name);
        if listed(&self.text) {
            Some(Forced::Text)
        } else if listed(&self.number) {
            Some(Forced::Number)
        } else {
            None
        }
    }

    fn ignores(&self, name: &str) -> bool {
        let listed = |names: &[String]| names.iter().any(|listed| listed == name);
        listed(&self.ignore) || self.only.as_deref().is_some_and(|only| !listed(only))
    }
}

/// A table of named columns of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub(crate) columns: Vec<Column>,
    /// The line of the file where each row began, for later errors.
    pub(crate) lines: Vec<u64>,
}

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) values: Values,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    /// NaN is a missing number.
    Numbers(Vec<f64>),
    /// Indices into sorted texts; [`NO_LEVEL`] is a missing one.
    Texts { levels: Vec<String>, of: Vec<u32> },
    /// All of so many cells are missing.
    Missing(usize),
}

impl Values {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Numbers(_) => "numbers",
            Self::Texts { .. } => "texts",
            Self::Missing(_) => "nothing",
        }
    }
}

impl Table {
    /// Reads a CSV: UTF-8, a header line, then rows of as many cells.
    ///
    /// A column is numeric if every cell that is not missing (see [`MISSING`]) is a number, and
    /// text if none is.
    ///
    /// # Errors
    /// Any [`DataError`] that names lines and columns; nothing is kept of the input then.
    pub fn read_csv(input: impl Read, options: &CsvOptions) -> Result<Self, DataError> {
        Self::read_bounded(input, options, MAX_CSV_BYTES)
    }

    fn read_bounded(input: impl Read, options: &CsvOptions, limit: u64) -> Result<Self, DataError> {
        let mut bounded = Bounded {
            inner: input,
            left: limit,
            exceeded: false,
        };
        let table = read(&mut bounded, options);
        if bounded.exceeded {
            return Err(too_large("the CSV, in bytes,", limit + 1, limit));
        }
        table
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no row. A table that was read has at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The columns' names in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// Whether there is a column of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    pub(crate) fn column(&self, name: &str) -> Result<&Column, DataError> {
        self.columns
            .iter()
            .find(|column| column.name == name)
            .ok_or_else(|| DataError::UnknownColumn {
                column: name.to_owned(),
                known: some_names(self.names()),
            })
    }

    /// Takes a column out.
    pub(crate) fn take(&mut self, name: &str) -> Result<Column, DataError> {
        let known = || some_names(self.names());
        match self.columns.iter().position(|column| column.name == name) {
            Some(place) => Ok(self.columns.remove(place)),
            None => Err(DataError::UnknownColumn {
                column: name.to_owned(),
                known: known(),
            }),
        }
    }

    pub(crate) fn line(&self, row: usize) -> u64 {
        self.lines.get(row).copied().unwrap_or(0)
    }
}

/// The first names of many, for an error.
pub(crate) fn some_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let mut names = names.peekable();
    let mut text = names.by_ref().take(SHOWN).collect::<Vec<_>>().join(", ");
    let rest = names.count();
    if rest > 0 {
        text.push_str(&format!(" and {rest} more"));
    }
    text
}

pub(crate) fn too_large(what: &str, found: u64, limit: u64) -> DataError {
    DataError::TooLarge {
        what: what.to_owned(),
        found,
        limit,
    }
}

fn read(input: &mut impl Read, options: &CsvOptions) -> Result<Table, DataError> {
    let mut reader = ReaderBuilder::new()
        .delimiter(options.delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(input);
    let mut record = ByteRecord::new();
    if !next(&mut reader, &mut record)? {
        return Err(DataError::Empty);
    }
    let mut builders = header(&record, options)?;
    let width = record.len();
    let mut lines = Vec::new();
    while next(&mut reader, &mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != width {
            return Err(DataError::Ragged {
                line,
                expected: width,
                found: record.len(),
            });
        }
        if lines.len() == MAX_ROWS {
            return Err(too_large(
                "the number of rows",
                MAX_ROWS as u64 + 1,
                MAX_ROWS as u64,
            ));
        }
        lines.push(line);
        if lines.len() * width > MAX_CELLS {
            let found = (lines.len() * width) as u64;
            return Err(too_large("rows times columns", found, MAX_CELLS as u64));
        }
        for (builder, cell) in builders.iter_mut().zip(record.iter()) {
            builder.push(cell, line)?;
        }
    }
    if lines.is_empty() {
        return Err(DataError::NoRows);
    }
    let columns = builders
        .into_iter()
        .filter(|builder| !builder.ignored)
        .map(Builder::finish)
        .collect();
    Ok(Table { columns, lines })
}

fn next(reader: &mut csv::Reader<impl Read>, record: &mut ByteRecord) -> Result<bool, DataError> {
    reader
        .read_byte_record(record)
        .map_err(|error| DataError::Read(error.into()))
}

fn header(record: &ByteRecord, options: &CsvOptions) -> Result<Vec<Builder>, DataError> {
    if record.len() > MAX_COLUMNS {
        let found = record.len() as u64;
        return Err(too_large(
            "the number of columns",
            found,
            MAX_COLUMNS as u64,
        ));
    }
    let mut seen = BTreeMap::new();
    let mut builders = Vec::with_capacity(record.len());
    for (index, cell) in record.iter().enumerate() {
        let position = index + 1;
        // Spreadsheets put a byte order mark before the first name.
        let cell = match (index, cell.strip_prefix(b"\xef\xbb\xbf")) {
            (0, Some(rest)) => rest,
            _ => cell,
        };
        let name = std::str::from_utf8(cell)
            .map_err(|_| DataError::NotUtf8 {
                line: 1,
                column: position.to_string(),
            })?
            .trim();
        if name.is_empty() {
            return Err(DataError::UnnamedColumn { position });
        }
        if name.len() > MAX_NAME_BYTES {
            let what = format!("the name of column {position}, in bytes,");
            return Err(too_large(&what, name.len() as u64, MAX_NAME_BYTES as u64));
        }
        if let Some(first) = seen.insert(name.to_owned(), position) {
            return Err(DataError::DuplicateColumn {
                column: name.to_owned(),
                first,
                second: position,
            });
        }
        builders.push(Builder::new(
            name,
            options.ignores(name),
            options.forced(name),
        ));
    }
    let named = options.ignore.iter().chain(&options.text);
    for name in named.chain(&options.number).chain(&options.weights) {
        if !seen.contains_key(name) {
            return Err(DataError::UnknownColumn {
                column: name.clone(),
                known: some_names(seen.keys().map(String::as_str)),
            });
        }
    }
    Ok(builders)
}

/// A reader that stops at a bound and remembers that it did.
struct Bounded<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Ok(read)
            }
            None => {
                self.exceeded = true;
                Err(std::io::Error::other("the CSV is too large"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
