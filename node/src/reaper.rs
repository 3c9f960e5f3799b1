//! Ends what a killed node leaves running: programs of actors and of maps.
//!
//! A node that allows programs has a process beside it, the *reaper*, that reads from a pipe which
//! groups of processes are at work. When the pipe ends, the node has, whatever ended it; the reaper
//! kills the groups that are left, and ends too. Another node goes on with what the programs were
//! for, and two of them would be at it. (A signal at the parent's death is no way: Linux sends it
//! when the *thread* ends that began the program, and to the program alone.)

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

use crate::kinds;

/// The argument that makes a process of this program a reaper.
pub(crate) const REAPER: &str = "reaper";

/// What the reaper of this process reads, once it has one.
static TOLD: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Starts the reaper of this process, unless it has one. Without one programs run all the same.
///
/// # Errors
/// Why it has none.
pub(crate) fn start() -> Result<(), String> {
    if TOLD.get().is_some() {
        return Ok(());
    }
    let mut command = Command::new(kinds::this_program()?);
    command
        .arg(REAPER)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A Ctrl-C at the terminal is the node's to hear.
        .process_group(0);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(told) = child.stdin.take() {
        // It is not waited for: it outlives this process.
        let _ = TOLD.set(Mutex::new(told));
    }
    Ok(())
}

/// A program and what it started, which are a group of their own: they are killed when this is
/// dropped before its end, and when the node ends, however that comes.
#[derive(Debug)]
pub(crate) struct Group {
    /// The program.
    pub(crate) child: Child,
    /// What the reaper was told to kill.
    told: Option<Pid>,
}

impl Group {
    /// Starts a program.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub(crate) fn spawn(command: &mut tokio::process::Command) -> std::io::Result<Self> {
        let child = command.kill_on_drop(true).process_group(0).spawn()?;
        let told = pid(&child);
        if let Some(group) = told {
            tell('+', group);
        }
        Ok(Self { child, told })
    }

    /// Its number, as long as the program was not waited for: until then it is that of no other.
    pub(crate) fn pid(&self) -> Option<Pid> {
        pid(&self.child)
    }

    /// Kills the program, if it was not waited for, and what it started.
    pub(crate) fn kill(&self) {
        if let Some(group) = self.pid() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        if let Some(group) = self.told {
            tell('-', group);
        }
    }
}

/// No number: it has ended and was waited for.
fn pid(child: &Child) -> Option<Pid> {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    id.and_then(Pid::from_raw)
}

fn tell(what: char, group: Pid) {
    if let Some(told) = TOLD.get() {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        // One write, which is not torn. If the reaper was killed there is nobody to tell.
        let _ = told.write_all(format!("{what}{}\n", group.as_raw_nonzero()).as_bytes());
    }
}

/// Is a reaper: until standard input ends.
pub(crate) fn serve() -> u8 {
    let mut groups = BTreeSet::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let group = |text: &str| text.parse().ok().and_then(Pid::from_raw);
        if let Some(group) = line.strip_prefix('+').and_then(group) {
            groups.insert(group.as_raw_nonzero());
        } else if let Some(group) = line.strip_prefix('-').and_then(group) {
            groups.remove(&group.as_raw_nonzero());
        }
    }
    for group in groups.into_iter().filter_map(|it| Pid::from_raw(it.get())) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    0
}
