//! What can go wrong before a node runs.

use cpe_network::{MeshKey, StartError, start};

use crate::common::{Node, config, unix_now};

#[tokio::test]
async fn a_busy_port_is_named() {
    let mesh = MeshKey::generate();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Node::start(config(&mesh)).await;
    let ports = [
        format!(
            "/ip4/127.0.0.1/tcp/{}",
            listener.local_addr().unwrap().port()
        ),
        // A second node would share the port if it were not looked at: libp2p sets SO_REUSEPORT.
        other
            .address()
            .iter()
            .take(2)
            .map(|part| part.to_string())
            .collect(),
    ];
    for port in ports {
        let mut config = config(&mesh);
        config.listen = vec![port.parse().unwrap()];
        let error = start(config).await.unwrap_err();
        assert!(matches!(error, StartError::Listen { .. }), "{error:?}");
        assert!(error.to_string().contains(&port), "{error}");
    }
    let quic = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
    let mut first = config(&mesh);
    first.listen = vec![quic];
    let first = Node::start(first).await;
    let mut second = config(&mesh);
    second.listen = vec![first.address().iter().take(3).collect()];
    assert!(matches!(
        start(second).await,
        Err(StartError::Listen { .. })
    ));
}

#[tokio::test]
async fn an_address_that_no_transport_knows_is_named() {
    let mut config = config(&MeshKey::generate());
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    config.quic = false;
    let error = start(config).await.unwrap_err();
    assert!(error.to_string().contains("/udp/0/quic-v1"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_all_would_refuse_is_refused_at_the_start() {
    let mesh = MeshKey::generate();
    let mut other = config(&mesh);
    other.certificate = config(&mesh).certificate;
    assert!(matches!(
        start(other).await,
        Err(StartError::OtherIdentity { .. })
    ));
    let mut expired = config(&mesh);
    let now = unix_now();
    expired.certificate = mesh
        .certify(expired.identity.peer_id(), "old", ["member"], 0, now - 10)
        .unwrap();
    let error = start(expired).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    let mut foreign = config(&mesh);
    foreign.mesh = MeshKey::generate().public();
    assert!(matches!(
        start(foreign).await,
        Err(StartError::Certificate(_))
    ));
}

#[tokio::test]
async fn a_node_stops_when_its_handle_is_dropped() {
    let node = Node::start(config(&MeshKey::generate())).await;
    let Node {
        network,
        mut events,
    } = node;
    drop(network);
    while events.recv().await.is_some() {}
}
