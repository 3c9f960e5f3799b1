//! What survives a disk that breaks.

use cpe_mesh::{Batch, Image};
use cpe_storage::OpenError;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::medium::Disk;
use crate::put;

/// Bits are flipped in this much of each file: what follows in a segment is zeros.
const FLIPPED_MAX: usize = 64 << 10;

/// What is there after each of so many batches, beginning with nothing.
fn images(batches: &[Batch]) -> Vec<Image> {
    let mut all = vec![Image::default()];
    for batch in batches {
        let mut next = Image::default();
        next.entries.clone_from(&all[all.len() - 1].entries);
        next.apply(batch.clone());
        all.push(next);
    }
    all
}

/// Writes batches until one fails; says how many were acknowledged as safe, and how many at all.
fn run(disk: &Disk, batches: &[Batch], syncs: &[bool]) -> (usize, usize) {
    let Ok(mut opened) = disk.open() else {
        return (0, 0);
    };
    let (mut safe, mut sent) = (0, 0);
    for (batch, sync) in batches.iter().zip(syncs) {
        sent += 1;
        if opened.storage.write(0, batch.clone(), *sync).is_err() {
            break;
        }
        match opened.completions.blocking_recv().unwrap().result {
            Ok(()) if *sync => safe = sent,
            Ok(()) => {}
            Err(failed) => {
                assert!(failed.to_string().contains("stopped after a failed write"));
                break;
            }
        }
    }
    // As a process that is killed: what close would still sync is not.
    disk.state().broken = true;
    (safe, sent)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Power cuts between any two batches, and writes that stop halfway at any point.
    #[test]
    fn what_was_acknowledged_survives_torn_and_short_writes(
        values in proptest::collection::vec((0..6_u8, 0..3_000_usize, any::<bool>()), 1..20),
        fails_after in proptest::option::of(0..400_u64),
        seed in any::<u64>(),
    ) {
        let batches: Vec<Batch> = values
            .iter()
            .map(|(key, len, _)| put(&[*key], &vec![*key; *len]))
            .collect();
        let syncs: Vec<bool> = values.iter().map(|(.., sync)| *sync).collect();
        let disk = Disk::default();
        if let Some(writes) = fails_after {
            disk.state().writes_left = Some(writes);
        }
        let (safe, sent) = run(&disk, &batches, &syncs);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..3 {
            let left = Disk::holding(&disk.cut(&mut rng));
            match left.open() {
                Ok(opened) => {
                    let possible = images(&batches[..sent]);
                    let found = possible[safe..].contains(&opened.image);
                    prop_assert!(found, "{safe} of {sent} were safe");
                }
                // A database torn before anything was acknowledged is refused, not guessed at.
                Err(OpenError::Corrupt { .. }) => prop_assert_eq!(safe, 0),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_changes_nothing(
        lengths in proptest::collection::vec(1..2_000_usize, 1..12),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 4),
    ) {
        let batches: Vec<Batch> = (0_u8..)
            .zip(&lengths)
            .map(|(n, len)| put(&[n], &vec![n; *len]))
            .collect();
        let disk = Disk::default();
        let (safe, _) = run(&disk, &batches, &vec![true; batches.len()]);
        prop_assert_eq!(safe, batches.len());
        let good = disk.files();
        let all = images(&batches).pop().unwrap();
        // In the log as it was left, and in the database once that has it.
        let later = Disk::holding(&good);
        drop(later.open().unwrap());
        let places = [good, later.files()];
        for (n, (at, bit)) in flips.into_iter().enumerate() {
            let mut bad = places[n % 2].clone();
            let lengths: usize = bad.values().map(|bytes| bytes.len().min(FLIPPED_MAX)).sum();
            let mut at = at.index(lengths);
            for bytes in bad.values_mut() {
                let length = bytes.len().min(FLIPPED_MAX);
                if at < length {
                    bytes[at] ^= 1 << bit;
                    break;
                }
                at -= length;
            }
            match Disk::holding(&bad).open() {
                Ok(opened) => prop_assert!(opened.image == all),
                Err(OpenError::Corrupt { .. }) => {}
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}
