//! Elements that fail, and jobs that come to no good end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cpe_sleigh::{Chunk, JobError, OnError, Worker, each_elem};
use cpe_tuple::Value;

use crate::harness::Local;
use crate::{job, numbers, work};

#[tokio::test(start_paused = true)]
async fn poison_is_set_aside_with_its_error() {
    let space = Local::start();
    let worker = work(&space, "a");
    let mut job = job();
    job.chunk = Chunk::Of(5);
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
async fn a_task_that_kills_every_worker_is_set_aside_and_its_neighbours_are_done() {
    let space = Local::start();
    let killed = AtomicUsize::new(0);
    // Workers that end at 5, each followed by another.
    let workers = async {
        loop {
            let worker = Worker::new(&space, "w", "double", "a");
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let sender = std::sync::Mutex::new(Some(sender));
            let work = |value: Value| {
                if value == Value::Int(5) {
                    killed.fetch_add(1, Ordering::Relaxed);
                    sender.lock().unwrap().take().unwrap().send(()).unwrap();
                }
                async move {
                    if value == Value::Int(5) {
                        std::future::pending::<()>().await;
                    }
                    Ok(value)
                }
            };
            tokio::select! {
                () = worker.run(work) => unreachable!(),
                _ = receiver => {}
            }
        }
    };
    let mut job = job();
    (job.chunk, job.losses) = (Chunk::Of(10), 2);
    let outcomes = tokio::select! {
        outcomes = each_elem(&space, &job, numbers(10), |_| ()) => outcomes.unwrap(),
        () = workers => unreachable!(),
    };
    for (n, outcome) in outcomes.iter().enumerate() {
        match n {
            5 => assert!(
                outcome.as_ref().unwrap_err().contains("lost with it"),
                "{outcome:?}"
            ),
            _ => assert_eq!(*outcome, Ok(Value::from(n as i64))),
        }
    }
    // Three times in the task of ten, and three times alone.
    assert!(killed.load(Ordering::Relaxed) <= 6, "{killed:?}");
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
        said.starts_with("no worker was heard of for 20s; 0 of 5"),
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
