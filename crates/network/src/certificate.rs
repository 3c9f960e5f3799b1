//! Who belongs to a mesh: the mesh's root key and the certificates it signs.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use bytes::{BufMut, BytesMut};
use libp2p::PeerId;
use libp2p::identity::ed25519;

use crate::keyfile::{self, KeyFileError};
use crate::wire::{self, Reader, WireError};

/// Bytes of UTF-8. A node's name in a certificate; longer names make tables unreadable.
pub const NAME_MAX: usize = 64;
/// Roles in a certificate. The program knows fewer than ten.
pub const ROLES_MAX: usize = 16;
/// Bytes of UTF-8 of one role.
pub const ROLE_MAX: usize = 32;
/// Bytes of a certificate in its encoded form, at most.
pub const CERTIFICATE_MAX: usize = 1024;
/// Seconds. A certificate is accepted this long before `not_before`, since clocks of machines
/// that keep no common time drift by minutes.
pub const CLOCK_SKEW_SECS: u64 = 300;

/// Signed together with the body, so that no other use of the root key can pass for one.
const DOMAIN: &[u8] = b"cpe certificate 1\0";
const VERSION: u8 = 1;
/// Bytes of a peer id: an Ed25519 key inlined in a multihash is 38, a hashed key 34.
const PEER_ID_MAX: usize = 64;
const FILE_HEAD: &str = "cpe mesh key 1\n";
const WHAT_KEY: &str = "a mesh key";

/// The public half of a mesh's root key: what a node needs to recognise members.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshPublicKey(pub [u8; 32]);

impl MeshPublicKey {
    /// The name of the mesh: the BLAKE3 hash of this key.
    #[must_use]
    pub fn mesh_id(&self) -> MeshId {
        MeshId(*blake3::hash(&self.0).as_bytes())
    }
}

/// The name of a mesh: the BLAKE3 hash of its root public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshId(pub [u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits")]
pub struct ParseHexError;

macro_rules! hex_text {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }

        impl FromStr for $type {
            type Err = ParseHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                blake3::Hash::from_hex(text)
                    .map(|h| Self(*h.as_bytes()))
                    .map_err(|_| ParseHexError)
            }
        }
    };
}
hex_text!(MeshPublicKey);
hex_text!(MeshId);

/// The root key pair of a mesh. Whoever holds it may admit nodes.
#[derive(Clone)]
pub struct MeshKey {
    pair: ed25519::Keypair,
}

impl MeshKey {
    /// Makes the root of a new mesh.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            pair: ed25519::Keypair::generate(),
        }
    }

    /// Keeps the key in a new file that only its owner may read.
    ///
    /// # Errors
    /// When the file exists (a root key is never replaced) or cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let mut text = String::from(FILE_HEAD);
        for byte in self.pair.secret().as_ref() {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push('\n');
        keyfile::create(path, text.as_bytes())
    }

    /// Reads a key that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// When there is no such file, others may read it, or it holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let bytes = keyfile::read(path)?.ok_or_else(|| KeyFileError::Io {
            action: "read",
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let garbage = |why: &str| KeyFileError::Garbage {
            path: path.to_owned(),
            what: WHAT_KEY,
            why: why.to_owned(),
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| garbage("it is not text"))?;
        let hex = text.strip_prefix(FILE_HEAD).ok_or_else(|| {
            garbage("it does not begin with `cpe mesh key 1`; an identity file is another thing")
        })?;
        let secret = blake3::Hash::from_hex(hex.trim_end())
            .map_err(|_| garbage("the second line is not 64 hexadecimal digits"))?;
        let secret = ed25519::SecretKey::try_from_bytes(*secret.as_bytes())
            .map_err(|error| garbage(&error.to_string()))?;
        Ok(Self {
            pair: secret.into(),
        })
    }

    /// The half that every node of the mesh knows.
    #[must_use]
    pub fn public(&self) -> MeshPublicKey {
        MeshPublicKey(self.pair.public().to_bytes())
    }

    /// The name of the mesh.
    #[must_use]
    pub fn mesh_id(&self) -> MeshId {
        self.public().mesh_id()
    }

    /// Signs that `peer` belongs to the mesh from `not_before` to `not_after` (Unix seconds,
    /// both inclusive). The serial is random.
    ///
    /// # Errors
    /// When the name or the roles are above their limits ([`NAME_MAX`], [`ROLES_MAX`],
    /// [`ROLE_MAX`]), or the window is empty.
    pub fn certify<R: Into<String>>(
        &self,
        peer: PeerId,
        name: &str,
        roles: impl IntoIterator<Item = R>,
        not_before: u64,
        not_after: u64,
    ) -> Result<Certificate, WireError> {
        let mut certificate = Certificate {
            peer,
            name: name.to_owned(),
            roles: roles
                .into_iter()
                .take(ROLES_MAX + 1)
                .map(Into::into)
                .collect(),
            not_before,
            not_after,
            serial: rand::random(),
            mesh: self.public(),
            signature: [0; 64],
        };
        certificate.check_limits()?;
        let signature = self.pair.sign(&certificate.signed_bytes());
        certificate.signature = signature.as_slice().try_into().map_err(|_| {
            WireError::invalid("signature", "the signer made one of the wrong length")
        })?;
        Ok(certificate)
    }
}

impl fmt::Debug for MeshKey {
    /// Shows the mesh id only: the secret must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MeshKey").field(&self.mesh_id()).finish()
    }
}

/// The root key's word that a peer belongs to the mesh.
///
/// Layout: version `u8`, then name, roles (`u8` count), peer id (each behind a `u16` length),
/// window and serial (`u64` each), root public key (32 bytes), signature (64 bytes) over all
/// that stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The member.
    pub peer: PeerId,
    /// What people call it. At most [`NAME_MAX`] bytes.
    pub name: String,
    /// What it may do. At most [`ROLES_MAX`] of [`ROLE_MAX`] bytes each.
    pub roles: Vec<String>,
    /// Unix seconds: valid from.
    pub not_before: u64,
    /// Unix seconds: valid until, inclusive.
    pub not_after: u64,
    /// Names this certificate in a revocation.
    pub serial: u64,
    /// The root key that signed.
    pub mesh: MeshPublicKey,
    /// The root key's signature.
    pub signature: [u8; 64],
}

/// Why a certificate does not admit its bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Another root key signed it.
    #[error("the certificate is of another mesh")]
    WrongMesh,
    /// The signature does not fit the contents.
    #[error("the certificate's signature is wrong")]
    BadSignature,
    /// Its window begins later than now (with [`CLOCK_SKEW_SECS`] of patience).
    #[error("the certificate is not valid yet: compare the clocks")]
    NotYetValid,
    /// Its window is over.
    #[error("the certificate has expired: ask for a new one")]
    Expired,
}

impl Certificate {
    /// The encoded form, at most [`CERTIFICATE_MAX`] bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.body();
        out.put_slice(&self.signature);
        out.to_vec()
    }

    /// Reads an encoded certificate. The signature is not looked at: see
    /// [`verify`](Self::verify).
    ///
    /// # Errors
    /// When the bytes are not exactly one certificate within the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let what = "certificate";
        if bytes.len() > CERTIFICATE_MAX {
            let found = bytes.len();
            return Err(WireError::TooLong {
                what,
                found,
                limit: CERTIFICATE_MAX,
            });
        }
        let mut reader = Reader::new(bytes);
        match reader.u8("certificate version")? {
            VERSION => {}
            other => return Err(WireError::invalid("certificate version", other)),
        }
        let name = reader.text(NAME_MAX, "certificate name")?;
        let count = usize::from(reader.u8("role count")?);
        if count > ROLES_MAX {
            return Err(WireError::TooLong {
                what: "role count",
                found: count,
                limit: ROLES_MAX,
            });
        }
        let roles = (0..count)
            .map(|_| reader.text(ROLE_MAX, "role"))
            .collect::<Result<_, _>>()?;
        let peer = PeerId::from_bytes(reader.bytes(PEER_ID_MAX, "peer id")?)
            .map_err(|error| WireError::invalid("peer id", error))?;
        let certificate = Self {
            peer,
            name,
            roles,
            not_before: reader.u64("not_before")?,
            not_after: reader.u64("not_after")?,
            serial: reader.u64("serial")?,
            mesh: MeshPublicKey(reader.array("mesh key")?),
            signature: reader.array("signature")?,
        };
        reader.end(what)?;
        certificate.check_limits()?;
        Ok(certificate)
    }

    /// Checks that `mesh` signed this and that it holds at `now_unix` (seconds).
    ///
    /// That the bearer is [`peer`](Self::peer) is for the caller to check, who alone knows whom
    /// the handshake proved.
    ///
    /// # Errors
    /// The first reason found, in the order of [`CertificateError`].
    pub fn verify(&self, mesh: &MeshPublicKey, now_unix: u64) -> Result<(), CertificateError> {
        if self.mesh != *mesh {
            return Err(CertificateError::WrongMesh);
        }
        let key = ed25519::PublicKey::try_from_bytes(&mesh.0)
            .map_err(|_| CertificateError::BadSignature)?;
        if !key.verify(&self.signed_bytes(), &self.signature) {
            return Err(CertificateError::BadSignature);
        }
        if now_unix.saturating_add(CLOCK_SKEW_SECS) < self.not_before {
            return Err(CertificateError::NotYetValid);
        }
        if now_unix > self.not_after {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }

    /// Whether the bearer has this role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }

    fn check_limits(&self) -> Result<(), WireError> {
        let within = |what, found: usize, limit| {
            if found > limit {
                Err(WireError::TooLong { what, found, limit })
            } else {
                Ok(())
            }
        };
        within("certificate name", self.name.len(), NAME_MAX)?;
        within("role count", self.roles.len(), ROLES_MAX)?;
        self.roles
            .iter()
            .try_for_each(|role| within("role", role.len(), ROLE_MAX))?;
        if self.not_before > self.not_after {
            return Err(WireError::invalid(
                "certificate window",
                "it ends before it begins",
            ));
        }
        Ok(())
    }

    fn body(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(VERSION);
        wire::put_bytes(&mut out, self.name.as_bytes());
        out.put_u8(u8::try_from(self.roles.len()).unwrap_or(u8::MAX));
        for role in &self.roles {
            wire::put_bytes(&mut out, role.as_bytes());
        }
        wire::put_bytes(&mut out, &self.peer.to_bytes());
        out.put_u64(self.not_before);
        out.put_u64(self.not_after);
        out.put_u64(self.serial);
        out.put_slice(&self.mesh.0);
        out
    }

    fn signed_bytes(&self) -> Vec<u8> {
        [DOMAIN, &self.body()].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::Identity;

    fn certificate(key: &MeshKey) -> Certificate {
        key.certify(
            Identity::ephemeral().peer_id(),
            "kim",
            ["member", "admin"],
            100,
            200,
        )
        .unwrap()
    }

    #[test]
    fn a_certificate_holds_within_its_window_only() {
        let key = MeshKey::generate();
        let certificate = certificate(&key);
        let mesh = key.public();
        assert_eq!(certificate.verify(&mesh, 100), Ok(()));
        assert_eq!(certificate.verify(&mesh, 200), Ok(()));
        assert_eq!(
            certificate.verify(&mesh, 201),
            Err(CertificateError::Expired)
        );
        let mut later = key
            .certify(certificate.peer, "x", ["y"], 1000, 2000)
            .unwrap();
        assert_eq!(later.verify(&mesh, 1000 - CLOCK_SKEW_SECS), Ok(()));
        let early = later.verify(&mesh, 999 - CLOCK_SKEW_SECS);
        assert_eq!(early, Err(CertificateError::NotYetValid));
        later.name = "z".to_owned();
        assert_eq!(
            later.verify(&mesh, 1500),
            Err(CertificateError::BadSignature)
        );
        let other = MeshKey::generate().public();
        assert_eq!(
            certificate.verify(&other, 150),
            Err(CertificateError::WrongMesh)
        );
    }

    #[test]
    fn each_byte_of_a_certificate_is_signed() {
        let key = MeshKey::generate();
        let bytes = certificate(&key).encode();
        assert!(bytes.len() <= CERTIFICATE_MAX);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let holds = Certificate::decode(&changed)
                .is_ok_and(|certificate| certificate.verify(&key.public(), 150).is_ok());
            assert!(!holds, "byte {at}");
        }
    }

    #[test]
    fn names_and_roles_above_their_limits_are_not_certified() {
        let key = MeshKey::generate();
        let peer = Identity::ephemeral().peer_id();
        let long = "n".repeat(NAME_MAX + 1);
        assert!(key.certify(peer, &long, ["x"], 0, 1).is_err());
        assert!(
            key.certify(peer, "n", ["r".repeat(ROLE_MAX + 1)], 0, 1)
                .is_err()
        );
        assert!(
            key.certify(peer, "n", vec!["r"; ROLES_MAX + 1], 0, 1)
                .is_err()
        );
        assert!(key.certify(peer, "n", ["r"], 2, 1).is_err());
        let largest = key.certify(
            peer,
            &"n".repeat(NAME_MAX),
            vec!["r".repeat(ROLE_MAX); 16],
            0,
            1,
        );
        assert!(largest.unwrap().encode().len() <= CERTIFICATE_MAX);
    }

    #[test]
    fn a_mesh_key_survives_its_file_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.key");
        let key = MeshKey::generate();
        key.save(&path).unwrap();
        assert_eq!(MeshKey::load(&path).unwrap().public(), key.public());
        let error = MeshKey::generate().save(&path).unwrap_err();
        assert!(
            matches!(
                error,
                KeyFileError::Io {
                    action: "write",
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(MeshKey::load(&path).unwrap().public(), key.public());
        assert!(!format!("{key:?}").contains(&std::fs::read_to_string(&path).unwrap()[15..30]));
    }

    #[test]
    fn what_is_not_a_mesh_key_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        let missing = MeshKey::load(&path).unwrap_err();
        assert!(missing.to_string().contains("id"), "{missing}");
        Identity::load_or_create(&path).unwrap();
        let error = MeshKey::load(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Garbage { .. }), "{error}");
    }

    #[test]
    fn keys_and_mesh_ids_survive_their_text() {
        let key = MeshKey::generate();
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert_eq!(key.mesh_id().to_string().parse(), Ok(key.mesh_id()));
        assert_eq!("xyz".parse::<MeshId>(), Err(ParseHexError));
    }

    proptest! {
        #[test]
        fn certificates_survive_encoding(
            name in "[a-zé]{0,32}",
            roles in prop::collection::vec("[a-z]{0,32}", 0..=16),
            window in any::<(u64, u64)>(),
        ) {
            let (from, to) = (window.0.min(window.1), window.0.max(window.1));
            let key = MeshKey::generate();
            let peer = Identity::ephemeral().peer_id();
            let certificate = key.certify(peer, &name, roles, from, to).unwrap();
            prop_assert_eq!(Certificate::decode(&certificate.encode()), Ok(certificate));
        }

        #[test]
        fn any_bytes_are_a_certificate_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let _ = Certificate::decode(&bytes);
        }
    }
}
