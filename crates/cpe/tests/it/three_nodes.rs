//! Three nodes that share a space.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cpe::{Template, Value};
use tokio::sync::Mutex;

use crate::harness::{Ground, LONG};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_stores_the_others_find_and_fetch() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    a.space().store("w", "x", Value::from(1)).await.unwrap();
    assert_eq!(
        b.space().find("w", "x", LONG).await.unwrap(),
        Value::from(1)
    );
    assert_eq!(
        c.space().find("w", "x", LONG).await.unwrap(),
        Value::from(1)
    );
    assert_eq!(
        c.space().fetch("w", "x", LONG).await.unwrap(),
        Value::from(1)
    );
    assert_eq!(b.space().fetch_try("w", "x", LONG).await.unwrap(), None);
    c.space()
        .store("w", "y", Value::from("from c"))
        .await
        .unwrap();
    assert_eq!(
        b.space().fetch("w", "y", LONG).await.unwrap(),
        Value::from("from c")
    );
    assert_eq!(a.space().find_try("w", "y", LONG).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_tuples_goes_to_one_of_many_takers() {
    const TUPLES: i64 = 300;
    let ground = Ground::new();
    let nodes = ground.three().await;
    let taken = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for taker in 0..30 {
        let space = nodes[taker % 3].space();
        let taken = Arc::clone(&taken);
        tasks.spawn(async move {
            for _ in 0..TUPLES / 30 {
                let value = space.fetch("w", "job", LONG).await.unwrap();
                taken.lock().await.push(value.as_int().unwrap());
            }
        });
    }
    for n in 0..TUPLES {
        let space = nodes[usize::try_from(n).unwrap() % 3].space();
        tasks.spawn(async move {
            space.store("w", "job", Value::from(n)).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let taken = taken.lock().await;
    assert_eq!(taken.len(), 300);
    assert_eq!(
        taken.iter().copied().collect::<BTreeSet<_>>(),
        (0..TUPLES).collect()
    );
    let left = nodes[1].space().fetch_try("w", "job", LONG).await.unwrap();
    assert_eq!(left, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_take_gives_its_tuple_back() {
    let ground = Ground::new();
    let [a, b, _c] = ground.three().await;
    a.space().store("w", "x", Value::from(7)).await.unwrap();
    let space = b.space();
    let mut taken = 0;
    // Dropped at every stage: before it is sent, on its way, decided, and answered.
    for step in 0..60 {
        let within = Duration::from_micros(step * 50);
        let take = space.take("w", Template::named("x").unwrap(), LONG);
        if tokio::time::timeout(within, take).await.is_ok() {
            taken += 1;
            space.store("w", "x", Value::from(7)).await.unwrap();
        }
    }
    let value = space.fetch("w", "x", LONG).await;
    assert_eq!(
        value,
        Ok(Value::from(7)),
        "after {taken} takes that were not dropped"
    );
    assert_eq!(space.fetch_try("w", "x", LONG).await, Ok(None));
    assert_eq!(a.space().fetch_try("w", "x", LONG).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parallel_map_runs_on_all_nodes() {
    use cpe::sleigh::{Job, Worker, each_elem};
    let ground = Ground::new();
    let nodes = ground.three().await;
    let mut workers = tokio::task::JoinSet::new();
    for node in &nodes {
        let (space, name) = (node.space(), node.name().to_owned());
        workers.spawn(async move {
            let worker = Worker::new(&space, "work", "square", &name);
            let square = |value: Value| async move {
                let n = value.as_int().ok_or("not a number")?;
                Ok(Value::from(n * n))
            };
            worker.run(square).await;
        });
    }
    let job = Job::new("work", "square", "squares");
    let numbers = (0..40).map(Value::from).collect();
    let space = nodes[0].space();
    let outcomes = each_elem(&space, &job, numbers, |_| {}).await.unwrap();
    let squares: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        squares,
        (0..40).map(|n| Value::from(n * n)).collect::<Vec<_>>()
    );
}
