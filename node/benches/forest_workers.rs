//! How much sooner a forest is there with two worker processes than with one.
//!
//! ```text
//! cargo xtask bench forest_workers            # with --quick: fewer trees, once
//! ```
//!
//! Each worker is a `cpe node` that may run on one core only, and so grows one grove at a time. One
//! mesh has one of them, another two on two cores; both get the same job by turns, from the command
//! line, and what is measured is all that whoever asks waits for: reading the table, sending it to
//! the nodes, growing, growing some groves again to audit them, and fetching the model. Both
//! forests must have one hash. The baseline is the mesh of one; the goal is 1.8 times.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports on stdout"
)]

#[allow(dead_code, reason = "not every benchmark needs all of it")]
mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Process, asked, until};
use serde_json::{Value, json};

const ROWS: usize = 20_000;
const COLUMNS: usize = 20;

fn main() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let pinned = Command::new("taskset").arg("--version").output().is_ok();
    if cores < 2 || !pinned {
        eprintln!("skipped: two worker processes (it takes two cores, and taskset of util-linux)");
        return;
    }
    let (rounds, trees) = if asked("--quick") {
        (1, 200)
    } else {
        (3, 1_000)
    };
    let folder = tempfile::tempdir().unwrap();
    let one = [Process::start_on(0, None, &["--name", "alone"])];
    let first = Process::start_on(0, None, &["--name", "first"]);
    let second = Process::start_on(1, Some(&first), &["--name", "second", "--no-homes"]);
    let two = [first, second];
    until("both nodes see each other", || {
        two.iter().all(|node| node.number("alive") == 2)
    });
    let csv = folder.path().join("data.csv");
    std::fs::write(&csv, table()).unwrap();
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // A seed of its own, lest groves be kept from the round before.
        let (took, hash, _) = train(&one, &csv, trees, round);
        alone.push(took);
        let (took, same, by) = train(&two, &csv, trees, round);
        together.push(took);
        assert_eq!(hash, same, "two nodes grew another forest");
        assert_eq!(by, 2, "one of two nodes grew nothing");
    }
    let (alone, together) = (median(alone), median(together));
    let case = format!("forest job, {trees} trees of {ROWS} x {COLUMNS}: 2 nodes of one core");
    let row = json!({
        "case": case,
        "value": together.as_secs_f64(),
        "unit": "s",
        "baseline": "1 node of one core",
        "baseline_value": alone.as_secs_f64(),
        "times": alone.as_secs_f64() / together.as_secs_f64(),
        "goal": 1.8,
    });
    println!("{row}");
}

/// Has a forest grown; how long it took, its hash, and how many nodes grew some of it.
fn train(nodes: &[Process], csv: &Path, trees: u32, round: u32) -> (Duration, String, usize) {
    let (trees, seed) = (trees.to_string(), round.to_string());
    let name = format!("round-{round}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpe"));
    command.args(["forest", "train"]).arg(csv);
    command.args(["--target", "y", "--trees", &trees, "--seed", &seed]);
    command.args([
        "--out",
        &name,
        "--json",
        "--timeout",
        "10m",
        "--api",
        &nodes[0].api,
    ]);
    let began = Instant::now();
    let ran = command.output().unwrap();
    let took = began.elapsed();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command:?}: {said}");
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let hash = told["card"]["forest"].as_str().unwrap().to_owned();
    let by = told["groves_by_node"].as_object().unwrap().len();
    (took, hash, by)
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

/// A table like that of the benchmark `forest`: a target of four columns, and noise.
fn table() -> String {
    let uniform = |n: usize| (cpe_forest::splitmix64(7, n as u64) >> 11) as f64 / 2f64.powi(53);
    let bell = |n: usize| (0..6).map(|k| uniform(6 * n + k)).sum::<f64>() - 3.0;
    let mut text: String = (0..COLUMNS).map(|n| format!("x{n},")).collect();
    text.push_str("y\n");
    for row in 0..ROWS {
        let at = |column: usize| bell(row * (COLUMNS + 1) + column);
        for column in 0..COLUMNS {
            write!(text, "{},", at(column)).unwrap();
        }
        let signal = at(0) * at(1) + at(2) + at(3) * at(3) - 0.5 + 0.3 * at(COLUMNS);
        writeln!(text, "{}", if signal > 0.0 { "high" } else { "low" }).unwrap();
    }
    text
}
