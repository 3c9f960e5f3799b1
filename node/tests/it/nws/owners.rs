//! Workspaces whose owner's connection, or node, ends.

use std::thread;

use rustix::process::Signal;

use super::{Client, STRING, door, three, three_homes_for_everything, until};
use crate::harness::{Node, cpe};
use crate::minority::Three;
use crate::namespaces::{Hosts, in_namespaces, skipped};

/// A client of this node opens a workspace as its owner, and stores a value.
fn owner(node: &Node) -> Client {
    let mut owner = Client::at(node);
    owner.status(&["open ws", "mine", "1", "no"], "0000");
    owner.status(&["store", "mine", "v", STRING, "x"], "0000");
    owner
}

/// A client of another node uses it.
fn guest(node: &Node) -> Client {
    let mut guest = Client::at(node);
    guest.status(&["use ws", "mine", "", "no"], "0000");
    assert_eq!(guest.get(&["find", "mine", "v"]).as_deref(), Some("x"));
    guest
}

/// Waits until a node lists it no more, and demands that its guest is refused.
fn purged(node: &Node, mut guest: Client) {
    let mut lister = Client::at(node);
    until("it is purged", || {
        // Starting a process paces the loop.
        node.cpe(&["mesh", "status"]);
        lister.get(&["list wss", "mine"]) == Some(String::new())
    });
    assert_eq!(guest.get(&["findTry", "mine", "v"]), None);
    guest.status(&["store", "mine", "v", STRING, "x"], "0001");
    guest.status(&["use ws", "mine", "", "no", "no"], "0001");
}

#[test]
fn what_clients_of_a_dead_node_owned_is_purged_by_the_others() {
    let [a, b, c] = three();
    let _owner = owner(&b);
    let guest = guest(&a);
    three_homes_for_everything(&a);
    b.end_by(Signal::KILL);
    purged(&c, guest);
}

/// The founder is the home of everything, as it is while there are two.
#[test]
fn of_two_hosts_the_one_that_lives_purges_what_clients_of_the_other_owned() {
    let test = "of_two_hosts_the_one_that_lives_purges_what_clients_of_the_other_owned";
    let body = || {
        let hosts = Hosts::new("o", &["a", "b"]);
        let a = hosts.gateway("a", None);
        let b = hosts.gateway("b", Some(&a));
        hosts.enter("a");
        a.sees(2);
        hosts.enter("b");
        let _owner = owner(&b);
        hosts.enter("a");
        let guest = guest(&a);
        // The whole host goes, and says nothing more to anybody.
        hosts.part(1, true);
        b.end_by(Signal::KILL);
        purged(&a, guest);
    };
    if let Err(why) = in_namespaces(&format!("nws::owners::{test}"), body) {
        skipped(test, &why);
    }
}

/// The owner's node lives and is parted from the others: they cannot tell it from a dead one. When
/// it is back its clients are told like those of a server that was restarted.
#[test]
fn what_clients_of_a_node_that_is_cut_off_owned_is_purged_and_they_are_refused() {
    let parted = Three::start();
    let [a, b, c] = &parted.nodes;
    let mut owner = owner(c);
    let guest = guest(a);
    three_homes_for_everything(a);
    parted.cut();
    // What it cannot decide is refused, and is not done later.
    owner.status(&["store", "mine", "v", STRING, "lost"], "0001");
    assert_eq!(owner.get(&["fetchTry", "mine", "v"]), None);
    purged(b, guest);
    parted.heal();
    until("the owner is refused because its workspace is gone", || {
        c.cpe(&["mesh", "status"]);
        owner.ask(&[b"store", b"mine", b"v", STRING.as_bytes(), b"y"]);
        assert_eq!(owner.read(4), b"0001");
        owner.get(&["list wss", "mine"]) == Some(String::new())
    });
    owner.status(&["open ws", "mine", "1", "no"], "0000");
    assert_eq!(owner.get(&["list vars", "mine"]).as_deref(), Some(""));
    owner.status(&["store", "mine", "v", STRING, "y"], "0000");
    let mut other = Client::at(a);
    other.status(&["use ws", "mine", "", "no"], "0000");
    assert_eq!(other.get(&["fetch", "mine", "v"]).as_deref(), Some("y"));
    assert_eq!(other.get(&["fetchTry", "mine", "v"]), None, "stored once");
}

/// Its disk is intact, so it comes back in the same life: only it can tell that the owner is gone.
#[test]
fn a_node_that_comes_back_without_a_gateway_purges_what_clients_of_its_last_run_owned() {
    let node = Node::start(&["--nws", "127.0.0.1:0"]);
    let owner = owner(&node);
    let folder = node.keep_folder();
    node.end_by(Signal::KILL);
    drop(owner);
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0", "--nws", "off"]);
    let node = Node::run_in(command, folder);
    until("it is purged", || {
        node.cpe(&["space", "find-try", "mine", "v"]).code == Some(3)
    });
}

/// What was there before belongs to whoever stored it.
#[test]
fn a_workspace_that_others_stored_to_first_outlives_the_client_that_opens_it() {
    let node = Node::start(&["--nws", "127.0.0.1:0"]);
    node.cpe(&["space", "store", "greetings", "hello", "hi"])
        .code(0);
    let mut client = Client::at(&node);
    client.status(&["open ws", "greetings", "1", "no"], "0000");
    // Purged after the other, if that is.
    client.status(&["open ws", "mine", "1", "no"], "0000");
    assert_eq!(
        client.get(&["list wss", "greetings"]).as_deref(),
        Some(" greetings\t\tTrue\t1\thello\n")
    );
    drop(client);
    let mut lister = Client::at(&node);
    until("the client's own workspace is gone", || {
        node.cpe(&["mesh", "status"]);
        lister.get(&["list wss", "mine"]) == Some(String::new())
    });
    lister.status(&["use ws", "greetings", "", "no", "no"], "0000");
    assert_eq!(
        lister.get(&["fetchTry", "greetings", "hello"]).as_deref(),
        Some("hi")
    );
}

#[test]
fn who_opens_a_persistent_workspace_next_after_its_owner_has_gone_owns_it() {
    let node = Node::start(&["--nws", "127.0.0.1:0"]);
    let mut first = Client::at(&node);
    first.status(&["open ws", "kept", "1", "yes"], "0000");
    drop(first);
    let mut next = Client::at(&node);
    until("the next one owns it", || {
        node.cpe(&["mesh", "status"]);
        next.status(&["open ws", "kept", "2", "no"], "0000");
        next.get(&["list wss", "kept"]).unwrap().starts_with('>')
    });
}

#[test]
fn names_that_are_too_long_are_refused() {
    let node = Node::start(&["--nws", "127.0.0.1:0"]);
    let mut client = Client::at(&node);
    let name = |first: char, bytes: usize| first.to_string().repeat(bytes);
    for (name, answer) in [
        (name('w', 256), "0000"),
        (name('w', 257), "0001"),
        (name('#', 125), "0000"),
        (name('#', 126), "0001"),
    ] {
        client.status(&["open ws", &name, "1", "no"], answer);
    }
    client.status(&["open ws", "w", "1", "no"], "0000");
    client.status(&["store", "w", &name('v', 256), STRING, "x"], "0000");
    client.status(&["store", "w", &name('v', 257), STRING, "x"], "0001");
    assert_eq!(client.get(&["fetch", "w", &name('v', 257)]), None);
}

/// Ten clients of a node wait in each of some variables, and the node is killed: what is stored
/// once the others know is for those who live.
#[test]
fn who_waited_at_a_killed_node_takes_nothing_that_is_stored_afterwards() {
    const VARIABLES: [&str; 4] = ["v0", "v1", "v2", "v3"];
    let [a, b, c] = three();
    let mut master = Client::at(&a);
    master.status(&["use ws", "tasks", "", "no"], "0000");
    for variable in VARIABLES {
        master.status(&["declare var", "tasks", variable, "fifo"], "0000");
    }
    three_homes_for_everything(&a);
    let mut workers = Vec::new();
    for _ in 0..10 {
        for variable in VARIABLES {
            let mut worker = Client::at(&c);
            worker.status(&["use ws", "tasks", "", "no"], "0000");
            worker.ask(&[b"fetch", b"tasks", variable.as_bytes()]);
            workers.push(worker);
        }
    }
    let mut lister = Client::at(&c);
    lister.status(&["use ws", "tasks", "", "no"], "0000");
    until("all wait", || {
        let listed = lister.get(&["list vars", "tasks"]).unwrap();
        let waits = |variable: &str| listed.contains(&format!("{variable}\t0\t10\t0\tfifo"));
        VARIABLES.into_iter().all(waits)
    });
    c.end_by(Signal::KILL);
    for node in [&a, &b] {
        until("its link is gone", || {
            let peers = node.cpe(&["mesh", "peers", "--json"]).json();
            let c = |peer: &&serde_json::Value| peer["name"] == "c";
            let c = peers.as_array().unwrap().iter().find(c);
            c.is_none_or(|c| c["linked"] == false)
        });
    }
    let mut other = Client::at(&b);
    other.status(&["use ws", "tasks", "", "no"], "0000");
    for variable in VARIABLES {
        for n in 0..10 {
            let n = n.to_string();
            until("it is stored", || {
                master.ask(&[
                    b"store",
                    b"tasks",
                    variable.as_bytes(),
                    STRING.as_bytes(),
                    n.as_bytes(),
                ]);
                master.read(4) == b"0000"
            });
            assert_eq!(other.get(&["fetch", "tasks", variable]), Some(n));
        }
    }
}

#[test]
fn a_node_that_comes_back_purges_what_clients_of_its_last_run_owned() {
    let gateway = ["--nws", "127.0.0.1:0"];
    let node = Node::start(&gateway);
    let owner = owner(&node);
    let folder = node.keep_folder();
    node.end_by(Signal::KILL);
    drop(owner);
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0"]).args(gateway);
    let node = Node::run_in(command, folder);
    let mut lister = Client::at(&node);
    until("it is purged", || {
        node.cpe(&["mesh", "status"]);
        lister.get(&["list wss", "mine"]) == Some(String::new())
    });
    let left = node.cpe(&["space", "fetch-try", "mine", "v", "--timeout", "20s"]);
    left.code(3);
}

#[test]
fn a_node_that_stops_in_order_purges_what_its_clients_owned() {
    let [a, b, _c] = three();
    let owner = owner(&b);
    let guest = guest(&a);
    let stopping = thread::spawn(move || b.stop());
    owner.demand_closed();
    purged(&a, guest);
    assert!(stopping.join().unwrap().success());
}

impl Hosts {
    /// A node with a gateway on a host, of the mesh of another.
    fn gateway(&self, host: &str, other: Option<&Node>) -> Node {
        let mut args = vec!["--nws".to_owned(), "127.0.0.1:0".to_owned()];
        if let Some(other) = other {
            let key = other.data().join("mesh.key");
            args.extend(["--mesh-key".to_owned(), key.to_str().unwrap().to_owned()]);
            args.extend(["--bootstrap".to_owned(), other.address().to_owned()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let node = self.start(host, &args);
        assert!(door(&node).starts_with("127.0.0.1:"));
        node
    }
}
