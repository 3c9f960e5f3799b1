//! A message that fails its receiver twice, over the mesh.

use cpe::prelude::*;
use futures::future::BoxFuture;

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
