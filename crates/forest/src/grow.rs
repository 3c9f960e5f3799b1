//! Growing one grove: a pure function of the data, the specification and the grove's index.
//!
//! A [`Grower`] gives trees of cuts. Whatever it gives, the drawn rows of each leaf are counted
//! here, and a cut whose rows all have one class is taken back.

use crate::dataset::{Dataset, Target};
use crate::engine::{Exact, Failure, GrowJob, Grower, draw_bags, is_sound};
use crate::error::GrowError;
use crate::grove::Grove;
use crate::limits::{MAX_GROVE_BYTES, MAX_GROVE_DRAWS, MAX_VOTES, MIN_ROWS};
use crate::ranks::Ranks;
use crate::seed::{Stream, splitmix64};
use crate::spec::{ClassWeights, ForestSpec, Task};

use self::shape::Shaper;

mod shape;

/// Grows the grove of this index, from 0 to [`ForestSpec::groves`] minus one.
///
/// Any node may do so, in any order, as often as it likes: the same bytes come out. It takes no
/// time from a clock, no entropy and no thread but the caller's.
///
/// # Errors
/// [`GrowError`] tells which setting or which lack of the data stands in the way; nothing in the
/// data makes it panic.
///
/// # Example
/// ```
/// use cpe_forest::{Dataset, ForestSpec, grow_grove};
///
/// let data = Dataset::breast_cancer();
/// let spec = ForestSpec::classify().with_trees(20);
/// let here = grow_grove(&data, &spec, 1)?;
/// let there = grow_grove(&data, &spec, 1)?;
/// assert_eq!(here.encode(), there.encode());
/// # Ok::<(), cpe_forest::GrowError>(())
/// ```
pub fn grow_grove(data: &Dataset, spec: &ForestSpec, index: u32) -> Result<Grove, GrowError> {
    grow_grove_by(&Exact, data, spec, index)
}

/// As [`grow_grove`], by another grower than this crate's own.
///
/// # Errors
/// As [`grow_grove`]; [`GrowError::Engine`] if what the grower gives are no trees.
pub fn grow_grove_by(
    grower: &dyn Grower,
    data: &Dataset,
    spec: &ForestSpec,
    index: u32,
) -> Result<Grove, GrowError> {
    check(data, spec)?;
    let trees = spec.trees_of(index);
    if trees == 0 {
        return Err(GrowError::NoSuchGrove {
            index,
            groves: spec.groves(),
        });
    }
    let plan = Plan::new(data, spec, index);
    let used = varying(data);
    let ranks = data.ranks();
    let job = GrowJob {
        data,
        used: &used,
        seen: &plan.rows,
        weights: plan.weights.as_deref(),
        trees: trees as usize,
        mtry: spec.mtry_of(used.len()),
        min_leaf: spec.min_leaf as usize,
        depth: spec.depth_of(plan.rows.len(), mostly_two_valued(ranks, &used)),
        seed: plan.seed,
    };
    let failed = |failure| match failure {
        Failure::Failed(reason) => GrowError::Engine { index, reason },
        Failure::Changed(reason) => GrowError::EngineChanged(reason),
    };
    let bags = plan.bags(job.trees).map_err(failed)?;
    let grown = grower.grow(&job, &bags).map_err(failed)?;
    let sound = |(tree, drawn)| is_sound(tree, job.features(), drawn);
    if grown.len() != job.trees || !grown.iter().zip(bags.iter().map(Vec::as_slice)).all(sound) {
        let reason = "what it gave are not the trees that were asked for".to_owned();
        return Err(GrowError::Engine { index, reason });
    }
    let shaper = Shaper { job: &job, ranks };
    let mut importance = vec![0.0; data.features.len()];
    let trees = grown
        .iter()
        .zip(&bags)
        .map(|(tree, drawn)| shaper.shape(tree, drawn, &mut importance))
        .collect();
    let grove = Grove {
        recipe: spec.recipe_by(grower.name(), &data.hash()),
        index,
        features: data.features.len(),
        classes: match &data.target {
            Target::Classes { names, .. } => names.len(),
            Target::Numbers(_) => 0,
        },
        importance,
        trees,
    };
    let found = grove.encode().len();
    if found > MAX_GROVE_BYTES {
        return Err(GrowError::TooLarge {
            index,
            found,
            limit: MAX_GROVE_BYTES,
        });
    }
    Ok(grove)
}

/// Whether a forest of this specification can be grown from this data.
///
/// # Errors
/// The [`GrowError`] that each of its groves would give.
pub fn check(data: &Dataset, spec: &ForestSpec) -> Result<(), GrowError> {
    spec.validate()?;
    let wrong_task = || GrowError::WrongTask {
        task: spec.task.name(),
        target: data.target_name.clone(),
        found: data.target.kind(),
    };
    if data.len() < MIN_ROWS {
        return Err(GrowError::TooFewRows {
            found: data.len(),
            needed: MIN_ROWS,
        });
    }
    let constant = match (&data.target, spec.task) {
        (Target::Classes { of, .. }, Task::Classify) => all_equal(of),
        (Target::Numbers(values), Task::Regress) => all_equal(values),
        _ => return Err(wrong_task()),
    };
    if constant {
        return Err(GrowError::ConstantTarget {
            target: data.target_name.clone(),
            value: data.target_text(0),
        });
    }
    if varying(data).is_empty() {
        return Err(GrowError::ConstantFeatures);
    }
    if let Target::Classes { names, .. } = &data.target
        && data.len().saturating_mul(names.len()) > MAX_VOTES
    {
        return Err(GrowError::TooManyVotes {
            rows: data.len(),
            classes: names.len(),
            limit: MAX_VOTES,
        });
    }
    let drawn = rows_seen(data.len(), spec.sample)
        .saturating_mul(spec.grove_trees.min(spec.trees) as usize);
    if drawn > MAX_GROVE_DRAWS {
        let most = MAX_GROVE_DRAWS / rows_seen(data.len(), spec.sample).max(1);
        return Err(GrowError::Setting {
            setting: "grove_trees",
            value: spec.grove_trees.to_string(),
            bounds: format!("1 to {most}, what so many rows allow"),
        });
    }
    if let (ClassWeights::Given(given), Target::Classes { names, .. }) =
        (&spec.class_weights, &data.target)
        && let Some(class) = given.keys().find(|class| !names.contains(class))
    {
        return Err(GrowError::Setting {
            setting: "class_weights",
            value: class.clone(),
            bounds: format!("the classes: {}", names.join(", ")),
        });
    }
    let weights = row_weights(data, spec);
    let drawn = |weights: Vec<f64>| weights.iter().filter(|weight| **weight > 0.0).count();
    match weights.map(drawn) {
        Some(found) if found < MIN_ROWS => Err(GrowError::TooFewRows {
            found,
            needed: MIN_ROWS,
        }),
        _ => Ok(()),
    }
}

/// The part of a grove's making that needs no engine: its seed and its rows.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// The rows it sees, in order.
    pub(crate) rows: Vec<usize>,
    /// How often each of them is drawn, in proportion; none if all alike.
    pub(crate) weights: Option<Vec<f64>>,
}

impl Plan {
    pub(crate) fn new(data: &Dataset, spec: &ForestSpec, index: u32) -> Self {
        let seed = splitmix64(spec.seed, u64::from(index));
        let mut rows: Vec<usize> = (0..data.len()).collect();
        if spec.sample < 1.0 {
            Stream::new(splitmix64(seed, 0)).shuffle(&mut rows);
            rows.truncate(rows_seen(data.len(), spec.sample));
            rows.sort_unstable();
        }
        let weights = row_weights(data, spec);
        let of = |all: Vec<f64>| {
            rows.iter()
                .filter_map(|&row| all.get(row).copied())
                .collect()
        };
        let weights = weights.map(of);
        Self {
            seed,
            rows,
            weights,
        }
    }

    /// How often each of its rows is drawn for each of so many trees.
    pub(crate) fn bags(&self, trees: usize) -> Result<Vec<Vec<u32>>, Failure> {
        draw_bags(self.seed, trees, self.rows.len(), self.weights.as_deref())
    }
}

/// How many of so many rows a grove sees.
fn rows_seen(rows: usize, sample: f64) -> usize {
    if sample < 1.0 {
        let seen = (rows as f64 * sample).ceil() as usize;
        return seen.clamp(MIN_ROWS.min(rows), rows);
    }
    rows
}

/// The weight of each row: its own times its class's. None if nobody gave any.
fn row_weights(data: &Dataset, spec: &ForestSpec) -> Option<Vec<f64>> {
    let Target::Classes { names, of } = &data.target else {
        return data.weights.clone();
    };
    let own = |row: usize| {
        let weights = data.weights.as_ref();
        weights.map_or(1.0, |weights| weights.get(row).copied().unwrap_or(0.0))
    };
    let of_class: Vec<f64> = match &spec.class_weights {
        ClassWeights::Equal => return data.weights.clone(),
        ClassWeights::Given(given) => names
            .iter()
            .map(|name| given.get(name).copied().unwrap_or(1.0))
            .collect(),
        ClassWeights::Balanced => {
            let mut sums = vec![0.0; names.len()];
            for (row, class) in of.iter().enumerate() {
                if let Some(sum) = sums.get_mut(*class as usize) {
                    *sum += own(row);
                }
            }
            let there = sums.iter().filter(|sum| **sum > 0.0).count().max(1) as f64;
            let whole: f64 = sums.iter().sum();
            sums.iter()
                .map(|sum| whole / (there * sum.max(f64::MIN_POSITIVE)))
                .collect()
        }
    };
    let weight = |(row, class): (usize, &u32)| {
        of_class.get(*class as usize).copied().unwrap_or(0.0) * own(row)
    };
    Some(of.iter().enumerate().map(weight).collect())
}

fn all_equal<T: PartialEq>(values: &[T]) -> bool {
    values
        .iter()
        .zip(values.iter().skip(1))
        .all(|(a, b)| a == b)
}

/// Features with more than one value. smartcore draws features at a cut without looking, and gives
/// up if all it drew are constant; so constant ones are kept from growers.
fn varying(data: &Dataset) -> Vec<usize> {
    let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
    let varies = |column: &&[f64]| {
        let first = column.first().copied().unwrap_or(f64::NAN);
        column.iter().any(|&value| !same(value, first))
    };
    let columns = data.columns.iter().map(Vec::as_slice).enumerate();
    columns
        .filter(|(_, column)| varies(column))
        .map(|(feature, _)| feature)
        .collect()
}

/// Whether most features have two values only, as where texts were made columns of 0 and 1.
fn mostly_two_valued(ranks: &Ranks, used: &[usize]) -> bool {
    let columns = used.iter().filter_map(|&feature| ranks.column(feature));
    let two = columns.filter(|column| column.values() <= 2).count();
    two * 2 > used.len()
}
