//! How replicas follow the homes (space.md, 1.3), in four tiers; each is tried where the one before
//! does not do.
//!
//! 0. `digest`: peers compare where their replicas stand, and know who is behind.
//! 1. `suffix`: whoever is behind gets the entries it lacks, by gossip or because it asked.
//! 2. `fetch` from another's `offer`: where no log reaches back that far, the outline of a state,
//!    the tuples that are newer than the replica, and a sketch by which it learns what of the
//!    older ones is gone or came back.
//! 3. The same without the sketch: all tuples, where little of the replica is still true.
//!
//! `pull` decides who asks whom for what, and how much goes on at a time; `install` makes a state
//! the replica's. A state counts only as a whole and only if it is, to the byte, the one that was
//! offered. Whatever goes wrong on the way costs time, not correctness: a replica is never changed
//! but by the next entry of its history or by a whole state.

mod digest;
mod fetch;
mod install;
mod offer;
mod pull;
mod suffix;

pub(crate) use offer::Offers;
pub(crate) use pull::{Places, Pull};

/// Entries. No history reaches half of all numbers: an index beyond is not believed.
pub(crate) const MAX_INDEX: u64 = u64::MAX / 2;

/// Symbols sent along with the first answer: enough for about four differences.
const FIRST_SYMBOLS: usize = 8;

/// Symbols in one message: some 70 kB.
const MAX_PART_SYMBOLS: usize = 4_096;

/// Tuples asked for by index in one message.
const MAX_BODIES: usize = 2_048;

/// Bytes of one part of a state: of its outline, and of tuples but for the last one.
const PART_BYTES: usize = 256 * 1024;

/// Bytes. The largest outline of a state, unpacked: eight times what a shard may hold, so that what
/// a home once admitted can be fetched.
const MAX_OUTLINE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
