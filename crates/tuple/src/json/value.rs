//! Values and tuples as JSON.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value as Json};

use super::JsonError;
use crate::{Blob, Kind, Tuple, Value, blob::BlobError, limits::MAX_DEPTH, wire::PLAIN_NAN};

/// Writes padding, and reads with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The key of an object with a single entry that stands for something else than a map.
const ESCAPES: [&str; 5] = ["sym", "bytes", "float", "map", "$blob"];

/// A value as JSON.
///
/// Parts nested deeper than [`MAX_DEPTH`], which no tuple holds, become the text `...`.
pub fn value_to_json(value: &Value) -> Json {
    value_below(value, 0)
}

fn value_below(value: &Value, depth: usize) -> Json {
    match value {
        Value::List(_) | Value::Map(_) if depth == MAX_DEPTH => Json::from("..."),
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) => Json::from(*i),
        Value::Float(x) => float_to_json(*x),
        Value::String(s) => Json::String(s.clone()),
        Value::Symbol(s) => escape("sym", Json::String(s.clone())),
        Value::Bytes(b) => escape("bytes", Json::String(BASE64.encode(b))),
        Value::Blob(blob) => escape("$blob", blob_to_json(blob)),
        Value::List(list) => list
            .iter()
            .map(|value| value_below(value, depth + 1))
            .collect(),
        Value::Map(map) => {
            let object: Map<String, Json> = map
                .iter()
                .map(|(key, value)| (key.clone(), value_below(value, depth + 1)))
                .collect();
            if is_escape(&object) {
                wrap_map(object)
            } else {
                Json::Object(object)
            }
        }
    }
}

/// The object `{"map":...}`, which is never read as anything else than a map.
pub(super) fn wrap_map(object: Map<String, Json>) -> Json {
    escape("map", Json::Object(object))
}

fn escape(key: &str, inner: Json) -> Json {
    Json::Object(Map::from_iter([(key.to_owned(), inner)]))
}

fn is_escape(object: &Map<String, Json>) -> bool {
    object.len() == 1 && object.keys().all(|key| ESCAPES.contains(&key.as_str()))
}

fn blob_to_json(blob: &Blob) -> Json {
    serde_json::json!({
        "blake3": blob.hash().to_string(),
        "bytes": blob.len(),
        "kind": blob.kind().name(),
    })
}

fn read_blob(inner: &Json) -> Result<Value, JsonError> {
    let part = |name| inner.get(name);
    let kind = part("kind").and_then(Json::as_str);
    let text = match kind.and_then(|kind| kind.parse().ok()) {
        Some(Kind::String) => true,
        Some(Kind::Bytes) => false,
        _ => {
            let why = "\"$blob\" takes an object with \"kind\" (\"string\" or \"bytes\"), \
                       \"bytes\" (its length) and \"blake3\" (its hash)";
            return Err(JsonError::form(why));
        }
    };
    let len = part("bytes").and_then(Json::as_u64).unwrap_or(0);
    let hash = part("blake3").and_then(Json::as_str).unwrap_or_default();
    let hash = hash.parse().map_err(|error| wrong_blob(&error))?;
    let blob = Blob::new(text, len, hash).map_err(|error| wrong_blob(&error))?;
    Ok(Value::from(blob))
}

fn wrong_blob(error: &BlobError) -> JsonError {
    JsonError::form(format!("\"$blob\": {error}"))
}

fn float_to_json(x: f64) -> Json {
    if let Some(number) = serde_json::Number::from_f64(x) {
        return Json::Number(number);
    }
    let name = if x == f64::INFINITY {
        "inf".to_owned()
    } else if x == f64::NEG_INFINITY {
        "-inf".to_owned()
    } else if x.to_bits() == PLAIN_NAN {
        "NaN".to_owned()
    } else {
        format!("NaN:{:016x}", x.to_bits())
    };
    escape("float", Json::String(name))
}

/// Reads a value.
///
/// # Errors
///
/// [`JsonError::Form`] for integers beyond 64 signed bits, escapes with something wrong in them,
/// and values nested deeper than [`MAX_DEPTH`] or with too large a map.
pub fn value_from_json(json: &Json) -> Result<Value, JsonError> {
    let value = read_value(json, 0)?;
    value.check()?;
    Ok(value)
}

fn read_value(json: &Json, depth: usize) -> Result<Value, JsonError> {
    match json {
        Json::Array(_) | Json::Object(_) if depth > MAX_DEPTH => Err(JsonError::form(format!(
            "nested deeper than {MAX_DEPTH}; flatten it"
        ))),
        Json::Null => Ok(Value::Null),
        Json::Bool(b) => Ok(Value::Bool(*b)),
        Json::Number(number) => read_number(number),
        Json::String(s) => Ok(Value::String(s.clone())),
        Json::Array(list) => read_list(list, depth + 1).map(Value::List),
        Json::Object(object) => read_object(object, depth),
    }
}

fn read_list(list: &[Json], depth: usize) -> Result<Vec<Value>, JsonError> {
    list.iter()
        .enumerate()
        .map(|(i, json)| read_value(json, depth).map_err(|e| e.inside(&format!("[{i}]"))))
        .collect()
}

fn read_number(number: &serde_json::Number) -> Result<Value, JsonError> {
    if let Some(i) = number.as_i64() {
        return Ok(Value::Int(i));
    }
    if number.is_u64() {
        return Err(integer_too_large(&number.to_string()));
    }
    match number.as_f64() {
        Some(x) => Ok(Value::Float(x)),
        None => Err(JsonError::form(format!(
            "the number {number} has no form here"
        ))),
    }
}

pub(super) fn integer_too_large(digits: &str) -> JsonError {
    JsonError::form(format!(
        "the integer {digits} does not fit in 64 signed bits; write it as a string, or with a \
         point as a float"
    ))
}

fn read_object(object: &Map<String, Json>, depth: usize) -> Result<Value, JsonError> {
    let mut entries = object.iter();
    if let (Some((key, inner)), None) = (entries.next(), entries.next()) {
        match key.as_str() {
            "sym" => return read_text(key, inner).map(|s| Value::Symbol(s.to_owned())),
            "bytes" => return read_bytes(read_text(key, inner)?),
            "$blob" => return read_blob(inner),
            "float" => return read_float(read_text(key, inner)?),
            "map" => {
                return match inner {
                    Json::Object(map) => read_map(map, depth + 1).map_err(|e| e.inside(".map")),
                    other => Err(bad_escape(key, "an object", other)),
                };
            }
            _ => {}
        }
    }
    read_map(object, depth + 1)
}

fn read_map(object: &Map<String, Json>, depth: usize) -> Result<Value, JsonError> {
    object
        .iter()
        .map(|(key, json)| {
            let value = read_value(json, depth).map_err(|e| e.inside(&format!(".{key}")))?;
            Ok((key.clone(), value))
        })
        .collect()
}

/// The text in an escape.
fn read_text<'a>(key: &str, inner: &'a Json) -> Result<&'a str, JsonError> {
    inner
        .as_str()
        .ok_or_else(|| bad_escape(key, "a string", inner))
}

fn bad_escape(key: &str, wanted: &str, found: &Json) -> JsonError {
    JsonError::form(format!(
        "{{{key:?}:...}} takes {wanted}, not {}; for a map with this one key write \
         {{\"map\":{{{key:?}:...}}}}",
        json_kind(found)
    ))
}

/// What JSON calls this.
pub(super) const fn json_kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

fn read_bytes(text: &str) -> Result<Value, JsonError> {
    BASE64
        .decode(text)
        .map(Value::Bytes)
        .map_err(|error| JsonError::form(format!("\"bytes\" holds no base64: {error}")))
}

fn read_float(text: &str) -> Result<Value, JsonError> {
    let float = match text {
        "NaN" => Some(f64::from_bits(PLAIN_NAN)),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        other => other
            .strip_prefix("NaN:")
            .and_then(|bits| u64::from_str_radix(bits, 16).ok())
            .map(f64::from_bits)
            .filter(|x| x.is_nan()),
    };
    float.map(Value::Float).ok_or_else(|| {
        JsonError::form("\"float\" takes \"NaN\", \"inf\" or \"-inf\"; write others as numbers")
    })
}

/// A tuple as a JSON array.
pub fn tuple_to_json(tuple: &Tuple) -> Json {
    tuple.iter().map(value_to_json).collect()
}

/// Reads a tuple from a JSON array.
///
/// # Errors
///
/// [`JsonError::Form`] when it is no array, for what [`value_from_json`] refuses, and when the
/// limits of a tuple are broken.
pub fn tuple_from_json(json: &Json) -> Result<Tuple, JsonError> {
    let Json::Array(list) = json else {
        return Err(JsonError::form(format!(
            "a tuple is an array, not {}",
            json_kind(json)
        )));
    };
    Ok(Tuple::new(read_list(list, 0)?)?)
}
