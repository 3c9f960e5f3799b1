//! Jobs that nobody takes up, that cannot come to their end, or that stand on what is broken.

use base64::Engine as _;
use serde_json::{Value, json};

use super::super::harness::{Node, cpe, until};
use super::{attach, csv};

/// A node that grows nothing.
fn idle() -> Node {
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0", "--name", "idle"]);
    command.env("CPE_FOREST_WORKERS", "0");
    Node::run(command)
}

fn begin(node: &Node) {
    let csv = csv(node.folder());
    let args = [
        "forest",
        "train",
        csv.to_str().unwrap(),
        "--detach",
        "--target",
        "kind",
        "--trees",
        "20",
        "--out",
        "my model",
    ];
    node.cpe(&args).code(0);
}

fn job(node: &Node) -> Value {
    node.cpe(&["forest", "jobs", "--json"]).json()[0].clone()
}

/// The variables of forests that hold something.
fn variables(node: &Node) -> Vec<String> {
    let all = node.cpe(&["space", "list", "#forest", "--json"]).json();
    let all = all.as_array().unwrap().iter();
    let held = all.filter(|variable| variable["tuples"].as_u64() > Some(0));
    held.map(|variable| variable["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_job_that_nobody_takes_up_is_seen_and_can_be_ended() {
    let node = idle();
    begin(&node);
    assert_eq!(job(&node)["phase"], "waiting");
    node.cpe(&["forest", "train", "--attach", "my model", "--timeout", "1s"])
        .code(4)
        .says("no node has taken up job `my model`");
    node.cpe(&["forest", "cancel", "my model"]).code(0);
    assert_eq!(job(&node)["phase"], "cancelled");
    // Of the request and the data nothing is left.
    assert_eq!(variables(&node), ["state my model"]);
    // The name is free.
    begin(&node);
    assert_eq!(job(&node)["phase"], "waiting");
}

#[test]
fn what_is_left_of_an_asker_that_died_can_be_ended() {
    let node = idle();
    begin(&node);
    let run = job(&node)["run"].as_str().unwrap().to_owned();
    // As if it had died before it put the request there.
    node.cpe(&["space", "delete", "#forest", "job"]).code(0);
    node.cpe(&["forest", "cancel", "my model"]).code(0);
    assert_eq!(job(&node)["phase"], "cancelled");
    let left = variables(&node);
    assert!(left.iter().all(|name| !name.contains(&run)), "{left:?}");
}

#[test]
fn the_end_of_a_job_takes_no_grove_of_the_same_job_asked_for_again() {
    let node = idle();
    begin(&node);
    let (run, id) = (job(&node)["run"].clone(), job(&node)["id"].clone());
    let grove = |run: &Value| json!(["grove", "my model", run, 0, "engine", {"bytes": "AA=="}]);
    let mine = |grove: &Value| {
        let taken = node.cpe(&["space", "inp", "#forest", &grove.to_string()]);
        taken.code == Some(0)
    };
    let again = json!("another time of asking");
    for run in [&run, &again, &id] {
        node.cpe(&["space", "out", "#forest", &grove(run).to_string()])
            .code(0);
    }
    node.cpe(&["forest", "cancel", "my model"]).code(0);
    assert!(!mine(&grove(&run)));
    assert!(mine(&grove(&again)));
    assert!(mine(&grove(&id)));
}

#[test]
fn what_a_model_says_of_itself_may_be_larger_than_a_tuple() {
    let node = Node::start(&["--name", "a"]);
    let wide = node.folder().join("wide.csv");
    let columns = 0..160;
    let names: Vec<String> = columns.clone().map(|n| format!("c{n}")).collect();
    let mut text = format!("{},kind\n", names.join(","));
    for row in 0..1_000 {
        for column in columns.clone() {
            let filler = "x".repeat(20);
            text.push_str(&format!("{filler}-{column}-{},", row * 7 % 1_000));
        }
        text.push_str(if row % 2 == 0 { "even\n" } else { "odd\n" });
    }
    std::fs::write(&wide, text).unwrap();
    let wide = wide.to_str().unwrap();
    let train = ["forest", "train", wide, "--target", "kind", "--out", "wide"];
    let trained = node.cpe(&[&train[..], &["--trees", "2", "--json"]].concat());
    let trained = trained.json();
    let models = node.cpe(&["forest", "models", "--json"]).json();
    assert_eq!(models[0]["forest"], trained["card"]["forest"]);
    let told = node.cpe(&["forest", "predict", "wide", wide]).code(0);
    assert_eq!(told.out.lines().count(), 1_001);
    let spread = node.cpe(&["forest", "predict", "wide", wide, "--spread"]);
    assert_eq!(spread.code(0).out, told.out);
    node.cpe(&["forest", "delete", "wide"]).code(0);
    until("nothing is left but the job's state", || {
        variables(&node) == ["state wide"]
    });
}

#[test]
fn a_job_that_no_steward_brings_to_its_end_fails() {
    let node = idle();
    begin(&node);
    let mut state = job(&node);
    state.as_object_mut().unwrap().remove("name");
    // Growing, by its place: words of variants are for JSON alone.
    state["phase"] = json!(0);
    state["attempts"] = json!(20);
    state["said"] = json!("the moon is full");
    let bytes = cpe_tuple::codec::encode(&state).unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.encode(bytes);
    let tuple = json!(["state my model", {"bytes": bytes}]).to_string();
    node.cpe(&["space", "out", "#forest", &tuple]).code(0);
    let _worker = node.join(&["--name", "worker"]);
    node.cpe(&["forest", "train", "--attach", "my model", "--timeout", "2m"])
        .code(1)
        .says("20 times a steward has begun with it and left it: the moon is full");
    until("nothing of the job is left but its state", || {
        let left = variables(&node);
        println!("{left:?}");
        left == ["state my model"]
    });
}

#[test]
fn a_model_that_cannot_be_read_is_trained_anew() {
    let node = Node::start(&["--name", "a"]);
    let entry = json!({"hash": "ab".repeat(32), "at": "bytes 1", "bytes": 3, "card": "{}"});
    let broken = [
        json!(["bytes 1", 0, {"bytes": "AAAA"}]),
        json!(["model my model", entry]),
    ];
    let declare = ["space", "declare", "#forest", "model my model", "single"];
    node.cpe(&declare).code(0);
    for tuple in broken {
        node.cpe(&["space", "out", "#forest", &tuple.to_string()])
            .code(0);
    }
    node.cpe(&["forest", "inspect", "my model"])
        .code(1)
        .says("model `my model` cannot be read");
    begin(&node);
    assert_eq!(attach(&node, "my model")["groves_by_node"]["a"], 2);
    node.cpe(&["forest", "inspect", "my model"]).code(0);
}

/// Growing is a pure function: the new one has the hash of the one whose bytes are gone.
#[test]
fn a_model_whose_bytes_are_gone_is_whole_once_it_is_trained_again() {
    let node = Node::start(&["--name", "a"]);
    begin(&node);
    attach(&node, "my model");
    let before = hash_of(&node, "my model");
    let bytes = |node: &Node| -> Vec<String> {
        let all = variables(node).into_iter();
        all.filter(|name| name.starts_with("bytes ")).collect()
    };
    let gone = bytes(&node);
    assert_eq!(gone.len(), 1, "{gone:?}");
    node.cpe(&["space", "delete", "#forest", &gone[0]]).code(0);
    begin(&node);
    attach(&node, "my model");
    node.cpe(&["forest", "inspect", "my model"]).code(0);
    assert_eq!(hash_of(&node, "my model"), before);
    // The place of the ones that are gone is given up.
    let there = bytes(&node);
    assert!(there.len() == 1 && there != gone, "{there:?}");
}

fn hash_of(node: &Node, name: &str) -> String {
    let models = node.cpe(&["forest", "models", "--json"]).json();
    let models = models.as_array().unwrap().clone();
    let model = models.into_iter().find(|model| model["name"] == name);
    model.unwrap()["forest"].as_str().unwrap().to_owned()
}

#[test]
fn no_models_name_is_the_place_of_anothers_bytes() {
    let node = Node::start(&["--name", "a"]);
    begin(&node);
    attach(&node, "my model");
    let hash = hash_of(&node, "my model");
    let csv = csv(node.folder());
    let csv = csv.to_str().unwrap();
    for other in [format!("my model {hash}"), "my model 0".to_owned()] {
        let train = [
            "forest", "train", csv, "--target", "kind", "--trees", "10", "--out", &other,
        ];
        node.cpe(&train).code(0);
        node.cpe(&["forest", "inspect", "my model"]).code(0);
    }
    for name in ["a\nb", &"n".repeat(129)] {
        let train = ["forest", "train", csv, "--target", "kind", "--out", name];
        node.cpe(&train).code(2).says("is no name of a model");
    }
}

#[test]
fn models_are_listed_and_deleted() {
    let node = Node::start(&["--name", "a"]);
    begin(&node);
    attach(&node, "my model");
    let models = node.cpe(&["forest", "models", "--json"]).json();
    assert_eq!(models.as_array().unwrap().len(), 1);
    let model = &models[0];
    assert_eq!(
        (
            &model["name"],
            &model["target"],
            &model["trees"],
            &model["rows"]
        ),
        (&json!("my model"), &json!("kind"), &json!(20), &json!(120))
    );
    node.cpe(&["forest", "delete", "my model"]).code(0);
    assert_eq!(node.cpe(&["forest", "models", "--json"]).json(), json!([]));
    node.cpe(&["forest", "delete", "my model"])
        .code(1)
        .says("no model is called `my model`");
    until("nothing of the model is left", || {
        variables(&node) == ["state my model"]
    });
}
