//! The log: every group of batches is appended here, with one sync, and reaches the database later.
//!
//! ```text
//! log-NNNNNNNN  a segment: "cpelog01" number:8 zeros:48 (group)* zeros
//! synced        the mark: sequence:8 checksum:8
//! ```
//!
//! Segments have their final length from the start, so that a sync has only bytes to write and no
//! length to record. A power cut may tear the groups that were not synced yet, and only those;
//! what tells a torn group from a damaged one is evidence that it had been synced: a later group
//! says so, or the mark, which is written after each sync and never waited for. A power cut *and*
//! damage to the very last group can therefore pass for a torn one until the system has written
//! the mark, within half a minute; either alone cannot.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use cpe_mesh::Batch;

use crate::error::Place;
use crate::files::{Files, LogFile};
use crate::group::{self, ALIGN, Header};

/// Bytes of a segment, unless one group needs more.
const SEGMENT_BYTES: usize = 8 << 20;

const SEGMENT_HEAD: &[u8; 8] = b"cpelog01";
const MARK: &str = "synced";
const MARK_BYTES: u64 = 16;

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log {
    files: Arc<dyn Files>,
    file: Box<dyn LogFile>,
    mark: Box<dyn LogFile>,
    /// The segment that is being written, where its next group goes, and its length.
    number: u64,
    offset: usize,
    length: usize,
    /// Segments that are full and not removed yet.
    full: Vec<u64>,
    /// Of the last group written, and of the last synced.
    sequence: u64,
    synced: u64,
    buffer: Vec<u8>,
}

/// What was found in a log.
#[derive(Debug)]
pub(crate) struct Found {
    /// Sequence of the last group.
    pub(crate) last: u64,
    /// Segments there are.
    segments: BTreeSet<u64>,
}

/// A log that cannot be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The operating system refused this file.
    Io(String, io::Error),
    /// Groups are missing that had been synced.
    Lost(Place, String),
}

/// Reads a log behind a database that has everything up to `checkpoint`, giving the groups after it
/// to `apply`, in order.
pub(crate) fn read(
    files: &dyn Files,
    checkpoint: u64,
    mut apply: impl FnMut(Batch),
) -> Result<Found, Unreadable> {
    let refused = |name: &str| {
        let name = name.to_owned();
        move |error| Unreadable::Io(name, error)
    };
    let names = files.list().map_err(refused("the folder"))?;
    let segments: BTreeSet<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    let mut expected = checkpoint + 1;
    let mut evidence = checkpoint;
    if names.iter().any(|name| name == MARK) {
        let mark = files.read(MARK).map_err(refused(MARK))?;
        evidence = evidence.max(read_mark(&mark).unwrap_or(0));
    } else if checkpoint > 0 || !segments.is_empty() {
        let why = "the file `synced` is missing".to_owned();
        return Err(Unreadable::Lost(Place::File, why));
    }
    for number in &segments {
        let name = name_of(*number);
        let bytes = files.read(&name).map_err(refused(&name))?;
        let mut rest = bytes.get(ALIGN..).unwrap_or_default();
        while !rest.is_empty() {
            let Some((header, batch, length)) = group::decode(rest) else {
                rest = rest.get(ALIGN..).unwrap_or_default();
                continue;
            };
            evidence = evidence.max(header.synced);
            if header.sequence == expected {
                apply(batch);
                expected += 1;
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    if evidence >= expected {
        let place = Place::Log { sequence: expected };
        let why = format!("it was synced, as was all up to {evidence}");
        return Err(Unreadable::Lost(place, why));
    }
    Ok(Found {
        last: expected - 1,
        segments,
    })
}

impl Log {
    /// Begins a new segment behind what was found, all of which is in the database by now, and
    /// removes the old ones.
    pub(crate) fn begin(files: Arc<dyn Files>, found: Found) -> io::Result<Self> {
        let number = found.segments.last().map_or(1, |last| last + 1);
        let file = files.create(&name_of(number), &head(number), SEGMENT_BYTES as u64)?;
        let mark = files.create(MARK, &mark(found.last), MARK_BYTES)?;
        let log = Self {
            files,
            file,
            mark,
            number,
            offset: ALIGN,
            length: SEGMENT_BYTES,
            full: Vec::new(),
            sequence: found.last,
            synced: found.last,
            buffer: Vec::new(),
        };
        for old in found.segments {
            log.files.remove(&name_of(old))?;
        }
        Ok(log)
    }

    /// Of the last group written.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Appends batches as one group, and syncs them and all before them if asked to. Says how many
    /// bytes that took.
    pub(crate) fn append(&mut self, batches: &[Batch], sync: bool) -> io::Result<usize> {
        let header = Header {
            sequence: self.sequence + 1,
            synced: self.synced,
        };
        self.buffer.clear();
        if group::encode(header, batches, &mut self.buffer).is_none() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.length - self.offset < self.buffer.len() {
            self.next_segment()?;
        }
        self.file.write_at(self.offset as u64, &self.buffer)?;
        self.offset += self.buffer.len();
        self.sequence = header.sequence;
        if sync {
            self.sync()?;
        }
        let bytes = self.buffer.len();
        // One large group is no reason to keep its room for ever.
        self.buffer.shrink_to(SEGMENT_BYTES);
        Ok(bytes)
    }

    /// Syncs what was appended.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.synced < self.sequence {
            self.file.sync()?;
            self.synced = self.sequence;
            self.mark.write_at(0, &mark(self.synced))?;
        }
        Ok(())
    }

    fn next_segment(&mut self) -> io::Result<()> {
        // Nobody would sync it later.
        self.sync()?;
        let number = self.number + 1;
        let length = SEGMENT_BYTES.max(ALIGN + self.buffer.len());
        self.file = self
            .files
            .create(&name_of(number), &head(number), length as u64)?;
        self.full.push(self.number);
        self.number = number;
        self.offset = ALIGN;
        self.length = length;
        Ok(())
    }

    /// Names of the segments that hold nothing beyond the last group, and no room for more. They
    /// may be removed once the database has what they say.
    pub(crate) fn take_full(&mut self) -> Vec<String> {
        self.full.drain(..).map(name_of).collect()
    }
}

fn name_of(number: u64) -> String {
    format!("log-{number:08}")
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("log-")?.parse().ok()
}

/// True for a file of a log.
pub(crate) fn is_file(name: &str) -> bool {
    name == MARK || number_of(name).is_some()
}

fn head(number: u64) -> Vec<u8> {
    let mut head = SEGMENT_HEAD.to_vec();
    head.extend_from_slice(&number.to_be_bytes());
    head
}

fn mark(sequence: u64) -> Vec<u8> {
    let sequence = sequence.to_be_bytes();
    let mut mark = sequence.to_vec();
    mark.extend_from_slice(&mark_checksum(sequence));
    mark
}

fn mark_checksum(sequence: [u8; 8]) -> [u8; 8] {
    let mut sum = [0; 8];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&sequence).finalize_xof().fill(&mut sum);
    sum
}

/// What a mark says; `None` for one that was torn.
fn read_mark(bytes: &[u8]) -> Option<u64> {
    let (sequence, rest) = bytes.split_first_chunk::<8>()?;
    (rest.first_chunk::<8>() == Some(&mark_checksum(*sequence)))
        .then(|| u64::from_be_bytes(*sequence))
}
