use super::*;

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn outline_of(body: &[u8]) -> (Blob, Outline) {
    let mut builder = Builder::default();
    for chunk in body.chunks(CHUNK_BYTES) {
        builder.push(chunk).unwrap();
    }
    builder.finish(false).unwrap()
}

fn opened(folder: &tempfile::TempDir) -> (Hands, BTreeMap<BlobHash, u64>) {
    let (bodies, there) = Bodies::open(folder.path()).unwrap();
    (Hands::new(bodies), there)
}

/// Has a body written chunk by chunk, the last one first.
fn fetched(hands: &mut Hands, body: &[u8]) -> Blob {
    let (blob, outline) = outline_of(body);
    let hash = blob.hash();
    let chunks: Vec<_> = (0..).zip(body.chunks(CHUNK_BYTES)).collect();
    for (chunk, bytes) in chunks.into_iter().rev() {
        let bytes = bytes.to_vec();
        let done = hands.work(BodyWork::Write { hash, chunk, bytes });
        assert_eq!(done, Some(BodyDone::Written { hash, chunk }));
    }
    let outline = outline.to_bytes();
    let done = hands.work(BodyWork::Seal { blob, outline });
    let len = blob.len();
    assert_eq!(done, Some(BodyDone::Sealed { hash, len }));
    blob
}

/// A chunk, and whether the body is damaged.
fn read(hands: &mut Hands, hash: BlobHash, chunk: u32) -> (Option<Vec<u8>>, bool) {
    let part = BodyPart::Chunk(chunk);
    let ticket = 7;
    match hands.work(BodyWork::Read { ticket, hash, part }) {
        Some(BodyDone::Read {
            ticket: 7,
            bytes,
            damaged,
        }) => (bytes, damaged),
        other => unreachable!("{other:?}"),
    }
}

fn chunk(hands: &mut Hands, hash: BlobHash, chunk: u32) -> Option<Vec<u8>> {
    read(hands, hash, chunk).0
}

#[test]
fn a_body_written_in_any_order_is_there_after_a_restart_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut hands, there) = opened(&folder);
    assert!(there.is_empty());
    let (large, small) = (body(2 * CHUNK_BYTES + 5), body(70_000));
    let first = fetched(&mut hands, &large);
    let second = fetched(&mut hands, &small);
    let (mut hands, there) = opened(&folder);
    let both = [first, second].map(|blob| (blob.hash(), blob.len()));
    assert_eq!(there, BTreeMap::from(both));
    for (n, bytes) in (0..).zip(large.chunks(CHUNK_BYTES)) {
        assert_eq!(chunk(&mut hands, first.hash(), n).unwrap(), bytes);
    }
    assert_eq!(chunk(&mut hands, first.hash(), 3), None);
    assert_eq!(chunk(&mut hands, second.hash(), 0).unwrap(), small);
    hands.work(BodyWork::Delete { hash: first.hash() });
    assert_eq!(chunk(&mut hands, first.hash(), 0), None);
    let left = BTreeMap::from([(second.hash(), second.len())]);
    assert_eq!(opened(&folder).1, left);
}

#[test]
fn what_is_not_whole_is_gone_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut hands, _) = opened(&folder);
    let hash = outline_of(&body(CHUNK_BYTES + 1)).0.hash();
    let (chunk, bytes) = (1, vec![1]);
    hands.work(BodyWork::Write { hash, chunk, bytes });
    let mut writer = hands.bodies.create().unwrap();
    writer.push(&[1]).unwrap();
    assert_eq!(
        fs::read_dir(folder.path().join("bodies")).unwrap().count(),
        2
    );
    assert!(opened(&folder).1.is_empty());
    assert_eq!(
        fs::read_dir(folder.path().join("bodies")).unwrap().count(),
        0
    );
}

#[test]
fn a_damaged_chunk_is_not_served_and_the_others_are() {
    let folder = tempfile::tempdir().unwrap();
    let (mut hands, _) = opened(&folder);
    let blob = fetched(&mut hands, &body(2 * CHUNK_BYTES + 5));
    let path = hands.bodies.path(blob.hash());
    let mut bytes = fs::read(&path).unwrap();
    bytes[CHUNK_BYTES + 9] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(chunk(&mut hands, blob.hash(), 0).is_some());
    assert_eq!(chunk(&mut hands, blob.hash(), 1), None);
    // Damage to the hashes is damage to the whole.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(opened(&folder).1.is_empty());
}

#[test]
fn only_what_is_not_what_was_written_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (mut hands, _) = opened(&folder);
    let hash = fetched(&mut hands, &body(CHUNK_BYTES + 5)).hash();
    assert_eq!(read(&mut hands, hash, 2), (None, false));
    assert_eq!(read(&mut hands, hash, u32::MAX), (None, false));
    assert!(read(&mut hands, hash, 1).0.is_some());
    let other = BlobHash([1; 32]);
    assert_eq!(read(&mut hands, other, 0), (None, true), "it is gone");
    // A folder in the place of a body cannot be read, and is no damage to one.
    fs::create_dir(hands.bodies.path(other)).unwrap();
    let (mut hands, there) = opened(&folder);
    assert_eq!(there.keys().collect::<Vec<_>>(), [&hash]);
    assert!(hands.bodies.path(other).is_dir());
    let path = hands.bodies.path(hash);
    fs::write(&path, &fs::read(&path).unwrap()[..CHUNK_BYTES]).unwrap();
    assert_eq!(read(&mut hands, hash, 0), (None, true));
    assert!(opened(&folder).1.is_empty());
    assert!(!path.exists());
}

#[test]
fn a_body_of_the_local_node_is_adopted_or_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut hands, _) = opened(&folder);
    let text = body(CHUNK_BYTES + 7);
    let write = |hands: &Hands| {
        let mut writer = hands.bodies.create().unwrap();
        for chunk in text.chunks(CHUNK_BYTES) {
            writer.push(chunk).unwrap();
        }
        writer.finish(true).unwrap()
    };
    let new = write(&hands);
    let (blob, token) = (new.blob(), new.token());
    assert_eq!(blob, Blob::of(true, &text).unwrap());
    let hash = blob.hash();
    let adopt = BodyWork::Adopt { token, blob };
    let len = blob.len();
    assert_eq!(
        hands.work(adopt.clone()),
        Some(BodyDone::Sealed { hash, len })
    );
    drop(new);
    let mut reader = hands.bodies.read(hash).unwrap();
    hands.work(BodyWork::Delete { hash });
    assert_eq!(reader.chunk(1).unwrap(), &text[CHUNK_BYTES..]);
    drop(write(&hands));
    assert!(matches!(hands.work(adopt), Some(BodyDone::Failed { .. })));
    assert_eq!(
        fs::read_dir(folder.path().join("bodies")).unwrap().count(),
        0
    );
}

#[test]
fn a_temporary_folder_goes_with_its_last_handle() {
    let bodies = Bodies::temporary().unwrap();
    let path = bodies.folder.path.clone();
    let other = bodies.clone();
    drop(bodies);
    assert!(path.exists());
    drop(other);
    assert!(!path.exists());
}

#[tokio::test]
async fn the_worker_reports_in_order() {
    let bodies = Bodies::temporary().unwrap();
    let (worker, mut done) = BodyWorker::start(bodies).unwrap();
    let hash = BlobHash([1; 32]);
    for chunk in 0..3 {
        let bytes = vec![1];
        worker
            .submit(BodyWork::Write { hash, chunk, bytes })
            .unwrap();
    }
    for chunk in 0..3 {
        assert_eq!(done.recv().await, Some(BodyDone::Written { hash, chunk }));
    }
}
