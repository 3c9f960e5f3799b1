//! What a node answers that is parted from the majority of a home (the table in
//! `docs/guarantees.md`, G6), in the words of the HTTP API and of the command line.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::harness::{Node, cpe, until};
use super::homes::groups_of_three;
use super::leases::{answer, post};

const WORKSPACE: &str = "w";

/// Three nodes that can be parted. All shards have home groups of three.
pub(crate) struct Three {
    pub(crate) nodes: [Node; 3],
    folder: tempfile::TempDir,
}

impl Three {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut nodes: Vec<Node> = Vec::new();
        for name in ["a", "b", "c"] {
            let file = folder.path().join(name);
            std::fs::write(&file, "").unwrap();
            let mut command = cpe();
            command.args(["node", "--json", "--name", name, "--api", "127.0.0.1:0"]);
            command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--shards", "16"]);
            command.arg("--test-blocks").arg(file).args(flags);
            // Workers wait in takes: only those of this test are to be counted.
            command.env("CPE_FOREST_WORKERS", "0");
            command.args(["--nws", "127.0.0.1:0"]);
            if let Some(first) = nodes.first() {
                command.arg("--mesh-key").arg(first.data().join("mesh.key"));
                command.args(["--bootstrap", first.address()]);
            }
            nodes.push(Node::run(command));
        }
        for node in &nodes {
            node.sees(3);
        }
        let nodes = nodes.try_into().unwrap();
        Self { nodes, folder }
    }

    fn file(&self, n: usize) -> PathBuf {
        self.folder.path().join(["a", "b", "c"][n])
    }

    fn peer(&self, n: usize) -> &str {
        self.nodes[n].ready["peer"].as_str().unwrap()
    }

    /// Parts the last node from the other two, and waits until both sides know.
    pub(crate) fn cut(&self) {
        let others = [self.peer(0), self.peer(1)].join("\n");
        for (n, blocked) in [(0, self.peer(2)), (1, self.peer(2)), (2, &others)] {
            let fresh = self.file(n).with_extension("next");
            std::fs::write(&fresh, blocked).unwrap();
            std::fs::rename(fresh, self.file(n)).unwrap();
        }
        for (n, linked) in [(0, 2), (1, 2), (2, 1)] {
            until("the nodes are parted", || self.linked(n) == linked);
        }
    }

    pub(crate) fn heal(&self) {
        for n in 0..3 {
            std::fs::write(self.file(n), "").unwrap();
        }
        for node in &self.nodes {
            node.sees(3);
        }
    }

    /// Members a node has a link to, itself among them.
    fn linked(&self, n: usize) -> usize {
        let peers = self.nodes[n].cpe(&["mesh", "peers", "--json"]).json();
        let peers = peers.as_array().unwrap();
        peers.iter().filter(|peer| peer["linked"] == true).count()
    }

    /// Names of variables that hold their own name, each with the number of the node that leads its
    /// home, once all groups have grown.
    fn variables(&self) -> Vec<(String, usize)> {
        let [a, ..] = &self.nodes;
        let names: Vec<String> = (1..=12).map(|n| format!("v{n}")).collect();
        for name in &names {
            a.cpe(&["space", "store", WORKSPACE, name, name]).code(0);
        }
        for node in &self.nodes {
            groups_of_three(node);
        }
        let ids = self.nodes.iter().map(|node| {
            let status = node.cpe(&["mesh", "status", "--json"]).json();
            status["node"].clone()
        });
        let ids: Vec<Value> = ids.collect();
        let shards = a.cpe(&["mesh", "shards", "--json"]).json();
        let variables = a.cpe(&["space", "list", WORKSPACE, "--json"]).json();
        let leader = |name: &String| {
            let rows = variables.as_array().unwrap();
            let row = rows.iter().find(|row| row["name"] == **name).unwrap();
            let shards = shards.as_array().unwrap();
            let shard = shards.iter().find(|shard| shard["shard"] == row["shard"]);
            let led_by = &shard.unwrap()["leader"];
            ids.iter().position(|id| id == led_by).unwrap()
        };
        let led = names.iter().map(|name| (name.clone(), leader(name)));
        led.collect()
    }
}

/// Asks a node over HTTP for what is answered by a word.
fn ask(node: &Node, form: &str, body: &Value) -> (u16, Value) {
    let path = format!("/v1/spaces/{WORKSPACE}/{form}");
    answer(post(node, &path, &body.to_string()))
}

fn matching(name: &str) -> Value {
    json!({"template": [name, {"?": "any"}], "timeout_ms": 1_000})
}

fn kind(answer: &(u16, Value)) -> (u16, &str) {
    (
        answer.0,
        answer.1["error"]["kind"].as_str().unwrap_or("none"),
    )
}

#[test]
fn a_minority_says_pending_and_unavailable_and_never_empty() {
    let three = Three::start();
    let [a, b, c] = &three.nodes;
    let variables = three.variables();
    // Whoever leads steps down only when it notices; the others never had reason to hope.
    let (there, _) = variables.iter().find(|(_, leader)| *leader != 2).unwrap();
    three.cut();

    // Stores are accepted, kept, and shown here.
    let store =
        |ack: &str, value: &str| json!({"tuple": [there, value], "ack": ack, "timeout_ms": 1_000});
    let pending = (200, json!({"stored": "pending"}));
    assert_eq!(ask(c, "out", &store("home", "waited")), pending);
    assert_eq!(ask(c, "out", &store("local", "at once")), pending);
    let said = c.cpe(&[
        "space",
        "store",
        WORKSPACE,
        there,
        "typed",
        "--timeout",
        "1s",
    ]);
    assert!(said.code(0).out.starts_with("pending: kept here until"));

    // Reads from this replica are answered, and say since when they may be stale.
    let (status, read) = ask(c, "rdp", &matching(there));
    assert_eq!((status, &read["tuple"]), (200, &json!([there, there])));
    assert!(read["stale"]["since_ms"].is_u64(), "{read}");
    let read = c.cpe(&["space", "find-try", WORKSPACE, there]).code(0);
    assert_eq!(read.out, format!("{there}\n"));
    read.says("no majority of its home has been in reach for");

    // Nothing else is, and it is known that nothing was done.
    let mut fresh = matching(there);
    fresh["fresh"] = json!(true);
    for (form, body) in [
        ("rdp", &fresh),
        ("inp", &matching(there)),
        ("in", &matching(there)),
    ] {
        let answer = ask(c, form, body);
        assert_eq!(kind(&answer), (503, "unavailable"), "{form}: {answer:?}");
    }
    for form in [&["find-try", "--fresh"][..], &["fetch-try"], &["fetch"]] {
        let (form, more) = form.split_first().unwrap();
        let args = ["space", form, WORKSPACE, there, "--timeout", "1s"];
        let ran = c.cpe(&[&args[..], more].concat()).code(4);
        assert_eq!(ran.out, "", "{form}");
        ran.says("unavailable: the home of shard");
    }
    // A variable that holds nothing is not empty either: nobody here can know.
    for (name, _) in [("nothing".to_owned(), 0)].iter().chain(&variables) {
        let answer = ask(c, "inp", &matching(name));
        let may_be = [(503, "unavailable"), (504, "unknown")];
        assert!(may_be.contains(&kind(&answer)), "{name}: {answer:?}");
    }

    // The majority goes on, and answers the same questions.
    let taken = a.cpe(&["space", "fetch", WORKSPACE, there, "--timeout", "20s"]);
    assert_eq!(taken.code(0).out, format!("{there}\n"));
    b.cpe(&["space", "fetch-try", WORKSPACE, there]).code(3);

    // Each store is admitted once, in its order.
    three.heal();
    for value in ["waited", "at once", "typed"] {
        let taken = b.cpe(&["space", "fetch", WORKSPACE, there, "--timeout", "20s"]);
        assert_eq!(taken.code(0).out, format!("{value}\n"));
    }
    for node in [a, b, c] {
        let args = ["space", "fetch-try", WORKSPACE, there, "--timeout", "20s"];
        node.cpe(&args).code(3);
    }
    // What could not be taken is all there still.
    for (name, _) in variables.iter().filter(|(name, _)| name != there) {
        let args = ["space", "fetch", WORKSPACE, name, "--timeout", "20s"];
        assert_eq!(c.cpe(&args).code(0).out, format!("{name}\n"));
    }
}

/// The take waits at its home on the other side when the nodes are parted: a value that comes there
/// may be taken for it, and nobody here can know.
#[test]
fn a_take_that_was_under_way_when_the_nodes_were_parted_is_unknown_and_takes_nothing() {
    let three = Three::start();
    let [a, b, c] = &three.nodes;
    let variables = three.variables();
    let (name, leader) = variables.iter().find(|(_, leader)| *leader != 2).unwrap();
    let args = ["space", "fetch", WORKSPACE, name];
    a.cpe(&args).code(0);
    let waiting = || three.nodes[*leader].waiting();
    let before = waiting();
    let body = json!({"template": [name, {"?": "any"}], "timeout_ms": 5_000});
    let path = format!("/v1/spaces/{WORKSPACE}/in");
    let asked = post(c, &path, &body.to_string());
    let typed = c.command(&[&args[..], &["--timeout", "5s"]].concat());
    let typed = std::thread::spawn(move || super::harness::Ran::of({ typed }.output().unwrap()));
    until("both takes wait at the leader", || waiting() == before + 2);
    three.cut();
    a.cpe(&[
        "space",
        "store",
        WORKSPACE,
        name,
        "late",
        "--timeout",
        "20s",
    ])
    .code(0);

    let answered = answer(asked);
    assert_eq!(kind(&answered), (504, "unknown"), "{answered:?}");
    let operation = answered.1["error"]["operation"].as_str().unwrap();
    let typed = typed.join().unwrap().code(4);
    assert_eq!(typed.out, "");
    typed.says("unknown: no answer came from the home of shard");

    three.heal();
    // Whoever got it in the meantime has not received it.
    let args = ["space", "fetch", WORKSPACE, name, "--timeout", "20s"];
    assert_eq!(b.cpe(&args).code(0).out, "late\n");
    c.cpe(&["space", "fetch-try", WORKSPACE, name, "--timeout", "20s"])
        .code(3);
    let status = c.cpe(&["space", "status", operation, "--json"]).json();
    let ended = ["took", "nothing", "never", "forgotten"];
    assert!(
        ended.contains(&status["status"].as_str().unwrap()),
        "{status}"
    );
}
