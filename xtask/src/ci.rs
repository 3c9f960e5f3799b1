//! `cargo xtask ci`: what has to pass before a change goes in. The workflow file only calls this.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::run::{answers, cargo, print, run, say, timed};
use crate::workspace::{Root, WITHOUT_PEERS};
use crate::{fuzz, setup, sim, test, tidy};

/// Set by the public workflow, which can reach the database of known vulnerabilities.
const ADVISORIES: &str = "CPE_CI_ADVISORIES";

/// What a step did.
enum Outcome {
    Passed,
    Skipped(&'static str),
}

/// A named step.
type Step = (&'static str, fn(&Root) -> Result<Outcome>);

/// Cheap ones first, so that a slip is told in seconds.
const STEPS: [Step; 9] = [
    ("format", format),
    ("tidy", |root| tidy::tidy(root).map(|()| Outcome::Passed)),
    ("setup", |root| setup::setup(root).map(|()| Outcome::Passed)),
    ("clippy", clippy),
    ("docs", docs),
    ("test", |root| test::test(root).map(|()| Outcome::Passed)),
    ("mutants", |root| {
        sim::quick_mutants(root).map(|()| Outcome::Passed)
    }),
    ("fuzz", fuzz),
    ("deny", deny),
];

/// Runs the steps up to the first that fails and prints how long each took.
pub(crate) fn ci(root: &Root) -> Result<()> {
    let mut table: Vec<(&str, Duration, String)> = Vec::new();
    let mut failure = None;
    for (name, step) in STEPS {
        say(&format!("\n== {name}"));
        let (outcome, took) = timed(|| step(root));
        let told = match outcome {
            Ok(Outcome::Passed) => "passed".to_owned(),
            Ok(Outcome::Skipped(why)) => format!("skipped: {why}"),
            Err(error) => {
                failure = Some(error.context(format!("step `{name}` failed")));
                "FAILED".to_owned()
            }
        };
        table.push((name, took, told));
        if failure.is_some() {
            break;
        }
    }
    let total: Duration = table.iter().map(|(_, took, _)| *took).sum();
    print("\n");
    for (name, took, told) in &table {
        print(&format!(
            "{name:<8} {:>8.1} s  {told}\n",
            took.as_secs_f64()
        ));
    }
    print(&format!("{:<8} {:>8.1} s\n", "total", total.as_secs_f64()));
    failure.map_or(Ok(()), Err)
}

fn format(root: &Root) -> Result<Outcome> {
    run(cargo(root).args(["fmt", "--all", "--check"]))
        .context("run `cargo fmt --all` and look at what it changed")?;
    Ok(Outcome::Passed)
}

/// `--locked` here is the check that Cargo.lock belongs to the manifests.
fn clippy(root: &Root) -> Result<Outcome> {
    let mut command = cargo(root);
    command.args(["clippy", "--locked"]).args(WITHOUT_PEERS);
    run(command.args(["--all-targets", "--", "-D", "warnings"]))?;
    Ok(Outcome::Passed)
}

/// Libraries only: the binary `cpe` and the library `cpe` would share one page.
fn docs(root: &Root) -> Result<Outcome> {
    let mut command = cargo(root);
    command.args(["doc", "--locked"]).args(WITHOUT_PEERS);
    command.args(["--lib", "--no-deps"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}

/// libFuzzer is C++; nothing else here is.
fn fuzz(root: &Root) -> Result<Outcome> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if !answers(Command::new(compiler).arg("--version")) {
        let why = "there is no C++ compiler, which libFuzzer needs";
        say(&format!("fuzz: skipped, {why}"));
        return Ok(Outcome::Skipped(why));
    }
    fuzz::briefly(root).map(|()| Outcome::Passed)
}

fn deny(root: &Root) -> Result<Outcome> {
    if !answers(cargo(root).args(["deny", "--version"])) {
        let why = "cargo-deny is not installed; the public workflow installs it";
        say(&format!("deny: skipped, {why}"));
        return Ok(Outcome::Skipped(why));
    }
    let mut checks = vec!["bans", "licenses", "sources"];
    // Known vulnerabilities come from a database on the network: not everybody can reach it.
    if std::env::var_os(ADVISORIES).is_some() {
        checks.push("advisories");
    }
    run(cargo(root).args(["deny", "--locked", "check"]).args(checks))?;
    Ok(Outcome::Passed)
}
