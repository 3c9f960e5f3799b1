//! What durable actors ask for in their commits.

use cpe::local::Effect;
use cpe::{
    Actor, ActorError, Address, Context, Field, SpawnOptions, Template, Value, state_is_self,
};
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

/// Takes jobs and sums them up.
#[derive(Default, Serialize, Deserialize)]
struct Worker {
    sum: i64,
    failed: u64,
}

#[derive(Serialize, Deserialize)]
enum Work {
    /// Take so many, and then say what the sum is.
    Fetch(u64),
    Sum,
    Took {
        request: u64,
        tuple: Option<Vec<Value>>,
        #[serde(default)]
        failed: Option<String>,
    },
}

impl Actor for Worker {
    type Message = Work;
    type Reply = (i64, u64);
    state_is_self!();

    async fn handle(
        &mut self,
        message: Work,
        ctx: &mut Context<Self>,
    ) -> Result<(i64, u64), ActorError> {
        match message {
            Work::Fetch(count) => {
                for request in 0..count {
                    ctx.effect(Effect::Take {
                        workspace: "work".to_owned(),
                        template: Template::named("job").unwrap(),
                        wait: true,
                        answer: "Took".to_owned(),
                        request,
                    })?;
                }
            }
            Work::Sum => {}
            Work::Took { failed, tuple, .. } => {
                self.failed += u64::from(failed.is_some());
                let job = tuple.and_then(|fields| fields.get(1)?.as_int());
                self.sum += job.unwrap_or(0);
            }
        }
        Ok((self.sum, self.failed))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_gets_what_it_takes_as_messages_and_waits_for_nothing_once_it_is_stopped() {
    let ground = Ground::new();
    let node = ground.ephemeral("a");
    let node = node.typed_kind("worker", |_| Ok(Worker::default()));
    let node = node.start().await.unwrap();
    let (actors, space) = (node.actors(), node.space());
    let durable = || SpawnOptions {
        durable: true,
        ..SpawnOptions::default()
    };
    let spawned = actors.spawn("worker", "w", Value::Null, durable());
    spawned.await.unwrap();
    let worker = Address::<Work, (i64, u64)>::new("w");
    worker.ask(&actors, &Work::Fetch(3), LONG).await.unwrap();
    for job in [5, 7] {
        space.store("work", "job", Value::from(job)).await.unwrap();
    }
    while worker.ask(&actors, &Work::Sum, LONG).await.unwrap() != (12, 0) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // The third waits.
    actors.stop("w", LONG).await.unwrap();
    space.store("work", "job", Value::from(9)).await.unwrap();
    let left = space.fetch("work", "job", LONG).await.unwrap();
    assert_eq!(left, Value::from(9), "nobody takes it any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_takes_from_anywhere_is_told_to_name_the_variable() {
    struct Vague;
    impl Actor for Vague {
        type Message = i64;
        type Reply = ();

        async fn handle(&mut self, _: i64, ctx: &mut Context<Self>) -> Result<(), ActorError> {
            let template = Template::new(vec![Field::Any]).unwrap();
            ctx.effect(Effect::Take {
                workspace: "work".to_owned(),
                template,
                wait: false,
                answer: "Took".to_owned(),
                request: 1,
            })
        }

        fn snapshot(&self) -> Result<Option<Value>, ActorError> {
            Ok(Some(Value::Null))
        }
    }
    let ground = Ground::new();
    let node = ground.ephemeral("a").typed_kind("vague", |_| Ok(Vague));
    let node = node.start().await.unwrap();
    let actors = node.actors();
    let options = SpawnOptions {
        durable: true,
        ..SpawnOptions::default()
    };
    let spawned = actors.spawn("vague", "v", Value::Null, options);
    spawned.await.unwrap();
    let failed = actors.ask("v", Value::from(1), LONG).await.unwrap_err();
    assert!(failed.to_string().contains("variable"), "{failed}");
}
