//! What forest to grow: [`ForestSpec`] and its checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::ENGINE;
use crate::error::GrowError;
use crate::limits::{
    MAX_CLASSES, MAX_COLUMNS, MAX_DEPTH, MAX_GROVE_TREES, MAX_NAME_BYTES, MAX_TREES, MAX_WEIGHT,
};

/// What a forest is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Tell a class.
    Classify,
    /// Tell a number.
    Regress,
}

impl Task {
    /// `classify` or `regress`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Regress => "regress",
        }
    }
}

/// How much each class counts: a row is drawn into a bag in proportion to its class's weight, times
/// its own if the data has weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// As often as it occurs.
    #[default]
    Equal,
    /// All classes alike, however rare: each row weighs rows / (classes * rows of its class).
    Balanced,
    /// By name; a class that is not named weighs 1.
    Given(BTreeMap<String, f64>),
}

/// Everything but the data that decides what a forest becomes.
///
/// Two nodes with equal data and an equal specification grow equal groves, byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForestSpec {
    /// Classes or numbers.
    pub task: Task,
    /// Trees of the whole forest, 1 to [`MAX_TREES`]. 100 by default: more rarely help.
    pub trees: u32,
    /// Trees of one grove, 1 to [`MAX_GROVE_TREES`]; the last grove has what remains. 10 by
    /// default: a grove should be one task of seconds, even of a large table.
    pub grove_trees: u32,
    /// Cuts from the root to a leaf, 1 to [`MAX_DEPTH`]. None: twice the logarithm of the rows to
    /// base 2, plus 8 (twice that if most features have two values only), which grown trees do
    /// not reach except by cutting off one row at a time.
    pub max_depth: Option<u16>,
    /// Rows (as drawn, with repetition) that a leaf keeps at least, from 1. 1 by default.
    pub min_leaf: u32,
    /// Features tried at a cut, 1 to [`MAX_COLUMNS`]; more than there are means all. None: the
    /// square root of their number to classify, a third of it to regress (Breiman 2001).
    pub mtry: Option<u32>,
    /// Share of the rows that a grove sees, above 0 and up to 1. A tree then draws as many rows as
    /// its grove sees, with repetition. 1 by default.
    pub sample: f64,
    /// The base of all random numbers.
    pub seed: u64,
    /// How much each class counts. Equal by default; numbers have none.
    #[serde(default)]
    pub class_weights: ClassWeights,
}

impl ForestSpec {
    /// A forest of 100 trees that tells classes.
    #[must_use]
    pub const fn classify() -> Self {
        Self {
            task: Task::Classify,
            trees: 100,
            grove_trees: 10,
            max_depth: None,
            min_leaf: 1,
            mtry: None,
            sample: 1.0,
            seed: 42,
            class_weights: ClassWeights::Equal,
        }
    }

    /// A forest of 100 trees that tells numbers.
    #[must_use]
    pub const fn regress() -> Self {
        let mut spec = Self::classify();
        spec.task = Task::Regress;
        spec
    }

    /// The same with other weights of classes.
    #[must_use]
    pub fn with_class_weights(mut self, weights: ClassWeights) -> Self {
        self.class_weights = weights;
        self
    }

    /// The same with another number of trees.
    #[must_use]
    pub fn with_trees(mut self, trees: u32) -> Self {
        self.trees = trees;
        self
    }

    /// The same with another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many groves the forest has.
    #[must_use]
    pub const fn groves(&self) -> u32 {
        if self.grove_trees == 0 {
            return 0;
        }
        self.trees.div_ceil(self.grove_trees)
    }

    /// How many trees the grove of this index has; none if there is no such grove.
    #[must_use]
    pub const fn trees_of(&self, index: u32) -> u32 {
        let before = index.saturating_mul(self.grove_trees);
        let left = self.trees.saturating_sub(before);
        if left < self.grove_trees {
            left
        } else {
            self.grove_trees
        }
    }

    /// Checks every setting against its bounds.
    ///
    /// # Errors
    /// [`GrowError::Setting`] names the first setting outside its bounds.
    pub fn validate(&self) -> Result<(), GrowError> {
        let within = |setting, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(GrowError::Setting {
                setting,
                value: value.to_string(),
                bounds: format!("{low} to {high}"),
            })
        };
        within("trees", self.trees.into(), 1, MAX_TREES.into())?;
        within(
            "grove_trees",
            self.grove_trees.into(),
            1,
            MAX_GROVE_TREES.into(),
        )?;
        within(
            "max_depth",
            self.max_depth.unwrap_or(1).into(),
            1,
            MAX_DEPTH.into(),
        )?;
        within("min_leaf", self.min_leaf.into(), 1, u32::MAX.into())?;
        within("mtry", self.mtry.unwrap_or(1).into(), 1, MAX_COLUMNS as u64)?;
        if !(self.sample > 0.0 && self.sample <= 1.0) {
            return Err(GrowError::Setting {
                setting: "sample",
                value: self.sample.to_string(),
                bounds: "above 0 and up to 1".to_owned(),
            });
        }
        self.validate_weights()
    }

    fn validate_weights(&self) -> Result<(), GrowError> {
        let wrong = |value: String, bounds: String| {
            let setting = "class_weights";
            Err(GrowError::Setting {
                setting,
                value,
                bounds,
            })
        };
        if self.class_weights != ClassWeights::Equal && self.task == Task::Regress {
            let bounds = "what a forest that tells numbers has: leave it out".to_owned();
            return wrong("set".to_owned(), bounds);
        }
        let ClassWeights::Given(weights) = &self.class_weights else {
            return Ok(());
        };
        if weights.len() > MAX_CLASSES {
            return wrong(
                weights.len().to_string(),
                format!("0 to {MAX_CLASSES} classes"),
            );
        }
        for (class, weight) in weights {
            if class.len() > MAX_NAME_BYTES || !(0.0..=MAX_WEIGHT).contains(weight) {
                return wrong(format!("{class}={weight}"), format!("0 to {MAX_WEIGHT:e}"));
            }
        }
        Ok(())
    }

    /// The identity of the forest that this specification makes of data with this hash, by this
    /// build's engine. A grove carries it, so that groves of different forests are never mixed.
    #[must_use]
    pub fn recipe(&self, data: &[u8; 32]) -> [u8; 32] {
        self.recipe_by(ENGINE, data)
    }

    /// As [`recipe`](Self::recipe), by an engine of this name.
    pub(crate) fn recipe_by(&self, engine: &str, data: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"cpe-forest recipe 2\n");
        hasher.update(engine.as_bytes());
        hasher.update(b"\n");
        hasher.update(data);
        hasher.update(self.task.name().as_bytes());
        // Not how many trees: a forest that gets more keeps the groves it has.
        for number in [
            u64::from(self.grove_trees),
            self.max_depth.map_or(u64::MAX, u64::from),
            u64::from(self.min_leaf),
            self.mtry.map_or(u64::MAX, u64::from),
            self.sample.to_bits(),
            self.seed,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        match &self.class_weights {
            ClassWeights::Equal => {}
            ClassWeights::Balanced => {
                hasher.update(b"balanced");
            }
            ClassWeights::Given(weights) => {
                hasher.update(b"given");
                for (class, weight) in weights {
                    hasher.update(&(class.len() as u64).to_le_bytes());
                    hasher.update(class.as_bytes());
                    hasher.update(&weight.to_bits().to_le_bytes());
                }
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// Features tried at a cut, of `features` there are.
    pub(crate) fn mtry_of(&self, features: usize) -> usize {
        let wanted = match (self.mtry, self.task) {
            (Some(mtry), _) => mtry as usize,
            (None, Task::Classify) => features.isqrt(),
            (None, Task::Regress) => features / 3,
        };
        wanted.clamp(1, features.max(1))
    }

    /// Cuts from root to leaf for `rows` rows; twice as many where most features have but two
    /// values, since each of their cuts takes off one text of many.
    pub(crate) fn depth_of(&self, rows: usize, two_valued: bool) -> u16 {
        let log = usize::BITS - rows.max(1).leading_zeros();
        let natural = (2 * log + 8) * if two_valued { 2 } else { 1 };
        let natural = u16::try_from(natural).unwrap_or(MAX_DEPTH);
        self.max_depth.unwrap_or(natural).min(MAX_DEPTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_grove_has_what_remains() {
        let spec = ForestSpec::classify().with_trees(25);
        assert_eq!(spec.groves(), 3);
        let sizes: Vec<u32> = (0..5).map(|index| spec.trees_of(index)).collect();
        assert_eq!(sizes, [10, 10, 5, 0, 0]);
    }

    #[test]
    fn a_setting_outside_its_bounds_is_named() {
        let check = |change: fn(&mut ForestSpec), said: &str| {
            let mut spec = ForestSpec::classify();
            change(&mut spec);
            assert_eq!(spec.validate().unwrap_err().to_string(), said);
        };
        check(|s| s.trees = 0, "trees = 0 is outside 1 to 100000");
        check(
            |s| s.grove_trees = 0,
            "grove_trees = 0 is outside 1 to 1000",
        );
        check(
            |s| s.max_depth = Some(65),
            "max_depth = 65 is outside 1 to 64",
        );
        check(
            |s| s.min_leaf = 0,
            "min_leaf = 0 is outside 1 to 4294967295",
        );
        check(|s| s.mtry = Some(0), "mtry = 0 is outside 1 to 4096");
        check(
            |s| s.sample = f64::NAN,
            "sample = NaN is outside above 0 and up to 1",
        );
        check(
            |s| s.class_weights = ClassWeights::Given([("a".to_owned(), -1.0)].into()),
            "class_weights = a=-1 is outside 0 to 1e9",
        );
        ForestSpec::classify().validate().unwrap();
    }

    #[test]
    fn the_recipe_depends_on_data_and_every_setting() {
        let base = ForestSpec::classify();
        let data = [0; 32];
        let changes: [fn(&mut ForestSpec); 9] = [
            |s| s.task = Task::Regress,
            |s| s.class_weights = ClassWeights::Balanced,
            |s| s.class_weights = ClassWeights::Given([("a".to_owned(), 2.0)].into()),
            |s| s.grove_trees = 9,
            |s| s.max_depth = Some(3),
            |s| s.min_leaf = 2,
            |s| s.mtry = Some(1),
            |s| s.sample = 0.5,
            |s| s.seed = 1,
        ];
        for change in changes {
            let mut spec = base.clone();
            change(&mut spec);
            assert_ne!(spec.recipe(&data), base.recipe(&data));
        }
        assert_ne!(base.recipe(&[1; 32]), base.recipe(&data));
        // More trees of the same recipe: the groves there are can be kept.
        assert_eq!(
            base.clone().with_trees(99).recipe(&data),
            base.recipe(&data)
        );
    }
}
