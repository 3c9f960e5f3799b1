//! The record of what clients of real processes asked and were answered.

use cpe::Mode;
use cpe_sim::history::{Did, History, HistoryError, Operation, Stored, Taken};

use super::client::Asked;

/// An operation, and what became of its node.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) asked: Asked,
    /// Which node, and which of its lives.
    pub(crate) by: (usize, u32),
}

/// What is known once nothing is under way any more, at this time: stores that were pending are
/// admitted, and a node that still lives its `lives` has put back what it had promised to.
pub(crate) fn at_rest(recorded: &[Recorded], by_us: u64, lives: &[u32]) -> Vec<Operation> {
    let known = |one: &Recorded| {
        let mut operation = one.asked.operation.clone();
        let (node, life) = one.by;
        match operation.did {
            Did::Store {
                outcome: Stored::Pending,
                ..
            } => operation.to_us = Some(by_us),
            Did::Take(Taken::Cancelled) if one.asked.promised && lives.get(node) == Some(&life) => {
                operation.to_us = Some(by_us);
            }
            _ => {}
        }
        operation
    };
    recorded.iter().map(known).collect()
}

/// A history of these operations.
///
/// # Errors
/// When there are too many for one history.
pub(crate) fn history<'a>(
    modes: impl IntoIterator<Item = (&'a str, Mode)>,
    operations: &[Operation],
) -> Result<History, HistoryError> {
    let mut history = History::default();
    for (variable, mode) in modes {
        history.declare(variable, mode);
    }
    for operation in operations {
        history.push(operation.clone())?;
    }
    Ok(history)
}
