//! The NetWorkSpaces gateway.
//!
//! R, Python and MATLAB programs that were written for the NetWorkSpaces server connect here
//! unmodified, and meet in the replicated tuple space: each node of a mesh serves the same
//! workspaces.
//!
//! From the wire inwards:
//!
//! - [`wire`]: the bytes. [`wire::Decoder`] reads a stream piece by piece, [`wire::Reply`] writes
//!   answers. Neither performs input or output.
//! - [`Operation`]: what a request asks for.
//! - [`Spaces`]: what is asked of the tuple space. The node implements it.
//! - [`Gateway`]: sockets, and the meaning of the operations in terms of the space: which instance
//!   of a workspace a name means, who owns it, what a blocked request waits for
//!   (docs/decisions/012-networkspaces-on-the-space.md).
//!
//! Nothing that a client sends can make it allocate without bound, panic, or disturb another
//! client; [`limits`] has the bounds.

mod connection;
mod gateway;
mod leftovers;
pub mod limits;
mod listing;
mod names;
mod operation;
mod pace;
mod payload;
mod record;
mod registry;
mod repeats;
mod server;
mod shown;
mod spaces;
mod sweep;
mod variables;
mod waits;
pub mod wire;

pub use gateway::Gateway;
pub use operation::{Operation, Payload, Retrieve, Senseless};
pub use repeats::Repeats;
pub use server::Server;
pub use shown::{ClientInfo, WaitingInfo, WorkspaceInfo};
pub use spaces::{Answer, Health, Inlet, Listed, Outlet, Receipt, Spaces, Trouble, Who};
pub use sweep::purge;
