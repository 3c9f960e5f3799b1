//! One place of a template.

use std::{cmp::Ordering, fmt, ops::Bound};

use serde::{Deserialize, Serialize};

use crate::{Kind, LimitError, Value, json};

/// What one place of a [`Template`](crate::Template) accepts.
///
/// New variants go to the end: the position is part of the encoding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Field {
    /// This value and no other.
    Actual(Value),
    /// Any value of this kind.
    Typed(Kind),
    /// Any value.
    Any,
    /// Values of the bounds' kind that lie between them; none that lies apart does. A template
    /// refuses bounds of two kinds, no bounds, and a range that can hold nothing.
    Range {
        /// The lower bound.
        low: Bound<Value>,
        /// The upper bound.
        high: Bound<Value>,
    },
    /// A string, symbol or byte string that starts with this. None that lies apart does.
    Prefix(String),
}

impl Field {
    /// Whether this place accepts the value.
    pub fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Actual(own) => own == value,
            Self::Typed(kind) => *kind == value.kind(),
            Self::Any => true,
            Self::Range { low, high } => in_range(low, high, value),
            Self::Prefix(prefix) => match value {
                Value::String(text) | Value::Symbol(text) => text.starts_with(prefix.as_str()),
                Value::Bytes(bytes) => bytes.starts_with(prefix.as_bytes()),
                _ => false,
            },
        }
    }

    /// The values inside, which count towards the template's size.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Value> {
        let (first, second) = match self {
            Self::Actual(value) => (Some(value), None),
            Self::Range { low, high } => (bound_value(low), bound_value(high)),
            Self::Typed(_) | Self::Any | Self::Prefix(_) => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// Checks that a range can hold something.
    pub(crate) fn check_range(&self) -> Result<(), LimitError> {
        let Self::Range { low, high } = self else {
            return Ok(());
        };
        match (bound_value(low), bound_value(high)) {
            (None, None) => Err(LimitError::RangeUnbounded),
            (Some(a), Some(b)) if a.kind() != b.kind() => Err(LimitError::RangeKinds {
                low: a.kind(),
                high: b.kind(),
            }),
            (Some(a), Some(b)) => {
                let closed = matches!((low, high), (Bound::Included(_), Bound::Included(_)));
                match a.cmp(b) {
                    Ordering::Less => Ok(()),
                    Ordering::Equal if closed => Ok(()),
                    _ => Err(LimitError::RangeEmpty { kind: a.kind() }),
                }
            }
            _ => Ok(()),
        }
    }
}

const fn bound_value(bound: &Bound<Value>) -> Option<&Value> {
    match bound {
        Bound::Included(value) | Bound::Excluded(value) => Some(value),
        Bound::Unbounded => None,
    }
}

fn in_range(low: &Bound<Value>, high: &Bound<Value>, value: &Value) -> bool {
    // Nothing is known of the order of bodies.
    if value.as_blob().is_some() {
        return false;
    }
    let same_kind = |bound: &Value| bound.kind() == value.kind();
    let above = match low {
        Bound::Included(bound) => same_kind(bound) && value >= bound,
        Bound::Excluded(bound) => same_kind(bound) && value > bound,
        Bound::Unbounded => true,
    };
    above
        && match high {
            Bound::Included(bound) => same_kind(bound) && value <= bound,
            Bound::Excluded(bound) => same_kind(bound) && value < bound,
            // Without any bound there is no kind to match; templates refuse such a range.
            Bound::Unbounded => !matches!(low, Bound::Unbounded),
        }
}

impl From<Value> for Field {
    fn from(value: Value) -> Self {
        Self::Actual(value)
    }
}

/// The JSON form in one line.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&json::field_to_json(self), f)
    }
}
