//! The library to build nodes of a CPE mesh with.
//!
//! A [`Node`] is one member of a mesh: any number of them, on any machines, share one tuple space
//! and reach each other's named actors, with no server among them. The `cpe` binary is such a node
//! with a command line; a program of your own is one with actor kinds of your own.
//!
//! - [`Node::builder`] names folder, addresses, key and kinds; [`NodeBuilder::start`] starts it.
//! - [`Space`] is the shared tuple space: put, find and take tuples. A tuple is taken by exactly
//!   one taker in the whole mesh.
//! - [`Actors`] spawns, asks, tells and stops named actors on whatever node they live.
//! - [`Mesh`] shows members and homes, waits for joining, and hands over before leaving.
//!
//! All three are cheap handles: clone them into tasks. Every method that waits has a deadline or a
//! default for one, and is cancel safe: a dropped future gives back what it had not delivered.
//!
//! # What it is not
//! No decisions are made in this crate. What a node does is `cpe_mesh::Peer`, a state machine that
//! the simulator runs too; this crate moves bytes, time and files between it, the network and the
//! disk, and carries messages to actors.
//!
//! # Which mesh a node belongs to
//! Who has a mesh's key can join it. A node started without a key makes one (`mesh.key` in its data
//! folder) and founds a mesh; give others a copy by [`NodeBuilder::mesh_key`] and the address of a
//! member by [`NodeBuilder::bootstrap`]. A node that is given a key, has no state yet and seeks
//! nobody (no bootstrap address, no mDNS) founds that key's mesh: exactly one may be started so.
//!
//! # Example
//! A program with an actor kind of its own; `examples/own_kinds.rs` of the repository is a longer
//! one.
//! ```
//! use cpe::prelude::*;
//!
//! /// Answers a number with the sum of all it was given.
//! struct Sum {
//!     total: i64,
//! }
//!
//! impl Actor for Sum {
//!     type Message = i64;
//!     type Reply = i64;
//!
//!     async fn handle(&mut self, n: i64, _: &mut Context<Self>) -> Result<i64, ActorError> {
//!         self.total += n;
//!         Ok(self.total)
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder()
//!     .ephemeral()
//!     .typed_kind("sum", |start: KindStart| {
//!         Ok(Sum { total: start.args.as_int().unwrap_or(0) })
//!     })
//!     .start()
//!     .await?;
//!
//! let second = Duration::from_secs(1);
//! let actors = node.actors();
//! actors.spawn("sum", "till", Value::from(100), SpawnOptions::default()).await?;
//! assert_eq!(actors.ask("till", Value::from(17), second).await?, Value::from(117));
//!
//! let space = node.space();
//! space.store("shop", "order", Value::from("tea")).await?;
//! assert_eq!(space.fetch("shop", "order", second).await?, Value::from("tea"));
//!
//! node.shutdown(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```

mod actors;
mod admission;
mod borrowed;
mod bound;
mod builder;
mod clock;
mod desk;
mod driver;
mod error;
mod kinds;
mod large;
mod lease;
mod life;
mod mesh;
mod node;
pub mod prelude;
mod space;
mod state;
mod subscription;
mod tasks;
pub mod testing;
mod watch;

pub use cpe_actors as local;
pub use cpe_actors::{Actor, ActorError, Context, DynActor, DynContext, state_is_self};
pub use cpe_membership::{Incarnation, Member, NodeId};
pub use cpe_mesh::{
    Ack, ActorInfo, Failure, HandleError, LeaseHandle, OpHandle, PeerInfo, Recovered, ShardInfo,
    Staleness, Status, VariableInfo, WorkspaceInfo,
};
pub use cpe_network::{Identity, MeshKey};
pub use cpe_sleigh as sleigh;
pub use cpe_space::{
    After, Bound, Fate, LEASE_TTL_MAX, LEASE_TTL_MIN, LeaseAct, LeaseEnd, Life, Mode, Terms,
};
pub use cpe_tuple::{Blob, BlobHash, Field, Kind, LimitError, Mark, Template, Tuple, Value, json};

pub use actors::{
    Actors, ActorsError, Address, Found, Inspected, MONITORS_MAX, Outlet, Rebalance,
    SPAWN_DEADLINE, SpawnOptions, Stopped, TELL_DEADLINE,
};
pub use bound::BoundReply;
pub use builder::{NodeBuilder, SHARDS_DEFAULT};
pub use error::{CapabilityError, ShutdownError, SpaceError, StartError};
pub use kinds::{KindStart, NodeHandle};
pub use large::{LargeValue, LargeWriter, Receipt, TakenValue, WHOLE_BYTES_MAX};
pub use lease::Leased;
pub use mesh::Mesh;
pub use node::Node;
pub use space::{STORE_DEADLINE, Space, Stored};
pub use subscription::{Subscription, SubscriptionEnd};
pub use watch::Watch;
