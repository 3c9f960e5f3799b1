//! Many connections, and slow ones: each costs little and disturbs nobody.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use super::{Client, PATIENCE, STRING, alone, door, until};
use crate::harness::{Node, cpe};

/// Connections that do nothing.
const IDLE: usize = 2_000;

#[test]
fn thousands_of_idle_connections_disturb_nobody() {
    let node = alone();
    let mut owner = Client::at(&node);
    owner.status(&["open ws", "w", "1", "no"], "0000");
    let mut idle: Vec<Client> = (0..IDLE).map(|_| Client::at(&node)).collect();
    for n in 0..100 {
        let n = n.to_string();
        owner.status(&["store", "w", "v", STRING, &n], "0000");
        assert_eq!(owner.get(&["fetch", "w", "v"]), Some(n));
    }
    // Each is served as soon as it has something to say.
    for client in idle.iter_mut().step_by(100) {
        client.status(&["use ws", "w", "", "no"], "0000");
    }
}

/// A node that may have 128 files open, and more clients than that; not so many that the system's
/// backlog of those who wait to be accepted, which may be as short as 128, is full.
#[test]
fn clients_that_use_up_their_places_leave_the_node_its_files() {
    let node = cpe();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128; exec \"$@\"", "sh"]);
    command.arg(node.get_program());
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0", "--nws", "127.0.0.1:0"]);
    for (name, value) in node.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let node = Node::run(command);
    node.logs("few open files");
    let mut owner = Client::at(&node);
    owner.status(&["open ws", "w", "1", "no"], "0000");
    let mut idle: Vec<TcpStream> = (0..160)
        .map(|_| TcpStream::connect(door(&node)).unwrap())
        .collect();
    for client in &mut idle {
        client.write_all(b"1112").unwrap();
    }
    // As many as there are places for, with the owner; the others wait to be accepted.
    for client in &mut idle[..63] {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
    }
    node.cpe(&["mesh", "status"]).code(0);
    // The log goes on in a next file, and a large value into one of its own.
    let whole = vec![b'x'; 60_000];
    for _ in 0..200 {
        owner.ask(&[b"store", b"w", b"v", STRING.as_bytes(), &whole]);
        owner.says(b"0000");
    }
    let large = vec![b'x'; 1 << 20];
    owner.ask(&[b"store", b"w", b"large", STRING.as_bytes(), &large]);
    owner.says(b"0000");
    // Places are for whoever waits.
    drop(idle);
    Client::at(&node).status(&["use ws", "w", "", "no", "no"], "0000");
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_connection_costs_a_node_a_few_kib() {
    let node = alone();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap()
    };
    drop((0..IDLE).map(|_| Client::at(&node)).collect::<Vec<_>>());
    let before = resident();
    let mut idle: Vec<Client> = (0..IDLE).map(|_| Client::at(&node)).collect();
    // All have been read from, and what was read has been answered.
    for client in &mut idle {
        client.status(&["use ws", "__default", "", "no"], "0000");
    }
    let kib = resident().saturating_sub(before) / IDLE;
    assert!(kib < 12, "{kib} KiB for each connection");
}

/// Each asks for a large value and takes nothing of it: the others are served.
#[test]
fn readers_that_never_read_keep_nobody_waiting() {
    let node = alone();
    let mut owner = Client::at(&node);
    owner.status(&["open ws", "w", "1", "no"], "0000");
    let large = vec![b'x'; 32 << 20];
    owner.ask(&[b"store", b"w", b"v", STRING.as_bytes(), &large]);
    owner.says(b"0000");
    let mut never: Vec<Client> = (0..50).map(|_| Client::at(&node)).collect();
    for client in &mut never {
        client.status(&["use ws", "w", "", "no"], "0000");
        client.ask(&[b"find", b"w", b"v"]);
    }
    // The heads of all answers are there: all of them are being served.
    for client in &mut never {
        client.read(84);
    }
    owner.status(&["store", "w", "small", STRING, "1"], "0000");
    assert_eq!(owner.get(&["fetch", "w", "small"]).as_deref(), Some("1"));
    owner.ask(&[b"find", b"w", b"v"]);
    assert!(owner.value().unwrap().3 == large);
}

#[test]
fn what_waits_is_not_kept_by_who_went_away() {
    let node = alone();
    let mut owner = Client::at(&node);
    owner.status(&["open ws", "w", "1", "no"], "0000");
    // Each goes without waiting for its answer: a value taken for it goes back.
    for n in 0..50 {
        owner.status(&["store", "w", "v", STRING, &n.to_string()], "0000");
        let mut gone = Client::at(&node);
        gone.status(&["use ws", "w", "", "no"], "0000");
        gone.ask(&[b"fetchTry", b"w", b"v"]);
        gone.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut gone.stream, &mut answer).ok();
        if answer.is_empty() {
            // It got nothing, so it has taken nothing.
            until("the value is there", || {
                owner.get(&["fetchTry", "w", "v"]) == Some(n.to_string())
            });
        }
    }
    assert_eq!(owner.get(&["findTry", "w", "v"]), None);
}
