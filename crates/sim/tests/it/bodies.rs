//! Large values under every fault: an acknowledged one can be read or was taken, and in the end no
//! body is left that nothing refers to.

use cpe_sim::{Scenario, Violation, World, swarm};

/// Seeds of one run of the tests.
const SEEDS: u64 = 48;

fn scenario(seed: u64) -> Scenario {
    let mut scenario = swarm(seed);
    scenario.workload.bodies = 0.5;
    // Bodies cost a thousand times the messages of a small value.
    scenario.workload.rate = scenario.workload.rate.min(12.0);
    // Whether progress is made in time is asked of other seeds.
    scenario.progress_seconds = 0.0;
    scenario
}

fn slice(slice: u64) {
    let (mut stored, mut read) = (0, 0);
    for seed in (slice..SEEDS).step_by(4) {
        match World::new(scenario(seed), seed).run() {
            Ok(report) => {
                stored += report.large_stores;
                read += report.bodies_read;
            }
            Err((violation, _)) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(stored > 20 && read > 20, "{stored} stored, {read} read");
}

#[test]
fn bodies_outlive_every_fault_first_quarter() {
    slice(0);
}

#[test]
fn bodies_outlive_every_fault_second_quarter() {
    slice(1);
}

#[test]
fn bodies_outlive_every_fault_third_quarter() {
    slice(2);
}

#[test]
fn bodies_outlive_every_fault_last_quarter() {
    slice(3);
}

/// Runs one seed of these: `CPE_SIM_BODY_SEED=<seed> cargo nextest run -p cpe-sim one_body_seed
/// --no-capture`.
#[test]
fn one_body_seed() {
    let Ok(seed) = std::env::var("CPE_SIM_BODY_SEED") else {
        return;
    };
    let seed = seed.parse().unwrap();
    let mut world = World::new(scenario(seed), seed);
    world.keep_trace();
    match world.run() {
        Ok(report) => println!("{report:?}"),
        Err((Violation::NoProgress { .. }, _)) => {}
        Err((violation, trace)) => panic!("{}\n{violation}", trace.join("\n")),
    }
}
