//! Jobs of one node and of many, of which one is killed, and groves that kill whoever grows them.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::super::harness::{Node, until};
use super::{attach, hash_here, long};

/// Many small groves, so that all nodes have had some while others are still to be grown.
const SETTINGS: [&str; 8] = [
    "--target",
    "kind",
    "--trees",
    "600",
    "--grove-trees",
    "10",
    "--seed",
    "7",
];

fn begin(node: &Node, csv: &str, name: &str) {
    let args = ["forest", "train", csv, "--detach", "--out", name];
    node.cpe(&[&args[..], &SETTINGS].concat()).code(0);
}

/// The job that runs, as whoever asks `node` is told.
fn job(node: &Node, name: &str) -> Value {
    let jobs = node.cpe(&["forest", "jobs", "--json"]).json();
    let mut jobs = jobs.as_array().unwrap().iter();
    let job = jobs.find(|job| job["name"] == name);
    job.cloned().unwrap_or_default()
}

#[test]
fn one_two_five_and_nine_nodes_of_which_one_is_killed_grow_the_same_forest() {
    let folder = tempfile::tempdir().unwrap();
    let csv = long(folder.path());
    let csv = csv.to_str().unwrap();
    let wanted = hash_here(folder.path(), csv, &SETTINGS);
    // The first nodes are homes of the space; those that are killed are not, and whatever is killed
    // with them the space has its majority.
    let mut named = 0;
    let mut start = |nodes: &[Node], args: &[&str]| {
        named += 1;
        let name = format!("n{named}");
        let args = [&["--name", &name][..], args].concat();
        let node = match nodes.first() {
            Some(first) => first.join(&args),
            None => Node::start(&args),
        };
        (name, node)
    };
    let (mut homes, mut others): (Vec<Node>, Vec<(String, Node)>) = (Vec::new(), Vec::new());
    for (count, homes_wanted) in [(1, 1), (2, 1), (5, 3), (9, 3)] {
        while homes.len() < homes_wanted {
            let (_, node) = start(&homes, &[]);
            homes.push(node);
        }
        while homes.len() + others.len() < count {
            others.push(start(&homes, &["--no-homes"]));
        }
        for node in homes.iter().chain(others.iter().map(|(_, node)| node)) {
            node.sees(count);
        }
        if homes_wanted == 3 {
            homes[0].has_homes();
        }
        let name = format!("of-{count}");
        begin(&homes[0], csv, &name);
        if count > 1 {
            // One that is at it, and has groves on its hands.
            let mut victim = None;
            until("a node that is no home has grown a grove", || {
                let job = job(&homes[0], &name);
                let grown = |(other, _): &(String, Node)| job["nodes"][other].as_u64() > Some(0);
                victim = others.iter().position(grown);
                victim.is_some()
            });
            assert_eq!(job(&homes[0], &name)["phase"], "growing", "killed too late");
            let (_, node) = others.remove(victim.unwrap());
            node.end_by(Signal::KILL);
        }
        let trained = attach(&homes[0], &name);
        println!("{count} nodes: {}", trained["groves_by_node"]);
        assert_eq!(trained["card"]["forest"], wanted.as_str(), "{count} nodes");
        assert_eq!(trained["liars"], json!([]));
        let by = trained["groves_by_node"].as_object().unwrap();
        assert_eq!(by.values().filter_map(Value::as_u64).sum::<u64>(), 60);
        assert!(count == 1 || by.len() > 1, "{by:?}");
    }
}

/// Takes the groves that wait, and one of them as eight workers do, each of which dies of it, one
/// after the other; its index. The others are kept back, so that it comes next.
fn die_of(node: &Node, name: &str, run: &str) -> i64 {
    const WORKERS: u32 = 8;
    let template = json!([
        "grove", name, {"?": "string"}, {"?": "int"}, {"?": "string"}, {"?": "bytes"}
    ]);
    let take = || {
        let taken = node.cpe(&["space", "inp", "#forest", &template.to_string(), "--json"]);
        let found = taken.code == Some(0);
        found.then(|| serde_json::from_str::<Value>(&taken.out).unwrap())
    };
    let first = take().unwrap();
    while take().is_some() {}
    let task = first.get("tuple").unwrap_or(&first);
    let (id, index) = (task[2].as_str().unwrap(), task[3].as_i64().unwrap());
    for n in 0..WORKERS {
        let begun = json!([
            format!("{name} {run} begun {index}"),
            id,
            index,
            format!("dead-{n}")
        ]);
        node.cpe(&["space", "out", "#forest", &begun.to_string()])
            .code(0);
    }
    // The last one's lease ends, and it is there again.
    node.cpe(&["space", "out", "#forest", &task.to_string()])
        .code(0);
    index
}

#[test]
fn a_grove_that_ends_whoever_grows_it_ends_the_job_and_is_named() {
    let a = Node::start(&["--name", "a"]);
    let csv = long(a.folder());
    let csv = csv.to_str().unwrap();
    let train = ["forest", "train", csv, "--detach", "--target", "kind"];
    let train = [&train[..], &["--out", "model", "--trees"]].concat();
    // So many that some wait when one is taken.
    a.cpe(&[&train[..], &["400"]].concat()).code(0);
    let mut run_name = String::new();
    until("the job has put its groves there", || {
        let job = job(&a, "model");
        run_name = job["run"].as_str().unwrap_or_default().to_owned();
        job["issued"] == true
    });
    let index = die_of(&a, "model", &run_name);
    a.cpe(&["forest", "train", "--attach", "model", "--timeout", "2m"])
        .code(1)
        .says(&format!(
            "grove {index} was begun 8 times, and nothing came of it"
        ));
    // Nobody else is kept waiting by what is left of it.
    a.cpe(&[&train[..], &["10"]].concat()).code(0);
    assert_eq!(attach(&a, "model")["groves_by_node"]["a"], 1);
    let waiting = a.cpe(&["space", "list", "#forest", "--json"]).json();
    let mut waiting = waiting.as_array().unwrap().iter();
    let groves = waiting.find(|variable| variable["name"] == "grove");
    assert!(
        groves.is_none_or(|groves| groves["tuples"] == 0),
        "{groves:?}"
    );
}
