//! Generators for property tests, behind the feature `test-utils`.
//!
//! They prefer the corners: bounds of integers, all NaN, empty containers, and map keys that the
//! JSON forms must escape.

use std::ops::Bound;

use proptest::{collection, prelude::*, sample::select};

use crate::{Blob, BlobHash, Field, Kind, Template, Tuple, Value, blob::MAX_BLOB_BYTES};

/// Short text of any characters.
pub fn text() -> impl Strategy<Value = String> {
    let chars = prop_oneof![proptest::char::range(' ', '~'), any::<char>()];
    collection::vec(chars, 0..12).prop_map(String::from_iter)
}

/// Keys of maps, often such as the JSON forms use.
pub fn key() -> impl Strategy<Value = String> {
    let special = vec![
        "sym", "bytes", "float", "map", "$blob", "?", "prefix", ">=", ">", "<=", "<", "", "a",
    ];
    prop_oneof![select(special).prop_map(str::to_owned), text()]
}

/// Floats of every bit pattern.
pub fn float() -> impl Strategy<Value = f64> {
    let nan = any::<u64>().prop_map(|bits| f64::from_bits(bits | 0x7ff8_0000_0000_0000));
    let special = vec![
        0.0,
        -0.0,
        1.5,
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    let bits = any::<u64>().prop_map(f64::from_bits);
    prop_oneof![
        3 => bits,
        2 => select(special),
        1 => nan,
        1 => any::<f32>().prop_map(f64::from),
    ]
}

/// Integers, often small or at the ends of the range.
pub fn int() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -300_i64..300,
        select([i64::MIN, i64::MAX].as_slice())
    ]
}

/// References to bodies, which nobody has.
pub fn blob() -> impl Strategy<Value = Value> {
    (any::<bool>(), 1..=MAX_BLOB_BYTES, any::<[u8; 32]>()).prop_map(|(text, len, hash)| {
        Blob::new(text, len, BlobHash(hash)).map_or(Value::Null, Value::from)
    })
}

/// Values that hold no others.
pub fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        int().prop_map(Value::Int),
        float().prop_map(Value::Float),
        text().prop_map(Value::String),
        text().prop_map(Value::Symbol),
        collection::vec(any::<u8>(), 0..24).prop_map(Value::Bytes),
        blob(),
    ]
}

/// Values of every kind, a few levels deep.
pub fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            collection::btree_map(key(), inner, 0..4).prop_map(Value::Map),
        ]
    })
}

/// Tuples of up to seven values.
pub fn tuple() -> impl Strategy<Value = Tuple> {
    valid(collection::vec(value(), 0..8), Tuple::new)
}

/// Any kind.
pub fn kind() -> impl Strategy<Value = Kind> {
    select(Kind::ALL.as_slice())
}

/// Two bounds of one kind between which something lies.
fn range() -> impl Strategy<Value = Field> {
    let of_kind = prop_oneof![
        (int(), int()).prop_map(|(a, b)| (Value::Int(a), Value::Int(b))),
        (float(), float()).prop_map(|(a, b)| (Value::Float(a), Value::Float(b))),
        (text(), text()).prop_map(|(a, b)| (Value::String(a), Value::String(b))),
    ];
    (of_kind, 0_u8..6).prop_map(|((a, b), form)| {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let (low, high) = match form {
            0 => (Bound::Included(low), Bound::Unbounded),
            1 => (Bound::Excluded(low), Bound::Unbounded),
            2 => (Bound::Unbounded, Bound::Included(high)),
            3 => (Bound::Unbounded, Bound::Excluded(high)),
            4 if low != high => (Bound::Excluded(low), Bound::Excluded(high)),
            _ => (Bound::Included(low), Bound::Included(high)),
        };
        Field::Range { low, high }
    })
}

/// Fields of every form; every range can hold something.
pub fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        value().prop_map(Field::Actual),
        kind().prop_map(Field::Typed),
        Just(Field::Any),
        range(),
        text().prop_map(Field::Prefix),
    ]
}

/// Templates of up to seven fields.
pub fn template() -> impl Strategy<Value = Template> {
    valid(collection::vec(field(), 0..8), Template::new)
}

/// A tuple, and a template that matches it.
pub fn matching() -> impl Strategy<Value = (Tuple, Template)> {
    let field = |value: &Value, form: u8| match form {
        0 => Field::Actual(value.clone()),
        1 => Field::Typed(value.kind()),
        2 => Field::Any,
        // No range has what lies apart.
        _ if value.as_blob().is_some() => Field::Any,
        _ => Field::Range {
            low: Bound::Included(value.clone()),
            high: Bound::Included(value.clone()),
        },
    };
    let pairs = collection::vec((value(), 0_u8..4), 0..8);
    pairs.prop_filter_map("within the limits", move |pairs| {
        let fields = pairs
            .iter()
            .map(|(value, form)| field(value, *form))
            .collect();
        let values = pairs.into_iter().map(|(value, _)| value).collect();
        Some((Tuple::new(values).ok()?, Template::new(fields).ok()?))
    })
}

/// What `make` accepts of `parts`; the generators here stay far below the limits.
fn valid<T: std::fmt::Debug, U: std::fmt::Debug>(
    parts: impl Strategy<Value = T>,
    make: impl Fn(T) -> Result<U, crate::LimitError> + 'static,
) -> impl Strategy<Value = U> {
    parts.prop_filter_map("within the limits", move |parts| make(parts).ok())
}
