//! Who is in the mesh.

mod id;

pub use id::{Incarnation, Member, NodeId};
