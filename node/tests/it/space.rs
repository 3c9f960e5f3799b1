//! The commands of the tuple space against a real node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;

use super::harness::Node;

#[test]
fn values_come_back_as_they_were_stored() {
    let node = Node::alone();
    for (typed, json) in [
        ("17", json!(17)),
        ("-5", json!(-5)),
        ("1.5", json!(1.5)),
        ("word", json!("word")),
        ("two words", json!("two words")),
        ("\"17\"", json!("17")),
        ("null", json!(null)),
        ("[1,[true,\"x\"]]", json!([1, [true, "x"]])),
        ("{\"a\":{\"b\":2}}", json!({"a": {"b": 2}})),
        ("{\"sym\":\"red\"}", json!({"sym": "red"})),
        ("{\"bytes\":\"AP8=\"}", json!({"bytes": "AP8="})),
    ] {
        node.cpe(&["space", "store", "w", "x", typed]).code(0);
        assert_eq!(
            node.cpe(&["space", "find", "w", "x", "--json"]).json(),
            json,
            "{typed}"
        );
        assert_eq!(
            node.cpe(&["space", "fetch", "w", "x", "--json"]).json(),
            json,
            "{typed}"
        );
    }
    node.cpe(&["space", "fetch-try", "w", "x"]).code(3);
}

#[test]
fn a_person_sees_text_without_quotes() {
    let node = Node::alone();
    node.cpe(&["space", "store", "w", "x", "hello there"])
        .code(0);
    assert_eq!(node.cpe(&["space", "find", "w", "x"]).out, "hello there\n");
}

#[test]
fn trying_forms_that_find_nothing_end_with_3_and_waiting_ones_with_4() {
    let node = Node::alone();
    for form in ["find-try", "fetch-try"] {
        let ran = node.cpe(&["space", form, "w", "x"]).code(3);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    }
    for form in ["rdp", "inp"] {
        node.cpe(&["space", form, "w", "[\"x\",1]"]).code(3);
    }
    for form in ["find", "fetch"] {
        let ran = node
            .cpe(&["space", form, "w", "x", "--timeout", "50ms"])
            .code(4);
        ran.says("nothing matched within 50ms");
    }
    node.cpe(&["space", "find-try", "w", "x", "--fresh"])
        .code(3);
}

#[test]
fn templates_pick_by_type_range_and_prefix() {
    let node = Node::alone();
    for tuple in [
        "[\"job\",1,\"alpha\"]",
        "[\"job\",5,\"beta\"]",
        "[\"job\",9.5,\"alps\"]",
    ] {
        node.cpe(&["space", "out", "w", tuple]).code(0);
    }
    for (template, found) in [
        (
            "[\"job\",{\"?\":\"float\"},{\"?\":\"any\"}]",
            json!(["job", 9.5, "alps"]),
        ),
        (
            "[\"job\",{\">=\":3,\"<\":9},{\"?\":\"any\"}]",
            json!(["job", 5, "beta"]),
        ),
        (
            "[\"job\",{\"?\":\"int\"},{\"prefix\":\"al\"}]",
            json!(["job", 1, "alpha"]),
        ),
    ] {
        assert_eq!(
            node.cpe(&["space", "rd", "w", template, "--json"]).json(),
            found
        );
        assert_eq!(
            node.cpe(&["space", "in", "w", template, "--json"]).json(),
            found
        );
    }
    node.cpe(&[
        "space",
        "inp",
        "w",
        "[\"job\",{\"?\":\"any\"},{\"?\":\"any\"}]",
    ])
    .code(3);
}

#[test]
fn modes_decide_which_value_is_taken() {
    let node = Node::alone();
    node.cpe(&["space", "declare", "w", "stack", "lifo"])
        .code(0);
    node.cpe(&["space", "declare", "w", "one", "single"])
        .code(0);
    for value in ["1", "2", "3"] {
        for name in ["queue", "stack", "one"] {
            node.cpe(&["space", "store", "w", name, value]).code(0);
        }
    }
    assert_eq!(node.cpe(&["space", "fetch", "w", "queue"]).out, "1\n");
    assert_eq!(node.cpe(&["space", "fetch", "w", "stack"]).out, "3\n");
    assert_eq!(node.cpe(&["space", "fetch", "w", "one"]).out, "3\n");
    node.cpe(&["space", "fetch-try", "w", "one"]).code(3);
}

#[test]
fn a_waiting_fetch_gets_what_is_stored_later() {
    let node = Node::alone();
    let own = node.own_waiting();
    let mut command = node.command(&["space", "fetch", "w", "late", "--timeout", "60s"]);
    let waiting = command.stdout(Stdio::piped()).spawn().unwrap();
    super::harness::until("the fetch waits", || node.waiting() > own);
    node.cpe(&["space", "store", "w", "late", "42"]).code(0);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "42\n");
}

#[test]
fn a_watch_shows_what_is_there_and_what_comes() {
    let node = Node::alone();
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    let mut command = node.command(&["space", "watch", "w"]);
    let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "[\"x\",1]");
    node.cpe(&["space", "store", "w", "y", "2"]).code(0);
    assert_eq!(lines.next().unwrap().unwrap(), "[\"y\",2]");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn lists_count_and_deletes_remove() {
    let node = Node::alone();
    for name in ["x", "x", "y"] {
        node.cpe(&["space", "store", "w", name, "1"]).code(0);
    }
    let spaces = node.cpe(&["space", "list", "--json"]).json();
    let w = spaces
        .as_array()
        .unwrap()
        .iter()
        .find(|space| space["name"] == "w")
        .unwrap();
    assert_eq!((&w["variables"], &w["tuples"]), (&json!(2), &json!(3)));
    node.cpe(&["space", "delete", "w", "x"]).code(0);
    let variables = node.cpe(&["space", "list", "w", "--json"]).json();
    let names: Vec<_> = variables
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["name"].clone())
        .collect();
    assert_eq!(names, [json!("y")]);
    node.cpe(&["space", "delete", "w"]).code(0);
    node.cpe(&["space", "find-try", "w", "y"]).code(3);
}

#[test]
fn files_of_any_bytes_go_in_and_come_out() {
    let node = Node::alone();
    let (from, to) = (node.folder().join("from"), node.folder().join("to"));
    // Not UTF-8, with line ends and zeros, and large enough to need many frames.
    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(&from, &bytes).unwrap();
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    node.cpe(&["space", "store", "w", "blob", "--file", from])
        .code(0);
    node.cpe(&["space", "fetch", "w", "blob", "--out", to])
        .code(0);
    assert!(fs::read(to).unwrap() == bytes);
}

#[test]
fn a_value_that_is_too_large_is_refused_and_the_node_lives_on() {
    let node = Node::alone();
    let file = node.folder().join("huge");
    // Without blocks: nothing of it is to be read.
    let sparse = fs::File::create(&file).unwrap();
    sparse.set_len((16 << 30) + 1).unwrap();
    let file = file.to_str().unwrap();
    node.cpe(&["space", "store", "w", "x", "--file", file])
        .code(1)
        .says("more than a value may have");
    node.cpe(&["space", "find-try", "w", "x"]).code(3);
}

#[test]
fn names_of_any_text_work() {
    let node = Node::alone();
    for name in ["a/b", "ü ✓", "..", "100%", "?x=1&y", "#"] {
        node.cpe(&["space", "store", name, name, "1"]).code(0);
        assert_eq!(
            node.cpe(&["space", "find", name, name]).out,
            "1\n",
            "{name}"
        );
        node.cpe(&["space", "delete", name, name]).code(0);
        node.cpe(&["space", "find-try", name, name, "--fresh"])
            .code(3);
    }
}
