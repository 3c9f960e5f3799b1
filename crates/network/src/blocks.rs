//! Peers that a test keeps apart: partitions where nobody may touch the network itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use libp2p::PeerId;
use tokio::sync::watch;

/// Peers a node is kept apart from, for tests of what it does in a partition.
///
/// While a peer is in here the node has no connection to it: the one there was is cut, with what
/// was queued, dials are not made, and whoever is dialled by it hangs up before a word is said. A
/// partition is two nodes that have each other in here; one entry alone already parts them, but the
/// other side goes on dialling.
///
/// A node looks at one only if it was given one in
/// [`NetworkConfig::test_blocks`](crate::NetworkConfig), where there is none by default: nothing
/// that arrives over the network leads here. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct TestBlocks {
    peers: Arc<watch::Sender<BTreeSet<PeerId>>>,
}

impl TestBlocks {
    /// Nobody is kept apart yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the node apart from these peers and from no others. Connections with newly blocked
    /// ones end soon after, not before this returns.
    pub fn set(&self, peers: BTreeSet<PeerId>) {
        self.peers.send_replace(peers);
    }

    /// Whether a peer is kept apart now.
    #[must_use]
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.peers.borrow().contains(peer)
    }

    /// Told of each change.
    pub(crate) fn watch(&self) -> watch::Receiver<BTreeSet<PeerId>> {
        self.peers.subscribe()
    }
}

/// Waits for the next change; for ever, where there is nothing that can change.
pub(crate) async fn changed(blocks: &mut Option<watch::Receiver<BTreeSet<PeerId>>>) {
    let changed = match blocks {
        Some(blocks) => blocks.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}
