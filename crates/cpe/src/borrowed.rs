//! The data folder of an ephemeral node: it keeps no state there, only who it is.
//!
//! Two things a storage does otherwise must be done here: nobody else may use the identity at the
//! same time, and each start must be a later life than the one before, even within a second.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::StartError;
use crate::admission::file;
use crate::clock;

/// The same file that a storage locks.
const LOCK_FILE: &str = "LOCK";
/// Holds the number of the newest life, in decimal.
const LIFE_FILE: &str = "life";
/// Bytes of that file, at most: ten digits and a line's end.
const LIFE_BYTES_MAX: u64 = 16;

/// A folder nobody else uses, until it is dropped.
#[derive(Debug)]
pub(crate) struct Borrowed {
    _lock: File,
    /// The number of this life.
    pub(crate) incarnation: u32,
}

/// Locks the folder, making it if need be, and begins a new life.
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
    let path = folder.join(LIFE_FILE);
    let last = match std::fs::metadata(&path) {
        Ok(found) if found.len() <= LIFE_BYTES_MAX => {
            let text = std::fs::read_to_string(&path).map_err(file("read", &path))?;
            text.trim().parse().map_err(file("understand", &path))?
        }
        Ok(_) => return Err(file("understand", &path)("it is too long for a number")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(file("read", &path)(error)),
    };
    let incarnation = clock::incarnation().max(u32::saturating_add(last, 1));
    cpe_storage::write_atomically(&path, format!("{incarnation}\n").as_bytes(), 0o644)
        .map_err(file("write", &path))?;
    Ok(Borrowed {
        _lock: lock,
        incarnation,
    })
}
