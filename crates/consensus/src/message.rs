//! What members tell each other, and what a group wants from its caller.

use serde::{Deserialize, Serialize};

use crate::{Ballot, Hard};

/// An entry of the log.
pub trait Entry: Clone {
    /// True for the entry that ends the epoch (rule R11).
    fn seals(&self) -> bool;

    /// Bytes, for the bounds.
    fn size(&self) -> usize;
}

/// A message between two members of a group in one epoch. It may be lost, duplicated, delayed or
/// overtaken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Message<N, E> {
    /// "May I lead with this ballot?", with what the candidate has.
    Prepare {
        /// The candidate's ballot.
        ballot: Ballot<N>,
        /// The index up to which it knows the log to be decided.
        decided: u64,
        /// The ballot it accepted its log under.
        accepted: Option<Ballot<N>>,
        /// The index of its last entry.
        len: u64,
    },
    /// "Yes", with what the candidate lacks (rule R3).
    Promise {
        /// The candidate's ballot.
        ballot: Ballot<N>,
        /// The ballot the sender accepted its log under.
        accepted: Option<Ballot<N>>,
        /// The index of the sender's last entry.
        len: u64,
        /// The index up to which the sender knows the log to be decided.
        decided: u64,
        /// The index before the suffix.
        from: u64,
        /// The entries after `from`.
        suffix: Vec<E>,
    },
    /// The whole rest of the new leader's log (rule R6).
    Sync {
        /// The leader's ballot.
        ballot: Ballot<N>,
        /// The index before the suffix.
        from: u64,
        /// All of the leader's entries after `from`.
        suffix: Vec<E>,
        /// The index up to which the log is decided.
        decided: u64,
    },
    /// Entries to accept (rule R7); none when there is only news of `decided`.
    Accept {
        /// The leader's ballot.
        ballot: Ballot<N>,
        /// The index before the entries.
        from: u64,
        /// The entries after `from`.
        entries: Vec<E>,
        /// The index up to which the log is decided.
        decided: u64,
    },
    /// What is on the sender's disk of the leader's log (rule R8).
    Accepted {
        /// The leader's ballot.
        ballot: Ballot<N>,
        /// The index of the sender's last entry.
        len: u64,
        /// The index up to which the sender knows the log to be decided.
        decided: u64,
        /// An `Accept` arrived that begins beyond `len`: something was lost.
        gap: bool,
    },
    /// "Prepare me": the sender has no log of the leader's ballot.
    NeedPrepare,
    /// "I promised a higher ballot": the leader must raise its own to be heard.
    Refuse {
        /// The promised ballot.
        promised: Ballot<N>,
    },
    /// "Fetch what is decided, up to here, before we go on" (rule R4).
    CatchUp {
        /// The index up to which the sender has the decided log or its state.
        decided: u64,
    },
    /// "Have you promised anyone else?" (rule R19)
    Confirm {
        /// The leader's ballot.
        ballot: Ballot<N>,
        /// The leader's number of this question.
        round: u64,
    },
    /// "Nobody else."
    Confirmed {
        /// The leader's ballot.
        ballot: Ballot<N>,
        /// The number of the question.
        round: u64,
    },
}

/// What a group wants done, in order.
///
/// The writes ([`Hard`](Self::Hard), [`Append`](Self::Append)) of one call to the group belong
/// together: after a crash either all of them are there or none, and none without all those
/// of earlier calls.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output<N, E> {
    /// Write this record over the last one.
    Hard(Hard<N>),
    /// Write: forget the entries beyond `after`, then append.
    Append {
        /// The index before the first entry.
        after: u64,
        /// The entries with the indexes `after + 1` and on.
        entries: Vec<E>,
    },
    /// Send.
    Send {
        /// To whom.
        to: N,
        /// What.
        message: Message<N, E>,
        /// Only once every write emitted before it is on disk; else it may leave at once.
        durable: bool,
    },
    /// Call [`Group::persisted`](crate::Group::persisted) with it once every write emitted before
    /// it is on disk.
    Mark(Mark<N>),
    /// The log is decided up to this index: apply what is new.
    Decided(u64),
    /// A peer has decided entries that this member lacks: fetch them or the state, then call
    /// [`Group::learn`](crate::Group::learn). Repeated while it is so.
    Behind {
        /// Who has them.
        peer: N,
        /// Up to where, at least.
        index: u64,
    },
    /// This member leads and takes proposals.
    Lead,
    /// It no longer does: what it proposed may or may not be decided, and tickets that were not
    /// confirmed never will be.
    Follow,
    /// A ticket of [`Group::confirm`](crate::Group::confirm): whoever applied the log up to `index`
    /// has seen everything that was decided before the ticket was drawn.
    Confirmed {
        /// The ticket.
        ticket: u64,
        /// The index to have applied. It is decided.
        index: u64,
    },
}

/// How far the leader's own log is on disk, once it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<N> {
    pub(crate) ballot: Ballot<N>,
    pub(crate) len: u64,
}

/// A proposal was not taken. It is certain that it will never be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused<N, E> {
    /// Another member leads, or none.
    #[error("this member does not lead the group: propose to its leader")]
    NotLeader {
        /// Who seems to lead.
        hint: Option<N>,
        /// The proposal.
        entry: E,
    },
    /// The epoch is ending.
    #[error("the epoch is sealed: propose in the next one")]
    Sealed {
        /// The proposal.
        entry: E,
    },
    /// Too much is undecided.
    #[error("too many entries wait for a majority: propose again when some are decided")]
    Full {
        /// The proposal.
        entry: E,
    },
}
