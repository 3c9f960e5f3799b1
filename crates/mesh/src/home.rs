//! The deciding side of a shard (rules R11, R17 to R20): what its leader keeps in memory.
//!
//! The leader of the home group turns requests into proposals and parks takes that have nothing to
//! take. All of this is lost with its lead: clients ask the next leader, under the same numbers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cpe_consensus::{Group, Output};
use cpe_membership::{Member, NodeId};
use cpe_space::{
    Applied, Bound, Command, Dot, Item, Name, OpId, Session, Sm, Taker, Terms, variable_in,
    variable_of,
};
use cpe_tuple::{Template, Tuple, Value};

use crate::group::Proposal;
use crate::guard::{Guard, holds};

mod parked;

use parked::{Line, Parked, Place, Turn, first_of};

/// Takes parked at a time, per shard. More are refused: their clients ask again.
pub(crate) const MAX_WAITERS: usize = 100_000;

/// A parked take, or a bound read.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) op: OpId,
    pub(crate) from: NodeId,
    pub(crate) workspace: Name,
    pub(crate) wanted: Wanted,
    /// When its client was last heard.
    pub(crate) seen: Duration,
    /// Its node went out of sight since: it is passed over until it asks again.
    pub(crate) away: bool,
}

/// What somebody waits for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// A tuple that matches.
    Match {
        template: Template,
        /// Milliseconds. The time to live of the lease, when it is a leased take.
        lease: Option<u64>,
    },
    /// A tuple of a variable of an instance, or a copy.
    Bound {
        variable: Value,
        terms: Terms,
        leave: bool,
    },
    /// A tuple that matches, for a durable actor.
    For { taker: Taker, template: Template },
}

impl Wanted {
    fn key(&self) -> Option<&Value> {
        match self {
            Self::Match { template, .. } | Self::For { template, .. } => template.key(),
            Self::Bound { variable, .. } => Some(variable),
        }
    }

    fn leaves(&self) -> bool {
        matches!(self, Self::Bound { leave: true, .. })
    }

    /// Whether the state has a tuple for it.
    fn is_there(&self, sm: &Sm, workspace: &Name) -> bool {
        match self {
            Self::Match { template, .. } | Self::For { template, .. } => {
                sm.find(workspace, template).is_some()
            }
            Self::Bound {
                variable, terms, ..
            } => sm.find_bound(workspace, variable, terms, 0).is_some(),
        }
    }

    /// Whether a tuple to be admitted may be one for it.
    fn may_be(&self, tuple: &Tuple) -> bool {
        match self {
            Self::Match { template, .. } | Self::For { template, .. } => template.matches(tuple),
            // Its ordinal will be later than that of any tuple there was.
            Self::Bound { .. } => tuple.len() == 2,
        }
    }

    /// Whether it would be told something without any tuple coming.
    fn is_refused(&self, sm: &Sm, workspace: &Name) -> bool {
        match self {
            Self::Match { .. } => false,
            // Asked by another host, and answered.
            Self::For { taker, .. } => sm.is_settled(taker),
            Self::Bound {
                variable, terms, ..
            } => sm.refusal(workspace, variable, terms).is_some(),
        }
    }
}

impl Waiter {
    fn line(&self) -> Line {
        Line {
            place: (self.workspace.clone(), self.wanted.key().cloned()),
            leaves: self.wanted.leaves(),
        }
    }

    fn command(&self, acks: Vec<u64>, wait: bool) -> Command {
        let (op, workspace) = (self.op, self.workspace.clone());
        match self.wanted.clone() {
            Wanted::Match {
                template,
                lease: None,
            } => Command::Take {
                op,
                acks,
                workspace,
                template,
                wait,
            },
            Wanted::Match {
                template,
                lease: Some(ttl_ms),
            } => Command::TakeLeased {
                op,
                acks,
                workspace,
                template,
                wait,
                ttl_ms,
            },
            Wanted::For { taker, template } => Command::TakeFor {
                op,
                taker,
                workspace,
                template,
                wait,
            },
            Wanted::Bound {
                variable,
                terms,
                leave,
            } => Command::Bound {
                op,
                acks,
                workspace,
                terms,
                act: Bound::Take {
                    variable,
                    wait,
                    leave,
                },
            },
        }
    }
}

/// Proposals that will change a variable once decided.
#[derive(Debug, Default)]
struct Inflight {
    admits: VecDeque<Tuple>,
    takes: usize,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Its outcome follows once it is decided.
    Proposed,
    /// It waits for a matching tuple.
    Parked,
    /// There is no room: ask again.
    Busy,
}

/// The way into the log of a shard's group.
#[derive(Debug)]
pub(crate) struct Proposer<'a> {
    group: &'a mut Group<Member, Proposal>,
    out: &'a mut Vec<Output<Member, Proposal>>,
    sm: &'a Sm,
    /// The shard holds as much as it may.
    takes_none: bool,
}

impl<'a> Proposer<'a> {
    pub(crate) fn new(
        group: &'a mut Group<Member, Proposal>,
        out: &'a mut Vec<Output<Member, Proposal>>,
        sm: &'a Sm,
        full: bool,
    ) -> Self {
        Self {
            group,
            out,
            sm,
            takes_none: full,
        }
    }

    /// Appends a command; false when there is no room, the epoch is sealed (rule R11) or somebody
    /// else leads. Then it will never be decided.
    pub(crate) fn propose(&mut self, command: Command) -> bool {
        let takes = command.op().filter(|_| command.looks().is_some());
        if takes.is_some_and(|op| self.sm.is_full_of_outcomes(op.session))
            || self.takes_none && command.adds().is_some()
            || matches!(&command, Command::TakeFor { taker, .. }
                if self.sm.is_full_of_unreceived() && !self.sm.is_settled(taker))
        {
            return false;
        }
        Proposal::new(command)
            .is_some_and(|proposal| self.group.propose(proposal, self.out).is_ok())
    }
}

/// Operations kept as [`Proposed`], per shard.
const MAX_PROPOSED: usize = 65_536;

/// What a former leader proposed and has not seen decided. The next leader may decide it, so a copy
/// of the request that comes late must not be told that nothing was done.
#[derive(Debug, Default)]
pub(crate) struct Proposed {
    ops: BTreeSet<OpId>,
    /// There were more than are kept: any operation may be one of them.
    any: bool,
}

impl Proposed {
    pub(crate) fn add(&mut self, ops: impl Iterator<Item = OpId>) {
        self.ops.extend(ops);
        if self.ops.len() > MAX_PROPOSED {
            self.ops.clear();
            self.any = true;
        }
    }

    pub(crate) fn decided(&mut self, applied: &Applied) {
        if let Applied::Done(op, _) | Applied::Missed(op) = applied {
            self.ops.remove(op);
        }
    }

    pub(crate) fn may_hold(&self, op: OpId) -> bool {
        self.any || self.ops.contains(&op)
    }
}

/// Volatile state of a shard's leading home.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// Who asked for undecided operations; the waiting takes can be parked again, at their turns.
    asked: BTreeMap<OpId, (NodeId, Option<(Turn, Waiter)>)>,
    /// The last store of each origin that is proposed and undecided.
    admits: BTreeMap<Member, u64>,
    /// By workspace and variable.
    inflight: BTreeMap<Name, BTreeMap<Value, Inflight>>,
    /// Those who want a copy come before any who take.
    parked: Parked,
    /// Sessions that leave outcomes unacknowledged: the latest of each, and since when it is that.
    owed: BTreeMap<Session, (u64, Duration)>,
}

impl Home {
    /// A leader that found these undecided entries in its log.
    pub(crate) fn inherit<'a>(undecided: impl Iterator<Item = &'a Command>) -> Self {
        let mut home = Self::default();
        for command in undecided {
            home.count(command);
        }
        home
    }

    /// Sessions that have left outcomes unacknowledged, each with the index of its latest operation
    /// and for how long that has been its latest. This leader counts from when it first looked.
    pub(crate) fn silent(&mut self, sm: &Sm, now: Duration) -> Vec<(Session, u64, Duration)> {
        let mut owed = std::mem::take(&mut self.owed);
        for (session, latest) in sm.unacknowledged() {
            let seen = owed.remove(&session).filter(|(then, _)| *then == latest);
            let since = seen.map_or(now, |(_, since)| since);
            self.owed.insert(session, (latest, since));
        }
        let owed = self.owed.iter();
        owed.map(|(session, (latest, since))| (*session, *latest, now.saturating_sub(*since)))
            .collect()
    }

    /// Counts what a proposal will change once it is decided.
    fn count(&mut self, command: &Command) {
        if let Command::Admit { dot, .. } = command {
            let last = self.admits.entry(dot.origin).or_insert(0);
            *last = dot.n.max(*last);
        }
        if let Some((workspace, tuple)) = command.adds() {
            let inflight = self.inflight_of(workspace, variable_of(tuple));
            inflight.admits.push_back(tuple.clone());
        } else if let Some((workspace, key)) = command.removes() {
            self.inflight_of(workspace, key.clone()).takes += 1;
        }
    }

    fn inflight_of(&mut self, workspace: &Name, variable: Value) -> &mut Inflight {
        let variables = self.inflight.entry(workspace.clone()).or_default();
        variables.entry(variable).or_default()
    }

    /// What is under way for a variable, if anything is.
    fn is_inflight(&self, workspace: &Name, variable: &Value) -> Option<&Inflight> {
        self.inflight.get(workspace)?.get(variable)
    }

    /// A counted proposal is decided.
    fn settle(&mut self, command: &Command) {
        if let Some((workspace, tuple)) = command.adds() {
            self.uncount(workspace, variable_in(tuple), |inflight| {
                inflight.admits.pop_front();
            });
        } else if let Some((workspace, key)) = command.removes() {
            self.uncount(workspace, key, |inflight| {
                inflight.takes = inflight.takes.saturating_sub(1);
            });
        }
    }

    fn uncount(&mut self, workspace: &Name, variable: &Value, change: impl FnOnce(&mut Inflight)) {
        let Some(variables) = self.inflight.get_mut(workspace) else {
            return;
        };
        if let Some(inflight) = variables.get_mut(variable) {
            change(inflight);
            if inflight.admits.is_empty() && inflight.takes == 0 {
                variables.remove(variable);
            }
        }
        if variables.is_empty() {
            self.inflight.remove(workspace);
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.parked.len()
    }

    /// Operations proposed and not decided.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = OpId> {
        self.asked.keys().copied()
    }

    pub(crate) fn is_asked(&self, op: OpId) -> bool {
        self.asked.contains_key(&op)
    }

    /// Proposes an operation for a client.
    pub(crate) fn propose_op(
        &mut self,
        sm: &Sm,
        op: OpId,
        from: NodeId,
        command: Command,
        log: &mut Proposer<'_>,
    ) -> Asked {
        let adds = command.adds().is_some().then(|| command.clone());
        if !log.propose(command) {
            return Asked::Busy;
        }
        self.asked.insert(op, (from, None));
        if let Some(command) = adds {
            self.count(&command);
            if let Some((workspace, tuple)) = command.adds() {
                // Rule R20.
                self.pump(sm, workspace, &variable_of(tuple), log);
            }
        }
        Asked::Proposed
    }

    /// Proposes what follows the stores already proposed; returns how far they are known now.
    pub(crate) fn store(
        &mut self,
        sm: &Sm,
        origin: Member,
        first: u64,
        items: Vec<Item>,
        log: &mut Proposer<'_>,
    ) -> u64 {
        let decided = sm.admitted(origin);
        let mut last = self.admits.get(&origin).copied().unwrap_or(0).max(decided);
        for (n, Item { workspace, tuple }) in (first..).zip(items) {
            if n != last + 1 && holds(Guard::NextOfOrigin) {
                if n > last {
                    break;
                }
                continue;
            }
            let command = Command::Admit {
                dot: Dot { origin, n },
                workspace: workspace.clone(),
                tuple: tuple.clone(),
            };
            if !log.propose(command.clone()) {
                break;
            }
            last = n;
            self.count(&command);
            // Rule R20: whoever waits for it takes it in the same round.
            self.pump(sm, &workspace, variable_in(&tuple), log);
        }
        last
    }

    /// A take: proposed when something should match, else parked or, if it does not wait,
    /// proposed all the same so that "empty" is decided (rule R19).
    pub(crate) fn take(
        &mut self,
        sm: &Sm,
        waiter: Waiter,
        acks: Vec<u64>,
        wait: bool,
        log: &mut Proposer<'_>,
    ) -> Asked {
        let turn = self.parked.arrive();
        if !wait {
            return self.propose_take(turn, waiter, acks, wait, log);
        }
        let (op, line) = (waiter.op, waiter.line());
        let may_match = self.may_match(sm, &waiter);
        if self.parked.contains(op) {
            self.parked.refresh(op, waiter.seen);
        } else if may_match && !self.parked.has(&line) {
            return self.propose_take(turn, waiter, acks, wait, log);
        } else if self.park(turn, waiter) == Asked::Busy {
            return Asked::Busy;
        }
        if may_match {
            // There was no room in the log when a tuple came, or what was to take it will not.
            // Whoever asks first now, it goes to who came first.
            self.propose_line(
                &line,
                log,
                |home| home.parked.contains(op),
                |home, waiter| home.may_match(sm, waiter),
            );
        }
        if self.parked.contains(op) {
            Asked::Parked
        } else {
            Asked::Proposed
        }
    }

    fn propose_take(
        &mut self,
        turn: Turn,
        waiter: Waiter,
        acks: Vec<u64>,
        wait: bool,
        log: &mut Proposer<'_>,
    ) -> Asked {
        let command = waiter.command(acks, wait);
        if !log.propose(command.clone()) {
            return Asked::Busy;
        }
        self.count(&command);
        self.asked
            .insert(waiter.op, (waiter.from, wait.then_some((turn, waiter))));
        Asked::Proposed
    }

    fn park(&mut self, turn: Turn, waiter: Waiter) -> Asked {
        if self.parked.len() >= MAX_WAITERS {
            return Asked::Busy;
        }
        self.parked.add(turn, waiter);
        Asked::Parked
    }

    /// Whether a take proposed now has a tuple to find, as far as can be told, or another answer.
    fn may_match(&self, sm: &Sm, waiter: &Waiter) -> bool {
        let (workspace, wanted) = (&waiter.workspace, &waiter.wanted);
        let Some(key) = wanted.key() else {
            let mut coming = self.inflight.get(workspace).into_iter().flatten();
            return wanted.is_there(sm, workspace)
                || coming.any(|(_, i)| i.admits.iter().any(|tuple| wanted.may_be(tuple)));
        };
        if wanted.is_refused(sm, workspace) {
            return true;
        }
        let live = sm
            .variable(workspace, key)
            .map_or(0, cpe_space::Variable::len);
        let Some(inflight) = self.is_inflight(workspace, key) else {
            return live > 0 && wanted.is_there(sm, workspace);
        };
        let spare = live + inflight.admits.len() > inflight.takes || wanted.leaves();
        spare
            && (wanted.is_there(sm, workspace)
                || inflight.admits.iter().any(|tuple| wanted.may_be(tuple)))
    }

    /// Whether a variable has more tuples, there or coming, than takes under way: without one there
    /// is no need to look at its waiters.
    fn may_spare(&self, sm: &Sm, (workspace, key): &Place) -> bool {
        let Some(variable) = key else {
            return true;
        };
        let live = sm
            .variable(workspace, variable)
            .map_or(0, cpe_space::Variable::len);
        let inflight = self.is_inflight(workspace, variable);
        inflight.map_or(live, |i| live + i.admits.len()) > inflight.map_or(0, |i| i.takes)
    }

    /// Proposes takes for those who wait for this variable: first those who want a copy, then the
    /// others in order of arrival.
    fn pump(&mut self, sm: &Sm, workspace: &Name, variable: &Value, log: &mut Proposer<'_>) {
        if self.parked.is_empty() {
            return;
        }
        let named = (workspace.clone(), Some(variable.clone()));
        let finders = Line {
            place: named.clone(),
            leaves: true,
        };
        self.propose_line(
            &finders,
            log,
            |_| true,
            |home, waiter| home.may_match(sm, waiter),
        );
        for place in [named, (workspace.clone(), None)] {
            let takers = Line {
                place,
                leaves: false,
            };
            self.propose_line(
                &takers,
                log,
                |home| home.may_spare(sm, &takers.place),
                |home, waiter| home.may_match(sm, waiter),
            );
        }
    }

    /// A variable, or all of a workspace, may be gone: those who are bound to it are told.
    fn tell_refused(
        &mut self,
        sm: &Sm,
        workspace: &Name,
        variable: Option<&Value>,
        log: &mut Proposer<'_>,
    ) {
        for line in self.parked.lines_of(workspace, variable) {
            self.propose_line(
                &line,
                log,
                |_| true,
                |_, waiter| waiter.wanted.is_refused(sm, &waiter.workspace),
            );
        }
    }

    /// Proposes those of a line who pass, in order, as long as there is something for them and room
    /// in the log. The others stay where they are.
    fn propose_line(
        &mut self,
        line: &Line,
        log: &mut Proposer<'_>,
        goes_on: impl Fn(&Self) -> bool,
        passes: impl Fn(&Self, &Waiter) -> bool,
    ) {
        let mut from = Turn::MIN;
        while goes_on(self) {
            let Some((turn, waiter)) = self.parked.next(line, from) else {
                return;
            };
            from = turn + 1;
            if !passes(self, waiter) {
                continue;
            }
            let waiter = waiter.clone();
            let op = waiter.op;
            if self.propose_take(turn, waiter, Vec::new(), true, log) != Asked::Proposed {
                return;
            }
            self.parked.remove(op);
        }
    }

    /// Who gets the outcome of a decided operation. A take that missed is parked again, in its
    /// place.
    pub(crate) fn concluded(&mut self, op: OpId, missed: bool) -> Option<NodeId> {
        let (from, waiter) = self.asked.remove(&op)?;
        if missed && let Some((turn, waiter)) = waiter {
            self.park(turn, waiter);
        }
        Some(from)
    }

    /// Forgets a parked take; true if it was parked.
    pub(crate) fn unpark(&mut self, op: OpId) -> bool {
        self.parked.remove(op).is_some()
    }

    /// A node is out of sight: what anybody there waits for goes to others until it asks again,
    /// at its old turn. What is proposed for it already may be decided, and is then lost with it
    /// if it is dead.
    pub(crate) fn step_aside(&mut self, node: NodeId) {
        if !holds(Guard::StepAside) {
            return;
        }
        self.parked.step_aside(node);
        let theirs = self.asked.range_mut(first_of(node)..);
        for (_, (_, waiting)) in theirs.take_while(|(op, _)| op.session.member.node == node) {
            if let Some((_, waiter)) = waiting {
                waiter.away = true;
            }
        }
    }

    /// Drops parked takes whose clients have been silent since `before`.
    pub(crate) fn expire(&mut self, before: Duration) {
        self.parked.expire(before);
    }

    /// An entry was decided and applied: lets waiters have what came free.
    pub(crate) fn applied(
        &mut self,
        sm: &Sm,
        command: &Command,
        applied: &Applied,
        log: &mut Proposer<'_>,
    ) {
        self.settle(command);
        match applied {
            Applied::Added {
                dot,
                workspace,
                tuple,
                ..
            } => {
                self.pump(sm, workspace, variable_in(tuple), log);
                if let Some(dot) = dot {
                    self.admitted(dot.origin, dot.n);
                }
            }
            Applied::Done(op, _) => {
                self.unpark(*op);
            }
            _ => {}
        }
        // A take that took nothing had kept others from being tried in its place; so has one that
        // was decided twice, by two leaders.
        if let Some((workspace, variable)) = command.looks() {
            if let Applied::Missed(op) = applied
                && holds(Guard::ParkAgain)
            {
                self.concluded(*op, true);
            }
            self.pump(sm, workspace, variable.unwrap_or(&Value::Null), log);
        }
        match command {
            Command::Drop {
                workspace,
                variable,
                ..
            } => self.tell_refused(sm, workspace, variable.as_ref(), log),
            Command::Bound {
                workspace,
                act: act @ (Bound::Drop { .. } | Bound::Declare { .. }),
                ..
            } => self.tell_refused(sm, workspace, Some(&act.variable()), log),
            _ => {}
        }
    }

    /// The origins with stores in the tail are forgotten once those are decided.
    fn admitted(&mut self, origin: Member, n: u64) {
        if self.admits.get(&origin).is_some_and(|last| *last <= n) {
            self.admits.remove(&origin);
        }
    }
}

#[cfg(test)]
mod tests;
