//! What the handle, the driver and the links of one node know together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cpe_membership::NodeId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::Notify;

use crate::blocks::TestBlocks;
use crate::dialing::Dialer;
use crate::link::Link;

/// A lock here is held for a look-up or an insertion, never across an await. A holder cannot
/// leave the value half-changed, so a poisoned lock is still good.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) peer: PeerId,
    pub(crate) node: NodeId,
    /// The links that can be sent over. Bounded by the connection limits.
    pub(crate) links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
    /// Whom to dial, and when.
    pub(crate) dialer: Mutex<Dialer>,
    /// Peers to cut. Bounded by the connections: others are not entered.
    pub(crate) unwanted: Mutex<BTreeSet<PeerId>>,
    /// Where others reach this node, with `/p2p/ID`.
    pub(crate) addresses: RwLock<Vec<Multiaddr>>,
    /// Peers a test keeps apart, if any.
    pub(crate) blocks: Option<TestBlocks>,
    /// Wakes the driver when `dialer` or `unwanted` changed.
    pub(crate) changed: Notify,
}

impl Shared {
    pub(crate) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        read(&self.links).get(&node).cloned()
    }

    /// Whether a test keeps this node apart from a peer.
    pub(crate) fn is_blocked(&self, peer: &PeerId) -> bool {
        self.blocks
            .as_ref()
            .is_some_and(|blocks| blocks.contains(peer))
    }
}
