//! One column of a CSV while its cells come in.

use std::collections::BTreeMap;

use super::{Column, MISSING, NO_LEVEL, Values, too_large};
use crate::error::DataError;
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
    number_line: Option<u64>,
    text_line: Option<u64>,
    numbers: Vec<f64>,
    texts: Vec<u32>,
    levels: BTreeMap<String, u32>,
}

impl Builder {
    pub(super) fn new(name: &str, ignored: bool, forced: Option<Forced>) -> Self {
        Self {
            name: name.to_owned(),
            ignored,
            forced,
            number_line: None,
            text_line: None,
            numbers: Vec::new(),
            texts: Vec::new(),
            levels: BTreeMap::new(),
        }
    }

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
        let cell = cell.trim();
        if is_missing(cell) {
            if self.text_line.is_none() {
                self.numbers.push(f64::NAN);
            }
            if self.number_line.is_none() {
                self.texts.push(NO_LEVEL);
            }
            return Ok(());
        }
        match cell.parse::<f64>() {
            Ok(number) if self.forced != Some(Forced::Text) => self.push_number(number, cell, line),
            Err(_) if self.forced == Some(Forced::Number) => Err(DataError::NoNumber {
                line,
                column: self.name.clone(),
                cell: shortened(cell),
            }),
            _ => self.push_text(cell, line),
        }
    }

    fn push_number(&mut self, number: f64, cell: &str, line: u64) -> Result<(), DataError> {
        if let Some(other_line) = self.text_line {
            return Err(self.mixed(cell, line, "a number", other_line, "text"));
        }
        if !number.is_finite() {
            return Err(DataError::NotFinite {
                line,
                column: self.name.clone(),
                cell: shortened(cell),
            });
        }
        if self.number_line.is_none() {
            self.number_line = Some(line);
            self.texts = Vec::new();
        }
        // Minus zero equals zero, and would give equal tables different hashes.
        self.numbers.push(number + 0.0);
        Ok(())
    }

    fn push_text(&mut self, cell: &str, line: u64) -> Result<(), DataError> {
        if let Some(other_line) = self.number_line {
            return Err(self.mixed(cell, line, "text", other_line, "a number"));
        }
        if self.text_line.is_none() {
            self.text_line = Some(line);
            self.numbers = Vec::new();
        }
        let code = match self.levels.get(cell) {
            Some(&code) => code,
            None => self.new_level(cell, line)?,
        };
        self.texts.push(code);
        Ok(())
    }

    fn new_level(&mut self, cell: &str, line: u64) -> Result<u32, DataError> {
        if cell.len() > MAX_NAME_BYTES {
            let what = format!("line {line}, column \"{}\": the text, in bytes,", self.name);
            return Err(too_large(&what, cell.len() as u64, MAX_NAME_BYTES as u64));
        }
        if self.levels.len() == MAX_LEVELS {
            let what = format!(
                "the number of different texts in column \"{}\" (reached at line {line}; a column \
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
        line: u64,
        kind: &'static str,
        other_line: u64,
        other: &'static str,
    ) -> DataError {
        DataError::Mixed {
            line,
            column: self.name.clone(),
            cell: shortened(cell),
            kind,
            other_line,
            other,
        }
    }

    pub(super) fn finish(self) -> Column {
        let values = if self.number_line.is_some() {
            Values::Numbers(self.numbers)
        } else if self.text_line.is_some() {
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
