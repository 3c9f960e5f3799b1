//! Homes that die, come back and move.

use std::time::Duration;

use cpe::{Failure, SpaceError, Value};

use crate::harness::{Ground, LONG, all_linked, join};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_home_a_take_says_so_and_with_it_goes_on() {
    let ground = Ground::new();
    let a = ground.durable("a").start().await.unwrap();
    let b = join(ground.ephemeral("b"), &a).start().await.unwrap();
    let nodes = [a, b];
    all_linked(&nodes).await;
    let [a, b] = nodes;
    a.space().store("w", "x", Value::from(5)).await.unwrap();
    b.space().find("w", "x", LONG).await.unwrap();
    a.kill().await;

    let short = Duration::from_millis(300);
    let error = b.space().fetch("w", "x", short).await.unwrap_err();
    assert!(
        matches!(
            error,
            SpaceError::Failed(Failure::Unavailable { .. } | Failure::Unknown { .. })
        ),
        "{error}"
    );
    // Reads need no home.
    assert_eq!(
        b.space().find("w", "x", LONG).await.unwrap(),
        Value::from(5)
    );

    let a = join(ground.durable("a"), &b).start().await.unwrap();
    assert_eq!(
        b.space().fetch("w", "x", LONG).await.unwrap(),
        Value::from(5)
    );
    assert_eq!(a.space().fetch_try("w", "x", LONG).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_shuts_down_leaves_its_homes_to_the_others() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    for n in 0..20 {
        let name = format!("v{n}");
        a.space().store("w", &name, Value::from(n)).await.unwrap();
    }
    // 16 on disk, and 4 in memory.
    assert_eq!(a.mesh().status().await.unwrap().homes, 20);
    a.shutdown(LONG).await.unwrap();

    let homes = b.mesh().status().await.unwrap().homes + c.mesh().status().await.unwrap().homes;
    assert_eq!(homes, 20);
    for n in 0..20 {
        let node = if n % 2 == 0 { &b } else { &c };
        let value = node.space().fetch("w", &format!("v{n}"), LONG).await;
        assert_eq!(value, Ok(Value::from(n)));
    }
    b.space().store("w", "new", Value::from(1)).await.unwrap();
    assert_eq!(c.space().fetch("w", "new", LONG).await, Ok(Value::from(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stood_still_finds_its_way_back() {
    let ground = Ground::new();
    let a = ground.ephemeral("a").start().await.unwrap();
    // A runtime of its own, so that it can be stopped as a suspended machine is.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let builder = join(ground.ephemeral("b"), &a);
    let b = runtime.spawn(builder.start()).await.unwrap().unwrap();
    b.mesh().members(2, LONG).await.unwrap();
    a.mesh().members(2, LONG).await.unwrap();

    let (wake, asleep) = std::sync::mpsc::channel::<()>();
    runtime.spawn(async move {
        // The only worker waits here for a word from outside.
        let _ = asleep.recv();
    });
    a.mesh().members(1, LONG).await.unwrap();
    wake.send(()).unwrap();

    a.mesh().members(2, LONG).await.unwrap();
    b.mesh().members(2, LONG).await.unwrap();
    b.space().store("w", "x", Value::from(1)).await.unwrap();
    assert_eq!(a.space().fetch("w", "x", LONG).await, Ok(Value::from(1)));
    runtime.shutdown_background();
}
