//! How much processor time fitting and predicting take, and how large a forest is: `cargo run
//! --release -p cpe-forest --example measure [ROWS [TREES]]`.
#![allow(clippy::print_stdout, reason = "it prints figures")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cpe_forest::{Dataset, Feature, Forest, ForestSpec, Rows, Target, Task, splitmix64};

const FEATURES: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = |place| std::env::args().nth(place);
    let rows = argument(1).map_or(Ok(20_000), |rows| rows.parse())?;
    let trees = argument(2).map_or(Ok(100), |trees| trees.parse())?;
    for task in [Task::Classify, Task::Regress] {
        let data = synthetic(rows, task)?;
        let (train, test) = data.split(0.2, 1)?;
        let mut spec = ForestSpec::classify().with_trees(trees);
        spec.task = task;
        let (forest, fit) = timed(|| Forest::grow(&train, &spec));
        let forest = forest?;
        println!("{} {rows} x {FEATURES}, {} trees", task.name(), spec.trees);
        println!("  fit {:.2} s on {} rows", fit.as_secs_f64(), train.len());
        println!("  held out: {}", forest.evaluate(&test)?);
        println!("  {} bytes", forest.encode()?.len());
        let many = train.select(&(0..5_000).collect::<Vec<_>>()).rows();
        let (predictions, time) = timed(|| forest.predict(&many));
        println!("  {} rows told in {time:.2?}", predictions?.rows.len());
        let one = Rows::one(many.row(0).unwrap_or_default());
        let (_, time) = timed(|| (0..1_000).all(|_| forest.predict(&one).is_ok()));
        println!("  one row told in {:.2?}", time / 1_000);
    }
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = cpu_time();
    let done = work();
    (done, cpu_time().saturating_sub(start))
}

/// This thread's time on a processor, which survives a busy machine; where the system does not
/// tell it, the time of day.
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the clock, here only"
)]
fn cpu_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match told.split(' ').next().map(str::parse) {
        Some(Ok(nanoseconds)) => Duration::from_nanos(nanoseconds),
        _ => START.get_or_init(Instant::now).elapsed(),
    }
}

/// Features from a bell curve, a target from a few of them and their products, and some noise.
fn synthetic(rows: usize, task: Task) -> Result<Dataset, Box<dyn std::error::Error>> {
    let uniform = |i: usize| (splitmix64(7, i as u64) >> 11) as f64 / (1_u64 << 53) as f64;
    let bell = |i: usize| (0..6).map(|k| uniform(6 * i + k)).sum::<f64>() - 3.0;
    let columns: Vec<Vec<f64>> = (0..FEATURES)
        .map(|feature| (0..rows).map(|row| bell(feature * rows + row)).collect())
        .collect();
    let at = |feature: usize, row: usize| -> f64 {
        columns
            .get(feature)
            .and_then(|column| column.get(row))
            .copied()
            .unwrap_or(0.0)
    };
    let signal = |row: usize| {
        let product = at(0, row) * at(1, row);
        product + at(2, row) + at(3, row).powi(2) - 0.5 + 0.3 * bell(FEATURES * rows + row)
    };
    let target = match task {
        Task::Regress => Target::Numbers((0..rows).map(signal).collect()),
        Task::Classify => Target::Classes {
            names: vec!["low".to_owned(), "high".to_owned()],
            of: (0..rows).map(|row| u32::from(signal(row) > 0.0)).collect(),
        },
    };
    let feature = |feature: usize| Feature {
        name: format!("x{feature}"),
        levels: Vec::new(),
    };
    Ok(Dataset::new(
        (0..FEATURES).map(feature).collect(),
        columns,
        "y",
        target,
    )?)
}
