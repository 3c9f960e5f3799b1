//! Values of the tuple space and values of CLIPS, into each other.
//!
//! CLIPS has no truth values, no null, no maps and no lists in lists. They cross like this, and
//! come back as what they were:
//!
//! | tuple space | CLIPS |
//! |---|---|
//! | null | the symbol `nil` |
//! | `true`, `false` | the symbols `TRUE`, `FALSE` |
//! | integer, float, string, symbol | the same |
//! | list | a multifield |
//! | map | a multifield `{ key value ... }`, keys as symbols |
//! | list or map inside another | in place, between the symbols `[ ]` or `{ }` |
//! | bytes | nothing: an error |
//!
//! So `{"p": 0.9, "votes": [1, 2]}` is `({ p 0.9 votes [ 1 2 ] })`, which a rule may match with
//! `$? p ?p $?`. What is lost: the symbols `nil`, `TRUE` and `FALSE` come back as null and truth
//! values, -0.0 as 0.0, and the four brackets can not be sent as symbols.

use std::collections::BTreeMap;

use cpe_tuple::{LimitError, Tuple, Value as Datum, limits::MAX_DEPTH};

use crate::value::Value;

/// A value that has no form on the other side.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// CLIPS has no bytes.
    #[error("bytes have no form in CLIPS: send them as base64 text")]
    Bytes,
    /// CLIPS texts end at a NUL.
    #[error("a text with a NUL byte has no form in CLIPS")]
    Nul,
    /// The symbols `[`, `]`, `{`, `}` mark nested values.
    #[error("`{0}` marks a nested value and can not be sent as a symbol: send it as a string")]
    Bracket(String),
    /// Brackets in a multifield do not match, or a map lacks a value.
    #[error("brackets of nested values do not match, or a map lacks a value")]
    Unbalanced,
    /// Fact and instance addresses mean nothing outside of their engine.
    #[error("a {0} means nothing outside of its engine: send the values it stands for")]
    Address(&'static str),
    /// The value is larger or deeper than the tuple space takes.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// A value of the tuple space as CLIPS has it.
///
/// # Errors
/// [`BridgeError`]; nothing is converted in part.
pub fn to_clips(datum: &Datum) -> Result<Value, BridgeError> {
    datum.check()?;
    Ok(match datum {
        Datum::List(items) => list_to_clips(items)?,
        Datum::Map(_) => {
            let mut fields = Vec::new();
            append(&mut fields, datum)?;
            Value::Multifield(fields)
        }
        scalar => scalar_to_clips(scalar)?,
    })
}

/// The fields of a tuple, whose limits were checked when it was made, as CLIPS has them.
pub(crate) fn tuple_to_clips(tuple: &Tuple) -> Result<Value, BridgeError> {
    list_to_clips(tuple.fields())
}

fn list_to_clips(items: &[Datum]) -> Result<Value, BridgeError> {
    let mut fields = Vec::with_capacity(items.len());
    // A list of nothing but one list or map would read back as that one.
    if let [item @ (Datum::List(_) | Datum::Map(_))] = items {
        fields.push(Value::symbol("["));
        append(&mut fields, item)?;
        fields.push(Value::symbol("]"));
    } else {
        for item in items {
            append(&mut fields, item)?;
        }
    }
    Ok(Value::Multifield(fields))
}

/// The recursion ends at [`MAX_DEPTH`], which the caller has checked.
fn append(fields: &mut Vec<Value>, datum: &Datum) -> Result<(), BridgeError> {
    match datum {
        Datum::List(items) => {
            fields.push(Value::symbol("["));
            for item in items {
                append(fields, item)?;
            }
            fields.push(Value::symbol("]"));
        }
        Datum::Map(entries) => {
            fields.push(Value::symbol("{"));
            for (key, value) in entries {
                fields.push(Value::Symbol(text_to_clips(key, true)?));
                append(fields, value)?;
            }
            fields.push(Value::symbol("}"));
        }
        scalar => fields.push(scalar_to_clips(scalar)?),
    }
    Ok(())
}

fn scalar_to_clips(datum: &Datum) -> Result<Value, BridgeError> {
    Ok(match datum {
        Datum::Null => Value::symbol("nil"),
        Datum::Bool(truth) => Value::bool(*truth),
        Datum::Int(n) => Value::Integer(*n),
        Datum::Float(x) => Value::Float(*x),
        Datum::String(text) => Value::String(text_to_clips(text, false)?),
        Datum::Symbol(text) => Value::Symbol(text_to_clips(text, true)?),
        Datum::Bytes(_) | Datum::Blob(_) => return Err(BridgeError::Bytes),
        Datum::List(_) | Datum::Map(_) => return Err(BridgeError::Unbalanced),
    })
}

fn text_to_clips(text: &str, symbol: bool) -> Result<String, BridgeError> {
    if text.contains('\0') {
        return Err(BridgeError::Nul);
    }
    if symbol && is_bracket(text) {
        return Err(BridgeError::Bracket(text.to_owned()));
    }
    Ok(text.to_owned())
}

fn is_bracket(text: &str) -> bool {
    matches!(text, "[" | "]" | "{" | "}")
}

/// A value of CLIPS as the tuple space has it.
///
/// # Errors
/// [`BridgeError`] for addresses, unmatched brackets, and what is over the limits of a tuple.
pub fn from_clips(value: &Value) -> Result<Datum, BridgeError> {
    let Value::Multifield(fields) = value else {
        return scalar_from_clips(value);
    };
    let mut rest = fields.as_slice();
    let mut items = Vec::new();
    let mut last_nested = false;
    while !rest.is_empty() {
        let (item, nested) = take(&mut rest, 0)?;
        items.push(item);
        last_nested = nested;
    }
    // One bracketed value and nothing else is that value itself.
    let datum = match items.pop() {
        Some(only) if items.is_empty() && last_nested => only,
        Some(last) => {
            items.push(last);
            Datum::List(items)
        }
        None => Datum::List(items),
    };
    datum.check()?;
    Ok(datum)
}

/// As [`from_clips`], of a value that nobody else needs: its text is moved.
pub(crate) fn into_datum(value: Value) -> Result<Datum, BridgeError> {
    match value {
        Value::String(text) => Ok(Datum::String(text)),
        other => from_clips(&other),
    }
}

/// The next value of a sequence, and whether it was bracketed.
fn take(rest: &mut &[Value], depth: usize) -> Result<(Datum, bool), BridgeError> {
    let (first, tail) = rest.split_first().ok_or(BridgeError::Unbalanced)?;
    *rest = tail;
    if depth > MAX_DEPTH {
        return Err(BridgeError::Unbalanced);
    }
    let opens = |bracket: &str| matches!(first, Value::Symbol(text) if text == bracket);
    if opens("[") {
        let mut items = Vec::new();
        while !closed(rest, "]")? {
            items.push(take(rest, depth + 1)?.0);
        }
        Ok((Datum::List(items), true))
    } else if opens("{") {
        let mut entries = BTreeMap::new();
        while !closed(rest, "}")? {
            let (key, tail) = rest.split_first().ok_or(BridgeError::Unbalanced)?;
            *rest = tail;
            let key = match key {
                Value::Integer(n) => n.to_string(),
                other => other.text().ok_or(BridgeError::Unbalanced)?.to_owned(),
            };
            entries.insert(key, take(rest, depth + 1)?.0);
        }
        Ok((Datum::Map(entries), true))
    } else if opens("]") || opens("}") {
        Err(BridgeError::Unbalanced)
    } else {
        Ok((scalar_from_clips(first)?, false))
    }
}

/// Whether the sequence ends here; the bracket is taken then.
fn closed(rest: &mut &[Value], bracket: &str) -> Result<bool, BridgeError> {
    match rest.split_first() {
        None => Err(BridgeError::Unbalanced),
        Some((Value::Symbol(text), tail)) if text == bracket => {
            *rest = tail;
            Ok(true)
        }
        Some(_) => Ok(false),
    }
}

fn scalar_from_clips(value: &Value) -> Result<Datum, BridgeError> {
    Ok(match value {
        Value::Symbol(text) => match text.as_str() {
            "nil" => Datum::Null,
            "TRUE" => Datum::Bool(true),
            "FALSE" => Datum::Bool(false),
            other if is_bracket(other) => return Err(BridgeError::Unbalanced),
            other => Datum::Symbol(other.to_owned()),
        },
        Value::String(text) => Datum::String(text.clone()),
        Value::Integer(n) => Datum::Int(*n),
        Value::Float(x) => Datum::Float(*x),
        Value::InstanceName(text) => Datum::Symbol(text.clone()),
        Value::Void => Datum::Null,
        other => return Err(BridgeError::Address(other.type_name())),
    })
}

/// Values as the fields of a longer sequence: a multifield that is not one bracketed value is
/// bracketed as a list.
pub(crate) fn nest(fields: &mut Vec<Value>, value: Value) {
    match value {
        Value::Multifield(inner) if is_one_bracketed(&inner) => fields.extend(inner),
        Value::Multifield(inner) => {
            fields.push(Value::symbol("["));
            fields.extend(inner);
            fields.push(Value::symbol("]"));
        }
        Value::Void => fields.push(Value::symbol("nil")),
        scalar => fields.push(scalar),
    }
}

fn is_one_bracketed(fields: &[Value]) -> bool {
    let mut rest = fields;
    matches!(take(&mut rest, 0), Ok((_, true))) && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use cpe_tuple::json;
    use proptest::prelude::*;

    use super::*;
    use crate::{Engine, Limits, Signature};

    /// Any value that CLIPS can express, by the table above.
    fn expressible() -> impl Strategy<Value = Datum> {
        let symbol = "[a-z+*é(-][a-z0-9 ?(\"-]{0,8}".prop_filter("not a marker", |text| {
            !matches!(text.as_str(), "nil" | "[" | "]" | "{" | "}")
        });
        let leaf = prop_oneof![
            Just(Datum::Null),
            any::<bool>().prop_map(Datum::Bool),
            any::<i64>().prop_map(Datum::Int),
            any::<f64>().prop_map(|x| Datum::Float(if x == 0.0 { 0.0 } else { x })),
            "[^\0]{0,12}".prop_map(Datum::String),
            symbol.prop_map(Datum::Symbol),
        ];
        let key = "[^\0\\[\\]{}]{0,6}";
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Datum::List),
                prop::collection::btree_map(key, inner, 0..5).prop_map(Datum::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_clips_can_express_crosses_there_and_back(datum in expressible()) {
            let value = to_clips(&datum).unwrap();
            prop_assert_eq!(from_clips(&value).unwrap(), datum);
        }

        #[test]
        fn any_fields_are_read_without_a_panic(
            words in prop::collection::vec("[\\[\\]{}a]", 0..40),
        ) {
            let _ = from_clips(&Value::Multifield(words.into_iter().map(Value::Symbol).collect()));
        }
    }

    #[test]
    fn values_cross_through_an_engine_unchanged() {
        let mut engine = Engine::sandboxed(Limits::AGENT, 1);
        let same = |call: &mut crate::Call<'_>| Ok(call.arguments()[0].clone());
        engine
            .add_function("same", Signature::exactly(1), same)
            .unwrap();
        engine.load("(defglobal ?*in* = 0 ?*out* = 0)").unwrap();
        let engine = std::cell::RefCell::new(engine);
        proptest!(ProptestConfig::with_cases(64), |(datum in expressible())| {
            let mut engine = engine.borrow_mut();
            engine.set_global("in", &to_clips(&datum).unwrap()).unwrap();
            engine.eval("(bind ?*out* (same ?*in*))").unwrap();
            let back = from_clips(&engine.global("out").unwrap()).unwrap();
            prop_assert_eq!(back, datum);
        });
    }

    #[test]
    fn nested_values_have_the_documented_form() {
        let form = |text: &str| {
            let datum = json::parse_value(text).unwrap();
            let value = to_clips(&datum).unwrap();
            assert_eq!(from_clips(&value).unwrap(), datum);
            value.to_string()
        };
        assert_eq!(
            form(r#"{"p":0.5,"votes":[1,2]}"#),
            "({ p 0.5 votes [ 1 2 ] })"
        );
        assert_eq!(form("[]"), "()");
        assert_eq!(form("[[]]"), "([ [ ] ])");
        assert_eq!(form(r#"[{"a":null}]"#), "([ { a nil } ])");
        assert_eq!(form(r#"[true,[1],"x"]"#), "(TRUE [ 1 ] \"x\")");
    }

    #[test]
    fn what_has_no_form_is_refused() {
        assert_eq!(to_clips(&Datum::Bytes(vec![1])), Err(BridgeError::Bytes));
        assert_eq!(to_clips(&Datum::String("\0".into())), Err(BridgeError::Nul));
        let bracket = to_clips(&Datum::Symbol("[".into()));
        assert_eq!(bracket, Err(BridgeError::Bracket("[".into())));
        assert!(from_clips(&Value::Fact(1)).is_err());
        for text in ["[", "}", "{ a", "{ a }", "[ }", "a ]"] {
            let fields = text.split(' ').map(Value::symbol).collect();
            assert_eq!(
                from_clips(&Value::Multifield(fields)),
                Err(BridgeError::Unbalanced)
            );
        }
        let deep = vec![Value::symbol("["); 100_000];
        assert!(from_clips(&Value::Multifield(deep)).is_err());
    }
}
