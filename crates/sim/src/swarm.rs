//! Swarm testing: each seed is a scenario of its own.

use cpe_space::Mode;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::faults::{DRIFT_MAX, Faults};
use crate::scenario::{Scenario, Workload};

/// The scenario of a seed: few nodes for a few seconds, which faults are on at all and how strong
/// drawn anew (Groce and others, "Swarm testing", ISSTA 2012: a run in which some are off finds
/// what a run with all of them hides).
#[must_use]
pub fn swarm(seed: u64) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let mut some = |share: f64, most: f64| {
        if rng.random_bool(share) {
            rng.random_range(0.0..most)
        } else {
            0.0
        }
    };
    let faults = Faults {
        loss: some(0.6, 0.3),
        duplicate: some(0.6, 0.3),
        delay_min_ms: 1.0,
        delay_mean_ms: 1.0 + some(0.6, 20.0),
        straggle: some(0.6, 0.1),
        straggle_ms: 1.0 + some(0.6, 1_000.0),
        gossip_loss: some(0.6, 0.6),
        partitions: some(0.5, 10.0),
        partition_ms: 100.0 + some(0.6, 6_000.0),
        one_ways: some(0.4, 20.0),
        one_way_ms: 100.0 + some(0.6, 6_000.0),
        flaps: some(0.3, 10.0),
        flap_ms: 100.0 + some(0.8, 4_000.0),
        flap_period_ms: 20.0 + some(0.8, 800.0),
        crashes: some(0.6, 8.0),
        stops: some(0.5, 5.0),
        mass_crashes: some(0.2, 10.0),
        mass_share: 0.5 + some(0.7, 0.5),
        down_ms: 100.0 + some(0.6, 4_000.0),
        pauses: some(0.4, 6.0),
        pause_ms: 100.0 + some(0.7, 5_000.0),
        drift: some(0.4, DRIFT_MAX),
        offset_ms: some(0.4, 1_000_000.0),
        disk_ms: some(0.6, 30.0),
        slow_disks: some(0.3, 6.0),
        slow_for_ms: 100.0 + some(0.7, 5_000.0),
        slow_disk_ms: 50.0 + some(0.7, 800.0),
        write_errors: some(0.3, 4.0),
        disk_losses: some(0.4, 20.0),
    };
    let abandon = some(0.6, 0.3);
    let rate = 5.0 + some(0.6, 60.0);
    let mut modes = Vec::new();
    if seed.is_multiple_of(3) {
        modes = vec![Mode::Lifo, Mode::Single, Mode::Multi, Mode::Fifo];
        modes.rotate_left(seed as usize / 3 % 4);
    }
    let workload = Workload {
        rate,
        modes,
        abandon,
        variables: rng.random_range(1..8),
        deadline_ms: rng.random_range(50.0..3_000.0),
        ..Workload::default()
    };
    Scenario {
        name: format!("swarm {seed}"),
        about: String::new(),
        nodes: rng.random_range(3..=7),
        shards: [1, 4, 16].choose(&mut rng).copied().unwrap_or(1),
        volatile: volatile(seed),
        homes: [1, 3, 3, 5].choose(&mut rng).copied().unwrap_or(3),
        eligible_ms: rng.random_range(50.0..2_000.0),
        replace_ms: rng.random_range(500.0..6_000.0),
        start_every_ms: 20.0,
        seconds: 8.0,
        progress_seconds: 20.0,
        settle_seconds: 120.0,
        faults,
        workload,
    }
}

/// How many volatile shards a seed has. Drawn apart, so that it changes nothing else.
fn volatile(seed: u64) -> u16 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0074_6d70);
    [0, 1, 2].choose(&mut rng).copied().unwrap_or(0)
}
