//! Tell, ask and spawn beside bare tokio tasks, in one run.
//!
//! ```text
//! cargo bench -p cpe-actors --bench local            # a table
//! cargo bench -p cpe-actors --bench local -- --json  # one JSON object
//! ```
//!
//! With `--quick` it takes seconds. Each measure runs both sides alternately, `ROUNDS` times each;
//! the medians and their ratio are reported, and the processor time per operation beside them,
//! which survives a noisy machine.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark reports on stdout"
)]

use std::{hint::black_box, time::Instant};

use cpe_actors::{Actor, ActorError, Context, System};
use serde_json::json;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};

/// Repetitions of each side of each measure.
const ROUNDS: usize = 7;
/// The same with `--quick`.
const QUICK_ROUNDS: usize = 3;
const TELLS: u64 = 1_000_000;
const ASKS: u64 = 200_000;
const SPAWNS: u64 = 100_000;
/// Both sides: the default mailbox.
const CAPACITY: usize = cpe_actors::DEFAULT_MAILBOX;

struct Sum(u64);

impl Actor for Sum {
    type Message = u64;
    type Reply = u64;

    async fn handle(&mut self, n: u64, _: &mut Context<Self>) -> Result<u64, ActorError> {
        self.0 = self.0.wrapping_add(n);
        Ok(self.0)
    }
}

async fn tell_actor() {
    let system = System::default();
    let sum = system.spawn(Sum(0)).unwrap();
    for n in 0..TELLS {
        sum.tell(n).await.unwrap();
    }
    assert_eq!(sum.ask(0).await.unwrap(), TELLS * (TELLS - 1) / 2);
}

async fn tell_bare() {
    let (sender, mut receiver) = mpsc::channel::<u64>(CAPACITY);
    let task = tokio::spawn(async move {
        let mut sum = 0_u64;
        while let Some(n) = receiver.recv().await {
            sum = sum.wrapping_add(n);
        }
        sum
    });
    for n in 0..TELLS {
        sender.send(n).await.unwrap();
    }
    drop(sender);
    assert_eq!(task.await.unwrap(), TELLS * (TELLS - 1) / 2);
}

async fn ask_actor() {
    let system = System::default();
    let sum = system.spawn(Sum(0)).unwrap();
    for n in 0..ASKS {
        black_box(sum.ask(n).await.unwrap());
    }
}

async fn ask_bare() {
    let (sender, mut receiver) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(CAPACITY);
    tokio::spawn(async move {
        let mut sum = 0_u64;
        while let Some((n, reply)) = receiver.recv().await {
            sum = sum.wrapping_add(n);
            reply.send(sum).unwrap();
        }
    });
    for n in 0..ASKS {
        let (reply, answer) = oneshot::channel();
        sender.send((n, reply)).await.unwrap();
        black_box(answer.await.unwrap());
    }
}

async fn spawn_actor() {
    let system = System::default();
    let all: Vec<_> = (0..SPAWNS).map(|n| system.spawn(Sum(n)).unwrap()).collect();
    assert_eq!(all.last().unwrap().ask(0).await.unwrap(), SPAWNS - 1);
}

async fn spawn_bare() {
    let all: Vec<_> = (0..SPAWNS)
        .map(|mut sum| {
            let (sender, mut receiver) =
                mpsc::channel::<(u64, Option<oneshot::Sender<u64>>)>(CAPACITY);
            tokio::spawn(async move {
                while let Some((n, reply)) = receiver.recv().await {
                    sum += n;
                    if let Some(reply) = reply {
                        reply.send(sum).unwrap();
                    }
                }
            });
            sender
        })
        .collect();
    let (reply, answer) = oneshot::channel();
    all.last().unwrap().send((0, Some(reply))).await.unwrap();
    assert_eq!(answer.await.unwrap(), SPAWNS - 1);
}

/// What one side of a measure took per operation.
#[derive(Clone, Copy)]
struct Sample {
    wall_ns: f64,
    cpu_ns: f64,
}

fn time<F: Future<Output = ()> + Send + 'static>(
    threads: usize,
    operations: u64,
    work: impl FnOnce() -> F,
) -> Sample {
    let runtime = runtime(threads);
    let cpu = cpu_seconds();
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    let start = Instant::now();
    let task = runtime.spawn(work());
    runtime.block_on(task).unwrap();
    let wall = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    runtime.shutdown_background();
    let per = |seconds: f64| seconds * 1e9 / operations as f64;
    Sample {
        wall_ns: per(wall),
        cpu_ns: per(cpu),
    }
}

fn runtime(threads: usize) -> Runtime {
    if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap()
    }
}

/// Processor time of this process so far, in steps of 10 ms; 0 where `/proc` is not there.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: f64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

struct Measure {
    name: &'static str,
    threads: usize,
    goal: f64,
    ours: Sample,
    bare: Sample,
}

impl Measure {
    fn run<A, B>(
        name: &'static str,
        threads: usize,
        goal: f64,
        (operations, rounds): (u64, usize),
        ours: fn() -> A,
        bare: fn() -> B,
    ) -> Self
    where
        A: Future<Output = ()> + Send + 'static,
        B: Future<Output = ()> + Send + 'static,
    {
        let (mut our, mut their) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            our.push(time(threads, operations, ours));
            their.push(time(threads, operations, bare));
        }
        let middle = |samples: &[Sample]| Sample {
            wall_ns: median(samples.iter().map(|sample| sample.wall_ns).collect()),
            cpu_ns: median(samples.iter().map(|sample| sample.cpu_ns).collect()),
        };
        Self {
            name,
            threads,
            goal,
            ours: middle(&our),
            bare: middle(&their),
        }
    }

    /// Our rate by the bare one: above 1 we are faster.
    fn ratio(&self) -> f64 {
        self.bare.wall_ns / self.ours.wall_ns
    }
}

fn main() {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    let json = asked("--json");
    let rounds = if asked("--quick") {
        QUICK_ROUNDS
    } else {
        ROUNDS
    };
    let mut measures = Vec::new();
    for threads in [2, 1] {
        let tells = (TELLS, rounds);
        measures.push(Measure::run(
            "tell", threads, 0.6, tells, tell_actor, tell_bare,
        ));
        let asks = (ASKS, rounds);
        measures.push(Measure::run("ask", threads, 0.8, asks, ask_actor, ask_bare));
        let spawns = (SPAWNS, rounds);
        measures.push(Measure::run(
            "spawn",
            threads,
            1.0,
            spawns,
            spawn_actor,
            spawn_bare,
        ));
    }
    if json {
        let rows: Vec<_> = measures
            .iter()
            .map(|measure| {
                json!({
                    "measure": measure.name,
                    "threads": measure.threads,
                    "rounds": rounds,
                    "ours_ns": measure.ours.wall_ns,
                    "bare_ns": measure.bare.wall_ns,
                    "ours_cpu_ns": measure.ours.cpu_ns,
                    "bare_cpu_ns": measure.bare.cpu_ns,
                    "ratio": measure.ratio(),
                    "goal": measure.goal,
                })
            })
            .collect();
        println!("{}", json!({ "bench": "actors/local", "measures": rows }));
        return;
    }
    println!("measure  threads    ours M/s    bare M/s   ratio   goal   ours cpu ns   bare cpu ns");
    for measure in &measures {
        println!(
            "{:<7}  {:>7}  {:>10.3}  {:>10.3}  {:>6.2}  {:>5.1}  {:>12.0}  {:>12.0}",
            measure.name,
            measure.threads,
            1e3 / measure.ours.wall_ns,
            1e3 / measure.bare.wall_ns,
            measure.ratio(),
            measure.goal,
            measure.ours.cpu_ns,
            measure.bare.cpu_ns,
        );
    }
}
