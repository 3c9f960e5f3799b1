//! The data folder of an ephemeral node: it keeps no state there, only who it is.
//!
//! Two things a storage does otherwise must be done here: nobody else may use the identity at the
//! same time, and each start must be a later life than the one before, even within a second.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::StartError;
use crate::admission::file;

/// The same file that a storage locks.
const LOCK_FILE: &str = "LOCK";
/// A folder nobody else uses, until it is dropped.
#[derive(Debug)]
pub(crate) struct Borrowed {
    _lock: File,
}

/// Locks the folder, making it if need be.
pub(crate) fn borrow(folder: &Path) -> Result<Borrowed, StartError> {
    std::fs::create_dir_all(folder).map_err(file("create", folder))?;
    let path = folder.join(LOCK_FILE);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(file("open", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(file("lock", &path)(
                "another process uses this folder; stop it or choose another folder",
            ));
        }
        Err(TryLockError::Error(error)) => return Err(file("lock", &path)(error)),
    }
    Ok(Borrowed { _lock: lock })
}
