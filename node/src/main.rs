//! The `cpe` binary: run a node of a mesh, and talk to one.
//!
//! `cpe node` joins the library `cpe` with a configuration, an HTTP API and the stock actor kinds.
//! Most other commands are clients of that API; rules, forests and simulations also run without a
//! node.

mod api;
mod cli;
mod client;
mod commands;
mod config;
mod crowd;
mod demo;
mod environment;
mod exit;
mod forest;
mod kinds;
mod logging;
mod nws;
mod output;
mod remote;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(status) => status.into(),
        Err(fault) => {
            fault.report();
            fault.status.into()
        }
    }
}
