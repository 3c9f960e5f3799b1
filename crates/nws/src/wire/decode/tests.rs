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

/// What the fuzz target `requests` demands of any bytes, in pieces of any size: nothing panics,
/// what is kept is bounded, every piece is used up, and the size of the pieces makes no difference.
/// The fuzzer finds its inputs by itself; here they are requests with something broken.
fn demand_of_any_bytes(stream: &[u8], sizes: &[usize]) {
    let whole = decode(stream, &[stream.len().max(1)]);
    let pieces = decode(stream, sizes);
    assert_eq!(
        whole.as_ref().map_err(ToString::to_string).map(Vec::len),
        pieces.as_ref().map_err(ToString::to_string).map(Vec::len)
    );
    for (one, other) in whole.iter().flatten().zip(pieces.iter().flatten()) {
        assert_eq!(one.arguments, other.arguments);
    }
    for request in whole.into_iter().flatten() {
        assert!((1..=ARGUMENTS_MAX).contains(&request.arguments.len()));
        let bytes: usize = request.arguments.iter().map(Vec::len).sum();
        let most =
            crate::limits::WHOLE_BYTES_MAX + ARGUMENTS_MAX * crate::limits::ARGUMENT_BYTES_MAX;
        assert!(bytes <= most);
        let _ = crate::Operation::read(request);
    }
}

/// One thing that goes wrong on the way.
#[derive(Clone, Debug)]
enum Fault {
    Flip(u8),
    Replace(u8),
    Insert(Vec<u8>),
    Remove(usize),
    Repeat(usize),
    End,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0_u8..8).prop_map(Fault::Flip),
        prop_oneof![Just(b'0'), Just(b'9'), Just(b'-'), Just(b' '), any::<u8>()]
            .prop_map(Fault::Replace),
        vec(prop_oneof![Just(b'0'), any::<u8>()], 1..25).prop_map(Fault::Insert),
        (1_usize..30).prop_map(Fault::Remove),
        (1_usize..60).prop_map(Fault::Repeat),
        Just(Fault::End),
    ]
}

fn break_it(stream: &mut Vec<u8>, at: usize, fault: Fault) {
    let at = at % stream.len().max(1);
    let until = |count: usize| (at + count).min(stream.len());
    match fault {
        _ if stream.is_empty() => {}
        Fault::Flip(bit) => stream[at] ^= 1 << bit,
        Fault::Replace(byte) => stream[at] = byte,
        Fault::Insert(bytes) => drop(stream.splice(at..at, bytes)),
        Fault::Remove(count) => drop(stream.drain(at..until(count))),
        Fault::Repeat(count) => {
            let again = stream[at..until(count)].to_vec();
            drop(stream.splice(at..at, again));
        }
        Fault::End => stream.truncate(at),
    }
}

/// An operation of the protocol, or something like one.
fn asked() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let name = proptest::sample::select(vec![
        "open ws",
        "use ws",
        "delete ws",
        "mktemp ws",
        "list wss",
        "list vars",
        "declare var",
        "delete var",
        "store",
        "fetch",
        "fetchTry",
        "find",
        "findTry",
        "ifetch",
        "ifetchTry",
        "ifind",
        "ifindTry",
        "Store",
        "",
    ]);
    let argument = prop_oneof![
        proptest::sample::select(vec!["w", "yes", "no", "fifo", "x%dy", "%04d", "%", "-1"])
            .prop_map(|text| text.as_bytes().to_vec()),
        any::<u64>().prop_map(|number| format!("{number:020}").into_bytes()),
        vec(any::<u8>(), 0..40),
    ];
    (name, vec(argument, 0..7)).prop_map(|(name, mut arguments)| {
        arguments.insert(0, name.as_bytes().to_vec());
        arguments
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn broken_requests_end_in_an_error_whatever_the_pieces(
        requests in vec(asked(), 1..5),
        faults in vec((any::<usize>(), fault()), 0..4),
        sizes in vec(1_usize..40, 1..4),
    ) {
        let mut stream = b"1112".to_vec();
        requests.iter().for_each(|request| stream.extend(encode(request)));
        for (at, fault) in faults {
            break_it(&mut stream, at, fault);
        }
        demand_of_any_bytes(&stream, &sizes);
    }
}
