//! The program's handle.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cpe_membership::NodeId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::driver::Broadcast;
use crate::error::{BroadcastError, SendError};
use crate::gossip::{GOSSIP_MAX, MessageKey, TOPICS};
use crate::lane::Lane;
use crate::link::LinkInfo;
use crate::shared::{Shared, lock, read};

/// A cheap handle to the running network. When the last clone is dropped the network stops.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    clock: Clock,
    broadcasts: mpsc::Sender<Broadcast>,
    stop: CancellationToken,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Network {
    pub(crate) fn new(
        shared: Arc<Shared>,
        clock: Clock,
        broadcasts: mpsc::Sender<Broadcast>,
        stop: CancellationToken,
        driver: JoinHandle<()>,
    ) -> Self {
        let driver = Mutex::new(Some(driver));
        Self {
            inner: Arc::new(Inner {
                shared,
                clock,
                broadcasts,
                stop,
                driver,
            }),
        }
    }

    /// This node's libp2p id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.inner.shared.peer
    }

    /// This node's short id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.inner.shared.node
    }

    /// Queues a message for a linked member, without waiting.
    ///
    /// `Ok` means queued, not delivered: a link that ends takes its queue with it.
    ///
    /// # Errors
    /// No link, a full queue, or a message above the lane's limit. Nothing was sent then.
    pub fn try_send(&self, to: NodeId, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        let link = self.inner.shared.link(to).ok_or(SendError::NoLink(to))?;
        link.queue(lane).try_send(bytes)
    }

    /// Queues a message for a linked member, waiting for room on the message and bulk lanes. The
    /// control lane never waits: there this is [`try_send`](Self::try_send).
    ///
    /// # Errors
    /// No link (before or while waiting), a message above the lane's limit, and on the control
    /// lane a full queue. Nothing was sent then.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, nothing was sent.
    pub async fn send(&self, to: NodeId, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        let link = self.inner.shared.link(to).ok_or(SendError::NoLink(to))?;
        link.queue(lane).send(bytes).await
    }

    /// Spreads small news to all members, perhaps. Members that know `key` already, from
    /// whomever, do not get it again.
    ///
    /// # Errors
    /// No such topic, contents above [`GOSSIP_MAX`], too many broadcasts waiting, or a network
    /// that has shut down. Nothing was sent then.
    pub fn broadcast(
        &self,
        topic: u16,
        key: MessageKey,
        bytes: Bytes,
    ) -> Result<(), BroadcastError> {
        if topic >= TOPICS {
            return Err(BroadcastError::NoTopic(topic));
        }
        if bytes.len() > GOSSIP_MAX {
            return Err(BroadcastError::TooLarge {
                found: bytes.len(),
                limit: GOSSIP_MAX,
            });
        }
        self.inner
            .broadcasts
            .try_send(Broadcast { topic, key, bytes })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => BroadcastError::Full,
                mpsc::error::TrySendError::Closed(_) => BroadcastError::Stopped,
            })
    }

    /// Wants a link to a member for as long as the network runs: dials it, and dials it again
    /// whenever the link is lost. Addresses add to what is known (at most
    /// [`ADDRESSES_MAX`](crate::ADDRESSES_MAX) are kept); without any, other members are asked.
    pub fn connect(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let shared = &self.inner.shared;
        if peer == shared.peer {
            return;
        }
        let up = shared.link(crate::node_id(&peer)).is_some();
        lock(&shared.unwanted).remove(&peer);
        lock(&shared.dialer).want(peer, addresses, up, self.inner.clock.now());
        shared.changed.notify_one();
    }

    /// Cuts the link to a peer and dials it no more, not even as a bootstrap address, until
    /// [`connect`](Self::connect) names it again. The peer may still dial this node.
    pub fn disconnect(&self, peer: PeerId) {
        let shared = &self.inner.shared;
        lock(&shared.dialer).forget(&peer);
        lock(&shared.unwanted).insert(peer);
        shared.changed.notify_one();
    }

    /// Where others reach this node now, each with `/p2p/ID`.
    #[must_use]
    pub fn addresses(&self) -> Vec<Multiaddr> {
        read(&self.inner.shared.addresses).clone()
    }

    /// Whether a member can be sent to now.
    #[must_use]
    pub fn is_linked(&self, node: NodeId) -> bool {
        read(&self.inner.shared.links).contains_key(&node)
    }

    /// The links, by node id.
    #[must_use]
    pub fn links(&self) -> Vec<LinkInfo> {
        read(&self.inner.shared.links)
            .values()
            .map(|link| link.info())
            .collect()
    }

    /// Writes what is queued (for a short time), ends all links and stops listening.
    ///
    /// # Cancel safety
    /// The network stops even when the future is dropped; only the waiting ends.
    pub async fn shutdown(self) {
        self.inner.stop.cancel();
        let driver = lock(&self.inner.driver).take();
        if let Some(driver) = driver {
            // An error here is a panic of the driver, which was reported where it happened.
            drop(driver.await);
        }
    }
}
