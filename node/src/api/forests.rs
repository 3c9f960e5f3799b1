//! Forests over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use cpe_forest::Manifest;
use cpe_tuple::json::value_to_json;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::App;
use super::error::ApiError;
use super::forms::{Answer, Body, TimeoutMs, value};
use crate::exit::{Fault, Status};
use crate::forest::model;
use crate::forest::vote::{Told, Vote};
use crate::kinds::forest;

/// A body with cases to predict.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictBody {
    cases: Vec<JsonValue>,
    /// Whether all nodes vote, each with some groves, and none reads the whole model.
    #[serde(default)]
    spread: bool,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// What a model of the mesh says of cases.
pub(crate) async fn predict(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    Body(body): Body<PredictBody>,
) -> Answer {
    let Path(name) = name?;
    let within = body.timeout_ms.deadline()?;
    let mut cases = Vec::with_capacity(body.cases.len());
    for case in &body.cases {
        cases.push(value(case)?);
    }
    let none = cases.is_empty();
    let cases = cpe::Value::List(cases);
    if none {
        let there = model::is_there(&app.space, &name).await;
        there.map_err(|fault| Why::from(fault).0)?;
        return Ok(Json(json!({"answers": []})));
    }
    let voted = Arc::new(Voted::default());
    let predicting = async {
        if body.spread {
            return spread(&app, &name, &cases, within, &voted).await;
        }
        let forest = app.models.get(&app.space, &name, within).await?;
        let rows = of_cases(forest.manifest(), &cases)?;
        let work = move || {
            let told = forest.predict(&rows);
            told.map(|told| (forest.manifest().clone(), told))
        };
        // Perhaps seconds of arithmetic: off the threads that move messages.
        let told = tokio::task::spawn_blocking(work).await;
        let told = told.map_err(|error| Fault::failed(error.to_string()))?;
        let (manifest, predictions) = told.map_err(ApiError::invalid)?;
        let missing = Vec::new();
        Ok::<_, Why>((
            manifest,
            Told {
                predictions,
                missing,
            },
        ))
    };
    let told = match tokio::time::timeout(within, predicting).await {
        Ok(told) => told.map_err(|Why(error)| error)?,
        Err(_) => return Err(late(&name, within, body.spread, &voted)),
    };
    let (manifest, told) = told;
    let answers = forest::answers(&manifest, &told.predictions);
    let answers: Vec<_> = answers.iter().map(value_to_json).collect();
    let (trees, of) = (told.predictions.trees, told.predictions.of);
    let mut answer = json!({"trees": trees, "of": of, "answers": answers});
    if let (Some(answer), false) = (answer.as_object_mut(), told.missing.is_empty()) {
        answer.insert("missing".to_owned(), json!(told.missing));
    }
    Ok(Json(answer))
}

/// How many groves have voted on all rows, and of how many.
#[derive(Debug, Default)]
struct Voted {
    done: AtomicUsize,
    of: AtomicUsize,
}

/// Has all nodes vote.
async fn spread(
    app: &App,
    name: &str,
    cases: &cpe::Value,
    within: Duration,
    voted: &Arc<Voted>,
) -> Result<(Manifest, Told), Why> {
    let placed = model::placed(&app.space, name, within).await?;
    let rows = of_cases(&placed.manifest, cases)?;
    voted.of.store(placed.groves.len(), Ordering::Relaxed);
    let manifest = placed.manifest.clone();
    let (space, voted) = (app.space.clone(), Arc::clone(voted));
    let (tell, told) = oneshot::channel();
    let over = CancellationToken::new();
    let waits = over.clone().drop_guard();
    // It outlives the request, and leaves nothing: also when nobody waits for the answer any more.
    tokio::spawn(async move {
        // The request's own time ends first.
        let stall = within.saturating_mul(2);
        let mut vote = match Vote::new(&space, &placed, &rows, stall) {
            Ok(vote) => vote,
            Err(fault) => return drop(tell.send(Err(fault))),
        };
        let count = |done, _| voted.done.store(done, Ordering::Relaxed);
        tokio::select! {
            told = vote.told(count) => drop(tell.send(told)),
            () = over.cancelled() => {}
        }
        vote.clean().await;
    });
    let told = told.await;
    drop(waits);
    let told = told.map_err(|_| Fault::failed("the vote ended without an answer"))?;
    Ok((manifest, told?))
}

/// That there was no answer in time, and why.
fn late(name: &str, within: Duration, spread: bool, voted: &Voted) -> ApiError {
    let done = voted.done.load(Ordering::Relaxed);
    let of = voted.of.load(Ordering::Relaxed);
    let why = if spread && of > 0 {
        format!(
            "{done} of {of} groves of model `{name}` had voted within {within:?}; give a larger \
             timeout_ms, or see in /v1/peers who is there to vote"
        )
    } else {
        format!(
            "model `{name}` could not be read and asked within {within:?}; give a larger \
             timeout_ms, or train it again if parts of it are missing"
        )
    };
    ApiError::new(axum::http::StatusCode::GATEWAY_TIMEOUT, "timed_out", why)
}

/// Why there are no answers.
struct Why(ApiError);

impl From<ApiError> for Why {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<Fault> for Why {
    fn from(fault: Fault) -> Self {
        Self(match fault.status {
            Status::Unavailable => ApiError::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                fault,
            ),
            _ => ApiError::not_found(fault),
        })
    }
}

fn of_cases(manifest: &cpe_forest::Manifest, cases: &cpe::Value) -> Result<cpe_forest::Rows, Why> {
    let rows = forest::rows(manifest, cases);
    Ok(rows.map_err(ApiError::invalid)?.0)
}
