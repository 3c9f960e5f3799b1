//! References to values that are too large to travel with their tuple.
//!
//! A string or byte string above [`MAX_INLINE_BYTES`] is a [`Blob`] in its tuple: its kind, its
//! length and the BLAKE3 hash of its bytes. The bytes themselves, the *body*, lie and travel apart,
//! in chunks of [`CHUNK_BYTES`]. [`Outline`] checks each chunk by itself, before it is used.
//!
//! ```
//! use cpe_tuple::blob::{Builder, CHUNK_BYTES};
//!
//! let body = vec![7; CHUNK_BYTES + 1];
//! let mut builder = Builder::default();
//! for chunk in body.chunks(CHUNK_BYTES) {
//!     builder.push(chunk)?;
//! }
//! let (blob, outline) = builder.finish(false)?;
//! assert_eq!(blob.len(), body.len() as u64);
//! assert!(outline.accepts(1, &body[CHUNK_BYTES..]));
//! assert!(!outline.accepts(1, &[8]));
//! # Ok::<(), cpe_tuple::blob::BlobError>(())
//! ```

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use crate::{Kind, Value};

mod outline;

pub use outline::{Builder, Outline};

/// Bytes. The longest string or byte string that the library leaves in its tuple: 64 KiB. A tuple
/// is copied into the log, the feed and the snapshots of every replica; below this size that costs
/// less than the messages that fetch a body.
pub const MAX_INLINE_BYTES: usize = 64 << 10;

/// Bytes. One chunk of a body; the last one may be shorter. 256 KiB: some hundreds of them fill a
/// fast link for a second, and the hashes of all chunks of the largest body fit one message.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Bytes. The largest body: 16 GiB.
pub const MAX_BLOB_BYTES: u64 = 16 << 30;

/// The BLAKE3 hash of a body. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash(pub [u8; 32]);

/// A value that lies apart from its tuple.
///
/// Two are equal when their bodies are, and their kinds. Ordered by kind, length and hash, which
/// says nothing about the order of the bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob {
    text: bool,
    len: u64,
    hash: BlobHash,
}

impl Blob {
    /// A reference to a body of this length and hash: a string if `text`, else a byte string.
    ///
    /// # Errors
    /// [`BlobError::Length`] for an empty body or one above [`MAX_BLOB_BYTES`].
    pub const fn new(text: bool, len: u64, hash: BlobHash) -> Result<Self, BlobError> {
        if len == 0 || len > MAX_BLOB_BYTES {
            return Err(BlobError::Length { bytes: len });
        }
        Ok(Self { text, len, hash })
    }

    /// The reference to a body that is in memory.
    ///
    /// # Errors
    /// As for [`Blob::new`].
    pub fn of(text: bool, body: &[u8]) -> Result<Self, BlobError> {
        let hash = BlobHash(*blake3::hash(body).as_bytes());
        Self::new(text, body.len() as u64, hash)
    }

    /// [`Kind::String`] or [`Kind::Bytes`].
    #[must_use]
    pub const fn kind(&self) -> Kind {
        if self.text { Kind::String } else { Kind::Bytes }
    }

    /// Whether it is a string.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        self.text
    }

    /// Bytes of the body: 1 to [`MAX_BLOB_BYTES`].
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Hash of the body.
    #[must_use]
    pub const fn hash(&self) -> BlobHash {
        self.hash
    }

    /// How many chunks the body has.
    #[must_use]
    pub const fn chunks(&self) -> u32 {
        // At most 65,536, by the bound of the length.
        self.len.div_ceil(CHUNK_BYTES as u64) as u32
    }

    /// Bytes of one chunk; 0 beyond the last.
    #[must_use]
    pub const fn chunk_len(&self, chunk: u32) -> usize {
        let before = chunk as u64 * CHUNK_BYTES as u64;
        let left = self.len.saturating_sub(before);
        if left < CHUNK_BYTES as u64 {
            left as usize
        } else {
            CHUNK_BYTES
        }
    }
}

impl From<Blob> for Value {
    fn from(blob: Blob) -> Self {
        Self::Blob(Box::new(blob))
    }
}

/// What is wrong with a reference or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The length of a body is out of bounds.
    #[error("a body of {bytes} bytes; it has 1 to {MAX_BLOB_BYTES}")]
    Length {
        /// The length.
        bytes: u64,
    },
    /// A chunk is longer than a chunk is, or follows one that was shorter.
    #[error("chunk {chunk} has {bytes} bytes; all but the last have {CHUNK_BYTES}")]
    Chunk {
        /// Which.
        chunk: u32,
        /// Its length.
        bytes: usize,
    },
    /// The hashes of the chunks are not those of the body.
    #[error("the hashes of the chunks are not those of body {hash}")]
    Outline {
        /// The body's hash.
        hash: BlobHash,
    },
    /// No hash in hexadecimal.
    #[error("{text:?} is no hash; a hash has 64 hexadecimal digits")]
    Hash {
        /// What was given, cut to 80 characters.
        text: String,
    },
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobHash {
    type Err = BlobError;

    fn from_str(text: &str) -> Result<Self, BlobError> {
        let wrong = || BlobError::Hash {
            text: text.chars().take(80).collect(),
        };
        let mut hash = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return Err(wrong());
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            let digit = |c: u8| {
                char::from(c)
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            };
            *byte = digit(*high).ok_or_else(wrong)? << 4 | digit(*low).ok_or_else(wrong)?;
        }
        Ok(Self(hash))
    }
}

/// 32 bytes in binary formats, hexadecimal digits in those for people.
impl Serialize for BlobHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for BlobHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HashVisitor;

        impl Visitor<'_> for HashVisitor {
            type Value = BlobHash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the 32 bytes of a hash")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<BlobHash, E> {
                let bytes = bytes.try_into();
                bytes.map(BlobHash).map_err(|_| E::invalid_length(0, &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BlobHash, E> {
                text.parse().map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(HashVisitor);
        }
        deserializer.deserialize_bytes(HashVisitor)
    }
}

/// What stands first in an encoded reference.
const NAME: &str = "blob";

/// An array of a name, whether it is text, the length and the hash.
impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (NAME, self.text, self.len, self.hash).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, text, len, hash) = <(String, bool, u64, BlobHash)>::deserialize(deserializer)?;
        if name != NAME {
            return Err(de::Error::custom("an object that is no blob"));
        }
        Self::new(text, len, hash).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
