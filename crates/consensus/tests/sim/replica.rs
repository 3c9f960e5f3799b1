//! What the simulated nodes replicate: numbered puts of each origin, and who is a member.

use std::collections::BTreeMap;

use cpe_consensus::Entry;

pub(crate) type Id = u8;

/// The members of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) epoch: u64,
    pub(crate) members: Vec<Id>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Noop,
    /// The `n`-th put of an origin; it has an effect once.
    Put {
        origin: Id,
        n: u64,
    },
    Seal(Config),
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// Different for each proposal of a run, also for the same command.
    pub(crate) uid: u64,
    pub(crate) command: Command,
    /// The size it pretends to have.
    pub(crate) bytes: usize,
}

impl Entry for Proposal {
    fn seals(&self) -> bool {
        matches!(self.command, Command::Seal(_))
    }

    fn size(&self) -> usize {
        self.bytes
    }
}

/// The state made of the decided entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) index: u64,
    /// Of the whole history.
    pub(crate) hash: u64,
    pub(crate) config: Config,
    pub(crate) puts: BTreeMap<Id, u64>,
}

impl State {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            index: 0,
            hash: 0,
            config,
            puts: BTreeMap::new(),
        }
    }

    pub(crate) fn puts_of(&self, origin: Id) -> u64 {
        self.puts.get(&origin).copied().unwrap_or(0)
    }

    /// True when the entry had an effect.
    pub(crate) fn apply(&mut self, entry: &Proposal) -> bool {
        self.index += 1;
        self.hash = super::rng::mix(self.hash.rotate_left(7) ^ entry.uid);
        match &entry.command {
            Command::Noop => false,
            Command::Put { origin, n } => {
                let next = self.puts_of(*origin) + 1 == *n;
                if next {
                    self.puts.insert(*origin, *n);
                }
                next
            }
            Command::Seal(config) => {
                self.config = config.clone();
                true
            }
        }
    }
}
