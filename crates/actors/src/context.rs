//! What a handler can do besides answering.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Actor, ActorError, ActorId, ActorInfo, ActorRef, ActorState, Address, AsActor,
    EFFECTS_BYTES_MAX, EFFECTS_MAX, Effect, ExitReason, Options, Origin, Pool, PoolOptions,
    Snapshot, SpawnError, System, TellError, TimerId, TooManySubscribers, TooManyTimers, Topic,
    address::MAX_DEADLINE,
    cell::panic_text,
    control::Control,
    envelope::Back,
    mailbox::Shared,
    stash::Stash,
    timers::{MIN_PERIOD, Payload},
};

/// The most actors one actor may watch.
pub const MAX_WATCHED: usize = 65_536;

/// The actor may watch no more: either side's limit is reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{watched} cannot be watched: it has, or this actor watches, {MAX_WATCHED} already")]
pub struct TooManyWatches {
    /// The actor that was to be watched.
    pub watched: String,
}

/// The actor's view of itself and its surroundings, lent to each handler.
pub struct Context<A: Actor> {
    pub(crate) shared: Arc<Shared<A::Message, A::Reply>>,
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) stash: Option<Box<Held<A>>>,
    pub(crate) snapshot_due: bool,
    /// Whether somebody waits for the answer to the present message.
    asked: bool,
}

/// Behind a lock that nobody contends, so that handlers can share their context between awaits
/// although messages need not be `Sync`.
pub(crate) type Held<A> = Mutex<Stash<<A as Actor>::Message, <A as Actor>::Reply>>;

pub(crate) fn stash<M, R>(held: &mut Mutex<Stash<M, R>>) -> &mut Stash<M, R> {
    held.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// Parts that most actors never need.
#[derive(Default)]
pub(crate) struct Rare {
    pub(crate) watching: BTreeSet<ActorId>,
    /// When the last failures were, oldest first; bounded by the intensity limit.
    pub(crate) failures: VecDeque<Instant>,
    pub(crate) snapshot: Option<Snapshot>,
    /// What the present message asked for, and how many bytes it takes.
    pub(crate) effects: Vec<Effect>,
    pub(crate) effects_bytes: usize,
    /// A call of this instance was cancelled half-way.
    pub(crate) broken: bool,
    /// A timer is set for the next snapshot.
    pub(crate) snapshot_awaited: bool,
    /// Who sent the present message.
    origin: Origin,
}

impl<A: Actor> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.label())
    }
}

impl<A: Actor> AsActor for Context<A> {
    fn as_actor(&self) -> ActorRef {
        ActorRef(Arc::clone(&self.shared) as Arc<dyn Control>)
    }
}

impl<A: Actor> Context<A> {
    pub(crate) const fn new(shared: Arc<Shared<A::Message, A::Reply>>) -> Self {
        Self {
            shared,
            rare: None,
            stash: None,
            snapshot_due: false,
            asked: false,
        }
    }

    /// The next message, with who waits for its outcome.
    pub(crate) fn begin_message(&mut self, back: &Back<A::Reply>) {
        self.asked = back.is_asked();
        match (back.origin(), &mut self.rare) {
            (Some(origin), _) => self.rare().origin = origin.clone(),
            (None, Some(rare)) => rare.origin = Origin::Nobody,
            (None, None) => {}
        }
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// This actor's number.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.shared.id
    }

    /// This actor's name, or kind and number.
    #[must_use]
    pub fn label(&self) -> String {
        self.shared.label()
    }

    /// This actor's address, to give away. Do not `tell` oneself with it when the mailbox may be
    /// full: nobody would make room. `try_tell` and [`tell_after`](Self::tell_after) are safe.
    #[must_use]
    pub fn address(&self) -> Address<A::Message, A::Reply> {
        Address {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The system this actor lives in.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.shared.system
    }

    /// Ends this actor after the present message. See [`ActorRef::stop`].
    pub fn stop(&self) {
        let deadline = Instant::now() + self.shared.options.grace;
        self.shared.request_stop(ExitReason::Stopped, deadline);
    }

    // ---- messages ----

    /// Who sent the present message, as far as whoever carried it knows. An actor that handles
    /// messages in batches is not told.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        let rare = self.rare.as_ref();
        rare.map_or(&Origin::Nobody, |rare| &rare.origin)
    }

    /// Whether somebody waits for the answer to the present message. As for
    /// [`origin`](Self::origin), not of a batch.
    #[must_use]
    pub const fn is_asked(&self) -> bool {
        self.asked
    }

    /// As [`Address::tell`], naming this actor as the sender: should the message prove poison, it
    /// comes back by [`Actor::returned`].
    ///
    /// # Errors
    /// As for [`Address::tell`].
    ///
    /// # Cancel safety
    /// As for [`Address::tell`].
    pub async fn tell<M, R>(&self, to: &Address<M, R>, message: M) -> Result<(), TellError<M>>
    where
        M: Send + 'static,
        R: Send + 'static,
    {
        // A number means this actor in its own system only.
        let known = self.system().is(&to.shared.system);
        let back = if known {
            Back::Teller(self.id())
        } else {
            Back::Nowhere
        };
        to.tell_as(message, back).await
    }

    /// Puts the present message aside, with whoever waits for its answer, until
    /// [`unstash`](Self::unstash): `return Err(ctx.stash(message))`.
    ///
    /// As many as the mailbox holds can be put aside; beyond that the message is refused. What is
    /// aside at a restart is handled next by the new instance; at the end it becomes dead letters.
    #[must_use = "return it as the handler's error, so that the message counts as put aside"]
    pub fn stash(&mut self, message: A::Message) -> ActorError {
        stash(self.stash.get_or_insert_default()).put(message);
        ActorError::stashed()
    }

    /// Has all that was put aside handled next, in order, ahead of the mailbox.
    pub fn unstash(&mut self) {
        if let Some(held) = &mut self.stash {
            stash(held).back = true;
        }
    }

    // ---- children ----

    /// Starts a child, which is stopped before this actor stops. As [`System::spawn`].
    ///
    /// # Errors
    /// As for [`System::spawn`], and [`SpawnError::ParentStopping`].
    pub fn spawn<C: Actor>(&self, child: C) -> Result<Address<C::Message, C::Reply>, SpawnError> {
        let options = Arc::clone(self.system().defaults());
        self.system()
            .start(Some(self.parent()?), options, child, None)
    }

    /// Starts a child with options and a factory for its restarts. As [`System::spawn_with`].
    ///
    /// # Errors
    /// As for [`System::spawn_with`], and [`SpawnError::ParentStopping`].
    pub fn spawn_with<C: Actor>(
        &self,
        options: Options,
        factory: impl FnMut() -> Result<C, ActorError> + Send + 'static,
    ) -> Result<Address<C::Message, C::Reply>, SpawnError> {
        self.system()
            .start_with(Some(self.parent()?), options, Box::new(factory))
    }

    /// Starts a pool as a child. As [`System::spawn_pool`].
    ///
    /// # Errors
    /// As for [`System::spawn_pool`], and [`SpawnError::ParentStopping`].
    pub fn spawn_pool<C: Actor>(
        &self,
        options: PoolOptions<C::Message>,
        factory: impl Fn() -> Result<C, ActorError> + Send + Sync + 'static,
    ) -> Result<Pool<C::Message, C::Reply>, SpawnError> {
        let parent = Some(self.parent()?);
        crate::pool::start(self.system(), parent, options, Arc::new(factory))
    }

    /// This actor's living children.
    #[must_use]
    pub fn children(&self) -> Vec<ActorInfo> {
        self.system()
            .children(self.id())
            .iter()
            .map(|child| child.info())
            .collect()
    }

    fn parent(&self) -> Result<ActorId, SpawnError> {
        match self.shared.state() {
            ActorState::Stopping | ActorState::Ended => Err(SpawnError::ParentStopping {
                parent: self.label(),
            }),
            _ => Ok(self.id()),
        }
    }

    // ---- watching ----

    /// Has [`Actor::terminated`] called once when `other` ends; at once if it has ended.
    /// Watching the same actor twice is watching it once.
    ///
    /// # Errors
    /// [`TooManyWatches`] beyond [`MAX_WATCHED`] on this side or
    /// [`MAX_WATCHERS`](crate::MAX_WATCHERS) on the other.
    pub fn watch(&mut self, other: &impl AsActor) -> Result<(), TooManyWatches> {
        let other = other.as_actor();
        let me = Arc::clone(&self.shared) as Arc<dyn Control>;
        let id = self.id();
        let watching = &mut self.rare().watching;
        if watching.contains(&other.id()) {
            return Ok(());
        }
        if watching.len() < MAX_WATCHED {
            // Before the registration: an actor that has ended tells at once, and is only heard
            // while it is in the set.
            watching.insert(other.id());
            if other.0.add_watcher(id, &me) {
                return Ok(());
            }
            self.rare().watching.remove(&other.id());
        }
        Err(TooManyWatches {
            watched: other.label(),
        })
    }

    /// Stops watching; no notice of `other` comes after this call.
    pub fn unwatch(&mut self, other: &impl AsActor) {
        let other = other.as_actor();
        if self.rare().watching.remove(&other.id()) {
            other.0.remove_watcher(self.id());
        }
    }

    /// Ties this actor to another: when one fails, also when its policy then restarts it, or is
    /// killed, the other fails too, and its own policy applies. An orderly stop of either only ends
    /// the link. Nothing happens when the other has stopped in order before.
    ///
    /// # Errors
    /// [`TooManyWatches`] beyond [`MAX_WATCHERS`](crate::MAX_WATCHERS) links on either side.
    pub fn link(&mut self, other: &impl AsActor) -> Result<(), TooManyWatches> {
        let other = other.as_actor();
        let me = Arc::clone(&self.shared) as Arc<dyn Control>;
        if other.id() == self.id() {
            return Ok(());
        }
        // Mine first: an actor that has failed tells at once, and is only heard by who is linked.
        if self.shared.add_link(other.id(), &other.0) {
            if other.0.add_link(self.id(), &me) {
                return Ok(());
            }
            self.shared.remove_link(other.id());
        }
        Err(TooManyWatches {
            watched: other.label(),
        })
    }

    /// Ends a link.
    pub fn unlink(&mut self, other: &impl AsActor) {
        let other = other.as_actor();
        self.shared.remove_link(other.id());
        other.0.remove_link(self.id());
    }

    // ---- topics ----

    /// Has the events of a topic come to this actor as messages, until it ends or
    /// [unsubscribes](Self::unsubscribe). A second time replaces the first. Events that find the
    /// mailbox full are missed, and dead letters.
    ///
    /// # Errors
    /// As for [`System::subscribe`].
    pub fn subscribe<T>(
        &self,
        topic: &Topic<T>,
        wrap: impl Fn(T) -> A::Message + Send + Sync + 'static,
    ) -> Result<(), TooManySubscribers>
    where
        T: Clone + Send + Sync + 'static,
    {
        let topics = self.system().topics();
        topics.subscribe(topic, &self.address(), wrap, A::describe)
    }

    /// Ends a subscription; none is no error.
    pub fn unsubscribe<T>(&self, topic: &Topic<T>)
    where
        T: Clone + Send + Sync + 'static,
    {
        self.system().unsubscribe(topic, self);
    }

    // ---- timers ----

    /// Sends this actor a message after a while, ahead of what waits in the mailbox.
    ///
    /// # Errors
    /// [`TooManyTimers`] beyond [`MAX_TIMERS`](crate::MAX_TIMERS).
    pub fn tell_after(
        &self,
        delay: Duration,
        message: A::Message,
    ) -> Result<TimerId, TooManyTimers> {
        let at = Instant::now() + delay.min(MAX_DEADLINE);
        self.shared
            .set_timer(at, Payload::Once(message))
            .map_err(|_| TooManyTimers)
    }

    /// Sends this actor a message each `period` (at least
    /// [`MIN_PERIOD`](crate::timers::MIN_PERIOD)), first after one period. Beats that fall into a
    /// long handler are skipped, not made up for.
    ///
    /// # Errors
    /// [`TooManyTimers`] beyond [`MAX_TIMERS`](crate::MAX_TIMERS).
    pub fn tell_every(
        &self,
        period: Duration,
        message: impl Fn() -> A::Message + Send + Sync + 'static,
    ) -> Result<TimerId, TooManyTimers> {
        let period = period.clamp(MIN_PERIOD, MAX_DEADLINE);
        let payload = Payload::Every(period, Arc::new(message));
        self.shared
            .set_timer(Instant::now() + period, payload)
            .map_err(|_| TooManyTimers)
    }

    /// Cancels a timer of this actor; false if it has fired or never was.
    pub fn cancel_timer(&self, timer: TimerId) -> bool {
        self.shared.cancel_timer(timer)
    }

    // ---- state and work ----

    /// Takes a snapshot once the present message is handled without failure: it is kept for the
    /// next restart and given to [`Options::on_snapshot`].
    pub const fn save_snapshot(&mut self) {
        self.snapshot_due = true;
    }

    /// Whether what a message changed lasts before it is answered (see
    /// [`Options::durable`](crate::Options::durable)): then each snapshot has to be the newest.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.shared.options.journal.is_some()
    }

    /// Has something done once the state after the present message lasts: exactly once, also if
    /// this actor or its node fails right after. Of a message that fails, or is refused, nothing is
    /// done.
    ///
    /// # Errors
    /// A failure when the actor is not [durable](Options::durable), for a take that names no
    /// variable, and beyond [`EFFECTS_MAX`] or
    /// [`EFFECTS_BYTES_MAX`] for one message or batch.
    pub fn effect(&mut self, effect: Effect) -> Result<(), ActorError> {
        if self.shared.options.journal.is_none() {
            return Err(ActorError::failed(
                "it is not durable, so its effects could be lost or done twice: send them itself, \
                 or make it durable",
            ));
        }
        if let Some(fault) = effect.fault() {
            return Err(ActorError::failed(fault));
        }
        let rare = self.rare();
        let bytes = rare.effects_bytes + effect.bytes();
        if rare.effects.len() >= EFFECTS_MAX || bytes > EFFECTS_BYTES_MAX {
            return Err(ActorError::failed(format!(
                "more than {EFFECTS_MAX} effects, or {EFFECTS_BYTES_MAX} bytes of them, in one \
                 message: divide the work among several messages"
            )));
        }
        rare.effects_bytes = bytes;
        rare.effects.push(effect);
        Ok(())
    }

    /// Takes out what the present message asked for.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        match &mut self.rare {
            Some(rare) => {
                rare.effects_bytes = 0;
                std::mem::take(&mut rare.effects)
            }
            None => Vec::new(),
        }
    }

    /// Runs work that computes long or blocks on a thread of its own, so that other actors go on;
    /// await it to have it done before the next message.
    ///
    /// The work starts at once and runs to its end even if the actor is killed meanwhile.
    ///
    /// # Errors
    /// A failure with the panic's text when the work panics.
    pub fn blocking<T, F>(
        &self,
        work: F,
    ) -> impl Future<Output = Result<T, ActorError>> + Send + use<A, T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let work = tokio::task::spawn_blocking(work);
        async {
            work.await.map_err(|error| match error.try_into_panic() {
                Ok(panic) => ActorError::failed(panic_text(&*panic)),
                Err(error) => ActorError::from(error),
            })
        }
    }
}
