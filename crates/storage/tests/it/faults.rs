//! A disk that loses power, tears writes, writes half and errs, and flips bits.

use std::io;
use std::sync::{Arc, Mutex};

use cpe_mesh::{Batch, Image};
use cpe_storage::{OpenError, Storage, StorageBackend};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::put;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct State {
    /// What a power cut leaves.
    synced: Vec<u8>,
    /// What reads see.
    seen: Vec<u8>,
    /// In order, since the last sync.
    unsynced: Vec<Change>,
    /// Writes until one is cut short and fails, and with it the disk.
    writes_left: Option<u64>,
    broken: bool,
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
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn holding(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.0.lock().unwrap();
            state.seen.clone_from(&bytes);
            state.synced = bytes;
        }
        disk
    }

    fn fail_after(&self, writes: u64) {
        self.0.lock().unwrap().writes_left = Some(writes);
    }

    /// The power goes: each sector written since the last sync is there or is not.
    fn cut(&self, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        let mut left = state.synced.clone();
        for change in &state.unsynced {
            match change {
                Change::Write(at, data) => {
                    let mut done = 0;
                    while done < data.len() {
                        let to_border = SECTOR - (at + done) % SECTOR;
                        let end = (done + to_border).min(data.len());
                        if rng.random_bool(0.5) {
                            let part = Change::Write(at + done, data[done..end].to_vec());
                            apply(&mut left, &part);
                        }
                        done = end;
                    }
                }
                // A file system keeps its own records in order.
                Change::Length(_) => apply(&mut left, change),
            }
        }
        left
    }
}

impl State {
    fn change(&mut self, change: Change) -> Result<(), io::Error> {
        if self.broken {
            return Err(io::Error::other("the disk is gone"));
        }
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.0.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        let there = state.seen.get(at..at + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let len = usize::try_from(len).unwrap();
        self.0.lock().unwrap().change(Change::Length(len))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.0.lock().unwrap();
        if state.broken {
            return Err(io::Error::other("the disk is gone"));
        }
        state.unsynced.clear();
        state.synced = state.seen.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.0.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        if state.writes_left == Some(0) {
            // Half of it got there.
            state.change(Change::Write(at, data[..data.len() / 2].to_vec()))?;
            state.broken = true;
            return Err(io::ErrorKind::WriteZero.into());
        }
        state.writes_left = state.writes_left.map(|left| left - 1);
        state.change(Change::Write(at, data.to_vec()))
    }
}

/// What is there after each of so many batches, beginning with nothing.
fn images(batches: &[Batch]) -> Vec<Image> {
    let mut all = vec![Image::default()];
    for batch in batches {
        let mut next = Image::default();
        next.entries.clone_from(&all[all.len() - 1].entries);
        next.apply(batch.clone());
        all.push(next);
    }
    all
}

/// Writes batches until one fails; says how many were acknowledged as safe, and how many at all.
fn run(disk: &Disk, batches: &[Batch], syncs: &[bool]) -> (usize, usize) {
    let Ok(mut opened) = Storage::on_backend(disk.clone()) else {
        return (0, 0);
    };
    let (mut safe, mut sent) = (0, 0);
    for (batch, sync) in batches.iter().zip(syncs) {
        sent += 1;
        if opened.storage.write(0, batch.clone(), *sync).is_err() {
            break;
        }
        match opened.completions.blocking_recv().unwrap().result {
            Ok(()) if *sync => safe = sent,
            Ok(()) => {}
            Err(failed) => {
                assert!(failed.to_string().contains("stopped after a failed write"));
                break;
            }
        }
    }
    // As a process that is killed: what close would still sync is not.
    disk.0.lock().unwrap().broken = true;
    (safe, sent)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Power cuts between any two batches, and writes that stop halfway at any point.
    #[test]
    fn what_was_acknowledged_survives_torn_and_short_writes(
        values in proptest::collection::vec((0..6_u8, 0..3_000_usize, any::<bool>()), 1..20),
        fails_after in proptest::option::of(0..400_u64),
        seed in any::<u64>(),
    ) {
        let batches: Vec<Batch> = values
            .iter()
            .map(|(key, len, _)| put(&[*key], &vec![*key; *len]))
            .collect();
        let syncs: Vec<bool> = values.iter().map(|(.., sync)| *sync).collect();
        let disk = Disk::default();
        if let Some(writes) = fails_after {
            disk.fail_after(writes);
        }
        let (safe, sent) = run(&disk, &batches, &syncs);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..4 {
            let left = Disk::holding(disk.cut(&mut rng));
            match Storage::on_backend(left) {
                Ok(opened) => {
                    let possible = images(&batches[..sent]);
                    let found = possible[safe..].contains(&opened.image);
                    prop_assert!(found, "{safe} of {sent} were safe");
                }
                // A database torn before anything was acknowledged is refused, not guessed at.
                Err(OpenError::Corrupt { .. }) => prop_assert_eq!(safe, 0),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_changes_nothing(
        lengths in proptest::collection::vec(1..2_000_usize, 1..12),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 8),
    ) {
        let batches: Vec<Batch> = (0_u8..)
            .zip(&lengths)
            .map(|(n, len)| put(&[n], &vec![n; *len]))
            .collect();
        let disk = Disk::default();
        let (safe, _) = run(&disk, &batches, &vec![true; batches.len()]);
        prop_assert_eq!(safe, batches.len());
        let good = disk.0.lock().unwrap().synced.clone();
        let all = images(&batches).pop().unwrap();
        for (at, bit) in flips {
            let mut bad = good.clone();
            bad[at.index(good.len())] ^= 1 << bit;
            match Storage::on_backend(Disk::holding(bad)) {
                Ok(opened) => prop_assert!(opened.image == all),
                Err(OpenError::Corrupt { .. }) => {}
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}
