//! Disks that refuse.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cpe_storage::{Storage, StorageBackend, WriteError};
use redb::backends::InMemoryBackend;

use crate::{put, write};

/// A disk in memory that can be full, or lose its power of speech at a sync.
#[derive(Debug)]
struct Disk {
    memory: InMemoryBackend,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    full: AtomicBool,
    sync_fails: AtomicBool,
    syncs: AtomicU64,
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.faults.syncs.fetch_add(1, Ordering::SeqCst);
        if self.faults.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the sync was refused"));
        }
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.memory.write(offset, data)
    }
}

fn disk() -> (cpe_storage::Opened, Arc<Faults>) {
    let faults = Arc::<Faults>::default();
    let disk = Disk {
        memory: InMemoryBackend::new(),
        faults: Arc::clone(&faults),
    };
    (Storage::on_backend(disk).unwrap(), faults)
}

#[test]
fn a_full_disk_stops_the_storage_with_the_first_cause() {
    let (mut opened, faults) = disk();
    write(&mut opened, put(b"a", b"1")).result.unwrap();
    faults.full.store(true, Ordering::SeqCst);
    let first = write(&mut opened, put(b"b", b"2")).result.unwrap_err();
    assert!(first.to_string().contains("free space"), "{first}");
    // Space that comes back does not make the storage trustworthy again.
    faults.full.store(false, Ordering::SeqCst);
    let Err(WriteError::Failed(again)) = opened.storage.write(9, put(b"c", b"3"), true) else {
        panic!("a failed storage took a batch");
    };
    assert_eq!(again.cause, first.cause);
    assert_eq!(opened.storage.close().unwrap_err().cause, first.cause);
}

#[test]
fn everything_queued_behind_a_failure_fails_too() {
    let (mut opened, faults) = disk();
    faults.sync_fails.store(true, Ordering::SeqCst);
    let mut taken = 0;
    for token in 0..200 {
        match opened
            .storage
            .write(token, put(&token.to_be_bytes(), b"x"), true)
        {
            Ok(()) => taken += 1,
            Err(WriteError::Failed(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    for _ in 0..taken {
        let cause = opened
            .completions
            .blocking_recv()
            .unwrap()
            .result
            .unwrap_err()
            .cause;
        assert!(cause.contains("the sync was refused"), "{cause}");
    }
}

#[test]
fn an_unsynced_write_that_fails_later_is_not_forgotten() {
    let (mut opened, faults) = disk();
    faults.sync_fails.store(true, Ordering::SeqCst);
    opened.storage.write(1, put(b"a", b"1"), false).unwrap();
    opened.completions.blocking_recv().unwrap().result.unwrap();
    assert!(opened.storage.close().is_err());
}

#[test]
fn batches_that_wait_share_a_sync() {
    let (mut opened, faults) = disk();
    let before = faults.syncs.load(Ordering::SeqCst);
    for token in 0..1_000 {
        opened
            .storage
            .write(token, put(&token.to_be_bytes(), b"x"), true)
            .unwrap();
    }
    for _ in 0..1_000 {
        opened.completions.blocking_recv().unwrap().result.unwrap();
    }
    let syncs = faults.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs < 1_000, "{syncs} syncs for 1000 batches");
}
