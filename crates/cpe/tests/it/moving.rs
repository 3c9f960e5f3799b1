//! Durable actors move by themselves: from a node that no longer fits, to one that has come, and
//! from one that goes.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe::local::ExitReason;
use cpe::{ActorError, DynActor, DynContext, KindStart, Node, NodeId, SpawnOptions, Value};
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

use crate::harness::{Ground, LONG, all_linked, join};

fn add(n: i64) -> Value {
    Value::Map(BTreeMap::from([("add".to_owned(), Value::from(n))]))
}

/// The node on which an actor lives, as another one sees it.
async fn host(node: &Node, name: &str) -> Option<NodeId> {
    let found = node.actors().where_is(name).await.unwrap();
    found.and_then(|info| info.host).map(|host| host.node)
}

/// Waits until an actor lives on a node.
async fn moved(seen_by: &Node, name: &str, to: &Node) {
    let until = Instant::now() + LONG;
    loop {
        let host = host(seen_by, name).await;
        if host == Some(to.member().node) {
            return;
        }
        assert!(Instant::now() < until, "`{name}` is on {host:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn has_gpu(node: &Node, has: bool) {
    let value = has.then_some("yes");
    node.mesh().set_capability("gpu", value).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_actor_follows_what_it_needs_and_goes_on_where_it_is_while_nobody_has_it() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    has_gpu(&b, true).await;
    let options = || SpawnOptions {
        require: BTreeMap::from([("gpu".to_owned(), "yes".to_owned())]),
        durable: true,
        ..SpawnOptions::default()
    };
    let until = Instant::now() + LONG;
    // Its card is on its way.
    while let Err(error) = a
        .actors()
        .spawn("counter", "n", Value::Null, options())
        .await
    {
        assert!(Instant::now() < until, "{error}");
    }
    moved(&a, "n", &b).await;
    assert_eq!(a.actors().ask("n", add(1), LONG).await, Ok(Value::from(1)));

    has_gpu(&c, true).await;
    has_gpu(&b, false).await;
    moved(&a, "n", &c).await;
    assert_eq!(a.actors().ask("n", add(1), LONG).await, Ok(Value::from(2)));

    has_gpu(&c, false).await;
    assert_eq!(b.actors().ask("n", add(1), LONG).await, Ok(Value::from(3)));
    assert_eq!(host(&a, "n").await, Some(c.member().node));

    has_gpu(&a, true).await;
    moved(&b, "n", &a).await;
    assert_eq!(b.actors().ask("n", add(1), LONG).await, Ok(Value::from(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_is_given_its_share_of_the_durable_actors() {
    const COUNT: i64 = 12;
    // More than anybody's share, so that it would be they who go if all went.
    const WANTED_HERE: i64 = 9;
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let options = |node: Option<&str>| SpawnOptions {
        node: node.map(str::to_owned),
        durable: true,
        ..SpawnOptions::default()
    };
    // Where somebody wanted them: they count, and stay.
    for n in 0..WANTED_HERE {
        let name = format!("here{n}");
        let actors = a.actors();
        let spawned = actors.spawn("counter", &name, Value::Null, options(Some("a")));
        spawned.await.unwrap();
    }
    for n in 0..COUNT {
        let name = format!("n{n}");
        let actors = a.actors();
        let spawned = actors.spawn("counter", &name, Value::Null, options(None));
        spawned.await.unwrap();
        actors.ask(&name, add(n), LONG).await.unwrap();
    }
    let d = join(ground.ephemeral("d"), &a).start().await.unwrap();
    let nodes = [a, b, c, d];
    all_linked(&nodes).await;
    let asks = async {
        for turn in 0..30 {
            let name = format!("n{}", turn % COUNT);
            nodes[1].actors().ask(&name, add(100), LONG).await.unwrap();
        }
    };
    let even = async {
        let until = Instant::now() + LONG;
        loop {
            let mut loads: BTreeMap<_, usize> =
                nodes.iter().map(|node| (node.member().node, 0)).collect();
            for info in nodes[1].actors().list().await.unwrap() {
                *loads.entry(info.host.unwrap().node).or_default() += 1;
            }
            let here = loads.remove(&nodes[0].member().node);
            let (most, least) = (loads.values().max().unwrap(), loads.values().min().unwrap());
            if most - least <= 1 && here == Some(WANTED_HERE as usize) {
                return;
            }
            assert!(Instant::now() < until, "{here:?} and {loads:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(asks, even);
    for n in 0..COUNT {
        let times = 30 / COUNT + i64::from(n < 30 % COUNT);
        let name = format!("n{n}");
        let count = nodes[3].actors().ask(&name, Value::from("get"), LONG).await;
        assert_eq!(count, Ok(Value::from(n + 100 * times)), "{name}");
    }
    for n in 0..WANTED_HERE {
        let name = format!("here{n}");
        assert_eq!(host(&nodes[1], &name).await, Some(nodes[0].member().node));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_shuts_down_hands_its_durable_actors_on_with_what_waits_for_them() {
    const TOLD: i64 = 200;
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let options = SpawnOptions {
        node: Some("b".to_owned()),
        durable: true,
        ..SpawnOptions::default()
    };
    let spawned = a.actors().spawn("counter", "n", Value::Null, options).await;
    spawned.unwrap();
    for _ in 0..TOLD {
        b.actors().tell("n", add(1)).await.unwrap();
    }
    timeout(LONG, b.shutdown(LONG)).await.unwrap().unwrap();
    assert!(host(&a, "n").await.is_some());
    let count = c.actors().ask("n", Value::from("get"), LONG).await;
    assert_eq!(count, Ok(Value::from(TOLD)));
}

/// Fails at every message but `Null`.
struct Faulty;

impl DynActor for Faulty {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            match message {
                Value::Null => Ok(Some(Value::Null)),
                _ => Err(ActorError::failed("as always")),
            }
        })
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(Value::Null))
    }

    fn restore(&mut self, _: Value) -> Result<(), ActorError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_fails_on_every_node_ends_after_as_many_failures_as_on_one() {
    let ground = Ground::new();
    let kind = |_: KindStart| Ok(Box::new(Faulty) as Box<dyn DynActor>);
    let with = |name: &str| ground.ephemeral(name).kind("faulty", kind);
    let a = with("a").start().await.unwrap();
    let b = join(with("b"), &a).start().await.unwrap();
    let c = join(with("c"), &a).start().await.unwrap();
    let nodes = [a, b, c];
    all_linked(&nodes).await;
    let actors = nodes[0].actors();
    let options = SpawnOptions {
        node: Some("b".to_owned()),
        durable: true,
        ..SpawnOptions::default()
    };
    let spawned = actors.spawn("faulty", "f", Value::Null, options).await;
    spawned.unwrap();
    let monitor = actors.monitor("f").await.unwrap();
    // Each message is tried twice: two failures, of which five may be.
    for next in ["c", "b"] {
        actors.ask("f", Value::from(1), LONG).await.unwrap_err();
        actors.migrate("f", next, LONG).await.unwrap();
    }
    assert_eq!(actors.ask("f", Value::Null, LONG).await, Ok(Value::Null));
    actors.ask("f", Value::from(1), LONG).await.unwrap_err();
    let ended = timeout(LONG, monitor.ended()).await.unwrap();
    let ExitReason::Failed(reason) = &ended.reason else {
        panic!("it ended otherwise: {ended:?}");
    };
    assert!(reason.contains("more than 5 failures"), "{reason}");
}
