//! The network shell: links between the members of a mesh, over libp2p.

mod behaviour;
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

pub use libp2p::{Multiaddr, PeerId};

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
