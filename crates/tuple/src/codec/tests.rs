use std::collections::BTreeMap;

use ciborium::value::{Integer, Value as Plain};
use proptest::{collection, prelude::*};
use serde::Deserialize;

use super::*;
use crate::{
    Template, Tuple, Value,
    limits::{MAX_DEPTH, MAX_TUPLE_BYTES},
    strategies,
};

/// Every shape that wire messages use, with values inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Message {
    id: Id,
    body: Body,
    reply: Option<Box<Body>>,
    marks: BTreeMap<i64, Value>,
    names: BTreeMap<String, u8>,
    tuples: Vec<(u64, Tuple)>,
    template: Option<Template>,
    unit: (),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Id(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Body {
    Nothing,
    One(Value),
    Two(Value, bool),
    Named {
        tuple: Tuple,
        at: Option<u32>,
        value: Value,
    },
    Inner(Box<Self>),
}

fn body() -> impl Strategy<Value = Body> {
    let value = strategies::value;
    let leaf = prop_oneof![
        Just(Body::Nothing),
        value().prop_map(Body::One),
        (value(), any::<bool>()).prop_map(|(v, b)| Body::Two(v, b)),
        (strategies::tuple(), any::<Option<u32>>(), value())
            .prop_map(|(tuple, at, value)| Body::Named { tuple, at, value }),
    ];
    leaf.prop_recursive(2, 4, 1, |inner| {
        inner.prop_map(|b| Body::Inner(Box::new(b)))
    })
}

fn message() -> impl Strategy<Value = Message> {
    (
        any::<u64>().prop_map(Id),
        body(),
        proptest::option::of(body().prop_map(Box::new)),
        collection::btree_map(any::<i64>(), strategies::scalar(), 0..3),
        collection::btree_map(strategies::text(), any::<u8>(), 0..3),
        collection::vec((any::<u64>(), strategies::tuple()), 0..2),
        proptest::option::of(strategies::template()),
    )
        .prop_map(
            |(id, body, reply, marks, names, tuples, template)| Message {
                id,
                body,
                reply,
                marks,
                names,
                tuples,
                template,
                unit: (),
            },
        )
}

/// What another CBOR library reads.
fn plain(bytes: &[u8]) -> Plain {
    let mut rest = bytes;
    let plain = ciborium::from_reader(&mut rest).unwrap();
    assert!(rest.is_empty());
    plain
}

/// What another CBOR library should read for a value.
fn natural(value: &Value) -> Plain {
    match value {
        Value::Null => Plain::Null,
        Value::Bool(b) => Plain::Bool(*b),
        Value::Int(i) => Plain::Integer(Integer::from(*i)),
        Value::Float(x) if x.is_nan() && x.to_bits() != 0x7ff8_0000_0000_0000 => Plain::Tag(
            82,
            Box::new(Plain::Bytes(x.to_bits().to_be_bytes().to_vec())),
        ),
        Value::Float(x) => Plain::Float(*x),
        Value::String(s) => Plain::Text(s.clone()),
        Value::Symbol(s) => Plain::Tag(39, Box::new(Plain::Text(s.clone()))),
        Value::Bytes(b) => Plain::Bytes(b.clone()),
        Value::Blob(blob) => {
            let parts = vec![
                Plain::Text("blob".to_owned()),
                Plain::Bool(blob.is_text()),
                Plain::Integer(Integer::from(blob.len())),
                Plain::Bytes(blob.hash().0.to_vec()),
            ];
            Plain::Tag(27, Box::new(Plain::Array(parts)))
        }
        Value::List(list) => Plain::Array(list.iter().map(natural).collect()),
        Value::Map(map) => Plain::Map(
            map.iter()
                .map(|(key, value)| (Plain::Text(key.clone()), natural(value)))
                .collect(),
        ),
    }
}

proptest! {
    #[test]
    fn a_value_is_natural_cbor_and_reads_back(value in strategies::value()) {
        let bytes = encode(&value).unwrap();
        // Compared as text, since this library's NaN are unequal.
        prop_assert_eq!(format!("{:?}", plain(&bytes)), format!("{:?}", natural(&value)));
        prop_assert_eq!(decode::<Value>(&bytes, bytes.len()).unwrap(), value);
    }

    #[test]
    fn what_another_library_writes_is_read(value in strategies::value()) {
        let mut bytes = Vec::new();
        ciborium::into_writer(&natural(&value), &mut bytes).unwrap();
        prop_assert_eq!(decode::<Value>(&bytes, bytes.len()).unwrap(), value);
    }

    #[test]
    fn a_message_is_plain_cbor_and_reads_back(message in message()) {
        let bytes = encode(&message).unwrap();
        // Nothing but the struct's positions as keys.
        let Plain::Map(fields) = plain(&bytes) else { panic!("not a map") };
        let keys: Vec<_> = fields.into_iter().map(|(key, _)| key).collect();
        prop_assert_eq!(keys, (0..8).map(|i| Plain::Integer(i.into())).collect::<Vec<_>>());
        prop_assert_eq!(decode::<Message>(&bytes, bytes.len()).unwrap(), message);
    }

    #[test]
    fn every_cut_of_a_message_is_refused(
        message in message(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encode(&message).unwrap();
        let cut = cut.index(bytes.len());
        let error = decode::<Message>(&bytes[..cut], bytes.len()).unwrap_err();
        prop_assert!(matches!(error, CodecError::Malformed { .. }), "{}", error);
    }

    #[test]
    fn random_bytes_never_panic(bytes in collection::vec(any::<u8>(), 0..256)) {
        read_all(&bytes);
    }

    #[test]
    fn mutated_encodings_never_panic(
        message in message(),
        changes in collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let mut bytes = encode(&message).unwrap();
        for (at, byte, change) in changes {
            let at = at.index(bytes.len());
            match change {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        read_all(&bytes);
    }

    #[test]
    fn our_check_agrees_with_another_library(bytes in collection::vec(any::<u8>(), 0..12)) {
        // It is laxer in two points: simple values, and what follows the item.
        if wellformed::check(&bytes, MAX_NESTING).is_ok() && decode::<Value>(&bytes, 12).is_ok() {
            prop_assert!(ciborium::from_reader::<Plain, _>(bytes.as_slice()).is_ok());
        }
    }
}

/// Decodes as everything; what is read must encode and read back the same.
fn read_all(bytes: &[u8]) {
    fn read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
        if let Ok(data) = decode::<T>(bytes, bytes.len()) {
            let again = encode(&data).unwrap();
            assert_eq!(decode::<T>(&again, again.len()).unwrap(), data);
        }
    }
    read::<Value>(bytes);
    read::<Tuple>(bytes);
    read::<Template>(bytes);
    read::<Message>(bytes);
    read::<Body>(bytes);
}

#[test]
fn variants_and_fields_are_numbers() {
    let hex = |body: &Body| {
        encode(body)
            .unwrap()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    };
    let check = |body: Body, expected: &str| {
        let found: String = hex(&body);
        assert_eq!(found, expected);
    };
    check(Body::Nothing, "00");
    check(Body::One(Value::Int(7)), "820107");
    check(Body::Two(Value::Null, true), "8302f6f5");
    let tuple = Tuple::named("x", Value::symbol("y")).unwrap();
    let named = Body::Named {
        tuple,
        at: None,
        value: Value::Float(1.5),
    };
    check(named, "8203a300826178d827617901f602f93e00");
    check(Body::Inner(Box::new(Body::Nothing)), "820400");
}

#[test]
fn every_nan_keeps_its_bits_in_a_value() {
    for bits in [
        0x7ff8_0000_0000_0000,
        0xfff8_0000_0000_0000,
        0x7ff0_0000_0000_0001,
        u64::MAX,
    ] {
        let value = Value::Float(f64::from_bits(bits));
        let bytes = encode(&value).unwrap();
        assert_eq!(decode::<Value>(&bytes, 16), Ok(value));
    }
}

#[test]
fn more_bytes_than_allowed_are_not_read() {
    let error = decode::<Value>(&[0x01, 0x01], 1).unwrap_err();
    assert_eq!(error, CodecError::TooLarge { bytes: 2, limit: 1 });
}

#[test]
fn trailing_bytes_are_refused() {
    let error = decode::<Value>(&[0x01, 0x02, 0x03], 10).unwrap_err();
    assert_eq!(
        error,
        CodecError::Trailing {
            offset: 1,
            bytes: 2
        }
    );
}

#[test]
fn a_deep_nest_is_refused() {
    // Arrays, maps, tags, arrays and maps without length.
    for opening in [
        &[0x81_u8][..],
        &[0xa1, 0x60],
        &[0xc6],
        &[0x9f],
        &[0xbf, 0x60],
    ] {
        let bytes = opening.repeat(200_000);
        let error = decode::<Value>(&bytes, MAX_TUPLE_BYTES).unwrap_err();
        assert!(
            matches!(
                error,
                CodecError::TooDeep {
                    limit: MAX_NESTING,
                    ..
                }
            ),
            "{error}"
        );
        assert!(decode::<serde::de::IgnoredAny>(&bytes, MAX_TUPLE_BYTES).is_err());
    }
    let nested = |n: usize| [vec![0x81; n], vec![0x00]].concat();
    assert!(decode::<Value>(&nested(MAX_DEPTH), 100).is_ok());
    let error = decode::<Value>(&nested(MAX_DEPTH + 1), 100).unwrap_err();
    assert!(
        error.to_string().contains("33 deep, the limit is 32"),
        "{error}"
    );
}

#[test]
fn a_claimed_length_reserves_nothing() {
    for head in [0x9b_u8, 0xbb, 0x5b, 0x7b] {
        let mut bytes = vec![head];
        bytes.extend(u64::MAX.to_be_bytes());
        bytes.extend([0; 8]);
        let error = decode::<Vec<u64>>(&bytes, 100).unwrap_err();
        assert!(
            matches!(error, CodecError::Malformed { offset: 0, .. }),
            "{error}"
        );
    }
}

#[test]
fn every_fault_is_told_with_its_place() {
    let refused = |bytes: &[u8], part: &str| {
        let error = decode::<Value>(bytes, 100).unwrap_err().to_string();
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    };
    refused(&[], "byte 0: the bytes end");
    refused(&[0x82, 0x01], "byte 0: a container of more items");
    refused(&[0x81, 0x1c], "byte 1: a reserved head");
    refused(&[0x81, 0xf8, 0x20], "byte 1: an unassigned simple value");
    refused(&[0xff], "byte 0: a break");
    refused(&[0xbf, 0x60, 0xff], "byte 2: a break");
    refused(&[0x7f, 0x41, 0x00, 0xff], "byte 1: a chunk of another type");
    refused(&[0x61, 0xff], "UTF-8");
    refused(&[0xa1, 0x01, 0x01], "expected a string");
    refused(
        &[0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x01],
        "same key twice",
    );
    refused(
        &[0x1b, 0xff, 0, 0, 0, 0, 0, 0, 0],
        "does not fit in 64 signed bits",
    );
    refused(
        &[0x3b, 0xff, 0, 0, 0, 0, 0, 0, 0],
        "does not fit in 64 signed bits",
    );
    refused(&[0xc1, 0x00], "tag 1 is not one of a value's");
    refused(&[0xd8, 39, 0x01], "expected a string");
    refused(&[0xd8, 82, 0x41, 0x00], "8 bytes of a double");
}

#[test]
fn strings_of_unknown_length_are_read() {
    assert_eq!(
        decode(&[0x7f, 0x61, 0x61, 0x61, 0x62, 0xff], 10),
        Ok(Value::from("ab"))
    );
    let list = Value::List(vec![Value::Int(1), Value::Null]);
    assert_eq!(decode(&[0x9f, 0x01, 0xf6, 0xff], 10), Ok(list));
    assert_eq!(decode(&[0x9f, 0xff], 10), Ok(Value::List(vec![])));
}

#[test]
fn a_failed_encoding_leaves_the_buffer_as_it_was() {
    let deep = (0..40).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    let mut buffer = vec![1, 2, 3];
    assert!(encode_into(&deep, &mut buffer).is_err());
    assert_eq!(buffer, [1, 2, 3]);
    encode_into(&4, &mut buffer).unwrap();
    assert_eq!(buffer, [1, 2, 3, 4]);
}

#[test]
fn an_old_reader_skips_new_fields_and_a_new_one_fills_in_old_messages() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        a: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        a: u8,
        #[serde(default)]
        b: Value,
    }
    let new = encode(&New {
        a: 1,
        b: Value::symbol("x"),
    })
    .unwrap();
    assert_eq!(decode::<Old>(&new, 100), Ok(Old { a: 1 }));
    let old = encode(&Old { a: 1 }).unwrap();
    assert_eq!(
        decode::<New>(&old, 100),
        Ok(New {
            a: 1,
            b: Value::Null
        })
    );
}

#[test]
fn a_symbol_behind_a_buffering_type_is_refused_and_not_taken_for_a_string() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Value(Value),
    }
    let bytes = encode(&Untagged::Value(Value::symbol("x"))).unwrap();
    assert!(decode::<Untagged>(&bytes, 100).is_err());
    // The failure leaves nothing behind in the thread.
    assert_eq!(decode::<Value>(&bytes, 100), Ok(Value::symbol("x")));
    assert_eq!(current_tag(), None);
}
