//! Named actors anywhere in the mesh.
//!
//! A name belongs to one actor at a time: a node claims it from the name's home before it starts
//! the actor, and the claim's token travels with every message, so that a host which is no longer
//! the one says so instead of answering. Where an actor lives is read from the local replica and
//! remembered until it proves wrong.
//!
//! Messages go from node to node on their own lane, past the peer: [`post`] receives, [`host`]
//! runs the actors that live here.

mod address;
mod balance;
mod durable;
mod effects;
mod envelope;
mod error;
mod failures;
mod forward;
mod host;
mod inbox;
mod inspect;
mod lives;
pub(crate) mod location_cache;
mod migrate;
mod monitor;
pub(crate) mod mover;
mod number;
mod numbered;
mod outlet;
pub(crate) mod place;
pub(crate) mod poison;
pub(crate) mod post;
mod rooms;
mod spec;
pub(crate) mod took;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cpe_actors::{ActorRef, AnyAddress, ExitReason, KindRegistry, System};
use cpe_membership::{Incarnation, Member, NodeId};
use cpe_mesh::{ActorEnds, ActorInfo, Command, Reply, Seen};
use cpe_network::Network;
use cpe_space::Session;
use cpe_tuple::Value;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use address::Address;
pub use error::ActorsError;
pub use inspect::{Found, Inspected};
pub use lives::{SPAWN_DEADLINE, SpawnOptions, Stopped};
pub use monitor::MONITORS_MAX;
pub use mover::Rebalance;
pub use outlet::Outlet;

use crate::desk::Desk;
use crate::kinds::NodeHandle;
use crate::{Mesh, Space, SpaceError};
use envelope::{Answer, Envelope};
use forward::Forwards;
use host::Hosted;
use location_cache::LocationCache;
use migrate::Trail;
use number::Numbers;
use place::Loads;
use post::{CallError, Pending};
use rooms::Rooms;

/// How long a tell may wait for the actor's node to have the message in the mailbox.
pub const TELL_DEADLINE: Duration = Duration::from_secs(10);

/// How long this node's replica may lag behind a change of the registry: a name that is not
/// found, or is found where it no longer is, is looked up again for so long. Feeds take 20 ms.
const PATIENCE: Duration = Duration::from_millis(400);

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// The longest deadline of a request about an actor; longer ones are cut to it.
const DEADLINE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A cheap handle to the named actors of the mesh. Messages and answers are values.
///
/// Messages from one task to one actor arrive in the order in which it sent them, at most once.
#[derive(Clone, Debug)]
pub struct Actors {
    inner: Arc<Inner>,
    /// The actor that has it: see [`Origin`](cpe_actors::Origin).
    from: Option<Arc<str>>,
}

/// Where an actor lives, as of the claim with this token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    host: Member,
    token: u64,
    /// The host is the node in its life as one.
    leased: bool,
}

impl Place {
    /// Where a record says that its actor lives.
    fn of(record: &ActorInfo) -> Option<Self> {
        Some(Self {
            host: record.host?,
            token: record.token,
            leased: record.leased,
        })
    }

    /// That of a durable actor.
    const fn durable(host: Member, token: u64) -> Self {
        Self {
            host,
            token,
            leased: true,
        }
    }
}

/// What all handles of a node share.
pub(crate) struct Inner {
    pub(crate) me: Member,
    pub(crate) name: Arc<str>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) space: Space,
    pub(crate) mesh: Mesh,
    pub(crate) network: Network,
    pub(crate) system: System,
    pub(crate) registry: KindRegistry,
    pub(crate) tasks: TaskTracker,
    hosted: Mutex<BTreeMap<String, Hosted>>,
    /// The life of this node as a host, while it lasts. Only changed, and only relied upon, under
    /// the lock of `hosted`.
    life: Mutex<Option<Member>>,
    /// Durable actors that this node has handed on.
    trail: Mutex<Trail>,
    /// What is sent after durable actors that this node has handed on.
    forwards: Forwards,
    /// Newest lives of nodes as hosts that are over.
    over: Mutex<BTreeMap<NodeId, Incarnation>>,
    /// Told whenever a durable actor begins here.
    begun: Notify,
    /// This node stops: it takes no more actors. Set under the lock of `hosted`.
    leaving: AtomicBool,
    places: Mutex<LocationCache>,
    pending: Mutex<BTreeMap<u64, Pending>>,
    next: AtomicU64,
    rooms: Rooms,
    ends: Mutex<ActorEnds<ExitReason>>,
    /// Told whenever something becomes known of the end of an actor of this node.
    ended: Notify,
    /// Actors that have ended here, by name and token, whose effects are not all done.
    ending: Mutex<BTreeSet<(String, u64)>>,
    /// Durable actors of this node that cannot begin: under which token, and why.
    stuck: Mutex<BTreeMap<String, (u64, String)>>,
    monitors: Mutex<BTreeMap<String, (Seen, ActorRef)>>,
    /// Actors by node, as they were counted last.
    loads: Mutex<Loads>,
    numbers: Numbers,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actors")
            .field("node", &self.me)
            .field("system", &self.system)
            .finish_non_exhaustive()
    }
}

/// What a node's actors need of it.
pub(crate) struct Parts {
    pub(crate) me: Member,
    pub(crate) session: Session,
    pub(crate) name: Arc<str>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) mesh: Mesh,
    pub(crate) network: Network,
    pub(crate) registry: KindRegistry,
    pub(crate) seed: u64,
}

impl Inner {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            me,
            session,
            name,
            desk,
            mesh,
            network,
            registry,
            seed,
        } = parts;
        Arc::new(Self {
            me,
            name,
            space: Space::new(Arc::clone(&desk)),
            desk,
            mesh,
            network,
            system: System::builder().seed(seed).build(),
            registry,
            tasks: TaskTracker::new(),
            hosted: Mutex::default(),
            life: Mutex::default(),
            trail: Mutex::default(),
            forwards: Forwards::default(),
            over: Mutex::default(),
            begun: Notify::new(),
            leaving: AtomicBool::new(false),
            places: Mutex::default(),
            pending: Mutex::default(),
            next: AtomicU64::new(1),
            rooms: Rooms::default(),
            ends: Mutex::default(),
            ended: Notify::new(),
            ending: Mutex::default(),
            stuck: Mutex::default(),
            monitors: Mutex::default(),
            loads: Mutex::default(),
            numbers: Numbers::new(session),
        })
    }

    /// For one of the node's own people, or for the actor of this name.
    pub(crate) fn handle(self: Arc<Self>, of: Option<&str>) -> NodeHandle {
        NodeHandle {
            name: Arc::clone(&self.name),
            id: self.me.node,
            space: self.space.clone(),
            mesh: self.mesh.clone(),
            actors: Actors {
                inner: self,
                from: of.map(Arc::from),
            },
        }
    }

    /// Whether this node has begun to stop.
    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// The registry's record of a name, from the local replica.
    async fn record(&self, name: &str) -> Result<Option<ActorInfo>, SpaceError> {
        let name = name.to_owned();
        match self.desk.ask(Command::Where { name }).await? {
            Reply::Actor(info) => Ok(info),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// The record once it satisfies `good`, or as it is after [`PATIENCE`] or at the deadline.
    async fn record_that(
        &self,
        name: &str,
        until: Instant,
        good: impl Fn(Option<&ActorInfo>) -> bool,
    ) -> Result<Option<ActorInfo>, SpaceError> {
        let until = until.min(Instant::now() + PATIENCE);
        loop {
            let record = self.record(name).await?;
            if good(record.as_ref()) || Instant::now() >= until {
                return Ok(record);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Where an actor lives; looked up again when it is `wrong`.
    async fn find(
        &self,
        name: &str,
        wrong: Option<Place>,
        until: Instant,
    ) -> Result<Option<Place>, SpaceError> {
        let (remembered, changes) = {
            let places = lock(&self.places);
            (places.get(name), places.changes())
        };
        match remembered {
            Some(place) if Some(place) != wrong => return Ok(Some(place)),
            _ => {}
        }
        let place = |record: Option<&ActorInfo>| record.and_then(Place::of);
        let good = |record: Option<&ActorInfo>| {
            let found = place(record);
            found.is_some() && found != wrong
        };
        let record = self.record_that(name, until, good).await?;
        let found = place(record.as_ref());
        let mut places = lock(&self.places);
        match found {
            Some(found) => places.learned(name, found, changes),
            None => places.forget(name),
        }
        Ok(found)
    }

    /// Its former host said where an actor is now; false if that is older than what was known.
    fn is_told_where(&self, name: &str, place: Place, host: Member, token: u64) -> bool {
        let newer = place.leased && token > place.token;
        if newer {
            lock(&self.places).remember(name, Place::durable(host, token));
        }
        newer
    }

    fn forget(&self, name: &str) {
        lock(&self.places).forget(name);
    }

    /// What people call a node.
    async fn node_name(&self, node: NodeId) -> String {
        let peers = self.mesh.peers().await.unwrap_or_default();
        let found = peers.into_iter().find(|peer| peer.node == node);
        found.map_or_else(
            || node.to_string(),
            |peer| format!("{} ({node})", peer.name),
        )
    }

    /// Whether the node where an actor lives is still there.
    async fn is_there(&self, place: Place) -> Result<bool, SpaceError> {
        if !place.leased {
            return self.is_alive(place.host).await;
        }
        let peers = self.mesh.peers().await?;
        let node = place.host.node;
        Ok(peers
            .iter()
            .any(|peer| peer.node == node && place::is_alive(peer)))
    }

    /// Whether the life of a node that a record names is still there.
    async fn is_alive(&self, member: Member) -> Result<bool, SpaceError> {
        let peers = self.mesh.peers().await?;
        Ok(peers.iter().any(|peer| {
            peer.node == member.node
                && peer.inc == member.inc
                && matches!(peer.state, "alive" | "suspect")
        }))
    }
}

impl Actors {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, from: None }
    }

    /// The handle of an actor: what it sends says so.
    fn of(inner: Arc<Inner>, name: &str) -> Self {
        let from = Some(name.into());
        Self { inner, from }
    }

    /// Puts a message into an actor's mailbox; done when it is there, not when it is handled.
    ///
    /// A durable actor's node that does not answer may have it: then it is sent again, also to the
    /// next node that has the actor, and handled once. One that was taken and not handled is lost
    /// with its node, unless that hands the actor on; [`ask`](Self::ask) is sure.
    ///
    /// # Errors
    /// [`ActorsError::Refused`] when the mailbox is full: then nothing happened. See there for the
    /// others.
    pub async fn tell(&self, name: &str, message: Value) -> Result<(), ActorsError> {
        let until = Instant::now() + TELL_DEADLINE;
        if self.is_durable(name, until).await? {
            let told = self.send_numbered(name, message, true, TELL_DEADLINE, until);
            return told.await.map(drop);
        }
        let mut message = message;
        let answer = self
            .request(name, TELL_DEADLINE, until, |place, inner| {
                let here =
                    (place.host.node == inner.me.node).then(|| inner.hosted(name, place.token));
                let (name, message) = (name.to_owned(), message_for(&here, &mut message));
                async move {
                    match here {
                        Some(Some(actor)) => {
                            let origin = envelope::origin(self.from.as_deref());
                            return Ok(match actor.try_tell_from(origin, message) {
                                Ok(()) => Answer::Done,
                                Err(error) => Answer::Asked(error),
                            });
                        }
                        Some(None) => return Ok(Answer::NotHere),
                        None => {}
                    }
                    let (token, of) = (place.token, name.clone());
                    let from = self.from.as_deref().map(str::to_owned);
                    let request = |id| Envelope::Tell {
                        id,
                        name: of,
                        token,
                        message,
                        from,
                    };
                    inner.call_at(&name, place, until, request).await
                }
            })
            .await?;
        match answer {
            (Answer::Done, _) => Ok(()),
            (other, host) => Err(self.inner.refused(name, host, TELL_DEADLINE, other).await),
        }
    }

    /// Asks an actor and waits for its answer, up to `deadline` in all. A name that this node's
    /// replica does not show is looked for a moment longer, as it may be new.
    ///
    /// A durable actor is asked again, within the deadline, when its node ends or the actor moves.
    /// What the message changed happens once all the same.
    ///
    /// # Errors
    /// [`ActorsError`] names the actor, its node and what happened.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the actor may or may not handle the message.
    pub async fn ask(
        &self,
        name: &str,
        message: Value,
        deadline: Duration,
    ) -> Result<Value, ActorsError> {
        let deadline = deadline.min(DEADLINE_MAX);
        let until = Instant::now() + deadline;
        if self.is_durable(name, until).await? {
            return self
                .send_numbered(name, message, false, deadline, until)
                .await;
        }
        let mut message = message;
        let answer = self
            .request(name, deadline, until, |place, inner| {
                let here =
                    (place.host.node == inner.me.node).then(|| inner.hosted(name, place.token));
                let (name, message) = (name.to_owned(), message_for(&here, &mut message));
                async move {
                    let left = until.saturating_duration_since(Instant::now());
                    match here {
                        Some(Some(actor)) => {
                            let origin = envelope::origin(self.from.as_deref());
                            return Ok(match actor.ask_from(origin, message, left).await {
                                Ok(value) => Answer::Value(value),
                                Err(error) => Answer::Asked(error),
                            });
                        }
                        Some(None) => return Ok(Answer::NotHere),
                        None => {}
                    }
                    let (token, within_ms) = (place.token, milliseconds(left));
                    let from = self.from.as_deref().map(str::to_owned);
                    let of = name.clone();
                    let request = |id| Envelope::Ask {
                        id,
                        name: of,
                        token,
                        within_ms,
                        message,
                        from,
                    };
                    inner.call_at(&name, place, until, request).await
                }
            })
            .await?;
        match answer {
            (Answer::Value(value), _) => Ok(value),
            (other, host) => Err(self.inner.refused(name, host, deadline, other).await),
        }
    }

    /// All named actors this node's replica shows.
    ///
    /// # Errors
    /// [`SpaceError::Closed`].
    pub async fn list(&self) -> Result<Vec<ActorInfo>, ActorsError> {
        match self.inner.desk.ask(Command::Actors).await? {
            Reply::Actors(all) => Ok(all.into_iter().filter(|info| info.host.is_some()).collect()),
            _ => Err(SpaceError::Unexpected.into()),
        }
    }

    /// Where an actor lives, as this node's replica shows it.
    ///
    /// # Errors
    /// [`SpaceError::Closed`].
    pub async fn where_is(&self, name: &str) -> Result<Option<ActorInfo>, ActorsError> {
        let record = self.inner.record(name).await?;
        Ok(record.filter(|info| info.host.is_some()))
    }

    /// The local runtime: for actors that need no name in the mesh, and for inspection.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.inner.system
    }

    /// Finds the actor and sends the request; once more when the place proves wrong.
    async fn request<F>(
        &self,
        name: &str,
        deadline: Duration,
        until: Instant,
        mut send: impl FnMut(Place, Arc<Inner>) -> F,
    ) -> Result<(Answer, NodeId), ActorsError>
    where
        F: Future<Output = Result<Answer, CallError>>,
    {
        let inner = &self.inner;
        let mut wrong = None;
        loop {
            let Some(place) = inner.find(name, wrong, until).await? else {
                return Err(ActorsError::NoSuchActor(name.to_owned()));
            };
            let node = place.host.node;
            let last = wrong.is_some();
            match send(place, Arc::clone(inner)).await {
                Ok(Answer::NotHere) if !last => {}
                Ok(Answer::Elsewhere { host, token }) if Instant::now() < until => {
                    if inner.is_told_where(name, place, host, token) {
                        continue;
                    }
                    if last {
                        return Ok((Answer::NotHere, node));
                    }
                }
                // Certainly not delivered: the actor may have moved.
                Err(CallError::NoLink(_)) if !last => {}
                Ok(answer) => return Ok((answer, node)),
                Err(error) => {
                    inner.forget(name);
                    return Err(inner.not_called(name, node, deadline, error).await);
                }
            }
            wrong = Some(place);
        }
    }
}

/// The message for one try: itself when this is certainly the last, else a copy.
fn message_for(here: &Option<Option<AnyAddress>>, message: &mut Value) -> Value {
    match here {
        Some(Some(_)) => std::mem::take(message),
        Some(None) => Value::Null,
        None => message.clone(),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
