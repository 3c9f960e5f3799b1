//! smartcore's regressor as a grower: forests were grown by it before there was one of our own.
//!
//! Classes are grown by regression on integer codes (Joly, Geurts, Wehenkel, "Random forests with
//! random projections of the output space for high dimensional multi-label classification", 2014,
//! <https://arxiv.org/abs/1404.3581>): each grove of more than two classes gives them codes of its
//! own in random order.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use smartcore::ensemble::random_forest_regressor::{
    RandomForestRegressor, RandomForestRegressorParameters,
};
use smartcore::linalg::basic::matrix::DenseMatrix;

use self::harvest::Harvest;
use super::{Failure, GrowJob, Grower, GrownNode, GrownTree};
use crate::seed::{Stream, splitmix64};

mod harvest;

/// Its name and version, and that of our use of it.
const NAME: &str = "smartcore 0.7.0, groves 2";

/// smartcore's regressor: grows what builds before 2026-11-27 grew.
///
/// Its fitted forest has private fields, but it serializes; `Harvest` is a serializer that keeps
/// the trees and refuses whatever it does not know, so a release of another layout fails at its
/// first tree rather than giving other forests unnoticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Smartcore;

impl Grower for Smartcore {
    fn name(&self) -> &str {
        NAME
    }

    fn grow(&self, job: &GrowJob<'_>, bags: &[Vec<u32>]) -> Result<Vec<GrownTree>, Failure> {
        let harvest = catch_unwind(AssertUnwindSafe(|| fit(job)))
            .unwrap_or_else(|panic| Err(Failure::Failed(panic_text(&*panic))))?;
        let changed = |what: &str| Err(Failure::Changed(what.to_owned()));
        if harvest.trees.len() != job.trees || harvest.in_bag.len() != job.trees * job.rows() {
            return changed("it gave another number of trees or rows");
        }
        for (drawn, in_bag) in bags.iter().zip(harvest.in_bag.chunks(job.rows())) {
            let drawn = drawn.iter().map(|&times| times > 0);
            if drawn.ne(in_bag.iter().copied()) {
                return changed("it draws other rows");
            }
        }
        Ok(harvest.trees.into_iter().map(GrownTree::from).collect())
    }
}

fn fit(job: &GrowJob<'_>) -> Result<Harvest, Failure> {
    let failed = |error: smartcore::error::Failed| Failure::Failed(error.to_string());
    let mut columns = Vec::with_capacity(job.features() * job.rows());
    for feature in 0..job.features() {
        columns.extend(job.column(feature));
    }
    let matrix = DenseMatrix::new(job.rows(), job.features(), columns, true);
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
    let targets = coded(job);
    let forest: RandomForestRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>> = match job.weights {
        Some(weights) => {
            RandomForestRegressor::fit_with_weights(&matrix, &targets, weights, parameters)
        }
        None => RandomForestRegressor::fit(&matrix, &targets, parameters),
    }
    .map_err(failed)?;
    let mut harvest = Harvest::default();
    forest
        .serialize(&mut harvest)
        .map_err(|error| Failure::Changed(error.to_string()))?;
    Ok(harvest)
}

/// A number for each row: its own, or one that stands for its class.
fn coded(job: &GrowJob<'_>) -> Vec<f64> {
    let mut targets = job.targets();
    if job.classes() > 2 {
        let mut codes: Vec<f64> = (0..job.classes()).map(|code| code as f64).collect();
        Stream::new(splitmix64(job.seed, 1)).shuffle(&mut codes);
        for target in &mut targets {
            *target = codes.get(*target as usize).copied().unwrap_or(0.0);
        }
    }
    targets
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
