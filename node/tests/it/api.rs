//! The HTTP API as a program sees it.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::harness::Node;

/// Sends bytes and reads until the node closes; gives the status and the body.
pub(crate) fn raw(node: &Node, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(&node.api).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (status, body.unwrap_or_default())
}

pub(crate) fn send(
    node: &Node,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    );
    let (status, body) = raw(node, &request);
    (
        status,
        serde_json::from_str(&body).unwrap_or(Value::String(body)),
    )
}

const OWN: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

#[test]
fn a_name_that_is_not_loopbacks_is_refused() {
    let node = Node::alone();
    let (status, error) = send(&node, "GET", "/v1/status", "Host: rebound.example\r\n", "");
    assert_eq!(status, 403);
    assert_eq!(error["error"]["kind"], "forbidden");
    assert_eq!(
        send(&node, "GET", "/v1/status", "Host: localhost\r\n", "").0,
        200
    );
}

#[test]
fn a_configured_name_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("n.toml");
    std::fs::write(&file, "[api]\nhosts = [\"node-7.lan\"]\n").unwrap();
    let node = Node::start(&["--config", file.to_str().unwrap()]);
    assert_eq!(
        send(&node, "GET", "/v1/status", "Host: node-7.lan:8766\r\n", "").0,
        200
    );
}

#[test]
fn errors_have_a_status_a_kind_and_a_message() {
    let node = Node::alone();
    let rd = "/v1/spaces/w/rd";
    for (method, path, body, status, kind) in [
        ("GET", "/v1/nothing", "", 404, "not_found"),
        ("PUT", "/v1/status", "{}", 405, "wrong_method"),
        ("POST", rd, "{", 400, "bad_request"),
        ("POST", rd, "{}", 422, "invalid"),
        ("POST", rd, "{\"template\":17}", 422, "invalid"),
        ("POST", rd, "{\"template\":[1],\"typo\":1}", 422, "invalid"),
        (
            "POST",
            rd,
            "{\"template\":[1],\"timeout_ms\":99999999999}",
            422,
            "invalid",
        ),
        (
            "POST",
            rd,
            "{\"template\":[\"x\",1],\"timeout_ms\":10}",
            504,
            "timed_out",
        ),
        ("GET", "/v1/actors/nobody", "", 404, "not_found"),
        ("GET", "/v1/spaces/w/watch", "", 400, "bad_request"),
    ] {
        let (seen, error) = send(&node, method, path, OWN, body);
        assert_eq!(seen, status, "{method} {path} {body}: {error}");
        assert_eq!(
            error["error"]["kind"], kind,
            "{method} {path} {body}: {error}"
        );
        assert!(
            error["error"]["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
    }
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let node = Node::alone();
    let request = format!(
        "POST /v1/spaces/w/store HTTP/1.1\r\nConnection: close\r\n{OWN}Content-Length: {}\r\n\r\n",
        9 << 20
    );
    let (status, _) = raw(&node, &request);
    assert_eq!(status, 413);
}

#[test]
fn garbage_does_not_end_the_node() {
    let node = Node::alone();
    for garbage in [
        "\0\u{1}\u{2}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        raw(&node, garbage);
    }
    node.cpe(&["mesh", "status"]).code(0);
}

#[test]
fn the_page_and_the_api_description_are_served() {
    let node = Node::alone();
    let (status, page) = send(&node, "GET", "/", "Host: localhost\r\n", "");
    assert_eq!(status, 200);
    assert!(page.as_str().unwrap().contains("<title>CPE node</title>"));
    let (status, document) = send(&node, "GET", "/openapi.json", "Host: localhost\r\n", "");
    assert_eq!((status, &document["openapi"]), (200, &Value::from("3.1.0")));
}
