//! The network shell: links between the members of a mesh, over libp2p.
//!
//! It carries bytes and decides nothing about them. A node with an [`Identity`] and a
//! [`Certificate`] of its mesh [`start`]s, dials and is dialled, and gets a link to each member it
//! reaches: one connection, with three long-lived framed streams ([`Lane`]s) whose queues are
//! bounded in messages and bytes. Beside the links there are broadcasts ([`Network::broadcast`])
//! for small news that may be lost.
//!
//! What holds:
//! - Nobody gets past the handshake without a certificate of the mesh's root key for the peer id
//!   that the handshake proved, valid now. No protocol runs before both sides agreed.
//! - At most one link per peer is up. Events of a node come in the order up, messages, down.
//! - Order holds within a lane. Nothing is resent: what was queued when a link ended is gone, and
//!   the layers above repeat what matters.
//! - A peer that sends garbage loses its link and nothing else happens.
//! - Everything is bounded; the bounds are the constants of this crate and [`LaneLimits`].
//!
//! What it is not: it knows no members beyond those it is told of or meets, keeps nothing on disk
//! but key files, and has no opinion on what a role may do.
//!
//! # Example
//! ```
//! use cpe_network::{Event, Identity, Lane, MeshKey, NetworkConfig, start};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let now = 1_700_000_000;
//! # let far = 4_000_000_000;
//! let mesh = MeshKey::generate();
//! let config = |name: &str| {
//!     let identity = Identity::ephemeral();
//!     let certificate = mesh.certify(identity.peer_id(), name, ["member"], now, far)?;
//!     let mut config = NetworkConfig::new(identity, certificate, mesh.public());
//!     config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
//!     Ok::<_, Box<dyn std::error::Error>>(config)
//! };
//! let (ann, mut to_ann) = start(config("ann")?).await?;
//! let mut bob = config("bob")?;
//! bob.bootstrap = ann.addresses();
//! let (bob, mut to_bob) = start(bob).await?;
//!
//! while let Some(event) = to_bob.recv().await {
//!     if let Event::LinkUp { node, .. } = event {
//!         bob.try_send(node, Lane::Message, "hello".into())?;
//!         break;
//!     }
//! }
//! while let Some(event) = to_ann.recv().await {
//!     if let Event::Message { from, bytes, .. } = event {
//!         assert_eq!((from, bytes.as_ref()), (bob.node_id(), b"hello".as_ref()));
//!         break;
//!     }
//! }
//! bob.shutdown().await;
//! ann.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod behaviour;
mod blocks;
mod certificate;
mod clock;
mod config;
mod dialing;
mod door;
mod driver;
mod error;
mod event;
mod frame;
mod gossip;
mod identity;
mod keyfile;
mod lane;
mod link;
mod network;
mod queue;
mod shared;
mod start;
mod streams;
mod traffic;
mod transport;
mod wire;

#[cfg(test)]
mod tests;

pub use libp2p::{Multiaddr, PeerId};

pub use blocks::TestBlocks;
pub use certificate::{
    CERTIFICATE_MAX, CLOCK_SKEW_SECS, Certificate, CertificateError, MeshId, MeshKey,
    MeshPublicKey, NAME_MAX, ParseHexError, ROLE_MAX, ROLES_MAX,
};
pub use config::{ADDRESSES_MAX, LINKS_MAX_DEFAULT, NetworkConfig};
pub use error::{BroadcastError, SendError, StartError};
pub use event::{DownReason, EVENTS_MAX, Event, Events, Refusal};
pub use gossip::{GOSSIP_MAX, MessageKey, TOPICS};
pub use identity::{IDENTITY_FILE_BYTES, Identity, node_id};
pub use keyfile::KeyFileError;
pub use lane::{Lane, LaneLimits, MESSAGE_OVERHEAD};
pub use link::LinkInfo;
pub use network::Network;
pub use start::start;
pub use wire::WireError;
