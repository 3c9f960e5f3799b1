//! What can go wrong, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cpe_mesh::{Batch, Table};

/// A storage cannot be opened. Nothing on disk has been changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused.
    #[error(
        "cannot {action} {path}: {source}; check that the folder exists, is writable and has room"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the folder open.
    #[error(
        "{path} is in use by another process{}; stop it or choose another folder",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Its process, if the lock file names one.
        pid: Option<u32>,
    },
    /// The folder was written by a newer version, or is something else.
    #[error(
        "{path} has format {found:?} and this version reads {wanted:?}; use the newer version or \
         another folder"
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// First line of its `format` file, at most 64 characters.
        found: String,
        /// What this version reads.
        wanted: &'static str,
    },
    /// The folder holds as many damaged databases as it may.
    #[error(
        "the state in {path} was damaged {times} times; replace the disk, or use another folder"
    )]
    DamagedAgain {
        /// The folder.
        path: PathBuf,
        /// How often.
        times: u32,
    },
    /// Stored bytes are not the bytes that were written.
    #[error(
        "the state in {path} is damaged at {place}: {detail}; votes and outbox cannot be trusted, \
         so set it aside and start with a new incarnation: what others hold comes back from them"
    )]
    Corrupt {
        /// The folder.
        path: PathBuf,
        /// Where.
        place: Place,
        /// What is wrong.
        detail: String,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Where a storage is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The engine's own structure.
    File,
    /// A group of batches in the log.
    Log {
        /// Its place among all groups ever written.
        sequence: u64,
    },
    /// One record.
    Record {
        /// Its table.
        table: Table,
        /// Its key.
        key: Vec<u8>,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File => f.write_str("the database file"),
            Self::Log { sequence } => write!(f, "group {sequence} of the log"),
            Self::Record { table, key } => {
                write!(f, "table {table:?} key ")?;
                key.iter()
                    .take(32)
                    .try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// A batch was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Too much is waiting: take completions first, then try again with the batch.
    #[error("the storage queue is full; wait for a completion and try again")]
    Full {
        /// The batch, untouched.
        batch: Batch,
    },
    /// An earlier write failed; nothing is written any more.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// The first failure of a storage; every write after it gets the same.
///
/// What was queued at that moment may or may not be on disk: the process must stop, and the next
/// start reads what is there.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "storage stopped after a failed write: {cause}; free space or replace the disk, then restart"
)]
pub struct Failed {
    /// The first cause.
    pub cause: Arc<str>,
}

impl Failed {
    pub(crate) fn new(cause: impl std::fmt::Display) -> Self {
        Self {
            cause: cause.to_string().into(),
        }
    }
}
