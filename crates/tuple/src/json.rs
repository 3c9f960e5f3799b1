//! The JSON forms that people type and scripts read.
//!
//! | value | JSON |
//! |---|---|
//! | null, bool, string, list | as such |
//! | int | a number without point and exponent |
//! | float | a number with point or exponent, or `{"float":"NaN"}`, `"inf"`, `"-inf"` |
//! | NaN with other bits | `{"float":"NaN:fff8000000000000"}`, the bits in hexadecimal |
//! | symbol | `{"sym":"x"}` |
//! | bytes | `{"bytes":"AAEC"}`, standard base64 |
//! | a body that lies apart | `{"$blob":{"kind":"bytes","bytes":70000,"blake3":"d74981ef..."}}` |
//! | map | an object; `{"map":{...}}` when it would read as one of the forms here |
//!
//! In a template these stand in the place of a value:
//!
//! | field | JSON |
//! |---|---|
//! | a kind | `{"?":"int"}` |
//! | anything | `{"?":"any"}` |
//! | a range | `{">=":3,"<":9}`; also `>` and `<=`, or one bound alone |
//! | a prefix | `{"prefix":"a"}` |

mod parse;
mod template;
mod value;

pub use parse::{parse_cli_value, parse_template, parse_tuple, parse_value};
pub use template::{field_from_json, field_to_json, template_from_json, template_to_json};
pub use value::{tuple_from_json, tuple_to_json, value_from_json, value_to_json};

/// Why JSON is not the form of a value, tuple or template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is not JSON.
    #[error("not JSON at line {line}, column {column}: {reason}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// It is JSON of another form, or breaks a limit.
    #[error("{}{reason}", At(path))]
    Form {
        /// Where: `[2].name` is the entry `name` of the third element. Empty for the whole.
        path: String,
        /// What is wrong there and what would be right.
        reason: String,
    },
}

/// The place at the start of a message.
struct At<'a>(&'a str);

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "at {}: ", self.0)
        }
    }
}

impl JsonError {
    fn form(reason: impl Into<String>) -> Self {
        Self::Form {
            path: String::new(),
            reason: reason.into(),
        }
    }

    /// Says that the error lies in the part `segment`.
    fn inside(self, segment: &str) -> Self {
        match self {
            Self::Form { path, reason } => Self::Form {
                path: format!("{segment}{path}"),
                reason,
            },
            syntax @ Self::Syntax { .. } => syntax,
        }
    }
}

impl From<crate::LimitError> for JsonError {
    fn from(error: crate::LimitError) -> Self {
        Self::form(error.to_string())
    }
}

#[cfg(test)]
mod tests;
