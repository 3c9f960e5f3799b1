//! Membership in virtual time: joins, deaths, partitions, restarts and noise.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod cards;
mod garbage;
mod life;
mod net;
mod partition;
