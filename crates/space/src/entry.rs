//! Entries of a history as bytes: encoded once at the home, then stored, hashed and sent as they
//! are.

use std::sync::Arc;

use cpe_tuple::codec::{self, CodecError};
use serde::{Deserialize, Serialize};

use crate::Command;

/// Bytes. The largest entry: a tuple of the largest size and what names it.
pub const MAX_ENTRY_BYTES: usize = cpe_tuple::limits::MAX_TUPLE_BYTES + 64 * 1024;

/// An encoded [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
pub struct Entry(Arc<[u8]>);

impl Entry {
    /// Encodes a command.
    ///
    /// # Errors
    /// When it exceeds the limits of the encoding.
    pub fn new(command: &Command) -> Result<Self, CodecError> {
        Ok(Self(codec::encode(command)?.into()))
    }

    /// Takes bytes that were an entry's.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Decodes the command.
    ///
    /// # Errors
    /// When the bytes are not one command, whole.
    pub fn command(&self) -> Result<Command, CodecError> {
        codec::decode(&self.0, MAX_ENTRY_BYTES)
    }

    /// Chain hash after this entry: the first eight bytes of `BLAKE3(previous, entry)`.
    #[must_use]
    pub fn chain(&self, previous: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&previous.to_be_bytes());
        hasher.update(&self.0);
        let mut low = [0_u8; 8];
        for (to, from) in low.iter_mut().zip(hasher.finalize().as_bytes()) {
            *to = *from;
        }
        u64::from_be_bytes(low)
    }
}

impl From<serde_bytes::ByteBuf> for Entry {
    fn from(bytes: serde_bytes::ByteBuf) -> Self {
        Self(bytes.into_vec().into())
    }
}

impl From<Entry> for serde_bytes::ByteBuf {
    fn from(entry: Entry) -> Self {
        Self::from(entry.0.to_vec())
    }
}
