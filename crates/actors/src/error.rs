//! What can go wrong, and why an actor ended.
//!
//! Three groups, by who is told: [`ActorError`] is what a handler returns; [`TellError`],
//! [`AskError`] and [`SpawnError`] are what a caller gets back; [`ExitReason`] is what watchers and
//! later callers learn about an actor that is gone.

use std::{
    fmt::{self, Debug, Display, Formatter},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The longest reason kept in errors, exits and dead letters, in bytes; the rest is cut off.
pub const MAX_REASON_BYTES: usize = 1_024;

/// Why a handler did not answer.
///
/// Any [`std::error::Error`] turns into a failure by `?`. The type itself is deliberately no
/// `std::error::Error`, which is what makes that conversion possible.
pub struct ActorError {
    kind: Fault,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Failed,
    Refused,
    Stashed,
}

impl ActorError {
    /// The actor is broken or may be: its supervision policy applies, the caller gets
    /// [`AskError::Failed`].
    pub fn failed(reason: impl Display) -> Self {
        Self {
            kind: Fault::Failed,
            reason: bounded(reason.to_string()),
        }
    }

    /// The message is not acceptable and the actor is unharmed: the caller gets
    /// [`AskError::Refused`], no supervision takes place.
    pub fn refused(reason: impl Display) -> Self {
        Self {
            kind: Fault::Refused,
            reason: bounded(reason.to_string()),
        }
    }

    /// Whether only the message was at fault.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self.kind, Fault::Refused)
    }

    pub(crate) const fn stashed() -> Self {
        Self {
            kind: Fault::Stashed,
            reason: String::new(),
        }
    }

    pub(crate) const fn is_stashed(&self) -> bool {
        matches!(self.kind, Fault::Stashed)
    }

    /// The reason, at most [`MAX_REASON_BYTES`] long.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn into_reason(self) -> String {
        self.reason
    }
}

impl<E: std::error::Error> From<E> for ActorError {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            if reason.len() > MAX_REASON_BYTES {
                break;
            }
            reason.push_str(": ");
            reason.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::failed(reason)
    }
}

impl Display for ActorError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Debug for ActorError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.kind, self.reason)
    }
}

/// Cuts `reason` to [`MAX_REASON_BYTES`] at a character boundary.
pub(crate) fn bounded(mut reason: String) -> String {
    if reason.len() > MAX_REASON_BYTES {
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
    }
    reason
}

/// Why an actor ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ExitReason {
    /// It was asked to stop, or stopped itself.
    Stopped,
    /// Its parent stopped or restarted.
    ParentStopped,
    /// The whole system shut down.
    Shutdown,
    /// It was killed, or did not stop within its grace period.
    Killed,
    /// It failed and its policy gave it up; the text is the last error.
    Failed(String),
    /// The runtime it ran on went away beneath it.
    RuntimeGone,
    /// It had to begin anew together with this sibling, which failed, and has no factory.
    SiblingFailed(String),
    /// Another incarnation of it has taken over; the text says what is known of that.
    Fenced(String),
    /// Nobody can say how it ended, as its node is gone; the text says what is known.
    Lost(String),
}

impl ExitReason {
    /// Whether it ended otherwise than because somebody stopped it in order.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Failed(_)
                | Self::Killed
                | Self::RuntimeGone
                | Self::SiblingFailed(_)
                | Self::Lost(_)
        )
    }
}

impl Display for ExitReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::ParentStopped => f.write_str("its parent stopped"),
            Self::Shutdown => f.write_str("the system shut down"),
            Self::Killed => f.write_str("killed"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::RuntimeGone => f.write_str("its runtime went away"),
            Self::SiblingFailed(sibling) => write!(f, "its sibling {sibling} failed"),
            Self::Lost(why) => write!(f, "lost: {why}"),
            Self::Fenced(why) => write!(f, "another incarnation has taken over: {why}"),
        }
    }
}

/// A snapshot of an earlier form that a kind does not read.
pub(crate) fn unknown_form(version: u32, known: u32) -> ActorError {
    ActorError::failed(format!(
        "its snapshot has form {version}, which this kind does not read; it reads form {known}"
    ))
}

/// A message was not taken; it comes back in the error.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TellError<M> {
    /// The mailbox is full: wait with `tell`, or shed load.
    #[error("the mailbox of {actor} is full")]
    Full {
        /// Name or kind and number of the actor.
        actor: String,
        /// The message, unchanged.
        message: M,
    },
    /// The actor has ended.
    #[error("{actor} is dead: {reason}")]
    Dead {
        /// Name or kind and number of the actor.
        actor: String,
        /// Why it ended.
        reason: ExitReason,
        /// The message, unchanged.
        message: M,
    },
}

impl<M> TellError<M> {
    /// The message that was not taken.
    pub fn into_message(self) -> M {
        match self {
            Self::Full { message, .. } | Self::Dead { message, .. } => message,
        }
    }
}

impl<M> Debug for TellError<M> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { actor, .. } => f
                .debug_struct("Full")
                .field("actor", actor)
                .finish_non_exhaustive(),
            Self::Dead { actor, reason, .. } => f
                .debug_struct("Dead")
                .field("actor", actor)
                .field("reason", reason)
                .finish_non_exhaustive(),
        }
    }
}

/// A question got no answer. Serialisable, so that a node can pass it on to a remote asker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AskError {
    /// No actor has this name here.
    #[error("no such actor: {actor}")]
    NoSuchActor {
        /// The name that was asked for.
        actor: String,
    },
    /// The actor ended before it answered.
    #[error("{actor} is dead: {reason}")]
    Dead {
        /// Name or kind and number of the actor.
        actor: String,
        /// Why it ended.
        reason: ExitReason,
    },
    /// No answer within the deadline. Whether the actor will still handle the message is unknown.
    #[error("{actor} did not answer within {after:?}")]
    TimedOut {
        /// Name or kind and number of the actor.
        actor: String,
        /// The deadline that passed; whole milliseconds travel.
        #[serde(with = "millis")]
        after: Duration,
    },
    /// The mailbox was still full at the deadline; the actor never saw the message.
    #[error("the mailbox of {actor} stayed full for {after:?}")]
    Full {
        /// Name or kind and number of the actor.
        actor: String,
        /// The deadline that passed; whole milliseconds travel.
        #[serde(with = "millis")]
        after: Duration,
    },
    /// The actor does not accept this message; it is unharmed.
    #[error("{actor} refused the message: {reason}")]
    Refused {
        /// Name or kind and number of the actor.
        actor: String,
        /// What it accepts, or what is wrong.
        reason: String,
    },
    /// The actor failed on this message.
    #[error("{actor} failed: {reason}")]
    Failed {
        /// Name or kind and number of the actor.
        actor: String,
        /// The error or panic message.
        reason: String,
    },
    /// The message failed the actor twice and was taken out.
    #[error("the message poisoned {actor}: {reason}")]
    Poisoned {
        /// Name or kind and number of the actor.
        actor: String,
        /// The second error or panic message.
        reason: String,
    },
    /// The actor dropped the [`ReplyTo`](crate::ReplyTo) without answering.
    #[error("{actor} handled the message but did not answer")]
    Unanswered {
        /// Name or kind and number of the actor.
        actor: String,
    },
}

/// An actor could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SpawnError {
    /// A living actor has the name.
    #[error("the actor name {name:?} is taken: choose another, or stop that actor first")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name is empty, too long or holds control characters.
    #[error("{name:?} cannot be an actor name: use 1 to 256 bytes without control characters")]
    BadName {
        /// The name, cut to [`MAX_REASON_BYTES`].
        name: String,
    },
    /// The system holds as many actors as it may.
    #[error("the system already holds {limit} actors: stop some, or raise the limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The system is shutting down.
    #[error("the system is shutting down and starts no actors")]
    ShuttingDown,
    /// The parent is stopping.
    #[error("{parent} is stopping and starts no children")]
    ParentStopping {
        /// Name or kind and number of the parent.
        parent: String,
    },
    /// No such kind is registered.
    #[error("no actor kind {kind:?}; known kinds: {known}")]
    NoSuchKind {
        /// The kind that was asked for.
        kind: String,
        /// The kinds there are, comma-separated.
        known: String,
    },
    /// The kind's factory did not accept its arguments or could not build the actor.
    #[error("an actor of kind {kind:?} cannot start: {reason}")]
    Factory {
        /// The kind.
        kind: String,
        /// The factory's error.
        reason: String,
    },
}

/// A duration as a number: serde's own form has named fields only, which no compact encoding that
/// numbers them brings back.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
