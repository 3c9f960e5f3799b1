//! The judge judged: right histories pass it, and tampered ones do not.

use cpe::Mode;
use cpe_sim::history::{Did, Operation, Sound, Stored, Taken};

use super::client::Asked;
use super::record::{Recorded, at_rest, history};

fn judge(operations: &[Operation]) -> Result<Sound, String> {
    let history = history(MODES.iter().copied(), operations).unwrap();
    history.judge().map_err(|why| why.to_string())
}

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
    let said = judge(operations).unwrap_err();
    assert!(said.contains(why), "{why:?} is not in {said}");
}

#[test]
fn a_right_history_is_accepted() {
    let sound = judge(&right()).unwrap();
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
    assert_eq!(judge(&excused).unwrap().excuses, 1);
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
