//! Durable actors that move to another node (rule A8, decision 013).
//!
//! The host stops the actor after the message that it is at, and keeps what comes for it; has its
//! home make the other node its host; and sends after it what it was told meanwhile, in order (see
//! [`forward`]). Whoever asked is told where it is, and asks there. The new host begins from the
//! last commit, and gives the actor nothing that comes by another way before it has handled all
//! that is sent on. If the message takes longer than the move may, the actor stays. If the home
//! refuses, the host makes itself the new host: a question that was not answered may still be
//! decided, and this is what settles it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cpe_actors::{ActorRef, AsActor};
use cpe_membership::{Member, NodeId};
use cpe_mesh::{Command, Failure, Reply, Seen};
use tokio::time::Instant;

use super::durable::{Durable, PAUSE, TRY};
use super::envelope::{Answer, Envelope};
use super::forward::Order;
use super::post::CallError;
use super::{Actors, ActorsError, DEADLINE_MAX, Inner, LOOK_PAUSE, Place, lock};
use super::{forward, milliseconds, place};
use crate::SpaceError;

/// How long one question whether an actor has begun waits for that. The entry by which it is that
/// node's is on its way there: a few milliseconds.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);

/// Actors of which a node remembers where it handed them to, the latest ones.
const TRAIL_KEPT: usize = 4_096;

/// So long before the deadline of a move it is given up if the actor is still at a message: whoever
/// asked for it is to hear so in time.
const MARGIN: Duration = Duration::from_millis(500);

/// Where the durable actors went that this node has handed on, for those who still look here.
#[derive(Debug, Default)]
pub(super) struct Trail {
    places: BTreeMap<String, Place>,
    order: VecDeque<String>,
}

impl Trail {
    fn note(&mut self, name: &str, place: Place) {
        if self.places.insert(name.to_owned(), place).is_some() {
            return;
        }
        self.order.push_back(name.to_owned());
        if self.order.len() > TRAIL_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
    }

    /// Where an actor is that had this token here.
    pub(super) fn after(&self, name: &str, token: u64) -> Option<Place> {
        let place = self.places.get(name).copied();
        place.filter(|place| place.token > token)
    }
}

impl Inner {
    /// An actor is not this node's any more.
    fn drop_hosted(&self, name: &str, token: u64) {
        let mut hosted = lock(&self.hosted);
        if hosted.get(name).is_some_and(|it| it.token == token) {
            hosted.remove(name);
        }
    }

    /// Waits until a durable actor has begun here under this token; false when it has not in time.
    pub(super) async fn has_begun(&self, name: &str, token: u64, until: Instant) -> bool {
        let until = until.min(Instant::now() + BEGIN_WITHIN);
        loop {
            let begun = self.begun.notified();
            tokio::pin!(begun);
            // What begins from here on is heard.
            begun.as_mut().enable();
            if self.inbox(name, token).is_some() {
                return true;
            }
            if tokio::time::timeout_at(until, begun).await.is_err() {
                return false;
            }
        }
    }
}

impl Actors {
    /// Moves a durable actor to another node. Nothing that was sent to it is lost or handled twice,
    /// and messages stay in the order in which each sender sent them.
    ///
    /// # Errors
    /// [`ActorsError::NoSuchActor`]; [`ActorsError::UnknownNode`]; [`ActorsError::NotMoved`] when
    /// the actor is not durable or the node cannot run it; and those of a node that did not answer:
    /// then it may move yet.
    pub async fn migrate(
        &self,
        name: &str,
        node: &str,
        deadline: Duration,
    ) -> Result<(), ActorsError> {
        let inner = &self.inner;
        let deadline = deadline.min(DEADLINE_MAX);
        let until = Instant::now() + deadline;
        let peers = inner.mesh.peers().await?;
        let to = place::named(&peers, node).map_err(ActorsError::UnknownNode)?;
        let to = to.node;
        let answer = self
            .request(name, deadline, until, |place, inner| {
                let name = name.to_owned();
                async move {
                    let token = place.token;
                    if place.host.node == inner.me.node {
                        return Ok(hand_on(inner, name, token, to, until).await);
                    }
                    let within_ms = milliseconds(until.saturating_duration_since(Instant::now()));
                    let request = |id| Envelope::Migrate {
                        id,
                        name,
                        token,
                        to,
                        within_ms,
                    };
                    inner.call(place.host.node, until, request).await
                }
            })
            .await?;
        match answer {
            // Its former host says where it is to whoever asks there.
            (Answer::Done, _) => Ok(()),
            (Answer::NotMoved(reason), host) => Err(ActorsError::NotMoved {
                actor: name.to_owned(),
                node: inner.node_name(host).await,
                reason,
            }),
            (other, host) => Err(inner.refused(name, host, deadline, other).await),
        }
    }
}

/// Makes this node one that can host an actor of a kind.
pub(super) async fn ready(inner: &Inner, kind: &str, within: Duration) -> Answer {
    if !inner.registry.contains(kind) {
        return Answer::NotMoved(format!(
            "node {} does not run the kind `{kind}`",
            inner.name
        ));
    }
    if inner.is_leaving() {
        return Answer::NotMoved(format!("node {} is about to stop", inner.name));
    }
    match inner.desk.ask(Command::Enlist { deadline: within }).await {
        Ok(Reply::Enlisted(life)) => Answer::Life(life),
        Ok(_) => Answer::NotMoved(SpaceError::Unexpected.to_string()),
        Err(error) => Answer::NotMoved(error.to_string()),
    }
}

/// Hands an actor of this node to another one.
pub(super) async fn hand_on(
    inner: Arc<Inner>,
    name: String,
    token: u64,
    to: NodeId,
    until: Instant,
) -> Answer {
    let found = {
        let hosted = lock(&inner.hosted);
        let hosted = hosted.get(&name).filter(|hosted| hosted.token == token);
        hosted.map(|hosted| (hosted.durable.clone(), hosted.address.clone()))
    };
    let (durable, address) = match found {
        None => return inner.elsewhere(&name, token),
        Some((None, _)) => {
            let why = "only a durable actor keeps its state over a move";
            return Answer::NotMoved(why.to_owned());
        }
        Some((Some(durable), address)) => (durable, address),
    };
    if to == inner.me.node {
        return Answer::Done;
    }
    let within_ms = milliseconds(until.saturating_duration_since(Instant::now()));
    let kind = durable.kind.clone();
    let request = |id| Envelope::Receive {
        id,
        kind,
        within_ms,
    };
    let life = match inner.call(to, until, request).await {
        Ok(Answer::Life(life)) => life,
        Ok(Answer::NotMoved(why)) => return Answer::NotMoved(why),
        Ok(other) => return Answer::NotMoved(format!("the other node answered {other:?}")),
        Err(error) => return Answer::NotMoved(format!("the other node: {error:?}")),
    };
    let left = until.saturating_duration_since(Instant::now());
    let patience = until - MARGIN.min(left / 8);
    if let Err(why) = durable.inbox.begin_move(patience).await {
        return Answer::NotMoved(why.to_owned());
    }
    // In a task of its own: from here on the actor stands still until it is somewhere.
    let office = Arc::clone(&inner);
    let moving = async move {
        if !finish(&address.as_actor(), &durable, patience).await {
            let why = "it is still at a message, and goes on with it; a move waits for that until \
                       its deadline";
            return Answer::NotMoved(why.to_owned());
        }
        durable.inbox.settled().await;
        // The next host is to go on counting from there.
        durable.failures.settled().await;
        let order = office.forwards.begin(&name, token);
        let moved = settle(&office, &name, token, &durable, life).await;
        let answer = match moved {
            Some((host, _)) if host == life => Answer::Done,
            Some(_) => Answer::NotMoved("the other node hosts no actors any more".to_owned()),
            None => Answer::NotMoved("its node has lost it meanwhile".to_owned()),
        };
        match moved {
            Some((host, next)) => {
                // Whoever is told where it is finds it there; until then they wait here. If nobody
                // is there, they find that out themselves.
                let until = Instant::now() + BEGIN_WITHIN * 2;
                tell_moved(&office, &name, Place::durable(host, next), false, until).await;
                leave(&office, &name, token, &durable, (host, next), order);
            }
            None => {
                durable.inbox.give_up();
                office.forwards.end(&order);
                office.drop_hosted(&name, token);
            }
        }
        answer
    };
    match inner.tasks.spawn(moving).await {
        Ok(answer) => answer,
        Err(error) => Answer::NotMoved(error.to_string()),
    }
}

/// Ends the actor after the message that it is at. False if that took too long: then it goes on as
/// if nothing had been.
async fn finish(actor: &ActorRef, durable: &Durable, patience: Instant) -> bool {
    let left = &durable.inbox.left;
    left.store(true, Ordering::Relaxed);
    // Nothing cuts the message short but somebody who stops or kills the actor.
    let never = Instant::now() + DEADLINE_MAX;
    actor.stop_by(never);
    let ended = tokio::time::timeout_at(patience, actor.ended()).await;
    if ended.is_err() && actor.take_stop_back(never) {
        left.store(false, Ordering::Relaxed);
        durable.inbox.stay();
        return false;
    }
    actor.ended().await;
    true
}

/// Asks the home until it has said whose the actor is: its host and token. Nobody known here if it
/// was taken over meanwhile.
async fn settle(
    inner: &Inner,
    name: &str,
    token: u64,
    durable: &Durable,
    life: Member,
) -> Option<(Member, u64)> {
    let mut to = life;
    loop {
        let seq = durable.last.seq();
        let command = Command::Migrate {
            name: name.to_owned(),
            token,
            seq,
            to,
            deadline: TRY,
        };
        match inner.desk.ask(command).await {
            Ok(Reply::Moved { token, host }) => return host.map(|host| (host, token)),
            Err(SpaceError::Failed(Failure::Fenced { .. }) | SpaceError::Closed) => return None,
            // A commit that was given up half-way lasts.
            Err(SpaceError::Failed(Failure::OutOfTurn { last })) if last > seq => {
                durable.last.lasts(last, &durable.inbox);
            }
            Err(SpaceError::Failed(Failure::Refused(why))) => {
                tracing::warn!(actor = %name, %to, %why, "not handed on");
                match durable.life {
                    // The lease is lost too: the node is about to be told so.
                    Some(own) if own == to => tokio::time::sleep(PAUSE).await,
                    Some(own) => to = own,
                    None => return None,
                }
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
        // Lost meanwhile, and given up by whoever saw it.
        let hosted = lock(&inner.hosted);
        if hosted.get(name).is_none_or(|hosted| hosted.token != token) {
            return None;
        }
    }
}

/// The actor is another host's: says so to all who look for it here, and sends after it what waits.
fn leave(
    inner: &Arc<Inner>,
    name: &str,
    token: u64,
    durable: &Durable,
    (host, next): (Member, u64),
    order: Arc<Order>,
) {
    if host.node != inner.me.node {
        lock(&inner.trail).note(name, Place::durable(host, next));
    }
    inner.drop_hosted(name, token);
    let told = durable.inbox.leave(host, next);
    let seen = Seen {
        host,
        token: next,
        born: durable.born,
        leased: true,
    };
    let forwarding = forward::send_after(Arc::clone(inner), order, name.to_owned(), seen, told);
    inner.tasks.spawn(forwarding);
}

/// Tells the new host that the actor is its, or that all was sent; again until it knows. False when
/// it did not in time.
pub(super) async fn tell_moved(
    inner: &Inner,
    name: &str,
    place: Place,
    end: bool,
    until: Instant,
) -> bool {
    let token = place.token;
    while Instant::now() < until {
        let known = if place.host.node == inner.me.node {
            let begun = inner.has_begun(name, token, until).await;
            if let Some(inbox) = inner.inbox(name, token).filter(|_| end) {
                inbox.all_sent(inner.me.node);
            }
            begun
        } else {
            let request = |id| Envelope::Moved {
                id,
                name: name.to_owned(),
                token,
                end,
            };
            match inner.call(place.host.node, until, request).await {
                Ok(Answer::Done) => true,
                Ok(_) | Err(CallError::NoLink(_) | CallError::Lost(_)) => false,
                Err(_) => return false,
            }
        };
        if known {
            return true;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    false
}
