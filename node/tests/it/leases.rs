//! Leased takes and abandoned requests against real nodes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::harness::{Node, until};

/// Takes a value under a lease and gives the handle.
fn lease(node: &Node, span: &str) -> String {
    let taken = node.cpe(&["space", "fetch", "w", "x", "--lease", span, "--json"]);
    let taken = taken.json();
    taken["lease"].as_str().unwrap().to_owned()
}

/// Waits until so many takes of this test wait, besides the node's own: each is a request here and
/// parked at its home.
fn waits(node: &Node, own: u64, requests: u64) {
    until(&format!("{requests} requests wait"), || {
        node.waiting() == own + 2 * requests
    });
}

#[test]
fn a_leased_value_is_nobody_elses_and_gone_once_committed() {
    let node = Node::alone();
    node.cpe(&["space", "store", "w", "x", "two words"]).code(0);
    let taken = node.cpe(&["space", "fetch", "w", "x", "--lease", "30s"]);
    let taken = taken.code(0);
    let lines: Vec<&str> = taken.out.lines().collect();
    let [value, handle] = lines.as_slice() else {
        panic!("{taken:?}");
    };
    assert_eq!(*value, "two words");
    node.cpe(&["space", "fetch-try", "w", "x"]).code(3);
    node.cpe(&["space", "lease", "renew", handle]).code(0);
    node.cpe(&["space", "lease", "commit", handle]).code(0);
    node.cpe(&["space", "lease", "commit", handle]).code(0);
    node.cpe(&["space", "fetch-try", "w", "x"]).code(3);
    let late = node.cpe(&["space", "lease", "return", handle]).code(1);
    late.says("it is committed and its tuple gone");
}

#[test]
fn a_lease_that_is_not_renewed_ends_and_its_holder_is_told() {
    let node = Node::alone();
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    let first = lease(&node, "100ms");
    let again = node.cpe(&["space", "fetch", "w", "x", "--lease", "1h", "--json"]);
    let again = again.json();
    assert_eq!(again["value"], json!(1));
    assert_eq!(again["lease_ms"], json!(3_600_000));
    let token = |handle: &str| handle.rsplit('.').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(
        again["token"].as_u64().unwrap(),
        token(again["lease"].as_str().unwrap())
    );
    assert!(again["token"].as_u64().unwrap() > token(&first));
    let late = node.cpe(&["space", "lease", "commit", &first]).code(1);
    late.says("not renewed in time");
    let second = again["lease"].as_str().unwrap();
    node.cpe(&["space", "lease", "return", second]).code(0);
    assert_eq!(node.cpe(&["space", "fetch", "w", "x"]).code(0).out, "1\n");
}

#[test]
fn templates_take_under_a_lease_too_and_trying_forms_find_nothing() {
    let node = Node::alone();
    let template = "[\"x\",{\"?\":\"int\"}]";
    let none = node.cpe(&["space", "inp", "w", template, "--lease", "30s"]);
    assert_eq!(none.code(3).out, "");
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    let taken = node.cpe(&["space", "inp", "w", template, "--lease", "30s", "--json"]);
    assert_eq!(taken.json()["tuple"], json!(["x", 1]));
    node.cpe(&["space", "fetch-try", "w", "x", "--lease", "30s"])
        .code(3);
    for wrong in ["99ms", "25h", "soon"] {
        node.cpe(&["space", "fetch", "w", "x", "--lease", wrong])
            .code(2);
    }
    node.cpe(&["space", "lease", "commit", "17"]).code(2);
    node.cpe(&["space", "status", "17"]).code(2);
}

#[test]
fn a_lease_goes_on_at_another_node_when_its_own_is_killed() {
    let [a, b, c] = Node::three();
    a.cpe(&["space", "store", "w", "x", "1"]).code(0);
    a.cpe(&["space", "store", "w", "x", "2"]).code(0);
    let kept = lease(&b, "1h");
    let lost = lease(&b, "3s");
    b.end_by(Signal::KILL);
    c.cpe(&["space", "lease", "commit", &kept]).code(0);
    let back = c.cpe(&["space", "fetch", "w", "x", "--timeout", "30s"]);
    assert_eq!(back.code(0).out, "2\n");
    a.cpe(&["space", "lease", "commit", &lost]).code(1);
    a.cpe(&["space", "fetch-try", "w", "x"]).code(3);
}

pub(crate) fn post(node: &Node, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&node.api).unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

pub(crate) fn answer(mut stream: TcpStream) -> (u16, Value) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn the_api_leases_and_says_in_a_word_how_a_lease_was_lost() {
    let node = Node::alone();
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    let body = r#"{"template":["x",{"?":"any"}],"lease_ms":100}"#;
    let (status, taken) = answer(post(&node, "/v1/spaces/w/in", body));
    assert_eq!(status, 200, "{taken}");
    assert_eq!(taken["tuple"], json!(["x", 1]));
    assert_eq!(
        node.cpe(&["space", "find", "w", "x"]).code(0).out,
        "1\n",
        "it came back"
    );
    let handle = taken["lease"].as_str().unwrap();
    let commit = format!("/v1/leases/{handle}/commit");
    let (status, error) = answer(post(&node, &commit, "{}"));
    assert_eq!(status, 409, "{error}");
    assert_eq!(error["error"]["kind"], "lease_lost");
    assert_eq!(error["error"]["ended"], "expired");
    for (path, body) in [
        ("/v1/leases/nonsense/commit", "{}"),
        ("/v1/operations/1.2.3/status", "{}"),
        ("/v1/spaces/w/in", r#"{"template":["x",1],"lease_ms":99}"#),
        ("/v1/spaces/w/rd", r#"{"template":["x",1],"lease_ms":1000}"#),
    ] {
        let (status, error) = answer(post(&node, path, body));
        assert_eq!(
            (status, &error["error"]["kind"]),
            (422, &json!("invalid")),
            "{path} {error}"
        );
    }
}

#[test]
fn what_became_of_an_operation_is_told() {
    let node = Node::alone();
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    let handle = lease(&node, "1h");
    let (operation, token) = handle.rsplit_once('.').unwrap();
    until("the node has acknowledged the answer", || {
        let status = node.cpe(&["space", "status", operation, "--json"]).json();
        assert_eq!(status["operation"], json!(operation));
        match status["status"].as_str().unwrap() {
            "forgotten" => true,
            "leased" => {
                assert_eq!(status["token"].to_string(), token);
                false
            }
            other => panic!("{other}"),
        }
    });
    let (before, number) = operation.rsplit_once('.').unwrap();
    let later = format!("{before}.{}", number.parse::<u64>().unwrap() + 1_000_000);
    let refused = node.cpe(&["space", "status", &later]).code(1);
    refused.says("has not begun that operation");
}

#[test]
fn a_client_that_closes_its_connection_while_it_waits_takes_nothing() {
    let node = Node::alone();
    let own = node.own_waiting();
    for lease in ["", ",\"lease_ms\":3600000"] {
        let body = format!("{{\"template\":[\"x\",{{\"?\":\"any\"}}]{lease}}}");
        let stream = post(&node, "/v1/spaces/w/in", &body);
        waits(&node, own, 1);
        drop(stream);
        waits(&node, own, 0);
        node.cpe(&["space", "store", "w", "x", "1"]).code(0);
        let taken = node.cpe(&["space", "fetch-try", "w", "x"]);
        assert_eq!(taken.code(0).out, "1\n");
    }
}

/// More than the buffers of a connection hold: the node is in the middle of writing.
#[test]
fn a_client_that_closes_its_connection_in_the_middle_of_an_answer_takes_nothing() {
    const BYTES: usize = 64 << 20;
    let node = Node::alone();
    let file = node.folder().join("large");
    std::fs::write(&file, vec![7; BYTES]).unwrap();
    let file = file.to_str().unwrap();
    node.cpe(&["space", "store", "w", "x", "--file", file])
        .code(0);
    let mut stream = post(&node, "/v1/spaces/w/values/x/take", "");
    let mut begin = [0; 1000];
    stream.read_exact(&mut begin).unwrap();
    assert!(begin.starts_with(b"HTTP/1.1 200 OK"));
    node.cpe(&["space", "fetch-try", "w", "x", "--out", file])
        .code(3);
    drop(stream);
    let out = node.folder().join("out");
    let taken = ["space", "fetch", "w", "x", "--out", out.to_str().unwrap()];
    node.cpe(&taken).code(0);
    assert_eq!(std::fs::metadata(out).unwrap().len(), BYTES as u64);
}

#[test]
fn an_interrupted_fetch_takes_nothing() {
    let node = Node::alone();
    let own = node.own_waiting();
    for form in [
        &["space", "fetch", "w", "x"][..],
        &["space", "fetch", "w", "x", "--lease", "1h"],
    ] {
        let mut command = node.command(form);
        let mut waiting = command.stdout(Stdio::piped()).spawn().unwrap();
        waits(&node, own, 1);
        kill_process(Pid::from_child(&waiting), Signal::INT).unwrap();
        assert!(!waiting.wait().unwrap().success());
        waits(&node, own, 0);
        node.cpe(&["space", "store", "w", "x", "1"]).code(0);
        let taken = node.cpe(&["space", "fetch", "w", "x", "--timeout", "10s"]);
        assert_eq!(taken.code(0).out, "1\n");
    }
}

#[test]
fn waiting_clients_are_served_in_order_of_arrival() {
    let node = Node::alone();
    let own = node.own_waiting();
    let body = r#"{"template":["x",{"?":"any"}]}"#;
    let waiting: Vec<TcpStream> = (1..=4)
        .map(|n| {
            let stream = post(&node, "/v1/spaces/w/in", body);
            waits(&node, own, n);
            stream
        })
        .collect();
    for n in 1..=4 {
        node.cpe(&["space", "store", "w", "x", &n.to_string()])
            .code(0);
    }
    for (n, stream) in (1..=4).zip(waiting) {
        assert_eq!(answer(stream), (200, json!({"tuple": ["x", n]})));
    }
}
