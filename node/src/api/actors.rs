//! Actors over HTTP.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use cpe::local::{ActorTree, DeadLetter};
use cpe::{Inspected, SpawnOptions, Stopped};
use cpe_tuple::json::value_to_json;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::App;
use super::error::ApiError;
use super::forms::{Answer, Body, TimeoutMs, actor, done, value};

/// Query of what stops an actor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopQuery {
    #[serde(default)]
    timeout_ms: TimeoutMs,
    /// What a durable one has committed stays, for the next one of its name.
    #[serde(default)]
    keep_state: bool,
}

/// Query of what looks at nodes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InspectQuery {
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

type Inspect = Result<Query<InspectQuery>, QueryRejection>;

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
    crowd: Option<String>,
    #[serde(default)]
    durable: bool,
    #[serde(default)]
    near: Option<String>,
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
    let peers = app.mesh.peers().await?;
    let all = app.actors.list().await?;
    Ok(Json(all.iter().map(|info| actor(info, &peers)).collect()))
}

/// Starts an actor.
pub(crate) async fn spawn(State(app): State<App>, Body(body): Body<SpawnBody>) -> Answer {
    // A node reads files for its own people only, so whoever names one means this node.
    let by_file = body.kind == "rules" && body.args.get("file").is_some();
    let here = by_file && body.node.is_none() && body.require.is_empty();
    let options = SpawnOptions {
        node: body.node.or_else(|| here.then(|| app.about.peer.clone())),
        require: body.require,
        crowd: body.crowd,
        deadline: body.timeout_ms.deadline()?,
        durable: body.durable,
        near: body.near,
    };
    let args = value(&body.args)?;
    let info = app
        .actors
        .spawn(&body.kind, &body.name, args, options)
        .await?;
    let peers = app.mesh.peers().await?;
    Ok(Json(actor(&info, &peers)))
}

/// Where an actor lives.
pub(crate) async fn where_is(State(app): State<App>, name: Name) -> Answer {
    let Path(name) = name?;
    match app.actors.where_is(&name).await? {
        Some(info) => Ok(Json(actor(&info, &app.mesh.peers().await?))),
        None => Err(ApiError::not_found(format!("no actor is called `{name}`"))),
    }
}

/// Stops an actor; without one, gives up the state that is kept under the name.
pub(crate) async fn stop(
    State(app): State<App>,
    name: Name,
    query: Result<Query<StopQuery>, QueryRejection>,
) -> Answer {
    let Query(query) = query?;
    let (Path(name), deadline) = (name?, query.timeout_ms.deadline()?);
    let stopped = match query.keep_state {
        true => app.actors.stop_keeping(&name, deadline).await?,
        false => app.actors.stop(&name, deadline).await?,
    };
    match stopped {
        Stopped::Actor => Ok(done()),
        Stopped::State => Ok(Json(json!({"state_only": true}))),
    }
}

/// A body that moves an actor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MigrateBody {
    node: String,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// Moves a durable actor to another node.
pub(crate) async fn migrate(
    State(app): State<App>,
    name: Name,
    Body(body): Body<MigrateBody>,
) -> Answer {
    let deadline = body.timeout_ms.deadline()?;
    app.actors.migrate(&name?.0, &body.node, deadline).await?;
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

/// The living actors of one node or all, as trees.
pub(crate) async fn tree(State(app): State<App>, query: Inspect) -> Answer {
    let Query(InspectQuery { node, timeout_ms }) = query?;
    let deadline = timeout_ms.deadline()?;
    let all = app.actors.tree(node.as_deref(), deadline).await?;
    let actors = |tree: &ActorTree| json!(tree);
    Ok(Json(
        all.iter()
            .map(|it| inspected(it, "actors", actors))
            .collect(),
    ))
}

/// The newest dead letters of one node or all.
pub(crate) async fn dead_letters(State(app): State<App>, query: Inspect) -> Answer {
    let Query(InspectQuery { node, timeout_ms }) = query?;
    let deadline = timeout_ms.deadline()?;
    let all = app.actors.dead_letters(node.as_deref(), deadline).await?;
    let letters = |letter: &DeadLetter| {
        json!({
            "number": letter.number,
            "actor": letter.actor,
            "reason": letter.reason.to_string(),
            "message": letter.message.as_ref().map(value_to_json),
        })
    };
    Ok(Json(
        all.iter()
            .map(|it| inspected(it, "letters", letters))
            .collect(),
    ))
}

fn inspected<T>(it: &Inspected<T>, what: &str, show: impl Fn(&T) -> JsonValue) -> JsonValue {
    let (node, name) = (it.node.to_string(), &it.name);
    match &it.found {
        Ok(found) => {
            let items: Vec<_> = found.items.iter().map(show).collect();
            json!({"node": node, "name": name, "total": found.total, what: items})
        }
        Err(error) => json!({"node": node, "name": name, "error": error.to_string()}),
    }
}
