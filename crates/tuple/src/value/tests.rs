use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
};

use proptest::prelude::*;

use super::*;
use crate::{codec, strategies};

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]))
}

proptest! {
    #[test]
    fn order_equality_and_hash_agree(a in strategies::value(), b in strategies::value()) {
        let hasher = RandomState::new();
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(&a, &a.clone());
        prop_assert_eq!(hasher.hash_one(&a), hasher.hash_one(a.clone()));
        if a == b {
            prop_assert_eq!(hasher.hash_one(&a), hasher.hash_one(&b));
        }
    }

    #[test]
    fn order_is_transitive(mut v in prop::collection::vec(strategies::scalar(), 3)) {
        v.sort();
        prop_assert!(v[0] <= v[1] && v[1] <= v[2] && v[0] <= v[2]);
    }

    #[test]
    fn size_is_at_least_what_the_encoding_takes(v in strategies::value()) {
        let bytes = codec::encode(&v).unwrap().len();
        prop_assert!(v.size() >= bytes, "{} < {bytes}", v.size());
        prop_assert!(v.size() <= 16 + 9 * bytes, "{} >> {bytes}", v.size());
        prop_assert_eq!(v.check(), Ok(v.size()));
    }
}

#[test]
fn kinds_sort_by_rank_and_int_never_equals_float() {
    let one_of_each = [
        Value::Null,
        Value::Bool(true),
        Value::Int(i64::MAX),
        Value::Float(1.0),
        Value::from("b"),
        Value::symbol("a"),
        Value::from(vec![0_u8]),
        Value::List(vec![]),
        Value::Map(BTreeMap::new()),
    ];
    assert!(one_of_each.is_sorted());
    assert_eq!(one_of_each.clone().map(|v| v.kind()), Kind::ALL);
    assert_ne!(Value::Int(1), Value::Float(1.0));
    assert_ne!(Value::from("a"), Value::symbol("a"));
    assert_eq!(BTreeSet::from(one_of_each).len(), 9);
}

#[test]
fn floats_order_by_total_cmp() {
    let sorted = [
        -f64::NAN,
        f64::NEG_INFINITY,
        -1.0,
        -0.0,
        0.0,
        1.0,
        f64::INFINITY,
        f64::NAN,
    ];
    assert!(sorted.map(Value::Float).is_sorted());
    assert_ne!(Value::Float(0.0), Value::Float(-0.0));
    assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
}

#[test]
fn the_deepest_allowed_value_passes_and_one_deeper_is_refused() {
    assert!(nested(MAX_DEPTH).check().is_ok());
    let error = nested(MAX_DEPTH + 1).check();
    assert_eq!(
        error,
        Err(LimitError::Depth {
            depth: MAX_DEPTH + 1,
            limit: MAX_DEPTH
        })
    );
}

#[test]
fn measuring_a_value_of_any_depth_does_not_recurse() {
    let deep = nested(200_000);
    assert_eq!(deep.depth(), 200_000);
    assert_eq!(deep.size(), 200_000 * 5 + 1);
    assert!(deep.check().is_err());
    assert!(codec::encode(&deep).is_err());
    assert!(deep.to_string().contains("..."));
    dismantle(vec![deep]);
}

#[test]
fn a_map_of_too_many_entries_is_refused() {
    let map = |n: usize| {
        (0..n)
            .map(|i| (i.to_string(), Value::Null))
            .collect::<Value>()
    };
    assert!(map(MAX_MAP_ENTRIES).check().is_ok());
    let entries = MAX_MAP_ENTRIES + 1;
    assert_eq!(
        Value::List(vec![map(entries)]).check(),
        Err(LimitError::MapEntries {
            entries,
            limit: MAX_MAP_ENTRIES
        })
    );
}

#[test]
fn accessors_answer_for_their_own_kind_only() {
    assert_eq!(Value::from(3_u8).as_int(), Some(3));
    assert_eq!(Value::from(3_u8).as_float(), None);
    assert_eq!(Value::symbol("x").as_symbol(), Some("x"));
    assert_eq!(Value::symbol("x").as_str(), None);
    assert_eq!(Value::from("x").as_str(), Some("x"));
    assert_eq!(
        Value::from([1_u8, 2].as_slice()).as_bytes(),
        Some([1, 2].as_slice())
    );
    assert!(Value::from(()).is_null());
}

#[test]
fn kind_names_read_back() {
    for kind in Kind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert!(
        "integer"
            .parse::<Kind>()
            .unwrap_err()
            .to_string()
            .contains("\"integer\"")
    );
}
