//! What nodes say to each other about actors, on the message lane.
//!
//! Each request carries a number of the asking node's; the answer carries it back. New variants
//! and fields go to the end (see [`cpe_tuple::codec`]).

use cpe_actors::AskError;
use cpe_tuple::Value;
use cpe_tuple::codec::{self, CodecError};
use serde::{Deserialize, Serialize};

/// Bytes of a frame: what the message lane carries.
pub(crate) const FRAME_BYTES_MAX: usize = cpe_network::Lane::Message.limits().message_bytes;

/// One frame.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Envelope {
    /// Put this into the mailbox, and say that it is there.
    Tell {
        id: u64,
        name: String,
        token: u64,
        message: Value,
    },
    /// Put this into the mailbox, and send the actor's answer.
    Ask {
        id: u64,
        name: String,
        token: u64,
        within_ms: u64,
        message: Value,
    },
    /// Start an actor.
    Spawn {
        id: u64,
        kind: String,
        name: String,
        args: Value,
        within_ms: u64,
    },
    /// Stop an actor and give up its name.
    Stop {
        id: u64,
        name: String,
        token: u64,
        within_ms: u64,
    },
    /// What a request came to.
    Answer { id: u64, answer: Answer },
}

/// What a request came to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Told, or stopped.
    Done,
    /// The actor's answer.
    Value(Value),
    /// Started; the token its name was claimed with.
    Started(u64),
    /// Not started.
    NotStarted(NotStarted),
    /// No actor of this name and token is here.
    NotHere,
    /// Too much is under way here.
    Busy,
    /// The actor's mailbox or the actor did not do it.
    Asked(AskError),
    /// Not stopped in time.
    NotStopped(String),
}

/// Why an actor was not started.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum NotStarted {
    /// The name is held by a live actor; the text says by whom.
    Taken(String),
    /// The kind is unknown or did not accept the arguments.
    Cannot(String),
    /// The registry could not be asked.
    Registry(String),
}

impl Envelope {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, FRAME_BYTES_MAX)
    }
}
