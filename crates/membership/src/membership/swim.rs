//! SWIM: what foca wants, and what is made of it.

use foca::{Message, Notification, Runtime, State, Timer};

use super::*;

/// Collects what foca wants during one call.
#[derive(Default)]
pub(super) struct Wishes {
    sends: Vec<(SwimId, Vec<u8>)>,
    timers: Vec<(Duration, Timer<SwimId>)>,
    touched: Vec<NodeId>,
    rejoined: bool,
    defunct: bool,
}

impl Runtime<SwimId> for Wishes {
    fn notify(&mut self, notification: Notification<'_, SwimId>) {
        match notification {
            Notification::MemberUp(id) | Notification::MemberDown(id) => {
                self.touched.push(id.node);
            }
            Notification::Rename(_, id) => self.touched.push(id.node),
            Notification::Rejoin(_) => self.rejoined = true,
            Notification::Defunct => self.defunct = true,
            Notification::Active | Notification::Idle => {}
        }
    }

    fn send_to(&mut self, to: SwimId, data: &[u8]) {
        self.sends.push((to, wire::swim_frame(data)));
    }

    fn submit_after(&mut self, event: Timer<SwimId>, after: Duration) {
        self.timers.push((after, event));
    }
}

impl Membership {
    pub(super) fn act_swim(&mut self, timer: Timer<SwimId>) {
        if let Timer::ChangeSuspectToDown {
            member_id,
            incarnation,
            ..
        } = &timer
        {
            // foca 2.0.0 tells a member that it is dead when this timer fires, although it has
            // objected in time; it then comes back under a new identity for nothing.
            let accused = foca::Member::new(*member_id, *incarnation, State::Suspect);
            if self.find(member_id.node) != Some(&accused) {
                return;
            }
            let suspicion = (*member_id, *incarnation);
            if self.health.score() > 0 && self.reprieved.get(&member_id.node) != Some(&suspicion) {
                self.reprieved.insert(member_id.node, suspicion);
                self.stats.reprieves += 1;
                let more = self.config.suspicion.saturating_mul(self.health.score());
                self.timers
                    .set(self.now.saturating_add(more), Due::Swim(timer));
                return;
            }
        }
        if matches!(timer, Timer::ProbeRandomMember(_)) {
            self.health.probe_ends(self.swim.num_members());
        }
        let asks_others = matches!(timer, Timer::SendIndirectProbe { .. });
        let sent = self.stats.packets_out;
        let forgotten = match &timer {
            Timer::RemoveDown(id) => Some(id.node),
            _ => None,
        };
        self.with_swim(|swim, wishes| swim.handle_timer(timer, wishes));
        // foca asks others to probe only when the direct answer is missing.
        if asks_others && self.stats.packets_out > sent {
            self.health.missed();
        }
        if let Some(node) = forgotten
            && self.find(node).is_none()
        {
            self.cards.remove(node);
            self.reprieved.remove(&node);
        }
    }

    pub(super) fn handle_swim(&mut self, from: NodeId, body: &[u8]) -> Option<()> {
        let SwimPacket { header, updates } = wire::read_swim(body).ok()?;
        if header.src.node != from || self.is_flood(&header.src, &updates) {
            return None;
        }
        let own = *self.swim.identity();
        let accuses =
            |news: &foca::Member<SwimId>| *news.id() == own && news.state() == State::Suspect;
        if updates.iter().any(accuses) {
            self.health.accused();
        }
        for other in updates
            .iter()
            .map(|update| *update.id())
            .filter(|id| id.node == own.node)
        {
            if other.inc > own.inc {
                self.become_defunct(other.inc);
                return Some(());
            }
            if other.inc == own.inc && other.bump > own.bump {
                // Left over from before a restart: foca would declare it down and so flap.
                match other.bumped(1) {
                    Some(id) => self.change_identity(id),
                    None => self.become_defunct(own.inc),
                }
                self.greet(from);
                return Some(());
            }
        }
        let announced = header.message == Message::Announce;
        self.with_swim(|swim, wishes| swim.handle_data(body, wishes));
        if self.is_up(from) {
            self.joins.remove(&from);
            if announced {
                self.offer_all(from);
            }
        }
        Some(())
    }

    /// True when a packet would bring more names than we keep.
    pub(super) fn is_flood(&self, src: &SwimId, updates: &[foca::Member<SwimId>]) -> bool {
        let room = MEMBERS_MAX.saturating_sub(self.swim.iter_membership_state().len());
        let names = || {
            updates
                .iter()
                .map(|update| update.id().node)
                .chain([src.node])
        };
        updates.len() >= room && names().filter(|node| self.find(*node).is_none()).count() > room
    }

    /// Runs foca and turns what it wanted into outputs. Its errors are faults of the packet, which
    /// was checked before, or of the timer queue; it goes on after either.
    pub(super) fn with_swim(
        &mut self,
        call: impl FnOnce(&mut Swim, &mut Wishes) -> Result<(), foca::Error>,
    ) {
        let mut wishes = Wishes::default();
        let _outcome = call(&mut self.swim, &mut wishes);
        self.apply_wishes(wishes);
    }

    pub(super) fn apply_wishes(&mut self, wishes: Wishes) {
        for (after, timer) in wishes.timers {
            self.timers
                .set(self.now.saturating_add(after), Due::Swim(timer));
        }
        for (to, bytes) in wishes.sends {
            if to.node != self.node() {
                self.send(to.node, bytes);
            }
        }
        for node in wishes.touched {
            self.report(node);
        }
        if wishes.rejoined {
            self.rejoined();
        }
        if wishes.defunct {
            self.become_defunct(self.member().inc);
        }
    }

    /// Reports the difference between what was told about a node and what is known.
    pub(super) fn report(&mut self, node: NodeId) {
        if node == self.node() {
            return;
        }
        let known = self
            .find(node)
            .map(|member| (member.id().inc, state_of(member)));
        let active = known
            .filter(|(_, state)| state.is_active())
            .map(|(inc, _)| inc);
        let before = self.told.get(&node).copied();
        if before == active {
            return;
        }
        if let Some(inc) = before {
            let member = Member { node, inc };
            let left = known.is_some_and(|known| known == (inc, MemberState::Left));
            self.told.remove(&node);
            self.events.push_back(if left {
                Output::Left(member)
            } else {
                Output::Down(member)
            });
        }
        if let Some(inc) = active {
            self.told.insert(node, inc);
            self.joins.remove(&node);
            self.events.push_back(Output::Up(Member { node, inc }));
            if !self.has_card(node, inc) {
                if self.told.len() <= DIRECT_WANTS_MAX {
                    self.send(node, wire::want_frame(&[node]));
                }
                self.wake_for_missing();
            }
            self.wake_for_cards();
        }
    }

    pub(super) fn rejoined(&mut self) {
        self.stats.rejoins += 1;
        let recent = |at| self.now.saturating_sub(at) < REJOIN_WINDOW;
        if self.rejoined_at.is_some_and(recent) {
            self.rejoin_step = self.rejoin_step.saturating_mul(2);
            if let Some(id) = self.swim.identity().bumped(self.rejoin_step) {
                self.change_identity(id);
            }
        } else {
            self.rejoin_step = 1;
            self.events.push_back(Output::Rejoined);
        }
        self.rejoined_at = Some(self.now);
    }

    pub(super) fn change_identity(&mut self, id: SwimId) {
        self.with_swim(|swim, wishes| swim.change_identity(id, wishes));
    }

    pub(super) fn become_defunct(&mut self, seen: Incarnation) {
        if self.phase == Phase::Running {
            self.phase = Phase::Defunct;
            self.timers.clear();
            self.events.push_back(Output::Defunct { seen });
        }
    }

    /// Announces ourselves, our card first: who wants to answer needs an address.
    pub(super) fn greet(&mut self, to: NodeId) {
        self.push_card(to, self.node());
        let known = self.find(to).map(|member| *member.id());
        let unknown = || {
            SwimId::new(Member {
                node: to,
                inc: Incarnation(0),
            })
        };
        let dst = known.unwrap_or_else(unknown);
        self.with_swim(|swim, wishes| swim.announce(dst, wishes));
    }

    pub(super) fn repeat_joins(&mut self) {
        let mut again = Vec::new();
        self.joins.retain(|to, left| {
            *left -= 1;
            again.push(*to);
            *left > 0
        });
        if !self.joins.is_empty() {
            self.timers
                .set(self.now.saturating_add(JOIN_RETRY), Due::Join);
        }
        for to in again {
            self.greet(to);
        }
    }

    pub(super) fn heal(&mut self) {
        self.timers.set(
            self.now.saturating_add(self.config.heal_interval),
            Due::Heal,
        );
        let dead: Vec<NodeId> = self
            .swim
            .iter_membership_state()
            .filter(|member| state_of(member) == MemberState::Dead)
            .map(|member| member.id().node)
            .filter(|node| *node != self.node())
            .collect();
        for to in self.pick(&dead, HEAL_FANOUT) {
            self.greet(to);
        }
        // Cards come before their owners or without them; who is unknown by now is nobody.
        if self.cards.len() > self.swim.iter_membership_state().len() {
            let swim = &self.swim;
            self.cards
                .retain(|node| swim.iter_membership_state().any(|m| m.id().node == node));
        }
    }

    pub(super) fn pick(&mut self, from: &[NodeId], wanted: usize) -> Vec<NodeId> {
        let chosen = index::sample(&mut self.rng, from.len(), wanted.min(from.len()));
        chosen
            .into_iter()
            .filter_map(|at| from.get(at).copied())
            .collect()
    }

    pub(super) fn send(&mut self, to: NodeId, bytes: Vec<u8>) {
        if self.sends.len() >= SENDS_MAX {
            self.stats.packets_dropped += 1;
            return;
        }
        self.stats.packets_out += 1;
        self.sends.push_back(Output::Send { to, bytes });
    }
}
