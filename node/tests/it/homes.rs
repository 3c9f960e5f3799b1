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

/// False for a shard kept in memory alone.
fn is_durable(shard: &Value) -> bool {
    shard["generation"].is_null()
}

#[test]
fn each_shard_is_shown_with_the_member_that_leads_it() {
    let node = Node::alone();
    let name = node.cpe(&["mesh", "status", "--json"]).json()["name"].clone();
    let shard = &node.cpe(&["mesh", "shards", "--json"]).json()[0];
    assert_eq!(shard["leader"], shard["members"][0]["node"]);
    let shown = node.cpe(&["mesh", "shards"]).code(0);
    let marked = format!("{}*", name.as_str().unwrap());
    assert!(
        shown.out.lines().skip(1).all(|line| line.contains(&marked)),
        "{}",
        shown.out
    );
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

#[test]
fn a_node_whose_disk_is_still_needed_is_not_drained() {
    let a = Node::start(&["--name", "a"]);
    a.cpe(&["space", "store", "w", "x", "1"]).code(0);
    let alone = a.cpe(&["mesh", "drain"]).code(1);
    alone.says("nobody can take over");
    let told = a.cpe(&["mesh", "drain", "--timeout", "1s"]).code(1);
    told.says("do not take its disk away");
    // It goes on.
    a.cpe(&["space", "store", "w", "x", "2"]).code(0);

    let b = a.join(&["--name", "b"]);
    a.sees(2);
    let drained = a.cpe(&["mesh", "drain", "--timeout", "60s"]).code(0);
    assert!(drained.out.contains("drained"), "{drained:?}");
    a.end_by(Signal::KILL);
    for n in ["1", "2"] {
        let got = b.cpe(&["space", "fetch", "w", "x", "--timeout", "20s"]);
        assert_eq!(got.code(0).out, format!("{n}\n"));
    }
}

#[test]
fn a_node_that_lost_its_others_is_not_drained_and_stops_all_the_same() {
    let [a, b, c] = Node::three();
    a.cpe(&["space", "store", "w", "x", "1"]).code(0);
    groups_of_three(&a);
    for lost in [b, c] {
        lost.end_by(Signal::KILL);
    }
    until("nobody is there to take over", || {
        let drained = a.cpe(&["mesh", "drain", "--timeout", "1s"]).code(1);
        drained.err.contains("nobody can take over")
    });
    let folder = a.keep_folder();
    assert_eq!(a.stop().code(), Some(0));
    assert!(folder.path().join("data").exists());
}

#[test]
fn a_mesh_that_lost_two_of_three_nodes_for_ever_is_recovered() {
    let [a, b, c] = Node::three();
    for n in 1..=10 {
        b.cpe(&["space", "store", "w", &format!("v{n}"), &n.to_string()])
            .code(0);
    }
    groups_of_three(&a);
    groups_of_three(&c);
    let shown = c.cpe(&["space", "find-try", "w", "v2"]).code(0);
    assert_eq!((shown.out.as_str(), shown.err.as_str()), ("2\n", ""));
    let why = c.cpe(&["mesh", "recover", "--unsafe", "0"]).code(1);
    why.says("can be reached");
    c.cpe(&["mesh", "recover", "all"]).code(2).says("--unsafe");
    // With them go their folders.
    for lost in [a, b] {
        lost.end_by(Signal::KILL);
    }
    c.cpe(&["space", "fetch", "w", "v1", "--timeout", "2s"])
        .code(4);
    // It still shows what it knew, and says since when.
    let shown = c.cpe(&["space", "find-try", "w", "v2"]).code(0);
    assert_eq!(shown.out, "2\n");
    shown.says("no majority of its home has been in reach for");
    // Until the links of the lost are seen to be down, it is not known that they are lost.
    let mut done = Value::Null;
    until("every shard has a survivor", || {
        let all = c
            .cpe(&["mesh", "recover", "--unsafe", "all", "--json"])
            .json();
        if all.as_array().is_some_and(|all| !all.is_empty()) {
            done = all;
        }
        let shards = c.cpe(&["mesh", "shards", "--json"]).json();
        let forked = |shard: &&Value| shard["forked"] == true;
        let shards = shards.as_array().unwrap();
        let durable = shards.iter().filter(|shard| is_durable(shard));
        durable.clone().filter(forked).count() == durable.count()
    });
    let me = c.cpe(&["mesh", "status", "--json"]).json()["node"].clone();
    assert_eq!((&done[0]["node"], &done[0]["refused"]), (&me, &Value::Null));
    for n in 1..=10 {
        let got = c.cpe(&["space", "fetch", "w", &format!("v{n}"), "--timeout", "20s"]);
        assert_eq!(got.code(0).out, format!("{n}\n"));
    }
    let shown = c.cpe(&["mesh", "shards"]).code(0);
    assert!(shown.out.contains(" forked"), "{}", shown.out);
    c.logs("shard forked");
    // It lives on: it stores, and remembers after a restart.
    c.cpe(&["space", "store", "w", "v1", "again"]).code(0);
    let folder = c.keep_folder();
    c.stop();
    let mut command = super::harness::cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0"]);
    let c = Node::run_in(command, folder);
    let got = c.cpe(&["space", "fetch", "w", "v1", "--timeout", "20s"]);
    assert_eq!(got.code(0).out, "again\n");
    let shards = c.cpe(&["mesh", "shards", "--json"]).json();
    let shards = shards.as_array().unwrap();
    let mut durable = shards.iter().filter(|shard| is_durable(shard));
    assert!(durable.all(|shard| shard["forked"] == true));
}
