//! The NetWorkSpaces gateway from outside: conversations to the byte, over one node and over three.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::harness::{Node, until};

mod books;
mod clients;
mod large;
mod load;
mod owners;
mod page;
mod scripts;

/// How long an answer may take on a machine that is busy testing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client by hand.
struct Client {
    stream: TcpStream,
}

/// A request of these arguments.
fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("{:04}", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(format!("{:020}", argument.len()).into_bytes());
        bytes.extend(*argument);
    }
    bytes
}

fn door(node: &Node) -> &str {
    node.ready["nws"].as_str().unwrap()
}

impl Client {
    fn at(node: &Node) -> Self {
        Self::greets(node, b"1112")
    }

    fn greets(node: &Node, first: &[u8; 4]) -> Self {
        Self::greets_at(door(node), first)
    }

    fn greets_at(address: &str, first: &[u8; 4]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { stream };
        client.send(first);
        client.says(b"2223");
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn ask(&mut self, arguments: &[&[u8]]) {
        self.send(&request(arguments));
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[track_caller]
    fn says(&mut self, wanted: &[u8]) {
        let got = self.read(wanted.len());
        assert_eq!(
            got.escape_ascii().to_string(),
            wanted.escape_ascii().to_string()
        );
    }

    /// Asks, and demands a status.
    #[track_caller]
    fn status(&mut self, arguments: &[&str], wanted: &str) {
        let arguments: Vec<_> = arguments.iter().map(|text| text.as_bytes()).collect();
        self.ask(&arguments);
        self.says(wanted.as_bytes());
    }

    /// Reads a value in the long form: its descriptor, variable id, index and payload; none for a
    /// miss or a refusal.
    #[track_caller]
    fn value(&mut self) -> Option<(u64, String, u64, Vec<u8>)> {
        let head = String::from_utf8(self.read(4 + 20 + 20 + 20 + 20)).unwrap();
        let number = |from: usize| head[from..from + 20].parse::<u64>().unwrap();
        let payload = self.read(usize::try_from(number(64)).unwrap());
        if &head[..4] == "0001" {
            let nothing = format!("0001{:020}{:20}{:020}{:020}", 0, "", 0, 0);
            assert_eq!(head, nothing);
            return None;
        }
        assert_eq!(&head[..4], "0000");
        Some((number(4), head[24..44].to_owned(), number(44), payload))
    }

    /// Asks for a value and returns its payload.
    #[track_caller]
    fn get(&mut self, arguments: &[&str]) -> Option<String> {
        let arguments: Vec<_> = arguments.iter().map(|text| text.as_bytes()).collect();
        self.ask(&arguments);
        let (.., payload) = self.value()?;
        Some(String::from_utf8(payload).unwrap())
    }

    /// One step of an iteration: blank for the first.
    #[track_caller]
    fn next(&mut self, how: &str, cookie: &mut (String, u64)) -> Option<String> {
        let (id, index) = (format!("{:20}", cookie.0), format!("{:020}", cookie.1));
        self.ask(&[how.as_bytes(), b"w", b"v", id.as_bytes(), index.as_bytes()]);
        let (_, id, index, payload) = self.value()?;
        *cookie = (id, index);
        Some(String::from_utf8(payload).unwrap())
    }

    /// Demands that the other side closes.
    #[track_caller]
    fn demand_closed(mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest.escape_ascii().to_string(), ""),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

const STRING: &str = "00000000000000000001";

/// A node with a gateway.
fn alone() -> Node {
    Node::start(&["--nws", "127.0.0.1:0"])
}

fn three() -> [Node; 3] {
    let nws = ["--nws", "127.0.0.1:0"];
    let a = Node::start(&[&["--name", "a"][..], &nws].concat());
    let b = a.join(&[&["--name", "b"][..], &nws].concat());
    let c = a.join(&[&["--name", "c"][..], &nws].concat());
    for node in [&a, &b, &c] {
        node.sees(3);
    }
    [a, b, c]
}

/// Waits until each shard that was ever used has a home on three nodes.
fn three_homes_for_everything(node: &Node) {
    until("three homes for everything", || {
        let shards = node.cpe(&["mesh", "shards", "--json"]).json();
        let shards = shards.as_array().unwrap().clone();
        shards
            .iter()
            .all(|shard| shard["members"].as_array().unwrap().len() == 3)
    });
}

/// A conversation with clients at these nodes: the same over one node and over three.
fn converse(nodes: &[&Node]) {
    let at = |n: usize| nodes[n % nodes.len()];
    let (mut a, mut b, mut c) = (Client::at(at(0)), Client::at(at(1)), Client::at(at(2)));

    // Nothing can be done to a workspace that was not opened.
    a.status(&["store", "w", "v", STRING, "x"], "0001");
    a.status(&["declare var", "w", "v", "fifo"], "0001");
    assert_eq!(a.get(&["findTry", "w", "v"]), None);
    a.status(&["open ws", "w", "12", "no", "no"], "0001");
    a.status(&["open ws", "w", "12", "no"], "0000");
    b.status(&["use ws", "w", "", "no"], "0000");
    c.status(&["open ws", "w", "13", "no"], "0000");

    // Descriptor and payload to the bit, in both forms of a reply.
    let payload: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let descriptor = b"00000000000050331648";
    a.ask(&[b"store", b"w", b"raw", descriptor, &payload]);
    a.says(b"0000");
    b.ask(&[b"find", b"w", b"raw"]);
    let (got, _, index, bytes) = b.value().unwrap();
    assert_eq!((got, index), (50_331_648, 0));
    assert!(bytes == payload);
    let mut old = Client::greets(at(1), b"1111");
    old.status(&["use ws", "w", "", "no"], "0000");
    old.ask(&[b"fetch", b"w", b"raw"]);
    old.says(format!("0000{}{:020}", "00000000000050331648", payload.len()).as_bytes());
    assert!(old.read(payload.len()) == payload);
    old.ask(&[b"fetchTry", b"w", b"raw"]);
    old.says(format!("0001{:020}{:020}", 0, 0).as_bytes());

    // Modes.
    for (mode, order) in [
        ("fifo", vec!["1", "2", "3"]),
        ("lifo", vec!["3", "2", "1"]),
        ("single", vec!["3"]),
        ("garbage", vec!["1", "2", "3"]),
    ] {
        a.status(&["declare var", "w", mode, mode], "0000");
        for (client, value) in [(&mut a, "1"), (&mut b, "2"), (&mut c, "3")] {
            client.status(&["store", "w", mode, STRING, value], "0000");
        }
        for value in order {
            assert_eq!(b.get(&["find", "w", mode]).as_deref(), Some(value));
            assert_eq!(c.get(&["fetchTry", "w", mode]).as_deref(), Some(value));
        }
        assert_eq!(a.get(&["fetchTry", "w", mode]), None);
        a.status(&["delete var", "w", mode], "0000");
        b.status(&["delete var", "w", mode], "0001");
    }
    a.status(&["declare var", "w", "m", "multi"], "0000");
    b.status(&["declare var", "w", "m", "multi"], "0000");
    b.status(&["declare var", "w", "m", "fifo"], "0001");

    // Iterations.
    for value in ["0", "1", "2", "3"] {
        a.status(&["store", "w", "v", STRING, value], "0000");
    }
    let (mut finds, mut fetches) = Default::default();
    assert_eq!(b.next("ifindTry", &mut finds).as_deref(), Some("0"));
    assert_eq!(finds.1, 0, "indexes begin with 0");
    assert_eq!(c.next("ifetchTry", &mut fetches).as_deref(), Some("0"));
    assert_eq!(c.next("ifetchTry", &mut fetches).as_deref(), Some("1"));
    assert_eq!(fetches, (finds.0.clone(), 1));
    assert_eq!(b.next("ifind", &mut finds).as_deref(), Some("2"));
    assert_eq!(b.next("ifind", &mut finds).as_deref(), Some("3"));
    assert_eq!(finds.1, 3);
    assert_eq!(b.next("ifindTry", &mut finds), None);
    a.status(&["store", "w", "v", STRING, "4"], "0000");
    assert_eq!(b.next("ifindTry", &mut finds).as_deref(), Some("4"));
    let mut foreign = ("7777".to_owned(), 0);
    assert_eq!(b.next("ifind", &mut foreign), None, "another variable's id");
    a.status(&["delete var", "w", "v"], "0000");
    assert_eq!(b.next("ifind", &mut finds), None, "that life is over");
    a.status(&["declare var", "w", "l", "lifo"], "0000");
    a.status(&["store", "w", "l", STRING, "x"], "0000");
    b.ask(&[b"ifind", b"w", b"l", &[b' '; 20], &[b'0'; 20]]);
    assert_eq!(b.value(), None, "no order to go by");
    a.status(&["delete var", "w", "v"], "0000");
    a.status(&["delete var", "w", "l"], "0000");

    // What waits gets a copy first, then who waited longest takes; a deletion tells the others.
    a.ask(&[b"fetch", b"w", b"q"]);
    until("the fetch is listed", || {
        let mut client = Client::at(at(0));
        client.status(&["use ws", "w", "", "no"], "0000");
        let listed = client.get(&["list vars", "w"]).unwrap();
        listed.contains("q\t0\t1\t0\tunknown")
    });
    b.ask(&[b"find", b"w", b"q"]);
    until("the find is listed", || {
        let mut client = Client::at(at(1));
        client.status(&["use ws", "w", "", "no"], "0000");
        client
            .get(&["list vars", "w"])
            .unwrap()
            .contains("\t1\tunknown")
    });
    c.status(&["store", "w", "q", STRING, "seven"], "0000");
    for waiting in [&mut a, &mut b] {
        assert_eq!(waiting.value().unwrap().3, b"seven");
    }
    assert_eq!(c.get(&["fetchTry", "w", "q"]), None);
    assert_eq!(
        c.get(&["list vars", "w"]).unwrap(),
        "m\t0\t0\t0\tmulti\nq\t0\t0\t0\tfifo\nraw\t0\t0\t0\tfifo"
    );
    a.ask(&[b"fetch", b"w", b"q"]);
    b.ask(&[b"ifind", b"w", b"q", &[b' '; 20], &[b'0'; 20]]);
    until("both wait", || {
        let counts = [0, 1].map(|n| {
            let mut client = Client::at(at(n));
            client.status(&["use ws", "w", "", "no"], "0000");
            client.get(&["list vars", "w"]).unwrap()
        });
        counts[0].contains("q\t0\t1\t") && counts[1].contains("\t1\tfifo")
    });
    c.status(&["delete ws", "w"], "0000");
    assert_eq!(a.value(), None);
    assert_eq!(b.value(), None);

    // Who opened the old instance is refused until it opens the name again.
    a.status(&["store", "w", "new", STRING, "x"], "0001");
    c.status(&["delete ws", "w"], "0001");
    b.status(&["open ws", "w", "14", "yes"], "0000");
    a.status(&["store", "w", "new", STRING, "x"], "0001");
    assert_eq!(c.get(&["findTry", "w", "new"]), None);
    assert_eq!(c.get(&["list vars", "w"]), None);
    a.status(&["use ws", "w", "", "no"], "0000");
    assert_eq!(a.get(&["list vars", "w"]).unwrap(), "");
    a.status(&["store", "w", "new", STRING, "x"], "0000");

    // Listings.
    let peer = b.stream.local_addr().unwrap();
    let line = |mark: char| format!("{mark}w\t{peer} (14)\tTrue\t1\tnew\n");
    let default = " __default\t[system]\tFalse\t0\t\n";
    assert_eq!(
        b.get(&["list wss"]).unwrap(),
        format!("{default}{}", line('>'))
    );
    assert_eq!(a.get(&["list wss", "w"]).unwrap(), line(' '));
    assert_eq!(a.get(&["list wss", "nothing"]).unwrap(), "");
    a.status(&["delete ws", "__default"], "0001");

    // Names that nobody has yet.
    let one = a.get(&["mktemp ws", "x%dy"]).unwrap();
    let two = b.get(&["mktemp ws"]).unwrap();
    assert!(one.starts_with('x') && one.ends_with('y') && two.starts_with("__ws__"));
    assert_eq!(a.get(&["mktemp ws", "x"]), None);
    let listed = c.get(&["list wss"]).unwrap();
    assert!(
        listed.contains(&format!(" {one}\t\tFalse\t0\t\n")),
        "{listed}"
    );
    for name in [one, two] {
        c.status(&["delete ws", &name], "0000");
    }

    // An owner's end is the end of what is not kept.
    let mut owner = Client::at(at(0));
    owner.status(&["open ws", "mine", "1", "no"], "0000");
    owner.status(&["open ws", "kept", "1", "yes"], "0000");
    drop(owner);
    until("it is gone", || {
        c.get(&["list wss", "mine"]).unwrap().is_empty()
    });
    assert!(!c.get(&["list wss", "kept"]).unwrap().is_empty());
    for name in ["kept", "w"] {
        c.status(&["delete ws", name], "0000");
    }
}

#[test]
fn a_conversation_is_to_the_byte_over_one_node() {
    converse(&[&alone()]);
}

#[test]
fn a_conversation_is_to_the_byte_over_three_nodes() {
    let [a, b, c] = three();
    converse(&[&a, &b, &c]);
}

#[test]
fn other_interfaces_and_clients_see_each_other_s_values() {
    let node = alone();
    let mut client = Client::at(&node);
    client.status(&["open ws", "w", "1", "no"], "0000");
    client.status(&["store", "w", "x", STRING, "tea for two"], "0000");
    assert_eq!(node.cpe(&["space", "find", "w", "x"]).out, "tea for two\n");
    node.cpe(&["space", "store", "w", "x", "\"coffee\""])
        .code(0);
    node.cpe(&["space", "store", "w", "x", "[1,{\"a\":null}]"])
        .code(0);
    client.ask(&[b"fetch", b"w", b"x"]);
    assert_eq!(client.value().unwrap().3, b"tea for two");
    client.ask(&[b"fetch", b"w", b"x"]);
    let (descriptor, _, index, payload) = client.value().unwrap();
    assert_eq!((descriptor, index, payload), (1, 1, b"coffee".to_vec()));
    assert_eq!(
        client.get(&["fetch", "w", "x"]).as_deref(),
        Some("[1,{\"a\":null}]")
    );
    // Stored before any client heard of the variable.
    node.cpe(&["space", "store", "w", "y", "1"]).code(0);
    assert_eq!(
        client.get(&["list vars", "w"]).unwrap(),
        "x\t0\t0\t0\tfifo\ny\t1\t0\t0\tfifo"
    );
    assert_eq!(client.get(&["fetch", "w", "y"]).as_deref(), Some("1"));
    client.ask(&[b"fetch", b"w", b"z"]);
    node.cpe(&["space", "store", "w", "z", "late"]).code(0);
    assert_eq!(client.value().unwrap().3, b"late");
}

#[test]
fn garbage_closes_its_connection_and_disturbs_nobody() {
    let node = alone();
    let mut bystander = Client::at(&node);
    bystander.status(&["open ws", "w", "1", "no"], "0000");
    bystander.ask(&[b"fetch", b"w", b"v"]);
    for garbage in [
        &b"0000"[..],
        b"9999",
        b"-001",
        b"abcd",
        b"0001-0000000000000000001",
        b"000199999999999999999999",
        b"000100000000000000000004ping",
    ] {
        let mut client = Client::at(&node);
        client.send(garbage);
        client.demand_closed();
    }
    // A request while another one waits.
    let mut client = Client::at(&node);
    client.status(&["use ws", "w", "", "no"], "0000");
    client.ask(&[b"fetch", b"w", b"other"]);
    client.ask(&[b"list wss"]);
    client.demand_closed();
    // Half a request, and gone.
    Client::at(&node).send(b"0002000000000000");
    let mut client = Client::at(&node);
    client.status(&["use ws", "w", "", "no"], "0000");
    // Requests one after the other without waiting for the answers are in order.
    client.ask(&[b"store", b"w", b"other", STRING.as_bytes(), b"1"]);
    client.ask(&[b"fetch", b"w", b"other"]);
    client.ask(&[b"store", b"w", b"v", STRING.as_bytes(), b"2"]);
    client.says(b"0000");
    assert_eq!(client.value().unwrap().3, b"1", "nobody took it");
    client.says(b"0000");
    assert_eq!(bystander.value().unwrap().3, b"2");
}

#[test]
fn of_many_who_wait_each_gets_one_value_and_who_leaves_takes_none() {
    const CLIENTS: usize = 500;
    let node = alone();
    let mut master = Client::at(&node);
    master.status(&["open ws", "w", "1", "no"], "0000");
    let mut waiting: Vec<Client> = (0..CLIENTS).map(|_| Client::at(&node)).collect();
    for client in &mut waiting {
        client.status(&["use ws", "w", "", "no"], "0000");
        client.ask(&[b"fetch", b"w", b"v"]);
    }
    until("all wait", || {
        let listed = master.get(&["list vars", "w"]).unwrap();
        listed == format!("v\t0\t{CLIENTS}\t0\tunknown")
    });
    let gone = waiting.split_off(CLIENTS / 2);
    drop(gone);
    until("half have left", || {
        let listed = master.get(&["list vars", "w"]).unwrap();
        listed == format!("v\t0\t{}\t0\tunknown", CLIENTS / 2)
    });
    for n in 0..CLIENTS / 2 {
        master.status(&["store", "w", "v", STRING, &n.to_string()], "0000");
    }
    let values = waiting.iter_mut().map(|client| client.value().unwrap().3);
    let mut values: Vec<usize> = values
        .map(|value| String::from_utf8(value).unwrap().parse().unwrap())
        .collect();
    values.sort_unstable();
    assert_eq!(values, (0..CLIENTS / 2).collect::<Vec<_>>());
}

/// What waits is parked at the home of its variable, and goes on to the next leader.
#[test]
fn a_blocked_fetch_survives_the_death_of_its_home_s_leader() {
    let nodes = three();
    let mut owner = Client::at(&nodes[0]);
    owner.status(&["open ws", "w", "1", "yes"], "0000");
    // A variable that is led by another node than the client's.
    let variable = |n: u32| format!("v{n}");
    for n in 0..8 {
        owner.status(&["declare var", "w", &variable(n), "fifo"], "0000");
    }
    three_homes_for_everything(&nodes[0]);
    let shards = nodes[0].cpe(&["mesh", "shards", "--json"]).json();
    let variables = nodes[0].cpe(&["space", "list", "w", "--json"]).json();
    let names = nodes
        .each_ref()
        .map(|node| node.cpe(&["mesh", "status", "--json"]).json()["node"].clone());
    let leads = |name: &str| {
        let variables = variables.as_array().unwrap();
        let variable = variables.iter().find(|it| it["name"] == name).unwrap();
        let shards = shards.as_array().unwrap();
        let shard = shards.iter().find(|it| it["shard"] == variable["shard"]);
        let leader = shard.unwrap()["leader"].clone();
        names.iter().position(|name| *name == leader)
    };
    let found = (0..8).find_map(|n| Some((variable(n), leads(&variable(n)).filter(|it| *it > 0)?)));
    let (name, leader) = found.expect("another node than the first leads one of eight");
    owner.ask(&[b"fetch", b"w", name.as_bytes()]);
    until("the fetch waits", || {
        let mut other = Client::at(&nodes[0]);
        other.status(&["use ws", "w", "", "no"], "0000");
        let listed = other.get(&["list vars", "w"]).unwrap();
        listed.contains(&format!("{name}\t0\t1\t0\t"))
    });
    let [a, b, c] = nodes;
    let (dead, alive) = if leader == 1 { (b, c) } else { (c, b) };
    dead.end_by(Signal::KILL);
    let mut other = Client::at(&alive);
    until("a store is decided again", || {
        other.ask(&[b"use ws", b"w", b"", b"no"]);
        other.read(4) == b"0000"
    });
    until("the value is stored", || {
        other.ask(&[b"store", b"w", name.as_bytes(), STRING.as_bytes(), b"late"]);
        other.read(4) == b"0000"
    });
    assert_eq!(owner.value().unwrap().3, b"late");
    assert_eq!(owner.get(&["fetchTry", "w", &name]), None, "taken once");
    drop(a);
}

#[test]
fn without_a_majority_clients_are_refused_and_the_log_says_why() {
    let [a, b, c] = three();
    let mut client = Client::at(&a);
    client.status(&["open ws", "w", "1", "no"], "0000");
    client.status(&["store", "w", "v", STRING, "x"], "0000");
    three_homes_for_everything(&a);
    b.end_by(Signal::KILL);
    c.end_by(Signal::KILL);
    assert_eq!(client.get(&["fetchTry", "w", "v"]), None);
    a.logs("could not decide");
    client.status(&["store", "w", "v", STRING, "y"], "0001");
}

#[test]
fn the_ready_line_names_the_gateway_and_off_is_off() {
    let on = alone();
    assert!(door(&on).starts_with("127.0.0.1:"));
    let off = Node::start(&["--nws", "off"]);
    assert_eq!(off.ready["nws"], json!(null));
    let taken = Node::start(&["--nws", "127.0.0.1:0"]);
    let ran = super::harness::run(&["node", "--ephemeral", "--nws", door(&taken)]).code(1);
    ran.says("--nws");
}
