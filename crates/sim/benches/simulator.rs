//! How fast meshes are simulated: messages per second of one core's time, with codec and storage,
//! beside the event queue alone. A simulation is one thread that waits for nothing, so the time of
//! the processor is what it takes on a machine with nothing else to do.

#![allow(clippy::print_stdout, clippy::panic, reason = "a program")]

use std::time::Duration;

use cpe_sim::{EventQueue, Scenario, Workload, World};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Events that wait while the queue alone is measured: as many as in a run of seven nodes under
/// load.
const WAITING: usize = 2_000;

/// Stores of which the spread is measured.
const SPREADS: usize = 50;

/// Milliseconds.
const SPREAD_GOAL_MS: u32 = 600;

fn main() {
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    let (json, quick) = (has("--json"), has("--quick"));
    let (events, seconds) = if quick {
        (1_000_000, 10.0)
    } else {
        (20_000_000, 120.0)
    };
    let queue = queue(events);
    let say = |case: &str, value: f64, more: String| {
        if json {
            println!(
                "{{\"case\":\"{case}\",\"value\":{value:.0},\"unit\":\"messages/s\",\
                 \"baseline\":\"event queue alone\",\"baseline_value\":{queue:.0}{more}}}"
            );
        } else {
            println!(
                "{case:<24} {value:>10.0} messages/s (event queue alone: {queue:.0} events/s)"
            );
        }
    };
    for (case, nodes, shards, rate) in [
        ("5 nodes, idle", 5, 16, 0.0),
        ("7 nodes, 500 requests/s", 7, 16, 500.0),
        ("7 nodes, 256 shards", 7, 256, 500.0),
        ("100 nodes, 20 requests/s", 100, 64, 20.0),
    ] {
        let seconds = if nodes > 50 { seconds / 4.0 } else { seconds };
        let scenario = scenario(nodes, shards, rate, seconds);
        let (rate, messages, virtual_seconds) = mesh(scenario);
        let more = format!(",\"messages\":{messages},\"virtual_seconds\":{virtual_seconds:.1}");
        say(case, rate, more);
    }
    if !quick {
        let text = include_str!("../../../simulations/thousand-nodes.toml");
        let began = cpu_seconds();
        let (rate, messages, virtual_seconds) = mesh(parse(text));
        let took = cpu_seconds() - began;
        let more = format!(
            ",\"messages\":{messages},\"virtual_seconds\":{virtual_seconds:.1},\
             \"seconds\":{took:.1}"
        );
        say("1,000 nodes, converged", rate, more);
        spread(parse(text), json);
    }
}

/// How long stores take until 99 % of the nodes have them, on links of 10 to 50 ms, beside the
/// goal.
fn spread(mut scenario: Scenario, json: bool) {
    scenario.seconds = 20.0;
    scenario.workload.rate = 0.0;
    let nodes = scenario.nodes;
    let times = match World::new(scenario, 1).spread(SPREADS, 0.99) {
        Ok(times) => times,
        Err(violation) => panic!("a promise was broken: {violation}"),
    };
    let mut ms: Vec<f64> = times
        .iter()
        .map(|time| time.as_secs_f64() * 1_000.0)
        .collect();
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = ms.len().saturating_sub(1);
        ms.get((last as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    let (p50, p90, most) = (at(0.5), at(0.9), at(1.0));
    if json {
        println!(
            "{{\"case\":\"store on 99 % of {nodes} nodes, p50\",\"value\":{p50:.0},\
             \"unit\":\"ms\",\"baseline\":\"the goal\",\"baseline_value\":{SPREAD_GOAL_MS},\
             \"p90\":{p90:.0},\"most\":{most:.0}}}"
        );
    } else {
        println!(
            "store on 99 % of {nodes} nodes: p50 {p50:.0} ms, p90 {p90:.0} ms, most {most:.0} ms \
             (goal {SPREAD_GOAL_MS} ms)"
        );
    }
}

fn parse(text: &str) -> Scenario {
    match Scenario::parse(text) {
        Ok(scenario) => scenario,
        Err(error) => panic!("the scenario of the benchmark is wrong: {error}"),
    }
}

fn scenario(nodes: usize, shards: u16, rate: f64, seconds: f64) -> Scenario {
    let text =
        format!("name = 'bench'\nnodes = {nodes}\nshards = {shards}\nseconds = {seconds:.1}");
    Scenario {
        progress_seconds: 0.0,
        workload: Workload {
            rate,
            abandon: 0.0,
            ..Workload::default()
        },
        ..parse(&text)
    }
}

/// Messages per second of the processor's time, how many there were, and how much virtual time they
/// took.
fn mesh(scenario: Scenario) -> (f64, u64, f64) {
    let world = World::new(scenario, 1);
    let began = cpu_seconds();
    match world.run() {
        Ok(report) => {
            let took = cpu_seconds() - began;
            (
                report.messages as f64 / took,
                report.messages,
                report.seconds,
            )
        }
        Err((violation, _)) => panic!("a promise was broken: {violation}"),
    }
}

/// Events per second: each is taken out and another put in for later.
fn queue(events: u64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut queue = EventQueue::default();
    // As large as what happens in a simulation.
    for n in 0..WAITING {
        queue.add(Duration::from_nanos(n as u64), [n as u64; 8]);
    }
    let began = cpu_seconds();
    let mut sum = 0_u64;
    for _ in 0..events {
        if let Some((at, event)) = queue.next_until(Duration::MAX) {
            sum = sum.wrapping_add(event.iter().sum::<u64>());
            let later = Duration::from_nanos(rng.random_range(0..50_000_000));
            queue.add(at + later, event);
        }
    }
    std::hint::black_box(sum);
    events as f64 / (cpu_seconds() - began)
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
