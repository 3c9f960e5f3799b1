//! Running other programs and talking to the person at the terminal.

use std::io::{BufRead, BufReader, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Root;

/// Prints to standard output: what a command was asked for.
pub(crate) fn print(text: &str) {
    // A closed pipe (`cargo xtask help | head -1`) is no reason to fail.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints one line to standard error: what is going on.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Measures how long something takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is a shell: the one place it reads time"
    )]
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// A `cargo` command at the workspace root.
pub(crate) fn cargo(root: &Root) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root.path());
    // Cargo describes *this* crate to the programs it runs; the inner cargo is about others, and a
    // build script that watches one of these variables would run again without need.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        let about_us = [
            "CARGO_PKG_",
            "CARGO_BIN_",
            "CARGO_MANIFEST_",
            "CARGO_CRATE_",
        ];
        if about_us.iter().any(|prefix| told.starts_with(prefix)) || told == "CARGO_PRIMARY_PACKAGE"
        {
            command.env_remove(&name);
        }
    }
    // Set-up may have changed them since; the inner cargo reads the configuration afresh.
    for name in &root.configured {
        command.env_remove(name);
    }
    command
}

/// Runs a command with our terminal, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    expect_success(&line, status)
}

/// Runs a command quietly and returns its standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}", why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is there and answers.
pub(crate) fn answers(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The stream of a command that [`tee`] reads; the other one stays the terminal's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Runs a command, shows one of its streams as it comes and hands each line of it to `see`.
pub(crate) fn tee(command: &mut Command, stream: Stream, mut see: impl FnMut(&str)) -> Result<()> {
    let line = shown(command);
    match stream {
        Stream::Out => command.stdout(Stdio::piped()),
        Stream::Err => command.stderr(Stdio::piped()),
    };
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    if let Some(out) = out {
        copy_lines(
            BufReader::new(out),
            |text| print(&format!("{text}\n")),
            &mut see,
        )?;
    }
    if let Some(err) = err {
        copy_lines(BufReader::new(err), say, &mut see)?;
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{line}`"))?;
    expect_success(&line, status)
}

fn copy_lines(
    mut from: impl BufRead,
    show: impl Fn(&str),
    see: &mut impl FnMut(&str),
) -> Result<()> {
    let mut bytes = Vec::new();
    while from.read_until(b'\n', &mut bytes)? > 0 {
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        show(text);
        see(text);
        bytes.clear();
    }
    Ok(())
}

/// Tells a program whose output we pipe whether colours are welcome.
pub(crate) fn colour(command: &mut Command) -> &mut Command {
    if std::env::var_os("CARGO_TERM_COLOR").is_none() && std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
}

fn expect_success(line: &str, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
