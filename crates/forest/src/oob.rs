//! Out-of-bag votes: what trees say of the training rows that they have not seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::engine::ENGINE;
use crate::error::PredictError;
use crate::grove::Grove;
use crate::grow::Plan;
use crate::manifest::Manifest;
use crate::score::{Score, Told};
use crate::spec::ForestSpec;
use crate::tally::weigh;

/// One grove's votes on the rows that its trees have not seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutOfBag {
    recipe: [u8; 32],
    grove: u32,
    /// For each row, how many trees had not seen it.
    trees: Vec<u32>,
    sums: Sums,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Sums {
    /// Row after row, class after class.
    Shares(Vec<u64>),
    /// Row after row.
    Numbers(Vec<f64>),
}

impl OutOfBag {
    /// Which grove's.
    #[must_use]
    pub const fn grove(&self) -> u32 {
        self.grove
    }
}

/// A grove's out-of-bag votes: a pure function, so whoever has the data can tell them, best the
/// worker that has just grown the grove.
///
/// # Errors
/// [`PredictError::WrongData`] if the grove was not grown from this data and specification.
pub fn out_of_bag(
    data: &Dataset,
    spec: &ForestSpec,
    grove: &Grove,
) -> Result<OutOfBag, PredictError> {
    out_of_bag_by(ENGINE, data, spec, grove)
}

/// As [`out_of_bag`], of a grove that a [`Grower`](crate::Grower) of this name has grown.
///
/// # Errors
/// As [`out_of_bag`].
pub fn out_of_bag_by(
    grower: &str,
    data: &Dataset,
    spec: &ForestSpec,
    grove: &Grove,
) -> Result<OutOfBag, PredictError> {
    let recipe = spec.recipe_by(grower, &data.hash());
    if grove.recipe != recipe || grove.trees() != spec.trees_of(grove.index) {
        return Err(PredictError::WrongData(format!(
            "grove {} was not grown from it",
            grove.index
        )));
    }
    let plan = Plan::new(data, spec, grove.index);
    let bags = plan.bags(grove.trees.len());
    let bags = bags.map_err(|error| PredictError::WrongData(error.to_string()))?;
    let rows = data.rows();
    let mut trees = vec![0_u32; data.len()];
    let mut shares = vec![0_u64; data.len() * grove.classes];
    let mut numbers = vec![0.0; data.len()];
    for (tree, bag) in grove.trees.iter().zip(bags) {
        let mut seen = vec![false; data.len()];
        for (&row, _) in plan.rows.iter().zip(&bag).filter(|(_, times)| **times > 0) {
            if let Some(seen) = seen.get_mut(row) {
                *seen = true;
            }
        }
        for (row, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
            let Some(leaf) = rows.row(row).map(|values| tree.leaf(values)) else {
                continue;
            };
            if let Some(trees) = trees.get_mut(row) {
                *trees += 1;
            }
            if grove.classes == 0 {
                if let Some(sum) = numbers.get_mut(row) {
                    *sum += leaf.value;
                }
                continue;
            }
            for count in tree.counts(leaf) {
                let cell = row * grove.classes + usize::from(count.class);
                if let Some(share) = shares.get_mut(cell) {
                    *share += u64::from(count.share);
                }
            }
        }
    }
    Ok(OutOfBag {
        recipe,
        grove: grove.index,
        trees,
        sums: if grove.classes == 0 {
            Sums::Numbers(numbers)
        } else {
            Sums::Shares(shares)
        },
    })
}

pub(crate) fn score(
    manifest: &Manifest,
    data: &Dataset,
    parts: &[OutOfBag],
) -> Result<Score, PredictError> {
    if data.hash() != *manifest.data() {
        return Err(PredictError::WrongData(
            "the forest was not grown from it".to_owned(),
        ));
    }
    let unlike = |reason: String| Err(PredictError::Unlike(reason));
    let classes = manifest.classes().len();
    let mut by_grove = BTreeMap::new();
    for part in parts {
        let cells = match &part.sums {
            Sums::Shares(shares) if classes > 0 => shares.len() / classes,
            Sums::Numbers(numbers) if classes == 0 => numbers.len(),
            _ => 0,
        };
        if part.recipe != manifest.recipe() || part.trees.len() != data.len() || cells != data.len()
        {
            return unlike(format!(
                "those of grove {} are not of this forest",
                part.grove
            ));
        }
        if by_grove.insert(part.grove, part).is_some() {
            return unlike(format!("those of grove {} are there twice", part.grove));
        }
    }
    if !by_grove.keys().copied().eq(0..manifest.spec().groves()) {
        return unlike("those of some grove are missing".to_owned());
    }
    let told = (0..data.len()).map(|row| tell(by_grove.values(), row, classes));
    Score::of(told, data.target(), manifest.classes())
}

fn tell<'a>(
    parts: impl Iterator<Item = &'a &'a OutOfBag>,
    row: usize,
    classes: usize,
) -> Option<Told> {
    let mut trees = 0_u64;
    let mut shares = vec![0_u64; classes];
    let mut number = 0.0;
    for part in parts {
        trees += u64::from(part.trees.get(row).copied().unwrap_or(0));
        match &part.sums {
            Sums::Numbers(numbers) => number += numbers.get(row).copied().unwrap_or(0.0),
            Sums::Shares(own) => {
                for (sum, share) in shares.iter_mut().zip(own.iter().skip(row * classes)) {
                    *sum = sum.saturating_add(*share);
                }
            }
        }
    }
    if trees == 0 {
        return None;
    }
    Some(if classes == 0 {
        Told::Number(number / trees as f64)
    } else {
        Told::Class(weigh(&shares).0)
    })
}
