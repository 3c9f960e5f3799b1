//! Actors whose state outlives their machine.
//!
//! A durable actor has a [`Journal`]. After each message, and before anybody gets an answer, what
//! changed is committed to it at once: the state, and the effects that the handler asked for by
//! [`Context::effect`](crate::Context::effect). So nobody was ever told of something that a later
//! instance does not know, and no effect exists whose cause was lost.

use std::sync::Arc;
use std::time::Duration;

use cpe_tuple::{Field, Template, Tuple, Value};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::ActorId;

/// Effects of one message, or of one batch, at most.
pub const EFFECTS_MAX: usize = 256;

/// Bytes of the effects of one message, or of one batch, at most: they are one entry of a
/// replicated log.
pub const EFFECTS_BYTES_MAX: usize = 256 << 10;

/// What an effect takes beside its values, in bytes: names and the form around them.
const EFFECT_OVERHEAD_BYTES: usize = 64;

/// A state, and the form it is written in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The form, by [`Actor::snapshot_version`](crate::Actor::snapshot_version).
    pub version: u32,
    /// The state.
    pub state: Value,
}

/// Something to be done once the state that led to it lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Effect {
    /// Put a tuple into a workspace.
    Out {
        /// The workspace.
        workspace: String,
        /// The tuple.
        tuple: Tuple,
    },
    /// Put a message into the mailbox of a named actor, wherever it lives.
    Tell {
        /// Its name.
        actor: String,
        /// The message.
        message: Value,
    },
    /// Start a named actor.
    Spawn {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Arguments of its kind.
        args: Value,
    },
    /// Take a tuple, and have a message about it:
    /// `{answer: {"request": N, "tuple": [...], "workspace": NAME}}`. It comes from
    /// [`Origin::Host`](crate::Origin::Host), and from nobody else.
    ///
    /// The tuple is `null` when nothing matched and it was not to wait. Beside it there is
    /// `"failed": TEXT` when the take was given up, since a former incarnation was about to end.
    /// As that of a typed actor the message is the variant `answer` of an enum, with the fields
    /// `request: u64`, `tuple: Option<Vec<Value>>` and, where it matters, a `failed:
    /// Option<String>` that may be missing.
    Take {
        /// The workspace.
        workspace: String,
        /// What matches. Its first field is a value: the variable.
        template: Template,
        /// Whether to wait until something does.
        wait: bool,
        /// The kind of the message.
        answer: String,
        /// What the actor knows the take by.
        request: u64,
    },
}

impl Effect {
    /// Why it can never be done, if it cannot.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Take { template, .. } if template.key().is_none() => {
                Some("a take has to name the variable: the first field of its template is a value")
            }
            _ => None,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let values = match self {
            Self::Out { workspace, tuple } => workspace.len() + tuple.size(),
            Self::Tell { actor, message } => actor.len() + message.size(),
            Self::Spawn { kind, name, args } => kind.len() + name.len() + args.size(),
            Self::Take {
                workspace,
                template,
                answer,
                ..
            } => {
                let fields = template.fields().iter().map(|field| match field {
                    Field::Actual(value) => value.size(),
                    Field::Prefix(prefix) => prefix.len(),
                    _ => 0,
                });
                workspace.len() + answer.len() + 16 * template.arity() + fields.sum::<usize>()
            }
        };
        values + EFFECT_OVERHEAD_BYTES
    }
}

/// What is to last together, or not at all.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Commit {
    /// The state after the messages that led to this.
    pub snapshot: Snapshot,
    /// What those messages asked for, in order.
    pub effects: Vec<Effect>,
    /// Those of the messages that have a [number](crate::AnyAddress::ask_numbered): a message that
    /// changed nothing is in no commit.
    pub handled: Vec<u64>,
}

/// Why a commit does not last.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCommitted {
    /// Another incarnation of the actor has taken over. This one ends, and what it did since its
    /// last commit never was.
    #[error("another incarnation has taken over: {0}")]
    Fenced(String),
    /// It can never be committed, being too large for example. The actor fails.
    #[error("its state cannot be kept: {0}")]
    Refused(String),
}

/// Where a durable actor's state lasts.
pub trait Journal: Send + Sync + 'static {
    /// Makes a commit last; done when it does. While that is not possible it waits: the actor
    /// handles nothing meanwhile, and can be stopped, which drops the future.
    ///
    /// # Errors
    /// [`NotCommitted`].
    fn commit(&self, actor: ActorId, commit: Commit) -> BoxFuture<'_, Result<(), NotCommitted>>;

    /// The actor failed and is about to go on: so many of its failures count, this one too, each
    /// for `within` at most. Whoever keeps that has the next instance elsewhere go on from it, by
    /// [`Options::failures`](crate::Options::failures). It must not block. Does nothing by default.
    fn failed(&self, actor: ActorId, failures: u32, within: Duration) {
        let _ = (actor, failures, within);
    }
}

/// A journal, shared by the instances of one actor.
pub(crate) type SharedJournal = Arc<dyn Journal>;
