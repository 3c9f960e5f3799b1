//! Bringing a node's network up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::behaviour::Behaviour;
use crate::blocks::TestBlocks;
use crate::clock::{Clock, unix_now};
use crate::config::{ADDRESSES_MAX, NetworkConfig};
use crate::dialing::Dialer;
use crate::door::Door;
use crate::driver::{Driver, State};
use crate::error::StartError;
use crate::event::{EVENTS_MAX, Events};
use crate::network::Network;
use crate::shared::Shared;
use crate::traffic::{Inbox, Surroundings};
use crate::transport;

/// Broadcasts waiting for the driver, at most.
const BROADCASTS_MAX: usize = 256;
/// Ended links waiting for the driver, at most; their tasks wait beyond it.
const DONE_MAX: usize = 64;
/// How long the system may take to say which addresses a listener has got.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the network: listens, dials the bootstrap addresses, and runs until it is shut down.
///
/// # Errors
/// When an address cannot be listened on (the error names it), or when the configuration
/// contradicts itself.
///
/// # Cancel safety
/// Nothing is left running when the future is dropped.
pub async fn start(config: NetworkConfig) -> Result<(Network, Events), StartError> {
    check(&config)?;
    let clock = Clock::start();
    let peer = config.identity.peer_id();
    let mut dialer = Dialer::new(config.redial_min, config.redial_max);
    for address in &config.bootstrap {
        dialer.bootstrap(address.clone(), clock.now());
    }
    let with_peer = |address: &Multiaddr| {
        address
            .clone()
            .with_p2p(peer)
            .unwrap_or_else(|address| address)
    };
    let shared = Arc::new(Shared {
        peer,
        node: config.identity.node_id(),
        links: RwLock::new(BTreeMap::new()),
        dialer: Mutex::new(dialer),
        unwanted: Mutex::new(BTreeSet::new()),
        addresses: RwLock::new(config.external.iter().map(with_peer).collect()),
        blocks: config.test_blocks.clone(),
        changed: Notify::new(),
    });
    let door = Door::new(
        Arc::clone(&shared),
        config.mesh,
        Some(config.certificate.clone()),
    );
    let door = Arc::new(door);

    let connections = transport::named(&config)?;
    let connections = transport::admitted(connections, Arc::clone(&door));
    // Members' connections are closed by the driver, never for being idle.
    let settings = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(Duration::from_secs(60));
    let swarm = Swarm::new(connections, Behaviour::new(&config)?, peer, settings);

    let (events, queue) = mpsc::channel(EVENTS_MAX);
    let (broadcast, broadcasts) = mpsc::channel(BROADCASTS_MAX);
    let (done_sender, done) = mpsc::channel(DONE_MAX);
    let inbox = Inbox::new(events);
    let around = Surroundings {
        shared: Arc::clone(&shared),
        inbox,
        done: done_sender,
    };
    let stop = CancellationToken::new();
    let mut driver = Driver {
        swarm,
        door,
        clock,
        around,
        broadcasts,
        done,
        stop: stop.clone(),
        blocks: config.test_blocks.as_ref().map(TestBlocks::watch),
        state: State::default(),
    };
    listen(&mut driver, &config.listen).await?;
    let task = tokio::spawn(driver.run());
    Ok((
        Network::new(shared, clock, broadcast, stop, task),
        Events::new(queue),
    ))
}

fn check(config: &NetworkConfig) -> Result<(), StartError> {
    let lists = [
        ("listen", &config.listen),
        ("bootstrap", &config.bootstrap),
        ("external", &config.external),
    ];
    for (what, list) in lists {
        if list.len() > ADDRESSES_MAX {
            let found = list.len();
            return Err(StartError::TooManyAddresses {
                what,
                found,
                limit: ADDRESSES_MAX,
            });
        }
    }
    let (certified, own) = (config.certificate.peer, config.identity.peer_id());
    if certified != own {
        let (certified, own) = (Box::new(certified), Box::new(own));
        return Err(StartError::OtherIdentity { certified, own });
    }
    Ok(config.certificate.verify(&config.mesh, unix_now())?)
}

/// Listens at each address and waits until the system has said where that is.
async fn listen(driver: &mut Driver, addresses: &[Multiaddr]) -> Result<(), StartError> {
    // All of them first: a probe for IPv6 would find our own IPv4 listener of the same port.
    for address in addresses {
        transport::check_port_is_free(address).map_err(|source| StartError::Listen {
            address: address.clone(),
            source,
        })?;
    }
    let mut waiting = Vec::<(ListenerId, Multiaddr)>::new();
    for address in addresses {
        let busy = |source| StartError::Listen {
            address: address.clone(),
            source,
        };
        let id = driver
            .swarm
            .listen_on(address.clone())
            .map_err(|error| match error {
                TransportError::Other(source) => busy(source),
                TransportError::MultiaddrNotSupported(_) => StartError::BadAddress {
                    address: address.clone(),
                    why: "expected /ip4/ADDRESS/tcp/PORT or /ip4/ADDRESS/udp/PORT/quic-v1"
                        .to_owned(),
                },
            })?;
        waiting.push((id, address.clone()));
    }
    let all = async {
        while !waiting.is_empty() {
            match driver.swarm.select_next_some().await {
                SwarmEvent::NewListenAddr {
                    listener_id,
                    address,
                } => {
                    waiting.retain(|(id, _)| *id != listener_id);
                    driver.on_listening(address);
                }
                SwarmEvent::ListenerClosed {
                    listener_id,
                    reason,
                    ..
                } => {
                    let listener = waiting.iter().find(|(id, _)| *id == listener_id);
                    if let (Some((_, address)), Err(source)) = (listener, reason) {
                        return Err(StartError::Listen {
                            address: address.clone(),
                            source,
                        });
                    }
                    waiting.retain(|(id, _)| *id != listener_id);
                }
                other => driver.on_event(other),
            }
        }
        Ok(())
    };
    match timeout(LISTEN_TIMEOUT, all).await {
        Ok(result) => result?,
        // A wildcard address on a machine without network: addresses may come later.
        Err(_) => tracing::warn!(?waiting, "no address to listen at yet"),
    }
    Ok(())
}
