//! The local node's requests: where each stands, its deadline, its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_space::{Bound, Name, ShardId};
use cpe_tuple::{Blob, BlobHash, Template, Value};

use crate::body::{Placing, Way};
use crate::claims::Commit;
use crate::guard::{Guard, holds};
use crate::peer::{MAX_REQUESTS, Peer, Timer};
use crate::show::actor_info;
use crate::wire::Operation;
use crate::{Command, Failure, Reply, RequestId};

/// Workspace that names registry records: a named actor lives in the shard of its name here.
const ACTORS: &str = "#actor";

/// How long a command that waits for nothing is kept until the mesh is known. A node that finds its
/// mesh at all mostly does so sooner; whoever asks learns that it has not.
const JOINS_WITHIN: Duration = Duration::from_secs(2);

/// Where a request stands.
#[derive(Debug)]
pub(crate) enum Request {
    /// A store on its way.
    Store,
    /// A read waiting in the local replica.
    Read {
        workspace: Name,
        template: Template,
        within: Duration,
    },
    /// A read asked of the home. If it may wait, it is asked again whenever the local replica
    /// shows a match.
    Fresh {
        /// The question, while it is under way.
        query: Option<u64>,
        /// True when a match came while the home was asked.
        again: bool,
        workspace: Name,
        template: Template,
        wait: bool,
        within: Duration,
    },
    /// An operation at one shard's home.
    Op {
        shard: ShardId,
        seq: u64,
        within: Duration,
    },
    /// A take whose template names no variable: it looks for a shard first.
    Scan(Scan),
    /// A workspace's deletion, shard by shard.
    DropAll {
        query: u64,
        workspace: Name,
        left: BTreeSet<(ShardId, u64)>,
    },
    /// Waiting for the replica to show what was decided before.
    Sync {
        /// The question to the homes, until all have answered.
        query: Option<u64>,
        /// Shards whose replica is not there yet, and where it must be.
        left: BTreeMap<ShardId, u64>,
        within: Duration,
    },
    /// A watch: ends only when cancelled.
    Watch { workspace: Name, template: Template },
    /// Waiting for all homes to be handed over.
    Drain { within: Duration, whole: bool },
    /// Waiting for the next generation of a volatile shard.
    GiveUp { shard: ShardId },
    /// Waiting for the survivors of lost majorities.
    Recover { query: u64 },
    /// A store whose bodies are on their way to a majority of its home group.
    Place(Box<Placing>),
    /// Waiting for this node to be allowed to let actors act.
    Enlist,
    /// Waiting for the disk to have a body.
    Adopt(BlobHash),
    /// Fetching a body; how far it was when its time last began.
    Gather {
        blob: Blob,
        shard: ShardId,
        pulled: u64,
        within: Duration,
    },
}

/// A take over all shards of a workspace.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) workspace: Name,
    pub(crate) template: Template,
    pub(crate) wait: bool,
    /// Milliseconds. The time to live of the lease, when it is a leased take.
    pub(crate) lease_ms: Option<u64>,
    pub(crate) within: Duration,
    pub(crate) stage: Stage,
    /// True once all homes were asked.
    pub(crate) asked: bool,
    /// Shards whose home had nothing at this index: not asked again until the replica is there.
    pub(crate) empty_at: BTreeMap<ShardId, u64>,
}

/// What a scan is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waiting for the local replica to show a match.
    Waiting,
    /// Asking all homes.
    Asking(u64),
    /// Taking from one shard.
    Taking(ShardId, u64),
}

impl Request {
    /// What a request that waits in the local replica looks for.
    pub(crate) const fn template(&self) -> Option<&Template> {
        match self {
            Self::Read { template, .. }
            | Self::Fresh { template, .. }
            | Self::Watch { template, .. } => Some(template),
            Self::Scan(scan) => Some(&scan.template),
            _ => None,
        }
    }
}

impl Command {
    /// How long the command may take.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Out { deadline, .. }
            | Self::Read { deadline, .. }
            | Self::Take { deadline, .. }
            | Self::TakeLeased { deadline, .. }
            | Self::ActOnLease { deadline, .. }
            | Self::Inquire { deadline, .. }
            | Self::Declare { deadline, .. }
            | Self::Delete { deadline, .. }
            | Self::Claim { deadline, .. }
            | Self::Release { deadline, .. }
            | Self::Drain { deadline, .. }
            | Self::Bound { deadline, .. }
            | Self::Sync { deadline, .. }
            | Self::Recover { deadline, .. }
            | Self::Adopt { deadline, .. }
            | Self::Enlist { deadline }
            | Self::Host { deadline, .. }
            | Self::Commit { deadline, .. }
            | Self::Migrate { deadline, .. }
            | Self::NoteFailures { deadline, .. }
            | Self::Gather { deadline, .. } => Some(*deadline),
            Self::Watch { .. }
            | Self::Staleness { .. }
            | Self::List { .. }
            | Self::Browse { .. }
            | Self::Where { .. }
            | Self::Actors
            | Self::Delist
            | Self::EffectDone { .. }
            | Self::TakeDone { .. }
            | Self::Status
            | Self::Peers
            | Self::Shards => None,
        }
    }
}

impl Command {
    /// How long the command may wait for the mesh to be known: what does not wait for anything
    /// else should not wait long for that either.
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self {
            Self::Read {
                wait: false,
                fresh: false,
                ..
            }
            | Self::Staleness { .. }
            | Self::List { .. }
            | Self::Browse { .. }
            | Self::Where { .. }
            | Self::Actors
            | Self::Shards => Some(JOINS_WITHIN),
            other => other.deadline(),
        }
    }
}

/// The operation, unless its home could not keep the bodies it refers to.
fn without_reference(operation: Operation) -> Result<Operation, String> {
    if operation.refers() {
        let why =
            "a reference to a large value can only be stored in a tuple; give the value itself";
        return Err(why.to_owned());
    }
    Ok(operation)
}

impl Peer {
    /// Begins a command.
    pub(crate) fn begin(&mut self, request: RequestId, command: Command) {
        if self.requests.len() >= MAX_REQUESTS {
            let why = format!("{MAX_REQUESTS} requests");
            self.reply(request, Reply::Failed(Failure::Busy(why)));
            return;
        }
        let at_once = matches!(
            command,
            Command::Read {
                wait: false,
                fresh: false,
                ..
            }
        );
        if let Some(deadline) = command.deadline()
            && !at_once
        {
            self.timers
                .set_if_none(Timer::Deadline(request), self.now + deadline);
        }
        if let Err(refusal) = self.start(request, command) {
            self.finish(request, Reply::Failed(Failure::Refused(refusal)));
        }
    }

    fn start(&mut self, request: RequestId, command: Command) -> Result<(), String> {
        let name = |text: &str| Name::new(text).map_err(|error| error.to_string());
        match command {
            Command::Out {
                workspace,
                tuple,
                ack,
                ..
            } => {
                self.store(request, name(&workspace)?, tuple, Way::Outbox(ack));
            }
            Command::Read {
                workspace,
                template,
                wait,
                fresh,
                deadline,
            } => {
                self.read(request, name(&workspace)?, template, wait, fresh, deadline);
            }
            Command::Take {
                workspace,
                template,
                wait,
                deadline,
            } => {
                self.take(request, name(&workspace)?, template, wait, None, deadline);
            }
            Command::TakeLeased {
                workspace,
                template,
                wait,
                ttl,
                deadline,
            } => {
                let workspace = name(&workspace)?;
                let lease_ms = Some(crate::lease::ttl_ms(ttl)?);
                self.take(request, workspace, template, wait, lease_ms, deadline);
            }
            Command::ActOnLease {
                lease,
                act,
                deadline,
            } => self.act_on_lease(request, lease, act, deadline)?,
            Command::Inquire { op, deadline } => self.inquire(request, op, deadline)?,
            Command::Declare {
                workspace,
                variable,
                mode,
                deadline,
            } => {
                let workspace = name(&workspace)?;
                let shard = self.shard_for(&workspace, &variable);
                let operation = Operation::Declare {
                    workspace,
                    variable,
                    mode,
                };
                self.operate(request, shard, operation, deadline);
            }
            Command::Delete {
                workspace,
                variable: Some(variable),
                deadline,
            } => {
                let workspace = name(&workspace)?;
                let shard = self.shard_for(&workspace, &variable);
                let variable = Some(variable);
                self.operate(
                    request,
                    shard,
                    Operation::Drop {
                        workspace,
                        variable,
                    },
                    deadline,
                );
            }
            Command::Delete {
                workspace,
                variable: None,
                ..
            } => {
                let workspace = name(&workspace)?;
                let query = self.ask(request, self.shards_of(&workspace), &workspace, None);
                let left = BTreeSet::new();
                self.requests.insert(
                    request,
                    Request::DropAll {
                        query,
                        workspace,
                        left,
                    },
                );
            }
            Command::Bound {
                workspace,
                terms,
                act,
                deadline,
            } => {
                let workspace = name(&workspace)?;
                if let Bound::Put { tuple } = act {
                    let within = deadline;
                    self.store(request, workspace, tuple, Way::Bound { terms, within });
                    return Ok(());
                }
                let shard = self.shard_for(&workspace, &act.variable());
                let operation = Operation::Bound {
                    workspace,
                    terms,
                    act,
                };
                let operation = without_reference(operation)?;
                self.operate(request, shard, operation, deadline);
            }
            Command::Staleness {
                workspace,
                template,
            } => {
                let stale = self.staleness(&name(&workspace)?, &template);
                self.reply(request, Reply::Staleness(stale));
            }
            Command::Sync {
                workspace,
                deadline,
            } => {
                let workspace = workspace.as_deref().map(name).transpose()?;
                self.sync(request, workspace, deadline)?;
            }
            Command::Watch {
                workspace,
                template,
            } => {
                self.watch(request, name(&workspace)?, template);
            }
            Command::List { workspace } => {
                let reply = match workspace {
                    None => Reply::Workspaces(self.workspaces()),
                    Some(workspace) => Reply::Variables(self.variables(&name(&workspace)?)),
                };
                self.reply(request, reply);
            }
            Command::Browse {
                workspace,
                variable,
                limit,
            } => {
                let tuples = self.browse(&name(&workspace)?, &variable, limit);
                self.reply(request, Reply::Tuples(tuples));
            }
            Command::Claim {
                name: actor,
                expect,
                spec,
                deadline,
            } => {
                let shard = self.actor_shard(&name(&actor)?);
                let host = self.me;
                let operation = Operation::Claim {
                    name: actor,
                    expect,
                    spec,
                    host,
                };
                let operation = without_reference(operation)?;
                self.operate(request, shard, operation, deadline);
            }
            Command::Release {
                name: actor,
                token,
                keeps,
                deadline,
            } => {
                let shard = self.actor_shard(&name(&actor)?);
                if self.is_claiming(shard, &actor) {
                    let why = format!("this node is about to host `{actor}`");
                    self.reply(request, Reply::Failed(Failure::Busy(why)));
                    return Ok(());
                }
                let void = self.void_host_of(&actor);
                let sent = self.outboxes.done(&actor);
                let operation = Operation::Release {
                    name: actor,
                    token,
                    void,
                    keeps,
                    sent,
                };
                self.operate(request, shard, operation, deadline);
            }
            Command::Host {
                name: actor,
                expect,
                spec,
                needs,
                deadline,
            } => {
                let shard = self.actor_shard(&name(&actor)?);
                let claim = self.claim_leased(actor, expect, spec, needs)?;
                self.operate(request, shard, without_reference(claim)?, deadline);
            }
            Command::Commit {
                name: actor,
                token,
                seq,
                snapshot,
                marks,
                effects,
                rest_over,
                deadline,
            } => {
                let shard = self.actor_shard(&name(&actor)?);
                let sent = self.outboxes.done(&actor);
                let commit = Commit {
                    name: actor,
                    token,
                    seq,
                    snapshot,
                    marks,
                    effects,
                    sent,
                    rest_over,
                };
                let commit = without_reference(commit.operation()?)?;
                self.operate(request, shard, commit, deadline);
            }
            Command::Migrate {
                name: actor,
                token,
                seq,
                to,
                deadline,
            } => {
                let shard = self.actor_shard(&name(&actor)?);
                let migrate = Operation::Migrate {
                    name: actor,
                    token,
                    seq,
                    to,
                };
                self.operate(request, shard, migrate, deadline);
            }
            Command::NoteFailures {
                name: actor,
                token,
                failures,
                deadline,
            } => {
                let shard = self.actor_shard(&name(&actor)?);
                let note = Operation::NoteFailures {
                    name: actor,
                    token,
                    failures,
                };
                self.operate(request, shard, note, deadline);
            }
            Command::EffectDone { name, born, n } => {
                self.effect_done(&name, born, n);
                self.reply(request, Reply::Done);
            }
            Command::TakeDone {
                name,
                born,
                token,
                n,
            } => {
                self.take_handled(&(name, born, token, n));
                self.reply(request, Reply::Done);
            }
            Command::Enlist { .. } => self.enlist(request),
            Command::Delist => {
                self.say_good_bye();
                self.reply(request, Reply::Done);
            }
            Command::Adopt { token, blob, .. } => self.adopt_body(request, token, blob),
            Command::Gather {
                blob,
                workspace,
                variable,
                deadline,
            } => {
                let shard = self.shard_for(&name(&workspace)?, &variable);
                self.gather(request, blob, shard, deadline);
            }
            Command::Where { name: actor } => {
                let shard = self.actor_shard(&name(&actor)?);
                let slot = self.slot_ref(shard);
                let record = slot.and_then(|slot| slot.shard.sm().actor(&actor));
                let info = record.map(|record| actor_info(&actor, record));
                self.reply(request, Reply::Actor(info));
            }
            Command::Actors => {
                let all = self.slots.iter().flat_map(|slot| slot.shard.sm().actors());
                let mut infos: Vec<_> =
                    all.map(|(name, record)| actor_info(name, record)).collect();
                infos.sort_by(|a, b| a.name.cmp(&b.name));
                self.reply(request, Reply::Actors(infos));
            }
            Command::Status => {
                let status = Box::new(self.status());
                self.reply(request, Reply::Status(status));
            }
            Command::Peers => {
                let peers = self.peers();
                self.reply(request, Reply::Peers(peers));
            }
            Command::Shards => {
                let shards = self.shard_infos();
                self.reply(request, Reply::Shards(shards));
            }
            Command::Drain { deadline, whole } => self.drain(request, deadline, whole),
            Command::Recover { shard, .. } => {
                self.recover(request, shard.map(ShardId))?;
            }
        }
        Ok(())
    }

    /// The shard of a name, if it is one.
    pub(crate) fn shard_of_actor(&self, actor: &str) -> Option<ShardId> {
        Name::new(actor).ok().map(|name| self.actor_shard(&name))
    }

    fn actor_shard(&self, actor: &Name) -> ShardId {
        let workspace = Name::new(ACTORS);
        let variable = Value::String(actor.as_str().to_owned());
        workspace.map_or(ShardId(0), |workspace| {
            self.shard_for(&workspace, &variable)
        })
    }

    pub(crate) fn all_shards(&self) -> Vec<ShardId> {
        self.slots.iter().map(|slot| slot.shard.id()).collect()
    }

    /// Ends a request with its answer.
    pub(crate) fn finish(&mut self, request: RequestId, reply: Reply) {
        self.forget(request);
        self.reply(request, reply);
    }

    /// Drops a request and what stands in its name, but for operations at homes.
    pub(crate) fn forget(&mut self, request: RequestId) -> Option<Request> {
        self.timers.clear(&Timer::Deadline(request));
        let state = self.requests.remove(&request)?;
        match &state {
            Request::Read {
                workspace,
                template,
                ..
            }
            | Request::Watch {
                workspace,
                template,
            } => {
                self.unregister(request, workspace, template);
            }
            Request::Scan(scan) => {
                self.unregister(request, &scan.workspace, &scan.template);
                if let Stage::Asking(query) = scan.stage {
                    self.drop_query(query);
                }
            }
            Request::Fresh {
                query,
                workspace,
                template,
                ..
            } => {
                self.unregister(request, workspace, template);
                if let Some(query) = query {
                    self.drop_query(*query);
                }
            }
            Request::Sync { query, .. } => {
                self.syncing.remove(&request);
                if let Some(query) = query {
                    self.drop_query(*query);
                }
            }
            Request::DropAll { query, .. } => self.drop_query(*query),
            Request::Recover { query } => {
                self.recoveries.remove(query);
                self.timers.clear(&Timer::Survey(*query));
            }
            Request::Place(placing) => self.forget_placing(request, placing),
            Request::Enlist => self.forget_enlisting(request),
            Request::Adopt(hash) => self.forget_adopting(request, *hash),
            Request::Gather { blob, .. } => self.forget_gathering(request, blob.hash()),
            Request::Store
            | Request::Op { .. }
            | Request::Drain { .. }
            | Request::GiveUp { .. } => {}
        }
        Some(state)
    }

    /// A request's time is up.
    pub(crate) fn deadline(&mut self, request: RequestId) {
        if self.drop_early(request) {
            let why = "this node has not joined its mesh yet".to_owned();
            self.reply(
                request,
                Reply::Failed(Failure::Unavailable { shard: 0, why }),
            );
            return;
        }
        let Some(state) = self.requests.get(&request) else {
            return;
        };
        match state {
            Request::Store => self.finish(request, Reply::Pending),
            Request::Read { within, .. }
            | Request::Fresh {
                query: None,
                within,
                ..
            } => {
                let failure = Failure::TimedOut(*within);
                self.finish(request, Reply::Failed(failure));
            }
            Request::Drain { within, whole } => {
                let (within, whole) = (*within, *whole);
                self.fail_drain(request, within, whole);
            }
            Request::Recover { query } => {
                let query = *query;
                self.recovery_over(query);
            }
            Request::GiveUp { shard } => {
                let why = format!(
                    "nobody who leads shard {}, which keeps its register, gave it up in time",
                    self.ranked_by(*shard)
                );
                let shard = shard.0;
                self.finish(request, Reply::Failed(Failure::Unavailable { shard, why }));
            }
            Request::Fresh {
                query: Some(query), ..
            } => {
                let failure = self.unanswered(*query);
                self.finish(request, Reply::Failed(failure));
            }
            Request::DropAll { query, left, .. } => {
                let failure = match left.first() {
                    Some((shard, seq)) if holds(Guard::DeletionUnknown) => {
                        self.unknown(*shard, *seq)
                    }
                    _ => self.unanswered(*query),
                };
                for (shard, seq) in left.clone() {
                    self.unheard(shard, seq);
                }
                self.finish(request, Reply::Failed(failure));
            }
            Request::Sync {
                query,
                left,
                within,
            } => {
                let failure = match (query, left.first_key_value()) {
                    (Some(query), _) => self.unanswered(*query),
                    (None, Some((shard, index))) => Failure::Unavailable {
                        shard: shard.0,
                        why: format!("its history up to {index} has not come"),
                    },
                    (None, None) => Failure::TimedOut(*within),
                };
                self.finish(request, Reply::Failed(failure));
            }
            Request::Op { shard, seq, within } => {
                let (shard, seq, within) = (*shard, *seq, *within);
                self.op_deadline(request, shard, seq, within);
            }
            Request::Scan(scan) => match scan.stage {
                Stage::Waiting => {
                    let failure = Failure::TimedOut(scan.within);
                    self.finish(request, Reply::Failed(failure));
                }
                Stage::Asking(query) => {
                    let failure = self.unanswered(query);
                    self.finish(request, Reply::Failed(failure));
                }
                Stage::Taking(shard, seq) => {
                    let within = scan.within;
                    self.op_deadline(request, shard, seq, within);
                }
            },
            Request::Place(_) => self.placing_over(request),
            Request::Enlist => self.enlisting_over(request),
            Request::Gather { .. } => self.gathering_over(request),
            Request::Adopt(_) => {
                let why = "the disk has not answered in time".to_owned();
                self.finish(request, Reply::Failed(Failure::Busy(why)));
            }
            Request::Watch { .. } => {}
        }
    }

    /// Nobody waits for this request any more.
    pub(crate) fn cancel(&mut self, request: RequestId) {
        if self.drop_early(request) {
            return;
        }
        match self.forget(request) {
            Some(Request::Op { shard, seq, .. }) => self.cancel_op(shard, seq),
            Some(Request::Scan(Scan {
                stage: Stage::Taking(shard, seq),
                ..
            })) => {
                self.cancel_op(shard, seq);
            }
            Some(_) => {}
            // It was answered: a tuple it took and nobody received goes back.
            None => self.give_back(request),
        }
    }
}
