//! The bodies of large values: files beside the log.
//!
//! ```text
//! bodies/HASH       the body, the hashes of its chunks, its length (8 bytes): durable and whole
//! bodies/HASH.part  chunks fetched so far; removed at start
//! bodies/N.new      a body the local node is writing; removed at start
//! ```
//!
//! A file gets its name once it is synced. Nothing of a body is read at start but its name and
//! length: each chunk is checked when it is read.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cpe_mesh::{BodyDone, BodyPart, BodyWork};
use cpe_tuple::blob::{Builder, CHUNK_BYTES, Outline};
use cpe_tuple::{Blob, BlobHash};

use crate::folder::sync_folder;

mod worker;

pub use worker::{BODY_QUEUE_MAX, BodyQueueFull, BodyWorker};

/// Bodies whose outline is kept in memory while they are read for others: 2 MiB each, at most.
const READERS_MAX: usize = 4;

/// Bytes after the hashes.
const LEN_BYTES: u64 = 8;

/// The folder of bodies. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Bodies {
    folder: Arc<Place>,
    tokens: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Removes the folder in the end.
    _temporary: Option<tempfile::TempDir>,
}

impl Bodies {
    /// Opens the bodies of a data folder, and says which are there, with their lengths.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn open(data: &Path) -> io::Result<(Self, BTreeMap<BlobHash, u64>)> {
        let path = data.join("bodies");
        fs::create_dir_all(&path)?;
        let bodies = Self::at(path, None);
        let there = bodies.list()?;
        Ok((bodies, there))
    }

    /// Bodies in a folder of their own that goes with the last handle.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn temporary() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("cpe-bodies-").tempdir()?;
        Ok(Self::at(folder.path().to_owned(), Some(folder)))
    }

    fn at(path: PathBuf, temporary: Option<tempfile::TempDir>) -> Self {
        let folder = Arc::new(Place {
            path,
            _temporary: temporary,
        });
        let tokens = Arc::default();
        Self { folder, tokens }
    }

    /// Removes what is not whole and lists the rest.
    fn list(&self) -> io::Result<BTreeMap<BlobHash, u64>> {
        let mut there = BTreeMap::new();
        for entry in fs::read_dir(&self.folder.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let hash = name.to_str().and_then(|name| name.parse().ok());
            if !entry.file_type()?.is_file() {
                continue;
            }
            let Some(hash) = hash else {
                fs::remove_file(entry.path())?;
                continue;
            };
            match self.read(hash) {
                Ok(reader) => drop(there.insert(hash, reader.len())),
                Err(error) if is_damage(&error) => fs::remove_file(entry.path())?,
                // It may be readable at the next start.
                Err(error) => tracing::warn!(%hash, %error, "a body cannot be read"),
            }
        }
        Ok(there)
    }

    fn path(&self, hash: BlobHash) -> PathBuf {
        self.folder.path.join(hash.to_string())
    }

    fn part(&self, hash: BlobHash) -> PathBuf {
        self.folder.path.join(format!("{hash}.part"))
    }

    fn new_file(&self, token: u64) -> PathBuf {
        self.folder.path.join(format!("{token}.new"))
    }

    /// Begins to write a body of the local node.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn create(&self) -> io::Result<BodyWriter> {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        let path = self.new_file(token);
        let file = File::create_new(&path)?;
        let written = Written { token, path };
        let builder = Builder::default();
        Ok(BodyWriter {
            file,
            builder,
            written,
        })
    }

    /// Opens a body to read it. It can be read to its end even if it is deleted meanwhile.
    ///
    /// # Errors
    /// `NotFound`; `InvalidData` when it is not what was written.
    pub fn read(&self, hash: BlobHash) -> io::Result<BodyReader> {
        let mut file = File::open(self.path(hash))?;
        let size = file.metadata()?.len();
        let mut len = [0; LEN_BYTES as usize];
        file.seek(SeekFrom::Start(size.saturating_sub(LEN_BYTES)))?;
        file.read_exact(&mut len)?;
        let len = u64::from_be_bytes(len);
        let blob = Blob::new(false, len, hash).map_err(invalid)?;
        let hashes = size
            .checked_sub(LEN_BYTES)
            .and_then(|size| size.checked_sub(len));
        // At most 65,536 chunks.
        let expected = u64::from(blob.chunks()) * 32;
        let hashes = hashes.filter(|hashes| *hashes == 0 || *hashes == expected);
        let hashes = hashes.ok_or_else(|| invalid("its length is wrong"))?;
        file.seek(SeekFrom::Start(len))?;
        let mut bytes = vec![0; usize::try_from(hashes).map_err(invalid)?];
        file.read_exact(&mut bytes)?;
        let outline = Outline::new(blob, &bytes).map_err(invalid)?;
        Ok(BodyReader { file, outline })
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Whether a body that cannot be read is not there, or not what was written. Other errors, as of a
/// disk that is busy or a process with too many files open, say nothing of the body.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | NotFound | UnexpectedEof)
}

/// Makes a file whose chunks are written durable.
fn finish(file: &mut File, outline: &Outline) -> io::Result<()> {
    file.seek(SeekFrom::Start(outline.blob().len()))?;
    file.write_all(&outline.to_bytes())?;
    file.write_all(&outline.blob().len().to_be_bytes())?;
    file.sync_all()
}

/// A file that is removed unless it became a body.
#[derive(Debug)]
struct Written {
    token: u64,
    path: PathBuf,
}

impl Drop for Written {
    fn drop(&mut self) {
        // Gone already if it was adopted; what is left over goes at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// A body being written by the local node.
#[derive(Debug)]
pub struct BodyWriter {
    file: File,
    builder: Builder,
    written: Written,
}

impl BodyWriter {
    /// Writes the next chunk: [`CHUNK_BYTES`], or less if it is the last.
    ///
    /// # Errors
    /// Whatever the operating system says; `InvalidData` for what is no next chunk.
    pub fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.builder.push(chunk).map_err(invalid)?;
        self.file.write_all(chunk)
    }

    /// Syncs the body, which is to be given to the peer by
    /// [`Command::Adopt`](cpe_mesh::Command::Adopt) now.
    ///
    /// # Errors
    /// Whatever the operating system says; `InvalidData` for an empty body.
    pub fn finish(mut self, text: bool) -> io::Result<NewBody> {
        let (blob, outline) = self.builder.finish(text).map_err(invalid)?;
        finish(&mut self.file, &outline)?;
        Ok(NewBody {
            blob,
            written: self.written,
        })
    }
}

/// A body the local node has written and the peer has not adopted; gone when dropped before.
#[derive(Debug)]
pub struct NewBody {
    blob: Blob,
    written: Written,
}

impl NewBody {
    /// The body.
    #[must_use]
    pub const fn blob(&self) -> Blob {
        self.blob
    }

    /// The name it was written under.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.written.token
    }
}

/// A body open for reading.
#[derive(Debug)]
pub struct BodyReader {
    file: File,
    outline: Outline,
}

impl BodyReader {
    fn len(&self) -> u64 {
        self.outline.blob().len()
    }

    /// How many chunks it has.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.outline.blob().chunks()
    }

    /// One chunk, checked.
    ///
    /// # Errors
    /// Whatever the operating system says; `InvalidInput` beyond the last chunk; `InvalidData` when
    /// it is not what was written.
    pub fn chunk(&mut self, chunk: u32) -> io::Result<Vec<u8>> {
        if chunk >= self.chunks() {
            let why = format!("chunk {chunk} of {}", self.chunks());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut bytes = vec![0; self.outline.blob().chunk_len(chunk)];
        let at = u64::from(chunk) * CHUNK_BYTES as u64;
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut bytes)?;
        if !self.outline.accepts(chunk, &bytes) {
            return Err(invalid(format!("chunk {chunk} is damaged")));
        }
        Ok(bytes)
    }
}

/// Does what a peer wants done for bodies.
#[derive(Debug)]
struct Hands {
    bodies: Bodies,
    parts: BTreeMap<BlobHash, File>,
    readers: BTreeMap<BlobHash, BodyReader>,
}

impl Hands {
    fn new(bodies: Bodies) -> Self {
        Self {
            bodies,
            parts: BTreeMap::new(),
            readers: BTreeMap::new(),
        }
    }

    fn work(&mut self, work: BodyWork) -> Option<BodyDone> {
        match work {
            BodyWork::Write { hash, chunk, bytes } => {
                let written = self.write(hash, chunk, &bytes);
                Some(match written {
                    Ok(()) => BodyDone::Written { hash, chunk },
                    Err(error) => self.failed(hash, &error),
                })
            }
            BodyWork::Seal { blob, outline } => {
                let (hash, len) = (blob.hash(), blob.len());
                Some(match self.seal(blob, &outline) {
                    Ok(()) => BodyDone::Sealed { hash, len },
                    Err(error) => self.failed(hash, &error),
                })
            }
            BodyWork::Adopt { token, blob } => {
                let (hash, len) = (blob.hash(), blob.len());
                let from = self.bodies.new_file(token);
                Some(match self.name(&from, hash) {
                    Ok(()) => BodyDone::Sealed { hash, len },
                    Err(error) => BodyDone::Failed {
                        hash,
                        reason: error.to_string(),
                    },
                })
            }
            BodyWork::Abandon { hash } => {
                self.forget_part(hash);
                None
            }
            BodyWork::Read { ticket, hash, part } => {
                let bytes = self.read(hash, part);
                if let Err(error) = &bytes {
                    tracing::warn!(%hash, %error, "a body cannot be read");
                    self.readers.remove(&hash);
                }
                let damaged = bytes.as_ref().is_err_and(is_damage);
                let bytes = bytes.ok();
                Some(BodyDone::Read {
                    ticket,
                    bytes,
                    damaged,
                })
            }
            BodyWork::Delete { hash } => {
                self.readers.remove(&hash);
                if let Err(error) = fs::remove_file(self.bodies.path(hash)) {
                    // It is found again at the next start.
                    tracing::warn!(%hash, %error, "a body cannot be deleted");
                }
                None
            }
        }
    }

    fn write(&mut self, hash: BlobHash, chunk: u32, bytes: &[u8]) -> io::Result<()> {
        if !self.parts.contains_key(&hash) {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true);
            let file = options.open(self.bodies.part(hash))?;
            self.parts.insert(hash, file);
        }
        let Some(file) = self.parts.get_mut(&hash) else {
            return Ok(());
        };
        file.seek(SeekFrom::Start(u64::from(chunk) * CHUNK_BYTES as u64))?;
        file.write_all(bytes)
    }

    fn seal(&mut self, blob: Blob, outline: &[u8]) -> io::Result<()> {
        let outline = Outline::new(blob, outline).map_err(invalid)?;
        let file = self.parts.remove(&blob.hash());
        let mut file = file.ok_or_else(|| invalid("no chunk was written"))?;
        finish(&mut file, &outline)?;
        let from = self.bodies.part(blob.hash());
        self.name(&from, blob.hash())
    }

    /// Gives a synced file the name of its body.
    fn name(&self, from: &Path, hash: BlobHash) -> io::Result<()> {
        let to = self.bodies.path(hash);
        fs::rename(from, to)?;
        sync_folder(&self.bodies.folder.path)
    }

    fn failed(&mut self, hash: BlobHash, error: &io::Error) -> BodyDone {
        tracing::warn!(%hash, %error, "a body cannot be written");
        self.forget_part(hash);
        let reason = error.to_string();
        BodyDone::Failed { hash, reason }
    }

    fn forget_part(&mut self, hash: BlobHash) {
        self.parts.remove(&hash);
        // What is left over goes at the next start.
        let _ = fs::remove_file(self.bodies.part(hash));
    }

    fn read(&mut self, hash: BlobHash, part: BodyPart) -> io::Result<Vec<u8>> {
        if !self.readers.contains_key(&hash) {
            if self.readers.len() >= READERS_MAX {
                self.readers.pop_first();
            }
            self.readers.insert(hash, self.bodies.read(hash)?);
        }
        let reader = self.readers.get_mut(&hash);
        let reader = reader.ok_or(io::ErrorKind::NotFound)?;
        match part {
            BodyPart::Outline => Ok(reader.outline.to_bytes()),
            BodyPart::Chunk(chunk) => reader.chunk(chunk),
        }
    }
}

#[cfg(test)]
mod tests;
