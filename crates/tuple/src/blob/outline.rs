//! The hashes of a body's chunks.
//!
//! BLAKE3 is a tree: the hash of a body follows from the chaining values of its chunks (the BLAKE3
//! paper, section 2.1), for chunks of a power of two of KiB. So a list of those, taken from anyone,
//! is checked against the one hash in the tuple, and each chunk against its own. `bao` keeps the
//! inner nodes too, to check a chunk with few of them; here the whole list takes 32 bytes of each
//! 256 KiB, and is fetched first.

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use super::{Blob, BlobError, BlobHash, CHUNK_BYTES, MAX_BLOB_BYTES};

/// Checks the chunks of one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    blob: Blob,
    /// One for each chunk; none for a body of a single chunk, whose hash is the body's.
    hashes: Vec<ChainingValue>,
}

impl Outline {
    /// The outline of a body from the hashes of its chunks, 32 bytes each; no bytes for a body of
    /// one chunk.
    ///
    /// # Errors
    /// [`BlobError::Outline`] when they are not the body's.
    pub fn new(blob: Blob, hashes: &[u8]) -> Result<Self, BlobError> {
        let wrong = BlobError::Outline { hash: blob.hash() };
        let (hashes, rest) = hashes.as_chunks::<32>();
        let chunks = usize::try_from(blob.chunks()).unwrap_or(usize::MAX);
        let expected = if chunks == 1 { 0 } else { chunks };
        if !rest.is_empty() || hashes.len() != expected {
            return Err(wrong);
        }
        if root(hashes).is_some_and(|root| root != blob.hash()) {
            return Err(wrong);
        }
        let hashes = hashes.to_vec();
        Ok(Self { blob, hashes })
    }

    /// The body.
    #[must_use]
    pub const fn blob(&self) -> Blob {
        self.blob
    }

    /// The hashes, as [`Outline::new`] takes them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }

    /// Whether these bytes are the chunk of that number.
    #[must_use]
    pub fn accepts(&self, chunk: u32, bytes: &[u8]) -> bool {
        if bytes.is_empty() || bytes.len() != self.blob.chunk_len(chunk) {
            return false;
        }
        if self.blob.chunks() == 1 {
            return BlobHash(*blake3::hash(bytes).as_bytes()) == self.blob.hash();
        }
        let place = usize::try_from(chunk).ok();
        let expected = place.and_then(|place| self.hashes.get(place));
        expected == Some(&hasher(chunk, bytes).finalize_non_root())
    }
}

/// A chunk at its place in the tree.
fn hasher(chunk: u32, bytes: &[u8]) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(u64::from(chunk) * CHUNK_BYTES as u64);
    hasher.update(bytes);
    hasher
}

/// The hash of a body of these chunks; none for fewer than two.
fn root(hashes: &[ChainingValue]) -> Option<BlobHash> {
    let (left, right) = split(hashes)?;
    let root = merge_subtrees_root(&subtree(left)?, &subtree(right)?, Mode::Hash);
    Some(BlobHash(*root.as_bytes()))
}

fn subtree(hashes: &[ChainingValue]) -> Option<ChainingValue> {
    match split(hashes) {
        // At most 16 deep, for 65,536 chunks.
        Some((left, right)) => Some(merge_subtrees_non_root(
            &subtree(left)?,
            &subtree(right)?,
            Mode::Hash,
        )),
        None => hashes.first().copied(),
    }
}

/// The left part is the largest power of two that leaves something for the right one.
fn split(hashes: &[ChainingValue]) -> Option<(&[ChainingValue], &[ChainingValue])> {
    if hashes.len() < 2 {
        return None;
    }
    hashes.split_at_checked(hashes.len().div_ceil(2).next_power_of_two())
}

/// Makes the reference and the outline of a body that is read from front to end.
#[derive(Debug, Default)]
pub struct Builder {
    len: u64,
    hashes: Vec<ChainingValue>,
    /// The hash of the first chunk, as that of a whole body.
    first: Option<BlobHash>,
}

impl Builder {
    /// Takes the next chunk: [`CHUNK_BYTES`], or less if it is the last.
    ///
    /// # Errors
    /// [`BlobError::Chunk`] or [`BlobError::Length`]; the chunk was not taken.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let chunk = u32::try_from(self.hashes.len()).unwrap_or(u32::MAX);
        let whole = u64::from(chunk) * CHUNK_BYTES as u64;
        let len = whole + bytes.len() as u64;
        if bytes.is_empty() || bytes.len() > CHUNK_BYTES || self.len != whole {
            let bytes = bytes.len();
            return Err(BlobError::Chunk { chunk, bytes });
        }
        if len > MAX_BLOB_BYTES {
            return Err(BlobError::Length { bytes: len });
        }
        let hasher = hasher(chunk, bytes);
        if chunk == 0 {
            self.first = Some(BlobHash(*hasher.finalize().as_bytes()));
        }
        self.hashes.push(hasher.finalize_non_root());
        self.len = len;
        Ok(())
    }

    /// Bytes taken so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True before the first chunk.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The reference to the body, and what checks its chunks.
    ///
    /// # Errors
    /// [`BlobError::Length`] when nothing was taken.
    pub fn finish(mut self, text: bool) -> Result<(Blob, Outline), BlobError> {
        let hash = match (root(&self.hashes), self.first) {
            (Some(root), _) => root,
            (None, Some(first)) => {
                self.hashes.clear();
                first
            }
            (None, None) => return Err(BlobError::Length { bytes: 0 }),
        };
        let blob = Blob::new(text, self.len, hash)?;
        let hashes = self.hashes;
        Ok((blob, Outline { blob, hashes }))
    }
}
