//! The tuple space over HTTP.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cpe::{Ack, Mode, Stored, Tuple, Watch};
use cpe_tuple::json::{parse_template, tuple_to_json};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};
use tokio_util::sync::CancellationToken;

use super::App;
use super::error::ApiError;
use super::forms::{
    Answer, Body, TimeoutMs, done, found, plain, seen, template, tuple, value, variable,
};

/// How often an idle watch sends an empty line: shows both ends that the other one lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

type Name = Result<Path<String>, PathRejection>;

/// A body with a whole tuple.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutBody {
    tuple: JsonValue,
    #[serde(default)]
    ack: AckWord,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// A body with a variable's name and a value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreBody {
    name: JsonValue,
    value: JsonValue,
    #[serde(default)]
    ack: AckWord,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// When a store counts as done.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AckWord {
    #[default]
    Home,
    Local,
}

/// A body with a template.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatchBody {
    template: JsonValue,
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// A body that declares a variable.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeclareBody {
    name: JsonValue,
    mode: Mode,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// Query of requests without a body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    #[serde(default)]
    pub(crate) timeout_ms: TimeoutMs,
}

/// Query of a watch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchQuery {
    template: String,
}

/// Lists the workspaces.
pub(crate) async fn workspaces(State(app): State<App>) -> Answer {
    plain(&app.space.workspaces().await?)
}

/// Lists a workspace's variables.
pub(crate) async fn variables(State(app): State<App>, workspace: Name) -> Answer {
    let Path(workspace) = workspace?;
    let variables = app.space.variables(&workspace).await?;
    Ok(Json(variables.iter().map(variable).collect()))
}

/// Adds `[name, value]`.
pub(crate) async fn store(
    State(app): State<App>,
    workspace: Name,
    Body(body): Body<StoreBody>,
) -> Answer {
    let fields = vec![value(&body.name)?, value(&body.value)?];
    let tuple = Tuple::new(fields).map_err(ApiError::invalid)?;
    add(&app, &workspace?.0, tuple, body.ack, body.timeout_ms).await
}

/// Adds a tuple.
pub(crate) async fn out(
    State(app): State<App>,
    workspace: Name,
    Body(body): Body<OutBody>,
) -> Answer {
    add(
        &app,
        &workspace?.0,
        tuple(&body.tuple)?,
        body.ack,
        body.timeout_ms,
    )
    .await
}

async fn add(
    app: &App,
    workspace: &str,
    tuple: Tuple,
    ack: AckWord,
    timeout_ms: TimeoutMs,
) -> Answer {
    let ack = match ack {
        AckWord::Home => Ack::Home,
        AckWord::Local => Ack::Local,
    };
    let stored = app
        .space
        .out_with(workspace, tuple, ack, timeout_ms.deadline()?)
        .await?;
    Ok(self::stored(stored))
}

/// What a store came to.
pub(super) fn stored(stored: Stored) -> Json<JsonValue> {
    Json(match stored {
        Stored::Home { index } => json!({"stored": "home", "index": index}),
        Stored::Pending => json!({"stored": "pending"}),
    })
}

/// Waits for a matching tuple and leaves it.
pub(crate) async fn rd(
    State(app): State<App>,
    workspace: Name,
    Body(body): Body<MatchBody>,
) -> Answer {
    let Path(workspace) = workspace?;
    let (template, deadline) = (template(&body.template)?, body.timeout_ms.deadline()?);
    if body.fresh {
        let tuple = app.space.rd_fresh(&workspace, template, deadline).await?;
        return Ok(found(Some(&tuple)));
    }
    let from = template.clone();
    let tuple = app.space.rd(&workspace, template, deadline).await?;
    let stale = app.space.staleness(&workspace, from).await?;
    Ok(seen(Some(&tuple), stale.as_ref()))
}

/// Reads a matching tuple if there is one.
pub(crate) async fn rdp(
    State(app): State<App>,
    workspace: Name,
    Body(body): Body<MatchBody>,
) -> Answer {
    let (workspace, template) = (workspace?.0, template(&body.template)?);
    if body.fresh {
        let within = Some(body.timeout_ms.deadline()?);
        let tuple = app.space.rdp(&workspace, template, within).await?;
        return Ok(found(tuple.as_ref()));
    }
    let tuple = app.space.rdp(&workspace, template.clone(), None).await?;
    let stale = app.space.staleness(&workspace, template).await?;
    Ok(seen(tuple.as_ref(), stale.as_ref()))
}

/// Sets a variable's mode.
pub(crate) async fn declare(
    State(app): State<App>,
    workspace: Name,
    Body(body): Body<DeclareBody>,
) -> Answer {
    let deadline = body.timeout_ms.deadline()?;
    app.space
        .declare(&workspace?.0, value(&body.name)?, body.mode, deadline)
        .await?;
    Ok(done())
}

/// Deletes a workspace with all its variables.
pub(crate) async fn delete_workspace(
    State(app): State<App>,
    workspace: Name,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Answer {
    app.space
        .delete(&workspace?.0, None, query?.timeout_ms.deadline()?)
        .await?;
    Ok(done())
}

/// Deletes a variable with its tuples.
pub(crate) async fn delete_variable(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Answer {
    let Path((workspace, name)) = path?;
    let name = cpe_tuple::json::parse_cli_value(&name).map_err(ApiError::invalid)?;
    app.space
        .delete(&workspace, Some(name), query?.timeout_ms.deadline()?)
        .await?;
    Ok(done())
}

/// Sends each matching tuple as this node learns of it, one JSON object a line.
pub(crate) async fn watch(
    State(app): State<App>,
    workspace: Name,
    query: Result<Query<WatchQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let template = parse_template(&query?.template).map_err(ApiError::invalid)?;
    let watch = app.space.watch(&workspace?.0, template).await?;
    let lines = stream::unfold((watch, app.stop.clone()), |(mut watch, stop)| async move {
        let line = next_line(&mut watch, &stop).await?;
        Some((Ok::<_, Infallible>(line), (watch, stop)))
    });
    let body = HttpBody::from_stream(lines);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn next_line(watch: &mut Watch, stop: &CancellationToken) -> Option<Bytes> {
    tokio::select! {
        () = stop.cancelled() => None,
        tuple = watch.next() => {
            let tuple = tuple?;
            Some(Bytes::from(format!("{}\n", json!({"tuple": tuple_to_json(&tuple)}))))
        }
        () = tokio::time::sleep(HEARTBEAT) => Some(Bytes::from_static(b"\n")),
    }
}
