//! Histories as JSON lines, one operation or declaration per line.
//!
//! ```text
//! {"variable":"v","mode":"lifo"}
//! {"client":1,"variable":"v","from_us":0,"to_us":9,"did":"store","outcome":"pending","value":7}
//! {"client":2,"variable":"v","from_us":3,"to_us":12,"did":"take","outcome":"value","value":7}
//! {"client":2,"variable":"v","from_us":20,"did":"take","outcome":"unknown"}
//! {"client":1,"variable":"v","from_us":21,"to_us":30,"did":"find","outcome":"empty"}
//! ```
//!
//! `did` is `store`, `take`, `find` or `local-find`. A store's `outcome` is `acknowledged`,
//! `pending` or `unknown`; a take's `value`, `empty`, `unavailable`, `unknown` or `cancelled`; a
//! find's `value` or `empty`. A line without `variable` is about any of them. Several clients may
//! each write their own lines; the order of lines does not matter.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _, Write};
use std::iter::Peekable;
use std::str::Chars;

use cpe_space::Mode;

use super::{Did, History, HistoryError, Operation, Stored, Taken};

/// Bytes of a line: a name of 256 bytes, each escaped, and the rest of an operation fit.
pub const MAX_LINE_BYTES: usize = 4_096;

/// Entries of a line: more than any line has.
const MAX_ENTRIES: usize = 16;

/// A history that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// The lines could not be read.
    #[error("line {line}: {error}")]
    Io {
        /// From 1.
        line: usize,
        /// What happened.
        #[source]
        error: io::Error,
    },
    /// A line is not what this module describes.
    #[error("line {line}: {reason}")]
    Form {
        /// From 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A line is longer than any operation.
    #[error("line {line}: longer than {MAX_LINE_BYTES} bytes, so it is no operation")]
    Long {
        /// From 1.
        line: usize,
    },
    /// An operation cannot be part of the history.
    #[error("line {line}: {error}")]
    Operation {
        /// From 1.
        line: usize,
        /// Why.
        #[source]
        error: HistoryError,
    },
}

impl History {
    /// Writes the declarations and operations, a line each.
    ///
    /// # Errors
    /// When `out` does.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (variable, mode) in &self.modes {
            let name = quoted(variable);
            writeln!(out, r#"{{"variable":{name},"mode":"{mode}"}}"#)?;
        }
        self.operations
            .iter()
            .try_for_each(|operation| writeln!(out, "{}", operation.line()))
    }

    /// Reads lines and adds what they say. Empty lines are passed over.
    ///
    /// # Errors
    /// With the number of the first line that does not hold. The lines before it were added.
    pub fn read(&mut self, mut lines: impl BufRead) -> Result<(), LineError> {
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let most = MAX_LINE_BYTES as u64 + 1;
            (&mut lines)
                .take(most)
                .read_until(b'\n', &mut bytes)
                .map_err(|error| LineError::Io { line, error })?;
            if bytes.is_empty() {
                break;
            }
            if bytes.len() > MAX_LINE_BYTES {
                return Err(LineError::Long { line });
            }
            let form = |reason: String| LineError::Form { line, reason };
            let text = std::str::from_utf8(&bytes).map_err(|error| form(error.to_string()))?;
            if text.trim().is_empty() {
                continue;
            }
            let mut entries = Entries::parse(text).map_err(form)?;
            if let Some(mode) = entries.text("mode").map_err(form)? {
                let mode: Mode = mode.parse().map_err(|_| form(unknown("mode", &mode)))?;
                let variable = entries.text("variable").map_err(form)?;
                let variable = variable.ok_or_else(|| form(missing("variable")))?;
                entries.end().map_err(form)?;
                self.declare(variable, mode);
            } else {
                let operation = entries.operation().map_err(form)?;
                entries.end().map_err(form)?;
                self.push(operation)
                    .map_err(|error| LineError::Operation { line, error })?;
            }
        }
        Ok(())
    }
}

impl Operation {
    /// The operation as a line, without its end: for a client that records as it goes.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!(r#"{{"client":{}"#, self.client);
        if let Some(name) = &self.variable {
            line += &format!(r#","variable":{}"#, quoted(name));
        }
        line += &format!(r#","from_us":{}"#, self.from_us);
        if let Some(to) = self.to_us {
            line += &format!(r#","to_us":{to}"#);
        }
        let (did, value, outcome) = match self.did {
            Did::Store { value, outcome } => {
                let outcome = match outcome {
                    Stored::Acknowledged => "acknowledged",
                    Stored::Pending => "pending",
                    Stored::Unknown => "unknown",
                };
                ("store", Some(value), outcome)
            }
            Did::Take(Taken::Value(value)) => ("take", Some(value), "value"),
            Did::Take(Taken::Empty) => ("take", None, "empty"),
            Did::Take(Taken::Unavailable) => ("take", None, "unavailable"),
            Did::Take(Taken::Unknown) => ("take", None, "unknown"),
            Did::Take(Taken::Cancelled) => ("take", None, "cancelled"),
            Did::Find(Some(value)) => ("find", Some(value), "value"),
            Did::Find(None) => ("find", None, "empty"),
            Did::LocalFind(Some(value)) => ("local-find", Some(value), "value"),
            Did::LocalFind(None) => ("local-find", None, "empty"),
        };
        line += &format!(r#","did":"{did}","outcome":"{outcome}""#);
        if let Some(value) = value {
            line += &format!(r#","value":{value}"#);
        }
        line.push('}');
        line
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn missing(key: &str) -> String {
    format!("`{key}` is missing")
}

fn unknown(key: &str, value: &str) -> String {
    format!("`{key}` is `{value}`, which it cannot be")
}

/// The entries of a flat object: what is left of them, each removed as it is used.
struct Entries(BTreeMap<String, Entry>);

enum Entry {
    Text(String),
    Number(i128),
    Null,
}

impl Entries {
    fn parse(text: &str) -> Result<Self, String> {
        let mut entries = BTreeMap::new();
        let mut chars = text.trim().chars().peekable();
        expect(&mut chars, '{')?;
        if next_is(&mut chars, '}') {
            return at_end(chars, Self(entries));
        }
        loop {
            let key = string(&mut chars)?;
            expect(&mut chars, ':')?;
            let entry = value(&mut chars)?;
            let full = entries.len() >= MAX_ENTRIES;
            if full || entries.insert(key.clone(), entry).is_some() {
                return Err(format!("`{key}` is there twice, or one entry too many"));
            }
            if !next_is(&mut chars, ',') {
                expect(&mut chars, '}')?;
                return at_end(chars, Self(entries));
            }
        }
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.0.remove(key) {
            Some(Entry::Text(text)) => Ok(Some(text)),
            None | Some(Entry::Null) => Ok(None),
            Some(Entry::Number(_)) => Err(format!("`{key}` must be a string")),
        }
    }

    fn number<N: TryFrom<i128>>(&mut self, key: &str) -> Result<Option<N>, String> {
        match self.0.remove(key) {
            Some(Entry::Number(n)) => match N::try_from(n) {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(format!("`{key}` is {n}, out of range")),
            },
            None | Some(Entry::Null) => Ok(None),
            Some(Entry::Text(_)) => Err(format!("`{key}` must be a whole number")),
        }
    }

    fn operation(&mut self) -> Result<Operation, String> {
        let did = self.text("did")?.ok_or_else(|| missing("did"))?;
        let outcome = self.text("outcome")?.ok_or_else(|| missing("outcome"))?;
        let value: Option<i64> = self.number("value")?;
        let wants_value = did == "store" || outcome == "value";
        if wants_value != value.is_some() {
            let is = if wants_value {
                "is missing"
            } else {
                "must not be there"
            };
            return Err(format!("`value` {is}"));
        }
        let value = value.unwrap_or_default();
        let found = (outcome == "value").then_some(value);
        let did = match (did.as_str(), outcome.as_str()) {
            ("store", "acknowledged") => stored(value, Stored::Acknowledged),
            ("store", "pending") => stored(value, Stored::Pending),
            ("store", "unknown") => stored(value, Stored::Unknown),
            ("take", "value") => Did::Take(Taken::Value(value)),
            ("take", "empty") => Did::Take(Taken::Empty),
            ("take", "unavailable") => Did::Take(Taken::Unavailable),
            ("take", "unknown") => Did::Take(Taken::Unknown),
            ("take", "cancelled") => Did::Take(Taken::Cancelled),
            ("find", "value" | "empty") => Did::Find(found),
            ("local-find", "value" | "empty") => Did::LocalFind(found),
            ("store" | "take" | "find" | "local-find", _) => {
                return Err(unknown("outcome", &outcome));
            }
            _ => return Err(unknown("did", &did)),
        };
        Ok(Operation {
            client: self.number("client")?.ok_or_else(|| missing("client"))?,
            variable: self.text("variable")?,
            from_us: self.number("from_us")?.ok_or_else(|| missing("from_us"))?,
            to_us: self.number("to_us")?,
            did,
        })
    }

    fn end(&self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(key) => Err(format!("`{key}` means nothing here")),
            None => Ok(()),
        }
    }
}

fn stored(value: i64, outcome: Stored) -> Did {
    Did::Store { value, outcome }
}

fn skip_space(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(char::is_ascii_whitespace).is_some() {}
}

fn next_is(chars: &mut Peekable<Chars<'_>>, c: char) -> bool {
    skip_space(chars);
    chars.next_if_eq(&c).is_some()
}

fn expect(chars: &mut Peekable<Chars<'_>>, c: char) -> Result<(), String> {
    skip_space(chars);
    match chars.next() {
        Some(other) if other == c => Ok(()),
        Some(other) => Err(format!("`{other}` where `{c}` should be")),
        None => Err(format!("it ends where `{c}` should be")),
    }
}

fn at_end(mut chars: Peekable<Chars<'_>>, entries: Entries) -> Result<Entries, String> {
    skip_space(&mut chars);
    match chars.next() {
        Some(c) => Err(format!("`{c}` after the end of the object")),
        None => Ok(entries),
    }
}

fn string(chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    expect(chars, '"')?;
    let mut text = String::new();
    loop {
        match chars.next() {
            Some('"') => return Ok(text),
            Some('\\') => text.push(escaped(chars)?),
            Some(c) if c >= ' ' => text.push(c),
            _ => return Err("a string does not end".to_owned()),
        }
    }
}

fn escaped(chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    let c = chars.next().unwrap_or(' ');
    Ok(match c {
        '"' | '\\' | '/' => c,
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'u' => {
            let digits = chars.by_ref().take(4).try_fold(0, |code, digit| {
                digit.to_digit(16).map(|digit| code * 16 + digit)
            });
            // Halves of a surrogate pair are not understood; what writes here needs none.
            let c = digits.and_then(char::from_u32);
            c.ok_or_else(|| "`\\u` without four digits of a character".to_owned())?
        }
        other => return Err(format!("`\\{other}` is no escape")),
    })
}

fn value(chars: &mut Peekable<Chars<'_>>) -> Result<Entry, String> {
    skip_space(chars);
    if chars.peek() == Some(&'"') {
        return string(chars).map(Entry::Text);
    }
    let mut word = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c)) {
        word.push(c);
    }
    if word == "null" {
        return Ok(Entry::Null);
    }
    let is_plain = !word.starts_with('+');
    match word.parse() {
        Ok(number) if is_plain => Ok(Entry::Number(number)),
        _ => Err(format!("`{word}` is no string, whole number or null")),
    }
}
