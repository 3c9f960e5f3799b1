//! Broadcasts.

use std::collections::BTreeSet;

use bytes::Bytes;
use cpe_network::{BroadcastError, Event, GOSSIP_MAX, MeshKey, MessageKey, TOPICS};

use crate::common::{Node, config, over_tcp, pair};

/// Repeats a broadcast, each time under a new key, until every other node has heard one: the
/// overlay takes a moment to form, and broadcasts may be lost.
async fn spread(nodes: &mut [Node], size: usize) {
    for index in 0.. {
        let key = MessageKey {
            shard: size as u64,
            index,
        };
        let bytes = Bytes::from(vec![1; size]);
        nodes[0].network.broadcast(3, key, bytes).unwrap();
        let mut heard = BTreeSet::new();
        for node in nodes.iter_mut().skip(1) {
            let wait = node.wait(|event| match event {
                Event::Gossip {
                    topic,
                    bytes,
                    from_link,
                } => {
                    assert_eq!(topic, 3);
                    assert!(from_link.is_some());
                    (bytes.len() == size).then_some(())
                }
                _ => None,
            });
            if tokio::time::timeout(std::time::Duration::from_millis(200), wait)
                .await
                .is_ok()
            {
                heard.insert(node.id());
            }
        }
        if heard.len() == nodes.len() - 1 {
            return;
        }
        assert!(index < 100, "broadcasts do not arrive");
    }
}

#[tokio::test]
async fn a_broadcast_reaches_all_three_nodes_of_a_line() {
    let mesh = MeshKey::generate();
    let mut nodes = vec![Node::start(config(&mesh)).await];
    for _ in 0..2 {
        let mut config = config(&mesh);
        config.bootstrap = vec![nodes.last().unwrap().address()];
        let mut node = Node::start(config).await;
        node.up().await;
        nodes.push(node);
    }
    spread(&mut nodes, 100).await;
    spread(&mut nodes, GOSSIP_MAX).await;
}

#[tokio::test]
async fn the_largest_broadcasts_arrive_in_a_row() {
    let (first, mut second) = pair(over_tcp).await;
    let nodes = [first];
    // libp2p-gossipsub 0.50.1 cuts a stream on which messages near its own limit follow each
    // other; ours is set higher.
    let mut index = 0;
    let mut received = 0;
    while received < 50 {
        let key = MessageKey { shard: 1, index };
        index += 1;
        assert!(index < 2000, "{received} received");
        let bytes = Bytes::from(vec![0; GOSSIP_MAX]);
        drop(nodes[0].network.broadcast(0, key, bytes));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        while let Some(event) = second.events.try_recv() {
            received += u64::from(matches!(event, Event::Gossip { .. }));
        }
    }
    nodes[0]
        .network
        .links()
        .iter()
        .for_each(|link| assert_eq!(link.node, second.id()));
}

#[tokio::test]
async fn a_broadcast_outside_the_limits_is_refused() {
    let node = Node::start(config(&MeshKey::generate())).await;
    let key = MessageKey { shard: 0, index: 0 };
    let broadcast = |topic, size| {
        node.network
            .broadcast(topic, key, Bytes::from(vec![0; size]))
    };
    assert_eq!(broadcast(TOPICS, 1), Err(BroadcastError::NoTopic(TOPICS)));
    let found = GOSSIP_MAX + 1;
    assert_eq!(
        broadcast(0, found),
        Err(BroadcastError::TooLarge {
            found,
            limit: GOSSIP_MAX
        })
    );
    assert_eq!(broadcast(TOPICS - 1, GOSSIP_MAX), Ok(()));
}
