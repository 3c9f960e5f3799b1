//! Standard output and standard error: the only place that writes to them.

use std::fmt;
use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::exit::{Fault, Status};

/// Columns of a table when the terminal does not say how wide it is.
const WIDTH: u16 = 80;

/// Writes one line to standard output.
///
/// # Errors
/// When the reader is gone. It wanted no more: that counts as done, silently.
pub(crate) fn line(text: fmt::Arguments<'_>) -> Result<(), Fault> {
    raw(format!("{text}\n").as_bytes())
}

/// Writes bytes to standard output as they are.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Fault> {
    match write(bytes)? {
        Reader::There => Ok(()),
        // As `head` does to every filter: the reader has what it came for.
        Reader::Gone => std::process::exit(Status::Done as i32),
    }
}

/// Who reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    There,
    /// It wants no more, ever.
    Gone,
}

/// Writes bytes to standard output as they are, for a command that has something to put in order
/// when nobody reads it any more.
pub(crate) fn write(bytes: &[u8]) -> Result<Reader, Fault> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Fault::failed(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

/// Writes one JSON document on a line of its own.
pub(crate) fn json(value: &Value) -> Result<(), Fault> {
    line(format_args!("{value}"))
}

/// Writes one line to standard error. Nothing can be done about a failure here.
pub(crate) fn warn(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes a table that fits 80 columns, or `empty` when it has no rows.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>, empty: &str) -> Result<(), Fault> {
    if rows.is_empty() {
        return line(format_args!("{empty}"));
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(head.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    for row in text.lines() {
        line(format_args!("{}", row.trim_end()))?;
    }
    Ok(())
}

/// A value for a person: strings bare, everything else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Rows of a table from a list of JSON objects: one column for each name.
pub(crate) fn rows(list: &Value, columns: &[&str]) -> Vec<Vec<String>> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let cell = |item: &Value, column: &str| item.get(column).map(cell).unwrap_or_default();
    items
        .iter()
        .map(|item| columns.iter().map(|column| cell(item, column)).collect())
        .collect()
}

/// Longest text shown in one cell, in characters.
const CELL_CHARS_MAX: usize = 60;

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        other => plain(other),
    };
    // Control characters would let a stored name move the cursor of whoever lists it.
    let clean = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut short: String = clean.take(CELL_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
