//! Learning of the end of an actor that lives anywhere in the mesh.
//!
//! For each name that is watched a node has one local actor, the *monitor*, that ends when the
//! named one does, and for the same reason: all that is known of local actors (watches, links,
//! waiting for an end) holds for it, told once included. A task of the node asks the actor's node
//! how it is: the question is answered at the actor's end or after [`ASK_FOR`]. Whatever cuts it
//! short is looked into, see [`judge`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cpe_actors::{Actor, ActorError, ActorRef, AsActor, Context, ExitReason, Options};
use cpe_membership::Member;
use cpe_mesh::{ActorInfo, PeerInfo};
use tokio::time::Instant;

use super::envelope::{Answer, Envelope};
use super::{Actors, ActorsError, Inner, Place, lock, milliseconds, place};

/// Names that one node watches at a time.
pub const MONITORS_MAX: usize = 16_384;

/// Questions of other nodes under way here at a time.
pub(super) const WATCHES_MAX: usize = 65_536;

/// How long one question waits for the end.
const ASK_FOR: Duration = Duration::from_secs(10);

/// How long after that its answer may come.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Pause before a question is asked again that was not answered.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the node of an actor may say that it does not run it before it is believed: it may be
/// about to start it, or to give up its name.
const BELIEVED_AFTER: Duration = Duration::from_secs(30);

/// Ends of actors that a node remembers, for those who ask after them.
const ENDS_KEPT: usize = 4_096;

/// The latest ends of this node's actors.
#[derive(Debug, Default)]
pub(super) struct Ends {
    reasons: BTreeMap<(String, u64), ExitReason>,
    order: VecDeque<(String, u64)>,
}

impl Ends {
    /// Notes how the actor of this claim ended, unless that is known.
    pub(super) fn note(&mut self, name: &str, token: u64, reason: &ExitReason) {
        let claim = (name.to_owned(), token);
        if self.reasons.contains_key(&claim) {
            return;
        }
        if self.order.len() >= ENDS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.reasons.remove(&oldest);
        }
        self.order.push_back(claim.clone());
        self.reasons.insert(claim, reason.clone());
    }

    pub(super) fn has(&self, name: &str, token: u64) -> bool {
        self.reasons.contains_key(&(name.to_owned(), token))
    }

    pub(super) fn of(&self, name: &str, token: u64) -> Option<ExitReason> {
        self.reasons.get(&(name.to_owned(), token)).cloned()
    }
}

/// Stands for the actor of a name. It handles nothing.
struct Monitor;

impl Actor for Monitor {
    type Message = ();
    type Reply = ();

    async fn handle(&mut self, (): (), _: &mut Context<Self>) -> Result<(), ActorError> {
        Ok(())
    }
}

/// What is to be thought of an actor of which its node does not say that it lives.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    /// Nothing yet: ask again.
    Wait,
    /// It lives there now.
    At(Place),
    Ended(ExitReason),
}

/// Judges by what this node knows of the name and of the members. A plain actor is one incarnation
/// on one node, and ends with either. A durable one goes on elsewhere as long as its name is held.
/// Unless its node has `answered`, it is asked first, as long as it lives: it knows the reason.
fn judge(seen: Place, answered: bool, record: Option<&ActorInfo>, peers: &[PeerInfo]) -> Verdict {
    let lost = |why: &str| Verdict::Ended(ExitReason::Lost(why.to_owned()));
    let now = record.and_then(Place::of);
    if let Some(now) = now
        && seen.leased
        && now.leased
        && now.token > seen.token
    {
        return Verdict::At(now);
    }
    // The number of a leased place is that of a life as a host, which ends by itself.
    let lives = |peer: &PeerInfo| {
        peer.node == seen.host.node
            && (seen.leased || peer.inc == seen.host.inc)
            && place::is_alive(peer)
    };
    let lives = peers.iter().any(lives);
    // A replica may lag behind what was seen before.
    let lags = record.is_some_and(|record| record.token < seen.token);
    if lags || lives && !answered {
        return Verdict::Wait;
    }
    match now {
        None => lost("its name is given up"),
        Some(now) if now.token > seen.token => lost("its name is another actor's"),
        Some(_) if !seen.leased && !lives => lost("its node is gone"),
        Some(_) => Verdict::Wait,
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
        inner.forget(name);
        let Some(seen) = inner.find(name, None, until).await? else {
            return Err(ActorsError::NoSuchActor(name.to_owned()));
        };
        let mut monitors = lock(&inner.monitors);
        if let Some((of, monitor)) = monitors.get(name)
            && (*of == seen || of.leased && seen.leased)
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
async fn follow(inner: Weak<Inner>, name: String, mut seen: Place) -> ExitReason {
    let mut unknown_since = None;
    loop {
        let Some(inner) = inner.upgrade() else {
            return ExitReason::RuntimeGone;
        };
        let answer = ask(&inner, &name, seen, ASK_FOR).await;
        let answered = !matches!(answer, None | Some(Answer::Busy));
        match answer {
            Some(Answer::Ended(reason)) => return reason,
            Some(Answer::Done) => {
                unknown_since = None;
                continue;
            }
            Some(Answer::NotHere) => {
                let since = *unknown_since.get_or_insert_with(Instant::now);
                if since.elapsed() > BELIEVED_AFTER && !seen.leased {
                    return ExitReason::Lost("its node does not know it any more".to_owned());
                }
            }
            _ => unknown_since = None,
        }
        let (record, peers) = (inner.record(&name).await, inner.mesh.peers().await);
        let (Ok(record), Ok(peers)) = (record, peers) else {
            return ExitReason::RuntimeGone;
        };
        match judge(seen, answered, record.as_ref(), &peers) {
            Verdict::Wait => tokio::time::sleep(PAUSE).await,
            Verdict::At(there) => {
                seen = there;
                unknown_since = None;
            }
            Verdict::Ended(reason) => {
                let token = record.map_or(seen.token, |record| record.token);
                let moved = seen.leased && token > seen.token;
                let known = if moved {
                    last_words(&inner, &name, token, &peers).await
                } else {
                    None
                };
                return known.unwrap_or(reason);
            }
        }
    }
}

/// How a durable actor ended that had moved before its new node could be asked: whoever ran it
/// last knows.
async fn last_words(
    inner: &Arc<Inner>,
    name: &str,
    token: u64,
    peers: &[PeerInfo],
) -> Option<ExitReason> {
    let mine = inner.me;
    let node = mine.node;
    let others = peers.iter().filter(|peer| place::is_alive(peer));
    let others = others.map(|peer| peer.node).filter(|other| *other != node);
    let asked = std::iter::once(node).chain(others).map(|node| {
        let host = Member { node, ..mine };
        let place = Place {
            host,
            token,
            leased: true,
        };
        async move { ask(inner, name, place, Duration::ZERO).await }
    });
    let answers = futures::future::join_all(asked).await;
    answers
        .into_iter()
        .flatten()
        .find_map(|answer| match answer {
            Answer::Ended(reason) => Some(reason),
            _ => None,
        })
}

/// Asks the actor's node; nothing if it did not answer.
async fn ask(inner: &Arc<Inner>, name: &str, seen: Place, within: Duration) -> Option<Answer> {
    if seen.host.node == inner.me.node {
        return Some(inner.end_of(name, seen.token, within).await);
    }
    let until = Instant::now() + within + ANSWER_WITHIN;
    let request = |id| Envelope::Watch {
        id,
        name: name.to_owned(),
        token: seen.token,
        within_ms: milliseconds(within),
    };
    inner.call(seen.host.node, until, request).await.ok()
}

impl Inner {
    /// How an actor of this node ended; [`Answer::Done`] if it has not, after a while.
    pub(super) async fn end_of(&self, name: &str, token: u64, within: Duration) -> Answer {
        let Some((actor, left)) = self.hosted_until(name, token) else {
            let known = lock(&self.ends).of(name, token);
            return known.map_or(Answer::NotHere, Answer::Ended);
        };
        let Ok(ended) = tokio::time::timeout(within, actor.as_actor().ended()).await else {
            return Answer::Done;
        };
        // It goes on elsewhere, or has done so already.
        let elsewhere = matches!(ended.reason, ExitReason::Fenced(_));
        if elsewhere || left.load(std::sync::atomic::Ordering::Relaxed) {
            return Answer::NotHere;
        }
        Answer::Ended(ended.reason)
    }
}

#[cfg(test)]
mod tests {
    use cpe_membership::{Incarnation, NodeId};

    use super::*;

    fn place(node: u64, token: u64, leased: bool) -> Place {
        let (node, inc) = (NodeId(node), Incarnation(1));
        let host = Member { node, inc };
        Place {
            host,
            token,
            leased,
        }
    }

    fn record(place: Place) -> ActorInfo {
        ActorInfo {
            name: "a".to_owned(),
            spec: cpe_tuple::Value::Null,
            token: place.token,
            host: Some(place.host),
            leased: place.leased,
        }
    }

    fn peer(node: u64, inc: u32, state: &'static str) -> PeerInfo {
        PeerInfo {
            node: NodeId(node),
            inc: Incarnation(inc),
            name: String::new(),
            peer: String::new(),
            state,
            linked: true,
            addresses: Vec::new(),
            capabilities: BTreeMap::new(),
        }
    }

    #[test]
    fn a_plain_actor_ends_with_its_node_its_name_or_its_claim() {
        let seen = place(1, 3, false);
        let held = record(seen);
        let alive = [peer(1, 1, "alive")];
        let judged =
            |record: Option<&ActorInfo>, peers: &[PeerInfo]| judge(seen, true, record, peers);
        assert_eq!(judged(Some(&held), &alive), Verdict::Wait);
        assert_eq!(judged(Some(&held), &[peer(1, 1, "suspect")]), Verdict::Wait);
        let free = ActorInfo {
            host: None,
            ..held.clone()
        };
        let ended = [
            (Some(&held), peer(1, 1, "dead"), "node is gone"),
            // It came back without its actors.
            (Some(&held), peer(1, 2, "alive"), "node is gone"),
            (Some(&free), peer(1, 1, "alive"), "given up"),
            (None, peer(1, 1, "alive"), "given up"),
        ];
        for (record, peer, why) in ended {
            let Verdict::Ended(ExitReason::Lost(said)) = judged(record, &[peer]) else {
                panic!("it is over: {why}");
            };
            assert!(said.contains(why), "{said}");
        }
        let other = record(place(1, 4, false));
        assert!(matches!(judged(Some(&other), &alive), Verdict::Ended(_)));
    }

    #[test]
    fn a_node_that_lives_is_asked_for_the_reason_first() {
        let seen = place(1, 3, false);
        let mut free = record(seen);
        free.host = None;
        let judged = |peer: PeerInfo| judge(seen, false, Some(&free), &[peer]);
        assert_eq!(judged(peer(1, 1, "alive")), Verdict::Wait);
        assert!(matches!(judged(peer(1, 1, "dead")), Verdict::Ended(_)));
    }

    #[test]
    fn a_durable_actor_is_followed_and_ends_with_its_name_only() {
        let seen = place(1, 3, true);
        let dead = [peer(1, 1, "dead"), peer(2, 1, "alive")];
        let judged = |record: &ActorInfo| judge(seen, true, Some(record), &dead);
        let mut held = record(seen);
        assert_eq!(judged(&held), Verdict::Wait);
        let next = place(2, 4, true);
        assert_eq!(judged(&record(next)), Verdict::At(next));
        // Seen there before, by a replica that is ahead of this one.
        assert_eq!(judged(&record(place(1, 2, true))), Verdict::Wait);
        held.host = None;
        assert!(matches!(judged(&held), Verdict::Ended(_)));
        assert!(matches!(
            judged(&record(place(2, 4, false))),
            Verdict::Ended(_)
        ));
    }

    #[test]
    fn the_latest_ends_are_remembered_and_no_more() {
        let mut ends = Ends::default();
        for token in 0..=ENDS_KEPT as u64 {
            ends.note("a", token, &ExitReason::Stopped);
            ends.note("a", token, &ExitReason::Killed);
        }
        assert_eq!(ends.of("a", 0), None);
        assert_eq!(ends.of("a", 1), Some(ExitReason::Stopped));
        assert_eq!(ends.of("b", 1), None);
        assert_eq!(ends.order.len(), ends.reasons.len());
    }
}
