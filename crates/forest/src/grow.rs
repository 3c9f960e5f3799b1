//! Growing one grove: a pure function of the data, the specification and the grove's index.
//!
//! Classes are grown by regression on integer codes (Joly, Geurts, Wehenkel, "Random forests with
//! random projections of the output space for high dimensional multi-label classification", 2014,
//! <https://arxiv.org/abs/1404.3581>): each grove of more than two classes gives them codes of its
//! own in random order. Afterwards the drawn rows are sent down each tree to count the classes in
//! its leaves, and a cut whose rows all have one class is taken back.

use crate::dataset::{Dataset, Target};
use crate::engine::{self, Failure, Job, RawTree};
use crate::error::GrowError;
use crate::grove::Grove;
use crate::limits::{MAX_GROVE_BYTES, MIN_ROWS};
use crate::seed::{Stream, splitmix64};
use crate::spec::{ForestSpec, Task};
use crate::tree::{LEAF, Node, Tree};

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
    let job = Job {
        rows: plan.rows.len(),
        features: used.len(),
        columns: matrix(data, &used, &plan.rows),
        targets: targets(data, &plan),
        trees: trees as usize,
        mtry: spec.mtry_of(used.len()),
        min_leaf: spec.min_leaf as usize,
        depth: spec.depth_of(plan.rows.len()),
        seed: plan.seed,
    };
    let columns = job.columns.clone();
    let raw = engine::grow(job).map_err(|failure| match failure {
        Failure::Failed(reason) => GrowError::Engine { index, reason },
        Failure::Changed(reason) => GrowError::EngineChanged(reason),
    })?;
    let shaper = Shaper {
        columns: &columns,
        rows: &plan.rows,
        used: &used,
        steps: &Steps::new(data, &used),
        target: &data.target,
    };
    let mut importance = vec![0.0; data.features.len()];
    let trees = raw
        .iter()
        .map(|tree| shaper.shape(tree, &mut importance))
        .collect();
    let grove = Grove {
        recipe: spec.recipe(&data.hash()),
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
    Ok(())
}

/// The part of a grove's making that needs no engine: its seed and its rows.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// The rows it sees, in order.
    pub(crate) rows: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(data: &Dataset, spec: &ForestSpec, index: u32) -> Self {
        let seed = splitmix64(spec.seed, u64::from(index));
        let mut rows: Vec<usize> = (0..data.len()).collect();
        if spec.sample < 1.0 {
            let seen = (data.len() as f64 * spec.sample).ceil() as usize;
            Stream::new(splitmix64(seed, 0)).shuffle(&mut rows);
            rows.truncate(seen.max(MIN_ROWS));
            rows.sort_unstable();
        }
        Self { seed, rows }
    }

    /// The number that stands for each class.
    fn codes(&self, classes: usize) -> Vec<f64> {
        let mut codes: Vec<f64> = (0..classes).map(|code| code as f64).collect();
        if classes > 2 {
            Stream::new(splitmix64(self.seed, 1)).shuffle(&mut codes);
        }
        codes
    }
}

fn all_equal<T: PartialEq>(values: &[T]) -> bool {
    values
        .iter()
        .zip(values.iter().skip(1))
        .all(|(a, b)| a == b)
}

/// Features with more than one value. The engine draws features at a cut without looking, and
/// gives up if all it drew are constant; so constant ones are kept from it.
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

/// The engine's matrix. A missing value becomes infinity: it sorts after all others, and a cut
/// between it and the largest number is at that number, so missing values go right as they do in
/// [`Tree::leaf`].
fn matrix(data: &Dataset, used: &[usize], rows: &[usize]) -> Vec<f64> {
    let mut matrix = Vec::with_capacity(used.len() * rows.len());
    for &feature in used {
        let column = data
            .columns
            .get(feature)
            .map_or(&[] as &[f64], Vec::as_slice);
        matrix.extend(rows.iter().map(|&row| {
            let value = column.get(row).copied().unwrap_or(f64::NAN);
            if value.is_nan() { f64::INFINITY } else { value }
        }));
    }
    matrix
}

fn targets(data: &Dataset, plan: &Plan) -> Vec<f64> {
    let of_row = |row: usize| match &data.target {
        Target::Numbers(values) => values.get(row).copied().unwrap_or(0.0),
        Target::Classes { of, .. } => of.get(row).map_or(0.0, |class| f64::from(*class)),
    };
    let numbers = plan.rows.iter().map(|&row| of_row(row));
    match &data.target {
        Target::Numbers(_) => numbers.collect(),
        Target::Classes { names, .. } => {
            let codes = plan.codes(names.len());
            numbers
                .map(|class| codes.get(class as usize).copied().unwrap_or(0.0))
                .collect()
        }
    }
}

/// The values of each used feature, to tell whether two thresholds part them alike.
struct Steps(Vec<Vec<f64>>);

impl Steps {
    fn new(data: &Dataset, used: &[usize]) -> Self {
        let sorted = |feature: &usize| {
            let column = data
                .columns
                .get(*feature)
                .map_or(&[] as &[f64], Vec::as_slice);
            let mut values: Vec<f64> = column
                .iter()
                .copied()
                .filter(|value| !value.is_nan())
                .collect();
            values.sort_unstable_by(f64::total_cmp);
            values.dedup();
            values
        };
        Self(used.iter().map(sorted).collect())
    }

    /// A threshold that takes four bytes instead of eight, if one parts all values as the given one
    /// does.
    fn shorten(&self, used: usize, threshold: f64) -> f64 {
        let values = self.0.get(used).map_or(&[] as &[f64], Vec::as_slice);
        let below = |bound: f64| values.partition_point(|&value| value <= bound);
        let nearest = threshold as f32;
        [nearest, nearest.next_down(), nearest.next_up()]
            .into_iter()
            .map(f64::from)
            .find(|short| short.is_finite() && below(*short) == below(threshold))
            .unwrap_or(threshold)
    }
}

/// What is known of the rows in a node.
#[derive(Clone)]
enum Stats {
    Classes(Vec<u32>),
    Numbers {
        rows: f64,
        sum: f64,
        squares: f64,
        least: f64,
        most: f64,
    },
}

impl Stats {
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Classes(mine), Self::Classes(theirs)) => {
                for (mine, theirs) in mine.iter_mut().zip(theirs) {
                    *mine += theirs;
                }
            }
            (
                Self::Numbers {
                    rows,
                    sum,
                    squares,
                    least,
                    most,
                },
                Self::Numbers {
                    rows: rows2,
                    sum: sum2,
                    squares: squares2,
                    least: least2,
                    most: most2,
                },
            ) => {
                *rows += rows2;
                *sum += sum2;
                *squares += squares2;
                *least = least.min(*least2);
                *most = most.max(*most2);
            }
            _ => debug_assert!(false, "all nodes of a tree have one kind of statistics"),
        }
    }

    /// Whether no cut can tell these rows apart.
    fn pure(&self) -> bool {
        match self {
            Self::Classes(counts) => counts.iter().filter(|&&rows| rows > 0).count() <= 1,
            Self::Numbers { least, most, .. } => least >= most,
        }
    }

    /// Gini impurity or squared error, times the rows.
    fn impurity(&self) -> f64 {
        match self {
            Self::Classes(counts) => {
                let rows: f64 = counts.iter().copied().map(f64::from).sum();
                let squares: f64 = counts.iter().map(|&rows| f64::from(rows).powi(2)).sum();
                if rows > 0.0 {
                    rows - squares / rows
                } else {
                    0.0
                }
            }
            Self::Numbers {
                rows, sum, squares, ..
            } => {
                if *rows > 0.0 {
                    (squares - sum * sum / rows).max(0.0)
                } else {
                    0.0
                }
            }
        }
    }
}

/// Makes compact trees of the engine's.
struct Shaper<'a> {
    /// The engine's matrix.
    columns: &'a [f64],
    /// The data set's row for each of the matrix's.
    rows: &'a [usize],
    /// The data set's feature for each of the matrix's.
    used: &'a [usize],
    steps: &'a Steps,
    target: &'a Target,
}

impl Shaper<'_> {
    /// Adds what each feature gained, as shares of the tree's whole gain, to `importance`.
    fn shape(&self, raw: &RawTree, importance: &mut [f64]) -> Tree {
        let stats = self.stats(raw);
        let mut tree = Tree::default();
        let mut gains = vec![0.0; importance.len()];
        // Nodes still to come, with the cut whose right side begins there.
        let mut open: Vec<(usize, Option<usize>)> = vec![(0, None)];
        while let Some((place, cut)) = open.pop() {
            let at = tree.nodes.len();
            if let Some(parent) = cut.and_then(|cut| tree.nodes.get_mut(cut)) {
                parent.right = at as u32;
            }
            let (Some(node), Some(rows)) = (raw.nodes.get(place), stats.get(place)) else {
                continue;
            };
            match node.children {
                Some((left, right)) if !rows.pure() => {
                    let feature = self.used.get(node.feature).copied().unwrap_or(0);
                    tree.nodes.push(Node {
                        value: self.steps.shorten(node.feature, node.threshold),
                        right: 0,
                        feature: feature as u16,
                    });
                    let of = |place: usize| stats.get(place).map_or(0.0, Stats::impurity);
                    if let Some(gain) = gains.get_mut(feature) {
                        *gain += (rows.impurity() - of(left) - of(right)).max(0.0);
                    }
                    open.push((right, Some(at)));
                    open.push((left, None));
                }
                _ => tree.push_leaf(rows, node.output),
            }
        }
        let whole: f64 = gains.iter().sum();
        if whole > 0.0 {
            for (sum, gain) in importance.iter_mut().zip(gains) {
                *sum += gain / whole;
            }
        }
        tree
    }

    /// Sends the drawn rows down the tree, then adds up from the leaves.
    fn stats(&self, raw: &RawTree) -> Vec<Stats> {
        let empty = match self.target {
            Target::Classes { names, .. } => Stats::Classes(vec![0; names.len()]),
            Target::Numbers(_) => Stats::Numbers {
                rows: 0.0,
                sum: 0.0,
                squares: 0.0,
                least: f64::INFINITY,
                most: f64::NEG_INFINITY,
            },
        };
        let mut stats = vec![empty; raw.nodes.len()];
        // Squares around the mean keep their digits.
        let mean = match self.target {
            Target::Numbers(values) => values.iter().sum::<f64>() / values.len().max(1) as f64,
            Target::Classes { .. } => 0.0,
        };
        for (place, (&row, &times)) in self.rows.iter().zip(&raw.drawn).enumerate() {
            if times == 0 {
                continue;
            }
            let Some(stats) = stats.get_mut(self.walk(raw, place)) else {
                continue;
            };
            match (stats, self.target) {
                (Stats::Classes(counts), Target::Classes { of, .. }) => {
                    let class = of.get(row).map_or(0, |class| *class as usize);
                    if let Some(count) = counts.get_mut(class) {
                        *count += times;
                    }
                }
                (
                    Stats::Numbers {
                        rows,
                        sum,
                        squares,
                        least,
                        most,
                    },
                    Target::Numbers(values),
                ) => {
                    let value = values.get(row).copied().unwrap_or(0.0);
                    let (times, from_mean) = (f64::from(times), value - mean);
                    *rows += times;
                    *sum += times * from_mean;
                    *squares += times * from_mean * from_mean;
                    *least = least.min(value);
                    *most = most.max(value);
                }
                _ => {}
            }
        }
        // Children stand after their parents, so from the end each is complete when it is added.
        for place in (0..raw.nodes.len()).rev() {
            let Some((left, right)) = raw.nodes.get(place).and_then(|node| node.children) else {
                continue;
            };
            let (parents, rest) = stats.split_at_mut(place + 1);
            if let Some(parent) = parents.last_mut() {
                for child in [left, right] {
                    if let Some(child) = rest.get(child - place - 1) {
                        parent.add(child);
                    }
                }
            }
        }
        stats
    }

    /// The leaf of the engine's tree that a row of the matrix ends in.
    fn walk(&self, raw: &RawTree, row: usize) -> usize {
        let mut place = 0;
        while let Some(node) = raw.nodes.get(place) {
            let Some((left, right)) = node.children else {
                break;
            };
            let value = self.columns.get(node.feature * self.rows.len() + row);
            let below = value.is_some_and(|value| *value <= node.threshold);
            place = if below { left } else { right };
        }
        place
    }
}

impl Tree {
    fn push_leaf(&mut self, stats: &Stats, output: f64) {
        let (value, right) = match stats {
            Stats::Classes(counts) => {
                let classes = counts.iter().enumerate().filter(|(_, rows)| **rows > 0);
                let mut classes: Vec<(u16, u32)> =
                    classes.map(|(class, rows)| (class as u16, *rows)).collect();
                classes.sort_by_key(|&(class, rows)| (std::cmp::Reverse(rows), class));
                (0.0, self.push_counts(&classes))
            }
            // The mean of equal numbers may be off by a rounding; the number is not.
            Stats::Numbers { least, .. } if stats.pure() && least.is_finite() => (*least, 0),
            Stats::Numbers { .. } => (output, 0),
        };
        self.nodes.push(Node {
            value,
            right,
            feature: LEAF,
        });
    }
}
