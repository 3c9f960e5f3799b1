//! What peers say to each other about bodies. Sent, lost and repeated as all messages are.

use cpe_space::ShardId;
use cpe_tuple::{Blob, BlobHash};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// A part of a body that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BodyPart {
    /// The hashes of its chunks; only of bodies with more than one.
    Outline,
    /// The chunk of this number.
    Chunk(u32),
}

/// A message about a body. The variants' order is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyMessage {
    /// Asks the receiver to have the body on its disk, from the sender or anyone, and to say so.
    Hold {
        /// The body.
        blob: Blob,
        /// The shard whose tuple refers to it.
        shard: ShardId,
    },
    /// The sender has the body on its disk.
    Held {
        /// The body.
        hash: BlobHash,
    },
    /// Asks for a part.
    Ask {
        /// The body.
        hash: BlobHash,
        /// Which part.
        part: BodyPart,
    },
    /// Answers that.
    Part {
        /// The body.
        hash: BlobHash,
        /// Which part.
        part: BodyPart,
        /// The part; none if the sender has not got the body whole.
        bytes: Option<ByteBuf>,
    },
}
