//! Files that hold a secret: private to their owner, replaced in one step, never truncated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes. Longer than any key file this crate writes, so that a wrong path is not read whole.
const KEY_FILE_MAX: u64 = 4 * 1024;

/// Why a key file could not be read, written or believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file system refused.
    #[error("cannot {action} key file {path}: {source}")]
    Io {
        /// What was tried: `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may read the file.
    #[error("key file {path} has mode {mode:04o}, others may read it: run `chmod 600` on it")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file has not the length of such a key.
    #[error("key file {path} is {found} bytes long, {expected} expected: it is not {what}")]
    Size {
        /// The file.
        path: PathBuf,
        /// What the file should hold.
        what: &'static str,
        /// Bytes found (at most a few more than are ever right).
        found: usize,
        /// Bytes such a file has.
        expected: usize,
    },
    /// The length is right and the contents are not.
    #[error("key file {path} does not hold {what}: {why}")]
    Garbage {
        /// The file.
        path: PathBuf,
        /// What the file should hold.
        what: &'static str,
        /// What is wrong with the contents.
        why: String,
    },
}

/// Reads a secret, or `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyFileError> {
    let fail = |source| KeyFileError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    check_mode(path, &file)?;
    let mut bytes = Vec::new();
    file.take(KEY_FILE_MAX)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    Ok(Some(bytes))
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt;
    let meta = file.metadata().map_err(|source| KeyFileError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &File) -> Result<(), KeyFileError> {
    Ok(())
}

/// Writes a new secret beside its place, syncs it, and puts it there in one step. A file that
/// exists is left as it is: a lost secret cannot be made again.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let fail = |source| KeyFileError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(fail)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.new", rand::random::<u64>()));
    let beside = folder.join(name);
    let result = write_new(&beside, bytes)
        // A hard link fails when the target exists, which a rename would silently replace.
        .and_then(|()| fs::hard_link(&beside, path));
    // Best effort: the secret has its place by now, or the error below matters more.
    drop(fs::remove_file(&beside));
    result.map_err(fail)?;
    // The directory entry is durable only once the folder is synced.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(fail)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
