//! A grove as bytes.
//!
//! ```text
//! "CPEGROVE" 2            magic and version
//! recipe                  32 bytes
//! index features classes trees    varints; classes is 0 for regression
//! importance              features x f64
//! for each tree: nodes    varint, then as many nodes in preorder
//!
//! node = tag (varint), by its lowest two bits
//!   0  count << 2         a leaf of one class
//!   0  0                  a leaf of regression that f32 holds: f32
//!   1  kinds << 2         a leaf of several classes, most rows first: a count (varint) each
//!   1  0                  a leaf of regression: f64
//!   2  feature << 2       a cut at an f32: f32
//!   3  feature << 2       a cut: f64
//!
//! count = (rows - 1) * classes + class: most leaves have few rows, and take one byte
//! ```
//! Numbers are little endian; varints are LEB128 without superfluous bytes. Each grove has one
//! form only: what decodes, encodes to the same bytes again.

use crate::error::ModelError;
use crate::grove::Grove;
use crate::limits::{
    MAX_CLASSES, MAX_COLUMNS, MAX_DEPTH, MAX_GROVE_BYTES, MAX_GROVE_TREES, MAX_TREE_NODES,
};
use crate::tree::{Count, LEAF, Node, Tree};

const MAGIC: &[u8; 9] = b"CPEGROVE\x02";

const PURE: u64 = 0;
const MIXED: u64 = 1;
const SHORT_CUT: u64 = 2;
const LONG_CUT: u64 = 3;

/// Bytes that the smallest node takes: how many nodes a claim of more is refused at.
const LEAST_NODE_BYTES: usize = 1;

pub(crate) fn encode(grove: &Grove) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&grove.recipe);
    push_varint(&mut out, grove.index.into());
    for number in [grove.features, grove.classes, grove.trees.len()] {
        push_varint(&mut out, number as u64);
    }
    for share in &grove.importance {
        out.extend_from_slice(&share.to_le_bytes());
    }
    for tree in &grove.trees {
        push_varint(&mut out, tree.nodes.len() as u64);
        for node in &tree.nodes {
            push_node(&mut out, tree, *node, grove.classes as u64);
        }
    }
    out
}

fn push_node(out: &mut Vec<u8>, tree: &Tree, node: Node, classes: u64) {
    if node.feature != LEAF {
        let feature = u64::from(node.feature) << 2;
        return push_number(out, feature | SHORT_CUT, feature | LONG_CUT, node.value);
    }
    if classes == 0 {
        return push_number(out, PURE, MIXED, node.value);
    }
    let number = |it: &Count| u64::from(it.rows.saturating_sub(1)) * classes + u64::from(it.class);
    let kinds = tree.counts(node).count() as u64;
    let mut counts = tree.counts(node);
    if let (1, Some(only)) = (kinds, counts.next()) {
        return push_varint(out, number(only) << 2 | PURE);
    }
    push_varint(out, kinds << 2 | MIXED);
    for count in tree.counts(node) {
        push_varint(out, number(count));
    }
}

fn push_number(out: &mut Vec<u8>, short_tag: u64, long_tag: u64, value: f64) {
    let short = value as f32;
    if f64::from(short).to_bits() == value.to_bits() {
        push_varint(out, short_tag);
        out.extend_from_slice(&short.to_le_bytes());
    } else {
        push_varint(out, long_tag);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Grove, ModelError> {
    if bytes.len() > MAX_GROVE_BYTES {
        return Err(ModelError::TooLarge {
            what: "grove",
            found: bytes.len(),
            limit: MAX_GROVE_BYTES,
        });
    }
    let mut reader = Reader { bytes, rest: bytes };
    if reader.take(MAGIC.len())? != MAGIC {
        return reader.fail("it does not begin as a grove of this version");
    }
    let recipe = reader.array::<32>()?;
    let Ok(index) = u32::try_from(reader.varint()?) else {
        return reader.fail("its number is too large");
    };
    let features = reader.bounded("features", 1, MAX_COLUMNS)?;
    let classes = reader.bounded("classes", 0, MAX_CLASSES)?;
    let trees = reader.bounded("trees", 1, MAX_GROVE_TREES as usize)?;
    let mut importance = Vec::with_capacity(features);
    for _ in 0..features {
        let share = f64::from_le_bytes(reader.array()?);
        if !(0.0..=trees as f64).contains(&share) || share.is_sign_negative() {
            return reader.fail("an importance is out of bounds");
        }
        importance.push(share);
    }
    let mut grove = Grove {
        recipe,
        index,
        features,
        classes,
        importance,
        trees: Vec::with_capacity(trees),
    };
    for _ in 0..trees {
        let tree = reader.tree(features, classes)?;
        grove.trees.push(tree);
    }
    if !reader.rest.is_empty() {
        return reader.fail("something follows its last tree");
    }
    Ok(grove)
}

struct Reader<'a> {
    bytes: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, reason: &str) -> Result<T, ModelError> {
        Err(ModelError::Decode {
            what: "grove",
            reason: reason.to_owned(),
            offset: self.bytes.len() - self.rest.len(),
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], ModelError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return self.fail("it ends early");
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return self.fail("it ends early");
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// At most 56 bits.
    fn varint(&mut self) -> Result<u64, ModelError> {
        let mut number = 0;
        for place in 0..8 {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if byte == 0 && place > 0 {
                    break;
                }
                return Ok(number);
            }
        }
        self.fail("a number is not in its shortest form")
    }

    /// Rows and class of a count.
    fn count(&self, number: u64, classes: usize) -> Result<(u16, u32), ModelError> {
        let classes = classes as u64;
        match u32::try_from(number / classes + 1) {
            Ok(rows) => Ok(((number % classes) as u16, rows)),
            Err(_) => self.fail("a leaf has more rows than can be"),
        }
    }

    fn bounded(&mut self, what: &str, low: usize, high: usize) -> Result<usize, ModelError> {
        let number = self.varint()? as usize;
        if (low..=high).contains(&number) {
            return Ok(number);
        }
        self.fail(&format!("{number} {what} are not between {low} and {high}"))
    }

    fn tree(&mut self, features: usize, classes: usize) -> Result<Tree, ModelError> {
        let count = self.bounded("nodes", 1, MAX_TREE_NODES)?;
        if count > self.rest.len() / LEAST_NODE_BYTES {
            return self.fail("it has fewer nodes than it says");
        }
        let mut tree = Tree {
            nodes: Vec::with_capacity(count),
            counts: Vec::new(),
        };
        // Cuts whose right side is still to come, with the depth of that side.
        let mut open: Vec<(usize, u16)> = Vec::with_capacity(usize::from(MAX_DEPTH));
        let mut depth = 0;
        let mut closed = false;
        for at in 0..count {
            if closed {
                return self.fail("nodes follow a complete tree");
            }
            let node = self.node(&mut tree, features, classes)?;
            tree.nodes.push(node);
            if node.feature != LEAF {
                depth += 1;
                if depth > MAX_DEPTH {
                    return self.fail("a tree is too deep");
                }
                open.push((at, depth));
                continue;
            }
            match open.pop() {
                Some((cut, side)) => {
                    depth = side;
                    if let Some(cut) = tree.nodes.get_mut(cut) {
                        cut.right = at as u32 + 1;
                    }
                }
                None => closed = true,
            }
        }
        if !closed {
            return self.fail("a tree is incomplete");
        }
        Ok(tree)
    }

    fn node(
        &mut self,
        tree: &mut Tree,
        features: usize,
        classes: usize,
    ) -> Result<Node, ModelError> {
        let tag = self.varint()?;
        let (kind, packed) = (tag & 3, tag >> 2);
        let number = packed as usize;
        if kind == SHORT_CUT || kind == LONG_CUT {
            if number >= features {
                return self.fail("a cut is at a feature that is not there");
            }
            return Ok(Node {
                value: self.number(kind == SHORT_CUT)?,
                right: 0,
                feature: number as u16,
            });
        }
        if classes == 0 {
            if number != 0 {
                return self.fail("a number is told by a class");
            }
            return Ok(Node {
                value: self.number(kind == PURE)?,
                right: 0,
                feature: LEAF,
            });
        }
        let counts = if kind == PURE {
            vec![self.count(packed, classes)?]
        } else {
            if !(2..=classes).contains(&number) {
                return self.fail("a leaf has an impossible number of classes");
            }
            let mut counts = Vec::with_capacity(number);
            for _ in 0..number {
                let packed = self.varint()?;
                counts.push(self.count(packed, classes)?);
            }
            counts
        };
        let ordered = counts
            .iter()
            .zip(counts.iter().skip(1))
            .all(|(a, b)| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0));
        let mut kinds: Vec<u16> = counts.iter().map(|count| count.0).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if !ordered || kinds.len() != counts.len() {
            return self.fail("a leaf's classes are out of order");
        }
        Ok(Node {
            value: 0.0,
            right: tree.push_counts(&counts),
            feature: LEAF,
        })
    }

    fn number(&mut self, short: bool) -> Result<f64, ModelError> {
        let value = if short {
            f64::from(f32::from_le_bytes(self.array()?))
        } else {
            f64::from_le_bytes(self.array()?)
        };
        if !value.is_finite() || (!short && f64::from(value as f32).to_bits() == value.to_bits()) {
            return self.fail("a number is not finite or not in its shortest form");
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
