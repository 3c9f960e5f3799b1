//! Nodes that say what is not so of the groves they were to grow.

use std::process::{Child, Stdio};

use base64::Engine as _;
use cpe_forest::{CsvOptions, Dataset, ForestSpec, TargetKind, grow_grove};
use serde_json::{Value, json};

use super::super::harness::{Node, Ran, until};
use super::{SETTINGS, attach, begin, hash_here, long};

/// Somebody who waits for a grove as a worker does, before there is any: of those who wait each has
/// one in turn, so that no worker, however fast, has them all.
struct Liar<'a> {
    node: &'a Node,
    first: Child,
}

impl<'a> Liar<'a> {
    fn waits(node: &'a Node) -> Self {
        let own = node.own_waiting();
        let mut first = node.command(&["space", "in", "#forest", &any_grove(), "--json"]);
        let first = first.stdout(Stdio::piped()).spawn().unwrap();
        until("the liar waits", || node.waiting() > own);
        Self { node, first }
    }

    /// Takes one and says nothing of it.
    fn says_nothing(self) {
        Ran::of(self.first.wait_with_output().unwrap()).code(0);
    }

    /// Takes groves, at most so many, and says of each under this name what `outcome` makes of its
    /// index. How many it took.
    fn lies(self, job: &str, name: &str, most: u32, outcome: impl Fn(u32) -> Value) -> u32 {
        let node = self.node;
        let first = Ran::of(self.first.wait_with_output().unwrap()).json();
        let jobs = node.cpe(&["forest", "jobs", "--json"]).json();
        let (run, id) = (jobs[0]["run"].as_str().unwrap(), &jobs[0]["id"]);
        let lie = |taken: Value| {
            let tuple = taken.get("tuple").unwrap_or(&taken);
            let index = tuple[3].as_u64().unwrap();
            let outcome = outcome(u32::try_from(index).unwrap());
            let outcome = cpe_tuple::codec::encode(&outcome).unwrap();
            let outcome = base64::engine::general_purpose::STANDARD.encode(outcome);
            let brought = json!([
                format!("{job} {run} grown"), id, index, name, {"bytes": outcome},
            ]);
            node.cpe(&["space", "out", "#forest", &brought.to_string()])
                .code(0);
        };
        lie(first);
        let mut lies = 1;
        while lies < most {
            let taken = node.cpe(&["space", "inp", "#forest", &any_grove(), "--json"]);
            if taken.code == Some(3) {
                break;
            }
            lie(taken.json());
            lies += 1;
        }
        lies
    }
}

fn any_grove() -> String {
    let template = json!([
        "grove", {"?": "string"}, {"?": "string"}, {"?": "int"}, {"?": "string"}, {"?": "bytes"},
    ]);
    template.to_string()
}

/// That a grove of the right form was grown, which another seed grew.
fn another(_: u32) -> Value {
    json!({"hash": "ab".repeat(32), "bytes": 10, "votes": 0, "error": null})
}

/// Has a job done of whose groves somebody takes at most so many; how it ended, and how many.
fn trained(
    nodes: &[&Node],
    name: &str,
    most: u32,
    outcome: impl Fn(&str, u32) -> Value,
) -> (Value, u32) {
    let node = nodes[0];
    let csv = long(node.folder());
    let csv = csv.to_str().unwrap();
    let wanted = hash_here(node.folder(), csv, &SETTINGS);
    let liar = Liar::waits(node);
    begin(node, csv, "crowd");
    let lies = liar.lies("crowd", name, most, |index| outcome(csv, index));
    let trained = attach(node, "crowd");
    assert_eq!(trained["card"]["forest"], wanted.as_str());
    assert!(!trained["card"]["out_of_bag"].is_null());
    (trained, lies)
}

#[test]
fn a_node_that_lies_about_groves_is_found_out_and_the_forest_is_right() {
    let a = Node::start(&["--name", "a"]);
    let (trained, lies) = trained(&[&a], "liar", u32::MAX, |_, index| another(index));
    assert_eq!(trained["liars"], json!(["liar"]));
    assert_eq!(trained["groves_by_node"]["liar"], lies);
}

#[test]
fn among_honest_nodes_one_lie_about_one_grove_is_found() {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&["--name", "b"]);
    a.sees(2);
    let (trained, _) = trained(&[&a, &b], "liar", 1, |_, index| another(index));
    assert_eq!(trained["liars"], json!(["liar"]));
    // At least one of each node but the steward.
    let nodes = trained["groves_by_node"].as_object().unwrap().len() as u64;
    assert!(trained["audited"].as_u64() >= Some(nodes - 1), "{trained}");
}

#[test]
fn the_stewards_own_name_is_no_proof() {
    let a = Node::start(&["--name", "a"]);
    let (trained, _) = trained(&[&a], "a", 1, |_, index| another(index));
    assert_eq!(trained["liars"], json!(["a"]));
}

#[test]
fn false_votes_beside_a_right_grove_are_found() {
    let a = Node::start(&["--name", "a"]);
    let (trained, _) = trained(&[&a], "liar", 1, |csv, index| {
        let csv = std::fs::File::open(csv).unwrap();
        let options = CsvOptions::default();
        let data = Dataset::from_csv(csv, "kind", TargetKind::Auto, &options).unwrap();
        let mut spec = ForestSpec::classify().with_trees(300).with_seed(7);
        spec.grove_trees = 15;
        let grove = grow_grove(&data, &spec, index).unwrap().encode();
        let hash = blake3::hash(&grove).to_hex().to_string();
        json!({
            "hash": hash, "bytes": grove.len(), "votes": 10, "error": null,
            "votes_hash": "ab".repeat(32),
        })
    });
    assert_eq!(trained["liars"], json!(["liar"]));
}

#[test]
fn that_a_grove_cannot_be_grown_is_not_believed_of_one() {
    let a = Node::start(&["--name", "a"]);
    let (trained, _) = trained(
        &[&a],
        "liar",
        1,
        |_, _| json!({"hash": "", "bytes": 0, "votes": 0, "error": "I do not feel like it"}),
    );
    assert_eq!(trained["liars"], json!(["liar"]));
}

#[test]
fn a_grove_that_somebody_took_and_said_nothing_of_is_put_there_once_more() {
    let a = Node::start(&["--name", "a"]);
    let csv = long(a.folder());
    let csv = csv.to_str().unwrap();
    let wanted = hash_here(a.folder(), csv, &SETTINGS);
    let silent = Liar::waits(&a);
    begin(&a, csv, "crowd");
    silent.says_nothing();
    let trained = attach(&a, "crowd");
    assert_eq!(trained["card"]["forest"], wanted.as_str());
    assert_eq!(trained["groves_by_node"], json!({"a": 20}));
}
