//! Local tell, ask, spawn and idle memory, side by side.
//!
//! ```text
//! cargo xtask bench actors            # or: cargo bench -p cpe-actors-peers
//! ```
//!
//! Each measurement runs in a process of its own, this program again, so that no side inherits the
//! memory or the threads of another. The sides take turns, `ROUNDS` times; medians are reported.

#![allow(clippy::print_stdout, reason = "a benchmark reports on stdout")]

use std::process::Command;

use cpe_actors_peers::{Measure, Sample, Side, measure};
use serde_json::{Map, Value, json};

/// Turns of each side for each measure.
const ROUNDS: usize = 7;
/// The same with `--quick`.
const QUICK_ROUNDS: usize = 3;

/// Operations of one measurement.
fn count(what: Measure, quick: bool) -> u64 {
    let full = match what {
        Measure::Tell => 2_000_000,
        Measure::Ask => 200_000,
        Measure::Spawn | Measure::Idle => 100_000,
    };
    if quick && what != Measure::Idle {
        full / 10
    } else {
        full
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, side, what, threads, count] = arguments.as_slice()
        && flag == "--one"
    {
        return one(side, what, threads, count);
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let quick = has("--quick");
    let mut rows = Vec::new();
    for what in Measure::ALL {
        // Idle actors take the same memory on any number of threads.
        let threads: &[usize] = if what == Measure::Idle { &[1] } else { &[2, 1] };
        for threads in threads {
            rows.push(row(what, *threads, quick));
        }
    }
    if has("--json") {
        println!("{}", json!({ "bench": "actors", "results": rows }));
        return;
    }
    for row in rows {
        println!("{row}");
    }
}

/// One measurement: what the processes that this one starts do.
fn one(side: &str, what: &str, threads: &str, count: &str) {
    let side = Side::ALL.into_iter().find(|it| it.name() == side);
    let what = Measure::ALL.into_iter().find(|it| it.name() == what);
    let (Some(side), Some(what), Ok(threads), Ok(count)) =
        (side, what, threads.parse(), count.parse())
    else {
        panic!("--one takes a side, a measure, threads and a count")
    };
    let Sample { value, cpu_ns } = measure(side, what, threads, count);
    println!("{value} {cpu_ns}");
}

fn row(what: Measure, threads: usize, quick: bool) -> Value {
    let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); Side::ALL.len()];
    for _ in 0..rounds {
        for (side, samples) in Side::ALL.into_iter().zip(&mut samples) {
            samples.push(run(side, what, threads, count(what, quick)));
        }
    }
    let mut row = Map::new();
    let (unit, shown): (_, fn(f64) -> f64) = match what {
        Measure::Idle => ("bytes", |bytes| bytes),
        _ => ("M/s", |ns| 1e3 / ns),
    };
    let case = match what {
        Measure::Idle => "idle actor".to_owned(),
        _ => format!("{}, {threads} threads", what.name()),
    };
    row.insert("case".to_owned(), json!(case));
    row.insert("unit".to_owned(), json!(unit));
    for (side, samples) in Side::ALL.into_iter().zip(&samples) {
        let value = shown(median(samples.iter().map(|sample| sample.value)));
        let cpu = median(samples.iter().map(|sample| sample.cpu_ns));
        let columns = match side {
            Side::Ours => ["value".to_owned(), "cpu_ns".to_owned()],
            Side::Bare => {
                row.insert("baseline".to_owned(), json!("bare tokio"));
                ["baseline_value".to_owned(), "baseline_cpu_ns".to_owned()]
            }
            other => [other.name().to_owned(), format!("{}_cpu_ns", other.name())],
        };
        for (column, value) in columns.into_iter().zip([value, cpu]) {
            row.insert(column, json!(value));
        }
    }
    Value::Object(row)
}

fn run(side: Side, what: Measure, threads: usize, count: u64) -> Sample {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args(["--one", side.name(), what.name()])
        .args([threads.to_string(), count.to_string()])
        .output()
        .expect("this program starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let (Some(Ok(value)), Some(Ok(cpu_ns))) = (numbers.next(), numbers.next()) else {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("{} {} failed: {errors}", side.name(), what.name());
    };
    Sample { value, cpu_ns }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
