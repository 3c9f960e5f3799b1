//! Names whose host is frozen: they have one actor once it is back, and who asks for them is
//! answered by whoever has them, not by the clock.

use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{Node, until};
use super::leases::{answer, post};

fn ask(node: &Node, name: &str, message: &Value, timeout_ms: u64) -> (u16, Value) {
    let body = json!({"message": message, "timeout_ms": timeout_ms});
    let path = format!("/v1/actors/{name}/ask");
    answer(post(node, &path, &body.to_string()))
}

fn three() -> [Node; 3] {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&["--name", "b"]);
    let c = a.join(&["--name", "c"]);
    let nodes = [a, b, c];
    for node in &nodes {
        node.sees(3);
    }
    nodes
}

fn shown(node: &Node, name: &str) -> Value {
    node.cpe(&["actor", "where", name, "--json"]).json()
}

/// Whether an actor of this name runs on a node, whoever its name is.
fn runs(node: &Node, on: &str, name: &str) -> bool {
    let tree = node.cpe(&["actor", "tree", "--node", on, "--json"]).json();
    let actors = tree[0]["actors"].to_string();
    actors.contains(&format!("\"{name}\""))
}

#[test]
fn a_plain_actor_that_others_started_anew_or_stopped_runs_no_more_where_it_was_frozen() {
    let [a, b, c] = three();
    for name in ["anew", "stopped", "kept"] {
        let spawn = ["actor", "spawn", "counter", name, "--node", "b"];
        a.cpe(&spawn).code(0);
        for node in [&a, &b, &c] {
            assert_eq!(ask(node, name, &json!({"add": 5}), 60_000).0, 200);
        }
    }
    b.freeze();
    until("the frozen node is taken for gone", || {
        shown(&a, "anew")["gone"] == json!(true)
    });
    let spawn = ["actor", "spawn", "counter", "anew", "--node", "a"];
    a.cpe(&spawn).code(0);
    a.cpe(&["actor", "stop", "stopped"]).code(0);
    // One that remembers where it was, and has heard the news. What is asked before that is lost.
    until("c knows its new host", || {
        shown(&c, "anew")["host"] == shown(&a, "anew")["host"] && shown(&c, "anew")["gone"] != true
    });
    let add = json!({"add": 1});
    assert_eq!(ask(&c, "anew", &add, 60_000).1["answer"], 1);

    b.signal(Signal::CONT);
    for node in [&a, &b, &c] {
        node.sees(3);
    }
    b.logs("a second incarnation is ended");
    until("both have ended where they were", || {
        !runs(&a, "b", "anew") && !runs(&a, "b", "stopped")
    });
    assert!(runs(&a, "a", "anew"));
    for (n, node) in [&a, &b, &c].into_iter().enumerate() {
        assert_eq!(ask(node, "anew", &add, 60_000).1["answer"], n + 2);
        assert_eq!(ask(node, "stopped", &add, 60_000).0, 404);
        // Nobody else has had it.
        let (status, said) = ask(node, "kept", &json!("get"), 60_000);
        assert_eq!((status, &said["answer"]), (200, &json!(15)), "{said}");
    }
    a.cpe(&["actor", "stop", "anew"]).code(0);
    assert!(!runs(&a, "a", "anew"));
}

#[test]
fn what_is_asked_of_a_frozen_host_is_answered_once_another_has_the_actor() {
    let [a, b, c] = three();
    let spawn = ["actor", "spawn", "counter", "total", "--durable"];
    a.cpe(&[&spawn[..], &["--node", "b"]].concat()).code(0);
    a.cpe(&["actor", "spawn", "counter", "plain", "--node", "b"])
        .code(0);
    a.has_homes();
    for node in [&a, &c] {
        assert_eq!(ask(node, "total", &json!({"add": 1}), 60_000).0, 200);
        assert_eq!(ask(node, "plain", &json!({"add": 1}), 60_000).0, 200);
    }
    let before = shown(&c, "total")["token"].as_u64();
    let link = || {
        let peers = c.cpe(&["mesh", "peers", "--json"]).json();
        let b = |peer: &&Value| peer["name"] == "b";
        peers.as_array().unwrap().iter().find(b).unwrap()["linked"].clone()
    };
    b.freeze();
    thread::scope(|scope| {
        let early = scope.spawn(|| ask(&c, "total", &json!({"add": 1}), 120_000));
        let lost = scope.spawn(|| ask(&c, "plain", &json!({"add": 1}), 120_000));
        until("the plain one is known to be gone", || {
            shown(&a, "plain")["gone"] == json!(true)
        });
        let spawn = ["actor", "spawn", "counter", "plain", "--node", "a"];
        a.cpe(&spawn).code(0);
        // Whether the frozen one has it nobody knows.
        let (status, said) = lost.join().unwrap();
        assert_eq!(
            (status, &said["error"]["kind"]),
            (503, &json!("unavailable"))
        );
        until("the durable one is taken over", || {
            shown(&c, "total")["token"].as_u64() > before
        });
        let late = ask(&c, "total", &json!({"add": 1}), 120_000);
        let early = early.join().unwrap();
        assert_eq!((early.0, late.0), (200, 200), "{early:?} {late:?}");
        let sum = early.1["answer"].as_i64().unwrap() + late.1["answer"].as_i64().unwrap();
        assert_eq!(sum, 3 + 4);
    });
    // Only the registry can have told: the link to the frozen node is not given up yet.
    assert_eq!(link(), json!(true));
    assert_eq!(ask(&c, "plain", &json!("get"), 60_000).1["answer"], 0);
    b.signal(Signal::CONT);
    for node in [&a, &b, &c] {
        node.sees(3);
        assert_eq!(ask(node, "total", &json!("get"), 60_000).1["answer"], 4);
    }
}
