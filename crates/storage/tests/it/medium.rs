//! A disk in memory that loses power, tears writes, writes half and errs, and can be full.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use cpe_storage::{Files, LogFile, OpenError, Opened, Storage, StorageBackend};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Name of the file that is the database.
pub(crate) const DATABASE: &str = "state.redb";

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, data) => {
            let end = at + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(data);
        }
        Change::Length(len) => bytes.resize(*len, 0),
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// What a power cut leaves.
    synced: Vec<u8>,
    /// What reads see.
    seen: Vec<u8>,
    /// In order, since the last sync.
    unsynced: Vec<Change>,
    /// Removed, which a power cut may undo.
    removed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    contents: BTreeMap<String, Content>,
    /// Writes until one is cut short and fails, and with it the disk.
    pub(crate) writes_left: Option<u64>,
    pub(crate) broken: bool,
    pub(crate) full: bool,
    pub(crate) sync_fails: bool,
    pub(crate) syncs: u64,
}

impl State {
    fn whole(&self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(())
    }

    fn content(&mut self, name: &str) -> io::Result<&mut Content> {
        let content = self.contents.get_mut(name);
        content.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, name: &str, change: Change) -> io::Result<()> {
        self.whole()?;
        if self.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = self.content(name)?;
        apply(&mut content.seen, &change);
        content.unsynced.push(change);
        Ok(())
    }

    fn write(&mut self, name: &str, at: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        if self.writes_left == Some(0) {
            // Half of it got there.
            self.change(name, Change::Write(at, data[..data.len() / 2].to_vec()))?;
            self.broken = true;
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.writes_left = self.writes_left.map(|left| left - 1);
        self.change(name, Change::Write(at, data.to_vec()))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.whole()?;
        self.syncs += 1;
        if self.sync_fails {
            return Err(io::Error::other("the sync was refused"));
        }
        let content = self.content(name)?;
        content.unsynced.clear();
        content.synced = content.seen.clone();
        Ok(())
    }
}

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk that holds these files, safely.
    pub(crate) fn holding(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let contents = files.iter().map(|(name, bytes)| {
            let content = Content {
                synced: bytes.clone(),
                seen: bytes.clone(),
                ..Content::default()
            };
            (name.clone(), content)
        });
        let contents = contents.collect();
        Self(Arc::new(Mutex::new(State {
            contents,
            ..State::default()
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn open(&self) -> Result<Opened, OpenError> {
        self.state()
            .contents
            .entry(DATABASE.to_owned())
            .or_default();
        let database = OnDisk {
            disk: self.clone(),
            name: DATABASE.to_owned(),
        };
        Storage::elsewhere(database, self.clone())
    }

    /// What reads see.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let there = state
            .contents
            .iter()
            .filter(|(_, content)| !content.removed);
        there
            .map(|(name, content)| (name.clone(), content.seen.clone()))
            .collect()
    }

    /// The power goes: each sector written since the last sync is there or is not, and so is each
    /// file that was removed.
    pub(crate) fn cut(&self, rng: &mut ChaCha8Rng) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let mut left = BTreeMap::new();
        for (name, content) in &state.contents {
            if content.removed && rng.random_bool(0.5) {
                continue;
            }
            let mut bytes = content.synced.clone();
            for change in &content.unsynced {
                match change {
                    Change::Write(at, data) => {
                        let mut done = 0;
                        while done < data.len() {
                            let to_border = SECTOR - (at + done) % SECTOR;
                            let end = (done + to_border).min(data.len());
                            if rng.random_bool(0.5) {
                                let part = Change::Write(at + done, data[done..end].to_vec());
                                apply(&mut bytes, &part);
                            }
                            done = end;
                        }
                    }
                    // A file system keeps its own records in order.
                    Change::Length(_) => apply(&mut bytes, change),
                }
            }
            left.insert(name.clone(), bytes);
        }
        left
    }
}

impl Files for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().into_keys().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.state().content(name)?.seen.clone())
    }

    fn create(&self, name: &str, head: &[u8], len: u64) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.state();
        state.whole()?;
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = head.to_vec();
        bytes.resize(usize::try_from(len).unwrap(), 0);
        let content = Content {
            synced: bytes.clone(),
            seen: bytes,
            ..Content::default()
        };
        state.contents.insert(name.to_owned(), content);
        Ok(Box::new(OnDisk {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.whole()?;
        state.content(name)?.removed = true;
        Ok(())
    }
}

#[derive(Debug)]
struct OnDisk {
    disk: Disk,
    name: String,
}

impl LogFile for OnDisk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.state().write(&self.name, offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.state().sync(&self.name)
    }
}

impl StorageBackend for OnDisk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.disk.state().content(&self.name)?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let mut state = self.disk.state();
        let at = usize::try_from(offset).unwrap();
        let there = state.content(&self.name)?.seen.get(at..at + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let len = usize::try_from(len).unwrap();
        self.disk.state().change(&self.name, Change::Length(len))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.disk.state().sync(&self.name)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.disk.state().write(&self.name, offset, data)
    }
}
