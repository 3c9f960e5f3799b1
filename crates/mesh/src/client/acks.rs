//! Acknowledgements: outcomes that a home need not remember any more.
//!
//! They travel with the next take or by themselves, and any of those may be lost, or refused by a
//! home whose log is full. So each is told again until the replica shows that the home has
//! forgotten the outcome: a result that nobody can ask for must not stay until the node restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_consensus::MAX_TAIL;
use cpe_space::{Command, OpId, Session, ShardId, Sm};

use crate::peer::{Peer, Timer};
use crate::wire::Message;

/// Acknowledgements sent along with one operation.
const WITH_AN_OPERATION: usize = 64;

/// How long outcomes are left unacknowledged, to be told together.
const DELAY: Duration = Duration::from_millis(500);

/// Numbers of operations that no home ever had, kept to be told. They only keep the home's set of
/// numbers short; a node without a majority would gather them for as long as it asks.
const MAX_NEVER: usize = 16_384;

/// When a home that still remembers an outcome is told again: longer than an election.
const AGAIN: Duration = Duration::from_secs(3);

/// What a node has to acknowledge to the home of one shard.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// Not told yet: operations with the index that decided each. 0 for one that never was: its
    /// number is told once, so that the home's set of numbers has no gap.
    fresh: BTreeMap<u64, u64>,
    /// Told at this time, and maybe still remembered.
    told: BTreeMap<u64, (u64, Duration)>,
    /// How often some were told again since all were forgotten: who is believed to lead may not,
    /// and say nothing.
    tries: u32,
    /// How many of the fresh ones no home ever had.
    never: usize,
}

impl Acks {
    /// An operation is over, decided at this index; 0 if it never was.
    fn add(&mut self, seq: u64, index: u64) {
        let before = self.fresh.insert(seq, index);
        self.never += usize::from(index == 0);
        self.never -= usize::from(before == Some(0));
        if self.never > MAX_NEVER {
            let eldest = self.fresh.iter().find(|(_, index)| **index == 0);
            if let Some(seq) = eldest.map(|(seq, _)| *seq) {
                self.fresh.remove(&seq);
                self.never -= 1;
            }
        }
    }

    /// Some to send along with an operation.
    pub(super) fn some(&mut self, now: Duration) -> Vec<u64> {
        let some: BTreeSet<u64> = self.fresh.keys().copied().take(WITH_AN_OPERATION).collect();
        self.tell(&some, now);
        some.into_iter().collect()
    }

    fn tell(&mut self, seqs: &BTreeSet<u64>, now: Duration) {
        for seq in seqs {
            match self.fresh.remove(seq) {
                Some(0) => self.never -= 1,
                Some(index) => drop(self.told.insert(*seq, (index, now))),
                None => {
                    if let Some((_, at)) = self.told.get_mut(seq) {
                        *at = now;
                    }
                }
            }
        }
    }

    /// Those that are to be told now: new ones, and those that the replica, being past the index
    /// that decided them, still has after a while.
    fn due(&mut self, session: Session, sm: &Sm, now: Duration) -> BTreeSet<u64> {
        self.told.retain(|seq, (index, _)| {
            let op = OpId { session, seq: *seq };
            sm.index() < *index || sm.remembers(op)
        });
        let again = self.told.iter().filter(|(_, (_, at))| *at + AGAIN <= now);
        let again: BTreeSet<u64> = again.map(|(seq, _)| *seq).collect();
        if self.told.is_empty() {
            self.tries = 0;
        } else if !again.is_empty() {
            self.tries = self.tries.wrapping_add(1);
        }
        self.fresh.keys().copied().chain(again).collect()
    }

    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.told.is_empty()
    }
}

impl Peer {
    /// Outcomes that this node has and that homes may still remember for it.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        let acks = self.slots.iter().map(|slot| &slot.client.acks);
        acks.map(|acks| acks.fresh.len() + acks.told.len()).sum()
    }

    /// An operation is over, decided at this index; 0 if it never was.
    pub(super) fn acknowledge(&mut self, shard: ShardId, seq: u64, index: u64) {
        let Some(slot) = self.slot(shard) else { return };
        slot.client.acks.add(seq, index);
        self.unacked.insert(shard);
        self.timers.set_if_none(Timer::Acks, self.now + DELAY);
    }

    /// An entry is decided in a group of which this node is a member: what it acknowledged needs
    /// no second look.
    pub(crate) fn acknowledged(&mut self, shard: ShardId, command: &Command) {
        if let Some((session, seqs)) = command.acknowledges()
            && session == self.session
            && let Some(slot) = self.slot(shard)
        {
            for seq in seqs {
                slot.client.acks.told.remove(seq);
            }
        }
    }

    pub(crate) fn send_acks(&mut self) {
        let (session, now) = (self.session, self.now);
        for shard in std::mem::take(&mut self.unacked) {
            let Some(slot) = self.slot(shard) else {
                continue;
            };
            let due = slot.client.acks.due(session, slot.shard.sm(), now);
            let tries = slot.client.acks.tries;
            let home = self.home_for(shard, tries);
            let due: Vec<u64> = due.into_iter().collect();
            for few in due.chunks(MAX_TAIL / 16) {
                let seqs = few.to_vec();
                let ack = Message::Ack {
                    shard,
                    session,
                    seqs,
                };
                if home.is_some_and(|home| self.send_if(home, ack))
                    && let Some(slot) = self.slot(shard)
                {
                    slot.client.acks.tell(&few.iter().copied().collect(), now);
                }
            }
            if self
                .slot_ref(shard)
                .is_some_and(|slot| !slot.client.acks.is_empty())
            {
                self.unacked.insert(shard);
            }
        }
        if !self.unacked.is_empty() {
            self.timers.set_if_none(Timer::Acks, now + DELAY);
        }
    }
}
