//! What must never be seen, whatever happens.

use std::collections::BTreeMap;

use super::replica::{Config, Id, State};

#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// The one history: its hash at each index.
    history: BTreeMap<u64, u64>,
    configs: BTreeMap<u64, Config>,
    effects: BTreeMap<(Id, u64), u64>,
}

impl Checks {
    /// The highest index known to be decided by anyone.
    pub(crate) fn top(&self) -> u64 {
        self.history.keys().next_back().copied().unwrap_or(0)
    }

    /// A member applied a decided entry. True when it is the first to do so.
    pub(crate) fn applied(&mut self, state: &State, epoch: u64, now: u64) -> bool {
        let first = self.history.get(&state.index);
        if let Some(first) = first {
            let index = state.index;
            assert_eq!(
                *first, state.hash,
                "two histories at {index}, epoch {epoch}, {now} ms"
            );
            return false;
        }
        self.history.insert(state.index, state.hash);
        true
    }

    /// A state came from another node.
    pub(crate) fn installed(&self, state: &State) {
        if state.index > 0 {
            let known = self.history.get(&state.index);
            assert_eq!(known, Some(&state.hash), "a state that is in no history");
        }
    }

    pub(crate) fn config(&mut self, config: &Config) {
        let known = self.configs.entry(config.epoch);
        let known = known.or_insert_with(|| config.clone());
        assert_eq!(known, config, "two configurations of one epoch");
    }

    /// A node entered an epoch, of those that it has heard of.
    pub(crate) fn opened(&self, epoch: u64, heard: u64) {
        assert!(
            epoch >= heard,
            "epoch {epoch} is entered after {heard} is known"
        );
    }

    pub(crate) fn effect(&mut self, origin: Id, n: u64, index: u64) {
        let known = *self.effects.entry((origin, n)).or_insert(index);
        assert_eq!(known, index, "put {n} of {origin} had an effect twice");
    }
}
