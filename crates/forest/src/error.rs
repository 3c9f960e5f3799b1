//! What can go wrong, one enum for each operation.

/// Where in the input a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this line of a text, from 1.
    Line(u64),
    /// In this row of a table that has no lines, from 1.
    Row(u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A text as one word of a shell.
fn word(text: &str) -> String {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "-_.,/:@%+=".contains(sign);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Why a table or data set could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The input could not be read at all.
    #[error("cannot read the CSV: {0}")]
    Read(#[source] std::io::Error),
    /// The output could not be written.
    #[error("cannot write the CSV: {0}")]
    Write(#[source] std::io::Error),
    /// Nothing but white space.
    #[error("the CSV is empty: give a header line with column names and at least one row")]
    Empty,
    /// A header and no rows.
    #[error("the CSV has a header but no rows")]
    NoRows,
    /// A byte sequence that is no UTF-8.
    #[error(
        "line {line}, column {column} of the CSV is not UTF-8: save the file as UTF-8 and try again"
    )]
    NotUtf8 {
        /// Line of the file, from 1.
        line: u64,
        /// The column's name, or its number from 1 in the header.
        column: String,
    },
    /// A row with more or fewer cells than the header.
    #[error("line {line} of the CSV has {found} cells, the header has {expected}")]
    Ragged {
        /// Line of the file, from 1.
        line: u64,
        /// Cells of the header.
        expected: usize,
        /// Cells of this row.
        found: usize,
    },
    /// A column without a name.
    #[error("column {position} of the CSV header has no name")]
    UnnamedColumn {
        /// Place in the header, from 1.
        position: usize,
    },
    /// Two columns of one name.
    #[error("the CSV header names the column \"{column}\" twice, at {first} and {second}")]
    DuplicateColumn {
        /// The name.
        column: String,
        /// Place of the first, from 1.
        first: usize,
        /// Place of the second, from 1.
        second: usize,
    },
    /// Numbers and texts in one column.
    #[error(
        "{place}, column \"{column}\": \"{cell}\" is {kind}, but {other_place} has \
         {other}; correct the cell, or take the column as text (`--types {}=text`)",
        word(.column)
    )]
    Mixed {
        /// Where the offending cell stands.
        place: Place,
        /// The column's name.
        column: String,
        /// The cell, shortened.
        cell: String,
        /// `text` or `a number`.
        kind: &'static str,
        /// A place before it of the other kind.
        other_place: Place,
        /// `text` or `a number`: what stands there.
        other: &'static str,
    },
    /// A text in a column that was said to hold numbers.
    #[error(
        "{place}, column \"{column}\": \"{cell}\" is no number, and the column was said to \
         hold numbers; correct the cell, or leave it empty if the number is not known"
    )]
    NoNumber {
        /// Where the cell stands.
        place: Place,
        /// The column's name.
        column: String,
        /// The cell, shortened.
        cell: String,
    },
    /// A number that is infinite or too large to be held.
    #[error(
        "{place}, column \"{column}\": \"{cell}\" is not a finite number; correct the cell, leave \
         it empty if the number is not known, or, to train with it as a text, take the column as \
         text (`--types {}=text`)",
        word(.column)
    )]
    NotFinite {
        /// Where the cell stands.
        place: Place,
        /// The column's name.
        column: String,
        /// The cell, shortened.
        cell: String,
    },
    /// A column in which every cell is missing.
    #[error("column \"{column}\" has no value in any row: leave it out")]
    AllMissing {
        /// The column's name.
        column: String,
    },
    /// A cell of the target or of the weights is missing.
    #[error("{place}, column \"{column}\": the cell is missing: fill it in or leave the row out")]
    MissingTarget {
        /// Where the cell stands.
        place: Place,
        /// The column's name.
        column: String,
    },
    /// A target's number is beyond what growing can square.
    #[error(
        "row {row}: the target \"{column}\" is {value}, beyond the bound of {bound:e}: scale it"
    )]
    TargetTooLarge {
        /// Row, from 1.
        row: usize,
        /// The target's name.
        column: String,
        /// What it is.
        value: f64,
        /// What it may be.
        bound: f64,
    },
    /// No column of that name.
    #[error("there is no column \"{column}\"; the columns are {known}")]
    UnknownColumn {
        /// The name asked for.
        column: String,
        /// Some of the names there are.
        known: String,
    },
    /// A column of text where numbers are needed, or the other way about.
    #[error("column \"{column}\" holds {found}, the model was trained with {expected}")]
    WrongKind {
        /// The column's name.
        column: String,
        /// What it holds.
        found: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// Too much of something.
    #[error("too large: {what} is {found}, the limit is {limit}")]
    TooLarge {
        /// What exceeded its bound.
        what: String,
        /// What was found (or the bound plus one, if counting stopped there).
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// Parts that do not fit each other.
    #[error("the data set does not fit together: {0}")]
    Inconsistent(String),
    /// Bytes that are no data set.
    #[error("these bytes are no data set: {0}")]
    Decode(String),
}

/// Why a forest could not be specified or a grove not be grown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrowError {
    /// A setting outside its bounds.
    #[error("{setting} = {value} is outside {bounds}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        bounds: String,
    },
    /// A grove beyond the last.
    #[error("there is no grove {index}: the forest has {groves}")]
    NoSuchGrove {
        /// The index asked for.
        index: u32,
        /// How many there are.
        groves: u32,
    },
    /// Classification asked of numbers or regression of classes.
    #[error("the task is to {task}, but the target \"{target}\" holds {found}")]
    WrongTask {
        /// `classify` or `regress`.
        task: &'static str,
        /// The target's name.
        target: String,
        /// `classes` or `numbers`.
        found: &'static str,
    },
    /// Too few rows.
    #[error("{found} rows are too few to grow a tree: give at least {needed}")]
    TooFewRows {
        /// Rows there are.
        found: usize,
        /// Rows needed.
        needed: usize,
    },
    /// All rows have one class or one number.
    #[error("the target \"{target}\" is the same in all rows ({value}): there is nothing to learn")]
    ConstantTarget {
        /// The target's name.
        target: String,
        /// The value.
        value: String,
    },
    /// Each feature has one value only.
    #[error("every feature has the same value in all rows: there is nothing to learn from")]
    ConstantFeatures,
    /// A forest was to get more trees from other data than it has, or by another engine.
    #[error("the forest was not grown from this data by this engine: train a new one")]
    OtherData,
    /// The engine failed or panicked.
    #[error("the engine could not grow grove {index}: {reason}")]
    Engine {
        /// The grove.
        index: u32,
        /// What the engine said.
        reason: String,
    },
    /// The grove would be too large to keep or send.
    #[error(
        "grove {index} has {found} bytes, beyond the limit of {limit}: lower grove_trees or raise \
         min_leaf"
    )]
    TooLarge {
        /// The grove.
        index: u32,
        /// Its bytes.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// More rows times classes than their votes may take.
    #[error(
        "{rows} rows times {classes} classes are beyond the limit of {limit}: leave rows out, or \
         put classes together"
    )]
    TooManyVotes {
        /// Rows there are.
        rows: usize,
        /// Classes there are.
        classes: usize,
        /// What their product may be.
        limit: usize,
    },
    /// The engine does not behave as this crate knows it.
    #[error(
        "the engine is not the one this build was made for ({0}): build with smartcore 0.7.0 \
         exactly"
    )]
    EngineChanged(String),
}

/// Why bytes are no grove or forest, or groves no forest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The bytes are malformed.
    #[error("these bytes are no {what}: {reason}, at byte {offset}")]
    Decode {
        /// `grove` or `forest`.
        what: &'static str,
        /// What is wrong.
        reason: String,
        /// Where.
        offset: usize,
    },
    /// The bytes are beyond a bound.
    #[error("a {what} of {found} bytes is beyond the limit of {limit}")]
    TooLarge {
        /// `grove` or `forest`.
        what: &'static str,
        /// Bytes given.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A grove was grown from other data, another specification or another engine.
    #[error("grove {index} belongs to another forest: its recipe is {found}, not {expected}")]
    Stranger {
        /// The grove's index.
        index: u32,
        /// First bytes of its recipe.
        found: String,
        /// First bytes of this forest's recipe.
        expected: String,
    },
    /// A model cannot pass to smartcore or from it.
    #[error("the model cannot be exchanged with smartcore: {0}")]
    Exchange(String),
    /// A grove is missing or there twice.
    #[error("grove {index} is {problem}; the forest has groves 0 to {last}")]
    Groves {
        /// The index.
        index: u32,
        /// `missing` or `there twice`.
        problem: &'static str,
        /// Index of the last grove.
        last: u32,
    },
    /// The manifest contradicts itself or its groves.
    #[error("the forest does not fit together: {0}")]
    Inconsistent(String),
    /// Its bytes are not those that were written.
    #[error(
        "the forest is damaged, its bytes are not those that were written: copy or train it again"
    )]
    Damaged,
}

/// Why a forest could not predict or be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// Rows of another width than the model's.
    #[error("the rows have {found} columns, the model was trained with {expected}: {names}")]
    WrongColumns {
        /// Columns of the rows.
        found: usize,
        /// Columns of the model.
        expected: usize,
        /// Some of the model's column names.
        names: String,
    },
    /// More rows than a prediction takes.
    #[error("{found} rows at once are too many: give at most {limit}")]
    TooManyRows {
        /// Rows given.
        found: usize,
        /// Rows allowed.
        limit: usize,
    },
    /// Partial answers that cannot be added.
    #[error("these partial answers do not belong together: {0}")]
    Unlike(String),
    /// No tree voted.
    #[error("no tree has voted")]
    NoVotes,
    /// The data has another target than the model.
    #[error("the data cannot be scored with this model: {0}")]
    WrongData(String),
}
