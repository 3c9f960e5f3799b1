//! What was stored, taken, lost: the total-queue accounting of Jepsen.

use std::collections::BTreeMap;
use std::fmt;

use super::{Did, Operation, Stored, Taken};

/// The books of a history: how many values came to what.
///
/// The counts are exact when the history ends with everything having been taken out. Otherwise
/// what was left counts as lost: tell [`Account::left`] first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// Values somebody tried to store.
    pub attempted: u64,
    /// Values whose store was acknowledged.
    pub acknowledged: u64,
    /// Values that were taken, each counted once.
    pub taken: u64,
    /// Acknowledged values that nobody took and that are not there either.
    pub lost: u64,
    /// Takes of a value that had been taken already. None is allowed.
    pub duplicated: u64,
    /// Taken values that nobody tried to store. None is allowed.
    pub unexpected: u64,
    /// Values that were taken though their store was never acknowledged.
    pub recovered: u64,
    /// Takes that may have taken a value without anybody knowing: each excuses one lost value.
    pub unanswered: u64,
}

impl Account {
    /// Adds up operations.
    #[must_use]
    pub fn of(operations: &[Operation]) -> Self {
        let mut stores: BTreeMap<i64, bool> = BTreeMap::new();
        let mut takes: BTreeMap<i64, u64> = BTreeMap::new();
        let mut account = Self::default();
        for operation in operations {
            match operation.did {
                Did::Store { value, outcome } => {
                    // A pending store whose admission is known counts.
                    let known = match outcome {
                        Stored::Acknowledged => true,
                        Stored::Pending => operation.to_us.is_some(),
                        Stored::Unknown => false,
                    };
                    *stores.entry(value).or_default() |= known;
                }
                Did::Take(Taken::Value(value)) => *takes.entry(value).or_default() += 1,
                Did::Take(Taken::Unknown | Taken::Cancelled) => account.unanswered += 1,
                _ => {}
            }
        }
        account.attempted = stores.len() as u64;
        account.taken = takes.len() as u64;
        account.duplicated = takes.values().map(|times| times - 1).sum();
        for (value, acknowledged) in &stores {
            match (acknowledged, takes.contains_key(value)) {
                (true, taken) => {
                    account.acknowledged += 1;
                    account.lost += u64::from(!taken);
                }
                (false, true) => account.recovered += 1,
                (false, false) => {}
            }
        }
        let unexpected = takes.keys().filter(|value| !stores.contains_key(value));
        account.unexpected = unexpected.count() as u64;
        account
    }

    /// The account when so many acknowledged values are still there.
    #[must_use]
    pub fn left(mut self, acknowledged: u64) -> Self {
        self.lost = self.lost.saturating_sub(acknowledged);
        self
    }

    /// True when nothing was duplicated or came from nowhere, and every loss is excused by a take
    /// without an answer.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.duplicated == 0 && self.unexpected == 0 && self.lost <= self.unanswered
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            (
                "attempted",
                self.attempted,
                "values somebody tried to store",
            ),
            ("acknowledged", self.acknowledged, "of them decided"),
            ("taken", self.taken, "values taken"),
            ("recovered", self.recovered, "of them never acknowledged"),
            ("lost", self.lost, "acknowledged, not taken, not there"),
            ("unanswered", self.unanswered, "takes that may have them"),
            ("duplicated", self.duplicated, "taken again: must be 0"),
            ("unexpected", self.unexpected, "never stored: must be 0"),
        ];
        for (n, (name, count, what)) in rows.into_iter().enumerate() {
            let end = if n == 0 { "" } else { "\n" };
            write!(f, "{end}{name:<12} {count:>20}  {what}")?;
        }
        Ok(())
    }
}
