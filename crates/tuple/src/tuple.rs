//! A tuple: what the space stores.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    Blob, Mark, Value, json,
    limits::{LimitError, MAX_FIELDS, MAX_TUPLE_BYTES, check_name},
    mark,
    value::dismantle,
};

/// An ordered list of at most [`MAX_FIELDS`] values that takes at most [`MAX_TUPLE_BYTES`].
///
/// It cannot be changed, and a clone shares the values: cloning costs one counter. It may carry a
/// [`Mark`], which no template and no JSON shows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    fields: Arc<[Value]>,
    // Invariant: the sum of the fields' sizes and the head; equal fields have equal sizes, so the
    // derived comparisons hold.
    // Narrow, for a replica may hold millions: at most [`MAX_TUPLE_BYTES`] and a mark.
    size: u32,
    /// Whether any value in it lies apart.
    blobs: bool,
    // Boxed: few tuples have one, and all would pay for its room.
    mark: Option<Box<Mark>>,
}

impl Tuple {
    /// A tuple of these values.
    ///
    /// # Errors
    ///
    /// [`LimitError`] when there are more than [`MAX_FIELDS`], when they take more than
    /// [`MAX_TUPLE_BYTES`] in all, or when a value is too deep or has too large a map.
    #[expect(clippy::cast_possible_truncation, reason = "MAX_TUPLE_BYTES fits")]
    pub fn new(fields: Vec<Value>) -> Result<Self, LimitError> {
        match check_fields(fields.len(), &fields) {
            Ok(size) => Ok(Self {
                blobs: fields.iter().any(has_blobs),
                fields: fields.into(),
                size: size as u32,
                mark: None,
            }),
            Err(error) => {
                // The values may be deep enough that an ordinary drop overflows the stack.
                dismantle(fields);
                Err(error)
            }
        }
    }

    /// The tuple `[name, value]`: one value of a NetWorkSpaces variable.
    ///
    /// # Errors
    ///
    /// [`LimitError`] as [`Tuple::new`], and when the name is longer than
    /// [`MAX_NAME_BYTES`](crate::limits::MAX_NAME_BYTES).
    pub fn named(name: impl Into<String>, value: impl Into<Value>) -> Result<Self, LimitError> {
        let name = name.into();
        check_name(&name)?;
        Self::new(vec![Value::String(name), value.into()])
    }

    /// The values.
    pub fn fields(&self) -> &[Value] {
        &self.fields
    }

    /// About how many bytes the tuple takes when encoded, never less than it really takes. Free:
    /// measured when the tuple was made.
    pub const fn size(&self) -> usize {
        self.size as usize
    }

    /// Whether any value in it lies apart. Free, as [`size`](Self::size) is.
    pub const fn has_blobs(&self) -> bool {
        self.blobs
    }

    /// References to everything in it that lies apart, in order.
    pub fn blobs(&self) -> Vec<Blob> {
        if !self.blobs {
            return Vec::new();
        }
        self.iter().flat_map(Value::blobs).collect()
    }

    /// What is noted beside the fields, if anything.
    #[must_use]
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_deref()
    }

    /// The same fields with this noted beside them.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a mark is small")]
    pub fn with_mark(self, mark: Mark) -> Self {
        Self {
            size: if self.mark.is_some() {
                self.size
            } else {
                self.size + Mark::SIZE as u32
            },
            mark: Some(Box::new(mark)),
            ..self
        }
    }
}

/// Whether a value of a bounded depth has a part that lies apart.
fn has_blobs(value: &Value) -> bool {
    match value {
        Value::Blob(_) => true,
        Value::List(list) => list.iter().any(has_blobs),
        Value::Map(map) => map.values().any(has_blobs),
        _ => false,
    }
}

/// Checks the values of a tuple or template of `count` fields and returns their size with the
/// head of the list.
pub(crate) fn check_fields<'a>(
    count: usize,
    values: impl IntoIterator<Item = &'a Value>,
) -> Result<usize, LimitError> {
    if count > MAX_FIELDS {
        return Err(LimitError::Fields {
            fields: count,
            limit: MAX_FIELDS,
        });
    }
    // The head of a list of at most 64 takes two bytes.
    let mut bytes = 2;
    for value in values {
        bytes += value.check()?;
    }
    if bytes > MAX_TUPLE_BYTES {
        return Err(LimitError::Bytes {
            bytes,
            limit: MAX_TUPLE_BYTES,
        });
    }
    Ok(bytes)
}

impl Deref for Tuple {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.fields
    }
}

impl AsRef<[Value]> for Tuple {
    fn as_ref(&self) -> &[Value] {
        &self.fields
    }
}

impl TryFrom<Vec<Value>> for Tuple {
    type Error = LimitError;

    fn try_from(fields: Vec<Value>) -> Result<Self, LimitError> {
        Self::new(fields)
    }
}

impl From<Tuple> for Vec<Value> {
    /// Moves the values out when nobody else holds the tuple, and clones them otherwise.
    fn from(mut tuple: Tuple) -> Self {
        match Arc::get_mut(&mut tuple.fields) {
            Some(fields) => fields.iter_mut().map(std::mem::take).collect(),
            None => tuple.fields.to_vec(),
        }
    }
}

impl<'a> IntoIterator for &'a Tuple {
    type Item = &'a Value;
    type IntoIter = std::slice::Iter<'a, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.iter()
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields.iter()).finish()
    }
}

/// The JSON form in one line.
impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&json::tuple_to_json(self), f)
    }
}

impl Serialize for Tuple {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        mark::write(&self.fields, self.mark(), serializer)
    }
}

impl<'de> Deserialize<'de> for Tuple {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (fields, mark) = mark::read(deserializer)?;
        let tuple = Self::new(fields).map_err(D::Error::custom)?;
        Ok(match mark {
            Some(mark) => tuple.with_mark(mark),
            None => tuple,
        })
    }
}

#[cfg(test)]
mod tests;
