//! Garbage from a member: it has the key, and sends what no version of this program sends.

use cpe_network::{Certificate, Event, Identity, Lane, MeshKey, NetworkConfig};

use super::harness::Node;

/// Sends these frames on a lane, as a member that was admitted, and waits until they are gone.
fn send(node: &Node, lane: Lane, frames: &[&[u8]]) {
    let key = MeshKey::load(&node.data().join("mesh.key")).unwrap();
    let identity = Identity::ephemeral();
    let roles: [&str; 0] = [];
    let certificate: Certificate = key
        .certify(identity.peer_id(), "rogue", roles, 0, u64::MAX / 2)
        .unwrap();
    let mut config = NetworkConfig::new(identity, certificate, key.public());
    config.bootstrap = vec![node.address().parse().unwrap()];
    let job = async {
        let (network, mut events) = cpe_network::start(config).await.unwrap();
        let to = loop {
            match events.recv().await.unwrap() {
                Event::LinkUp { node, .. } => break node,
                _ => continue,
            }
        };
        for frame in frames {
            network.send(to, lane, frame.to_vec().into()).await.unwrap();
        }
        network.shutdown().await;
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(job);
}

#[test]
fn a_frame_that_is_no_message_about_actors_is_reported_and_harms_nothing() {
    let node = Node::start(&["--name", "a"]);
    node.cpe(&["actor", "spawn", "counter", "till"]).code(0);
    let text = b"\x65hello".as_slice();
    // No CBOR; CBOR of something else; the number of a request that is none.
    send(
        &node,
        Lane::Message,
        &[b"\xff\xff\xff", text, b"\x18\xc8", b""],
    );
    node.logs("malformed frame about actors");
    assert_eq!(
        node.cpe(&["actor", "ask", "till", "{\"add\":5}"])
            .code(0)
            .out,
        "5\n"
    );
    assert_eq!(node.stop().code(), Some(0));
}

#[test]
fn a_frame_that_is_no_message_of_the_space_is_reported_and_harms_nothing() {
    let node = Node::start(&["--name", "a"]);
    send(
        &node,
        Lane::Control,
        &[b"\xff\xff\xff", b"\x65hello", b"\x18\xc8"],
    );
    node.logs("malformed");
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    assert_eq!(node.stop().code(), Some(0));
}
