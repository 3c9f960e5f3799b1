//! One link: what is known about a connected member, and the way to send to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cpe_membership::NodeId;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::certificate::Certificate;
use crate::event::DownReason;
use crate::lane::Lane;
use crate::queue::{LaneReceiver, LaneSender, lane_queue};

/// A link as others see it.
#[derive(Clone, Debug)]
pub struct LinkInfo {
    /// The member.
    pub node: NodeId,
    /// Its libp2p id.
    pub peer: PeerId,
    /// Its certificate, verified.
    pub certificate: Arc<Certificate>,
    /// The other end of the connection.
    pub address: Multiaddr,
    /// Whether this node dialled.
    pub dialled: bool,
    /// How long the link has been up.
    pub age: Duration,
    /// The last ping's round trip.
    pub round_trip: Option<Duration>,
    /// Bytes waiting to be written, by lane (control, message, bulk).
    pub queued_bytes: [usize; 3],
    /// Messages written.
    pub sent_messages: u64,
    /// Bytes of the messages written.
    pub sent_bytes: u64,
    /// Messages received.
    pub received_messages: u64,
    /// Bytes of the messages received.
    pub received_bytes: u64,
}

/// Messages and bytes that went one way.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    pub(crate) fn count(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (
            self.messages.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// A member that can be sent to.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) peer: PeerId,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) connection: ConnectionId,
    pub(crate) remote: Multiaddr,
    pub(crate) dialled: bool,
    pub(crate) since: Instant,
    pub(crate) sent: Traffic,
    pub(crate) received: Traffic,
    queues: [LaneSender; 3],
    /// Microseconds, 0 when no ping was answered yet.
    round_trip_us: AtomicU64,
    ended: OnceLock<DownReason>,
    stop: CancellationToken,
}

/// What makes a link, apart from its streams.
#[derive(Debug)]
pub(crate) struct LinkParts {
    pub(crate) node: NodeId,
    pub(crate) peer: PeerId,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) connection: ConnectionId,
    pub(crate) remote: Multiaddr,
    pub(crate) dialled: bool,
}

impl Link {
    pub(crate) fn new(parts: LinkParts) -> (Arc<Self>, [LaneReceiver; 3]) {
        let LinkParts {
            node,
            peer,
            certificate,
            addresses,
            connection,
            remote,
            dialled,
        } = parts;
        let [(c, control), (m, message), (b, bulk)] = Lane::ALL.map(|lane| lane_queue(node, lane));
        let link = Self {
            node,
            peer,
            certificate,
            addresses,
            connection,
            remote,
            dialled,
            since: Instant::now(),
            sent: Traffic::default(),
            received: Traffic::default(),
            queues: [c, m, b],
            round_trip_us: AtomicU64::new(0),
            ended: OnceLock::new(),
            stop: CancellationToken::new(),
        };
        (Arc::new(link), [control, message, bulk])
    }

    pub(crate) fn queue(&self, lane: Lane) -> &LaneSender {
        let [control, message, bulk] = &self.queues;
        match lane {
            Lane::Control => control,
            Lane::Message => message,
            Lane::Bulk => bulk,
        }
    }

    /// Ends the link. The first reason is the one that is told.
    pub(crate) fn end(&self, reason: DownReason) {
        drop(self.ended.set(reason));
        self.stop.cancel();
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> DownReason {
        self.stop.cancelled().await;
        self.ended.get().cloned().unwrap_or(DownReason::Closed)
    }

    pub(crate) fn set_round_trip(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.round_trip_us.store(us, Ordering::Relaxed);
    }

    pub(crate) fn info(&self) -> LinkInfo {
        let (sent_messages, sent_bytes) = self.sent.read();
        let (received_messages, received_bytes) = self.received.read();
        let round_trip_us = self.round_trip_us.load(Ordering::Relaxed);
        LinkInfo {
            node: self.node,
            peer: self.peer,
            certificate: Arc::clone(&self.certificate),
            address: self.remote.clone(),
            dialled: self.dialled,
            age: self.since.elapsed(),
            round_trip: (round_trip_us > 0).then(|| Duration::from_micros(round_trip_us)),
            queued_bytes: [0, 1, 2].map(|i| self.queues.get(i).map_or(0, LaneSender::queued_bytes)),
            sent_messages,
            sent_bytes,
            received_messages,
            received_bytes,
        }
    }
}
