use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::ZERO;

fn ledger(change: impl FnOnce(&mut Job)) -> Ledger {
    let mut job = Job::new("w", "k", "j");
    job.chunk = Chunk::Of(1);
    change(&mut job);
    Ledger::new(&job, 0)
}

/// A ledger to which so many elements were offered.
fn offered(elements: i64, change: impl FnOnce(&mut Job)) -> Ledger {
    let mut ledger = ledger(change);
    for element in 0..elements {
        assert_eq!(ledger.offer(Value::Int(element)), None);
    }
    ledger
}

fn issue(ledger: &mut Ledger) -> Option<Task> {
    ledger.issue(NOW, true)
}

fn values(task: &Task) -> Vec<Value> {
    task.elements
        .iter()
        .map(|element| element.value.clone())
        .collect()
}

fn report(task: &Task, outcome: impl Fn(&Value) -> Outcome) -> Report {
    let answer = |element: &Element| Answer {
        index: element.index,
        mark: Element::mark(&element.value),
        outcome: outcome(&element.value),
    };
    let answers = task.elements.iter().map(answer).collect();
    news(task, News::Answers { took: NOW, answers })
}

fn news(task: &Task, news: News) -> Report {
    Report {
        id: task.id,
        node: "a".to_owned(),
        news,
    }
}

fn begun() -> News {
    News::Begun {
        lease: "l".to_owned(),
    }
}

fn echo(task: &Task) -> Report {
    report(task, |value| Ok(value.clone()))
}

#[test]
fn no_more_tasks_are_open_than_may_be() {
    let mut ledger = offered(10, |job| (job.chunk, job.open_max) = (Chunk::Of(2), 3));
    let tasks: Vec<_> = std::iter::from_fn(|| issue(&mut ledger)).collect();
    let sizes: Vec<_> = tasks.iter().map(|task| task.elements.len()).collect();
    assert_eq!(sizes, [2, 2, 2]);
    assert!(!ledger.room());
    ledger.accept(echo(&tasks[1]), NOW);
    assert_eq!(values(&issue(&mut ledger).unwrap()), [6, 7].map(Value::Int));
    assert_eq!(issue(&mut ledger), None);
}

#[test]
fn a_load_factor_bounds_tasks_by_workers_and_leaves_one_for_a_new_worker() {
    let mut ledger = offered(20, |job| job.load_factor = Some(3));
    let by = |node: &str, task: &Task, what: News| Report {
        node: node.to_owned(),
        ..news(task, what)
    };
    let all = |ledger: &mut Ledger| std::iter::from_fn(|| issue(ledger)).collect::<Vec<_>>();
    // Nobody is known: one waits, to be found.
    let first = all(&mut ledger);
    assert_eq!(first.len(), 1);
    ledger.accept(by("a", &first[0], begun()), NOW);
    let second = all(&mut ledger);
    assert_eq!(second.len(), 2, "three for one worker");
    ledger.accept(by("b", &second[0], begun()), NOW);
    let third = all(&mut ledger);
    assert_eq!(third.len(), 3, "six for two workers");
    // All are begun by those two: one more for a third.
    for task in third.iter().chain(&second[1..]) {
        ledger.accept(by("a", task, begun()), NOW);
    }
    assert_eq!(all(&mut ledger).len(), 1);
    assert!(!ledger.room());
}

#[test]
fn the_first_result_of_an_element_counts_and_only_its_own() {
    let mut ledger = offered(2, |job| job.chunk = Chunk::Of(2));
    let task = issue(&mut ledger).unwrap();
    let mut other = task.clone();
    other.elements[0].value = Value::from("another");
    let settled = ledger.accept(echo(&other), NOW);
    assert_eq!(
        settled.iter().map(|done| done.index).collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(ledger.accept(echo(&task), NOW).len(), 1);
    assert_eq!(ledger.accept(report(&task, |_| Ok(Value::Null)), NOW), []);
    assert!(ledger.is_idle());
}

#[test]
fn only_what_failed_is_tried_again_and_alone() {
    let mut ledger = offered(2, |job| (job.chunk, job.tries) = (Chunk::Of(2), 2));
    let task = issue(&mut ledger).unwrap();
    let fails = |value: &Value| match value {
        Value::Int(0) => Ok(Value::Null),
        _ => Err("no".to_owned()),
    };
    assert_eq!(ledger.accept(report(&task, fails), NOW).len(), 1);
    let again = issue(&mut ledger).unwrap();
    assert_eq!(values(&again), [Value::Int(1)]);
    let settled = ledger.accept(report(&again, |_| Err("still no".to_owned())), NOW);
    assert_eq!((settled[0].index, settled[0].tries), (1, 2));
    assert_eq!(settled[0].outcome, Err("still no".to_owned()));
    assert!(ledger.is_idle());
}

#[test]
fn a_value_can_count_as_a_failure_and_the_last_one_is_the_outcome() {
    let mut ledger = offered(1, |job| {
        job.tries = 2;
        job.is_failure = Some(|value| *value == Value::Null);
    });
    let task = issue(&mut ledger).unwrap();
    assert_eq!(ledger.accept(report(&task, |_| Ok(Value::Null)), NOW), []);
    let again = issue(&mut ledger).unwrap();
    let settled = ledger.accept(report(&again, |_| Ok(Value::Null)), NOW);
    assert_eq!(
        (&settled[0].outcome, settled[0].tries),
        (&Ok(Value::Null), 2)
    );
}

#[test]
fn a_task_begun_too_often_is_taken_apart_and_the_poison_set_aside() {
    let mut ledger = offered(2, |job| (job.chunk, job.losses) = (Chunk::Of(2), 1));
    let task = issue(&mut ledger).unwrap();
    ledger.accept(news(&task, begun()), NOW);
    assert!(!ledger.is_poison(task.id) && ledger.running() == 2);
    ledger.accept(news(&task, begun()), NOW);
    assert!(ledger.is_poison(task.id));
    assert_eq!(ledger.overdue(NOW), [task.id]);
    assert_eq!(ledger.lost(task.id, NOW), (None, vec![]));
    // Each alone now: one is good, and the other is not.
    let (first, second) = (issue(&mut ledger).unwrap(), issue(&mut ledger).unwrap());
    assert_eq!(ledger.accept(echo(&first), NOW).len(), 1);
    for _ in 0..2 {
        ledger.accept(news(&second, begun()), NOW);
    }
    let (again, settled) = ledger.lost(second.id, NOW);
    assert_eq!((again, settled.len()), (None, 1));
    assert!(
        settled[0]
            .outcome
            .as_ref()
            .unwrap_err()
            .contains("begun 2 times")
    );
    assert!(ledger.is_idle());
}

#[test]
fn a_task_of_which_nothing_is_heard_is_looked_for_and_signs_of_life_put_that_off() {
    let mut ledger = offered(1, |_| ());
    let task = issue(&mut ledger).unwrap();
    let late = Duration::from_secs(30);
    assert_eq!(
        ledger.overdue(late - Duration::from_millis(1)),
        Vec::<u64>::new()
    );
    assert_eq!(ledger.overdue(late), [0]);
    ledger.accept(news(&task, News::Alive), late);
    assert_eq!(ledger.overdue(late), Vec::<u64>::new());
    assert_eq!(ledger.lost(0, 2 * late), (Some(task), vec![]));
    // Twice as patient now.
    assert_eq!(ledger.overdue(3 * late), Vec::<u64>::new());
    assert_eq!(ledger.overdue(4 * late), [0]);
    ledger.waits(0, 4 * late);
    assert_eq!(ledger.overdue(4 * late), Vec::<u64>::new());
}

#[test]
fn what_an_earlier_life_brought_counts_if_it_is_of_the_same_element() {
    let mut ledger = ledger(|_| ());
    let element = |index: usize, value: i64| Element {
        index,
        value: Value::Int(value),
    };
    let task = Task {
        job: "j".to_owned(),
        id: 99,
        elements: vec![element(0, 10), element(1, 11)],
    };
    ledger.remember(echo(&task));
    assert_eq!(
        ledger.offer(Value::Int(10)).unwrap().outcome,
        Ok(Value::Int(10))
    );
    assert_eq!(ledger.offer(Value::from("another")), None);
    assert_eq!(
        values(&issue(&mut ledger).unwrap()),
        [Value::from("another")]
    );
    assert_eq!((ledger.done(), ledger.offered()), (1, 2));
}

#[test]
fn failures_of_an_earlier_life_count_and_the_tries_that_are_left_are_had() {
    let mut first = offered(1, |_| ());
    let task = issue(&mut first).unwrap();
    let fails = || report(&task, |_| Err("no".to_owned()));
    let of_two = || ledger(|job| job.tries = 2);
    // One is left.
    let mut ledger = of_two();
    ledger.remember(fails());
    assert_eq!(ledger.offer(Value::Int(0)), None);
    let again = issue(&mut ledger).unwrap();
    let settled = ledger.accept(report(&again, |_| Err("still no".to_owned())), NOW);
    assert_eq!((settled[0].index, settled[0].tries), (0, 2));
    assert!(ledger.is_idle());
    // None is.
    let mut ledger = of_two();
    ledger.remember(fails());
    ledger.remember(fails());
    let settled = ledger.offer(Value::Int(0)).unwrap();
    assert_eq!((settled.outcome, settled.tries), (Err("no".to_owned()), 2));
    // A result is one, whatever was or comes beside it.
    let mut ledger = of_two();
    ledger.remember(fails());
    ledger.remember(echo(&task));
    ledger.remember(fails());
    let settled = ledger.offer(Value::Int(0)).unwrap();
    assert_eq!((settled.outcome, settled.tries), (Ok(Value::Int(0)), 2));
}

#[test]
fn tasks_grow_until_they_take_long_enough_and_shrink_at_the_end() {
    let mut ledger = offered(600, |job| job.chunk = Chunk::Auto);
    let first = issue(&mut ledger).unwrap();
    assert_eq!(first.elements.len(), 1);
    let mut quick = echo(&first);
    let News::Answers { took, .. } = &mut quick.news else {
        panic!("it has answers");
    };
    *took = Duration::from_millis(1);
    ledger.accept(quick, NOW);
    assert_eq!(ledger.issue(NOW, false).unwrap().elements.len(), 60);
    // No more will come: one worker is known, which gets half of what is left at once.
    assert_eq!(ledger.issue(NOW, true).unwrap().elements.len(), 60);
    while ledger.fresh.len() > 60 {
        issue(&mut ledger).unwrap();
    }
    let left = ledger.fresh.len();
    assert_eq!(issue(&mut ledger).unwrap().elements.len(), left.div_ceil(2));
}

#[test]
fn what_a_worker_gives_back_is_put_there_again_first() {
    let mut ledger = offered(6, |job| job.chunk = Chunk::Of(4));
    let task = issue(&mut ledger).unwrap();
    ledger.accept(news(&task, begun()), NOW);
    let indexes = vec![1, 2, 3];
    ledger.accept(news(&task, News::Spare { indexes }), NOW);
    assert_eq!(ledger.running(), 1);
    let next = issue(&mut ledger).unwrap();
    assert_eq!(values(&next), [1, 2, 3, 4].map(Value::Int));
    // What is told of them by the first worker comes too late; of the one it kept, it counts.
    let settled = ledger.accept(echo(&task), NOW);
    assert_eq!(settled.len(), 1);
    assert_eq!(settled[0].index, 0);
    assert_eq!(ledger.accept(echo(&next), NOW).len(), 4);
    assert_eq!((ledger.cancel_fresh(), ledger.fresh_bytes), (1, 0));
    assert!(ledger.is_idle());
}

#[test]
fn what_is_cancelled_is_counted() {
    let mut ledger = offered(5, |job| (job.chunk, job.open_max) = (Chunk::Of(2), 1));
    let task = issue(&mut ledger).unwrap();
    assert_eq!(ledger.cancel_fresh(), 3);
    assert_eq!(ledger.cancel(task.id), 2);
    assert!(ledger.is_idle());
    assert_eq!(ledger.accept(echo(&task), NOW), []);
}

#[test]
fn long_elements_make_tasks_of_few_and_short_ones_of_many() {
    for chunk in [Chunk::Auto, Chunk::Of(200)] {
        let mut ledger = ledger(|job| job.chunk = chunk);
        ledger.pace = Some(Duration::from_micros(1));
        for bytes in [300_000, 100_000, 100_000, 100_000, 1, 1, 1] {
            ledger.offer(Value::Bytes(vec![0; bytes]));
        }
        // There is enough for two tasks, whatever comes.
        assert!(!ledger.room());
        // With somebody for each: nothing is held back until more comes.
        let workers = ["a", "b", "c"].map(str::to_owned);
        ledger.workers.extend(workers);
        let tasks = std::iter::from_fn(|| ledger.issue(NOW, false));
        let sizes: Vec<_> = tasks.map(|task| task.elements.len()).collect();
        assert_eq!(sizes, [1, 2, 4], "{chunk:?}");
        assert!(ledger.room() && ledger.fresh_bytes == 0);
    }
}

#[test]
fn what_fits_in_no_tuple_is_tried_alone_and_has_failed_then() {
    let mut ledger = offered(2, |job| job.chunk = Chunk::Of(2));
    let why = cpe_tuple::LimitError::Depth { depth: 9, limit: 8 };
    let task = issue(&mut ledger).unwrap();
    assert_eq!(ledger.refuse(task.id, &why), []);
    let (first, second) = (issue(&mut ledger).unwrap(), issue(&mut ledger).unwrap());
    let settled = ledger.refuse(second.id, &why);
    assert_eq!(settled[0].index, 1);
    assert!(
        settled[0]
            .outcome
            .as_ref()
            .unwrap_err()
            .contains("fits in no tuple: a value is nested 9 deep")
    );
    assert_eq!(ledger.accept(echo(&first), NOW).len(), 1);
    assert!(ledger.is_idle());
}

proptest! {
    /// Whatever fails, is lost or comes twice: each element ends with one outcome, after a bounded
    /// number of tries.
    #[test]
    fn every_element_ends_with_one_outcome(
        elements in 0..40_usize,
        chunk in prop_oneof![Just(Chunk::Auto), (1..7_usize).prop_map(Chunk::Of)],
        open_max in 1..5_usize,
        tries in 1..4_u32,
        fates in prop::collection::vec(0..6_u8, 1..50),
    ) {
        let mut ledger = ledger(|job| {
            (job.chunk, job.open_max, job.tries) = (chunk, open_max, tries);
        });
        let mut fates = fates.into_iter().cycle();
        let (mut told, mut open): (Vec<Settled>, Vec<Task>) = (Vec::new(), Vec::new());
        let mut halved = std::collections::BTreeSet::new();
        let mut steps = 0;
        while !ledger.is_idle() || ledger.offered() < elements {
            steps += 1;
            prop_assert!(steps < 2000);
            while ledger.room() && ledger.offered() < elements {
                ledger.offer(Value::Int(ledger.offered() as i64));
            }
            let last = ledger.offered() == elements;
            open.extend(std::iter::from_fn(|| ledger.issue(NOW, last)));
            prop_assert!(open.len() <= open_max);
            if open.is_empty() {
                continue;
            }
            let task = open.remove(0);
            let fate = fates.next();
            ledger.accept(news(&task, begun()), NOW);
            match fate {
                Some(0) => {
                    let (again, settled) = ledger.lost(task.id, NOW);
                    open.extend(again);
                    told.extend(settled);
                }
                Some(1) => {
                    told.extend(ledger.accept(report(&task, |_| Err("no".to_owned())), NOW));
                }
                Some(2) if task.elements.len() > 1 && halved.insert(task.id) => {
                    // Half is told, and the rest is told by whoever gets it next.
                    let mut half = task.clone();
                    let middle = task.elements.len() / 2;
                    if steps % 2 == 0 {
                        half.elements.truncate(middle);
                    } else {
                        half.elements.drain(..middle);
                    }
                    told.extend(ledger.accept(echo(&half), NOW));
                    if ledger.task(task.id).is_some() {
                        open.push(task);
                    }
                }
                Some(4) if task.elements.len() > 1 && halved.insert(task.id) => {
                    // It gives all but one back.
                    let indexes = task.elements.iter().skip(1).map(|element| element.index);
                    let indexes = indexes.collect();
                    ledger.accept(news(&task, News::Spare { indexes }), NOW);
                    if ledger.task(task.id).is_some() {
                        open.push(task);
                    }
                }
                _ => {
                    told.extend(ledger.accept(echo(&task), NOW));
                    if fate == Some(3) {
                        prop_assert_eq!(ledger.accept(echo(&task), NOW), []);
                    }
                }
            }
        }
        prop_assert_eq!(ledger.open(), Vec::<u64>::new());
        prop_assert_eq!((ledger.done(), told.len()), (elements, elements));
        told.sort_by_key(|settled| settled.index);
        for (index, settled) in told.iter().enumerate() {
            prop_assert_eq!(settled.index, index);
            let right = settled.outcome == Ok(Value::Int(index as i64));
            prop_assert!(right || settled.outcome.is_err());
        }
    }
}
