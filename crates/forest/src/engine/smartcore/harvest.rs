//! A serializer that takes the trees out of the engine's fitted forest as it is fed to it.

use serde::Serialize;
use serde::ser::{self, Impossible};

use super::GrownNode;

/// Structs of the engine and how many fields each has.
const LAYOUT: [(&str, usize); 5] = [
    ("RandomForestRegressor", 1),
    ("BaseForest", 3),
    ("BaseTree", 8),
    ("BaseTreeParameters", 5),
    ("Node", 6),
];

/// A serializer that picks trees out of what it is fed.
#[derive(Default)]
pub(super) struct Harvest {
    pub(super) trees: Vec<Vec<GrownNode>>,
    /// Tree after tree, row after row.
    pub(super) in_bag: Vec<bool>,
    node: GrownNode,
    left: Option<usize>,
    right: Option<usize>,
    seen: usize,
    /// The structs being read, and the field of the innermost.
    within: Vec<&'static str>,
    field: &'static str,
}

/// Something that an engine of this version does not have.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unknown(String);

impl ser::Error for Unknown {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl Harvest {
    fn unknown<T>(&self, what: &str) -> Result<T, Unknown> {
        let place = self.within.last().copied().unwrap_or("the model");
        Err(Unknown(format!(
            "{what} in field \"{}\" of {place}",
            self.field
        )))
    }

    fn number(&mut self, number: usize) -> Result<(), Unknown> {
        match (self.within.last().copied(), self.field) {
            (Some("Node"), "split_feature") => self.node.feature = number,
            (Some("Node"), "true_child") => self.left = Some(number),
            (Some("Node"), "false_child") => self.right = Some(number),
            (Some("BaseForest"), "num_features")
            | (Some("BaseTree"), "depth")
            | (
                Some("BaseTreeParameters"),
                "max_depth" | "min_samples_leaf" | "min_samples_split" | "seed",
            ) => return Ok(()),
            _ => return self.unknown("an integer"),
        }
        self.seen += 1;
        Ok(())
    }

    fn node_done(&mut self) -> Result<(), Unknown> {
        let mut node = std::mem::take(&mut self.node);
        node.children = match (self.left.take(), self.right.take()) {
            (Some(left), Some(right)) => Some((left, right)),
            (None, None) => None,
            _ => return self.unknown("a node with one child"),
        };
        // A leaf gives its output and a feature; a cut gives threshold, score and children too.
        let expected = if node.children.is_some() { 6 } else { 2 };
        if std::mem::take(&mut self.seen) != expected {
            return self.unknown("a node of other parts");
        }
        match self.trees.last_mut() {
            Some(tree) => tree.push(node),
            None => return self.unknown("a node outside a tree"),
        }
        Ok(())
    }
}

macro_rules! refuse {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, _: $type) -> Result<(), Unknown> {
            self.unknown(stringify!($type))
        })*
    };
}

impl ser::Serializer for &mut Harvest {
    type Ok = ();
    type Error = Unknown;
    type SerializeSeq = Self;
    type SerializeTuple = Impossible<(), Unknown>;
    type SerializeTupleStruct = Impossible<(), Unknown>;
    type SerializeTupleVariant = Impossible<(), Unknown>;
    type SerializeMap = Impossible<(), Unknown>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Unknown>;

    refuse!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u32: u32, serialize_f32: f32, serialize_char: char,
        serialize_str: &str, serialize_bytes: &[u8]
    );

    fn serialize_bool(self, value: bool) -> Result<(), Unknown> {
        match (self.within.last().copied(), self.field) {
            (Some("BaseForest"), "samples") => self.in_bag.push(value),
            _ => return self.unknown("a bool"),
        }
        Ok(())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Unknown> {
        self.number(usize::from(value))
    }

    fn serialize_u64(self, value: u64) -> Result<(), Unknown> {
        match (self.field, usize::try_from(value)) {
            // A seed has all 64 bits.
            ("seed", _) => self.number(0),
            (_, Ok(number)) => self.number(number),
            (_, Err(_)) => self.unknown("a large integer"),
        }
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unknown> {
        match (self.within.last().copied(), self.field) {
            (Some("Node"), "output") => self.node.output = value,
            (Some("Node"), "split_value") => self.node.threshold = value,
            (Some("Node"), "split_score") => {}
            (Some("BaseTree"), "root_mass") => return Ok(()),
            _ => return self.unknown("a number"),
        }
        self.seen += 1;
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unknown> {
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Unknown> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unknown> {
        self.unknown("nothing")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Unknown> {
        if name == "PhantomData" {
            return Ok(());
        }
        self.unknown(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unknown> {
        if (name, variant) == ("Splitter", "Best") {
            return Ok(());
        }
        self.unknown(name)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        _: &T,
    ) -> Result<(), Unknown> {
        self.unknown(name)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unknown> {
        self.unknown(name)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Unknown> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unknown> {
        self.unknown("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Unknown> {
        self.unknown(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unknown> {
        self.unknown(name)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unknown> {
        self.unknown("a map")
    }

    fn serialize_struct(self, name: &'static str, fields: usize) -> Result<Self, Unknown> {
        if !LAYOUT.contains(&(name, fields)) {
            return self.unknown(&format!("a struct {name} of {fields} fields"));
        }
        if name == "BaseTree" {
            self.trees.push(Vec::new());
        }
        self.within.push(name);
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unknown> {
        self.unknown(name)
    }
}

impl ser::SerializeSeq for &mut Harvest {
    type Ok = ();
    type Error = Unknown;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Unknown> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Unknown> {
        Ok(())
    }
}

impl ser::SerializeStruct for &mut Harvest {
    type Ok = ();
    type Error = Unknown;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Unknown> {
        self.field = key;
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Unknown> {
        if self.within.last() == Some(&"Node") {
            self.node_done()?;
        }
        self.within.pop();
        Ok(())
    }
}
