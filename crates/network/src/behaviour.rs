//! The libp2p protocols of a node. Order is the order in which connections are checked.

use std::io;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{StreamProtocol, gossipsub, identify, kad, mdns, ping};

use crate::config::NetworkConfig;
use crate::error::StartError;
use crate::{gossip, streams};

/// Connections in the middle of a handshake, at most, either way. Strangers never get further,
/// so this is what they can occupy.
const PENDING_MAX: u32 = 64;
/// Connections with one peer: the link, its successor, and two that are being closed.
const PER_PEER_MAX: u32 = 4;

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) streams: streams::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) gossip: gossipsub::Behaviour,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
}

impl Behaviour {
    pub(crate) fn new(config: &NetworkConfig) -> Result<Self, StartError> {
        let peer = config.identity.peer_id();
        let public = config.identity.keypair().public();
        let connections = config
            .links_max
            .saturating_add(config.links_max / 4)
            .saturating_add(8);
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(PENDING_MAX))
            .with_max_pending_outgoing(Some(PENDING_MAX))
            .with_max_established(Some(connections))
            .with_max_established_per_peer(Some(PER_PEER_MAX));
        let identify = identify::Config::new("cpe/1".to_owned(), public)
            .with_agent_version(concat!("cpe/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_push_listen_addr_updates(true);
        let mut kad = kad::Config::new(StreamProtocol::new("/cpe/kad/1"));
        // Records of others are never stored: the table serves to find addresses.
        kad.set_record_filtering(kad::StoreInserts::FilterBoth);
        let mut kad = kad::Behaviour::with_config(peer, MemoryStore::new(peer), kad);
        kad.set_mode(Some(kad::Mode::Server));
        let ping = ping::Config::new()
            .with_interval(config.ping_interval)
            .with_timeout(config.ping_interval * 3);
        let mdns = if config.mdns {
            Some(multicast(peer))
        } else {
            None
        };
        let mdns = mdns
            .transpose()
            .map_err(|error| setup("multicast discovery", error))?;
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            streams: streams::Behaviour::new(peer),
            ping: ping::Behaviour::new(ping),
            identify: identify::Behaviour::new(identify),
            kad,
            gossip: gossip::behaviour().map_err(|why| setup("gossip", why))?,
            mdns: mdns.into(),
        })
    }
}

fn multicast(peer: libp2p::PeerId) -> io::Result<mdns::tokio::Behaviour> {
    mdns::tokio::Behaviour::new(mdns::Config::default(), peer)
}

fn setup(what: &'static str, why: impl ToString) -> StartError {
    StartError::Setup {
        what,
        why: why.to_string(),
    }
}
