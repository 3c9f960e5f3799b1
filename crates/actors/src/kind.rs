//! Kinds: actors that are started by name and spoken to in values.
//!
//! A node keeps one [`KindRegistry`]; a mesh names an actor by kind and name. A kind is either a
//! [`DynActor`], which handles values itself, or a typed [`Actor`] whose messages and answers are
//! serde types.

use std::{collections::BTreeMap, fmt, sync::Arc};

use cpe_tuple::Value;
use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Actor, ActorError, AnyAddress, Context, ExitReason, Options, Poisoned, SpawnError, System,
    Terminated, builtin,
};

/// The context of a [`DynActor`].
pub type DynContext = Context<Dyn>;

/// What a kind's factory is told about the actor it makes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KindContext {
    /// The actor's name, if it has one.
    pub name: Option<String>,
    /// The arguments given when it was spawned; `Null` for none.
    pub args: Value,
    /// The system it will live in.
    pub system: System,
    /// Somebody else asked for it than who runs this program: see [`Options::foreign`].
    pub foreign: bool,
}

impl KindContext {
    /// What [`KindRegistry::spawn`] makes; for testing a factory by itself.
    #[must_use]
    pub const fn new(system: System, name: Option<String>, args: Value) -> Self {
        Self {
            name,
            args,
            system,
            foreign: false,
        }
    }
}

/// An actor whose messages and answers are values.
///
/// Implementors write `Box::pin(async move { ... })`; an actor with types of its own is better
/// written as an [`Actor`] and registered with [`KindRegistry::register_typed`].
pub trait DynActor: Send + 'static {
    /// Handles one message; no answer is the answer [`Value::Null`].
    ///
    /// # Errors
    /// As for [`Actor::handle`]: [`ActorError::refused`] for a message that it does not know,
    /// naming those it does.
    fn handle<'a>(
        &'a mut self,
        message: Value,
        ctx: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>>;

    /// As [`Actor::started`].
    ///
    /// # Errors
    /// Any error is a failure of the actor.
    fn started<'a>(&'a mut self, ctx: &'a mut DynContext) -> BoxFuture<'a, Result<(), ActorError>> {
        let _ = ctx;
        Box::pin(async { Ok(()) })
    }

    /// As [`Actor::stopping`].
    fn stopping<'a>(
        &'a mut self,
        reason: &'a ExitReason,
        ctx: &'a mut DynContext,
    ) -> BoxFuture<'a, ()> {
        let _ = (reason, ctx);
        Box::pin(async {})
    }

    /// As [`Actor::terminated`].
    ///
    /// # Errors
    /// Any error is a failure of the actor.
    fn terminated<'a>(
        &'a mut self,
        other: Terminated,
        ctx: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<(), ActorError>> {
        let _ = (other, ctx);
        Box::pin(async { Ok(()) })
    }

    /// As [`Actor::returned`].
    ///
    /// # Errors
    /// Any error is a failure of the actor.
    fn returned<'a>(
        &'a mut self,
        poisoned: Poisoned,
        ctx: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<(), ActorError>> {
        let _ = (poisoned, ctx);
        Box::pin(async { Ok(()) })
    }

    /// As [`Actor::snapshot`].
    ///
    /// # Errors
    /// An error is a failure of the actor.
    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(None)
    }

    /// As [`Actor::snapshot_version`].
    fn snapshot_version(&self) -> u32 {
        1
    }

    /// As [`Actor::restore`].
    ///
    /// # Errors
    /// An error is a failure of the actor.
    fn restore(&mut self, snapshot: Value) -> Result<(), ActorError> {
        let _ = snapshot;
        Ok(())
    }

    /// As [`Actor::restore_older`].
    ///
    /// # Errors
    /// An error is a failure of the actor.
    fn restore_older(&mut self, version: u32, snapshot: Value) -> Result<(), ActorError> {
        let _ = snapshot;
        let known = self.snapshot_version();
        Err(crate::error::unknown_form(version, known))
    }
}

/// Runs a [`DynActor`] as an [`Actor`].
pub struct Dyn(Box<dyn DynActor>);

impl fmt::Debug for Dyn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dyn")
    }
}

impl Actor for Dyn {
    type Message = Value;
    type Reply = Option<Value>;

    async fn handle(
        &mut self,
        message: Value,
        ctx: &mut DynContext,
    ) -> Result<Option<Value>, ActorError> {
        self.0.handle(message, ctx).await
    }

    async fn started(&mut self, ctx: &mut DynContext) -> Result<(), ActorError> {
        self.0.started(ctx).await
    }

    async fn stopping(&mut self, reason: &ExitReason, ctx: &mut DynContext) {
        self.0.stopping(reason, ctx).await;
    }

    async fn terminated(
        &mut self,
        other: Terminated,
        ctx: &mut DynContext,
    ) -> Result<(), ActorError> {
        self.0.terminated(other, ctx).await
    }

    async fn returned(
        &mut self,
        poisoned: Poisoned,
        ctx: &mut DynContext,
    ) -> Result<(), ActorError> {
        self.0.returned(poisoned, ctx).await
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        self.0.snapshot()
    }

    fn restore(&mut self, snapshot: Value) -> Result<(), ActorError> {
        self.0.restore(snapshot)
    }

    fn snapshot_version(&self) -> u32 {
        self.0.snapshot_version()
    }

    fn restore_older(&mut self, version: u32, snapshot: Value) -> Result<(), ActorError> {
        self.0.restore_older(version, snapshot)
    }

    fn keep(message: &Value) -> Option<Value> {
        (message.size() <= KEPT_MESSAGE_BYTES).then(|| message.clone())
    }

    fn describe(message: &Value) -> Option<Value> {
        (message.size() <= KEPT_MESSAGE_BYTES).then(|| message.clone())
    }
}

/// Larger messages to a [`DynActor`] are not tried a second time and not kept as dead letters.
pub const KEPT_MESSAGE_BYTES: usize = 64 << 10;

type Spawn = dyn Fn(Options, KindContext) -> Result<AnyAddress, SpawnError> + Send + Sync;

/// The kinds a node can start, by name.
#[derive(Clone, Default)]
pub struct KindRegistry {
    kinds: BTreeMap<String, Arc<Spawn>>,
}

impl fmt::Debug for KindRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds.keys()).finish()
    }
}

impl KindRegistry {
    /// The kinds of this crate: `echo` and `counter`.
    #[must_use]
    pub fn with_builtin() -> Self {
        let mut registry = Self::default();
        registry.register("echo", |_| Ok(Box::new(builtin::Echo)));
        registry.register_typed("counter", builtin::Counter::from_args);
        registry
    }

    /// Adds a kind, or replaces the one of this name. The factory is called for the first instance
    /// and after each failure; it should check its arguments and not block.
    pub fn register<F>(&mut self, kind: impl Into<String>, factory: F)
    where
        F: Fn(KindContext) -> Result<Box<dyn DynActor>, ActorError> + Send + Sync + 'static,
    {
        let factory = Arc::new(factory);
        self.insert(kind.into(), move |options, context| {
            let factory = Arc::clone(&factory);
            let system = context.system.clone();
            let make = move || factory(context.clone()).map(Dyn);
            system.spawn_with(options, make).map(AnyAddress::from_plain)
        });
    }

    /// Adds a kind of typed actors, or replaces the one of this name.
    pub fn register_typed<A, F>(&mut self, kind: impl Into<String>, factory: F)
    where
        A: Actor,
        A::Message: DeserializeOwned,
        A::Reply: Serialize,
        F: Fn(KindContext) -> Result<A, ActorError> + Send + Sync + 'static,
    {
        let factory = Arc::new(factory);
        self.insert(kind.into(), move |options, context| {
            let factory = Arc::clone(&factory);
            let system = context.system.clone();
            let make = move || factory(context.clone());
            let address = system.spawn_with(options, make)?;
            Ok(AnyAddress::accepting(address, A::ACCEPTS))
        });
    }

    fn insert<F>(&mut self, kind: String, spawn: F)
    where
        F: Fn(Options, KindContext) -> Result<AnyAddress, SpawnError> + Send + Sync + 'static,
    {
        self.kinds.insert(kind, Arc::new(spawn));
    }

    /// The names of all kinds, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// Whether there is such a kind.
    #[must_use]
    pub fn contains(&self, kind: &str) -> bool {
        self.kinds.contains_key(kind)
    }

    /// Starts an actor of a kind; `options` carry its name, its snapshot and the rest. It is found
    /// again with [`System::find_any`] if it has a name.
    ///
    /// # Errors
    /// [`SpawnError::NoSuchKind`], [`SpawnError::Factory`] when the arguments do not suit the kind,
    /// and those of [`System::spawn_with`].
    pub fn spawn(
        &self,
        system: &System,
        kind: &str,
        options: Options,
        args: Value,
    ) -> Result<AnyAddress, SpawnError> {
        let Some(spawn) = self.kinds.get(kind) else {
            let known: Vec<_> = self.names().collect();
            let kind = crate::error::bounded(kind.to_owned());
            return Err(SpawnError::NoSuchKind {
                kind,
                known: known.join(", "),
            });
        };
        let name = options.name.as_deref().map(str::to_owned);
        let context = KindContext {
            name: name.clone(),
            args,
            system: system.clone(),
            foreign: options.foreign,
        };
        let address = spawn(options.kind(kind), context)?;
        if let Some(name) = name {
            system.set_any(&name, address.id(), address.clone());
        }
        Ok(address)
    }
}
