//! Who should lead, by heartbeats alone (rules R1 and R2). A wrong answer costs time, never safety.

use std::collections::BTreeMap;

use crate::{Ballot, Heartbeat};

/// Rounds that a change must last before it is acted upon. Without it, late packets elect leaders:
/// one in twenty delayed by up to three rounds gave 76 elections a minute.
pub(crate) const PATIENCE: u32 = 4;

/// What a round of heartbeats led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No change.
    Same,
    /// Another member leads now.
    Other,
    /// This member should lead: prepare.
    Own,
    /// No majority is heard any more.
    Alone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Election<N> {
    majority: usize,
    own: Ballot<N>,
    leader: Option<Ballot<N>>,
    quorum: bool,
    /// Rounds without a majority.
    alone: u32,
    /// Rounds in which nobody reached the leader's ballot.
    missed: u32,
    /// Rounds in which this member should lead and could not.
    preempted: u32,
    /// Start over in the next round.
    retry: bool,
}

impl<N: Copy + Ord> Election<N> {
    pub(crate) fn new(own: Ballot<N>, majority: usize) -> Self {
        Self {
            majority,
            own,
            leader: None,
            quorum: true,
            alone: 0,
            missed: 0,
            preempted: 0,
            retry: false,
        }
    }

    pub(crate) fn own(&self) -> Ballot<N> {
        self.own
    }

    pub(crate) fn leader(&self) -> Option<Ballot<N>> {
        self.leader
    }

    pub(crate) fn heartbeat(&self) -> Heartbeat<N> {
        Heartbeat {
            ballot: self.own,
            quorum: self.quorum,
        }
    }

    /// Raises the own ballot above a round (rule R10).
    pub(crate) fn raise(&mut self, round: u32) {
        self.own.round = self.own.round.max(round).saturating_add(1);
    }

    /// Start over in the next round, if this member is still to lead.
    pub(crate) fn retry(&mut self) {
        self.retry = true;
    }

    /// One round is over. `floor` is the highest ballot known to be promised, `leading` whether
    /// this member prepares or leads.
    pub(crate) fn round(
        &mut self,
        others: &BTreeMap<N, Heartbeat<N>>,
        floor: Option<Ballot<N>>,
        leading: bool,
    ) -> Verdict {
        if others.len() + 1 < self.majority {
            self.alone = self.alone.saturating_add(1);
            if self.alone < PATIENCE {
                return Verdict::Same;
            }
            self.quorum = false; // R1
            return Verdict::Alone;
        }
        self.alone = 0;
        self.quorum = true;
        if self.leader == Some(self.own) && (!leading || floor > Some(self.own)) {
            self.preempted += 1;
            if self.preempted >= PATIENCE || self.retry {
                self.bump(floor); // R2
            }
        } else {
            self.preempted = 0;
        }
        self.retry = false;
        let heard = others.values().filter(|other| other.quorum);
        let top = heard.fold(self.own, |top, other| top.max(other.ballot));
        if Some(top) < self.leader {
            self.missed += 1;
            if self.missed >= PATIENCE {
                self.bump(floor); // R2: elected in the next round, if nobody is higher
            }
            return Verdict::Same;
        }
        self.missed = 0;
        if Some(top) == self.leader {
            return Verdict::Same;
        }
        self.leader = Some(top);
        if top == self.own {
            Verdict::Own
        } else {
            Verdict::Other
        }
    }

    fn bump(&mut self, floor: Option<Ballot<N>>) {
        self.missed = 0;
        self.preempted = 0;
        let highest = self.leader.max(floor).map_or(0, |ballot| ballot.round);
        self.own.round = highest.max(self.own.round).saturating_add(1);
    }
}
