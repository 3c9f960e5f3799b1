//! Sets of operation numbers that grow densely.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A set of numbers kept as disjoint, non-adjacent, inclusive ranges.
///
/// Operation numbers of a session end up dense, so one or two ranges remember millions of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// True when `n` is in the set.
    #[must_use]
    pub fn contains(&self, n: u64) -> bool {
        self.0
            .range(..=n)
            .next_back()
            .is_some_and(|(_, last)| n <= *last)
    }

    /// Adds `n`; false when it was there.
    pub fn insert(&mut self, n: u64) -> bool {
        if self.contains(n) {
            return false;
        }
        let mut first = n;
        let mut last = n;
        if let Some(end) = n.checked_add(1).and_then(|next| self.0.remove(&next)) {
            last = end;
        }
        if let Some((start, end)) = self.0.range(..n).next_back().map(|(s, e)| (*s, *e))
            && end.checked_add(1) == Some(n)
        {
            first = start;
        }
        self.0.insert(first, last);
        true
    }

    /// How many ranges it takes.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set_and_stays_compact(numbers in prop::collection::vec(0_u64..60, 0..80)) {
            let mut ranges = RangeSet::default();
            let mut set = BTreeSet::new();
            for n in numbers {
                prop_assert_eq!(ranges.insert(n), set.insert(n));
            }
            for n in 0..62 {
                prop_assert_eq!(ranges.contains(n), set.contains(&n));
            }
            let gaps = set.iter().filter(|n| !set.contains(&(*n + 1))).count();
            prop_assert_eq!(ranges.ranges(), gaps);
        }
    }

    #[test]
    fn the_largest_number_has_no_successor() {
        let mut ranges = RangeSet::default();
        assert!(ranges.insert(u64::MAX));
        assert!(ranges.insert(u64::MAX - 1));
        assert_eq!(ranges.ranges(), 1);
    }
}
