//! A data set's content: its invariant, its hash, and its form on the wire.

use cpe_tuple::codec;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Dataset, Feature, Target};
use crate::error::DataError;
use crate::limits::{
    MAX_CELLS, MAX_CLASSES, MAX_COLUMNS, MAX_DATASET_BYTES, MAX_LEVELS, MAX_NAME_BYTES, MAX_ROWS,
    MAX_TARGET, MAX_WEIGHT,
};
use crate::table::too_large;

impl Dataset {
    /// The content's BLAKE3 hash: names, levels, every value and the target, in their order.
    /// Independent of the form in which a data set is stored or sent.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        *self.hash.get_or_init(|| self.hash_content())
    }

    fn hash_content(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"cpe-forest data set 1\n");
        let text = |hasher: &mut blake3::Hasher, text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        hasher.update(&(self.len() as u64).to_le_bytes());
        hasher.update(&(self.features.len() as u64).to_le_bytes());
        for (feature, column) in self.features.iter().zip(&self.columns) {
            text(&mut hasher, &feature.name);
            hasher.update(&(feature.levels.len() as u64).to_le_bytes());
            for level in &feature.levels {
                text(&mut hasher, level);
            }
            hash_numbers(&mut hasher, column);
        }
        text(&mut hasher, &self.target_name);
        match &self.target {
            Target::Classes { names, of } => {
                hasher.update(&(names.len() as u64).to_le_bytes());
                for name in names {
                    text(&mut hasher, name);
                }
                for class in of {
                    hasher.update(&class.to_le_bytes());
                }
            }
            Target::Numbers(values) => {
                hasher.update(&u64::MAX.to_le_bytes());
                hash_numbers(&mut hasher, values);
            }
        }
        if let Some(weights) = &self.weights {
            hasher.update(b"weights");
            hash_numbers(&mut hasher, weights);
        }
        *hasher.finalize().as_bytes()
    }

    /// The data set as bytes (CBOR, a column as one byte string), as it is kept in the space.
    ///
    /// # Errors
    /// [`DataError::TooLarge`] beyond [`MAX_DATASET_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, DataError> {
        let (classes, target) = match &self.target {
            Target::Numbers(values) => (None, pack(values)),
            Target::Classes { names, of } => {
                let of: Vec<f64> = of.iter().copied().map(f64::from).collect();
                (Some(names.clone()), pack(&of))
            }
        };
        let stored = Stored {
            rows: self.len() as u64,
            features: self.features.clone(),
            columns: self.columns.iter().map(|column| pack(column)).collect(),
            target_name: self.target_name.clone(),
            classes,
            target,
            weights: self.weights.as_deref().map(pack),
            weights_name: self.weights_name.clone(),
        };
        let bytes =
            codec::encode(&stored).map_err(|error| DataError::Inconsistent(error.to_string()))?;
        if bytes.len() > MAX_DATASET_BYTES {
            let (found, limit) = (bytes.len() as u64, MAX_DATASET_BYTES as u64);
            return Err(too_large("the encoded data set, in bytes,", found, limit));
        }
        Ok(bytes)
    }

    /// Reads a data set and holds it to all that [`new`](Self::new) asks.
    ///
    /// # Errors
    /// [`DataError::Decode`] for bytes that are none, or what `new` gives; whatever the bytes are,
    /// there is no panic.
    pub fn decode(bytes: &[u8]) -> Result<Self, DataError> {
        let stored: Stored = codec::decode(bytes, MAX_DATASET_BYTES)
            .map_err(|error| DataError::Decode(error.to_string()))?;
        // A column of bytes grows eightfold, so the bound on cells comes first.
        let rows = usize::try_from(stored.rows).unwrap_or(usize::MAX);
        check_size(rows, stored.columns.len())?;
        let columns = stored
            .columns
            .iter()
            .map(|column| unpack(column, rows))
            .collect::<Result<_, _>>()?;
        let numbers = unpack(&stored.target, rows)?;
        let target = match stored.classes {
            None => Target::Numbers(numbers),
            Some(names) => {
                let whole = |value: &f64| value.fract() == 0.0 && (0.0..256.0).contains(value);
                if !numbers.iter().all(whole) {
                    return Err(DataError::Decode("a class is no small number".to_owned()));
                }
                let of = numbers.iter().map(|&value| value as u32).collect();
                Target::Classes { names, of }
            }
        };
        let data = Self::new(stored.features, columns, stored.target_name, target)?;
        match stored.weights {
            Some(weights) => {
                let mut data = data.with_weights(unpack(&weights, rows)?)?;
                data.weights_name = stored.weights_name;
                check_names("column", &data.weights_name)?;
                Ok(data)
            }
            None => Ok(data),
        }
    }

    /// Holds whatever the parts came from to the type's invariant.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let wrong = |reason: String| Err(DataError::Inconsistent(reason));
        let rows = self.len();
        check_size(rows, self.features.len())?;
        if rows == 0 {
            return Err(DataError::NoRows);
        }
        if self.features.is_empty() {
            return wrong("there is no feature besides the target".to_owned());
        }
        if self.features.len() != self.columns.len() {
            let (names, columns) = (self.features.len(), self.columns.len());
            return wrong(format!(
                "{names} features are named, {columns} columns are given"
            ));
        }
        check_features(&self.features)?;
        for (feature, column) in self.features.iter().zip(&self.columns) {
            if column.len() != rows {
                let (name, found) = (&feature.name, column.len());
                return wrong(format!(
                    "column \"{name}\" has {found} rows, the target {rows}"
                ));
            }
            let levels = feature.levels.len() as f64;
            if let Some(row) = column.iter().position(|value| {
                value.is_infinite()
                    || (levels > 0.0
                        && !value.is_nan()
                        && (value.fract() != 0.0 || !(0.0..levels).contains(value)))
            }) {
                let name = &feature.name;
                return wrong(format!(
                    "column \"{name}\" has an impossible value in row {row}"
                ));
            }
        }
        self.check_weights()?;
        self.check_target()
    }

    fn check_weights(&self) -> Result<(), DataError> {
        let Some(weights) = &self.weights else {
            return Ok(());
        };
        let wrong = |reason: String| Err(DataError::Inconsistent(reason));
        let rows = self.len();
        if weights.len() != rows {
            let found = weights.len();
            return wrong(format!("{found} weights are given for {rows} rows"));
        }
        // A NaN is in no range, so it is found here too.
        let outside = |weight: &&f64| !(0.0..=MAX_WEIGHT).contains(*weight);
        if let Some(weight) = weights.iter().find(outside) {
            return wrong(format!("a weight is {weight}, not 0 to {MAX_WEIGHT:e}"));
        }
        if weights.iter().all(|weight| *weight == 0.0) {
            return wrong("all weights are 0: no row is left to learn from".to_owned());
        }
        Ok(())
    }

    fn check_target(&self) -> Result<(), DataError> {
        let wrong = |reason: String| Err(DataError::Inconsistent(reason));
        if self
            .features
            .iter()
            .any(|feature| feature.name == self.target_name)
        {
            return wrong(format!(
                "\"{}\" is both a feature and the target",
                self.target_name
            ));
        }
        match &self.target {
            Target::Classes { names, of } => {
                if names.len() > MAX_CLASSES {
                    let found = names.len() as u64;
                    return Err(too_large(
                        "the number of classes",
                        found,
                        MAX_CLASSES as u64,
                    ));
                }
                check_names("class", names)?;
                if of.iter().any(|&class| class as usize >= names.len()) {
                    return wrong("a row has a class without a name".to_owned());
                }
            }
            Target::Numbers(values) => {
                // A NaN is in no range, so it is found here too.
                let found = values
                    .iter()
                    .position(|value| !(-MAX_TARGET..=MAX_TARGET).contains(value));
                if let Some(row) = found {
                    return Err(DataError::TargetTooLarge {
                        row: row + 1,
                        column: self.target_name.clone(),
                        value: values.get(row).copied().unwrap_or(f64::NAN),
                        bound: MAX_TARGET,
                    });
                }
            }
        }
        Ok(())
    }
}

/// A data set on the wire.
#[derive(Serialize, Deserialize)]
struct Stored {
    rows: u64,
    features: Vec<Feature>,
    columns: Vec<ByteBuf>,
    target_name: String,
    /// None for a target of numbers.
    classes: Option<Vec<String>>,
    target: ByteBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<ByteBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights_name: Option<String>,
}

/// Numbers as bytes, each in the fewest that hold every one of them exactly.
fn pack(values: &[f64]) -> ByteBuf {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    let mut bytes = Vec::new();
    if values
        .iter()
        .all(|&value| same(f64::from(value as u8), value))
    {
        bytes.push(1);
        bytes.extend(values.iter().map(|&value| value as u8));
    } else if values
        .iter()
        .all(|&value| same(f64::from(value as f32), value))
    {
        bytes.push(4);
        bytes.extend(
            values
                .iter()
                .flat_map(|&value| (value as f32).to_le_bytes()),
        );
    } else {
        bytes.push(8);
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    ByteBuf::from(bytes)
}

fn unpack(bytes: &[u8], rows: usize) -> Result<Vec<f64>, DataError> {
    let wrong = || DataError::Decode("a column has not as many numbers as rows".to_owned());
    let (width, numbers) = bytes.split_first().ok_or_else(wrong)?;
    if numbers.len() != rows.saturating_mul(usize::from(*width)) {
        return Err(wrong());
    }
    // Zeros and NaNs of other forms would make equal data sets unequal.
    let one_form = |value: f64| {
        if value.is_nan() {
            f64::NAN
        } else {
            value + 0.0
        }
    };
    match width {
        1 => Ok(numbers.iter().copied().map(f64::from).collect()),
        4 => Ok(numbers
            .as_chunks()
            .0
            .iter()
            .map(|chunk| one_form(f64::from(f32::from_le_bytes(*chunk))))
            .collect()),
        8 => Ok(numbers
            .as_chunks()
            .0
            .iter()
            .map(|chunk| one_form(f64::from_le_bytes(*chunk)))
            .collect()),
        _ => Err(wrong()),
    }
}

fn check_size(rows: usize, features: usize) -> Result<(), DataError> {
    let limits = [
        ("the number of rows", rows, MAX_ROWS),
        ("the number of features", features, MAX_COLUMNS),
        (
            "rows times columns",
            rows.saturating_mul(features),
            MAX_CELLS,
        ),
    ];
    for (what, found, limit) in limits {
        if found > limit {
            return Err(too_large(what, found as u64, limit as u64));
        }
    }
    Ok(())
}

/// Names and levels of features within their bounds and without repetition.
pub(crate) fn check_features(features: &[Feature]) -> Result<(), DataError> {
    check_names("feature", features.iter().map(|feature| &feature.name))?;
    for feature in features {
        if feature.levels.len() > MAX_LEVELS {
            let what = format!("the number of texts of \"{}\"", feature.name);
            return Err(too_large(
                &what,
                feature.levels.len() as u64,
                MAX_LEVELS as u64,
            ));
        }
        check_names("text", &feature.levels)?;
        // Texts are looked up by halving.
        if !feature.levels.is_sorted() {
            let name = &feature.name;
            return Err(DataError::Inconsistent(format!(
                "the texts of \"{name}\" are not sorted"
            )));
        }
    }
    Ok(())
}

pub(crate) fn check_names<'a>(
    what: &str,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), DataError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if name.len() > MAX_NAME_BYTES {
            let what = format!("the name of a {what}, in bytes,");
            return Err(too_large(&what, name.len() as u64, MAX_NAME_BYTES as u64));
        }
        if !seen.insert(name) {
            return Err(DataError::Inconsistent(format!(
                "the {what} \"{name}\" is there twice"
            )));
        }
    }
    Ok(())
}

/// All NaNs are one value, and so are both zeros, as they are to a tree.
fn hash_numbers(hasher: &mut blake3::Hasher, values: &[f64]) {
    for value in values {
        let value = if value.is_nan() {
            f64::NAN
        } else {
            value + 0.0
        };
        hasher.update(&value.to_bits().to_le_bytes());
    }
}
