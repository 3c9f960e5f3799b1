//! The kinds of actors a node can run, and what their factories are told.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use cpe_actors::{Actor, ActorError, DynActor, KindContext, KindRegistry};
use cpe_membership::NodeId;
use cpe_tuple::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actors::{Actors, Inner};
use crate::{Mesh, Space};

/// The node an actor lives in, as the actor sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    pub(crate) name: Arc<str>,
    pub(crate) id: NodeId,
    pub(crate) space: Space,
    pub(crate) mesh: Mesh,
    pub(crate) actors: Actors,
}

impl NodeHandle {
    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node's short id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The shared tuple space.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The mesh.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The actors of the mesh. What is sent with an actor's handle says that this one sent it.
    #[must_use]
    pub fn actors(&self) -> &Actors {
        &self.actors
    }
}

/// What a kind's factory is told about the actor it makes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KindStart {
    /// The node it will live in.
    pub node: NodeHandle,
    /// The actor's name.
    pub name: String,
    /// The arguments given when it was spawned; `Null` for none.
    pub args: Value,
    /// An actor asked for it, or another node: nobody of this node. Its kind must not do for it
    /// what only the node's own people may have done, such as to read a file.
    pub foreign: bool,
}

/// Filled once the node is there. Weak, because the node holds the kinds.
pub(crate) type Home = Arc<OnceLock<Weak<Inner>>>;

/// The kinds, before and after the node is there.
pub(crate) struct Kinds {
    registry: KindRegistry,
    home: Home,
}

impl Default for Kinds {
    fn default() -> Self {
        Self {
            registry: KindRegistry::with_builtin(),
            home: Home::default(),
        }
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)
    }
}

impl Kinds {
    pub(crate) fn add<F>(&mut self, name: &str, factory: F)
    where
        F: Fn(KindStart) -> Result<Box<dyn DynActor>, ActorError> + Send + Sync + 'static,
    {
        let home = Arc::clone(&self.home);
        self.registry
            .register(name, move |context| factory(start(&home, context)?));
    }

    pub(crate) fn add_typed<A, F>(&mut self, name: &str, factory: F)
    where
        A: Actor,
        A::Message: DeserializeOwned,
        A::Reply: Serialize,
        F: Fn(KindStart) -> Result<A, ActorError> + Send + Sync + 'static,
    {
        let home = Arc::clone(&self.home);
        self.registry
            .register_typed(name, move |context| factory(start(&home, context)?));
    }

    /// The registry, and where the node is to be put once it is there.
    pub(crate) fn into_parts(self) -> (KindRegistry, Home) {
        (self.registry, self.home)
    }
}

fn start(home: &Home, context: KindContext) -> Result<KindStart, ActorError> {
    let node = home.get().and_then(Weak::upgrade);
    let node = node.ok_or_else(|| ActorError::failed("the node has stopped"))?;
    Ok(KindStart {
        node: node.handle(context.name.as_deref()),
        name: context.name.unwrap_or_default(),
        args: context.args,
        foreign: context.foreign,
    })
}
