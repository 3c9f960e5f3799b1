//! The network shell over real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod admission;
mod blocks;
mod common;
mod gossip;
mod links;
mod start;
