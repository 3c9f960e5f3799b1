//! Named actors of the library `cpe`, on two nodes of one mesh.

use std::time::Duration;

use cpe::{ActorError, DynActor, DynContext, MeshKey, Node, NodeBuilder, SpawnOptions, Value};
use futures::future::BoxFuture;

use super::{Case, Outcome, Timer, Way, end, many, ready};

const LONG: Duration = Duration::from_secs(60);

/// Answers what it gets; asked for its `count`, how many there were since the last time.
struct Echo(i64);

impl DynActor for Echo {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            if message.as_str() == Some("count") {
                return Ok(Some(Value::from(std::mem::take(&mut self.0))));
            }
            self.0 += 1;
            Ok(Some(message))
        })
    }
}

fn node(name: &str, key: &str) -> NodeBuilder {
    let builder = Node::builder().name(name).ephemeral().mesh_key(key);
    let builder = builder.listen("/ip4/127.0.0.1/tcp/0");
    builder.kind("counting-echo", |_| Ok(Box::new(Echo(0))))
}

pub(super) async fn serve() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("mesh.key");
    MeshKey::generate().save(&key).expect("a file");
    let key = key.to_str().expect("a path of text");
    let node = node("server", key).start().await.expect("a node");
    let options = SpawnOptions::default();
    let actors = node.actors();
    let spawned = actors.spawn("counting-echo", "echo", Value::Null, options);
    spawned.await.expect("an actor");
    let address = node.addresses().into_iter().next().expect("an address");
    ready(&format!("{key}|{address}"));
    end().await;
    node.kill().await;
}

pub(super) async fn drive(address: &str, case: Case) -> Outcome {
    let (key, address) = address.split_once('|').expect("a key and an address");
    // Where the actor lives decides nothing about the space: the server is home of everything.
    let node = node("client", key).homes(false).bootstrap(address);
    let node = node.start().await.expect("a node");
    node.mesh().members(2, LONG).await.expect("a mesh");
    let actors = node.actors();
    // Its replica may not show the actor yet.
    while let Err(error) = actors.ask("echo", Value::from("count"), LONG).await {
        tracing::debug!(%error, "not there yet");
    }
    let message = Value::Bytes(vec![7; case.bytes]);
    let mut timer = Timer::start(case);
    let arrived = match case.way {
        Way::Ask => {
            let ask = || async {
                let answer = actors.ask("echo", message.clone(), LONG).await;
                answer.is_ok_and(|it| it.as_bytes().is_some_and(|it| it.len() == case.bytes))
            };
            let done = many(case, &mut timer, ask).await;
            actors
                .ask("echo", Value::from("count"), LONG)
                .await
                .expect("it answers");
            done
        }
        Way::TellEach | Way::Tell => {
            if case.way == Way::TellEach {
                for _ in 0..case.count {
                    actors
                        .tell("echo", message.clone())
                        .await
                        .expect("it is there");
                }
            } else {
                let outlet = actors.outlet("echo");
                for _ in 0..case.count {
                    outlet.tell(message.clone()).await.expect("it takes it");
                }
                outlet.flush().await.expect("it is there");
            }
            let count = actors.ask("echo", Value::from("count"), LONG).await;
            let count = count.ok().and_then(|count| count.as_int());
            count
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or_default()
        }
    };
    let outcome = timer.stop(arrived);
    node.kill().await;
    outcome
}
