//! The files of the log, as the log needs them: real ones in a folder, others in tests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::folder::sync_folder;

/// Bytes of one file that are read, at most: the largest segment there can be, which is one of a
/// single group, and some.
const READ_BYTES_MAX: u64 = (4 << 30) + (16 << 20);

/// Where a log keeps its files.
pub trait Files: std::fmt::Debug + Send + Sync + 'static {
    /// Names of the files that are there, in any order.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The content of a file.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Makes a file that begins with these bytes and has zeros up to `len`, in place of one that
    /// may be there. All of it, and its name, is durable when this returns.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn create(&self, name: &str, head: &[u8], len: u64) -> io::Result<Box<dyn LogFile>>;

    /// Removes a file; it may be back after a power cut.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A file that is being written.
pub trait LogFile: std::fmt::Debug + Send {
    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// Whatever the operating system says; any part may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// Whatever the operating system says; what was written may be gone.
    fn sync(&mut self) -> io::Result<()>;
}

/// Files in a folder.
#[derive(Debug)]
pub(crate) struct InFolder(pub(crate) PathBuf);

impl InFolder {
    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.0).join(name)
    }
}

impl Files for InFolder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(name))?;
        if file.metadata()?.len() > READ_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        file.take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, name: &str, head: &[u8], len: u64) -> io::Result<Box<dyn LogFile>> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = options.open(path)?;
        file.write_all(head)?;
        // Zeros, not a hole: a sync of bytes written over them has no new blocks to record. Page by
        // page: Linux remembers larger writes as larger units, and writes those whole later.
        let zeros = [0; 4 << 10];
        let mut left = len.saturating_sub(head.len() as u64);
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(zeros.len());
            let part = zeros.get(..part).unwrap_or(&zeros);
            file.write_all(part)?;
            left -= part.len() as u64;
        }
        file.sync_all()?;
        sync_folder(&self.0)?;
        Ok(Box::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }
}

impl LogFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot of a shard is one value, a group is never cut, and a segment is as long as its
    /// group.
    #[test]
    fn a_segment_with_one_large_group_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let length = 600 << 20;
        let segment = File::create(folder.path().join("segment")).unwrap();
        segment.set_len(length).unwrap();
        let read = InFolder(folder.path().to_owned()).read("segment").unwrap();
        assert_eq!(read.len() as u64, length);
    }
}
