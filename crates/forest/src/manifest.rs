//! What is known of a forest besides its trees.

use serde::{Deserialize, Serialize};

use crate::dataset::content::{check_features, check_names};
use crate::dataset::{Dataset, Feature, Target};
use crate::engine::ENGINE;
use crate::error::{GrowError, ModelError};
use crate::grove::Grove;
use crate::grow::check;
use crate::limits::{MAX_CLASSES, MAX_COLUMNS, MAX_NAME_BYTES};
use crate::spec::{ForestSpec, Task};

/// What must be known of a forest besides its trees: what it was asked for and what it learnt from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    spec: ForestSpec,
    engine: String,
    data: [u8; 32],
    rows: usize,
    features: Vec<Feature>,
    ranges: Vec<Range>,
    target: String,
    classes: Vec<String>,
    /// None of a manifest that was made before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<String>,
}

/// What a feature's values were at training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The least; none if all were missing.
    pub min: Option<f64>,
    /// The largest; none if all were missing.
    pub max: Option<f64>,
    /// How many were missing.
    pub missing: u64,
}

impl Manifest {
    /// The manifest of the forest that this specification makes of this data.
    ///
    /// # Errors
    /// [`GrowError`] if no forest can be grown; see [`check`].
    pub fn new(data: &Dataset, spec: &ForestSpec) -> Result<Self, GrowError> {
        Self::new_by(ENGINE, data, spec)
    }

    /// As [`new`](Self::new), of a forest that a [`Grower`](crate::Grower) of this name grows.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn new_by(grower: &str, data: &Dataset, spec: &ForestSpec) -> Result<Self, GrowError> {
        check(data, spec)?;
        Ok(Self {
            spec: spec.clone(),
            engine: grower.to_owned(),
            data: data.hash(),
            rows: data.len(),
            features: data.features.clone(),
            ranges: data
                .columns
                .iter()
                .map(|column| Range::of(column))
                .collect(),
            target: data.target_name.clone(),
            classes: match &data.target {
                Target::Classes { names, .. } => names.clone(),
                Target::Numbers(_) => Vec::new(),
            },
            weights: data.weights_name.clone(),
        })
    }

    /// The manifest of a forest that was grown elsewhere by other means, from unknown data.
    pub(crate) fn imported(
        engine: &str,
        data: [u8; 32],
        spec: ForestSpec,
        features: Vec<Feature>,
        target: &str,
        classes: Vec<String>,
    ) -> Self {
        let unknown = Range {
            min: None,
            max: None,
            missing: 0,
        };
        Self {
            spec,
            engine: engine.to_owned(),
            data,
            rows: 0,
            ranges: vec![unknown; features.len()],
            features,
            target: target.to_owned(),
            classes,
            weights: None,
        }
    }

    /// What was asked for.
    #[must_use]
    pub const fn spec(&self) -> &ForestSpec {
        &self.spec
    }

    /// What grew the trees: [`ENGINE`] of the build that did. Trees of an older engine still tell,
    /// but their groves cannot be grown again here.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// The hash of the data it learnt from; see [`Dataset::hash`].
    #[must_use]
    pub const fn data(&self) -> &[u8; 32] {
        &self.data
    }

    /// How many rows it learnt from.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The columns of a row, in their order.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// For each feature what its values were at training.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The name of what is told.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The classes that can be told; empty for numbers.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The column that said how much each row counts, if there was one and the forest is not of a
    /// build that did not keep it.
    #[must_use]
    pub fn weights(&self) -> Option<&str> {
        self.weights.as_deref()
    }

    /// What all its groves carry.
    #[must_use]
    pub fn recipe(&self) -> [u8; 32] {
        self.spec.recipe_by(&self.engine, &self.data)
    }

    /// Holds a manifest that came from elsewhere to what one made here keeps.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let wrong = |reason: String| ModelError::Inconsistent(reason);
        self.spec
            .validate()
            .map_err(|error| wrong(error.to_string()))?;
        check_features(&self.features).map_err(|error| wrong(error.to_string()))?;
        check_names("class", &self.classes).map_err(|error| wrong(error.to_string()))?;
        let features = self.features.len();
        if features == 0 || features > MAX_COLUMNS || self.ranges.len() != features {
            return Err(wrong(format!(
                "{features} features, {} ranges",
                self.ranges.len()
            )));
        }
        let classes = match self.spec.task {
            Task::Classify => 2..=MAX_CLASSES,
            Task::Regress => 0..=0,
        };
        if !classes.contains(&self.classes.len()) {
            let (task, found) = (self.spec.task.name(), self.classes.len());
            return Err(wrong(format!(
                "the task is to {task}, and there are {found} classes"
            )));
        }
        check_names("column", &self.weights).map_err(|error| wrong(error.to_string()))?;
        if self.engine.len() > MAX_NAME_BYTES {
            return Err(wrong("its engine has too long a name".to_owned()));
        }
        Ok(())
    }

    /// Whether a grove is one of this forest's.
    ///
    /// # Errors
    /// [`ModelError::Stranger`] or [`ModelError::Inconsistent`] if it is not.
    pub fn accept(&self, grove: &Grove) -> Result<(), ModelError> {
        let index = grove.index;
        if grove.recipe != self.recipe() {
            return Err(ModelError::Stranger {
                index,
                found: short_hex(&grove.recipe),
                expected: short_hex(&self.recipe()),
            });
        }
        if grove.features != self.features.len()
            || grove.classes != self.classes.len()
            || grove.trees() != self.spec.trees_of(index)
        {
            return Err(ModelError::Inconsistent(format!(
                "grove {index} has {} trees of {} features and {} classes",
                grove.trees(),
                grove.features,
                grove.classes
            )));
        }
        Ok(())
    }
}

impl Range {
    fn of(column: &[f64]) -> Self {
        let known = || column.iter().copied().filter(|value| !value.is_nan());
        Self {
            min: known().reduce(f64::min),
            max: known().reduce(f64::max),
            missing: column.iter().filter(|value| value.is_nan()).count() as u64,
        }
    }
}

/// The first bytes of a hash, to tell it from others at a glance.
pub(crate) fn short_hex(hash: &[u8; 32]) -> String {
    hex(hash).chars().take(12).collect()
}

/// A hash as 64 hexadecimal digits.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}
