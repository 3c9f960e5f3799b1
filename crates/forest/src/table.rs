//! Tables in. Of a CSV, a header and then rows, each column becomes numbers or texts by what is in
//! its cells; where cells have kinds, by those.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use csv::{ByteRecord, ReaderBuilder};

use crate::error::{DataError, Place};
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
    /// Columns of texts of which only these are known: any other text counts as missing, however
    /// many and however long they are.
    pub known: BTreeMap<String, BTreeSet<String>>,
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
            known: BTreeMap::new(),
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

    /// Whether a column of this name is read.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        !self.ignores(name)
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
    /// Where each row stands, for later errors.
    pub(crate) places: Places,
}

/// Where the rows of a table stand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Places {
    /// The line of the file where each began.
    Lines(Vec<u64>),
    /// One after the other, so many of them.
    Rows(usize),
}

/// A cell of a table whose cells have kinds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Nothing; so is a number that is NaN, and a text of [`MISSING`].
    Missing,
    /// A number.
    Number(f64),
    /// A text, whatever it looks like.
    Text(&'a str),
}

/// A table that is put together row by row, from something else than a CSV.
///
/// # Example
/// ```
/// use cpe_forest::{Cell, CsvOptions, TableBuilder};
///
/// let mut table = TableBuilder::new(["size", "kind"], &CsvOptions::default())?;
/// table.push([Cell::Number(1.5), Cell::Text("small")])?;
/// table.push([Cell::Missing, Cell::Text("large")])?;
/// assert_eq!(table.finish()?.len(), 2);
/// # Ok::<(), cpe_forest::DataError>(())
/// ```
pub struct TableBuilder {
    builders: Vec<Builder>,
    rows: usize,
}

impl std::fmt::Debug for TableBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableBuilder")
            .field("columns", &self.builders.len())
            .field("rows", &self.rows)
            .finish()
    }
}

impl TableBuilder {
    /// A table of these columns, with what the options say of their kinds.
    ///
    /// # Errors
    /// As for the header of a CSV.
    pub fn new<'a>(
        names: impl IntoIterator<Item = &'a str>,
        options: &CsvOptions,
    ) -> Result<Self, DataError> {
        Ok(Self {
            builders: columns(names.into_iter().map(str::trim), options)?,
            rows: 0,
        })
    }

    /// Adds a row of as many cells as there are columns. Those of columns that the options leave
    /// out may be anything.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] for another number of cells, what a CSV's row would give
    /// otherwise, with the number of the row.
    pub fn push<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) -> Result<(), DataError> {
        check_rows(self.rows + 1, self.builders.len())?;
        self.rows += 1;
        let place = Place::Row(self.rows as u64);
        let mut cells = cells.into_iter();
        for builder in &mut self.builders {
            let cell = cells.next().ok_or_else(|| ragged(place))?;
            builder.push_cell(cell, place)?;
        }
        match cells.next() {
            None => Ok(()),
            Some(_) => Err(ragged(place)),
        }
    }

    /// The table.
    ///
    /// # Errors
    /// [`DataError::NoRows`].
    pub fn finish(self) -> Result<Table, DataError> {
        finish(self.builders, Places::Rows(self.rows))
    }
}

fn ragged(place: Place) -> DataError {
    DataError::Inconsistent(format!("{place} has not one cell for each column"))
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
        match &self.places {
            Places::Lines(lines) => lines.len(),
            Places::Rows(rows) => *rows,
        }
    }

    /// Whether there is no row. A table that was read has at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    pub(crate) fn place(&self, row: usize) -> Place {
        match &self.places {
            Places::Lines(lines) => Place::Line(lines.get(row).copied().unwrap_or(0)),
            Places::Rows(_) => Place::Row(row as u64 + 1),
        }
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
        check_rows(lines.len() + 1, width)?;
        lines.push(line);
        for (builder, cell) in builders.iter_mut().zip(record.iter()) {
            builder.push(cell, line)?;
        }
    }
    finish(builders, Places::Lines(lines))
}

fn check_rows(rows: usize, columns: usize) -> Result<(), DataError> {
    if rows > MAX_ROWS {
        let what = "the number of rows";
        return Err(too_large(what, rows as u64, MAX_ROWS as u64));
    }
    let cells = rows * columns;
    if cells > MAX_CELLS {
        let what = "rows times columns";
        return Err(too_large(what, cells as u64, MAX_CELLS as u64));
    }
    Ok(())
}

fn finish(builders: Vec<Builder>, places: Places) -> Result<Table, DataError> {
    let kept = builders.into_iter().filter(|builder| !builder.ignored);
    let table = Table {
        columns: kept.map(Builder::finish).collect(),
        places,
    };
    if table.is_empty() {
        return Err(DataError::NoRows);
    }
    Ok(table)
}

fn next(reader: &mut csv::Reader<impl Read>, record: &mut ByteRecord) -> Result<bool, DataError> {
    reader
        .read_byte_record(record)
        .map_err(|error| DataError::Read(error.into()))
}

fn header(record: &ByteRecord, options: &CsvOptions) -> Result<Vec<Builder>, DataError> {
    check_columns(record.len())?;
    let name = |(index, cell): (usize, &'_ [u8])| {
        // Spreadsheets put a byte order mark before the first name.
        let cell = match (index, cell.strip_prefix(b"\xef\xbb\xbf")) {
            (0, Some(rest)) => rest.to_vec(),
            _ => cell.to_vec(),
        };
        String::from_utf8(cell).map_err(|_| DataError::NotUtf8 {
            line: 1,
            column: (index + 1).to_string(),
        })
    };
    let names: Vec<String> = record
        .iter()
        .enumerate()
        .map(name)
        .collect::<Result<_, _>>()?;
    columns(names.iter().map(|name| name.trim()), options)
}

fn check_columns(found: usize) -> Result<(), DataError> {
    if found <= MAX_COLUMNS {
        return Ok(());
    }
    let what = "the number of columns";
    Err(too_large(what, found as u64, MAX_COLUMNS as u64))
}

/// Columns of these names, before their first cell.
fn columns<'a>(
    names: impl Iterator<Item = &'a str>,
    options: &CsvOptions,
) -> Result<Vec<Builder>, DataError> {
    let mut seen = BTreeMap::new();
    let mut builders = Vec::new();
    for (name, position) in names.zip(1..) {
        check_columns(position)?;
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
        builders.push(Builder::new(name, options));
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
