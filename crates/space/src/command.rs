//! What a home decides, and what that came to.

use cpe_membership::Member;
use cpe_tuple::{Template, Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::{Config, Dot, Mode, Name, OpId, Session};

/// One entry of a shard's decided history (space.md, section 2.3).
///
/// The variants' order is part of the wire format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Nothing: the first entry of a new epoch.
    Noop,
    /// Adds a tuple, if it is the next one of its origin; else nothing.
    Admit {
        /// Which store this is.
        dot: Dot,
        /// Workspace.
        workspace: Name,
        /// The tuple.
        tuple: Tuple,
    },
    /// Removes one matching tuple and remembers it as the outcome of `op`.
    Take {
        /// The operation.
        op: OpId,
        /// Operations of the session whose outcomes it has received: forget them.
        acks: Vec<u64>,
        /// Workspace.
        workspace: Name,
        /// What to match.
        template: Template,
        /// A waiting take that finds nothing leaves no outcome, as it will be tried again.
        wait: bool,
    },
    /// Undoes a take whose outcome its client has not seen (rule R18): the tuple returns to its
    /// original index; a take not yet executed never will be.
    Untake {
        /// The operation.
        op: OpId,
    },
    /// Forgets outcomes the session has received.
    Ack {
        /// The session.
        session: Session,
        /// Its operations.
        seqs: Vec<u64>,
    },
    /// Sets the mode of a variable.
    Declare {
        /// The operation.
        op: OpId,
        /// Workspace.
        workspace: Name,
        /// First field of the variable's tuples.
        variable: Value,
        /// Its mode.
        mode: Mode,
    },
    /// Deletes a variable with all its tuples, or everything of a workspace in this shard.
    Drop {
        /// The operation.
        op: OpId,
        /// Workspace.
        workspace: Name,
        /// The variable; all when `None`.
        variable: Option<Value>,
    },
    /// Claims a named actor if `expect` is its current token (rule A3).
    Claim {
        /// The operation.
        op: OpId,
        /// The actor's name.
        name: String,
        /// The token the claimant believes current; 0 for none.
        expect: u64,
        /// What the actor is.
        spec: Value,
        /// Who will host it.
        host: Member,
    },
    /// Gives up a named actor if `token` is current.
    Release {
        /// The operation.
        op: OpId,
        /// The actor's name.
        name: String,
        /// The token it was claimed with.
        token: u64,
    },
    /// Ends the epoch; the next one has this home group (rule R11).
    Seal {
        /// The next home group.
        config: Config,
    },
}

impl Command {
    /// The operation, of the commands that have one.
    #[must_use]
    pub fn op(&self) -> Option<OpId> {
        match self {
            Self::Take { op, .. }
            | Self::Untake { op }
            | Self::Declare { op, .. }
            | Self::Drop { op, .. }
            | Self::Claim { op, .. }
            | Self::Release { op, .. } => Some(*op),
            Self::Noop | Self::Admit { .. } | Self::Ack { .. } | Self::Seal { .. } => None,
        }
    }
}

/// What an operation came to; remembered until its session has acknowledged it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// This tuple, admitted at `index`, is the taker's.
    Taken {
        /// Index that admitted it.
        index: u64,
        /// The tuple.
        tuple: Tuple,
    },
    /// Nothing matched: decided, not guessed (rule R19).
    Empty,
    /// Undone or never to be executed (rule R18).
    Cancelled,
    /// Done.
    Done,
    /// The variable has this other mode already.
    ModeIs(Mode),
    /// The actor is the claimant's.
    Claimed(ActorRecord),
    /// The token was not current; this is the record, if any.
    Fenced(Option<ActorRecord>),
    /// The session was superseded or acknowledged this operation before: nothing was executed.
    Stale,
}

/// Registry record of a named actor (space.md, section 3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorRecord {
    /// Raised by every claim.
    pub token: u64,
    /// Who hosts it; `None` once released.
    pub host: Option<Member>,
    /// What it is.
    pub spec: Value,
}
