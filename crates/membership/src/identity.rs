//! The identity SWIM sees.

use crate::{Incarnation, Member, NodeId};

/// A node in one of its lives, and how often that life was wrongly declared dead.
///
/// A false alarm must not cost a node its incarnation (its durable state is intact), so SWIM's own
/// way back, a fresh identity, is a third number that only this crate sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SwimId {
    pub(crate) node: NodeId,
    pub(crate) inc: Incarnation,
    pub(crate) bump: u32,
}

impl SwimId {
    pub(crate) fn new(member: Member) -> Self {
        Self {
            node: member.node,
            inc: member.inc,
            bump: 0,
        }
    }

    pub(crate) fn member(self) -> Member {
        Member {
            node: self.node,
            inc: self.inc,
        }
    }

    /// The identity `step` bumps later; `None` when the numbers are used up.
    pub(crate) fn bumped(self, step: u32) -> Option<Self> {
        Some(Self {
            bump: self.bump.checked_add(step)?,
            ..self
        })
    }
}

impl foca::Identity for SwimId {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        self.bumped(1)
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.inc, self.bump) > (adversary.inc, adversary.bump)
    }
}
