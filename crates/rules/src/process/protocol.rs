//! What the two processes say to each other: a length in four bytes, then CBOR.

use std::io::{self, Read, Write};

use cpe_tuple::{Value as Datum, codec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Confinement;
use crate::agent::{AgentError, Delivery, Effect};
use crate::error::Replacement;
use crate::limits::{Limits, Trip};
use crate::trace::Trace;

/// Bytes of one frame at most: those of a snapshot.
pub const FRAME_BYTES_MAX: usize = crate::engine::SNAPSHOT_BYTES_MAX;

/// To the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// First: what agent to be.
    Begin(Begin),
    Deliver(Delivery, i64),
    /// As `Deliver`, but its effects were released before: only the memory is wanted.
    Replay(Delivery, i64),
    Snapshot,
    Trace,
    Inspect(String),
    /// A function, its arguments, and what the time is.
    Call(String, Vec<Datum>, i64),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) limits: Limits,
    pub(super) seed: u64,
    pub(super) node: String,
    pub(super) file: String,
    #[serde(with = "serde_bytes_option")]
    pub(super) snapshot: Option<Vec<u8>>,
}

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    /// To `Begin`: what it has given up, and what a snapshot lost.
    Ready(Confinement, Vec<String>),
    /// To `Begin`: the source is faulty.
    Refused(String),
    /// To `Deliver` and `Replay`: effects or a failure, and what was printed.
    Done(Result<Vec<Effect>, Failure>, String),
    #[serde(with = "serde_bytes_vec")]
    Snapshot(Vec<u8>),
    /// To `Snapshot`: there is none, and why.
    NoSnapshot(String),
    Trace(Trace),
    Inspected(Result<String, String>),
    /// To `Call`: what it returned, and what was printed.
    Called(Result<Datum, Failure>, String),
}

/// An [`AgentError`] that crosses.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Rule {
        message: String,
        fired: u64,
    },
    Stopped {
        trip: Trip,
        message: String,
        rebuilt: Option<Replacement>,
    },
    UnknownRequest(u64),
    UnknownSubscription(u64),
    Other(String),
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Rule { message, fired } => Self::Rule { message, fired },
            AgentError::Stopped {
                trip,
                message,
                rebuilt,
            } => Self::Stopped {
                trip,
                message,
                rebuilt,
            },
            AgentError::UnknownRequest(number) => Self::UnknownRequest(number),
            AgentError::UnknownSubscription(number) => Self::UnknownSubscription(number),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Failure> for AgentError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rule { message, fired } => Self::Rule { message, fired },
            Failure::Stopped {
                trip,
                message,
                rebuilt,
            } => Self::Stopped {
                trip,
                message,
                rebuilt,
            },
            Failure::UnknownRequest(number) => Self::UnknownRequest(number),
            Failure::UnknownSubscription(number) => Self::UnknownSubscription(number),
            Failure::Other(text) => Self::Other(text),
        }
    }
}

/// # Errors
/// What writing says; a message too large to send.
pub(super) fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let bytes = codec::encode(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|_| bytes.len() <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a frame larger than the limit"))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// `None` at the end of the stream.
///
/// # Errors
/// What reading says; a frame that is too large or malformed.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame larger than the limit"));
    }
    // Grows with what really comes: the length alone allocates nothing.
    let mut bytes = Vec::new();
    if from.take(length as u64).read_to_end(&mut bytes)? < length {
        return Ok(None);
    }
    codec::decode(&bytes, FRAME_BYTES_MAX)
        .map(Some)
        .map_err(io::Error::other)
}

/// Bytes as CBOR bytes: as a list of numbers a snapshot would be twice as long.
mod serde_bytes_vec {
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl de::Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
}

/// The same for bytes that may be missing.
mod serde_bytes_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super::serde_bytes_vec")] Vec<u8>);

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        bytes
            .as_ref()
            .map(|bytes| Wrapped(bytes.clone()))
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(from)?.map(|wrapped| wrapped.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = read::<Request>(&mut &*bytes);
            let _ = read::<Response>(&mut &*bytes);
        }

        #[test]
        fn a_damaged_frame_is_read_without_a_panic(at: prop::sample::Index, byte: u8) {
            let mut bytes = Vec::new();
            write(&mut bytes, &Request::Begin(begin(Some(vec![1, 2, 3])))).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read::<Request>(&mut &*bytes);
        }
    }

    fn begin(snapshot: Option<Vec<u8>>) -> Begin {
        Begin {
            name: "a".into(),
            source: "(defrule r =>)".into(),
            limits: Limits::AGENT,
            seed: 7,
            node: "n".into(),
            file: "f".into(),
            snapshot,
        }
    }

    #[test]
    fn a_beginning_crosses_with_and_without_a_snapshot() {
        for snapshot in [None, Some(vec![]), Some(vec![1, 2, 3])] {
            let mut bytes = Vec::new();
            write(&mut bytes, &Request::Begin(begin(snapshot.clone()))).unwrap();
            let back = read::<Request>(&mut &*bytes).unwrap().unwrap();
            assert!(matches!(back, Request::Begin(begin) if begin.snapshot == snapshot));
        }
    }

    #[test]
    fn frames_cross_whole_and_a_torn_one_is_the_end() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Response::Snapshot(vec![0; 1000])).unwrap();
        assert!(bytes.len() < 1020, "bytes are not a list: {}", bytes.len());
        let whole = read::<Response>(&mut &*bytes).unwrap();
        assert!(matches!(whole, Some(Response::Snapshot(bytes)) if bytes.len() == 1000));
        bytes.pop();
        assert!(read::<Response>(&mut &*bytes).unwrap().is_none());
        let huge = u32::MAX.to_le_bytes();
        assert!(read::<Response>(&mut &huge[..]).is_err());
    }
}
