//! Links: their lanes, their end, and that there is one of them.

use std::time::Duration;

use bytes::Bytes;
use cpe_network::{DownReason, Event, Lane, MeshKey, NetworkConfig, SendError};

use crate::common::{Node, PATIENCE, config, config_of, over_quic, over_tcp, pair};

const MANY: u32 = 10_000;

/// Sends numbered messages both ways on every lane and checks that each lane keeps their order.
async fn all_arrive_in_order(change: fn(&mut NetworkConfig)) {
    let (first, second) = pair(change).await;
    let mut tasks = Vec::new();
    for (own, other) in [(&first, second.id()), (&second, first.id())] {
        for lane in Lane::ALL {
            let network = own.network.clone();
            tasks.push(tokio::spawn(async move {
                for number in 0..MANY {
                    let bytes = Bytes::copy_from_slice(&number.to_be_bytes());
                    // The control lane refuses instead of waiting.
                    while let Err(error) = network.send(other, lane, bytes.clone()).await {
                        assert_eq!(error, SendError::Full(other));
                        tokio::task::yield_now().await;
                    }
                }
            }));
        }
    }
    let mut receivers = Vec::new();
    for mut node in [first, second] {
        receivers.push(tokio::spawn(async move {
            let mut next = [0; 3];
            while next != [MANY; 3] {
                let (_, lane, bytes) = node.message().await;
                let number = u32::from_be_bytes(bytes.as_ref().try_into().unwrap());
                assert_eq!(number, next[lane as usize], "{lane:?}");
                next[lane as usize] += 1;
            }
            node
        }));
    }
    for task in tasks {
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    }
    // Not before both have heard all: who has may still be sending.
    let mut nodes = Vec::new();
    for receiver in receivers {
        let node = tokio::time::timeout(PATIENCE, receiver).await;
        nodes.push(node.unwrap().unwrap());
    }
    for node in nodes {
        node.network.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_keep_their_order_on_each_lane_over_tcp() {
    all_arrive_in_order(over_tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_keep_their_order_on_each_lane_over_quic() {
    all_arrive_in_order(over_quic).await;
}

#[tokio::test]
async fn the_largest_message_of_each_lane_arrives_and_a_larger_one_is_refused() {
    let (first, mut second) = pair(over_tcp).await;
    for lane in Lane::ALL {
        let limit = lane.limits().message_bytes;
        let bytes = Bytes::from(vec![lane as u8; limit]);
        first
            .network
            .send(second.id(), lane, bytes.clone())
            .await
            .unwrap();
        assert_eq!(second.message().await, (first.id(), lane, bytes));
        let larger = Bytes::from(vec![0; limit + 1]);
        let error = first
            .network
            .try_send(second.id(), lane, larger)
            .unwrap_err();
        assert_eq!(
            error,
            SendError::TooLarge {
                found: limit + 1,
                limit
            }
        );
    }
}

#[tokio::test]
async fn control_does_not_wait_behind_bulk() {
    let (first, mut second) = pair(over_tcp).await;
    let bulk = Bytes::from(vec![0; 16 << 20]);
    first
        .network
        .try_send(second.id(), Lane::Bulk, bulk)
        .unwrap();
    first
        .network
        .try_send(second.id(), Lane::Control, Bytes::from_static(b"now"))
        .unwrap();
    let (_, lane, _) = second.message().await;
    assert_eq!(lane, Lane::Control);
    let (_, lane, bytes) = second.message().await;
    assert_eq!((lane, bytes.len()), (Lane::Bulk, 16 << 20));
}

#[tokio::test]
async fn a_slow_reader_stops_the_sender_and_nothing_is_lost() {
    let (first, mut second) = pair(over_tcp).await;
    let message = Bytes::from(vec![7; 64 * 1024]);
    // Nobody reads at `second`. Its inbound budget, the windows between and the queue fill up.
    let mut sent = 0;
    let mut refused_in_a_row = 0;
    while refused_in_a_row < 50 {
        match first
            .network
            .try_send(second.id(), Lane::Message, message.clone())
        {
            Ok(()) => (sent, refused_in_a_row) = (sent + 1, 0),
            Err(error) => {
                assert_eq!(error, SendError::Full(second.id()));
                refused_in_a_row += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    let limits = Lane::Message.limits();
    // 32 MiB: generous room for what Yamux and the sockets hold between the two queues.
    let most = limits.queue_bytes + limits.inbound_bytes + (32 << 20);
    assert!(sent * message.len() <= most, "{sent} messages were taken");
    // Another lane still works.
    first
        .network
        .try_send(second.id(), Lane::Control, Bytes::from_static(b"alive"))
        .unwrap();
    // A waiting sender gets through once the reader reads, and everything arrives.
    let (network, to) = (first.network.clone(), second.id());
    let waiting =
        tokio::spawn(async move { network.send(to, Lane::Message, message.clone()).await });
    let mut received = 0;
    while received < sent + 1 {
        let (_, lane, _) = second.message().await;
        received += usize::from(lane == Lane::Message);
    }
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn both_dial_at_once_and_there_is_one_link() {
    let mesh = MeshKey::generate();
    for _ in 0..5 {
        let mut first = Node::start(config(&mesh)).await;
        let mut second = Node::start(config(&mesh)).await;
        first
            .network
            .connect(second.network.peer_id(), second.network.addresses());
        second
            .network
            .connect(first.network.peer_id(), first.network.addresses());
        first.up().await;
        second.up().await;
        // A round trip each way proves that both speak over the same connection, and that no
        // link went down in between.
        for (from, to) in [(&first, &second), (&second, &first)] {
            from.network
                .try_send(to.id(), Lane::Message, Bytes::from_static(b"x"))
                .unwrap();
        }
        for node in [&mut first, &mut second] {
            node.wait(|event| match event {
                Event::Message { .. } => Some(()),
                Event::LinkDown { reason, .. } => panic!("a link went down: {reason}"),
                _ => None,
            })
            .await;
            assert_eq!(node.network.links().len(), 1);
        }
        assert_ne!(
            first.network.links()[0].dialled,
            second.network.links()[0].dialled
        );
    }
}

#[tokio::test]
async fn a_node_that_restarts_on_its_port_is_found_again() {
    let mesh = MeshKey::generate();
    let first_config = config(&mesh);
    let identity = first_config.identity.clone();
    let mut first = Node::start(first_config).await;
    let address = first.address();
    let mut second = config(&mesh);
    second.bootstrap = vec![address.clone()];
    let mut second = Node::start(second).await;
    second.up().await;
    first.up().await;
    first.network.shutdown().await;
    assert_eq!(second.down().await, DownReason::Closed);

    let mut again = config_of(&mesh, identity);
    again.listen = vec![address.iter().take(2).collect()];
    let mut again = Node::start(again).await;
    assert_eq!(again.address(), address);
    assert_eq!(second.up().await, again.id());
    assert_eq!(again.up().await, second.id());
    again
        .network
        .try_send(second.id(), Lane::Message, Bytes::from_static(b"back"))
        .unwrap();
    assert_eq!(second.message().await.2, "back");
}

#[tokio::test]
async fn a_node_keeps_trying_until_its_bootstrap_address_answers() {
    let mesh = MeshKey::generate();
    // A port that nobody listens on until the node below has failed a few times.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address: cpe_network::Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let mut early = config(&mesh);
    early.bootstrap = vec![address.clone()];
    let mut early = Node::start(early).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut late = config(&mesh);
    late.listen = vec![address];
    let late = Node::start(late).await;
    assert_eq!(early.up().await, late.id());
}

#[tokio::test]
async fn a_disconnected_peer_is_not_dialled_again() {
    let (mut first, mut second) = pair(over_tcp).await;
    second.network.disconnect(first.network.peer_id());
    assert_eq!(second.down().await, DownReason::Requested);
    first.down().await;
    assert_eq!(
        second
            .network
            .try_send(first.id(), Lane::Control, Bytes::new()),
        Err(SendError::NoLink(first.id()))
    );
    // Ten times the pause between dials.
    let again = tokio::time::timeout(Duration::from_millis(200), second.up()).await;
    assert!(again.is_err(), "it was dialled again");
    second
        .network
        .connect(first.network.peer_id(), first.network.addresses());
    assert_eq!(second.up().await, first.id());
}

#[tokio::test]
async fn what_was_queued_before_a_shutdown_arrives() {
    for change in [over_tcp, over_quic] {
        let (first, mut second) = pair(change).await;
        for _ in 0..1000 {
            let bytes = Bytes::from_static(b"last words");
            first
                .network
                .send(second.id(), Lane::Message, bytes)
                .await
                .unwrap();
        }
        first.network.shutdown().await;
        for _ in 0..1000 {
            second.message().await;
        }
        assert_eq!(second.down().await, DownReason::Closed);
    }
}

#[tokio::test]
async fn members_find_each_other_through_a_third() {
    let mesh = MeshKey::generate();
    let mut hub = Node::start(config(&mesh)).await;
    let mut around = Vec::new();
    for _ in 0..2 {
        let mut config = config(&mesh);
        config.bootstrap = vec![hub.address()];
        let mut node = Node::start(config).await;
        node.up().await;
        hub.up().await;
        around.push(node);
    }
    // No address is given: the hub knows it.
    around[0]
        .network
        .connect(around[1].network.peer_id(), Vec::new());
    let other = around[1].id();
    let found = around[0].wait(|event| match event {
        Event::LinkUp { node, .. } if node == other => Some(node),
        _ => None,
    });
    found.await;
}
