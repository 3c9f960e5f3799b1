//! A forest: a manifest and its groves.

use std::collections::BTreeMap;

use cpe_tuple::codec;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::dataset::{Dataset, Target};
use crate::engine::{Exact, Grower, named};
use crate::error::{GrowError, ModelError, PredictError};
use crate::grove::Grove;
use crate::grow::grow_grove_by;
use crate::limits::MAX_FOREST_BYTES;
use crate::manifest::Manifest;
use crate::oob::OutOfBag;
use crate::rows::Rows;
use crate::score::{Score, Told};
use crate::spec::{ForestSpec, Task};
use crate::tally::{Predictions, Tally, check_width, names_of};

/// A whole forest.
///
/// # Example
/// ```
/// use cpe_forest::{Dataset, Forest, ForestSpec};
///
/// let (train, test) = Dataset::breast_cancer().split(0.3, 1)?;
/// let forest = Forest::grow(&train, &ForestSpec::classify().with_trees(20))?;
/// assert!(forest.evaluate(&test)?.main() > 0.9);
/// assert_eq!(Forest::decode(&forest.encode()?)?.hash(), forest.hash());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    manifest: Manifest,
    groves: Vec<Grove>,
    /// For each grove the hash of its bytes, and how many there are.
    seals: Vec<([u8; 32], usize)>,
    /// How it did on its own training rows, if somebody has said so.
    out_of_bag: Option<Score>,
}

/// Bytes between two groves in a forest's own, at most, and before the first.
const BETWEEN_MAX: usize = 64;

#[derive(Serialize, Deserialize)]
struct Stored {
    manifest: Manifest,
    groves: Vec<ByteBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    out_of_bag: Option<Score>,
    /// BLAKE3 of all this without it: a file may be damaged. None of a forest that an earlier
    /// version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<ByteBuf>,
}

impl Stored {
    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        codec::encode(self).map_err(|error| ModelError::Inconsistent(error.to_string()))
    }

    /// The hash of all but the check, which is taken out.
    fn take_check(&mut self) -> Result<([u8; 32], Option<ByteBuf>), ModelError> {
        let check = self.check.take();
        Ok((*blake3::hash(&self.encode()?).as_bytes(), check))
    }
}

/// What a forest says of rows, beside what is so.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What it says.
    pub predictions: Predictions,
    /// What is so; classes are known by their names.
    pub truth: Target,
}

impl Forest {
    /// Grows all groves here, one after another.
    ///
    /// # Errors
    /// As [`grow_grove`](crate::grow_grove).
    pub fn grow(data: &Dataset, spec: &ForestSpec) -> Result<Self, GrowError> {
        Self::grow_by(&Exact, data, spec)
    }

    /// As [`grow`](Self::grow), by another grower than this crate's own.
    ///
    /// # Errors
    /// As [`grow_grove_by`].
    pub fn grow_by(
        grower: &dyn Grower,
        data: &Dataset,
        spec: &ForestSpec,
    ) -> Result<Self, GrowError> {
        let manifest = Manifest::new_by(grower.name(), data, spec)?;
        let groves = (0..spec.groves())
            .map(|index| grow_grove_by(grower, data, spec, index))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::sealed(manifest, groves))
    }

    /// Warm start: the same forest with more trees (or fewer), of which only those are grown that
    /// it lacks. The outcome is the forest that growing so many at once gives.
    ///
    /// # Errors
    /// [`GrowError::OtherData`] if it was not grown from this data or by an engine that this build
    /// has; as [`grow_grove`](crate::grow_grove) otherwise.
    pub fn with_trees(&self, data: &Dataset, trees: u32) -> Result<Self, GrowError> {
        let grower = named(self.manifest.engine()).ok_or(GrowError::OtherData)?;
        if data.hash() != *self.manifest.data() {
            return Err(GrowError::OtherData);
        }
        let spec = self.manifest.spec().clone().with_trees(trees);
        let manifest = Manifest::new_by(grower.name(), data, &spec)?;
        let mut kept: BTreeMap<u32, Grove> = self
            .keep(&spec)
            .map(|grove| (grove.index, grove.clone()))
            .collect();
        let grove = |index| match kept.remove(&index) {
            Some(grove) => Ok(grove),
            None => grow_grove_by(grower, data, &spec, index),
        };
        let groves = (0..spec.groves()).map(grove).collect::<Result<_, _>>()?;
        Ok(Self::sealed(manifest, groves))
    }

    /// Those of its groves that the same forest of another number of trees has too.
    pub fn keep(&self, spec: &ForestSpec) -> impl Iterator<Item = &Grove> {
        self.groves
            .iter()
            .filter(|grove| grove.trees() == spec.trees_of(grove.index))
    }

    /// For each row, and in it for each tree, which leaf it ends in: the leaf's place among the
    /// tree's nodes, in preorder.
    ///
    /// # Errors
    /// [`PredictError::WrongColumns`] and [`PredictError::TooManyRows`].
    pub fn leaves(&self, rows: &Rows) -> Result<Vec<Vec<u32>>, PredictError> {
        check_width(rows, self.manifest.features().len(), || {
            names_of(&self.manifest)
        })?;
        let trees = || self.groves.iter().flat_map(|grove| &grove.trees);
        let of_row = |row: usize| {
            let values = rows.row(row).unwrap_or_default();
            trees().map(|tree| tree.walk(values).0 as u32).collect()
        };
        Ok((0..rows.len()).map(of_row).collect())
    }

    /// Puts groves together that were grown anywhere, in any order.
    ///
    /// # Errors
    /// [`ModelError::Groves`] if one is missing or there twice, [`ModelError::Stranger`] or
    /// [`ModelError::Inconsistent`] if one is not of this forest.
    pub fn assemble(manifest: Manifest, mut groves: Vec<Grove>) -> Result<Self, ModelError> {
        manifest.check()?;
        groves.sort_by_key(|grove| grove.index);
        let last = manifest.spec().groves() - 1;
        let mut found = groves.iter().map(|grove| grove.index).peekable();
        for index in 0..=last {
            let problem = |problem| ModelError::Groves {
                index,
                problem,
                last,
            };
            if found.next_if_eq(&index).is_none() {
                return Err(problem("missing"));
            }
            if found.next_if_eq(&index).is_some() {
                return Err(problem("there twice"));
            }
        }
        if let Some(index) = found.next() {
            let problem = "beyond the last";
            return Err(ModelError::Groves {
                index,
                problem,
                last,
            });
        }
        for grove in &groves {
            manifest.accept(grove)?;
        }
        Ok(Self::sealed(manifest, groves))
    }

    pub(crate) fn sealed(manifest: Manifest, groves: Vec<Grove>) -> Self {
        let seal = |grove: &Grove| {
            let bytes = grove.encode();
            (*blake3::hash(&bytes).as_bytes(), bytes.len())
        };
        Self {
            manifest,
            seals: groves.iter().map(seal).collect(),
            groves,
            out_of_bag: None,
        }
    }

    /// What is known of the forest besides its trees.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its groves, in order.
    #[must_use]
    pub fn groves(&self) -> &[Grove] {
        &self.groves
    }

    /// For each grove the hash of its bytes and how many they are.
    #[must_use]
    pub fn seals(&self) -> &[([u8; 32], usize)] {
        &self.seals
    }

    /// The forest's identity: BLAKE3 of its recipe and its groves' hashes. Two forests of one hash
    /// give the same answer to every row.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"cpe-forest forest 1\n");
        hasher.update(&self.manifest.recipe());
        for (hash, _) in &self.seals {
            hasher.update(hash);
        }
        *hasher.finalize().as_bytes()
    }

    /// The forest as bytes (CBOR of the manifest and the groves' bytes).
    ///
    /// # Errors
    /// [`ModelError::TooLarge`] beyond [`MAX_FOREST_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, ModelError> {
        let mut stored = Stored {
            manifest: self.manifest.clone(),
            groves: self
                .groves
                .iter()
                .map(|grove| ByteBuf::from(grove.encode()))
                .collect(),
            out_of_bag: self.out_of_bag.clone(),
            check: None,
        };
        let (hash, _) = stored.take_check()?;
        stored.check = Some(ByteBuf::from(hash));
        let bytes = stored.encode()?;
        if bytes.len() > MAX_FOREST_BYTES {
            return Err(too_large(bytes.len()));
        }
        Ok(bytes)
    }

    /// Where in the forest's bytes each grove's lie, and how many they are: whoever has the bytes
    /// need not read all to read one. None if these are not the forest's bytes.
    #[must_use]
    pub fn places(&self, bytes: &[u8]) -> Option<Vec<(usize, usize)>> {
        let mut from = codec::encode(&self.manifest).ok()?.len();
        let place = |(hash, length): &([u8; 32], usize)| {
            let is_there = |at: &usize| {
                let own = bytes.get(*at..at.saturating_add(*length));
                own.is_some_and(|own| blake3::hash(own).as_bytes() == hash)
            };
            // What stands between two groves is a length or two: that of most is five bytes.
            let between = std::iter::once(5).chain(0..=BETWEEN_MAX);
            let at = between.map(|bytes| from + bytes).find(is_there)?;
            from = at + length;
            Some((at, *length))
        };
        self.seals.iter().map(place).collect()
    }

    /// Reads a forest, and holds it to all that [`assemble`](Self::assemble) asks.
    ///
    /// # Errors
    /// [`ModelError`]; whatever the bytes are, there is no panic.
    pub fn decode(bytes: &[u8]) -> Result<Self, ModelError> {
        if bytes.len() > MAX_FOREST_BYTES {
            return Err(too_large(bytes.len()));
        }
        let mut stored: Stored =
            codec::decode(bytes, MAX_FOREST_BYTES).map_err(|error| ModelError::Decode {
                what: "forest",
                reason: error.to_string(),
                offset: 0,
            })?;
        if let (hash, Some(check)) = stored.take_check()?
            && check.as_slice() != hash
        {
            return Err(ModelError::Damaged);
        }
        let groves = stored
            .groves
            .iter()
            .map(|bytes| Grove::decode(bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let mut forest = Self::assemble(stored.manifest, groves)?;
        forest.out_of_bag = stored.out_of_bag;
        Ok(forest)
    }

    /// The same with its score on its own training rows, to be kept and shown with it; see
    /// [`out_of_bag_score`](Self::out_of_bag_score).
    #[must_use]
    pub fn with_out_of_bag(mut self, score: Option<Score>) -> Self {
        self.out_of_bag = score;
        self
    }

    /// Its score on its own training rows, if it came with one.
    #[must_use]
    pub const fn out_of_bag(&self) -> Option<&Score> {
        self.out_of_bag.as_ref()
    }

    /// The votes of all groves.
    ///
    /// # Errors
    /// [`PredictError::WrongColumns`] and [`PredictError::TooManyRows`].
    pub fn tally(&self, rows: &Rows) -> Result<Tally, PredictError> {
        check_width(rows, self.manifest.features().len(), || {
            names_of(&self.manifest)
        })?;
        Tally::of(&self.groves, rows)
    }

    /// What the forest says of rows.
    ///
    /// # Errors
    /// As [`tally`](Self::tally).
    pub fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
        self.tally(rows)?.finish(&self.manifest)
    }

    /// How good the forest's answers are on data that it has not seen.
    ///
    /// # Errors
    /// [`PredictError::WrongData`] if the data's features or target are not the model's.
    pub fn evaluate(&self, data: &Dataset) -> Result<Score, PredictError> {
        let predictions = self.predict(&self.rows_of(data)?)?;
        let told = predictions.rows.iter().map(|row| Some(Told::from(row)));
        Score::of(told, &data.target, self.manifest.classes())
    }

    /// What the forest says of each row, beside what is so, for plots.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluated(&self, data: &Dataset) -> Result<Judged, PredictError> {
        Ok(Judged {
            predictions: self.predict(&self.rows_of(data)?)?,
            truth: data.target.clone(),
        })
    }

    /// A data set's rows as this model wants them: columns by name, texts by the model's numbers.
    pub(crate) fn rows_of(&self, data: &Dataset) -> Result<Rows, PredictError> {
        let wrong = |reason: String| PredictError::WrongData(reason);
        let columns = self
            .manifest
            .features()
            .iter()
            .map(|feature| {
                let place = data
                    .features
                    .iter()
                    .position(|own| own.name == feature.name);
                let place =
                    place.ok_or_else(|| wrong(format!("it has no column \"{}\"", feature.name)))?;
                let column = data.columns.get(place).cloned().unwrap_or_default();
                let levels = data
                    .features
                    .get(place)
                    .map_or(&feature.levels, |own| &own.levels);
                if levels.is_empty() != feature.levels.is_empty() {
                    let name = &feature.name;
                    return Err(wrong(format!(
                        "column \"{name}\" mixes up numbers and texts"
                    )));
                }
                if &feature.levels == levels {
                    return Ok(column);
                }
                let known = feature.numbers_of(levels);
                // NaN as an index is 0, so it is kept apart.
                let number = |value: f64| match known.get(value as usize) {
                    Some(&number) if !value.is_nan() => number,
                    _ => f64::NAN,
                };
                Ok(column.into_iter().map(number).collect())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let numbers = matches!(data.target, Target::Numbers(_));
        if numbers != (self.manifest.spec().task == Task::Regress) {
            let (task, found) = (self.manifest.spec().task.name(), data.target.kind());
            return Err(wrong(format!(
                "its target holds {found}, the model can {task}"
            )));
        }
        Ok(Rows::of_columns(&columns, data.len()))
    }

    /// How good the forest is on its own training data, each row judged only by the trees that
    /// have not seen it. `parts` are those of [`out_of_bag`](crate::out_of_bag), one for each
    /// grove, in any order.
    ///
    /// # Errors
    /// [`PredictError::Unlike`] if a part is missing or of another forest,
    /// [`PredictError::WrongData`] if the data is not what the forest was grown from.
    pub fn out_of_bag_score(
        &self,
        data: &Dataset,
        parts: &[OutOfBag],
    ) -> Result<Score, PredictError> {
        crate::oob::score(&self.manifest, data, parts)
    }
}

fn too_large(found: usize) -> ModelError {
    ModelError::TooLarge {
        what: "forest",
        found,
        limit: MAX_FOREST_BYTES,
    }
}
