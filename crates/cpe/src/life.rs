//! Numbers of the lives of a node that begins one without a state.
//!
//! A node whose state is gone must come back as a later life than any before: others refuse to
//! take an earlier one for new. The clock says so, unless it was set back; a file next to the state
//! makes sure.

use std::path::Path;

use crate::StartError;
use crate::admission::file;
use crate::clock;

/// Holds the number of the newest life, in decimal.
const LIFE_FILE: &str = "life";
/// Bytes of that file, at most: ten digits and a line's end.
const LIFE_BYTES_MAX: u64 = 16;

/// Begins a new life in a folder that the caller has locked, and says its number.
pub(crate) fn begin(folder: &Path) -> Result<u32, StartError> {
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
    Ok(incarnation)
}
