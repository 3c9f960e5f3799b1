//! A template: which tuples are asked for.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    Field, Tuple, Value, json,
    limits::{LimitError, MAX_TUPLE_BYTES, check_name},
    tuple::check_fields,
    value::dismantle,
    wire::bounded_fields,
};

/// A pattern that matches tuples of as many values as it has fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    fields: Vec<Field>,
}

impl Template {
    /// A template of these fields.
    ///
    /// # Errors
    ///
    /// [`LimitError`] when there are too many fields or bytes (the bounds of tuples hold), when a
    /// value is too deep, or when a range has no bounds, bounds of two kinds, or can hold nothing.
    pub fn new(fields: Vec<Field>) -> Result<Self, LimitError> {
        match check(&fields) {
            Ok(()) => Ok(Self { fields }),
            Err(error) => {
                fields.into_iter().for_each(dismantle_field);
                Err(error)
            }
        }
    }

    /// The template `[name, anything]`: the values of a NetWorkSpaces variable.
    ///
    /// # Errors
    ///
    /// [`LimitError::Name`] when the name is longer than
    /// [`MAX_NAME_BYTES`](crate::limits::MAX_NAME_BYTES).
    pub fn named(name: impl Into<String>) -> Result<Self, LimitError> {
        let name = name.into();
        check_name(&name)?;
        Ok(Self {
            fields: vec![Field::Actual(Value::String(name)), Field::Any],
        })
    }

    /// Whether the tuple has as many values as this has fields, and each field accepts its value.
    pub fn matches(&self, tuple: &Tuple) -> bool {
        self.fields.len() == tuple.len()
            && self
                .fields
                .iter()
                .zip(tuple.iter())
                .all(|(field, value)| field.matches(value))
    }

    /// The first field's value when that is a given one: what an index can look up.
    pub fn key(&self) -> Option<&Value> {
        match self.fields.first() {
            Some(Field::Actual(value)) => Some(value),
            _ => None,
        }
    }

    /// The fields.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// How many values a matching tuple has.
    pub const fn arity(&self) -> usize {
        self.fields.len()
    }
}

fn check(fields: &[Field]) -> Result<(), LimitError> {
    let mut bytes = check_fields(fields.len(), fields.iter().flat_map(Field::values))?;
    for field in fields {
        field.check_range()?;
        // Around the values: variant and bounds take at most 12 bytes.
        bytes += 12;
        if let Field::Prefix(prefix) = field {
            bytes += prefix.len();
        }
    }
    if bytes > MAX_TUPLE_BYTES {
        return Err(LimitError::Bytes {
            bytes,
            limit: MAX_TUPLE_BYTES,
        });
    }
    Ok(())
}

/// Drops a field whose values may be too deep for an ordinary drop.
fn dismantle_field(field: Field) {
    use std::ops::Bound;

    let of_bound = |bound| match bound {
        Bound::Included(value) | Bound::Excluded(value) => dismantle(vec![value]),
        Bound::Unbounded => {}
    };
    match field {
        Field::Actual(value) => dismantle(vec![value]),
        Field::Range { low, high } => {
            of_bound(low);
            of_bound(high);
        }
        Field::Typed(_) | Field::Any | Field::Prefix(_) => {}
    }
}

impl TryFrom<Vec<Field>> for Template {
    type Error = LimitError;

    fn try_from(fields: Vec<Field>) -> Result<Self, LimitError> {
        Self::new(fields)
    }
}

impl From<&Tuple> for Template {
    /// The template that matches this tuple and its equals.
    fn from(tuple: &Tuple) -> Self {
        Self {
            fields: tuple.iter().cloned().map(Field::Actual).collect(),
        }
    }
}

/// The JSON form in one line.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&json::template_to_json(self), f)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return json::template_to_json(self).serialize(serializer);
        }
        self.fields.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let form = serde_json::Value::deserialize(deserializer)?;
            return json::template_from_json(&form).map_err(D::Error::custom);
        }
        Self::new(bounded_fields(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
