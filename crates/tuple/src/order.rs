//! Equality, order and hash of values: total, and equal exactly when every bit is.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use crate::Value;

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            // Two floats are equal by `total_cmp` exactly when their bits are.
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::String(a), Self::String(b)) | (Self::Symbol(a), Self::Symbol(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Blob(a), Self::Blob(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::String(a), Self::String(b)) | (Self::Symbol(a), Self::Symbol(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => a.cmp(b),
            (Self::Map(a), Self::Map(b)) => a.cmp(b),
            (Self::Blob(a), Self::Blob(b)) => (a.kind(), a).cmp(&(b.kind(), b)),
            // Of one kind, what is there comes before what lies apart.
            _ => {
                let place = |value: &Self| (value.kind(), value.as_blob().is_some());
                place(self).cmp(&place(other))
            }
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind().hash(state);
        match self {
            Self::Null => {}
            Self::Bool(b) => b.hash(state),
            Self::Int(i) => i.hash(state),
            Self::Float(x) => x.to_bits().hash(state),
            Self::String(s) | Self::Symbol(s) => s.hash(state),
            Self::Bytes(b) => b.hash(state),
            Self::List(list) => list.hash(state),
            Self::Map(map) => map.hash(state),
            Self::Blob(blob) => blob.hash(state),
        }
    }
}
