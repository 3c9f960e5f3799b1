//! Masters and workers over a real peer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod harness;
mod masters;
mod poison;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cpe_sleigh::{
    Chunk, Job, Outcome, TaskSpace, Worker, each_elem, each_elem_pending, each_worker, imap, star,
};
use cpe_tuple::{Field, Kind, Template, Tuple, Value};
use futures::StreamExt as _;
use harness::{Local, Lossy};
use tokio::time::Instant;

fn job() -> Job {
    Job::new("w", "double", "j1")
}

fn numbers(count: i64) -> Vec<Value> {
    (0..count).map(Value::Int).collect()
}

/// Starts a worker that doubles numbers, panics at 13 and fails at 7.
fn work(space: &Local, node: &str) -> tokio::task::AbortHandle {
    let worker = Worker::new(space.clone(), "w", "double", node);
    let working = tokio::spawn(async move {
        worker
            .run(|value| async move {
                let n = value.as_int().ok_or("not a number")?;
                assert_ne!(n, 13, "an unlucky number");
                // The later ones are done first, for the order of results to be worth something.
                tokio::time::sleep(Duration::from_millis((100 - n).unsigned_abs())).await;
                if n == 7 {
                    Err("a seven".to_owned())
                } else {
                    Ok(Value::Int(2 * n))
                }
            })
            .await;
    });
    working.abort_handle()
}

fn task(id: Field) -> Template {
    let kind = Field::Actual(Value::from("task:double"));
    Template::new(vec![kind, Field::Any, id, Field::Typed(Kind::List)]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_in_the_order_of_the_elements() {
    let space = Local::start();
    let workers: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|node| work(&space, node))
        .collect();
    let mut job = job();
    job.chunk = Chunk::Of(2);
    let mut told = Vec::new();
    let elements: Vec<_> = numbers(12)
        .into_iter()
        .filter(|n| *n != Value::Int(7))
        .collect();
    let outcomes = each_elem(&space, &job, elements.clone(), |arrival| {
        told.push((arrival.done, arrival.index, arrival.node.to_owned()));
    });
    let outcomes = outcomes.await.unwrap();
    let doubled = |value: &Value| Ok(Value::Int(2 * value.as_int().unwrap()));
    assert_eq!(
        outcomes,
        elements.iter().map(doubled).collect::<Vec<Outcome>>()
    );
    assert_eq!(
        told.iter().map(|(done, ..)| *done).collect::<Vec<_>>(),
        (1..=11).collect::<Vec<_>>()
    );
    assert_ne!(
        told.iter().map(|(_, index, _)| *index).collect::<Vec<_>>(),
        (0..11).collect::<Vec<_>>()
    );
    for node in ["a", "b", "c"] {
        assert!(
            told.iter().any(|(.., by)| by == node),
            "{node} did nothing: {told:?}"
        );
    }
    assert_eq!(space.tuples("w").await, 0);
    workers.iter().for_each(tokio::task::AbortHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_task_of_a_worker_that_died_is_done_by_another() {
    let space = Local::start();
    let dies = async {
        // Takes a task under a lease and is never heard of again; only then does a good one come.
        let second = Duration::from_secs(1);
        let taken = space.take_leased("w", task(Field::Any), second, 10 * second);
        assert!(taken.await.unwrap().is_some());
        work(&space, "b")
    };
    let job = job();
    let (outcomes, worker) = tokio::join!(each_elem(&space, &job, numbers(3), |_| ()), dies);
    assert_eq!(outcomes.unwrap(), [0, 2, 4].map(|n| Ok(Value::Int(n))));
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_lost_with_the_space_is_put_there_again() {
    let space = Local::start();
    let loses = async {
        // Not under a lease: it is gone, as with a volatile shard that begins anew.
        let taken = space.take("w", task(Field::Any), Duration::from_secs(10));
        assert!(taken.await.unwrap().is_some());
        work(&space, "b")
    };
    let job = job();
    let (outcomes, worker) = tokio::join!(each_elem(&space, &job, numbers(3), |_| ()), loses);
    assert_eq!(outcomes.unwrap(), [0, 2, 4].map(|n| Ok(Value::Int(n))));
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn a_task_longer_than_any_patience_is_begun_once() {
    let space = Local::start();
    let begun = AtomicUsize::new(0);
    let worker = Worker::new(&space, "w", "double", "slow");
    let slow = |value: Value| {
        begun.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            Ok(value)
        }
    };
    let mut job = job();
    job.patience = Duration::from_secs(10);
    let outcomes = tokio::select! {
        outcomes = each_elem(&space, &job, numbers(1), |_| ()) => outcomes.unwrap(),
        () = worker.run(slow) => unreachable!(),
    };
    assert_eq!(
        (outcomes, begun.load(Ordering::Relaxed)),
        (vec![Ok(Value::Int(0))], 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_drawn_only_as_far_as_workers_get_through_it() {
    let space = Local::start();
    let worker = work(&space, "a");
    let drawn = AtomicUsize::new(0);
    let elements = futures::stream::iter(14..).map(|n| {
        drawn.fetch_add(1, Ordering::Relaxed);
        Value::Int(n)
    });
    let mut job = job();
    (job.chunk, job.open_max) = (Chunk::Of(2), 4);
    let mut map = imap(&space, job, elements);
    for index in 0..40 {
        let done = map.next().await.unwrap().unwrap();
        assert_eq!(
            (done.index, done.outcome),
            (index, Ok(Value::from(2 * (index as i64 + 14))))
        );
        let ahead = drawn.load(Ordering::Relaxed) - index;
        assert!(
            ahead <= 16,
            "{ahead} elements of an endless stream are under way"
        );
    }
    map.stopper().stop();
    let mut rest = 0;
    while map.next().await.unwrap().is_some() {
        rest += 1;
    }
    let standing = map.standing();
    assert_eq!(40 + rest + standing.cancelled, standing.offered);
    map.clean().await;
    assert_eq!(space.tuples("w").await, 0);
    worker.abort();
}

/// What a map keeps, here and in the space, does not depend on how many elements there are.
#[tokio::test(start_paused = true)]
async fn five_thousand_elements_need_no_more_room_than_two_hundred() {
    let space = Local::start();
    let echo = |value: Value| async { Ok(value) };
    let workers = futures::future::join_all((0..4).map(|n| {
        let worker = Worker::new(space.clone(), "w", "double", format!("w{n}"));
        async move { worker.run(echo).await }
    }));
    let job = |id: &str| {
        let mut job = Job::new("w", "double", id);
        (job.chunk, job.open_max, job.look_ahead) = (Chunk::Of(4), 8, 64);
        job
    };
    let maps = async {
        let mut most = Vec::new();
        for count in [200_i64, 5_000] {
            let drawn = AtomicUsize::new(0);
            let elements = futures::stream::iter(0..count).map(|n| {
                drawn.fetch_add(1, Ordering::Relaxed);
                Value::Int(n)
            });
            let mut map = imap(&space, job(&format!("of-{count}")), elements);
            let (mut ahead, mut tuples, mut given) = (0, 0, 0);
            while let Some(done) = map.next().await.unwrap() {
                assert_eq!(done.index, given);
                given += 1;
                ahead = ahead.max(drawn.load(Ordering::Relaxed) - given);
                if given % 50 == 0 {
                    tuples = tuples.max(space.tuples("w").await);
                }
            }
            assert_eq!(given, usize::try_from(count).unwrap());
            map.clean().await;
            assert_eq!(space.tuples("w").await, 0);
            most.push((ahead, tuples));
        }
        most
    };
    let most = tokio::select! {
        most = maps => most,
        _ = workers => unreachable!(),
    };
    for (ahead, tuples) in most {
        // Tasks that are open, what waits to become one, and what waits for its turn.
        assert!(ahead <= 8 * 4 + 2 * 4 + 64, "{ahead} elements were kept");
        // A task, that it was begun, and what came of it, for each that is open.
        assert!(tuples <= 3 * 8, "{tuples} tuples were in the space");
    }
}

#[tokio::test(start_paused = true)]
async fn large_results_that_wait_for_their_turn_are_bounded_by_their_bytes() {
    const BYTES: usize = 10_000;
    let space = Local::start();
    let worker = |name: &str| Worker::new(space.clone(), "w", "double", name);
    // The first element takes longer than all others together.
    let work = |value: Value| async move {
        if value == Value::Int(0) {
            tokio::time::sleep(Duration::from_secs(500)).await;
        }
        Ok(Value::Bytes(vec![0; BYTES]))
    };
    let (one, two) = (worker("a"), worker("b"));
    let workers = async { tokio::join!(one.run(work), two.run(work)) };
    let drawn = AtomicUsize::new(0);
    let elements = futures::stream::iter(0..600).map(|n| {
        drawn.fetch_add(1, Ordering::Relaxed);
        Value::Int(n)
    });
    let mut job = job();
    (job.chunk, job.open_max, job.look_ahead_bytes) = (Chunk::Of(1), 4, 20 * BYTES);
    let mut map = imap(&space, job, elements);
    let mapped = async {
        let first = map.next().await.unwrap().unwrap();
        assert_eq!(first.index, 0);
        let drawn = drawn.load(Ordering::Relaxed);
        let mut rest = 0;
        while map.next().await.unwrap().is_some() {
            rest += 1;
        }
        (drawn, rest)
    };
    let (drawn, rest) = tokio::select! {
        told = mapped => told,
        _ = workers => unreachable!(),
    };
    // Twenty that wait, and what was under way when there were as many.
    assert!((20..=20 + 4 + 2 + 1).contains(&drawn), "{drawn}");
    assert_eq!(rest, 599);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_never_ends_is_given_up_and_others_are_done() {
    let space = Local::start();
    let worker = Worker::new(&space, "w", "double", "a").within(Duration::from_secs(5));
    let calls = AtomicUsize::new(0);
    let work = |value: Value| {
        calls.fetch_add(1, Ordering::Relaxed);
        async move {
            if value == Value::Int(3) {
                std::future::pending::<()>().await;
            }
            Ok(value)
        }
    };
    let job = job();
    let outcomes = tokio::select! {
        outcomes = each_elem(&space, &job, numbers(6), |_| ()) => outcomes.unwrap(),
        () = worker.run(work) => unreachable!(),
    };
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match n {
            3 => assert_eq!(outcome, Err("it did not end within 5s".to_owned())),
            _ => assert_eq!(outcome, Ok(Value::from(n as i64))),
        }
    }
    // As often as a failure is tried.
    assert_eq!(calls.load(Ordering::Relaxed), 5 + 3);
}

#[tokio::test(start_paused = true)]
async fn a_map_runs_beside_and_says_how_much_is_left() {
    let space = Local::start();
    let worker = work(&space, "a");
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    let job = job();
    let pending = each_elem_pending(space.clone(), job, numbers(6), move |arrival| {
        sender.try_send(arrival.index).unwrap();
    });
    assert_eq!(pending.check(), 6);
    for _ in 0..3 {
        receiver.recv().await.unwrap();
    }
    assert!((1..=3).contains(&pending.check()));
    assert_eq!(pending.wait().await.unwrap().len(), 6);
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn each_worker_does_it_once_and_one_that_is_not_there_has_an_error() {
    let space = Local::start();
    let spawn = |name: &str, rank: usize| {
        let worker = Worker::new(space.clone(), "w", "who", name).ranked(rank, 2);
        tokio::spawn(async move {
            let info = worker.info().clone();
            let who = |value: Value| {
                let said = format!("{value} {} of {}", info.rank, info.workers);
                async move { Ok(Value::from(said)) }
            };
            worker.run(who).await;
        })
        .abort_handle()
    };
    let workers = [spawn("a.0", 0), spawn("a.1", 1)];
    let mut job = Job::new("w", "who", "once");
    job.stall = Duration::from_secs(20);
    let names = ["a.0", "a.1", "nobody"].map(str::to_owned);
    let outcomes = each_worker(&space, &job, &names, Value::Int(7))
        .await
        .unwrap();
    assert_eq!(
        outcomes[..2],
        ["7 0 of 2", "7 1 of 2"].map(|said| Ok(Value::from(said)))
    );
    assert!(
        outcomes[2]
            .as_ref()
            .unwrap_err()
            .contains("`nobody` was not heard of")
    );
    assert_eq!(space.tuples("w").await, 0);
    workers.iter().for_each(tokio::task::AbortHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_function_of_several_arguments_takes_elements_apart() {
    let space = Local::start();
    let worker = Worker::new(&space, "w", "add", "a");
    let add = star(|arguments: Vec<Value>| async move {
        let numbers = arguments
            .iter()
            .map(|value| value.as_int().ok_or("no number"));
        Ok(Value::Int(numbers.sum::<Result<i64, _>>()?))
    });
    let elements = vec![
        Value::List(vec![1.into(), 2.into()]),
        Value::List(vec![3.into(), "x".into()]),
        Value::Int(4),
    ];
    let mut job = Job::new("w", "add", "sums");
    job.tries = 1;
    let outcomes = tokio::select! {
        outcomes = each_elem(&space, &job, elements, |_| ()) => outcomes.unwrap(),
        () = worker.run(add) => unreachable!(),
    };
    assert_eq!(
        outcomes[..2],
        [Ok(Value::Int(3)), Err("no number".to_owned())]
    );
    assert!(
        outcomes[2]
            .as_ref()
            .unwrap_err()
            .contains("a list of arguments")
    );
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_twice_counts_once() {
    let space = Local::start();
    let twice = async {
        // Two workers that take the same task one after the other and both tell.
        let second = Duration::from_secs(1);
        for node in ["a", "b"] {
            let taken = space
                .take_leased("w", task(Field::Any), second, 30 * second)
                .await;
            let (tuple, _) = taken.unwrap().unwrap();
            let [_, job, id, elements] = tuple.fields() else {
                panic!("{tuple:?}")
            };
            let [index, _] = elements.as_list().unwrap()[0].as_list().unwrap() else {
                panic!("{tuple:?}")
            };
            // The hash of the number 0.
            let mark = mark_of_zero();
            let answer = vec![index.clone(), mark, Value::Bool(true), node.into()];
            let answers = Value::List(vec![Value::List(answer)]);
            let variable = format!("result:{}", job.as_str().unwrap());
            let told = vec![variable.into(), id.clone(), node.into(), 1.into(), answers];
            if node == "b" {
                space
                    .out("w", Tuple::new(told.clone()).unwrap())
                    .await
                    .unwrap();
            }
            space.out("w", Tuple::new(told).unwrap()).await.unwrap();
        }
    };
    let mut told = 0;
    let mut job = job();
    job.id = "twice".to_owned();
    let map = each_elem(&space, &job, numbers(1), |_| told += 1);
    let outcomes = tokio::select! {
        outcomes = map => outcomes.unwrap(),
        () = async { twice.await; std::future::pending().await } => unreachable!(),
    };
    assert_eq!((outcomes, told), (vec![Ok(Value::from("a"))], 1));
}

/// Elements come one by one, while results are waited for.
#[tokio::test(start_paused = true)]
async fn no_result_is_lost_when_elements_come_while_one_is_taken() {
    let space = Local::start();
    let worker = work(&space, "a");
    let began = Instant::now();
    let elements = futures::stream::unfold(20, |n| async move {
        tokio::time::sleep(Duration::from_millis(7)).await;
        (n < 220).then(|| (Value::Int(n), n + 1))
    });
    let lossy = Lossy(space);
    let mut map = imap(&lossy, job(), Box::pin(elements));
    for index in 0..200 {
        assert_eq!(map.next().await.unwrap().unwrap().index, index);
    }
    assert_eq!(map.next().await.unwrap(), None);
    // Long before anybody has lost patience with a task.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    worker.abort();
}

/// What waits in a task behind an element that takes long.
#[tokio::test(start_paused = true)]
async fn what_stands_behind_a_slow_element_is_done_by_others() {
    let space = Local::start();
    let began = Instant::now();
    let millis = |value: Value| async move {
        tokio::time::sleep(Duration::from_millis(
            value.as_int().unwrap().unsigned_abs(),
        ))
        .await;
        Ok(value)
    };
    let workers = futures::future::join_all((0..4).map(|n| {
        let worker = Worker::new(space.clone(), "w", "double", format!("w{n}"));
        async move { worker.run(millis).await }
    }));
    // Hundreds in a task by then; eight that take 100 s each are 200 s for four workers.
    let quick = || std::iter::repeat_n(Value::Int(0), 2_000);
    let slow = std::iter::repeat_n(Value::Int(100_000), 8);
    let elements: Vec<_> = quick().chain(slow).chain(quick()).collect();
    let job = job();
    let outcomes = tokio::select! {
        outcomes = each_elem(&space, &job, elements, |_| ()) => outcomes.unwrap(),
        _ = workers => unreachable!(),
    };
    assert!(outcomes.len() == 4_008 && outcomes.iter().all(Outcome::is_ok));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(220), "{took:?}");
    assert_eq!(space.tuples("w").await, 0);
}

/// Tasks are sized by quick short elements when the long ones come; one is too long for any tuple.
#[tokio::test(start_paused = true)]
async fn long_elements_after_many_short_ones_are_done_and_one_that_fits_nowhere_has_failed() {
    let space = Local::start();
    let worker = Worker::new(&space, "w", "double", "a");
    let short = (0..2_000).map(Value::Int);
    let long = (0..60).map(|_| Value::Bytes(vec![7; 300_000]));
    let nowhere = Value::Bytes(vec![0; cpe_tuple::limits::MAX_TUPLE_BYTES]);
    let elements = short.chain(long).chain([nowhere]).collect();
    let size = |value: Value| async move { Ok(Value::from(value.size() as i64)) };
    let job = job();
    let outcomes = tokio::select! {
        outcomes = each_elem(&space, &job, elements, |_| ()) => outcomes.unwrap(),
        () = worker.run(size) => unreachable!(),
    };
    let (last, others) = outcomes.split_last().unwrap();
    assert_eq!(others.len(), 2_060);
    assert!(others.iter().all(Outcome::is_ok));
    let said = last.as_ref().unwrap_err();
    assert!(said.starts_with("the element fits in no tuple"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn settings_outside_their_bounds_are_named() {
    let space = Local::start();
    let mut job = job();
    job.chunk = Chunk::Of(0);
    let error = each_elem(&space, &job, numbers(1), |_| ())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the job's chunk is 0; it goes from 1 to 4096"
    );
}

/// As a worker of any version computes it: FNV-1a over the encoding.
fn mark_of_zero() -> Value {
    let bytes = cpe_tuple::codec::encode(&Value::Int(0)).unwrap();
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    Value::Int(hash.cast_signed())
}
