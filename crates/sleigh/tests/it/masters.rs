//! Lives of masters: one that comes back, one that stops, one that is gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cpe_sleigh::{Chunk, Worker, each_elem, imap};
use cpe_tuple::Value;

use crate::harness::Local;
use crate::{job, numbers, work};

#[tokio::test(start_paused = true)]
async fn a_master_that_comes_back_finds_what_was_done_meanwhile() {
    let space = Local::start();
    let worker = work(&space, "a");
    let mut job = job();
    job.chunk = Chunk::Of(1);
    {
        // The first life ends in the middle; its tasks are done all the same.
        let elements = futures::stream::iter(numbers(40).into_iter().filter(|n| *n != 7.into()));
        let mut map = imap(&space, job.clone(), elements);
        for index in 0..3 {
            assert_eq!(map.next().await.unwrap().unwrap().index, index);
        }
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    worker.abort();
    // Nobody works now. What the first life took is gone, 13 never succeeds; the rest is there.
    let elements = numbers(40).into_iter().filter(|n| *n != 7.into()).collect();
    job.stall = Duration::from_secs(90);
    let mut found = Vec::new();
    let error = each_elem(&space, &job, elements, |arrival| {
        found.push((arrival.index, arrival.outcome.clone()));
    });
    let said = error.await.unwrap_err().to_string();
    assert!(said.starts_with("no worker was heard of"), "{said}");
    assert!(found.len() >= 35, "{found:?}");
    for (index, outcome) in found {
        let n = if index < 7 { index } else { index + 1 };
        assert!(
            n == 13 || outcome == Ok(Value::from(2 * n as i64)),
            "{index}"
        );
    }
}

/// Three lives, of which the first two are killed: nothing that one of them had is done again.
#[tokio::test(start_paused = true)]
async fn what_a_master_had_taken_stays_for_one_that_comes_back() {
    let space = Local::start();
    let begun = AtomicUsize::new(0);
    let worker = Worker::new(space.clone(), "w", "double", "a");
    let working = worker.run(|value: Value| {
        begun.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok(value)
        }
    });
    let mut job = job();
    (job.chunk, job.open_max, job.keep_bytes) = (Chunk::Of(3), 4, 1 << 20);
    let lives = async {
        for taken in [20, 25] {
            let mut map = imap(&space, job.clone(), futures::stream::iter(numbers(60)));
            for index in 0..taken {
                let done = map.next().await.unwrap().unwrap();
                assert_eq!(
                    (done.index, done.outcome),
                    (index, Ok(Value::Int(index as i64)))
                );
            }
            drop(map);
            // What is in the space is done all the same.
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let outcomes = each_elem(&space, &job, numbers(60), |_| ()).await.unwrap();
        assert_eq!(
            outcomes,
            numbers(60).into_iter().map(Ok).collect::<Vec<_>>()
        );
    };
    tokio::select! {
        () = lives => {}
        () = working => unreachable!(),
    }
    assert_eq!(begun.load(Ordering::Relaxed), 60);
    assert_eq!(space.tuples("w").await, 0);
}

/// Failures that an earlier life left are no outcomes as long as there are tries.
#[tokio::test(start_paused = true)]
async fn what_failed_while_no_master_was_there_is_tried_again() {
    let space = Local::start();
    let worker = Worker::new(space.clone(), "w", "double", "a");
    let tried = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let working = worker.run(|value: Value| {
        let first = tried.lock().unwrap().insert(value.as_int().unwrap());
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if first {
                Err("the first time".to_owned())
            } else {
                Ok(value)
            }
        }
    });
    let mut job = job();
    (job.chunk, job.tries) = (Chunk::Of(1), 2);
    let masters = async {
        {
            let mut map = imap(&space, job.clone(), futures::stream::iter(numbers(40)));
            // Dropped as soon as the tasks are there.
            let begun = tokio::time::timeout(Duration::from_millis(1), map.next());
            assert!(begun.await.is_err());
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        each_elem(&space, &job, numbers(40), |_| ()).await
    };
    let outcomes = tokio::select! {
        outcomes = masters => outcomes.unwrap(),
        () = working => unreachable!(),
    };
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// What a map says of elements that were given up, once it is cleaned in the midst of its work.
#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_counted_as_begun_only_if_it_was() {
    let space = Local::start();
    let worker = Worker::new(space.clone(), "w", "double", "a");
    let working = worker.run(|_| std::future::pending());
    let mut job = job();
    (job.chunk, job.open_max) = (Chunk::Of(1), 20);
    let mapping = async {
        let mut map = imap(&space, job, futures::stream::iter(numbers(100)));
        let waited = tokio::time::timeout(Duration::from_secs(1), map.next());
        assert!(waited.await.is_err(), "the first never ends");
        map.stopper().stop();
        // Given up at any point of the withdrawal.
        for _ in 0..5 {
            let next = std::pin::pin!(map.next());
            assert!(futures::FutureExt::now_or_never(next).is_none());
            tokio::task::yield_now().await;
        }
        map.clean().await;
        map.standing()
    };
    let standing = tokio::select! {
        standing = mapping => standing,
        () = working => unreachable!(),
    };
    // The worker has the first.
    assert_eq!(standing.done, 0);
    assert_eq!(standing.offered - standing.cancelled, 1, "{standing:?}");
    assert_eq!(space.tuples("w").await, 0);
}

/// Nobody asks any more, and what is in the space is done all the same.
#[tokio::test(start_paused = true)]
async fn a_worker_has_back_what_no_master_takes() {
    let space = Local::start();
    let mut job = job();
    job.chunk = Chunk::Of(50);
    let elements = futures::stream::iter((0..50).map(Value::Int));
    {
        let mut map = imap(&space, job.clone(), elements.clone());
        let second = Duration::from_secs(1);
        tokio::time::timeout(second, map.next()).await.unwrap_err();
    }
    let begun = AtomicUsize::new(0);
    let worker = Worker::new(&space, "w", "double", "a");
    let work = |value: Value| {
        begun.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Ok(value)
        }
    };
    tokio::select! {
        () = worker.run(work) => unreachable!(),
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    assert_eq!(begun.load(Ordering::Relaxed), 50);
    let mut map = imap(&space, job, elements);
    for index in 0..50 {
        let done = map.next().await.unwrap().unwrap();
        assert_eq!(
            (done.index, done.outcome),
            (index, Ok(Value::from(index as i64)))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stopped_comes_to_its_end_and_the_rest_is_not_begun() {
    let space = Local::start();
    let worker = work(&space, "a");
    let mut job = job();
    job.chunk = Chunk::Of(1);
    let mut map = imap(&space, job, futures::stream::iter((20..60).map(Value::Int)));
    map.next().await.unwrap().unwrap();
    map.stopper().stop();
    let mut done = 1;
    while let Some(next) = map.next().await.unwrap() {
        assert!(next.outcome.is_ok());
        done += 1;
    }
    assert!(done < 10, "{done}");
    assert_eq!(map.standing().cancelled, 40 - done);
    worker.abort();
}

/// As when the quick elements that sized the tasks are followed by slow ones.
#[tokio::test(start_paused = true)]
async fn after_a_stop_a_worker_gives_back_within_a_second_what_it_has_not_begun() {
    let space = Local::start();
    let begun = AtomicUsize::new(0);
    let worker = Worker::new(&space, "w", "double", "a");
    let work = |value: Value| {
        begun.fetch_add(1, Ordering::Relaxed);
        async move {
            let slow = value.as_int().unwrap() > 1_000;
            tokio::time::sleep(Duration::from_millis(if slow { 300 } else { 0 })).await;
            Ok(value)
        }
    };
    let mut map = imap(
        &space,
        job(),
        futures::stream::iter((0..5_000).map(Value::Int)),
    );
    let mapped = async {
        while map.next().await.unwrap().unwrap().index < 1_000 {}
        // In the midst of a task of hundreds.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = begun.load(Ordering::Relaxed);
        map.stopper().stop();
        let mut done = 1_001;
        while map.next().await.unwrap().is_some() {
            done += 1;
        }
        (before, done)
    };
    let (before, done) = tokio::select! {
        told = mapped => told,
        () = worker.run(work) => unreachable!(),
    };
    let after = begun.load(Ordering::Relaxed);
    // A second of them, and what was run came to its end and was told.
    assert!(after - before <= 5, "{before} were begun, and then {after}");
    assert_eq!(done, after);
    let standing = map.standing();
    assert_eq!(done + standing.cancelled, standing.offered);
    map.clean().await;
    assert_eq!(space.tuples("w").await, 0);
}
