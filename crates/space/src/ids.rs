//! The names of things in the space (space.md, section 2.3).

use std::fmt;
use std::sync::Arc;

use cpe_membership::Member;
use cpe_tuple::{Tuple, Value, limits::MAX_NAME_BYTES};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One of the mesh's shards: an independent history with a home of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a workspace, 1 to [`MAX_NAME_BYTES`] bytes of UTF-8; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty.
    #[error("a workspace's name must not be empty")]
    Empty,
    /// It is too long.
    #[error("a workspace's name of {0} bytes is too long: use at most {MAX_NAME_BYTES}")]
    TooLong(usize),
}

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// When it is empty or longer than [`MAX_NAME_BYTES`].
    pub fn new(name: &str) -> Result<Self, NameError> {
        match name.len() {
            0 => Err(NameError::Empty),
            n if n > MAX_NAME_BYTES => Err(NameError::TooLong(n)),
            _ => Ok(Self(name.into())),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for a workspace whose tuples live in memory alone: its name begins with
    /// [`VOLATILE_PREFIX`](crate::VOLATILE_PREFIX).
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        self.0.starts_with(crate::VOLATILE_PREFIX)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

/// One store: the `n`-th that `origin` made to a shard in this life, counted from 1.
///
/// Homes admit the stores of one origin in this order and none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who stored.
    pub origin: Member,
    /// Its count of stores to the shard.
    pub n: u64,
}

/// One run of a node's program, the scope of its operation numbers.
///
/// A node raises `boot` at every start, durably and before its first operation, so that numbers
/// never repeat. Ordered by age for the same node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session {
    /// The node and its life.
    pub member: Member,
    /// Which start of that life.
    pub boot: u32,
}

/// One operation that must happen at most once (decision D4): a retry carries the same id and
/// gets the same outcome. `seq` counts from 1 per session *and shard*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId {
    /// Who asks.
    pub session: Session,
    /// Which of its operations on the shard.
    pub seq: u64,
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}",
            self.session.member, self.session.boot, self.seq
        )
    }
}

/// The home group of a shard in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Counts the home groups the shard has had, from 1.
    pub epoch: u64,
    /// Its members: one, three or five.
    pub members: Vec<Member>,
}

impl Config {
    /// The most members a home group has.
    pub const MAX_MEMBERS: usize = 5;
}

/// The variable a tuple belongs to within its workspace: its first field, or null if it has none.
#[must_use]
pub fn variable_in(tuple: &Tuple) -> &Value {
    tuple.first().unwrap_or(&Value::Null)
}

/// The same, to keep.
#[must_use]
pub fn variable_of(tuple: &Tuple) -> Value {
    variable_in(tuple).clone()
}

/// The shard that owns a variable: `BLAKE3(workspace, 0, CBOR of the variable) mod shards`.
///
/// # Panics
/// Never: a value within its limits can be encoded.
#[must_use]
pub fn shard_of(workspace: &Name, variable: &Value, shards: u16) -> ShardId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(workspace.as_str().as_bytes());
    hasher.update(&[0]);
    // A value that could be made can be encoded; should that ever fail, the shard of the
    // workspace alone is still the same on every node.
    if let Ok(bytes) = cpe_tuple::codec::encode(variable) {
        hasher.update(&bytes);
    }
    let hash = hasher.finalize();
    let mut low = [0_u8; 8];
    for (to, from) in low.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    let shard = u64::from_be_bytes(low) % u64::from(shards.max(1));
    ShardId(u16::try_from(shard).unwrap_or(0))
}
