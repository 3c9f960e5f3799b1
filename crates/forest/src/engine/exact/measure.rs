//! How good cuts are: Gini's measure of classes, and the variance of numbers.
//!
//! Both take the cut that leaves the least impurity on its two sides, weighed by their rows. Of
//! that sum the part that all cuts share is left out, and the rest has its sign turned: what is
//! compared is the sum over both sides of (sum of squares) / rows.

use super::order::{Order, apart};
use super::{Cut, Drawn};

/// Bits of a class in a load; above them stands how often the row was drawn.
const CLASS_BITS: u32 = 8;

/// Counters per row up to which counting ranks is quicker than sorting them.
const COUNTERS_PER_ROW: usize = 4;

/// What is to be known of a node before it is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entered {
    /// Its rows, as often as they were drawn.
    pub(super) rows: u64,
    /// Whether all are to be told alike.
    pub(super) pure: bool,
    /// The mean of its numbers.
    pub(super) output: f64,
    /// The score of a cut that no other can surpass.
    pub(super) perfect: f64,
}

/// What a column is good for in a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Judged {
    /// It has one value there.
    Constant,
    /// The best cut, if one leaves enough rows on both sides.
    Best(Option<Cut>),
}

/// A measure of cuts.
pub(super) trait Measure {
    /// What is kept of each row.
    type Load: Copy;

    /// What is kept of a row drawn so many times.
    fn load(&self, row: usize, times: u32) -> Self::Load;

    /// Begins with a node.
    fn enter(&mut self, rows: &[Drawn<Self::Load>]) -> Entered;

    /// The best cut of a column of so many ranks in the node that was entered.
    fn judge<C: Copy + Into<u32>>(
        &mut self,
        codes: &[C],
        ranks: usize,
        rows: &[Drawn<Self::Load>],
        least: u64,
        order: &mut Order,
    ) -> Judged;
}

fn code<C: Copy + Into<u32>>(codes: &[C], row: u32) -> u32 {
    codes.get(row as usize).map_or(0, |&code| code.into())
}

/// Gini's measure.
#[derive(Debug)]
pub(super) struct Gini<'a> {
    of: &'a [u32],
    /// Rows of each class in the node.
    whole: Vec<u32>,
    /// Rows of each class left of the cut at hand.
    left: Vec<u32>,
    /// Rows of each rank and class.
    counts: Vec<u32>,
    rows: u64,
    squares: u64,
}

impl<'a> Gini<'a> {
    pub(super) fn new(classes: usize, of: &'a [u32]) -> Self {
        Self {
            of,
            whole: vec![0; classes],
            left: vec![0; classes],
            counts: Vec::new(),
            rows: 0,
            squares: 0,
        }
    }

    fn counted<C: Copy + Into<u32>>(
        &mut self,
        codes: &[C],
        ranks: usize,
        rows: &[Drawn<u32>],
        least: u64,
    ) -> Judged {
        let classes = self.whole.len();
        self.counts.clear();
        self.counts.resize(ranks * classes, 0);
        for drawn in rows {
            let (times, class) = split(drawn.load);
            let place = code(codes, drawn.row) as usize * classes + class;
            if let Some(count) = self.counts.get_mut(place) {
                *count += times;
            }
        }
        let mut sides = Sides::new(&self.whole, &mut self.left, self.rows, self.squares);
        let mut best = Best::new(least);
        let mut last = None;
        for (rank, counts) in (0_u32..).zip(self.counts.chunks_exact(classes)) {
            if counts.iter().all(|&count| count == 0) {
                continue;
            }
            if let Some(last) = last.replace(rank) {
                best.try_cut(&sides.both(), last, rank);
            }
            for (class, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                sides.move_left(class, count);
            }
            if sides.rows.1 == 0 {
                break;
            }
        }
        best.judged()
    }

    /// Where there are two ranks and two classes, as columns made of texts have: the counters stay
    /// in one register.
    fn two_by_two<C: Copy + Into<u32>>(
        &self,
        codes: &[C],
        rows: &[Drawn<u32>],
        least: u64,
    ) -> Judged {
        let mut right = 0_u64;
        for drawn in rows {
            let (times, class) = split(drawn.load);
            let mask = u64::from(code(codes, drawn.row)).wrapping_neg();
            right += u64::from(times) << (32 * (class & 1)) & mask;
        }
        let right = [right & u64::from(u32::MAX), right >> 32];
        let whole = |class: usize| u64::from(self.whole.get(class).copied().unwrap_or(0));
        let mut best = Best::new(least);
        let count: u64 = right.iter().sum();
        if count > 0 && count < self.rows {
            let left = [whole(0) - right[0], whole(1) - right[1]];
            let squares = |[a, b]: [u64; 2]| (a * a + b * b) as f64;
            let sides = [(self.rows - count, squares(left)), (count, squares(right))];
            best.try_cut(&sides, 0, 1);
        }
        best.judged()
    }

    fn sorted(&mut self, items: &[u64], least: u64) -> Judged {
        let mut sides = Sides::new(&self.whole, &mut self.left, self.rows, self.squares);
        let mut best = Best::new(least);
        let mut last = items.first().map_or(0, |&item| apart(item).0);
        for &item in items {
            let (rank, load) = apart(item);
            if rank != last {
                best.try_cut(&sides.both(), last, rank);
                last = rank;
            }
            let (times, class) = split(load);
            sides.move_left(class, times);
        }
        best.judged()
    }
}

/// How often, and which class.
const fn split(load: u32) -> (u32, usize) {
    (
        load >> CLASS_BITS,
        (load & ((1 << CLASS_BITS) - 1)) as usize,
    )
}

impl Measure for Gini<'_> {
    type Load = u32;

    fn load(&self, row: usize, times: u32) -> u32 {
        times << CLASS_BITS | self.of.get(row).copied().unwrap_or(0)
    }

    fn enter(&mut self, rows: &[Drawn<u32>]) -> Entered {
        self.whole.fill(0);
        for drawn in rows {
            let (times, class) = split(drawn.load);
            if let Some(count) = self.whole.get_mut(class) {
                *count += times;
            }
        }
        self.rows = self.whole.iter().map(|&count| u64::from(count)).sum();
        self.squares = self
            .whole
            .iter()
            .map(|&count| u64::from(count).pow(2))
            .sum();
        Entered {
            rows: self.rows,
            pure: self.whole.iter().filter(|&&count| count > 0).count() <= 1,
            output: 0.0,
            // Each side has one class, and as many squared by as many.
            perfect: self.rows as f64,
        }
    }

    fn judge<C: Copy + Into<u32>>(
        &mut self,
        codes: &[C],
        ranks: usize,
        rows: &[Drawn<u32>],
        least: u64,
        order: &mut Order,
    ) -> Judged {
        if ranks == 2 && self.whole.len() == 2 {
            return self.two_by_two(codes, rows, least);
        }
        if ranks * self.whole.len() <= COUNTERS_PER_ROW * rows.len() {
            return self.counted(codes, ranks, rows, least);
        }
        let ranked = rows
            .iter()
            .map(|drawn| (code(codes, drawn.row), drawn.load));
        match order.sort(ranks, ranked) {
            Some(items) => self.sorted(items, least),
            None => Judged::Constant,
        }
    }
}

/// The classes on both sides of a cut that moves to the right.
struct Sides<'a> {
    whole: &'a [u32],
    left: &'a mut [u32],
    rows: (u64, u64),
    squares: (u64, u64),
}

impl<'a> Sides<'a> {
    fn new(whole: &'a [u32], left: &'a mut [u32], rows: u64, squares: u64) -> Self {
        left.fill(0);
        Self {
            whole,
            left,
            rows: (0, rows),
            squares: (0, squares),
        }
    }

    fn move_left(&mut self, class: usize, times: u32) {
        let (Some(left), Some(whole)) = (self.left.get_mut(class), self.whole.get(class)) else {
            return;
        };
        let (before, times_wide) = (u64::from(*left), u64::from(times));
        let right = u64::from(*whole) - before;
        // (a + t)^2 - a^2 and a^2 - (a - t)^2.
        self.squares.0 += times_wide * (2 * before + times_wide);
        self.squares.1 -= times_wide * (2 * right - times_wide);
        self.rows.0 += times_wide;
        self.rows.1 -= times_wide;
        *left += times;
    }

    fn both(&self) -> [(u64, f64); 2] {
        // Whole numbers below 2^53, which a double holds: (2 * MAX_ROWS)^2 is 2^44.
        [
            (self.rows.0, self.squares.0 as f64),
            (self.rows.1, self.squares.1 as f64),
        ]
    }
}

/// The best cut so far.
struct Best {
    least: u64,
    cuts: usize,
    best: Option<Cut>,
}

impl Best {
    const fn new(least: u64) -> Self {
        Self {
            least,
            cuts: 0,
            best: None,
        }
    }

    /// `sides` have their rows and their sum of squares each. Of equal cuts the first is kept.
    fn try_cut(&mut self, sides: &[(u64, f64); 2], low: u32, high: u32) {
        self.cuts += 1;
        let [(left, left_squares), (right, right_squares)] = *sides;
        if left < self.least || right < self.least {
            return;
        }
        let score = left_squares / left as f64 + right_squares / right as f64;
        if self.best.is_none_or(|best| score > best.score) {
            self.best = Some(Cut { score, low, high });
        }
    }

    const fn judged(self) -> Judged {
        if self.cuts == 0 {
            Judged::Constant
        } else {
            Judged::Best(self.best)
        }
    }
}

/// The variance of numbers.
#[derive(Debug)]
pub(super) struct Variance<'a> {
    values: &'a [f64],
    /// For each row of the node how often it was drawn, and its distance from the node's mean times
    /// that: sums of distances keep digits that sums of large numbers lose.
    node: Vec<(u32, f64)>,
    rows: u64,
    sum: f64,
    /// Rows of each rank, and the sum of their distances.
    counts: Vec<(u32, f64)>,
}

impl<'a> Variance<'a> {
    pub(super) const fn new(values: &'a [f64]) -> Self {
        Self {
            values,
            node: Vec::new(),
            rows: 0,
            sum: 0.0,
            counts: Vec::new(),
        }
    }

    fn counted<C: Copy + Into<u32>>(
        &mut self,
        codes: &[C],
        ranks: usize,
        rows: &[Drawn<(u32, f64)>],
        least: u64,
    ) -> Judged {
        self.counts.clear();
        self.counts.resize(ranks, (0, 0.0));
        for (drawn, (times, distance)) in rows.iter().zip(&self.node) {
            if let Some(count) = self.counts.get_mut(code(codes, drawn.row) as usize) {
                count.0 += times;
                count.1 += distance;
            }
        }
        let ranked = (0_u32..).zip(self.counts.iter().copied());
        self.scan(ranked.filter(|(_, (times, _))| *times > 0), least)
    }

    /// Tries the cut before each rank but the first. A rank may come more than once.
    fn scan(&self, ranked: impl Iterator<Item = (u32, (u32, f64))>, least: u64) -> Judged {
        let mut best = Best::new(least);
        let (mut left, mut sum) = (0_u64, 0.0_f64);
        let mut last = None;
        for (rank, (times, distance)) in ranked {
            if let Some(last) = last.replace(rank).filter(|last| *last != rank) {
                let (right, rest) = (self.rows - left, self.sum - sum);
                best.try_cut(&[(left, sum * sum), (right, rest * rest)], last, rank);
            }
            left += u64::from(times);
            sum += distance;
        }
        best.judged()
    }
}

impl Measure for Variance<'_> {
    type Load = (u32, f64);

    fn load(&self, row: usize, times: u32) -> (u32, f64) {
        (times, self.values.get(row).copied().unwrap_or(0.0))
    }

    fn enter(&mut self, rows: &[Drawn<(u32, f64)>]) -> Entered {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        (self.rows, self.sum) = (0, 0.0);
        for &Drawn { load, .. } in rows {
            let (times, value) = load;
            self.rows += u64::from(times);
            self.sum += f64::from(times) * value;
            (least, most) = (least.min(value), most.max(value));
        }
        // The mean of equal numbers may be off by a rounding, and never beyond them.
        let mean = (self.sum / self.rows.max(1) as f64).clamp(least.min(most), most.max(least));
        self.node.clear();
        self.sum = 0.0;
        for &Drawn { load, .. } in rows {
            let (times, value) = load;
            let distance = f64::from(times) * (value - mean);
            self.sum += distance;
            self.node.push((times, distance));
        }
        Entered {
            rows: self.rows,
            pure: least >= most,
            output: mean,
            // Of two rows there is one cut, whatever the column.
            perfect: if rows.len() <= 2 { 0.0 } else { f64::INFINITY },
        }
    }

    fn judge<C: Copy + Into<u32>>(
        &mut self,
        codes: &[C],
        ranks: usize,
        rows: &[Drawn<(u32, f64)>],
        least: u64,
        order: &mut Order,
    ) -> Judged {
        if ranks <= COUNTERS_PER_ROW / 2 * rows.len() {
            return self.counted(codes, ranks, rows, least);
        }
        let ranked = rows.iter().enumerate();
        let ranked = ranked.map(|(place, drawn)| (code(codes, drawn.row), place as u32));
        match order.sort(ranks, ranked) {
            Some(items) => self.scan(
                items.iter().map(|&item| {
                    let (rank, place) = apart(item);
                    let row = self.node.get(place as usize).copied();
                    (rank, row.unwrap_or((0, 0.0)))
                }),
                least,
            ),
            None => Judged::Constant,
        }
    }
}
