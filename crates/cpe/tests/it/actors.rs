//! Named actors across nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe::{ActorError, ActorsError, DynActor, DynContext, KindStart, SpawnOptions, Value};
use futures::future::BoxFuture;

use crate::harness::{Ground, LONG, all_linked, join};

fn on(node: &str) -> SpawnOptions {
    SpawnOptions {
        node: Some(node.to_owned()),
        ..SpawnOptions::default()
    }
}

fn add(n: i64) -> Value {
    Value::Map(BTreeMap::from([("add".to_owned(), Value::from(n))]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_is_asked_told_and_stopped_from_anywhere() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let spawned = a
        .actors()
        .spawn("counter", "n", Value::Null, on("b"))
        .await
        .unwrap();
    assert_eq!(spawned.host, Some(b.member()));
    for (total, node) in [(1, &a), (2, &b), (3, &c)] {
        let answer = node.actors().ask("n", add(1), LONG).await;
        assert_eq!(answer, Ok(Value::from(total)));
    }
    c.actors().tell("n", add(10)).await.unwrap();
    assert_eq!(
        c.actors().ask("n", Value::from("get"), LONG).await,
        Ok(Value::from(13))
    );

    let again = c.actors().spawn("counter", "n", Value::Null, on("c")).await;
    assert!(
        matches!(again, Err(ActorsError::NameTaken { .. })),
        "{again:?}"
    );

    c.actors().stop("n", LONG).await.unwrap();
    let gone = b.actors().ask("n", add(1), LONG).await;
    assert_eq!(gone, Err(ActorsError::NoSuchActor("n".to_owned())));
    // The name is free, and those who remember the old place find the new one.
    a.actors()
        .spawn("counter", "n", Value::from(100), on("c"))
        .await
        .unwrap();
    for (total, node) in [(101, &a), (102, &b), (103, &c)] {
        let answer = node.actors().ask("n", add(1), LONG).await;
        assert_eq!(answer, Ok(Value::from(total)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_name_the_actor_the_node_and_the_reason() {
    let ground = Ground::new();
    let a = ground.ephemeral("a").start().await.unwrap();
    let b = join(ground.ephemeral("b"), &a).start().await.unwrap();
    let nodes = [a, b];
    all_linked(&nodes).await;
    let [a, b] = nodes;
    let actors = a.actors();

    let missing = actors.ask("nobody", Value::Null, LONG).await.unwrap_err();
    assert_eq!(missing.to_string(), "no actor is called `nobody`");

    let nowhere = actors
        .spawn("echo", "e", Value::Null, on("mars"))
        .await
        .unwrap_err();
    assert!(
        nowhere.to_string().contains("`mars`; there are"),
        "{nowhere}"
    );

    let unknown = actors
        .spawn("poet", "e", Value::Null, on("b"))
        .await
        .unwrap_err();
    assert!(
        unknown.to_string().contains("no actor kind `poet`"),
        "{unknown}"
    );
    assert!(unknown.to_string().contains("node b ("), "{unknown}");

    let args = Value::from("text");
    let bad = actors
        .spawn("counter", "n", args, on("b"))
        .await
        .unwrap_err();
    assert!(matches!(bad, ActorsError::NotStarted { .. }), "{bad}");
    actors
        .spawn("counter", "n", Value::Null, on("b"))
        .await
        .unwrap();

    let refused = actors
        .ask("n", Value::from("what"), LONG)
        .await
        .unwrap_err();
    assert!(matches!(refused, ActorsError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("`n` on node b ("), "{refused}");

    let big = Value::from("x".repeat(2_000_000));
    let large = actors.ask("n", big, LONG).await.unwrap_err();
    assert!(
        large.to_string().contains("put the data into the space"),
        "{large}"
    );

    b.kill().await;
    let dead = actors
        .ask("n", add(1), Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(
        matches!(
            dead,
            ActorsError::Unreachable { .. } | ActorsError::TimedOut { .. }
        ),
        "{dead}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placement_keeps_to_the_requirements() {
    let ground = Ground::new();
    let a = ground.ephemeral("a").start().await.unwrap();
    let b = join(ground.ephemeral("b").capability("gpu", "yes"), &a)
        .start()
        .await
        .unwrap();
    let nodes = [a, b];
    all_linked(&nodes).await;
    let [a, b] = nodes;
    for n in 0..5 {
        let options = SpawnOptions {
            require: BTreeMap::from([("gpu".to_owned(), "yes".to_owned())]),
            ..SpawnOptions::default()
        };
        let name = format!("e{n}");
        let info = a
            .actors()
            .spawn("echo", &name, Value::Null, options)
            .await
            .unwrap();
        assert_eq!(info.host, Some(b.member()));
    }
    let options = SpawnOptions {
        require: BTreeMap::from([("gpu".to_owned(), "two".to_owned())]),
        ..SpawnOptions::default()
    };
    let nobody = a
        .actors()
        .spawn("echo", "e", Value::Null, options)
        .await
        .unwrap_err();
    assert!(nobody.to_string().contains("gpu=two"), "{nobody}");
}

/// Fetches from the space what it is asked for: as slow as that is.
struct Fetcher(KindStart);

impl DynActor for Fetcher {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            let name = message.as_str().unwrap_or_default();
            Ok(Some(self.0.node.space().fetch("w", name, LONG).await?))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_actor_holds_up_no_other_on_the_same_link() {
    let ground = Ground::new();
    let a = ground.ephemeral("a").start().await.unwrap();
    let b = join(ground.ephemeral("b"), &a).kind("fetcher", |start| Ok(Box::new(Fetcher(start))));
    let b = b.start().await.unwrap();
    let nodes = [a, b];
    all_linked(&nodes).await;
    let [a, _b] = nodes;
    let actors = a.actors();
    // Only b has the kind: that is where it is placed.
    actors
        .spawn("fetcher", "slow", Value::Null, SpawnOptions::default())
        .await
        .unwrap();
    actors
        .spawn("echo", "fast", Value::Null, on("b"))
        .await
        .unwrap();
    let waiting = tokio::spawn({
        let actors = actors.clone();
        async move { actors.ask("slow", Value::from("x"), LONG).await }
    });
    for n in 0..100 {
        assert_eq!(
            actors.ask("fast", Value::from(n), LONG).await,
            Ok(Value::from(n))
        );
    }
    assert!(!waiting.is_finished());
    a.space()
        .store("w", "x", Value::from("done"))
        .await
        .unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(Value::from("done")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_ends_frees_its_name_and_shutdown_frees_all() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    b.actors()
        .spawn("counter", "x", Value::Null, on("b"))
        .await
        .unwrap();
    b.actors()
        .spawn("counter", "y", Value::Null, on("b"))
        .await
        .unwrap();
    assert!(b.actors().system().stop("x"));
    // By itself, without the mesh being asked: the name follows.
    let again = c
        .actors()
        .spawn("counter", "x", Value::from(5), on("c"))
        .await;
    again.unwrap();
    b.shutdown(LONG).await.unwrap();
    c.actors()
        .spawn("counter", "y", Value::from(7), on("c"))
        .await
        .unwrap();
    assert_eq!(a.actors().ask("y", add(0), LONG).await, Ok(Value::from(7)));
    assert_eq!(a.actors().list().await.unwrap().len(), 2);
}
