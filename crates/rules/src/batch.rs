//! CLIPS as its own program.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::EngineError;

/// Feed a file to CLIPS's prompt as `clips -f2 FILE` does, with all functions of the original and
/// no limits, then read commands from standard input. Output goes where the original's goes, byte
/// for byte. For scripts of people who trust them: nothing is confined.
///
/// Does not return when it has begun: `(exit)`, or the end of standard input, ends the process.
///
/// # Errors
/// [`EngineError::Nul`] for a path that no file can have.
pub fn batch(file: &Path) -> Result<std::convert::Infallible, EngineError> {
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| EngineError::Nul);
    let arguments = [text(OsStr::new("-f2"))?, text(file.as_os_str())?];
    crate::raw::batch::original(&arguments)
}
