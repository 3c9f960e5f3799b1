//! One value.

use std::{collections::BTreeMap, fmt};

use crate::{
    Blob, Kind, json,
    limits::{LimitError, MAX_DEPTH, MAX_MAP_ENTRIES},
};

/// One value of a tuple.
///
/// Values are totally ordered: first by [`Kind`], then within the kind; floats by
/// [`f64::total_cmp`]. `Int` and `Float` are different kinds and never equal.
///
/// A value that came from bytes or JSON is nested at most [`MAX_DEPTH`] deep. A program can build a
/// deeper one, but no tuple or template accepts it; comparing, hashing, cloning and dropping such a
/// value recurses as deep as it goes.
///
/// `Option<Value>` cannot be encoded faithfully: `Some(Value::Null)` reads back as `None`.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A floating point number; every bit pattern is kept, also of NaN.
    Float(f64),
    /// Unicode text.
    String(String),
    /// A symbol: text that names a thing, never equal to the string of the same letters.
    Symbol(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// An ordered list.
    List(Vec<Self>),
    /// Values by text key. At most [`MAX_MAP_ENTRIES`] in a tuple.
    Map(BTreeMap<String, Self>),
    /// A string or byte string that lies apart, and is of that kind; never equal to one that does
    /// not. See [`blob`](crate::blob).
    Blob(Box<Blob>),
}

impl Value {
    /// A symbol.
    pub fn symbol(name: impl Into<String>) -> Self {
        Self::Symbol(name.into())
    }

    /// What kind of value this is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Float(_) => Kind::Float,
            Self::String(_) => Kind::String,
            Self::Symbol(_) => Kind::Symbol,
            Self::Bytes(_) => Kind::Bytes,
            Self::List(_) => Kind::List,
            Self::Map(_) => Kind::Map,
            Self::Blob(blob) => blob.kind(),
        }
    }

    /// Whether this is `Null`.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The boolean, if it is one.
    pub const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(b) = self {
            Some(*b)
        } else {
            None
        }
    }

    /// The integer, if it is one.
    pub const fn as_int(&self) -> Option<i64> {
        if let Self::Int(i) = self {
            Some(*i)
        } else {
            None
        }
    }

    /// The float, if it is one; integers are not converted.
    pub const fn as_float(&self) -> Option<f64> {
        if let Self::Float(x) = self {
            Some(*x)
        } else {
            None
        }
    }

    /// The text of a string; a symbol is none.
    pub const fn as_str(&self) -> Option<&str> {
        if let Self::String(s) = self {
            Some(s.as_str())
        } else {
            None
        }
    }

    /// The text of a symbol; a string is none.
    pub const fn as_symbol(&self) -> Option<&str> {
        if let Self::Symbol(s) = self {
            Some(s.as_str())
        } else {
            None
        }
    }

    /// The bytes, if it is a byte string.
    pub const fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(b) = self {
            Some(b.as_slice())
        } else {
            None
        }
    }

    /// The elements, if it is a list.
    pub const fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self {
            Some(list.as_slice())
        } else {
            None
        }
    }

    /// The entries, if it is a map.
    pub const fn as_map(&self) -> Option<&BTreeMap<String, Self>> {
        if let Self::Map(map) = self {
            Some(map)
        } else {
            None
        }
    }

    /// The reference, if the value lies apart.
    pub const fn as_blob(&self) -> Option<&Blob> {
        if let Self::Blob(blob) = self {
            Some(blob)
        } else {
            None
        }
    }

    /// References to everything in it that lies apart, in order. Safe for values of any depth.
    pub fn blobs(&self) -> Vec<Blob> {
        let mut blobs = Vec::new();
        for_each_part(self, |value, _| blobs.extend(value.as_blob().copied()));
        blobs
    }

    /// About how many bytes the value takes when encoded; never less than it really takes.
    ///
    /// Safe for values of any depth.
    pub fn size(&self) -> usize {
        let mut total = 0;
        for_each_part(self, |value, _| total += value.own_size());
        total
    }

    /// How many lists and maps are nested in each other: 0 for a number, 1 for `[]`.
    ///
    /// Safe for values of any depth.
    pub fn depth(&self) -> usize {
        let mut deepest = 0;
        for_each_part(self, |value, depth| {
            let own = matches!(value, Self::List(_) | Self::Map(_));
            deepest = deepest.max(depth + usize::from(own));
        });
        deepest
    }

    /// Checks depth and map sizes, and returns the size as [`Value::size`] does.
    ///
    /// # Errors
    ///
    /// [`LimitError::Depth`] or [`LimitError::MapEntries`].
    pub fn check(&self) -> Result<usize, LimitError> {
        self.check_below(0).ok_or_else(|| self.broken_limit())
    }

    /// The size of what lies `depth` deep, or `None` when a limit is broken. The recursion ends at
    /// `MAX_DEPTH`.
    fn check_below(&self, depth: usize) -> Option<usize> {
        let mut total = self.own_size();
        match self {
            Self::List(list) => {
                if depth == MAX_DEPTH {
                    return None;
                }
                for value in list {
                    total += value.check_below(depth + 1)?;
                }
            }
            Self::Map(map) => {
                if depth == MAX_DEPTH || map.len() > MAX_MAP_ENTRIES {
                    return None;
                }
                for value in map.values() {
                    total += value.check_below(depth + 1)?;
                }
            }
            _ => {}
        }
        Some(total)
    }

    /// Which limit is broken, measured in full for the message.
    fn broken_limit(&self) -> LimitError {
        let depth = self.depth();
        if depth > MAX_DEPTH {
            return LimitError::Depth {
                depth,
                limit: MAX_DEPTH,
            };
        }
        let mut entries = 0;
        for_each_part(self, |value, _| {
            entries = entries.max(value.as_map().map_or(0, BTreeMap::len));
        });
        LimitError::MapEntries {
            entries,
            limit: MAX_MAP_ENTRIES,
        }
    }

    /// An upper bound of the encoded bytes, without nested values but with the keys of a map.
    fn own_size(&self) -> usize {
        /// The longest head of a text, byte string, list or map below 4 GiB.
        const HEAD: usize = 5;
        match self {
            Self::Null | Self::Bool(_) => 1,
            Self::Int(i) => int_size(*i),
            // 9 bytes as a double; a NaN with a payload takes 11.
            Self::Float(x) => 9 + 2 * usize::from(x.is_nan()),
            Self::String(s) => HEAD + s.len(),
            // Two bytes of tag before the text.
            Self::Symbol(s) => 2 + HEAD + s.len(),
            Self::Bytes(b) => HEAD + b.len(),
            Self::List(_) => HEAD,
            // A tag of two bytes, an array of four: name, flag, length and hash.
            Self::Blob(_) => 2 + 1 + 5 + 1 + 9 + 34,
            Self::Map(map) => HEAD + map.keys().map(|key| HEAD + key.len()).sum::<usize>(),
        }
    }
}

/// The encoded size of an integer.
const fn int_size(i: i64) -> usize {
    match if i < 0 { !i } else { i } {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Visits a value and everything in it with the depth at which it lies, without recursion.
fn for_each_part<'a>(root: &'a Value, mut visit: impl FnMut(&'a Value, usize)) {
    // No allocation unless something is nested.
    let mut rest = Vec::new();
    let mut next = Some((root, 0));
    while let Some((value, depth)) = next {
        visit(value, depth);
        match value {
            Value::List(list) => rest.extend(list.iter().map(|v| (v, depth + 1))),
            Value::Map(map) => rest.extend(map.values().map(|v| (v, depth + 1))),
            _ => {}
        }
        next = rest.pop();
    }
}

/// Drops values of any depth without recursion.
pub(crate) fn dismantle(mut rest: Vec<Value>) {
    while let Some(value) = rest.pop() {
        match value {
            Value::List(list) => rest.extend(list),
            Value::Map(map) => rest.extend(map.into_values()),
            _ => {}
        }
    }
}

/// The JSON form in one line, as [`json::value_to_json`] has it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&json::value_to_json(self), f)
    }
}

macro_rules! from {
    ($($source:ty => $variant:ident($convert:expr);)*) => {$(
        impl From<$source> for Value {
            fn from(value: $source) -> Self {
                Self::$variant($convert(value))
            }
        }
    )*};
}

from! {
    bool => Bool(std::convert::identity);
    i8 => Int(i64::from);
    i16 => Int(i64::from);
    i32 => Int(i64::from);
    i64 => Int(std::convert::identity);
    u8 => Int(i64::from);
    u16 => Int(i64::from);
    u32 => Int(i64::from);
    f32 => Float(f64::from);
    f64 => Float(std::convert::identity);
    &str => String(str::to_owned);
    String => String(std::convert::identity);
    Vec<u8> => Bytes(std::convert::identity);
    &[u8] => Bytes(<[u8]>::to_vec);
    Vec<Self> => List(std::convert::identity);
    BTreeMap<String, Self> => Map(std::convert::identity);
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Null
    }
}

impl FromIterator<Self> for Value {
    /// Collects into a list.
    fn from_iter<I: IntoIterator<Item = Self>>(values: I) -> Self {
        Self::List(values.into_iter().collect())
    }
}

impl FromIterator<(String, Self)> for Value {
    /// Collects into a map; of equal keys the last wins.
    fn from_iter<I: IntoIterator<Item = (String, Self)>>(entries: I) -> Self {
        Self::Map(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
