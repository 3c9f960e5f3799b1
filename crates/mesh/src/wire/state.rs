//! A state in parts, for a replica that no log can help any more.

use cpe_space::Live;
use serde::{Deserialize, Serialize};

/// Which parts of a state are wanted. The variants' order is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// Its head, and as much else as fits.
    Begin,
    /// The packed outline from this byte on.
    Outline {
        /// Where to begin.
        offset: u64,
    },
    /// Symbols of the sketch of all indices.
    Symbols {
        /// Place of the first one.
        from: u32,
        /// How many.
        count: u32,
    },
    /// Tuples in order of their indices.
    Page {
        /// Index before the first one.
        after: u64,
        /// The last index wanted; 0 for all.
        upto: u64,
    },
    /// The tuples of these indices.
    Bodies(Vec<u64>),
}

/// A part of a state. The variants' order is part of the wire format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Part {
    /// What the state consists of.
    Head {
        /// Names the whole state ([`cpe_space::Sm::digest`]).
        digest: u64,
        /// How many tuples it has.
        live: u64,
        /// Bytes of its outline, packed as an LZ4 block.
        packed: u64,
        /// Bytes of its outline, unpacked.
        raw: u64,
    },
    /// A part of the packed outline: everything but the tuples.
    Outline {
        /// Where this part begins.
        offset: u64,
        /// The part.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Symbols of the sketch of all indices.
    Symbols {
        /// Place of the first one.
        from: u32,
        /// Packed ([`cpe_space::Scale::pack`]), to the scale of the number of tuples and the
        /// state's index.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Tuples in order of their indices, with none left out.
    Page {
        /// Index before the first one, as asked for.
        after: u64,
        /// The last index wanted, as asked for.
        upto: u64,
        /// The tuples.
        tuples: Vec<Live>,
        /// True when there are no more.
        end: bool,
    },
    /// Tuples that were asked for by index: as many as fit.
    Bodies(Vec<Live>),
}
