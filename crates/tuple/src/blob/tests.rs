use proptest::prelude::*;

use super::*;
use crate::{Field, Template, Tuple, codec, json};

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn built(body: &[u8]) -> (Blob, Outline) {
    let mut builder = Builder::default();
    for chunk in body.chunks(CHUNK_BYTES) {
        builder.push(chunk).unwrap();
    }
    builder.finish(false).unwrap()
}

#[test]
fn a_body_built_of_chunks_has_the_hash_of_the_whole() {
    for chunks in [0, 1, 2, 3, 4, 5, 7, 8, 9] {
        for more in [1, 1_024, 1_025, CHUNK_BYTES - 1, CHUNK_BYTES] {
            let body = body(chunks * CHUNK_BYTES + more);
            let (blob, outline) = built(&body);
            assert_eq!(blob, Blob::of(false, &body).unwrap());
            assert_eq!(Outline::new(blob, &outline.to_bytes()).unwrap(), outline);
            for (chunk, bytes) in (0..).zip(body.chunks(CHUNK_BYTES)) {
                assert!(outline.accepts(chunk, bytes));
                assert!(!outline.accepts(chunk + 1, bytes));
            }
        }
    }
}

#[test]
fn a_changed_chunk_and_changed_hashes_are_told() {
    let body = body(3 * CHUNK_BYTES + 9);
    let (blob, outline) = built(&body);
    let mut chunk = body[CHUNK_BYTES..2 * CHUNK_BYTES].to_vec();
    chunk[77] ^= 1;
    assert!(!outline.accepts(1, &chunk));
    let mut hashes = outline.to_bytes();
    hashes[40] ^= 1;
    let wrong = BlobError::Outline { hash: blob.hash() };
    assert_eq!(Outline::new(blob, &hashes), Err(wrong.clone()));
    assert_eq!(Outline::new(blob, &outline.to_bytes()[..96]), Err(wrong));
    // Another length than the real one is noticed with the last chunk.
    let longer = Blob::new(false, blob.len() + 1, blob.hash()).unwrap();
    let outline = Outline::new(longer, &outline.to_bytes()).unwrap();
    assert!(!outline.accepts(3, &body[3 * CHUNK_BYTES..]));
}

#[test]
fn a_builder_refuses_what_is_no_chunk() {
    let mut builder = Builder::default();
    let (chunk, bytes) = (0, 0);
    assert_eq!(builder.push(&[]), Err(BlobError::Chunk { chunk, bytes }));
    builder.push(&[1]).unwrap();
    let (chunk, bytes) = (1, 1);
    assert_eq!(builder.push(&[1]), Err(BlobError::Chunk { chunk, bytes }));
    let none = Builder::default().finish(true);
    assert_eq!(none, Err(BlobError::Length { bytes: 0 }));
}

#[test]
fn a_reference_reads_back_and_shows_its_kind() {
    let blob = Blob::of(true, b"long").unwrap();
    let value = Value::from(blob);
    assert_eq!(value.kind(), Kind::String);
    assert_eq!(json::parse_value(&value.to_string()).unwrap(), value);
    let text = value.to_string();
    assert!(text.starts_with(r#"{"$blob":{"blake3":""#), "{text}");
    let tuple = Tuple::named("model", value.clone()).unwrap();
    assert_eq!(tuple.blobs(), [blob]);
    let bytes = codec::encode(&tuple).unwrap();
    assert!(tuple.size() >= bytes.len());
    assert_eq!(codec::decode::<Tuple>(&bytes, bytes.len()).unwrap(), tuple);
    assert!(!Tuple::named("model", "long").unwrap().has_blobs());
}

#[test]
fn a_template_sees_the_kind_and_the_hash_of_a_reference_and_no_more() {
    let blob = Value::from(Blob::of(true, b"long").unwrap());
    let other = Value::from(Blob::of(true, b"loud").unwrap());
    assert!(Field::Typed(Kind::String).matches(&blob));
    assert!(!Field::Typed(Kind::Bytes).matches(&blob));
    assert!(Field::Actual(blob.clone()).matches(&blob));
    assert!(!Field::Actual(other).matches(&blob));
    assert!(!Field::Prefix("lo".into()).matches(&blob));
    let low = std::ops::Bound::Included(Value::from(""));
    let high = std::ops::Bound::Unbounded;
    assert!(!Field::Range { low, high }.matches(&blob));
    let nested = Tuple::new(vec![Value::List(vec![blob.clone()])]).unwrap();
    assert_eq!(nested.blobs().len(), 1);
    assert!(Template::from(&nested).matches(&nested));
}

proptest! {
    #[test]
    fn a_hash_reads_back_from_its_digits(hash in any::<[u8; 32]>()) {
        let hash = BlobHash(hash);
        prop_assert_eq!(hash.to_string().parse::<BlobHash>(), Ok(hash));
    }

    #[test]
    fn no_text_breaks_the_reader_of_hashes(text in ".{0,80}") {
        let _ = text.parse::<BlobHash>();
    }
}
