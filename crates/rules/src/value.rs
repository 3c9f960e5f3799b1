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
            Self::String(text) => {
                write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
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

/// Fifteen digits, as CLIPS writes floats; a whole number keeps its `.0`, to read back as a float.
fn write_float(f: &mut fmt::Formatter<'_>, x: f64) -> fmt::Result {
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
