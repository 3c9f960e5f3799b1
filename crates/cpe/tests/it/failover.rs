//! Durable actors outlive their nodes.

use std::collections::BTreeMap;

use cpe::{
    ActorError, ActorsError, DynActor, DynContext, KindStart, Node, SpawnOptions, Stopped, Value,
};
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

use crate::harness::{Ground, LONG, all_linked};

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

/// Asks a counter to add one, so many times in turn; how many answers were lost.
async fn add_ones(node: &Node, times: i64) -> i64 {
    let mut lost = 0;
    for _ in 0..times {
        match node.actors().ask("n", add(1), LONG).await {
            Ok(_) => {}
            Err(ActorsError::AnswerLost { .. }) => lost += 1,
            Err(error) => panic!("{error}"),
        }
    }
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_handled_twice_while_a_durable_actor_moves() {
    const TIMES: i64 = 30;
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let options = durable_on("b");
    let spawned = a.actors().spawn("counter", "n", Value::Null, options).await;
    let first = spawned.unwrap().token;
    let unknown = a.actors().migrate("n", "nobody", LONG).await;
    assert!(
        matches!(unknown, Err(ActorsError::UnknownNode(_))),
        "{unknown:?}"
    );
    let moves = async {
        for to in ["c", "a", "b", "b", "c"] {
            a.actors().migrate("n", to, LONG).await.unwrap();
            let there = a.actors().where_is("n").await.unwrap();
            assert!(there.is_some());
        }
    };
    let tells = async {
        for _ in 0..TIMES {
            c.actors().tell("n", add(1)).await.unwrap();
        }
    };
    let ((), (), from_a, from_b) =
        tokio::join!(moves, tells, add_ones(&a, TIMES), add_ones(&b, TIMES));
    assert_eq!((from_a, from_b), (0, 0), "answers lost without a crash");
    // After all that was told from there.
    assert_eq!(count(&c).await, Ok(Value::from(3 * TIMES)));
    let there = b.actors().where_is("n").await.unwrap().unwrap();
    assert_eq!(
        there.token,
        first + 4,
        "it was at b once when it was to move there"
    );
    let plain = SpawnOptions::default();
    a.actors()
        .spawn("counter", "plain", Value::Null, plain)
        .await
        .unwrap();
    let stays = a.actors().migrate("plain", "b", LONG).await;
    assert!(
        matches!(stays, Err(ActorsError::NotMoved { .. })),
        "{stays:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asker_goes_on_over_the_death_of_a_durable_actors_node_and_each_effect_is_there_once() {
    const TIMES: i64 = 40;
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let options = durable_on("b");
    let spawned = a.actors().spawn("counter", "n", Value::Null, options).await;
    spawned.unwrap();
    let dies = async {
        let at_work = TIMES / 4;
        while !matches!(count(&c).await, Ok(Value::Int(n)) if n >= at_work) {}
        b.kill().await;
    };
    let ((), _, _) = tokio::join!(dies, add_ones(&a, TIMES), add_ones(&c, TIMES));
    assert_eq!(count(&c).await, Ok(Value::from(2 * TIMES)));
}

/// Counts what it is told, fails at texts, and takes up nothing beyond 2.
#[derive(Default)]
struct Picky(i64);

impl DynActor for Picky {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            let n = message.as_int();
            let n = n.ok_or_else(|| ActorError::failed("as always"))?;
            self.0 += n;
            Ok(Some(Value::from(self.0)))
        })
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(Value::from(self.0)))
    }

    fn restore(&mut self, state: Value) -> Result<(), ActorError> {
        self.0 = state.as_int().unwrap_or(0);
        if self.0 > 2 {
            return Err(ActorError::failed("more than it likes"));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_keeps_a_state_says_whose_and_is_freed_by_stop() {
    let ground = Ground::new();
    let kind = |_: KindStart| Ok(Box::new(Picky::default()) as Box<dyn DynActor>);
    let with = ground.ephemeral("a").kind("picky", kind);
    let node = with.start().await.unwrap();
    all_linked(std::slice::from_ref(&node)).await;
    let actors = node.actors();
    let spawn = async |kind: &str| {
        let spawned = actors.spawn(kind, "n", Value::Null, durable_on("a")).await;
        spawned.map(drop)
    };
    let reason = |refused: Result<(), ActorsError>| match refused {
        Err(ActorsError::NotStarted { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let fail = async || {
        let monitor = actors.monitor("n").await.unwrap();
        while actors
            .ask("n", Value::from("no"), LONG)
            .await
            .is_err_and(|error| {
                !matches!(
                    error,
                    ActorsError::NoSuchActor(_) | ActorsError::Dead { .. }
                )
            })
        {}
        timeout(LONG, monitor.ended()).await.unwrap();
        let until = Instant::now() + LONG;
        while actors.where_is("n").await.unwrap().is_some() {
            assert!(Instant::now() < until);
        }
    };
    spawn("picky").await.unwrap();
    let two = actors.ask("n", Value::from(2), LONG).await;
    assert_eq!(two, Ok(Value::from(2)));
    fail().await;
    // Each time, and not only the first.
    for _ in 0..3 {
        let why = reason(spawn("counter").await);
        assert!(why.contains("`picky`") && why.contains("stop n"), "{why}");
        assert_eq!(actors.where_is("n").await, Ok(None));
    }
    // Its own kind goes on from there.
    spawn("picky").await.unwrap();
    let three = actors.ask("n", Value::from(1), LONG).await;
    assert_eq!(three, Ok(Value::from(3)));
    fail().await;
    for _ in 0..2 {
        let why = reason(spawn("picky").await);
        assert!(
            why.contains("more than it likes") && why.contains("stop n"),
            "{why}"
        );
    }
    assert_eq!(actors.stop("n", LONG).await, Ok(Stopped::State));
    let gone = Err(ActorsError::NoSuchActor("n".to_owned()));
    assert_eq!(actors.stop("n", LONG).await, gone);
    spawn("counter").await.unwrap();
    assert_eq!(count(&node).await, Ok(Value::from(0)));
    assert_eq!(actors.stop("n", LONG).await, Ok(Stopped::Actor));
}
