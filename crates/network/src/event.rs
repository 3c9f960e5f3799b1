//! What the network tells the program.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cpe_membership::NodeId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::certificate::{Certificate, CertificateError};
use crate::lane::Lane;

/// Events waiting for the program, at most. Message bytes have bounds of their own
/// ([`LaneLimits::inbound_bytes`](crate::LaneLimits)).
pub const EVENTS_MAX: usize = 4096;

/// Something happened.
///
/// For each node the order is `LinkUp`, its messages, `LinkDown`; a message of a link never
/// comes after the link's end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A member can be sent to.
    LinkUp {
        /// Its short id.
        node: NodeId,
        /// Its libp2p id, proven by the handshake.
        peer: PeerId,
        /// Its certificate, verified.
        certificate: Arc<Certificate>,
        /// Where it says it listens (at most [`ADDRESSES_MAX`](crate::ADDRESSES_MAX)).
        addresses: Vec<Multiaddr>,
    },
    /// A member can be sent to no longer. What was queued for it is gone.
    LinkDown {
        /// Its short id.
        node: NodeId,
        /// Why.
        reason: DownReason,
    },
    /// A message came over a lane.
    Message {
        /// The node at the other end.
        from: NodeId,
        /// The lane.
        lane: Lane,
        /// Its contents.
        bytes: Bytes,
    },
    /// A broadcast came. It may come in any order, and it may never come.
    Gossip {
        /// The neighbour that passed it on, who need not be its author.
        from_link: Option<NodeId>,
        /// Its topic.
        topic: u16,
        /// Its contents.
        bytes: Bytes,
    },
    /// The node listens at an address.
    Listening {
        /// The address, with `/p2p/ID`.
        address: Multiaddr,
    },
    /// A peer was refused, by us or by it.
    Refused {
        /// The peer, when a handshake proved one.
        peer: Option<PeerId>,
        /// Why.
        why: Refusal,
    },
    /// A peer announced itself on the local network. It is dialled; whether it is a member shows
    /// then.
    Discovered {
        /// The peer.
        peer: PeerId,
        /// Where it was seen.
        addresses: Vec<Multiaddr>,
    },
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// The other side closed it.
    #[error("closed by the other side")]
    Closed,
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The other side sent what no version of this program sends.
    #[error("protocol violated: {0}")]
    Violation(String),
    /// A newer connection of the same peer took its place.
    #[error("replaced by a newer connection")]
    Replaced,
    /// The program asked for it.
    #[error("disconnected on request")]
    Requested,
    /// The peer's certificate ran out.
    #[error("the peer's certificate has expired")]
    Expired,
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Shutdown,
    /// A test keeps the peer apart.
    #[error("blocked by a test")]
    Blocked,
}

/// Why a peer was not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It showed no certificate.
    #[error("no certificate was shown")]
    NoCertificate,
    /// Its certificate does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate belongs to another peer.
    #[error("the certificate belongs to another peer")]
    WrongPeer,
    /// Its short id is another member's (or ours).
    #[error("its node id {0} is taken by another peer: make a new identity")]
    NodeIdTaken(NodeId),
    /// It was refused a moment ago and must wait.
    #[error("refused a moment ago, must wait {0:?}")]
    TooSoon(Duration),
    /// It did not speak our protocol.
    #[error("not a node of this program: {0}")]
    Garbage(String),
    /// It did not finish the handshake.
    #[error("the admission handshake was not finished: {0}")]
    Unfinished(String),
    /// The other side refused us, and this is what it said.
    #[error("the other side refused: {0}")]
    ByPeer(String),
    /// A test keeps the peer apart.
    #[error("blocked by a test")]
    Blocked,
}

impl Refusal {
    /// Whether somebody said no. A line that broke, or that a test has cut, says nothing about the
    /// next try.
    pub(crate) fn is_a_no(&self) -> bool {
        !matches!(self, Self::Unfinished(_) | Self::Blocked)
    }
}

/// An event and the room it takes until the program has it.
pub(crate) type Queued = (Event, Option<OwnedSemaphorePermit>);

/// Where events come out. Not reading it stops the lanes (back-pressure) and drops gossip.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Queued>,
}

impl Events {
    pub(crate) fn new(queue: mpsc::Receiver<Queued>) -> Self {
        Self { queue }
    }

    /// The next event, or `None` once the network has shut down and all events were taken.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Event> {
        self.queue.recv().await.map(|(event, _room)| event)
    }

    /// The next event if there is one now.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.queue.try_recv().ok().map(|(event, _room)| event)
    }
}
