//! Members that misbehave after they were admitted, played by a swarm of our own parts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::{SwarmEvent, dial_opts::DialOpts};
use libp2p::{Stream, Swarm};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::clock::unix_now;
use crate::dialing::Dialer;
use crate::door::{Door, Hello};
use crate::event::Refusal;
use crate::link::{Link, LinkParts};
use crate::shared::{Shared, write};
use crate::streams;
use crate::{
    DownReason, Event, Events, Identity, Lane, MeshKey, Network, NetworkConfig, node_id, start,
    transport,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn shared(identity: &Identity) -> Arc<Shared> {
    Arc::new(Shared {
        peer: identity.peer_id(),
        node: identity.node_id(),
        links: RwLock::new(BTreeMap::new()),
        dialer: Mutex::new(Dialer::new(Duration::ZERO, Duration::ZERO)),
        unwanted: Mutex::new(BTreeSet::new()),
        addresses: RwLock::new(Vec::new()),
        blocks: None,
        changed: Notify::new(),
    })
}

fn config(mesh: &MeshKey, identity: Identity) -> NetworkConfig {
    let until = unix_now() + 3600;
    let certificate = mesh
        .certify(identity.peer_id(), "x", ["member"], 0, until)
        .unwrap();
    let mut config = NetworkConfig::new(identity, certificate, mesh.public());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    config
}

/// What a puppet does about the lanes.
#[derive(PartialEq)]
enum Lanes {
    Open,
    Await,
    Ignore,
}

/// An admitted member that does with its lanes what it likes.
struct Puppet {
    swarm: Swarm<streams::Behaviour>,
    node: cpe_membership::NodeId,
}

impl Puppet {
    fn new(mesh: &MeshKey, identity: Identity) -> Self {
        let mut config = config(mesh, identity);
        config.quic = false;
        let shared = shared(&config.identity);
        let (peer, node) = (shared.peer, shared.node);
        let secured = transport::secured(&config).unwrap();
        let door = Door::new(shared, config.mesh, Some(config.certificate));
        let transport = transport::admitted(secured, Arc::new(door));
        let settings = libp2p::swarm::Config::with_tokio_executor();
        let swarm = Swarm::new(transport, streams::Behaviour::new(peer), peer, settings);
        Self { swarm, node }
    }

    /// Dials and returns the lanes.
    async fn connect(&mut self, to: &Network, lanes: Lanes) -> Option<[Stream; 3]> {
        let address = to.addresses()[0].clone();
        self.swarm
            .dial(DialOpts::unknown_peer_id().address(address).build())
            .unwrap();
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished {
                    peer_id,
                    connection_id,
                    ..
                } => match lanes {
                    Lanes::Open => self.swarm.behaviour_mut().open(peer_id, connection_id),
                    Lanes::Await => {}
                    Lanes::Ignore => return None,
                },
                SwarmEvent::Behaviour(opened) => return Some(opened.streams.unwrap()),
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error:?}"),
                _ => {}
            }
        }
    }
}

/// Two identities, the first with the lower peer id: it is the one that opens lanes.
fn ordered() -> (Identity, Identity) {
    let (a, b) = (Identity::ephemeral(), Identity::ephemeral());
    if a.peer_id() < b.peer_id() {
        (a, b)
    } else {
        (b, a)
    }
}

async fn next(events: &mut Events) -> Event {
    timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
}

async fn down(events: &mut Events) -> DownReason {
    loop {
        if let Event::LinkDown { reason, .. } = next(events).await {
            return reason;
        }
    }
}

#[tokio::test]
async fn garbage_on_a_lane_ends_that_link_and_not_the_node() {
    let mesh = MeshKey::generate();
    let frame = |length: u32, kind: u8, contents: &[u8]| {
        [&length.to_be_bytes(), [kind].as_slice(), contents].concat()
    };
    let large: Vec<u8> = (0..3)
        .flat_map(|_| frame(65_537, 1, &[0; 65_536]))
        .collect();
    let cases = [
        (Lane::Message, "an enormous length", vec![0xff; 64]),
        (Lane::Bulk, "an empty frame", vec![0; 64]),
        (Lane::Control, "an unknown kind", frame(2, 9, b"x")),
        (
            Lane::Message,
            "an interrupted message",
            [frame(2, 1, b"x"), frame(2, 0, b"y")].concat(),
        ),
        (Lane::Control, "a message above the lane's limit", large),
    ];
    for (lane, case, bytes) in cases {
        let (low, high) = ordered();
        let (victim, mut events) = start(config(&mesh, high)).await.unwrap();
        let mut puppet = Puppet::new(&mesh, low);
        let mut streams = puppet.connect(&victim, Lanes::Open).await.unwrap();
        let node = puppet.node;
        let drive = tokio::spawn(async move { while puppet.swarm.next().await.is_some() {} });
        while !matches!(next(&mut events).await, Event::LinkUp { .. }) {}
        // A good message first: what came before the garbage is delivered.
        let stream = &mut streams[lane.index()];
        stream.write_all(&frame(3, 0, b"ok")).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        let Event::Message { bytes, .. } = next(&mut events).await else {
            panic!("{case}")
        };
        assert_eq!(bytes, "ok");
        let reason = down(&mut events).await;
        assert!(
            matches!(reason, DownReason::Violation(_)),
            "{case}: {reason:?}"
        );
        assert!(victim.try_send(node, lane, Bytes::new()).is_err());
        // The other side sees the end.
        timeout(PATIENCE, streams[0].read(&mut [0; 1]))
            .await
            .unwrap()
            .ok();
        drive.abort();

        let mut good = config(&mesh, Identity::ephemeral());
        good.bootstrap = victim.addresses();
        let (good, _events) = start(good).await.unwrap();
        let Event::LinkUp { node, .. } = next(&mut events).await else {
            panic!("{case}")
        };
        assert_eq!(node, good.node_id(), "{case}: the node lives on");
        victim.shutdown().await;
    }
}

#[tokio::test]
async fn a_frame_cut_by_the_end_is_told_as_a_loss() {
    let mesh = MeshKey::generate();
    let (low, high) = ordered();
    let (victim, mut events) = start(config(&mesh, high)).await.unwrap();
    let mut puppet = Puppet::new(&mesh, low);
    let mut streams = puppet.connect(&victim, Lanes::Open).await.unwrap();
    let drive = tokio::spawn(async move { while puppet.swarm.next().await.is_some() {} });
    streams[1].write_all(&[0, 0, 0, 9, 0, 1]).await.unwrap();
    streams[1].close().await.unwrap();
    let reason = down(&mut events).await;
    assert!(
        matches!(&reason, DownReason::Lost(why) if why.contains("cut")),
        "{reason:?}"
    );
    drive.abort();
}

#[tokio::test]
async fn a_member_that_opens_no_lanes_is_cut() {
    let mesh = MeshKey::generate();
    let (low, high) = ordered();
    let (victim, mut events) = start(config(&mesh, high)).await.unwrap();
    let mut puppet = Puppet::new(&mesh, low);
    puppet.connect(&victim, Lanes::Ignore).await;
    let closed = async {
        while !matches!(
            puppet.swarm.select_next_some().await,
            SwarmEvent::ConnectionClosed {
                num_established: 0,
                ..
            }
        ) {}
    };
    timeout(PATIENCE, closed).await.unwrap();
    assert!(victim.links().is_empty());
    while let Some(event) = events.try_recv() {
        assert!(matches!(event, Event::Listening { .. }), "{event:?}");
    }
}

/// The number of connections left after one was closed.
async fn one_closed(puppet: &mut Puppet) -> u32 {
    let closed = async {
        loop {
            if let SwarmEvent::ConnectionClosed {
                num_established, ..
            } = puppet.swarm.select_next_some().await
            {
                return num_established;
            }
        }
    };
    timeout(PATIENCE, closed).await.unwrap()
}

#[tokio::test]
async fn a_second_connection_of_a_linked_peer_is_closed() {
    let mesh = MeshKey::generate();
    let (low, high) = ordered();
    let (victim, mut events) = start(config(&mesh, low)).await.unwrap();
    let mut puppet = Puppet::new(&mesh, high);
    let _lanes = puppet.connect(&victim, Lanes::Await).await.unwrap();
    while !matches!(next(&mut events).await, Event::LinkUp { .. }) {}
    puppet.connect(&victim, Lanes::Ignore).await;
    assert_eq!(one_closed(&mut puppet).await, 1);
    assert!(victim.is_linked(puppet.node));
    assert!(events.try_recv().is_none(), "the link did not notice");
}

#[tokio::test]
async fn a_restarted_peer_replaces_the_link_of_its_former_life() {
    let mesh = MeshKey::generate();
    let (low, high) = ordered();
    let (victim, mut events) = start(config(&mesh, low)).await.unwrap();
    let mut former = Puppet::new(&mesh, high.clone());
    let _lanes = former.connect(&victim, Lanes::Await).await.unwrap();
    while !matches!(next(&mut events).await, Event::LinkUp { .. }) {}
    // The former life did not close its connection: the line was cut, say.
    let mut latter = Puppet::new(&mesh, high);
    let mut lanes = latter.connect(&victim, Lanes::Await).await.unwrap();
    let Event::LinkDown { reason, .. } = next(&mut events).await else {
        panic!()
    };
    assert_eq!(reason, DownReason::Replaced);
    assert!(matches!(next(&mut events).await, Event::LinkUp { .. }));
    assert_eq!(one_closed(&mut former).await, 0);
    let drive = tokio::spawn(async move { while latter.swarm.next().await.is_some() {} });
    victim
        .try_send(
            former.node,
            Lane::Message,
            Bytes::from_static(b"to the latter"),
        )
        .unwrap();
    let mut received = [0; 18];
    timeout(PATIENCE, lanes[1].read_exact(&mut received))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&received[5..], b"to the latter");
    drive.abort();
}

#[tokio::test]
async fn a_node_id_that_another_peer_has_is_refused() {
    let mesh = MeshKey::generate();
    let own = shared(&Identity::ephemeral());
    let taken = Identity::ephemeral();
    let certified = config(&mesh, taken.clone());
    // No two peers with one short id are at hand: enter the first under the second's.
    let (link, _queues) = Link::new(LinkParts {
        node: node_id(&taken.peer_id()),
        peer: Identity::ephemeral().peer_id(),
        certificate: Arc::new(certified.certificate.clone()),
        addresses: Vec::new(),
        connection: libp2p::swarm::ConnectionId::new_unchecked(1),
        remote: "/ip4/127.0.0.1/tcp/1".parse().unwrap(),
        dialled: false,
    });
    write(&own.links).insert(link.node, link);
    let door = Door::new(own, mesh.public(), None);
    let hello = Hello {
        instance: 1,
        linked: false,
        certificate: Some(certified.certificate),
        addresses: Vec::new(),
    };
    let refusal = door
        .judge(taken.peer_id(), hello, false, unix_now())
        .unwrap_err();
    assert_eq!(refusal, Refusal::NodeIdTaken(taken.node_id()));
}

#[test]
fn a_hello_survives_encoding_and_no_prefix_of_it_is_one() {
    let mesh = MeshKey::generate();
    let hello = Hello {
        instance: 7,
        linked: true,
        certificate: Some(config(&mesh, Identity::ephemeral()).certificate),
        addresses: vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap(); 3],
    };
    let bytes = hello.encode();
    assert_eq!(Hello::decode(&bytes), Ok(hello));
    for end in 0..bytes.len() {
        assert!(Hello::decode(&bytes[..end]).is_err(), "{end}");
    }
}
