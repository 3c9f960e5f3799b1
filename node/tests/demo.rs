//! The demo as a user starts it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::process::{Command, Output};

use serde_json::Value;

fn demo(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpe"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CPE_") {
            command.env_remove(name);
        }
    }
    command.arg("demo").args(args).output().unwrap()
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
