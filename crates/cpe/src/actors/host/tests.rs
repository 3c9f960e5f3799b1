//! What the registry shows of a name that is hosted here.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{MeshKey, Node, SpawnOptions};

/// A mesh of one node.
async fn alone() -> Node {
    let folder = tempfile::TempDir::new().unwrap();
    let key = folder.path().join("mesh.key");
    MeshKey::generate().save(&key).unwrap();
    let builder = Node::builder().name("a").ephemeral().mesh_key(&key);
    let builder = builder.listen("/ip4/127.0.0.1/tcp/0").shards(4);
    builder.start().await.unwrap()
}

/// A second claim is what others do to a node that they take for gone.
#[tokio::test]
async fn a_plain_actor_is_ended_by_a_later_claim_of_its_name_and_not_by_an_older_record() {
    const LONG: Duration = Duration::from_secs(60);
    let node = alone().await;
    let actors = node.actors();
    let inner = &actors.inner;
    let spawned = actors.spawn("echo", "n", Value::Null, SpawnOptions::default());
    let first = spawned.await.unwrap();
    let monitor = actors.monitor("n").await.unwrap();
    // Of before its claim, and of that.
    let older = Named {
        token: first.token - 1,
        host: None,
        leased: false,
        from: None,
    };
    inner.named("n", older);
    inner.named("n", Named::of(&first));
    let one = Value::from(1);
    assert_eq!(actors.ask("n", one.clone(), LONG).await, Ok(one));

    let claim = |expect| Command::Claim {
        name: "n".to_owned(),
        expect,
        spec: first.spec.clone(),
        deadline: LONG,
    };
    inner.desk.ask(claim(first.token)).await.unwrap();
    let ended = tokio::time::timeout(LONG, monitor.ended()).await.unwrap();
    let ExitReason::Fenced(why) = &ended.reason else {
        panic!("{ended:?}");
    };
    assert!(why.contains("has its name since"), "{why}");
    assert!(inner.hosted("n", first.token).is_none());
    let record = inner.record("n").await.unwrap().unwrap();
    assert_eq!(
        (record.token, record.host),
        (first.token + 1, first.host),
        "its name was given up"
    );
    node.kill().await;
}
