//! Actors over HTTP.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use cpe::SpawnOptions;
use cpe_tuple::json::value_to_json;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::App;
use super::error::ApiError;
use super::forms::{Answer, Body, TimeoutMs, actor, done, value};
use super::space::WaitQuery;

type Name = Result<Path<String>, PathRejection>;

/// A body that starts an actor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpawnBody {
    kind: String,
    name: String,
    #[serde(default)]
    args: JsonValue,
    #[serde(default)]
    require: BTreeMap<String, String>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// A body with a message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageBody {
    message: JsonValue,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// Lists the named actors.
pub(crate) async fn list(State(app): State<App>) -> Answer {
    Ok(Json(app.actors.list().await?.iter().map(actor).collect()))
}

/// Starts an actor.
pub(crate) async fn spawn(State(app): State<App>, Body(body): Body<SpawnBody>) -> Answer {
    let options = SpawnOptions {
        node: body.node,
        require: body.require,
        deadline: body.timeout_ms.deadline()?,
    };
    let args = value(&body.args)?;
    let info = app
        .actors
        .spawn(&body.kind, &body.name, args, options)
        .await?;
    Ok(Json(actor(&info)))
}

/// Where an actor lives.
pub(crate) async fn where_is(State(app): State<App>, name: Name) -> Answer {
    let Path(name) = name?;
    match app.actors.where_is(&name).await? {
        Some(info) => Ok(Json(actor(&info))),
        None => Err(ApiError::not_found(format!("no actor is called `{name}`"))),
    }
}

/// Stops an actor.
pub(crate) async fn stop(
    State(app): State<App>,
    name: Name,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Answer {
    app.actors
        .stop(&name?.0, query?.timeout_ms.deadline()?)
        .await?;
    Ok(done())
}

/// Sends a message and does not wait for an answer.
pub(crate) async fn tell(
    State(app): State<App>,
    name: Name,
    Body(body): Body<MessageBody>,
) -> Answer {
    app.actors.tell(&name?.0, value(&body.message)?).await?;
    Ok(done())
}

/// Sends a message and waits for the answer.
pub(crate) async fn ask(
    State(app): State<App>,
    name: Name,
    Body(body): Body<MessageBody>,
) -> Answer {
    let deadline = body.timeout_ms.deadline()?;
    let answer = app
        .actors
        .ask(&name?.0, value(&body.message)?, deadline)
        .await?;
    Ok(Json(json!({"answer": value_to_json(&answer)})))
}
