//! Durable actors: hosted under the node's lease, with their state at the home of their name
//! (decision 013).
//!
//! The peer says until when the node may act, which sets the gate of the local system; when its
//! life as a host is over, what ran under it is killed before the node enlists anew. What other
//! hosts left is started here when the peer says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use cpe_actors::{
    ActorId, AnyAddress, AsActor, Commit, ExitReason, Journal, NotCommitted, Options, Snapshot,
    Supervision,
};
use cpe_membership::Member;
use cpe_mesh::{ActorInfo, Command, Failure, Reply};
use cpe_space::{ActorRecord, Effect, Kept, Marked, Name, Taking};
use cpe_tuple::Value;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::envelope::NotStarted;
use super::failures::Failures;
use super::forward;
use super::host::{Hosted, release_at_end, release_at_last};
use super::inbox::Inbox;
use super::place::KINDS;
use super::spec::Spec;
use super::{Inner, lock};
use crate::SpaceError;
use crate::large::by_reference;

/// How long one try to commit or to enlist waits for the home before the next.
pub(super) const TRY: Duration = Duration::from_secs(5);

/// Pause after a try that failed.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Pause before an actor that could not begin is tried again; it doubles up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Keys of a state in the registry.
const VERSION: &str = "version";
const STATE: &str = "state";
/// What kind of actor it is of: another one cannot take it up.
const KIND: &str = "kind";

/// What a node has of a durable actor that it runs.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    /// The life of the node as a host under which it runs.
    pub(super) life: Option<Member>,
    /// The token of the claim with which it began.
    pub(super) born: u64,
    pub(super) kind: String,
    /// What its node must have.
    pub(super) needs: BTreeMap<String, String>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) last: Arc<LastCommit>,
    pub(super) failures: Arc<Failures>,
}

/// The last commit, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct LastCommit {
    seq: AtomicU64,
    /// Of the one after it, which was asked for and not answered: the messages.
    open: Mutex<Vec<Marked>>,
}

impl LastCommit {
    pub(super) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    /// This commit lasts: the one under way, if it is newer than what was known.
    pub(super) fn lasts(&self, seq: u64, inbox: &Inbox) {
        if self.seq.fetch_max(seq, Ordering::Relaxed) < seq {
            inbox.lasts(&std::mem::take(&mut *lock(&self.open)));
        }
    }
}

/// The journal of one incarnation, at the home of its name.
struct HomeJournal {
    inner: Weak<Inner>,
    name: String,
    kind: String,
    token: u64,
    inbox: Arc<Inbox>,
    last: Arc<LastCommit>,
    failures: Arc<Failures>,
}

impl Journal for HomeJournal {
    fn commit(&self, _: ActorId, commit: Commit) -> BoxFuture<'_, Result<(), NotCommitted>> {
        Box::pin(self.keep(commit))
    }

    fn failed(&self, _: ActorId, failures: u32, within: Duration) {
        self.failures.count(failures, within);
    }
}

impl HomeJournal {
    /// Asks until the home has decided. One commit is under way at a time, as actors have it.
    async fn keep(&self, commit: Commit) -> Result<(), NotCommitted> {
        let effects = commit.effects.into_iter().map(to_effect);
        let effects: Result<Vec<Effect>, String> = effects.collect();
        let effects = effects.map_err(NotCommitted::Refused)?;
        let snapshot = to_value(commit.snapshot, &self.kind);
        let marks = self.inbox.marked(&commit.handled);
        let rest_over = !self.inbox.is_holding();
        // Of a commit before this one that was given up half-way.
        let given_up = std::mem::take(&mut *lock(&self.last.open));
        loop {
            let Some(inner) = self.inner.upgrade() else {
                return Err(NotCommitted::Fenced("its node has stopped".to_owned()));
            };
            let seq = self.last.seq() + 1;
            lock(&self.last.open).clone_from(&marks);
            let command = Command::Commit {
                name: self.name.clone(),
                token: self.token,
                seq,
                snapshot: snapshot.clone(),
                marks: marks.clone(),
                effects: effects.clone(),
                rest_over,
                deadline: TRY,
            };
            let Err(failed) = inner.desk.ask(command).await else {
                self.last.lasts(seq, &self.inbox);
                return Ok(());
            };
            match failed {
                SpaceError::Failed(Failure::Fenced { .. }) | SpaceError::Closed => {
                    return Err(NotCommitted::Fenced(failed.to_string()));
                }
                SpaceError::Failed(Failure::Refused(why)) => {
                    return Err(NotCommitted::Refused(why));
                }
                // One that was given up half-way lasts after all: this is the next.
                SpaceError::Failed(Failure::OutOfTurn { last }) if last >= seq => {
                    self.last.seq.fetch_max(last, Ordering::Relaxed);
                    self.inbox.lasts(&given_up);
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// As it is kept at the home, from where the peer sends it on.
fn to_effect(effect: cpe_actors::Effect) -> Result<Effect, String> {
    let name = |text: &str| Name::new(text).map_err(|error| format!("an effect: {error}"));
    Ok(match effect {
        cpe_actors::Effect::Out { workspace, tuple } => Effect::Out {
            workspace: name(&workspace)?,
            tuple,
        },
        cpe_actors::Effect::Tell { actor, message } => Effect::Tell {
            actor: name(&actor)?,
            message,
        },
        cpe_actors::Effect::Spawn {
            kind,
            name: of,
            args,
        } => Effect::Spawn {
            kind,
            name: name(&of)?,
            args,
        },
        cpe_actors::Effect::Take {
            workspace,
            template,
            wait,
            answer,
            request,
        } => Effect::Take(Taking {
            workspace: name(&workspace)?,
            template: by_reference(template).map_err(|error| format!("an effect: {error}"))?,
            wait,
            answer,
            request,
        }),
        other => return Err(format!("an effect that this node does not know: {other:?}")),
    })
}

fn to_value(Snapshot { version, state }: Snapshot, kind: &str) -> Value {
    Value::Map(BTreeMap::from([
        (KIND.to_owned(), Value::from(kind)),
        (VERSION.to_owned(), Value::from(i64::from(version))),
        (STATE.to_owned(), state),
    ]))
}

/// What [`to_value`] made; nothing if it is something else.
fn to_snapshot(kept: &Kept) -> Option<Snapshot> {
    let Value::Map(map) = &kept.snapshot else {
        return None;
    };
    let version = u32::try_from(map.get(VERSION)?.as_int()?).ok()?;
    let state = map.get(STATE)?.clone();
    Some(Snapshot { version, state })
}

/// The kind of actor whose state is kept, if it says so: what was committed before kinds were kept
/// does not.
fn kind_of(kept: &Kept) -> Option<&str> {
    match &kept.snapshot {
        Value::Map(map) => map.get(KIND)?.as_str(),
        _ => None,
    }
}

/// What to do about a state that is kept and not taken up.
fn way_out(name: &str, kept: &Kept) -> String {
    let whose = kind_of(kept).map_or_else(String::new, |kind| format!(" of the kind `{kind}`"));
    format!(
        "its name keeps the state of an actor{whose}, which failed or whose node could not run it: \
         start that kind to go on from there, or give the state up: cpe actor stop {name}"
    )
}

impl Spec {
    /// What a node must have to run it.
    pub(super) fn needs(&self) -> BTreeMap<String, String> {
        let mut needs = self.wishes.require.clone();
        needs.insert(KINDS.to_owned(), self.kind.clone());
        needs
    }
}

/// Claims the name for this node's life as a host and starts the actor; its token.
pub(super) async fn start(
    inner: &Arc<Inner>,
    name: String,
    spec: Spec,
    until: Instant,
) -> Result<u64, NotStarted> {
    let deadline = until.saturating_duration_since(Instant::now());
    let registry = |error: SpaceError| NotStarted::Registry(error.to_string());
    let enlisted = inner.desk.ask(Command::Enlist { deadline });
    enlisted.await.map_err(registry)?;
    let record = claim(inner, &name, &spec, until).await?;
    let token = record.token;
    let actor = match run(inner, &name, &spec, &record) {
        Ok(address) => address.as_actor(),
        Err(why) => {
            let reason = ExitReason::Failed(why.clone());
            inner.note_end(&name, (token, record.born), true, &reason);
            // A name without an actor would stay taken. What it has committed stays.
            release_at_last(inner, &name, token, true, deadline).await;
            return Err(NotStarted::Cannot(why));
        }
    };
    // Only then has it taken up its state, and has begun to be what its name is for.
    match tokio::time::timeout_at(until, actor.begun()).await {
        Ok(Ok(())) => Ok(token),
        Ok(Err(ended)) => {
            // Its name is being given up: who tries again at once is not to find it taken.
            let free = |record: Option<&ActorInfo>| record.is_none_or(|it| it.host.is_none());
            let freed = inner.record_that(&name, until, free).await;
            freed.map_err(registry)?;
            let why = match record.kept.as_deref() {
                Some(kept) => format!("{}; {}", ended.reason, way_out(&name, kept)),
                None => ended.reason.to_string(),
            };
            Err(NotStarted::Cannot(why))
        }
        Err(_) => Err(NotStarted::Cannot(
            "it has not begun in time, and may yet: `cpe actor tree` says what it is at".to_owned(),
        )),
    }
}

/// Claims a name that nobody hosts, or a life that is over.
async fn claim(
    inner: &Inner,
    name: &str,
    spec: &Spec,
    until: Instant,
) -> Result<ActorRecord, NotStarted> {
    let registry = |error: SpaceError| NotStarted::Registry(error.to_string());
    for last in [false, true] {
        let record = inner.record(name).await.map_err(registry)?;
        let expect = record.map_or(0, |info| info.token);
        let host = Command::Host {
            name: name.to_owned(),
            expect,
            spec: spec.to_value(),
            needs: spec.needs(),
            deadline: until.saturating_duration_since(Instant::now()),
        };
        match inner.desk.ask(host).await {
            Ok(Reply::Hosted(record)) => return Ok(*record),
            Ok(_) => return Err(registry(SpaceError::Unexpected)),
            Err(SpaceError::Failed(why @ Failure::Fenced { .. })) if last => {
                return Err(NotStarted::Taken(why.to_string()));
            }
            // The home knows of a claim, or its end, that this replica has not seen yet.
            Err(SpaceError::Failed(Failure::Fenced { .. })) => {
                let changed = |record: Option<&ActorInfo>| {
                    record.is_some_and(|info| info.token > expect || info.host.is_none())
                };
                let seen = inner.record_that(name, until, changed).await;
                seen.map_err(registry)?;
            }
            Err(error) => return Err(registry(error)),
        }
    }
    Err(registry(SpaceError::Unexpected))
}

/// Starts an actor that this node hosts now, from what it has committed.
fn run(
    inner: &Arc<Inner>,
    name: &str,
    spec: &Spec,
    record: &ActorRecord,
) -> Result<AnyAddress, String> {
    let kept = record.kept.as_deref();
    if let Some(kept) = kept
        && kind_of(kept).is_some_and(|kind| kind != spec.kind)
    {
        return Err(way_out(name, kept));
    }
    let rest = record.rest;
    let office = (&inner.tasks, &inner.system);
    let inbox = Inbox::new((name, record.token), office, kept, rest);
    let last = LastCommit {
        seq: AtomicU64::new(kept.map_or(0, |kept| kept.seq)),
        ..LastCommit::default()
    };
    let last = Arc::new(last);
    let options = Options::default().name(name).gated();
    let within = Supervision::default().within;
    let failures = Failures::new(inner, (name, record.token), record.failures, within);
    let journal = HomeJournal {
        inner: Arc::downgrade(inner),
        name: name.to_owned(),
        kind: spec.kind.clone(),
        token: record.token,
        inbox: Arc::clone(&inbox),
        last: Arc::clone(&last),
        failures: Arc::clone(&failures),
    };
    let options = options.failures(record.failures);
    let options = options.foreign(spec.wishes.foreign);
    let mut options = options.durable(Arc::new(journal));
    if let Some(kept) = kept {
        let snapshot = to_snapshot(kept).ok_or("what it committed is not a state")?;
        options = options.restore(snapshot);
    }
    let args = spec.args.clone();
    let mut all = lock(&inner.hosted);
    if inner.is_leaving() {
        return Err("this node is about to stop".to_owned());
    }
    // What was granted to a life that is over by now would act under the next one of this node.
    if record.host != *lock(&inner.life) {
        return Err("the lease of this node ran out meanwhile".to_owned());
    }
    let spawned = inner
        .registry
        .spawn(&inner.system, &spec.kind, options, args);
    let address = spawned.map_err(|error| error.to_string())?;
    let hosted = Hosted {
        token: record.token,
        born: record.born,
        address: address.clone(),
        left: Arc::clone(&inbox.left),
        asks: Arc::default(),
        mailbox: address.info().mailbox,
        keeps: Arc::default(),
        durable: Some(Durable {
            life: record.host,
            born: record.born,
            kind: spec.kind.clone(),
            needs: spec.needs(),
            inbox: Arc::clone(&inbox),
            last,
            failures,
        }),
    };
    inbox.serve(address.clone());
    let marks = (Arc::clone(&hosted.left), Arc::clone(&hosted.keeps));
    all.insert(name.to_owned(), hosted);
    drop(all);
    inner.begun.notify_waiters();
    if let Some(from) = rest {
        let waiting =
            forward::await_rest(Arc::downgrade(inner), name.to_owned(), record.token, from);
        inner.tasks.spawn(waiting);
    }
    let (host, name) = (Arc::clone(inner), name.to_owned());
    let claim = (record.token, record.born, true);
    let watching = release_at_end(host, name, claim, address.clone(), marks);
    inner.tasks.spawn(watching);
    Ok(address)
}

/// Tries to run an actor that could not begin, until it does or is not this node's any more: what
/// it lacked may come, as a program that is mended.
async fn try_again(inner: Weak<Inner>, name: String, spec: Spec, record: ActorRecord) {
    let (token, mut pause) = (record.token, AGAIN);
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
        let Some(inner) = inner.upgrade() else {
            return;
        };
        match inner.hosts(&name, token).await {
            Ok(true) => {}
            Err(SpaceError::Closed) => return,
            Err(_) => continue,
            Ok(false) => {
                forget_stuck(&inner, &name, token);
                return;
            }
        }
        match run(&inner, &name, &spec, &record) {
            Ok(_) => {
                tracing::info!(actor = %name, token, "taken over, which it could not be before");
                forget_stuck(&inner, &name, token);
                return;
            }
            Err(error) => {
                tracing::warn!(actor = %name, %error, ?pause, "still cannot run what was left");
                lock(&inner.stuck).insert(name.clone(), (token, error));
            }
        }
    }
}

fn forget_stuck(inner: &Inner, name: &str, token: u64) {
    let mut stuck = lock(&inner.stuck);
    if stuck.get(name).is_some_and(|(of, _)| *of == token) {
        stuck.remove(name);
    }
}

impl Inner {
    /// The peer gives this node an actor to run.
    pub(crate) fn take_over(self: &Arc<Self>, name: &str, record: &ActorRecord) {
        let Some(spec) = Spec::from_value(&record.spec) else {
            return tracing::error!(actor = %name, "its record says nothing of how to run it");
        };
        match run(self, name, &spec, record) {
            Ok(_) => tracing::info!(actor = %name, token = record.token, "taken over"),
            // The name stays this node's: released, it would lose what it has committed.
            Err(error) => {
                tracing::error!(actor = %name, %error, "cannot run what was left");
                lock(&self.stuck).insert(name.to_owned(), (record.token, error));
                let inner = Arc::downgrade(self);
                let again = try_again(inner, name.to_owned(), spec, record.clone());
                self.tasks.spawn(again);
            }
        }
    }

    /// Why a durable actor of this node does not run, if it cannot begin.
    pub(super) fn why_stuck(&self, name: &str, token: u64) -> Option<String> {
        let stuck = lock(&self.stuck);
        let (_, why) = stuck.get(name).filter(|(of, _)| *of == token)?;
        Some(why.clone())
    }

    /// The peer says until when this node may act, in a life as a host.
    pub(crate) fn may_act(&self, life: Member, until: Instant) {
        let hosted = lock(&self.hosted);
        *lock(&self.life) = Some(life);
        drop(hosted);
        self.system.gate().open_until(until);
    }

    /// A life of some node as a host is over, and with it those before.
    pub(crate) fn life_over(&self, life: Member) {
        let mut over = lock(&self.over);
        let newest = over.entry(life.node).or_insert(life.inc);
        *newest = life.inc.max(*newest);
        drop(over);
        self.nothing_more_from(life);
    }

    /// A life of this node as a host is over: kills what ran under it, and enlists anew.
    pub(crate) fn lost_life(self: &Arc<Self>, life: Member) {
        self.system.gate().close();
        let mut lost = Vec::new();
        let mut all = lock(&self.hosted);
        *lock(&self.life) = None;
        all.retain(|_, hosted| {
            let durable = hosted.durable.as_ref();
            let lost_one = durable.filter(|durable| durable.life == Some(life));
            let stays = lost_one.is_none();
            if !stays {
                hosted.left.store(true, Ordering::Relaxed);
                lost.extend(
                    lost_one
                        .map(|durable| Arc::clone(&durable.inbox))
                        .zip(Some(hosted.address.clone())),
                );
            }
            stays
        });
        drop(all);
        lock(&self.ends).life_over();
        self.ended.notify_waiters();
        tracing::warn!(%life, actors = lost.len(), "the lease of this node as a host ran out");
        for (inbox, address) in &lost {
            address.as_actor().kill();
            inbox.give_up();
        }
        let inner = Arc::downgrade(self);
        self.tasks.spawn(async move {
            for (_, address) in lost {
                address.as_actor().ended().await;
            }
            // A life in which they could act again must not begin before.
            while let Some(inner) = inner.upgrade() {
                match inner.desk.ask(Command::Enlist { deadline: TRY }).await {
                    Ok(_) | Err(SpaceError::Closed) => return,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::spec::Wishes;
    use super::*;
    use crate::{MeshKey, Node};

    fn counter() -> Spec {
        Spec {
            kind: "counter".to_owned(),
            args: Value::Null,
            wishes: Wishes::default(),
        }
    }

    /// A mesh of one node.
    async fn alone() -> Node {
        let folder = tempfile::TempDir::new().unwrap();
        let key = folder.path().join("mesh.key");
        MeshKey::generate().save(&key).unwrap();
        let builder = Node::builder().name("a").ephemeral().mesh_key(&key);
        let builder = builder.listen("/ip4/127.0.0.1/tcp/0").shards(4);
        builder.start().await.unwrap()
    }

    /// A name that the node has been given, and of which nothing runs yet.
    async fn granted(inner: &Inner, spec: &Spec) -> ActorRecord {
        let deadline = Duration::from_secs(60);
        inner.desk.ask(Command::Enlist { deadline }).await.unwrap();
        claim(inner, "n", spec, Instant::now() + deadline)
            .await
            .unwrap()
    }

    /// The home may grant a name in the moment in which the node's life ends, and whoever asked
    /// for it wake up after that. Nothing else would keep such an actor from acting in the next
    /// life of the node, when another node has its name.
    #[tokio::test]
    async fn what_was_granted_to_a_life_that_is_over_is_not_started() {
        let spec = counter();
        let node = alone().await;
        let actors = node.actors();
        let inner = &actors.inner;
        let record = granted(inner, &spec).await;
        // Nothing else runs on this thread between these two.
        inner.lost_life(record.host.unwrap());
        let refused = run(inner, "n", &spec, &record).unwrap_err();
        assert!(refused.contains("lease"), "{refused}");
        assert!(inner.hosted("n", record.token).is_none());
        node.kill().await;
    }

    /// What it lacks may come, and until then whoever asks it is told what that is.
    #[tokio::test]
    async fn an_actor_that_cannot_begin_says_why_and_begins_once_it_can() {
        let mended = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let folder = tempfile::TempDir::new().unwrap();
        let key = folder.path().join("mesh.key");
        MeshKey::generate().save(&key).unwrap();
        let builder = Node::builder().name("a").ephemeral().mesh_key(&key);
        let builder = builder.listen("/ip4/127.0.0.1/tcp/0").shards(4);
        let is_mended = Arc::clone(&mended);
        let builder = builder.kind("shy", move |_| {
            if is_mended.load(Ordering::Relaxed) {
                Ok(Box::new(Shy) as Box<dyn crate::DynActor>)
            } else {
                Err(crate::ActorError::refused("its program is broken"))
            }
        });
        let node = builder.start().await.unwrap();
        let spec = Spec {
            kind: "shy".to_owned(),
            ..counter()
        };
        let actors = node.actors();
        let record = granted(&actors.inner, &spec).await;
        actors.inner.take_over("n", &record);
        let within = Duration::from_secs(60);
        let ask = || actors.ask("n", Value::Null, within);
        let why = ask().await.unwrap_err().to_string();
        assert!(why.contains("its program is broken"), "{why}");
        mended.store(true, Ordering::Relaxed);
        let answered = async {
            while let Err(error) = ask().await {
                assert!(error.to_string().contains("broken"), "{error}");
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(within, answered).await.unwrap();
        assert_eq!(actors.inner.why_stuck("n", record.token), None);
        node.kill().await;
    }

    struct Shy;

    impl crate::DynActor for Shy {
        fn handle<'a>(
            &'a mut self,
            message: Value,
            _: &'a mut crate::DynContext,
        ) -> BoxFuture<'a, Result<Option<Value>, crate::ActorError>> {
            Box::pin(async { Ok(Some(message)) })
        }

        fn snapshot(&self) -> Result<Option<Value>, crate::ActorError> {
            Ok(Some(Value::Null))
        }
    }

    /// Between the grant of a name and the begin of its actor anybody may ask that it be stopped.
    #[tokio::test]
    async fn who_stops_an_actor_that_is_about_to_begin_waits_until_it_has() {
        let spec = counter();
        let node = alone().await;
        let actors = node.actors();
        let inner = &actors.inner;
        let until = Instant::now() + Duration::from_secs(60);
        let record = granted(inner, &spec).await;
        let stopping = super::super::host::stop(inner, "n", record.token, until, false);
        tokio::pin!(stopping);
        let early = tokio::time::timeout(Duration::from_millis(500), &mut stopping).await;
        assert!(early.is_err(), "its name was given up: {early:?}");
        run(inner, "n", &spec, &record).unwrap();
        let stopped = stopping.await;
        assert!(
            matches!(stopped, super::super::envelope::Answer::Done),
            "{stopped:?}"
        );
        assert!(inner.hosted("n", record.token).is_none());
        let left = inner.record("n").await.unwrap().unwrap();
        assert_eq!(left.host, None);
        node.kill().await;
    }
}
