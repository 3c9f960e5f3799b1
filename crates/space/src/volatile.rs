//! Volatile shards: which workspaces live in them, and how their generations are told apart.
//!
//! A volatile shard is kept in memory alone. When the majority of its home group is lost, so is
//! what it held, and its next *generation* begins empty. Every number that belongs to a generation,
//! be it an index of its history, an epoch, the count of a store or of an operation, begins anew
//! above all those of earlier ones: whatever was under way then cannot be taken for something of
//! now.

/// What the names of volatile workspaces begin with. It needs no quotes in a shell and no escape
/// in a path of a URL, and hardly any name has it by chance.
pub const VOLATILE_PREFIX: &str = "tmp:";

/// Bits of a number that count within a generation: at 100,000 entries a second, enough for four
/// months. The 23 bits above them, without the sign that no index has, count generations.
const GENERATION_BITS: u32 = 40;

/// The generation a number is of: 0 for all numbers of durable shards.
#[must_use]
pub const fn generation_of(number: u64) -> u64 {
    number >> GENERATION_BITS
}

/// The number before the first of a generation, and its first epoch.
#[must_use]
pub const fn first_of(generation: u64) -> u64 {
    generation << GENERATION_BITS
}
