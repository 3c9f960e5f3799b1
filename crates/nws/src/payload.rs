//! Values of clients as values of the space, and back.
//!
//! A string is a string on both sides. What a client's language has serialised is bytes in the
//! space. The descriptor stands beside the tuple, in its mark, so that it comes back to the bit and
//! nobody else stumbles over it. A value that came without one is given to clients as text: itself
//! if it is a string, else its JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cpe_tuple::{Blob, LimitError, Mark, Tuple, Value, json};

use crate::Payload;
use crate::spaces::Spaces;
use crate::wire::{Cookie, Head, Reply};

/// Bit of a descriptor: the payload is plain text, for every language.
pub(crate) const STRING: u64 = 1;

/// Around the base64 of bytes that came without a descriptor, as JSON shows them.
const JSON_BYTES: (&[u8], &[u8]) = (br#"{"bytes":""#, br#""}"#);

/// The tuple of a stored value.
pub(crate) fn tuple(name: Value, descriptor: u64, payload: Payload) -> Result<Tuple, LimitError> {
    let value = match payload {
        Payload::Apart(blob) => Value::from(blob),
        Payload::Whole(bytes) if descriptor & STRING == 0 => Value::Bytes(bytes),
        Payload::Whole(bytes) => String::from_utf8(bytes)
            .map_or_else(|error| Value::Bytes(error.into_bytes()), Value::String),
    };
    let mark = Mark {
        descriptor: Some(descriptor),
        ..Mark::default()
    };
    Ok(Tuple::new(vec![name, value])?.with_mark(mark))
}

/// What is to be answered. A value stays a tuple, which may be shared with the space, until there
/// is room for the bytes of it.
pub(crate) enum Answer<S: Spaces> {
    Reply(Reply),
    Value(Handed<S>),
}

/// A value for a client. One that was taken goes back when this is dropped unconfirmed.
pub(crate) struct Handed<S: Spaces> {
    pub(crate) workspace: String,
    pub(crate) tuple: Tuple,
    pub(crate) receipt: Option<S::Receipt>,
}

/// How a value goes to a client.
pub(crate) enum Form {
    /// At once.
    Whole(Reply),
    /// Part by part, after this.
    Parts(Head, Coder),
    /// Not at all: something inside of it lies apart, and would be lost.
    Nested,
}

fn descriptor_of(tuple: &Tuple) -> (Option<u64>, Option<Cookie>) {
    let mark = tuple.mark().copied();
    let cookie = mark.map(|mark| Cookie {
        variable: mark.variable,
        index: mark.ordinal,
    });
    (mark.and_then(|mark| mark.descriptor), cookie)
}

/// How a tuple is handed to a client.
pub(crate) fn form(tuple: &Tuple) -> Form {
    if !tuple.has_blobs() {
        return Form::Whole(reply(tuple.clone()));
    }
    let Some(Value::Blob(blob)) = tuple.fields().get(1) else {
        return Form::Nested;
    };
    let (descriptor, cookie) = descriptor_of(tuple);
    let coder = if blob.is_text() || descriptor.is_some() {
        Coder::Plain
    } else {
        Coder::Json(Vec::new())
    };
    let head = Head {
        descriptor: descriptor.unwrap_or(STRING),
        cookie,
        length: coder.length(blob),
    };
    Form::Parts(head, coder)
}

/// The reply that hands a tuple to a client.
pub(crate) fn reply(tuple: Tuple) -> Reply {
    let (descriptor, cookie) = descriptor_of(&tuple);
    let value = Vec::from(tuple).into_iter().nth(1).unwrap_or_default();
    let payload = match (value, descriptor) {
        // A symbol, as a rule stores it, is text too.
        (Value::String(text) | Value::Symbol(text), _) => text.into_bytes(),
        (Value::Bytes(bytes), Some(_)) => bytes,
        (other, _) => json::value_to_json(&other).to_string().into_bytes(),
    };
    Reply::Value {
        descriptor: descriptor.unwrap_or(STRING),
        cookie,
        payload: Bytes::from(payload),
    }
}

/// What becomes of the parts of a large value.
#[derive(Debug)]
pub(crate) enum Coder {
    /// They are sent as they are.
    Plain,
    /// Bytes that came without a descriptor become JSON. Holds what is no whole group of base64.
    Json(Vec<u8>),
}

/// Bytes that become four characters of base64.
const GROUP: usize = 3;

impl Coder {
    fn length(&self, blob: &Blob) -> u64 {
        match self {
            Self::Plain => blob.len(),
            Self::Json(_) => {
                let (before, after) = JSON_BYTES;
                (before.len() + after.len()) as u64 + blob.len().div_ceil(GROUP as u64) * 4
            }
        }
    }

    /// What goes before the first part.
    pub(crate) fn begin(&self) -> Bytes {
        match self {
            Self::Plain => Bytes::new(),
            Self::Json(_) => Bytes::from_static(JSON_BYTES.0),
        }
    }

    pub(crate) fn part(&mut self, part: Bytes) -> Bytes {
        match self {
            Self::Plain => part,
            Self::Json(rest) => {
                rest.extend_from_slice(&part);
                let later = rest.split_off(rest.len() / GROUP * GROUP);
                let now = std::mem::replace(rest, later);
                STANDARD.encode(now).into()
            }
        }
    }

    /// What comes after the last part.
    pub(crate) fn end(self) -> Bytes {
        match self {
            Self::Plain => Bytes::new(),
            Self::Json(rest) => [STANDARD.encode(rest).as_bytes(), JSON_BYTES.1]
                .concat()
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(reply: Reply) -> (u64, Vec<u8>) {
        match reply {
            Reply::Value {
                descriptor,
                payload,
                ..
            } => (descriptor, payload.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn descriptor_and_payload_come_back_to_the_bit(
            descriptor: u64,
            payload in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "\\PC{0,50}".prop_map(String::into_bytes),
            ],
        ) {
            let whole = Payload::Whole(payload.clone());
            let stored = tuple(Value::from("v"), descriptor, whole).unwrap();
            prop_assert_eq!(value(reply(stored)), (descriptor, payload));
        }
    }

    #[test]
    fn a_string_is_a_string_for_everybody() {
        let stored = tuple(
            Value::from("v"),
            0x0300_0001,
            Payload::Whole(b"hello".to_vec()),
        )
        .unwrap();
        assert_eq!(
            stored,
            Tuple::named("v", "hello")
                .unwrap()
                .with_mark(*stored.mark().unwrap())
        );
    }

    #[test]
    fn what_others_stored_is_text() {
        for (stored, wanted) in [
            (Value::from("tea"), "tea"),
            (Value::Symbol("red".to_owned()), "red"),
            (Value::from(17), "17"),
            (Value::List(vec![Value::from(1), Value::Null]), "[1,null]"),
        ] {
            let got = value(reply(Tuple::named("v", stored).unwrap()));
            assert_eq!(got, (1, wanted.as_bytes().to_vec()));
        }
    }

    proptest! {
        #[test]
        fn large_bytes_of_others_are_the_json_they_would_be_if_they_were_small(
            bytes in proptest::collection::vec(any::<u8>(), 1..100),
            size in 1_usize..10,
        ) {
            let small = value(reply(Tuple::named("v", Value::Bytes(bytes.clone())).unwrap()));
            let blob = Blob::of(false, &bytes).unwrap();
            let large = Tuple::named("v", Value::from(blob)).unwrap();
            let Form::Parts(head, mut coder) = form(&large) else {
                panic!("not in parts");
            };
            let mut payload = coder.begin().to_vec();
            for part in bytes.chunks(size) {
                payload.extend(coder.part(Bytes::copy_from_slice(part)));
            }
            payload.extend(coder.end());
            prop_assert_eq!(head.length, payload.len() as u64);
            prop_assert_eq!((head.descriptor, payload), small);
        }
    }
}
