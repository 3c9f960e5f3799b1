//! How a command ends: its exit status, and the message of one that failed.

use std::fmt;
use std::io::IsTerminal;
use std::process::ExitCode;

use crate::output;

/// Exit status of the process; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Done.
    Done = 0,
    /// Not done.
    Failed = 1,
    /// The command line, or a configuration, is wrong. clap uses the same number.
    Usage = 2,
    /// A form that only tries found nothing.
    Nothing = 3,
    /// The node or a part of the mesh cannot be reached, or did not answer in time.
    Unavailable = 4,
    /// It was ended by SIGTERM, and has put its things in order: as shells tell of that.
    Terminated = 143,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Why a command was not done: what happened, to what, and what to do next.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What the process exits with.
    pub(crate) status: Status,
    what: String,
    next: Option<String>,
}

impl Fault {
    /// The command was well formed and could not be done.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::new(Status::Failed, what)
    }

    /// The caller wrote something that cannot be understood.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Status::Usage, what)
    }

    /// Something it needs cannot be reached now.
    pub(crate) fn unavailable(what: impl Into<String>) -> Self {
        Self::new(Status::Unavailable, what)
    }

    /// SIGTERM came before it was done.
    pub(crate) fn terminated(what: impl Into<String>) -> Self {
        Self::new(Status::Terminated, what)
    }

    fn new(status: Status, what: impl Into<String>) -> Self {
        Self {
            status,
            what: what.into(),
            next: None,
        }
    }

    /// Adds what to do next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Writes the message to standard error, in colour only on a terminal.
    pub(crate) fn report(&self) {
        let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (on, off) = if coloured {
            ("\x1b[1;31m", "\x1b[0m")
        } else {
            ("", "")
        };
        output::warn(format_args!("{on}error:{off} {self}"));
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n  {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// Says about what an error is, on its way to becoming a [`Fault`].
pub(crate) trait About<T> {
    /// Fails with `what: error`.
    fn about(self, what: impl fmt::Display) -> Result<T, Fault>;
}

impl<T, E: fmt::Display> About<T> for Result<T, E> {
    fn about(self, what: impl fmt::Display) -> Result<T, Fault> {
        self.map_err(|error| Fault::failed(format!("{what}: {error}")))
    }
}
