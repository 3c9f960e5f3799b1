//! JSON as text.

use serde_json::Value as Json;

use super::{
    JsonError, template_from_json, tuple_from_json,
    value::{integer_too_large, value_from_json},
};
use crate::{Template, Tuple, Value};

/// Reads a value from JSON text.
///
/// # Errors
///
/// [`JsonError`]: as [`value_from_json`], and `Syntax` when the text is not JSON.
pub fn parse_value(text: &str) -> Result<Value, JsonError> {
    value_from_json(&parse(text)?)
}

/// Reads a tuple from JSON text.
///
/// # Errors
///
/// [`JsonError`]: as [`tuple_from_json`], and `Syntax` when the text is not JSON.
pub fn parse_tuple(text: &str) -> Result<Tuple, JsonError> {
    tuple_from_json(&parse(text)?)
}

/// Reads a template from JSON text.
///
/// # Errors
///
/// [`JsonError`]: as [`template_from_json`], and `Syntax` when the text is not JSON.
pub fn parse_template(text: &str) -> Result<Template, JsonError> {
    template_from_json(&parse(text)?)
}

/// Reads a value as the command line takes it: JSON, or a bare word, which is a string.
///
/// Text that begins like a JSON string, array or object must be one: a forgotten bracket is an
/// error, not a string.
///
/// # Errors
///
/// [`JsonError`] as [`parse_value`], for such text and for what is JSON but no value.
pub fn parse_cli_value(text: &str) -> Result<Value, JsonError> {
    let result = parse_value(text);
    match result {
        Err(JsonError::Syntax { .. }) if !text.trim_start().starts_with(['"', '[', '{']) => {
            Ok(Value::from(text))
        }
        other => other,
    }
}

fn parse(text: &str) -> Result<Json, JsonError> {
    let json = serde_json::from_str(text).map_err(|error| {
        let (line, column, said) = (error.line(), error.column(), error.to_string());
        // The parser ends its message with the place, which stands in ours already.
        let place = format!(" at line {line} column {column}");
        let reason = said.strip_suffix(&place).unwrap_or(&said).to_owned();
        JsonError::Syntax {
            line,
            column,
            reason,
        }
    })?;
    // The parser turns an integer beyond 64 bits into a float without a word.
    match large_integer(text) {
        Some(digits) => Err(integer_too_large(digits)),
        None => Ok(json),
    }
}

/// The first integer in JSON text that does not fit in 64 signed bits.
fn large_integer(text: &str) -> Option<&str> {
    let mut in_string = false;
    let mut escaped = false;
    // Outside of strings, everything but numbers is of other characters than these or is a word.
    text.split(|c: char| {
        let was_in_string = in_string;
        if in_string {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else if c == '"' {
            in_string = true;
        }
        was_in_string || in_string || !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')
    })
    .find(|token| {
        let digits = token.strip_prefix('-').unwrap_or(token);
        digits.len() >= 19
            && digits.bytes().all(|b| b.is_ascii_digit())
            && token.parse::<i64>().is_err()
    })
}
