//! The deterministic state machine of one shard.
//!
//! [`Sm::apply`] is the only thing that changes it: same history, same state, on every replica.

use std::collections::{BTreeMap, BTreeSet};

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_tuple::{Template, Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::actor::{Claim, Commit};
use crate::guard::{Guard, holds};
use crate::outbox::Emitters;
use crate::take::Takers;
use crate::{
    ActorRecord, Command, Config, Dot, Fate, HostRecord, LeaseEnd, LeaseId, Name, OpId, Outcome,
    Session, ShardId, lease::Leases, variable::Variable, variable_in, variable_of,
};

mod bodies;
mod parts;
mod register;
mod sessions;

pub use bodies::Refers;
pub use parts::Live;
pub use sessions::MAX_UNACKNOWLEDGED_BYTES;

use sessions::{Remembered, Sessions};

/// A count of stores that no life reaches.
const BEYOND_ALL_STORES: u64 = u64::MAX >> 1;

/// What applying one entry did, for those who wait and watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// Nothing anyone waits for.
    Nothing,
    /// A tuple was admitted (or put back) under this index.
    Added {
        /// Where the tuple stands in its variable.
        index: u64,
        /// The store, when it was one.
        dot: Option<Dot>,
        /// True when the replica had it as a store not yet admitted: it was to be seen before.
        pending: bool,
        /// Workspace.
        workspace: Name,
        /// The tuple.
        tuple: Tuple,
    },
    /// A store was refused as a repetition or as out of order.
    Skipped(Dot),
    /// An operation has this outcome.
    Done(OpId, Outcome),
    /// A waiting take found nothing, or there is no room for outcomes: it has none and must be
    /// asked again.
    Missed(OpId),
    /// The epoch ended.
    Sealed(Config),
    /// The epoch ended by an operator's word, its majority lost.
    Forked(Config),
    /// The register has a newer home group of this volatile shard.
    Registered(ShardId),
    /// This life of a node is over.
    Voided(Member),
}

/// State of one shard after `index` decided entries.
///
/// A map is ordered everywhere: replicas must agree to the byte, and snapshots are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sm {
    /// Entries applied.
    index: u64,
    /// Chain hash of the entries applied (see [`crate::Shard`]).
    hash: u64,
    /// The current home group.
    config: Config,
    /// The home group before it and the index of the entry that sealed its epoch.
    previous: Option<(Config, u64)>,
    workspaces: BTreeMap<Name, BTreeMap<Value, Variable>>,
    /// How many stores of each origin were admitted: the context of an add-wins set, compressed.
    admitted: BTreeMap<Member, u64>,
    sessions: Sessions,
    pub(crate) actors: BTreeMap<String, ActorRecord>,
    /// Snapshots of before there were leases have none.
    #[serde(default)]
    pub(crate) leases: Leases,
    /// Index of the last fork.
    #[serde(default)]
    forked_at: Option<u64>,
    /// Where this generation of a volatile shard began: numbers up to here are of earlier ones. 0
    /// in a durable shard.
    #[serde(default)]
    floor: u64,
    #[serde(default)]
    register: register::Register,
    /// Lives that are over for good, by node: the last one. Their counts of stores are forgotten,
    /// and none of their stores is admitted any more.
    #[serde(default)]
    retired: BTreeMap<NodeId, Incarnation>,
    /// Nodes as hosts of actors: one record per node that ever was one.
    #[serde(default)]
    pub(crate) hosts: BTreeMap<NodeId, HostRecord>,
    /// Actors whose outbox is not empty.
    #[serde(default)]
    pub(crate) due: BTreeSet<String>,
    /// Actors whose tuples were put here.
    #[serde(default)]
    pub(crate) emitters: Emitters,
    /// Actors that took something here.
    #[serde(default)]
    pub(crate) takers: Takers,
}

impl Sm {
    /// The state before any entry.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            index: 0,
            hash: 0,
            config,
            previous: None,
            workspaces: BTreeMap::new(),
            admitted: BTreeMap::new(),
            sessions: Sessions::default(),
            actors: BTreeMap::new(),
            leases: Leases::default(),
            forked_at: None,
            floor: 0,
            register: register::Register::default(),
            retired: BTreeMap::new(),
            hosts: BTreeMap::new(),
            due: BTreeSet::new(),
            emitters: Emitters::default(),
            takers: Takers::default(),
        }
    }

    /// Entries applied: the version of this replica of the shard.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Chain hash of the entries applied.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The current home group.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The home group of the epoch before, with the index of the entry that ended it.
    #[must_use]
    pub fn previous(&self) -> Option<&(Config, u64)> {
        self.previous.as_ref()
    }

    /// Index of the last fork: since then the history may lack what was decided and acknowledged
    /// before. `None` for a shard that never lost its majority for ever.
    #[must_use]
    pub fn forked_at(&self) -> Option<u64> {
        self.forked_at
    }

    /// How many stores of `origin` were admitted. More than it can have made when its life is
    /// retired: none of what it stored waits to be admitted.
    #[must_use]
    pub fn admitted(&self, origin: Member) -> u64 {
        if self.is_retired(origin) {
            return BEYOND_ALL_STORES;
        }
        self.admitted.get(&origin).copied().unwrap_or(self.floor)
    }

    /// True for a life that is over for good.
    #[must_use]
    pub fn is_retired(&self, life: Member) -> bool {
        let last = self.retired.get(&life.node);
        last.is_some_and(|last| *last >= life.inc) && holds(Guard::RetiredForGood)
    }

    /// Lives of which stores were admitted and that are not retired.
    pub fn origins(&self) -> impl Iterator<Item = Member> {
        self.admitted.keys().copied()
    }

    /// The remembered outcome of an operation; [`Outcome::Stale`] if it was acknowledged or its
    /// session superseded, `None` if it was never decided.
    #[must_use]
    pub fn outcome(&self, op: OpId) -> Option<Outcome> {
        if !self.is_of_now(op.seq) {
            return Some(Outcome::Stale);
        }
        self.sessions.outcome(op)
    }

    /// True while the outcome of an operation is kept for its session, which has not acknowledged
    /// it.
    #[must_use]
    pub fn remembers(&self, op: OpId) -> bool {
        self.sessions.kept(op).is_some()
    }

    /// Outcomes kept for sessions that have not acknowledged them.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.sessions.len()
    }

    /// Bytes of the outcomes kept for sessions that have not acknowledged them.
    #[must_use]
    pub fn unacknowledged_bytes(&self) -> usize {
        self.sessions.bytes()
    }

    /// True when that is [`MAX_UNACKNOWLEDGED_BYTES`](crate::MAX_UNACKNOWLEDGED_BYTES) or more, or
    /// a quarter of it for this session: nothing is taken for it until some are acknowledged or
    /// given up.
    #[must_use]
    pub fn is_full_of_outcomes(&self, session: Session) -> bool {
        self.sessions.is_full(session)
    }

    /// Sessions for which outcomes are kept, each with the index that decided its latest operation.
    pub fn unacknowledged(&self) -> impl Iterator<Item = (Session, u64)> {
        self.sessions.owed()
    }

    /// Workspaces with anything in this shard, in order.
    pub fn workspaces(&self) -> impl Iterator<Item = (&Name, &BTreeMap<Value, Variable>)> {
        self.workspaces.iter()
    }

    /// Variables of a workspace in this shard.
    pub fn variables(&self, workspace: &Name) -> impl Iterator<Item = (&Value, &Variable)> {
        self.workspaces.get(workspace).into_iter().flatten()
    }

    /// Whether a workspace has anything here that a deletion has to end: a variable, or a tuple
    /// that was taken and may still go back into it.
    #[must_use]
    pub fn has_any_of(&self, workspace: &Name) -> bool {
        let is_of = |home: Option<&Name>| home == Some(workspace);
        let mut kept = self.sessions.all();
        self.workspaces.contains_key(workspace)
            || self.leases.has_any_of(workspace)
            || self.takers.has_any_of(workspace)
            || kept.any(|kept| is_of(kept.home.as_ref()))
    }

    /// One variable.
    #[must_use]
    pub fn variable(&self, workspace: &Name, variable: &Value) -> Option<&Variable> {
        self.workspaces.get(workspace)?.get(variable)
    }

    /// Named actors registered in this shard, in order.
    pub fn actors(&self) -> impl Iterator<Item = (&str, &ActorRecord)> {
        self.actors
            .iter()
            .map(|(name, record)| (name.as_str(), record))
    }

    /// A named actor.
    #[must_use]
    pub fn actor(&self, name: &str) -> Option<&ActorRecord> {
        self.actors.get(name)
    }

    /// Tuples decided and not taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workspaces
            .values()
            .flat_map(BTreeMap::values)
            .map(Variable::len)
            .sum()
    }

    /// True when no tuple is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tuple a read would find: by the variable's mode, as a take decided next would.
    #[must_use]
    pub fn find(&self, workspace: &Name, template: &Template) -> Option<(u64, &Tuple)> {
        self.pick(workspace, template, self.index + 1)
    }

    pub(crate) fn pick(
        &self,
        workspace: &Name,
        template: &Template,
        draw: u64,
    ) -> Option<(u64, &Tuple)> {
        let variables = self.workspaces.get(workspace)?;
        match template.key() {
            Some(key) => variables.get(key)?.pick(template, draw),
            None => variables
                .values()
                .find_map(|variable| variable.pick(template, draw)),
        }
    }

    /// Every tuple that matches, oldest first within a variable.
    pub fn matches<'a>(
        &'a self,
        workspace: &Name,
        template: &'a Template,
    ) -> impl Iterator<Item = (u64, &'a Tuple)> + use<'a> {
        self.workspaces
            .get(workspace)
            .into_iter()
            .flat_map(|variables| match template.key() {
                Some(key) => variables.range(key..=key),
                None => variables.range::<Value, _>(..),
            })
            .flat_map(|(_, variable)| variable.tuples())
            .filter(|(_, tuple)| template.matches(tuple))
    }

    /// Applies the next entry, whose chain hash is `hash`.
    pub fn apply(&mut self, command: &Command, hash: u64) -> Applied {
        self.index += 1;
        self.hash = hash;
        if let Some(op) = command.op()
            && let Some(outcome) = self.open(op)
            // An untake speaks of an operation that may well be done already.
            && !matches!(command, Command::Untake { .. })
            && holds(Guard::OneOutcome)
        {
            return Applied::Done(op, outcome);
        }
        match command {
            Command::Noop => Applied::Nothing,
            Command::Admit {
                dot,
                workspace,
                tuple,
            } => self.admit(*dot, workspace, tuple),
            Command::Take {
                op,
                acks,
                workspace,
                template,
                wait,
            } => {
                self.sessions.forget(op.session, acks);
                self.take(*op, workspace, template, *wait, None)
            }
            Command::TakeLeased {
                op,
                acks,
                workspace,
                template,
                wait,
                ttl_ms,
            } => {
                self.sessions.forget(op.session, acks);
                self.take(*op, workspace, template, *wait, Some(*ttl_ms))
            }
            Command::ActOnLease { op, lease, act } => self.act_on_lease(*op, *lease, *act),
            Command::Expire { lease, renewals } => self.expire_lease(*lease, *renewals),
            Command::Inquire { op, about } => self.inquire(*op, *about),
            Command::Resume { op, n } => {
                if self.forked_at.is_some() && !self.is_retired(op.session.member) {
                    let floor = self.floor;
                    let admitted = self.admitted.entry(op.session.member).or_insert(floor);
                    *admitted = (*admitted).max(*n);
                }
                self.conclude(*op, Outcome::Done, None)
            }
            Command::Untake { op } => self.untake(*op),
            Command::Ack { session, seqs } => {
                self.sessions.forget(*session, seqs);
                Applied::Nothing
            }
            Command::Declare {
                op,
                workspace,
                variable,
                mode,
            } => {
                let there = self.enter(workspace, variable);
                let outcome = match there.declare(*mode) {
                    Ok(()) => Outcome::Done,
                    Err(other) => Outcome::ModeIs(other),
                };
                self.conclude(*op, outcome, None)
            }
            Command::Drop {
                op,
                workspace,
                variable,
            } => {
                self.delete(workspace, variable.as_ref());
                self.conclude(*op, Outcome::Done, None)
            }
            Command::Claim {
                op,
                name,
                expect,
                spec,
                host,
            } => {
                let claim = Claim {
                    name,
                    expect: *expect,
                    spec,
                    host: *host,
                    lease: None,
                };
                self.claim(*op, &claim)
            }
            Command::ClaimLeased {
                op,
                name,
                expect,
                spec,
                needs,
                host,
                void,
            } => {
                let claim = Claim {
                    name,
                    expect: *expect,
                    spec,
                    host: *host,
                    lease: Some((needs, *void)),
                };
                self.claim(*op, &claim)
            }
            Command::Commit {
                op,
                name,
                token,
                seq,
                snapshot,
                marks,
                effects,
                sent,
                rest_over,
            } => {
                let commit = Commit {
                    name,
                    token: *token,
                    seq: *seq,
                    snapshot,
                    marks,
                    effects,
                    sent: *sent,
                    rest_over: *rest_over,
                };
                self.commit(*op, &commit)
            }
            Command::Release {
                op,
                name,
                token,
                void,
                keeps,
                sent,
            } => self.release(*op, (name, *token), *void, *keeps, *sent),
            Command::Emit {
                op,
                name,
                born,
                n,
                workspace,
                tuple,
            } => self.emit(*op, (name, *born, *n), workspace, tuple),
            Command::Sent { op, name, sent } => self.effects_sent(*op, name, *sent),
            Command::TakeFor {
                op,
                taker,
                workspace,
                template,
                wait,
            } => self.take_for(*op, taker, workspace, template, *wait),
            Command::EndTake { op, taker, back } => self.end_take(*op, taker, *back),
            Command::TakesOver {
                op,
                name,
                born,
                takes,
                ended,
            } => self.takes_over(*op, (name, *born), takes, *ended),
            Command::NoteFailures {
                op,
                name,
                token,
                failures,
            } => self.note_failures(*op, (name, *token), *failures),
            Command::Migrate {
                op,
                name,
                token,
                seq,
                to,
            } => self.migrate(*op, name, (*token, *seq), *to),
            Command::Bound {
                op,
                acks,
                workspace,
                terms,
                act,
            } => {
                self.sessions.forget(op.session, acks);
                self.act_bound(*op, workspace, terms, act)
            }
            Command::Seal { config } => {
                self.next_epoch(config);
                Applied::Sealed(config.clone())
            }
            Command::Fork { config, .. } => {
                self.next_epoch(config);
                self.forked_at = Some(self.index);
                self.register.forked(config.epoch);
                Applied::Forked(config.clone())
            }
            Command::Begin {
                shard,
                after,
                members,
            } => self.register.begin(*shard, *after, members),
            Command::Register { shard, config } => self.register.register(*shard, config),
            Command::Reinstate {
                shard,
                sealed_at,
                config,
            } => self.register.reinstate(*shard, *sealed_at, config),
            Command::Enlist { op, lease_ms } => self.enlist(*op, *lease_ms),
            Command::Void { life } => self.void(*life),
            Command::Retire { lives } => {
                self.retire(lives);
                Applied::Nothing
            }
            Command::GiveUp { session, latest } => {
                self.sessions.give_up(*session, *latest);
                Applied::Nothing
            }
        }
    }

    fn retire(&mut self, lives: &[Member]) {
        for life in lives {
            let last = self.retired.entry(life.node).or_insert(life.inc);
            *last = (*last).max(life.inc);
            let first = Member {
                inc: Incarnation(0),
                ..*life
            };
            let over: Vec<Member> = self
                .admitted
                .range(first..=*life)
                .map(|(m, _)| *m)
                .collect();
            for life in over {
                self.admitted.remove(&life);
            }
        }
    }

    fn next_epoch(&mut self, config: &Config) {
        let old = std::mem::replace(&mut self.config, config.clone());
        self.previous = Some((old, self.index));
    }

    /// Makes sure the operation's session is the current one of its node; the outcome when the
    /// operation is done, or its session superseded.
    fn open(&mut self, op: OpId) -> Option<Outcome> {
        self.sessions.open(op.session);
        self.outcome(op)
    }

    pub(crate) fn conclude(&mut self, op: OpId, outcome: Outcome, home: Option<Name>) -> Applied {
        let kept = Remembered {
            outcome: outcome.clone(),
            home,
        };
        self.sessions.conclude(op, kept, self.index);
        Applied::Done(op, outcome)
    }

    pub(crate) fn enter(&mut self, workspace: &Name, variable: &Value) -> &mut Variable {
        let variables = self.workspaces.entry(workspace.clone()).or_default();
        variables.entry(variable.clone()).or_default()
    }

    fn admit(&mut self, dot: Dot, workspace: &Name, tuple: &Tuple) -> Applied {
        if self.is_retired(dot.origin) {
            return Applied::Skipped(dot);
        }
        let count = self.admitted.entry(dot.origin).or_insert(self.floor);
        if dot.n != *count + 1 && holds(Guard::NextOfOrigin) {
            return Applied::Skipped(dot);
        }
        *count = dot.n.max(*count);
        let index = self.index;
        let tuple = self
            .enter(workspace, variable_in(tuple))
            .insert(index, tuple.clone());
        Applied::Added {
            index,
            dot: Some(dot),
            pending: false,
            workspace: workspace.clone(),
            tuple,
        }
    }

    fn take(
        &mut self,
        op: OpId,
        workspace: &Name,
        template: &Template,
        wait: bool,
        lease: Option<u64>,
    ) -> Applied {
        if self.is_full_of_outcomes(op.session) {
            return Applied::Missed(op);
        }
        if lease.is_some() && self.is_full_of_leases() {
            return self.conclude(op, Outcome::TooManyLeases, None);
        }
        let found = self.pick(workspace, template, self.index);
        let Some((index, tuple)) = found.map(|(index, tuple)| (index, tuple.clone())) else {
            if wait {
                return Applied::Missed(op);
            }
            return self.conclude(op, Outcome::Empty, None);
        };
        let key = variable_of(&tuple);
        self.remove(workspace, &key, index);
        match lease {
            Some(ttl_ms) => {
                let outcome = self.set_aside(op, workspace, index, tuple, ttl_ms);
                self.conclude(op, outcome, None)
            }
            None => self.conclude(op, Outcome::Taken { index, tuple }, Some(workspace.clone())),
        }
    }

    pub(crate) fn remove(&mut self, workspace: &Name, key: &Value, index: u64) {
        let Some(variables) = self.workspaces.get_mut(workspace) else {
            return;
        };
        if let Some(variable) = variables.get_mut(key) {
            variable.remove(index);
            if variable.is_forgettable() {
                variables.remove(key);
            }
        }
        if variables.is_empty() {
            self.workspaces.remove(workspace);
        }
    }

    fn untake(&mut self, op: OpId) -> Applied {
        let before = self.sessions.outcome(op);
        if let Some(outcome) = before.filter(|it| it.stays() || *it == Outcome::Stale) {
            return Applied::Done(op, outcome);
        }
        let kept = self.sessions.take_back(op);
        let mut cancelled = Applied::Done(op, Outcome::Cancelled);
        if kept.is_some() || holds(Guard::CancelledFirst) {
            cancelled = self.conclude(op, Outcome::Cancelled, None);
        }
        let back = match kept {
            Some(Remembered {
                outcome: Outcome::Taken { index, tuple },
                home: Some(workspace),
            }) => self.put_back(workspace, index, tuple),
            Some(Remembered {
                outcome: Outcome::Leased { token, .. },
                ..
            }) => self.end_lease(LeaseId { op, token }, LeaseEnd::Returned),
            _ => None,
        };
        back.unwrap_or(cancelled)
    }

    /// Puts a taken tuple back where it was; `None` when a single variable has a newer value.
    pub(crate) fn put_back(
        &mut self,
        workspace: Name,
        index: u64,
        tuple: Tuple,
    ) -> Option<Applied> {
        let index = if holds(Guard::OldPlace) {
            index
        } else {
            self.index
        };
        let variable = self.enter(&workspace, &variable_of(&tuple));
        variable
            .put_back(index, tuple.clone())
            .then_some(Applied::Added {
                index,
                dot: None,
                pending: false,
                workspace,
                tuple,
            })
    }

    /// What became of an operation; of its own session's, one that is not decided is forbidden.
    fn inquire(&mut self, op: OpId, about: OpId) -> Applied {
        let fate = match self.outcome(about) {
            Some(outcome) => Fate::from(&outcome),
            None if about.session == op.session && about != op => {
                self.conclude(about, Outcome::Cancelled, None);
                Fate::Never
            }
            None => Fate::Open,
        };
        self.conclude(op, Outcome::Fate(fate), None)
    }

    pub(crate) fn delete(&mut self, workspace: &Name, key: Option<&Value>) {
        match key {
            None => {
                self.workspaces.remove(workspace);
            }
            Some(key) => {
                if let Some(variables) = self.workspaces.get_mut(workspace) {
                    variables.remove(key);
                    if variables.is_empty() {
                        self.workspaces.remove(workspace);
                    }
                }
            }
        }
        self.leases.deleted(workspace, key);
        self.takers.deleted(workspace, key);
        // A tuple taken before the deletion must not come back after it.
        for (outcome, home) in self.sessions.homes() {
            if let Outcome::Taken { tuple, .. } = outcome
                && home.as_ref() == Some(workspace)
                && key.is_none_or(|key| *key == variable_of(tuple))
            {
                *home = None;
            }
        }
    }
}
