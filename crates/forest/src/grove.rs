//! A grove: the trees that one task grows.

use crate::error::{ModelError, PredictError};
use crate::rows::Rows;
use crate::tally::Tally;
use crate::tree::Tree;
use crate::wire;

/// Some trees of a forest, as grown by [`grow_grove`](crate::grow_grove) or received as bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Grove {
    pub(crate) recipe: [u8; 32],
    pub(crate) index: u32,
    pub(crate) features: usize,
    /// 0 for regression.
    pub(crate) classes: usize,
    /// For each feature the sum over trees of its share in what the tree gained.
    pub(crate) importance: Vec<f64>,
    pub(crate) trees: Vec<Tree>,
}

impl Grove {
    /// The grove as bytes: about 10 kB a tree. Equal groves have equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Reads a grove. Whatever the bytes are, this neither panics nor allocates much more than
    /// they take; a grove that is returned can be walked, forward only, with rows of its width.
    ///
    /// # Errors
    /// [`ModelError::Decode`] says what is wrong at which byte, [`ModelError::TooLarge`] that they
    /// are beyond [`MAX_GROVE_BYTES`](crate::limits::MAX_GROVE_BYTES).
    pub fn decode(bytes: &[u8]) -> Result<Self, ModelError> {
        wire::decode(bytes)
    }

    /// BLAKE3 of the bytes.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }

    /// Which grove of its forest it is.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Which forest it belongs to; see [`ForestSpec::recipe`](crate::ForestSpec::recipe).
    #[must_use]
    pub const fn recipe(&self) -> &[u8; 32] {
        &self.recipe
    }

    /// How many trees.
    #[must_use]
    pub const fn trees(&self) -> u32 {
        self.trees.len() as u32
    }

    /// Cuts and leaves of all trees.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.trees.iter().map(|tree| tree.nodes.len()).sum()
    }

    /// Leaves of all trees.
    #[must_use]
    pub fn leaves(&self) -> usize {
        self.trees.iter().map(Tree::leaves).sum()
    }

    /// Cuts on the longest way from a root to a leaf.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.trees.iter().map(Tree::depth).max().unwrap_or(0)
    }

    /// How this grove's trees vote on rows. Tallies of different groves add up, wherever they were
    /// taken, to what the whole forest says.
    ///
    /// # Errors
    /// [`PredictError::WrongColumns`] and [`PredictError::TooManyRows`].
    pub fn tally(&self, rows: &Rows) -> Result<Tally, PredictError> {
        Tally::of([self], rows)
    }
}
