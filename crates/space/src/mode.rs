//! How a variable gives its values away.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Mode of a `NetWorkSpaces` variable: which of its matching tuples a read or take picks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The oldest first: lowest index.
    #[default]
    Fifo,
    /// The newest first: highest index.
    Lifo,
    /// Any one, chosen by a hash of the take's index: the same on every replica, fair over time.
    Multi,
    /// One value only; a store replaces it.
    Single,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fifo => "fifo",
            Self::Lifo => "lifo",
            Self::Multi => "multi",
            Self::Single => "single",
        })
    }
}

/// A mode's name that is none of the four.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode `{0}`: use fifo, lifo, multi or single")]
pub struct UnknownMode(pub String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fifo" => Ok(Self::Fifo),
            "lifo" => Ok(Self::Lifo),
            "multi" => Ok(Self::Multi),
            "single" => Ok(Self::Single),
            other => Err(UnknownMode(other.to_owned())),
        }
    }
}
