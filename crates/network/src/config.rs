//! What a node must be told before it can join a mesh.

use std::time::Duration;

use libp2p::Multiaddr;

use crate::blocks::TestBlocks;
use crate::certificate::{Certificate, MeshPublicKey};
use crate::identity::Identity;

/// Addresses in one list (listen, bootstrap, of one peer), at most.
pub const ADDRESSES_MAX: usize = 16;
/// Links, at most: a node of a larger mesh keeps some members at arm's length.
pub const LINKS_MAX_DEFAULT: u32 = 512;

/// Settings of the network shell.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The key pair that names this node.
    pub identity: Identity,
    /// The mesh's word that this node belongs. Its peer id must be the identity's.
    pub certificate: Certificate,
    /// The root public key that every member's certificate must be signed by.
    pub mesh: MeshPublicKey,
    /// Where to listen: `/ip4/0.0.0.0/tcp/4001`, `/ip4/0.0.0.0/udp/4001/quic-v1`; port 0 takes
    /// any. At most [`ADDRESSES_MAX`]. Default: none.
    pub listen: Vec<Multiaddr>,
    /// Members to dial for as long as the node runs, with or without `/p2p/ID` at the end (with
    /// it, only that peer is accepted). At most [`ADDRESSES_MAX`]. Default: none.
    pub bootstrap: Vec<Multiaddr>,
    /// Addresses others reach this node at when it cannot see them itself (behind a forwarded
    /// port). At most [`ADDRESSES_MAX`]. Default: none.
    pub external: Vec<Multiaddr>,
    /// Whether to look for members on the local network by multicast. Default: no.
    pub mdns: bool,
    /// Whether QUIC addresses may be listened on and dialled. Default: yes.
    pub quic: bool,
    /// Links, at most. Default: [`LINKS_MAX_DEFAULT`].
    pub links_max: u32,
    /// Time for a connection to be made and its encryption agreed on, either way; who takes longer
    /// is cut off. Names are resolved before it begins, admission has a time of its own after it.
    /// Default: 10 s.
    pub handshake_within: Duration,
    /// Time between two pings of a link. A link that answers none for three times this long is cut.
    /// Default: 5 s.
    pub ping_interval: Duration,
    /// First pause between two dials of the same peer; it doubles with each failure, with jitter,
    /// up to [`redial_max`](Self::redial_max). Default: 250 ms.
    pub redial_min: Duration,
    /// Longest pause between two dials of the same peer. Default: 15 s.
    pub redial_max: Duration,
    /// Peers to be kept apart from, for tests of partitions. Default: none, and nothing can block
    /// anybody.
    pub test_blocks: Option<TestBlocks>,
}

impl NetworkConfig {
    /// The defaults around the three things that have none.
    #[must_use]
    pub fn new(identity: Identity, certificate: Certificate, mesh: MeshPublicKey) -> Self {
        Self {
            identity,
            certificate,
            mesh,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            external: Vec::new(),
            mdns: false,
            quic: true,
            links_max: LINKS_MAX_DEFAULT,
            handshake_within: Duration::from_secs(10),
            ping_interval: Duration::from_secs(5),
            redial_min: Duration::from_millis(250),
            redial_max: Duration::from_secs(15),
            test_blocks: None,
        }
    }
}
