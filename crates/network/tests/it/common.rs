//! Nodes for tests, and waiting for what they tell.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cpe_membership::NodeId;
use cpe_network::{
    DownReason, Event, Events, Identity, Lane, MeshKey, Multiaddr, Network, NetworkConfig, Refusal,
    start,
};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "certificates need the real date")]
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

pub(crate) fn config_of(mesh: &MeshKey, identity: Identity) -> NetworkConfig {
    let now = unix_now();
    let roles = ["member"];
    let certificate = mesh
        .certify(identity.peer_id(), "test", roles, now - 60, now + 3600)
        .unwrap();
    let mut config = NetworkConfig::new(identity, certificate, mesh.public());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    config.redial_min = Duration::from_millis(20);
    config.redial_max = Duration::from_millis(200);
    config
}

pub(crate) fn config(mesh: &MeshKey) -> NetworkConfig {
    config_of(mesh, Identity::ephemeral())
}

pub(crate) struct Node {
    pub(crate) network: Network,
    pub(crate) events: Events,
}

impl Node {
    pub(crate) async fn start(config: NetworkConfig) -> Self {
        let (network, events) = start(config).await.unwrap();
        Self { network, events }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.network.node_id()
    }

    pub(crate) fn address(&self) -> Multiaddr {
        self.network.addresses()[0].clone()
    }

    /// The first event from now on that `pick` wants; others are dropped.
    pub(crate) async fn wait<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the event comes in time")
    }

    pub(crate) async fn up(&mut self) -> NodeId {
        self.wait(|event| match event {
            Event::LinkUp { node, .. } => Some(node),
            _ => None,
        })
        .await
    }

    pub(crate) async fn down(&mut self) -> DownReason {
        self.wait(|event| match event {
            Event::LinkDown { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    pub(crate) async fn refused(&mut self) -> Refusal {
        self.wait(|event| match event {
            Event::Refused { why, .. } => Some(why),
            Event::LinkUp { .. } => panic!("a stranger was admitted"),
            _ => None,
        })
        .await
    }

    pub(crate) async fn message(&mut self) -> (NodeId, Lane, Bytes) {
        self.wait(|event| match event {
            Event::Message { from, lane, bytes } => Some((from, lane, bytes)),
            _ => None,
        })
        .await
    }
}

/// Two linked nodes; `change` adjusts both configurations.
pub(crate) async fn pair(change: impl Fn(&mut NetworkConfig)) -> (Node, Node) {
    let mesh = MeshKey::generate();
    let mut first = config(&mesh);
    change(&mut first);
    let mut first = Node::start(first).await;
    let mut second = config(&mesh);
    change(&mut second);
    second.bootstrap = vec![first.address()];
    let mut second = Node::start(second).await;
    assert_eq!(first.up().await, second.id());
    assert_eq!(second.up().await, first.id());
    (first, second)
}

pub(crate) fn over_quic(config: &mut NetworkConfig) {
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
}

pub(crate) fn over_tcp(_: &mut NetworkConfig) {}
