//! A durable rule agent whose node is killed, again and again.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{Node, cpe, until};

/// Fetches jobs, sums up their numbers, and writes down each that it has done.
const ADDER: &str = "
(deffacts start (total 0 0))
(defrule begin => (assert (asking (fetch work \"job\" :int))))
(defrule job
  ?a <- (asking ?r)
  (answer (request ?r) (status ok) (value ? ?n))
  ?t <- (total ?sum ?count)
  =>
  (retract ?a ?t)
  (assert (total (+ ?sum ?n) (+ ?count 1)))
  (out done ?n)
  (assert (asking (fetch work \"job\" :int))))
(defrule finish (message (kind finish)) => (out through \"through\"))
(defrule tell (message (kind total)) (total ?sum ?count) => (reply (create$ ?sum ?count)))
";

fn total(node: &Node) -> Option<Value> {
    let args = [
        "actor",
        "ask",
        "adder",
        "\"total\"",
        "--json",
        "--timeout",
        "20s",
    ];
    let ran = node.cpe(&args);
    let answer: Value = serde_json::from_str(&ran.out).ok()?;
    (ran.code == Some(0)).then_some(answer)
}

/// What was written down, and how often.
fn done(node: &Node) -> BTreeMap<i64, u32> {
    let mut done = BTreeMap::new();
    loop {
        let ran = node.cpe(&["space", "inp", "done", r#"[{"?":"int"}]"#]);
        if ran.code == Some(3) {
            return done;
        }
        let tuple: Value = serde_json::from_str(&ran.code(0).out).unwrap();
        *done.entry(tuple[0].as_i64().unwrap()).or_default() += 1;
    }
}

#[test]
fn jobs_are_consumed_once_by_a_durable_rule_agent_whose_node_is_killed() {
    const KILLS: i64 = 3;
    const JOBS: i64 = 8;
    let mut node = Node::alone();
    let program = node.folder().join("adder.clp");
    fs::write(&program, ADDER).unwrap();
    let args = json!({ "file": program.to_str().unwrap() }).to_string();
    let spawn = [
        "actor",
        "spawn",
        "rules",
        "adder",
        "--durable",
        "--args",
        &args,
    ];
    node.cpe(&spawn).code(0);
    let mut next = 1;
    for _ in 0..KILLS {
        for _ in 0..JOBS {
            let job = json!(["job", next]).to_string();
            node.cpe(&["space", "out", "work", &job]).code(0);
            next += 1;
        }
        // Some are done, one is in hand, others wait; nobody asks which.
        let folder = node.keep_folder();
        node.end_by(Signal::KILL);
        let mut command = cpe();
        command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        command.args(["--api", "127.0.0.1:0", "--nws", "off"]);
        node = Node::run_in(command, Arc::clone(&folder));
    }
    let jobs = KILLS * JOBS;
    let all = json!([jobs * (jobs + 1) / 2, jobs]);
    let mut last = None;
    until("every job is done", || {
        let now = total(&node);
        let enough = now
            .as_ref()
            .is_some_and(|now| now[1].as_i64() >= Some(jobs));
        last = now.or_else(|| last.take());
        enough
    });
    assert_eq!(last, Some(all), "the sum, and how many: each exactly once");
    let mut written = done(&node);
    until("what it did last is written down", || {
        for (number, times) in done(&node) {
            *written.entry(number).or_default() += times;
        }
        written.len() as i64 >= jobs
    });
    // Its tuples are put in order: whatever was to be written down once more is there before this.
    node.cpe(&["actor", "tell", "adder", "\"finish\""]).code(0);
    until("it has said that it is through", || {
        let through = node.cpe(&["space", "inp", "through", r#"["through"]"#]);
        through.code == Some(0)
    });
    for (number, times) in done(&node) {
        *written.entry(number).or_default() += times;
    }
    let once: BTreeMap<i64, u32> = (1..=jobs).map(|number| (number, 1)).collect();
    assert_eq!(written, once, "each is written down exactly once");
}
