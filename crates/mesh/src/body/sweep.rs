//! Which bodies are missing, and which nothing refers to any more (rules B3 and B4).
//!
//! All shards are looked through, one after the other, in rounds. At the end of a round a body goes
//! if none of them referred to it and nothing new did since the round began, in this round and in
//! all others for the grace. Every way by which a reference becomes known here notes that: one that
//! came into a shard already looked through is not missed.

use std::collections::BTreeSet;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_space::{Command, Refers, ShardId};
use cpe_tuple::{Blob, BlobHash, Tuple};

use super::{BodyMessage, BodyWork};
use crate::Peer;
use crate::peer::Timer;

/// Bodies of one shard that are missed in one round; the others in the next ones.
const MAX_MISSED: usize = 256;

/// Bodies deleted at the end of one round, so that storage has time for others; the rest go at the
/// end of the next ones.
const MAX_DELETED: usize = 64;

/// How long an answer is waited for before members are asked again whether they have what a
/// draining node has.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(1);

/// A round over all shards.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    next: u16,
    began: Duration,
    live: BTreeSet<BlobHash>,
    taken: BTreeSet<BlobHash>,
}

impl Peer {
    pub(super) fn begin_sweep(&mut self) {
        self.bodies.sweep = Sweep {
            began: self.now,
            ..Sweep::default()
        };
        self.next_sweep();
    }

    fn next_sweep(&mut self) {
        let shards = u32::try_from(self.slots.len()).unwrap_or(1).max(1);
        let pause = self.config.sweep_interval / shards;
        self.timers.set(Timer::Sweep, self.now + pause);
    }

    /// Looks through the next shard.
    pub(crate) fn sweep_bodies(&mut self) {
        let shard = ShardId(self.bodies.sweep.next);
        self.bodies.sweep.next += 1;
        self.sweep_shard(shard);
        if usize::from(self.bodies.sweep.next) >= self.slots.len() {
            self.end_round();
            self.begin_sweep();
        } else {
            self.next_sweep();
        }
    }

    fn sweep_shard(&mut self, shard: ShardId) {
        let Some(slot) = self.slots.get(usize::from(shard.0)) else {
            return;
        };
        let bodies = &mut self.bodies;
        let member = slot.map.members.contains(&slot.me);
        let mut missed = Vec::new();
        slot.shard.sm().bodies(|blob, refers| {
            let hash = blob.hash();
            let held = bodies.held.contains_key(&hash);
            match refers {
                Refers::Live if held => drop(bodies.sweep.live.insert(hash)),
                Refers::Taken if held => drop(bodies.sweep.taken.insert(hash)),
                Refers::Live if member && missed.len() < MAX_MISSED => missed.push(blob),
                Refers::Live | Refers::Taken => {}
            }
        });
        let pending = slot.shard.pending().values().chain(slot.client.outbox());
        let mut refer = |tuple: &Tuple| {
            for blob in tuple.blobs() {
                bodies.sweep.live.insert(blob.hash());
            }
        };
        for item in pending {
            refer(&item.tuple);
        }
        slot.client.adding().for_each(&mut refer);
        if let Some(group) = slot.seat.group() {
            for index in slot.shard.version().index + 1..=group.len() {
                let command = group.entry(index).map(crate::Proposal::command);
                if let Some((_, tuple)) = command.and_then(Command::adds) {
                    refer(tuple);
                }
            }
        }
        for blob in missed {
            self.want(blob, shard, None);
        }
    }

    fn end_round(&mut self) {
        let now = self.now;
        let (grace, taken_max) = (self.config.body_grace, self.config.body_taken_max);
        let bodies = &mut self.bodies;
        let sweep = std::mem::take(&mut bodies.sweep);
        let mut gone = Vec::new();
        for (hash, held) in &mut bodies.held {
            let busy = bodies.placing.contains_key(hash) || bodies.adopting.contains_key(hash);
            let live = busy || sweep.live.contains(hash);
            held.taken = if live || !sweep.taken.contains(hash) {
                None
            } else {
                held.taken.or(Some(now))
            };
            let taken = held.taken.is_some_and(|since| now < since + taken_max);
            if live || taken || held.seen >= sweep.began {
                held.idle = None;
            } else if now >= *held.idle.get_or_insert(now) + grace && gone.len() < MAX_DELETED {
                gone.push(*hash);
            }
        }
        for hash in gone {
            self.bodies.held.remove(&hash);
            self.count("bodies_deleted", 1);
            self.work(BodyWork::Delete { hash });
        }
    }

    /// A tuple was admitted or put back: a member of its home group has its bodies, or gets them.
    pub(crate) fn added_with_bodies(&mut self, shard: ShardId, tuple: &Tuple) {
        if !tuple.has_blobs() {
            return;
        }
        self.saw_bodies(tuple);
        let slot = self.slot_ref(shard);
        if slot.is_some_and(|slot| slot.map.members.contains(&slot.me)) {
            for blob in tuple.blobs() {
                self.want(blob, shard, None);
            }
        }
    }

    /// A state was installed: all it refers to is news.
    pub(crate) fn saw_bodies_of(&mut self, shard: ShardId) {
        let Some(slot) = self.slots.get(usize::from(shard.0)) else {
            return;
        };
        let (bodies, now) = (&mut self.bodies, self.now);
        slot.shard.sm().bodies(|blob, _| {
            if let Some(held) = bodies.held.get_mut(&blob.hash()) {
                held.seen = now;
            }
        });
    }

    /// While this node drains: true once what its bodies are needed for does not need this node.
    /// The members of the home groups are asked to have them.
    pub(crate) fn bodies_handed_over(&mut self) -> bool {
        if self.bodies.held.is_empty() {
            return true;
        }
        let me = self.me.node;
        let now = self.now;
        let mut needed: Vec<(Blob, ShardId, Vec<NodeId>)> = Vec::new();
        for slot in &self.slots {
            let members = slot.map.members.iter().filter(|member| member.node != me);
            let members: Vec<NodeId> = members.map(|member| member.node).collect();
            let held = &self.bodies.held;
            // Also those of takes that are not acknowledged: the taker has yet to fetch them, or
            // the tuple comes back.
            slot.shard.sm().bodies(|blob, _| {
                if held.contains_key(&blob.hash()) {
                    needed.push((blob, slot.shard.id(), members.clone()));
                }
            });
        }
        let missing: Vec<_> = needed
            .into_iter()
            .filter(|(blob, _, members)| {
                let has = |node: &&NodeId| self.bodies.handed.contains(&(blob.hash(), **node));
                // A node alone has nobody to hand anything to.
                !members.is_empty() && members.iter().filter(has).count() <= members.len() / 2
            })
            .collect();
        if missing.is_empty() {
            return true;
        }
        let due = self
            .bodies
            .handed_asked
            .is_none_or(|at| at + HAND_OVER_AGAIN <= now);
        if due {
            self.bodies.handed_asked = Some(now);
            for (blob, shard, members) in missing {
                for node in members {
                    self.send_body(node, BodyMessage::Hold { blob, shard });
                }
            }
        }
        false
    }
}
