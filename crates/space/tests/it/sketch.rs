//! Sketches: what differs is found, with few symbols, and garbage does no harm.

use std::collections::BTreeSet;

use cpe_space::{Decoder, Difference, Scale, Sketch, Symbol};
use proptest::prelude::*;

/// How `theirs` differs from `own`, looked up.
fn expected(own: &BTreeSet<u64>, theirs: &BTreeSet<u64>) -> Difference {
    Difference {
        added: theirs.difference(own).copied().collect(),
        removed: own.difference(theirs).copied().collect(),
    }
}

/// Reads some symbols at a time until the difference is found; how many it took.
fn reconcile(own: &BTreeSet<u64>, theirs: &BTreeSet<u64>, chunk: usize) -> (Difference, usize) {
    let mut sketch = Sketch::new(theirs.iter().copied());
    let mut decoder = Decoder::new(Sketch::new(own.iter().copied()));
    loop {
        let place = decoder.read();
        let symbols = sketch.symbols(place + chunk);
        decoder.push(&symbols[place..]).unwrap();
        if let Some(difference) = decoder.difference() {
            return (difference, decoder.read());
        }
        assert!(place < 50_000, "no difference after {place} symbols");
    }
}

/// Numbers as indices of live tuples are: close together, with gaps.
fn numbers(most: usize) -> impl Strategy<Value = BTreeSet<u64>> {
    prop_oneof![
        prop::collection::btree_set(0_u64..400, 0..most),
        prop::collection::btree_set(any::<u64>(), 0..most),
    ]
}

/// A generator for tests that measure.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let z = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        z ^ (z >> 29)
    }
}

proptest! {
    #[test]
    fn a_prefix_gives_the_exact_difference_or_says_more(
        own in numbers(120),
        theirs in numbers(120),
        chunks in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let wanted = expected(&own, &theirs);
        let mut sketch = Sketch::new(theirs.iter().copied());
        let mut decoder = Decoder::new(Sketch::new(own.iter().copied()));
        let mut found = false;
        for chunk in chunks.into_iter().chain([100, 400, 2_000]) {
            let from = decoder.read();
            let symbols = sketch.symbols(from + chunk);
            prop_assert_eq!(decoder.push(&symbols[from..]), Ok(()));
            match decoder.difference() {
                Some(difference) => {
                    prop_assert_eq!(&difference, &wanted);
                    found = true;
                }
                None => prop_assert!(!found, "once found, found"),
            }
        }
        prop_assert!(found, "2,500 symbols are enough for 240 numbers");
    }

    #[test]
    fn packed_symbols_are_read_back(
        set in numbers(60), from in 0_usize..50, count in 0_usize..60,
    ) {
        let max = set.last().copied().unwrap_or(0);
        let scale = Scale { len: set.len() as u64, max };
        let mut sketch = Sketch::new(set);
        let symbols = sketch.symbols(from + count)[from..].to_vec();
        let bytes = scale.pack(from, &symbols);
        prop_assert_eq!(scale.unpack(from, &bytes, count), Some(symbols));
        if count > 0 {
            prop_assert_eq!(scale.unpack(from, &bytes, count - 1), None);
        }
        if let Some((_, cut)) = bytes.split_last() {
            prop_assert_eq!(scale.unpack(from, cut, count), None);
        }
    }

    #[test]
    fn garbage_ends(
        own in numbers(60),
        bytes in prop::collection::vec(any::<u8>(), 0..4_000),
        len in prop_oneof![0_u64..100, any::<u64>()],
        max in prop_oneof![0_u64..100, any::<u64>()],
        from in prop_oneof![0_usize..100, any::<usize>()],
    ) {
        let symbols = Scale { len, max }.unpack(from, &bytes, 1_000).unwrap_or_default();
        let mut decoder = Decoder::new(Sketch::new(own.iter().copied()));
        let _ = decoder.push(&symbols);
        if let Some(difference) = decoder.difference() {
            prop_assert!(difference.added.iter().all(|item| !own.contains(item)));
            prop_assert!(difference.removed.iter().all(|item| own.contains(item)));
        }
    }

    /// Nearly right is worse than random: symbols of two sets, in one sequence.
    #[test]
    fn symbols_of_two_sets_end(
        own in numbers(60),
        one in numbers(60),
        other in numbers(60),
        cut in 0_usize..80,
    ) {
        let (mut one, mut other) = (Sketch::new(one), Sketch::new(other));
        let mut symbols: Vec<Symbol> = one.symbols(cut).to_vec();
        symbols.extend_from_slice(&other.symbols(400)[cut..]);
        let mut decoder = Decoder::new(Sketch::new(own.iter().copied()));
        for chunk in symbols.chunks(7) {
            if decoder.push(chunk).is_err() {
                break;
            }
        }
        if let Some(difference) = decoder.difference() {
            prop_assert!(difference.added.iter().all(|item| !own.contains(item)));
            prop_assert!(difference.removed.iter().all(|item| own.contains(item)));
        }
    }
}

#[test]
fn a_number_that_would_be_peeled_for_ever_is_an_error() {
    // The symbols of {7}, of which one is missing: peeling 7 leaves it with one less than none,
    // and peeling that would bring 7 back to all the others.
    let mut sketch = Sketch::new([7]);
    let mut symbols = sketch.symbols(64).to_vec();
    let place = symbols
        .iter()
        .rposition(|symbol| *symbol != Symbol::default())
        .unwrap();
    assert!(place > 0);
    symbols[place] = Symbol::default();
    let mut decoder = Decoder::new(Sketch::default());
    assert!(decoder.push(&symbols).is_err());
}

#[test]
fn equal_sets_need_one_symbol() {
    for set in [BTreeSet::new(), (0..1_000).collect()] {
        assert_eq!(reconcile(&set, &set, 1), (Difference::default(), 1));
    }
}

#[test]
fn symbols_are_the_same_on_all_machines() {
    let scale = Scale { len: 100, max: 99 };
    let packed = scale.pack(0, Sketch::new(0..100).symbols(40));
    let hash = packed.iter().fold(0_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(hash, GOLDEN, "the wire format changed: {hash:#x}");
}

const GOLDEN: u64 = 0x2777_6d52_f47a_8607;

#[test]
fn few_symbols_per_difference_are_enough() {
    // Median and 95th percentile of symbols per difference that are acceptable.
    let cases: [(usize, usize, f64, f64); 6] = [
        (1, 200, 1.01, 1.01),
        (4, 200, 2.0, 4.0),
        (10, 200, 1.8, 3.0),
        (100, 200, 1.6, 1.9),
        (1_000, 20, 1.45, 1.55),
        (10_000, 1, 1.40, 1.40),
    ];
    let mut random = Random(1);
    for (differ, runs, median, most) in cases {
        let mut ratios = Vec::new();
        for _ in 0..runs {
            let common: BTreeSet<u64> = (0..2_000).map(|_| random.next() >> 40).collect();
            let (mut own, mut theirs) = (common.clone(), common.clone());
            while own.len() + theirs.len() < 2 * common.len() + differ {
                let item = random.next() >> 40;
                if !common.contains(&item) && !own.contains(&item) && !theirs.contains(&item) {
                    if item.is_multiple_of(2) {
                        &mut own
                    } else {
                        &mut theirs
                    }
                    .insert(item);
                }
            }
            let (difference, symbols) = reconcile(&own, &theirs, differ.div_ceil(100));
            assert_eq!(difference, expected(&own, &theirs));
            ratios.push(symbols as f64 / differ as f64);
        }
        ratios.sort_by(f64::total_cmp);
        let (mid, high) = (ratios[runs / 2], ratios[runs * 95 / 100]);
        println!("| {differ} | {mid:.2} ({high:.2}) |");
        assert!(mid <= median && high <= most, "{differ}: {mid} ({high})");
    }
}
