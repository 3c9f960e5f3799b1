//! What happens to a peer and what it wants done.

use std::time::Duration;

use cpe_membership::{Member, NodeId};
use cpe_space::{ActorRecord, Config, Effect, Name, ShardId};
use cpe_tuple::Tuple;

use crate::body::{BodyDone, BodyWork};
use crate::persist::Batch;
use crate::wire::Lane;
use crate::{Command, Genesis, Reply, RequestId};

/// Something that happened to a peer.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A message arrived on a link.
    Message {
        /// From whom: the transport vouches for it.
        from: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A gossiped frame arrived; who forwarded it means nothing.
    Gossip(Vec<u8>),
    /// A link is up: the node was admitted and messages can be sent to it.
    LinkUp(NodeId),
    /// A link is down.
    LinkDown(NodeId),
    /// A batch, and all before it, is durable.
    Persisted(u64),
    /// The local node asks something.
    Command(RequestId, Command),
    /// Nobody waits for this request any more. What it took and nobody received goes back.
    Cancel(RequestId),
    /// The local node has received the tuple this request took.
    Received(RequestId),
    /// The node's addresses, capabilities or load changed.
    Card(Box<cpe_membership::NodeCard>),
    /// The node stops: tell the others. Give it time to drain first.
    Leave,
    /// Storage has done something for a body.
    Body(BodyDone),
    /// It is [`Peer::next_wake`](crate::Peer::next_wake).
    Tick,
}

/// Something a peer wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a message on a link; losing it is allowed.
    Send {
        /// To whom.
        to: NodeId,
        /// On which stream.
        lane: Lane,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Gossip a frame to everybody; losing it is allowed.
    Broadcast {
        /// Any number; frames of one topic concern the same shards.
        topic: u16,
        /// Names the frame, for de-duplication.
        id: u64,
        /// At most [`MAX_GOSSIP_BYTES`](crate::MAX_GOSSIP_BYTES).
        bytes: Vec<u8>,
    },
    /// Make this durable, after all batches before it, and report it.
    Persist {
        /// Counts from 1.
        token: u64,
        /// The changes.
        batch: Batch,
        /// Whether anyone waits for it: others may be synced lazily.
        sync: bool,
    },
    /// The answer to a request; several for a watch.
    Reply(RequestId, Reply),
    /// Keep a link to this member from now on, whatever becomes of it.
    Connect {
        /// The member.
        node: NodeId,
        /// Its libp2p peer id.
        peer: String,
        /// Where it listens.
        addresses: Vec<String>,
    },
    /// Something worth a log line.
    Event(Event),
    /// Something to do for the body of a large value, in order.
    Body(BodyWork),
    /// The node may let actors act until then, by the clock that it gives the peer (rule A7). It
    /// must look at the clock before each act, not set a timer: a process that stood still would
    /// not notice.
    MayAct {
        /// The node, in its life as a host.
        life: Member,
        /// Until when.
        until: Duration,
    },
    /// A named actor is this node's to run, from what it has committed: one whose host's life is
    /// over, or one that was claimed by a request which was answered as unknown.
    Host {
        /// Its name.
        name: String,
        /// Its record.
        record: Box<ActorRecord>,
    },
    /// Something that an actor hosted by this node has committed is to be done (rule A5): answer
    /// with [`Command::EffectDone`] when it is. Nothing else of that actor that concerns the same
    /// receiver is asked for before. It may have been done already, by this node in another life
    /// or by another one: whoever gets it is to know it again by the three.
    Effect {
        /// The actor's name.
        name: String,
        /// Its birth: [`cpe_space::Outbox::born`].
        born: u64,
        /// Number of the effect.
        n: u64,
        /// What. Never a tuple to be put, which the peer does by itself.
        effect: Box<Effect>,
    },
    /// What came of a take of an actor hosted by this node (rule A6): to be given to the actor as a
    /// message, and answered with [`Command::TakeDone`] when what the actor made of it lasts.
    /// Another node may have given it to the actor already: the actor is to know it again by name,
    /// birth and number, as [`cpe_space::Sender::Take`]. It is for the incarnation with this token
    /// and no other: what one that was given up had taken is gone.
    Took {
        /// The actor's name.
        name: String,
        /// Its birth: [`cpe_space::Outbox::born`].
        born: u64,
        /// Its token.
        token: u64,
        /// Number of the take.
        n: u64,
        /// Where it was to be taken from.
        workspace: Name,
        /// The kind of message that the actor asked for.
        answer: String,
        /// What the actor knows the take by.
        request: u64,
        /// What came of it.
        took: Box<Took>,
    },
    /// Who has a name may have changed in this replica. For each claim of any node, and each name
    /// that is given up or handed on; not in order with other outputs about that name, and a
    /// replica that took a state tells of all names in it.
    Named {
        /// The name.
        name: String,
        /// Its token.
        token: u64,
        /// Who has it, as [`ActorInfo::host`](crate::ActorInfo::host).
        host: Option<Member>,
        /// Under a lease.
        leased: bool,
        /// Whoever handed it to its host; `None` if it was claimed.
        from: Option<Member>,
    },
    /// A life of the node as a host is over: what ran under it must be dropped. Others may have
    /// those actors by now.
    Voided {
        /// The life.
        life: Member,
    },
}

/// What came of a take of an actor.
#[derive(Clone, Debug, PartialEq)]
pub enum Took {
    /// This tuple, which is nobody else's.
    Tuple(Tuple),
    /// Nothing matched, and it was not to wait.
    Nothing,
    /// It was given up when a former incarnation was about to end: nothing was taken.
    GivenUp,
}

/// Something worth a log line or a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer knows its mesh now.
    Joined(Genesis),
    /// A member is there.
    Up(Member),
    /// A member does not answer.
    Down(Member),
    /// A member said good-bye.
    Left(Member),
    /// Others know a later life of this node: this process is a left-over and should end.
    Defunct,
    /// A shard's home moved.
    Moved(ShardId, Config),
    /// A peer sent bytes that are no message, or entries that are none.
    Malformed {
        /// Who.
        from: Option<NodeId>,
        /// What was wrong.
        reason: String,
    },
    /// A shard went on without its majority, which is lost.
    Forked(ShardId, Config),
    /// This node's history of a shard was given up for that of a fork.
    Overruled {
        /// The shard.
        shard: ShardId,
        /// Who has the other history.
        by: NodeId,
    },
    /// A life of a node as a host of actors is over.
    Voided(Member),
    /// A volatile shard begins anew, empty: the majority of its home group was lost.
    Begun {
        /// The shard.
        shard: ShardId,
        /// Its generation: 1 for the first.
        generation: u64,
    },
    /// Two histories of a shard differ: durable state was rolled back somewhere.
    Diverged {
        /// The shard.
        shard: ShardId,
        /// Who has the other history.
        with: NodeId,
    },
}
