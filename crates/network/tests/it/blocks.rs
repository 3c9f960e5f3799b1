//! Parting nodes for a test, and that they find each other again.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use cpe_network::{DownReason, Lane, MeshKey, NetworkConfig, SendError, TestBlocks};

use crate::common::{Node, config, over_quic, over_tcp};

/// Two linked nodes with what parts them.
async fn pair(change: fn(&mut NetworkConfig)) -> [(Node, TestBlocks); 2] {
    let mesh = MeshKey::generate();
    let mut nodes: Vec<(Node, TestBlocks)> = Vec::new();
    for _ in 0..2 {
        let mut config = config(&mesh);
        change(&mut config);
        let blocks = TestBlocks::new();
        config.test_blocks = Some(blocks.clone());
        config.bootstrap = nodes.iter().map(|(node, _)| node.address()).collect();
        nodes.push((Node::start(config).await, blocks));
    }
    for (node, _) in &mut nodes {
        node.up().await;
    }
    let Ok(pair) = nodes.try_into() else {
        panic!("two were started");
    };
    pair
}

fn of(node: &Node) -> BTreeSet<cpe_network::PeerId> {
    [node.network.peer_id()].into()
}

async fn parted_and_healed(change: fn(&mut NetworkConfig)) {
    let [(mut first, first_blocks), (mut second, second_blocks)] = pair(change).await;
    first_blocks.set(of(&second));
    second_blocks.set(of(&first));
    first.down().await;
    second.down().await;
    for (from, to) in [(&first, &second), (&second, &first)] {
        let sent = from
            .network
            .try_send(to.id(), Lane::Message, Bytes::from_static(b"lost"));
        assert_eq!(sent, Err(SendError::NoLink(to.id())));
        from.network
            .connect(to.network.peer_id(), to.network.addresses());
    }
    // Ten times the pause between dials.
    let again = tokio::time::timeout(Duration::from_millis(500), first.up()).await;
    assert!(again.is_err(), "they met all the same");
    assert!(!second.network.is_linked(first.id()));

    first_blocks.set(BTreeSet::new());
    second_blocks.set(BTreeSet::new());
    assert_eq!(first.up().await, second.id());
    assert_eq!(second.up().await, first.id());
    let heard = Bytes::from_static(b"heard");
    let sent = first.network.try_send(second.id(), Lane::Message, heard);
    assert_eq!(sent, Ok(()));
    assert_eq!(second.message().await.2, "heard");
}

#[tokio::test]
async fn blocked_peers_are_parted_until_they_are_not_blocked_over_tcp() {
    parted_and_healed(over_tcp).await;
}

#[tokio::test]
async fn blocked_peers_are_parted_until_they_are_not_blocked_over_quic() {
    parted_and_healed(over_quic).await;
}

#[tokio::test]
async fn one_side_that_blocks_parts_both_and_is_found_again_soon() {
    let [(mut first, blocks), (mut second, _)] = pair(over_tcp).await;
    blocks.set(of(&second));
    assert_eq!(first.down().await, DownReason::Blocked);
    second.down().await;
    let again = tokio::time::timeout(Duration::from_millis(500), first.up()).await;
    assert!(again.is_err(), "it was let in");
    blocks.set(BTreeSet::new());
    assert_eq!(first.up().await, second.id());
    assert_eq!(second.up().await, first.id());
}

#[tokio::test]
async fn who_is_blocked_from_the_start_never_meets() {
    let mesh = MeshKey::generate();
    let mut first = Node::start(config(&mesh)).await;
    let mut late = config(&mesh);
    let blocks = TestBlocks::new();
    blocks.set(of(&first));
    late.test_blocks = Some(blocks.clone());
    late.bootstrap = vec![first.address()];
    let mut late = Node::start(late).await;
    let met = tokio::time::timeout(Duration::from_millis(500), first.up()).await;
    assert!(met.is_err(), "they met");
    blocks.set(BTreeSet::new());
    assert_eq!(late.up().await, first.id());
    assert_eq!(first.up().await, late.id());
}
