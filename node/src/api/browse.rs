//! What people look at: values of variables, and the NetWorkSpaces gateway.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use cpe::{Tuple, Value};
use cpe_nws::Trouble;
use cpe_tuple::json::value_to_json;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::App;
use super::error::ApiError;
use super::forms::{Answer, done};

/// Values shown unless another number is asked for.
const LIMIT_DEFAULT: usize = 100;

/// Values shown at most.
const LIMIT_MAX: usize = 1_000;

/// Characters of a value shown.
const TEXT_MAX: usize = 500;

/// Languages by their number in a descriptor.
const LANGUAGES: [&str; 9] = [
    "Python",
    "Matlab",
    "R",
    "Perl",
    "Ruby",
    "Octave",
    "Java",
    "C#",
    "Objective-C",
];

/// Query of a look at a variable.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitQuery {
    #[serde(default)]
    limit: Option<usize>,
}

/// The first values of a variable as text, with type and size, as this node's replica has them.
pub(crate) async fn variable(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<LimitQuery>, QueryRejection>,
) -> Answer {
    let Path((workspace, name)) = path?;
    let name = cpe_tuple::json::parse_cli_value(&name).map_err(ApiError::invalid)?;
    let limit = query?.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let tuples = app.space.browse(&workspace, name, limit).await?;
    let values: Vec<JsonValue> = tuples.iter().map(shown).collect();
    Ok(Json(JsonValue::Array(values)))
}

/// A tuple as text: the value, if it is `[name, value]`.
fn shown(tuple: &Tuple) -> JsonValue {
    let descriptor = tuple.mark().and_then(|mark| mark.descriptor);
    let (text, size) = match tuple.fields() {
        [_, value] => (text(value), size(value)),
        fields => (
            json!(fields.iter().map(value_to_json).collect::<Vec<_>>()).to_string(),
            tuple.size() as u64,
        ),
    };
    let kind = match tuple.fields() {
        [_, value] => value.kind().to_string(),
        _ => "tuple".to_owned(),
    };
    let is_cut = text.chars().nth(TEXT_MAX).is_some();
    json!({
        "type": kind,
        "language": descriptor.and_then(language),
        "size": size,
        "text": text.chars().take(TEXT_MAX).collect::<String>(),
        "cut": is_cut,
    })
}

/// What serialised a value, if it is not plain text.
fn language(descriptor: u64) -> Option<&'static str> {
    let number = usize::try_from((descriptor >> 24) & 0xff).ok()?;
    let named = || LANGUAGES.get(number.checked_sub(1)?).copied();
    (descriptor & 1 == 0).then(named).flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) | Value::Symbol(text) => text.clone(),
        Value::Bytes(bytes) => {
            let first = bytes.get(..TEXT_MAX + 1).unwrap_or(bytes);
            first.escape_ascii().to_string()
        }
        Value::Blob(_) => "(lies apart)".to_owned(),
        other => value_to_json(other).to_string(),
    }
}

/// Bytes of what a reader would get.
fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) | Value::Symbol(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::Blob(blob) => blob.len(),
        other => value_to_json(other).to_string().len() as u64,
    }
}

/// The gateway: its clients, who waits at this node, and the workspaces that clients made.
pub(crate) async fn gateway(State(app): State<App>) -> Answer {
    let Some((address, gateway)) = &app.nws else {
        let none: [JsonValue; 0] = [];
        return Ok(Json(json!({
            "address": null, "clients": none, "waiting": none, "workspaces": none,
        })));
    };
    let workspaces = gateway.workspaces().await.map_err(trouble)?;
    let clients = gateway.clients().into_iter().map(|client| {
        json!({
            "peer": client.peer,
            "connected_s": client.connected.as_secs(),
            "open": client.open,
            "owned": client.owned,
        })
    });
    let waiting = gateway.waiting().into_iter().map(|waiting| {
        json!({
            "workspace": waiting.workspace,
            "variable": value_to_json(&waiting.variable),
            "fetchers": waiting.fetchers,
            "finders": waiting.finders,
        })
    });
    let workspaces = workspaces.into_iter().map(|it| {
        json!({
            "name": it.name,
            "workspace": it.workspace,
            "owner": it.owner,
            "persistent": it.persistent,
        })
    });
    Ok(Json(json!({
        "address": address,
        "clients": clients.collect::<Vec<_>>(),
        "waiting": waiting.collect::<Vec<_>>(),
        "workspaces": workspaces.collect::<Vec<_>>(),
    })))
}

/// Deletes a workspace that clients made, as one of them would: who has it open is refused then.
pub(crate) async fn delete_workspace(
    State(app): State<App>,
    workspace: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(workspace) = workspace?;
    let Some((_, gateway)) = &app.nws else {
        return Err(ApiError::not_found(
            "this node serves no NetWorkSpaces clients",
        ));
    };
    gateway.delete(&workspace).await.map_err(trouble)?;
    Ok(done())
}

fn trouble(trouble: Trouble) -> ApiError {
    match trouble {
        Trouble::Absent => ApiError::not_found("NetWorkSpaces clients made no such workspace"),
        Trouble::Refused(why) => ApiError::invalid(why),
        Trouble::Undecided(why) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why)
        }
    }
}

#[cfg(test)]
mod tests {
    use cpe::Mark;

    use super::*;

    #[test]
    fn a_value_is_shown_as_text_with_its_type_and_size() {
        let of = |value: Value, descriptor: Option<u64>| {
            let tuple = Tuple::named("v", value).unwrap();
            shown(&tuple.with_mark(Mark {
                descriptor,
                ..Mark::default()
            }))
        };
        let check = |shown: JsonValue, kind: &str, language: JsonValue, size: u64, text: &str| {
            assert_eq!(shown["type"], kind);
            assert_eq!(shown["language"], language);
            assert_eq!(
                (shown["size"].clone(), shown["cut"].clone()),
                (size.into(), false.into())
            );
            assert_eq!(shown["text"], text);
        };
        check(of("tea".into(), Some(1)), "string", json!(null), 3, "tea");
        let pickled = Value::Bytes(b"\x80\x02K".to_vec());
        check(
            of(pickled, Some(1 << 24)),
            "bytes",
            json!("Python"),
            3,
            "\\x80\\x02K",
        );
        check(of(Value::from(17), None), "int", json!(null), 2, "17");
        let long = of("x".repeat(TEXT_MAX + 1).into(), None);
        assert_eq!(long["cut"], true);
        assert_eq!(long["text"].as_str().unwrap().len(), TEXT_MAX);
    }

    #[test]
    fn a_descriptor_of_no_language_names_none() {
        for descriptor in [0, 1, 0xff00_0000, u64::MAX] {
            assert_eq!(language(descriptor), None);
        }
        assert_eq!(language(3 << 24), Some("R"));
    }
}
