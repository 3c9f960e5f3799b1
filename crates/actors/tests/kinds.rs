//! Actors started by kind and spoken to in values.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use cpe_actors::{
    Actor, ActorError, AskError, Context, DeadReason, DynActor, DynContext, KindRegistry, Options,
    Snapshot, SpawnError, System, bridge,
};
use cpe_tuple::Value;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

fn add(n: i64) -> Value {
    Value::Map(BTreeMap::from([("add".to_owned(), Value::Int(n))]))
}

#[tokio::test(start_paused = true)]
async fn echo_answers_what_it_gets() {
    let system = System::default();
    let kinds = KindRegistry::with_builtin();
    let echo = kinds
        .spawn(&system, "echo", Options::default(), Value::Null)
        .unwrap();
    for message in [
        Value::from("hello"),
        Value::Null,
        add(3),
        Value::symbol("s"),
    ] {
        assert_eq!(echo.ask(message.clone(), SECOND).await.unwrap(), message);
    }
}

#[tokio::test(start_paused = true)]
async fn counter_adds_and_tells_its_total() {
    let system = System::default();
    let kinds = KindRegistry::with_builtin();
    let counter = kinds
        .spawn(&system, "counter", Options::default(), Value::Int(40))
        .unwrap();
    assert_eq!(counter.ask(add(2), SECOND).await.unwrap(), Value::Int(42));
    counter.tell(add(1)).await.unwrap();
    assert_eq!(
        counter.ask(Value::from("get"), SECOND).await.unwrap(),
        Value::Int(43)
    );
}

#[tokio::test(start_paused = true)]
async fn counter_refuses_what_it_does_not_know_and_names_what_it_accepts() {
    let system = System::default();
    let kinds = KindRegistry::with_builtin();
    let counter = kinds
        .spawn(
            &system,
            "counter",
            Options::default().name("c"),
            Value::Null,
        )
        .unwrap();
    let bad = [
        Value::from("reset"),
        Value::Int(7),
        Value::Null,
        Value::List(vec![]),
        Value::Map(BTreeMap::from([("add".to_owned(), Value::from("one"))])),
        Value::Map(BTreeMap::new()),
        Value::Map(BTreeMap::from([("sub".to_owned(), Value::Int(1))])),
    ];
    for message in bad {
        let error = counter.ask(message.clone(), SECOND).await.unwrap_err();
        let AskError::Refused { actor, reason } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(actor, "c");
        println!("{message}: {error}");
        assert!(
            reason.contains("add") && reason.contains("get"),
            "{message}: {reason}"
        );
    }
    counter.ask(add(i64::MAX), SECOND).await.unwrap();
    assert!(matches!(
        counter.ask(add(1), SECOND).await,
        Err(AskError::Refused { .. })
    ));
    assert_eq!(
        counter.ask(Value::from("get"), SECOND).await.unwrap(),
        Value::Int(i64::MAX)
    );
    assert_eq!(counter.info().failed, 0);
}

#[tokio::test(start_paused = true)]
async fn counter_takes_a_snapshot_at_each_change_and_goes_on_from_one() {
    let system = System::default();
    let kinds = KindRegistry::with_builtin();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&taken);
    let options = Options::default()
        .name("c")
        .on_snapshot(move |_, snapshot| sink.lock().unwrap().push(snapshot.clone()));
    let counter = kinds
        .spawn(&system, "counter", options, Value::Null)
        .unwrap();
    counter.ask(add(2), SECOND).await.unwrap();
    counter.ask(Value::from("get"), SECOND).await.unwrap();
    counter.ask(add(3), SECOND).await.unwrap();
    let snapshots = taken.lock().unwrap().clone();
    assert_eq!(snapshots.len(), 2);

    let options = Options::default().restore(snapshots[1].clone());
    let again = kinds
        .spawn(&system, "counter", options, Value::Null)
        .unwrap();
    assert_eq!(
        again.ask(Value::from("get"), SECOND).await.unwrap(),
        Value::Int(5)
    );

    let options = Options::default().restore(Snapshot {
        version: 1,
        state: Value::from("junk"),
    });
    let broken = kinds
        .spawn(&system, "counter", options, Value::Null)
        .unwrap();
    let error = broken
        .ask(Value::from("get"), Duration::from_secs(60))
        .await
        .unwrap_err();
    assert!(matches!(error, AskError::Dead { .. }), "{error}");
    assert!(
        error.to_string().contains("cannot take up its snapshot"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_kind_actor_is_found_by_name_until_it_ends() {
    let system = System::default();
    let kinds = KindRegistry::with_builtin();
    let options = Options::default().name("e");
    let echo = kinds
        .spawn(&system, "echo", options.clone(), Value::Null)
        .unwrap();
    let found = system.find_any("e").unwrap();
    assert_eq!(found.id(), echo.id());
    assert_eq!(found.info().kind, "echo");
    let taken = kinds
        .spawn(&system, "echo", options.clone(), Value::Null)
        .unwrap_err();
    assert_eq!(
        taken,
        SpawnError::NameTaken {
            name: "e".to_owned()
        }
    );
    echo.stop();
    cpe_actors::AsActor::as_actor(&echo).ended().await;
    assert!(system.find_any("e").is_none());
    kinds.spawn(&system, "echo", options, Value::Null).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kind_is_named_with_those_there_are() {
    let kinds = KindRegistry::with_builtin();
    let system = System::default();
    let error = kinds
        .spawn(&system, "conter", Options::default(), Value::Null)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"no actor kind "conter"; known kinds: counter, echo"#
    );
    let error = kinds
        .spawn(&system, "counter", Options::default(), add(1))
        .unwrap_err();
    assert!(
        error.to_string().contains("begins with an integer"),
        "{error}"
    );
    assert!(system.is_empty());
}

struct Touchy;

impl DynActor for Touchy {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            match message.as_str() {
                Some("fail") => Err(ActorError::failed("as asked")),
                Some("panic") => panic!("as asked"),
                _ => Ok(None),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_fails_a_kind_actor_twice_is_a_poisoned_dead_letter() {
    let system = System::default();
    let mut kinds = KindRegistry::default();
    kinds.register("touchy", |_| Ok(Box::new(Touchy)));
    let touchy = kinds
        .spawn(
            &system,
            "touchy",
            Options::default().mailbox(NonZeroUsize::MIN),
            Value::Null,
        )
        .unwrap();
    let error = touchy.ask(Value::from("panic"), SECOND).await.unwrap_err();
    assert!(matches!(error, AskError::Poisoned { .. }), "{error}");
    assert_eq!(
        touchy.ask(Value::Int(1), SECOND).await.unwrap(),
        Value::Null
    );
    let letters = system.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].message, Some(Value::from("panic")));
    assert_eq!(
        letters[0].reason,
        DeadReason::Poisoned("panicked: as asked".to_owned())
    );
    assert_eq!(touchy.info().restarts, 2);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Shape {
    Point,
    Circle { radius: f64 },
    Line(i32, i32),
    Named(String),
    Blob(Vec<u8>, Option<u8>),
    Any(Value),
}

struct Mirror;

impl Actor for Mirror {
    type Message = Shape;
    type Reply = Shape;

    async fn handle(&mut self, it: Shape, _: &mut Context<Self>) -> Result<Shape, ActorError> {
        Ok(it)
    }
}

#[tokio::test(start_paused = true)]
async fn typed_actors_are_spoken_to_in_values() {
    let system = System::default();
    let mut kinds = KindRegistry::default();
    kinds.register_typed("mirror", |_| Ok(Mirror));
    let options = Options::default().name("m");
    let mirror = kinds
        .spawn(&system, "mirror", options, Value::Null)
        .unwrap();
    for shape in [
        Shape::Point,
        Shape::Circle { radius: 3.0 },
        Shape::Line(-1, 2),
        Shape::Named("n".to_owned()),
        Shape::Blob(vec![0, 255], None),
        Shape::Any(Value::List(vec![Value::symbol("s"), Value::Bytes(vec![1])])),
    ] {
        let value = bridge::to_value(&shape).unwrap();
        let answer = mirror.ask(value, SECOND).await.unwrap();
        assert_eq!(bridge::from_value::<Shape>(&answer).unwrap(), shape);
    }
    let typed = system.find::<Shape, Shape>("m").unwrap();
    assert_eq!(typed.ask(Shape::Point).await.unwrap(), Shape::Point);
    assert!(system.find::<u8, ()>("m").is_none());
}
