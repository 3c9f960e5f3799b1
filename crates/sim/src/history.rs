//! What clients saw of a space, and whether one correct space could have shown it to them.
//!
//! A [`History`] is what was asked, answered and when; it comes from a simulation or, as JSON
//! lines, from real processes. [`History::check`] decides for each variable whether the operations
//! can be put in one order that respects time and the variable's mode (linearizability: Herlihy
//! and Wing, "Linearizability: a correctness condition for concurrent objects", TOPLAS 1990), and
//! explains a violation by the few operations that contradict each other. [`Account`] is the
//! cheaper second look: what was stored, taken, lost.
//!
//! Every value is stored once in a history. This is what makes checking fast: a take names the
//! store it took from, so no order has to be guessed, and monitors in polynomial time are known
//! (Abdulla and others, "Efficient Linearizability Monitoring", arXiv:2509.17795; Lee and Mathur,
//! "Efficient Decrease-And-Conquer Linearizability Monitoring", arXiv:2410.04581). Those here have
//! finds, unanswered and cancelled takes besides; each module derives its own conditions, and tests
//! compare every one with an exhaustive [`search`].
//!
//! # What a check cannot see
//! A check never cries wolf: what it refuses, no correct space can show. It accepts exactly the
//! correct histories when no take is [`Taken::Unknown`] or [`Taken::Cancelled`]. With those it may
//! accept a wrong one, since it counts how many values they could explain away and does not try
//! which. What remains seen with them is written in each monitor's module. Of a [`Did::LocalFind`]
//! only that its value was stored before is checked.
//!
//! # Example
//! ```
//! use cpe_sim::history::{Did, History, Operation, Stored, Taken};
//!
//! let mut history = History::default();
//! let store = |value| Did::Store { value, outcome: Stored::Acknowledged };
//! let took = |value| Did::Take(Taken::Value(value));
//! for (client, from, to, did) in [
//!     (1, 0, 10, store(1)),
//!     (1, 20, 30, store(2)),
//!     (2, 40, 50, took(2)),
//!     (2, 60, 70, took(1)),
//! ] {
//!     history.push(Operation::new(client, "jobs", from, Some(to), did))?;
//! }
//! let conflict = history.check().unwrap_err();
//! assert!(conflict.to_string().contains("value 2 overtook value 1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account;
mod conflict;
mod empties;
mod judge;
mod lane;
mod lines;
mod operation;
mod queue;
mod register;
pub mod search;
mod stack;

use std::collections::BTreeMap;

use cpe_space::Mode;

pub use account::Account;
pub use conflict::{Conflict, Rule};
pub use judge::{Sound, Unsound};
pub use lines::{LineError, MAX_LINE_BYTES};
pub use operation::{Did, Operation, Stored, Taken};

/// Operations a history may have: what a check can hold in memory and do in minutes.
pub const MAX_OPERATIONS: usize = 4_000_000;

/// Microseconds. Times of a history are at most this; above are the checker's own infinities.
pub const MAX_TIME_US: u64 = u64::MAX / 4;

/// An operation that cannot be part of a history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// There are too many.
    #[error("a history has at most {MAX_OPERATIONS} operations: record a shorter run")]
    Full,
    /// Its times make no sense.
    #[error(
        "an operation from {from_us} to {to_us} us: it must not end before it begins, nor after \
         {MAX_TIME_US}"
    )]
    Times {
        /// Invoked.
        from_us: u64,
        /// Answered.
        to_us: u64,
    },
    /// It was answered, so it must say when.
    #[error(
        "an answered operation without the time of its answer: record it, or its outcome as unknown"
    )]
    NoResponse,
    /// A store goes to one variable.
    #[error("a store without a variable: name the variable it went to")]
    NoVariable,
    /// The variable's name is too long.
    #[error("a variable name of {0} bytes: at most {max}", max = cpe_tuple::limits::MAX_NAME_BYTES)]
    LongName(usize),
}

/// What clients asked of a space, when, and what they were answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    operations: Vec<Operation>,
    modes: BTreeMap<String, Mode>,
}

/// What a check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// Variables, each checked on its own.
    pub variables: usize,
    /// Operations.
    pub operations: usize,
    /// Values followed from store to take.
    pub values: usize,
    /// Decided answers "nothing there", each placed where nothing was.
    pub empties: usize,
}

impl History {
    /// Adds an operation. The order of the calls does not matter.
    ///
    /// # Errors
    /// When the history is full or the operation contradicts itself; it is then not added.
    pub fn push(&mut self, operation: Operation) -> Result<(), HistoryError> {
        if self.operations.len() >= MAX_OPERATIONS {
            return Err(HistoryError::Full);
        }
        operation.check()?;
        self.operations.push(operation);
        Ok(())
    }

    /// Says a variable's mode. Variables are fifo unless said otherwise.
    pub fn declare(&mut self, variable: impl Into<String>, mode: Mode) {
        self.modes.insert(variable.into(), mode);
    }

    /// The operations, in the order they were added.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The declared modes.
    #[must_use]
    pub fn modes(&self) -> &BTreeMap<String, Mode> {
        &self.modes
    }

    /// What was stored, taken and lost.
    #[must_use]
    pub fn account(&self) -> Account {
        Account::of(&self.operations)
    }

    /// Decides whether a correct space could have answered so.
    ///
    /// Takes O(n log n) for n operations of a variable, O(n^2) for a stack whose values nest
    /// deeply.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self) -> Result<Checked, Box<Conflict>> {
        let lanes = lane::lanes(&self.operations)?;
        let mut checked = Checked {
            variables: lanes.len(),
            operations: self.operations.len(),
            ..Checked::default()
        };
        for (variable, lane) in &lanes {
            checked.values += lane.lives.len();
            checked.empties += lane.empties.len();
            let mode = self.modes.get(*variable).copied().unwrap_or_default();
            let verdict = match mode {
                Mode::Fifo => queue::check(lane),
                Mode::Lifo => stack::check(lane),
                Mode::Multi => empties::check(lane, &lane.lives),
                Mode::Single => register::check(lane),
            };
            verdict.map_err(|conflict| conflict.within(variable, mode))?;
        }
        Ok(checked)
    }
}

#[cfg(test)]
mod tests;
