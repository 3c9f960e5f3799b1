//! The kinds of values.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The kind of a [`Value`](crate::Value), in the order in which values of different kinds sort.
///
/// New kinds go to the end: the position is part of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nothing.
    Null,
    /// True or false.
    Bool,
    /// A signed integer of 64 bits.
    Int,
    /// A floating point number of 64 bits.
    Float,
    /// Unicode text.
    String,
    /// A symbol: text that names a thing, as CLIPS has it.
    Symbol,
    /// Raw bytes.
    Bytes,
    /// An ordered list of values.
    List,
    /// Values by text key.
    Map,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Self; 9] = [
        Self::Null,
        Self::Bool,
        Self::Int,
        Self::Float,
        Self::String,
        Self::Symbol,
        Self::Bytes,
        Self::List,
        Self::Map,
    ];

    /// The lower-case name, as templates in JSON spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::String => "string",
            Self::Symbol => "symbol",
            Self::Bytes => "bytes",
            Self::List => "list",
            Self::Map => "map",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no kind's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {name:?}; use null, bool, int, float, string, symbol, bytes, list or map")]
#[non_exhaustive]
pub struct UnknownKind {
    /// What was given, cut to 64 characters.
    pub name: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownKind {
                name: name.chars().take(64).collect(),
            })
    }
}
