//! What three nodes with 256 shards cost while nobody asks anything of them.
//!
//! ```text
//! cargo bench -p cpe-node --bench idle            # a table
//! cargo bench -p cpe-node --bench idle -- --json  # a JSON object a line
//! ```
//!
//! Three processes `cpe node` with folders, as a user starts them, each in the home group of every
//! shard. Measured from outside for a while: processor time (`/proc`), memory, and what each sends:
//! the bytes on the loopback interface with all headers, of a network namespace that the three have
//! for themselves, divided by three. Where no namespace may be made that row is left out, by name.
//! First nothing was ever stored; then every shard has tuples. The worst of the three nodes counts.
//! The baseline is the goal.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports on stdout"
)]

mod common;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{Process, asked};
use cpe::{Node, Value};
use serde_json::json;

/// Set for the run inside a namespace of its own.
const INSIDE: &str = "CPE_BENCH_INSIDE_NAMESPACE";

/// Variables stored to: far more than shards, so that each has some.
const VARIABLES: usize = 2_000;

/// Goals: percent of a core, bytes a second a node sends, bytes of memory.
const GOALS: [f64; 3] = [1.0, 20_000.0, 60e6];

fn main() {
    if std::env::var_os(INSIDE).is_none() {
        let mut inside = Command::new("unshare");
        inside.args([
            "-Urn",
            "sh",
            "-c",
            "ip link set lo up && exec \"$0\" \"$@\"",
        ]);
        let probe = Command::new("unshare")
            .args(["-Urn", "ip", "link", "set", "lo", "up"])
            .output();
        if probe.is_ok_and(|probe| probe.status.success()) {
            inside
                .arg(std::env::current_exe().unwrap())
                .args(std::env::args().skip(1));
            let status = inside.env(INSIDE, "1").status().unwrap();
            assert!(status.success(), "{status}");
            return;
        }
        eprintln!("skipped: bytes sent while idle (no network namespace may be made here)");
    }
    let span = Duration::from_secs(if asked("--quick") { 10 } else { 30 });
    let nodes = Process::mesh(3, &["--shards", "256"]);
    report("nothing stored", &nodes, span);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(fill(&nodes[0]));
    report("2,000 variables stored", &nodes, span);
}

/// Stores something in every shard, through a node that is gone again afterwards.
async fn fill(first: &Process) {
    let builder = Node::builder().ephemeral().homes(false);
    let builder = builder.mesh_key(first.key()).bootstrap(&first.address);
    let node = builder
        .listen("/ip4/127.0.0.1/tcp/0")
        .start()
        .await
        .unwrap();
    node.mesh().members(4, common::LONG).await.unwrap();
    let space = node.space();
    for n in 0..VARIABLES {
        let value = Value::from("x".repeat(100).as_str());
        space.store("idle", &format!("v{n}"), value).await.unwrap();
    }
    node.shutdown(common::LONG).await.unwrap();
}

/// Bytes the loopback interface has sent; none where others use it too.
fn sent() -> Option<f64> {
    std::env::var_os(INSIDE)?;
    let table = std::fs::read_to_string("/proc/net/dev").unwrap();
    let row = table
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"))?;
    row.split_whitespace().nth(8)?.parse().ok()
}

fn report(state: &str, nodes: &[Process], span: Duration) {
    // What follows from the last thing done: feeds, snapshots, marks.
    thread::sleep(Duration::from_secs(5));
    let cpu = |node: &Process| node.cpu().as_secs_f64();
    let before: Vec<f64> = nodes.iter().map(cpu).collect();
    let (sent_before, began) = (sent(), Instant::now());
    thread::sleep(span);
    let took = began.elapsed().as_secs_f64();
    let sent = sent()
        .zip(sent_before)
        .map(|(after, before)| after - before);
    let used = nodes
        .iter()
        .zip(before)
        .map(|(node, before)| cpu(node) - before);
    let worst = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let rows = [
        (
            "processor",
            Some(100.0 * worst(&mut { used }) / took),
            "% of a core",
        ),
        (
            "sent by a node",
            sent.map(|sent| sent / took / nodes.len() as f64),
            "bytes/s",
        ),
        (
            "memory",
            Some(worst(&mut nodes.iter().map(|node| node.rss() as f64))),
            "bytes",
        ),
    ];
    for ((what, value, unit), goal) in rows.into_iter().zip(GOALS) {
        let Some(value) = value else { continue };
        let case = format!("{what}, {state}");
        if asked("--json") {
            let row = json!({"case": case, "value": value, "unit": unit, "baseline": "goal",
                "baseline_value": goal});
            println!("{row}");
        } else {
            println!("{case:<40} {value:>14.2} {unit:<12} goal {goal}");
        }
    }
}
