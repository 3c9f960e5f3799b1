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
mod map;
mod nws;
mod output;
#[cfg(unix)]
mod processes;
mod reaper;
mod remote;
mod test_blocks;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::exit::Fault;

/// A message crosses threads between its allocation and its end, which the system's allocator pays
/// for with locks and returned pages: a third of what a request to a node costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: a worker starts no thread and opens no file that its rules could use.
    if std::env::args_os().skip(1).eq([kinds::RULES_WORKER]) {
        return ExitCode::from(cpe_rules::process::serve());
    }
    if std::env::args_os().skip(1).eq([reaper::REAPER]) {
        return ExitCode::from(reaper::serve());
    }
    let outcome = match cli::Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) if error.kind() == ErrorKind::InvalidUtf8 => Err(not_text()),
        Err(error) => error.exit(),
    };
    match outcome {
        Ok(status) => status.into(),
        Err(fault) => {
            fault.report();
            fault.status.into()
        }
    }
}

/// Which arguments are no text; clap only says that there are some.
fn not_text() -> Fault {
    let args = std::env::args_os().skip(1);
    let wrong: Vec<_> = args
        .filter(|arg| arg.to_str().is_none())
        .map(|arg| format!("`{}`", arg.to_string_lossy().escape_debug()))
        .collect();
    Fault::usage(format!("not UTF-8 text: {}", wrong.join(", ")))
        .next("only names of files may be; `cpe space store WS NAME --file F` stores any bytes")
}
