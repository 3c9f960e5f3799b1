//! Putting the rows of a node in the order of their ranks.

/// Rows up to which comparing is quicker than counting digits.
const FEW: usize = 192;

/// Room to sort in, used again and again.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The rank above, something below.
    items: Vec<u64>,
    other: Vec<u64>,
    counts: Vec<u32>,
}

/// An item: its rank, and what came with it.
pub(super) const fn apart(item: u64) -> (u32, u32) {
    ((item >> 32) as u32, item as u32)
}

impl Order {
    /// Ranks with something each, in ascending order of the rank and, of one rank, as they came or
    /// by what came with them. None if all have one rank.
    pub(super) fn sort(&mut self, ranks: impl Iterator<Item = (u32, u32)>) -> Option<&[u64]> {
        let (mut least, mut most) = (u32::MAX, 0);
        self.items.clear();
        self.items.extend(ranks.map(|(rank, with)| {
            (least, most) = (least.min(rank), most.max(rank));
            u64::from(rank) << 32 | u64::from(with)
        }));
        if least >= most {
            return None;
        }
        if self.items.len() <= FEW {
            self.items.sort_unstable();
        } else {
            self.by_digits(least, most);
        }
        Some(&self.items)
    }

    /// Radix sort from the lowest digit on, which keeps the order of equal ones.
    fn by_digits(&mut self, least: u32, most: u32) {
        let bits = u32::BITS - (most - least).leading_zeros();
        let widest = if self.items.len() < 4_096 { 8 } else { 11 };
        let passes = bits.div_ceil(widest);
        let width = bits.div_ceil(passes);
        let base = u64::from(least) << 32;
        for pass in 0..passes {
            let shift = 32 + pass * width;
            let digit = |item: u64| ((item - base) >> shift) as usize & ((1 << width) - 1);
            self.counts.clear();
            self.counts.resize(1 << width, 0);
            for &item in &self.items {
                if let Some(count) = self.counts.get_mut(digit(item)) {
                    *count += 1;
                }
            }
            let mut before = 0;
            for count in &mut self.counts {
                before += std::mem::replace(count, before);
            }
            self.other.resize(self.items.len(), 0);
            for &item in &self.items {
                if let Some(next) = self.counts.get_mut(digit(item)) {
                    if let Some(slot) = self.other.get_mut(*next as usize) {
                        *slot = item;
                    }
                    *next += 1;
                }
            }
            std::mem::swap(&mut self.items, &mut self.other);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Both ways of sorting give the order of a stable sort.
        #[test]
        fn ranks_are_sorted_and_equal_ones_keep_their_order(
            ranks in prop_oneof![
                prop::collection::vec(0_u32..5, 0..600),
                prop::collection::vec(0_u32..70_000, 0..600),
                prop::collection::vec(3_000_000_000_u32.., 0..600),
            ],
        ) {
            let mut order = Order::default();
            let came = || ranks.iter().copied().zip(0..);
            let mut expected: Vec<(u32, u32)> = came().collect();
            expected.sort_by_key(|(rank, _)| *rank);
            let constant = ranks.iter().all(|rank| Some(rank) == ranks.first());
            match order.sort(came()) {
                None => prop_assert!(constant),
                Some(items) => {
                    prop_assert!(!constant);
                    let found: Vec<_> = items.iter().map(|&item| apart(item)).collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn many_ranks_are_sorted_by_wider_digits() {
        let rank = |n: u32| n.wrapping_mul(2_654_435_761) >> 10;
        let mut expected: Vec<u32> = (0..20_000).map(rank).collect();
        expected.sort_unstable();
        let mut order = Order::default();
        let items = order.sort((0..20_000).map(|n| (rank(n), n))).unwrap();
        let ranks: Vec<u32> = items.iter().map(|&item| apart(item).0).collect();
        assert_eq!(ranks, expected);
        assert!(
            items
                .iter()
                .all(|&item| rank(apart(item).1) == apart(item).0)
        );
    }
}
