//! Commands a peer takes from its own node and the answers it gives.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::{ActorRecord, Bound, Effect, Fate, LeaseAct, LeaseEnd, Marked, Mode, Terms};
use cpe_tuple::{Blob, Template, Tuple, Value};
use serde::Serialize;

use crate::handle::{LeaseHandle, OpHandle};
use crate::stale::Staleness;

/// Names one command of the local node; chosen by the caller, unique while the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// When a store counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// Once the home has decided it and has it on disk.
    #[default]
    Home,
    /// Once it is durable in the own outbox; the home admits it exactly once, later.
    Local,
}

/// Something the local node asks of its peer. Deadlines count from the moment of the call.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Adds a tuple to a workspace.
    Out {
        /// Workspace.
        workspace: String,
        /// What to add. Its first field names the variable.
        tuple: Tuple,
        /// When it counts as done.
        ack: Ack,
        /// How long to wait for that; then the answer is [`Reply::Pending`].
        deadline: Duration,
    },
    /// Reads a matching tuple and leaves it where it is.
    Read {
        /// Workspace.
        workspace: String,
        /// What to match.
        template: Template,
        /// Wait until something matches, or answer [`Reply::Tuple`]`(None)` at once.
        wait: bool,
        /// Ask the home instead of the local replica.
        fresh: bool,
        /// How long to wait.
        deadline: Duration,
    },
    /// Takes a matching tuple: it is handed to one taker, ever, in the whole mesh.
    Take {
        /// Workspace.
        workspace: String,
        /// What to match.
        template: Template,
        /// Wait until something matches, or answer [`Reply::Tuple`]`(None)` once that is decided.
        wait: bool,
        /// How long to wait.
        deadline: Duration,
    },
    /// Takes a matching tuple under a lease: it goes back unless its holder commits in time.
    TakeLeased {
        /// Workspace.
        workspace: String,
        /// What to match.
        template: Template,
        /// Wait until something matches, or answer [`Reply::Tuple`]`(None)` once that is decided.
        wait: bool,
        /// How long the lease lives without being renewed: [`cpe_space::LEASE_TTL_MIN`] to
        /// [`cpe_space::LEASE_TTL_MAX`].
        ttl: Duration,
        /// How long to wait.
        deadline: Duration,
    },
    /// Renews, commits or returns a lease, whoever took it.
    ActOnLease {
        /// The lease.
        lease: LeaseHandle,
        /// What to do with it.
        act: LeaseAct,
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// What became of an operation that was answered [`Failure::Unknown`]. Asked of the node that
    /// began it, one that is not decided never will be.
    Inquire {
        /// The operation.
        op: OpHandle,
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// Sets the mode of a variable that has none yet.
    Declare {
        /// Workspace.
        workspace: String,
        /// First field of the variable's tuples.
        variable: Value,
        /// Its mode.
        mode: Mode,
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// Deletes a variable with its tuples, or a whole workspace.
    Delete {
        /// Workspace.
        workspace: String,
        /// The variable; all of them when `None`.
        variable: Option<Value>,
        /// How long to wait for the homes.
        deadline: Duration,
    },
    /// An operation bound to an instance of the workspace, see [`Bound`].
    Bound {
        /// Workspace.
        workspace: String,
        /// Under which terms.
        terms: Terms,
        /// What.
        act: Bound,
        /// How long to wait for the home, and for a tuple.
        deadline: Duration,
    },
    /// How old what a local read shows may be.
    Staleness {
        /// Workspace.
        workspace: String,
        /// What is read.
        template: Template,
    },
    /// Waits until the local replica shows all that was decided before this command.
    Sync {
        /// In this workspace; in all of the space when `None`.
        workspace: Option<String>,
        /// How long to wait for the homes.
        deadline: Duration,
    },
    /// Sends a [`Reply::Tuple`] for each matching tuple as this node learns of it, beginning with
    /// those there are, until cancelled; each once, be it admitted or still pending. One may come
    /// again when its take is undone, and when its shard's state is fetched as a whole.
    Watch {
        /// Workspace.
        workspace: String,
        /// What to match.
        template: Template,
    },
    /// Lists workspaces, or the variables of one, from the local replica.
    List {
        /// The workspace; all when `None`.
        workspace: Option<String>,
    },
    /// The first tuples of a variable in the local replica, to be looked at.
    Browse {
        /// Workspace.
        workspace: String,
        /// First field of the tuples.
        variable: Value,
        /// How many tuples at most; fewer when they would be more than a MiB.
        limit: usize,
    },
    /// Claims a named actor for this node (rule A3), or registers a new one.
    Claim {
        /// The actor's name.
        name: String,
        /// The token the claimant believes current: 0 for a name never claimed.
        expect: u64,
        /// What the actor is: kind and arguments, opaque to the space.
        spec: Value,
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// Gives up a named actor (it has ended); refused unless `token` is current. One that is hosted
    /// under a lease is given up by its host, or by others once that lease ran out; and once all
    /// its effects are done, else the answer is [`Failure::Unsent`].
    Release {
        /// The actor's name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// Whether what it has committed stays, for the next one of its name.
        keeps: bool,
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// Lets this node host actors under a lease from now on (rule A1): answered once it may act, by
    /// [`Reply::Enlisted`]. After [`Output::Voided`](crate::Output::Voided) it has to be asked
    /// anew, when everything that ran under the lost life has been dropped.
    Enlist {
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// Claims a named actor for this node in its present life as a host (rule A3): answered by
    /// [`Reply::Hosted`], or [`Failure::Fenced`] when another life that is not over has it, or the
    /// token is not current. The node must be enlisted.
    Host {
        /// The actor's name.
        name: String,
        /// The token the claimant believes current: 0 for a name never claimed.
        expect: u64,
        /// What the actor is: kind and arguments, opaque to the space.
        spec: Value,
        /// Capabilities that a node's card must have to host it; a capability that is a list
        /// separated by commas has each of its parts. At most [`cpe_space::MAX_NEEDS`].
        needs: BTreeMap<String, String>,
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// Makes the state of a named actor last (rule A4): answered by [`Reply::Done`], or
    /// [`Failure::Fenced`] when it has been claimed since. Whoever is answered otherwise may ask
    /// the same again.
    Commit {
        /// The actor's name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// Counts the commits of all its incarnations, from 1: one more than the last.
        seq: u64,
        /// The state, at most [`cpe_space::SNAPSHOT_BYTES_MAX`].
        snapshot: Value,
        /// Messages whose effect is in it, and was in no commit before.
        marks: Vec<Marked>,
        /// What is to be done because of it, in order (rule A5): once each, whatever becomes of
        /// this node. At most [`cpe_space::OUTBOX_MAX`] and [`cpe_space::OUTBOX_BYTES_MAX`] with
        /// those that are not done yet; else [`Failure::Unsent`].
        effects: Vec<Effect>,
        /// Its host waits for no more messages of the one before it: it had them all, or has given
        /// that one up. From then on they are late (rule A8).
        rest_over: bool,
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// Hands a named actor of this node to another host (rule A8), which goes on from its last
    /// commit: answered by [`Reply::Moved`], or [`Failure::Fenced`] when it has been claimed
    /// since. The actor must not act from before this is asked, whatever the answer, unless that is
    /// a refusal. Whoever is answered otherwise may ask the same again.
    Migrate {
        /// The actor's name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// Its last commit: else [`Failure::OutOfTurn`]; 0 for none.
        seq: u64,
        /// The other node, in its present life as a host; refused when the home knows of no such
        /// life, or of its end. This node again, to give up moving it: whatever was asked before
        /// and not answered can then not be decided any more, or has been, which the answer says.
        to: Member,
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// Keeps how many failures of a named actor of this node it counts, for whoever has the actor
    /// next: [`ActorRecord::failures`](cpe_space::ActorRecord::failures). Answered by
    /// [`Reply::Done`], or [`Failure::Fenced`] when the name has been claimed since. The last note
    /// that is decided counts: one is to be asked at a time.
    NoteFailures {
        /// The actor's name.
        name: String,
        /// The token it was claimed with.
        token: u64,
        /// How many.
        failures: u32,
        /// How long to wait for the home.
        deadline: Duration,
    },
    /// The node has done what [`Output::Effect`](crate::Output::Effect) asked for, or has found
    /// that it cannot be done: the next effect of that actor may follow.
    EffectDone {
        /// The actor's name.
        name: String,
        /// Its birth.
        born: u64,
        /// Number of the effect.
        n: u64,
    },
    /// An actor of this node has handled what came of a take ([`Output::Took`](crate::Output)), and
    /// that lasts.
    TakeDone {
        /// The actor's name.
        name: String,
        /// Its birth.
        born: u64,
        /// The token of the incarnation that was told.
        token: u64,
        /// Number of the take.
        n: u64,
    },
    /// This node has stopped all actors that it hosted under a lease: others need not wait for the
    /// lease to run out.
    Delist,
    /// Makes a body durable that the shell has written for this node under `token`: the bodies of
    /// a tuple come before the tuple.
    Adopt {
        /// The name it was written under.
        token: u64,
        /// The body.
        blob: Blob,
        /// How long to wait for the disk.
        deadline: Duration,
    },
    /// Fetches a body to this node's disk.
    Gather {
        /// The body.
        blob: Blob,
        /// Workspace of the tuple that refers to it.
        workspace: String,
        /// First field of that tuple.
        variable: Value,
        /// How long to wait while nothing of it comes.
        deadline: Duration,
    },
    /// Where a named actor lives, from the local replica.
    Where {
        /// The actor's name.
        name: String,
    },
    /// All named actors, from the local replica.
    Actors,
    /// A summary of this node.
    Status,
    /// The members of the mesh as this node sees them.
    Peers,
    /// The shards that have ever been written to, their homes and how far this replica is.
    Shards,
    /// Hands every shard this node is home of to another live member.
    Drain {
        /// How long to wait until all are taken over.
        deadline: Duration,
        /// Whether it is done only once nothing is left that this node alone may have: before its
        /// disk is taken away. Without it, as for a stop after which the node comes back, what
        /// nobody within reach can take over stays.
        whole: bool,
    },
    /// Lets a shard whose majority is lost for ever go on with the most advanced survivor that this
    /// node can reach. What only the lost ones knew is gone, and should they come back after all,
    /// a tuple may have been taken twice. Refused while a majority can be reached.
    Recover {
        /// The shard; all that have lost their majority when `None`.
        shard: Option<u16>,
        /// How long to wait for the survivors.
        deadline: Duration,
    },
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Decided at home, at this index of the shard's history.
    Stored {
        /// Position in the shard's history.
        index: u64,
    },
    /// In the own outbox; it will be admitted exactly once when the home can be reached.
    Pending,
    /// The tuple read or taken; `None` only from the forms that do not wait, and for a take only
    /// when that was decided.
    Tuple(Option<Tuple>),
    /// The tuple taken, and the lease it is held under.
    Leased {
        /// The tuple.
        tuple: Tuple,
        /// The lease.
        lease: LeaseHandle,
        /// How long it lives from its decision on.
        ttl: Duration,
    },
    /// What became of an operation.
    Fate(Fate),
    /// How old what a local read shows may be; `None` while its home can be reached.
    Staleness(Option<Staleness>),
    /// Exchanged, decided at this index.
    Exchanged(u64),
    /// Not exchanged: this is there.
    Differs(Option<Tuple>),
    /// Done: declared, deleted, released, drained, renewed, committed, returned.
    Done,
    /// The workspaces.
    Workspaces(Vec<WorkspaceInfo>),
    /// The variables of a workspace.
    Variables(Vec<VariableInfo>),
    /// Tuples, eldest first.
    Tuples(Vec<Tuple>),
    /// The actor's record after a claim, or now.
    Actor(Option<ActorInfo>),
    /// All named actors.
    Actors(Vec<ActorInfo>),
    /// A summary of this node.
    Status(Box<Status>),
    /// The members.
    Peers(Vec<PeerInfo>),
    /// The shards.
    Shards(Vec<ShardInfo>),
    /// The shards that go on without their majority, or were to.
    Recovered(Vec<Recovered>),
    /// The node may let actors act, in this life as a host.
    Enlisted(Member),
    /// The actor is this node's to run, from what it has committed.
    Hosted(Box<ActorRecord>),
    /// The actor is another node's.
    Moved {
        /// Its token there.
        token: u64,
        /// The node in its life as a host; nobody if the actor has ended there since.
        host: Option<Member>,
    },
    /// Not done, and why.
    Failed(Failure),
}

/// Why a command was not done (space.md, section 2.7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing matched in time. Nothing was taken.
    #[error("nothing matched within {0:?}")]
    TimedOut(Duration),
    /// Certainly not executed: the request never reached a home that could decide it.
    #[error("the home of shard {shard} cannot be reached ({why}); try again when it is back")]
    Unavailable {
        /// The shard.
        shard: u16,
        /// What was tried.
        why: String,
    },
    /// May have been executed: it was sent and no answer came. A tuple taken this way is put
    /// back as soon as the home answers again.
    #[error(
        "no answer came from the home of shard {}: operation {op} may have been executed (a tuple \
         it took is put back); ask for its status later", op.shard
    )]
    Unknown {
        /// The operation: [`Command::Inquire`] tells later what became of it.
        op: OpHandle,
    },
    /// The lease had ended: nothing was done.
    #[error("lease {lease} was lost: {}", how_lost(*end))]
    LeaseLost {
        /// The lease.
        lease: LeaseHandle,
        /// How it ended.
        end: LeaseEnd,
    },
    /// The volatile shard has begun anew. The store may have been done before that; it is gone
    /// then.
    #[error(
        "volatile shard {shard} lost the majority of its home and has begun anew, empty; this \
         store is not there, but may have been taken before that: store it again if twice is \
         better than not at all"
    )]
    Lost {
        /// The shard.
        shard: u16,
    },
    /// A drain ended before everything was with others. Nothing is lost: this node still has it.
    #[error("{}", how_kept(*groups, *stores, *heirs, *within))]
    Kept {
        /// Home groups this node is still in, or waits for the successors of.
        groups: usize,
        /// Stores that no home has admitted yet.
        stores: usize,
        /// Whether any other member within reach may be home of anything.
        heirs: bool,
        /// How long was tried.
        within: Duration,
    },
    /// Another incarnation of the actor has its name. Nothing was done.
    #[error("the name is held with token {token} by {}", held_by(*host))]
    Fenced {
        /// The current token; 0 for a name that was never claimed.
        token: u64,
        /// Who hosts it.
        host: Option<Member>,
    },
    /// The commit is not the next one of the actor. Nothing was done.
    #[error("the last commit of the actor has number {last}; commit the next one")]
    OutOfTurn {
        /// Its number.
        last: u64,
    },
    /// Effects of the actor have to be done first. Nothing was done; ask again.
    #[error("{waiting} effects of the actor are not done yet; try again later")]
    Unsent {
        /// How many.
        waiting: u64,
    },
    /// The variable is not in the instance of the workspace that was meant. Nothing was done.
    #[error("the variable is not there, or the workspace was deleted since it was opened")]
    Absent,
    /// Refused, now and always, for a reason in the request.
    #[error("{0}")]
    Refused(String),
    /// Too much is under way at this node already.
    #[error("too much is under way at this node ({0}); try again later")]
    Busy(String),
}

fn how_kept(groups: usize, stores: usize, heirs: bool, within: Duration) -> String {
    let left = format!("{groups} home groups and {stores} stores on their way of this node");
    if heirs {
        format!(
            "others have not taken over {left} within {within:?}: it goes on handing over; ask \
             again, and do not take its disk away before that is done"
        )
    } else {
        format!(
            "nobody can take over {left}: no other member that takes homes is within reach. It \
             keeps them and goes on; start or connect another member, ask again, and do not take \
             its disk away before that is done"
        )
    }
}

fn held_by(host: Option<Member>) -> String {
    host.map_or_else(|| "nobody".to_owned(), |host| host.to_string())
}

fn how_lost(end: LeaseEnd) -> &'static str {
    match end {
        LeaseEnd::Committed => "it is committed and its tuple gone",
        LeaseEnd::Returned => "its tuple was put back",
        LeaseEnd::Expired => "it was not renewed in time and its tuple was put back",
        LeaseEnd::Forgotten => "it is not there and how it ended is not remembered",
    }
}

/// A workspace as seen by this replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkspaceInfo {
    /// Its name.
    pub name: String,
    /// Variables that hold tuples or were declared.
    pub variables: usize,
    /// Tuples.
    pub tuples: usize,
    /// True when it is kept in memory alone.
    pub volatile: bool,
}

/// A variable as seen by this replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VariableInfo {
    /// First field of its tuples.
    pub name: Value,
    /// Its mode.
    pub mode: Mode,
    /// True when that was declared or settled by a store; else it is what an undeclared variable
    /// is taken for.
    #[serde(skip)]
    pub declared: bool,
    /// The instance of the workspace it was declared in, if it was declared in one.
    #[serde(skip)]
    pub instance: Option<u64>,
    /// Tuples decided and not yet taken.
    pub tuples: usize,
    /// Tuples stored but not yet admitted, as far as this node knows.
    pub pending: usize,
    /// Which shard it lives in.
    pub shard: u16,
}

/// A named actor's registry record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActorInfo {
    /// The name.
    pub name: String,
    /// What it is: kind and arguments.
    pub spec: Value,
    /// Raised by every claim; messages and commits carry it.
    pub token: u64,
    /// Who hosts it; `None` after it was stopped.
    pub host: Option<Member>,
    /// True when it is hosted under a lease: then `host` is the node in its life as a host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leased: bool,
    /// The token of the claim with which it began: with its name what tells it from others of that
    /// name, wherever it goes on.
    #[serde(skip)]
    pub born: u64,
    /// What an actor committed is kept under the name, whether somebody hosts it or not.
    #[serde(skip)]
    pub kept: bool,
}

/// A summary of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub inc: Incarnation,
    /// Its name.
    pub name: String,
    /// The mesh it belongs to.
    pub mesh: String,
    /// True once it knows the mesh's shards: at once for a founder, else after it has joined.
    pub joined: bool,
    /// Members alive, itself included.
    pub alive: usize,
    /// Durable shards of the mesh.
    pub shards: u16,
    /// Volatile shards beside them.
    pub volatile_shards: u16,
    /// Shards this node is home of: in how many home groups it is.
    pub homes: usize,
    /// Of those, how many it leads.
    pub leads: usize,
    /// Decided entries applied, over all shards.
    pub applied: u64,
    /// Own stores not yet admitted.
    pub outbox: usize,
    /// Tuples in this replica.
    pub tuples: usize,
    /// Requests that wait: reads and takes.
    pub waiting: usize,
    /// Takes this node asked of homes whose outcome is open, those being put back included.
    pub open_takes: usize,
    /// Messages and entries counted since start, by name.
    pub counters: BTreeMap<&'static str, u64>,
}

/// A member as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerInfo {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub inc: Incarnation,
    /// Its name.
    pub name: String,
    /// Its libp2p peer id.
    pub peer: String,
    /// `alive`, `suspect`, `dead` or `left`.
    pub state: &'static str,
    /// True when a link to it is up; always for this node itself.
    pub linked: bool,
    /// Addresses it listens on.
    pub addresses: Vec<String>,
    /// What it said it can do.
    pub capabilities: BTreeMap<String, String>,
}

/// A shard as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardInfo {
    /// Its number.
    pub shard: u16,
    /// Epoch of its home group, of a volatile shard counted from 0 in each generation.
    pub epoch: u64,
    /// The home group.
    pub members: Vec<Member>,
    /// Who leads it, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Entries applied by this replica.
    pub applied: u64,
    /// Entries decided, as far as this node has heard.
    pub decided: u64,
    /// Tuples in this replica.
    pub tuples: usize,
    /// Tuples set aside under a lease, in this replica.
    pub leased: usize,
    /// True for ever once the shard went on without its majority, at an operator's word: what was
    /// decided before may be lacking.
    pub forked: bool,
    /// Of a volatile shard how often it has begun, empty; 0 before it has a home. None of a durable
    /// shard.
    pub generation: Option<u64>,
}

/// A shard that was to go on without its majority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Its number.
    pub shard: u16,
    /// Who goes on with it.
    #[serde(rename = "node")]
    pub survivor: NodeId,
    /// The epoch that begins.
    pub epoch: u64,
    /// Entries that survived, the fork itself included.
    pub index: u64,
    /// Why it did not go on, if it did not.
    pub refused: Option<String>,
}
