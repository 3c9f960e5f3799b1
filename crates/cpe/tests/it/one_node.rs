//! A mesh of one.

use std::time::Duration;

use cpe::{Field, Kind, Mode, Node, SpaceError, StartError, Stored, Template, Tuple, Value};

use crate::harness::{Ground, LONG};

#[tokio::test]
async fn a_node_gives_back_what_it_was_given() {
    let node = Node::builder().ephemeral().start().await.unwrap();
    let space = node.space();
    let stored = space.store("w", "x", Value::from(17)).await.unwrap();
    assert!(matches!(stored, Stored::Home { .. }), "{stored:?}");
    assert_eq!(space.find("w", "x", LONG).await.unwrap(), Value::from(17));
    assert_eq!(space.fetch("w", "x", LONG).await.unwrap(), Value::from(17));
    assert_eq!(space.fetch_try("w", "x", LONG).await.unwrap(), None);
    assert_eq!(space.find_try("w", "x", LONG).await.unwrap(), None);
    node.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn nothing_in_time_is_a_timeout() {
    let node = Node::builder().ephemeral().start().await.unwrap();
    let short = Duration::from_millis(20);
    let error = node.space().fetch("w", "x", short).await.unwrap_err();
    assert_eq!(error, SpaceError::Failed(cpe::Failure::TimedOut(short)));
    let error = node.space().find("w", "x", short).await.unwrap_err();
    assert_eq!(error, SpaceError::Failed(cpe::Failure::TimedOut(short)));
}

#[tokio::test]
async fn an_endless_deadline_is_a_long_one() {
    let node = Node::builder().ephemeral().start().await.unwrap();
    let space = node.space();
    let waiting = tokio::spawn(async move { space.fetch("w", "x", Duration::MAX).await });
    node.space().store("w", "x", Value::from(1)).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Value::from(1));
}

#[tokio::test]
async fn modes_templates_lists_and_deletion_work() {
    let node = Node::builder().ephemeral().start().await.unwrap();
    let space = node.space();
    let stack = Value::from("stack");
    space
        .declare("w", stack.clone(), Mode::Lifo, LONG)
        .await
        .unwrap();
    for n in 1..=3 {
        space.store("w", "stack", Value::from(n)).await.unwrap();
    }
    assert_eq!(
        space.fetch("w", "stack", LONG).await.unwrap(),
        Value::from(3)
    );
    let any_int = Template::new(vec![Field::Any, Field::Typed(Kind::Int)]).unwrap();
    let tuple = space.take("w", any_int, LONG).await.unwrap();
    assert_eq!(
        tuple,
        Tuple::new(vec![stack.clone(), Value::from(2)]).unwrap()
    );
    assert_eq!(space.workspaces().await.unwrap()[0].name, "w");
    let variables = space.variables("w").await.unwrap();
    assert_eq!((variables[0].mode, variables[0].tuples), (Mode::Lifo, 1));
    space.delete("w", Some(stack), LONG).await.unwrap();
    assert_eq!(space.find_try("w", "stack", LONG).await.unwrap(), None);
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_what_comes() {
    let node = Node::builder().ephemeral().start().await.unwrap();
    let space = node.space();
    space.store("w", "x", Value::from(1)).await.unwrap();
    let mut watch = space
        .watch("w", Template::named("x").unwrap())
        .await
        .unwrap();
    assert_eq!(watch.next().await.unwrap()[1], Value::from(1));
    space.store("w", "x", Value::from(2)).await.unwrap();
    assert_eq!(watch.next().await.unwrap()[1], Value::from(2));
    assert!(!watch.fell_behind());
    node.kill().await;
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn what_a_durable_node_stored_is_there_after_a_restart() {
    let ground = Ground::new();
    let node = ground.durable("a").start().await.unwrap();
    let life = node.member();
    for n in 0..10 {
        node.space().store("w", "x", Value::from(n)).await.unwrap();
    }
    assert_eq!(
        node.space().fetch("w", "x", LONG).await.unwrap(),
        Value::from(0)
    );
    node.kill().await;

    let node = ground.durable("a").start().await.unwrap();
    assert_eq!(node.member(), life, "the same life goes on");
    assert_eq!(node.mesh_key_path(), Some(ground.key()));
    for n in 1..10 {
        assert_eq!(
            node.space().fetch("w", "x", LONG).await.unwrap(),
            Value::from(n)
        );
    }
    node.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn a_second_node_on_the_same_folder_is_refused() {
    let ground = Ground::new();
    let node = ground.durable("a").start().await.unwrap();
    let error = ground.durable("a").start().await.unwrap_err();
    assert!(matches!(error, StartError::Storage(_)), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");
    node.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn handles_of_a_stopped_node_say_so() {
    let node = Node::builder().ephemeral().start().await.unwrap();
    let (space, mesh) = (node.space(), node.mesh());
    let waiting = tokio::spawn({
        let space = space.clone();
        async move { space.fetch("w", "x", LONG).await }
    });
    mesh.status().await.unwrap();
    drop(node);
    assert_eq!(waiting.await.unwrap().unwrap_err(), SpaceError::Closed);
    assert_eq!(mesh.status().await.unwrap_err(), SpaceError::Closed);
}
