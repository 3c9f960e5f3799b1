//! Hosts of durable actors that are killed while they hand one on, frozen past their lease, and cut
//! off: nothing happens twice, and nobody acts who may not.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{Node, until};
use super::leases::{answer, post};
use super::minority::Three;

/// Asks an actor over HTTP: the status and what was answered, or what went wrong.
fn ask(node: &Node, name: &str, message: &Value, timeout_ms: u64) -> (u16, Value) {
    let body = json!({"message": message, "timeout_ms": timeout_ms});
    let path = format!("/v1/actors/{name}/ask");
    answer(post(node, &path, &body.to_string()))
}

/// What a counter says, once somebody runs it.
fn counts(node: &Node, wanted: i64) {
    until(&format!("the counter says {wanted}"), || {
        let (status, answer) = ask(node, "total", &json!("get"), 2_000);
        assert!(
            status != 200 || answer["answer"].as_i64() <= Some(wanted),
            "{answer}"
        );
        status == 200 && answer["answer"] == wanted
    });
}

fn spawn(node: &Node, kind: &str, name: &str, on: &str, args: &Value) {
    let args = args.to_string();
    let command = ["actor", "spawn", kind, name, "--durable", "--node", on];
    node.cpe(&[&command[..], &["--args", &args]].concat())
        .code(0);
}

fn host(node: &Node, name: &str) -> Value {
    node.cpe(&["actor", "where", name, "--json"]).json()["host"].clone()
}

/// A file in which an actor writes the process of its node, once for each message.
struct Pen(PathBuf);

impl Pen {
    fn new(folder: &Path) -> Self {
        Self(folder.join("written"))
    }

    /// What the actor is to run: its parent is the node.
    fn args(&self) -> Value {
        let script = format!("echo $PPID >> '{}'; cat", self.0.display());
        json!({"program": "sh", "args": ["-c", script]})
    }

    /// How many messages a node has handled.
    fn by(&self, node: &Node) -> usize {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let pid = node.pid().to_string();
        text.lines().filter(|line| *line == pid).count()
    }
}

#[test]
fn what_is_asked_while_an_actor_moves_happens_once_when_its_host_is_killed_at_that() {
    const ASKS: i64 = 60;
    // Groups of five: two of their nodes are killed, one after the other.
    let a = Node::start(&["--name", "a", "--group-size", "5"]);
    let _other = a.join(&["--name", "other"]);
    let hosts = ["n0", "n1", "n2"].map(|name| a.join(&["--name", name]));
    a.sees(5);
    spawn(&a, "counter", "total", "n0", &Value::Null);
    until("all shards have five homes", || {
        let shards = a.cpe(&["mesh", "shards", "--json"]).json();
        let five = |it: &Value| it["members"].as_array().map_or(0, Vec::len) == 5;
        shards.as_array().unwrap().iter().all(five)
    });
    let mut total = 0;
    // The sooner, the less of the move is done.
    for (round, after_ms) in [3, 15].into_iter().enumerate() {
        let next = format!("n{}", round + 1);
        let moving = thread::scope(|scope| {
            let asks = scope.spawn(|| {
                for _ in 0..ASKS {
                    let (status, said) = ask(&a, "total", &json!({"add": 1}), 120_000);
                    let lost = status == 409 && said["error"]["kind"] == "answer_lost";
                    assert!(status == 200 || lost, "{status} {said}");
                }
            });
            until("the asks are under way", || {
                let (_, said) = ask(&a, "total", &json!("get"), 20_000);
                said["answer"].as_i64() >= Some(total + 5)
            });
            let body = json!({"node": next, "timeout_ms": 30_000}).to_string();
            let moving = post(&a, "/v1/actors/total/migrate", &body);
            thread::sleep(Duration::from_millis(after_ms));
            hosts[round].signal(Signal::KILL);
            asks.join().unwrap();
            moving
        });
        total += ASKS;
        counts(&a, total);
        counts(&hosts[2], total);
        println!("killed after {after_ms} ms: {:?}", answer(moving));
        // Wherever it is by now: to the next host to be killed.
        until("it is moved to the next host", || {
            a.cpe(&["actor", "migrate", "total", &next]).code == Some(0)
        });
    }
}

#[test]
fn a_host_that_is_frozen_past_its_lease_does_not_act_when_it_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let pen = Pen::new(folder.path());
    let allow = ["--allow-command", "sh", "--name"];
    let a = Node::start(&[&allow[..], &["a"]].concat());
    let b = a.join(&[&allow[..], &["b"]].concat());
    let c = a.join(&[&allow[..], &["c"]].concat());
    for node in [&a, &b, &c] {
        node.sees(3);
    }
    spawn(&a, "counter", "total", "b", &Value::Null);
    spawn(&a, "command", "pen", "b", &pen.args());
    a.has_homes();
    assert_eq!(ask(&c, "pen", &json!("first"), 60_000).0, 200);
    assert_eq!(ask(&c, "total", &json!({"add": 7}), 60_000).0, 200);
    assert_eq!(pen.by(&b), 1);
    let before = host(&a, "pen");

    // More than it gets to before it is frozen.
    for _ in 0..200 {
        let body = json!({"message": "told"}).to_string();
        let (status, said) = answer(post(&b, "/v1/actors/pen/tell", &body));
        assert_eq!(status, 200, "{said}");
    }
    b.freeze();
    // Its kernel takes what it will find when it wakes.
    let late = json!({"message": {"add": 1}, "timeout_ms": 60_000}).to_string();
    let late = post(&b, "/v1/actors/total/ask", &late);
    counts(&a, 7);
    assert_eq!(ask(&c, "pen", &json!("from c"), 60_000).0, 200);
    assert_ne!(host(&a, "pen"), before);
    // A program that it had begun has ended by now, unless it still waits for its input.
    let frozen = pen.by(&b);
    assert!(frozen < 200, "it got to all before it was frozen");

    b.signal(Signal::CONT);
    b.logs("the lease of this node as a host ran out");
    // The one that has the actor handles it, once, also when the answer to that is lost.
    let (status, said) = answer(late);
    println!("what was asked of it while it was frozen: {status} {said}");
    let lost = status == 409 && said["error"]["kind"] == "answer_lost";
    assert!(
        status == 200 && said["answer"] == 8 || lost,
        "{status} {said}"
    );
    let total = 8;
    for node in [&a, &b, &c] {
        node.sees(3);
        counts(node, total);
        assert_eq!(ask(node, "pen", &json!("again"), 60_000).0, 200);
    }
    // What it was in the midst of goes on to its end, and nothing else begins.
    assert!(pen.by(&b) <= frozen + 1, "it acted after its lease");
}

#[test]
fn a_host_that_is_cut_off_stops_acting_before_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let pen = Pen::new(folder.path());
    let three = Three::start_with(&["--allow-command", "sh"]);
    let [a, b, c] = &three.nodes;
    spawn(a, "counter", "total", "c", &Value::Null);
    spawn(a, "command", "pen", "c", &pen.args());
    a.has_homes();
    assert_eq!(ask(a, "pen", &json!("first"), 60_000).0, 200);
    assert_eq!(ask(b, "total", &json!({"add": 7}), 60_000).0, 200);
    assert_eq!(pen.by(c), 1);

    three.cut();
    counts(a, 7);
    assert_eq!(ask(b, "pen", &json!("of the majority"), 60_000).0, 200);
    let cut = pen.by(c);
    let others = pen.by(a) + pen.by(b);
    assert_eq!(others, 1);
    // It is still there, and knows of nobody else who has the actors.
    for message in ["one", "two"] {
        assert_ne!(ask(c, "pen", &json!(message), 500).0, 200);
    }
    assert_ne!(ask(c, "total", &json!({"add": 100}), 500).0, 200);
    assert_eq!(pen.by(c), cut, "it acted while others did");
    assert_eq!(ask(a, "total", &json!({"add": 1}), 60_000).1["answer"], 8);

    three.heal();
    let (status, said) = ask(c, "total", &json!("get"), 60_000);
    let count = said["answer"].as_i64().unwrap();
    // What was asked of the one that was cut off was given up, and may not have been sent since.
    assert!(status == 200 && (count == 8 || count == 108), "{said}");
    counts(a, count);
    assert_eq!(pen.by(c), cut);
}
