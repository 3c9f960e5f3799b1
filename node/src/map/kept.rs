//! Files that jobs have sent, kept by their hashes for other jobs that send the same.
//!
//! What runs for a job may write here, where it is the same user: a file is what its name says only
//! if it was looked at while it was copied.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of files that are kept.
const BYTES_MAX: u64 = 4 << 30;

/// Bytes that are copied at once.
const PIECE: usize = 64 << 10;

/// A folder of files, each under its hash (BLAKE3, in hexadecimal).
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    /// How many are at a file: it is not removed then.
    used: Mutex<BTreeMap<String, usize>>,
}

impl Kept {
    /// The files of this folder, which need not exist.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            used: Mutex::default(),
        }
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what an earlier life of the node was fetching when it was killed.
    pub(super) fn tidy(&self) {
        for path in self.files() {
            // A hash has no dot.
            if path.extension().is_some() {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    }

    /// Has a file stay, or come, as long as this lives.
    pub(super) fn use_file(&self, hash: &str) -> Used<'_> {
        *self.used().entry(hash.to_owned()).or_default() += 1;
        Used {
            kept: self,
            hash: hash.to_owned(),
        }
    }

    /// Makes the folder, and removes files that nobody uses, the eldest first, until one of so many
    /// bytes fits.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn make_room(&self, bytes: u64) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut kept: Vec<_> = self
            .files()
            .filter_map(|path| {
                let about = fs::symlink_metadata(&path).ok()?;
                Some((about.modified().ok()?, about.len(), path))
            })
            .collect();
        kept.sort();
        let mut whole = kept
            .iter()
            .map(|file| file.1)
            .fold(bytes, u64::saturating_add);
        for (_, length, path) in kept {
            if whole <= BYTES_MAX {
                break;
            }
            // Held until it is removed: who comes now finds it gone, and fetches it.
            let used = self.used();
            let hash = path.file_stem().and_then(|hash| hash.to_str());
            let is_used = hash.is_some_and(|hash| used.contains_key(hash));
            if !is_used && fs::remove_file(path).is_ok() {
                whole -= length;
            }
        }
        Ok(())
    }
}

/// A file that somebody is at.
#[derive(Debug)]
pub(super) struct Used<'a> {
    kept: &'a Kept,
    hash: String,
}

impl Used<'_> {
    /// Where it lies, if it is there.
    pub(super) fn path(&self) -> PathBuf {
        self.kept.folder.join(&self.hash)
    }

    /// A place for it while it comes for this job.
    pub(super) fn partial(&self, job: &str) -> Partial {
        Partial(self.path().with_extension(format!("partial-{job}")))
    }
}

/// A file that comes; what has come is removed with this, unless it was moved away.
#[derive(Debug)]
pub(super) struct Partial(pub(super) PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        let mut used = self.kept.used();
        if let Some(users) = used.get_mut(&self.hash) {
            *users -= 1;
            if *users == 0 {
                used.remove(&self.hash);
            }
        }
    }
}

/// Copies a file if it has this hash; false, and there is no copy, if it has not or is no file.
///
/// # Errors
/// When the copy cannot be written.
pub(super) fn copy(from: &Path, to: &Path, hash: &str) -> io::Result<bool> {
    let copy = File::create(to)?;
    let right = copy_into(from, copy, hash);
    if !matches!(right, Ok(true)) {
        let _ = fs::remove_file(to);
    }
    right
}

fn copy_into(from: &Path, mut to: impl Write, hash: &str) -> io::Result<bool> {
    // Something that has no end, or no beginning, is not even opened.
    if !fs::symlink_metadata(from).is_ok_and(|about| about.is_file()) {
        return Ok(false);
    }
    let Ok(mut source) = File::open(from) else {
        return Ok(false);
    };
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        let Ok(bytes) = source.read(&mut piece) else {
            return Ok(false);
        };
        let Some(read @ [_, ..]) = piece.get(..bytes) else {
            return Ok(hasher.finalize().to_hex().as_str() == hash);
        };
        hasher.update(read);
        to.write_all(read)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_copied_only_if_it_is_what_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let text = "good".repeat(PIECE);
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        assert!(!copy(&from, &to, &hash).unwrap() && !to.exists());
        fs::write(&from, &text).unwrap();
        assert!(copy(&from, &to, &hash).unwrap());
        assert!(fs::read_to_string(&to).unwrap() == text);
        fs::write(&from, "evil").unwrap();
        assert!(!copy(&from, &to, &hash).unwrap() && !to.exists());
    }

    #[test]
    fn the_eldest_file_that_nobody_uses_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path().join("files"));
        kept.make_room(0).unwrap();
        // They have no bytes on the disk.
        let make = |name: &str, age: u64| {
            let file = File::create(folder.path().join("files").join(name)).unwrap();
            file.set_len(BYTES_MAX / 4).unwrap();
            let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age);
            file.set_modified(at).unwrap();
        };
        for (name, age) in [("a", 1), ("b.partial-j", 2), ("c", 3), ("d", 4)] {
            make(name, age);
        }
        let left = || {
            let mut left: Vec<_> = kept
                .files()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect();
            left.sort();
            left
        };
        let (a, b) = (kept.use_file("a"), kept.use_file("b"));
        let also_a = kept.use_file("a");
        kept.make_room(1).unwrap();
        assert_eq!(left(), ["a", "b.partial-j", "d"]);
        drop((a, b));
        kept.make_room(BYTES_MAX / 2).unwrap();
        assert_eq!(left(), ["a", "d"]);
        drop(also_a);
        kept.make_room(BYTES_MAX).unwrap();
        assert!(left().is_empty());
    }
}
