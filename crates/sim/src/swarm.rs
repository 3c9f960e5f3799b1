//! Swarm testing: each seed is a scenario of its own.

use std::fmt;

use cpe_space::Mode;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::faults::{DRIFT_MAX, Faults};
use crate::scenario::{Scenario, Workload};

/// Of so many seeds of [`swarm`], one has nodes that work in turns.
const TURNS_EVERY: u64 = 4;

/// Keeps what a profile draws apart from what [`swarm`] does.
const PROFILE_STREAM: u64 = 7;

/// What the scenarios of seeds have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Everything, as [`swarm`] draws it.
    #[default]
    Mixed,
    /// A group of three or five that changes its leader all the time: nodes stand still for longer
    /// than a leader may be silent, messages are lost, and users look as much as they take.
    Elections,
    /// Home groups that move all the time, while messages are lost and nodes crash.
    Handovers,
    /// Nodes that start again and again, on disks that are slow at it, with much asked of them.
    Restarts,
    /// Nodes that host actors, with clocks that are wrong: they stand still, are cut off, crash and
    /// come back, and the homes of their records move.
    Actors,
    /// A user who deletes workspaces and variables, beside what else goes on.
    Deletions,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Mixed,
        Self::Elections,
        Self::Handovers,
        Self::Restarts,
        Self::Actors,
        Self::Deletions,
    ];

    /// The scenario of a seed.
    #[must_use]
    pub fn scenario(self, seed: u64) -> Scenario {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(PROFILE_STREAM);
        let scenario = Scenario {
            name: format!("{self} {seed}"),
            shards: rng.random_range(1..=2),
            seconds: 10.0,
            ..swarm(seed)
        };
        match self {
            Self::Mixed => swarm(seed),
            Self::Elections => elections(scenario, &mut rng),
            Self::Handovers => handovers(scenario, &mut rng),
            Self::Restarts => restarts(scenario, &mut rng),
            Self::Actors => actors(scenario, &mut rng),
            Self::Deletions => deletions(scenario, &mut rng),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mixed => "mixed",
            Self::Elections => "elections",
            Self::Handovers => "handovers",
            Self::Restarts => "restarts",
            Self::Actors => "actors",
            Self::Deletions => "deletions",
        })
    }
}

fn elections(scenario: Scenario, rng: &mut ChaCha8Rng) -> Scenario {
    let faults = Faults {
        loss: rng.random_range(0.0..0.2),
        delay_mean_ms: rng.random_range(1.0..20.0),
        straggle: rng.random_range(0.0..0.1),
        straggle_ms: 1_000.0,
        pauses: 20.0,
        // Leaders are missed after four rounds of heartbeats.
        pause_ms: rng.random_range(1_000.0..3_000.0),
        one_ways: rng.random_range(0.0..30.0),
        one_way_ms: 2_000.0,
        crashes: rng.random_range(0.0..6.0),
        down_ms: 1_000.0,
        disk_ms: rng.random_range(0.0..20.0),
        ..Faults::default()
    };
    Scenario {
        nodes: 5,
        homes: if rng.random() { 5 } else { 3 },
        eligible_ms: 50.0,
        replace_ms: 30_000.0,
        faults,
        workload: Workload {
            rate: 80.0,
            stores: 0.35,
            takes: 0.1,
            try_takes: 0.15,
            scans: 0.0,
            leases: 0.0,
            finds: 0.4,
            variables: 2,
            modes: vec![Mode::Fifo, Mode::Single],
            ..scenario.workload
        },
        ..scenario
    }
}

fn handovers(scenario: Scenario, rng: &mut ChaCha8Rng) -> Scenario {
    let faults = Faults {
        loss: rng.random_range(0.0..0.3),
        duplicate: 0.1,
        delay_mean_ms: rng.random_range(1.0..20.0),
        straggle: 0.05,
        straggle_ms: 2_000.0,
        crashes: rng.random_range(0.0..10.0),
        stops: rng.random_range(2.0..10.0),
        down_ms: 2_000.0,
        partitions: rng.random_range(0.0..10.0),
        partition_ms: 3_000.0,
        disk_ms: rng.random_range(0.0..30.0),
        ..Faults::default()
    };
    Scenario {
        nodes: 7,
        homes: if rng.random_bool(0.3) { 5 } else { 3 },
        eligible_ms: 50.0,
        replace_ms: rng.random_range(200.0..1_000.0),
        faults,
        ..scenario
    }
}

fn restarts(scenario: Scenario, rng: &mut ChaCha8Rng) -> Scenario {
    let faults = Faults {
        loss: rng.random_range(0.0..0.05),
        delay_mean_ms: rng.random_range(1.0..5.0),
        crashes: 30.0,
        down_ms: 200.0,
        disk_ms: rng.random_range(50.0..400.0),
        ..Faults::default()
    };
    Scenario {
        nodes: 5,
        homes: 3,
        eligible_ms: 50.0,
        replace_ms: 30_000.0,
        faults,
        workload: Workload {
            rate: 150.0,
            stores: 0.5,
            takes: 0.2,
            try_takes: 0.3,
            scans: 0.0,
            leases: 0.0,
            finds: 0.0,
            abandon: 0.0,
            variables: 2,
            modes: Vec::new(),
            ..scenario.workload
        },
        ..scenario
    }
}

fn actors(scenario: Scenario, rng: &mut ChaCha8Rng) -> Scenario {
    let drift = if rng.random_bool(0.7) {
        rng.random_range(0.0..DRIFT_MAX)
    } else {
        0.0
    };
    // What the seed drew, and more of what breaks leases.
    let faults = Faults {
        drift,
        pauses: rng.random_range(0.0..15.0),
        pause_ms: rng.random_range(500.0..5_000.0),
        partitions: rng.random_range(0.0..15.0),
        partition_ms: rng.random_range(500.0..6_000.0),
        one_ways: rng.random_range(0.0..20.0),
        one_way_ms: rng.random_range(500.0..4_000.0),
        loss: scenario.faults.loss / 2.0,
        ..scenario.faults
    };
    Scenario {
        nodes: rng.random_range(3..=5),
        homes: if rng.random_bool(0.8) { 3 } else { 1 },
        volatile: 0,
        eligible_ms: 50.0,
        replace_ms: rng.random_range(500.0..6_000.0),
        seconds: 14.0,
        faults,
        workload: Workload {
            rate: 5.0,
            leases: 0.0,
            variables: 1,
            modes: Vec::new(),
            node_lease_ms: rng.random_range(1_000.0..3_000.0),
            actors: rng.random_range(1..4),
            ..scenario.workload
        },
        ..scenario
    }
}

fn deletions(scenario: Scenario, rng: &mut ChaCha8Rng) -> Scenario {
    Scenario {
        shards: 4,
        volatile: 0,
        workload: Workload {
            rate: 10.0,
            abandon: rng.random_range(0.0..0.2),
            variables: 3,
            modes: Vec::new(),
            deletions: true,
            ..scenario.workload
        },
        ..scenario
    }
}

/// Nodes that take in much before they finish it: a stream of its own, so that the other seeds
/// stay the runs that they were.
fn in_turns(seed: u64, faults: Faults) -> Faults {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(PROFILE_STREAM + 1);
    Faults {
        turns: rng.random_range(0.1..1.0),
        turn_ms: rng.random_range(0.5..30.0),
        ..faults
    }
}

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
        turns: 0.0,
        turn_ms: 0.0,
        drift: some(0.4, DRIFT_MAX),
        offset_ms: some(0.4, 1_000_000.0),
        disk_ms: some(0.6, 30.0),
        slow_disks: some(0.3, 6.0),
        slow_for_ms: 100.0 + some(0.7, 5_000.0),
        slow_disk_ms: 50.0 + some(0.7, 800.0),
        write_errors: some(0.3, 4.0),
        disk_losses: some(0.4, 20.0),
    };
    let faults = if seed % TURNS_EVERY == TURNS_EVERY / 2 {
        in_turns(seed, faults)
    } else {
        faults
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
