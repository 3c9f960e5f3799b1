//! The demo as a user starts it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How often a demo is started at most: on a machine that is busy testing, nodes may not come
/// together in time. What goes wrong after that fails the test.
const SET_UPS_MAX: u32 = 3;

fn demo(args: &[&str]) -> Output {
    for _ in 1..SET_UPS_MAX {
        let output = command(args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || !is_no_set_up(&errors) {
            return output;
        }
        println!("the set-up failed, once more: {errors}");
    }
    command(args).output().unwrap()
}

/// True of what the demo says when its nodes did not start or did not find each other in time.
fn is_no_set_up(errors: &str) -> bool {
    let not_yet = [
        "did not say that it is ready",
        "did not all see each other within",
        "did not all grow to three members within",
    ];
    not_yet.iter().any(|what| errors.contains(what))
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpe"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CPE_") {
            command.env_remove(name);
        }
    }
    command.arg("demo").args(args);
    command
}

/// The lines it said, after a good end.
fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let text = str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn event<'a>(lines: &'a [Value], event: &str) -> &'a Value {
    lines
        .iter()
        .rfind(|line| line["event"] == event)
        .unwrap_or_else(|| panic!("no {event}: {lines:?}"))
}

#[test]
fn the_demo_ends_well_and_says_so_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let output = demo(&[
        "--trees",
        "20",
        "--json",
        "--report",
        report.to_str().unwrap(),
    ]);
    let lines = lines(&output);
    assert_eq!(lines[0]["event"], "start");
    let homes = event(&lines, "homes");
    assert_eq!(homes["done"], homes["of"], "{homes}");
    assert_eq!(event(&lines, "end")["nodes"], 3);
    let result = event(&lines, "result");
    let summary = &result["summary"];
    assert_eq!(summary["hash"], summary["local_hash"]);
    assert!(summary["accuracy"].as_f64().unwrap() > 0.9);
    let decided = result["decisions"].as_array().unwrap().iter();
    assert_eq!(
        decided
            .map(|decision| decision["cases"].as_u64().unwrap())
            .sum::<u64>(),
        171
    );
    let groves = summary["nodes"].as_array().unwrap().iter();
    assert_eq!(
        groves
            .map(|node| node["groves"].as_u64().unwrap())
            .sum::<u64>(),
        7
    );
    let page = std::fs::read_to_string(result["report"].as_str().unwrap()).unwrap();
    assert!(page.contains("The same forest, byte for byte."));
}

#[test]
fn the_demo_takes_data_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("plants.csv");
    let mut rows = String::from("height,colour,kind\n");
    for n in 0..150 {
        let (colour, kind) = [("red", "rose"), ("white", "lily"), ("red", "tulip")][n % 3];
        rows.push_str(&format!("{},{colour},{kind}\n", 10 * (n % 3) + n % 7));
    }
    std::fs::write(&csv, rows).unwrap();
    let report = folder.path().join("report");
    let (csv, report) = (csv.to_str().unwrap(), report.to_str().unwrap());
    let output = demo(&[
        "--data", csv, "--target", "kind", "--trees", "6", "--nodes", "2", "--json", "--report",
        report,
    ]);
    let lines = lines(&output);
    let summary = &event(&lines, "result")["summary"];
    assert_eq!(summary["classes"].as_array().unwrap().len(), 3);
    assert_eq!(summary["nodes"].as_array().unwrap().len(), 2);
}

#[test]
fn a_column_of_numbers_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("numbers.csv");
    let rows: String = (0..50).map(|n| format!("{n},{}.5\n", n * n)).collect();
    std::fs::write(&csv, format!("a,b\n{rows}")).unwrap();
    let output = demo(&["--data", csv.to_str().unwrap(), "--target", "b"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("column `b` holds numbers"), "{error}");
    assert!(output.stdout.is_empty());
}

/// Processes whose parent is this one.
fn children(of: u32) -> Vec<u32> {
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent = |stat: &str| {
        // After the name, which is in parentheses: the state, then the parent.
        let rest = stat.rsplit(')').next()?;
        rest.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).and_then(|stat| parent(&stat)) == Some(of))
        .collect()
}

#[test]
fn a_mesh_that_is_kept_answers_until_ctrl_c_and_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let args = ["--keep", "--json", "--trees", "10", "--nodes", "2"];
    let mut demo = command(&args)
        .args(["--report", report.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let kept = loop {
        let mut line = String::new();
        let read = out.read_line(&mut line).unwrap();
        assert!(read > 0, "it ended: {:?}", demo.wait());
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["event"] == "kept" {
            break line;
        }
    };
    let api = kept["api"].as_str().unwrap();
    let mut asked = Command::new(env!("CARGO_BIN_EXE_cpe"));
    asked.args(["mesh", "peers", "--json", "--api", api]);
    let asked = asked.output().unwrap();
    let peers: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(peers.as_array().unwrap().len(), 2);
    let nodes = children(demo.id());
    assert_eq!(nodes.len(), 2);

    kill_process(Pid::from_child(&demo), Signal::INT).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{rest}");
    assert!(rest.contains("\"event\":\"end\""), "{rest}");
    for pid in nodes {
        let there = std::path::Path::new("/proc").join(pid.to_string());
        assert!(!there.exists(), "node {pid} was left behind");
    }
}

/// What must come out whatever happens to the nodes.
fn numbers(lines: &[Value]) -> Value {
    let result = event(lines, "result");
    let summary = &result["summary"];
    assert_eq!(summary["hash"], summary["local_hash"]);
    assert_eq!(result["failures"], json!([]));
    json!([
        summary["hash"],
        summary["accuracy"],
        summary["confusion"],
        result["decisions"],
    ])
}

/// The child of a demo that runs the node of this name.
fn node_of(demo: u32, name: &str) -> Option<Pid> {
    let is_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words
            .windows(2)
            .any(|pair| pair == [b"--name", name.as_bytes()])
    };
    let pid = children(demo).into_iter().find(is_it)?;
    Pid::from_raw(i32::try_from(pid).unwrap())
}

/// Runs the demo and kills one node at a random moment: a while after a random event that it tells.
/// What it said; `None` when it was faster than that.
fn with_a_death(name: &str, rng: &mut StdRng, folder: &Path) -> Option<Vec<Value>> {
    let report = folder.join("report");
    let errors = folder.join("errors");
    let moments = [
        ("", 6_000),
        ("mesh", 2_500),
        ("grow", 1_500),
        ("agents", 1_500),
    ];
    let (after, span_ms) = moments[rng.random_range(0..moments.len())];
    let later = Duration::from_millis(rng.random_range(0..span_ms));
    println!("node {name} is to die {later:?} after `{after}`");
    let mut demo = command(&["--json", "--trees", "20", "--report"])
        .arg(report)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&errors).unwrap())
        .spawn()
        .unwrap();
    let out = BufReader::new(demo.stdout.take().unwrap());
    let (sender, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            sender.send(line).ok();
        }
    });
    let mut lines = Vec::new();
    let hear = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
    while !after.is_empty()
        && lines
            .last()
            .is_none_or(|line: &Value| line["event"] != after)
    {
        let Ok(line) = said.recv() else { break };
        lines.push(hear(&line));
    }
    // The moment itself is what is random here; nothing is waited for.
    std::thread::sleep(later);
    let killed =
        node_of(demo.id(), name).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
    lines.extend(said.iter().map(|line| hear(&line)));
    let status = demo.wait().unwrap();
    println!(
        "{}",
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    );
    let errors = std::fs::read_to_string(errors).unwrap();
    if !status.success() && !killed && is_no_set_up(&errors) {
        println!("the set-up failed, once more: {errors}");
        return None;
    }
    assert!(status.success(), "{status}: {errors}");
    killed.then_some(lines)
}

/// Kills a node of this name in a demo, whose numbers must be those of a demo without a death.
fn a_demo_outlives(name: &str) {
    let seed = std::env::var("CPE_DEMO_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!(
        "again: CPE_DEMO_SEED={seed} cargo test -p cpe-node --test demo node_{name} -- --nocapture"
    );
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let report = report.to_str().unwrap();
    let undisturbed = demo(&["--json", "--trees", "20", "--report", report]);
    let wanted = numbers(&lines(&undisturbed));
    for _ in 0..5 {
        let Some(lines) = with_a_death(name, &mut rng, folder.path()) else {
            continue;
        };
        assert_eq!(numbers(&lines), wanted);
        let tells = |line: &Value| match line["event"].as_str().unwrap() {
            "again" => line["killed"] == name,
            "died" => line["node"] == name,
            "end" => line["killed"].as_array().unwrap().contains(&json!(name)),
            _ => false,
        };
        assert!(lines.iter().any(tells), "it does not say that {name} died");
        return;
    }
    panic!("the demo is always over before the node dies");
}

#[test]
fn the_demo_outlives_the_founder_node_a() {
    a_demo_outlives("a");
}

#[test]
fn the_demo_outlives_the_judging_node_b() {
    a_demo_outlives("b");
}

#[test]
fn the_demo_outlives_the_deciding_node_c() {
    a_demo_outlives("c");
}

#[test]
fn the_demo_shows_a_table_to_people() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let args = ["--trees", "10", "--nodes", "2", "--report"];
    let output = demo(&[&args[..], &[report.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "── result ──",
        "accuracy",
        "10 trees in",
        "── confusion",
        "── decisions of the triage rules",
        "── nodes ──",
        "the same forest, byte for byte",
        "── report ─ ",
        "2 nodes stopped with exit status 0",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let (_, table) = text.split_once("── result").unwrap();
    let (table, _) = table.split_once("── report").unwrap();
    let wide = table.lines().find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "a line of the table is too wide");
}
