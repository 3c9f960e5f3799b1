//! The deciding side of a shard (rules R11, R17 to R20), for a home group of one.
//!
//! A home appends proposals to a tail. What is on disk is decided, in order, and only then
//! applied: with more members the same place waits for a majority instead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cpe_membership::{Member, NodeId};
use cpe_space::{Applied, Command, Dot, Entry, Item, Name, OpId, Shard, Sm, variable_of};
use cpe_tuple::{Template, Tuple, Value};

/// Takes parked at a time, per shard. More are refused: their clients ask again.
pub(crate) const MAX_WAITERS: usize = 100_000;

/// Entries proposed and not decided, per shard. Beyond this requests are not taken; their senders
/// ask again.
pub(crate) const MAX_TAIL: usize = 65_536;

/// A parked take.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) op: OpId,
    pub(crate) from: NodeId,
    pub(crate) workspace: Name,
    pub(crate) template: Template,
    /// When its client was last heard.
    pub(crate) seen: Duration,
}

type Place = (Name, Option<Value>);

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

/// Volatile state of a shard's home.
#[derive(Debug, Default)]
pub(crate) struct Home {
    tail: VecDeque<(Entry, Command)>,
    /// Entries of the tail handed to storage.
    written: usize,
    /// Who asked for the operations in the tail; the waiting takes can be parked again.
    asked: BTreeMap<OpId, (NodeId, Option<Waiter>)>,
    /// The last store of each origin in the tail.
    admits: BTreeMap<Member, u64>,
    inflight: BTreeMap<(Name, Value), Inflight>,
    waiters: BTreeMap<Place, VecDeque<Waiter>>,
    parked: BTreeSet<OpId>,
    sealed: bool,
}

impl Home {
    pub(crate) fn waiting(&self) -> usize {
        self.parked.len()
    }

    /// True once a seal is proposed: nothing more is decided in this epoch (rule R11).
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed
    }

    pub(crate) fn is_asked(&self, op: OpId) -> bool {
        self.asked.contains_key(&op)
    }

    /// How many entries of the tail storage was handed.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Entries not yet handed to storage.
    pub(crate) fn unwritten(&mut self) -> Vec<Entry> {
        let fresh = self
            .tail
            .iter()
            .skip(self.written)
            .map(|(entry, _)| entry.clone())
            .collect();
        self.written = self.tail.len();
        fresh
    }

    /// The next entry that storage has, to be applied.
    pub(crate) fn pop_written(&mut self) -> Option<(Entry, Command)> {
        let next = self.tail.pop_front()?;
        self.written = self.written.saturating_sub(1);
        if let Command::Admit {
            workspace, tuple, ..
        } = &next.1
        {
            self.settle(workspace, &variable_of(tuple), |inflight| {
                inflight.admits.pop_front();
            });
        }
        if let Command::Take {
            workspace,
            template,
            ..
        } = &next.1
            && let Some(key) = template.key()
        {
            self.settle(workspace, key, |inflight| {
                inflight.takes = inflight.takes.saturating_sub(1);
            });
        }
        Some(next)
    }

    fn settle(&mut self, workspace: &Name, variable: &Value, change: impl FnOnce(&mut Inflight)) {
        let place = (workspace.clone(), variable.clone());
        if let Some(inflight) = self.inflight.get_mut(&place) {
            change(inflight);
            if inflight.admits.is_empty() && inflight.takes == 0 {
                self.inflight.remove(&place);
            }
        }
    }

    /// Appends a proposal; false when there is no room or the epoch is sealed.
    fn propose(&mut self, command: Command) -> bool {
        if self.sealed || self.tail.len() >= MAX_TAIL {
            return false;
        }
        // A command is built from parts that were checked: it fits an entry.
        let Ok(entry) = Entry::new(&command) else {
            return false;
        };
        if entry.as_bytes().len() > cpe_space::MAX_ENTRY_BYTES {
            return false;
        }
        self.sealed = matches!(command, Command::Seal { .. });
        self.tail.push_back((entry, command));
        true
    }

    /// Proposes a command nobody waits for.
    pub(crate) fn propose_plain(&mut self, command: Command) -> bool {
        self.propose(command)
    }

    /// Proposes an operation for a client.
    pub(crate) fn propose_op(&mut self, op: OpId, from: NodeId, command: Command) -> Asked {
        if !self.propose(command) {
            return Asked::Busy;
        }
        self.asked.insert(op, (from, None));
        Asked::Proposed
    }

    /// Proposes what follows the stores already proposed; returns how far they are known now.
    pub(crate) fn store(&mut self, sm: &Sm, origin: Member, first: u64, items: Vec<Item>) -> u64 {
        let decided = sm.admitted(origin);
        let mut last = self.admits.get(&origin).copied().unwrap_or(0).max(decided);
        for (n, Item { workspace, tuple }) in (first..).zip(items) {
            if n != last + 1 {
                if n > last {
                    break;
                }
                continue;
            }
            let variable = variable_of(&tuple);
            let command = Command::Admit {
                dot: Dot { origin, n },
                workspace: workspace.clone(),
                tuple: tuple.clone(),
            };
            if !self.propose(command) {
                break;
            }
            last = n;
            let place = (workspace.clone(), variable.clone());
            self.inflight
                .entry(place)
                .or_default()
                .admits
                .push_back(tuple);
            // Rule R20: whoever waits for it takes it in the same round.
            self.pump(sm, &workspace, &variable);
        }
        if last > decided {
            self.admits.insert(origin, last);
        }
        last
    }

    /// A take: proposed when something should match, else parked or, if it does not wait,
    /// proposed all the same so that "empty" is decided (rule R19).
    pub(crate) fn take(&mut self, sm: &Sm, waiter: Waiter, acks: Vec<u64>, wait: bool) -> Asked {
        if self.parked.contains(&waiter.op) {
            self.refresh(&waiter);
            return Asked::Parked;
        }
        if wait && !self.may_match(sm, &waiter) {
            return self.park(waiter, false);
        }
        self.propose_take(waiter, acks, wait)
    }

    fn propose_take(&mut self, waiter: Waiter, acks: Vec<u64>, wait: bool) -> Asked {
        let command = Command::Take {
            op: waiter.op,
            acks,
            workspace: waiter.workspace.clone(),
            template: waiter.template.clone(),
            wait,
        };
        if !self.propose(command) {
            return Asked::Busy;
        }
        if let Some(key) = waiter.template.key() {
            let place = (waiter.workspace.clone(), key.clone());
            self.inflight.entry(place).or_default().takes += 1;
        }
        self.asked
            .insert(waiter.op, (waiter.from, wait.then_some(waiter)));
        Asked::Proposed
    }

    fn park(&mut self, waiter: Waiter, first: bool) -> Asked {
        if self.parked.len() >= MAX_WAITERS {
            return Asked::Busy;
        }
        self.parked.insert(waiter.op);
        let place = (waiter.workspace.clone(), waiter.template.key().cloned());
        let queue = self.waiters.entry(place).or_default();
        if first {
            queue.push_front(waiter);
        } else {
            queue.push_back(waiter);
        }
        Asked::Parked
    }

    fn refresh(&mut self, waiter: &Waiter) {
        let place = (waiter.workspace.clone(), waiter.template.key().cloned());
        let parked = self.waiters.get_mut(&place).into_iter().flatten();
        for other in parked.filter(|other| other.op == waiter.op) {
            other.seen = waiter.seen;
        }
    }

    /// Whether a take proposed now has a tuple to find, as far as can be told.
    fn may_match(&self, sm: &Sm, waiter: &Waiter) -> bool {
        let (workspace, template) = (&waiter.workspace, &waiter.template);
        let Some(key) = template.key() else {
            let mut coming = self.inflight.iter().filter(|((at, _), _)| at == workspace);
            return sm.find(workspace, template).is_some()
                || coming.any(|(_, i)| i.admits.iter().any(|tuple| template.matches(tuple)));
        };
        let live = sm
            .variable(workspace, key)
            .map_or(0, cpe_space::Variable::len);
        let Some(inflight) = self.inflight.get(&(workspace.clone(), key.clone())) else {
            return live > 0 && sm.find(workspace, template).is_some();
        };
        live + inflight.admits.len() > inflight.takes
            && (sm.find(workspace, template).is_some()
                || inflight.admits.iter().any(|tuple| template.matches(tuple)))
    }

    /// Proposes takes for those who wait for this variable, in order of arrival.
    pub(crate) fn pump(&mut self, sm: &Sm, workspace: &Name, variable: &Value) {
        for key in [Some(variable.clone()), None] {
            let place = (workspace.clone(), key);
            let Some(mut queue) = self.waiters.remove(&place) else {
                continue;
            };
            let mut left = VecDeque::new();
            while let Some(waiter) = queue.pop_front() {
                if self.may_match(sm, &waiter) {
                    let op = waiter.op;
                    let again = waiter.clone();
                    if self.propose_take(waiter, Vec::new(), true) == Asked::Proposed {
                        self.parked.remove(&op);
                        continue;
                    }
                    left.push_back(again);
                    break;
                }
                left.push_back(waiter);
            }
            left.append(&mut queue);
            if !left.is_empty() {
                self.waiters.insert(place, left);
            }
        }
    }

    /// Who gets the outcome of a decided operation. A take that missed is parked again, first.
    pub(crate) fn concluded(&mut self, op: OpId, missed: bool) -> Option<NodeId> {
        let (from, waiter) = self.asked.remove(&op)?;
        if missed && let Some(waiter) = waiter {
            self.park(waiter, true);
        }
        Some(from)
    }

    /// Forgets a parked take; true if it was parked.
    pub(crate) fn unpark(&mut self, op: OpId) -> bool {
        if !self.parked.remove(&op) {
            return false;
        }
        self.retain(|waiter| waiter.op != op);
        true
    }

    /// Drops parked takes whose clients have been silent since `before`.
    pub(crate) fn expire(&mut self, before: Duration) {
        let mut gone = Vec::new();
        self.retain(|waiter| {
            let keep = waiter.seen >= before;
            if !keep {
                gone.push(waiter.op);
            }
            keep
        });
        for op in gone {
            self.parked.remove(&op);
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&Waiter) -> bool) {
        self.waiters.retain(|_, queue| {
            queue.retain(&mut keep);
            !queue.is_empty()
        });
    }

    /// After an entry was applied: lets waiters have what came free.
    pub(crate) fn after(&mut self, shard: &Shard, applied: &Applied) {
        if let Applied::Added {
            workspace, tuple, ..
        } = applied
        {
            self.pump(shard.sm(), workspace, &variable_of(tuple));
        }
    }

    /// The origins with stores in the tail are forgotten once those are decided.
    pub(crate) fn admitted(&mut self, origin: Member, n: u64) {
        if self.admits.get(&origin).is_some_and(|last| *last <= n) {
            self.admits.remove(&origin);
        }
    }
}
