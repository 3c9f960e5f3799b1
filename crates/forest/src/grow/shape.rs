//! Making compact trees of the engine's: counting the drawn rows into leaves, taking back useless
//! cuts, shortening thresholds, and adding up what each feature gained.

use crate::dataset::{Dataset, Target};
use crate::engine::GrownNode;
use crate::tree::{LEAF, Node, Tree};

/// The values of each used feature, to tell whether two thresholds part them alike.
pub(super) struct Steps(Vec<Vec<f64>>);

impl Steps {
    pub(super) fn new(data: &Dataset, used: &[usize]) -> Self {
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

    /// Whether most features have two values only, as where texts were made columns of 0 and 1.
    pub(super) fn mostly_two_valued(&self) -> bool {
        let two = self.0.iter().filter(|values| values.len() <= 2).count();
        two * 2 > self.0.len()
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
pub(super) struct Shaper<'a> {
    /// The engine's matrix.
    pub(super) columns: &'a [f64],
    /// The data set's row for each of the matrix's.
    pub(super) rows: &'a [usize],
    /// The data set's feature for each of the matrix's.
    pub(super) used: &'a [usize],
    pub(super) steps: &'a Steps,
    pub(super) target: &'a Target,
}

impl Shaper<'_> {
    /// Adds what each feature gained, as shares of the tree's whole gain, to `importance`.
    pub(super) fn shape(&self, raw: &[GrownNode], drawn: &[u32], importance: &mut [f64]) -> Tree {
        let stats = self.stats(raw, drawn);
        let mut tree = Tree::default();
        let mut gains = vec![0.0; importance.len()];
        // Nodes still to come, with the cut whose right side begins there.
        let mut open: Vec<(usize, Option<usize>)> = vec![(0, None)];
        while let Some((place, cut)) = open.pop() {
            let at = tree.nodes.len();
            if let Some(parent) = cut.and_then(|cut| tree.nodes.get_mut(cut)) {
                parent.right = at as u32;
            }
            let (Some(node), Some(rows)) = (raw.get(place), stats.get(place)) else {
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
    fn stats(&self, raw: &[GrownNode], drawn: &[u32]) -> Vec<Stats> {
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
        let mut stats = vec![empty; raw.len()];
        // Squares around the mean keep their digits.
        let mean = match self.target {
            Target::Numbers(values) => values.iter().sum::<f64>() / values.len().max(1) as f64,
            Target::Classes { .. } => 0.0,
        };
        for (place, (&row, &times)) in self.rows.iter().zip(drawn).enumerate() {
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
        for place in (0..raw.len()).rev() {
            let Some((left, right)) = raw.get(place).and_then(|node| node.children) else {
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
    fn walk(&self, raw: &[GrownNode], row: usize) -> usize {
        let mut place = 0;
        while let Some(node) = raw.get(place) {
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
