//! What grows trees: the open door [`Grower`], this crate's own grower, and smartcore's behind it.

use rand::distr::weighted::WeightedIndex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::dataset::{Dataset, Target};

pub use self::exact::Exact;
pub use self::smartcore::Smartcore;

mod exact;
mod smartcore;

/// What grows the trees of new forests, and in which version. Nodes with different engines grow
/// different groves, so it is part of a forest's recipe.
pub const ENGINE: &str = exact::NAME;

/// What to grow: rows of some columns, what is told of each, and bounds.
#[derive(Debug)]
pub struct GrowJob<'a> {
    pub(crate) data: &'a Dataset,
    /// The data set's feature for each column.
    pub(crate) used: &'a [usize],
    /// The data set's row for each row.
    pub(crate) seen: &'a [usize],
    /// How often each row is drawn, in proportion; none if all alike.
    pub weights: Option<&'a [f64]>,
    /// Trees to grow.
    pub trees: usize,
    /// Features to try at a cut.
    pub mtry: usize,
    /// Rows, as often as they were drawn, that a leaf keeps at least.
    pub min_leaf: usize,
    /// Cuts from root to leaf at most.
    pub depth: u16,
    /// All random numbers come from here.
    pub seed: u64,
}

impl GrowJob<'_> {
    /// Rows to learn from.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.seen.len()
    }

    /// Columns to learn from, each with more than one value in the data set.
    #[must_use]
    pub const fn features(&self) -> usize {
        self.used.len()
    }

    /// The values of a column, row after row; infinity stands for a missing one, which sorts it
    /// after all others. Empty for a column that is not there.
    pub fn column(&self, feature: usize) -> impl Iterator<Item = f64> {
        let feature = self.used.get(feature);
        let column = feature.and_then(|&feature| self.data.columns.get(feature));
        let column = column.map_or(&[] as &[f64], Vec::as_slice);
        let values = self.seen.iter().filter_map(|&row| column.get(row));
        values.map(|value| {
            if value.is_nan() {
                f64::INFINITY
            } else {
                *value
            }
        })
    }

    /// How many classes there are; 0 if numbers are told.
    #[must_use]
    pub const fn classes(&self) -> usize {
        match &self.data.target {
            Target::Classes { names, .. } => names.len(),
            Target::Numbers(_) => 0,
        }
    }

    /// What is to be told of each row: the index of its class, or its number.
    #[must_use]
    pub fn targets(&self) -> Vec<f64> {
        let of_row = |&row: &usize| match &self.data.target {
            Target::Numbers(values) => values.get(row).copied().unwrap_or(0.0),
            Target::Classes { of, .. } => of.get(row).map_or(0.0, |class| f64::from(*class)),
        };
        self.seen.iter().map(of_row).collect()
    }
}

/// A node as a [`Grower`] gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrownNode {
    /// What a leaf says where numbers are told: the mean of its rows'. Finite.
    pub output: f64,
    /// The column a cut compares.
    pub feature: usize,
    /// A cut's threshold. Finite.
    pub threshold: f64,
    /// Where to go if the value is at most the threshold, and if it is more; none for a leaf. Both
    /// stand after this node.
    pub children: Option<(usize, usize)>,
}

/// A tree as a [`Grower`] gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrownTree {
    /// The nodes, the root first.
    pub nodes: Vec<GrownNode>,
    /// For each row of the job the leaf that it ends in, if the grower knows: it saves sending them
    /// down the tree. What stands there for rows that were not drawn does not matter.
    pub ends: Option<Vec<u32>>,
}

impl From<Vec<GrownNode>> for GrownTree {
    fn from(nodes: Vec<GrownNode>) -> Self {
        Self { nodes, ends: None }
    }
}

/// Why a [`Grower`] gave no trees.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It refused or panicked.
    #[error("{0}")]
    Failed(String),
    /// It does not behave as this crate knows it.
    #[error("it is another engine: {0}")]
    Changed(String),
}

/// Grows trees. The way in for another engine than those of this crate.
///
/// What it gives must be a pure function of the job: same job, same trees, on every machine. It is
/// held to the shape of trees whatever it gives.
pub trait Grower: Sync {
    /// Its name and version, part of the recipe of every forest it grows.
    fn name(&self) -> &str;

    /// Grows as many trees as asked for. `bags` has one entry for each: how often each row is
    /// drawn for that tree, which it must grow from these rows.
    ///
    /// # Errors
    /// [`Failure`] says why not.
    fn grow(&self, job: &GrowJob<'_>, bags: &[Vec<u32>]) -> Result<Vec<GrownTree>, Failure>;
}

/// The grower of this name, if this build has it: that of new forests, or one of forests that older
/// builds grew.
pub(crate) fn named(name: &str) -> Option<&'static dyn Grower> {
    [&Exact as &dyn Grower, &Smartcore]
        .into_iter()
        .find(|grower| grower.name() == name)
}

/// Whether it is a tree that can be walked, forward only, over so many features, and in which each
/// row that was drawn ends in a leaf.
pub(crate) fn is_sound(tree: &GrownTree, features: usize, drawn: &[u32]) -> bool {
    let is_leaf = |place: u32| {
        let node = tree.nodes.get(place as usize);
        node.is_some_and(|node| node.children.is_none())
    };
    let ends = tree.ends.as_ref().is_none_or(|ends| {
        let mut rows = ends.iter().zip(drawn);
        ends.len() == drawn.len() && rows.all(|(&end, &times)| times == 0 || is_leaf(end))
    });
    ends && are_sound(&tree.nodes, features)
}

/// Whether nodes make a tree that can be walked, forward only, over so many features.
pub(crate) fn are_sound(nodes: &[GrownNode], features: usize) -> bool {
    let count = nodes.len();
    let sound = |(place, node): (usize, &GrownNode)| match node.children {
        None => node.output.is_finite(),
        Some((left, right)) => {
            let follow = place < left && place < right && left < count && right < count;
            follow && left != right && node.feature < features && node.threshold.is_finite()
        }
    };
    count > 0 && nodes.iter().enumerate().all(sound)
}

/// How often each tree draws each row: a pure function of the seed and the weights. smartcore
/// draws so too, which is checked against what it keeps at each growth.
///
/// # Errors
/// [`Failure::Failed`] for weights from which nothing can be drawn.
pub(crate) fn draw_bags(
    seed: u64,
    trees: usize,
    rows: usize,
    weights: Option<&[f64]>,
) -> Result<Vec<Vec<u32>>, Failure> {
    let weighted = weights.map(WeightedIndex::new).transpose();
    let weighted = weighted.map_err(|error| Failure::Failed(format!("the weights: {error}")))?;
    let mut random = SmallRng::seed_from_u64(seed);
    let mut bag = || {
        let mut drawn = vec![0_u32; rows];
        for _ in 0..rows {
            let row = match &weighted {
                Some(weighted) => random.sample(weighted),
                None => random.random_range(0..rows),
            };
            if let Some(times) = drawn.get_mut(row) {
                *times += 1;
            }
        }
        drawn
    };
    Ok((0..trees).map(|_| bag()).collect())
}
