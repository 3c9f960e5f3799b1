//! CBOR for everything that crosses a wire or goes to disk.
//!
//! This module is the only place that names `serde_cbor`, a crate that is archived
//! (RUSTSEC-2021-0127: unmaintained, no known flaw). It is kept at arm's length: a small checker of
//! our own (`wellformed`) walks all bytes before that crate sees them, so nesting, claimed lengths
//! and trailing bytes are settled by then. Replacing the crate means rewriting this file.
//!
//! # Form
//!
//! Plain CBOR (RFC 8949). Fields of structs and variants of enums are written as numbers:
//!
//! | Rust | CBOR |
//! |---|---|
//! | struct | map from field position to value |
//! | newtype struct | what is inside |
//! | tuple, tuple struct, `Vec` | array |
//! | unit variant | variant position |
//! | newtype variant | `[position, value]` |
//! | tuple variant | `[position, a, b, ...]` |
//! | struct variant | `[position, {0: a, 1: b, ...}]` |
//! | `None`, `()` | null |
//! | `Some(x)` | `x` |
//! | float | the shortest float that keeps every bit; all NaN become one |
//!
//! So new fields (with `#[serde(default)]`) and variants go to the *end* of a type, nothing is
//! reordered, and a reader ignores fields it does not know. [`Value`](crate::Value) keeps also the
//! bits of a NaN. What does not survive, because serde or CBOR cannot tell it apart:
//! `Some(())`, `Some(None)` and `Some(Value::Null)` read back as `None`; and serde's buffering
//! attributes (`flatten`, `untagged`, `tag = ".."`) around a `Value` refuse its symbols.

use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_cbor::{
    error::Category,
    tags::{Tagged, current_cbor_tag},
};

mod wellformed;

/// The deepest nesting of arrays, maps and tags in one message: [`MAX_DEPTH`] for a value, and the
/// rest for the message around it. Below the bound of the CBOR library, which is 127.
///
/// [`MAX_DEPTH`]: crate::limits::MAX_DEPTH
pub const MAX_NESTING: usize = 96;

/// Why something cannot be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// More bytes than the reader allows; nothing was read.
    #[error("{bytes} encoded bytes, the limit here is {limit}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// Arrays, maps and tags are nested too deeply.
    #[error("encoded data is nested deeper than {limit} at byte {offset}")]
    TooDeep {
        /// Where.
        offset: usize,
        /// [`MAX_NESTING`].
        limit: usize,
    },
    /// The bytes are not CBOR.
    #[error("malformed CBOR at byte {offset}: {reason}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The bytes go on after the end of the item.
    #[error("{bytes} bytes follow the encoded data, which ends at byte {offset}")]
    Trailing {
        /// Where the item ends.
        offset: usize,
        /// How many bytes follow.
        bytes: usize,
    },
    /// The bytes are CBOR, but not of the expected type or not within its limits.
    #[error("unexpected data before byte {offset}: {reason}")]
    Mismatch {
        /// Up to where it was read.
        offset: usize,
        /// What was found and what was expected.
        reason: String,
    },
    /// The data has no encoding; its sender broke a limit.
    #[error("cannot encode: {reason}")]
    Unencodable {
        /// Why not.
        reason: String,
    },
}

/// Encodes to a new buffer.
///
/// # Errors
///
/// [`CodecError::Unencodable`] for what CBOR cannot hold (integers beyond 64 bits), values nested
/// deeper than [`MAX_DEPTH`](crate::limits::MAX_DEPTH), and what a `Serialize` refuses.
pub fn encode<T: Serialize + ?Sized>(data: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(64);
    encode_into(data, &mut bytes)?;
    Ok(bytes)
}

/// Encodes to the end of a buffer, which keeps its length when that fails.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_into<T: Serialize + ?Sized>(data: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    // Without `legacy_enums` the packed form writes some variants by name and some by number.
    let mut serializer = serde_cbor::Serializer::new(&mut *out)
        .packed_format()
        .legacy_enums();
    data.serialize(&mut serializer).map_err(|error| {
        out.truncate(start);
        CodecError::Unencodable {
            reason: error.to_string(),
        }
    })
}

/// Decodes bytes that hold exactly one item of at most `limit` bytes.
///
/// Memory is bounded by the length of the bytes, whatever they claim: at most one element is
/// reserved for each byte.
///
/// # Errors
///
/// [`CodecError`]: all variants but `Unencodable`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLarge {
            bytes: bytes.len(),
            limit,
        });
    }
    wellformed::check(bytes, MAX_NESTING)?;
    let mut deserializer = serde_cbor::Deserializer::from_slice(bytes);
    let decoded =
        T::deserialize(&mut deserializer).and_then(|data| deserializer.end().map(|()| data));
    decoded.map_err(|error| {
        let reason = error.to_string();
        match error.classify() {
            // What a type's `Deserialize` refuses carries no place of its own.
            Category::Data => CodecError::Mismatch {
                offset: deserializer.byte_offset(),
                reason,
            },
            _ => CodecError::Malformed {
                offset: usize::try_from(error.offset()).unwrap_or(bytes.len()),
                reason,
            },
        }
    })
}

/// Writes an item under a tag.
///
/// The library passes the tag through a thread's variable from here to the writing of the item's
/// head, and no other code runs in between.
pub(crate) fn serialize_tagged<T, S>(tag: u64, item: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Serialize + ?Sized,
    S: Serializer,
{
    Tagged::new(Some(tag), item).serialize(serializer)
}

/// The tag before the item being read; to be called first in `visit_newtype_struct`.
///
/// The library sets a thread's variable just before it calls that method and clears it after.
pub(crate) fn current_tag() -> Option<u64> {
    current_cbor_tag()
}

#[cfg(test)]
mod tests;
