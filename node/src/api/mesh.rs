//! The mesh over HTTP.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Deserialize;

use super::App;
use super::error::ApiError;
use super::forms::{Answer, Body, TimeoutMs, done, plain};

type Name = Result<Path<String>, PathRejection>;

/// A body with nothing but the time to wait.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitBody {
    #[serde(default)]
    pub(crate) timeout_ms: TimeoutMs,
}

/// A body with the value of a capability.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CapabilityBody {
    value: String,
}

/// A body that asks for a recovery.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecoverBody {
    #[serde(default)]
    shard: Option<u16>,
    /// Says that whoever asks knows what may be lost.
    #[serde(default, rename = "unsafe")]
    knowingly: bool,
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

/// Says of this node that it has a capability.
pub(crate) async fn set_capability(
    State(app): State<App>,
    name: Name,
    Body(body): Body<CapabilityBody>,
) -> Answer {
    app.mesh.set_capability(&name?.0, Some(&body.value)).await?;
    Ok(done())
}

/// Says of this node that it no longer has a capability.
pub(crate) async fn remove_capability(State(app): State<App>, name: Name) -> Answer {
    app.mesh.set_capability(&name?.0, None).await?;
    Ok(done())
}

/// Lets shards whose majority is lost for ever go on with a survivor.
pub(crate) async fn recover(State(app): State<App>, Body(body): Body<RecoverBody>) -> Answer {
    if !body.knowingly {
        return Err(ApiError::invalid(
            "recovery may lose what was acknowledged and hand out what was taken: say \
             \"unsafe\":true if the majority is lost for ever",
        ));
    }
    let deadline = body.timeout_ms.deadline()?;
    plain(&app.mesh.recover_unsafe(body.shard, deadline).await?)
}
