//! Home groups of real processes, of which one is killed.

use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Node, until};

/// Waits until a node sees three members in the home group of every shard written to.
pub(crate) fn groups_of_three(node: &Node) {
    until("home groups of three", || {
        let shards = node.cpe(&["mesh", "shards", "--json"]).json();
        let shards = shards.as_array().map(Vec::as_slice).unwrap_or_default();
        let full = |shard: &&Value| {
            shard["members"].as_array().is_some_and(|m| m.len() == 3) && !shard["leader"].is_null()
        };
        !shards.is_empty() && shards.iter().filter(full).count() == shards.len()
    });
}

#[test]
fn a_mesh_outlives_its_founder_killed_at_once() {
    let [a, b, c] = Node::three();
    for n in 1..=20 {
        b.cpe(&["space", "store", "w", &format!("v{n}"), &n.to_string()])
            .code(0);
    }
    groups_of_three(&a);
    groups_of_three(&c);
    let (status, _) = a.end_by(Signal::KILL);
    assert!(!status.success());
    for n in 1..=20 {
        let name = format!("v{n}");
        let node = if n % 2 == 0 { &b } else { &c };
        let got = node.cpe(&["space", "fetch", "w", &name, "--timeout", "20s"]);
        assert_eq!(got.code(0).out, format!("{n}\n"));
        b.cpe(&["space", "fetch-try", "w", &name]).code(3);
    }
}
