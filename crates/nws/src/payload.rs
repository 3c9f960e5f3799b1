//! Values of clients as values of the space, and back.
//!
//! A string is a string on both sides. What a client's language has serialised is bytes in the
//! space. The descriptor stands beside the tuple, in its mark, so that it comes back to the bit and
//! nobody else stumbles over it. A value that came without one is given to clients as text: itself
//! if it is a string, else its JSON.

use bytes::Bytes;
use cpe_tuple::{LimitError, Mark, Tuple, Value, json};

use crate::wire::{Cookie, Reply};

/// Bit of a descriptor: the payload is plain text, for every language.
const STRING: u64 = 1;

/// The tuple of a stored value.
pub(crate) fn tuple(name: Value, descriptor: u64, payload: Vec<u8>) -> Result<Tuple, LimitError> {
    let value = if descriptor & STRING == 0 {
        Value::Bytes(payload)
    } else {
        String::from_utf8(payload)
            .map_or_else(|error| Value::Bytes(error.into_bytes()), Value::String)
    };
    let mark = Mark {
        descriptor: Some(descriptor),
        ..Mark::default()
    };
    Ok(Tuple::new(vec![name, value])?.with_mark(mark))
}

/// What is to be answered. A value stays a tuple, which may be shared with the space, until there
/// is room for the bytes of it.
pub(crate) enum Answer {
    Reply(Reply),
    Value(Tuple),
}

impl Answer {
    /// Bytes that the payload will have; of a value that is shown as JSON, about so many.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Reply(Reply::Value { payload, .. }) => payload.len(),
            Self::Reply(_) => 0,
            Self::Value(tuple) => tuple.size(),
        }
    }

    pub(crate) fn into_reply(self) -> Reply {
        match self {
            Self::Reply(reply) => reply,
            Self::Value(tuple) => reply(tuple),
        }
    }
}

/// The reply that hands a tuple to a client.
pub(crate) fn reply(tuple: Tuple) -> Reply {
    let mark = tuple.mark().copied();
    let descriptor = mark.and_then(|mark| mark.descriptor);
    let cookie = mark.map(|mark| Cookie {
        variable: mark.variable,
        index: mark.ordinal,
    });
    let value = Vec::from(tuple).into_iter().nth(1).unwrap_or_default();
    let payload = match (value, descriptor) {
        (Value::String(text), _) => text.into_bytes(),
        (Value::Bytes(bytes), Some(_)) => bytes,
        (other, _) => json::value_to_json(&other).to_string().into_bytes(),
    };
    Reply::Value {
        descriptor: descriptor.unwrap_or(STRING),
        cookie,
        payload: Bytes::from(payload),
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
            let stored = tuple(Value::from("v"), descriptor, payload.clone()).unwrap();
            prop_assert_eq!(value(reply(stored)), (descriptor, payload));
        }
    }

    #[test]
    fn a_string_is_a_string_for_everybody() {
        let stored = tuple(Value::from("v"), 0x0300_0001, b"hello".to_vec()).unwrap();
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
            (Value::from(17), "17"),
            (Value::List(vec![Value::from(1), Value::Null]), "[1,null]"),
        ] {
            let got = value(reply(Tuple::named("v", stored).unwrap()));
            assert_eq!(got, (1, wanted.as_bytes().to_vec()));
        }
    }
}
