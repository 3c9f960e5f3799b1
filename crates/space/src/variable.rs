//! A variable of a workspace: its mode and the tuples nobody has taken.

use std::collections::BTreeMap;

use cpe_tuple::{Template, Tuple};
use serde::{Deserialize, Serialize};

use crate::Mode;

/// A variable: tuples that share their first field, in the order they were admitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Variable {
    /// The mode, once declared.
    mode: Option<Mode>,
    /// Tuples by the index that admitted them.
    tuples: BTreeMap<u64, Tuple>,
}

impl Variable {
    /// Its mode: the declared one, else fifo.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_default()
    }

    /// True when somebody declared its mode.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        self.mode.is_some()
    }

    /// How many tuples it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tuples.len()
    }

    /// True when it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tuples.is_empty()
    }

    /// Its tuples with the indices that admitted them, oldest first.
    pub fn tuples(&self) -> impl Iterator<Item = (u64, &Tuple)> {
        self.tuples.iter().map(|(index, tuple)| (*index, tuple))
    }

    /// The tuple a take picks. `draw` chooses among those of a multi variable: it is the take's
    /// own index, so every replica picks the same.
    #[must_use]
    pub fn pick(&self, template: &Template, draw: u64) -> Option<(u64, &Tuple)> {
        let mut matching = self.tuples().filter(|(_, tuple)| template.matches(tuple));
        match self.mode() {
            Mode::Fifo | Mode::Single => matching.next(),
            Mode::Lifo => {
                let newest_first = self.tuples.iter().rev();
                newest_first
                    .map(|(index, tuple)| (*index, tuple))
                    .find(|(_, tuple)| template.matches(tuple))
            }
            Mode::Multi => {
                let (first, last) = (self.tuples.keys().next()?, self.tuples.keys().next_back()?);
                let from = first + scatter(draw) % (last - first).saturating_add(1);
                let after = self
                    .tuples
                    .range(from..)
                    .map(|(index, tuple)| (*index, tuple));
                after
                    .chain(self.tuples())
                    .find(|(_, tuple)| template.matches(tuple))
            }
        }
    }

    pub(crate) fn declare(&mut self, mode: Mode) -> Result<(), Mode> {
        match self.mode {
            Some(other) if other != mode => Err(other),
            _ => {
                self.mode = Some(mode);
                if mode == Mode::Single {
                    // A single variable keeps the last value it was given.
                    while self.tuples.len() > 1 {
                        self.tuples.pop_first();
                    }
                }
                Ok(())
            }
        }
    }

    pub(crate) fn insert(&mut self, index: u64, tuple: Tuple) {
        if self.mode == Some(Mode::Single) {
            self.tuples.clear();
        }
        self.tuples.insert(index, tuple);
    }

    /// Puts a taken tuple back where it was; false when a single variable has a newer value.
    pub(crate) fn put_back(&mut self, index: u64, tuple: Tuple) -> bool {
        if self.mode == Some(Mode::Single) && !self.tuples.is_empty() {
            return false;
        }
        self.tuples.insert(index, tuple);
        true
    }

    pub(crate) fn remove(&mut self, index: u64) -> Option<Tuple> {
        self.tuples.remove(&index)
    }

    pub(crate) fn take(&mut self) -> BTreeMap<u64, Tuple> {
        std::mem::take(&mut self.tuples)
    }

    /// True when nothing would be lost by forgetting it.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.tuples.is_empty() && self.mode.is_none()
    }
}

/// The finalizer of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014): spreads consecutive numbers over the whole range.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
