//! What goes wrong, as HTTP status and JSON.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use cpe::{ActorsError, CapabilityError, Failure, LeaseEnd, SpaceError};
use serde_json::json;

/// An answer that says why not: `{"error":{"kind":...,"message":...}}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// A field more, where a program needs to know about what: its name and value.
    about: Option<(&'static str, String)>,
}

impl ApiError {
    /// Any error.
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        message: impl std::fmt::Display,
    ) -> Self {
        Self {
            status,
            kind,
            message: message.to_string(),
            about: None,
        }
    }

    /// The request is well-formed JSON and means nothing here.
    pub(crate) fn invalid(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    /// What it is about is not there.
    pub(crate) fn not_found(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// The node is on its way out.
    pub(crate) fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "the node is stopping; ask another one",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({"kind": self.kind, "message": self.message});
        if let (Some((name, value)), Some(error)) = (self.about, error.as_object_mut()) {
            error.insert(name.to_owned(), value.into());
        }
        (self.status, axum::Json(json!({"error": error}))).into_response()
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let (status, kind) = match &failure {
            Failure::TimedOut(_) => (StatusCode::GATEWAY_TIMEOUT, "timed_out"),
            Failure::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Failure::Unknown { .. } => (StatusCode::GATEWAY_TIMEOUT, "unknown"),
            Failure::LeaseLost { .. } => (StatusCode::CONFLICT, "lease_lost"),
            Failure::Lost { .. } => (StatusCode::GONE, "lost"),
            Failure::Kept { .. } => (StatusCode::CONFLICT, "kept"),
            Failure::Refused(_) => (StatusCode::CONFLICT, "refused"),
            Failure::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let about = match &failure {
            Failure::Unknown { op } => Some(("operation", op.to_string())),
            Failure::LeaseLost { end, .. } => Some(("ended", ended(*end).to_owned())),
            _ => None,
        };
        Self {
            about,
            ..Self::new(status, kind, failure)
        }
    }
}

fn ended(end: LeaseEnd) -> &'static str {
    match end {
        LeaseEnd::Committed => "committed",
        LeaseEnd::Returned => "returned",
        LeaseEnd::Expired => "expired",
        LeaseEnd::Forgotten => "forgotten",
    }
}

impl From<SpaceError> for ApiError {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::Failed(failure) => failure.into(),
            SpaceError::Closed => Self::stopping(),
            SpaceError::Limit(limit) => Self::invalid(limit),
            SpaceError::NotYet { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, "timed_out", error),
            other => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", other),
        }
    }
}

impl From<CapabilityError> for ApiError {
    fn from(error: CapabilityError) -> Self {
        match error {
            CapabilityError::Closed => Self::stopping(),
            other => Self::invalid(other),
        }
    }
}

impl From<ActorsError> for ApiError {
    fn from(error: ActorsError) -> Self {
        let (status, kind) = match error {
            ActorsError::Space(error) => return error.into(),
            ActorsError::NoSuchActor(_) | ActorsError::UnknownNode(_) => {
                (StatusCode::NOT_FOUND, "not_found")
            }
            ActorsError::NameTaken { .. }
            | ActorsError::NoSuchNode { .. }
            | ActorsError::NotStarted { .. }
            | ActorsError::NotMoved { .. }
            | ActorsError::Refused { .. } => (StatusCode::CONFLICT, "refused"),
            ActorsError::Dead { .. } => (StatusCode::CONFLICT, "dead"),
            ActorsError::Failed { .. } => (StatusCode::CONFLICT, "failed"),
            ActorsError::Poisoned { .. } => (StatusCode::CONFLICT, "poisoned"),
            ActorsError::Unreachable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ActorsError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "timed_out"),
            ActorsError::AnswerLost { .. } => (StatusCode::CONFLICT, "answer_lost"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, kind, error)
    }
}

/// Answers a path that does not exist.
pub(crate) async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!(
        "nothing is at {}; /openapi.json lists what is",
        uri.path()
    ))
}

/// Answers a method that a path does not take.
pub(crate) async fn wrong_method(method: axum::http::Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        format!(
            "{} does not take {method}; /openapi.json lists what it takes",
            uri.path()
        ),
    )
}

macro_rules! from_rejection {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for ApiError {
            fn from(rejection: $rejection) -> Self {
                let status = rejection.status();
                let kind = match status {
                    StatusCode::PAYLOAD_TOO_LARGE => "too_large",
                    StatusCode::UNPROCESSABLE_ENTITY => "invalid",
                    _ => "bad_request",
                };
                Self::new(status, kind, rejection.body_text())
            }
        }
    )*};
}
from_rejection!(JsonRejection, PathRejection, QueryRejection);
