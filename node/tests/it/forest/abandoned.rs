//! Votes that nobody waits for, with models that are not there as a whole, or told by liars.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cpe_forest::{Forest, Rows};
use cpe_tuple::codec;
use cpe_tuple::json::tuple_from_json;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::api::send;
use super::super::harness::{Node, Ran, cpe, until};
use super::csv;

const OWN: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

/// Where votes are.
const VOTES: &str = "tmp:#vote";

/// A node that votes on nothing.
fn idle() -> Node {
    with("CPE_FOREST_WORKERS", "0")
}

fn with(variable: &str, value: &str) -> Node {
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0", "--name", "a"]);
    command.env(variable, value);
    Node::run(command)
}

/// Grows a model on this machine and puts it into the mesh, or a file.
fn grow(node: &Node, csv: &Path, out: &str, trees: &str) {
    let csv = csv.to_str().unwrap();
    node.cpe(&[
        "forest", "train", csv, "--target", "kind", "--trees", trees, "--local", "--out", out,
    ])
    .code(0);
}

/// Variables of a workspace that hold something.
fn held(node: &Node, workspace: &str) -> Vec<String> {
    let all = node.cpe(&["space", "list", workspace, "--json"]);
    if all.code != Some(0) {
        return Vec::new();
    }
    let all = all.json();
    let all = all.as_array().unwrap().iter();
    let held = all.filter(|variable| variable["tuples"].as_u64() > Some(0));
    held.map(|variable| variable["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The variable that has the bytes of a model.
fn bytes_of(node: &Node, model: &str) -> String {
    let entry = json!([format!("model {model}"), {"?": "map"}]).to_string();
    let entry = node.cpe(&["space", "rdp", "#forest", &entry]).code(0).out;
    let entry: Value = serde_json::from_str(&entry).unwrap();
    entry[1]["at"].as_str().unwrap().to_owned()
}

/// A model of which nothing is there but its name.
fn gone(node: &Node, csv: &Path) {
    grow(node, csv, "gone", "60");
    let bytes = bytes_of(node, "gone");
    node.cpe(&["space", "delete", "#forest", &bytes]).code(0);
}

fn ask(node: &Node, model: &str, body: &Value) -> (u16, Value) {
    let path = format!("/v1/forests/{model}/predict");
    send(node, "POST", &path, OWN, &body.to_string())
}

fn out(node: &Node, workspace: &str, tuple: &Value) {
    node.cpe(&["space", "out", workspace, &tuple.to_string()])
        .code(0);
}

/// Has all nodes vote with the model "good", and the answer is the one it has at home.
fn is_voted_on(node: &Node, csv: &Path) {
    let csv = csv.to_str().unwrap();
    let here = node.cpe(&["forest", "predict", "good", csv]).code(0).out;
    let spread = [
        "forest",
        "predict",
        "good",
        csv,
        "--spread",
        "--timeout",
        "10s",
    ];
    assert_eq!(node.cpe(&spread).code(0).out, here);
}

/// Somebody who waits for votes.
fn waits(node: &Node, csv: &Path) -> Child {
    let csv = csv.to_str().unwrap();
    let mut asks = node.command(&["forest", "predict", "good", csv, "--spread"]);
    let asks = asks.stdout(Stdio::piped()).stderr(Stdio::piped());
    let asks = asks.spawn().unwrap();
    until("there is something to vote on", || {
        held(node, VOTES).contains(&"task:vote".to_owned())
    });
    asks
}

#[test]
fn a_model_whose_bytes_are_gone_keeps_nobody_from_voting_with_others() {
    let node = Node::start(&["--name", "a"]);
    let csv = csv(node.folder());
    gone(&node, &csv);
    grow(&node, &csv, "good", "60");
    let (_, said) = ask(
        &node,
        "gone",
        &json!({"cases": [[1, 2]], "spread": true, "timeout_ms": 1000}),
    );
    assert!(said["answers"].is_null(), "{said}");
    is_voted_on(&node, &csv);
}

#[test]
fn ballots_that_name_what_nobody_has_keep_nobody_from_voting() {
    let node = Node::start(&["--name", "a"]);
    let csv = csv(node.folder());
    grow(&node, &csv, "good", "60");
    out(
        &node,
        VOTES,
        &json!(["rows peer", 0, {"bytes": "AAAAAAAAAAA="}]),
    );
    for n in 0..20 {
        for rows in ["rows peer", "rows nobody"] {
            let hash = format!("{n:064}");
            let ballot = json!(["model x", 0, 100, hash, rows, 0, 1]);
            let task = json!(["task:vote", "peer", n, [[n, ballot]]]);
            out(&node, VOTES, &task);
        }
    }
    is_voted_on(&node, &csv);
}

#[test]
fn of_votes_that_are_ended_nothing_stays() {
    let node = idle();
    let csv = csv(node.folder());
    grow(&node, &csv, "good", "60");
    let mut asks = waits(&node, &csv);
    kill_process(Pid::from_child(&asks), Signal::TERM).unwrap();
    assert_eq!(asks.wait().unwrap().code(), Some(143));
    assert_eq!(held(&node, VOTES), [""; 0]);
    let asks = waits(&node, &csv);
    kill_process(Pid::from_child(&asks), Signal::INT).unwrap();
    Ran::of(asks.wait_with_output().unwrap())
        .code(1)
        .says("interrupted");
    assert_eq!(held(&node, VOTES), [""; 0]);
}

#[test]
fn of_votes_that_are_not_there_in_time_nothing_stays() {
    let node = idle();
    let csv = csv(node.folder());
    grow(&node, &csv, "good", "60");
    let body = json!({"cases": [[1, 2]], "spread": true, "timeout_ms": 1000});
    let (status, said) = ask(&node, "good", &body);
    assert_eq!((status, &said["error"]["kind"]), (504, &json!("timed_out")));
    let said = said["error"]["message"].as_str().unwrap();
    assert!(said.contains("0 of 6 groves"), "{said}");
    until("nothing of the votes is left", || {
        held(&node, VOTES).is_empty()
    });
}

#[test]
fn what_is_left_of_votes_whose_asker_was_killed_is_removed() {
    let node = with("CPE_FOREST_ORPHANED", "3s");
    let csv = csv(node.folder());
    grow(&node, &csv, "good", "60");
    let declare = ["space", "declare", VOTES, "alive dead", "single"];
    node.cpe(&declare).code(0);
    for tuple in [
        json!(["rows dead", 0, {"bytes": "AAAAAAAAAAA="}]),
        json!(["result:dead", 7, "a", -2, []]),
        json!(["alive dead", "dead", true, 7]),
        json!(["of somebody else", 7]),
    ] {
        out(&node, VOTES, &tuple);
    }
    until("nothing of the votes is left", || {
        held(&node, VOTES) == ["of somebody else"]
    });
    is_voted_on(&node, &csv);
}

/// How long it takes.
#[expect(clippy::disallowed_methods, reason = "a command takes real time")]
fn takes(what: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    what();
    begun.elapsed()
}

#[test]
fn a_model_whose_bytes_are_gone_is_missed_at_once() {
    let node = Node::start(&["--name", "a"]);
    let csv = csv(node.folder());
    gone(&node, &csv);
    let shown = csv.to_str().unwrap();
    let took = takes(|| {
        let whole = node.cpe(&["forest", "predict", "gone", shown, "--timeout", "2s"]);
        whole
            .code(4)
            .says("model `gone` is not there as a whole: part 0 of")
            .says("train it again");
        let spread = [
            "forest",
            "predict",
            "gone",
            shown,
            "--spread",
            "--timeout",
            "2s",
        ];
        node.cpe(&spread)
            .code(4)
            .says("no grove of model `gone` has voted: grove 0: part 0 of")
            .says("train it again");
        for spread in [false, true] {
            let body = json!({"cases": [[1, 2]], "spread": spread});
            let (status, said) = ask(&node, "gone", &body);
            assert_eq!(
                (status, &said["error"]["kind"]),
                (503, &json!("unavailable"))
            );
            let said = said["error"]["message"].as_str().unwrap();
            assert!(said.contains("part 0 of"), "{said}");
            assert!(said.contains("train it again"), "{said}");
        }
        // What it had is grown anew, and not waited for.
        node.cpe(&[
            "forest", "train", shown, "--target", "kind", "--trees", "20", "--out", "gone",
        ])
        .code(0);
    });
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// A table that teaches nothing, so that trees become as large as it is.
fn noise(folder: &Path) -> PathBuf {
    let path = folder.join("noise.csv");
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % 1000
    };
    let mut text = String::from("a,b,kind\n");
    for _ in 0..4000 {
        let kind = if next() < 500 { "yes" } else { "no" };
        text.push_str(&format!("{},{},{kind}\n", next(), next()));
    }
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn groves_that_cannot_be_read_are_named_and_the_others_vote() {
    let node = Node::start(&["--name", "a"]);
    let csv = noise(node.folder());
    grow(&node, &csv, "good", "300");
    let bytes = bytes_of(&node, "good");
    let part = json!([bytes, 0, {"?": "bytes"}]).to_string();
    node.cpe(&["space", "inp", "#forest", &part]).code(0);
    let csv = csv.to_str().unwrap();
    let spread = ["forest", "predict", "good", csv, "--spread", "--json"];
    let ran = node
        .cpe(&spread)
        .code(0)
        .says("of 300 trees voted")
        .says("part 0 of");
    let told = ran.json();
    let (trees, missing) = (told["trees"].as_u64().unwrap(), &told["missing"]);
    let missing = missing.as_array().unwrap();
    assert!(trees > 0 && trees < 300, "{trees}");
    assert_eq!(missing.len() as u64, (300 - trees) / 10);
    assert_eq!(missing[0]["grove"], 0);
    let body = json!({"cases": [[1, 2]], "spread": true});
    let (status, told) = ask(&node, "good", &body);
    assert_eq!((status, &told["trees"]), (200, &json!(trees)));
    assert_eq!(told["missing"].as_array().unwrap().len(), missing.len());
}

/// What votes look like, of whoever makes them up.
#[derive(Serialize)]
struct Lie {
    recipe: [u8; 32],
    rows: usize,
    groves: BTreeMap<u32, u32>,
    sums: Sums,
}

#[derive(Serialize)]
enum Sums {
    Classes {
        classes: usize,
        votes: Vec<u32>,
        shares: Vec<u64>,
    },
}

/// A hash of an element, as results have it.
fn mark(value: &cpe_tuple::Value) -> i64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = codec::encode(value).unwrap();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    hash.cast_signed()
}

#[test]
fn votes_that_are_not_of_the_ballot_are_missing_and_their_node_is_named() {
    let node = idle();
    let csv = csv(node.folder());
    grow(&node, &csv, "good", "20");
    let file = node.folder().join("m.forest");
    grow(&node, &csv, file.to_str().unwrap(), "20");
    let forest = Forest::decode(&std::fs::read(file).unwrap()).unwrap();
    let asks = waits(&node, &csv);
    let any = json!(["task:vote", {"?": "string"}, {"?": "int"}, {"?": "list"}]).to_string();
    for _ in 0..2 {
        let taken = node.cpe(&["space", "in", VOTES, &any, "--json"]).json();
        let taken = taken.get("tuple").unwrap_or(&taken);
        let task = tuple_from_json(taken).unwrap();
        let element = task.fields()[3].as_list().unwrap()[0].as_list().unwrap();
        let (index, ballot) = (element[0].as_int().unwrap(), &element[1]);
        let rows = ballot.as_list().unwrap()[4].as_str().unwrap();
        let rows = json!([rows, 0, {"?": "bytes"}]).to_string();
        let rows = node.cpe(&["space", "rd", VOTES, &rows, "--json"]).json();
        let rows = tuple_from_json(rows.get("tuple").unwrap_or(&rows)).unwrap();
        let rows = rows.fields()[2].as_bytes().unwrap();
        let rows = rows.as_chunks::<8>().0.iter();
        let rows = Rows::new(2, rows.map(|bytes| f64::from_le_bytes(*bytes)).collect()).unwrap();
        let votes = if index == 0 {
            codec::encode(&forest.groves()[0].tally(&rows).unwrap()).unwrap()
        } else {
            let lie = Lie {
                recipe: forest.manifest().recipe(),
                rows: rows.len(),
                groves: BTreeMap::from([(1, 1_000)]),
                sums: Sums::Classes {
                    classes: 2,
                    votes: vec![1_000; 2 * rows.len()],
                    shares: vec![1 << 40; 2 * rows.len()],
                },
            };
            codec::encode(&lie).unwrap()
        };
        let result = json!([
            format!("result:{}", taken[1].as_str().unwrap()), taken[2], "a liar", 5,
            [[index, mark(ballot), true, {"bytes": BASE64.encode(votes)}]],
        ]);
        out(&node, VOTES, &result);
    }
    Ran::of(asks.wait_with_output().unwrap())
        .code(0)
        .says("10 of 20 trees voted")
        .says("grove 1: node `a liar`");
}
