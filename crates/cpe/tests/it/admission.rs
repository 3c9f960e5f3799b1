//! Who comes in, and who founds.

use std::time::Duration;

use cpe::{Node, SpaceError, StartError, Value};

use crate::harness::{ANY, Ground, LONG, join};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_another_key_is_refused() {
    let (ours, theirs) = (Ground::new(), Ground::new());
    let a = ours.ephemeral("a").start().await.unwrap();
    let stranger = join(theirs.ephemeral("stranger"), &a)
        .start()
        .await
        .unwrap();
    let joined = stranger.mesh().joined(Duration::from_secs(2)).await;
    assert!(
        matches!(joined, Err(SpaceError::NotYet { .. })),
        "{joined:?}"
    );
    let refusals = stranger.mesh().refusals();
    assert!(!refusals.is_empty(), "the stranger is told why");
    assert_eq!(a.mesh().peers().await.unwrap().len(), 1);
    assert!(!stranger.mesh().status().await.unwrap().joined);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_when_its_bootstrap_address_comes_up_later() {
    let ground = Ground::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let b = ground
        .ephemeral("b")
        .bootstrap(&address)
        .start()
        .await
        .unwrap();
    // Before anybody is there: kept until the mesh is known.
    let space = b.space();
    let early = tokio::spawn(async move { space.store("w", "x", Value::from(3)).await });
    let a = Node::builder()
        .ephemeral()
        .mesh_key(ground.key())
        .listen(&address)
        .start()
        .await
        .unwrap();
    b.mesh().joined(LONG).await.unwrap();
    early.await.unwrap().unwrap();
    assert_eq!(
        a.space().fetch("w", "x", LONG).await.unwrap(),
        Value::from(3)
    );
}

#[tokio::test]
async fn a_node_without_a_key_founds_a_mesh_and_keeps_it() {
    let ground = Ground::new();
    let alone = || Node::builder().data_dir(ground.data("solo")).listen(ANY);
    let node = alone().start().await.unwrap();
    let key = node.mesh_key_path().unwrap();
    assert_eq!(key, ground.data("solo").join("mesh.key"));
    let mesh = node.mesh().status().await.unwrap().mesh;
    let (name, peer) = (node.name().to_owned(), node.peer_id());
    node.shutdown(LONG).await.unwrap();

    let node = alone().start().await.unwrap();
    assert_eq!(node.mesh().status().await.unwrap().mesh, mesh);
    assert_eq!((node.name(), node.peer_id()), (name.as_str(), peer));
    node.shutdown(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_comes_back_by_its_certificate_alone() {
    let ground = Ground::new();
    let a = ground.ephemeral("a").start().await.unwrap();
    let b = join(ground.durable("b"), &a).start().await.unwrap();
    b.mesh().joined(LONG).await.unwrap();
    assert_eq!(b.mesh_key_path(), None, "it did not found the mesh");
    b.kill().await;
    let keyless = Node::builder()
        .name("b")
        .data_dir(ground.data("b"))
        .listen(ANY);
    let b = join(keyless, &a).start().await.unwrap();
    b.mesh().members(2, LONG).await.unwrap();
}

#[tokio::test]
async fn settings_that_make_no_sense_are_named() {
    let ground = Ground::new();
    let say = |error: StartError| error.to_string();
    let error = Node::builder().start().await.map(drop).map_err(say);
    assert!(error.unwrap_err().contains("data folder"));
    let bad = ground.ephemeral("a").listen("localhost:4710").start().await;
    assert!(
        bad.map(drop)
            .map_err(say)
            .unwrap_err()
            .contains("localhost:4710")
    );
    let bad = Node::builder()
        .ephemeral()
        .bootstrap("/ip4/127.0.0.1/tcp/1")
        .start()
        .await;
    assert!(matches!(bad, Err(StartError::NoMeshKey)));
    let bad = ground.ephemeral("a").shards(0).start().await;
    assert!(matches!(
        bad,
        Err(StartError::Setting { what: "shards", .. })
    ));
    let bad = ground.ephemeral(&"x".repeat(65)).start().await;
    assert!(matches!(bad, Err(StartError::Setting { what: "name", .. })));
    let node = ground.durable("a").start().await.unwrap();
    node.shutdown(LONG).await.unwrap();
    let other = Ground::new();
    let bad = ground.durable("a").mesh_key(other.key()).start().await;
    assert!(matches!(bad, Err(StartError::OtherMesh { .. })));
}

#[tokio::test]
async fn an_ephemeral_node_with_a_folder_is_the_same_node_in_a_later_life() {
    let ground = Ground::new();
    let borrowing = || ground.durable("a").ephemeral();
    let node = borrowing().start().await.unwrap();
    let first = node.member();
    let second = borrowing().start().await.map(drop).unwrap_err();
    assert!(
        second
            .to_string()
            .contains("another process uses this folder"),
        "{second}"
    );
    node.kill().await;
    let node = borrowing().start().await.unwrap();
    assert_eq!(node.member().node, first.node);
    assert!(node.member().inc > first.inc);
}
