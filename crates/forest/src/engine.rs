//! smartcore behind one function: columns and numbers in, plain trees out.
//!
//! Its fitted forest has private fields, but it serializes; [`Harvest`] is a serializer that keeps
//! the trees and refuses whatever it does not know, so an engine of another layout fails at its
//! first tree rather than giving other forests unnoticed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use serde::ser::{self, Impossible};
use smartcore::ensemble::random_forest_regressor::{
    RandomForestRegressor, RandomForestRegressorParameters,
};
use smartcore::linalg::basic::matrix::DenseMatrix;

/// What grows the trees, and in which version of this crate's use of it. Nodes with different
/// engines grow different groves, so it is part of a forest's recipe.
pub const ENGINE: &str = "smartcore 0.7.0, groves 1";

/// What to grow.
pub(crate) struct Job {
    pub(crate) rows: usize,
    pub(crate) features: usize,
    /// Column after column; no NaN, infinity stands for a missing value.
    pub(crate) columns: Vec<f64>,
    pub(crate) targets: Vec<f64>,
    pub(crate) trees: usize,
    pub(crate) mtry: usize,
    pub(crate) min_leaf: usize,
    /// Cuts from root to leaf.
    pub(crate) depth: u16,
    pub(crate) seed: u64,
}

/// A node as the engine grew it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RawNode {
    pub(crate) output: f64,
    pub(crate) feature: usize,
    pub(crate) threshold: f64,
    /// Where to go if the value is at most the threshold, and if it is more.
    pub(crate) children: Option<(usize, usize)>,
}

/// A tree as the engine grew it. Invariant: children stand after their parents.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawTree {
    pub(crate) nodes: Vec<RawNode>,
    /// How often each row was drawn.
    pub(crate) drawn: Vec<u32>,
}

/// Why the engine gave no trees.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It refused or panicked.
    Failed(String),
    /// It is another engine.
    Changed(String),
}

/// Grows trees. Not a panic of the engine, but a [`Failure`] is what comes out.
pub(crate) fn grow(job: Job) -> Result<Vec<RawTree>, Failure> {
    let (rows, trees, features) = (job.rows, job.trees, job.features);
    let seed = job.seed;
    let harvest = catch_unwind(AssertUnwindSafe(|| fit(job)))
        .unwrap_or_else(|panic| Err(Failure::Failed(panic_text(&*panic))))?;
    let changed = |what: &str| Err(Failure::Changed(what.to_owned()));
    if harvest.trees.len() != trees || harvest.in_bag.len() != trees * rows {
        return changed("it gave another number of trees or rows");
    }
    let mut grown = harvest.trees;
    let bags = draw_bags(seed, trees, rows);
    for ((tree, drawn), in_bag) in grown.iter_mut().zip(bags).zip(harvest.in_bag.chunks(rows)) {
        if drawn
            .iter()
            .map(|&times| times > 0)
            .ne(in_bag.iter().copied())
        {
            return changed("it draws other rows");
        }
        tree.drawn = drawn;
        let count = tree.nodes.len();
        let sound = tree
            .nodes
            .iter()
            .enumerate()
            .all(|(place, node)| match node.children {
                None => node.output.is_finite(),
                Some((left, right)) => {
                    let follow = place < left && place < right && left < count && right < count;
                    follow && node.feature < features && node.threshold.is_finite()
                }
            });
        if !sound || count == 0 {
            return changed("a tree has another shape");
        }
    }
    Ok(grown)
}

/// How often each tree draws each row: the engine keeps only whether it did. A pure function of the
/// seed, checked against what the engine kept at each growth.
pub(crate) fn draw_bags(seed: u64, trees: usize, rows: usize) -> Vec<Vec<u32>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut bag = || {
        let mut drawn = vec![0_u32; rows];
        for _ in 0..rows {
            if let Some(times) = drawn.get_mut(random.random_range(0..rows)) {
                *times += 1;
            }
        }
        drawn
    };
    (0..trees).map(|_| bag()).collect()
}

fn fit(job: Job) -> Result<Harvest, Failure> {
    let failed = |error: smartcore::error::Failed| Failure::Failed(error.to_string());
    let matrix = DenseMatrix::new(job.rows, job.features, job.columns, true).map_err(failed)?;
    let parameters = RandomForestRegressorParameters {
        // The engine counts levels, the root being one.
        max_depth: Some(job.depth.saturating_add(1)),
        min_samples_leaf: job.min_leaf,
        min_samples_split: 2,
        n_trees: job.trees,
        m: Some(job.mtry),
        keep_samples: true,
        seed: job.seed,
    };
    let forest: RandomForestRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>> =
        RandomForestRegressor::fit(&matrix, &job.targets, parameters).map_err(failed)?;
    let mut harvest = Harvest::default();
    forest
        .serialize(&mut harvest)
        .map_err(|error| Failure::Changed(error.to_string()))?;
    Ok(harvest)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "it panicked: {}",
        text.unwrap_or_else(|| "no message".to_owned())
    )
}

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
struct Harvest {
    trees: Vec<RawTree>,
    /// Tree after tree, row after row.
    in_bag: Vec<bool>,
    node: RawNode,
    left: Option<usize>,
    right: Option<usize>,
    seen: usize,
    /// The structs being read, and the field of the innermost.
    within: Vec<&'static str>,
    field: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unknown(String);

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
            Some(tree) => tree.nodes.push(node),
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
            self.trees.push(RawTree::default());
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

#[cfg(test)]
mod tests;
