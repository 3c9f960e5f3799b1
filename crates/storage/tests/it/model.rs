//! A storage is an image on disk.

use cpe_mesh::{Batch, Image, Table, Write};
use cpe_storage::{QUEUE_BATCHES_MAX, Storage, WriteError};
use proptest::prelude::*;

use crate::{put, write};

fn any_write() -> impl Strategy<Value = Write> {
    let table = prop::sample::select(Table::ALL.to_vec());
    let key = || proptest::collection::vec(0..4_u8, 0..3);
    let value = proptest::collection::vec(any::<u8>(), 0..40);
    (table, key(), key(), value, 0..4).prop_map(|(table, key, to, value, kind)| match kind {
        0 => Write::Delete { table, key },
        1 => Write::DeleteRange {
            table,
            from: key,
            to,
        },
        _ => Write::Put { table, key, value },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn what_is_read_back_is_what_the_image_says(
        batches in proptest::collection::vec(
            (proptest::collection::vec(any_write(), 0..6), any::<bool>()), 0..12),
        reopen in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = Storage::open(folder.path()).unwrap();
        let mut image = Image::default();
        for (token, (writes, sync)) in batches.into_iter().enumerate() {
            let batch = Batch { writes };
            image.apply(batch.clone());
            opened.storage.write(token as u64, batch, sync).unwrap();
            let done = opened.completions.blocking_recv().unwrap();
            prop_assert_eq!(done.token, token as u64);
            done.result.unwrap();
            if reopen {
                drop(opened);
                opened = Storage::open(folder.path()).unwrap();
                prop_assert!(opened.image == image);
            }
        }
        opened.storage.close().unwrap();
        prop_assert!(Storage::open(folder.path()).unwrap().image == image);
    }
}

#[test]
fn closing_writes_what_nobody_asked_to_sync() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Storage::open(folder.path()).unwrap();
    opened.storage.write(1, put(b"a", b"1"), false).unwrap();
    opened.storage.close().unwrap();
    assert_eq!(Storage::open(folder.path()).unwrap().image.entries.len(), 1);
}

#[test]
fn answers_come_in_order_and_end_with_the_storage() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = Storage::open(folder.path()).unwrap();
    for token in 0..500 {
        opened
            .storage
            .write(
                token,
                put(&token.to_be_bytes(), b"x"),
                token.is_multiple_of(3),
            )
            .unwrap();
    }
    drop(opened.storage);
    for token in 0..500 {
        assert_eq!(opened.completions.blocking_recv().unwrap().token, token);
    }
    assert!(opened.completions.blocking_recv().is_none());
}

#[test]
fn the_queue_is_bounded_and_gives_the_batch_back() {
    for mut opened in [
        Storage::ephemeral(),
        Storage::open(tempfile::tempdir().unwrap().path()).unwrap(),
    ] {
        for token in 0..QUEUE_BATCHES_MAX as u64 {
            opened.storage.write(token, put(b"a", b"1"), true).unwrap();
        }
        let Err(WriteError::Full { batch }) = opened.storage.write(0, put(b"b", b"2"), true) else {
            panic!("the queue took too much");
        };
        assert_eq!(batch, put(b"b", b"2"));
        opened.completions.blocking_recv().unwrap();
        opened.storage.write(0, batch, true).unwrap();
    }
}

#[test]
fn an_ephemeral_storage_answers_and_forgets() {
    let mut opened = Storage::ephemeral();
    assert!(write(&mut opened, put(b"a", b"1")).result.is_ok());
    opened.storage.close().unwrap();
}
