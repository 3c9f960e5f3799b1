//! A tree as it is kept and walked: nodes in preorder, leaves with counts or a number.

use crate::limits::MAX_DEPTH;

/// One whole in the fixed-point shares of classes. Whole numbers add up to the same sum in any
/// order, so an answer put together from several nodes equals the one of a single node.
pub(crate) const ONE: u32 = 1 << 24;

/// Marks a leaf in [`Node::feature`]; no feature has this number.
pub(crate) const LEAF: u16 = u16::MAX;

/// A cut or a leaf, 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Node {
    /// The threshold of a cut: a row goes to the next node if its value is at most this, and right
    /// if it is more or missing. The number of a regression leaf.
    pub(crate) value: f64,
    /// Where a cut's right side begins; where a classification leaf's counts begin.
    pub(crate) right: u32,
    /// The feature to compare, or [`LEAF`].
    pub(crate) feature: u16,
}

/// One class in a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) class: u16,
    /// Whether this is the leaf's last.
    pub(crate) last: bool,
    /// Rows of this class that the tree was grown from, as often as they were drawn.
    pub(crate) rows: u32,
    /// Those rows' share of the leaf, in parts of [`ONE`].
    pub(crate) share: u32,
}

/// A tree. Invariant: nodes stand in preorder, so walking only goes forward and ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// Leaf after leaf; in a leaf the most frequent class first, then by index.
    pub(crate) counts: Vec<Count>,
}

impl Tree {
    /// The leaf that a row ends in.
    pub(crate) fn leaf(&self, row: &[f64]) -> Node {
        self.walk(row).1
    }

    /// The leaf that a row ends in, with its place among the nodes.
    pub(crate) fn walk(&self, row: &[f64]) -> (usize, Node) {
        let mut at = 0;
        while let Some(&node) = self.nodes.get(at) {
            if node.feature == LEAF {
                return (at, node);
            }
            let value = row.get(usize::from(node.feature)).copied();
            // NaN, a missing value, is not at most anything.
            at = if value.unwrap_or(f64::NAN) <= node.value {
                at + 1
            } else {
                node.right as usize
            };
        }
        debug_assert!(false, "a tree's walk ends in a leaf");
        let none = Node {
            value: 0.0,
            right: u32::MAX,
            feature: LEAF,
        };
        (0, none)
    }

    /// The classes of a leaf, the most frequent first.
    pub(crate) fn counts(&self, leaf: Node) -> impl Iterator<Item = &Count> {
        let mut ended = false;
        self.counts
            .get(leaf.right as usize..)
            .unwrap_or_default()
            .iter()
            .take_while(move |count| !std::mem::replace(&mut ended, count.last))
    }

    /// Adds a leaf's classes and gives the place where they begin.
    pub(crate) fn push_counts(&mut self, classes: &[(u16, u32)]) -> u32 {
        let start = self.counts.len() as u32;
        let total: u64 = classes.iter().map(|(_, rows)| u64::from(*rows)).sum();
        for (place, &(class, rows)) in classes.iter().enumerate() {
            let share = (u64::from(rows) * u64::from(ONE) + total / 2) / total.max(1);
            self.counts.push(Count {
                class,
                last: place + 1 == classes.len(),
                rows,
                share: share as u32,
            });
        }
        start
    }

    /// Cuts on the longest way from the root to a leaf.
    pub(crate) fn depth(&self) -> usize {
        let mut open: Vec<usize> = Vec::with_capacity(usize::from(MAX_DEPTH));
        let mut deepest = 0;
        let mut depth = 0;
        for node in &self.nodes {
            deepest = deepest.max(depth);
            if node.feature == LEAF {
                depth = open.pop().unwrap_or(0);
            } else {
                depth += 1;
                open.push(depth);
            }
        }
        deepest
    }

    pub(crate) fn leaves(&self) -> usize {
        self.nodes.len().div_ceil(2)
    }
}
