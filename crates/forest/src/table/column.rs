//! One column of a CSV while its cells come in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cell, Column, CsvOptions, MISSING, NO_LEVEL, Values, too_large};
use crate::error::{DataError, Place};
use crate::limits::{MAX_LEVELS, MAX_NAME_BYTES};

/// Characters of a cell that an error shows.
const SHOWN_CELL: usize = 40;

/// What a column was said to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forced {
    Text,
    Number,
}

/// A column while its cells come in. Missing cells go to both lists until the kind is known.
pub(super) struct Builder {
    name: String,
    pub(super) ignored: bool,
    forced: Option<Forced>,
    number_at: Option<Place>,
    text_at: Option<Place>,
    numbers: Vec<f64>,
    texts: Vec<u32>,
    levels: BTreeMap<String, u32>,
    /// The texts there may be, if others count as missing.
    known: Option<BTreeSet<String>>,
}

impl Builder {
    pub(super) fn new(name: &str, options: &CsvOptions) -> Self {
        Self {
            name: name.to_owned(),
            ignored: options.ignores(name),
            forced: options.forced(name),
            known: options.known.get(name).cloned(),
            number_at: None,
            text_at: None,
            numbers: Vec::new(),
            texts: Vec::new(),
            levels: BTreeMap::new(),
        }
    }

    /// Adds a cell of a text: a number if it looks like one, unless it was said to be none.
    pub(super) fn push(&mut self, cell: &[u8], line: u64) -> Result<(), DataError> {
        if self.ignored {
            return Ok(());
        }
        let Ok(cell) = std::str::from_utf8(cell) else {
            return Err(DataError::NotUtf8 {
                line,
                column: format!("\"{}\"", self.name),
            });
        };
        let (cell, place) = (cell.trim(), Place::Line(line));
        if is_missing(cell) {
            self.push_missing();
            return Ok(());
        }
        match cell.parse::<f64>() {
            Ok(number) if self.forced != Some(Forced::Text) => {
                self.push_number(number, cell, place)
            }
            Err(_) if self.forced == Some(Forced::Number) => Err(self.no_number(cell, place)),
            _ => self.push_text(cell, place),
        }
    }

    /// Adds a cell whose kind is known: a text that looks like a number is a text.
    pub(super) fn push_cell(&mut self, cell: Cell<'_>, place: Place) -> Result<(), DataError> {
        match (cell, self.forced) {
            _ if self.ignored => Ok(()),
            (Cell::Number(number), _) if number.is_nan() => {
                self.push_missing();
                Ok(())
            }
            (Cell::Number(number), Some(Forced::Text)) => {
                self.push_text(&number.to_string(), place)
            }
            (Cell::Number(number), _) => self.push_number(number, &number.to_string(), place),
            (Cell::Text(text), forced) => {
                let text = text.trim();
                if is_missing(text) {
                    self.push_missing();
                    return Ok(());
                }
                match (forced, text.parse::<f64>()) {
                    (Some(Forced::Number), Ok(number)) => self.push_number(number, text, place),
                    (Some(Forced::Number), Err(_)) => Err(self.no_number(text, place)),
                    _ => self.push_text(text, place),
                }
            }
            (Cell::Missing, _) => {
                self.push_missing();
                Ok(())
            }
        }
    }

    fn no_number(&self, cell: &str, place: Place) -> DataError {
        DataError::NoNumber {
            place,
            column: self.name.clone(),
            cell: shortened(cell),
        }
    }

    fn push_missing(&mut self) {
        if self.text_at.is_none() {
            self.numbers.push(f64::NAN);
        }
        if self.number_at.is_none() {
            self.texts.push(NO_LEVEL);
        }
    }

    fn push_number(&mut self, number: f64, cell: &str, place: Place) -> Result<(), DataError> {
        if let Some(other_place) = self.text_at {
            return Err(self.mixed(cell, place, "a number", other_place, "text"));
        }
        if !number.is_finite() {
            return Err(DataError::NotFinite {
                place,
                column: self.name.clone(),
                cell: shortened(cell),
            });
        }
        if self.number_at.is_none() {
            self.number_at = Some(place);
            self.texts = Vec::new();
        }
        // Minus zero equals zero, and would give equal tables different hashes.
        self.numbers.push(number + 0.0);
        Ok(())
    }

    fn push_text(&mut self, cell: &str, place: Place) -> Result<(), DataError> {
        if let Some(other_place) = self.number_at {
            return Err(self.mixed(cell, place, "text", other_place, "a number"));
        }
        if self.text_at.is_none() {
            self.text_at = Some(place);
            self.numbers = Vec::new();
        }
        let code = match self.levels.get(cell) {
            Some(&code) => code,
            None if self.known.as_ref().is_some_and(|it| !it.contains(cell)) => NO_LEVEL,
            None => self.new_level(cell, place)?,
        };
        self.texts.push(code);
        Ok(())
    }

    fn new_level(&mut self, cell: &str, place: Place) -> Result<u32, DataError> {
        if cell.len() > MAX_NAME_BYTES {
            let what = format!("{place}, column \"{}\": the text, in bytes,", self.name);
            return Err(too_large(&what, cell.len() as u64, MAX_NAME_BYTES as u64));
        }
        if self.levels.len() == MAX_LEVELS {
            let what = format!(
                "the number of different texts in column \"{}\" (reached at {place}; a column \
                 of identifiers or free text should be ignored)",
                self.name
            );
            return Err(too_large(&what, MAX_LEVELS as u64 + 1, MAX_LEVELS as u64));
        }
        let code = self.levels.len() as u32;
        self.levels.insert(cell.to_owned(), code);
        Ok(code)
    }

    fn mixed(
        &self,
        cell: &str,
        place: Place,
        kind: &'static str,
        other_place: Place,
        other: &'static str,
    ) -> DataError {
        DataError::Mixed {
            place,
            column: self.name.clone(),
            cell: shortened(cell),
            kind,
            other_place,
            other,
        }
    }

    pub(super) fn finish(self) -> Column {
        let values = if self.number_at.is_some() {
            Values::Numbers(self.numbers)
        } else if self.text_at.is_some() {
            // Codes in order of the texts, so that the order of the rows does not matter.
            let mut sorted = vec![NO_LEVEL; self.levels.len()];
            let mut levels = Vec::with_capacity(self.levels.len());
            for (place, (level, code)) in self.levels.into_iter().enumerate() {
                levels.push(level);
                if let Some(slot) = sorted.get_mut(code as usize) {
                    *slot = place as u32;
                }
            }
            let of = self
                .texts
                .into_iter()
                .map(|code| sorted.get(code as usize).copied().unwrap_or(NO_LEVEL))
                .collect();
            Values::Texts { levels, of }
        } else {
            Values::Missing(self.texts.len())
        };
        Column {
            name: self.name,
            values,
        }
    }
}

fn is_missing(cell: &str) -> bool {
    cell.is_empty() || MISSING.iter().any(|word| cell.eq_ignore_ascii_case(word))
}

fn shortened(cell: &str) -> String {
    let mut shown: String = cell.chars().take(SHOWN_CELL).collect();
    if shown.len() < cell.len() {
        shown.push_str("...");
    }
    shown
}
