//! The folder a node keeps its state in.
//!
//! ```text
//! LOCK          held while a process has the folder open; holds its pid
//! format        "cpe-storage 2\n"
//! state.redb    the database
//! log-NNNNNNNN  segments of the log in front of it
//! synced        how far the log had been synced
//! bodies/       the bodies of large values, each a file
//! damaged-N/    these files of a state that could not be trusted, for whoever wants to look
//! ```
//!
//! Identity and configuration files may lie next to these; [`write_atomically`] is for them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::log;

const FORMAT: &str = "cpe-storage 2";

const FORMAT_FILE: &str = "format";
const DATABASE: &str = "state.redb";

/// States set aside in one folder, at most: a disk that damages more is not worth a tenth try.
const DAMAGED_MAX: u32 = 9;

/// Bytes of `format` and `LOCK` that are read.
const SMALL_FILE_BYTES_MAX: u64 = 64;

/// A locked folder of a known format; unlocked when dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    new: bool,
    _lock: File,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(path).map_err(OpenError::io("create the folder", path))?;
        let lock = lock(path)?;
        let new = is_new(path)?;
        Ok(Self {
            path: path.to_owned(),
            new,
            _lock: lock,
        })
    }

    /// True until [`Folder::finish`] was called once: nothing has ever been acknowledged here.
    pub(crate) fn is_new(&self) -> bool {
        self.new
    }

    /// Notes that the database exists, so that its absence will be noticed from now on.
    pub(crate) fn finish(&mut self) -> Result<(), OpenError> {
        if self.new {
            sync_folder(&self.path).map_err(OpenError::io("sync the folder", &self.path))?;
            let path = self.path.join(FORMAT_FILE);
            write_atomically(&path, format!("{FORMAT}\n").as_bytes(), 0o644)
                .map_err(OpenError::io("write", &path))?;
            self.new = false;
        }
        Ok(())
    }

    /// True while a state lies here that was set aside.
    pub(crate) fn has_lost_state(&self) -> bool {
        (1..=DAMAGED_MAX).any(|n| self.damaged(n).exists())
    }

    /// Moves the state out of the way, so that the next opening begins an empty one; says where.
    pub(crate) fn set_aside(&mut self) -> Result<PathBuf, OpenError> {
        let free = (1..=DAMAGED_MAX).map(|n| self.damaged(n));
        let Some(aside) = free.into_iter().find(|path| !path.exists()) else {
            return Err(OpenError::DamagedAgain {
                path: self.path.clone(),
                times: DAMAGED_MAX,
            });
        };
        // The folder is the memory of what happened: it comes first.
        fs::create_dir(&aside).map_err(OpenError::io("create the folder", &aside))?;
        sync_folder(&self.path).map_err(OpenError::io("sync the folder", &self.path))?;
        let there = fs::read_dir(&self.path).map_err(OpenError::io("list", &self.path))?;
        for entry in there {
            let name = entry
                .map_err(OpenError::io("list", &self.path))?
                .file_name();
            let Some(text) = name.to_str() else {
                continue;
            };
            if text == DATABASE || text == FORMAT_FILE || log::is_file(text) {
                let from = self.path.join(&name);
                fs::rename(&from, aside.join(&name)).map_err(OpenError::io("move away", &from))?;
            }
        }
        self.new = true;
        sync_folder(&self.path).map_err(OpenError::io("sync the folder", &self.path))?;
        Ok(aside)
    }

    fn damaged(&self, n: u32) -> PathBuf {
        self.path.join(format!("damaged-{n}"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(OpenError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = read_small(&path)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            return Err(OpenError::InUse {
                path: folder.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(source)) => {
            return Err(OpenError::Io {
                action: "lock",
                path,
                source,
            });
        }
    }
    // The pid only helps whoever is refused, so a full disk is no reason to stop here.
    let noted = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::debug!(%error, path = %path.display(), "could not note the pid");
    }
    Ok(file)
}

/// Reads the format; a folder without one is new. It is written last, when all else is there.
fn is_new(folder: &Path) -> Result<bool, OpenError> {
    let path = folder.join(FORMAT_FILE);
    match read_small(&path) {
        Ok(text) => {
            let found = text.lines().next().unwrap_or_default().to_owned();
            if found == FORMAT {
                return Ok(false);
            }
            Err(OpenError::Format {
                path: folder.to_owned(),
                found,
                wanted: FORMAT,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(OpenError::Io {
            action: "read",
            path,
            source,
        }),
    }
}

fn read_small(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(SMALL_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Replaces a file so that after a crash either the old or the new content is there, whole.
///
/// Writes a temporary file next to it, syncs it, renames it over the old one and syncs the
/// folder. `mode` is the Unix permission, `0o600` for keys; other systems ignore it.
///
/// # Errors
/// Whatever the operating system says; the old file is untouched and the temporary one removed.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(temporary);
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; a left-over file harms nobody.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(folder)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // One left behind by a crash, under a pid used again, may have looser permissions.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes creations and renames in a folder durable. Other systems than Unix do it by themselves.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}
