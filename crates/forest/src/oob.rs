//! Out-of-bag votes: what trees say of the training rows that they have not seen.

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

/// The out-of-bag votes of a forest, added grove by grove: whoever has many groves need not keep
/// the votes of each.
///
/// Numbers are added up in the order of the groves, so that no sum depends on who added.
#[derive(Clone, Debug)]
pub struct OutOfBagSum {
    recipe: [u8; 32],
    groves: u32,
    classes: usize,
    /// The grove that is to be added next.
    next: u32,
    trees: Vec<u32>,
    sums: Sums,
}

impl OutOfBagSum {
    /// Of a forest of which no grove has been added yet: 4 bytes for each row of its data, and 8
    /// for each class or number.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        let (rows, classes) = (manifest.rows(), manifest.classes().len());
        Self {
            recipe: manifest.recipe(),
            groves: manifest.spec().groves(),
            classes,
            next: 0,
            trees: vec![0; rows],
            sums: if classes == 0 {
                Sums::Numbers(vec![0.0; rows])
            } else {
                Sums::Shares(vec![0; rows * classes])
            },
        }
    }

    /// Adds the votes of the next grove.
    ///
    /// # Errors
    /// [`PredictError::Unlike`] if they are of another grove than the next, or of another forest;
    /// nothing is added then.
    pub fn add(&mut self, part: &OutOfBag) -> Result<(), PredictError> {
        let grove = part.grove;
        let unlike = |what: &str| {
            let reason = format!("those of grove {grove} are {what}");
            Err(PredictError::Unlike(reason))
        };
        if part.recipe != self.recipe || part.trees.len() != self.trees.len() {
            return unlike("not of this forest");
        }
        if grove < self.next {
            return unlike("there twice");
        }
        if grove > self.next || grove >= self.groves {
            let next = self.next;
            return Err(PredictError::Unlike(format!(
                "those of grove {next} are missing before {grove}"
            )));
        }
        match (&mut self.sums, &part.sums) {
            (Sums::Shares(sums), Sums::Shares(own)) if sums.len() == own.len() => {
                for (sum, share) in sums.iter_mut().zip(own) {
                    *sum = sum.saturating_add(*share);
                }
            }
            (Sums::Numbers(sums), Sums::Numbers(own)) if sums.len() == own.len() => {
                for (sum, number) in sums.iter_mut().zip(own) {
                    *sum += number;
                }
            }
            _ => return unlike("not of this forest"),
        }
        for (sum, trees) in self.trees.iter_mut().zip(&part.trees) {
            *sum = sum.saturating_add(*trees);
        }
        self.next += 1;
        Ok(())
    }

    /// How good the forest is on its own training data, each row judged only by the trees that
    /// have not seen it.
    ///
    /// # Errors
    /// [`PredictError::Unlike`] if groves are missing, [`PredictError::WrongData`] if it was not
    /// grown from this data.
    pub fn score(&self, manifest: &Manifest, data: &Dataset) -> Result<Score, PredictError> {
        if data.hash() != *manifest.data() || data.len() != self.trees.len() {
            return Err(PredictError::WrongData(
                "the forest was not grown from it".to_owned(),
            ));
        }
        if self.recipe != manifest.recipe() || self.next != manifest.spec().groves() {
            let reason = "those of some grove are missing".to_owned();
            return Err(PredictError::Unlike(reason));
        }
        let told = (0..data.len()).map(|row| self.tell(row));
        Score::of(told, data.target(), manifest.classes())
    }

    fn tell(&self, row: usize) -> Option<Told> {
        let trees = self.trees.get(row).copied().unwrap_or(0);
        if trees == 0 {
            return None;
        }
        Some(match &self.sums {
            Sums::Numbers(numbers) => {
                Told::Number(numbers.get(row).copied().unwrap_or(0.0) / f64::from(trees))
            }
            Sums::Shares(shares) => {
                let from = row * self.classes;
                Told::Class(weigh(shares.get(from..from + self.classes).unwrap_or_default()).0)
            }
        })
    }
}

pub(crate) fn score(
    manifest: &Manifest,
    data: &Dataset,
    parts: &[OutOfBag],
) -> Result<Score, PredictError> {
    let mut parts: Vec<&OutOfBag> = parts.iter().collect();
    parts.sort_by_key(|part| part.grove);
    let mut sum = OutOfBagSum::new(manifest);
    for part in parts {
        sum.add(part)?;
    }
    sum.score(manifest, data)
}
