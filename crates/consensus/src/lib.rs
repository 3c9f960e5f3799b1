//! One replicated log, agreed by the one, three or five members of a home group.
//!
//! [`Group`] is one member's part in one epoch: it elects a leader by heartbeats, replicates the
//! leader's entries and says which of them a majority has on disk. An epoch has a fixed list of
//! members and ends with an entry that seals it; [`Seat`] decides which epoch a node may enter
//! next. The protocol is ballot leader election and Sequence Paxos, as Omni-Paxos has them (Ng,
//! Haridi, Carbone: *Omni-Paxos: Breaking the Barriers of Partial Connectivity*, EuroSys 2023),
//! with the rules R1 to R13 of this project's plan. Code that enforces a rule names it.
//!
//! It does no I/O, has no clock and draws no entropy: messages, the results of heartbeat rounds
//! and the end of writes come in, [`Output`]s come out. It knows nothing of what entries mean and
//! keeps no state made of them: applying decided entries, snapshots and bringing a member up to
//! date that fell behind are the caller's.
//!
//! There are four kinds of calls. *Inputs*: [`receive`](Group::receive), [`tick`](Group::tick),
//! [`propose`](Group::propose), [`confirm`](Group::confirm), [`learn`](Group::learn),
//! [`persisted`](Group::persisted). After a batch of them, one [`flush`](Group::flush). *Upkeep*:
//! [`trim`](Group::trim). *Views*: the rest.
//!
//! ```
//! use cpe_consensus::{Entry, Group, Output};
//!
//! #[derive(Clone, Debug, PartialEq)]
//! struct Word(&'static str);
//! impl Entry for Word {
//!     fn seals(&self) -> bool {
//!         self.0 == "end"
//!     }
//!     fn size(&self) -> usize {
//!         self.0.len()
//!     }
//! }
//!
//! let mut group = Group::new(7, 1, vec![7], 0);
//! let mut out = Vec::new();
//! group.tick(&[], &mut out);
//! assert!(group.is_leader());
//! let index = group.propose(Word("hello"), &mut out).expect("it leads");
//! group.flush(&mut out);
//! assert_eq!(group.decided(), 0);
//!
//! // The caller writes everything in `out`; once it is on disk it hands the marks back.
//! let marks: Vec<_> = out
//!     .drain(..)
//!     .filter_map(|output| if let Output::Mark(mark) = output { Some(mark) } else { None })
//!     .collect();
//! for mark in marks {
//!     group.persisted(mark, &mut out);
//! }
//! assert_eq!(out, [Output::Decided(index)]);
//! assert_eq!(group.entry(index), Some(&Word("hello")));
//! ```

mod ballot;
mod confirm;
mod election;
mod follower;
mod group;
mod guard;
mod leader;
mod log;
mod message;
mod seat;
#[cfg(test)]
mod tests;

pub use ballot::{Ballot, Hard, Heartbeat};
pub use confirm::MAX_TICKETS;
pub use group::{Group, MAX_TAIL, MAX_TAIL_BYTES};
#[cfg(feature = "mutants")]
pub use guard::Guard;
pub use leader::{MAX_IN_FLIGHT, MAX_MESSAGE_BYTES};
pub use message::{Entry, Mark, Message, Output, Refused};
pub use seat::{Held, Refusal, Seat};
