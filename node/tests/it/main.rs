//! The `cpe` binary from outside: processes, their output and their exit status.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests say what they expect by failing"
)]

mod actors;
mod api;
mod apply;
#[cfg(target_os = "linux")]
mod attacks;
mod chaos;
mod config;
mod damage;
mod disk;
mod docs;
mod durable;
mod examples;
mod forest;
mod garbage;
mod harness;
mod homes;
mod hosts;
mod lan;
mod leases;
mod map;
mod mesh;
mod minority;
mod names;
mod namespaces;
mod node;
mod nws;
mod processes;
mod rules;
mod rules_durable;
mod space;
#[cfg(target_os = "linux")]
mod strangers;
mod usage;
mod volatile;
