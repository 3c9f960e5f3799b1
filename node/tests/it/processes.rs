//! `cpe sim run --engine processes`: scenarios on real nodes.

use crate::harness::run;

const SCENARIO: &str = "
name = 'three processes'
nodes = 3
shards = 4
seconds = 8.0
[faults]
crashes = 12.0
pauses = 6.0
down_ms = 1000.0
pause_ms = 1000.0
loss = 0.1
partitions = 30.0
[workload]
rate = 60.0
variables = 4
modes = ['fifo', 'lifo', 'multi', 'single']
abandon = 0.0
";

#[test]
fn a_scenario_runs_on_real_processes_and_what_they_cannot_do_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("three.toml"), SCENARIO).unwrap();
    let (file, report) = (path("three.toml"), path("report"));
    let engine = ["--engine", "processes", "--seed", "5", "--json"];
    let mut args = vec!["sim", "run", &file, "--report", &report];
    args.extend(engine);
    let mut ran = run(&args);
    if ran.code == Some(4) {
        // The nodes did not come together in time: nothing was tried. It is tried once more, and
        // whatever else goes wrong fails the test.
        println!("the set-up failed, once more: {}", ran.err);
        ran = run(&args);
    }
    let said = ran.json();
    let scenario = &said["scenarios"][0];
    assert_eq!(scenario["ok"], true, "{said}");
    let ran = &scenario["runs"][0]["report"];
    for least in ["crashes", "partitions", "acknowledged", "taken", "checked"] {
        assert!(ran[least].as_u64() > Some(0), "{least}: {ran}");
    }
    let left_out = scenario["left_out"].to_string();
    for part in ["faults.loss", "workload.leases"] {
        assert!(left_out.contains(part), "{part} is not in {left_out}");
    }
    assert!(!left_out.contains("partitions"), "{left_out}");
    // The nodes' data and logs, the faults, and what the clients saw.
    for kept in ["n1", "n3.log", "faults.txt", "history.jsonl"] {
        let kept = folder.path().join("report").join("three-5").join(kept);
        assert!(kept.exists(), "{} is not there", kept.display());
    }
}

#[test]
fn a_scenario_that_is_too_large_for_processes_is_refused() {
    let args = ["sim", "run", "thousand-nodes", "--engine", "processes"];
    run(&args).code(2).says("--engine virtual");
}
