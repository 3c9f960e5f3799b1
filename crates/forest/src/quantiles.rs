//! Quantiles of what a forest of numbers tells: not only the mean of what it saw in the leaves, but
//! how it was spread.
//!
//! N. Meinshausen, "Quantile Regression Forests", JMLR 7 (2006): the training rows that share a
//! row's leaves, weighed by one over the leaf's size and averaged over trees, are a sample of what
//! may be true of it. Leaves keep a mean and no rows, so this needs the training data at hand.

use std::collections::BTreeMap;

use crate::dataset::{Dataset, Target};
use crate::error::PredictError;
use crate::forest::Forest;
use crate::limits::MAX_QUANTILE_ENTRIES;
use crate::rows::Rows;
use crate::tally::{check_width, names_of};
use crate::tree::Tree;

/// A forest that tells numbers, with its training rows in its leaves.
///
/// # Example
/// ```
/// use cpe_forest::{Dataset, Forest, ForestSpec, Quantiles};
///
/// let data = Dataset::diabetes();
/// let forest = Forest::grow(&data, &ForestSpec::regress().with_trees(20))?;
/// let told = Quantiles::new(&forest, &data)?.tell(&data.rows(), &[0.1, 0.5, 0.9])?;
/// assert!(told[0][0] <= told[0][1] && told[0][1] <= told[0][2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Quantiles<'a> {
    forest: &'a Forest,
    /// The training targets in ascending order.
    sorted: Vec<f64>,
    /// The rows of each tree's leaves.
    trees: Vec<Leaves>,
}

/// The training rows of a tree, by leaf.
#[derive(Debug)]
struct Leaves {
    /// For each leaf that has rows: its place in the tree, and where its rows begin in `ranks`.
    begin: Vec<(u32, u32)>,
    /// Leaf after leaf, the places of its rows' targets among the sorted ones.
    ranks: Vec<u32>,
}

impl Leaves {
    /// `ends` has for each rank the leaf that its row ends in.
    fn new(mut ends: Vec<(u32, u32)>) -> Self {
        ends.sort_unstable();
        let mut begin: Vec<(u32, u32)> = Vec::new();
        for (at, (leaf, _)) in (0_u32..).zip(&ends) {
            if begin.last().is_none_or(|(last, _)| last != leaf) {
                begin.push((*leaf, at));
            }
        }
        begin.shrink_to_fit();
        Self {
            begin,
            ranks: ends.into_iter().map(|(_, rank)| rank).collect(),
        }
    }

    /// A leaf without a training row does not occur: each was made of one.
    fn of(&self, leaf: usize) -> &[u32] {
        let found = self
            .begin
            .binary_search_by_key(&leaf, |(leaf, _)| *leaf as usize);
        let Ok(place) = found else { return &[] };
        let begins = |place: usize| self.begin.get(place).map(|(_, from)| *from as usize);
        let from = begins(place).unwrap_or(0);
        let to = begins(place + 1).unwrap_or(self.ranks.len());
        self.ranks.get(from..to).unwrap_or_default()
    }
}

impl<'a> Quantiles<'a> {
    /// Sends the training rows down the trees: as long as predicting them once.
    ///
    /// # Errors
    /// [`PredictError::WrongData`] if the forest was not grown from this data, tells classes, or
    /// has more than [`MAX_QUANTILE_ENTRIES`] trees times rows.
    pub fn new(forest: &'a Forest, data: &Dataset) -> Result<Self, PredictError> {
        let wrong = |why: &str| Err(PredictError::WrongData(why.to_owned()));
        if data.hash() != *forest.manifest().data() {
            return wrong("the forest was not grown from it");
        }
        let Target::Numbers(targets) = data.target() else {
            return wrong("quantiles are of numbers, and the model tells classes");
        };
        let trees = forest.manifest().spec().trees as usize;
        if trees.saturating_mul(data.len()) > MAX_QUANTILE_ENTRIES {
            return wrong("trees times training rows are too many to tell quantiles");
        }
        let mut order: Vec<usize> = (0..targets.len()).collect();
        let target = |row: usize| targets.get(row).copied().unwrap_or(0.0);
        order.sort_by(|&a, &b| target(a).total_cmp(&target(b)));
        let rows = data.rows();
        let fill = |tree: &Tree| {
            let end = |(rank, &row): (u32, &usize)| {
                let leaf = tree.walk(rows.row(row).unwrap_or_default()).0;
                (leaf as u32, rank)
            };
            Leaves::new((0..).zip(&order).map(end).collect())
        };
        let trees = forest.groves().iter().flat_map(|grove| &grove.trees);
        Ok(Self {
            forest,
            trees: trees.map(fill).collect(),
            sorted: order.into_iter().map(target).collect(),
        })
    }

    /// For each row the quantiles asked for, each a share above 0 and below 1, in that order.
    ///
    /// # Errors
    /// [`PredictError::WrongColumns`] for rows of another width, [`PredictError::WrongData`] for a
    /// share out of bounds.
    pub fn tell(&self, rows: &Rows, shares: &[f64]) -> Result<Vec<Vec<f64>>, PredictError> {
        let manifest = self.forest.manifest();
        check_width(rows, manifest.features().len(), || names_of(manifest))?;
        let inside = |share: &&f64| **share > 0.0 && **share < 1.0;
        if let Some(share) = shares.iter().find(|share| !inside(share)) {
            return Err(PredictError::WrongData(format!(
                "a quantile is {share}; it is above 0 and below 1"
            )));
        }
        let of_row = |row: usize| self.row(rows.row(row).unwrap_or_default(), shares);
        Ok((0..rows.len()).map(of_row).collect())
    }

    fn row(&self, values: &[f64], shares: &[f64]) -> Vec<f64> {
        let trees = self.forest.groves().iter().flat_map(|grove| &grove.trees);
        let mut weights: BTreeMap<u32, f64> = BTreeMap::new();
        for (tree, leaves) in trees.zip(&self.trees) {
            let ranks = leaves.of(tree.walk(values).0);
            for rank in ranks {
                *weights.entry(*rank).or_default() += 1.0 / ranks.len() as f64;
            }
        }
        let whole: f64 = weights.values().sum();
        let quantile = |share: f64| {
            let mut below = 0.0;
            let reached = |(_, weight): &(&u32, &f64)| {
                below += **weight;
                // The sum of many parts may fall short of the whole by a rounding.
                below >= share * whole * (1.0 - 1e-12)
            };
            let found = weights
                .iter()
                .find(reached)
                .or_else(|| weights.iter().last());
            let rank = found.map_or(0, |(rank, _)| *rank as usize);
            self.sorted.get(rank).copied().unwrap_or(f64::NAN)
        };
        shares.iter().map(|&share| quantile(share)).collect()
    }
}
