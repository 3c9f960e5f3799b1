//! The JSON of requests and answers.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use cpe::{ActorInfo, Member, PeerInfo, Staleness, Template, Tuple, Value, VariableInfo};
use cpe_tuple::json::{
    template_from_json, tuple_from_json, tuple_to_json, value_from_json, value_to_json,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as JsonValue, json};

use super::error::ApiError;
use crate::cli::{TIMEOUT_DEFAULT, TIMEOUT_MAX};

/// How long a client may take to send a body.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Answers of the handlers.
pub(crate) type Answer = Result<Json<JsonValue>, ApiError>;

/// A JSON body; what does not fit is answered as JSON too.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let reading = Json::<T>::from_request(request, state);
        match tokio::time::timeout(BODY_WITHIN, reading).await {
            Ok(Ok(Json(body))) => Ok(Self(body)),
            Ok(Err(rejection)) => Err(rejection.into()),
            Err(_) => Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "bad_request",
                format!("the body did not come within {BODY_WITHIN:?}"),
            )),
        }
    }
}

/// How long to wait, in milliseconds; bounded.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct TimeoutMs(Option<u64>);

impl TimeoutMs {
    /// The time to wait.
    ///
    /// # Errors
    /// When it is longer than a day.
    pub(crate) fn deadline(self) -> Result<Duration, ApiError> {
        let deadline = self.0.map_or(TIMEOUT_DEFAULT, Duration::from_millis);
        if deadline > TIMEOUT_MAX {
            let bound = TIMEOUT_MAX.as_millis();
            return Err(ApiError::invalid(format!(
                "timeout_ms is out of bounds: 0 to {bound}"
            )));
        }
        Ok(deadline)
    }
}

/// Reads a value.
pub(crate) fn value(json: &JsonValue) -> Result<Value, ApiError> {
    value_from_json(json).map_err(ApiError::invalid)
}

/// Reads a tuple.
pub(crate) fn tuple(json: &JsonValue) -> Result<Tuple, ApiError> {
    tuple_from_json(json).map_err(ApiError::invalid)
}

/// Reads a template.
pub(crate) fn template(json: &JsonValue) -> Result<Template, ApiError> {
    template_from_json(json).map_err(ApiError::invalid)
}

/// `{"tuple":[...]}`, or null in its place.
pub(crate) fn found(tuple: Option<&Tuple>) -> Json<JsonValue> {
    Json(json!({"tuple": tuple.map(tuple_to_json)}))
}

/// The answer of a read from this node's replica: the same, and how old it may be while no majority
/// of its home can be reached.
pub(crate) fn seen(tuple: Option<&Tuple>, stale: Option<&Staleness>) -> Json<JsonValue> {
    let Json(mut answer) = found(tuple);
    if let (Some(stale), JsonValue::Object(answer)) = (stale, &mut answer) {
        let ms = u64::try_from(stale.since.as_millis()).unwrap_or(u64::MAX);
        let stale = json!({"shard": stale.shard, "applied": stale.applied, "since_ms": ms});
        answer.insert("stale".to_owned(), stale);
    }
    Json(answer)
}

/// `{}`: done, and there is no more to say.
pub(crate) fn done() -> Json<JsonValue> {
    Json(json!({}))
}

/// Something the library describes, as it describes it, with node ids as people see them.
pub(crate) fn plain(value: &impl Serialize) -> Answer {
    let mut json = serde_json::to_value(value)
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error))?;
    name_nodes(&mut json);
    Ok(Json(json))
}

/// Fields that hold a node id.
const NAMES_A_NODE: [&str; 2] = ["node", "leader"];

/// Writes node ids in hexadecimal. As numbers they would lose digits in every reader whose
/// numbers are floats, JavaScript's among them.
fn name_nodes(json: &mut JsonValue) {
    match json {
        JsonValue::Array(items) => items.iter_mut().for_each(name_nodes),
        JsonValue::Object(map) => {
            for (key, value) in map {
                match value
                    .as_u64()
                    .filter(|_| NAMES_A_NODE.contains(&key.as_str()))
                {
                    Some(node) => *value = JsonValue::from(format!("{node:016x}")),
                    None => name_nodes(value),
                }
            }
        }
        _ => {}
    }
}

/// A variable.
pub(crate) fn variable(info: &VariableInfo) -> JsonValue {
    json!({
        "name": value_to_json(&info.name),
        "mode": info.mode.to_string(),
        "tuples": info.tuples,
        "pending": info.pending,
        "shard": info.shard,
    })
}

/// Whether it was asked for as durable.
fn is_durable(info: &ActorInfo) -> bool {
    let asked = info.spec.as_map().and_then(|spec| spec.get("durable"));
    asked == Some(&Value::Bool(true))
}

/// Whether an actor ended with its node. Of one that is kept by a lease another node goes on.
fn is_gone(info: &ActorInfo, peers: &[PeerInfo]) -> bool {
    let is_host = |host: Member| {
        move |peer: &PeerInfo| {
            peer.node == host.node
                && peer.inc == host.inc
                && matches!(peer.state, "alive" | "suspect")
        }
    };
    !info.leased
        && info
            .host
            .is_some_and(|host| !peers.iter().any(is_host(host)))
}

/// A named actor; `host` is null after it was stopped, `gone` says that it ended with its node.
pub(crate) fn actor(info: &ActorInfo, peers: &[PeerInfo]) -> JsonValue {
    json!({
        "name": info.name,
        "spec": value_to_json(&info.spec),
        "token": info.token,
        "host": info.host.map(|member| member.node.to_string()),
        "durable": is_durable(info),
        "gone": is_gone(info, peers),
    })
}
