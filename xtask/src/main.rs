//! The chores of the workspace, written once so that nobody has to remember them.
//!
//! `cargo xtask help` lists them. This crate is built before anything else on a newcomer's machine,
//! so it depends on almost nothing: in particular not on the crates it builds and checks.

mod accuracy;
mod bench;
mod ci;
mod clients;
mod demo;
mod fuzz;
mod python;
mod run;
mod setup;
mod sim;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::run::say;
use crate::workspace::Root;

const HELP: &str = "\
usage: cargo xtask COMMAND

  demo [ARGS]             build a release and run `cpe demo ARGS`: three nodes, one mesh, real data
  test                    run every test of the workspace
  ci                      what has to pass before a change goes in: format, tidy, clippy, docs,
                          tests, licences; stops at the first failure, ends with a table of times
  bench [NAME] [--quick]  run the benchmarks (or those whose name contains NAME), print a table and
                          write target/bench/NAME.json
  accuracy                compare forests with scikit-learn's on six public data sets; gets
                          scikit-learn by pip
  soak [--seeds FROM..TO] [--profile NAME] [--jobs N]
                          simulate seeds without end, in release; what fails is shrunk and kept in
                          target/soak; Ctrl-C ends it
  fuzz [NAME] [--seconds N]
                          mutate what comes from strangers (rules, snapshots, frames, requests)
                          for a minute each, or N seconds; keeps what it finds in target/fuzz
  mutants [--quick]       take the guards of the protocol out, one by one: a simulation or a test
                          has to notice
  tidy                    check the house rules that no compiler knows
  setup                   get libclang, which the CLIPS bindings need; the others do this first
  help                    this page
";

/// Exit status for a command line that makes no sense, as `cpe` itself uses it.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", args.as_slice()),
    };
    match dispatch(command, rest) {
        Ok(Some(code)) => code,
        Ok(None) => {
            say(&format!("unknown command `{command}`\n\n{HELP}"));
            ExitCode::from(WRONG_USAGE)
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs one command; `None` says that there is no such command.
fn dispatch(command: &str, args: &[String]) -> Result<Option<ExitCode>> {
    if matches!(command, "help" | "--help" | "-h") {
        run::print(HELP);
        return Ok(Some(ExitCode::SUCCESS));
    }
    if command == "demo" {
        // Everything after `demo` belongs to `cpe demo`, `--help` too.
        return demo::demo(&Root::find()?, args).map(Some);
    }
    if args
        .iter()
        .any(|arg| matches!(arg.as_str(), "--help" | "-h"))
    {
        run::print(HELP);
        return Ok(Some(ExitCode::SUCCESS));
    }
    let root = Root::find()?;
    match command {
        "bench" => bench::bench(&root, args)?,
        "fuzz" => fuzz::fuzz(&root, args)?,
        "soak" => return sim::soak(&root, args).map(Some),
        "mutants" => return sim::mutants(&root, args).map(Some),
        "test" | "ci" | "tidy" | "setup" | "accuracy" if !args.is_empty() => {
            bail!(
                "`cargo xtask {command}` takes no arguments, but got `{}`",
                args.join(" ")
            );
        }
        "accuracy" => accuracy::accuracy(&root)?,
        "test" => test::test(&root)?,
        "ci" => ci::ci(&root)?,
        "tidy" => tidy::tidy(&root)?,
        "setup" => setup::setup(&root)?,
        _ => return Ok(None),
    }
    Ok(Some(ExitCode::SUCCESS))
}
