//! The table of node cards and which of them to offer.

use std::collections::BTreeMap;

use crate::wire::{DIGEST_ENTRIES_MAX, Offer};
use crate::{NodeCard, NodeId};

/// The cards a node knows, its own among them, and how often each new one is still offered.
#[derive(Debug)]
pub(crate) struct Cards {
    own: NodeCard,
    others: BTreeMap<NodeId, NodeCard>,
    hot: BTreeMap<NodeId, u8>,
    transmissions: u8,
}

impl Cards {
    pub(crate) fn new(own: NodeCard, transmissions: u8) -> Self {
        Self {
            own,
            others: BTreeMap::new(),
            hot: BTreeMap::new(),
            transmissions,
        }
    }

    pub(crate) fn own(&self) -> &NodeCard {
        &self.own
    }

    pub(crate) fn set_own(&mut self, card: NodeCard) {
        self.hot.insert(card.node, self.transmissions);
        self.own = card;
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&NodeCard> {
        if node == self.own.node {
            Some(&self.own)
        } else {
            self.others.get(&node)
        }
    }

    /// Cards of others.
    pub(crate) fn len(&self) -> usize {
        self.others.len()
    }

    /// Takes another node's card if it is newer than the one at hand.
    pub(crate) fn insert(&mut self, card: NodeCard) -> bool {
        let newer = self
            .others
            .get(&card.node)
            .is_none_or(|old| old.rank() < card.rank());
        if newer {
            self.hot.insert(card.node, self.transmissions);
            self.others.insert(card.node, card);
        }
        newer
    }

    pub(crate) fn remove(&mut self, node: NodeId) {
        self.others.remove(&node);
        self.hot.remove(&node);
    }

    /// Forgets the cards of other nodes that `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.others.retain(|node, _| keep(*node));
        self.hot
            .retain(|node, _| keep(*node) || *node == self.own.node);
    }

    pub(crate) fn offer(card: &NodeCard) -> Offer {
        Offer {
            node: card.node,
            inc: card.inc,
            version: card.version,
        }
    }

    /// The next new cards to offer, each counted as offered once.
    pub(crate) fn take_hot(&mut self) -> Vec<Offer> {
        // The least offered first, so that a burst of old news does not hold up the new.
        let mut order: Vec<(u8, NodeId)> = self.hot.iter().map(|(node, n)| (*n, *node)).collect();
        let least_offered = |a: &(u8, NodeId), b: &(u8, NodeId)| b.cmp(a);
        if order.len() > DIGEST_ENTRIES_MAX {
            // While a large mesh forms nearly all cards are new, and few are offered at a time.
            order.select_nth_unstable_by(DIGEST_ENTRIES_MAX, least_offered);
            order.truncate(DIGEST_ENTRIES_MAX);
        }
        order.sort_unstable_by(least_offered);
        let mut offers = Vec::with_capacity(order.len());
        for (left, node) in order {
            match left {
                0 | 1 => self.hot.remove(&node),
                _ => self.hot.insert(node, left - 1),
            };
            offers.extend(self.get(node).map(Self::offer));
        }
        offers
    }

    pub(crate) fn has_hot(&self) -> bool {
        !self.hot.is_empty()
    }

    /// Every card whose owner `keep` accepts, and our own.
    pub(crate) fn offers(&self, keep: impl Fn(NodeId) -> bool) -> Vec<Offer> {
        let others = self.others.values().filter(|card| keep(card.node));
        others.chain([&self.own]).map(Self::offer).collect()
    }
}
