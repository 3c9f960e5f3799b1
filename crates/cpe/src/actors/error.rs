//! What can go wrong with actors in a mesh.

use std::time::Duration;

use cpe_actors::AskError;
use cpe_membership::NodeId;

use super::Inner;
use super::envelope::{Answer, NotStarted};
use super::post::CallError;
use crate::SpaceError;

/// An actor was not started, asked, told or stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActorsError {
    /// No actor has this name, as far as this node knows.
    #[error("no actor is called `{0}`")]
    NoSuchActor(String),
    /// The name is held by a live actor.
    #[error("the actor name `{actor}` is taken ({by}): stop that actor first, or choose another")]
    NameTaken {
        /// The name.
        actor: String,
        /// Who holds it.
        by: String,
    },
    /// No member is meant by this, or several are.
    #[error("no node for actor `{actor}`: {why}")]
    NoSuchNode {
        /// The actor.
        actor: String,
        /// What was looked for, and what there is.
        why: String,
    },
    /// No member is meant by this, or it is not alive.
    #[error("no such node: {0}")]
    UnknownNode(String),
    /// A message or an answer has not the form of its type.
    #[error("actor `{actor}`: a message or answer of another type: {reason}")]
    NotTyped {
        /// The actor.
        actor: String,
        /// What does not go together.
        reason: String,
    },
    /// The actor could not be started.
    #[error("actor `{actor}` cannot start on node {node}: {reason}")]
    NotStarted {
        /// The actor.
        actor: String,
        /// The node it was to live on.
        node: String,
        /// Why not.
        reason: String,
    },
    /// The actor has ended.
    #[error("actor `{actor}` on node {node} is dead: {reason}")]
    Dead {
        /// The actor.
        actor: String,
        /// The node it lived on.
        node: String,
        /// Why it ended.
        reason: String,
    },
    /// No answer within the deadline: whether the actor handles the message is not known.
    #[error("actor `{actor}` on node {node} did not answer within {after:?}")]
    TimedOut {
        /// The actor.
        actor: String,
        /// The node it lives on.
        node: String,
        /// The deadline.
        after: Duration,
    },
    /// The message was handled, and its effect lasts, but the actor's node ended before the answer
    /// came: sending it again would have it handled twice.
    #[error(
        "actor `{actor}` has handled the message, and its answer is lost: do not send it again"
    )]
    AnswerLost {
        /// The actor.
        actor: String,
    },
    /// The actor was not handed to another node.
    #[error("actor `{actor}` stays on node {node}: {reason}")]
    NotMoved {
        /// The actor.
        actor: String,
        /// The node it lives on.
        node: String,
        /// Why.
        reason: String,
    },
    /// The message was not taken: the mailbox is full, the actor does not know such a message, or
    /// it is too large. The actor did nothing.
    #[error("actor `{actor}` on node {node} refused: {reason}")]
    Refused {
        /// The actor.
        actor: String,
        /// The node it lives on.
        node: String,
        /// Why.
        reason: String,
    },
    /// There is no link to the actor's node, or it was lost before the answer came: then whether
    /// the actor handles the message is not known.
    #[error("node {node} of actor `{actor}` cannot be reached: {reason}")]
    Unreachable {
        /// The actor.
        actor: String,
        /// The node.
        node: String,
        /// What happened.
        reason: String,
    },
    /// The actor failed on the message.
    #[error("actor `{actor}` on node {node} failed: {reason}")]
    Failed {
        /// The actor.
        actor: String,
        /// The node it lives on.
        node: String,
        /// What it said.
        reason: String,
    },
    /// The registry of names could not be asked.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// The actor failed on the message, and on it again: it is not tried a third time, and sending
    /// it once more would only fail the actor again.
    #[error(
        "actor `{actor}` on node {node} failed twice on this message, which is poison: {reason}"
    )]
    Poisoned {
        /// The actor.
        actor: String,
        /// The node it lives on.
        node: String,
        /// What it said the second time.
        reason: String,
    },
}

impl Inner {
    /// The error of a request that got no answer.
    pub(super) async fn not_called(
        &self,
        actor: &str,
        node: NodeId,
        after: Duration,
        error: CallError,
    ) -> ActorsError {
        let (actor, node) = (actor.to_owned(), self.node_name(node).await);
        match error {
            CallError::TimedOut => ActorsError::TimedOut { actor, node, after },
            CallError::NoLink(reason) | CallError::Lost(reason) => ActorsError::Unreachable {
                actor,
                node,
                reason,
            },
            CallError::TooLarge(reason) | CallError::Busy(reason) => ActorsError::Refused {
                actor,
                node,
                reason,
            },
        }
    }

    /// The error of a request whose answer was no.
    pub(super) async fn refused(
        &self,
        actor: &str,
        node: NodeId,
        after: Duration,
        answer: Answer,
    ) -> ActorsError {
        self.forget(actor);
        let (actor, node) = (actor.to_owned(), self.node_name(node).await);
        match answer {
            Answer::Asked(error) => asked(actor, node, after, error),
            Answer::NotHere => ActorsError::Dead {
                actor,
                node,
                reason: "its node does not run it any more; spawn it again".to_owned(),
            },
            Answer::Busy => ActorsError::Refused {
                actor,
                node,
                reason: "too much is under way on its node; try again later".to_owned(),
            },
            Answer::NotStopped(reason) => ActorsError::Failed {
                actor,
                node,
                reason,
            },
            Answer::NotStarted(NotStarted::Cannot(reason)) => ActorsError::Failed {
                actor,
                node,
                reason: format!("it cannot begin there, which is tried again: {reason}"),
            },
            other => ActorsError::Failed {
                actor,
                node,
                reason: format!("an answer of another kind: {other:?}"),
            },
        }
    }
}

/// What the local runtime of the actor's node said.
fn asked(actor: String, node: String, after: Duration, error: AskError) -> ActorsError {
    match error {
        AskError::NoSuchActor { .. } => ActorsError::NoSuchActor(actor),
        AskError::Dead { reason, .. } => ActorsError::Dead {
            actor,
            node,
            reason: reason.to_string(),
        },
        AskError::TimedOut { .. } => ActorsError::TimedOut { actor, node, after },
        AskError::Full { .. } => ActorsError::Refused {
            actor,
            node,
            reason: "its mailbox is full; try again later".to_owned(),
        },
        AskError::Refused { reason, .. } => ActorsError::Refused {
            actor,
            node,
            reason,
        },
        AskError::Failed { reason, .. } => ActorsError::Failed {
            actor,
            node,
            reason,
        },
        AskError::Poisoned { reason, .. } => ActorsError::Poisoned {
            actor,
            node,
            reason,
        },
        other => ActorsError::Failed {
            actor,
            node,
            reason: other.to_string(),
        },
    }
}
