use proptest::prelude::*;

use super::*;
use crate::{codec, limits::MAX_DEPTH, strategies};

proptest! {
    #[test]
    fn a_tuple_reads_back_from_its_encoding(tuple in strategies::tuple()) {
        let bytes = codec::encode(&tuple).unwrap();
        prop_assert!(tuple.size() >= bytes.len());
        prop_assert_eq!(codec::decode::<Tuple>(&bytes, bytes.len()).unwrap(), tuple);
    }

    #[test]
    fn a_mark_comes_back_from_the_encoding_and_shows_nowhere_else(
        tuple in strategies::tuple(),
        (descriptor, variable, ordinal) in any::<(Option<u64>, u64, u64)>(),
    ) {
        let mark = Mark { descriptor, variable, ordinal };
        let marked = tuple.clone().with_mark(mark);
        let bytes = codec::encode(&marked).unwrap();
        prop_assert!(marked.size() >= bytes.len());
        let read = codec::decode::<Tuple>(&bytes, bytes.len()).unwrap();
        prop_assert_eq!(read.mark(), Some(&mark));
        prop_assert_eq!(&read, &marked);
        prop_assert!(read != tuple);
        prop_assert_eq!(read.to_string(), tuple.to_string());
        prop_assert!(crate::Template::from(&tuple).matches(&read));
        prop_assert_eq!(read.clone().with_mark(mark).size(), read.size());
    }

    #[test]
    fn values_move_out_of_a_tuple_shared_or_not(tuple in strategies::tuple()) {
        let fields = tuple.fields().to_vec();
        let shared = tuple.clone();
        prop_assert_eq!(&Vec::from(tuple), &fields);
        prop_assert_eq!(&Vec::from(shared), &fields);
    }
}

#[test]
fn each_limit_names_what_how_much_and_the_bound() {
    let many = Tuple::new(vec![Value::Null; MAX_FIELDS + 1]).unwrap_err();
    assert_eq!(
        many,
        LimitError::Fields {
            fields: 65,
            limit: 64
        }
    );
    assert!(Tuple::new(vec![Value::Null; MAX_FIELDS]).is_ok());

    let large = Tuple::new(vec![Value::Bytes(vec![0; MAX_TUPLE_BYTES])]).unwrap_err();
    assert_eq!(
        large,
        LimitError::Bytes {
            bytes: MAX_TUPLE_BYTES + 7,
            limit: MAX_TUPLE_BYTES
        }
    );
    assert!(Tuple::new(vec![Value::Bytes(vec![0; MAX_TUPLE_BYTES - 7])]).is_ok());

    let name = Tuple::named("x".repeat(257), 1).unwrap_err();
    assert_eq!(
        name,
        LimitError::Name {
            bytes: 257,
            limit: 256
        }
    );
}

#[test]
fn a_value_of_any_depth_is_refused_and_dropped_without_overflow() {
    let deep = (0..200_000).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    let error = Tuple::new(vec![Value::Int(1), deep]).unwrap_err();
    assert_eq!(
        error,
        LimitError::Depth {
            depth: 200_000,
            limit: MAX_DEPTH
        }
    );
}

#[test]
fn a_list_of_too_many_fields_is_refused_when_read() {
    let bytes = codec::encode(&vec![0; MAX_FIELDS + 1]).unwrap();
    let error = codec::decode::<Tuple>(&bytes, 1000).unwrap_err();
    assert!(
        error.to_string().contains("65 fields, the limit is 64"),
        "{error}"
    );
}

#[test]
fn a_clone_shares_the_values() {
    let tuple = Tuple::named("x", vec![1_u8; 1000]).unwrap();
    assert!(std::ptr::eq(tuple.fields(), tuple.clone().fields()));
}
