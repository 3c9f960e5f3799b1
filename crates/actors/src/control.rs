//! Actors without their message type: for stopping, watching and listing.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    ActorState, ExitReason, Poisoned, Strategy, Supervision,
    mailbox::{Notice, Shared},
    siblings::Halt,
};

/// The number of an actor, unique in its [`System`](crate::System) and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActorId(pub(crate) std::num::NonZeroU64);

impl ActorId {
    /// The number itself.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An actor has ended: what a watcher is told, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    /// The actor's number.
    pub id: ActorId,
    /// Its name, or kind and number.
    pub actor: String,
    /// Why it ended.
    pub reason: ExitReason,
}

/// One actor as listings show it; a moment's view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActorInfo {
    /// Its number.
    pub id: ActorId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its kind: the registered one or the type's name.
    pub kind: String,
    /// Its parent, if it has one.
    pub parent: Option<ActorId>,
    /// Where it is in its life.
    pub state: ActorState,
    /// Messages waiting.
    pub depth: usize,
    /// Messages the mailbox holds at most.
    pub mailbox: usize,
    /// Messages it has put aside for later.
    pub stashed: usize,
    /// Timers running.
    pub timers: usize,
    /// Messages handled without failure since it was spawned.
    pub handled: u64,
    /// Failures since it was spawned.
    pub failed: u32,
    /// Restarts since it was spawned.
    pub restarts: u32,
    /// The last failure's reason.
    pub last_error: Option<String>,
}

/// What can be done with an actor whatever its messages are.
pub(crate) trait Control: Any + Send + Sync {
    fn id(&self) -> ActorId;
    fn label(&self) -> String;
    fn info(&self) -> ActorInfo;
    fn request_stop(&self, reason: ExitReason, deadline: Instant);
    fn take_stop_back(&self, deadline: Instant) -> bool;
    /// The actor's own grace period.
    fn grace(&self) -> Duration;
    fn drain(&self);
    fn exit_reason(&self) -> Option<ExitReason>;
    fn ended(self: Arc<Self>) -> BoxFuture<'static, Terminated>;
    fn begun(self: Arc<Self>) -> BoxFuture<'static, Result<(), Terminated>>;
    fn add_watcher(&self, id: ActorId, watcher: &Arc<dyn Control>) -> bool;
    fn remove_watcher(&self, id: ActorId);
    fn notify(&self, notice: Notice);
    fn supervision(&self) -> &Supervision;
    fn strategy(&self) -> Strategy;
    fn is_gated(&self) -> bool;
    fn request_halt(&self, halt: Halt);
    fn add_link(&self, id: ActorId, other: &Arc<dyn Control>) -> bool;
    fn remove_link(&self, id: ActorId) -> bool;
}

impl<M: Send + 'static, R: Send + 'static> Control for Shared<M, R> {
    fn id(&self) -> ActorId {
        self.id
    }

    fn label(&self) -> String {
        Self::label(self)
    }

    fn info(&self) -> ActorInfo {
        ActorInfo {
            id: self.id,
            name: self.options.name.as_deref().map(str::to_owned),
            kind: self.kind().to_owned(),
            parent: self.parent,
            state: self.state(),
            depth: self.depth(),
            mailbox: self.options.mailbox,
            stashed: self.stashed(),
            timers: self.timers(),
            handled: self.handled(),
            failed: self.failed(),
            restarts: self.restarts(),
            last_error: self.last_error(),
        }
    }

    fn request_stop(&self, reason: ExitReason, deadline: Instant) {
        Self::request_stop(self, reason, deadline);
    }

    fn take_stop_back(&self, deadline: Instant) -> bool {
        Self::take_stop_back(self, deadline)
    }

    fn grace(&self) -> Duration {
        self.options.grace
    }

    fn drain(&self) {
        Self::drain(self);
    }

    fn exit_reason(&self) -> Option<ExitReason> {
        Self::exit_reason(self)
    }

    fn ended(self: Arc<Self>) -> BoxFuture<'static, Terminated> {
        Box::pin(async move { self.wait_ended().await })
    }

    fn begun(self: Arc<Self>) -> BoxFuture<'static, Result<(), Terminated>> {
        Box::pin(async move { self.wait_begun().await })
    }

    fn add_watcher(&self, id: ActorId, watcher: &Arc<dyn Control>) -> bool {
        Self::add_watcher(self, id, watcher)
    }

    fn remove_watcher(&self, id: ActorId) {
        Self::remove_watcher(self, id);
    }

    fn notify(&self, notice: Notice) {
        Self::notify(self, notice);
    }

    fn supervision(&self) -> &Supervision {
        &self.options.supervision
    }

    fn strategy(&self) -> Strategy {
        self.options.strategy
    }

    fn is_gated(&self) -> bool {
        self.gated
    }

    fn request_halt(&self, halt: Halt) {
        Self::request_halt(self, halt);
    }

    fn add_link(&self, id: ActorId, other: &Arc<dyn Control>) -> bool {
        Self::add_link(self, id, other)
    }

    fn remove_link(&self, id: ActorId) -> bool {
        Self::remove_link(self, id)
    }
}

/// An actor without its message type: stop it, wait for its end, watch it, look at it.
#[derive(Clone)]
pub struct ActorRef(pub(crate) Arc<dyn Control>);

impl ActorRef {
    /// The actor's number.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.0.id()
    }

    /// Its name, or kind and number.
    #[must_use]
    pub fn label(&self) -> String {
        self.0.label()
    }

    /// A moment's view of it.
    #[must_use]
    pub fn info(&self) -> ActorInfo {
        self.0.info()
    }

    /// Asks it to stop after the message it is at; what waits in its mailbox goes to the dead
    /// letters. Its children stop first. Returns at once; see [`ended`](Self::ended).
    ///
    /// A handler that is still waiting for something when the actor's grace period is over is
    /// cancelled there, so this ends also an actor that is blocked on a full mailbox.
    pub fn stop(&self) {
        self.0
            .request_stop(ExitReason::Stopped, Instant::now() + self.0.grace());
    }

    /// As [`stop`](Self::stop), but the handler is cancelled at `deadline` instead of after the
    /// actor's grace period, unless a stop that was asked for besides has an earlier one.
    pub fn stop_by(&self, deadline: Instant) {
        self.0.request_stop(ExitReason::Stopped, deadline);
    }

    /// Takes back a [`stop_by`](Self::stop_by) with this deadline: an actor that is still at its
    /// message goes on after it as if nothing had been. False if it is ending already, or somebody
    /// asked for an earlier end.
    #[must_use]
    pub fn take_stop_back(&self, deadline: Instant) -> bool {
        self.0.take_stop_back(deadline)
    }

    /// Asks it to take no more messages, handle those it has, and stop.
    pub fn drain(&self) {
        self.0.drain();
    }

    /// Stops it without grace: its handler is cancelled at the await where it stands and
    /// [`stopping`](crate::Actor::stopping) is not called. Code that computes without awaiting
    /// cannot be interrupted; see [`Context::blocking`](crate::Context::blocking).
    pub fn kill(&self) {
        self.0.request_stop(ExitReason::Killed, Instant::now());
    }

    /// Ends it with a reason of one's own, for an actor that stands for another elsewhere: who
    /// watches it or is linked to it learns that reason.
    pub fn end_as(&self, reason: ExitReason) {
        self.0.request_stop(reason, Instant::now() + self.0.grace());
    }

    /// Ends it at once, as [`kill`](Self::kill) does, with a reason of one's own: another
    /// incarnation of it may be there already.
    pub fn fence(&self, reason: ExitReason) {
        self.0.request_stop(reason, Instant::now());
    }

    /// Gives it back a message of its own that was poison where it went: see
    /// [`returned`](crate::Actor::returned).
    pub fn give_back(&self, poisoned: Poisoned) {
        self.0.notify(Notice::Returned(poisoned));
    }

    /// Waits until it has taken up its snapshot, its [`started`](crate::Actor::started) is through
    /// and it is ready for messages, at the first try or a later one; not for one that is between a
    /// failure and its next instance.
    ///
    /// # Errors
    /// How it ended, if it never was.
    pub async fn begun(&self) -> Result<(), Terminated> {
        Arc::clone(&self.0).begun().await
    }

    /// Waits until it is gone and says why.
    pub async fn ended(&self) -> Terminated {
        Arc::clone(&self.0).ended().await
    }
}

impl fmt::Debug for ActorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorRef({})", self.label())
    }
}

/// What stands for one actor: all addresses do.
pub trait AsActor {
    /// The actor without its message type.
    fn as_actor(&self) -> ActorRef;
}

impl AsActor for ActorRef {
    fn as_actor(&self) -> ActorRef {
        self.clone()
    }
}
