use std::ops::Bound::{Excluded, Included, Unbounded};

use proptest::prelude::*;

use super::*;
use crate::{Kind, codec, strategies};

fn tuple(fields: impl IntoIterator<Item = Value>) -> Tuple {
    Tuple::new(fields.into_iter().collect()).unwrap()
}

fn one(field: Field) -> Template {
    Template::new(vec![field]).unwrap()
}

proptest! {
    #[test]
    fn a_template_reads_back_from_its_encoding(template in strategies::template()) {
        let bytes = codec::encode(&template).unwrap();
        prop_assert_eq!(codec::decode::<Template>(&bytes, bytes.len()).unwrap(), template);
    }

    #[test]
    fn a_tuple_matches_what_was_made_for_it((tuple, template) in strategies::matching()) {
        prop_assert!(template.matches(&tuple));
        prop_assert!(Template::from(&tuple).matches(&tuple));
    }

    #[test]
    fn a_tuple_that_matches_has_the_key_first(
        tuple in strategies::tuple(),
        template in strategies::template(),
    ) {
        if template.matches(&tuple) {
            prop_assert_eq!(template.arity(), tuple.len());
            prop_assert!(template.key().is_none_or(|key| tuple.first() == Some(key)));
        }
    }

    #[test]
    fn a_range_agrees_with_the_order(low in any::<i64>(), high in any::<i64>(), x in any::<i64>()) {
        prop_assume!(low < high);
        let range = one(Field::Range {
            low: Included(Value::Int(low)),
            high: Excluded(Value::Int(high)),
        });
        prop_assert_eq!(range.matches(&tuple([Value::Int(x)])), (low..high).contains(&x));
    }
}

#[test]
fn the_number_of_fields_must_agree() {
    let template = Template::new(vec![Field::Any, Field::Any]).unwrap();
    assert!(template.matches(&tuple([Value::Null, Value::Null])));
    assert!(!template.matches(&tuple([Value::Null])));
    assert!(!template.matches(&tuple([Value::Null, Value::Null, Value::Null])));
}

#[test]
fn a_range_takes_only_its_bounds_kind() {
    let at_least_3 = one(Field::Range {
        low: Included(Value::Int(3)),
        high: Unbounded,
    });
    assert!(at_least_3.matches(&tuple([Value::Int(3)])));
    assert!(!at_least_3.matches(&tuple([Value::Int(2)])));
    // Strings and floats sort above integers, and still lie outside.
    assert!(!at_least_3.matches(&tuple([Value::Float(4.0)])));
    assert!(!at_least_3.matches(&tuple([Value::from("z")])));
    let below_3 = one(Field::Range {
        low: Unbounded,
        high: Excluded(Value::Int(3)),
    });
    assert!(below_3.matches(&tuple([Value::Int(2)])));
    assert!(!below_3.matches(&tuple([Value::Int(3)])));
    assert!(!below_3.matches(&tuple([Value::Null])));
}

#[test]
fn a_range_that_holds_nothing_is_refused() {
    let refused = |low, high| Template::new(vec![Field::Range { low, high }]).unwrap_err();
    assert_eq!(
        refused(Included(Value::Int(1)), Included(Value::Float(2.0))),
        LimitError::RangeKinds {
            low: Kind::Int,
            high: Kind::Float
        }
    );
    let empty = LimitError::RangeEmpty { kind: Kind::Int };
    assert_eq!(
        refused(Included(Value::Int(2)), Included(Value::Int(1))),
        empty
    );
    assert_eq!(
        refused(Included(Value::Int(2)), Excluded(Value::Int(2))),
        empty
    );
    assert_eq!(refused(Unbounded, Unbounded), LimitError::RangeUnbounded);

    // The same ranges are refused when they come as bytes.
    let bytes = codec::encode(&vec![Field::Range {
        low: Unbounded,
        high: Unbounded,
    }])
    .unwrap();
    let error = codec::decode::<Template>(&bytes, 1000).unwrap_err();
    assert!(
        error.to_string().contains("range without bounds"),
        "{error}"
    );
}

#[test]
fn a_prefix_takes_strings_symbols_and_bytes() {
    let prefix = one(Field::Prefix("ab".to_owned()));
    assert!(prefix.matches(&tuple([Value::from("abc")])));
    assert!(prefix.matches(&tuple([Value::symbol("ab")])));
    assert!(prefix.matches(&tuple([Value::from(b"ab\xff".as_slice())])));
    assert!(!prefix.matches(&tuple([Value::from("a")])));
    assert!(!prefix.matches(&tuple([Value::Int(1)])));
}

#[test]
fn a_name_is_the_key_of_its_template() {
    let template = Template::named("jobs").unwrap();
    assert_eq!(template.key(), Some(&Value::from("jobs")));
    assert!(template.matches(&Tuple::named("jobs", 1).unwrap()));
    assert!(!template.matches(&Tuple::named("job", 1).unwrap()));
    assert_eq!(one(Field::Any).key(), None);
    assert!(Template::named("x".repeat(257)).is_err());
}

#[test]
fn a_template_holds_to_the_limits_of_tuples() {
    assert!(Template::new(vec![Field::Any; 65]).is_err());
    assert!(Template::new(vec![Field::Prefix("x".repeat(MAX_TUPLE_BYTES))]).is_err());
    let deep = (0..200_000).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    assert!(Template::new(vec![Field::Actual(deep)]).is_err());
}
