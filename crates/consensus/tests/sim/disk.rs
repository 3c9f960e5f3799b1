//! A disk that syncs when the simulation says so. What was not synced may be gone after a crash,
//! from some write on.

use std::collections::{BTreeMap, VecDeque};

use cpe_consensus::{Hard, Mark, Message};

use super::replica::{Id, Proposal, State};
use super::rng::Rng;

#[derive(Clone, Debug)]
pub(crate) enum Write {
    Hard(Hard<Id>),
    Append { after: u64, entries: Vec<Proposal> },
    State(State),
}

/// What waits for all writes before it.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// All or nothing.
    Batch(Vec<Write>),
    Send(Id, u64, Message<Id, Proposal>),
    Mark(u64, Mark<Id>),
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub(crate) struct Durable {
    pub(crate) hard: Option<Hard<Id>>,
    pub(crate) log: BTreeMap<u64, Proposal>,
    pub(crate) state: State,
}

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) durable: Durable,
    queue: VecDeque<Item>,
    /// Items that the sync under way covers.
    syncing: usize,
}

impl Disk {
    pub(crate) fn new(state: State) -> Self {
        let durable = Durable {
            hard: None,
            log: BTreeMap::new(),
            state,
        };
        Self {
            durable,
            queue: VecDeque::new(),
            syncing: 0,
        }
    }

    pub(crate) fn push(&mut self, item: Item) {
        self.queue.push_back(item);
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.queue.is_empty()
    }

    /// Begins a sync of everything so far, unless one is under way or nothing is to be done.
    pub(crate) fn begin(&mut self) -> bool {
        if self.syncing > 0 || self.queue.is_empty() {
            return false;
        }
        self.syncing = self.queue.len();
        true
    }

    /// The sync is over: what had waited for it.
    pub(crate) fn end(&mut self) -> Vec<Item> {
        let done: Vec<Item> = self.queue.drain(..self.syncing).collect();
        self.syncing = 0;
        let mut free = Vec::new();
        for item in done {
            match item {
                Item::Batch(writes) => self.durable.write(writes),
                other => free.push(other),
            }
        }
        free
    }

    /// A crash: some of the last writes made it, in order.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let made = rng.below(self.queue.len() as u64 + 1);
        let made = if rng.chance(50) { 0 } else { made };
        for item in self.queue.drain(..).take(usize::try_from(made).unwrap()) {
            if let Item::Batch(writes) = item {
                self.durable.write(writes);
            }
        }
        self.syncing = 0;
    }
}

impl Durable {
    fn write(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Hard(hard) => {
                    let before = self.hard.map_or(0, |hard| hard.epoch);
                    assert!(
                        hard.epoch >= before || cfg!(feature = "mutants"),
                        "joined fell"
                    );
                    self.hard = Some(hard);
                }
                Write::Append { after, entries } => {
                    self.log.split_off(&(after + 1));
                    self.log.extend((after + 1..).zip(entries));
                }
                Write::State(state) => {
                    if state.index >= self.state.index {
                        self.log = self.log.split_off(&(state.index + 1));
                        self.state = state;
                    }
                }
            }
        }
    }

    /// The entries after the state, as far as they follow one another.
    pub(crate) fn tail(&self) -> Vec<Proposal> {
        let from = self.state.index + 1;
        let tail = (from..).zip(self.log.range(from..));
        tail.take_while(|(index, (at, _))| index == *at)
            .map(|(_, (_, entry))| entry.clone())
            .collect()
    }
}
