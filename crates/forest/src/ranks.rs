//! The columns of a data set as ranks: for each value its place among the column's different
//! values.
//!
//! Growing compares values of one column with each other and nothing else, so ranks say all that it
//! needs, in one, two or four bytes instead of eight, and can be counted and sorted by digits.
//! Unlike bins they lose nothing: every cut between two different values is there.

/// All columns as ranks.
#[derive(Debug)]
pub(crate) struct Ranks(Vec<Ranked>);

/// One column as ranks.
#[derive(Debug, Default)]
pub(crate) struct Ranked {
    codes: Codes,
    /// For each different value, in ascending order, a row that has it. Missing is no value.
    holders: Vec<u32>,
    /// Whether some row has no value. Its rank is above all others.
    missing: bool,
}

/// The rank of each row.
#[derive(Debug)]
pub(crate) enum Codes {
    /// Up to 256 different ones.
    Byte(Vec<u8>),
    /// Up to 65,536.
    Short(Vec<u16>),
    /// More.
    Long(Vec<u32>),
}

impl Default for Codes {
    fn default() -> Self {
        Self::Byte(Vec::new())
    }
}

impl Ranks {
    /// Sorts each column once.
    pub(crate) fn of(columns: &[Vec<f64>]) -> Self {
        let mut order = Vec::new();
        let ranked = columns.iter().map(|column| Ranked::of(column, &mut order));
        Self(ranked.collect())
    }

    /// One column.
    pub(crate) fn column(&self, feature: usize) -> Option<&Ranked> {
        self.0.get(feature)
    }
}

impl Ranked {
    /// `order` is room that the next column can use again.
    fn of(column: &[f64], order: &mut Vec<(u64, u32)>) -> Self {
        order.clear();
        let known = column.iter().zip(0_u32..).filter(|(it, _)| !it.is_nan());
        order.extend(known.map(|(value, row)| (key(*value), row)));
        // Rows of one value get one rank, in whichever order they come.
        order.sort_unstable_by_key(|(key, _)| *key);
        let mut holders = Vec::new();
        let mut ranks = vec![0_u32; column.len()];
        let mut last = None;
        for &(key, row) in &*order {
            if last != Some(key) {
                holders.push(row);
                last = Some(key);
            }
            if let Some(rank) = ranks.get_mut(row as usize) {
                *rank = holders.len() as u32 - 1;
            }
        }
        let missing = order.len() < column.len();
        if missing {
            let rows = column.iter().zip(&mut ranks);
            for (_, rank) in rows.filter(|(value, _)| value.is_nan()) {
                *rank = holders.len() as u32;
            }
        }
        holders.shrink_to_fit();
        let codes = match holders.len() + usize::from(missing) {
            0..=0x100 => Codes::Byte(ranks.iter().map(|rank| *rank as u8).collect()),
            0x101..=0x1_0000 => Codes::Short(ranks.iter().map(|rank| *rank as u16).collect()),
            _ => Codes::Long(ranks),
        };
        Self {
            codes,
            holders,
            missing,
        }
    }

    /// The rank of each row.
    pub(crate) const fn codes(&self) -> &Codes {
        &self.codes
    }

    /// How many ranks there are, that of missing values included.
    pub(crate) const fn len(&self) -> usize {
        self.holders.len() + self.missing as usize
    }

    /// How many different values there are.
    pub(crate) const fn values(&self) -> usize {
        self.holders.len()
    }

    /// The value of a rank in the column that this was made from; none for missing.
    pub(crate) fn value(&self, column: &[f64], rank: usize) -> Option<f64> {
        let row = *self.holders.get(rank)?;
        // Minus zero and zero are one value.
        column.get(row as usize).map(|value| value + 0.0)
    }

    /// How many different values are at most this.
    pub(crate) fn at_most(&self, column: &[f64], bound: f64) -> usize {
        let value = |row: u32| column.get(row as usize).copied().unwrap_or(f64::NAN);
        self.holders.partition_point(|row| value(*row) <= bound)
    }
}

/// A number that sorts as the value does.
fn key(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 0 {
        bits | 1 << 63
    } else {
        !bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(column: &[f64]) -> (Vec<u32>, Ranked) {
        let ranked = Ranked::of(column, &mut Vec::new());
        let codes = match ranked.codes() {
            Codes::Byte(codes) => codes.iter().map(|&code| code.into()).collect(),
            Codes::Short(codes) => codes.iter().map(|&code| code.into()).collect(),
            Codes::Long(codes) => codes.clone(),
        };
        (codes, ranked)
    }

    #[test]
    fn values_of_all_sizes_have_their_place_and_missing_is_last() {
        let column = [0.0, f64::NAN, -1e300, -0.0, 1e-300, -1.0, 1e300, -1.0];
        let (codes, ranked) = ranks(&column);
        assert_eq!(codes, [2, 5, 0, 2, 3, 1, 4, 1]);
        assert_eq!((ranked.len(), ranked.values()), (6, 5));
        let values: Vec<_> = (0..6).map(|rank| ranked.value(&column, rank)).collect();
        let known = [-1e300, -1.0, 0.0, 1e-300, 1e300].map(Some);
        assert_eq!(values[..5], known);
        assert_eq!(values[5], None);
        assert!(values[2].is_some_and(f64::is_sign_positive));
        assert_eq!(ranked.at_most(&column, 0.5), 4);
        assert_eq!(ranked.at_most(&column, -2e300), 0);
    }

    #[test]
    fn ranks_take_as_many_bytes_as_there_are_different_ones() {
        let column = |different: u32| -> Vec<f64> {
            let missing = std::iter::once(f64::NAN);
            (1..different).rev().map(f64::from).chain(missing).collect()
        };
        for (different, bytes) in [(256, 1), (257, 2), (65_536, 2), (65_537, 4)] {
            let (codes, ranked) = ranks(&column(different));
            let found = match ranked.codes() {
                Codes::Byte(_) => 1,
                Codes::Short(_) => 2,
                Codes::Long(_) => 4,
            };
            assert_eq!((found, ranked.len()), (bytes, different as usize));
            let expected: Vec<u32> = (0..different - 1).rev().chain([different - 1]).collect();
            assert_eq!(codes, expected);
        }
        assert_eq!(ranks(&[]).1.len(), 0);
        assert_eq!(ranks(&[f64::NAN]).1.values(), 0);
    }
}
