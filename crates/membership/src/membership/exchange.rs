//! How cards spread: offers of what is new, requests, answers.

use super::*;

impl Membership {
    pub(super) fn handle_digest(&mut self, from: NodeId, offers: &[Offer]) {
        let mut wanted = Vec::new();
        let mut newer = Vec::new();
        for offer in offers {
            let theirs = (offer.inc, offer.version);
            match self.cards.get(offer.node).map(NodeCard::rank) {
                Some(ours) if ours > theirs => newer.push(offer.node),
                Some(ours) if ours == theirs => {}
                _ if offer.node == self.node() => self.outlived_by(offer.inc, offer.version),
                None if self.cards.len() + wanted.len() >= MEMBERS_MAX => {}
                _ => wanted.push(offer.node),
            }
        }
        if !wanted.is_empty() {
            self.send(from, wire::want_frame(&wanted));
        }
        for node in newer.into_iter().take(PUSHES_MAX) {
            self.push_card(from, node);
        }
    }

    pub(super) fn handle_card(&mut self, card: NodeCard) -> Option<()> {
        card.check().ok()?;
        if card.node == self.node() {
            if card.rank() > self.cards.own().rank() {
                self.outlived_by(card.inc, card.version);
            }
            return Some(());
        }
        if self.cards.get(card.node).is_none() && self.cards.len() >= MEMBERS_MAX {
            return None;
        }
        let node = card.node;
        if self.cards.insert(card) {
            self.events.push_back(Output::Card(node));
            self.wake_for_cards();
        }
        Some(())
    }

    /// Others hold a later card of ours than we do: from before a restart, or of a later life.
    pub(super) fn outlived_by(&mut self, inc: Incarnation, version: u64) {
        if inc > self.member().inc {
            self.become_defunct(inc);
            return;
        }
        let mut card = self.cards.own().clone();
        card.version = version.saturating_add(1);
        self.cards.set_own(card);
        self.wake_for_cards();
    }

    pub(super) fn push_card(&mut self, to: NodeId, node: NodeId) {
        if let Some(card) = self.cards.get(node) {
            let frame = wire::card_frame(card);
            self.send(to, frame);
        }
    }

    pub(super) fn wake_for_cards(&mut self) {
        let running = self.phase == Phase::Running;
        if running && self.cards.has_hot() && !self.timers.is_set_for_cards() {
            self.timers.set(
                self.now.saturating_add(self.config.gossip_interval),
                Due::Cards,
            );
        }
    }

    pub(super) fn offer_cards(&mut self) {
        let active = self.swim.num_members();
        if active == 0 {
            // Nobody to tell: the next one to come up sets this off again.
            return;
        }
        let frame = wire::digest_frame(&self.cards.take_hot());
        let fanout = self.config.gossip_fanout.min(active);
        let chosen = index::sample(&mut self.rng, active, fanout);
        let nth = |at| self.swim.iter_members().nth(at).map(|m| m.id().node);
        let chosen: Vec<NodeId> = chosen.into_iter().filter_map(nth).collect();
        for to in chosen {
            self.send(to, frame.clone());
        }
        self.wake_for_cards();
    }

    pub(super) fn has_card(&self, node: NodeId, inc: Incarnation) -> bool {
        self.cards.get(node).is_some_and(|card| card.inc == inc)
    }

    pub(super) fn wake_for_missing(&mut self) {
        if !self.timers.is_set_for_missing() {
            self.timers
                .set(self.now.saturating_add(CARD_RETRY), Due::Missing);
        }
    }

    /// Asks others for the cards of members whose own did not come. Offers are passed on a few
    /// times only, and without its card a member has no address: it could never be asked itself.
    pub(super) fn ask_for_cards(&mut self) {
        let is_missing = |(node, inc): &(&NodeId, &Incarnation)| !self.has_card(**node, **inc);
        let (missing, known): (Vec<_>, Vec<_>) = self.told.iter().partition(is_missing);
        if missing.is_empty() {
            return;
        }
        let missing: Vec<NodeId> = missing.into_iter().map(|(node, _)| *node).collect();
        let known: Vec<NodeId> = known.into_iter().map(|(node, _)| *node).collect();
        // Another choice each time: who is asked may not have them all, and answers some.
        let wanted = self.pick(&missing, PUSHES_MAX);
        for to in self.pick(&known, self.config.gossip_fanout) {
            self.send(to, wire::want_frame(&wanted));
        }
        // It may have a link to us that we do not know of.
        for to in self.pick(&missing, self.config.gossip_fanout) {
            self.send(to, wire::want_frame(&[to]));
        }
        self.wake_for_missing();
    }

    pub(super) fn offer_all(&mut self, to: NodeId) {
        let offers = self.cards.offers(|node| self.is_up(node));
        for page in offers.chunks(DIGEST_ENTRIES_MAX) {
            self.send(to, wire::digest_frame(page));
        }
    }
}
