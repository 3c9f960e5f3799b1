//! A message that fails its receiver twice, over the mesh.

use cpe::local::Poisoned;
use cpe::prelude::*;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::harness::{Ground, LONG, all_linked, join};

/// Fails on each message.
struct Brittle;

impl DynActor for Brittle {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move { Err(ActorError::failed(format!("broke on {message}"))) })
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(Value::Null))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_from_another_node_hears_of_poison_as_one_on_the_same_node_does() {
    let ground = Ground::new();
    let a = ground.ephemeral("a").start().await.unwrap();
    let b = join(ground.ephemeral("b"), &a).kind("brittle", |_| Ok(Box::new(Brittle)));
    let nodes = [a, b.start().await.unwrap()];
    all_linked(&nodes).await;
    let [a, b] = nodes;
    for (name, durable) in [("plain", false), ("durable", true)] {
        let options = SpawnOptions {
            durable,
            ..SpawnOptions::default()
        };
        let spawned = a
            .actors()
            .spawn("brittle", name, Value::Null, options)
            .await;
        spawned.unwrap();
        for node in [&a, &b] {
            let error = node.actors().ask(name, 7.into(), LONG).await.unwrap_err();
            let ActorsError::Poisoned { actor, reason, .. } = &error else {
                panic!("{name} from {}: {error:?}", node.name());
            };
            assert_eq!((actor.as_str(), reason.as_str()), (name, "broke on 7"));
        }
    }
}

type Told = (String, String, Value);

/// Tells the actor of the name that it is told to, and passes on what comes back.
struct Boss(NodeHandle, mpsc::Sender<Told>);

impl DynActor for Boss {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            let whom = message.as_str().unwrap_or_default();
            self.0.actors().tell(whom, 7.into()).await?;
            Ok(None)
        })
    }

    fn returned<'a>(
        &'a mut self,
        poisoned: Poisoned,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<(), ActorError>> {
        Box::pin(async move {
            let (actor, reason) = (poisoned.actor.clone(), poisoned.reason.clone());
            let message = poisoned.into_message::<Value>().unwrap();
            Ok(self.1.send((actor, reason, message)).await?)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_actor_told_one_of_another_node_comes_back_to_it_once_when_it_is_poison() {
    let ground = Ground::new();
    let (sender, mut came_back) = mpsc::channel(16);
    let boss = move |start: KindStart| -> Result<Box<dyn DynActor>, ActorError> {
        Ok(Box::new(Boss(start.node, sender.clone())))
    };
    let a = ground.ephemeral("a").kind("boss", boss);
    let a = a.start().await.unwrap();
    let b = join(ground.ephemeral("b"), &a).kind("brittle", |_| Ok(Box::new(Brittle)));
    let nodes = [a, b.start().await.unwrap()];
    all_linked(&nodes).await;
    let [a, b] = nodes;
    let actors = a.actors();
    let spawn = async |kind: &str, name: &str, durable: bool| {
        let options = SpawnOptions {
            durable,
            ..SpawnOptions::default()
        };
        actors
            .spawn(kind, name, Value::Null, options)
            .await
            .unwrap();
    };
    spawn("boss", "boss", false).await;
    spawn("brittle", "plain", false).await;
    spawn("brittle", "durable", true).await;
    for name in ["plain", "durable"] {
        actors.ask("boss", name.into(), LONG).await.unwrap();
        let back = timeout(LONG, came_back.recv()).await.unwrap().unwrap();
        assert_eq!(back, (name.to_owned(), "broke on 7".to_owned(), 7.into()));
    }
    // It is a dead letter besides; what nobody with a name told is nothing else.
    actors.tell("plain", 8.into()).await.unwrap();
    while b.actors().system().dead_letter_count() < 3 {
        tokio::task::yield_now().await;
    }
    actors.stop("boss", LONG).await.unwrap();
    assert!(came_back.try_recv().is_err());
}
