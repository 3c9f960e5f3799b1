//! A variable of a workspace: its mode and the tuples nobody has taken.

use cpe_tuple::{Mark, Template, Tuple};
use serde::{Deserialize, Serialize};

use crate::{Mode, tuples::Tuples};

/// A variable: tuples that share their first field, in the order they were admitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Variable {
    /// The mode, once declared.
    mode: Option<Mode>,
    /// Tuples by the index that admitted them.
    tuples: Tuples,
    /// Set once somebody declared it in an instance of its workspace.
    #[serde(default)]
    life: Option<Box<Life>>,
    /// The last index stored under in mode single, 0 before: what was taken before it is replaced,
    /// and does not come back. Only its lower half, which lies in what is padding otherwise, for a
    /// replica may hold millions; what it is compared with is at most a few million entries older.
    #[serde(default)]
    newest: u32,
}

/// The life of a variable that was declared in an instance of its workspace: it stays, empty or
/// not, until it is deleted, and counts its tuples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The instance of the workspace.
    pub instance: u64,
    /// Index in the shard's history that began it: no other variable of the name has the same.
    pub born: u64,
    /// The next tuple's ordinal.
    pub next: u64,
}

impl Life {
    fn mark(&mut self, tuple: Tuple) -> Tuple {
        let mark = Mark {
            descriptor: tuple.mark().and_then(|mark| mark.descriptor),
            variable: self.born,
            ordinal: self.next,
        };
        self.next += 1;
        tuple.with_mark(mark)
    }
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
    pub fn tuples(&self) -> impl DoubleEndedIterator<Item = (u64, &Tuple)> {
        self.tuples.iter()
    }

    /// Its life, once it was declared in an instance of its workspace.
    #[must_use]
    pub fn life(&self) -> Option<&Life> {
        self.life.as_deref()
    }

    /// The tuple a take picks. `draw` chooses among those of a multi variable: it is the take's
    /// own index, so every replica picks the same.
    #[must_use]
    pub fn pick(&self, template: &Template, draw: u64) -> Option<(u64, &Tuple)> {
        self.pick_where(draw, |tuple| template.matches(tuple))
    }

    /// The same among the tuples that `matches` accepts.
    pub(crate) fn pick_where(
        &self,
        draw: u64,
        matches: impl Fn(&Tuple) -> bool,
    ) -> Option<(u64, &Tuple)> {
        let matches = |(_, tuple): &(u64, &Tuple)| matches(tuple);
        match self.mode() {
            Mode::Fifo | Mode::Single => self.tuples().find(matches),
            Mode::Lifo => self.tuples().rev().find(matches),
            Mode::Multi => {
                let (first, last) = self.tuples.ends()?;
                let from = first + scatter(draw) % (last - first).saturating_add(1);
                self.tuples
                    .range_from(from)
                    .chain(self.tuples())
                    .find(matches)
            }
        }
    }

    /// Lives in this instance from now on; what it holds already stays.
    pub(crate) fn live(&mut self, instance: u64, born: u64) {
        let mut life = Life {
            instance,
            born,
            next: 0,
        };
        self.tuples.update(|tuple| life.mark(tuple));
        if !self.tuples.is_empty() {
            self.mode.get_or_insert_default();
        }
        self.life = Some(Box::new(life));
    }

    pub(crate) fn declare(&mut self, mode: Mode) -> Result<(), Mode> {
        match self.mode {
            Some(other) if other != mode => Err(other),
            _ => {
                self.mode = Some(mode);
                if mode == Mode::Single {
                    // A single variable keeps the last value it was given.
                    self.tuples.keep_last();
                    if let Some((_, last)) = self.tuples.ends() {
                        self.newest = lower_half(last).max(1);
                    }
                }
                Ok(())
            }
        }
    }

    /// Adds a tuple; returns it as it is kept.
    pub(crate) fn insert(&mut self, index: u64, tuple: Tuple) -> Tuple {
        let tuple = match &mut self.life {
            Some(life) => {
                self.mode.get_or_insert_default();
                life.mark(tuple)
            }
            None => tuple,
        };
        if self.mode == Some(Mode::Single) {
            self.tuples = Tuples::None;
            self.newest = lower_half(index).max(1);
        }
        self.tuples.insert(index, tuple.clone());
        tuple
    }

    /// Puts a taken tuple back where it was; false when a single variable has had a newer value.
    pub(crate) fn put_back(&mut self, index: u64, tuple: Tuple) -> bool {
        let is_single = self.mode == Some(Mode::Single);
        if is_single && self.is_replaced(index) {
            return false;
        }
        self.tuples.insert(index, tuple);
        if is_single {
            self.tuples.keep_last();
        }
        true
    }

    /// Whether the value of a single variable that this index admitted is not its last.
    fn is_replaced(&self, index: u64) -> bool {
        let later = self.newest.wrapping_sub(lower_half(index));
        let had_later = self.newest != 0 && later != 0 && later <= u32::MAX / 2;
        had_later || self.tuples.ends().is_some_and(|(_, last)| last > index)
    }

    pub(crate) fn remove(&mut self, index: u64) -> Option<Tuple> {
        self.tuples.remove(index)
    }

    pub(crate) fn take(&mut self) -> Tuples {
        std::mem::take(&mut self.tuples)
    }

    /// True when nothing would be lost by forgetting it.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.tuples.is_empty() && self.mode.is_none() && self.life.is_none()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "half of it is what is wanted"
)]
fn lower_half(index: u64) -> u32 {
    index as u32
}

/// The finalizer of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014): spreads consecutive numbers over the whole range.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
