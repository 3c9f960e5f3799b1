//! Groups under faults, in virtual time: seeds, and what they must all show.
//!
//! `CPE_SEEDS=1..20000 cargo test --release -p cpe-consensus --test sim -- --ignored many_seeds`
//! runs as many as you like.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod checks;
mod disk;
#[cfg(feature = "mutants")]
mod mutants;
mod replica;
mod rng;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Tally, World};

/// One seed; on failure, what to run to see it again.
fn run(seed: u64) -> Tally {
    let world = AssertUnwindSafe(|| World::new(seed, Box::new(|seat| seat)).run());
    catch_unwind(world).unwrap_or_else(|_| {
        panic!(
            "seed {seed} failed; again: CPE_SEEDS={seed}..{} cargo test -p cpe-consensus \
             --test sim -- --ignored many_seeds",
            seed + 1
        )
    })
}

fn run_all(seeds: impl Iterator<Item = u64>) {
    let mut sum = Tally::default();
    let mut count = 0;
    for seed in seeds {
        let tally = run(seed);
        count += 1;
        sum.events += tally.events;
        sum.decided += tally.decided;
        sum.epochs += tally.epochs;
        sum.states += tally.states;
        sum.crashes += tally.crashes;
        sum.leads += tally.leads;
        sum.reads += tally.reads;
        sum.full += tally.full;
    }
    println!("{count} seeds: {sum:?}");
}

// A thousand seeds, in four parts that run side by side.

#[test]
fn seeds_1_to_250_keep_one_history_and_recover() {
    run_all(1..=250);
}

#[test]
fn seeds_251_to_500_keep_one_history_and_recover() {
    run_all(251..=500);
}

#[test]
fn seeds_501_to_750_keep_one_history_and_recover() {
    run_all(501..=750);
}

#[test]
fn seeds_751_to_1000_keep_one_history_and_recover() {
    run_all(751..=1_000);
}

#[test]
#[ignore = "as many seeds as CPE_SEEDS=from..to names"]
fn many_seeds() {
    let seeds = std::env::var("CPE_SEEDS").unwrap_or_else(|_| "1..5000".to_owned());
    let (from, to) = seeds.split_once("..").expect("CPE_SEEDS=from..to");
    run_all(from.parse().unwrap()..to.parse().unwrap());
}
