//! What peers say to each other (space.md, section 2.4): fire and forget, may be lost,
//! duplicated and reordered.

use std::collections::BTreeMap;

use cpe_consensus::Heartbeat;
use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::{
    Bound, Config, Effect, Entry, Item, LeaseAct, LeaseId, Marked, Mode, Name, OpId, Outcome, Sent,
    Session, ShardId, Taker, Terms, Version, shard_of,
};
use cpe_tuple::codec::{self, CodecError};
use cpe_tuple::{Template, Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::body::BodyMessage;
use crate::group::Proposal;
use crate::recover::Standing;

mod state;

pub use state::{Part, Want};

/// What the members of a shard's home group say to each other.
pub type GroupMessage = cpe_consensus::Message<Member, Proposal>;

/// Bytes. The largest message: the undecided tail of a home group's log, or a feed of one largest
/// entry, and what surrounds it.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// Bytes. The largest frame given to gossip: gossipsub 0.50 breaks its links near its RPC limit
/// of 64 KiB (network.md, 3.4), so stay well below.
pub const MAX_GOSSIP_BYTES: usize = 48 * 1024;

/// Bytes. Messages up to this size travel on the control stream, larger ones on the bulk stream.
pub const MAX_CONTROL_BYTES: usize = 16 * 1024;

/// The streams between two peers. Their order is independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small and urgent: membership, operations and their outcomes.
    Control,
    /// Large: feeds, snapshots.
    Bulk,
}

/// The facts of a mesh, fixed when it was founded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Name of the mesh: its public key's hash, in hexadecimal.
    pub mesh: String,
    /// How many shards it has.
    pub shards: u16,
    /// How many volatile shards it has beside them, numbered after them: 0 in a mesh founded
    /// before there were any. Then all workspaces are durable.
    #[serde(default)]
    pub volatile: u16,
    /// The home of every durable shard in epoch 1.
    pub founder: Member,
    /// Members a home group has while there are as many: 1, 3 or 5. 3 in a mesh founded before this
    /// could be said.
    #[serde(default = "group_size_default")]
    pub group_size: u8,
}

fn group_size_default() -> u8 {
    Genesis::GROUP_SIZE
}

impl Genesis {
    /// The most shards a mesh may have; 1,024 are for meshes beyond 500 nodes.
    pub const MAX_SHARDS: u16 = 4_096;

    /// The most volatile shards.
    pub const MAX_VOLATILE: u16 = 1_024;

    /// Members of a home group where nothing else is said: one of them can be lost.
    pub const GROUP_SIZE: u8 = 3;

    /// True for numbers within the bounds.
    pub(crate) fn is_possible(&self) -> bool {
        let shards = (1..=Self::MAX_SHARDS).contains(&self.shards);
        shards && self.volatile <= Self::MAX_VOLATILE && matches!(self.group_size, 1 | 3 | 5)
    }

    /// All shards, durable ones first.
    pub(crate) fn all(&self) -> u16 {
        self.shards.saturating_add(self.volatile)
    }

    /// The shard that owns a variable. Those of volatile workspaces are owned by volatile shards.
    #[must_use]
    pub fn shard_of(&self, workspace: &Name, variable: &Value) -> ShardId {
        if workspace.is_volatile() && self.volatile > 0 {
            let ShardId(nth) = shard_of(workspace, variable, self.volatile);
            return ShardId(self.shards.saturating_add(nth));
        }
        shard_of(workspace, variable, self.shards)
    }

    /// The durable shard that keeps the register of a volatile one; `None` of a durable one.
    pub(crate) fn register_of(&self, shard: ShardId) -> Option<ShardId> {
        let nth = shard.0.checked_sub(self.shards)?;
        Some(ShardId(nth % self.shards.max(1)))
    }
}

/// An operation a client asks a home to decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Operation {
    /// Take a matching tuple.
    Take {
        /// Workspace.
        workspace: Name,
        /// What to match.
        template: Template,
        /// Park it until something matches.
        wait: bool,
    },
    /// Set a variable's mode.
    Declare {
        /// Workspace.
        workspace: Name,
        /// The variable.
        variable: Value,
        /// The mode.
        mode: Mode,
    },
    /// Delete a variable, or the workspace's part in this shard.
    Drop {
        /// Workspace.
        workspace: Name,
        /// The variable.
        variable: Option<Value>,
    },
    /// Claim a named actor.
    Claim {
        /// Its name.
        name: String,
        /// The token believed current.
        expect: u64,
        /// What it is.
        spec: Value,
        /// Who will host it.
        host: Member,
    },
    /// Give up a named actor.
    Release {
        /// Its name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// The life that hosted it, if it is over.
        #[serde(default)]
        void: Option<Member>,
        /// What it has committed stays.
        #[serde(default)]
        keeps: bool,
        /// How far its effects are done.
        #[serde(default)]
        sent: Sent,
    },
    /// Take a matching tuple under a lease.
    TakeLeased {
        /// Workspace.
        workspace: Name,
        /// What to match.
        template: Template,
        /// Park it until something matches.
        wait: bool,
        /// Milliseconds. How long the lease lives without being renewed.
        ttl_ms: u64,
    },
    /// Renew, commit or return a lease.
    ActOnLease {
        /// Which lease.
        lease: LeaseId,
        /// What to do with it.
        act: LeaseAct,
    },
    /// Tell what became of an operation.
    Inquire {
        /// The operation.
        about: OpId,
    },
    /// Go on admitting the sender's stores after this many, of a shard that was forked.
    Resume {
        /// How many.
        n: u64,
    },
    /// Something of a client that knows one instance of the workspace.
    Bound {
        /// Workspace.
        workspace: Name,
        /// Under which terms.
        terms: Terms,
        /// What.
        act: Bound,
    },
    /// Give the sender a life as a host of actors.
    Enlist {
        /// Milliseconds. How long it goes on without being renewed.
        lease_ms: u64,
    },
    /// Claim a named actor for a life of the sender.
    ClaimLeased {
        /// Its name.
        name: String,
        /// The token believed current.
        expect: u64,
        /// What it is.
        spec: Value,
        /// What its hosts must have.
        needs: BTreeMap<String, String>,
        /// The sender, in its life as a host.
        host: Member,
        /// Who hosted it, in a life that is over.
        void: Option<Member>,
    },
    /// Keep the state of a named actor.
    Commit {
        /// Its name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// Counts its commits.
        seq: u64,
        /// The state.
        snapshot: Value,
        /// Messages whose effect is in it.
        marks: Vec<Marked>,
        /// What is to be done because of it.
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
    /// Hand a named actor to another host.
    Migrate {
        /// Its name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// Its last commit.
        seq: u64,
        /// The other host, in its life as one.
        to: Member,
    },
    /// Add a tuple that a durable actor asked for.
    Emit {
        /// The actor's name.
        name: String,
        /// Its birth.
        born: u64,
        /// Number of the effect.
        n: u64,
        /// Workspace.
        workspace: Name,
        /// The tuple.
        tuple: Tuple,
    },
    /// Forget effects of a named actor, which are done.
    Sent {
        /// Its name.
        name: String,
        /// How far.
        sent: Sent,
    },
    /// Take a tuple for a durable actor that the sender hosts.
    TakeFor {
        /// Whose take, and which.
        taker: Taker,
        /// Workspace.
        workspace: Name,
        /// What to match. It names the variable.
        template: Template,
        /// Whether to wait for a match.
        wait: bool,
    },
    /// A take of a durable actor is over.
    EndTake {
        /// Whose take, and which.
        taker: Taker,
        /// The actor has ended without what it took.
        back: bool,
    },
    /// Shards are done with takes of a named actor.
    TakesOver {
        /// Its name.
        name: String,
        /// Its birth.
        born: u64,
        /// Which.
        takes: Vec<u64>,
        /// The token of the incarnation that ends without them; it has them if `None`.
        ended: Option<u64>,
    },
    /// Keep how many failures of a named actor its host counts.
    NoteFailures {
        /// Its name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// How many.
        failures: u32,
    },
}

impl Operation {
    /// One that is undone, or never done, once nobody waits for it (rule R18).
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Take { .. } | Self::TakeLeased { .. } | Self::Bound { .. }
        )
    }

    /// One whose effect, once it is decided, no cancellation undoes: whoever cancels it must wait
    /// for the home's word on which came first.
    pub(crate) fn lasts(&self) -> bool {
        matches!(self, Self::Bound { act, .. } if !matches!(act, Bound::Take { .. }))
    }

    /// The tuple it adds, if it adds one.
    pub(crate) fn adds(&self) -> Option<&Tuple> {
        match self {
            Self::Bound {
                act: Bound::Put { tuple },
                ..
            } => Some(tuple),
            _ => None,
        }
    }

    /// One that would put a reference to a body where rules B1 and B2 do not look for any.
    pub(crate) fn refers(&self) -> bool {
        match self {
            Self::Bound {
                act: Bound::Exchange { put, .. },
                ..
            } => put.as_ref().is_some_and(Tuple::has_blobs),
            Self::Claim { spec, .. } | Self::ClaimLeased { spec, .. } => !spec.blobs().is_empty(),
            Self::Commit {
                snapshot, effects, ..
            } => !snapshot.blobs().is_empty() || effects.iter().any(Effect::refers),
            Self::Emit { tuple, .. } => tuple.has_blobs(),
            _ => false,
        }
    }

    /// One whose decision also forgets what the client has received. A take that waits may be
    /// parked without a decision: what it brought would be forgotten by nobody.
    pub(crate) fn carries_acks(&self) -> bool {
        match self {
            Self::Take { wait, .. } | Self::TakeLeased { wait, .. } => !wait,
            Self::Bound { act, .. } => !matches!(act, Bound::Take { wait: true, .. }),
            _ => false,
        }
    }

    /// One that may hand out a tuple to keep.
    pub(crate) fn takes(&self) -> bool {
        match self {
            Self::Bound { act, .. } => matches!(act, Bound::Take { leave: false, .. }),
            _ => self.is_cancelled(),
        }
    }
}

/// A message. The variants' order is part of the wire format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// First message on a link, and again when the sender's genesis or map changed.
    Hello {
        /// The mesh, if the sender knows it.
        genesis: Option<Genesis>,
        /// Homes that are not the founder any more.
        map: Vec<(ShardId, Config)>,
    },
    /// A frame of the membership protocol.
    Swim(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Stores for a home, in dot order from `first`.
    Store {
        /// The shard.
        shard: ShardId,
        /// Whose stores.
        origin: Member,
        /// The first one's count.
        first: u64,
        /// The stores.
        items: Vec<Item>,
    },
    /// All stores of the origin up to `upto` are decided.
    Admitted {
        /// The shard.
        shard: ShardId,
        /// Whose stores.
        origin: Member,
        /// Up to which.
        upto: u64,
        /// Index at or before which the last was decided.
        index: u64,
    },
    /// An operation for a home.
    Operate {
        /// The shard.
        shard: ShardId,
        /// Its id: a retry has the same.
        op: OpId,
        /// Counts the tries.
        attempt: u32,
        /// Operations whose outcomes were received.
        acks: Vec<u64>,
        /// What to do.
        operation: Operation,
    },
    /// The outcome of an operation.
    Decided {
        /// The shard.
        shard: ShardId,
        /// Which.
        op: OpId,
        /// What it came to.
        outcome: Outcome,
        /// The home's index then.
        index: u64,
    },
    /// A waiting take is parked at the home.
    Parked {
        /// The shard.
        shard: ShardId,
        /// Which.
        op: OpId,
    },
    /// Undo the operation, or see that it never happens (rule R18).
    Cancel {
        /// The shard.
        shard: ShardId,
        /// Which.
        op: OpId,
    },
    /// Outcomes received: forget them.
    Ack {
        /// The shard.
        shard: ShardId,
        /// Whose.
        session: Session,
        /// Which.
        seqs: Vec<u64>,
    },
    /// The sender is not in the shard's home group: this is the group.
    WrongHome {
        /// The shard.
        shard: ShardId,
        /// Its home group.
        config: Config,
    },
    /// The sender is in the shard's home group and does not lead it: it did nothing.
    NotLeader {
        /// The shard.
        shard: ShardId,
        /// Epoch of the group.
        epoch: u64,
        /// Who leads, as far as the sender knows.
        leader: Option<NodeId>,
        /// The operation this answers, and which try of it; none for stores.
        op: Option<(OpId, u32)>,
    },
    /// Between the members of a home group.
    Group {
        /// The shard.
        shard: ShardId,
        /// Epoch of the group.
        epoch: u64,
        /// What.
        message: GroupMessage,
    },
    /// Asks a node how it stands in the home groups it shares with the sender (rule R1): one
    /// message for all of them.
    HbReq {
        /// Counts the rounds of the sender.
        round: u64,
        /// The version of the answer the sender has.
        have: u64,
    },
    /// How the sender stands in the home groups it shares with the receiver.
    HbRep {
        /// Of the request.
        round: u64,
        /// What this answer changes the receiver's knowledge from: nothing applies if it has less.
        since: u64,
        /// The version it has then.
        version: u64,
        /// Groups that changed in between, with their epochs, shared with the receiver or not;
        /// without a heartbeat where the sender takes no part any more.
        groups: Vec<(ShardId, u64, Option<Heartbeat<Member>>)>,
    },
    /// Asks a home what it has, decided and current.
    Query {
        /// Names the question.
        query: u64,
        /// Of which shards.
        shards: Vec<ShardId>,
        /// Workspace.
        workspace: Name,
        /// What to match; any tuple or declaration when `None`.
        template: Option<Template>,
    },
    /// Answers a query.
    Answer {
        /// Which question.
        query: u64,
        /// Shards that have nothing.
        nothing: Vec<ShardId>,
        /// A shard that has something, and the tuple if a template was given.
        found: Option<(ShardId, Option<Tuple>)>,
        /// Further shards that have something.
        more: Vec<ShardId>,
        /// Shards the sender does not lead: their home groups, and who leads them, as far as it
        /// knows.
        elsewhere: Vec<(ShardId, Config, Option<NodeId>)>,
        /// How far the shards were, if no template was given: a replica that is there shows all
        /// that was decided before the query.
        #[serde(default)]
        reached: Vec<(ShardId, u64)>,
    },
    /// Decided entries `from + 1 ..` of a shard.
    Feed {
        /// The shard.
        shard: ShardId,
        /// Index before the first entry.
        from: u64,
        /// The entries.
        entries: Vec<Entry>,
        /// Where the sender stands.
        version: Version,
    },
    /// Several feeds, for gossip.
    Feeds(Vec<FeedPart>),
    /// Asks for the entries after `from`.
    FeedReq {
        /// The shard.
        shard: ShardId,
        /// Index before the first entry wanted.
        from: u64,
    },
    /// A hash over all versions: equal hashes need no digest.
    Root {
        /// The hash.
        root: u64,
    },
    /// Where the sender stands, shard by shard.
    Digest {
        /// True for an answer to a digest: not answered again.
        reply: bool,
        /// Shards with any history.
        versions: Vec<(ShardId, Version)>,
    },
    /// Asks for parts of a state.
    StateReq {
        /// The shard.
        shard: ShardId,
        /// Of the state at this index; of the newest when 0, or when it is not there any more.
        index: u64,
        /// Index after which the sender needs all tuples of a newer state.
        after: u64,
        /// Which parts.
        want: Want,
    },
    /// Parts of a state.
    State {
        /// The shard.
        shard: ShardId,
        /// Index of the state.
        index: u64,
        /// The parts.
        parts: Vec<Part>,
    },
    /// An epoch has ended: the receiver may be in the next home group (rule R11).
    EpochStart {
        /// The shard.
        shard: ShardId,
        /// The next home group.
        config: Config,
        /// Where the sender stands: at the seal or beyond it.
        index: u64,
    },
    /// Stores no home has admitted yet, for everybody to see.
    Pending {
        /// The shard.
        shard: ShardId,
        /// Whose stores.
        origin: Member,
        /// The first one's count.
        first: u64,
        /// The stores.
        items: Vec<Item>,
    },
    /// The sender's log no longer reaches back to where it was asked from.
    Trimmed {
        /// The shard.
        shard: ShardId,
        /// Where the sender stands.
        index: u64,
    },
    /// Asks where a node stands with shards whose majority may be lost.
    Survey {
        /// Names the question.
        query: u64,
        /// Which shards.
        shards: Vec<ShardId>,
    },
    /// Answers a survey.
    Standings {
        /// Which question.
        query: u64,
        /// The sender, in its present life.
        member: Member,
        /// Where it stands.
        standings: Vec<Standing>,
        /// Its start: its life in volatile shards.
        #[serde(default)]
        start: Incarnation,
    },
    /// Tells a survivor to go on alone (space.md, 2.6).
    Fork {
        /// Names the recovery.
        query: u64,
        /// The shard.
        shard: ShardId,
        /// The epoch it begins.
        epoch: u64,
        /// The last index known to be decided: it must have this entry.
        index: u64,
        /// Chain hash after it.
        hash: u64,
    },
    /// Answers that.
    Forked {
        /// Which recovery.
        query: u64,
        /// The shard.
        shard: ShardId,
        /// The epoch it was told to begin.
        epoch: u64,
        /// Index of the sender's replica now.
        index: u64,
        /// Why it did not, if it did not.
        refused: Option<String>,
    },
    /// The sender leads a home group of a volatile shard and asks that it be registered.
    Register {
        /// The volatile shard.
        shard: ShardId,
        /// The group.
        config: Config,
    },
    /// An operator gives up a home group of a volatile shard, and what it holds.
    GiveUp {
        /// The volatile shard.
        shard: ShardId,
        /// Epoch of the group that was registered last.
        epoch: u64,
    },
    /// About the body of a large value.
    Body(BodyMessage),
    /// A host asks the leader of its record to renew its lease.
    Renew {
        /// The shard of its record.
        shard: ShardId,
        /// The sender, in its life as a host.
        life: Member,
        /// When it was sent, in microseconds of the sender's clock.
        sent: u64,
    },
    /// The renewal that was sent then is granted.
    Granted {
        /// The receiver, in its life as a host.
        life: Member,
        /// When the renewal was sent.
        sent: u64,
    },
    /// A life of the receiver as a host is over.
    Over {
        /// The life.
        life: Member,
    },
    /// A host has stopped all its actors: its life is over.
    GoodBye {
        /// The shard of its record.
        shard: ShardId,
        /// The sender, in its life as a host.
        life: Member,
    },
    /// The sender leads the shard's home group since now; the receiver is in the group, or asked it
    /// when it did not (rule R15).
    Leads {
        /// The shard.
        shard: ShardId,
        /// Epoch of the group.
        epoch: u64,
    },
}

/// One shard's part of a gossip frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedPart {
    /// The shard.
    pub shard: ShardId,
    /// Index before the first entry.
    pub from: u64,
    /// The entries; empty when they are too large for gossip: then they are to be asked for.
    pub entries: Vec<Entry>,
    /// Where the home stands.
    pub version: Version,
}

impl Message {
    /// Encodes the message.
    ///
    /// # Errors
    /// When it is larger than an encoding may be.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// When the bytes are too many or are not one message, whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, MAX_MESSAGE_BYTES)
    }
}
