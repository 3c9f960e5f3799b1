//! Damaged files.

use std::fs;
use std::path::{Path, PathBuf};

use cpe_mesh::{Image, Table};
use cpe_storage::{OpenError, Place, Storage};
use redb::{ReadableTable, TableDefinition};

use crate::{put, write};

fn database(folder: &Path) -> PathBuf {
    folder.join("state.redb")
}

/// A folder with a hundred records of 200 bytes, closed, and the image of what it holds.
fn filled() -> (tempfile::TempDir, Image) {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = Storage::open(folder.path()).unwrap();
    for n in 0..100_u64 {
        let value: Vec<u8> = n.to_be_bytes().repeat(25);
        write(&mut opened, put(&n.to_be_bytes(), &value))
            .result
            .unwrap();
    }
    opened.storage.close().unwrap();
    let image = Storage::open(folder.path()).unwrap().image;
    assert_eq!(image.entries.len(), 100);
    (folder, image)
}

#[test]
fn a_record_changed_behind_our_back_is_named() {
    let (folder, _) = filled();
    // Through the engine, so that its own checksums are right and only ours is not.
    let database = redb::Database::open(database(folder.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        const LOG: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("log");
        let mut log = transaction.open_table(LOG).unwrap();
        let key = 42_u64.to_be_bytes();
        let mut stored = log.get(key.as_slice()).unwrap().unwrap().value().to_vec();
        stored[100] ^= 0x10;
        log.insert(key.as_slice(), stored.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let error = Storage::open(folder.path()).unwrap_err();
    let OpenError::Corrupt { place, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        *place,
        Place::Record {
            table: Table::Log,
            key: 42_u64.to_be_bytes().to_vec()
        }
    );
    let text = error.to_string();
    assert!(text.contains("Log key 000000000000002a"), "{text}");
    assert!(text.contains("new incarnation"), "{text}");
}

#[test]
fn a_flipped_bit_anywhere_is_never_taken_for_state() {
    let (folder, image) = filled();
    let path = database(folder.path());
    let good = fs::read(&path).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    // A prime step visits headers, trees and free space alike.
    for at in (0..good.len()).step_by(if good.len() > 2_000_000 {
        10_007
    } else {
        4_799
    }) {
        let mut bad = good.clone();
        bad[at] ^= 0x04;
        fs::write(&path, &bad).unwrap();
        match Storage::open(folder.path()) {
            Ok(opened) => {
                assert!(opened.image == image, "byte {at}");
                harmless += 1;
            }
            Err(OpenError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(harmless > 0, "{refused} refused");
}

#[test]
fn a_flipped_bit_in_a_stored_value_is_refused() {
    let (folder, image) = filled();
    let path = database(folder.path());
    let good = fs::read(&path).unwrap();
    let value = 42_u64.to_be_bytes().repeat(25);
    let places: Vec<usize> = (0..good.len() - value.len())
        .filter(|at| good[*at..].starts_with(&value))
        .collect();
    assert!(!places.is_empty());
    let mut refused = 0;
    for at in places {
        let mut bad = good.clone();
        bad[at + 50] ^= 0x04;
        fs::write(&path, &bad).unwrap();
        match Storage::open(folder.path()) {
            // A page that a later commit has replaced.
            Ok(opened) => assert!(opened.image == image, "byte {at}"),
            Err(OpenError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 1);
}

#[test]
fn a_truncated_file_is_refused_not_half_read() {
    let (folder, image) = filled();
    let path = database(folder.path());
    let good = fs::read(&path).unwrap();
    for part in 0..8 {
        fs::write(&path, &good[..good.len() * part / 8]).unwrap();
        match Storage::open(folder.path()) {
            Err(OpenError::Corrupt { .. }) => {}
            Ok(opened) => assert!(opened.image == image, "{part} eighths"),
            Err(error) => panic!("{part} eighths: {error}"),
        }
    }
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let (folder, _) = filled();
    fs::write(database(folder.path()), "once upon a time".repeat(1_000)).unwrap();
    let error = Storage::open(folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Corrupt {
                place: Place::File,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_database_that_vanished_is_not_begun_anew() {
    let (folder, _) = filled();
    fs::remove_file(database(folder.path())).unwrap();
    let error = Storage::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("missing or empty"), "{error}");
}

#[test]
fn a_damaged_state_is_set_aside_and_remembered_as_lost() {
    let (folder, _) = filled();
    let path = database(folder.path());
    fs::write(&path, "once upon a time".repeat(1_000)).unwrap();
    assert!(Storage::open(folder.path()).is_err());
    let aside = Storage::set_aside(folder.path()).unwrap();
    let kept = fs::read(aside.join("state.redb")).unwrap();
    assert_eq!(kept.len(), 16_000);
    let mut opened = Storage::open(folder.path()).unwrap();
    assert!(opened.lost && opened.image.entries.is_empty());
    write(&mut opened, put(b"a", b"1")).result.unwrap();
    opened.storage.close().unwrap();
    // It has a state again, and this one is to be trusted.
    let opened = Storage::open(folder.path()).unwrap();
    assert!(!opened.lost && opened.image.entries.len() == 1);
    drop(opened);

    // A file that is gone is remembered too, and a disk that always fails is not tried for ever.
    for _ in 2..=9 {
        fs::remove_file(&path).unwrap();
        assert!(Storage::open(folder.path()).is_err());
        Storage::set_aside(folder.path()).unwrap();
        assert!(Storage::open(folder.path()).unwrap().lost);
    }
    let error = Storage::set_aside(folder.path()).unwrap_err();
    assert!(error.to_string().contains("replace the disk"), "{error}");
}

#[test]
fn damage_to_the_last_group_is_not_mistaken_for_a_torn_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = Storage::open(folder.path()).unwrap();
    let value = |n: u64| n.to_be_bytes().repeat(25);
    for n in 0..20_u64 {
        write(&mut opened, put(&n.to_be_bytes(), &value(n)))
            .result
            .unwrap();
    }
    // What a power cut leaves after the last acknowledgement.
    let names = ["format", "state.redb", "log-00000001", "synced"];
    let good = names.map(|name| (name, fs::read(folder.path().join(name)).unwrap()));
    drop(opened);
    let left = |damage: &dyn Fn(&str, &mut Vec<u8>)| {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in &good {
            let mut bytes = bytes.clone();
            damage(name, &mut bytes);
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        Storage::open(folder.path()).map(|opened| opened.image.entries.len())
    };
    assert_eq!(left(&|_, _| {}).unwrap(), 20);
    // Any group, the last one too.
    for n in [0, 7, 19] {
        let error = left(&|name, bytes| {
            if name.starts_with("log") {
                let value = value(n);
                let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(&value));
                bytes[at.unwrap() + 50] ^= 0x04;
            }
        });
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains(&format!("group {} of the log", n + 1)),
            "{text}"
        );
    }
    // A group that nothing says was synced is torn and was never acknowledged.
    let kept = left(&|name, bytes| {
        if name == "synced" {
            bytes.fill(0);
        } else if name.starts_with("log") {
            let value = value(19);
            let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(&value));
            bytes[at.unwrap()..].fill(0);
        }
    });
    assert_eq!(kept.unwrap(), 19);
    // A log that is gone was there once.
    let error = left(&|name, bytes| {
        if name.starts_with("log") {
            bytes.clear();
        }
    });
    assert!(error.is_err());
}

#[test]
fn a_long_log_reaches_the_database_and_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = Storage::open(folder.path()).unwrap();
    let mut image = Image::default();
    let segments = || {
        let names = fs::read_dir(folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("log-")).count()
    };
    let mut most = 0;
    for n in 0..150_u64 {
        let mut batch = put(&(n % 10).to_be_bytes(), &vec![n as u8; 1 << 20]);
        batch.delete_range(Table::Log, vec![0xff], n.to_be_bytes().to_vec());
        image.apply(batch.clone());
        write(&mut opened, batch).result.unwrap();
        most = most.max(segments());
    }
    opened.storage.close().unwrap();
    // Twenty segments were filled.
    assert!(most < 14, "{most} segments");
    let opened = Storage::open(folder.path()).unwrap();
    assert!(opened.image == image);
    assert_eq!(segments(), 1);
}
