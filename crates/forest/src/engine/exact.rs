//! This crate's own grower: exact cuts on columns of ranks, by Gini's measure or by variance.
//!
//! As CART (Breiman, Friedman, Olshen, Stone, 1984) and random forests (Breiman 2001) have it: at
//! each node some columns are drawn, each cut between two different values of theirs that rows of
//! the node have is judged, and the best is taken. Columns are drawn until as many were tried as
//! asked for and one of them has a cut, so a node ends only when its rows are of one kind, no cut
//! is allowed, or it is as deep as may be.
//!
//! - Only columns that were drawn are looked at. A column known to have one value in a node counts
//!   as tried when it is drawn below that node, and is not looked at again.
//! - A node's rows stand together in one array, in ascending order; a cut parts them in place.
//! - Classes are counted in whole numbers. Numbers are added up in the order of the values and, of
//!   one value, of the rows. So no sum depends on the machine.

use self::measure::{Gini, Judged, Measure, Variance};
use self::order::Order;
use super::{Failure, GrowJob, Grower, GrownNode, GrownTree};
use crate::dataset::Target;
use crate::ranks::{Codes, Ranked};
use crate::seed::{Stream, splitmix64};

mod measure;
mod order;

pub(super) const NAME: &str = "cpe exact 1";

/// The grower of this crate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact;

impl Grower for Exact {
    fn name(&self) -> &str {
        NAME
    }

    fn grow(&self, job: &GrowJob<'_>, bags: &[Vec<u32>]) -> Result<Vec<GrownTree>, Failure> {
        if bags.len() != job.trees || bags.iter().any(|bag| bag.len() != job.rows()) {
            return Err(Failure::Failed("its bags are not the job's".to_owned()));
        }
        match &job.data.target {
            Target::Classes { names, of } => {
                let gini = Gini::new(names.len(), of);
                Ok(Growing::new(job, gini)?.all(bags))
            }
            Target::Numbers(values) => Ok(Growing::new(job, Variance::new(values))?.all(bags)),
        }
    }
}

/// A row as often as it was drawn, with what is to be told of it.
#[derive(Clone, Copy, Debug)]
struct Drawn<L> {
    /// The data set's row.
    row: u32,
    load: L,
}

/// A cut between two ranks of a column, and how good it is: more is better.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    score: f64,
    /// The highest rank that goes left.
    low: u32,
    /// The lowest that goes right.
    high: u32,
}

/// Rows that are still to become a node.
struct Open {
    from: usize,
    to: usize,
    depth: u16,
    /// So many columns at the front of all are known to have one value in these rows.
    constant: usize,
    /// The cut whose right side this is.
    parent: Option<usize>,
}

/// One grove while it grows; its room is used by one tree after the other.
struct Growing<'a, M: Measure> {
    job: &'a GrowJob<'a>,
    measure: M,
    /// Ranks and values of each column.
    columns: Vec<(&'a Ranked, &'a [f64])>,
    /// The rows of the tree, those of a node together.
    drawn: Vec<Drawn<M::Load>>,
    spare: Vec<Drawn<M::Load>>,
    /// The columns. In front stand those that have one value in the rows of the node at hand, as
    /// they do below it: whoever comes there finds them where they are.
    features: Vec<usize>,
    order: Order,
    /// For each row of the data set, the leaf it ended in.
    ends: Vec<u32>,
}

impl<'a, M: Measure> Growing<'a, M> {
    fn new(job: &'a GrowJob<'a>, measure: M) -> Result<Self, Failure> {
        let ranks = job.data.ranks();
        let column = |&feature: &usize| {
            let values = job.data.columns.get(feature)?.as_slice();
            Some((ranks.column(feature)?, values))
        };
        let columns: Option<Vec<_>> = job.used.iter().map(column).collect();
        Ok(Self {
            job,
            measure,
            columns: columns.ok_or_else(|| Failure::Failed("a column is not there".to_owned()))?,
            drawn: Vec::new(),
            spare: Vec::new(),
            features: (0..job.features()).collect(),
            order: Order::default(),
            ends: vec![0; job.data.len()],
        })
    }

    fn all(mut self, bags: &[Vec<u32>]) -> Vec<GrownTree> {
        let seed = splitmix64(self.job.seed, 2);
        let trees = bags.iter().zip(0_u64..);
        trees
            .map(|(bag, tree)| self.tree(bag, Stream::new(splitmix64(seed, tree))))
            .collect()
    }

    fn tree(&mut self, bag: &[u32], mut random: Stream) -> GrownTree {
        self.drawn.clear();
        let rows = self.job.seen.iter().zip(bag);
        for (&row, &times) in rows.filter(|(_, times)| **times > 0) {
            self.drawn.push(Drawn {
                row: row as u32,
                load: self.measure.load(row, times),
            });
        }
        let mut nodes: Vec<GrownNode> = Vec::new();
        let mut open = vec![Open {
            from: 0,
            to: self.drawn.len(),
            depth: 0,
            constant: 0,
            parent: None,
        }];
        while let Some(mut here) = open.pop() {
            let place = nodes.len();
            if let Some(parent) = here.parent.and_then(|parent| nodes.get_mut(parent)) {
                parent.children = Some((here.parent.unwrap_or(0) + 1, place));
            }
            let rows = self.drawn.get(here.from..here.to).unwrap_or_default();
            let entered = self.measure.enter(rows);
            let cuttable = !entered.pure
                && here.depth < self.job.depth
                && entered.rows >= 2 * self.job.min_leaf as u64;
            let best = if cuttable {
                self.best(&mut here, entered.perfect, &mut random)
            } else {
                None
            };
            let Some((feature, cut)) = best else {
                for drawn in self.drawn.get(here.from..here.to).unwrap_or_default() {
                    if let Some(end) = self.ends.get_mut(drawn.row as usize) {
                        *end = place as u32;
                    }
                }
                nodes.push(GrownNode {
                    output: entered.output,
                    ..GrownNode::default()
                });
                continue;
            };
            let middle = here.from + self.part(&here, feature, cut.low);
            nodes.push(GrownNode {
                output: 0.0,
                feature,
                threshold: self.threshold(feature, cut),
                children: Some((place + 1, place + 1)),
            });
            let depth = here.depth + 1;
            let constant = here.constant;
            for (from, to, parent) in [(middle, here.to, Some(place)), (here.from, middle, None)] {
                open.push(Open {
                    from,
                    to,
                    depth,
                    constant,
                    parent,
                });
            }
        }
        let end = |&row: &usize| self.ends.get(row).copied().unwrap_or(0);
        GrownTree {
            nodes,
            ends: Some(self.job.seen.iter().map(end).collect()),
        }
    }

    /// The best cut of these rows among the columns drawn. Columns that turn out to have one value
    /// are put in front, and counted in `here`.
    fn best(&mut self, here: &mut Open, perfect: f64, random: &mut Stream) -> Option<(usize, Cut)> {
        let rows = self.drawn.get(here.from..here.to)?;
        let mut best: Option<(usize, Cut)> = None;
        // Known to be constant and not drawn yet; the others not drawn yet are front..back.
        let mut known = here.constant;
        let mut back = self.features.len();
        let mut tried = 0;
        while here.constant < back && (tried < self.job.mtry || best.is_none()) {
            tried += 1;
            let chosen = random.below(known + back - here.constant);
            let Some(beyond) = chosen.checked_sub(known) else {
                known -= 1;
                continue;
            };
            let place = here.constant + beyond;
            let feature = *self.features.get(place)?;
            let (column, _) = self.columns.get(feature)?;
            let least = self.job.min_leaf as u64;
            let judged = match column.codes() {
                Codes::Byte(codes) => {
                    self.measure
                        .judge(codes, column.len(), rows, least, &mut self.order)
                }
                Codes::Short(codes) => {
                    self.measure
                        .judge(codes, column.len(), rows, least, &mut self.order)
                }
                Codes::Long(codes) => {
                    self.measure
                        .judge(codes, column.len(), rows, least, &mut self.order)
                }
            };
            let cut = match judged {
                Judged::Constant => {
                    self.features.swap(place, here.constant);
                    here.constant += 1;
                    continue;
                }
                Judged::Best(cut) => cut,
            };
            back -= 1;
            self.features.swap(place, back);
            if let Some(cut) = cut
                && best.is_none_or(|(_, best)| cut.score > best.score)
            {
                best = Some((feature, cut));
                if cut.score >= perfect {
                    break;
                }
            }
        }
        best
    }

    /// Parts a node's rows, and says how many go left. On both sides they keep their order.
    fn part(&mut self, here: &Open, feature: usize, low: u32) -> usize {
        let Some((column, _)) = self.columns.get(feature) else {
            return 0;
        };
        let rows = self.drawn.get_mut(here.from..here.to).unwrap_or_default();
        match column.codes() {
            Codes::Byte(codes) => part(codes, rows, &mut self.spare, low),
            Codes::Short(codes) => part(codes, rows, &mut self.spare, low),
            Codes::Long(codes) => part(codes, rows, &mut self.spare, low),
        }
    }

    /// The middle between the two values of a cut, which parts them. Missing values go right: a
    /// cut before them is at the highest value.
    fn threshold(&self, feature: usize, cut: Cut) -> f64 {
        let Some((column, values)) = self.columns.get(feature) else {
            return 0.0;
        };
        let low = column.value(values, cut.low as usize).unwrap_or(0.0);
        let Some(high) = column.value(values, cut.high as usize) else {
            return low;
        };
        // Halves cannot overflow, and the middle of neighbours rounds to one of them.
        let middle = low / 2.0 + high / 2.0;
        // In four bytes instead of eight, if that parts them too.
        let short = f64::from(middle as f32);
        [short, middle]
            .into_iter()
            .find(|bound| (low..high).contains(bound))
            .unwrap_or(low)
    }
}

fn part<C: Copy + Into<u32>, L: Copy>(
    codes: &[C],
    rows: &mut [Drawn<L>],
    spare: &mut Vec<Drawn<L>>,
    low: u32,
) -> usize {
    spare.clear();
    spare.extend_from_slice(rows);
    let (mut left, mut right) = (0, 0);
    // Both sides are written and one of them moves on: which one no processor could guess.
    for place in 0..rows.len() {
        let Some(&drawn) = rows.get(place) else { break };
        let code: u32 = codes.get(drawn.row as usize).map_or(0, |&code| code.into());
        if let Some(slot) = rows.get_mut(left) {
            *slot = drawn;
        }
        if let Some(slot) = spare.get_mut(right) {
            *slot = drawn;
        }
        left += usize::from(code <= low);
        right += usize::from(code > low);
    }
    for (slot, drawn) in rows.iter_mut().skip(left).zip(&*spare) {
        *slot = *drawn;
    }
    left
}

#[cfg(test)]
mod tests;
