//! Exhaustive search for a correct order: slow, short, and with no theory to get wrong.
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", J. Parallel Distrib.
//! Comput. 1993) with Lowe's memory of the states seen ("Testing for linearizability",
//! Concurrency and Computation 2017). It is what the monitors are tested against.

use std::collections::BTreeSet;

use cpe_space::Mode;

use super::lane::{LATER, NEVER};
use super::{Did, Operation, Stored, Taken};

/// Operations a search takes at most: the effort can double with each.
pub const MAX_OPERATIONS: usize = 40;

/// Tries every order of the operations of one variable. `None` when there are too many.
///
/// Local finds are left out: they need not be linearizable.
#[must_use]
pub fn is_linearizable(operations: &[Operation], mode: Mode) -> Option<bool> {
    if operations.len() > MAX_OPERATIONS {
        return None;
    }
    let mut steps = Vec::new();
    for (n, operation) in operations.iter().enumerate() {
        let from = operation.from_us;
        let to = operation.to_us.unwrap_or(LATER);
        let mut step = |to, act| steps.push(Step { from, to, act });
        match operation.did {
            Did::Store { value, outcome } => {
                let maybe = outcome == Stored::Unknown;
                step(if maybe { LATER } else { to }, Act::Store(value));
            }
            Did::Take(Taken::Value(value)) => step(to, Act::Take(value)),
            Did::Take(Taken::Empty) | Did::Find(None) => step(to, Act::Empty),
            Did::Take(Taken::Unknown) => step(LATER, Act::TakeAny),
            Did::Take(Taken::Cancelled) => {
                step(LATER, Act::Hide(n));
                step(to, Act::Show(n));
            }
            Did::Find(Some(value)) => step(to, Act::Find(value)),
            Did::Take(Taken::Unavailable) | Did::LocalFind(_) => {}
        }
    }
    let mut search = Search {
        steps,
        mode,
        seen: BTreeSet::new(),
    };
    Some(search.finds_order(0, &Vec::new()))
}

/// An operation, or half of a cancelled take. What ends [`LATER`] need not happen.
#[derive(Clone, Copy)]
struct Step {
    from: u64,
    to: u64,
    act: Act,
}

#[derive(Clone, Copy)]
enum Act {
    Store(i64),
    Take(i64),
    Find(i64),
    Empty,
    TakeAny,
    Hide(usize),
    Show(usize),
}

/// Values, the oldest first, and which cancelled take has each.
type State = Vec<(i64, Option<usize>)>;

struct Search {
    steps: Vec<Step>,
    mode: Mode,
    seen: BTreeSet<(u128, State)>,
}

impl Search {
    fn finds_order(&mut self, done: u128, state: &State) -> bool {
        let open: Vec<(u128, Step)> = self
            .steps
            .iter()
            .enumerate()
            .map(|(n, step)| (1_u128 << n, *step))
            .filter(|(bit, _)| done & bit == 0)
            .collect();
        let next_end = open.iter().map(|(_, step)| step.to).min();
        let next_end = next_end.unwrap_or(NEVER);
        if next_end >= LATER {
            return true;
        }
        if !self.seen.insert((done, state.clone())) {
            return false;
        }
        let ready = open.into_iter().filter(|(_, step)| step.from <= next_end);
        // What changes nothing and can happen now may as well happen now.
        let looks = |(_, step): &(u128, Step)| {
            matches!(step.act, Act::Find(_) | Act::Empty) && !self.apply(step.act, state).is_empty()
        };
        if let Some((bit, _)) = ready.clone().find(looks) {
            return self.finds_order(done | bit, state);
        }
        for (bit, step) in ready {
            // What was not hidden when it was put back is not hidden after.
            let with = match step.act {
                Act::Show(_) => bit | bit >> 1,
                _ => bit,
            };
            for after in self.apply(step.act, state) {
                if self.finds_order(done | with, &after) {
                    return true;
                }
            }
        }
        false
    }

    /// The states an operation can lead to; none when it cannot happen now.
    fn apply(&self, act: Act, state: &State) -> Vec<State> {
        let picks = self.picks(state);
        let is_picked = |value: i64| {
            let mut picked = picks.iter().filter_map(|n| state.get(*n));
            picked.any(|(other, _)| *other == value)
        };
        let without = |n: usize| {
            let mut after = state.clone();
            after.remove(n);
            after
        };
        match act {
            Act::Store(value) => {
                let mut after = state.clone();
                if self.mode == Mode::Single {
                    after.retain(|(_, hidden)| hidden.is_some());
                }
                after.push((value, None));
                vec![after]
            }
            Act::Take(value) => {
                let same = |n: &&usize| state.get(**n).is_some_and(|(other, _)| *other == value);
                picks
                    .iter()
                    .find(same)
                    .map(|n| without(*n))
                    .into_iter()
                    .collect()
            }
            Act::Find(value) if is_picked(value) => vec![state.clone()],
            Act::Empty if picks.is_empty() => vec![state.clone()],
            Act::Find(_) | Act::Empty => Vec::new(),
            Act::TakeAny => picks.into_iter().map(without).collect(),
            Act::Hide(take) => {
                let hide = |n: usize| {
                    let mut after = state.clone();
                    if let Some((_, hidden)) = after.get_mut(n) {
                        *hidden = Some(take);
                    }
                    after
                };
                picks.into_iter().map(hide).collect()
            }
            Act::Show(take) => {
                let mut after = state.clone();
                let Some(n) = state.iter().position(|(_, hidden)| *hidden == Some(take)) else {
                    return vec![after];
                };
                if self.mode == Mode::Single && !picks.is_empty() {
                    after.remove(n);
                } else if let Some((_, hidden)) = after.get_mut(n) {
                    *hidden = None;
                }
                vec![after]
            }
        }
    }

    /// Where the values are that a take may pick.
    fn picks(&self, state: &State) -> Vec<usize> {
        let there = state.iter().enumerate();
        let mut there = there
            .filter(|(_, (_, hidden))| hidden.is_none())
            .map(|(n, _)| n);
        match self.mode {
            Mode::Fifo | Mode::Single => there.next().into_iter().collect(),
            Mode::Lifo => there.next_back().into_iter().collect(),
            Mode::Multi => there.collect(),
        }
    }
}
