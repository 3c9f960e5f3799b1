//! Who waits at a home: in lines, by what is waited for, and each found by its operation.
//!
//! Clients of parked takes ask again to show that they live, and may leave at any time. With many
//! of them in one line, each must be found without a look at the others. Those whose node is out
//! of sight stand in no line: what they took could reach nobody. Who asks again has its old turn.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::{Name, OpId, Session};
use cpe_tuple::Value;

use super::Waiter;

/// Workspace, and variable if only one will do.
pub(super) type Place = (Name, Option<Value>);

/// A line of waiters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) place: Place,
    /// Those who want a copy.
    pub(super) leaves: bool,
}

/// A place in a line: lower ones come first.
pub(super) type Turn = u64;

/// All who wait.
#[derive(Debug, Default)]
pub(super) struct Parked {
    ops: BTreeMap<OpId, (Line, Turn)>,
    /// None is empty.
    lines: BTreeMap<Line, BTreeMap<Turn, Waiter>>,
    /// Those who are in no line because their node is out of sight.
    away: BTreeMap<OpId, (Turn, Waiter)>,
    /// The last turn given.
    last: Turn,
    #[cfg(test)]
    pub(super) looks: std::cell::Cell<usize>,
}

impl Parked {
    pub(super) fn len(&self) -> usize {
        self.ops.len() + self.away.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.away.is_empty()
    }

    pub(super) fn contains(&self, op: OpId) -> bool {
        self.ops.contains_key(&op) || self.away.contains_key(&op)
    }

    /// True for a line with somebody in it.
    pub(super) fn has(&self, line: &Line) -> bool {
        self.lines.contains_key(line)
    }

    /// The turn of one who arrives: behind all who came before, whatever becomes of it.
    pub(super) fn arrive(&mut self) -> Turn {
        self.last += 1;
        self.last
    }

    /// Adds one to its line, at its turn; or to those away, if it is.
    pub(super) fn add(&mut self, turn: Turn, waiter: Waiter) {
        let (op, line) = (waiter.op, waiter.line());
        self.remove(op);
        if waiter.away {
            self.away.insert(op, (turn, waiter));
            return;
        }
        self.ops.insert(op, (line.clone(), turn));
        self.lines.entry(line).or_default().insert(turn, waiter);
    }

    pub(super) fn remove(&mut self, op: OpId) -> Option<Waiter> {
        if let Some((_, waiter)) = self.away.remove(&op) {
            return Some(waiter);
        }
        let (line, turn) = self.ops.remove(&op)?;
        self.looked();
        let queue = self.lines.get_mut(&line)?;
        let waiter = queue.remove(&turn);
        if queue.is_empty() {
            self.lines.remove(&line);
        }
        waiter
    }

    /// Its client was heard: from now on it is in its line.
    pub(super) fn refresh(&mut self, op: OpId, seen: Duration) {
        self.looked();
        if let Some((turn, mut waiter)) = self.away.remove(&op) {
            (waiter.seen, waiter.away) = (seen, false);
            return self.add(turn, waiter);
        }
        let spot = self.ops.get(&op);
        let queue = spot.and_then(|(line, turn)| self.lines.get_mut(line)?.get_mut(turn));
        if let Some(waiter) = queue {
            waiter.seen = seen;
        }
    }

    /// The next of a line, from this turn on.
    pub(super) fn next(&self, line: &Line, from: Turn) -> Option<(Turn, &Waiter)> {
        self.looked();
        let (turn, waiter) = self.lines.get(line)?.range(from..).next()?;
        Some((*turn, waiter))
    }

    /// The lines of a workspace: all, or those for a variable.
    pub(super) fn lines_of(&self, workspace: &Name, variable: Option<&Value>) -> Vec<Line> {
        let from = Line {
            place: (workspace.clone(), None),
            leaves: false,
        };
        let there = self.lines.range(&from..).map(|(line, _)| line);
        there
            .take_while(|line| line.place.0 == *workspace)
            .filter(|line| variable.is_none() || line.place.1.as_ref() == variable)
            .cloned()
            .collect()
    }

    /// A node is out of sight: who asked from there is in no line until it is heard again.
    pub(super) fn step_aside(&mut self, node: NodeId) {
        let theirs: Vec<(OpId, Turn)> = self
            .ops
            .range(first_of(node)..)
            .take_while(|(op, _)| op.session.member.node == node)
            .map(|(op, (_, turn))| (*op, *turn))
            .collect();
        for (op, turn) in theirs {
            if let Some(mut waiter) = self.remove(op) {
                waiter.away = true;
                self.add(turn, waiter);
            }
        }
    }

    /// Drops those not heard since `before`.
    pub(super) fn expire(&mut self, before: Duration) {
        self.away.retain(|_, (_, waiter)| waiter.seen >= before);
        let waiters = self.lines.values().flat_map(BTreeMap::values);
        let silent = waiters.filter(|waiter| waiter.seen < before);
        for op in silent.map(|waiter| waiter.op).collect::<Vec<_>>() {
            self.remove(op);
        }
    }

    /// Counts looks at waiters, for a test of how they grow.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only tests count"))]
    fn looked(&self) {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
    }
}

/// Before any operation that a node can have asked for.
pub(super) fn first_of(node: NodeId) -> OpId {
    let inc = Incarnation(0);
    let member = Member { node, inc };
    let session = Session { member, boot: 0 };
    OpId { session, seq: 0 }
}
