//! Why a start, a send or a broadcast failed.

use std::io;

use cpe_membership::NodeId;
use libp2p::{Multiaddr, PeerId};

use crate::certificate::CertificateError;

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be listened on: a busy port, an address of another machine.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address, as configured.
        address: Multiaddr,
        /// What the system said.
        source: io::Error,
    },
    /// No transport of this node understands the address.
    #[error("cannot listen on {address}: {why}")]
    BadAddress {
        /// The address, as configured.
        address: Multiaddr,
        /// What is wrong with it.
        why: String,
    },
    /// A list of addresses is too long.
    #[error("{found} {what} addresses, at most {limit} allowed")]
    TooManyAddresses {
        /// Which list: `listen`, `bootstrap`, `external`.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The certificate is of another identity.
    #[error("the certificate belongs to {certified}, this node is {own}: ask for one of its own")]
    OtherIdentity {
        /// The peer that the certificate names.
        certified: Box<PeerId>,
        /// This node.
        own: Box<PeerId>,
    },
    /// The node's own certificate would be refused by all members.
    #[error("this node's certificate does not hold: {0}")]
    Certificate(#[from] CertificateError),
    /// A part of the transport could not be made.
    #[error("cannot set up {what}: {why}")]
    Setup {
        /// The part.
        what: &'static str,
        /// What it said.
        why: String,
    },
}

/// Why a message was not taken for sending. It is certain that none of it was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no link to the node now.
    #[error("no link to node {0}")]
    NoLink(NodeId),
    /// The queue is full: the peer or the line is slower than the sender.
    #[error("the queue to node {0} is full")]
    Full(NodeId),
    /// The message is above the lane's limit.
    #[error("a message of {found} bytes is above the lane's limit of {limit}")]
    TooLarge {
        /// Bytes of the message.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why a broadcast was not taken. Nobody was sent any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// There is no such topic.
    #[error("topic {0} does not exist, topics are 0 to {max}", max = crate::TOPICS - 1)]
    NoTopic(u16),
    /// The contents are above [`GOSSIP_MAX`](crate::GOSSIP_MAX).
    #[error("a broadcast of {found} bytes is above the limit of {limit}")]
    TooLarge {
        /// Bytes of the contents.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// More broadcasts wait than may.
    #[error("too many broadcasts are waiting")]
    Full,
    /// The network has shut down.
    #[error("the network has shut down")]
    Stopped,
}
