//! What a history has to be at whose end everything was taken out.

use std::fmt;

use cpe_space::Mode;

use super::{Account, Checked, Conflict, Did, History, Operation, Taken};

/// What was found in a history that is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// What was checked.
    pub checked: Checked,
    /// The books of all variables but the `single` ones.
    pub account: Account,
    /// Takes that may have cost a tuple: nobody knows how they ended.
    pub excuses: u64,
}

/// Why a history is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsound {
    /// Operations of a variable contradict each other.
    Order(Box<Conflict>),
    /// The books do not balance.
    Books {
        /// The books.
        account: Account,
        /// Takes without a known end: each may have cost one tuple.
        excuses: u64,
    },
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(conflict) => conflict.fmt(f),
            Self::Books { account, excuses } => {
                writeln!(
                    f,
                    "the books do not balance; {excuses} takes have no known end"
                )?;
                account.fmt(f)
            }
        }
    }
}

impl std::error::Error for Unsound {}

impl History {
    /// Judges a history at whose end everything was taken out.
    ///
    /// Its operations must fit one order for each variable ([`History::check`]), and its books must
    /// balance: nothing taken twice, nothing from nowhere, and no more lost than takes without an
    /// end, each of which may have cost one tuple (guarantee G7). A take that timed out or was
    /// unavailable is no excuse.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge(&self) -> Result<Sound, Unsound> {
        let checked = self.check().map_err(Unsound::Order)?;
        // What replaced what in a `single` variable is known to no client: it has no books.
        let single = |operation: &&Operation| {
            let variable = operation.variable.as_ref();
            let mode = variable.and_then(|variable| self.modes().get(variable));
            mode == Some(&Mode::Single)
        };
        let all = self.operations().iter();
        let booked: Vec<Operation> = all.filter(|one| !single(one)).cloned().collect();
        let account = Account::of(&booked);
        let open = |operation: &&Operation| {
            let lost = matches!(operation.did, Did::Take(Taken::Unknown | Taken::Cancelled));
            lost && operation.to_us.is_none()
        };
        let excuses = booked.iter().filter(open).count() as u64;
        if account.duplicated > 0 || account.unexpected > 0 || account.lost > excuses {
            return Err(Unsound::Books { account, excuses });
        }
        Ok(Sound {
            checked,
            account,
            excuses,
        })
    }
}
