//! Actors that outlive their nodes, from the command line and from crowd files.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{Node, until};

/// What an actor says, once somebody runs it.
fn says(node: &Node, name: &str, message: &str, wanted: &str) {
    until(&format!("`{name}` says {wanted} again"), || {
        let ran = node.cpe(&["actor", "ask", name, message, "--timeout", "2s"]);
        ran.code == Some(0) && ran.out.trim() == wanted
    });
}

fn shown(node: &Node, name: &str) -> Value {
    node.cpe(&["actor", "where", name, "--json"]).json()
}

#[test]
fn what_is_started_as_durable_outlives_a_killed_node_and_the_rest_is_said_to_be_gone() {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&["--name", "b", "--capability", "role=worker"]);
    let c = a.join(&["--name", "c"]);
    for node in [&a, &b, &c] {
        node.sees(3);
    }
    let spawn = |kind: &str, name: &str, more: &[&str]| {
        let command = ["actor", "spawn", kind, name, "--node", "b"];
        a.cpe(&[&command[..], more].concat()).code(0);
    };
    spawn("counter", "total", &["--durable"]);
    spawn("echo", "parrot", &["--durable"]);
    let file = a.folder().join("team.toml");
    let team = "name = \"team\"
        [[agent]]\nname = \"greeter\"\nkind = \"rules\"\nnode = \"b\"\ndurable = true
        args = { source = '''
            (defglobal ?*known* = 0)
            (defrule hi (message (kind hello) (body ?name))
              => (bind ?*known* (+ ?*known* 1)) (reply (str-cat ?name \" is number \" ?*known*)))
        ''' }
        [[agent]]\nname = \"plain\"\nkind = \"counter\"\nrequire = { role = \"worker\" }";
    fs::write(&file, team).unwrap();
    let apply = |code| {
        let ran = a.cpe(&["apply", file.to_str().unwrap(), "--json"]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        ran
    };
    apply(0);
    assert_eq!(apply(0).json()["unchanged"].as_array().unwrap().len(), 2);
    a.has_homes();

    a.cpe(&["actor", "ask", "total", "{\"add\":7}"]).code(0);
    says(&a, "greeter", "{\"hello\":\"Ada\"}", "Ada is number 1");
    let before = shown(&a, "total");
    assert_eq!(
        (&before["durable"], &before["gone"]),
        (&json!(true), &json!(false))
    );
    let list = a.cpe(&["actor", "list", "--json"]).json();
    let durable = |name: &str| {
        let all = list.as_array().unwrap();
        all.iter().find(|it| it["name"] == name).unwrap()["durable"].clone()
    };
    assert_eq!(
        ["total", "greeter", "plain"].map(durable),
        [json!(true), json!(true), json!(false)]
    );

    b.end_by(Signal::KILL);
    says(&c, "total", "get", "7");
    says(&c, "greeter", "{\"hello\":\"Bob\"}", "Bob is number 2");
    says(&c, "parrot", "hello", "hello");
    let after = shown(&a, "total");
    assert_ne!(after["host"], before["host"]);
    assert!(after["token"].as_u64() > before["token"].as_u64());
    until("the plain one is known to be gone", || {
        shown(&a, "plain")["gone"] == json!(true)
    });

    // Nobody else may run the plain one until there is a node for it.
    let refused = apply(1);
    assert!(refused.err.contains("role=worker"), "{refused:?}");
    let _d = a.join(&["--name", "d", "--capability", "role=worker"]);
    a.sees(3);
    let applied = apply(0).json();
    assert_eq!(applied["unchanged"], json!([{"name": "greeter"}]));
    says(&a, "plain", "get", "0");

    // What ends a state says so first.
    let text = team.replace("durable = true", "durable = false");
    fs::write(&file, text.replace("node = \"b\"", "node = \"a\"")).unwrap();
    let dry = a.cpe(&["apply", file.to_str().unwrap(), "--dry-run"]);
    let line = "~ greeter changed: node, durable (its state ends)";
    assert!(dry.out.contains(line), "{dry:?}");
    apply(0);
    says(&a, "greeter", "{\"hello\":\"Eve\"}", "Eve is number 1");
    assert_eq!(shown(&a, "greeter")["durable"], json!(false));
}

#[test]
fn a_durable_actor_that_cannot_start_leaves_its_name_free() {
    let node = Node::alone();
    let spawn = ["actor", "spawn", "counter", "n", "--durable", "--args"];
    let wrong = node.cpe(&[&spawn[..], &["many"]].concat()).code(1);
    assert!(wrong.err.contains("cannot start"), "{wrong:?}");
    node.cpe(&[&spawn[..], &["5"]].concat()).code(0);
    says(&node, "n", "get", "5");
}

#[test]
fn a_durable_actor_is_moved_with_its_state_and_a_plain_one_is_not() {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&["--name", "b"]);
    for node in [&a, &b] {
        node.sees(2);
    }
    let spawn = ["actor", "spawn", "counter", "total", "--node", "a"];
    a.cpe(&[&spawn[..], &["--durable"]].concat()).code(0);
    a.cpe(&["actor", "ask", "total", "{\"add\":7}"]).code(0);
    let before = shown(&a, "total");
    b.cpe(&["actor", "migrate", "total", "b"]).code(0);
    let after = shown(&b, "total");
    assert_ne!(after["host"], before["host"]);
    assert!(after["token"].as_u64() > before["token"].as_u64());
    assert_eq!(
        a.cpe(&["actor", "ask", "total", "get"]).code(0).out.trim(),
        "7"
    );

    a.cpe(&["actor", "spawn", "counter", "plain", "--node", "a"])
        .code(0);
    let refused = a.cpe(&["actor", "migrate", "plain", "b"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.err.contains("durable"), "{refused:?}");
}

#[test]
fn a_capability_is_set_and_removed_at_a_running_node_and_a_durable_actor_follows_it() {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&["--name", "b", "--capability", "gpu=yes"]);
    for node in [&a, &b] {
        node.sees(2);
    }
    let spawn = ["actor", "spawn", "counter", "total", "--durable"];
    a.cpe(&[&spawn[..], &["--require", "gpu=yes"]].concat())
        .code(0);
    a.cpe(&["actor", "ask", "total", "{\"add\":7}"]).code(0);
    let before = shown(&a, "total");
    let said = a.cpe(&["mesh", "capability", "set", "gpu=yes"]).code(0);
    assert!(said.out.contains("gpu=yes"), "{said:?}");
    b.cpe(&["mesh", "capability", "remove", "gpu"]).code(0);
    until("it has moved", || {
        shown(&a, "total")["host"] != before["host"]
    });
    says(&b, "total", "get", "7");
    let peers = a.cpe(&["mesh", "peers", "--json"]).json();
    let of = |name: &str| {
        let all = peers.as_array().unwrap();
        let found = all.iter().find(|it| it["name"] == name);
        found.unwrap()["capabilities"]["gpu"].clone()
    };
    assert_eq!((of("a"), of("b")), (json!("yes"), Value::Null));
    a.cpe(&["mesh", "capability", "set", "kinds=none"])
        .code(1)
        .says("kinds");
    a.cpe(&["mesh", "capability", "set", "gpu"]).code(2);
}
