//! The replicated tuple space of CPE, without I/O.
//!
//! What only grows needs no agreement: a store is an add to a CRDT, accepted anywhere. What must
//! happen once is decided by the *home* of the shard that owns the variable, and the home's
//! decided history is itself the CRDT's causal metadata: one index per shard, no tombstones. A
//! replica that holds the first `i` entries knows that a tuple whose index is at most `i` and that
//! is not there was taken.
//!
//! This crate holds the values, the history and the rules for combining replicas. Who decides,
//! and how messages travel, is the business of `cpe-mesh`.
//!
//! - [`Sm`], the deterministic state machine of a shard: apply a [`Command`], get an [`Applied`];
//! - [`Shard`], one replica: decided prefix, log, pending adds, [`Shard::feed`] and
//!   [`Shard::merge`];
//! - [`Entry`], an encoded command and the chain hash over the history;
//! - [`Sketch`] and [`Decoder`], how two sets of indices differ, for replicas whose logs no longer
//!   meet.
//!
//! # Example
//! ```
//! use cpe_membership::{Incarnation, Member, NodeId};
//! use cpe_space::{Applied, Command, Config, Dot, Entry, Name, Shard, ShardId};
//! use cpe_tuple::{Template, Tuple, Value};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let me = Member { node: NodeId(1), inc: Incarnation(1) };
//! let mut home = Shard::new(ShardId(0), Config { epoch: 1, members: vec![me] });
//! let command = Command::Admit {
//!     dot: Dot { origin: me, n: 1 },
//!     workspace: Name::new("jobs")?,
//!     tuple: Tuple::new(vec![Value::from("job"), Value::from(17)])?,
//! };
//! let entry = Entry::new(&command)?;
//! assert!(matches!(home.push(entry.clone(), &command), Applied::Added { index: 1, .. }));
//!
//! // Another replica applies the same entry from a feed and is equal.
//! let mut replica = Shard::new(ShardId(0), Config { epoch: 1, members: vec![me] });
//! replica.feed(0, &[entry], |_, _, _| {})?;
//! assert_eq!(replica.sm(), home.sm());
//! assert!(replica.find(&Name::new("jobs")?, &Template::named("job")?).is_some());
//! # Ok(())
//! # }
//! ```

mod actor;
mod bound;
mod command;
mod entry;
mod guard;
mod host;
mod ids;
mod lease;
mod machine;
mod mode;
mod outbox;
mod ranges;
mod shard;
mod sketch;
mod take;
mod tuples;
mod variable;
mod volatile;

pub use actor::{
    ActorRecord, Kept, MARKED_MAX, MAX_MARKS, MAX_NEEDS, Mark, Marked, SNAPSHOT_BYTES_MAX, Sender,
};
pub use bound::{After, Bound, Terms};
pub use command::{Command, Fate, Outcome};
pub use entry::{Entry, MAX_ENTRY_BYTES};
#[cfg(feature = "mutants")]
pub use guard::{Guard, without};
pub use host::{HostRecord, NODE_LEASE_MAX, NODE_LEASE_MIN};
pub use ids::{
    Config, Dot, Name, NameError, OpId, Session, ShardId, shard_of, variable_in, variable_of,
};
pub use lease::{
    LEASE_TTL_MAX, LEASE_TTL_MIN, Lease, LeaseAct, LeaseEnd, LeaseId, MAX_ENDED_LEASES,
    MAX_LEASED_BYTES, MAX_LEASES,
};
pub use machine::{Applied, Live, MAX_UNACKNOWLEDGED_BYTES, Refers, Sm};
pub use mode::{Mode, UnknownMode};
pub use outbox::{Effect, MAX_EMITTERS, OUTBOX_BYTES_MAX, OUTBOX_MAX, Outbox, Sent};
pub use ranges::RangeSet;
pub use shard::{FeedError, Item, MAX_AHEAD_BYTES, MAX_AHEAD_ENTRIES, MAX_PENDING, Shard, Version};
pub use sketch::{Decoder, Difference, Inconsistent, MAX_SYMBOLS, Scale, Sketch, Symbol};
pub use take::{
    MAX_TAKERS, MAX_UNRECEIVED_BYTES, OpenTake, Standing, TAKES_MAX, Taker, Takes, Taking,
};
pub use variable::{Life, Variable};
pub use volatile::{VOLATILE_PREFIX, first_of, generation_of};
