//! Named actors across nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe::{
    ActorError, ActorsError, Address, DynActor, DynContext, KindStart, SpawnOptions,
    SubscriptionEnd, Value,
};
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actors_are_placed_where_there_are_fewer_or_near_the_one_they_talk_with() {
    const AT_A: usize = 9;
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    for n in 0..AT_A {
        let name = format!("here{n}");
        let actors = b.actors();
        let spawned = actors.spawn("echo", &name, Value::Null, on("a"));
        spawned.await.unwrap();
    }
    let until = Instant::now() + LONG;
    while c.actors().list().await.unwrap().len() < AT_A {
        assert!(Instant::now() < until, "c never heard of the actors at a");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut hosts = BTreeMap::<_, usize>::new();
    for n in 0..12 {
        let name = format!("any{n}");
        let options = SpawnOptions::default();
        let spawned = c.actors().spawn("echo", &name, Value::Null, options).await;
        *hosts.entry(spawned.unwrap().host.unwrap()).or_default() += 1;
    }
    // The mean is 7 at the end, and a quarter more 9.
    assert_eq!(hosts.get(&a.member()), None);
    assert!(
        hosts.values().all(|count| (3..=9).contains(count)),
        "{hosts:?}"
    );
    for n in 0..4 {
        let options = SpawnOptions {
            near: Some("here0".to_owned()),
            ..SpawnOptions::default()
        };
        let name = format!("near{n}");
        let spawned = c.actors().spawn("echo", &name, Value::Null, options).await;
        assert_eq!(spawned.unwrap().host, Some(a.member()));
    }
    let options = SpawnOptions {
        near: Some("nobody".to_owned()),
        ..SpawnOptions::default()
    };
    let spawned = c
        .actors()
        .spawn("echo", "alone", Value::Null, options)
        .await;
    assert_ne!(spawned.unwrap().host, Some(a.member()));
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
async fn placement_follows_a_capability_that_is_set_at_run_time() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let set = async |node: &cpe::Node, value: Option<&str>| {
        node.mesh().set_capability("gpu", value).await.unwrap();
        let of = |peer: &cpe::PeerInfo| peer.capabilities.get("gpu").cloned();
        loop {
            let peers = a.mesh().peers().await.unwrap();
            let seen = peers.iter().find(|peer| peer.node == node.member().node);
            if seen.and_then(of).as_deref() == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let spawn = async |name: &str| {
        let options = SpawnOptions {
            require: [("gpu".to_owned(), "yes".to_owned())].into(),
            ..SpawnOptions::default()
        };
        a.actors().spawn("echo", name, Value::Null, options).await
    };
    let nowhere = spawn("first").await.unwrap_err();
    assert!(nowhere.to_string().contains("gpu=yes"), "{nowhere}");
    set(&b, Some("yes")).await;
    assert_eq!(spawn("first").await.unwrap().host, Some(b.member()));
    set(&b, None).await;
    set(&c, Some("yes")).await;
    assert_eq!(spawn("second").await.unwrap().host, Some(c.member()));
    // What runs stays where it is.
    let first = a.actors().where_is("first").await.unwrap().unwrap();
    assert_eq!(first.host, Some(b.member()));

    let own = b.mesh().set_capability("kinds", Some("echo")).await;
    let own = own.unwrap_err().to_string();
    assert!(own.contains("kinds"), "{own}");
    let long = "x".repeat(1 << 20);
    let large = b.mesh().set_capability("note", Some(&long)).await;
    assert!(large.unwrap_err().to_string().contains("card"));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_looked_at_from_any_node() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let spawn = a.actors();
    spawn
        .spawn("counter", "n", Value::Null, on("b"))
        .await
        .unwrap();
    b.actors().ask("n", add(1), LONG).await.unwrap();
    b.actors().tell("n", add(i64::MAX)).await.unwrap();
    b.actors().ask("n", Value::from("get"), LONG).await.unwrap();
    for node in [&a, &b, &c] {
        let trees = node.actors().tree(None, LONG).await.unwrap();
        assert_eq!(trees.len(), 3);
        for tree in trees {
            let found = tree.found.unwrap();
            let handled: Vec<_> = found.items.iter().map(|it| it.info.handled).collect();
            let wanted: &[u64] = if tree.name == "b" { &[2] } else { &[] };
            assert_eq!(
                (tree.name.as_str(), handled.as_slice()),
                (&*tree.name, wanted)
            );
            assert_eq!(found.total, wanted.len() as u64);
        }
        let letters = node.actors().dead_letters(Some("b"), LONG).await.unwrap();
        let found = letters[0].found.as_ref().unwrap();
        assert_eq!((letters.len(), found.total), (1, 1));
        assert_eq!(found.items[0].actor, "n");
        let nowhere = node.actors().tree(Some("nowhere"), LONG).await;
        assert!(
            matches!(nowhere, Err(ActorsError::UnknownNode(_))),
            "{nowhere:?}"
        );
    }
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Count {
    Add(i64),
    Get,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typed_address_travels_and_works_from_anywhere() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let visits = Address::<Count, i64>::new("visits");
    a.actors()
        .spawn("counter", visits.name(), Value::Null, on("a"))
        .await
        .unwrap();
    assert_eq!(visits.ask(&b.actors(), &Count::Add(3), LONG).await, Ok(3));
    // As part of a tuple, and out of it on another node.
    let text = serde_json::to_string(&visits).unwrap();
    a.space().store("w", "to", Value::from(text)).await.unwrap();
    let found = c.space().fetch("w", "to", LONG).await.unwrap();
    let again: Address<Count, i64> = serde_json::from_str(found.as_str().unwrap()).unwrap();
    assert_eq!(again, visits);
    again.tell(&c.actors(), &Count::Add(4)).await.unwrap();
    assert_eq!(again.ask(&c.actors(), &Count::Get, LONG).await, Ok(7));
    let wrong = Address::<String, String>::new("visits");
    let refused = wrong.tell(&c.actors(), &"reset".to_owned()).await;
    assert!(
        matches!(refused, Err(ActorsError::Refused { .. })),
        "{refused:?}"
    );
    let wrong = Address::<Count, String>::new("visits");
    let other = wrong.ask(&c.actors(), &Count::Get, LONG).await;
    assert!(
        matches!(other, Err(ActorsError::NotTyped { .. })),
        "{other:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ends_with_its_actor_or_its_node() {
    let ground = Ground::new();
    let node = ground.ephemeral("a").start().await.unwrap();
    let system = node.actors().system().clone();
    let kinds = cpe::local::KindRegistry::with_builtin();
    let options = || cpe::local::Options::default().name("e");
    let template = || cpe::json::parse_template(r#"["job", {"?":"any"}]"#).unwrap();
    kinds
        .spawn(&system, "echo", options(), Value::Null)
        .unwrap();
    let echo = system.find::<Value, Option<Value>>("e").unwrap();
    let wrap = |tuple: cpe::Tuple| tuple.fields()[1].clone();
    let space = node.space();
    space.store("w", "job", Value::from(1)).await.unwrap();
    let mut first = space.subscribe("w", template(), &echo, wrap).await.unwrap();
    space.store("w", "job", Value::from(2)).await.unwrap();
    while echo.info().handled < 2 {
        tokio::task::yield_now().await;
    }
    echo.stop();
    assert_eq!(first.ended().await, SubscriptionEnd::ActorEnded);
    assert_eq!(first.ended().await, SubscriptionEnd::ActorEnded);
    kinds
        .spawn(&system, "echo", options(), Value::Null)
        .unwrap();
    let echo = system.find::<Value, Option<Value>>("e").unwrap();
    let mut second = space.subscribe("w", template(), &echo, wrap).await.unwrap();
    node.kill().await;
    let end = second.ended().await;
    // Whichever of the two the node takes down first.
    assert!(
        matches!(
            end,
            SubscriptionEnd::ActorEnded | SubscriptionEnd::NodeStopped
        ),
        "{end:?}"
    );
}

/// Answers what it gets, after so many milliseconds.
struct Late;

impl DynActor for Late {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            let after = message.as_int().unwrap_or(0).unsigned_abs();
            tokio::time::sleep(Duration::from_millis(after)).await;
            Ok(Some(message))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_too_late_is_nobody_elses() {
    let ground = Ground::new();
    let kind = |_: KindStart| Ok(Box::new(Late) as Box<dyn DynActor>);
    let a = ground.ephemeral("a").start().await.unwrap();
    let b = join(ground.ephemeral("b").kind("late", kind), &a);
    let nodes = [a, b.start().await.unwrap()];
    all_linked(&nodes).await;
    let actors = nodes[0].actors();
    let spawned = actors.spawn("late", "l", Value::Null, on("b")).await;
    spawned.unwrap();
    // The first answer comes while the others wait behind it for theirs.
    let early = Duration::from_millis(20);
    let given_up = actors.ask("l", Value::from(300), early).await.unwrap_err();
    assert!(
        matches!(given_up, ActorsError::TimedOut { .. }),
        "{given_up}"
    );
    for n in 1..20 {
        assert_eq!(
            actors.ask("l", Value::from(n), LONG).await,
            Ok(Value::from(n))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_wait_for_a_slow_actor_keep_nobody_from_others_nor_from_stopping_it() {
    const ASKERS: usize = 4_500;
    let ground = Ground::new();
    let kind = |_: KindStart| Ok(Box::new(Late) as Box<dyn DynActor>);
    let a = ground.ephemeral("a").start().await.unwrap();
    let b = join(ground.ephemeral("b").kind("late", kind), &a);
    let nodes = [a, b.start().await.unwrap()];
    all_linked(&nodes).await;
    let actors = nodes[0].actors();
    for (kind, name) in [("late", "slow"), ("echo", "fast")] {
        let spawned = actors.spawn(kind, name, Value::Null, on("b")).await;
        spawned.unwrap();
    }
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..ASKERS {
        let actors = actors.clone();
        // Longer than anything here.
        let never = Value::from(3_600_000);
        askers.spawn(async move { actors.ask("slow", never, 60 * LONG).await });
    }
    // It has as many as its mailbox holds.
    for _ in cpe::local::DEFAULT_MAILBOX..ASKERS {
        let refused = timeout(LONG, askers.join_next()).await.unwrap();
        let refused = refused.unwrap().unwrap();
        assert!(
            matches!(refused, Err(ActorsError::Refused { .. })),
            "{refused:?}"
        );
    }
    let one = Value::from(1);
    assert_eq!(actors.ask("fast", one.clone(), LONG).await, Ok(one.clone()));
    assert_eq!(actors.tell("fast", one.clone()).await, Ok(()));
    let spawned = actors.spawn("echo", "new", Value::Null, on("b")).await;
    spawned.unwrap();
    let tree = actors.tree(Some("b"), LONG).await.unwrap();
    assert_eq!(tree[0].found.as_ref().unwrap().total, 3);

    // What those asked who went away takes no place.
    askers.shutdown().await;
    let until = Instant::now() + LONG;
    loop {
        let early = Duration::from_millis(50);
        match actors.ask("slow", one.clone(), early).await {
            Err(ActorsError::TimedOut { .. }) => break,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
    }
    let stopped = actors.stop("slow", LONG).await;
    assert_eq!(stopped, Ok(cpe::Stopped::Actor));
}

/// Keeps whether the numbers that it was told came in order, and how many; slow at the first.
#[derive(Default)]
struct InOrder(i64, bool);

impl DynActor for InOrder {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            match message.as_int() {
                Some(0) => tokio::time::sleep(Duration::from_millis(300)).await,
                Some(n) => self.1 |= n != self.0 + 1,
                None => {}
            }
            self.0 = message.as_int().unwrap_or(self.0);
            Ok(Some(Value::from(if self.1 { -1 } else { self.0 })))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outlet_keeps_the_order_and_loses_nothing_also_when_its_actor_is_slow() {
    // Several times what the mailbox and the outlet hold.
    const COUNT: i64 = 5_000;
    let ground = Ground::new();
    let kind = |_: KindStart| Ok(Box::new(InOrder::default()) as Box<dyn DynActor>);
    let a = ground
        .ephemeral("a")
        .kind("in-order", kind)
        .start()
        .await
        .unwrap();
    let b = join(ground.ephemeral("b").kind("in-order", kind), &a);
    let nodes = [a, b.start().await.unwrap()];
    all_linked(&nodes).await;
    let actors = nodes[0].actors();
    for node in ["a", "b"] {
        let spawned = actors.spawn("in-order", node, Value::Null, on(node)).await;
        spawned.unwrap();
        let outlet = actors.outlet(node);
        for n in 0..COUNT {
            outlet.tell(Value::from(n)).await.unwrap();
        }
        outlet.flush().await.unwrap();
        let last = actors.ask(node, Value::Null, LONG).await;
        assert_eq!(last, Ok(Value::from(COUNT - 1)), "{node}");

        actors.stop(node, LONG).await.unwrap();
        outlet.tell(Value::from(COUNT)).await.unwrap();
        let gone = outlet.flush().await.unwrap_err();
        assert!(matches!(gone, ActorsError::NoSuchActor(_)), "{gone}");
        let after = outlet.tell(Value::from(COUNT)).await;
        assert_eq!(after, Err(gone), "nothing arrives after a gap");
    }
    // Each under its number.
    let durable = SpawnOptions {
        durable: true,
        ..on("b")
    };
    actors
        .spawn("counter", "kept", Value::Null, durable)
        .await
        .unwrap();
    let outlet = actors.outlet("kept");
    for _ in 0..20 {
        outlet.tell(add(1)).await.unwrap();
    }
    outlet.flush().await.unwrap();
    let count = actors.ask("kept", Value::from("get"), LONG).await;
    assert_eq!(count, Ok(Value::from(20)));
}
