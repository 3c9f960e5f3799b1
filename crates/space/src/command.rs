//! What a home decides, and what that came to.

use std::collections::BTreeMap;

use cpe_membership::Member;
use cpe_tuple::{Template, Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::{
    ActorRecord, Bound, Config, Dot, Effect, LeaseAct, LeaseEnd, LeaseId, Marked, Mode, Name, OpId,
    Sent, Session, ShardId, Taker, Terms,
};

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
        /// The life that hosted it, when it is over: then others than its host may give it up.
        #[serde(default)]
        void: Option<Member>,
        /// What it has committed stays, for the next one of its name.
        #[serde(default)]
        keeps: bool,
        /// How far its effects are done: it is not given up before all are.
        #[serde(default)]
        sent: Sent,
    },
    /// Ends the epoch; the next one has this home group (rule R11).
    Seal {
        /// The next home group.
        config: Config,
    },
    /// Removes one matching tuple as [`Take`](Self::Take) does, but sets it aside until its holder
    /// commits.
    TakeLeased {
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
        /// Milliseconds. How long the lease lives without being renewed.
        ttl_ms: u64,
    },
    /// A holder renews, commits or returns its lease.
    ActOnLease {
        /// The operation.
        op: OpId,
        /// Which lease.
        lease: LeaseId,
        /// What it does.
        act: LeaseAct,
    },
    /// Ends a lease that was renewed no more often than this.
    Expire {
        /// Which lease.
        lease: LeaseId,
        /// How often it had been renewed when its time was up.
        renewals: u64,
    },
    /// Asks what became of an operation. Asked by the operation's own session, one that is not
    /// decided never will be: only then the answer stays true.
    Inquire {
        /// The operation.
        op: OpId,
        /// The operation asked about.
        about: OpId,
    },
    /// A survivor goes on alone because the majority is lost: ends the epoch without its decision.
    Fork {
        /// The next home group.
        config: Config,
        /// The chain hash of the history that it goes on from. A replica with another one, which
        /// the lost members may have decided after all, has to start over.
        after: u64,
    },
    /// An origin says how many of its stores it no longer has, because they were admitted before a
    /// fork that lost them: the next one is admitted after those.
    Resume {
        /// The operation, of the origin's session.
        op: OpId,
        /// How many.
        n: u64,
    },
    /// Begins the next generation of a volatile shard, empty, if the group that was registered for
    /// it last is still that of this epoch. Decided in the durable shard that keeps its register.
    Begin {
        /// The volatile shard.
        shard: ShardId,
        /// Epoch of the group given up; 0 when there was none.
        after: u64,
        /// The first home group of the generation.
        members: Vec<Member>,
    },
    /// Registers a later home group of a volatile shard's generation: it serves from now on.
    Register {
        /// The volatile shard.
        shard: ShardId,
        /// The group.
        config: Config,
    },
    /// Lets the registered home group of a volatile shard go on, one epoch after the successor that
    /// it decided, because that one does not register.
    Reinstate {
        /// The volatile shard.
        shard: ShardId,
        /// Index of the seal that named the successor: the entry after it is the seal that ends
        /// the successor's epoch.
        sealed_at: u64,
        /// The members of the registered group, two epochs later.
        config: Config,
    },
    /// An operation of a client that knows one instance of a workspace.
    Bound {
        /// The operation.
        op: OpId,
        /// Operations of the session whose outcomes it has received: forget them.
        acks: Vec<u64>,
        /// Workspace.
        workspace: Name,
        /// Under which terms.
        terms: Terms,
        /// What to do.
        act: Bound,
    },
    /// These lives are over, and so is the time in which anybody could bring stores of theirs: what
    /// is remembered of them shrinks to that. Also of earlier lives of the same nodes.
    Retire {
        /// The last one of each node that is over.
        lives: Vec<Member>,
    },
    /// Gives a node that will host actors a life (rule A1).
    Enlist {
        /// The operation, of the node's session.
        op: OpId,
        /// Milliseconds. How long the life goes on without being renewed.
        lease_ms: u64,
    },
    /// Ends a life of a node for ever (rule A2).
    Void {
        /// The node in that life.
        life: Member,
    },
    /// Claims a named actor for a node in a life as a host, if `expect` is its current token and
    /// nobody hosts it, or exactly `void` does (rule A3).
    ClaimLeased {
        /// The operation.
        op: OpId,
        /// The actor's name.
        name: String,
        /// The token the claimant believes current; 0 for none.
        expect: u64,
        /// What the actor is.
        spec: Value,
        /// Capabilities its hosts must have.
        needs: BTreeMap<String, String>,
        /// Who will host it.
        host: Member,
        /// Who hosted it in a life that is over: whoever proposes this has seen that.
        void: Option<Member>,
    },
    /// An incarnation of a named actor commits its state, if `token` is current and `seq` the next
    /// (rule A4).
    Commit {
        /// The operation.
        op: OpId,
        /// The actor's name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// Counts the commits of all incarnations, from 1.
        seq: u64,
        /// The state.
        snapshot: Value,
        /// Messages whose effect is in it, and was in none before.
        marks: Vec<Marked>,
        /// What is to be done because of it, in order (rule A5).
        #[serde(default)]
        effects: Vec<Effect>,
        /// How far the effects of earlier commits are done.
        #[serde(default)]
        sent: Sent,
        /// Its host waits for no more messages of the one before it: it had them all, or has given
        /// that one up. From then on they are late (rule A8).
        #[serde(default)]
        rest_over: bool,
    },
    /// A host hands a named actor to another one, if `token` is current and `seq` the last commit
    /// (rule A8).
    Migrate {
        /// The operation.
        op: OpId,
        /// The actor's name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// Its last commit; 0 for none.
        seq: u64,
        /// Who will host it, if whoever proposes this has seen that life and no end of it.
        to: Option<Member>,
    },
    /// Forgets outcomes that a session has left unacknowledged for long, if it has had no operation
    /// decided since: what they took stays taken, and nobody is told any more what it was.
    GiveUp {
        /// Whose.
        session: Session,
        /// Index of the entry that decided its latest operation.
        latest: u64,
    },
    /// Adds a tuple that a durable actor asked for, if it is not here yet (rule A5).
    Emit {
        /// The operation, of whoever sends it on.
        op: OpId,
        /// The actor's name.
        name: String,
        /// Its [birth](crate::Outbox::born).
        born: u64,
        /// Number of the effect.
        n: u64,
        /// Workspace.
        workspace: Name,
        /// The tuple.
        tuple: Tuple,
    },
    /// Effects of a named actor are done: they are not to be sent on any more (rule A5).
    Sent {
        /// The operation.
        op: OpId,
        /// The actor's name.
        name: String,
        /// How far.
        sent: Sent,
    },
    /// A take of a durable actor: removes one matching tuple and remembers it under the number of
    /// the take, until the actor has it (rule A6). Asked again it comes to the same.
    TakeFor {
        /// The operation, of whoever hosts the actor.
        op: OpId,
        /// Whose take, and which.
        taker: Taker,
        /// Workspace.
        workspace: Name,
        /// What to match.
        template: Template,
        /// A waiting take that finds nothing leaves no outcome, as it will be tried again.
        wait: bool,
    },
    /// A take of a durable actor is over: what it came to is forgotten (rule A6).
    EndTake {
        /// The operation, of whoever hosts the actor.
        op: OpId,
        /// Whose take, and which.
        taker: Taker,
        /// The actor has ended without it: a tuple returns to its original index.
        back: bool,
    },
    /// Shards are done with takes of a named actor (rule A6).
    TakesOver {
        /// The operation.
        op: OpId,
        /// The actor's name.
        name: String,
        /// Its [birth](crate::Outbox::born).
        born: u64,
        /// Which takes.
        takes: Vec<u64>,
        /// They were given up since the actor ends in the incarnation with this token; it has them
        /// if `None`.
        ended: Option<u64>,
    },
    /// A host says how many failures of a named actor it counts, if `token` is current.
    NoteFailures {
        /// The operation.
        op: OpId,
        /// The actor's name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// How many.
        failures: u32,
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
            | Self::Release { op, .. }
            | Self::TakeLeased { op, .. }
            | Self::ActOnLease { op, .. }
            | Self::Inquire { op, .. }
            | Self::Resume { op, .. }
            | Self::Bound { op, .. }
            | Self::Enlist { op, .. }
            | Self::ClaimLeased { op, .. }
            | Self::Commit { op, .. }
            | Self::Migrate { op, .. }
            | Self::Emit { op, .. }
            | Self::Sent { op, .. }
            | Self::TakeFor { op, .. }
            | Self::EndTake { op, .. }
            | Self::TakesOver { op, .. }
            | Self::NoteFailures { op, .. } => Some(*op),
            Self::Noop
            | Self::Admit { .. }
            | Self::Ack { .. }
            | Self::Seal { .. }
            | Self::Expire { .. }
            | Self::Fork { .. }
            | Self::Begin { .. }
            | Self::Register { .. }
            | Self::Reinstate { .. }
            | Self::Retire { .. }
            | Self::Void { .. }
            | Self::GiveUp { .. } => None,
        }
    }

    /// The outcomes it lets be forgotten, and whose.
    #[must_use]
    pub fn acknowledges(&self) -> Option<(Session, &[u64])> {
        match self {
            Self::Take { op, acks, .. }
            | Self::TakeLeased { op, acks, .. }
            | Self::Bound { op, acks, .. } => Some((op.session, acks)),
            Self::Ack { session, seqs } => Some((*session, seqs)),
            _ => None,
        }
    }

    /// Where a take or a bound read looks: the workspace, and the variable if it names one.
    #[must_use]
    pub fn looks(&self) -> Option<(&Name, Option<&Value>)> {
        match self {
            Self::Take {
                workspace,
                template,
                ..
            }
            | Self::TakeLeased {
                workspace,
                template,
                ..
            }
            | Self::TakeFor {
                workspace,
                template,
                ..
            } => Some((workspace, template.key())),
            Self::Bound {
                workspace,
                act: Bound::Take { variable, .. },
                ..
            } => Some((workspace, Some(variable))),
            _ => None,
        }
    }

    /// The tuple it adds, and to which workspace.
    #[must_use]
    pub fn adds(&self) -> Option<(&Name, &Tuple)> {
        match self {
            Self::Admit {
                workspace, tuple, ..
            }
            | Self::Emit {
                workspace, tuple, ..
            }
            | Self::Bound {
                workspace,
                act: Bound::Put { tuple },
                ..
            } => Some((workspace, tuple)),
            _ => None,
        }
    }

    /// Workspace and variable of what removes a tuple from a variable that it names.
    #[must_use]
    pub fn removes(&self) -> Option<(&Name, &Value)> {
        if let Self::Bound {
            act: Bound::Take { leave: true, .. },
            ..
        } = self
        {
            return None;
        }
        let (workspace, variable) = self.looks()?;
        Some((workspace, variable?))
    }
}

/// What an outcome takes beside what is in it: its number and its place in two maps.
const OUTCOME_BYTES: usize = 128;

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
    /// This tuple, admitted at `index`, is the taker's until its lease ends.
    Leased {
        /// Index that admitted it.
        index: u64,
        /// The tuple.
        tuple: Tuple,
        /// The fencing token.
        token: u64,
    },
    /// The shard has [`MAX_LEASES`](crate::MAX_LEASES), or
    /// [`MAX_LEASED_BYTES`](crate::MAX_LEASED_BYTES): nothing was taken.
    TooManyLeases,
    /// The lease had ended, in this way: nothing was done.
    LeaseLost(LeaseEnd),
    /// What became of another operation.
    Fate(Fate),
    /// A copy of the tuple, which stays.
    Found {
        /// The tuple.
        tuple: Tuple,
    },
    /// The variable is not there, or not in the instance of the workspace that was meant: nothing
    /// was done.
    Absent,
    /// The variable cannot be iterated over, or is not the one the iteration began with.
    NoIteration,
    /// Exchanged, at this index.
    Exchanged {
        /// The index.
        index: u64,
    },
    /// Not exchanged: this is there.
    Differs(Option<Tuple>),
    /// The node may host actors in this life, while it renews its lease.
    Enlisted(Member),
    /// The node has no new life: one that it had with another data folder is not over.
    StillAlive(Member),
    /// Not committed or handed on: the last commit of the actor has this number.
    OutOfTurn(u64),
    /// The actor was handed on: this is its record now.
    Moved(ActorRecord),
    /// Not handed on: the life that was to have the actor is not known, or is over.
    NoSuchHost,
    /// Not committed or not given up: so many effects of the actor wait to be sent on.
    Unsent(u64),
    /// Not committed, now or later: so many takes of the actor are open already.
    TooManyTakes(u64),
}

impl Outcome {
    /// About how many bytes it takes where it is kept.
    pub(crate) fn size(&self) -> usize {
        let beside = match self {
            Self::Taken { tuple, .. } | Self::Leased { tuple, .. } | Self::Found { tuple } => {
                tuple.size()
            }
            Self::Differs(Some(tuple)) => tuple.size(),
            Self::Claimed(record) | Self::Moved(record) | Self::Fenced(Some(record)) => {
                record.size()
            }
            _ => 0,
        };
        OUTCOME_BYTES + beside
    }

    /// True for what a cancellation cannot undo.
    #[must_use]
    pub fn stays(&self) -> bool {
        matches!(
            self,
            Self::Done
                | Self::Found { .. }
                | Self::Absent
                | Self::NoIteration
                | Self::ModeIs(_)
                | Self::Exchanged { .. }
                | Self::Differs(_)
        )
    }
}

/// What became of an operation, for those who were told that it may have been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Not decided; it may still be.
    Open,
    /// Not executed, or undone, and it never will be.
    Never,
    /// It took the tuple admitted at this index.
    Took {
        /// The index.
        index: u64,
    },
    /// It took a tuple under a lease with this token.
    Leased {
        /// The fencing token.
        token: u64,
    },
    /// It took nothing: nothing matched.
    Nothing,
    /// Executed.
    Done,
    /// Decided and refused; asking anew tells why.
    Refused,
    /// Its session has acknowledged the answer, or ended: the home knows no more.
    Forgotten,
}

impl From<&Outcome> for Fate {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Taken { index, .. } => Self::Took { index: *index },
            Outcome::Leased { token, .. } => Self::Leased { token: *token },
            Outcome::Empty => Self::Nothing,
            Outcome::Cancelled => Self::Never,
            Outcome::Done
            | Outcome::Claimed(_)
            | Outcome::Fate(_)
            | Outcome::Found { .. }
            | Outcome::Exchanged { .. }
            | Outcome::Enlisted(_)
            | Outcome::Moved(_) => Self::Done,
            Outcome::ModeIs(_)
            | Outcome::Absent
            | Outcome::NoIteration
            | Outcome::Differs(_)
            | Outcome::Fenced(_)
            | Outcome::TooManyLeases
            | Outcome::LeaseLost(_)
            | Outcome::StillAlive(_)
            | Outcome::OutOfTurn(_)
            | Outcome::NoSuchHost
            | Outcome::Unsent(_)
            | Outcome::TooManyTakes(_) => Self::Refused,
            Outcome::Stale => Self::Forgotten,
        }
    }
}
