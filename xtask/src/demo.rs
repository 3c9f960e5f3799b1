//! `cargo xtask demo`: from a clone to a running mesh in one command.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::run::{cargo, run, say, timed};
use crate::setup;
use crate::workspace::Root;

/// Exit status when the demo was ended by a signal rather than by itself.
const ENDED_BY_SIGNAL: u8 = 130;

/// Builds the binary in release mode and hands over to `cpe demo`, whose exit status is ours.
pub(crate) fn demo(root: &Root, args: &[String]) -> Result<ExitCode> {
    setup::setup(root)?;
    say("demo: building `cpe` in release mode; the first build takes several minutes");
    let args = match args.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => args,
    };
    let (built, took) = timed(|| {
        run(cargo(root).args([
            "build",
            "--release",
            "--package",
            "cpe-node",
            "--bin",
            "cpe",
        ]))
    });
    built?;
    say(&format!(
        "demo: built in {:.1} s, starting the mesh",
        took.as_secs_f64()
    ));
    let binary = root.metadata()?.target_directory.join("release/cpe");
    // From the folder of the person who asked, so that a `--data` path means what it says.
    let status = Command::new(&binary)
        .arg("demo")
        .args(args)
        .status()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let code = status
        .code()
        .map_or(ENDED_BY_SIGNAL, |code| u8::try_from(code).unwrap_or(1));
    Ok(ExitCode::from(code))
}
