//! Forests over HTTP.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use cpe_tuple::json::value_to_json;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::App;
use super::error::ApiError;
use super::forms::{Answer, Body, TimeoutMs, value};
use crate::exit::{Fault, Status};
use crate::forest::{model, vote};
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
    let predicting = async {
        if none {
            model::is_there(&app.space, &name).await?;
            return Ok(None);
        }
        if !body.spread {
            let forest = app.models.get(&app.space, &name).await?;
            let rows = of_cases(forest.manifest(), &cases)?;
            let work = move || {
                let told = forest.predict(&rows);
                told.map(|told| (forest.manifest().clone(), told))
            };
            // Perhaps seconds of arithmetic: off the threads that move messages.
            let told = tokio::task::spawn_blocking(work).await;
            let told = told.map_err(|error| Fault::failed(error.to_string()))?;
            return told
                .map(Some)
                .map_err(|error| ApiError::invalid(error).into());
        }
        let placed = model::placed(&app.space, &name).await?;
        let rows = of_cases(&placed.manifest, &cases)?;
        let told = vote::predict(&app.space, &placed, &rows, within, |_, _| ()).await?;
        Ok::<_, Why>(Some((placed.manifest, told)))
    };
    let told = match tokio::time::timeout(within, predicting).await {
        Ok(told) => told.map_err(|Why(error)| error)?,
        Err(_) => return Err(cpe::Failure::TimedOut(within).into()),
    };
    let Some((manifest, told)) = told else {
        return Ok(Json(json!({"answers": []})));
    };
    let answers = forest::answers(&manifest, &told);
    let answers: Vec<_> = answers.iter().map(value_to_json).collect();
    Ok(Json(
        json!({"trees": told.trees, "of": told.of, "answers": answers}),
    ))
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
