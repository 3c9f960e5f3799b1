//! Who this node is: an Ed25519 key pair that outlives the process.

use std::fmt;
use std::path::Path;

use cpe_membership::NodeId;
use libp2p::PeerId;
use libp2p::identity::{KeyType, Keypair};

use crate::keyfile::{self, KeyFileError};

/// Bytes of an identity file: the protobuf form of an Ed25519 key pair.
pub const IDENTITY_FILE_BYTES: usize = 68;

const WHAT: &str = "a node identity";

/// The short id of the node with this peer id: the first eight bytes, big endian, of the BLAKE3
/// hash of the peer id's bytes.
#[must_use]
pub fn node_id(peer: &PeerId) -> NodeId {
    let hash = blake3::hash(&peer.to_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(hash.as_bytes().split_at(8).0);
    NodeId(u64::from_be_bytes(first))
}

/// The key pair of a node. Its public half is the peer id that every handshake proves.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
}

impl Identity {
    /// Makes a key pair that is forgotten with the process.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self {
            keypair: Keypair::generate_ed25519(),
        }
    }

    /// Reads the key pair kept in `path`, or makes one and keeps it there (mode 0600).
    ///
    /// # Errors
    /// When the file cannot be read or written, when others may read it, and when it does not
    /// hold exactly one Ed25519 key pair. A file that exists is never replaced.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        if let Some(bytes) = keyfile::read(path)? {
            return Self::from_file(path, &bytes);
        }
        let fresh = Self::ephemeral();
        let bytes = fresh
            .keypair
            .to_protobuf_encoding()
            .map_err(|error| garbage(path, &error))?;
        match keyfile::create(path, &bytes) {
            Ok(()) => Ok(fresh),
            // Another process was faster: its key is the identity of this folder.
            Err(error) => match keyfile::read(path)? {
                Some(bytes) => Self::from_file(path, &bytes),
                None => Err(error),
            },
        }
    }

    fn from_file(path: &Path, bytes: &[u8]) -> Result<Self, KeyFileError> {
        if bytes.len() != IDENTITY_FILE_BYTES {
            return Err(KeyFileError::Size {
                path: path.to_owned(),
                what: WHAT,
                found: bytes.len(),
                expected: IDENTITY_FILE_BYTES,
            });
        }
        let keypair =
            Keypair::from_protobuf_encoding(bytes).map_err(|error| garbage(path, &error))?;
        if keypair.key_type() != KeyType::Ed25519 {
            return Err(garbage(path, &"not an Ed25519 key"));
        }
        Ok(Self { keypair })
    }

    /// The libp2p name of this node: its public key.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }

    /// The short name of this node inside the mesh.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        node_id(&self.peer_id())
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.keypair
    }
}

impl fmt::Debug for Identity {
    /// Shows the peer id only: the secret half must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.peer_id()).finish()
    }
}

fn garbage(path: &Path, why: &dyn fmt::Display) -> KeyFileError {
    KeyFileError::Garbage {
        path: path.to_owned(),
        what: WHAT,
        why: why.to_string(),
    }
}
