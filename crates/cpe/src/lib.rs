//! The library to build nodes of a CPE mesh with.

mod actors;
mod admission;
mod builder;
mod clock;
mod desk;
mod driver;
mod error;
mod kinds;
mod mesh;
mod node;
pub mod prelude;
mod space;
mod state;
mod watch;

pub use cpe_actors as local;
pub use cpe_actors::{ActorError, DynActor, DynContext};
pub use cpe_membership::{Incarnation, Member, NodeId};
pub use cpe_mesh::{
    Ack, ActorInfo, Failure, PeerInfo, ShardInfo, Status, VariableInfo, WorkspaceInfo,
};
pub use cpe_network::{Identity, MeshKey};
pub use cpe_space::Mode;
pub use cpe_tuple::json;
pub use cpe_tuple::{Field, Kind, Template, Tuple, Value};

pub use actors::{Actors, ActorsError, SPAWN_DEADLINE, SpawnOptions, TELL_DEADLINE};
pub use builder::{NodeBuilder, SHARDS_DEFAULT};
pub use error::{ShutdownError, SpaceError, StartError};
pub use kinds::{KindStart, NodeHandle};
pub use mesh::Mesh;
pub use node::Node;
pub use space::{STORE_DEADLINE, Space, Stored};
pub use watch::Watch;
