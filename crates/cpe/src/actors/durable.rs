//! Durable actors: hosted under the node's lease, with their state at the home of their name
//! (decision 013).
//!
//! The peer says until when the node may act, which sets the gate of the local system; when its
//! life as a host is over, what ran under it is killed before the node enlists anew. What other
//! hosts left is started here when the peer says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cpe_actors::{ActorId, AsActor, Commit, Journal, NotCommitted, Options, Snapshot};
use cpe_membership::Member;
use cpe_mesh::{ActorInfo, Command, Failure, Reply};
use cpe_space::{ActorRecord, Kept};
use cpe_tuple::Value;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::envelope::NotStarted;
use super::host::{Hosted, release, release_at_end};
use super::place::KINDS;
use super::spec::Spec;
use super::{Inner, lock};
use crate::SpaceError;

/// How long one try to commit or to enlist waits for the home before the next.
const TRY: Duration = Duration::from_secs(5);

/// Pause after a try that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Keys of a state in the registry.
const VERSION: &str = "version";
const STATE: &str = "state";

/// The journal of one incarnation, at the home of its name.
struct HomeJournal {
    inner: Weak<Inner>,
    name: String,
    token: u64,
    /// The number of the last commit.
    last: AtomicU64,
}

impl Journal for HomeJournal {
    fn commit(&self, _: ActorId, commit: Commit) -> BoxFuture<'_, Result<(), NotCommitted>> {
        Box::pin(self.keep(commit))
    }
}

impl HomeJournal {
    /// Asks until the home has decided. One commit is under way at a time, as actors have it.
    async fn keep(&self, commit: Commit) -> Result<(), NotCommitted> {
        if !commit.effects.is_empty() {
            let why = "effects of an actor cannot be committed to a mesh yet: let it act by itself";
            return Err(NotCommitted::Refused(why.to_owned()));
        }
        let snapshot = to_value(commit.snapshot);
        loop {
            let Some(inner) = self.inner.upgrade() else {
                return Err(NotCommitted::Fenced("its node has stopped".to_owned()));
            };
            let seq = self.last.load(Ordering::Relaxed) + 1;
            let command = Command::Commit {
                name: self.name.clone(),
                token: self.token,
                seq,
                snapshot: snapshot.clone(),
                marks: Vec::new(),
                deadline: TRY,
            };
            let Err(failed) = inner.desk.ask(command).await else {
                self.last.store(seq, Ordering::Relaxed);
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
                    self.last.store(last, Ordering::Relaxed);
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

fn to_value(Snapshot { version, state }: Snapshot) -> Value {
    Value::Map(BTreeMap::from([
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

impl Spec {
    /// What a node must have to run it.
    fn needs(&self) -> BTreeMap<String, String> {
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
    if let Err(why) = run(inner, &name, &spec, &record) {
        // A name without an actor would stay taken. What it has committed stays.
        if let Err(left) = release(inner, &name, token, true, deadline).await {
            let what = "the name of an actor that did not start stays taken";
            tracing::warn!(actor = %name, %left, "{what}");
        }
        return Err(NotStarted::Cannot(why));
    }
    Ok(token)
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
fn run(inner: &Arc<Inner>, name: &str, spec: &Spec, record: &ActorRecord) -> Result<(), String> {
    let kept = record.kept.as_deref();
    let journal = HomeJournal {
        inner: Arc::downgrade(inner),
        name: name.to_owned(),
        token: record.token,
        last: AtomicU64::new(kept.map_or(0, |kept| kept.seq)),
    };
    let options = Options::default().name(name).gated();
    let mut options = options.durable(Arc::new(journal));
    if let Some(kept) = kept {
        let snapshot = to_snapshot(kept).ok_or("what it committed is not a state")?;
        options = options.restore(snapshot);
    }
    let args = spec.args.clone();
    let mut all = lock(&inner.hosted);
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
        address: address.clone(),
        life: record.host,
        left: Arc::default(),
    };
    let left = Arc::clone(&hosted.left);
    all.insert(name.to_owned(), hosted);
    drop(all);
    let (host, name) = (Arc::clone(inner), name.to_owned());
    let watching = release_at_end(host, name, record.token, address, left);
    inner.tasks.spawn(watching);
    Ok(())
}

impl Inner {
    /// The peer gives this node an actor to run.
    pub(crate) fn take_over(self: &Arc<Self>, name: &str, record: &ActorRecord) {
        let Some(spec) = Spec::from_value(&record.spec) else {
            return tracing::error!(actor = %name, "its record says nothing of how to run it");
        };
        match run(self, name, &spec, record) {
            Ok(()) => tracing::info!(actor = %name, token = record.token, "taken over"),
            // The name stays this node's: released, it would lose what it has committed.
            Err(error) => tracing::error!(actor = %name, %error, "cannot run what was left"),
        }
    }

    /// The peer says until when this node may act, in a life as a host.
    pub(crate) fn may_act(&self, life: Member, until: Instant) {
        let hosted = lock(&self.hosted);
        *lock(&self.life) = Some(life);
        drop(hosted);
        self.system.gate().open_until(until);
    }

    /// A life of this node as a host is over: kills what ran under it, and enlists anew.
    pub(crate) fn lost_life(self: &Arc<Self>, life: Member) {
        self.system.gate().close();
        let mut lost = Vec::new();
        let mut all = lock(&self.hosted);
        *lock(&self.life) = None;
        all.retain(|_, hosted| {
            let stays = hosted.life != Some(life);
            if !stays {
                hosted.left.store(true, Ordering::Relaxed);
                lost.push(hosted.address.clone());
            }
            stays
        });
        drop(all);
        tracing::warn!(%life, actors = lost.len(), "the lease of this node as a host ran out");
        for address in &lost {
            address.as_actor().kill();
        }
        let inner = Arc::downgrade(self);
        self.tasks.spawn(async move {
            for address in lost {
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

    /// The home may grant a name in the moment in which the node's life ends, and whoever asked
    /// for it wake up after that. Nothing else would keep such an actor from acting in the next
    /// life of the node, when another node has its name.
    #[tokio::test]
    async fn what_was_granted_to_a_life_that_is_over_is_not_started() {
        let folder = tempfile::TempDir::new().unwrap();
        let key = folder.path().join("mesh.key");
        MeshKey::generate().save(&key).unwrap();
        let builder = Node::builder().name("a").ephemeral().mesh_key(&key);
        let builder = builder.listen("/ip4/127.0.0.1/tcp/0").shards(4);
        let node = builder.start().await.unwrap();
        let actors = node.actors();
        let inner = &actors.inner;
        let until = Instant::now() + Duration::from_secs(60);
        let spec = Spec {
            kind: "counter".to_owned(),
            args: Value::Null,
            wishes: Wishes::default(),
        };
        let deadline = until.saturating_duration_since(Instant::now());
        let enlist = Command::Enlist { deadline };
        inner.desk.ask(enlist).await.unwrap();
        let record = claim(inner, "n", &spec, until).await.unwrap();
        // Nothing else runs on this thread between these two.
        inner.lost_life(record.host.unwrap());
        let refused = run(inner, "n", &spec, &record).unwrap_err();
        assert!(refused.contains("lease"), "{refused}");
        assert!(inner.hosted("n", record.token).is_none());
        node.kill().await;
    }
}
