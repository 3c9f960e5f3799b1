//! Tables out of files: CSV, or Parquet.
//!
//! A Parquet file says what its columns hold, and by that it is read: texts stay texts whatever
//! they look like. It is read by rows, since columns become numbers anyway. The reader is not made
//! for files that mean harm, and panics at some that are damaged: so it reads here, whatever file
//! the user names, and never in a node.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Arc;

use cpe_forest::{Cell, CsvOptions, Table, TableBuilder};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use crate::exit::{About, Fault};
use crate::forest::job::quoted;

/// What a Parquet file begins with.
const MAGIC: &[u8; 4] = b"PAR1";

/// What stands between cells, as it is written on a command line.
pub(super) fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [sign] if !sign.is_ascii_alphanumeric() && !b"\"\r\n.".contains(sign) => Ok(*sign),
        _ => Err("it is one sign that no cell and no number has, as `;`, or `tab`".to_owned()),
    }
}

/// Reads a table: Parquet if the file begins as such or is called so, else CSV.
///
/// # Errors
/// The file, and in it the row or line and the column.
pub(super) fn read(path: &Path, options: &CsvOptions) -> Result<Table, Fault> {
    let shown = path.display();
    let mut file = File::open(path).about(format!("cannot read {shown}"))?;
    let mut first = [0; MAGIC.len()];
    let begun = file.read_exact(&mut first).is_ok() && first == *MAGIC;
    let named = path
        .extension()
        .is_some_and(|it| it.eq_ignore_ascii_case("parquet"));
    if begun || named {
        if options.delimiter != CsvOptions::default().delimiter {
            return Err(Fault::usage(format!(
                "{shown} is a Parquet file, in which nothing stands between cells: leave out \
                 --delimiter"
            )));
        }
        file.rewind().about(format!("cannot read {shown}"))?;
        let read = caught(|| parquet(file, options));
        return read.map_err(|error| Fault::failed(format!("{shown}: {error}")));
    }
    Table::read_csv(super::open(path)?, options).about(shown)
}

/// Why a Parquet file gave no table.
#[derive(Debug, thiserror::Error)]
enum ParquetError {
    #[error("it cannot be read as Parquet: {0}")]
    Read(parquet::errors::ParquetError),
    #[error("it cannot be read as Parquet: it is damaged, or the reader does not know it ({0})")]
    Panicked(String),
    #[error("row {row} cannot be read: {error}")]
    Row {
        row: usize,
        error: parquet::errors::ParquetError,
    },
    #[error(
        "row {row}, column \"{column}\": {what} is neither a number nor a text; make one of it, or \
         leave the column out (`--ignore {}`)",
        quoted(.column)
    )]
    Kind {
        row: usize,
        column: String,
        what: &'static str,
    },
    #[error("none of the columns that are wanted is there; the columns are {0}")]
    NoColumn(String),
    #[error("it has columns but no rows")]
    NoRows,
    #[error(transparent)]
    Data(#[from] cpe_forest::DataError),
}

/// Reads with a reader that may panic, and makes an error of that. A command reads one table at a
/// time, so it is its own panic that goes unsaid.
fn caught(read: impl FnOnce() -> Result<Table, ParquetError>) -> Result<Table, ParquetError> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let read = catch_unwind(AssertUnwindSafe(read));
    set_hook(hook);
    read.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "no reason given".to_owned());
        // A line is enough: the rest would be of the reader's inside.
        Err(ParquetError::Panicked(
            text.lines().next().unwrap_or_default().to_owned(),
        ))
    })
}

fn parquet(file: File, options: &CsvOptions) -> Result<Table, ParquetError> {
    let reader = SerializedFileReader::new(file).map_err(ParquetError::Read)?;
    let about = reader.metadata().file_metadata();
    if about.num_rows() == 0 {
        return Err(ParquetError::NoRows);
    }
    let schema = about.schema();
    let columns = schema.get_fields();
    let names = || columns.iter().map(|column| column.name());
    let mut table = TableBuilder::new(names(), options)?;
    // What is left out is not even read, so it may hold anything.
    let read: Vec<bool> = names().map(|name| options.reads(name.trim())).collect();
    let kept = columns.iter().zip(&read).filter(|(_, read)| **read);
    let kept: Vec<Arc<Type>> = kept.map(|(column, _)| Arc::clone(column)).collect();
    if kept.is_empty() {
        return Err(ParquetError::NoColumn(
            names().collect::<Vec<_>>().join(", "),
        ));
    }
    let wanted = Type::group_type_builder(schema.name()).with_fields(kept);
    let wanted = wanted.build().map_err(ParquetError::Read)?;
    let rows = RowIter::from_file(Some(wanted), &reader).map_err(ParquetError::Read)?;
    for (found, row) in rows.zip(1..) {
        let found = found.map_err(|error| ParquetError::Row { row, error })?;
        let fields = found.into_columns();
        let cells = fields.iter().map(|(column, field)| {
            cell(field).map_err(|what| ParquetError::Kind {
                row,
                column: column.clone(),
                what,
            })
        });
        let mut cells = cells.collect::<Result<Vec<_>, _>>()?.into_iter();
        table.push(read.iter().map(|read| match read {
            true => cells.next().unwrap_or(Cell::Missing),
            false => Cell::Missing,
        }))?;
    }
    Ok(table.finish()?)
}

/// A field as a cell; what it is, if it is none.
fn cell(field: &Field) -> Result<Cell<'_>, &'static str> {
    Ok(match field {
        Field::Null => Cell::Missing,
        Field::Bool(true) => Cell::Text("true"),
        Field::Bool(false) => Cell::Text("false"),
        Field::Byte(number) => Cell::Number((*number).into()),
        Field::Short(number) => Cell::Number((*number).into()),
        Field::Int(number) => Cell::Number((*number).into()),
        Field::Long(number) => Cell::Number(*number as f64),
        Field::UByte(number) => Cell::Number((*number).into()),
        Field::UShort(number) => Cell::Number((*number).into()),
        Field::UInt(number) => Cell::Number((*number).into()),
        Field::ULong(number) => Cell::Number(*number as f64),
        Field::Float16(number) => Cell::Number((*number).into()),
        Field::Float(number) => Cell::Number((*number).into()),
        Field::Double(number) => Cell::Number(*number),
        Field::Decimal(_) => match field.to_string().parse() {
            Ok(number) => Cell::Number(number),
            Err(_) => return Err("a decimal number that cannot be read"),
        },
        Field::Str(text) => Cell::Text(text),
        // Older writers do not say that bytes are text.
        Field::Bytes(bytes) => match bytes.as_utf8() {
            Ok(text) => Cell::Text(text),
            Err(_) => return Err("what is no UTF-8"),
        },
        Field::Date(_) => return Err("a date"),
        Field::TimeMillis(_) | Field::TimeMicros(_) => return Err("a time of day"),
        Field::TimestampMillis(_) | Field::TimestampMicros(_) => return Err("a point in time"),
        Field::Group(_) => return Err("a struct"),
        Field::ListInternal(_) => return Err("a list"),
        Field::MapInternal(_) => return Err("a map"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file of these bytes; what is wrong with it, if something is.
    fn wrong_with(bytes: &[u8], path: &Path) -> Option<String> {
        std::fs::write(path, bytes).unwrap();
        let read = read(path, &CsvOptions::default());
        read.err().map(|fault| fault.to_string())
    }

    #[test]
    fn a_damaged_parquet_file_is_refused_whatever_is_damaged() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/penguins.parquet");
        let whole = std::fs::read(example).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        assert_eq!(wrong_with(&whole, &path), None);
        let mut refused = 0;
        // Of the pages of values some bytes, of what says where they are and what they hold each,
        // in one of three ways. Of two of these bytes the reader panics.
        let about = whole.len() - 1_000;
        for place in (0..about).step_by(10).chain(about..whole.len()) {
            let mut bytes = whole.clone();
            bytes[place] ^= [0x01, 0x80, 0xff][place % 3];
            refused += u32::from(wrong_with(&bytes, &path).is_some());
        }
        assert!(refused > 100, "{refused} of {}", whole.len());
        for length in (0..whole.len()).step_by(97) {
            assert!(wrong_with(&whole[..length], &path).is_some(), "{length}");
        }
    }

    #[test]
    fn a_panic_of_the_reader_is_an_error() {
        let read = caught(|| panic!("index out of bounds\nat the inside"));
        assert_eq!(
            read.unwrap_err().to_string(),
            "it cannot be read as Parquet: it is damaged, or the reader does not know it \
             (index out of bounds)"
        );
    }
}
