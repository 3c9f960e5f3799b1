//! Each guard taken out: does the simulation notice?
//!
//! `cargo test --release -p cpe-consensus --features mutants --test sim -- mutants`

use std::panic::{AssertUnwindSafe, catch_unwind};

use cpe_consensus::Guard;

use crate::world::World;

/// The first seed that fails without a guard.
fn first_failure(guard: Guard, seeds: u64) -> Option<(u64, String)> {
    (1..=seeds).find_map(|seed| {
        let world = || World::new(seed, Box::new(move |seat| seat.without(guard))).run();
        let panic = catch_unwind(AssertUnwindSafe(world)).err()?;
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_default();
        Some((seed, text.lines().next().unwrap_or_default().to_owned()))
    })
}

/// Those that are found, and by which seed at the latest. `OwnCount` takes 3,702.
const FOUND: [(Guard, u64); 14] = [
    (Guard::PromiseFirst, 100),
    (Guard::NoClamp, 400),
    (Guard::HighestBallot, 100),
    (Guard::Splice, 200),
    (Guard::NoShorten, 50),
    (Guard::CountBallot, 500),
    (Guard::Durable, 10),
    (Guard::OwnDisk, 10),
    (Guard::Remember, 50),
    (Guard::Seal, 50),
    (Guard::HoldState, 50),
    (Guard::Joined, 100),
    (Guard::Heard, 100),
    (Guard::VoteOn, 200),
];

#[test]
fn the_simulation_notices_when_a_guard_is_missing() {
    for (guard, seeds) in FOUND {
        let found = first_failure(guard, seeds);
        assert!(found.is_some(), "{guard:?} is not missed in {seeds} seeds");
    }
}

#[test]
#[ignore = "makes the table in the README: CPE_SEEDS=N, CPE_GUARDS=all or some names"]
fn table() {
    std::panic::set_hook(Box::new(|_| {}));
    let seeds = std::env::var("CPE_SEEDS").map_or(1_000, |text| text.parse().unwrap());
    let names = std::env::var("CPE_GUARDS").unwrap_or_default();
    for guard in Guard::ALL {
        if names.is_empty() || names.split(',').any(|name| name == format!("{guard:?}")) {
            println!("{guard:?}: {:?}", first_failure(guard, seeds));
        }
    }
}
