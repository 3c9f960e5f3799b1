use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::ZERO;

fn ledger(elements: i64, change: impl FnOnce(&mut Job)) -> Ledger {
    let mut job = Job::new("w", "k", "j");
    change(&mut job);
    Ledger::new(&job, (0..elements).map(Value::Int).collect())
}

fn report(task: &Task, outcomes: Vec<Outcome>) -> Report {
    Report {
        id: task.id,
        node: "a".to_owned(),
        took: NOW,
        outcomes,
    }
}

fn echo(task: &Task) -> Report {
    report(task, task.elements.iter().cloned().map(Ok).collect())
}

#[test]
fn no_more_tasks_are_open_than_may_be() {
    let mut ledger = ledger(10, |job| (job.chunk, job.open_max) = (2, 3));
    let tasks: Vec<_> = std::iter::from_fn(|| ledger.issue(NOW)).collect();
    assert_eq!(
        tasks
            .iter()
            .map(|task| task.elements.len())
            .collect::<Vec<_>>(),
        [2, 2, 2]
    );
    ledger.accept(echo(&tasks[1]));
    assert_eq!(
        ledger.issue(NOW).unwrap().elements,
        [Value::Int(6), Value::Int(7)]
    );
    assert_eq!(ledger.issue(NOW), None);
}

#[test]
fn the_first_result_of_a_task_counts() {
    let mut ledger = ledger(1, |_| ());
    let task = ledger.issue(NOW).unwrap();
    assert_eq!(ledger.accept(echo(&task)).len(), 1);
    assert_eq!(ledger.accept(report(&task, vec![Ok(Value::Null)])), []);
    assert_eq!(ledger.into_outcomes(), [Ok(Value::Int(0))]);
}

#[test]
fn a_result_with_the_wrong_number_of_outcomes_is_dropped() {
    let mut ledger = ledger(2, |job| job.chunk = 2);
    let task = ledger.issue(NOW).unwrap();
    assert_eq!(ledger.accept(report(&task, vec![Ok(Value::Null)])), []);
    assert_eq!(ledger.accept(echo(&task)).len(), 2);
}

#[test]
fn only_what_failed_is_tried_again_and_alone() {
    let mut ledger = ledger(2, |job| (job.chunk, job.tries) = (2, 2));
    let task = ledger.issue(NOW).unwrap();
    let half = vec![Ok(Value::Null), Err("no".to_owned())];
    assert_eq!(ledger.accept(report(&task, half)).len(), 1);
    let again = ledger.issue(NOW).unwrap();
    assert_eq!(again.elements, [Value::Int(1)]);
    let settled = ledger.accept(report(&again, vec![Err("still no".to_owned())]));
    assert_eq!(
        settled,
        [Settled {
            index: 1,
            outcome: Err("still no".to_owned())
        }]
    );
    assert!(ledger.finished());
}

#[test]
fn a_lost_task_is_put_there_again_until_its_tries_are_used_up() {
    let mut ledger = ledger(1, |job| job.tries = 2);
    let task = ledger.issue(NOW).unwrap();
    let late = NOW + Duration::from_secs(60);
    assert_eq!(
        ledger.overdue(late - Duration::from_millis(1)),
        Vec::<u64>::new()
    );
    assert_eq!(ledger.overdue(late), [0]);
    assert_eq!(ledger.lost(0, late), (Some(task), vec![]));
    // Twice as patient now.
    assert_eq!(ledger.overdue(late * 2), Vec::<u64>::new());
    assert_eq!(ledger.overdue(late * 3), [0]);
    let (again, settled) = ledger.lost(0, late * 2);
    assert_eq!((again, settled.len()), (None, 1));
    assert!(
        ledger.into_outcomes()[0]
            .as_ref()
            .unwrap_err()
            .contains("taken 2 times")
    );
}

#[test]
fn waiting_for_a_worker_uses_up_no_tries() {
    let mut ledger = ledger(1, |job| job.tries = 1);
    ledger.issue(NOW).unwrap();
    let late = NOW + Duration::from_secs(60);
    ledger.waits(0, late);
    assert_eq!(ledger.overdue(late), Vec::<u64>::new());
    assert_eq!(ledger.overdue(late * 2), [0]);
}

proptest! {
    /// Whatever fails, is lost or comes twice: each element ends with one outcome, in its place,
    /// after at most its tries.
    #[test]
    fn every_element_ends_with_one_outcome(
        elements in 0..40_i64,
        chunk in 1..7_usize,
        open_max in 1..5_usize,
        tries in 1..4_u32,
        fates in prop::collection::vec(0..4_u8, 1..50),
    ) {
        let mut ledger = ledger(elements, |job| {
            (job.chunk, job.open_max, job.tries) = (chunk, open_max, tries);
        });
        let mut fates = fates.into_iter().cycle();
        let mut told = Vec::new();
        let mut open: Vec<Task> = Vec::new();
        let mut steps = 0;
        while !ledger.finished() {
            steps += 1;
            prop_assert!(steps < 1000);
            open.extend(std::iter::from_fn(|| ledger.issue(NOW)));
            prop_assert!(open.len() <= open_max);
            let task = open.remove(0);
            match fates.next() {
                Some(0) => {
                    let (again, settled) = ledger.lost(task.id, NOW);
                    open.extend(again);
                    told.extend(settled);
                }
                Some(1) => {
                    let outcomes = task.elements.iter().map(|_| Err("no".to_owned())).collect();
                    told.extend(ledger.accept(report(&task, outcomes)));
                }
                fate => {
                    told.extend(ledger.accept(echo(&task)));
                    if fate == Some(2) {
                        prop_assert_eq!(ledger.accept(echo(&task)), []);
                    }
                }
            }
        }
        prop_assert_eq!(ledger.open(), Vec::<u64>::new());
        let outcomes = ledger.into_outcomes();
        prop_assert_eq!(outcomes.len(), elements as usize);
        told.sort_by_key(|settled| settled.index);
        let told: Vec<_> = told.into_iter().map(|settled| settled.outcome).collect();
        prop_assert_eq!(&told, &outcomes);
        for (index, outcome) in outcomes.iter().enumerate() {
            prop_assert!(outcome.as_ref().is_err() || *outcome == Ok(Value::Int(index as i64)));
        }
    }
}
