//! The mesh over HTTP.

use axum::extract::State;
use serde::Deserialize;

use super::App;
use super::forms::{Answer, Body, TimeoutMs, done, plain};

/// A body with nothing but the time to wait.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitBody {
    #[serde(default)]
    timeout_ms: TimeoutMs,
}

/// What does not change: name, peer id, addresses, version.
pub(crate) async fn about(State(app): State<App>) -> Answer {
    plain(&app.about)
}

/// A summary of this node.
pub(crate) async fn status(State(app): State<App>) -> Answer {
    plain(&app.mesh.status().await?)
}

/// The members as this node sees them.
pub(crate) async fn peers(State(app): State<App>) -> Answer {
    plain(&app.mesh.peers().await?)
}

/// The shards as this node sees them.
pub(crate) async fn shards(State(app): State<App>) -> Answer {
    plain(&app.mesh.shards().await?)
}

/// Hands everything this node is home of to others.
pub(crate) async fn drain(State(app): State<App>, Body(body): Body<WaitBody>) -> Answer {
    app.mesh.drain(body.timeout_ms.deadline()?).await?;
    Ok(done())
}
