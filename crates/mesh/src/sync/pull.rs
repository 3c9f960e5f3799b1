//! Who asks whom for what a replica lacks, and for how many shards at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_space::ShardId;
use rand::RngExt;

use super::MAX_INDEX;
use super::fetch::{Fetch, Step, Target};
use crate::peer::{Peer, Slot, Timer};
use crate::wire::{Message, Part, Want};

/// States fetched at a time. Others wait for a place.
const MAX_FETCHING: usize = 8;

/// How long an answer to a pull is waited for.
const PULL_RETRY: Duration = Duration::from_secs(1);

/// Requests without an answer before another peer is asked.
const MAX_TRIES: u32 = 3;

/// What a replica knows to be missing, and who has it.
#[derive(Debug)]
pub(crate) struct Pull {
    /// Who is at least this far.
    pub(crate) from: NodeId,
    /// The furthest index heard of.
    pub(crate) index: u64,
    /// Whose log no longer reaches back.
    trimmed: Option<NodeId>,
    /// A state was asked for.
    begun: bool,
    /// A state is on its way.
    fetch: Option<Fetch>,
    /// Requests since the last answer.
    tries: u32,
    /// A state that was put together was not the one offered: the next one is taken whole.
    strict: bool,
}

impl Pull {
    pub(crate) fn new(from: NodeId, index: u64) -> Self {
        Self {
            from,
            index,
            trimmed: None,
            begun: false,
            fetch: None,
            tries: 0,
            strict: false,
        }
    }

    /// True while a state is on its way: it goes on with the same peer as long as that is there.
    pub(crate) fn is_fetching(&self) -> bool {
        self.fetch.is_some()
    }

    /// True once a state was asked for: it comes part by part, at its own pace.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Whoever was asked had something.
    pub(super) fn answered(&mut self) {
        self.tries = 0;
    }

    fn end_fetch(&mut self) {
        self.fetch = None;
        self.begun = false;
        self.trimmed = None;
    }
}

/// Which shards fetch a state, and which would.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: BTreeSet<ShardId>,
    waiting: BTreeSet<ShardId>,
}

impl Peer {
    /// Asks for what is missing.
    pub(crate) fn pull(&mut self, shard: ShardId) {
        let links: Vec<NodeId> = self.links.iter().copied().collect();
        let Some(slot) = self.slots.get_mut(usize::from(shard.0)) else {
            return;
        };
        let own = slot.shard.version().index;
        let Some(pull) = slot.pull.as_mut() else {
            return self.leave_place(shard);
        };
        if pull.index <= own {
            slot.pull = None;
            return self.leave_place(shard);
        }
        pull.tries += 1;
        if !links.contains(&pull.from) || pull.tries > MAX_TRIES {
            pull.tries = 1;
            if let Some(other) = links.get(self.rng.random_range(0..links.len().max(1))) {
                pull.from = *other;
            }
        }
        let from = pull.from;
        let begun = pull.begun && pull.fetch.is_none();
        let state = pull.begun || pull.trimmed == Some(from);
        self.timers.set(Timer::Pull(shard), self.now + PULL_RETRY);
        self.count("pulls", 1);
        if !state {
            self.send_if(from, Message::FeedReq { shard, from: own });
            return;
        }
        if begun && self.yield_place(shard) {
            return;
        }
        if self.take_place(shard) {
            self.advance(shard);
        } else if let Some(pull) = self.slot(shard).and_then(|slot| slot.pull.as_mut()) {
            // Nobody was asked, so nobody failed to answer.
            pull.tries = pull.tries.saturating_sub(1);
        }
    }

    /// Nobody answered a request for a state: if other shards wait for a place, one of them may be
    /// luckier.
    fn yield_place(&mut self, shard: ShardId) -> bool {
        if self.places.waiting.is_empty() {
            return false;
        }
        if let Some(pull) = self.slot(shard).and_then(|slot| slot.pull.as_mut()) {
            pull.begun = false;
        }
        self.leave_place(shard);
        self.places.waiting.insert(shard);
        true
    }

    /// Takes one of the places for states on their way, or waits for one.
    fn take_place(&mut self, shard: ShardId) -> bool {
        let slots = &self.slots;
        let holds = |shard: &ShardId| {
            let slot = slots.get(usize::from(shard.0));
            slot.is_some_and(|slot| slot.pull.as_ref().is_some_and(|pull| pull.begun))
        };
        self.places.taken.retain(holds);
        let room = self.places.taken.len() < MAX_FETCHING;
        if !room && !self.places.taken.contains(&shard) {
            self.places.waiting.insert(shard);
            return false;
        }
        self.places.waiting.remove(&shard);
        self.places.taken.insert(shard);
        if let Some(pull) = self.slot(shard).and_then(|slot| slot.pull.as_mut()) {
            pull.begun = true;
        }
        true
    }

    /// Gives a place back, to one that waits for it.
    fn leave_place(&mut self, shard: ShardId) {
        self.places.waiting.remove(&shard);
        if self.places.taken.remove(&shard)
            && let Some(next) = self.places.waiting.pop_first()
        {
            self.timers.set(Timer::Pull(next), self.now);
        }
    }

    /// The log of a peer no longer reaches back to where the replica stands.
    pub(crate) fn trimmed(&mut self, from: NodeId, shard: ShardId, index: u64) {
        let now = self.now;
        let Some(slot) = self.slot(shard) else { return };
        let own = slot.shard.version().index;
        let Some(pull) = slot.pull.as_mut() else {
            return;
        };
        if index <= own || index > MAX_INDEX || pull.begun || pull.from != from {
            return;
        }
        pull.trimmed = Some(from);
        pull.tries = 0;
        self.timers.set(Timer::Pull(shard), now);
    }

    /// Parts of a state arrived. What is old, doubled, or was never asked for changes nothing.
    pub(crate) fn take_state(
        &mut self,
        from: NodeId,
        shard: ShardId,
        index: u64,
        parts: Vec<Part>,
    ) {
        if self.leads(shard, 0) {
            return;
        }
        let Some(slot) = self.slots.get_mut(usize::from(shard.0)) else {
            return;
        };
        let own = slot.shard.version().index;
        let Some(pull) = slot.pull.as_mut() else {
            return;
        };
        if index <= own || index > MAX_INDEX || !pull.begun {
            return;
        }
        let mut any = false;
        for part in parts {
            if let Some(target) = Target::new(index, &part) {
                any |= match pull.fetch.as_mut() {
                    Some(fetch) => fetch.retarget(from, pull.from, target),
                    None if from == pull.from => {
                        pull.fetch = Some(Fetch::new(from, target, own, pull.strict));
                        true
                    }
                    None => false,
                };
            } else if let Some(fetch) = pull.fetch.as_mut()
                && fetch.index() == index
            {
                any |= fetch.take(part);
            }
        }
        if any {
            pull.tries = 0;
            self.advance(shard);
        }
    }

    /// Takes the next step towards a whole state.
    fn advance(&mut self, shard: ShardId) {
        let now = self.now;
        let Some(Slot {
            shard: replica,
            pull: Some(pull),
            ..
        }) = self.slots.get_mut(usize::from(shard.0))
        else {
            return;
        };
        let (own, to) = (replica.version().index, pull.from);
        let (index, after, step) = match pull.fetch.as_mut() {
            // Something else was faster: a log that reaches further back.
            Some(fetch) if fetch.index() <= own => {
                pull.end_fetch();
                self.timers.set(Timer::Pull(shard), now);
                return self.leave_place(shard);
            }
            Some(fetch) => {
                let step = fetch.step(replica.sm());
                (fetch.index(), fetch.cursor(), step)
            }
            None => {
                let after = if pull.strict { 0 } else { own };
                (0, after, Step::Ask(Want::Begin))
            }
        };
        match step {
            Step::Ask(want) => {
                self.timers.set(Timer::Pull(shard), now + PULL_RETRY);
                let message = Message::StateReq {
                    shard,
                    index,
                    after,
                    want,
                };
                self.send_if(to, message);
            }
            Step::Done {
                sm,
                encoded,
                sketched,
            } => {
                pull.end_fetch();
                pull.strict = false;
                let tier = if sketched {
                    "sketches_installed"
                } else {
                    "snapshots_installed"
                };
                self.count(tier, 1);
                self.timers.set(Timer::Pull(shard), now);
                self.leave_place(shard);
                self.install(shard, *sm, encoded);
            }
            Step::Failed(reason) => {
                let again = std::mem::replace(&mut pull.strict, true);
                pull.end_fetch();
                pull.trimmed = Some(to);
                self.count("states_failed", 1);
                if again {
                    // The other one's fault for certain: nothing of the own was used.
                    pull_elsewhere(self, shard);
                    self.malformed(Some(to), reason.to_owned());
                }
                self.timers.set(Timer::Pull(shard), now + PULL_RETRY);
                self.leave_place(shard);
            }
        }
    }
}

/// Has another peer asked the next time.
fn pull_elsewhere(peer: &mut Peer, shard: ShardId) {
    if let Some(pull) = peer.slot(shard).and_then(|slot| slot.pull.as_mut()) {
        pull.tries = MAX_TRIES;
        pull.trimmed = None;
    }
}
