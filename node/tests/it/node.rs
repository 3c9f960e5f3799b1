//! A node's life: ready line, busy ports, signals, identity.

use std::net::TcpListener;

use super::harness::{Node, Ran, cpe};

#[test]
fn the_ready_line_tells_where_everything_is() {
    let node = Node::start(&["--name", "alpha"]);
    assert_eq!(node.ready["ready"], true);
    assert_eq!(node.ready["name"], "alpha");
    let peer = node.ready["peer"].as_str().unwrap();
    assert!(
        node.address().starts_with("/ip4/127.0.0.1/tcp/"),
        "{}",
        node.ready
    );
    assert!(
        node.address().ends_with(&format!("/p2p/{peer}")),
        "{}",
        node.ready
    );
    assert!(!node.address().contains("/tcp/0"), "{}", node.ready);
    let status = node.cpe(&["mesh", "status", "--json"]).json();
    assert_eq!(status["joined"], true);
    assert_eq!(status["name"], "alpha");
}

#[test]
fn a_founder_writes_the_key_of_its_mesh() {
    let node = Node::alone();
    assert!(node.data().join("mesh.key").is_file());
}

#[test]
fn sigterm_ends_a_node_with_status_0() {
    let node = Node::alone();
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    assert_eq!(node.stop().code(), Some(0));
}

#[test]
fn a_waiting_command_learns_that_the_node_stops() {
    let node = Node::alone();
    let waiting = node.command(&["space", "fetch", "w", "never", "--timeout", "5m"]);
    let mut waiting = waiting_child(waiting);
    super::harness::until("the fetch waits", || {
        node.cpe(&["mesh", "status", "--json"]).json()["waiting"]
            .as_u64()
            .unwrap()
            >= 1
    });
    assert_eq!(node.stop().code(), Some(0));
    assert_eq!(waiting.wait().unwrap().code(), Some(4));
}

fn waiting_child(mut command: std::process::Command) -> std::process::Child {
    use std::process::Stdio;
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_busy_api_port_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut command = cpe();
    command.args([
        "node",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--api",
        &api,
        "--data",
    ]);
    let ran = Ran::of(command.arg(folder.path()).output().unwrap()).code(1);
    ran.says(&api).says("--api");
}

#[test]
fn a_busy_peer_port_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let mut command = cpe();
    command.args(["node", "--api", "127.0.0.1:0", "--listen"]);
    command
        .arg(format!("/ip4/127.0.0.1/tcp/{port}"))
        .arg("--data")
        .arg(folder.path());
    Ran::of(command.output().unwrap())
        .code(1)
        .says(&port.to_string());
}

#[test]
fn a_second_node_on_the_same_folder_is_refused() {
    let node = Node::alone();
    let mut command = cpe();
    command.args([
        "node",
        "--api",
        "127.0.0.1:0",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--data",
    ]);
    Ran::of(command.arg(node.data()).output().unwrap())
        .code(1)
        .says("data");
}
