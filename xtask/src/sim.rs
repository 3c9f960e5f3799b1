//! `cargo xtask soak` and `cargo xtask mutants`: simulations beyond what the tests run.

use std::path::PathBuf;
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

/// Takes out each guard of the protocol in turn and demands that something notices.
pub(crate) fn mutants(root: &Root, args: &[String]) -> Result<ExitCode> {
    let mut command = Command::new(build_mutants(root, args.iter().any(|arg| arg == QUICK))?);
    hand_over(command.current_dir(root.path()).args(args))
}

/// Those that show within seconds, from the seed that is known; fails when one is missed.
pub(crate) fn quick_mutants(root: &Root) -> Result<()> {
    let mut command = Command::new(build_mutants(root, true)?);
    run(command.current_dir(root.path()).arg(QUICK))
}

/// Only what shows soon.
const QUICK: &str = "--quick";

/// Builds the program: for a quick look with what the tests have built already.
fn build_mutants(root: &Root, quick: bool) -> Result<PathBuf> {
    say("mutants: building the simulator with guards that can be taken out");
    let mut build = cargo(root);
    build.args(["build", "--locked", "--example", "mutants"]);
    if quick {
        // The features that everything else in the workspace asks for, as when tests are built.
        build.args(["--workspace", "--features", "cpe-sim/mutants"]);
    } else {
        build.args(["--release", "--package", "cpe-sim", "--features", "mutants"]);
    }
    run(&mut build)?;
    let profile = if quick { "debug" } else { "release" };
    let target = root.metadata()?.target_directory;
    Ok(target.join(profile).join("examples").join("mutants"))
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
