//! Disks that refuse.

use cpe_storage::WriteError;

use crate::medium::Disk;
use crate::{put, write};

fn disk() -> (cpe_storage::Opened, Disk) {
    let disk = Disk::default();
    (disk.open().unwrap(), disk)
}

#[test]
fn a_full_disk_stops_the_storage_with_the_first_cause() {
    let (mut opened, disk) = disk();
    write(&mut opened, put(b"a", b"1")).result.unwrap();
    disk.state().full = true;
    let first = write(&mut opened, put(b"b", b"2")).result.unwrap_err();
    assert!(first.to_string().contains("free space"), "{first}");
    // Space that comes back does not make the storage trustworthy again.
    disk.state().full = false;
    let Err(WriteError::Failed(again)) = opened.storage.write(9, put(b"c", b"3"), true) else {
        panic!("a failed storage took a batch");
    };
    assert_eq!(again.cause, first.cause);
    assert_eq!(opened.storage.close().unwrap_err().cause, first.cause);
}

#[test]
fn everything_queued_behind_a_failure_fails_too() {
    let (mut opened, disk) = disk();
    disk.state().sync_fails = true;
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
    let (mut opened, disk) = disk();
    disk.state().sync_fails = true;
    opened.storage.write(1, put(b"a", b"1"), false).unwrap();
    opened.completions.blocking_recv().unwrap().result.unwrap();
    assert!(opened.storage.close().is_err());
}

#[test]
fn batches_that_wait_share_a_sync() {
    let (mut opened, disk) = disk();
    let before = disk.state().syncs;
    for token in 0..1_000 {
        opened
            .storage
            .write(token, put(&token.to_be_bytes(), b"x"), true)
            .unwrap();
    }
    for _ in 0..1_000 {
        opened.completions.blocking_recv().unwrap().result.unwrap();
    }
    let syncs = disk.state().syncs - before;
    assert!(syncs < 1_000, "{syncs} syncs for 1000 batches");
}
