//! What the space notes beside a tuple's fields, and how it is written down.
//!
//! In CBOR a tuple without a mark is an array of its fields, one with a mark the map
//! `{0: fields, 1: mark}`. In formats for people the mark is left out.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use crate::{
    Value,
    wire::{bounded_fields, fields_of},
};

/// A note beside the fields of a tuple. No template sees it, and no JSON shows it: two tuples that
/// differ in it alone look the same to everybody who does not ask for it.
///
/// A client's protocol keeps here what it must give back to the bit and what others need not see.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Mark {
    /// What the writer says of its own value: the descriptor of a `NetWorkSpaces` client. None for
    /// a tuple that came without one.
    pub descriptor: Option<u64>,
    /// The life of the variable that holds the tuple: a deleted variable and the next one of its
    /// name have different ones. 0 until the home has admitted it.
    #[serde(default)]
    pub variable: u64,
    /// Which of that variable's tuples it is, counted from 0 over the variable's life.
    #[serde(default)]
    pub ordinal: u64,
}

impl Mark {
    /// Bytes. At most this much is added to a tuple's encoding: three integers of 9 bytes, their
    /// keys, and the heads of two maps.
    pub(crate) const SIZE: usize = 34;
}

#[derive(Serialize)]
struct Marked<'a> {
    fields: Fields<'a>,
    mark: &'a Mark,
}

struct Fields<'a>(&'a [Value]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0)
    }
}

pub(crate) fn write<S: Serializer>(
    fields: &[Value],
    mark: Option<&Mark>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let fields = Fields(fields);
    match mark {
        Some(mark) if !serializer.is_human_readable() => {
            Marked { fields, mark }.serialize(serializer)
        }
        _ => fields.serialize(serializer),
    }
}

pub(crate) fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(Vec<Value>, Option<Mark>), D::Error> {
    struct TupleVisitor;

    impl<'de> Visitor<'de> for TupleVisitor {
        type Value = (Vec<Value>, Option<Mark>);

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of fields")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Ok((fields_of(seq)?, None))
        }

        fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
            #[derive(Deserialize)]
            struct Read {
                #[serde(deserialize_with = "bounded_fields")]
                fields: Vec<Value>,
                mark: Mark,
            }

            let read = Read::deserialize(de::value::MapAccessDeserializer::new(entries))?;
            Ok((read.fields, Some(read.mark)))
        }
    }

    if deserializer.is_human_readable() {
        return Ok((bounded_fields(deserializer)?, None));
    }
    deserializer.deserialize_any(TupleVisitor)
}
