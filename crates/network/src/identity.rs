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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("node.key");
        let first = Identity::load_or_create(&path).unwrap();
        let second = Identity::load_or_create(&path).unwrap();
        assert_eq!(first.peer_id(), second.peer_id());
        assert_eq!(first.node_id(), node_id(&second.peer_id()));
        assert_eq!(std::fs::read(&path).unwrap().len(), IDENTITY_FILE_BYTES);
        let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it");
    }

    #[cfg(unix)]
    #[test]
    fn an_identity_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        Identity::load_or_create(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Identity::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_identity_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes, expected) in [
            ("short", vec![1; 67], "67 bytes long, 68 expected"),
            ("long", vec![1; 100_000], "it is not a node identity"),
            ("empty", vec![], "0 bytes long"),
            ("garbage", vec![0xff; 68], "does not hold a node identity"),
        ] {
            let path = folder.path().join(name);
            crate::keyfile::create(&path, &bytes).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains(name), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_folder_in_the_place_of_an_identity_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Identity::load_or_create(folder.path()).is_err());
    }

    #[test]
    fn the_secret_is_not_shown() {
        let identity = Identity::ephemeral();
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({:?})", identity.peer_id())
        );
    }
}
