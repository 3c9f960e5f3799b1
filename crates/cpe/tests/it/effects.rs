//! What durable actors ask for in their commits.

use cpe::local::Effect;
use cpe::{Actor, ActorError, Context, SpawnOptions, Value, state_is_self};
use serde::{Deserialize, Serialize};

use crate::harness::{Ground, LONG};

/// Counts up by telling itself each next number, and tells `note` and nobody's name too.
#[derive(Default, Serialize, Deserialize)]
struct Restless(i64);

fn tell(actor: &str, message: i64) -> Effect {
    Effect::Tell {
        actor: actor.to_owned(),
        message: Value::from(message),
    }
}

impl Actor for Restless {
    type Message = i64;
    type Reply = i64;
    state_is_self!();

    async fn handle(&mut self, n: i64, ctx: &mut Context<Self>) -> Result<i64, ActorError> {
        self.0 += 1;
        if n < 0 {
            return Err(ActorError::refused("below zero"));
        }
        ctx.effect(tell("nobody", n))?;
        ctx.effect(tell("restless", n + 1))?;
        Ok(self.0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_tells_itself_more_and_more_can_be_stopped_and_its_name_is_free() {
    let ground = Ground::new();
    let node = ground.ephemeral("a");
    let node = node.typed_kind("restless", |_| Ok(Restless::default()));
    let node = node.start().await.unwrap();
    let actors = node.actors();
    let durable = || SpawnOptions {
        durable: true,
        ..SpawnOptions::default()
    };
    let spawned = actors.spawn("restless", "restless", Value::Null, durable());
    spawned.await.unwrap();
    assert_eq!(
        actors.ask("restless", Value::from(1), LONG).await,
        Ok(Value::from(1))
    );
    // Each number is its own message: all but the first came from itself.
    loop {
        let asked = actors.ask("restless", Value::from(-1), LONG).await;
        assert!(asked.is_err(), "{asked:?}");
        let found = actors.dead_letters(Some("a"), LONG).await.unwrap();
        let letters = &found[0].found.as_ref().unwrap().items;
        if letters.iter().filter(|it| it.actor == "nobody").count() > 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    actors.stop("restless", LONG).await.unwrap();
    let there = actors.where_is("restless").await.unwrap();
    assert_eq!(there, None, "its name is free");
    // Nothing of what it had asked for reaches the next one of its name.
    let spawned = actors.spawn("restless", "restless", Value::Null, durable());
    spawned.await.unwrap();
    let first = actors.ask("restless", Value::from(1), LONG).await;
    assert_eq!(first, Ok(Value::from(1)));
}
