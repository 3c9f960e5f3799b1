//! Three nodes: one space, actors anywhere.

use serde_json::{Value, json};

use super::harness::{Node, run, until};

#[test]
fn three_nodes_share_one_space() {
    let [a, b, c] = Node::three();
    a.cpe(&["space", "store", "w", "x", "17"]).code(0);
    assert_eq!(c.cpe(&["space", "find", "w", "x"]).out, "17\n");
    assert_eq!(b.cpe(&["space", "fetch", "w", "x"]).out, "17\n");
    for node in [&a, &b, &c] {
        node.cpe(&["space", "fetch-try", "w", "x"]).code(3);
        node.cpe(&["space", "find-try", "w", "x", "--fresh"])
            .code(3);
    }
}

#[test]
fn what_many_nodes_fetch_is_fetched_once() {
    let nodes = Node::three();
    for n in 0..12 {
        nodes[0]
            .cpe(&["space", "store", "w", "n", &n.to_string()])
            .code(0);
    }
    let mut seen: Vec<i64> = Vec::new();
    for round in 0..12 {
        let node = &nodes[round % 3];
        let value = node.cpe(&["space", "fetch", "w", "n", "--json"]).json();
        seen.push(value.as_i64().unwrap());
    }
    assert_eq!(seen, (0..12).collect::<Vec<_>>());
    nodes[1].cpe(&["space", "fetch-try", "w", "n"]).code(3);
}

#[test]
fn an_actor_answers_from_another_node() {
    let [a, b, c] = Node::three();
    let spawned = a
        .cpe(&["actor", "spawn", "counter", "till", "--node", "b", "--json"])
        .json();
    let peers = a.cpe(&["mesh", "peers", "--json"]).json();
    let of_b = peers
        .as_array()
        .unwrap()
        .iter()
        .find(|peer| peer["name"] == "b")
        .unwrap();
    assert_eq!(spawned["host"], of_b["node"]);

    assert_eq!(
        c.cpe(&["actor", "ask", "till", "{\"add\":5}", "--json"])
            .json(),
        json!(5)
    );
    assert_eq!(
        a.cpe(&["actor", "ask", "till", "{\"add\":2}", "--json"])
            .json(),
        json!(7)
    );
    b.cpe(&["actor", "tell", "till", "{\"add\":1}"]).code(0);
    until("the counter has it", || {
        b.cpe(&["actor", "ask", "till", "get"]).out == "8\n"
    });

    until("every node lists it", || {
        [&a, &b, &c].iter().all(|node| {
            let list = node.cpe(&["actor", "list", "--json"]).json();
            list.as_array()
                .unwrap()
                .iter()
                .any(|actor| actor["name"] == "till")
        })
    });
    c.cpe(&["actor", "stop", "till"]).code(0);
    c.cpe(&["actor", "ask", "till", "get", "--timeout", "5s"])
        .code(1);
}

#[test]
fn an_actor_goes_where_its_requirements_are_met() {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&["--name", "b", "--capability", "gpu=yes"]);
    until("a sees what b can do", || {
        let peers = a.cpe(&["mesh", "peers", "--json"]).json();
        peers
            .as_array()
            .unwrap()
            .iter()
            .any(|peer| peer["capabilities"]["gpu"] == "yes")
    });
    let args = [
        "actor",
        "spawn",
        "echo",
        "e",
        "--require",
        "gpu=yes",
        "--json",
    ];
    let spawned = a.cpe(&args).json();
    let status = b.cpe(&["mesh", "status", "--json"]).json();
    assert_eq!(spawned["host"], status["node"]);
    a.cpe(&[
        "actor",
        "spawn",
        "echo",
        "f",
        "--require",
        "gpu=no",
        "--timeout",
        "5s",
    ])
    .code(1);
}

#[test]
fn a_stranger_does_not_get_in() {
    let a = Node::start(&["--name", "a"]);
    let dir = a.folder().join("other");
    let made = run(&["mesh", "init", dir.to_str().unwrap(), "--json"]).json();
    let key = made["key"].as_str().unwrap();
    let stranger = Node::start(&["--mesh-key", key, "--bootstrap", a.address()]);
    a.cpe(&["space", "store", "w", "secret", "1"]).code(0);
    stranger
        .cpe(&["space", "find", "w", "secret", "--timeout", "2s"])
        .code(4);
    let peers = a.cpe(&["mesh", "peers", "--json"]).json();
    let names: Vec<_> = peers
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| &peer["name"])
        .collect();
    assert_eq!(names, [&Value::from("a")]);
}

#[test]
fn a_mesh_made_beforehand_is_joined_by_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("m");
    let dir = dir.to_str().unwrap();
    let made = run(&["mesh", "init", dir, "--json"]).json();
    let key = made["key"].as_str().unwrap();
    run(&["mesh", "init", dir]).code(1).says("is there already");
    let node = Node::start(&["--mesh-key", key]);
    let status = node.cpe(&["mesh", "status", "--json"]).json();
    assert_eq!(status["mesh"], made["mesh"]);
}

#[test]
fn a_node_hands_its_shards_over_when_it_stops() {
    let [a, b, c] = Node::three();
    a.cpe(&["space", "store", "w", "kept", "1"]).code(0);
    assert_eq!(a.stop().code(), Some(0));
    assert_eq!(
        b.cpe(&["space", "fetch", "w", "kept", "--timeout", "60s"])
            .out,
        "1\n"
    );
    c.cpe(&["space", "store", "w", "more", "2", "--timeout", "60s"])
        .code(0);
    assert_eq!(
        b.cpe(&["space", "find", "w", "more", "--timeout", "60s"])
            .out,
        "2\n"
    );
}
