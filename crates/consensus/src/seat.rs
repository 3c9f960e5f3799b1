//! Which epochs a node may enter (rules R11 to R13).

use crate::guard::{Guard, Guards};
use crate::{Entry, Group, Hard, Output};

/// The state that a node's replica durably holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The epoch of the configuration in that state: the seals it has applied tell.
    pub epoch: u64,
    /// Its index.
    pub index: u64,
}

/// An epoch was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The node is no member of it.
    #[error("this node is not a member in epoch {epoch}: follow the shard as an observer")]
    Stranger {
        /// The epoch.
        epoch: u64,
    },
    /// The node was in it, or in a later one, and may have voted (rule R13).
    #[error("epoch {epoch} was joined or passed before: wait for a later one")]
    Joined {
        /// The epoch.
        epoch: u64,
    },
    /// A later epoch is known (rule R13).
    #[error("epoch {epoch} is over: epoch {heard} is known")]
    Over {
        /// The epoch.
        epoch: u64,
        /// The highest epoch heard of.
        heard: u64,
    },
    /// The replica has not reached the epoch (rule R12).
    #[error("the state held is of epoch {held}, not {epoch}: fetch it first")]
    State {
        /// The epoch.
        epoch: u64,
        /// The epoch of the state.
        held: u64,
    },
}

/// A node's place in the group of one shard, over all epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat<N, E> {
    me: N,
    /// No epoch up to this one may be opened (rule R13). It is on disk: the record's epoch.
    joined: u64,
    /// The highest epoch heard of.
    heard: u64,
    group: Option<Group<N, E>>,
    guards: Guards,
}

impl<N: Copy + Ord, E: Entry> Seat<N, E> {
    /// A node that was never in a group of this shard.
    #[must_use]
    pub fn new(me: N) -> Self {
        Self {
            me,
            joined: 0,
            heard: 0,
            group: None,
            guards: Guards::default(),
        }
    }

    /// A node after a restart: its record, the state its replica holds and the members that this
    /// state names, and its entries after that state, of which it knows those up to `decided` to
    /// be decided (rule R10).
    ///
    /// It is back in the group if the record and the state are of the same epoch.
    #[must_use]
    pub fn restore(
        me: N,
        hard: Hard<N>,
        held: Held,
        members: Vec<N>,
        log: Vec<E>,
        decided: u64,
    ) -> Self {
        let mut seat = Self::new(me);
        seat.joined = hard.epoch;
        seat.heard = hard.epoch.max(held.epoch);
        if held.epoch == hard.epoch && members.contains(&me) {
            let group = Group::restore(me, members, hard, held.index, log, decided);
            seat.group = Some(group);
        }
        seat
    }

    /// The same node with one guard of the protocol taken out.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn without(mut self, guard: Guard) -> Self {
        self.guards.off = Some(guard);
        if let Some(group) = &mut self.group {
            group.guards = self.guards;
            if guard == Guard::Remember {
                group.forget();
            }
        }
        self
    }

    /// An epoch exists: earlier ones are not opened any more (rule R13).
    pub fn hear(&mut self, epoch: u64) {
        self.heard = self.heard.max(epoch);
        let is_old = |group: &Group<N, E>| group.epoch() < epoch;
        let drops = !self.guards.hold(Guard::VoteOn) || !self.guards.hold(Guard::Joined);
        if drops && self.group.as_ref().is_some_and(is_old) {
            self.group = None;
        }
    }

    /// The replica holds this state: it is on disk, or its write was handed over before what comes
    /// out here. Within the group's epoch the group learns it; past that epoch the node's part in
    /// the group is over, whether or not it opens the next.
    ///
    /// Until then a member votes on, even if it knows of a later epoch without it: those who know
    /// the seal to be decided may be gone, and then the others must be able to decide it again.
    /// It does no harm, for every later leader has the seal in its log.
    pub fn hold(&mut self, held: Held, out: &mut Vec<Output<N, E>>) {
        let Some(group) = &mut self.group else {
            return;
        };
        if held.epoch == group.epoch() {
            group.learn(held.index, out);
        } else if held.epoch > group.epoch() {
            group.step_down(out);
            self.group = None;
            // Whatever becomes of the log now: after a restart this part must not come back.
            self.joined = self.joined.max(held.epoch - 1);
            out.push(Output::Hard(Hard {
                epoch: self.joined,
                promised: None,
                accepted: None,
            }));
        }
    }

    /// Enters an epoch with the state that the replica holds, in the sense of
    /// [`hold`](Self::hold). The group of an earlier epoch is dropped.
    ///
    /// # Errors
    ///
    /// [`Refusal`], and nothing has changed.
    pub fn open(
        &mut self,
        epoch: u64,
        members: Vec<N>,
        held: Held,
        out: &mut Vec<Output<N, E>>,
    ) -> Result<&mut Group<N, E>, Refusal> {
        if !members.contains(&self.me) {
            return Err(Refusal::Stranger { epoch });
        }
        if epoch <= self.joined && self.guards.hold(Guard::Joined) {
            return Err(Refusal::Joined { epoch }); // R13
        }
        let is_over = epoch < self.heard && self.guards.hold(Guard::Joined);
        if is_over && self.guards.hold(Guard::Heard) {
            let heard = self.heard;
            return Err(Refusal::Over { epoch, heard }); // R13
        }
        if held.epoch != epoch && self.guards.hold(Guard::HoldState) {
            let held = held.epoch;
            return Err(Refusal::State { epoch, held }); // R12
        }
        if let Some(old) = &mut self.group {
            old.step_down(out);
        }
        let mut group = Group::new(self.me, epoch, members, held.index);
        group.guards = self.guards;
        self.joined = epoch;
        self.heard = self.heard.max(epoch);
        group.write_hard(out); // R13: before any vote
        if self.guards.hold(Guard::ForgetTail) {
            out.push(Output::Append {
                after: held.index,
                entries: Vec::new(),
            });
        }
        Ok(self.group.insert(group))
    }

    /// The group this node takes part in.
    #[must_use]
    pub fn group(&self) -> Option<&Group<N, E>> {
        self.group.as_ref()
    }

    /// The same, to give it input.
    pub fn group_mut(&mut self) -> Option<&mut Group<N, E>> {
        self.group.as_mut()
    }

    /// The highest epoch that was joined or is closed to this node.
    #[must_use]
    pub fn joined(&self) -> u64 {
        self.joined
    }

    /// The highest epoch heard of.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard
    }
}
