//! Ballots, and what a member says of itself.

use serde::{Deserialize, Serialize};

/// One attempt to lead a group in one epoch. Ordered by round, then by node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot<N> {
    /// Raised with each attempt.
    pub round: u32,
    /// Whose attempt it is.
    pub node: N,
}

/// The durable record of a member: what it must not forget over a restart (rules R10 and R13).
///
/// It stays on disk when the member leaves the group: its epoch tells which epochs the node must
/// never enter again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hard<N> {
    /// The epoch this record belongs to, and the highest one ever joined. It never falls.
    pub epoch: u64,
    /// No ballot below this one gets anything accepted here any more.
    pub promised: Option<Ballot<N>>,
    /// The ballot that the log was accepted under.
    pub accepted: Option<Ballot<N>>,
}

/// What a member answers when another asks whether it is there (rule R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat<N> {
    /// The ballot it would lead with.
    pub ballot: Ballot<N>,
    /// Whether it hears a majority; without one it is no candidate.
    pub quorum: bool,
}
