//! Finding out how two sets of numbers differ by talking about the difference alone.
//!
//! A [`Sketch`] is a rateless invertible Bloom lookup table (Yang, Gilad, Alizadeh, "Practical
//! Rateless Set Reconciliation", SIGCOMM 2024): an endless sequence of [`Symbol`]s that depends on
//! the set alone. One side sends a prefix of its sequence; the other subtracts its own and peels
//! the difference off ([`Decoder`]). Any prefix that is long enough will do, so nobody has to know
//! beforehand how much differs. A symbol is the same whoever computes it: a transfer can go on
//! with another sender that has the same set.
//!
//! Symbols needed per number that differs, medians and 95th percentiles over random sets, as the
//! test `few_symbols_per_difference_are_enough` prints them:
//!
//! | numbers that differ | median | 95th percentile |
//! |---|---|---|
//! | 1 | 1.00 | 1.00 |
//! | 4 | 1.50 | 3.25 |
//! | 10 | 1.60 | 2.80 |
//! | 100 | 1.44 | 1.60 |
//! | 1,000 | 1.37 | 1.42 |
//! | 10,000 | 1.36 | 1.36 |
//!
//! The mapping from a number to its symbols uses integers only, so all machines agree on it.

use std::collections::BTreeMap;

/// The most symbols of one sequence that are made or read.
pub const MAX_SYMBOLS: usize = 1 << 20;

/// Bytes of a packed symbol at most: sum, check, and a count of ten bytes.
const MAX_PACKED_BYTES: usize = 8 + 4 + 10;

/// A sum over the numbers of a set that fall on one place of the sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    /// How many numbers.
    count: i64,
    /// All of them, by exclusive or.
    sum: u64,
    /// Their hashes, by exclusive or. Thirty-two bits: what slips through is one in four thousand
    /// million, and whoever uses a difference checks the result as a whole.
    check: u32,
}

impl Symbol {
    fn add(&mut self, item: u64, times: i64) {
        self.count = self.count.wrapping_add(times);
        self.sum ^= item;
        self.check ^= check(item);
    }

    fn minus(self, other: Self) -> Self {
        Self {
            count: self.count.wrapping_sub(other.count),
            sum: self.sum ^ other.sum,
            check: self.check ^ other.check,
        }
    }

    fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// True when a single number is left.
    fn is_pure(&self) -> bool {
        self.count.unsigned_abs() == 1 && check(self.sum) == self.check
    }
}

/// The finalizer of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The step of splitmix64: an odd number near the golden ratio of 2^64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn check(item: u64) -> u32 {
    let hash = mix(mix(item ^ 0x6370_655f_6368_6563).wrapping_add(STEP));
    u32::try_from(hash >> 32).unwrap_or(u32::MAX)
}

/// A number and the next place of the sequence it falls on.
#[derive(Clone, Copy, Debug)]
struct Walk {
    item: u64,
    state: u64,
    next: u32,
}

impl Walk {
    /// Every number falls on the first place.
    fn new(item: u64) -> Self {
        Self {
            item,
            state: mix(item.wrapping_add(STEP)),
            next: 0,
        }
    }

    /// Goes to the next place. Place `i` has a number with probability `1 / (1 + i / 2)`; so the
    /// place after `i` is `i + (i + 1.5) (1 / root - 1)`, where `root` is the square root of a
    /// uniform variable, or the larger of two.
    fn step(&mut self) {
        self.state = self.state.wrapping_add(STEP);
        let random = mix(self.state);
        let root = (random >> 32).max(random & 0xffff_ffff).max(1);
        let place = u64::from(self.next);
        let gap = ((2 * place + 3) * ((1 << 32) - root)).div_ceil(2 * root);
        // Nobody asks for places beyond the bound: a number that is there stays there.
        self.next = match u32::try_from(place + gap) {
            Ok(next) if (next as usize) < MAX_SYMBOLS => next,
            _ => u32::MAX,
        };
    }

    /// Adds the number to the symbols it falls on, `times` over, as far as there are symbols.
    fn add_to(&mut self, symbols: &mut [Symbol], times: i64, mut changed: impl FnMut(usize)) {
        while let Some(symbol) = symbols.get_mut(self.next as usize) {
            symbol.add(self.item, times);
            changed(self.next as usize);
            self.step();
        }
    }
}

/// The sequence of symbols of a set, as far as it was asked for. Takes 24 bytes for each number
/// and as many for each symbol.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// By number.
    walks: Vec<Walk>,
    symbols: Vec<Symbol>,
}

impl Sketch {
    /// The sketch of a set. Numbers that come twice count once.
    #[must_use]
    pub fn new(items: impl IntoIterator<Item = u64>) -> Self {
        let mut walks: Vec<Walk> = items.into_iter().map(Walk::new).collect();
        walks.sort_unstable_by_key(|walk| walk.item);
        walks.dedup_by_key(|walk| walk.item);
        Self {
            walks,
            symbols: Vec::new(),
        }
    }

    /// How many numbers the set has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.walks.len()
    }

    /// True for the empty set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.walks.is_empty()
    }

    /// The first `count` symbols, at most [`MAX_SYMBOLS`].
    pub fn symbols(&mut self, count: usize) -> &[Symbol] {
        let count = count.min(MAX_SYMBOLS);
        if self.symbols.len() < count {
            self.symbols.resize(count, Symbol::default());
            for walk in &mut self.walks {
                walk.add_to(&mut self.symbols, 1, |_| {});
            }
        }
        self.symbols.get(..count).unwrap_or_default()
    }

    fn contains(&self, item: u64) -> bool {
        self.walks
            .binary_search_by_key(&item, |walk| walk.item)
            .is_ok()
    }
}

/// How the other side's set differs from one's own; both lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What only the other side has.
    pub added: Vec<u64>,
    /// What the other side has not.
    pub removed: Vec<u64>,
}

/// Symbols that are no set's, or belong to two sets: nothing can be made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the symbols of a sketch contradict each other; compare the sets in another way")]
pub struct Inconsistent;

/// Reads the other side's symbols and finds the difference to the own set.
///
/// It may be fed anything: the work is bounded by the number of symbols read, the memory too, and
/// garbage is an error or never gets done. What comes out of garbage by bad luck is still a
/// difference that can be applied to the own set: it removes only what is there, and adds only
/// what is not.
#[derive(Clone, Debug)]
pub struct Decoder {
    own: Sketch,
    /// The other side's symbols less the own ones less what was found.
    rest: Vec<Symbol>,
    /// What was found: whether the other side has it, and where it falls next.
    found: BTreeMap<u64, (bool, Walk)>,
}

impl Decoder {
    /// Compares with a set that has none of the other side's symbols yet.
    #[must_use]
    pub fn new(own: Sketch) -> Self {
        Self {
            own,
            rest: Vec::new(),
            found: BTreeMap::new(),
        }
    }

    /// How many symbols it has read.
    #[must_use]
    pub fn read(&self) -> usize {
        self.rest.len()
    }

    /// Reads the next symbols of the other side. Those beyond [`MAX_SYMBOLS`] are left out.
    ///
    /// # Errors
    /// When the symbols contradict each other. Nothing can be made of any of them then.
    pub fn push(&mut self, symbols: &[Symbol]) -> Result<(), Inconsistent> {
        let from = self.rest.len();
        let upto = from.saturating_add(symbols.len()).min(MAX_SYMBOLS);
        let own = self.own.symbols(upto).get(from..).unwrap_or_default();
        let differ = symbols
            .iter()
            .zip(own)
            .map(|(theirs, own)| theirs.minus(*own));
        self.rest.extend(differ);
        for (theirs, walk) in self.found.values_mut() {
            walk.add_to(&mut self.rest, if *theirs { -1 } else { 1 }, |_| {});
        }
        let mut todo: Vec<usize> = (from..upto).collect();
        while let Some(place) = todo.pop() {
            let pure = self.rest.get(place).filter(|symbol| symbol.is_pure());
            let Some(Symbol { count, sum, .. }) = pure.copied() else {
                continue;
            };
            let theirs = count > 0;
            // Each number is found once, and only where it can be: else what is peeled off one
            // symbol could come back from another for ever.
            if self.own.contains(sum) == theirs || self.found.contains_key(&sum) {
                return Err(Inconsistent);
            }
            let mut walk = Walk::new(sum);
            walk.add_to(&mut self.rest, -count, |place| todo.push(place));
            self.found.insert(sum, (theirs, walk));
            if self.found.len() > self.rest.len() {
                return Err(Inconsistent);
            }
        }
        Ok(())
    }

    /// The whole difference, once enough symbols were read.
    #[must_use]
    pub fn difference(&self) -> Option<Difference> {
        if self.rest.is_empty() || !self.rest.iter().all(Symbol::is_zero) {
            return None;
        }
        let mut difference = Difference::default();
        for (item, (theirs, _)) in &self.found {
            if *theirs {
                difference.added.push(*item);
            } else {
                difference.removed.push(*item);
            }
        }
        Some(difference)
    }
}

/// What packed symbols are relative to: both sides know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Size of the set.
    pub len: u64,
    /// No number of the set is larger.
    pub max: u64,
}

impl Scale {
    /// Bytes of a sum.
    fn width(self) -> usize {
        usize::try_from((64 - self.max.leading_zeros()).div_ceil(8)).unwrap_or(8)
    }

    /// About how many numbers fall on a place.
    fn expected(self, place: usize) -> i64 {
        let count = self.len.saturating_mul(2) / (place as u64).saturating_add(2);
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    /// Packs symbols of which the first one's place is `from`: about six bytes and as many as the
    /// largest number needs for each.
    #[must_use]
    pub fn pack(self, from: usize, symbols: &[Symbol]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(symbols.len() * (self.width() + 6));
        for (place, symbol) in (from..).zip(symbols) {
            bytes.extend(symbol.sum.to_le_bytes().iter().take(self.width()));
            bytes.extend(symbol.check.to_le_bytes());
            let count = symbol.count.wrapping_sub(self.expected(place));
            // Zigzag, so that small counts of either sign are short.
            let mut left = (count.wrapping_shl(1) ^ (count >> 63)).cast_unsigned();
            while left >= 0x80 {
                bytes.push((left & 0x7f) as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
        }
        bytes
    }

    /// Reads packed symbols; `None` when the bytes are not symbols, whole, or are more than `most`.
    #[must_use]
    pub fn unpack(self, from: usize, mut bytes: &[u8], most: usize) -> Option<Vec<Symbol>> {
        if bytes.len() > most.saturating_mul(MAX_PACKED_BYTES) {
            return None;
        }
        let mut symbols = Vec::new();
        while !bytes.is_empty() {
            if symbols.len() >= most {
                return None;
            }
            let (low, rest) = bytes.split_at_checked(self.width())?;
            let mut sum = [0; 8];
            for (to, from) in sum.iter_mut().zip(low) {
                *to = *from;
            }
            let (check, mut rest) = rest.split_first_chunk()?;
            let mut left = 0_u64;
            let mut shift = 0;
            loop {
                let (byte, more) = rest.split_first()?;
                rest = more;
                if shift > 63 {
                    return None;
                }
                left |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let count = (left >> 1).cast_signed() ^ -((left & 1).cast_signed());
            let place = from.saturating_add(symbols.len());
            symbols.push(Symbol {
                count: count.wrapping_add(self.expected(place)),
                sum: u64::from_le_bytes(sum),
                check: u32::from_le_bytes(*check),
            });
            bytes = rest;
        }
        Some(symbols)
    }
}
