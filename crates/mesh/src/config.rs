//! Settings of a peer.

use std::time::Duration;

use cpe_membership::{Incarnation, MembershipConfig, NodeCard};

use crate::Genesis;

/// Settings of a peer. The intervals are for a LAN; none of them bears on safety.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// What the node tells others about itself. Its incarnation counts for fresh state only: a
    /// recovered peer goes on under the one it had.
    pub card: NodeCard,
    /// The mesh, when this node founds it. A joining node learns it from its peers.
    pub genesis: Option<Genesis>,
    /// False when nothing is kept: decisions are final at once and no batch is written.
    pub durable: bool,
    /// Settings of the membership protocol.
    pub membership: MembershipConfig,
    /// False for a node that is home of nothing as long as another member can be: it gives away
    /// what it leads, as a draining node does, and is in no group. True by default.
    pub takes_homes: bool,
    /// How often the members of home groups ask for each other. A leader is missed after four
    /// rounds (rules R1 and R2). 200 ms: a killed leader is replaced within about a second.
    pub heartbeat: Duration,
    /// How long a member has to be there before it joins a group that is too small. 3 s.
    pub eligible_after: Duration,
    /// How long a member has to be gone before another takes its place, and to be there before it
    /// is preferred to one that works. 30 s (space.md, 2.6).
    pub replace_after: Duration,
    /// How long the majority of a volatile shard's home has to be silent before it is given up,
    /// with what it holds. Members that came back as another start are given up at once. 60 s:
    /// twice the time after which one member is replaced.
    pub forget_after: Duration,
    /// How long a later life of a node has to be known before what shards remember of the earlier
    /// ones shrinks to their number. 10 min: whoever has stores of theirs to pass on has had the
    /// time to.
    pub retire_after: Duration,
    /// How long decided entries are gathered before they are gossiped. 20 ms: below what a person
    /// notices, and at most 50 frames a second (space.md, 1.3).
    pub feed_interval: Duration,
    /// How often a peer compares digests with one other. 1 s.
    pub digest_interval: Duration,
    /// How long a gap in a feed is left to close by itself. 200 ms (space.md, 1.3).
    pub pull_delay: Duration,
    /// First pause before a request is repeated, times 1.5 each time. 50 ms (rule R15).
    pub retry_first: Duration,
    /// Longest such pause. 1 s (rule R15).
    pub retry_max: Duration,
    /// How long a cancelled operation's answer is waited for before it is called unknown. 1 s.
    pub cancel_grace: Duration,
    /// A parked take whose client is silent for this long is dropped by the home. 10 s: ten of
    /// the client's longest pauses.
    pub park_lease: Duration,
    /// The lease of this node as a host of actors: so long after its death they are given to others
    /// at the latest, and so long it may be cut off before it has to stop them. Only nodes that
    /// host any have one. 5 s on a LAN; give 15 s across a WAN (rule A1).
    pub node_lease: Duration,
    /// True for a node that enlists as a host by itself as soon as any actor of the mesh is hosted
    /// under a lease, to take over what others leave. False by default.
    pub stands_by: bool,
    /// How long a node takes to look through all shards for bodies that it lacks or that nothing
    /// refers to any more. 30 s.
    pub sweep_interval: Duration,
    /// How long a body is kept after a round has found that nothing refers to it. 60 s: it must
    /// outlast the way from the writing of a body to the store of its tuple, and from a read to the
    /// reading of the body.
    pub body_grace: Duration,
    /// How long a body is kept for a take that its taker has not acknowledged, once nothing else
    /// refers to it. 24 h: a taker that died for good must not keep it for ever.
    pub body_taken_max: Duration,
    /// Entries a log may have beyond the last snapshot before a new one is written. 4,096.
    pub log_entries_max: u64,
    /// Bytes, the same; and bytes of entries kept in memory. 4 MiB.
    pub log_bytes_max: usize,
    /// Bytes of one shard's state at which its home admits no more stores, about: what was stored
    /// since the last snapshot counts, what was taken since does not. 512 MiB. A state is written
    /// in one piece, and a new member fetches it into memory.
    pub shard_bytes_max: usize,
    /// Entries kept in memory behind a snapshot, for replicas that lag. Those that lag more fetch
    /// a state. 4,096.
    pub log_kept: u64,
}

impl PeerConfig {
    /// LAN settings for a node.
    #[must_use]
    pub fn new(card: NodeCard) -> Self {
        Self {
            card,
            genesis: None,
            durable: true,
            membership: MembershipConfig::lan(),
            takes_homes: true,
            heartbeat: Duration::from_millis(200),
            eligible_after: Duration::from_secs(3),
            replace_after: Duration::from_secs(30),
            forget_after: Duration::from_secs(60),
            retire_after: Duration::from_secs(10 * 60),
            feed_interval: Duration::from_millis(20),
            digest_interval: Duration::from_secs(1),
            pull_delay: Duration::from_millis(200),
            retry_first: Duration::from_millis(50),
            retry_max: Duration::from_secs(1),
            cancel_grace: Duration::from_secs(1),
            park_lease: Duration::from_secs(10),
            node_lease: Duration::from_secs(5),
            stands_by: false,
            sweep_interval: Duration::from_secs(30),
            body_grace: Duration::from_secs(60),
            body_taken_max: Duration::from_secs(24 * 60 * 60),
            log_entries_max: 4_096,
            log_bytes_max: 4 * 1024 * 1024,
            shard_bytes_max: 512 * 1024 * 1024,
            log_kept: 4_096,
        }
    }

    /// The incarnation fresh state begins with.
    #[must_use]
    pub fn inc(&self) -> Incarnation {
        self.card.inc
    }
}
