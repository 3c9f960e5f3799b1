//! The local runtime: starts actors, knows those that live, and shuts them down.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::broadcast, time::Instant};
use tracing::Instrument as _;

use crate::{
    Actor, ActorError, ActorId, ActorInfo, ActorRef, ActorTree, Address, AnyAddress, AsActor,
    DeadLetter, DeadReason, ExitReason, Gate, Options, Poisoned, Pool, PoolOptions, Published,
    SpawnError, Strategy, TooManySubscribers, Topic, cell, control::Control,
    dead_letters::DeadLetters, error::bounded, mailbox::Shared, returns::Returns, siblings::Family,
    topic::Topics,
};

/// Actors a system holds unless set otherwise.
pub const DEFAULT_MAX_ACTORS: usize = 1 << 20;

/// The longest actor name, in bytes.
pub const MAX_NAME_BYTES: usize = cpe_tuple::limits::MAX_NAME_BYTES;

/// Makes an instance: the first one and each after a restart.
pub(crate) type Factory<A> = Box<dyn FnMut() -> Result<A, ActorError> + Send>;

/// A local actor runtime on tokio. Clones are handles to the same one; there is no global state,
/// and any number of systems can live in one process.
#[derive(Clone)]
pub struct System(Arc<Inner>);

struct Inner {
    runtime: Handle,
    registry: Mutex<Registry>,
    next_id: AtomicU64,
    seed: u64,
    max_actors: usize,
    defaults: Arc<Options>,
    dead_letters: DeadLetters,
    topics: Topics,
    gate: Gate,
    returns: Returns,
}

#[derive(Default)]
struct Registry {
    actors: BTreeMap<ActorId, Arc<dyn Control>>,
    children: BTreeSet<(ActorId, ActorId)>,
    names: BTreeMap<Arc<str>, Named>,
    /// Parents whose children have failed together.
    families: BTreeMap<ActorId, Arc<Family>>,
    closed: bool,
}

struct Named {
    id: ActorId,
    typed: Arc<dyn Any + Send + Sync>,
    any: Option<AnyAddress>,
}

/// How a [`System`] runs.
#[derive(Clone, Debug)]
#[must_use]
pub struct SystemBuilder {
    seed: u64,
    max_actors: usize,
    defaults: Options,
}

impl SystemBuilder {
    /// Seeds the jitter of restarts. 0 by default: a node passes entropy, a test a number.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The most actors alive at once. [`DEFAULT_MAX_ACTORS`] by default.
    pub const fn max_actors(mut self, max: usize) -> Self {
        self.max_actors = max;
        self
    }

    /// The options of actors that are spawned without options of their own.
    pub fn defaults(mut self, options: Options) -> Self {
        self.defaults = Options {
            name: None,
            snapshot: None,
            ..options
        };
        self
    }

    /// Makes the system on the tokio runtime it is called in, which needs its timers enabled.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    #[must_use]
    pub fn build(self) -> System {
        System(Arc::new(Inner {
            runtime: Handle::current(),
            registry: Mutex::default(),
            next_id: AtomicU64::new(1),
            seed: self.seed,
            max_actors: self.max_actors,
            defaults: Arc::new(self.defaults),
            dead_letters: DeadLetters::default(),
            topics: Topics::default(),
            gate: Gate::new(),
            returns: Returns::default(),
        }))
    }
}

/// What a shutdown came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Actors that ended within the deadline.
    pub stopped: usize,
    /// Actors that had not: they compute or block without awaiting.
    pub remaining: Vec<ActorInfo>,
}

impl Default for System {
    fn default() -> Self {
        Self::builder().build()
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("actors", &self.len())
            .finish_non_exhaustive()
    }
}

impl System {
    /// Starts configuring a system.
    pub fn builder() -> SystemBuilder {
        SystemBuilder {
            seed: 0,
            max_actors: DEFAULT_MAX_ACTORS,
            defaults: Options::default(),
        }
    }

    /// Starts an actor without a name. It cannot be restarted, having no factory: a failure that
    /// its policy answers by a restart ends it.
    ///
    /// # Errors
    /// [`SpawnError::TooMany`] and [`SpawnError::ShuttingDown`].
    pub fn spawn<A: Actor>(&self, actor: A) -> Result<Address<A::Message, A::Reply>, SpawnError> {
        self.start(None, Arc::clone(&self.0.defaults), actor, None)
    }

    /// Starts an actor under a name, unique among the living actors of this system.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn), and [`SpawnError::NameTaken`] and [`SpawnError::BadName`].
    pub fn spawn_named<A: Actor>(
        &self,
        name: impl AsRef<str>,
        actor: A,
    ) -> Result<Address<A::Message, A::Reply>, SpawnError> {
        let options = Options::clone(&self.0.defaults).name(name);
        self.start(None, Arc::new(options), actor, None)
    }

    /// Starts an actor with options and a factory for its restarts.
    ///
    /// # Errors
    /// As for [`spawn_named`](Self::spawn_named), and [`SpawnError::Factory`] when the first
    /// instance cannot be made.
    pub fn spawn_with<A: Actor>(
        &self,
        options: Options,
        factory: impl FnMut() -> Result<A, ActorError> + Send + 'static,
    ) -> Result<Address<A::Message, A::Reply>, SpawnError> {
        self.start_with(None, options, Box::new(factory))
    }

    /// Starts a pool of workers that the factory makes; see [`PoolOptions`].
    ///
    /// # Errors
    /// As for [`spawn_with`](Self::spawn_with), for the pool and each of its first workers.
    pub fn spawn_pool<A: Actor>(
        &self,
        options: PoolOptions<A::Message>,
        factory: impl Fn() -> Result<A, ActorError> + Send + Sync + 'static,
    ) -> Result<Pool<A::Message, A::Reply>, SpawnError> {
        crate::pool::start(self, None, options, Arc::new(factory))
    }

    /// The living actor of this name, if its messages and replies are of these types.
    #[must_use]
    pub fn find<M: Send + 'static, R: Send + 'static>(&self, name: &str) -> Option<Address<M, R>> {
        let registry = self.registry();
        let typed = Arc::clone(&registry.names.get(name)?.typed);
        typed
            .downcast::<Shared<M, R>>()
            .ok()
            .map(|shared| Address { shared })
    }

    /// The living actor of this name, if it was spawned from a registered kind.
    #[must_use]
    pub fn find_any(&self, name: &str) -> Option<AnyAddress> {
        self.registry().names.get(name)?.any.clone()
    }

    /// The living actor of this name, whatever its messages are.
    #[must_use]
    pub fn find_ref(&self, name: &str) -> Option<ActorRef> {
        let registry = self.registry();
        let id = registry.names.get(name)?.id;
        registry
            .actors
            .get(&id)
            .map(|control| ActorRef(Arc::clone(control)))
    }

    /// The living actor of this number.
    #[must_use]
    pub fn get(&self, id: ActorId) -> Option<ActorRef> {
        self.registry()
            .actors
            .get(&id)
            .map(|control| ActorRef(Arc::clone(control)))
    }

    /// Asks the actor of this name to stop; false if there is none.
    #[must_use]
    pub fn stop(&self, name: &str) -> bool {
        self.find_ref(name).map(|actor| actor.stop()).is_some()
    }

    /// All living actors by number. A parent comes before its children, so that a tree can be built
    /// in one pass over [`ActorInfo::parent`].
    #[must_use]
    pub fn list(&self) -> Vec<ActorInfo> {
        let all: Vec<_> = self.registry().actors.values().cloned().collect();
        all.iter().map(|control| control.info()).collect()
    }

    /// All living actors as trees, the oldest first.
    #[must_use]
    pub fn tree(&self) -> Vec<ActorTree> {
        ActorTree::from_list(self.list())
    }

    /// Gives a copy of an event to all subscribers of a topic. Does not wait: one whose mailbox is
    /// full misses it, which is counted and a dead letter.
    pub fn publish<T>(&self, topic: &Topic<T>, event: &T) -> Published
    where
        T: Clone + Send + Sync + 'static,
    {
        self.0.topics.publish(self, topic, event)
    }

    /// Has an actor get the events of a topic as messages, until it ends or is unsubscribed. A
    /// second time replaces the first. An actor subscribes itself with
    /// [`Context::subscribe`](crate::Context::subscribe).
    ///
    /// # Errors
    /// [`TooManySubscribers`] beyond [`MAX_SUBSCRIBERS`](crate::MAX_SUBSCRIBERS) or
    /// [`MAX_TOPICS`](crate::MAX_TOPICS).
    pub fn subscribe<T, M, R>(
        &self,
        topic: &Topic<T>,
        address: &Address<M, R>,
        wrap: impl Fn(T) -> M + Send + Sync + 'static,
    ) -> Result<(), TooManySubscribers>
    where
        T: Clone + Send + Sync + 'static,
        M: Send + 'static,
        R: Send + 'static,
    {
        self.0.topics.subscribe(topic, address, wrap, |_| None)
    }

    /// Ends an actor's subscription; none is no error.
    pub fn unsubscribe<T>(&self, topic: &Topic<T>, actor: &impl AsActor)
    where
        T: Clone + Send + Sync + 'static,
    {
        let gone = actor.as_actor().id();
        self.0.topics.unsubscribe(topic, |id| id == gone);
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.0.topics
    }

    /// Until when handlers are called: for ever, unless somebody says otherwise.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// The number of living actors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.registry().actors.len()
    }

    /// Whether no actor lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest dead letters, oldest first, at most
    /// [`DEAD_LETTERS_KEPT`](crate::DEAD_LETTERS_KEPT).
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.0.dead_letters.kept()
    }

    /// All dead letters there ever were.
    #[must_use]
    pub fn dead_letter_count(&self) -> u64 {
        self.0.dead_letters.count()
    }

    /// Dead letters from now on. Who falls [`DEAD_LETTERS_BEHIND`](crate::DEAD_LETTERS_BEHIND)
    /// behind misses the oldest and is told how many.
    #[must_use]
    pub fn subscribe_dead_letters(&self) -> broadcast::Receiver<DeadLetter> {
        self.0.dead_letters.subscribe()
    }

    /// Has `carrier` give poison back to senders that are known by their names
    /// ([`Origin::Actor`](crate::Origin)) and wait for no answer: it gets the name, and the message
    /// as a [`Value`](cpe_tuple::Value), if the receiver can show it
    /// ([`Actor::describe`](crate::Actor::describe)). It is called in the receiver's task, and must
    /// not wait. The first one stays.
    pub fn on_return(&self, carrier: impl Fn(&str, Poisoned) + Send + Sync + 'static) {
        self.0.returns.set(Box::new(carrier));
    }

    pub(crate) fn return_to(&self, sender: &str, poisoned: Poisoned) {
        self.0.returns.give(sender, poisoned);
    }

    /// Stops all actors, children first, and waits for them.
    ///
    /// After three quarters of the deadline those that remain are killed. No actor can be spawned
    /// from now on.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let start = Instant::now();
        let all: Vec<_> = {
            let mut registry = self.registry();
            registry.closed = true;
            registry.actors.values().cloned().collect()
        };
        let soft = start + deadline.mul_f64(0.75);
        for root in all.iter().filter(|control| control.info().parent.is_none()) {
            root.request_stop(ExitReason::Shutdown, soft);
        }
        let _ = tokio::time::timeout_at(soft, self.wait_all(&all)).await;
        for control in &all {
            if control.exit_reason().is_none() || self.get(control.id()).is_some() {
                control.request_stop(ExitReason::Killed, Instant::now());
            }
        }
        let _ = tokio::time::timeout_at(start + deadline, self.wait_all(&all)).await;
        let remaining = self.list();
        ShutdownReport {
            stopped: all.len().saturating_sub(remaining.len()),
            remaining,
        }
    }

    async fn wait_all(&self, all: &[Arc<dyn Control>]) {
        for control in all {
            if self.get(control.id()).is_some() {
                Arc::clone(control).ended().await;
            }
        }
    }

    pub(crate) fn start_with<A: Actor>(
        &self,
        parent: Option<ActorId>,
        options: Options,
        mut factory: Factory<A>,
    ) -> Result<Address<A::Message, A::Reply>, SpawnError> {
        let actor = cell::build(&mut factory).map_err(|error| SpawnError::Factory {
            kind: options
                .kind
                .as_deref()
                .unwrap_or_else(|| short_name::<A>())
                .to_owned(),
            reason: error.into_reason(),
        })?;
        self.start(parent, Arc::new(options), actor, Some(factory))
    }

    pub(crate) fn start<A: Actor>(
        &self,
        parent: Option<ActorId>,
        options: Arc<Options>,
        actor: A,
        factory: Option<Factory<A>>,
    ) -> Result<Address<A::Message, A::Reply>, SpawnError> {
        let number = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let id = ActorId(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX));
        let name = options.name.clone();
        let type_name = short_name::<A>;
        let shared = Arc::new(Shared::new(id, parent, type_name, options, self.clone()));
        self.enter(id, parent, name, &shared)?;
        let life = cell::run(Arc::clone(&shared), actor, factory);
        let span = tracing::debug_span!("actor", %id, actor = %shared.label());
        // Without a listener the span costs nothing, not even its place in the task.
        if span.is_disabled() {
            self.0.runtime.spawn(life);
        } else {
            self.0.runtime.spawn(life.instrument(span));
        }
        Ok(Address { shared })
    }

    fn enter<M: Send + 'static, R: Send + 'static>(
        &self,
        id: ActorId,
        parent: Option<ActorId>,
        name: Option<Arc<str>>,
        shared: &Arc<Shared<M, R>>,
    ) -> Result<(), SpawnError> {
        let mut registry = self.registry();
        if registry.closed {
            return Err(SpawnError::ShuttingDown);
        }
        if registry.actors.len() >= self.0.max_actors {
            return Err(SpawnError::TooMany {
                limit: self.0.max_actors,
            });
        }
        if let Some(name) = name {
            let bad = name.is_empty()
                || name.len() > MAX_NAME_BYTES
                || name.chars().any(char::is_control);
            if bad {
                return Err(SpawnError::BadName {
                    name: bounded(name.to_string()),
                });
            }
            if registry.names.contains_key(&name) {
                return Err(SpawnError::NameTaken {
                    name: name.to_string(),
                });
            }
            let typed = Arc::clone(shared) as Arc<dyn Any + Send + Sync>;
            registry.names.insert(
                name,
                Named {
                    id,
                    typed,
                    any: None,
                },
            );
        }
        if let Some(parent) = parent {
            registry.children.insert((parent, id));
        }
        registry
            .actors
            .insert(id, Arc::clone(shared) as Arc<dyn Control>);
        Ok(())
    }

    /// Makes an actor of a kind reachable by [`find_any`](Self::find_any).
    pub(crate) fn set_any(&self, name: &str, id: ActorId, any: AnyAddress) {
        if let Some(named) = self.registry().names.get_mut(name)
            && named.id == id
        {
            named.any = Some(any);
        }
    }

    pub(crate) fn leave(&self, id: ActorId, parent: Option<ActorId>, name: Option<&str>) {
        self.0.gate.leave(id);
        // Dropped after the lock: the last handle to an actor may drop its messages.
        let _gone = {
            let mut registry = self.registry();
            if let Some(parent) = parent {
                registry.children.remove(&(parent, id));
            }
            registry.families.remove(&id);
            let named = name.and_then(|name| registry.names.remove(name));
            (registry.actors.remove(&id), named)
        };
    }

    pub(crate) fn children(&self, parent: ActorId) -> Vec<Arc<dyn Control>> {
        let first = (parent, ActorId(NonZeroU64::MIN));
        let last = (parent, ActorId(NonZeroU64::MAX));
        let registry = self.registry();
        registry
            .children
            .range(first..=last)
            .filter_map(|(_, child)| registry.actors.get(child).cloned())
            .collect()
    }

    pub(crate) fn control(&self, id: ActorId) -> Option<Arc<dyn Control>> {
        self.registry().actors.get(&id).cloned()
    }

    /// The parent and its family, if its children begin anew together.
    pub(crate) fn family(&self, parent: ActorId) -> Option<(Arc<dyn Control>, Arc<Family>)> {
        let mut registry = self.registry();
        let parent = Arc::clone(registry.actors.get(&parent)?);
        if parent.strategy() == Strategy::OneForOne {
            return None;
        }
        let family = registry.families.entry(parent.id()).or_default();
        let family = Arc::clone(family);
        Some((parent, family))
    }

    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.runtime.spawn(task);
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn defaults(&self) -> &Arc<Options> {
        &self.0.defaults
    }

    pub(crate) fn seed(&self) -> u64 {
        self.0.seed
    }

    /// Adds a dead letter: for those who bring messages to actors from elsewhere.
    pub fn dead_letter(
        &self,
        actor: String,
        reason: DeadReason,
        message: Option<cpe_tuple::Value>,
    ) {
        self.0.dead_letters.add(actor, reason, message);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // No user code runs under this lock, so a poisoned one is still in order.
        self.0
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The type's name without its path.
fn short_name<A>() -> &'static str {
    let full = std::any::type_name::<A>();
    let plain = full.split('<').next().unwrap_or(full);
    plain.rsplit("::").next().unwrap_or(plain)
}
