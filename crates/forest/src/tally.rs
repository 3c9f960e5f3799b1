//! Votes and what they amount to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::PredictError;
use crate::grove::Grove;
use crate::limits::MAX_PREDICT_ROWS;
use crate::manifest::Manifest;
use crate::rows::Rows;
use crate::table::some_names;
use crate::tree::Tree;

/// Rows walked through one tree before the next: so many rows and a tree fit a core's cache.
const BLOCK_ROWS: usize = 256;

/// The votes of some groves on some rows: a partial answer, which others can be added to.
///
/// Classes are counted in whole numbers and numbers are kept apart for each grove until the end, so
/// however a forest's groves are spread over nodes, the sum is exactly the local answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    recipe: [u8; 32],
    rows: usize,
    /// Trees that voted, by grove.
    groves: BTreeMap<u32, u32>,
    sums: Sums,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Sums {
    /// Row after row, class after class: trees that vote for it, and shares in parts of `ONE`.
    Classes {
        classes: usize,
        votes: Vec<u32>,
        shares: Vec<u64>,
    },
    /// By grove, for each row the sum over its trees.
    Numbers(BTreeMap<u32, Vec<f64>>),
}

impl Tally {
    /// The votes of these groves, which must be of one forest.
    pub(crate) fn of<'a>(
        groves: impl IntoIterator<Item = &'a Grove>,
        rows: &Rows,
    ) -> Result<Self, PredictError> {
        let mut groves = groves.into_iter();
        let first = groves.next().ok_or(PredictError::NoVotes)?;
        let mut tally = Self::empty(first, rows)?;
        tally.add(first, rows)?;
        for grove in groves {
            tally.add(grove, rows)?;
        }
        Ok(tally)
    }

    fn empty(grove: &Grove, rows: &Rows) -> Result<Self, PredictError> {
        if rows.len() > MAX_PREDICT_ROWS {
            return Err(PredictError::TooManyRows {
                found: rows.len(),
                limit: MAX_PREDICT_ROWS,
            });
        }
        let cells = rows.len() * grove.classes;
        Ok(Self {
            recipe: grove.recipe,
            rows: rows.len(),
            groves: BTreeMap::new(),
            sums: if grove.classes == 0 {
                Sums::Numbers(BTreeMap::new())
            } else {
                Sums::Classes {
                    classes: grove.classes,
                    votes: vec![0; cells],
                    shares: vec![0; cells],
                }
            },
        })
    }

    fn add(&mut self, grove: &Grove, rows: &Rows) -> Result<(), PredictError> {
        check_width(rows, grove.features, || String::from("see the model card"))?;
        if grove.recipe != self.recipe {
            return Err(PredictError::Unlike("groves of two forests".to_owned()));
        }
        self.claim(grove.index, grove.trees())?;
        match &mut self.sums {
            Sums::Classes {
                classes,
                votes,
                shares,
            } => {
                let width = rows.width() * BLOCK_ROWS;
                let cells = *classes * BLOCK_ROWS;
                let blocks = rows.values().chunks(width);
                let sums = votes.chunks_mut(cells).zip(shares.chunks_mut(cells));
                for (block, (votes, shares)) in blocks.zip(sums) {
                    for tree in &grove.trees {
                        vote(tree, block, rows.width(), *classes, votes, shares);
                    }
                }
            }
            Sums::Numbers(sums) => {
                let mut sum = vec![0.0; rows.len()];
                let blocks = rows.values().chunks(rows.width() * BLOCK_ROWS);
                for (block, own) in blocks.zip(sum.chunks_mut(BLOCK_ROWS)) {
                    for tree in &grove.trees {
                        for (row, sum) in block.chunks_exact(rows.width()).zip(&mut *own) {
                            *sum += tree.leaf(row).value;
                        }
                    }
                }
                sums.insert(grove.index, sum);
            }
        }
        Ok(())
    }

    fn claim(&mut self, grove: u32, trees: u32) -> Result<(), PredictError> {
        if self.groves.insert(grove, trees).is_some() {
            return Err(PredictError::Unlike(format!("grove {grove} voted twice")));
        }
        Ok(())
    }

    /// How many trees voted.
    #[must_use]
    pub fn trees(&self) -> u32 {
        self.groves
            .values()
            .fold(0, |sum, trees| sum.saturating_add(*trees))
    }

    /// How many rows were voted on.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Adds another partial answer on the same rows by other groves of the same forest. The order
    /// of adding does not change the outcome.
    ///
    /// # Errors
    /// [`PredictError::Unlike`] if it is of another forest, has other rows, or a grove that has
    /// voted already; this tally is unchanged then.
    pub fn merge(&mut self, other: Self) -> Result<(), PredictError> {
        let unlike = |reason: &str| Err(PredictError::Unlike(reason.to_owned()));
        if self.recipe != other.recipe {
            return unlike("they are of two forests");
        }
        if self.rows != other.rows || !other.sound() {
            return unlike("they are on different rows");
        }
        if let Some(grove) = other
            .groves
            .keys()
            .find(|grove| self.groves.contains_key(grove))
        {
            return unlike(&format!("grove {grove} voted twice"));
        }
        match (&mut self.sums, other.sums) {
            (
                Sums::Classes {
                    classes,
                    votes,
                    shares,
                },
                Sums::Classes {
                    classes: other_classes,
                    votes: other_votes,
                    shares: other_shares,
                },
            ) if *classes == other_classes => {
                for (vote, other) in votes.iter_mut().zip(other_votes) {
                    *vote = vote.saturating_add(other);
                }
                for (share, other) in shares.iter_mut().zip(other_shares) {
                    *share = share.saturating_add(other);
                }
            }
            (Sums::Numbers(sums), Sums::Numbers(other)) => sums.extend(other),
            _ => return unlike("they are of different kinds"),
        }
        self.groves.extend(other.groves);
        Ok(())
    }

    /// Holds a tally that came from elsewhere to what was asked for: the votes of one grove of a
    /// forest, with all its trees, on so many rows. Whether they are what these trees say of these
    /// rows, only who asks the trees can tell.
    ///
    /// # Errors
    /// [`PredictError::Unlike`] says what it is instead.
    pub fn check(&self, manifest: &Manifest, grove: u32, rows: usize) -> Result<(), PredictError> {
        let unlike = |reason: String| Err(PredictError::Unlike(reason));
        if self.recipe != manifest.recipe() {
            return unlike("the votes are of another forest".to_owned());
        }
        if self.rows != rows {
            let found = self.rows;
            return unlike(format!("the votes are on {found} rows instead of {rows}"));
        }
        let trees = manifest.spec().trees_of(grove);
        if !self.groves.iter().eq([(&grove, &trees)]) {
            return unlike(format!(
                "the votes are not those of grove {grove} with its {trees} trees"
            ));
        }
        let classes = match &self.sums {
            Sums::Classes { classes, .. } => *classes,
            Sums::Numbers(_) => 0,
        };
        if classes != manifest.classes().len() || !self.sound() {
            return unlike("there are not as many votes as there should be".to_owned());
        }
        Ok(())
    }

    /// Whether a tally that came from elsewhere has the lengths it says.
    fn sound(&self) -> bool {
        match &self.sums {
            Sums::Classes {
                classes,
                votes,
                shares,
            } => {
                let cells = self.rows.checked_mul(*classes);
                *classes > 0 && cells == Some(votes.len()) && cells == Some(shares.len())
            }
            Sums::Numbers(sums) => {
                sums.keys().eq(self.groves.keys()) && sums.values().all(|s| s.len() == self.rows)
            }
        }
    }

    /// What the votes amount to, with the names of the forest's classes.
    ///
    /// # Errors
    /// [`PredictError::NoVotes`] of no tree, [`PredictError::Unlike`] if the votes are of another
    /// forest.
    pub fn finish(&self, manifest: &Manifest) -> Result<Predictions, PredictError> {
        let trees = self.trees();
        if trees == 0 {
            return Err(PredictError::NoVotes);
        }
        if self.recipe != manifest.recipe() || !self.sound() {
            return Err(PredictError::Unlike(
                "they are not of this forest".to_owned(),
            ));
        }
        let rows = match &self.sums {
            Sums::Classes {
                classes,
                votes,
                shares,
            } => votes
                .chunks(*classes)
                .zip(shares.chunks(*classes))
                .map(|(votes, shares)| of_class(votes, shares, manifest))
                .collect(),
            Sums::Numbers(sums) => {
                let mut means = vec![0.0; self.rows];
                for sum in sums.values() {
                    for (mean, sum) in means.iter_mut().zip(sum) {
                        *mean += sum;
                    }
                }
                let number = |sum: f64| Prediction::Number {
                    value: sum / f64::from(trees),
                };
                means.into_iter().map(number).collect()
            }
        };
        Ok(Predictions {
            trees,
            of: manifest.spec().trees,
            rows,
        })
    }
}

fn vote(
    tree: &Tree,
    block: &[f64],
    width: usize,
    classes: usize,
    votes: &mut [u32],
    shares: &mut [u64],
) {
    let sums = votes
        .chunks_exact_mut(classes)
        .zip(shares.chunks_exact_mut(classes));
    for (row, (votes, shares)) in block.chunks_exact(width).zip(sums) {
        for (place, count) in tree.counts(tree.leaf(row)).enumerate() {
            let class = usize::from(count.class);
            if place == 0
                && let Some(votes) = votes.get_mut(class)
            {
                *votes += 1;
            }
            if let Some(share) = shares.get_mut(class) {
                *share += u64::from(count.share);
            }
        }
    }
}

fn of_class(votes: &[u32], shares: &[u64], manifest: &Manifest) -> Prediction {
    let (index, probabilities) = weigh(shares);
    Prediction::Class {
        class: manifest.classes().get(index).cloned().unwrap_or_default(),
        index: index as u32,
        votes: votes.to_vec(),
        probabilities,
    }
}

/// The class of the largest share (of equal ones the first), and the shares as parts of one.
pub(crate) fn weigh(shares: &[u64]) -> (usize, Vec<f64>) {
    let whole = shares
        .iter()
        .fold(0_u64, |sum, share| sum.saturating_add(*share))
        .max(1);
    let mut best = (0, 0);
    for (class, &share) in shares.iter().enumerate() {
        if share > best.1 {
            best = (class, share);
        }
    }
    let parts = shares
        .iter()
        .map(|&share| share as f64 / whole as f64)
        .collect();
    (best.0, parts)
}

pub(crate) fn check_width(
    rows: &Rows,
    expected: usize,
    names: impl FnOnce() -> String,
) -> Result<(), PredictError> {
    if rows.width() == expected {
        return Ok(());
    }
    Err(PredictError::WrongColumns {
        found: rows.width(),
        expected,
        names: names(),
    })
}

pub(crate) fn names_of(manifest: &Manifest) -> String {
    some_names(
        manifest
            .features()
            .iter()
            .map(|feature| feature.name.as_str()),
    )
}

/// What a forest says of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    /// Trees that voted. Fewer than `of` if some groves could not be reached.
    pub trees: u32,
    /// Trees of the whole forest.
    pub of: u32,
    /// One for each row.
    pub rows: Vec<Prediction>,
}

/// What a forest says of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prediction {
    /// A class.
    Class {
        /// Its name: of the largest probability; of equal ones the first.
        class: String,
        /// Its index among the forest's classes.
        index: u32,
        /// For each class, how many trees hold it for the likeliest.
        votes: Vec<u32>,
        /// For each class, the mean over trees of its share in the leaf that the row ends in.
        probabilities: Vec<f64>,
    },
    /// A number.
    Number {
        /// The mean over trees.
        value: f64,
    },
}

impl Prediction {
    /// The class's name or the number as text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Class { class, .. } => class.clone(),
            Self::Number { value } => value.to_string(),
        }
    }
}
