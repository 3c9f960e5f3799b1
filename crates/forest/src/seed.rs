//! The crate's own random numbers: SplitMix64, so that no other crate's release changes a split.
//!
//! Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 13.

/// The increment of the sequence: 2^64 divided by the golden ratio, made odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `index`-th number of the SplitMix64 sequence that starts at `base`.
///
/// Any place of the sequence is reached at once, so a grove's seed needs its index and no history.
#[must_use]
pub const fn splitmix64(base: u64, index: u64) -> u64 {
    let mut z = base.wrapping_add(GOLDEN.wrapping_mul(index.wrapping_add(1)));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of random numbers from one seed.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    base: u64,
    drawn: u64,
}

impl Stream {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            base: seed,
            drawn: 0,
        }
    }

    fn next(&mut self) -> u64 {
        let number = splitmix64(self.base, self.drawn);
        self.drawn = self.drawn.wrapping_add(1);
        number
    }

    /// A number below `bound`. The bias of the multiplication is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * (bound as u128);
        (wide >> 64) as usize
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // First outputs for seed 1234567, as in Vigna's reference implementation.
        let first: Vec<u64> = (0..3).map(|i| splitmix64(1_234_567, i)).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<usize> = (0..100).collect();
        Stream::new(7).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
