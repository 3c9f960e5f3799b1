use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::{Collector, Request};

fn encode(arguments: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("{:04}", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(format!("{:020}", argument.len()).into_bytes());
        bytes.extend(argument);
    }
    bytes
}

/// All requests in a stream that comes in pieces of these sizes, over and over.
fn decode(stream: &[u8], sizes: &[usize]) -> Result<Vec<Request>, Malformed> {
    let mut decoder = Decoder::default();
    let mut collector = Collector::default();
    let mut requests = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap()).clamp(1, rest.len());
        let (mut piece, later) = rest.split_at(size);
        rest = later;
        while let Some(item) = decoder.next(&mut piece)? {
            requests.extend(collector.add(item));
        }
        assert!(piece.is_empty(), "all is used up");
    }
    Ok(requests)
}

proptest! {
    #[test]
    fn requests_are_the_same_in_pieces_of_any_size(
        requests in vec(vec(vec(any::<u8>(), 0..300), 1..=ARGUMENTS_MAX), 0..5),
        sizes in vec(1_usize..50, 1..5),
    ) {
        let mut stream = b"1112".to_vec();
        requests.iter().for_each(|request| stream.extend(encode(request)));
        let read = decode(&stream, &sizes).unwrap();
        let read: Vec<_> = read.into_iter().map(|request| request.arguments).collect();
        prop_assert_eq!(read, requests);
    }

    #[test]
    fn garbage_ends_in_an_error_or_waits_for_more(
        stream in vec(prop_oneof![Just(b'0'), Just(b'1'), any::<u8>()], 0..500),
        sizes in vec(1_usize..50, 1..5),
    ) {
        let _ = decode(&stream, &sizes);
    }
}

#[test]
fn counts_and_lengths_are_decimal_and_within_bounds() {
    let check = |bytes: &[u8]| decode(&[b"1112", bytes].concat(), &[7]).unwrap_err();
    assert_eq!(check(b"0000"), Malformed::Arguments(0));
    assert_eq!(check(b"0017"), Malformed::Arguments(17));
    assert_eq!(check(b"-001"), Malformed::NotDecimal("-001".to_owned()));
    assert_eq!(check(b" 001"), Malformed::NotDecimal(" 001".to_owned()));
    assert_eq!(
        check(b"0001-0000000000000000001"),
        Malformed::NotDecimal("-0000000000000000001".to_owned())
    );
    assert_eq!(
        check(b"000199999999999999999999"),
        Malformed::Length(u64::MAX)
    );
}

#[test]
fn what_is_too_large_is_passed_over_and_the_next_request_is_read() {
    let long = vec![7; crate::limits::ARGUMENT_BYTES_MAX + 1];
    let stream = [
        b"1112".to_vec(),
        encode(&[b"find".to_vec(), long]),
        encode(&[b"list wss".to_vec()]),
    ]
    .concat();
    let read = decode(&stream, &[1000]).unwrap();
    assert!(read[0].is_too_large);
    assert_eq!(read[0].arguments[1], b"");
    assert!(!read[1].is_too_large);
    assert_eq!(read[1].arguments, [b"list wss"]);
}
