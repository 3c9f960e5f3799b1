//! The values CLIPS computes with, copied out of the engine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A CLIPS value.
///
/// Always an owned copy: nothing here points into an engine, so a value may outlive the engine and
/// cross threads. Symbols and strings are different values in CLIPS (`red` is not `"red"`), and
/// they stay different here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Value {
    /// A symbol: `red`, `TRUE`, `nil`.
    Symbol(String),
    /// A string: `"red"`.
    String(String),
    /// A 64-bit integer.
    Integer(i64),
    /// A double.
    Float(f64),
    /// A flat sequence. CLIPS has no multifield inside a multifield.
    Multifield(Vec<Self>),
    /// An instance name: `[pump-1]`.
    InstanceName(String),
    /// A fact address, as the fact's index.
    Fact(i64),
    /// An instance address, as the instance's name.
    Instance(String),
    /// A pointer of the host's. Only its address is shown; it can not be sent back in.
    External(usize),
    /// What a function without a result returns.
    Void,
}

impl Value {
    /// The symbol `text`.
    pub fn symbol(text: impl Into<String>) -> Self {
        Self::Symbol(text.into())
    }

    /// The string `text`.
    pub fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// The symbol `TRUE` or `FALSE`.
    pub fn bool(truth: bool) -> Self {
        Self::symbol(if truth { "TRUE" } else { "FALSE" })
    }

    /// The text of a symbol, a string or an instance name.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Symbol(text) | Self::String(text) | Self::InstanceName(text) => Some(text),
            _ => None,
        }
    }

    /// The value of an integer.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// The value of an integer or a float.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// The CLIPS name of this value's type, as `(type ?x)` gives it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Symbol(_) => "SYMBOL",
            Self::String(_) => "STRING",
            Self::Integer(_) => "INTEGER",
            Self::Float(_) => "FLOAT",
            Self::Multifield(_) => "MULTIFIELD",
            Self::InstanceName(_) => "INSTANCE-NAME",
            Self::Fact(_) => "FACT-ADDRESS",
            Self::Instance(_) => "INSTANCE-ADDRESS",
            Self::External(_) => "EXTERNAL-ADDRESS",
            Self::Void => "VOID",
        }
    }
}

/// As CLIPS itself writes it: strings quoted, a multifield in parentheses.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(text) => f.write_str(text),
            Self::String(text) => write_quoted(f, text),
            Self::Integer(n) => write!(f, "{n}"),
            Self::Float(x) => write_float(f, *x),
            Self::Multifield(fields) => {
                f.write_str("(")?;
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(" ")?;
                    }
                    write!(f, "{field}")?;
                }
                f.write_str(")")
            }
            Self::InstanceName(name) => write!(f, "[{name}]"),
            Self::Fact(index) => write!(f, "<Fact-{index}>"),
            Self::Instance(name) => write!(f, "<Instance-{name}>"),
            Self::External(address) => write!(f, "<Pointer-{address:#x}>"),
            Self::Void => Ok(()),
        }
    }
}

/// In quotes, with a backslash before each quote and each backslash in it.
pub(crate) fn write_quoted(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\\']) {
        let (before, from) = rest.split_at(at);
        out.write_str(before)?;
        out.write_char('\\')?;
        let (special, after) = from.split_at(1);
        out.write_str(special)?;
        rest = after;
    }
    out.write_str(rest)?;
    out.write_char('"')
}

/// Fifteen digits, as CLIPS writes floats; a whole number keeps its `.0`, to read back as a float.
fn write_float(f: &mut fmt::Formatter<'_>, x: f64) -> fmt::Result {
    if let Some(text) = short_float(x) {
        f.write_str(&text)?;
        return if text.contains('.') {
            Ok(())
        } else {
            f.write_str(".0")
        };
    }
    let text = crate::format::format("%.15g", &[Value::Float(x)]).map_err(|_| fmt::Error)?;
    f.write_str(&text)?;
    if text.contains(['.', 'e', 'n']) {
        Ok(())
    } else {
        f.write_str(".0")
    }
}

/// A string, as for the people who write Rust.
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::string(text)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Integer(n)
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

/// What `%.15g` makes of most floats, ten times as fast: where the shortest text that reads back as
/// the same float has fifteen digits at most, it is the one of fifteen digits, less its zeros.
fn short_float(x: f64) -> Option<String> {
    // In this range neither is written with an exponent.
    if !(1e-4..1e15).contains(&x.abs()) {
        return None;
    }
    let text = x.to_string();
    let digits = text.bytes().filter(u8::is_ascii_digit);
    (digits.skip_while(|digit| *digit == b'0').count() <= 15).then_some(text)
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::bool(truth)
    }
}

impl From<Vec<Self>> for Value {
    fn from(fields: Vec<Self>) -> Self {
        Self::Multifield(fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slow(x: f64) -> String {
        crate::format::format("%.15g", &[Value::Float(x)]).unwrap()
    }

    proptest! {
        #[test]
        fn a_float_is_written_with_fifteen_digits(
            x in prop_oneof![
                any::<f64>(),
                -1e6..1e6,
                (any::<i32>(), 0..8).prop_map(|(n, places)| f64::from(n) / 10_f64.powi(places)),
                (any::<i64>(), 0..20_i32).prop_map(|(n, places)| n as f64 / 10_f64.powi(places)),
            ],
        ) {
            if let Some(short) = short_float(x) {
                prop_assert_eq!(short, slow(x));
            }
        }
    }

    #[test]
    fn usual_floats_are_written_the_short_way_and_others_are_not() {
        for x in [0.5, -91.25, 20.0, 1e14, 0.0001, 123_456.789] {
            assert_eq!(short_float(x).as_deref(), Some(slow(x).as_str()));
        }
        for x in [0.0, 1e15, 1e-5, 0.1 + 0.2, f64::NAN, f64::INFINITY] {
            assert_eq!(short_float(x), None);
        }
    }
}
