//! Leases and the fate of operations over HTTP.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use cpe::{Fate, LEASE_TTL_MAX, LEASE_TTL_MIN, LeaseAct, LeaseHandle, Leased, OpHandle};
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::App;
use super::delivery::Deliveries;
use super::error::ApiError;
use super::forms::{Answer, Body, TimeoutMs, done, found, template};
use super::mesh::WaitBody;

type Text = Result<Path<String>, PathRejection>;

/// A body with a template, of the forms that take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TakeBody {
    template: JsonValue,
    /// A take always asks the home; accepted so that all forms can be given the same body.
    #[serde(default)]
    #[expect(dead_code, reason = "accepted and without effect")]
    fresh: bool,
    #[serde(default)]
    lease_ms: Option<u64>,
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

impl TakeBody {
    fn ttl(&self) -> Result<Option<Duration>, ApiError> {
        let ttl = self.lease_ms.map(Duration::from_millis);
        let bounds = LEASE_TTL_MIN..=LEASE_TTL_MAX;
        if ttl.is_some_and(|ttl| !bounds.contains(&ttl)) {
            let (least, most) = (LEASE_TTL_MIN.as_millis(), LEASE_TTL_MAX.as_millis());
            return Err(ApiError::invalid(format!(
                "lease_ms is out of bounds: {least} to {most}"
            )));
        }
        Ok(ttl)
    }
}

/// Waits for a matching tuple and takes it, under a lease if one is asked for. It goes back when
/// the connection ends before the answer was written.
pub(crate) async fn take(
    app: State<App>,
    deliveries: Extension<Deliveries>,
    workspace: Text,
    body: Body<TakeBody>,
) -> Result<Response, ApiError> {
    taken(app, deliveries, workspace, body, true).await
}

/// Takes a matching tuple if there is one, as [`take`].
pub(crate) async fn try_take(
    app: State<App>,
    deliveries: Extension<Deliveries>,
    workspace: Text,
    body: Body<TakeBody>,
) -> Result<Response, ApiError> {
    taken(app, deliveries, workspace, body, false).await
}

async fn taken(
    State(app): State<App>,
    Extension(deliveries): Extension<Deliveries>,
    workspace: Text,
    Body(body): Body<TakeBody>,
    wait: bool,
) -> Result<Response, ApiError> {
    let Path(workspace) = workspace?;
    let (template, deadline) = (template(&body.template)?, body.timeout_ms.deadline()?);
    let taken = match body.ttl()? {
        None => {
            let taken = app
                .space
                .take_with_receipt(&workspace, template, wait, deadline)
                .await?;
            taken.map(|(tuple, receipt)| (found(Some(&tuple)), receipt))
        }
        Some(ttl) => {
            let taken = app
                .space
                .take_leased_with_receipt(&workspace, template, wait, ttl, deadline)
                .await?;
            taken.map(|(taken, receipt)| (leased(&taken), receipt))
        }
    };
    Ok(match taken {
        Some((answer, receipt)) => deliveries.answer(answer, receipt),
        None => found(None).into_response(),
    })
}

fn leased(taken: &Leased) -> Json<JsonValue> {
    let Json(mut answer) = found(Some(taken.tuple()));
    if let JsonValue::Object(answer) = &mut answer {
        let ttl = u64::try_from(taken.ttl().as_millis()).unwrap_or(u64::MAX);
        answer.insert("lease".to_owned(), json!(taken.handle().to_string()));
        answer.insert("token".to_owned(), json!(taken.token()));
        answer.insert("lease_ms".to_owned(), json!(ttl));
    }
    Json(answer)
}

/// Lets a lease's time begin anew.
pub(crate) async fn renew(app: State<App>, lease: Text, body: Body<WaitBody>) -> Answer {
    act(app, lease, body, LeaseAct::Renew).await
}

/// Removes a leased tuple for good.
pub(crate) async fn commit(app: State<App>, lease: Text, body: Body<WaitBody>) -> Answer {
    act(app, lease, body, LeaseAct::Commit).await
}

/// Puts a leased tuple back.
pub(crate) async fn give_back(app: State<App>, lease: Text, body: Body<WaitBody>) -> Answer {
    act(app, lease, body, LeaseAct::Return).await
}

async fn act(
    State(app): State<App>,
    lease: Text,
    Body(body): Body<WaitBody>,
    act: LeaseAct,
) -> Answer {
    let Path(lease) = lease?;
    let lease: LeaseHandle = lease.parse().map_err(ApiError::invalid)?;
    let deadline = body.timeout_ms.deadline()?;
    match act {
        LeaseAct::Renew => app.space.renew(lease, deadline).await?,
        LeaseAct::Commit => app.space.commit(lease, deadline).await?,
        LeaseAct::Return => app.space.give_back(lease, deadline).await?,
    }
    Ok(done())
}

/// What became of an operation.
pub(crate) async fn status(State(app): State<App>, op: Text, Body(body): Body<WaitBody>) -> Answer {
    let Path(op) = op?;
    let op: OpHandle = op.parse().map_err(ApiError::invalid)?;
    let fate = app.space.status(op, body.timeout_ms.deadline()?).await?;
    let word = match fate {
        Fate::Open => "open",
        Fate::Never => "never",
        Fate::Took { .. } => "took",
        Fate::Leased { .. } => "leased",
        Fate::Nothing => "nothing",
        Fate::Done => "done",
        Fate::Refused => "refused",
        Fate::Forgotten => "forgotten",
    };
    let mut answer = json!({"operation": op.to_string(), "status": word});
    if let JsonValue::Object(answer) = &mut answer {
        match fate {
            Fate::Took { index } => answer.insert("index".to_owned(), json!(index)),
            Fate::Leased { token } => answer.insert("token".to_owned(), json!(token)),
            _ => None,
        };
    }
    Ok(Json(answer))
}
