//! Facts from the rows of a table.

use crate::engine::{Engine, Slot};
use crate::error::EngineError;
use crate::value::Value;

/// A table that does not fit its template.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The header names a column that is no slot.
    #[error("column `{column}` is no slot of `{template}`, which has: {slots}")]
    Column {
        /// The column's name.
        column: String,
        /// The template's name.
        template: String,
        /// The slots it has.
        slots: String,
    },
    /// A row has more or fewer cells than the header.
    #[error("row {row} has {found} cells, the header has {expected}")]
    Width {
        /// The row, counted from 1 below the header.
        row: usize,
        /// Cells in it.
        found: usize,
        /// Columns of the header.
        expected: usize,
    },
    /// The engine refused a row.
    #[error("row {row}: {error}")]
    Refused {
        /// The row, counted from 1 below the header.
        row: usize,
        /// What the engine said.
        error: EngineError,
    },
    /// The engine refused the template.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Engine {
    /// Assert one fact of `template` per row, cells by the column of their slot, and say how many
    /// rows there were.
    ///
    /// A cell is read by what its slot allows: as a number where it is one and numbers are
    /// allowed, else as a symbol where symbols are allowed and the text could be one (no blanks,
    /// quotes or parentheses), else as a string. An empty cell leaves the slot at its default. A
    /// multislot takes the words of its cell.
    ///
    /// # Errors
    /// [`RowError`] with the row's number; the rows before it are asserted.
    pub fn assert_rows(
        &mut self,
        template: &str,
        columns: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Result<usize, RowError> {
        let slots = self.slots(template)?;
        let mut order = Vec::with_capacity(columns.len());
        for column in columns {
            let slot = slots.iter().find(|slot| slot.name == *column);
            order.push(slot.ok_or_else(|| {
                RowError::Column {
                    column: (*column).to_owned(),
                    template: template.to_owned(),
                    slots: slots
                        .iter()
                        .map(|s| s.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", "),
                }
            })?);
        }
        let mut row = 0;
        for cells in rows {
            row += 1;
            if cells.len() != columns.len() {
                let (found, expected) = (cells.len(), columns.len());
                return Err(RowError::Width {
                    row,
                    found,
                    expected,
                });
            }
            let filled = order
                .iter()
                .zip(&cells)
                .filter(|(_, cell)| !cell.trim().is_empty());
            let fact: Vec<_> = filled
                .map(|(slot, cell)| (slot.name.as_str(), read_cell(slot, cell)))
                .collect();
            self.assert(template, &fact)
                .map_err(|error| RowError::Refused { row, error })?;
        }
        Ok(row)
    }
}

fn read_cell(slot: &Slot, cell: &str) -> Value {
    if slot.multi {
        return Value::Multifield(
            cell.split_whitespace()
                .map(|w| read_field(slot, w))
                .collect(),
        );
    }
    read_field(slot, cell.trim())
}

fn read_field(slot: &Slot, text: &str) -> Value {
    if slot.allows("INTEGER")
        && let Ok(n) = text.parse()
    {
        return Value::Integer(n);
    }
    if slot.allows("FLOAT")
        && let Some(x) = number(text)
    {
        return Value::Float(x);
    }
    if slot.allows("SYMBOL") && (is_symbol(text) || !slot.allows("STRING")) {
        return Value::symbol(text);
    }
    Value::string(text)
}

/// A float as people write them: not Rust's `inf` and `nan`, which are words.
fn number(text: &str) -> Option<f64> {
    let digit = text.bytes().any(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digit)
}

fn is_symbol(text: &str) -> bool {
    !text.starts_with(['?', '$', '<'])
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "()\"&|~;".contains(c))
}
