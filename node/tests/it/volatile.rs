//! Workspaces kept in memory alone, on real processes that are killed.

use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use tempfile::TempDir;

use super::harness::{Node, cpe, until};
use super::homes::groups_of_three;

const COUNT: u32 = 12;

fn store_all(node: &Node, workspace: &str) {
    for n in 1..=COUNT {
        let name = format!("v{n}");
        node.cpe(&["space", "store", workspace, &name, &n.to_string()])
            .code(0);
    }
}

fn fetch_all(node: &Node, workspace: &str) {
    for n in 1..=COUNT {
        let name = format!("v{n}");
        let got = node.cpe(&["space", "fetch", workspace, &name, "--timeout", "30s"]);
        assert_eq!(got.code(0).out, format!("{n}\n"), "{workspace} {name}");
    }
}

/// The sum of the generations of all volatile shards.
fn generations(node: &Node) -> u64 {
    let shards = node.cpe(&["mesh", "shards", "--json"]).json();
    let shards = shards.as_array().map(Vec::as_slice).unwrap_or_default();
    let volatile = shards.iter().filter_map(|s| s["generation"].as_u64());
    volatile.sum()
}

/// Starts a node again with its folder; it joins by an address, if it is not the first.
fn again(folder: Arc<TempDir>, key: &Path, bootstrap: Option<&str>) -> Node {
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0"]);
    if let Some(address) = bootstrap {
        command.arg("--mesh-key").arg(key);
        command.args(["--bootstrap", address]);
    }
    Node::run_in(command, folder)
}

#[test]
fn what_is_in_memory_outlives_any_one_of_three_nodes_killed_at_once() {
    let [a, b, c] = Node::three();
    groups_of_three(&a);
    groups_of_three(&b);
    store_all(&b, "tmp:w");
    let listed = b.cpe(&["space", "list", "--json"]).json();
    let listed = listed.as_array().unwrap();
    let of = |name: &str| listed.iter().find(|w| w["name"] == name).unwrap();
    assert_eq!(of("tmp:w")["volatile"], true, "{listed:?}");
    let before = generations(&b);
    let (status, _) = a.end_by(Signal::KILL);
    assert!(!status.success());
    fetch_all(&c, "tmp:w");
    for n in 1..=COUNT {
        b.cpe(&["space", "fetch-try", "tmp:w", &format!("v{n}")])
            .code(3);
    }
    assert_eq!(generations(&b), before, "no shard began anew");
}

#[test]
fn after_all_three_nodes_are_killed_the_durable_is_there_and_memory_serves_empty() {
    let [a, b, c] = Node::three();
    groups_of_three(&a);
    groups_of_three(&c);
    store_all(&b, "w");
    store_all(&b, "tmp:w");
    let before = generations(&c);
    let folders = [&a, &b, &c].map(Node::keep_folder);
    let key = a.data().join("mesh.key");
    for node in [a, b, c] {
        node.end_by(Signal::KILL);
    }
    let [fa, fb, fc] = folders;
    let a = again(fa, &key, None);
    let address = a.address().to_owned();
    let b = again(fb, &key, Some(&address));
    let c = again(fc, &key, Some(&address));
    for node in [&a, &b, &c] {
        node.sees(3);
    }
    fetch_all(&c, "w");
    // No command is needed.
    for n in 1..=COUNT {
        let name = format!("v{n}");
        until("the volatile shard serves", || {
            let stored = b.cpe(&["space", "store", "tmp:w", &name, "new", "--timeout", "5s"]);
            stored.code == Some(0) && !stored.out.contains("pending")
        });
        let got = c.cpe(&["space", "fetch", "tmp:w", &name, "--timeout", "20s"]);
        assert_eq!(got.code(0).out, "new\n", "nothing of before is left");
    }
    assert!(generations(&c) > before);
    let shown = c.cpe(&["mesh", "shards"]).code(0);
    assert!(shown.out.contains("memory #2"), "{}", shown.out);
}
