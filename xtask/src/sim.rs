//! `cargo xtask soak` and `cargo xtask mutants`: simulations beyond what the tests run.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::run::{cargo, run, say};
use crate::workspace::Root;

/// Exit status when a program was ended by a signal rather than by itself.
#[cfg(not(unix))]
const ENDED_BY_SIGNAL: u8 = 130;

/// Builds the soak in release mode and hands over to it, with what it says to Ctrl-C.
pub(crate) fn soak(root: &Root, args: &[String]) -> Result<ExitCode> {
    let build = [
        "build",
        "--release",
        "--package",
        "cpe-sim",
        "--example",
        "soak",
    ];
    say("soak: building the simulator in release mode");
    run(cargo(root).args(build))?;
    let target = root.metadata()?.target_directory;
    let folder = target.join("soak");
    let mut command = Command::new(target.join("release/examples/soak"));
    command.current_dir(root.path()).arg("--folder").arg(folder);
    hand_over(command.args(args))
}

/// Takes out each guard of the protocol in turn and demands that the simulation notices.
pub(crate) fn mutants(root: &Root, args: &[String]) -> Result<ExitCode> {
    say("mutants: building the simulator with guards that can be taken out");
    let select = [
        "--package",
        "cpe-sim",
        "--features",
        "mutants",
        "--example",
        "mutants",
    ];
    run(cargo(root).args(["build", "--release"]).args(select))?;
    let target = root.metadata()?.target_directory;
    let mut command = Command::new(target.join("release/examples/mutants"));
    hand_over(command.current_dir(root.path()).args(args))
}

/// The program takes the place of this one: a signal goes to it, its exit status is ours.
#[cfg(unix)]
fn hand_over(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    let program = command.get_program().to_string_lossy().into_owned();
    // It returns only when it failed.
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {program}"))
}

#[cfg(not(unix))]
fn hand_over(command: &mut Command) -> Result<ExitCode> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status();
    let status = status.with_context(|| format!("cannot start {program}"))?;
    let code = status.code();
    let code = code.map_or(ENDED_BY_SIGNAL, |code| u8::try_from(code).unwrap_or(1));
    Ok(ExitCode::from(code))
}
