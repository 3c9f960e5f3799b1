//! Leases of nodes that host actors (rules A1, A2 and A7): until when this node may let actors act,
//! and, of the nodes whose records it leads, when their lives are over.
//!
//! Two clocks count the same lease. The *holder* counts from the moment it sent a renewal, and
//! stops early enough for both clocks to be wrong; the *leader* of its record counts from the
//! moment the renewal arrived, and grants it only once a majority has said, after that, that it
//! promised nobody else. So whoever leads next begins to count after every renewal that was
//! granted was sent. A renewal is a message and no command: with one a second of each node they
//! would be the largest part of any history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::{Applied, Command, NODE_LEASE_MAX, NODE_LEASE_MIN, Name, Outcome, ShardId};
use cpe_tuple::Value;

use crate::guard::{Guard, holds};
use crate::io::{Event, Output};
use crate::peer::{Peer, Timer};
use crate::request::Request;
use crate::wire::{Message, Operation};
use crate::{Failure, Reply, RequestId};

/// Workspace that names records of nodes: that of a node is in the shard of its id here.
const NODES: &str = "#node";

/// How wrong a clock may be, in per cent of the time that passes: what rule A1 assumes of the
/// holder's and of the leader's. A quartz is wrong by less than a hundredth of this; virtual
/// machines that are moved have been seen to be worse.
pub(crate) const DRIFT_PERCENT: u32 = 5;

/// What the holder stops earlier still: the time between a look at the clock and the act.
pub(crate) const STOP_EARLY: Duration = Duration::from_millis(100);

/// A lease is renewed this many times in its length, so that a few lost messages, or one election,
/// end no life.
const RENEWALS: u32 = 5;

/// For how long after a renewal was sent its holder may act, by its own clock (rule A1).
///
/// The leader's clock may be fast and the holder's slow: a lease that is over for the one after
/// `lease / (1 + drift)` of true time has been `lease * (1 - drift) / (1 + drift)` for the other.
#[must_use]
pub(crate) fn may_act_for(lease: Duration) -> Duration {
    let safe = lease * (100 - DRIFT_PERCENT) / (100 + DRIFT_PERCENT);
    safe.saturating_sub(STOP_EARLY)
}

/// What this node is as a host of actors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hosting {
    /// It hosts none: it costs nobody anything.
    #[default]
    Off,
    /// It has asked for a life.
    Asking,
    /// It has this life, and renews its lease.
    Living(Member),
}

/// The holder's side.
#[derive(Debug, Default)]
pub(crate) struct Holder {
    hosting: Hosting,
    /// Until when it may act, by its own clock.
    until: Duration,
    /// An operation asks for a life: there is never a second one, or the life that the first
    /// brought would end while it is used.
    asked: bool,
    /// It has lost a life, or given one up: what ran under it is not known to be gone before the
    /// node enlists again.
    lost: bool,
    /// Renewals sent since one was granted.
    tries: u32,
    /// Requests of the node that wait for it to be allowed to act.
    waiting: BTreeSet<RequestId>,
}

/// A renewal that waits for a majority to confirm that this node leads.
#[derive(Clone, Copy, Debug)]
struct Renewal {
    from: NodeId,
    life: Member,
    sent: u64,
}

/// The leader's side: volatile, and lost with the lead.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// By shard, epoch and ticket.
    confirming: BTreeMap<(ShardId, u64, u64), Renewal>,
    /// Confirmed, until an index is applied.
    confirmed: BTreeMap<ShardId, Vec<(u64, Renewal)>>,
    /// Lives whose end this node has proposed: they are renewed no more.
    voiding: BTreeSet<(ShardId, Member)>,
    /// The newest life of each node that this replica has shown to be over.
    over: BTreeMap<NodeId, Incarnation>,
}

impl Peer {
    /// Until when this node may let actors act, by its own clock, and in which life: what it has
    /// said by [`Output::MayAct`] last.
    #[must_use]
    pub fn may_act(&self) -> Option<(Member, Duration)> {
        match self.holder.hosting {
            Hosting::Living(life) if self.holder.until > Duration::ZERO => {
                Some((life, self.holder.until))
            }
            _ => None,
        }
    }

    /// The life of this node as a host, whether it may act or not.
    pub(crate) fn life(&self) -> Option<Member> {
        match self.holder.hosting {
            Hosting::Living(life) => Some(life),
            Hosting::Off | Hosting::Asking => None,
        }
    }

    /// The life in which this node may act right now.
    pub(crate) fn acting_life(&self) -> Option<Member> {
        let (life, until) = self.may_act()?;
        (self.now < until).then_some(life)
    }

    /// The shard that keeps the record of a node as a host.
    pub(crate) fn host_shard(&self, node: NodeId) -> ShardId {
        let variable = Value::String(node.to_string());
        Name::new(NODES).map_or(ShardId(0), |nodes| self.shard_for(&nodes, &variable))
    }

    /// Whether this replica shows that a life is over (rule A2). It may not have heard of it yet.
    pub(crate) fn is_over(&self, life: Member) -> bool {
        let slot = self.slot_ref(self.host_shard(life.node));
        let record = slot.and_then(|slot| slot.shard.sm().host(life.node));
        record.is_some_and(|record| record.is_over(life.inc))
    }

    /// Whether this replica shows that a life was begun and is not over.
    pub(crate) fn lives(&self, life: Member) -> bool {
        let slot = self.slot_ref(self.host_shard(life.node));
        let record = slot.and_then(|slot| slot.shard.sm().host(life.node));
        record.and_then(|record| record.living()) == Some(life)
    }

    /// Some actor of the mesh is hosted under a lease: others are to take it over should its host
    /// die.
    pub(crate) fn stand_by(&mut self) {
        let off = self.holder.hosting == Hosting::Off && !self.holder.lost;
        if off && self.config.stands_by {
            self.ask_for_life();
        }
    }

    /// The node hosts actors from now on.
    pub(crate) fn enlist(&mut self, request: RequestId) {
        if let Some(life) = self.acting_life() {
            return self.finish(request, Reply::Enlisted(life));
        }
        self.holder.lost = false;
        self.requests.insert(request, Request::Enlist);
        self.holder.waiting.insert(request);
        if self.holder.hosting == Hosting::Off {
            self.ask_for_life();
        }
    }

    pub(crate) fn forget_enlisting(&mut self, request: RequestId) {
        self.holder.waiting.remove(&request);
    }

    /// The time of a request to host is up. The node goes on trying.
    pub(crate) fn enlisting_over(&mut self, request: RequestId) {
        let shard = self.host_shard(self.me.node);
        let why = match self.holder.hosting {
            Hosting::Living(_) => "it has granted no lease in time",
            _ => "it has given this node no life as a host in time",
        };
        let failure = Failure::Unavailable {
            shard: shard.0,
            why: why.to_owned(),
        };
        self.finish(request, Reply::Failed(failure));
    }

    fn ask_for_life(&mut self) {
        self.holder.hosting = Hosting::Asking;
        if self.holder.asked {
            return;
        }
        let lease_ms = u64::try_from(self.node_lease().as_millis()).unwrap_or(u64::MAX);
        let shard = self.host_shard(self.me.node);
        if let Some(seq) = self.new_op(None, shard, Operation::Enlist { lease_ms }) {
            self.holder.asked = true;
            self.send_op(shard, seq);
        } else {
            let again = self.now + self.config.retry_max;
            self.timers.set(Timer::Renew, again);
        }
    }

    /// The lease as its record has it.
    fn node_lease(&self) -> Duration {
        let lease = self.config.node_lease.clamp(NODE_LEASE_MIN, NODE_LEASE_MAX);
        Duration::from_millis(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX))
    }

    /// What the home said to that.
    pub(crate) fn enlisted(&mut self, outcome: &Outcome) {
        self.holder.asked = false;
        if self.holder.hosting != Hosting::Asking {
            return;
        }
        match outcome {
            Outcome::Enlisted(life) => {
                self.holder.hosting = Hosting::Living(*life);
                (self.holder.until, self.holder.tries) = (Duration::ZERO, 0);
                self.timers.set(Timer::Renew, self.now);
            }
            // A life of this node with a data folder that is gone has to run out first.
            _ => {
                let again = self.now + self.node_lease() / RENEWALS;
                self.timers.set(Timer::Renew, again);
            }
        }
    }

    /// It is time to renew, or to ask for a life again.
    pub(crate) fn renew(&mut self) {
        let life = match self.holder.hosting {
            Hosting::Off => return,
            Hosting::Asking => return self.ask_for_life(),
            Hosting::Living(life) => life,
        };
        let shard = self.host_shard(self.me.node);
        let tries = self.holder.tries;
        self.holder.tries = tries.saturating_add(1);
        let every = self.node_lease() / RENEWALS;
        // One that was not granted is not waited for as long.
        let pause = if tries == 0 {
            every
        } else {
            every.min(self.config.retry_first * 4)
        };
        self.timers.set(Timer::Renew, self.now + pause);
        // Cut off: rather earlier than it was.
        let sent = u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX);
        if let Some(home) = self.home_for(shard, tries) {
            self.send_if(home, Message::Renew { shard, life, sent });
        }
    }

    /// The leader of this node's record, or a hint who that is, is new.
    pub(crate) fn renew_soon(&mut self, shard: ShardId) {
        if matches!(self.holder.hosting, Hosting::Living(_))
            && shard == self.host_shard(self.me.node)
        {
            self.timers.set(Timer::Renew, self.now);
        }
    }

    /// A renewal that this node sent at `sent` is granted.
    pub(crate) fn granted(&mut self, life: Member, sent: u64) {
        let sent = Duration::from_micros(sent);
        if self.holder.hosting != Hosting::Living(life) || sent > self.now {
            return;
        }
        self.holder.tries = 0;
        let lease = self.node_lease();
        self.timers.set(Timer::Renew, sent + lease / RENEWALS);
        let until = if holds(Guard::StopEarly) {
            sent + may_act_for(lease)
        } else {
            self.now + lease
        };
        if until <= self.holder.until {
            return;
        }
        let first = std::mem::replace(&mut self.holder.until, until).is_zero();
        if first {
            self.seek_left();
        }
        self.claim_soon();
        self.put_output(Output::MayAct { life, until });
        if first {
            for shard in self.all_shards() {
                self.take_moved(shard);
            }
            self.send_all_effects();
        }
        if self.now < until {
            for request in std::mem::take(&mut self.holder.waiting) {
                self.finish(request, Reply::Enlisted(life));
            }
        }
    }

    /// A life of this node is over, as its home says or this replica shows.
    pub(crate) fn told_over(&mut self, life: Member) {
        if self.holder.hosting != Hosting::Living(life) {
            return;
        }
        self.holder.hosting = Hosting::Off;
        self.timers.clear(&Timer::Renew);
        if std::mem::take(&mut self.holder.until).is_zero() {
            // Nothing ever ran under it.
            if !self.holder.waiting.is_empty() {
                self.ask_for_life();
            }
            return;
        }
        self.holder.lost = true;
        self.put_output(Output::Voided { life });
        // Nothing more is taken for what ran under it.
        self.timers.set(Timer::Effects, self.now);
        for request in std::mem::take(&mut self.holder.waiting) {
            let why = "its lease ran out before it was granted again; ask once more".to_owned();
            let shard = self.host_shard(life.node).0;
            self.finish(request, Reply::Failed(Failure::Unavailable { shard, why }));
        }
    }

    /// The node hosts no actors any more, and has stopped those it had: others need not wait for
    /// its lease to run out.
    pub(crate) fn say_good_bye(&mut self) {
        self.holder.lost = true;
        let Hosting::Living(life) = self.holder.hosting else {
            self.holder.hosting = Hosting::Off;
            return;
        };
        self.told_over(life);
        let shard = self.host_shard(life.node);
        if let Some(home) = self.home_for(shard, 0) {
            self.send_if(home, Message::GoodBye { shard, life });
        }
    }

    /// A node asks for its lease to be renewed.
    pub(crate) fn serve_renew(&mut self, from: NodeId, shard: ShardId, life: Member, sent: u64) {
        if life.node != from || shard != self.host_shard(from) {
            return self.malformed(Some(from), "a renewal in another node's name".to_owned());
        }
        if self.is_over(life) && holds(Guard::VoidForEver) {
            self.send_if(from, Message::Over { life });
            return;
        }
        if !self.leads_for(from, shard, None) {
            return;
        }
        let renewal = Renewal { from, life, sent };
        // Counted from now even if it is not granted: later is safe.
        self.time_host(shard, from);
        if !holds(Guard::ConfirmRenewal) {
            return self.grant(shard, renewal);
        }
        let ticket = self.with_group(shard, |group, out| {
            // An earlier leader that stood still may propose an end when it goes on. Only a log
            // that a majority took over from this one keeps that from ever being decided.
            if !group.is_adopted() && holds(Guard::LogAdopted) {
                return None;
            }
            Some((group.epoch(), group.confirm(out)?))
        });
        if let Some((epoch, ticket)) = ticket.flatten() {
            self.proposed.insert(shard);
            let place = (shard, epoch, ticket);
            self.keeper.confirming.insert(place, renewal);
        }
    }

    /// A majority confirmed, after the renewal arrived, that this node leads.
    pub(crate) fn renewal_confirmed(
        &mut self,
        shard: ShardId,
        epoch: u64,
        ticket: u64,
        index: u64,
    ) {
        if let Some(renewal) = self.keeper.confirming.remove(&(shard, epoch, ticket)) {
            let waiting = self.keeper.confirmed.entry(shard).or_default();
            waiting.push((index, renewal));
            self.grant_confirmed(shard);
        }
    }

    /// Grants what was confirmed and whose index is applied.
    pub(crate) fn grant_confirmed(&mut self, shard: ShardId) {
        let Some(waiting) = self.keeper.confirmed.remove(&shard) else {
            return;
        };
        let applied = self
            .slot_ref(shard)
            .map_or(0, |it| it.shard.version().index);
        for (index, renewal) in waiting {
            if index <= applied {
                self.grant(shard, renewal);
            } else {
                let later = self.keeper.confirmed.entry(shard).or_default();
                later.push((index, renewal));
            }
        }
    }

    fn grant(&mut self, shard: ShardId, Renewal { from, life, sent }: Renewal) {
        let Some(slot) = self.slot_ref(shard).filter(|slot| slot.home.is_some()) else {
            return;
        };
        // A void that the leader before this one proposed is applied by now, if it is ever decided.
        let record = slot.shard.sm().host(from);
        let living = record.and_then(|record| record.living()) == Some(life);
        let ending = self.keeper.voiding.contains(&(shard, life)) && holds(Guard::VoidForEver);
        if living && !ending {
            self.count("node_leases_granted", 1);
            self.send_if(from, Message::Granted { life, sent });
        }
    }

    /// A node that stopped by itself says that its life is over.
    pub(crate) fn serve_good_bye(&mut self, from: NodeId, shard: ShardId, life: Member) {
        if life.node == from && shard == self.host_shard(from) {
            self.propose_void(shard, life);
        }
    }

    /// Times every life whose record this node begins to keep, each for its whole lease: what was
    /// granted before is not known, but was sent before this.
    pub(crate) fn time_hosts(&mut self, shard: ShardId) {
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let hosts: Vec<NodeId> = slot.shard.sm().hosts().map(|(node, _)| node).collect();
        for node in hosts {
            self.time_host(shard, node);
            if !holds(Guard::WholeLease) {
                self.timers.set(Timer::Host(shard, node), self.now);
            }
        }
    }

    /// This node keeps the records of a shard no longer.
    pub(crate) fn drop_hosts(&mut self, shard: ShardId) {
        let keeper = &mut self.keeper;
        keeper.confirming.retain(|(at, ..), _| *at != shard);
        keeper.confirmed.remove(&shard);
        keeper.voiding.retain(|(at, _)| *at != shard);
    }

    /// A lease begins anew.
    fn time_host(&mut self, shard: ShardId, node: NodeId) {
        let timer = Timer::Host(shard, node);
        let lease = self.slot_ref(shard).and_then(|slot| {
            slot.home.as_ref()?;
            let record = slot.shard.sm().host(node)?;
            record.living().map(|_| record.lease())
        });
        match lease {
            Some(lease) => self.timers.set(timer, self.now + lease),
            None => self.timers.clear(&timer),
        }
    }

    /// The leader's clock ran out for a node (rule A2).
    pub(crate) fn host_over(&mut self, shard: ShardId, node: NodeId) {
        let record = self.slot_ref(shard).and_then(|it| it.shard.sm().host(node));
        if let Some(life) = record.and_then(|record| record.living()) {
            self.propose_void(shard, life);
        }
    }

    fn propose_void(&mut self, shard: ShardId, life: Member) {
        let again = self.now + self.config.retry_max;
        let void = Command::Void { life };
        match self.with_home(shard, |_, _, log| log.propose(void)) {
            Some(true) => drop(self.keeper.voiding.insert((shard, life))),
            // No room, or a sealed epoch: whoever leads then sees to it.
            Some(false) => self.timers.set(Timer::Host(shard, life.node), again),
            None => {}
        }
    }

    /// What an entry just applied means for lives of nodes.
    pub(crate) fn host_applied(&mut self, shard: ShardId, applied: &Applied) {
        match applied {
            Applied::Voided(life) => {
                self.keeper.voiding.remove(&(shard, *life));
                self.time_host(shard, life.node);
                self.life_over(*life);
            }
            Applied::Done(_, Outcome::Enlisted(life)) => {
                self.time_host(shard, life.node);
                // The one before ended with it, at the latest.
                let inc = Incarnation(life.inc.0.saturating_sub(1));
                self.life_over(Member { inc, ..*life });
            }
            // Its host was gone before this replica heard of the claim.
            Applied::Done(_, Outcome::Claimed(record)) if record.leased => {
                self.stand_by();
                if let Some(life) = record.host.filter(|life| self.is_over(*life)) {
                    self.left_by(life);
                }
            }
            Applied::Done(_, Outcome::Moved(record)) => {
                if let Some(life) = record.host.filter(|life| self.is_over(*life)) {
                    self.left_by(life);
                }
                self.take_moved(shard);
            }
            _ => {}
        }
    }

    /// The replica of a shard took a state, and may show ends that no entry told of.
    pub(crate) fn hosts_installed(&mut self, shard: ShardId) {
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let over = slot.shard.sm().hosts().map(|(node, record)| Member {
            node,
            inc: record.newest_over(),
        });
        for life in over.collect::<Vec<_>>() {
            self.life_over(life);
        }
        self.seek_left();
        self.take_moved(shard);
        self.tell_all_named(shard);
        self.send_effects(shard);
    }

    /// This replica shows that a life is over, and with it those before.
    fn life_over(&mut self, life: Member) {
        let known = self.keeper.over.entry(life.node).or_default();
        if *known < life.inc {
            *known = life.inc;
            self.event(Event::Voided(life));
            self.told_over(life);
            self.left_by(life);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_stops_before_a_leader_gives_up_however_wrong_both_clocks_are() {
        for ms in [1_000_u32, 2_500, 5_000, 60_000] {
            let lease = Duration::from_millis(u64::from(ms));
            // The slowest holder and the fastest leader, in true time.
            let holder = may_act_for(lease).as_secs_f64() / 0.95;
            let leader = lease.as_secs_f64() / 1.05;
            assert!(holder < leader, "{lease:?}: {holder} {leader}");
            assert!(may_act_for(lease) > lease / 2, "{lease:?}");
        }
    }
}
