//! Values of variables as plain bytes, streamed: what is too large for JSON.

use std::io;
use std::time::Duration;

use axum::Extension;
use axum::body::Body as HttpBody;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cpe::{Ack, Field, Kind, LargeValue, Receipt, Template, Value};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use tokio_util::io::StreamReader;

use super::App;
use super::delivery::Deliveries;
use super::error::ApiError;
use super::forms::{Answer, TimeoutMs};
use super::space::{AckWord, stored};

/// How long a client may send nothing of a value.
const NEXT_WITHIN: Duration = Duration::from_secs(30);

type Variable = Result<Path<(String, String)>, PathRejection>;

/// Query of a store.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreQuery {
    /// Whether the bytes are text, to be stored as a string.
    #[serde(default)]
    text: bool,
    #[serde(default)]
    ack: AckWord,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// Query of a read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadQuery {
    /// Whether to wait for a value, or to answer at once, as its home says.
    #[serde(default)]
    wait: bool,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// Adds `[name, value]` with the bytes of the request.
pub(crate) async fn store(
    State(app): State<App>,
    path: Variable,
    query: Result<Query<StoreQuery>, QueryRejection>,
    body: HttpBody,
) -> Answer {
    let Path((workspace, name)) = path?;
    let Query(query) = query?;
    let ack = match query.ack {
        AckWord::Home => Ack::Home,
        AckWord::Local => Ack::Local,
    };
    let name = variable(&name)?;
    let source = StreamReader::new(Box::pin(in_time(body)));
    let deadline = query.timeout_ms.deadline()?;
    let done = app
        .space
        .store_from(&workspace, name, source, query.text, ack, deadline)
        .await?;
    Ok(stored(done))
}

/// Answers with a value and leaves it.
pub(crate) async fn read(
    State(app): State<App>,
    path: Variable,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path((workspace, name)) = path?;
    let Query(query) = query?;
    let template = named(&name)?;
    let deadline = query.timeout_ms.deadline()?;
    let found = app
        .space
        .open_found(&workspace, template, query.wait, deadline)
        .await?;
    Ok(answer(found.map(|value| (value, None))))
}

/// Answers with a value and takes it. It goes back when the connection breaks before its end.
pub(crate) async fn take(
    State(app): State<App>,
    Extension(deliveries): Extension<Deliveries>,
    path: Variable,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path((workspace, name)) = path?;
    let Query(query) = query?;
    let template = named(&name)?;
    let deadline = query.timeout_ms.deadline()?;
    let taken = app
        .space
        .open_taken(&workspace, template, query.wait, deadline)
        .await?;
    let kept = |receipt| Some((receipt, deliveries));
    Ok(answer(
        taken.map(|taken| (taken.value, kept(taken.receipt))),
    ))
}

fn variable(name: &str) -> Result<Value, ApiError> {
    cpe_tuple::json::parse_cli_value(name).map_err(ApiError::invalid)
}

fn named(name: &str) -> Result<Template, ApiError> {
    let fields = vec![Field::Actual(variable(name)?), Field::Any];
    Template::new(fields).map_err(ApiError::invalid)
}

/// What a client sends; it ends with an error when nothing comes for too long.
fn in_time(body: HttpBody) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(body.into_data_stream()), |body| async move {
        let mut body = body?;
        match tokio::time::timeout(NEXT_WITHIN, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
            Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
            Err(_) => {
                let why = format!("nothing came for {NEXT_WITHIN:?}");
                Some((Err(io::Error::new(io::ErrorKind::TimedOut, why)), None))
            }
        }
    })
}

/// A value as the body of an answer; 204 for none.
fn answer(found: Option<(LargeValue, Option<(Receipt, Deliveries)>)>) -> Response {
    let Some((value, receipt)) = found else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let kind = match value.kind() {
        Kind::Bytes => "application/octet-stream",
        Kind::String => "text/plain; charset=utf-8",
        _ => "application/json",
    };
    let chunks = stream::unfold(Some((value, receipt)), |state| async move {
        let (mut value, receipt) = state?;
        match value.chunk().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some((value, receipt)))),
            Ok(None) => {
                if let Some((receipt, deliveries)) = receipt {
                    deliveries.hand_over(receipt);
                }
                None
            }
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    });
    // Without a length the stream is asked for its end, and only that hands the receipt over.
    let headers = [(header::CONTENT_TYPE, kind)];
    (headers, HttpBody::from_stream(chunks)).into_response()
}
