//! Fitting and predicting beside scikit-learn with `n_jobs=2`.
//!
//! ```text
//! cargo xtask bench forest            # with scikit-learn in a folder of its own
//! cargo xtask bench forest --quick    # the small tables, once
//! ```
//!
//! Each measurement is a process of its own, and the sides take turns on the same bytes. Processor
//! time counts all threads: it survives a busy machine. Peak memory is what a side needs beyond
//! what it had with the table in memory; scikit-learn's starts a hundred megabytes higher.
//! `CPE_BENCH_PYTHON` names a Python that has scikit-learn; without one its rows are left out, by
//! name.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports on stdout"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use cpe_forest::{
    Dataset, Feature, Forest, ForestSpec, Manifest, Rows, Target, grow_grove, splitmix64,
};
use serde_json::{Value, json};

/// Rows that are predicted, after those that are learnt from.
const TOLD: usize = 5_000;

const TREES: u32 = 100;

/// Threads that grow, and `n_jobs`.
const THREADS: usize = 2;

/// A table to learn from.
#[derive(Clone, Copy)]
struct Case {
    rows: usize,
    columns: usize,
    /// 0: numbers are told.
    classes: usize,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Dense,
    /// Groups of this many columns, one of which is 1.
    OneHot(usize),
}

impl Case {
    fn name(self) -> String {
        let told = match self.classes {
            0 => "regression".to_owned(),
            classes => format!("{classes} classes"),
        };
        let shape = match self.shape {
            Shape::Dense if self.columns > 100 => ", wide",
            Shape::Dense => "",
            Shape::OneHot(_) => ", one-hot",
        };
        format!("{} x {}, {told}{shape}", self.rows, self.columns)
    }

    const fn dense(rows: usize, columns: usize, classes: usize) -> Self {
        Self {
            rows,
            columns,
            classes,
            shape: Shape::Dense,
        }
    }
}

const SMALL: [Case; 5] = [
    Case::dense(20_000, 20, 2),
    Case::dense(20_000, 20, 5),
    Case::dense(20_000, 20, 0),
    Case::dense(5_000, 500, 2),
    Case {
        rows: 20_000,
        columns: 200,
        classes: 2,
        shape: Shape::OneHot(20),
    },
];

const LARGE: [Case; 3] = [
    Case::dense(100_000, 20, 2),
    Case::dense(100_000, 20, 5),
    Case::dense(100_000, 20, 0),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let asked = |flag: &str| args.iter().any(|arg| arg == flag);
    if let Some(place) = args.iter().position(|arg| arg == "--side") {
        let number = |n: usize| args[place + n].parse().unwrap();
        let folder = Path::new(&args[place + 1]);
        let seed = number(5) as u64;
        println!("{}", ours(folder, number(2), number(3), number(4), seed));
        return;
    }
    let python = std::env::var_os("CPE_BENCH_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!("skipped: scikit-learn (CPE_BENCH_PYTHON names no Python that has it)");
    }
    let quick = asked("--quick");
    let large = LARGE.iter().filter(|_| !quick).map(|case| (*case, 1));
    let small = SMALL.iter().map(|case| (*case, if quick { 1 } else { 3 }));
    for (case, rounds) in small.chain(large) {
        measure(case, rounds, python.as_deref(), asked("--json"));
    }
}

/// Both sides in turn, and the medians.
fn measure(case: Case, rounds: usize, python: Option<&Path>, json: bool) {
    let folder = std::env::temp_dir().join(format!("cpe-bench-forest-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    write(case, &folder);
    let numbers = [case.rows, case.columns, case.classes].map(|n| n.to_string());
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Another seed each time, on both sides: of one forest the score says little.
        let seed = round.to_string();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--side").arg(&folder).args(&numbers).arg(&seed);
        own.push(run(command));
        if let Some(python) = python {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/sklearn_side.py");
            let mut command = Command::new(python);
            command.arg(script).arg(&folder).args(&numbers).arg(&seed);
            other.push(run(command));
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let units = [
        ("fit_cpu_s", "fit, processor", "s"),
        ("fit_s", "fit, wall", "s"),
        ("predict_cpu_ms", "5,000 rows told, processor", "ms"),
        ("one_us", "one row told", "us"),
        ("peak_mb", "peak memory beyond the table", "MB"),
        ("model_kb", "model", "kB"),
        ("score", "held-out score", ""),
    ];
    for (field, what, unit) in units {
        let value = median(&own, field);
        let name = format!("{what}: {}", case.name());
        let baseline = (!other.is_empty()).then(|| median(&other, field));
        if json {
            let mut row = json!({"case": name, "value": value, "unit": unit});
            if let Some(baseline) = baseline {
                row["baseline"] = json!("scikit-learn");
                row["baseline_value"] = json!(baseline);
                row["times"] = json!(baseline / value);
            }
            println!("{row}");
        } else {
            println!("{name:<60} {value:>10.3} {unit:<3} {baseline:?}");
        }
    }
}

fn run(mut command: Command) -> Value {
    let ran = command.output().unwrap();
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command:?}: {error}");
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn median(rounds: &[Value], field: &str) -> f64 {
    let mut values: Vec<f64> = rounds
        .iter()
        .map(|it| it[field].as_f64().unwrap())
        .collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Our side: reads the table, grows, tells.
fn ours(folder: &Path, rows: usize, columns: usize, classes: usize, seed: u64) -> Value {
    let numbers = |name: &str| -> Vec<f64> {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let words = bytes.as_chunks::<8>().0.iter();
        words.map(|word| f64::from_le_bytes(*word)).collect()
    };
    let (x, y) = (numbers("x"), numbers("y"));
    let column = |n: usize| x.iter().skip(n).step_by(columns).copied().collect();
    let feature = |n: usize| Feature {
        name: format!("x{n}"),
        levels: Vec::new(),
    };
    let target = match classes {
        0 => Target::Numbers(y),
        _ => Target::Classes {
            names: (0..classes).map(|class| format!("c{class}")).collect(),
            of: y.iter().map(|class| *class as u32).collect(),
        },
    };
    let features = (0..columns).map(feature).collect();
    let all = Dataset::new(features, (0..columns).map(column).collect(), "y", target).unwrap();
    let train = all.select(&(0..rows).collect::<Vec<_>>());
    let test = all.select(&(rows..rows + TOLD).collect::<Vec<_>>());
    drop((all, x));
    let spec = if classes == 0 {
        ForestSpec::regress()
    } else {
        ForestSpec::classify()
    };
    let spec = spec.with_trees(TREES).with_seed(seed);

    // Reading the table took more than the table: that peak is none of the fit's.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let (cpu, began) = (process_seconds(), Instant::now());
    let forest = grow(&train, &spec);
    let (fit_cpu, fit) = (process_seconds() - cpu, began.elapsed());
    let peak = memory("VmHWM:").saturating_sub(before);
    let bytes = forest.encode().unwrap().len();
    let rows = test.rows();
    let cpu = thread_nanoseconds();
    forest.predict(&rows).unwrap();
    let predict = thread_nanoseconds() - cpu;
    let one = Rows::one(rows.row(0).unwrap());
    let cpu = thread_nanoseconds();
    for _ in 0..1_000 {
        forest.predict(&one).unwrap();
    }
    let one = thread_nanoseconds() - cpu;
    json!({
        "fit_cpu_s": fit_cpu,
        "fit_s": fit.as_secs_f64(),
        "predict_cpu_ms": predict as f64 / 1e6,
        "one_us": one as f64 / 1e6,
        "peak_mb": peak as f64 / 1e3,
        "model_kb": bytes as f64 / 1e3,
        "score": forest.evaluate(&test).unwrap().main(),
    })
}

/// As a node grows: groves by two threads.
fn grow(data: &Dataset, spec: &ForestSpec) -> Forest {
    let (next, grown) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= spec.groves() {
                        return;
                    }
                    let grove = grow_grove(data, spec, index).unwrap();
                    grown.lock().unwrap().push(grove);
                }
            });
        }
    });
    let manifest = Manifest::new(data, spec).unwrap();
    Forest::assemble(manifest, grown.into_inner().unwrap()).unwrap()
}

/// Processor time of all threads that this process has had.
fn process_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: u64 = [11, 12]
        .map(|n: usize| fields[n].parse::<u64>().unwrap())
        .iter()
        .sum();
    // Linux counts in hundredths here, whatever it counts in inside.
    ticks as f64 / 100.0
}

fn thread_nanoseconds() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    told.split(' ').next().unwrap().parse().unwrap()
}

/// Kilobytes.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Writes the table as both sides read it: doubles, row after row, and the target.
fn write(case: Case, folder: &Path) {
    let rows = case.rows + TOLD;
    let mut x = Vec::with_capacity(rows * case.columns * 8);
    let mut y = Vec::with_capacity(rows * 8);
    for row in 0..rows {
        let values = values(case, row);
        let told = told(case, &values, row);
        x.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        y.extend(told.to_le_bytes());
    }
    std::fs::write(folder.join("x"), x).unwrap();
    std::fs::write(folder.join("y"), y).unwrap();
}

/// Between 0 and 1.
fn uniform(n: u64) -> f64 {
    (splitmix64(7, n) >> 11) as f64 / (1_u64 << 53) as f64
}

/// About a bell curve.
fn bell(n: u64) -> f64 {
    (0..6).map(|k| uniform(6 * n + k)).sum::<f64>() - 3.0
}

fn values(case: Case, row: usize) -> Vec<f64> {
    let at = |column: usize| (row * (case.columns + 1) + column) as u64;
    match case.shape {
        Shape::Dense => (0..case.columns).map(|column| bell(at(column))).collect(),
        Shape::OneHot(levels) => {
            let mut values = vec![0.0; case.columns];
            for group in 0..case.columns / levels {
                let level = (uniform(at(group)) * levels as f64) as usize;
                values[group * levels + level.min(levels - 1)] = 1.0;
            }
            values
        }
    }
}

/// The target from a few columns and their products, and some noise.
fn told(case: Case, values: &[f64], row: usize) -> f64 {
    let noise = 0.3 * bell((row * (case.columns + 1) + case.columns) as u64);
    let signal = match case.shape {
        Shape::Dense => values[0] * values[1] + values[2] + values[3] * values[3] - 0.5 + noise,
        Shape::OneHot(levels) => {
            // Each level has a weight of its own.
            let weight = |n: usize| bell(1 << 40 | n as u64);
            let sum: f64 = (0..4 * levels).map(|n| values[n] * weight(n)).sum();
            sum + noise
        }
    };
    match case.classes {
        0 => signal,
        classes => {
            // Cuts that part a bell curve about evenly.
            let share = 1.0 / (1.0 + (-1.7 * signal).exp());
            ((share * classes as f64) as usize).min(classes - 1) as f64
        }
    }
}
