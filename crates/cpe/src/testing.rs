//! For tests of programs built on this library: partitions where nobody may touch the network.

pub use cpe_network::{PeerId, TestBlocks};
