//! The original Python client, unmodified, with its own tests: `cargo xtask test` gets both it and
//! Jython, which runs Python 2.

use std::fs::{self, OpenOptions};
use std::io::{Write as _, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::door;
use crate::harness::Node;

/// Names the folder of the client's source distribution.
const CLIENT: &str = "CPE_NWSCLIENT";

/// Where the folder is, or a line for the list of tests that were skipped.
fn client(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(CLIENT) {
        return Some(folder.into());
    }
    if let Some(list) = std::env::var_os("CPE_SKIPPED_TESTS") {
        let mut list = OpenOptions::new()
            .create(true)
            .append(true)
            .open(list)
            .unwrap();
        writeln!(list, "nws::clients::{test}: no jython or no nwsclient here").unwrap();
    }
    None
}

/// Runs one of the client's test programs, or some of its tests, against an address.
fn run(client: &Path, program: &[&str], address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap();
    // A sleigh starts its workers by a script of the client, and that one `python`.
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python");
    fs::write(&python, "#!/bin/sh\nexec jython \"$@\"\n").unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let found = std::env::var_os("PATH").unwrap_or_default();
    let ours = [folder.path().to_owned(), client.join("scripts")];
    let path = std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&found)));
    let output = Command::new("jython")
        .args(program)
        .env("PATH", path.unwrap())
        .env("PYTHONPATH", client)
        .current_dir(client.join("test"))
        .env("JYTHONPATH", client)
        .env("NWS_HOST", host)
        .env("NWS_PORT", port)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{program:?}: {said}\n{out}");
    said
}

/// Listens, and hands each connection on to the next of the nodes.
fn spread(nodes: &[&Node]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let doors: Vec<String> = nodes.iter().map(|node| door(node).to_owned()).collect();
    thread::spawn(move || {
        for (client, door) in listener.incoming().zip(doors.iter().cycle()) {
            let (Ok(client), Ok(node)) = (client, TcpStream::connect(door)) else {
                return;
            };
            client.set_nodelay(true).ok();
            node.set_nodelay(true).ok();
            pass(client.try_clone().unwrap(), node.try_clone().unwrap());
            pass(node, client);
        }
    });
    address
}

/// Passes on what one side sends, and its end.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
}

/// Demands that so many tests ran and all passed.
#[track_caller]
fn all_passed(said: &str, count: usize) {
    assert!(said.contains(&format!("Ran {count} tests")), "{said}");
    assert!(said.trim_end().ends_with("OK"), "{said}");
}

#[test]
fn the_client_s_own_tests_pass_at_one_node() {
    let Some(client) = client("the_client_s_own_tests_pass_at_one_node") else {
        return;
    };
    // The tests store and fetch hundreds of values one by one: each would be a sync of the disk.
    let node = Node::start(&["--nws", "127.0.0.1:0", "--ephemeral"]);
    all_passed(&run(&client, &["test_nws.py"], door(&node)), 26);
    all_passed(&run(&client, &["test_file.py"], door(&node)), 9);
}

#[test]
fn the_client_s_own_tests_pass_when_each_connection_is_to_another_node() {
    let name = "the_client_s_own_tests_pass_when_each_connection_is_to_another_node";
    let Some(client) = client(name) else {
        return;
    };
    let [a, b] = two();
    let address = spread(&[&a, &b]);
    all_passed(&run(&client, &["test_nws.py"], &address), 26);
    all_passed(&run(&client, &["test_file.py"], &address), 9);
}

/// Two nodes that keep their state in memory.
fn two() -> [Node; 2] {
    let memory = ["--nws", "127.0.0.1:0", "--ephemeral"];
    let a = Node::start(&memory);
    let b = a.join(&memory);
    a.sees(2);
    b.sees(2);
    [a, b]
}

/// Each worker is two Java machines: of the client's sleigh tests two are enough.
#[test]
fn a_sleigh_rides_whose_connections_are_each_to_another_node() {
    let Some(client) = client("a_sleigh_rides_whose_connections_are_each_to_another_node") else {
        return;
    };
    let [a, b] = two();
    let tests = ["SleighTest.testString", "SleighTest.testIterables"];
    let program = [&["test_sleigh2.py"][..], &tests].concat();
    all_passed(&run(&client, &program, &spread(&[&a, &b])), 2);
}
