//! How values are written by serde: as natural CBOR in binary formats, as the JSON forms of
//! [`json`] in formats for people.
//!
//! | value | CBOR |
//! |---|---|
//! | null, bool, text, bytes, list | as such |
//! | int | integer, major type 0 or 1 |
//! | float | float, the shortest form that keeps every bit |
//! | NaN other than the plain one | tag 82 (array of doubles, RFC 8746) around its 8 bytes |
//! | symbol | tag 39 (identifier) around text |
//! | map | map with text keys |
//! | reference to a body | tag 27 (object) around `["blob", is text, length, hash]` |

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser::{Error as _, SerializeMap, SerializeSeq},
};

use crate::{
    Blob, Value, codec, json,
    limits::{LimitError, MAX_DEPTH, MAX_FIELDS, MAX_MAP_ENTRIES},
};

/// The tag of a symbol: "identifier" in the registry of CBOR tags.
const SYMBOL_TAG: u64 = 39;
/// The tag of a NaN's bits: an array of big-endian doubles, here of one.
const NAN_TAG: u64 = 82;
/// The tag of a reference to a body: "serialised object" in the registry of CBOR tags, an array of
/// a name and what belongs to it.
const BLOB_TAG: u64 = 27;
/// The NaN that CBOR floats carry through any width.
pub(crate) const PLAIN_NAN: u64 = 0x7ff8_0000_0000_0000;
/// How many elements a list reserves on the word of its sender.
const RESERVE_MAX: usize = 1024;

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return json::value_to_json(self).serialize(serializer);
        }
        Nested {
            value: self,
            depth: 0,
        }
        .serialize(serializer)
    }
}

/// A value `depth` lists and maps down.
struct Nested<'a> {
    value: &'a Value,
    depth: usize,
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inside = |value| Nested {
            value,
            depth: self.depth + 1,
        };
        if self.depth == MAX_DEPTH && matches!(self.value, Value::List(_) | Value::Map(_)) {
            return Err(S::Error::custom(too_deep()));
        }
        match self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Int(i) => serializer.serialize_i64(*i),
            Value::Float(x) if x.is_nan() && x.to_bits() != PLAIN_NAN => {
                codec::serialize_tagged(NAN_TAG, &Bits(x.to_bits()), serializer)
            }
            Value::Float(x) => serializer.serialize_f64(*x),
            Value::String(s) => serializer.serialize_str(s),
            Value::Symbol(s) => codec::serialize_tagged(SYMBOL_TAG, s.as_str(), serializer),
            Value::Bytes(b) => serializer.serialize_bytes(b),
            Value::Blob(blob) => codec::serialize_tagged(BLOB_TAG, &**blob, serializer),
            Value::List(list) => {
                let mut seq = serializer.serialize_seq(Some(list.len()))?;
                for value in list {
                    seq.serialize_element(&inside(value))?;
                }
                seq.end()
            }
            Value::Map(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                for (key, value) in map {
                    out.serialize_entry(key, &inside(value))?;
                }
                out.end()
            }
        }
    }
}

const fn too_deep() -> LimitError {
    LimitError::Depth {
        depth: MAX_DEPTH + 1,
        limit: MAX_DEPTH,
    }
}

/// The bits of a double, as a byte string.
struct Bits(u64);

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_be_bytes())
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BitsVisitor;

        impl Visitor<'_> for BitsVisitor {
            type Value = Bits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the 8 bytes of a double")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bits, E> {
                let bytes = bytes
                    .try_into()
                    .map_err(|_| E::invalid_length(bytes.len(), &self))?;
                Ok(Bits(u64::from_be_bytes(bytes)))
            }
        }

        deserializer.deserialize_bytes(BitsVisitor)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let form = serde_json::Value::deserialize(deserializer)?;
            return json::value_from_json(&form).map_err(de::Error::custom);
        }
        ValueAt { depth: 0 }.deserialize(deserializer)
    }
}

/// Reads a value `depth` lists and maps down.
#[derive(Clone, Copy)]
struct ValueAt {
    depth: usize,
}

impl ValueAt {
    fn inside<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(too_deep()));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for ValueAt {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueAt {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, i: i64) -> Result<Value, E> {
        Ok(Value::Int(i))
    }

    fn visit_u64<E: de::Error>(self, i: u64) -> Result<Value, E> {
        self.visit_i128(i128::from(i))
    }

    fn visit_i128<E: de::Error>(self, i: i128) -> Result<Value, E> {
        i64::try_from(i)
            .map(Value::Int)
            .map_err(|_| E::custom(format_args!("integer {i} does not fit in 64 signed bits")))
    }

    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(Value::Float(x))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(RESERVE_MAX));
        while let Some(value) = seq.next_element_seed(inside)? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.len() == MAX_MAP_ENTRIES {
                let entries = MAX_MAP_ENTRIES + 1;
                let error = LimitError::MapEntries {
                    entries,
                    limit: MAX_MAP_ENTRIES,
                };
                return Err(de::Error::custom(error));
            }
            let value = entries.next_value_seed(inside)?;
            // One value has one encoding less to argue about: which of two would count?
            if map.contains_key(&key) {
                return Err(de::Error::custom("a map has the same key twice"));
            }
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }

    /// The codec calls this for a tagged item.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        // The tag must be read before anything else is: it stands in a thread's variable.
        match codec::current_tag() {
            Some(SYMBOL_TAG) => String::deserialize(inner).map(Value::Symbol),
            Some(NAN_TAG) => {
                let Bits(bits) = Bits::deserialize(inner)?;
                let x = f64::from_bits(bits);
                if !x.is_nan() || bits == PLAIN_NAN {
                    return Err(de::Error::custom("tag 82 is for NaN with a payload only"));
                }
                Ok(Value::Float(x))
            }
            Some(BLOB_TAG) => Blob::deserialize(inner).map(Value::from),
            Some(tag) => Err(de::Error::custom(format_args!(
                "tag {tag} is not one of a value's"
            ))),
            // A buffering type of serde (`flatten`, `untagged`, an inner `tag`) ate the tag.
            None => Err(de::Error::custom(
                "a value cannot be read through a buffering serde type",
            )),
        }
    }
}

/// Reads a list of at most [`MAX_FIELDS`] fields, and stops at the first one too many.
pub(crate) fn bounded_fields<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Fields<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of fields")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            fields_of(seq)
        }
    }

    deserializer.deserialize_seq(Fields(PhantomData))
}

/// The elements of a sequence, refused as soon as there are more than [`MAX_FIELDS`].
pub(crate) fn fields_of<'de, T, A>(mut seq: A) -> Result<Vec<T>, A::Error>
where
    T: Deserialize<'de>,
    A: SeqAccess<'de>,
{
    let mut fields = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(MAX_FIELDS));
    while let Some(field) = seq.next_element()? {
        if fields.len() == MAX_FIELDS {
            let error = LimitError::Fields {
                fields: MAX_FIELDS + 1,
                limit: MAX_FIELDS,
            };
            return Err(de::Error::custom(error));
        }
        fields.push(field);
    }
    Ok(fields)
}
