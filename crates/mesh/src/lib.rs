//! One peer of the mesh as a state machine without I/O.

mod persist;

pub use persist::{Batch, Image, Table, Write};
