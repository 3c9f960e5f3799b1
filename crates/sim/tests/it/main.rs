//! A thousand seeds of stores and takes with every fault on.
//!
//! A failure prints the seed; to see what happened in it:
//! `CPE_SIM_SEED=<seed> cargo nextest run -p cpe-sim one_seed --no-capture`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cpe_sim::{Faults, Report, Scenario, Workload, World};
use cpe_space::Mode;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Swarm testing (Groce and others, "Swarm testing", ISSTA 2012): each seed draws which faults
/// are on at all, and how strong.
fn swarm(seed: u64) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let mut some = |most: f64| {
        if rng.random_bool(0.6) {
            rng.random_range(0.0..most)
        } else {
            0.0
        }
    };
    let faults = Faults {
        loss: some(0.3),
        duplicate: some(0.3),
        delay_min_ms: 1.0,
        delay_mean_ms: 1.0 + some(20.0),
        straggle: some(0.1),
        straggle_ms: 1.0 + some(1_000.0),
        gossip_loss: some(0.6),
        crashes: some(8.0),
        stops: some(5.0),
        down_ms: 100.0 + some(4_000.0),
        partitions: some(10.0),
        partition_ms: 100.0 + some(6_000.0),
        disk_ms: some(30.0),
    };
    let mut modes = Vec::new();
    if seed.is_multiple_of(3) {
        modes = vec![Mode::Lifo, Mode::Single, Mode::Multi, Mode::Fifo];
        modes.rotate_left(seed as usize / 3 % 4);
    }
    let workload = Workload {
        rate: 5.0 + some(60.0),
        modes,
        abandon: some(0.3),
        variables: rng.random_range(1..8),
        deadline_ms: rng.random_range(50.0..3_000.0),
        ..Workload::default()
    };
    Scenario {
        name: format!("swarm {seed}"),
        about: String::new(),
        nodes: rng.random_range(3..=7),
        shards: *[1, 4, 16].choose(&mut rng).unwrap(),
        homes: *[1, 3, 3, 5].choose(&mut rng).unwrap(),
        eligible_ms: rng.random_range(50.0..2_000.0),
        replace_ms: rng.random_range(500.0..6_000.0),
        seconds: 8.0,
        settle_seconds: 120.0,
        faults,
        workload,
    }
}

fn run(seed: u64) -> Report {
    match World::new(swarm(seed), seed).run() {
        Ok(report) => report,
        Err((violation, _)) => panic!(
            "seed {seed}: {violation}\nreplay: CPE_SIM_SEED={seed} \
             cargo nextest run -p cpe-sim one_seed --no-capture"
        ),
    }
}

/// Seeds `slice, slice + 8, ...` below 1,000: eight tests, so that they run side by side.
fn slice(slice: u64) {
    let (mut taken, mut checked) = (0, 0);
    let (mut sketches, mut snapshots) = (0, 0);
    for seed in (slice..1_000).step_by(8) {
        let report = run(seed);
        sketches += report.sketches;
        snapshots += report.snapshots;
        assert_eq!(report.states_failed, 0, "seed {seed} built a wrong state");
        taken += report.taken;
        checked += report.checked;
    }
    assert!(taken > 1_000, "only {taken} takes: the seeds try nothing");
    assert!(checked > 3 * taken, "only {checked} operations checked");
    println!("{sketches} replicas caught up by a sketch, {snapshots} by a snapshot");
    assert!(sketches > 0, "no replica caught up by a sketch");
}

macro_rules! slices {
    ($($name:ident: $n:literal,)*) => {
        $(#[test] fn $name() { slice($n); })*
    };
}

slices! {
    a_tuple_is_taken_once_whatever_fails_0: 0,
    a_tuple_is_taken_once_whatever_fails_1: 1,
    a_tuple_is_taken_once_whatever_fails_2: 2,
    a_tuple_is_taken_once_whatever_fails_3: 3,
    a_tuple_is_taken_once_whatever_fails_4: 4,
    a_tuple_is_taken_once_whatever_fails_5: 5,
    a_tuple_is_taken_once_whatever_fails_6: 6,
    a_tuple_is_taken_once_whatever_fails_7: 7,
}

/// A take over all variables whose time ended while it asked one shard called everything empty.
#[test]
fn seeds_that_once_failed_pass() {
    for seed in [352, 717] {
        run(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 77] {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(3).trace, run(4).trace);
}

#[test]
fn one_seed() {
    let Some(seed) = std::env::var("CPE_SIM_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
    else {
        run(0);
        return;
    };
    let scenario = swarm(seed);
    println!("{scenario:#?}");
    let mut world = World::new(scenario, seed);
    world.keep_trace();
    match world.run() {
        Ok(report) => println!("{report:#?}"),
        Err((violation, trace)) => {
            for line in trace {
                println!("{line}");
            }
            panic!("seed {seed}: {violation}");
        }
    }
}

#[test]
fn a_perfect_world_loses_nothing_and_has_no_excuses() {
    let scenario = Scenario {
        faults: Faults::default(),
        workload: Workload {
            abandon: 0.0,
            rate: 100.0,
            ..Workload::default()
        },
        ..swarm(1)
    };
    let report = World::new(scenario, 1).run().unwrap();
    assert_eq!(report.lost_with_taker, 0);
    assert_eq!(report.unknown, 0);
    assert!(report.acknowledged > 0);
    assert_eq!(report.taken + report.left, report.stores);
}

#[test]
fn a_scenario_with_an_unknown_key_is_refused_by_name() {
    let error = Scenario::parse("name='x'\nnodes=3\nseconds=1.0\n[faults]\nlos=0.1").unwrap_err();
    assert!(error.to_string().contains("los"), "{error}");
    let error = Scenario::parse("name='x'\nnodes=3\nseconds=1.0\n[faults]\nloss=1.5").unwrap_err();
    assert!(error.to_string().contains("faults.loss"), "{error}");
}

#[test]
fn every_scenario_that_ships_passes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../simulations");
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut scenario = Scenario::parse(&text).unwrap();
        scenario.seconds = scenario.seconds.min(15.0);
        let result = World::new(scenario, 1).run();
        if let Err((violation, _)) = result {
            panic!("{}: {violation}", path.display());
        }
        names.push(path);
    }
    assert!(names.len() >= 6, "{names:?}");
}

/// A mesh that fell in two for so long that both halves declared each other dead used to stay so:
/// peers asked their network to stop dialling whom membership had given up.
#[test]
fn halves_that_declared_each_other_dead_find_together_again() {
    let mut partitions = 0;
    for seed in 0..20 {
        let faults = Faults {
            partitions: 6.0,
            partition_ms: 20_000.0,
            ..Faults::default()
        };
        let scenario = Scenario {
            seconds: 60.0,
            faults,
            nodes: 5,
            ..swarm(2)
        };
        let report = World::new(scenario, seed)
            .run()
            .unwrap_or_else(|(violation, _)| {
                panic!("seed {seed}: {violation}");
            });
        partitions += report.partitions;
    }
    assert!(partitions > 20, "only {partitions} partitions");
}
