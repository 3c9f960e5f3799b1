//! The named actors that live on this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cpe_actors::{AnyAddress, AsActor, AskError, ExitReason, Options};
use cpe_mesh::{ActorInfo, Command, Failure, Reply, is_replaced};
use cpe_tuple::Value;
use tokio::time::Instant;

use super::durable::{self, Durable};
use super::envelope::{Answer, NotStarted};
use super::location_cache::Named;
use super::spec::Spec;
use super::{ActorsError, Inner, Place, lock};
use crate::SpaceError;

/// Pause before another try to give up a name that its host may still act under.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a node tries to give up the name of an actor that ended by itself.
const RELEASE_DEADLINE: Duration = Duration::from_secs(30);

/// An actor of this node.
#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) token: u64,
    /// The token of the claim with which it began.
    pub(super) born: u64,
    pub(super) address: AnyAddress,
    /// What more there is of a durable one.
    pub(super) durable: Option<Durable>,
    /// This node lost it, or left it to others: its end here is not its end.
    pub(super) left: Arc<AtomicBool>,
    /// Questions of other nodes to it that are under way.
    pub(super) asks: Arc<AtomicUsize>,
    /// Messages that its mailbox holds.
    pub(super) mailbox: usize,
    /// It was stopped so that what it has committed stays. Shared with who gives up its name at its
    /// end, which may come after this is gone.
    pub(super) keeps: Arc<AtomicBool>,
}

impl Inner {
    /// What to say of a durable actor that is not here: one that has ended here, and whose name is
    /// not free yet, goes on nowhere, and one that cannot begin here says why.
    pub(super) fn not_here(&self, name: &str, token: u64) -> Answer {
        if let Some(why) = self.why_stuck(name, token) {
            return Answer::NotStarted(NotStarted::Cannot(why));
        }
        if !lock(&self.ending).contains(&(name.to_owned(), token)) {
            return self.elsewhere(name, token);
        }
        let reason = lock(&self.ends).of(name, token).cloned();
        Answer::Asked(AskError::Dead {
            actor: name.to_owned(),
            reason: reason.unwrap_or(ExitReason::Stopped),
        })
    }

    /// Where an actor that is not here was handed to from here, if it was.
    pub(super) fn elsewhere(&self, name: &str, token: u64) -> Answer {
        let place = lock(&self.trail).after(name, token);
        place.map_or(Answer::NotHere, |Place { host, token, .. }| {
            Answer::Elsewhere { host, token }
        })
    }

    /// The actor of this name, if it lives here under this token.
    pub(super) fn hosted(&self, name: &str, token: u64) -> Option<AnyAddress> {
        lock(&self.hosted)
            .get(name)
            .filter(|hosted| hosted.token == token)
            .map(|hosted| hosted.address.clone())
    }

    /// The actor of this name that began with this claim, if it lives here, and what is true once
    /// its end here is not its end.
    pub(super) fn hosted_until(
        &self,
        name: &str,
        born: u64,
    ) -> Option<(AnyAddress, Arc<AtomicBool>)> {
        let hosted = lock(&self.hosted);
        let hosted = hosted.get(name).filter(|hosted| hosted.born == born)?;
        Some((hosted.address.clone(), Arc::clone(&hosted.left)))
    }

    /// Notes how an actor of this node ended. A durable one has ended for others once its name is
    /// given up.
    pub(super) fn note_end(
        &self,
        name: &str,
        (token, born): (u64, u64),
        durable: bool,
        reason: &ExitReason,
    ) {
        lock(&self.ends).note(name, (token, born), reason.clone(), !durable);
        self.ended.notify_waiters();
    }

    /// Ends a plain actor of this node whose name the registry shows to be another's, or nobody's:
    /// while this node was frozen or cut off others believed it gone. A durable one is fenced by
    /// its lease. A record that is older than the claim of the actor says nothing.
    pub(super) fn end_replaced(&self, name: &str, now: Named) {
        let mut all = lock(&self.hosted);
        let replaced = |it: &&Hosted| {
            it.durable.is_none() && is_replaced(self.me, it.token, (now.token, now.host))
        };
        if all.get(name).filter(replaced).is_none() {
            return;
        }
        let Some(hosted) = all.remove(name) else {
            return;
        };
        hosted.left.store(true, Ordering::Relaxed);
        drop(all);
        let why = match now.host {
            Some(host) => format!(
                "its node was taken for gone, and node {} has its name since",
                host.node
            ),
            None => "its node was taken for gone, and its name was given up".to_owned(),
        };
        tracing::warn!(actor = %name, %why, "a second incarnation is ended");
        let reason = ExitReason::Fenced(why);
        self.note_end(name, (hosted.token, hosted.born), false, &reason);
        hosted.address.as_actor().fence(reason);
    }

    /// The names of the actors that live here, with their tokens.
    pub(crate) fn hosted_names(&self) -> Vec<(String, u64)> {
        let hosted = lock(&self.hosted);
        let names = hosted.iter();
        names
            .map(|(name, hosted)| (name.clone(), hosted.token))
            .collect()
    }

    /// Ends a durable actor without giving up its name: when the node says good-bye, another host
    /// goes on with it. False for an actor that is not one.
    async fn leave_to_others(&self, name: &str, token: u64, until: Instant) -> bool {
        let address = {
            let mut hosted = lock(&self.hosted);
            let durable = |it: &&Hosted| it.token == token && it.durable.is_some();
            if hosted.get(name).filter(durable).is_none() {
                return false;
            }
            hosted.remove(name).map(|hosted| {
                hosted.left.store(true, Ordering::Relaxed);
                hosted.address
            })
        };
        if let Some(address) = address {
            let actor = address.as_actor();
            actor.stop_by(until);
            if tokio::time::timeout_at(until, actor.ended()).await.is_err() {
                actor.kill();
            }
        }
        true
    }

    /// Stops all named actors of this node and gives up their names, but for durable ones, which
    /// are handed to others, or left to them; those that remain. The node takes no more from now
    /// on.
    pub(crate) async fn stop_all(self: &Arc<Self>, until: Instant) -> Vec<String> {
        let hosted = lock(&self.hosted);
        self.leaving.store(true, Ordering::Relaxed);
        drop(hosted);
        // What they are at they may finish first. The rest of the time is for those that others go
        // on with once this node has said good-bye, and for those that end here.
        let left = until.saturating_duration_since(Instant::now());
        let late = until - left / 4;
        match tokio::time::timeout_at(late, self.hand_all_on(late)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "durable actors are not handed on"),
            Err(_) => tracing::warn!("not all durable actors were handed on in time"),
        }
        let stopping = self
            .hosted_names()
            .into_iter()
            .map(|(name, token)| async move {
                if self.leave_to_others(&name, token, until).await {
                    return None;
                }
                match stop(self, &name, token, until, false).await {
                    Answer::Done | Answer::NotHere => None,
                    Answer::NotStopped(why) => Some(format!("actor `{name}`: {why}")),
                    other => Some(format!("actor `{name}`: {other:?}")),
                }
            });
        let stopping = futures::future::join_all(stopping);
        let (all, ()) = tokio::join!(stopping, self.forwards.finish(until));
        all.into_iter().flatten().collect()
    }
}

impl Inner {
    /// What an actor of this node has committed is to stay when it stops.
    fn let_keep(&self, name: &str, token: u64) {
        let hosted = lock(&self.hosted);
        if let Some(hosted) = hosted.get(name).filter(|hosted| hosted.token == token) {
            hosted.keeps.store(true, Ordering::Relaxed);
        }
    }

    /// Whether an actor is this node's by its record, and has neither begun here nor ended.
    async fn begins(&self, name: &str, token: u64) -> bool {
        let Ok(Some(info)) = self.record(name).await else {
            return false;
        };
        let mine = info.leased && info.host.is_some() && info.host == *lock(&self.life);
        let begins = !lock(&self.ends).has(name, token) && self.why_stuck(name, token).is_none();
        mine && info.token == token && begins
    }
}

/// Claims the name and starts the actor; its token.
pub(super) async fn start(
    inner: Arc<Inner>,
    name: String,
    spec: Spec,
    until: Instant,
) -> Result<u64, NotStarted> {
    let kind = &spec.kind;
    if !inner.registry.contains(kind) {
        let known: Vec<_> = inner.registry.names().collect();
        return Err(NotStarted::Cannot(format!(
            "no actor kind `{kind}` here; there are {}",
            known.join(", ")
        )));
    }
    if spec.wishes.durable {
        return durable::start(&inner, name, spec, until).await;
    }
    let token = claim(&inner, &name, spec.to_value(), until).await?;
    let options = Options::default().name(&name);
    let options = options.foreign(spec.wishes.foreign);
    match inner
        .registry
        .spawn(&inner.system, kind, options, spec.args)
    {
        Ok(address) => {
            let hosted = Hosted {
                token,
                born: token,
                address: address.clone(),
                durable: None,
                left: Arc::default(),
                asks: Arc::default(),
                mailbox: address.info().mailbox,
                keeps: Arc::default(),
            };
            let marks = (Arc::clone(&hosted.left), Arc::clone(&hosted.keeps));
            lock(&inner.hosted).insert(name.clone(), hosted);
            let claim = (token, token, false);
            let watching = release_at_end(Arc::clone(&inner), name.clone(), claim, address, marks);
            inner.tasks.spawn(watching);
            // What came of its name before it was among the hosted was told to nobody.
            if let Ok(Some(record)) = inner.record(&name).await {
                inner.end_replaced(&name, Named::of(&record));
            }
            Ok(token)
        }
        Err(error) => {
            release_at_last(&inner, &name, token, false, RELEASE_DEADLINE).await;
            Err(NotStarted::Cannot(error.to_string()))
        }
    }
}

/// Claims a name that no live actor has.
async fn claim(inner: &Inner, name: &str, spec: Value, until: Instant) -> Result<u64, NotStarted> {
    let registry = |error: SpaceError| NotStarted::Registry(error.to_string());
    for last in [false, true] {
        let expect = claimable(inner, name, until).await?;
        let claim = Command::Claim {
            name: name.to_owned(),
            expect,
            spec: spec.clone(),
            deadline: until.saturating_duration_since(Instant::now()),
        };
        match inner.desk.ask(claim).await {
            Ok(Reply::Actor(Some(record))) => return Ok(record.token),
            Ok(_) => return Err(registry(SpaceError::Unexpected)),
            Err(SpaceError::Failed(Failure::Refused(why))) if last => {
                return Err(NotStarted::Taken(why));
            }
            // The home knows of a claim that this replica has not seen yet: look again when it has.
            Err(SpaceError::Failed(Failure::Refused(_))) => {
                let newer =
                    |record: Option<&ActorInfo>| record.is_some_and(|info| info.token > expect);
                inner
                    .record_that(name, until, newer)
                    .await
                    .map_err(registry)?;
            }
            Err(error) => return Err(registry(error)),
        }
    }
    Err(registry(SpaceError::Unexpected))
}

/// The token to claim a name with, when no live actor has it.
async fn claimable(inner: &Inner, name: &str, until: Instant) -> Result<u64, NotStarted> {
    let registry = |error: SpaceError| NotStarted::Registry(error.to_string());
    let free = |record: Option<&ActorInfo>| record.is_none_or(|info| info.host.is_none());
    let record = inner.record(name).await.map_err(registry)?;
    let Some(info) = record else { return Ok(0) };
    let Some(host) = info.host else {
        return Ok(info.token);
    };
    // A record of this node without an actor is what a crash left.
    let left_over = host == inner.me && inner.hosted(name, info.token).is_none();
    if left_over || !inner.is_alive(host).await.map_err(registry)? {
        return Ok(info.token);
    }
    // It may have been given up a moment ago.
    let record = inner
        .record_that(name, until, free)
        .await
        .map_err(registry)?;
    match record {
        Some(info) if info.host.is_some() => Err(NotStarted::Taken(format!(
            "it lives on node {}",
            inner.node_name(host.node).await
        ))),
        Some(info) => Ok(info.token),
        None => Ok(0),
    }
}

/// Stops an actor of this node, or one whose node is gone, and gives up its name; what it has
/// committed stays if it `keeps` that.
pub(super) async fn stop(
    inner: &Inner,
    name: &str,
    token: u64,
    until: Instant,
    keeps: bool,
) -> Answer {
    let mut here = inner.hosted(name, token);
    // It would begin after its name was given up, and run beside the next one of its name.
    while here.is_none() && inner.begins(name, token).await {
        if Instant::now() + PAUSE > until {
            return Answer::NotStopped("it is about to begin there".to_owned());
        }
        tokio::time::sleep(PAUSE).await;
        here = inner.hosted(name, token);
    }
    if let Some(address) = &here {
        let actor = address.as_actor();
        if keeps {
            inner.let_keep(name, token);
        }
        actor.stop();
        let Ok(ended) = tokio::time::timeout_at(until, actor.ended()).await else {
            return Answer::NotStopped("it is still at its last message".to_owned());
        };
        let hosted = lock(&inner.hosted);
        let found = hosted.get(name).filter(|hosted| hosted.token == token);
        let known = found.map(|hosted| (hosted.born, hosted.durable.is_some()));
        drop(hosted);
        if let Some((born, durable)) = known {
            inner.note_end(name, (token, born), durable, &ended.reason);
        }
    }
    loop {
        let within = until.saturating_duration_since(Instant::now());
        match release(inner, name, token, keeps, within).await {
            // Nobody here gave it up: the actor has moved, and goes on under a later token.
            Ok(Released::Claimed) if here.is_none() => return inner.elsewhere(name, token),
            Ok(_) => return Answer::Done,
            // Its node is gone, as far as can be told, and may act all the same until its lease ran
            // out. Somebody may take it over then, or it can be given up.
            // What it asked for is done first.
            Err(error) if (is_held(&error) || is_unsent(&error)) && within > PAUSE => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                return Answer::NotStopped(format!("its name was not given up: {error}"));
            }
        }
    }
}

impl Inner {
    /// Gives up what is kept under a name that no actor has; false if nothing is.
    pub(super) async fn give_up_state(
        &self,
        name: &str,
        until: Instant,
    ) -> Result<bool, ActorsError> {
        let record = self.record(name).await?;
        let Some(info) = record.filter(|info| info.host.is_none() && info.kept) else {
            return Ok(false);
        };
        let within = until.saturating_duration_since(Instant::now());
        match release(self, name, info.token, false, within).await {
            Ok(Released::Free) => Ok(true),
            Ok(Released::Claimed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a name was not given up because its host may still act, or this node is about to host
/// it.
fn is_held(error: &SpaceError) -> bool {
    matches!(
        error,
        SpaceError::Failed(Failure::Fenced { .. } | Failure::Busy(_))
    )
}

/// Whether a name was not given up because effects of its actor are not done.
fn is_unsent(error: &SpaceError) -> bool {
    matches!(error, SpaceError::Failed(Failure::Unsent { .. }))
}

/// Gives up the name of an actor that ended by itself or did not start, once its effects are done:
/// until then the peer goes on sending them.
pub(super) async fn release_at_last(
    inner: &Inner,
    name: &str,
    token: u64,
    keeps: bool,
    deadline: Duration,
) {
    loop {
        let released = release(inner, name, token, keeps, deadline).await;
        let Err(error) = released else {
            break;
        };
        if !is_unsent(&error) {
            let what = "the name of an actor that does not run stays taken";
            tracing::warn!(actor = %name, %error, "{what}");
            break;
        }
        // What it told itself, or one that waits like it, would wait for ever.
        lock(&inner.ending).insert((name.to_owned(), token));
        tokio::time::sleep(PAUSE).await;
    }
    lock(&inner.ending).remove(&(name.to_owned(), token));
}

/// Waits for the actor's end and gives up its name.
pub(super) async fn release_at_end(
    inner: Arc<Inner>,
    name: String,
    (token, born, durable): (u64, u64, bool),
    address: AnyAddress,
    (left, keeps): (Arc<AtomicBool>, Arc<AtomicBool>),
) {
    let ended = address.as_actor().ended().await;
    tracing::info!(actor = %name, reason = %ended.reason, "actor ended");
    if left.load(Ordering::Relaxed) {
        return;
    }
    // One that failed for good is not what its state was kept for: the next one goes on from it.
    let keeps = keeps.load(Ordering::Relaxed) || matches!(ended.reason, ExitReason::Failed(_));
    inner.note_end(&name, (token, born), durable, &ended.reason);
    release_at_last(&inner, &name, token, keeps, RELEASE_DEADLINE).await;
}

/// What became of a name that was to be given up.
pub(super) enum Released {
    /// Nobody has it.
    Free,
    /// It was given up before, and claimed anew.
    Claimed,
}

/// Gives up a name; what the actor has committed stays if it `keeps` it.
pub(super) async fn release(
    inner: &Inner,
    name: &str,
    token: u64,
    keeps: bool,
    deadline: Duration,
) -> Result<Released, SpaceError> {
    {
        let mut hosted = lock(&inner.hosted);
        if hosted.get(name).is_some_and(|hosted| hosted.token == token) {
            hosted.remove(name);
        }
    }
    let released = inner.desk.ask(Command::Release {
        name: name.to_owned(),
        token,
        keeps,
        deadline,
    });
    let released = match released.await {
        Ok(_) | Err(SpaceError::Failed(Failure::Fenced { host: None, .. })) => {
            lock(&inner.ends).stands(name, token);
            Ok(Released::Free)
        }
        Err(SpaceError::Failed(Failure::Fenced { token: now, .. })) if now != token => {
            lock(&inner.ends).goes_on(name, token);
            Ok(Released::Claimed)
        }
        Err(error) => Err(error),
    };
    inner.ended.notify_waiters();
    released
}

#[cfg(test)]
mod tests;
