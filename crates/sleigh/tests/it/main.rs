//! Masters and workers over a real peer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod harness;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cpe_sleigh::{Job, JobError, OnError, Outcome, TaskSpace, Worker, each_elem};
use cpe_tuple::{Field, Kind, Template, Tuple, Value};
use harness::Local;

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
    job.chunk = 2;
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
async fn a_task_taken_by_a_worker_that_died_is_done_by_another() {
    let space = Local::start();
    let dies = async {
        // Takes a task and is never heard of again; only then does a good worker come.
        let taken = space
            .take("w", task(Field::Any), Duration::from_secs(10))
            .await;
        assert!(taken.unwrap().is_some());
        work(&space, "b")
    };
    let job = job();
    let (outcomes, worker) = tokio::join!(each_elem(&space, &job, numbers(3), |_| ()), dies);
    assert_eq!(outcomes.unwrap(), [0, 2, 4].map(|n| Ok(Value::Int(n))));
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_twice_counts_once() {
    let space = Local::start();
    let twice = async {
        for id in [0, 0, 1] {
            if id == 0 {
                space
                    .take("w", task(Field::Any), Duration::from_secs(9))
                    .await
                    .unwrap();
            }
            let outcomes = Value::List(vec![Value::List(vec![Value::Bool(true), Value::Int(id)])]);
            let result = [
                "result:j1".into(),
                id.into(),
                "a".into(),
                Value::Int(1),
                outcomes,
            ];
            space
                .out("w", Tuple::new(result.to_vec()).unwrap())
                .await
                .unwrap();
        }
    };
    let mut told = 0;
    let job = job();
    let (outcomes, ()) = tokio::join!(each_elem(&space, &job, numbers(2), |_| told += 1), twice);
    assert_eq!(outcomes.unwrap(), [Ok(Value::Int(0)), Ok(Value::Int(1))]);
    assert_eq!(told, 2);
}

#[tokio::test(start_paused = true)]
async fn poison_is_set_aside_with_its_error() {
    let space = Local::start();
    let worker = work(&space, "a");
    let mut job = job();
    job.chunk = 5;
    let outcomes = each_elem(&space, &job, numbers(20), |_| ()).await.unwrap();
    for (n, outcome) in outcomes.iter().enumerate() {
        match n {
            7 => assert_eq!(*outcome, Err("a seven".to_owned())),
            13 => assert!(outcome.as_ref().unwrap_err().contains("an unlucky number")),
            _ => assert_eq!(*outcome, Ok(Value::from(2 * n as i64))),
        }
    }
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_kills_every_worker_is_set_aside() {
    let space = Local::start();
    let mut taken = 0;
    let grave = async {
        loop {
            let tuple = space
                .take("w", task(Field::Any), Duration::from_secs(60))
                .await
                .unwrap();
            taken += usize::from(tuple.is_some());
        }
    };
    let mut job = job();
    job.tries = 4;
    let outcomes = tokio::select! {
        outcomes = each_elem(&space, &job, numbers(1), |_| ()) => outcomes.unwrap(),
        () = grave => unreachable!(),
    };
    assert!(
        outcomes[0].as_ref().unwrap_err().contains("taken 4 times"),
        "{outcomes:?}"
    );
    assert_eq!(taken, 4);
}

#[tokio::test(start_paused = true)]
async fn a_job_may_stop_at_the_first_error() {
    let space = Local::start();
    let worker = work(&space, "a");
    let mut job = job();
    (job.on_error, job.tries) = (OnError::Stop, 2);
    let error = each_elem(&space, &job, numbers(20), |_| ())
        .await
        .unwrap_err();
    assert!(matches!(&error, JobError::Failed { index: 7, tries: 2, node, .. } if node == "a"));
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn without_workers_a_job_ends_at_its_deadline_and_leaves_nothing() {
    let space = Local::start();
    let mut job = job();
    job.deadline = Duration::from_secs(200);
    let error = each_elem(&space, &job, numbers(5), |_| ())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "0 of 5 elements were done within 200s");
    assert_eq!(space.tuples("w").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_nobody_works_on_stalls() {
    let space = Local::start();
    let mut job = job();
    job.stall = Duration::from_secs(20);
    let error = each_elem(&space, &job, numbers(5), |_| ())
        .await
        .unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("no worker brought a result for 20s; 0 of 5"),
        "{said}"
    );
    assert_eq!(space.tuples("w").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_fits_in_no_tuple_is_an_error() {
    let space = Local::start();
    let worker = Worker::new(&space, "w", "double", "a");
    let calls = AtomicUsize::new(0);
    let work = |_| {
        calls.fetch_add(1, Ordering::Relaxed);
        async { Ok(Value::Bytes(vec![0; cpe_tuple::limits::MAX_TUPLE_BYTES])) }
    };
    let job = job();
    let outcomes = tokio::select! {
        outcomes = each_elem(&space, &job, numbers(1), |_| ()) => outcomes.unwrap(),
        () = worker.run(work) => unreachable!(),
    };
    assert!(
        outcomes[0].as_ref().unwrap_err().contains("too large"),
        "{outcomes:?}"
    );
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn settings_outside_their_bounds_are_named() {
    let space = Local::start();
    let mut job = job();
    job.chunk = 0;
    let error = each_elem(&space, &job, numbers(1), |_| ())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the job's chunk is 0; it goes from 1 to 4096"
    );
}
