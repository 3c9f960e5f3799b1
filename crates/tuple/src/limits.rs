//! The bounds of everything in this crate, and the error that names a broken one.

use crate::Kind;

/// Bytes. The largest tuple or template, by [`Tuple::size`](crate::Tuple::size). 4 MiB: large
/// enough for a model or a picture, small enough to be copied to every home replica at once.
pub const MAX_TUPLE_BYTES: usize = 4 << 20;

/// The most fields of a tuple or template.
pub const MAX_FIELDS: usize = 64;

/// The deepest nesting of lists and maps in one value. A number has depth 0, `[]` has depth 1.
/// Readers in other languages commonly stop at 64 or more.
pub const MAX_DEPTH: usize = 32;

/// Bytes. The longest name of a workspace, variable or actor. What fits in a file name fits here.
pub const MAX_NAME_BYTES: usize = 256;

/// The most entries of one map.
pub const MAX_MAP_ENTRIES: usize = 65_536;

/// A bound that was broken: what, how much of it, and the bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// A tuple or template is too large.
    #[error("the fields take about {bytes} bytes, the limit is {limit}; split the data")]
    Bytes {
        /// The estimated encoded size.
        bytes: usize,
        /// [`MAX_TUPLE_BYTES`].
        limit: usize,
    },
    /// A tuple or template has too many fields.
    #[error("{fields} fields, the limit is {limit}; put several values in a list or a map")]
    Fields {
        /// How many were given. When read from bytes, one more than the limit.
        fields: usize,
        /// [`MAX_FIELDS`].
        limit: usize,
    },
    /// A value is nested too deeply.
    #[error("a value is nested {depth} deep, the limit is {limit}; flatten it")]
    Depth {
        /// How deep it is.
        depth: usize,
        /// [`MAX_DEPTH`].
        limit: usize,
    },
    /// A name is too long.
    #[error("a name of {bytes} bytes, the limit is {limit}; choose a shorter one")]
    Name {
        /// Its length.
        bytes: usize,
        /// [`MAX_NAME_BYTES`].
        limit: usize,
    },
    /// A map has too many entries.
    #[error("a map of {entries} entries, the limit is {limit}; split it")]
    MapEntries {
        /// How many it has.
        entries: usize,
        /// [`MAX_MAP_ENTRIES`].
        limit: usize,
    },
    /// A range's bounds are of two kinds, so nothing could lie between them.
    #[error("a range from {low} to {high} matches nothing; give both bounds the same kind")]
    RangeKinds {
        /// The kind of the lower bound.
        low: Kind,
        /// The kind of the upper bound.
        high: Kind,
    },
    /// A range's lower bound lies above its upper bound, or they exclude each other.
    #[error("an empty range of {kind} matches nothing; put the lower bound below the upper")]
    RangeEmpty {
        /// The kind of both bounds.
        kind: Kind,
    },
    /// A range without bounds, which has no kind.
    #[error("a range without bounds; give one, or match any value instead")]
    RangeUnbounded,
}

/// Checks the name of a workspace, variable or actor.
///
/// # Errors
///
/// [`LimitError::Name`] when it is longer than [`MAX_NAME_BYTES`].
pub fn check_name(name: &str) -> Result<(), LimitError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(LimitError::Name {
            bytes: name.len(),
            limit: MAX_NAME_BYTES,
        });
    }
    Ok(())
}
