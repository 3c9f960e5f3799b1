//! Durable actors outlive their nodes.

use std::collections::BTreeMap;

use cpe::{ActorsError, Node, SpawnOptions, Value};
use tokio::time::{Instant, timeout};

use crate::harness::{Ground, LONG};

fn durable_on(node: &str) -> SpawnOptions {
    SpawnOptions {
        node: Some(node.to_owned()),
        durable: true,
        ..SpawnOptions::default()
    }
}

fn add(n: i64) -> Value {
    Value::Map(BTreeMap::from([("add".to_owned(), Value::from(n))]))
}

/// What it counts, once somebody runs it.
async fn count(node: &Node) -> Result<Value, ActorsError> {
    let until = Instant::now() + LONG;
    loop {
        let asked = node.actors().ask("n", Value::from("get"), LONG / 20).await;
        if asked.is_ok() || Instant::now() > until {
            return asked;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_actor_of_a_dead_node_goes_on_at_another() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let actors = c.actors();
    let spawned = actors
        .spawn("counter", "n", Value::Null, durable_on("b"))
        .await
        .unwrap();
    assert_eq!(actors.ask("n", add(1), LONG).await, Ok(Value::from(1)));
    assert_eq!(actors.ask("n", add(1), LONG).await, Ok(Value::from(2)));
    let again = a
        .actors()
        .spawn("counter", "n", Value::Null, durable_on("a"))
        .await;
    assert!(
        matches!(again, Err(ActorsError::NameTaken { .. })),
        "{again:?}"
    );

    // One that asks once and remembers where it was.
    let remembers = a.actors();
    let asked = remembers.ask("n", Value::from("get"), LONG).await;
    assert_eq!(asked, Ok(Value::from(2)));

    b.kill().await;
    assert_eq!(count(&c).await, Ok(Value::from(2)));
    assert_eq!(actors.ask("n", add(1), LONG).await, Ok(Value::from(3)));
    let there = actors.where_is("n").await.unwrap().unwrap();
    assert!(there.token > spawned.token);
    assert_ne!(
        there.host.map(|host| host.node),
        spawned.host.map(|host| host.node)
    );
    // What is stopped is the actor, not what is remembered of it.
    remembers.stop("n", LONG).await.unwrap();
    let gone = actors.ask("n", add(1), LONG).await;
    assert_eq!(gone, Err(ActorsError::NoSuchActor("n".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_shuts_down_leaves_its_durable_actors_to_others() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    a.actors()
        .spawn("counter", "n", Value::Null, durable_on("b"))
        .await
        .unwrap();
    assert_eq!(c.actors().ask("n", add(7), LONG).await, Ok(Value::from(7)));
    timeout(LONG, b.shutdown(LONG)).await.unwrap().unwrap();
    assert_eq!(count(&a).await, Ok(Value::from(7)));
}
