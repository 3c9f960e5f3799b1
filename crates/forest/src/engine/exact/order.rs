//! Putting the rows of a node in the order of their ranks.

/// Rows up to which comparing is quicker than counting digits of 8 bits, and of 11.
const FEW: [usize; 2] = [96, 768];

/// Room to sort in, used again and again.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The rank above, something below.
    items: Vec<u64>,
    other: Vec<u64>,
    /// How often each value of the lower digit is there, and then of the upper one.
    counts: Vec<u32>,
}

/// An item: its rank, and what came with it.
pub(super) const fn apart(item: u64) -> (u32, u32) {
    ((item >> 32) as u32, item as u32)
}

impl Order {
    /// Some of so many ranks with something each, in ascending order of the rank and, of one rank,
    /// as they came or by what came with them. None if all have one rank.
    pub(super) fn sort(
        &mut self,
        ranks: usize,
        some: impl ExactSizeIterator<Item = (u32, u32)>,
    ) -> Option<&[u64]> {
        let wide = ranks > 1 << 16;
        let (mut least, mut most) = (u32::MAX, 0);
        let mut item = |(rank, with): (u32, u32)| {
            (least, most) = (least.min(rank), most.max(rank));
            u64::from(rank) << 32 | u64::from(with)
        };
        self.items.clear();
        let [few, few_wide] = FEW;
        if some.len() <= if wide { few_wide } else { few } {
            self.items.extend(some.map(item));
            if least >= most {
                return None;
            }
            self.items.sort_unstable();
            return Some(&self.items);
        }
        let width = if wide { 11 } else { 8 };
        let size = 1_usize << width;
        self.counts.clear();
        self.counts.resize(2 * size, 0);
        let (lower, upper) = self.counts.split_at_mut(size);
        self.items.extend(some.map(|(rank, with)| {
            for (counts, digit) in [(&mut *lower, rank), (&mut *upper, rank >> width)] {
                if let Some(count) = counts.get_mut(digit as usize & (size - 1)) {
                    *count += 1;
                }
            }
            item((rank, with))
        }));
        if least >= most {
            return None;
        }
        self.other.resize(self.items.len(), 0);
        // From the lower digit on, each keeping the order of equal ones.
        for (counts, shift) in [(lower, 32), (upper, 32 + width)] {
            if counts
                .iter()
                .any(|&count| count as usize == self.items.len())
            {
                continue;
            }
            let mut before = 0;
            for count in &mut *counts {
                before += std::mem::replace(count, before);
            }
            for &item in &self.items {
                if let Some(next) = counts.get_mut((item >> shift) as usize & (size - 1)) {
                    if let Some(slot) = self.other.get_mut(*next as usize) {
                        *slot = item;
                    }
                    *next += 1;
                }
            }
            std::mem::swap(&mut self.items, &mut self.other);
        }
        Some(&self.items)
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
                prop::collection::vec(0_u32..65_536, 0..600),
                prop::collection::vec(0_u32..1 << 21, 0..1_200),
                prop::collection::vec((1_u32 << 21) - 9..1 << 21, 0..1_200),
            ],
        ) {
            let mut order = Order::default();
            let came = || ranks.iter().copied().zip(0..);
            let mut expected: Vec<(u32, u32)> = came().collect();
            expected.sort_by_key(|(rank, _)| *rank);
            let constant = ranks.iter().all(|rank| Some(rank) == ranks.first());
            let most = ranks.iter().max().map_or(0, |most| *most as usize + 1);
            let came = came().collect::<Vec<_>>().into_iter();
            match order.sort(most, came) {
                None => prop_assert!(constant),
                Some(items) => {
                    prop_assert!(!constant);
                    let found: Vec<_> = items.iter().map(|&item| apart(item)).collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
