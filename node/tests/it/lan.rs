//! The three files of `configs/lan-of-three`, and members that go and come back.

use std::fs;
use std::path::Path;

use super::harness::{Node, cpe, run};

/// The address and port that each file has for its own machine.
const LISTEN: [&str; 2] = ["/ip4/0.0.0.0/tcp/4710", "/ip4/0.0.0.0/udp/4710/quic-v1"];

/// Starts a node with one of the three files, its addresses replaced.
fn start(folder: &Path, name: &str, addresses: &[(&str, &str)]) -> Node {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/lan-of-three");
    let file = format!("{name}.toml");
    let mut text = fs::read_to_string(shipped.join(&file)).unwrap();
    let [tcp, quic] = LISTEN;
    let own = [
        (tcp, "/ip4/127.0.0.1/tcp/0"),
        (quic, "/ip4/127.0.0.1/udp/0/quic-v1"),
    ];
    for (there, here) in own.iter().chain(addresses) {
        assert!(text.contains(there), "{there} is not in {text}");
        text = text.replace(there, here);
    }
    let path = folder.join(&file);
    fs::write(&path, text).unwrap();
    let mut command = cpe();
    command.args(["node", "--json", "--api", "127.0.0.1:0", "--config"]);
    command.arg(path);
    Node::run(command)
}

#[test]
fn the_three_files_make_one_mesh() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run(&["mesh", "init", folder.to_str().unwrap()]).code(0);
    let [host_a, host_b, host_c] = [11, 12, 13].map(|n| format!("/ip4/192.168.1.{n}/tcp/4710"));
    let nobody = "/ip4/127.0.0.1/tcp/1";

    let a = start(folder, "a", &[]);
    let b = start(folder, "b", &[(&host_a, a.address()), (&host_c, nobody)]);
    // c joins by b: each of the two addresses is enough.
    let c = start(folder, "c", &[(&host_a, nobody), (&host_b, b.address())]);
    for (node, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        assert_eq!(node.ready["name"], name);
        node.sees(3);
    }
    a.cpe(&["space", "store", "crowd", "hello", "world"])
        .code(0);
    let found = c.cpe(&["space", "find", "crowd", "hello"]).code(0).out;
    assert_eq!(found, "world\n");
}

#[test]
fn a_founder_that_stopped_is_found_again() {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&["--name", "b"]);
    a.sees(2);
    b.sees(2);
    let (folder, address) = (a.keep_folder(), a.address().to_owned());
    assert_eq!(a.stop().code(), Some(0));

    // On the same port, and it seeks nobody: b has to dial.
    let listen = address.split("/p2p/").next().unwrap();
    let mut again = cpe();
    again.args(["node", "--json", "--api", "127.0.0.1:0"]);
    again.args(["--name", "a", "--listen", listen]);
    let a = Node::run_in(again, folder);
    assert_eq!(a.address(), address);
    a.sees(2);
    b.sees(2);
    b.cpe(&["space", "store", "w", "x", "1"]).code(0);
    assert_eq!(a.cpe(&["space", "fetch", "w", "x"]).code(0).out, "1\n");
}

#[test]
fn two_meshes_of_one_key_say_what_to_do_when_they_meet() {
    let folder = tempfile::tempdir().unwrap();
    run(&["mesh", "init", folder.path().to_str().unwrap()]).code(0);
    let key = folder.path().join("mesh.key");
    let key = key.to_str().unwrap();
    let a = Node::start(&["--mesh-key", key]);
    // No bootstrap address: it founds another.
    let b = Node::start(&["--mesh-key", key]);
    let folder = b.keep_folder();
    assert_eq!(b.stop().code(), Some(0));

    let mut again = cpe();
    again.args(["node", "--json", "--api", "127.0.0.1:0", "--mesh-key", key]);
    again.args([
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--bootstrap",
        a.address(),
    ]);
    let b = Node::run_in(again, folder);
    let founder = |node: &Node| {
        let status = node.cpe(&["mesh", "status", "--json"]).json();
        status["node"].as_str().unwrap().to_owned()
    };
    for (node, other) in [(&a, &b), (&b, &a)] {
        node.logs(&format!("of the same key that {}", founder(other)));
        node.logs("with a bootstrap address of the other and an empty data folder");
    }
}
