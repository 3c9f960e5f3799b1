//! What a task costs beyond its work: Sleigh beside `dask.distributed`, `cpe map` beside GNU
//! parallel.
//!
//! ```text
//! cargo xtask bench map            # with dask.distributed in a folder of its own
//! ```
//!
//! - **Sleigh**: a node in this process asks; two further processes, each a node with one worker,
//!   apply a function that gives back its argument. Beside it a client with a scheduler in its
//!   process and two worker processes of one thread, as `dask.distributed` makes them.
//! - **`cpe map`**: one node that runs two programs at once. Beside it `parallel -j2`.
//! - **200 tasks of 50 ms** show what is lost between tasks: two at once take 5 s.
//!
//! The sides take turns. What is not installed is left out, by name.

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

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{LONG, Process, asked};
use cpe::{Node, Value};
use cpe_sleigh::{Job, Worker, each_elem};
use serde_json::{Value as Json, json};

const KIND: &str = "bench";
const WORKSPACE: &str = "tmp:bench";

/// Trivial tasks, and tasks that take a while.
const TRIVIAL: u32 = 10_000;
const LONGER: u32 = 200;
const LONGER_MS: u64 = 50;

/// Programs or workers at once on all sides.
const AT_ONCE: &str = "2";

fn main() {
    if let Some(at) = std::env::args().position(|argument| argument == "--worker") {
        let argument = |n: usize| std::env::args().nth(at + n).unwrap();
        runtime().block_on(worker(argument(1), argument(2), argument(3)));
        return;
    }
    let rounds = if asked("--quick") { 1 } else { 3 };
    let trivial = if asked("--quick") {
        TRIVIAL / 10
    } else {
        TRIVIAL
    };
    sleigh(rounds, trivial);
    commands(rounds, trivial);
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().unwrap()
}

/// What came of a side: seconds, and seconds of processor where they are known.
struct Took {
    wall: Duration,
    cpu: Option<Duration>,
}

fn report(case: &str, count: u32, own: &[Took], baseline: &str, other: &[Took]) {
    let per_task = |took: Duration| took.as_secs_f64() * 1e6 / f64::from(count);
    let wall = |side: &[Took]| median(side.iter().map(|took| per_task(took.wall)));
    let cpu = |side: &[Took]| {
        let known = side.iter().filter_map(|took| took.cpu);
        median(known.map(per_task))
    };
    for (what, own, other) in [
        ("wall", wall(own), wall(other)),
        ("processor", cpu(own), cpu(other)),
    ] {
        let Some(value) = own else { continue };
        let mut row = json!({"case": format!("{case}, {what}"), "value": value, "unit": "us/task"});
        if let Some(other) = other {
            row["baseline"] = json!(baseline);
            row["baseline_value"] = json!(other);
            row["times"] = json!(other / value);
        }
        println!("{row}");
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A process that is ended with its handle.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sleigh beside dask.
fn sleigh(rounds: usize, trivial: u32) {
    let python = std::env::var_os("CPE_BENCH_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!("skipped: dask.distributed (CPE_BENCH_PYTHON names no Python that has it)");
    }
    let dask = |count: u32, ms: u64| -> Option<Took> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/dask_side.py");
        let mut command = Command::new(python.as_ref()?);
        let ran = command
            .arg(script)
            .args([count.to_string(), ms.to_string()])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "dask.distributed: {error}");
        let told: Json = serde_json::from_slice(&ran.stdout).unwrap();
        let seconds = |field: &str| Duration::from_secs_f64(told[field].as_f64().unwrap());
        Some(Took {
            wall: seconds("wall"),
            cpu: Some(seconds("cpu")),
        })
    };
    let first = Process::start(None, &["--name", "home"]);
    let workers: Vec<Ended> = (0..2)
        .map(|n| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--worker", &first.address, &format!("w{n}")]);
            Ended(
                command
                    .arg(first.key())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap(),
            )
        })
        .collect();
    let processes: Vec<u32> = workers.iter().map(|worker| worker.0.id()).collect();
    let runtime = runtime();
    let node = runtime.block_on(join(&first.address, &first.key()));
    let all_cpu = || {
        let others = processes.iter().map(|process| common::cpu(*process));
        first.cpu() + common::cpu(std::process::id()) + others.sum::<Duration>()
    };
    for (case, count, ms) in [
        ("trivial function", trivial, 0),
        ("function of 50 ms", LONGER, LONGER_MS),
    ] {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let (cpu, began) = (all_cpu(), Instant::now());
            let job = Job::new(WORKSPACE, KIND, format!("{case}-{round}"));
            let elements = (0..count).map(|_| Value::Int(ms.cast_signed())).collect();
            let space = node.space();
            let outcomes = runtime
                .block_on(each_elem(&space, &job, elements, |_| ()))
                .unwrap();
            assert!(outcomes.iter().all(Result::is_ok));
            own.push(Took {
                wall: began.elapsed(),
                cpu: Some(all_cpu() - cpu),
            });
            other.extend(dask(count, ms));
        }
        report(
            &format!("Sleigh: {count} x {case}"),
            count,
            &own,
            "dask.distributed",
            &other,
        );
    }
}

/// A node that is home of nothing, in the mesh of another.
async fn join(address: &str, key: &std::path::Path) -> Node {
    let builder = Node::builder().ephemeral().homes(false).mesh_key(key);
    let builder = builder.bootstrap(address).listen("/ip4/127.0.0.1/tcp/0");
    let node = builder.start().await.unwrap();
    node.mesh().joined(LONG).await.unwrap();
    node
}

/// Another process: one worker that sleeps as long as the element says and gives it back.
async fn worker(address: String, name: String, key: String) {
    let node = join(&address, key.as_ref()).await;
    let worker = Worker::new(node.space(), WORKSPACE, KIND, name);
    let work = |value: Value| async move {
        let ms = value.as_int().unwrap_or(0);
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms.cast_unsigned())).await;
        }
        Ok(value)
    };
    worker.run(work).await;
}

/// `cpe map` beside GNU parallel.
fn commands(rounds: usize, trivial: u32) {
    let known = Command::new("parallel").arg("--version").output();
    let known =
        known.is_ok_and(|ran| String::from_utf8_lossy(&ran.stdout).contains("GNU parallel"));
    if !known {
        eprintln!("skipped: GNU parallel (it is not installed; Debian: parallel)");
    }
    let node = Process::start(None, &["--allow-command", "true", "--allow-command", "sh"]);
    for (case, count, command) in [
        ("true", trivial, &["true", "{}"][..]),
        (
            "sleep 0.05",
            LONGER,
            &["sh", "-c", "sleep 0.05", "sh", "{}"][..],
        ),
    ] {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut map = Command::new(env!("CARGO_BIN_EXE_cpe"));
            map.args(["map", "--api", &node.api, "--"]).args(command);
            // Programs that ran count for whoever waited for them: the node.
            let before = node.cpu();
            let mut took = run(map, count);
            took.cpu = took.cpu.map(|cpu| cpu + node.cpu() - before);
            own.push(took);
            if known {
                let mut parallel = Command::new("parallel");
                // It hands its words to a shell, which would part those with blanks.
                if command.iter().any(|word| word.contains(' ')) {
                    parallel.arg("--quote");
                }
                parallel.args(["-j", AT_ONCE]).args(command);
                other.push(run(parallel, count));
            }
        }
        report(
            &format!("cpe map: {count} x {case}"),
            count,
            &own,
            "GNU parallel",
            &other,
        );
    }
}

/// Runs a command over so many lines. Its processor time is that of its own process, not of what it
/// starts.
fn run(mut command: Command, count: u32) -> Took {
    let lines: String = (1..=count).map(|n| format!("{n}\n")).collect();
    let file = std::env::temp_dir().join(format!("cpe-bench-map-{}", std::process::id()));
    std::fs::write(&file, lines).unwrap();
    command
        .stdin(std::fs::File::open(&file).unwrap())
        .stdout(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut cpu = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        cpu = common::try_cpu(child.id()).unwrap_or(cpu);
        std::thread::sleep(Duration::from_millis(10));
    };
    let wall = began.elapsed();
    std::fs::remove_file(&file).ok();
    assert!(status.success(), "{command:?}: {status}");
    Took {
        wall,
        cpu: Some(cpu),
    }
}
