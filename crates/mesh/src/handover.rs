//! How a shard's home group changes (rules R11 to R14), and how a node learns the mesh.

use std::time::Duration;

use cpe_consensus::{Ballot, Group, Heartbeat, Held};
use cpe_membership::{Member, NodeId};
use cpe_space::{Config, ShardId};

use crate::group::Kept;
use crate::guard::{Guard, holds};
use crate::io::Event;
use crate::peer::{Peer, Slot, Timer};
use crate::sync::{MAX_INDEX, Pull};
use crate::wire::{Genesis, Message};

/// How often a sealed epoch's successor is told of it.
const EPOCH_RETRY: Duration = Duration::from_millis(500);

impl Peer {
    /// Tells a node which mesh this is and where its shards live.
    pub(crate) fn greet(&mut self, to: NodeId) {
        let moved = self.slots.iter().filter(|slot| slot.map.epoch > 1);
        let map = moved
            .map(|slot| (slot.shard.id(), slot.map.clone()))
            .collect();
        let genesis = self.genesis.clone();
        self.send_if(to, Message::Hello { genesis, map });
    }

    pub(crate) fn hello(
        &mut self,
        from: NodeId,
        genesis: Option<Genesis>,
        map: Vec<(ShardId, Config)>,
    ) {
        match (&self.genesis, genesis) {
            (None, Some(genesis)) => {
                if !genesis.is_possible() {
                    let (shards, volatile) = (genesis.shards, genesis.volatile);
                    let why = format!("a mesh of {shards} shards and {volatile} volatile ones");
                    return self.malformed(Some(from), why);
                }
                self.adopt(genesis);
            }
            (Some(own), Some(other)) if *own != other => {
                let why = if own.mesh == other.mesh {
                    // Both had the key and sought nobody.
                    format!(
                        "it belongs to a mesh of the same key that {} founded, this node to the \
                         one that {} founded: start one of the two with a bootstrap address of \
                         the other and an empty data folder",
                        other.founder, own.founder
                    )
                } else {
                    format!("it belongs to the mesh {}, not {}", other.mesh, own.mesh)
                };
                return self.malformed(Some(from), why);
            }
            (Some(_), None) => self.greet(from),
            _ => {}
        }
        for (shard, config) in map {
            self.learn_home(shard, config);
        }
    }

    /// The mesh is known now.
    pub(crate) fn adopt(&mut self, genesis: Genesis) {
        self.save_genesis(&genesis);
        self.found(genesis.clone());
        self.event(Event::Joined(genesis));
        for node in self.links.clone() {
            self.greet(node);
        }
        self.begin_early();
    }

    /// An entry that ends an epoch became part of the prefix.
    pub(crate) fn sealed(&mut self, shard: ShardId, config: Config) {
        if let Some(slot) = self.slot(shard)
            && slot.home.is_some()
        {
            slot.led_until = slot.shard.version().index;
        }
        self.follow(shard);
        self.learn_home(shard, config);
        self.outbox_instead(shard);
        self.settle_home(shard);
        // It may have been passed over already.
        self.registered(shard);
    }

    /// Takes up what the replica's newest configuration says about this node: rule R12, for the
    /// replica holds the state at the seal. Who is no member any more keeps its replica, as every
    /// node has one: so the state at a seal is never missing for who needs it (rule R14).
    pub(crate) fn settle_home(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let me = slot.me;
        let config = slot.shard.sm().config().clone();
        let epoch = config.epoch;
        if epoch < slot.map.epoch {
            return;
        }
        let inside = slot
            .seat
            .group()
            .is_some_and(|group| group.epoch() == epoch);
        if !inside && config.members.contains(&me) {
            let held = Held {
                epoch,
                index: slot.shard.version().index,
            };
            let mut out = Vec::new();
            if let Ok(group) = slot
                .seat
                .open(epoch, config.members.clone(), held, &mut out)
            {
                // The preferred leader need not wait for a round of heartbeats to learn that the
                // others have not begun either. Should it be wrong, the next round corrects it.
                if config.members.first() == Some(&me) {
                    let silent = config.members.iter().filter(|member| **member != me);
                    let replies: Vec<(Member, Heartbeat<Member>)> = silent
                        .map(|member| {
                            let ballot = Ballot {
                                round: 0,
                                node: *member,
                            };
                            let quorum = true;
                            (*member, Heartbeat { ballot, quorum })
                        })
                        .collect();
                    group.tick(&replies, &mut out);
                }
                slot.pull = None;
                slot.kept = Kept::default();
            }
            self.hear_group(shard, epoch, out);
            self.proposed.insert(shard);
        } else if !inside {
            self.hold(shard);
        }
        if self
            .slot_ref(shard)
            .is_some_and(|slot| slot.shard.sm().forked_at().is_some())
        {
            self.resume_stores(shard);
        }
        self.push_epoch(shard);
    }

    /// Tells the group what state the replica holds: it learns what it did not decide itself, and
    /// ends once the replica is past its epoch.
    pub(crate) fn hold(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let Some(epoch) = slot.seat.group().map(Group::epoch) else {
            return;
        };
        let version = slot.shard.version();
        let held = Held {
            epoch: version.epoch,
            index: version.index,
        };
        let mut out = Vec::new();
        slot.seat.hold(held, &mut out);
        let over = slot.seat.group().is_none();
        if over {
            self.forget_tail(shard, version.index);
        }
        self.hear_group(shard, epoch, out);
        if over {
            self.follow(shard);
        }
        self.proposed.insert(shard);
    }

    /// Tells the next home group that it may begin, until it has (rule R11).
    pub(crate) fn push_epoch(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let me = slot.me;
        if !slot.is_waiting_for_successor(me) || !holds(Guard::TellNext) {
            return;
        }
        for member in slot.shard.sm().config().members.clone() {
            if member != me {
                self.tell_epoch(member.node, shard);
            }
        }
        self.timers.set(Timer::Epoch(shard), self.now + EPOCH_RETRY);
    }

    /// Tells a node which epoch the shard is in.
    pub(crate) fn tell_epoch(&mut self, to: NodeId, shard: ShardId) {
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let sm = slot.shard.sm();
        let config = sm.config().clone();
        let message = if slot.map.epoch > config.epoch {
            Message::WrongHome {
                shard,
                config: slot.map.clone(),
            }
        } else {
            let index = sm.index();
            Message::EpochStart {
                shard,
                config,
                index,
            }
        };
        self.send_if(to, message);
    }

    /// This node is in the next home group: it needs the state at the seal first (rule R12).
    pub(crate) fn epoch_start(&mut self, from: NodeId, shard: ShardId, config: Config, index: u64) {
        if index > MAX_INDEX {
            return;
        }
        self.learn_home(shard, config);
        let Some(slot) = self.slot(shard) else { return };
        if slot.is_foreign(index) {
            return;
        }
        let own = slot.shard.version().index;
        if own >= index {
            // It has begun already; the sender has missed the feed that says so.
            if own > index {
                self.serve_feed(from, shard, index);
            }
            return;
        }
        self.pull_from(shard, from, index);
    }

    /// There is history up to `index` at another node: fetches it at once.
    pub(crate) fn pull_from(&mut self, shard: ShardId, from: NodeId, index: u64) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(usize::from(shard.0)) else {
            return;
        };
        let linked = &self.links;
        if slot.shard.version().index >= index || index > MAX_INDEX || slot.is_foreign(index) {
            return;
        }
        match slot.pull.as_mut() {
            Some(pull) => {
                if !pull.is_fetching() || !linked.contains(&pull.from) {
                    pull.from = from;
                }
                pull.index = pull.index.max(index);
                self.timers.set_if_none(Timer::Pull(shard), now);
            }
            None => {
                slot.pull = Some(Pull::new(from, index));
                self.timers.set(Timer::Pull(shard), now);
            }
        }
    }
}

impl Slot {
    /// True while this node ended an epoch and has not seen the next one begin.
    pub(crate) fn is_waiting_for_successor(&self, me: Member) -> bool {
        let sm = self.shard.sm();
        sm.config().members != [me]
            && sm.previous().is_some_and(|(old, sealed_at)| {
                *sealed_at == sm.index() && old.members.contains(&me)
            })
    }
}
