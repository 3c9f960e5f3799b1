//! Each monitor and the search give the same verdict on random histories.

use cpe_space::Mode;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::random::{Shape, damage, history};
use crate::history::search::is_linearizable;
use crate::history::{History, Operation};

fn monitor(operations: &[Operation], mode: Mode) -> Result<(), String> {
    let mut history = History::default();
    history.declare("v", mode);
    for operation in operations {
        history.push(operation.clone()).unwrap();
    }
    history
        .check()
        .map(|_| ())
        .map_err(|conflict| conflict.to_string())
}

fn show(operations: &[Operation]) -> String {
    operations
        .iter()
        .map(|operation| format!("  {operation}\n"))
        .collect()
}

/// Leaves out operations while `fails` holds.
fn shrink(mut operations: Vec<Operation>, fails: impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
    let mut n = 0;
    while n < operations.len() {
        let mut fewer = operations.clone();
        fewer.remove(n);
        if fails(&fewer) {
            operations = fewer;
            n = 0;
        } else {
            n += 1;
        }
    }
    operations
}

#[derive(Debug, Default)]
struct Count {
    right: usize,
    wrong: usize,
    missed: usize,
}

/// Compares on `seeds` histories. A false alarm always fails; a miss only when `complete`.
fn compare(mode: Mode, seeds: u64, unknown: f64, cancelled: f64, complete: bool) -> Count {
    let mut count = Count::default();
    for seed in 0..seeds * effort() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut shape = Shape::random(mode, &mut rng);
        shape.unknown = unknown;
        shape.cancelled = cancelled;
        if seed % 4 == 1 {
            shape.flaw = rng.random_range(0.1..0.5);
        }
        let mut operations = history(shape, &mut rng);
        if seed % 4 > 1 {
            for _ in 0..rng.random_range(1..=4) {
                damage(&mut operations, &mut rng);
            }
        }
        let truth = is_linearizable(&operations, mode).unwrap();
        assert!(
            truth || seed % 4 != 0,
            "seed {seed}: correct by making\n{}",
            show(&operations)
        );
        match (truth, monitor(&operations, mode)) {
            (true, Ok(())) => count.right += 1,
            (false, Err(_)) => count.wrong += 1,
            (true, Err(conflict)) => {
                let small = shrink(operations, |fewer| {
                    is_linearizable(fewer, mode).unwrap() && monitor(fewer, mode).is_err()
                });
                let conflict = monitor(&small, mode).err().unwrap_or(conflict);
                panic!(
                    "seed {seed}, {mode}: false alarm: {conflict}\nin\n{}",
                    show(&small)
                );
            }
            (false, Ok(())) if complete => {
                let small = shrink(operations, |fewer| {
                    !is_linearizable(fewer, mode).unwrap() && monitor(fewer, mode).is_ok()
                });
                panic!("seed {seed}, {mode}: missed\n{}", show(&small));
            }
            (false, Ok(())) => count.missed += 1,
        }
    }
    println!("{mode}, unknown {unknown}, cancelled {cancelled}: {count:?}");
    assert!(count.right > seeds as usize / 4, "{count:?}");
    assert!(count.wrong > seeds as usize / 50, "{count:?}");
    assert!(count.missed * 10 <= count.wrong, "{count:?}");
    count
}

/// Multiplies the number of histories: `CPE_SIM_EFFORT=10 cargo nextest run -p cpe-sim history`.
fn effort() -> u64 {
    let effort = std::env::var("CPE_SIM_EFFORT").ok();
    effort.and_then(|effort| effort.parse().ok()).unwrap_or(1)
}

macro_rules! decided {
    ($($name:ident: $mode:ident,)*) => {
        $(#[test] fn $name() { compare(Mode::$mode, 12_000, 0.0, 0.0, true); })*
    };
}

decided! {
    the_queue_monitor_decides_as_the_search_does: Fifo,
    the_stack_monitor_decides_as_the_search_does: Lifo,
    the_multiset_monitor_decides_as_the_search_does: Multi,
    the_register_monitor_decides_as_the_search_does: Single,
}

macro_rules! unanswered {
    ($($name:ident: $mode:ident, $complete:literal,)*) => {
        $(#[test] fn $name() { compare(Mode::$mode, 6_000, 0.2, 0.0, $complete); })*
    };
}

unanswered! {
    queues_with_unknown_outcomes_raise_no_false_alarm: Fifo, false,
    stacks_with_unknown_outcomes_raise_no_false_alarm: Lifo, false,
    multisets_with_unknown_outcomes_are_decided: Multi, true,
    registers_with_unknown_outcomes_are_decided: Single, true,
}

macro_rules! cancelled {
    ($($name:ident: $mode:ident,)*) => {
        $(#[test] fn $name() { compare(Mode::$mode, 4_000, 0.1, 0.15, false); })*
    };
}

cancelled! {
    queues_with_cancelled_takes_raise_no_false_alarm: Fifo,
    stacks_with_cancelled_takes_raise_no_false_alarm: Lifo,
    multisets_with_cancelled_takes_raise_no_false_alarm: Multi,
    registers_with_cancelled_takes_raise_no_false_alarm: Single,
}
