//! Learning of the end of an actor that lives anywhere in the mesh.
//!
//! For each name that is watched a node has one local actor, the *monitor*, that ends when the
//! named one does, and for the same reason: all that is known of local actors (watches, links,
//! waiting for an end) holds for it, told once included. Whom to ask when, and what to make of the
//! answers, is [`ActorWatch`]'s to say; a task of the node does it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cpe_actors::{Actor, ActorError, ActorRef, AsActor, Context, ExitReason, Options};
use cpe_membership::{Member, NodeId};
use cpe_mesh::{ActorInfo, ActorWatch, Heard, Seen, WatchEnd, WatchStep, WatchView};
use tokio::time::Instant;

use super::envelope::{Answer, Envelope};
use super::{Actors, ActorsError, Inner, lock, milliseconds, place};
use crate::SpaceError;

/// Names that one node watches at a time.
pub const MONITORS_MAX: usize = 16_384;

/// How long after its time the answer to a question may come.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Stands for the actor of a name. It handles nothing.
struct Monitor;

impl Actor for Monitor {
    type Message = ();
    type Reply = ();

    async fn handle(&mut self, (): (), _: &mut Context<Self>) -> Result<(), ActorError> {
        Ok(())
    }
}

impl Actors {
    /// A local actor that ends when the actor of this name does, wherever that lives, and for the
    /// same reason: to be [watched](Context::watch), [linked](Context::link), or
    /// [waited for](ActorRef::ended).
    ///
    /// A plain actor ends at the latest when its node is declared dead: its monitor then ends as
    /// [`ExitReason::Lost`], also if the node was only cut off. A durable one that goes on at
    /// another node has not ended. A link is one-sided: the named actor does not learn of the end
    /// of the one that is linked to its monitor.
    ///
    /// # Errors
    /// [`ActorsError::NoSuchActor`], and [`ActorsError::NotStarted`] beyond [`MONITORS_MAX`] names.
    pub async fn monitor(&self, name: &str) -> Result<ActorRef, ActorsError> {
        let inner = &self.inner;
        let until = Instant::now() + super::TELL_DEADLINE;
        // What is remembered may be an earlier actor's: the registry is asked.
        let held = |record: Option<&ActorInfo>| record.is_some_and(|info| info.host.is_some());
        let record = inner.record_that(name, until, held).await?;
        let Some(seen) = record.as_ref().and_then(Seen::of) else {
            return Err(ActorsError::NoSuchActor(name.to_owned()));
        };
        let mut monitors = lock(&inner.monitors);
        if let Some((of, monitor)) = monitors.get(name)
            && of.is_same(&seen)
            && inner.system.get(monitor.id()).is_some()
        {
            return Ok(monitor.clone());
        }
        let not_started = |reason: String| ActorsError::NotStarted {
            actor: format!("monitor of {name}"),
            node: inner.name.to_string(),
            reason,
        };
        monitors.retain(|_, (_, monitor)| inner.system.get(monitor.id()).is_some());
        if monitors.len() >= MONITORS_MAX {
            return Err(not_started(format!("{MONITORS_MAX} names are watched")));
        }
        let options = Options::default().kind("monitor").label(name);
        let started = inner.system.spawn_with(options, || Ok(Monitor));
        let monitor = started.map_err(|error| not_started(error.to_string()))?;
        let monitor = monitor.as_actor();
        monitors.insert(name.to_owned(), (seen, monitor.clone()));
        drop(monitors);
        let (watched, following) = (
            monitor.clone(),
            follow(Arc::downgrade(inner), name.to_owned(), seen),
        );
        inner.tasks.spawn(async move {
            tokio::select! {
                reason = following => watched.end_as(reason),
                _ = watched.ended() => {}
            }
        });
        Ok(monitor)
    }
}

/// Until the actor's end.
async fn follow(inner: Weak<Inner>, name: String, seen: Seen) -> ExitReason {
    let began = Instant::now();
    let (mut watch, mut step) = ActorWatch::new(seen);
    loop {
        let asked = match step {
            WatchStep::Over(WatchEnd::Told(reason)) => return reason,
            WatchStep::Over(WatchEnd::Lost(why)) => return ExitReason::Lost(why.to_owned()),
            WatchStep::Wait(pause) => {
                tokio::time::sleep(pause).await;
                None
            }
            WatchStep::Ask { n, node, within } => {
                let Some(inner) = inner.upgrade() else {
                    return ExitReason::RuntimeGone;
                };
                Some((n, ask(&inner, &name, watch.seen(), node, within).await))
            }
        };
        let Some(inner) = inner.upgrade() else {
            return ExitReason::RuntimeGone;
        };
        let Ok((record, alive)) = inner.known_of(&name).await else {
            return ExitReason::RuntimeGone;
        };
        let view = WatchView {
            record: record.as_ref(),
            alive: &alive,
        };
        let now = began.elapsed();
        let next = match asked {
            Some((n, heard)) => watch.heard(now, n, heard, view),
            None => watch.woke(now, view),
        };
        // Each question is answered before there is another.
        let Some(next) = next else {
            return ExitReason::RuntimeGone;
        };
        step = next;
    }
}

/// Asks a node how an actor is.
async fn ask(
    inner: &Arc<Inner>,
    name: &str,
    seen: &Seen,
    node: NodeId,
    within: Duration,
) -> Heard<ExitReason> {
    let answer = if node == inner.me.node {
        Ok(inner.end_of(name, seen.born, within).await)
    } else {
        let until = Instant::now() + within + ANSWER_WITHIN;
        let request = |id| Envelope::Watch {
            id,
            name: name.to_owned(),
            token: seen.token,
            within_ms: milliseconds(within),
            born: seen.born,
        };
        inner.call(node, until, request).await
    };
    match answer {
        Ok(Answer::Ended(reason)) => Heard::Ended(reason),
        Ok(Answer::Done) => Heard::Lives,
        Ok(Answer::NotHere) => Heard::NotHere,
        Ok(_) | Err(_) => Heard::Silent,
    }
}

impl Inner {
    /// What this node knows of a name, and who is there.
    async fn known_of(&self, name: &str) -> Result<(Option<ActorInfo>, Vec<Member>), SpaceError> {
        let record = self.record(name).await?;
        let peers = self.mesh.peers().await?;
        let alive = peers.iter().filter(|peer| place::is_alive(peer));
        let alive = alive.map(|peer| Member {
            node: peer.node,
            inc: peer.inc,
        });
        Ok((record, alive.collect()))
    }

    /// How an actor of this node ended, by the claim with which it began; [`Answer::Done`] if it
    /// has not, after a while.
    pub(super) async fn end_of(&self, name: &str, born: u64, within: Duration) -> Answer {
        let until = Instant::now() + within;
        loop {
            let more = self.ended.notified();
            tokio::pin!(more);
            // What becomes known from here on is heard.
            more.as_mut().enable();
            let here = self.hosted_until(name, born);
            if let Some((actor, left)) = &here {
                let actor = actor.as_actor();
                let Ok(ended) = tokio::time::timeout_at(until, actor.ended()).await else {
                    return Answer::Done;
                };
                // It goes on elsewhere, or has done so already.
                let elsewhere = matches!(ended.reason, ExitReason::Fenced(_));
                if elsewhere || left.load(std::sync::atomic::Ordering::Relaxed) {
                    return Answer::NotHere;
                }
            }
            match lock(&self.ends).heard(name, born) {
                Heard::Ended(reason) => return Answer::Ended(reason),
                Heard::NotHere | Heard::Silent if here.is_none() => return Answer::NotHere,
                // It is about to be noted, or the name to be given up.
                _ => {}
            }
            if tokio::time::timeout_at(until, more).await.is_err() {
                return Answer::Done;
            }
        }
    }
}
