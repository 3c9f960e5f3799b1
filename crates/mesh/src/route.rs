//! Where a shard's requests go (rule R15): which group is its home, and who leads it.

use cpe_membership::{Member, NodeId};
use cpe_space::{Config, OpId, ShardId};

use crate::Event;
use crate::client::SHOW_EVERY_TRIES;
use crate::guard::{Guard, holds};
use crate::peer::{Peer, Timer};
use crate::wire::Message;

/// Nodes that a member remembers as having asked it in vain, of each shard. More wait for their
/// next try.
const ASKERS_MAX: usize = 1_024;

impl Peer {
    /// Somebody knows the shard's home better.
    pub(crate) fn learn_home(&mut self, shard: ShardId, config: Config) {
        let Some(slot) = self.slot(shard) else { return };
        let members = 1..=Config::MAX_MEMBERS;
        let older = config.epoch <= slot.map.epoch && holds(Guard::NewestHome);
        let older = older || slot.is_foreign(config.epoch);
        if older || config == slot.map || !members.contains(&config.members.len()) {
            return;
        }
        slot.map = config.clone();
        slot.leader = None;
        slot.seat.hear(config.epoch);
        self.event(Event::Moved(shard, config));
        self.wake_clients(shard);
    }

    /// Where to send a request: to who is believed to lead, else to one member after the other
    /// (rule R15).
    pub(crate) fn home_for(&self, shard: ShardId, tries: u32) -> Option<NodeId> {
        let slot = self.slot_ref(shard)?;
        if slot.volatile {
            return self.home_in_memory(shard, tries);
        }
        let members = &slot.map.members;
        if let Some(leader) = self.leader_of(shard)
            && tries % SHOW_EVERY_TRIES != SHOW_EVERY_TRIES - 1
        {
            return Some(leader);
        }
        let linked =
            |member: &&Member| member.node == self.me.node || self.links.contains(&member.node);
        let reachable: Vec<NodeId> = members.iter().filter(linked).map(|m| m.node).collect();
        let nth = usize::try_from(tries).unwrap_or(0) % reachable.len().max(1);
        let first = || members.first().map(|member| member.node);
        reachable.get(nth).copied().or_else(first)
    }

    /// Who is believed to lead the home group.
    pub(crate) fn leader_of(&self, shard: ShardId) -> Option<NodeId> {
        let slot = self.slot_ref(shard)?;
        if slot.home.is_some() {
            return Some(self.me.node);
        }
        let told = slot.leader.filter(|leader| *leader != self.me.node);
        let elected = slot.seat.group().and_then(cpe_consensus::Group::leader);
        let elected = elected.map(|member| member.node);
        let elected = elected.filter(|leader| *leader != self.me.node);
        told.or(elected)
            .filter(|leader| slot.map.members.iter().any(|m| m.node == *leader))
    }

    /// An answer that only a leader gives.
    pub(crate) fn found_leader(&mut self, from: NodeId, shard: ShardId) {
        if let Some(slot) = self.slot(shard)
            && slot.map.members.iter().any(|member| member.node == from)
        {
            slot.leader = Some(from);
        }
    }

    /// Somebody asks this node, which does not lead. One who asks often enough to be refused by all
    /// members is told once one of them does lead, and need not wait for its next try, which comes
    /// the later the longer nobody did.
    pub(crate) fn note_asker(&mut self, from: NodeId, shard: ShardId) {
        if let Some(slot) = self.slot(shard)
            && slot.seat.group().is_some()
            && slot.askers.len() < ASKERS_MAX
        {
            slot.askers.insert(from);
        }
    }

    /// This node leads the shard's group since now: tells its members, and who asked before.
    pub(crate) fn tell_askers(&mut self, shard: ShardId) {
        let me = self.me.node;
        let Some(slot) = self.slot(shard) else { return };
        let mut told = std::mem::take(&mut slot.askers);
        let Some(group) = slot.seat.group() else {
            return;
        };
        let epoch = group.epoch();
        told.extend(group.members().iter().map(|member| member.node));
        told.remove(&me);
        for node in told {
            self.send_if(node, Message::Leads { shard, epoch });
        }
    }

    /// A member of the home group says that it leads since now.
    pub(crate) fn leads_now(&mut self, from: NodeId, shard: ShardId, epoch: u64) {
        let (now, pause) = (self.now, self.config.retry_first);
        let Some(slot) = self.slot(shard) else { return };
        if slot.home.is_some() || epoch != slot.map.epoch || slot.leader == Some(from) {
            return;
        }
        self.found_leader(from, shard);
        // Two that both say so must not keep requests flying between them.
        if let Some(slot) = self.slot(shard)
            && slot.leader == Some(from)
            && slot.redirect_after <= now
        {
            slot.redirect_after = now + pause;
            self.wake_clients(shard);
        }
    }

    /// A member of the home group did nothing, for it does not lead (space.md, 2.7).
    pub(crate) fn not_leader(
        &mut self,
        from: NodeId,
        shard: ShardId,
        epoch: u64,
        leader: Option<NodeId>,
        op: Option<(OpId, u32)>,
    ) {
        if let Some((id, attempt)) = op {
            self.refused(shard, id, attempt);
        }
        let (now, pause) = (self.now, self.config.retry_first);
        let Some(slot) = self.slot(shard) else { return };
        if epoch < slot.map.epoch {
            return self.tell_epoch(from, shard);
        }
        if slot.home.is_some() {
            return;
        }
        let known = slot.leader;
        slot.leader.take_if(|leader| *leader == from);
        if let Some(leader) = leader
            && leader != from
            && slot.map.members.iter().any(|m| m.node == leader)
        {
            slot.leader = Some(leader);
        }
        // Two that name each other must not keep requests flying between them: news is acted upon
        // at once now and then, else with the next try.
        if slot.leader.is_some() && slot.leader != known && slot.redirect_after <= now {
            slot.redirect_after = now + pause;
            self.wake_clients(shard);
        }
    }

    /// What waits for the shard's home need not wait for its timer.
    pub(crate) fn wake_clients(&mut self, shard: ShardId) {
        self.renew_soon(shard);
        for seq in self.open_ops(shard) {
            self.timers.set(Timer::Op(shard, seq), self.now);
        }
        if self
            .slot_ref(shard)
            .is_some_and(|slot| slot.client.outbox_len() > 0)
        {
            self.timers.set(Timer::Stores(shard), self.now);
        }
    }
}
