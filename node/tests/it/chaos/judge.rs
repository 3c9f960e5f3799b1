//! What a history has to be, whatever went wrong while it was made.

use cpe::Mode;
use cpe_sim::history::{Account, Checked, Did, History, Operation, Stored, Taken};

use super::client::Asked;

/// What was found in a history that is right.
#[derive(Debug)]
pub(crate) struct Sound {
    pub(crate) checked: Checked,
    pub(crate) account: Account,
    /// Takes that may have cost a tuple: nobody knows how they ended.
    pub(crate) excuses: u64,
}

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
            Did::Take(Taken::Cancelled) if one.asked.promised && lives[node] == life => {
                operation.to_us = Some(by_us);
            }
            _ => {}
        }
        operation
    };
    recorded.iter().map(known).collect()
}

/// A history of these operations.
pub(crate) fn history(modes: &[(&str, Mode)], operations: &[Operation]) -> History {
    let mut history = History::default();
    for (variable, mode) in modes {
        history.declare(*variable, *mode);
    }
    for operation in operations {
        history.push(operation.clone()).unwrap();
    }
    history
}

/// Judges a history at whose end everything was taken out.
///
/// Its operations must fit one order for each variable (the simulator's checkers), and its books
/// must balance: nothing taken twice, nothing from nowhere, and no more lost than takes without an
/// end, each of which may have cost one tuple (guarantee G7). A take that timed out or was
/// unavailable is no excuse.
pub(crate) fn judge(history: &History) -> Result<Sound, String> {
    let checked = history.check().map_err(|conflict| conflict.to_string())?;
    // What replaced what in a `single` variable is known to no client: it has no books.
    let single = |operation: &&Operation| {
        let variable = operation.variable.as_ref();
        let mode = variable.and_then(|variable| history.modes().get(variable));
        mode == Some(&Mode::Single)
    };
    let all = history.operations().iter();
    let booked: Vec<Operation> = all.filter(|one| !single(one)).cloned().collect();
    let account = Account::of(&booked);
    let open = |operation: &&Operation| {
        let lost = matches!(operation.did, Did::Take(Taken::Unknown | Taken::Cancelled));
        lost && operation.to_us.is_none()
    };
    let excuses = booked.iter().filter(open).count() as u64;
    if account.duplicated > 0 || account.unexpected > 0 || account.lost > excuses {
        return Err(format!(
            "the books do not balance; {excuses} takes have no known end\n{account}"
        ));
    }
    Ok(Sound {
        checked,
        account,
        excuses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: &[(&str, Mode)] = &[("q", Mode::Fifo), ("s", Mode::Lifo), ("r", Mode::Single)];

    fn store(at: u64, variable: &str, value: i64, outcome: Stored) -> Operation {
        let ended = (outcome == Stored::Acknowledged).then_some(at + 5);
        Operation::new(1, variable, at, ended, Did::Store { value, outcome })
    }

    fn take(at: u64, variable: &str, taken: Taken) -> Operation {
        Operation::new(2, variable, at, Some(at + 5), Did::Take(taken))
    }

    /// Three values go in and come out, one of them stored while no home could be reached.
    fn right() -> Vec<Operation> {
        let mut operations = Vec::new();
        for (variable, [first, last], out) in [("q", [1, 2], [1, 2]), ("s", [11, 12], [12, 11])] {
            operations.push(store(0, variable, first, Stored::Acknowledged));
            operations.push(store(10, variable, last, Stored::Acknowledged));
            operations.push(take(20, variable, Taken::Value(out[0])));
            operations.push(take(30, variable, Taken::Value(out[1])));
        }
        operations.push(store(0, "q", 3, Stored::Pending));
        operations.push(take(80, "q", Taken::Value(3)));
        operations.push(take(90, "q", Taken::Empty));
        let recorded = operations.into_iter().map(|operation| Recorded {
            asked: Asked {
                operation,
                promised: false,
            },
            by: (0, 0),
        });
        at_rest(&recorded.collect::<Vec<_>>(), 70, &[0])
    }

    #[track_caller]
    fn refused(operations: &[Operation], why: &str) {
        let said = judge(&history(MODES, operations)).unwrap_err();
        assert!(said.contains(why), "{why:?} is not in {said}");
    }

    #[test]
    fn a_right_history_is_accepted() {
        let sound = judge(&history(MODES, &right())).unwrap();
        assert_eq!((sound.account.acknowledged, sound.account.lost), (5, 0));
    }

    #[test]
    fn a_tampered_history_is_refused() {
        let tampered = |tamper: &dyn Fn(&mut Vec<Operation>)| {
            let mut operations = right();
            tamper(&mut operations);
            operations
        };
        let twice = tampered(&|all| all.push(take(95, "q", Taken::Value(1))));
        refused(&twice, "value 1 was taken twice");
        let nowhere = tampered(&|all| all.push(take(95, "q", Taken::Value(99))));
        refused(&nowhere, "value 99 was seen but never stored");
        let overtaking = tampered(&|all| {
            all[2].did = Did::Take(Taken::Value(2));
            all[3].did = Did::Take(Taken::Value(1));
        });
        refused(&overtaking, "overtook");
        let falsely_empty = tampered(&|all| all.push(take(17, "q", Taken::Empty)));
        refused(&falsely_empty, "nothing there");
    }

    #[test]
    fn a_store_that_is_gone_is_refused_unless_a_take_without_an_end_may_have_it() {
        let gone = |value: i64| {
            let mut operations = right();
            operations.retain(|one| one.did != Did::Take(Taken::Value(value)));
            // What is left to see of it: a space that says it is empty.
            operations.retain(|one| one.did != Did::Take(Taken::Empty));
            operations
        };
        for value in [11, 3] {
            refused(&gone(value), "lost                            1");
        }
        let mut excused = gone(11);
        excused.push(Operation::new(
            3,
            "s",
            12,
            None,
            Did::Take(Taken::Cancelled),
        ));
        assert_eq!(judge(&history(MODES, &excused)).unwrap().excuses, 1);
        let mut timed_out = gone(11);
        let did = Did::Take(Taken::Cancelled);
        timed_out.push(Operation::new(3, "s", 12, Some(60), did));
        refused(&timed_out, "lost                            1");
    }

    #[test]
    fn a_promise_to_put_back_counts_while_its_node_lives() {
        let did = Did::Take(Taken::Cancelled);
        let asked = |promised| Asked {
            operation: Operation::new(3, "s", 12, None, did),
            promised,
        };
        let end = |promised, life| {
            let by = (0, 4);
            let asked = asked(promised);
            at_rest(&[Recorded { asked, by }], 60, &[life])[0].to_us
        };
        assert_eq!(end(true, 4), Some(60));
        assert_eq!(end(true, 5), None, "it died with what it had taken");
        assert_eq!(end(false, 4), None);
    }
}
