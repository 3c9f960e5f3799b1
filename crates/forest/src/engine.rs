//! What grows trees: the open door [`Grower`], and smartcore behind it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::distr::weighted::WeightedIndex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use smartcore::ensemble::random_forest_regressor::{
    RandomForestRegressor, RandomForestRegressorParameters,
};
use smartcore::linalg::basic::matrix::DenseMatrix;

use self::harvest::Harvest;

mod harvest;

/// What grows the trees, and in which version of this crate's use of it. Nodes with different
/// engines grow different groves, so it is part of a forest's recipe.
pub const ENGINE: &str = "smartcore 0.7.0, groves 2";

/// What to grow: a matrix, a number for each of its rows, and bounds.
#[derive(Clone, Debug)]
pub struct GrowJob {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub features: usize,
    /// Column after column; no NaN, infinity stands for a missing value.
    pub columns: Vec<f64>,
    /// What to fit, a number for each row; classes come as whole numbers.
    pub targets: Vec<f64>,
    /// How often each row is drawn, in proportion; none if all alike.
    pub weights: Option<Vec<f64>>,
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

/// A node as a [`Grower`] gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrownNode {
    /// What a leaf says: the mean of its rows' numbers. Finite.
    pub output: f64,
    /// The column a cut compares.
    pub feature: usize,
    /// A cut's threshold. Finite.
    pub threshold: f64,
    /// Where to go if the value is at most the threshold, and if it is more; none for a leaf. Both
    /// stand after this node.
    pub children: Option<(usize, usize)>,
}

/// The nodes of a tree, the root first.
pub type GrownTree = Vec<GrownNode>;

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

/// Grows trees. The way in for another engine than smartcore.
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
    fn grow(&self, job: &GrowJob, bags: &[Vec<u32>]) -> Result<Vec<GrownTree>, Failure>;
}

/// The grower of this crate: smartcore's regressor.
///
/// Its fitted forest has private fields, but it serializes; `Harvest` is a serializer that keeps
/// the trees and refuses whatever it does not know, so a release of another layout fails at its
/// first tree rather than giving other forests unnoticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Smartcore;

impl Grower for Smartcore {
    fn name(&self) -> &str {
        ENGINE
    }

    fn grow(&self, job: &GrowJob, bags: &[Vec<u32>]) -> Result<Vec<GrownTree>, Failure> {
        let harvest = catch_unwind(AssertUnwindSafe(|| fit(job)))
            .unwrap_or_else(|panic| Err(Failure::Failed(panic_text(&*panic))))?;
        let changed = |what: &str| Err(Failure::Changed(what.to_owned()));
        if harvest.trees.len() != job.trees || harvest.in_bag.len() != job.trees * job.rows {
            return changed("it gave another number of trees or rows");
        }
        for (drawn, in_bag) in bags.iter().zip(harvest.in_bag.chunks(job.rows)) {
            let drawn = drawn.iter().map(|&times| times > 0);
            if drawn.ne(in_bag.iter().copied()) {
                return changed("it draws other rows");
            }
        }
        Ok(harvest.trees)
    }
}

/// Whether nodes make a tree that can be walked, forward only, over so many features.
pub(crate) fn is_sound(nodes: &[GrownNode], features: usize) -> bool {
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

fn fit(job: &GrowJob) -> Result<Harvest, Failure> {
    let failed = |error: smartcore::error::Failed| Failure::Failed(error.to_string());
    let matrix = DenseMatrix::new(job.rows, job.features, job.columns.clone(), true);
    let matrix = matrix.map_err(failed)?;
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
    let forest: RandomForestRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>> = match &job.weights {
        Some(weights) => {
            RandomForestRegressor::fit_with_weights(&matrix, &job.targets, weights, parameters)
        }
        None => RandomForestRegressor::fit(&matrix, &job.targets, parameters),
    }
    .map_err(failed)?;
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

#[cfg(test)]
mod tests;
