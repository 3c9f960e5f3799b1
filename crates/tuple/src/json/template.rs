//! Templates as JSON.

use std::{ops::Bound, str::FromStr as _};

use serde_json::{Map, Value as Json};

use super::{
    JsonError,
    value::{json_kind, value_from_json, value_to_json, wrap_map},
};
use crate::{Field, Kind, Template, Value};

const COMPARISONS: [&str; 4] = [">=", ">", "<=", "<"];

/// A template as a JSON array.
pub fn template_to_json(template: &Template) -> Json {
    template.fields().iter().map(field_to_json).collect()
}

/// One field as JSON.
pub fn field_to_json(field: &Field) -> Json {
    match field {
        Field::Actual(value) => match value_to_json(value) {
            Json::Object(object) if is_pattern(&object) => wrap_map(object),
            json => json,
        },
        Field::Typed(kind) => object([("?", Json::from(kind.name()))]),
        Field::Any => object([("?", Json::from("any"))]),
        Field::Prefix(prefix) => object([("prefix", Json::from(prefix.as_str()))]),
        Field::Range { low, high } => {
            let low = bound_to_json(low, ">=", ">");
            object(low.into_iter().chain(bound_to_json(high, "<=", "<")))
        }
    }
}

fn object(entries: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    entries
        .into_iter()
        .map(|(key, json)| (key.to_owned(), json))
        .collect()
}

fn bound_to_json(
    bound: &Bound<Value>,
    closed: &'static str,
    open: &'static str,
) -> Option<(&'static str, Json)> {
    match bound {
        Bound::Included(value) => Some((closed, value_to_json(value))),
        Bound::Excluded(value) => Some((open, value_to_json(value))),
        Bound::Unbounded => None,
    }
}

/// Whether an object in the place of a field is something else than a value.
fn is_pattern(object: &Map<String, Json>) -> bool {
    let single = object.len() == 1 && (object.contains_key("?") || object.contains_key("prefix"));
    single || is_range(object)
}

fn is_range(object: &Map<String, Json>) -> bool {
    !object.is_empty() && object.keys().all(|key| COMPARISONS.contains(&key.as_str()))
}

/// Reads a template from a JSON array.
///
/// # Errors
///
/// [`JsonError::Form`] when it is no array, for unknown patterns, for what
/// [`value_from_json`](super::value_from_json) refuses, and when the limits of a template are
/// broken.
pub fn template_from_json(json: &Json) -> Result<Template, JsonError> {
    let Json::Array(list) = json else {
        return Err(JsonError::form(format!(
            "a template is an array, not {}",
            json_kind(json)
        )));
    };
    let fields = list
        .iter()
        .enumerate()
        .map(|(i, json)| field_from_json(json).map_err(|e| e.inside(&format!("[{i}]"))))
        .collect::<Result<_, _>>()?;
    Ok(Template::new(fields)?)
}

/// Reads one field.
///
/// # Errors
///
/// [`JsonError::Form`] as [`template_from_json`].
pub fn field_from_json(json: &Json) -> Result<Field, JsonError> {
    match json {
        Json::Object(object) if is_range(object) => read_range(object),
        Json::Object(object) if is_pattern(object) => read_pattern(object),
        other => value_from_json(other).map(Field::Actual),
    }
}

fn read_pattern(object: &Map<String, Json>) -> Result<Field, JsonError> {
    if let Some(prefix) = object.get("prefix") {
        return match prefix {
            Json::String(prefix) => Ok(Field::Prefix(prefix.clone())),
            other => Err(JsonError::form(format!(
                "\"prefix\" takes a string, not {}",
                json_kind(other)
            ))),
        };
    }
    match object.get("?").and_then(Json::as_str) {
        Some("any") => Ok(Field::Any),
        Some(name) => Kind::from_str(name)
            .map(Field::Typed)
            .map_err(|error| JsonError::form(format!("{error}, or any for every kind"))),
        None => Err(JsonError::form(
            "\"?\" takes the name of a kind or \"any\", in quotes",
        )),
    }
}

fn read_range(object: &Map<String, Json>) -> Result<Field, JsonError> {
    let low = read_bound(object, ">=", ">")?;
    let high = read_bound(object, "<=", "<")?;
    let range = Field::Range { low, high };
    range.check_range()?;
    Ok(range)
}

fn read_bound(
    object: &Map<String, Json>,
    closed: &str,
    open: &str,
) -> Result<Bound<Value>, JsonError> {
    let read = |key: &str, json| value_from_json(json).map_err(|e| e.inside(&format!(".{key}")));
    match (object.get(closed), object.get(open)) {
        (Some(json), None) => read(closed, json).map(Bound::Included),
        (None, Some(json)) => read(open, json).map(Bound::Excluded),
        (None, None) => Ok(Bound::Unbounded),
        (Some(_), Some(_)) => Err(JsonError::form(format!(
            "a range has either {closed:?} or {open:?}, not both"
        ))),
    }
}
