//! The tuple space beside Redis.
//!
//! ```text
//! cargo xtask bench redis              # both built and run, a table
//! cargo bench -p cpe-node --bench redis -- [--json] [--quick]
//! ```
//!
//! On our side 1 or 3 processes `cpe node` keep the space, and a node of the library in this
//! process, home of nothing, is their client, as a program that uses the space has one; each of its
//! tasks has one operation in flight. On the other side is Debian's `redis-server` with one
//! connection a task, one command in flight: `LPUSH` beside a store, `RPOP` beside a fetch-try,
//! `BRPOP` beside a fetch that waits. Values have 100 bytes; tasks share 16 variables or lists.
//!
//! The NetWorkSpaces gateway beside the same: as many connections to our nodes, in turn, with one
//! request in flight each; and a hundred connections with 16 each, beside as many commands to
//! Redis.
//!
//! *Memory*: our nodes are ephemeral; Redis writes nothing. *Durable*: our nodes acknowledge what
//! is synced on the disks of a majority of a home group (the only node, or two of three); Redis
//! runs with `appendfsync always`. Redis is one process, also beside our three.
//!
//! *In memory* on durable nodes: stores to a workspace whose name begins with `tmp:`, beside the
//! same to a durable one.
//!
//! Each measure runs both sides alternately, and reports medians. Processor time per operation is
//! that of the servers alone: node processes, redis-server. Without `redis-server` our figures
//! stand alone, and that is said.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports on stdout"
)]

#[path = "../common/mod.rs"]
mod common;
mod gateway;
mod ours;
mod outage;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{LONG, asked};
use cpe::Space;
use gateway::Gateway;
use ours::{Mesh, SCRATCH, WORKSPACE, store, store_in};
use serde_json::json;
use server::{Connection, Redis};
use tokio::sync::{Barrier, mpsc};
use tokio::task::JoinSet;

/// Bytes of a value.
const BYTES: usize = 100;

/// Variables, or lists, that the tasks share.
const VARIABLES: usize = 16;

/// Connections that have several requests in flight, and how many each.
const PIPELINES: usize = 100;
const IN_FLIGHT: usize = 16;

/// How long a consumer may take to be waiting again before the next value is produced.
const REST: Duration = Duration::from_millis(5);

/// What operations took, one by one, and all together.
#[derive(Clone, Debug, Default)]
struct Sample {
    wall: Duration,
    cpu: Duration,
    each: Vec<Duration>,
    /// Operations that were in flight together, and are one entry of `each`; 0 means 1.
    together: usize,
}

impl Sample {
    fn operations(&self) -> f64 {
        (self.each.len() * self.together.max(1)) as f64
    }

    fn rate(&self) -> f64 {
        self.operations() / self.wall.as_secs_f64()
    }

    fn p50_us(&self) -> f64 {
        median(self.each.iter().map(|took| took.as_secs_f64() * 1e6))
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.operations()
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if !Redis::is_here() {
        eprintln!("skipped: every comparison with Redis (apt-get install redis-server)");
    }
    let rounds = 3;
    let share = if asked("--quick") { 20 } else { 1 };
    for durable in [false, true] {
        let redis = Redis::is_here().then(|| Redis::start(durable));
        for count in [1, 3] {
            let mesh = runtime.block_on(Mesh::start(count, durable));
            let bench = Bench {
                mesh: &mesh,
                redis: redis.as_ref(),
                rounds,
                kept: format!(
                    "{}, {count} node{}",
                    if durable { "durable" } else { "memory" },
                    if count == 1 { "" } else { "s" }
                ),
            };
            for (clients, operations) in [(1, 2_000), (50, 40_000), (500, 40_000)] {
                // A sync takes milliseconds, which is what is measured then.
                let operations = if durable { operations / 4 } else { operations };
                let each = (operations / share / clients).max(2);
                runtime.block_on(bench.store_and_fetch(clients, each));
            }
            for (clients, operations) in [(1, 2_000), (50, 40_000), (100, 40_000), (500, 40_000)] {
                let operations = if durable { operations / 4 } else { operations };
                let each = (operations / share / clients).max(2);
                runtime.block_on(bench.gateway(clients, each));
            }
            let operations = if durable { 40_000 } else { 160_000 };
            let each = (operations / share / PIPELINES / IN_FLIGHT).max(2);
            runtime.block_on(bench.pipelines(each));
            runtime.block_on(bench.hand_over(2_000 / share));
            if durable {
                for (clients, operations) in [(1, 500), (50, 10_000)] {
                    let each = (operations / share / clients).max(2);
                    runtime.block_on(bench.in_memory(clients, each));
                }
            }
            runtime.block_on(mesh.end());
        }
    }
    runtime.block_on(outage::report(rounds));
}

struct Bench<'a> {
    mesh: &'a Mesh,
    redis: Option<&'a Redis>,
    rounds: usize,
    kept: String,
}

impl Bench<'_> {
    async fn store_and_fetch(&self, clients: usize, each: usize) {
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..self.rounds {
            for (all, sample) in ours.iter_mut().zip(self.of_mesh(clients, each).await) {
                all.push(sample);
            }
            if let Some(redis) = self.redis {
                for (all, sample) in theirs.iter_mut().zip(of_redis(redis, clients, each).await) {
                    all.push(sample);
                }
            }
        }
        let plural = if clients == 1 { "" } else { "s" };
        for (what, (ours, theirs)) in ["store", "fetch-try"].iter().zip(ours.iter().zip(&theirs)) {
            let case = format!("{what}, {clients} client{plural}, {}", self.kept);
            report(&case, "1/s", (ours, theirs), Sample::rate);
        }
    }

    /// All stores, then all fetches.
    async fn of_mesh(&self, clients: usize, each: usize) -> [Sample; 2] {
        let cpu = || self.mesh.cpu();
        let stores = (0..clients).map(|task| Operation::Store(self.mesh.client.space(), key(task)));
        let fetches =
            (0..clients).map(|task| Operation::Fetch(self.mesh.client.space(), key(task)));
        let stores = times(stores.collect(), each, &cpu).await;
        [stores, times(fetches.collect(), each, &cpu).await]
    }

    /// Stores to a volatile workspace beside the same to a durable one, on the same durable nodes.
    async fn in_memory(&self, clients: usize, each: usize) {
        let cpu = || self.mesh.cpu();
        let (mut volatile, mut durable) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            for (workspace, samples) in [(SCRATCH, &mut volatile), (WORKSPACE, &mut durable)] {
                let space = || self.mesh.client.space();
                let tasks = 0..clients;
                let stores = tasks.map(|task| Operation::StoreIn(space(), workspace, key(task)));
                samples.push(times(stores.collect(), each, &cpu).await);
            }
        }
        let plural = if clients == 1 { "" } else { "s" };
        let case = format!("store in memory, {clients} client{plural}, {}", self.kept);
        report_beside("on disk", &case, "1/s", (&volatile, &durable), Sample::rate);
    }

    /// The same through the gateway.
    async fn gateway(&self, clients: usize, each: usize) {
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let cpu = || self.mesh.cpu();
        for _ in 0..self.rounds {
            let (mut stores, mut fetches) = (Vec::new(), Vec::new());
            for (task, node) in (0..clients).zip(self.mesh.nodes.iter().cycle()) {
                let connect = async || Gateway::connect(&node.nws).await;
                stores.push(Operation::NwsStore(connect().await, key(task)));
                fetches.push(Operation::NwsFetch(connect().await, key(task)));
            }
            ours[0].push(times(stores, each, &cpu).await);
            ours[1].push(times(fetches, each, &cpu).await);
            if let Some(redis) = self.redis {
                for (all, sample) in theirs.iter_mut().zip(of_redis(redis, clients, each).await) {
                    all.push(sample);
                }
            }
        }
        let plural = if clients == 1 { "" } else { "s" };
        for (what, (ours, theirs)) in ["store", "fetchTry"].iter().zip(ours.iter().zip(&theirs)) {
            let case = format!("gateway: {what}, {clients} client{plural}, {}", self.kept);
            report(&case, "1/s", (ours, theirs), Sample::rate);
        }
    }

    /// The same with several requests in flight on each connection, on both sides.
    async fn pipelines(&self, each: usize) {
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let cpu = || self.mesh.cpu();
        for _ in 0..self.rounds {
            let (mut stores, mut fetches) = (Vec::new(), Vec::new());
            for (task, node) in (0..PIPELINES).zip(self.mesh.nodes.iter().cycle()) {
                let connect = async || Gateway::connect(&node.nws).await;
                stores.push(Operation::NwsStores(connect().await, key(task)));
                fetches.push(Operation::NwsFetches(connect().await, key(task)));
            }
            ours[0].push(pipelined(times(stores, each, &cpu).await));
            ours[1].push(pipelined(times(fetches, each, &cpu).await));
            let Some(redis) = self.redis else { continue };
            let cpu = || redis.cpu();
            let (mut pushes, mut pops) = (Vec::new(), Vec::new());
            for task in 0..PIPELINES {
                pushes.push(Operation::Pushes(redis.connect().await, key(task)));
                pops.push(Operation::Pops(redis.connect().await, key(task)));
            }
            theirs[0].push(pipelined(times(pushes, each, &cpu).await));
            theirs[1].push(pipelined(times(pops, each, &cpu).await));
        }
        for (what, (ours, theirs)) in ["store", "fetchTry"].iter().zip(ours.iter().zip(&theirs)) {
            let clients = format!("{PIPELINES} clients x {IN_FLIGHT} in flight");
            let case = format!("gateway: {what}, {clients}, {}", self.kept);
            report(&case, "1/s", (ours, theirs), Sample::rate);
        }
    }

    /// From the moment a value is stored to the moment it is with who waited for it elsewhere.
    async fn hand_over(&self, hops: usize) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let consumer = Mesh::client(&self.mesh.nodes, 2).await;
        for _ in 0..self.rounds {
            let (sender, arrivals) = mpsc::channel(1);
            let space = consumer.space();
            let consuming = tokio::spawn(async move {
                for _ in 0..hops {
                    space.fetch(WORKSPACE, "hop", LONG).await.unwrap();
                    sender.send(Instant::now()).await.unwrap();
                }
            });
            let space = self.mesh.client.space();
            let produce = async || store(&space, "hop", "x").await;
            ours.push(produced(hops, arrivals, produce).await);
            consuming.await.unwrap();

            let Some(redis) = self.redis else { continue };
            let (sender, arrivals) = mpsc::channel(1);
            let (mut waits, mut pushes) = (redis.connect().await, redis.connect().await);
            let consuming = tokio::spawn(async move {
                for _ in 0..hops {
                    assert!(waits.command(&["BRPOP", "hop", "60"]).await.is_some());
                    sender.send(Instant::now()).await.unwrap();
                }
            });
            let produce = async || drop(pushes.command(&["LPUSH", "hop", "x"]).await);
            theirs.push(produced(hops, arrivals, produce).await);
            consuming.await.unwrap();
        }
        consumer.kill().await;
        let case = format!("store to a waiting fetch, p50, {}", self.kept);
        report(&case, "us", (&ours, &theirs), Sample::p50_us);
    }
}

async fn of_redis(redis: &Redis, clients: usize, each: usize) -> [Sample; 2] {
    let cpu = || redis.cpu();
    let (mut pushes, mut pops) = (Vec::new(), Vec::new());
    for task in 0..clients {
        pushes.push(Operation::Push(redis.connect().await, key(task)));
        pops.push(Operation::Pop(redis.connect().await, key(task)));
    }
    let pushes = times(pushes, each, &cpu).await;
    [pushes, times(pops, each, &cpu).await]
}

fn pipelined(sample: Sample) -> Sample {
    Sample {
        together: IN_FLIGHT,
        ..sample
    }
}

/// The variable, or list, of a task.
fn key(task: usize) -> String {
    format!("v{}", task % VARIABLES)
}

/// What a task does again and again, and with what.
enum Operation {
    Store(Space, String),
    StoreIn(Space, &'static str, String),
    Fetch(Space, String),
    Push(Connection, String),
    Pop(Connection, String),
    NwsStore(Gateway, String),
    NwsFetch(Gateway, String),
    NwsStores(Gateway, String),
    NwsFetches(Gateway, String),
    Pushes(Connection, String),
    Pops(Connection, String),
}

impl Operation {
    async fn run(&mut self, value: &str) {
        match self {
            Self::Store(space, variable) => store(space, variable, value).await,
            Self::StoreIn(space, workspace, variable) => {
                store_in(space, workspace, variable, value).await;
            }
            Self::Fetch(space, variable) => {
                let taken = space.fetch_try(WORKSPACE, variable, LONG).await.unwrap();
                assert!(taken.is_some());
            }
            Self::Push(connection, key) => {
                connection.command(&["LPUSH", key, value]).await;
            }
            Self::NwsStores(gateway, variable) => {
                gateway.stores(variable, value, IN_FLIGHT).await;
            }
            Self::NwsFetches(gateway, variable) => gateway.fetches(variable, IN_FLIGHT).await,
            Self::Pushes(connection, key) => {
                connection.commands(&["LPUSH", key, value], IN_FLIGHT).await;
            }
            Self::Pops(connection, key) => connection.commands(&["RPOP", key], IN_FLIGHT).await,
            Self::NwsStore(gateway, variable) => gateway.store(variable, value).await,
            Self::NwsFetch(gateway, variable) => assert!(gateway.fetch_try(variable).await),
            Self::Pop(connection, key) => {
                assert!(connection.command(&["RPOP", key]).await.is_some());
            }
        }
    }
}

/// Has each task do its operation so many times, one after the other.
async fn times(tasks: Vec<Operation>, each: usize, cpu: &dyn Fn() -> Duration) -> Sample {
    let start = Arc::new(Barrier::new(tasks.len() + 1));
    let mut running = JoinSet::new();
    for mut operation in tasks {
        let start = Arc::clone(&start);
        running.spawn(async move {
            let value = "x".repeat(BYTES);
            start.wait().await;
            let mut took = Vec::with_capacity(each);
            for _ in 0..each {
                let began = Instant::now();
                operation.run(&value).await;
                took.push(began.elapsed());
            }
            took
        });
    }
    let cpu_before = cpu();
    start.wait().await;
    let began = Instant::now();
    let each: Vec<Duration> = running.join_all().await.concat();
    Sample {
        wall: began.elapsed(),
        cpu: cpu().saturating_sub(cpu_before),
        each,
        together: 1,
    }
}

/// Produces one value after the other, and takes down when each arrived.
async fn produced(
    hops: usize,
    mut arrivals: mpsc::Receiver<Instant>,
    mut produce: impl AsyncFnMut(),
) -> Sample {
    let mut each = Vec::with_capacity(hops);
    for _ in 0..hops {
        // The consumer waits before the value is there: that is the case to measure.
        tokio::time::sleep(REST).await;
        let began = Instant::now();
        produce().await;
        let arrived = arrivals.recv().await.unwrap();
        each.push(arrived.saturating_duration_since(began));
    }
    Sample {
        each,
        ..Sample::default()
    }
}

/// Medians of both sides, as a row.
fn report(case: &str, unit: &str, samples: (&[Sample], &[Sample]), of: impl Fn(&Sample) -> f64) {
    report_beside("redis", case, unit, samples, of);
}

fn report_beside(
    baseline: &str,
    case: &str,
    unit: &str,
    (ours, theirs): (&[Sample], &[Sample]),
    of: impl Fn(&Sample) -> f64,
) {
    let mut row = json!({"case": case, "unit": unit, "rounds": ours.len()});
    let all = |samples: &[Sample], of: &dyn Fn(&Sample) -> f64| median(samples.iter().map(of));
    let timed = ours.iter().all(|sample| !sample.wall.is_zero());
    for (prefix, samples) in [("", ours), ("baseline_", theirs)] {
        if samples.is_empty() {
            continue;
        }
        row[format!("{prefix}value")] = all(samples, &of).into();
        if timed {
            row[format!("{prefix}p50_us")] = all(samples, &Sample::p50_us).into();
            row[format!("{prefix}cpu_us")] = all(samples, &Sample::cpu_us).into();
        }
    }
    if !theirs.is_empty() {
        row["baseline"] = baseline.into();
        row["ratio"] = (all(ours, &of) / all(theirs, &of)).into();
    }
    say(&row);
}

/// Shows a row.
fn say(row: &serde_json::Value) {
    if asked("--json") {
        return println!("{row}");
    }
    let number = |name: &str| {
        row[name]
            .as_f64()
            .map_or_else(String::new, |n| format!("{n:.1}"))
    };
    println!(
        "{:<52} {:>12} {:<5} {:>8} {:>12}",
        row["case"].as_str().unwrap(),
        number("value"),
        row["unit"].as_str().unwrap(),
        row["baseline"].as_str().unwrap_or_default(),
        number("baseline_value"),
    );
}
