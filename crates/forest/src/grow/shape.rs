//! Making compact trees of the engine's: counting the drawn rows into leaves, taking back useless
//! cuts, shortening thresholds, and adding up what each feature gained.

use crate::dataset::Target;
use crate::engine::{GrowJob, GrownNode, GrownTree};
use crate::ranks::Ranks;
use crate::tree::{LEAF, Node, Tree};

/// What is known of the rows in each node.
enum Stats {
    Classes {
        classes: usize,
        /// Node after node the rows of each class.
        counts: Vec<u32>,
    },
    Numbers(Vec<Moments>),
}

/// Numbers of a node.
#[derive(Clone, Copy)]
struct Moments {
    rows: f64,
    /// Around the mean of the whole, as the squares are: that keeps their digits.
    sum: f64,
    squares: f64,
    least: f64,
    most: f64,
}

impl Moments {
    const NONE: Self = Self {
        rows: 0.0,
        sum: 0.0,
        squares: 0.0,
        least: f64::INFINITY,
        most: f64::NEG_INFINITY,
    };

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum += other.sum;
        self.squares += other.squares;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }
}

impl Stats {
    fn new(target: &Target, nodes: usize) -> Self {
        match target {
            Target::Classes { names, .. } => Self::Classes {
                classes: names.len(),
                counts: vec![0; nodes * names.len()],
            },
            Target::Numbers(_) => Self::Numbers(vec![Moments::NONE; nodes]),
        }
    }

    /// Adds a node's to its parent's, which stands before it.
    fn add(&mut self, parent: usize, child: usize) {
        match self {
            Self::Classes { classes, counts } => {
                let Some((before, after)) = counts.split_at_mut_checked(child * *classes) else {
                    return;
                };
                let parents = before.iter_mut().skip(parent * *classes);
                for (parent, child) in parents.zip(after).take(*classes) {
                    *parent += *child;
                }
            }
            Self::Numbers(moments) => {
                let child = moments.get(child).copied();
                if let (Some(parent), Some(child)) = (moments.get_mut(parent), child) {
                    parent.add(&child);
                }
            }
        }
    }

    fn counts(&self, place: usize) -> &[u32] {
        match self {
            Self::Classes { classes, counts } => counts
                .get(place * classes..(place + 1) * classes)
                .unwrap_or_default(),
            Self::Numbers(_) => &[],
        }
    }

    /// Whether no cut can tell these rows apart.
    fn pure(&self, place: usize) -> bool {
        match self {
            Self::Classes { .. } => {
                let there = self.counts(place).iter().filter(|&&rows| rows > 0);
                there.count() <= 1
            }
            Self::Numbers(moments) => moments
                .get(place)
                .is_none_or(|moments| moments.least >= moments.most),
        }
    }

    /// Gini impurity or squared error, times the rows.
    fn impurity(&self, place: usize) -> f64 {
        match self {
            Self::Classes { .. } => {
                let counts = || self.counts(place).iter().map(|&rows| u64::from(rows));
                let rows: u64 = counts().sum();
                let squares: u64 = counts().map(|rows| rows * rows).sum();
                if rows > 0 {
                    rows as f64 - squares as f64 / rows as f64
                } else {
                    0.0
                }
            }
            Self::Numbers(moments) => match moments.get(place) {
                Some(it) if it.rows > 0.0 => (it.squares - it.sum * it.sum / it.rows).max(0.0),
                _ => 0.0,
            },
        }
    }
}

/// Makes compact trees of the engine's.
pub(super) struct Shaper<'a> {
    pub(super) job: &'a GrowJob<'a>,
    pub(super) ranks: &'a Ranks,
}

impl Shaper<'_> {
    /// Adds what each feature gained, as shares of the tree's whole gain, to `importance`.
    pub(super) fn shape(&self, raw: &GrownTree, drawn: &[u32], importance: &mut [f64]) -> Tree {
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
            let Some(node) = raw.nodes.get(place) else {
                continue;
            };
            match node.children {
                Some((left, right)) if !stats.pure(place) => {
                    let feature = self.job.used.get(node.feature).copied().unwrap_or(0);
                    tree.nodes.push(Node {
                        value: self.shorten(feature, node.threshold),
                        right: 0,
                        feature: feature as u16,
                    });
                    if let Some(gain) = gains.get_mut(feature) {
                        let of = |place: usize| stats.impurity(place);
                        *gain += (of(place) - of(left) - of(right)).max(0.0);
                    }
                    open.push((right, Some(at)));
                    open.push((left, None));
                }
                _ => tree.push_leaf(&stats, place, node.output),
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

    /// A threshold that takes four bytes instead of eight, if one parts all values as the given one
    /// does.
    fn shorten(&self, feature: usize, threshold: f64) -> f64 {
        if f64::from(threshold as f32).to_bits() == threshold.to_bits() {
            return threshold;
        }
        let columns = &self.job.data.columns;
        let (Some(ranked), Some(column)) = (self.ranks.column(feature), columns.get(feature))
        else {
            return threshold;
        };
        let below = |bound: f64| ranked.at_most(column, bound);
        let nearest = threshold as f32;
        [nearest, nearest.next_down(), nearest.next_up()]
            .into_iter()
            .map(f64::from)
            .find(|short| short.is_finite() && below(*short) == below(threshold))
            .unwrap_or(threshold)
    }

    /// Counts the drawn rows into their leaves, then adds up from there.
    fn stats(&self, raw: &GrownTree, drawn: &[u32]) -> Stats {
        let target = &self.job.data.target;
        let mut stats = Stats::new(target, raw.nodes.len());
        // Squares around the mean keep their digits.
        let mean = match target {
            Target::Numbers(values) => values.iter().sum::<f64>() / values.len().max(1) as f64,
            Target::Classes { .. } => 0.0,
        };
        let rows = self.job.seen.iter().zip(drawn).enumerate();
        for (place, (&row, &times)) in rows.filter(|(_, (_, times))| **times > 0) {
            let known = raw.ends.as_ref().and_then(|ends| ends.get(place));
            let leaf = known.map_or_else(|| self.walk(&raw.nodes, row), |&leaf| leaf as usize);
            match (&mut stats, target) {
                (Stats::Classes { classes, counts }, Target::Classes { of, .. }) => {
                    let class = of.get(row).map_or(0, |class| *class as usize);
                    if let Some(count) = counts.get_mut(leaf * *classes + class) {
                        *count += times;
                    }
                }
                (Stats::Numbers(moments), Target::Numbers(values)) => {
                    let value = values.get(row).copied().unwrap_or(0.0);
                    let (times, from_mean) = (f64::from(times), value - mean);
                    if let Some(moments) = moments.get_mut(leaf) {
                        moments.add(&Moments {
                            rows: times,
                            sum: times * from_mean,
                            squares: times * from_mean * from_mean,
                            least: value,
                            most: value,
                        });
                    }
                }
                _ => debug_assert!(false, "statistics are of the target's kind"),
            }
        }
        // Children stand after their parents, so from the end each is complete when it is added.
        for (place, node) in raw.nodes.iter().enumerate().rev() {
            if let Some((left, right)) = node.children {
                stats.add(place, left);
                stats.add(place, right);
            }
        }
        stats
    }

    /// The leaf of the engine's tree that a row of the data set ends in.
    fn walk(&self, raw: &[GrownNode], row: usize) -> usize {
        let mut place = 0;
        while let Some(node) = raw.get(place) {
            let Some((left, right)) = node.children else {
                break;
            };
            let feature = self.job.used.get(node.feature);
            let column = feature.and_then(|&feature| self.job.data.columns.get(feature));
            let value = column.and_then(|column| column.get(row));
            // NaN, a missing value, is not at most anything.
            let below = value.is_some_and(|value| *value <= node.threshold);
            place = if below { left } else { right };
        }
        place
    }
}

impl Tree {
    fn push_leaf(&mut self, stats: &Stats, place: usize, output: f64) {
        let (value, right) = match stats {
            Stats::Classes { .. } => {
                let classes = stats.counts(place).iter().enumerate();
                let there = classes.filter(|(_, rows)| **rows > 0);
                let mut classes: Vec<(u16, u32)> =
                    there.map(|(class, rows)| (class as u16, *rows)).collect();
                classes.sort_by_key(|&(class, rows)| (std::cmp::Reverse(rows), class));
                (0.0, self.push_counts(&classes))
            }
            // The mean of equal numbers may be off by a rounding; the number is not.
            Stats::Numbers(moments) => match moments.get(place) {
                Some(it) if it.least >= it.most && it.least.is_finite() => (it.least, 0),
                _ => (output, 0),
            },
        };
        self.nodes.push(Node {
            value,
            right,
            feature: LEAF,
        });
    }
}
