//! A node's life: ready line, busy ports, signals, identity.

use std::net::TcpListener;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Node, Ran, cpe};

#[test]
fn the_ready_line_tells_where_everything_is() {
    let node = Node::start(&["--name", "alpha"]);
    assert_eq!(node.ready["ready"], true);
    assert_eq!(node.ready["name"], "alpha");
    let keys: Vec<_> = node.ready.as_object().unwrap().keys().collect();
    let all = ["addresses", "api", "name", "nws", "peer", "ready"];
    assert_eq!(
        keys, all,
        "the gateway's place is there, and null until there is one"
    );
    assert_eq!(node.ready["nws"], serde_json::Value::Null);
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
fn ctrl_c_ends_a_node_with_status_0() {
    let node = Node::alone();
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    let (status, log) = node.end_by(Signal::INT);
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopping"), "{log}");
}

#[test]
fn the_log_is_json_when_asked_for() {
    let by_flag = Node::start(&["--log-format", "json"]);
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0"]);
    let by_environment = Node::run({
        command.env("CPE_LOG_FORMAT", "json");
        command
    });
    for node in [by_flag, by_environment] {
        let (status, log) = node.end_by(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{log}");
        let lines: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        let stopping = |line: &Value| {
            let message = line["fields"]["message"].as_str().unwrap_or_default();
            message.starts_with("stopping") && line["level"] == "INFO"
        };
        assert!(lines.iter().any(stopping), "{log}");
    }
}

#[test]
fn an_ephemeral_node_without_a_folder_leaves_nothing() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let mut command = cpe();
    command.args(["node", "--json", "--ephemeral", "--api", "127.0.0.1:0"]);
    command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.current_dir(folder.path());
    let node = Node::run_as_it_is(command, Arc::clone(&folder));
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    assert_eq!(node.stop().code(), Some(0));
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn an_ephemeral_node_with_a_folder_keeps_who_it_is_and_no_state() {
    let mesh = tempfile::tempdir().unwrap();
    let init = ["mesh", "init", mesh.path().to_str().unwrap()];
    super::harness::run(&init).code(0);
    let key = mesh.path().join("mesh.key");
    let node = Node::start(&["--ephemeral", "--mesh-key", key.to_str().unwrap()]);
    node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    let (peer, folder) = (node.ready["peer"].clone(), node.keep_folder());
    assert_eq!(node.stop().code(), Some(0));
    // The lock, and the number of this life: two with one identity must not be mistaken.
    let kept = ["LOCK", "certificate", "identity", "life"];
    assert_eq!(files(&folder.path().join("data")), kept);

    let mut again = cpe();
    again.args(["node", "--json", "--ephemeral", "--api", "127.0.0.1:0"]);
    again.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--mesh-key"]);
    let node = Node::run_in(
        {
            again.arg(&key);
            again
        },
        folder,
    );
    assert_eq!(node.ready["peer"], peer);
    node.cpe(&["space", "find-try", "w", "x"]).code(3);
}

/// The names in a folder, in order.
fn files(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_unknown_variable_of_the_environment_is_named_with_the_nearest_right_one() {
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0"]);
    command.env("CPE_MESH_BOOTSTRP", "/ip4/127.0.0.1/tcp/1");
    let node = Node::run(command);
    node.logs("CPE_MESH_BOOTSTRP means nothing to cpe: did you mean CPE_MESH_BOOTSTRAP?");

    let show = |name: &str| {
        let mut command = cpe();
        command.args(["config", "show"]).env(name, "1");
        Ran::of(command.output().unwrap()).code(0)
    };
    show("CPE_APY").says("CPE_APY means nothing to cpe: did you mean CPE_API?");
    show("CPE_ANYTHING_ELSE").says("CPE_ANYTHING_ELSE means nothing to cpe: `cpe config show`");
    for known in ["CPE_SKIPPED_TESTS", "CPE_CI_ADVISORIES", "CPE_SEEDS"] {
        assert_eq!(show(known).err, "", "{known}");
    }
}

#[test]
fn a_waiting_command_learns_that_the_node_stops() {
    let node = Node::alone();
    let own = node.own_waiting();
    let waiting = node.command(&["space", "fetch", "w", "never", "--timeout", "5m"]);
    let mut waiting = waiting_child(waiting);
    super::harness::until("the fetch waits", || node.waiting() > own);
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
        .says(&format!("/ip4/127.0.0.1/tcp/{port}"))
        .says("in use")
        .says("--listen");
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
        .says("in use by another process")
        .says(node.data().to_str().unwrap());
}

#[test]
fn a_node_that_cannot_join_says_why_and_leaves_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().to_str().unwrap();
    super::harness::run(&["mesh", "init", key]).code(0);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let key = folder.path().join("mesh.key");
    let key = key.to_str().unwrap();
    let node = Node::start(&["--mesh-key", key, "--bootstrap", &address]);
    node.logs("no node answers at a bootstrap address");
    node.logs(&address);
    for asked in [
        &["space", "find-try", "w", "x"][..],
        &["space", "list"],
        &["actor", "list"],
        &["mesh", "shards"],
    ] {
        node.cpe(asked).code(4).says("has not joined its mesh yet");
    }
    let (_, log) = node.end_by(Signal::TERM);
    assert!(!log.contains("libp2p_kad"), "{log}");
}
