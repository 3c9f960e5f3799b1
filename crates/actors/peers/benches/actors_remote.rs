//! Asking and telling an actor of another process, side by side.
//!
//! ```text
//! cargo xtask bench actors_remote     # or: cargo bench -p cpe-actors-peers --bench actors_remote
//! ```
//!
//! A server and a client for each side are started anew for each case and round, this program
//! again, both on one core: kameo's client does not come back from a connection that it lost, which
//! would spoil the cases that follow. The sides take turns. Medians over the rounds are reported.

#![allow(clippy::print_stdout, reason = "a benchmark reports on stdout")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use cpe_actors_peers::remote::{Case, Outcome, RemoteSide, Way, drive, serve};
use serde_json::{Map, Value, json};

/// Turns of each side.
const ROUNDS: usize = 5;
/// The same with `--quick`.
const QUICK_ROUNDS: usize = 1;
/// The share of the messages that is sent with `--quick`.
const QUICK_SHARE: u64 = 20;

/// What is measured of each side, with the messages it takes to take about a second.
fn cases(side: RemoteSide, quick: bool) -> Vec<Case> {
    let mut all = Vec::new();
    for bytes in [100, 10_000] {
        for (way, in_flight) in [
            (Way::Ask, 1),
            (Way::Ask, 64),
            (Way::TellEach, 1),
            (Way::Tell, 64),
        ] {
            let count = match (side, way) {
                (RemoteSide::Kameo, _) | (_, Way::TellEach) => 5_000,
                (RemoteSide::Ours, Way::Ask) if in_flight == 1 => 10_000,
                (RemoteSide::Ours, _) => 50_000,
                (_, Way::Ask) if in_flight == 1 => 20_000,
                (_, Way::Ask) => 200_000,
                (_, Way::Tell) => 500_000,
            };
            let count = if bytes > 100 { count / 5 } else { count };
            let count = if quick { count / QUICK_SHARE } else { count };
            all.push(Case {
                way,
                bytes,
                in_flight,
                count,
            });
        }
    }
    all
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let quick = has("--quick");
    let side = |name: &str| RemoteSide::ALL.into_iter().find(|it| it.name() == name);
    match arguments.as_slice() {
        [flag, name] if flag == "--serve" => return serve(side(name).expect("a side")),
        [flag, name, address, case, ..] if flag == "--drive" => {
            let side = side(name).expect("a side");
            let case = case.parse().ok().and_then(|at: usize| {
                let cases = cases(side, quick);
                cases.get(at).copied()
            });
            let Outcome {
                wall_ns,
                cpu_ns,
                arrived,
            } = drive(side, address, case.expect("a case"));
            println!("outcome {wall_ns} {cpu_ns} {arrived}");
            return;
        }
        _ => {}
    }
    let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };
    let mut sides: Vec<Vec<Vec<Outcome>>> = vec![Vec::new(); RemoteSide::ALL.len()];
    for _ in 0..rounds {
        for (side, rounds) in RemoteSide::ALL.into_iter().zip(&mut sides) {
            rounds.push(round(side, quick));
        }
    }
    let wanted = cases(RemoteSide::Ours, quick);
    let rows: Vec<Value> = wanted
        .iter()
        .enumerate()
        .map(|(at, case)| row(*case, at, &sides, quick))
        .collect();
    if has("--json") {
        println!("{}", json!({ "bench": "actors_remote", "results": rows }));
        return;
    }
    for row in rows {
        println!("{row}");
    }
}

/// All cases of one side.
fn round(side: RemoteSide, quick: bool) -> Vec<Outcome> {
    let cases = 0..cases(side, quick).len();
    cases.map(|case| run(side, case, quick)).collect()
}

/// A server and a client, from start to end.
fn run(side: RemoteSide, case: usize, quick: bool) -> Outcome {
    let mut server = again(&["--serve", side.name()]);
    let address = line(&mut server, "ready ");
    let case = case.to_string();
    let mut all = vec!["--drive", side.name(), &address, &case];
    if quick {
        all.push("--quick");
    }
    let client = again(&all).wait_with_output().expect("a client ends");
    assert!(
        client.status.success(),
        "the client of {} failed",
        side.name()
    );
    // Its standard input ends, and so does it.
    drop(server.stdin.take());
    server.wait().expect("a server ends");
    let text = String::from_utf8_lossy(&client.stdout);
    let told = text.lines().find_map(|line| line.strip_prefix("outcome "));
    told.and_then(outcome).expect("three numbers")
}

fn outcome(line: &str) -> Option<Outcome> {
    let mut numbers = line.split(' ');
    let mut next = || numbers.next()?.parse::<f64>().ok();
    Some(Outcome {
        wall_ns: next()?,
        cpu_ns: next()?,
        arrived: next()? as u64,
    })
}

/// This program once more.
fn again(arguments: &[&str]) -> Child {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command.spawn().expect("this program starts again")
}

/// What follows these words in the first line that begins with them.
fn line(child: &mut Child, begin: &str) -> String {
    let out = child.stdout.as_mut().expect("it is piped");
    let lines = BufReader::new(out).lines();
    let found = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix(begin).map(str::to_owned));
    found.expect("it says where it listens")
}

fn row(case: Case, at: usize, sides: &[Vec<Vec<Outcome>>], quick: bool) -> Value {
    let mut row = Map::new();
    let single = case.in_flight == 1;
    let (unit, shown): (_, fn(f64) -> f64) = if single {
        ("us", |ns| ns / 1e3)
    } else {
        ("k/s", |ns| 1e6 / ns)
    };
    let what = match case.way {
        Way::Ask => format!("ask, {} in flight", case.in_flight),
        Way::TellEach => "tell, waiting for each".to_owned(),
        Way::Tell => "tell, one after the other".to_owned(),
    };
    row.insert(
        "case".to_owned(),
        json!(format!("remote {what}, {} B", case.bytes)),
    );
    row.insert("unit".to_owned(), json!(unit));
    for (side, rounds) in RemoteSide::ALL.into_iter().zip(sides) {
        let of = |value: fn(&Outcome) -> f64| {
            median(rounds.iter().filter_map(|cases| cases.get(at)).map(value))
        };
        let name = match side {
            RemoteSide::Ours => String::new(),
            other => format!("{}_", other.name()),
        };
        let (value, cpu) = (shown(of(|it| it.wall_ns)), of(|it| it.cpu_ns) / 1e3);
        let sent = cases(side, quick).get(at).map_or(1, |case| case.count);
        let arrived = of(|it| it.arrived as f64) / sent as f64;
        // Nothing took no time.
        let value = (arrived > 0.0).then_some(value);
        match side {
            RemoteSide::Ours => drop(row.insert("value".to_owned(), json!(value))),
            RemoteSide::Stream => {
                row.insert("baseline".to_owned(), json!("libp2p stream"));
                row.insert("baseline_value".to_owned(), json!(value));
            }
            other => drop(row.insert(other.name().to_owned(), json!(value))),
        }
        row.insert(format!("{name}client_cpu_us"), json!(cpu));
        // All, unless it says otherwise.
        if arrived < 1.0 {
            row.insert(format!("{name}arrived"), json!(arrived));
        }
    }
    Value::Object(row)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
