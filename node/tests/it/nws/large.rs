//! Values that no node holds in memory.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use super::{Client, alone, three};
use crate::harness::{Node, until};

/// Bytes of a large value.
const LARGE: u64 = 64 << 20;

/// Bytes of a value that is larger than what its node may need for it by far, unless the
/// environment asks for another number.
const HUGE: u64 = 256 << 20;

/// Bytes by which a node's memory may grow at most while such a value goes through it.
const GROWTH_MAX: u64 = 40 << 20;

/// Names the number of MiB of the huge value: for trials by hand.
const MIB: &str = "CPE_TEST_LARGE_MIB";

fn huge() -> u64 {
    let wanted = std::env::var(MIB).ok().and_then(|text| text.parse().ok());
    wanted.map_or(HUGE, |mib: u64| mib << 20)
}

/// The bytes of a value from a place on.
fn bytes(from: u64, count: usize) -> Vec<u8> {
    (from..from + count as u64)
        .map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8)
        .collect()
}

const PIECE: usize = 1 << 18;

/// Sends a `store` of a value of this length.
fn send(client: &mut Client, descriptor: &[u8], length: u64) {
    client.send(b"0005");
    for argument in [&b"store"[..], b"w", b"v", descriptor] {
        client.send(format!("{:020}", argument.len()).as_bytes());
        client.send(argument);
    }
    client.send(format!("{length:020}").as_bytes());
    let mut sent = 0;
    while sent < length {
        let piece = bytes(sent, PIECE.min(usize::try_from(length - sent).unwrap()));
        client.stream.write_all(&piece).unwrap();
        sent += piece.len() as u64;
    }
}

/// Reads a value and demands that it is the one that was sent.
fn receive(client: &mut Client, descriptor: &str, length: u64) {
    let head = String::from_utf8(client.read(84)).unwrap();
    assert_eq!(head[..24], format!("0000{descriptor}"));
    assert_eq!(head[64..], format!("{length:020}"));
    let mut got = 0;
    let mut piece = vec![0; PIECE];
    while got < length {
        let count = PIECE.min(usize::try_from(length - got).unwrap());
        client.stream.read_exact(&mut piece[..count]).unwrap();
        assert!(piece[..count] == bytes(got, count), "at {got}");
        got += count as u64;
    }
}

/// The most memory a node has held, and what it holds now.
#[cfg(target_os = "linux")]
fn memory(node: &Node) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    };
    (of("VmHWM:"), of("VmRSS:"))
}

/// From one node of three to another: to the disks of a majority, and fetched from there.
#[test]
#[cfg(target_os = "linux")]
fn a_large_value_streams_through_in_bounded_memory() {
    const RAW: &str = "00000000000050331648";
    let nodes = three();
    let [a, b, _c] = &nodes;
    let (mut from, mut to) = (Client::at(a), Client::at(b));
    from.status(&["open ws", "w", "1", "yes"], "0000");
    to.status(&["use ws", "w", "", "no"], "0000");
    let before = nodes.each_ref().map(|node| memory(node).1);
    let length = huge();
    send(&mut from, RAW.as_bytes(), length);
    from.says(b"0000");
    to.ask(&[b"find", b"w", b"v"]);
    receive(&mut to, RAW, length);
    to.ask(&[b"fetch", b"w", b"v"]);
    receive(&mut to, RAW, length);
    for (node, before) in nodes.iter().zip(before) {
        let growth = memory(node).0.saturating_sub(before);
        println!("{growth} bytes more at most than before, for a value of {length}");
        assert!(growth < GROWTH_MAX, "{growth} bytes more than before");
    }
    to.ask(&[b"fetchTry", b"w", b"v"]);
    assert_eq!(to.value(), None);
}

/// A client that dies in the middle of a value did not get it.
#[test]
fn a_large_value_whose_client_dies_in_the_middle_goes_back() {
    const RAW: &str = "00000000000050331648";
    let node = alone();
    let mut owner = Client::at(&node);
    owner.status(&["open ws", "w", "1", "no"], "0000");
    send(&mut owner, RAW.as_bytes(), LARGE);
    owner.says(b"0000");
    let mut dies = Client::at(&node);
    dies.status(&["use ws", "w", "", "no"], "0000");
    dies.ask(&[b"fetch", b"w", b"v"]);
    dies.read(PIECE);
    drop(dies);
    owner.ask(&[b"fetch", b"w", b"v"]);
    receive(&mut owner, RAW, LARGE);
}

#[test]
fn large_values_are_the_same_for_other_interfaces() {
    let node = alone();
    let mut client = Client::at(&node);
    client.status(&["open ws", "w", "1", "no"], "0000");
    let text = "tea ".repeat(50_000);
    client.status(&["store", "w", "v", super::STRING, &text], "0000");
    assert_eq!(
        node.cpe(&["space", "find", "w", "v"]).out,
        text.clone() + "\n"
    );
    assert_eq!(client.get(&["fetch", "w", "v"]), Some(text.clone()));
    let file = node.folder().join("text");
    std::fs::write(&file, &text).unwrap();
    node.cpe(&["space", "store", "w", "v", "--file", file.to_str().unwrap()])
        .code(0);
    // Bytes that came without a descriptor are JSON, also those that lie apart.
    let got = client.get(&["fetch", "w", "v"]).unwrap();
    let coded = text.len().div_ceil(3) * 4;
    assert_eq!(got.len(), r#"{"bytes":""}"#.len() + coded);
    assert!(
        got.starts_with(r#"{"bytes":"dGVhIHRlYSB0ZWEgdGVh"#),
        "tea tea tea tea"
    );
}

/// Half of a large value and gone: nothing of it stays, and the node goes on.
#[test]
fn half_a_large_value_leaves_nothing() {
    let node = alone();
    let mut client = Client::at(&node);
    client.status(&["open ws", "w", "1", "yes"], "0000");
    client.send(b"0005");
    for argument in [&b"store"[..], b"w", b"v", b"00000000000000000000"] {
        client.send(format!("{:020}", argument.len()).as_bytes());
        client.send(argument);
    }
    client.send(format!("{:020}", 8 << 20).as_bytes());
    client.send(&bytes(0, 4 << 20));
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.demand_closed();
    let mut other = Client::at(&node);
    other.status(&["use ws", "w", "", "no"], "0000");
    other.ask(&[b"findTry", b"w", b"v"]);
    assert_eq!(other.value(), None);
    until("nothing is left on the disk", || {
        bodies(&node.data()) < 1 << 20
    });
}

/// Bytes of the files of bodies.
fn bodies(folder: &std::path::Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sum += bodies(&path);
        } else if path.components().any(|part| part.as_os_str() == "bodies") {
            sum += entry.metadata().map_or(0, |it| it.len());
        }
    }
    sum
}
