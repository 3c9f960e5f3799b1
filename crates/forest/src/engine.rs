//! smartcore behind one function: columns and numbers in, plain trees out.
//!
//! Its fitted forest has private fields, but it serializes; `Harvest` is a serializer that keeps
//! the trees and refuses whatever it does not know, so an engine of another layout fails at its
//! first tree rather than giving other forests unnoticed.

use std::panic::{AssertUnwindSafe, catch_unwind};

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

#[cfg(test)]
mod tests;
