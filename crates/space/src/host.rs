//! Lives of nodes as hosts of actors (rules A1 and A2): what of a node's lease is decided.
//!
//! A node that hosts actors *enlists*: its home gives it a life, a number that it has had never
//! before. While the node renews its lease, which no history knows of, the life goes on. A life
//! ends by [`Void`](crate::Command::Void), decided when the leader's clock ran out or the node said
//! good-bye, or because the node enlisted anew. An end is for ever: whoever has seen it in any
//! replica may rely on it.

use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeId};
use serde::{Deserialize, Serialize};

use crate::guard::{Guard, holds};
use crate::{Applied, OpId, Outcome, Session, Sm};

/// The shortest lease of a node. 1 s: below it a slow disk, or one election, ends lives.
pub const NODE_LEASE_MIN: Duration = Duration::from_secs(1);

/// The longest lease of a node. A minute: so long the actors of a node that died are missing.
pub const NODE_LEASE_MAX: Duration = Duration::from_secs(60);

/// What is decided of a node as a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its newest life, from 1. All earlier ones are over.
    life: Incarnation,
    /// The start of the node that was given it.
    session: Session,
    /// Milliseconds. The lease: how long the life goes on without being renewed.
    lease_ms: u64,
    alive: bool,
}

impl HostRecord {
    /// How long the life goes on without being renewed.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// The newest life, if it is not over.
    #[must_use]
    pub fn living(&self) -> Option<Member> {
        self.alive.then_some(Member {
            node: self.session.member.node,
            inc: self.life,
        })
    }

    /// The newest life that is over; 0 when none is.
    #[must_use]
    pub fn newest_over(&self) -> Incarnation {
        Incarnation(self.life.0.saturating_sub(u32::from(self.alive)))
    }

    /// Whether a life of this node is over. One that was not given yet is not.
    #[must_use]
    pub fn is_over(&self, life: Incarnation) -> bool {
        life < self.life || (life == self.life && !self.alive)
    }
}

impl Sm {
    /// Nodes that host actors, in order.
    pub fn hosts(&self) -> impl Iterator<Item = (NodeId, &HostRecord)> {
        self.hosts.iter().map(|(node, record)| (*node, record))
    }

    /// A node as a host, if it has enlisted.
    #[must_use]
    pub fn host(&self, node: NodeId) -> Option<&HostRecord> {
        self.hosts.get(&node)
    }

    /// A start of a node wants to host actors: it is given a life.
    ///
    /// An earlier life ends at once if it was of the same data folder, which one process has at a
    /// time. One of a folder that was lost may still go on somewhere: it has to run out.
    pub(crate) fn enlist(&mut self, op: OpId, lease_ms: u64) -> Applied {
        let session = op.session;
        let node = session.member.node;
        let before = self.hosts.get(&node);
        if let Some(other) = before.and_then(HostRecord::living)
            && before.is_some_and(|it| it.session.member != session.member)
        {
            return self.conclude(op, Outcome::StillAlive(other), None);
        }
        let bounds = (NODE_LEASE_MIN.as_millis(), NODE_LEASE_MAX.as_millis());
        let lease_ms = u128::from(lease_ms).clamp(bounds.0, bounds.1);
        let record = HostRecord {
            life: Incarnation(before.map_or(0, |it| it.life.0).saturating_add(1)),
            session,
            lease_ms: u64::try_from(lease_ms).unwrap_or(u64::MAX),
            alive: true,
        };
        let life = Member {
            node,
            inc: record.life,
        };
        self.hosts.insert(node, record);
        self.conclude(op, Outcome::Enlisted(life), None)
    }

    /// A life is over (rule A2): for ever, as no other command makes a record alive again.
    pub(crate) fn void(&mut self, life: Member) -> Applied {
        match self.hosts.get_mut(&life.node) {
            Some(record) if record.life == life.inc && record.alive => {
                record.alive = !holds(Guard::VoidForEver);
                Applied::Voided(life)
            }
            _ => Applied::Nothing,
        }
    }
}
