//! Who watches an actor of another node learns of its end.

use std::collections::BTreeMap;

use cpe::local::{ActorRef, ExitReason, Options, Supervision, Terminated};
use cpe::prelude::*;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::harness::{Ground, LONG};

/// Watches what it is told to, and passes on what it learns.
struct Watcher(mpsc::Sender<(String, ExitReason)>);

impl Actor for Watcher {
    type Message = ActorRef;
    type Reply = ();

    async fn handle(&mut self, other: ActorRef, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        Ok(ctx.watch(&other)?)
    }

    async fn terminated(
        &mut self,
        it: Terminated,
        _: &mut Context<Self>,
    ) -> Result<(), ActorError> {
        Ok(self.0.send((it.actor, it.reason)).await?)
    }
}

fn on(node: &str, durable: bool) -> SpawnOptions {
    SpawnOptions {
        node: Some(node.to_owned()),
        durable,
        ..SpawnOptions::default()
    }
}

fn add(n: i64) -> Value {
    Value::Map(BTreeMap::from([("add".to_owned(), Value::from(n))]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_on_other_nodes_are_told_once_with_their_reasons_also_when_the_node_dies() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let actors = a.actors();
    let spawn = async |name: &str, node: &str, durable: bool| {
        let options = on(node, durable);
        let spawned = actors.spawn("counter", name, Value::Null, options).await;
        spawned.unwrap()
    };
    for (name, node) in [
        ("stopped", "b"),
        ("here", "a"),
        ("bereft", "b"),
        ("left", "c"),
    ] {
        spawn(name, node, false).await;
    }
    let kept = spawn("kept", "b", true).await;
    actors.ask("kept", add(5), LONG).await.unwrap();

    let (sender, mut told) = mpsc::channel(64);
    let watcher = actors.system().spawn(Watcher(sender)).unwrap();
    for name in ["stopped", "here", "bereft", "left", "kept"] {
        let monitor = actors.monitor(name).await.unwrap();
        // One stands for all who watch this name from here, and watching twice is watching once.
        assert_eq!(actors.monitor(name).await.unwrap().id(), monitor.id());
        watcher.ask(monitor.clone()).await.unwrap();
        watcher.ask(monitor).await.unwrap();
    }
    let nobody = actors.monitor("nobody").await.unwrap_err();
    assert_eq!(nobody, ActorsError::NoSuchActor("nobody".to_owned()));

    let mut next = async || timeout(LONG, told.recv()).await.unwrap().unwrap();
    c.actors().stop("stopped", LONG).await.unwrap();
    assert_eq!(next().await, ("stopped".to_owned(), ExitReason::Stopped));
    c.actors().stop("here", LONG).await.unwrap();
    assert_eq!(next().await, ("here".to_owned(), ExitReason::Stopped));
    // A name is an actor's: its next one is watched anew.
    spawn("stopped", "a", false).await;
    let again = actors.monitor("stopped").await.unwrap();

    b.kill().await;
    let (name, reason) = next().await;
    assert_eq!(name, "bereft");
    assert!(
        matches!(&reason, ExitReason::Lost(why) if why.contains("node")),
        "{reason:?}"
    );
    // The durable one has moved, and that is no end.
    let mut moved = None;
    while moved.as_ref() != Some(&Value::from(5)) {
        moved = actors.ask("kept", "get".into(), LONG / 20).await.ok();
    }
    let there = actors.where_is("kept").await.unwrap().unwrap();
    assert!(there.token > kept.token);
    actors.stop("kept", LONG).await.unwrap();
    assert_eq!(next().await, ("kept".to_owned(), ExitReason::Stopped));

    timeout(LONG, c.shutdown(LONG)).await.unwrap().unwrap();
    let (name, reason) = next().await;
    assert_eq!(name, "left");
    assert!(
        matches!(reason, ExitReason::Stopped | ExitReason::Lost(_)),
        "{reason:?}"
    );
    watcher.ask(again.clone()).await.unwrap();
    actors.stop("stopped", LONG).await.unwrap();
    assert_eq!(again.ended().await.reason, ExitReason::Stopped);
    assert_eq!(next().await, ("stopped".to_owned(), ExitReason::Stopped));
    // Each was told once.
    drop(watcher);
    timeout(LONG, a.shutdown(LONG)).await.unwrap().unwrap();
    assert_eq!(told.recv().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_linked_to_a_monitor_fails_when_the_actor_is_lost() {
    let ground = Ground::new();
    let [a, b, _c] = ground.three().await;
    let actors = a.actors();
    let spawned = actors.spawn("echo", "other", Value::Null, on("b", false));
    spawned.await.unwrap();

    struct Linked(ActorRef);
    impl Actor for Linked {
        type Message = ();
        type Reply = ();
        async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
            Ok(ctx.link(&self.0)?)
        }
        async fn handle(&mut self, (): (), _: &mut Context<Self>) -> Result<(), ActorError> {
            Ok(())
        }
    }
    let monitor = actors.monitor("other").await.unwrap();
    let options = Options::default().supervision(Supervision::stop());
    let make = move || Ok(Linked(monitor.clone()));
    let linked = actors.system().spawn_with(options, make).unwrap();
    linked.ask(()).await.unwrap();
    b.kill().await;
    let ended = timeout(LONG, linked.ended()).await.unwrap();
    let reason = ended.reason.to_string();
    assert!(
        reason.contains("other") && reason.contains("lost"),
        "{reason}"
    );
}
