//! Rows told by all nodes, each with some groves, and over HTTP.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::super::api::send;
use super::super::harness::Node;
use super::csv;

const OWN: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

fn predict(node: &Node, body: &Value) -> (u16, Value) {
    let path = "/v1/forests/crowd/predict";
    send(node, "POST", path, OWN, &body.to_string())
}

#[test]
fn all_nodes_vote_and_the_answer_is_the_local_one() {
    let [a, b, c] = Node::three();
    let csv = csv(a.folder());
    let csv = csv.to_str().unwrap();
    let file = a.folder().join("m.forest");
    let file = file.to_str().unwrap();
    let train = ["forest", "train", csv, "--target", "kind", "--trees", "60"];
    a.cpe(&[&train[..], &["--out", file, "--local"]].concat())
        .code(0);
    a.cpe(&[&train[..], &["--out", "crowd"]].concat()).code(0);
    let local = a.cpe(&["forest", "predict", file, csv]).code(0).out;
    let spread = ["forest", "predict", "crowd", csv, "--spread"];
    assert_eq!(b.cpe(&spread).code(0).out, local);
    let told = b.cpe(&[&spread[..], &["--json"]].concat()).json();
    assert_eq!((&told["trees"], &told["of"]), (&60.into(), &60.into()));

    // Over HTTP by names and in order, with the whole model and by votes: the same.
    let cases = json!([{"size": 30, "noise": 5}, [3, 50]]);
    let (status, whole) = predict(&c, &json!({"cases": cases}));
    assert_eq!(status, 200, "{whole}");
    assert_eq!(whole["answers"][0]["class"], "large");
    assert_eq!(whole["answers"][1]["class"], "small");
    assert_eq!(whole["answers"][0]["trees"], 60);
    let (_, votes) = predict(&c, &json!({"cases": cases, "spread": true}));
    assert_eq!(votes, whole);
    let (status, wrong) = predict(&c, &json!({"cases": [[1]], "spread": true}));
    assert_eq!((status, &wrong["error"]["kind"]), (422, &"invalid".into()));
    let nobody = send(
        &c,
        "POST",
        "/v1/forests/nobody/predict",
        OWN,
        "{\"cases\":[[1]]}",
    );
    assert_eq!(nobody.0, 404, "{}", nobody.1);
    let path = "/v1/forests/nobody/predict";
    let nobody = send(&c, "POST", path, OWN, "{\"cases\":[]}");
    assert_eq!(nobody.0, 404, "{}", nobody.1);
    let (status, nothing) = predict(&c, &json!({"cases": []}));
    assert_eq!((status, &nothing["answers"]), (200, &json!([])));

    // Who dies with votes on his hands costs nothing but time.
    a.has_homes();
    b.end_by(Signal::KILL);
    assert_eq!(c.cpe(&spread).code(0).out, local);
    // Nothing of it stays.
    let left = c.cpe(&["space", "list", "tmp:#vote", "--json"]).json();
    let left = left.as_array().unwrap().iter();
    let left: Vec<_> = left.filter(|variable| variable["tuples"] != 0).collect();
    assert!(left.is_empty(), "{left:?}");
    c.cpe(&["forest", "predict", file, csv, "--spread"])
        .code(2)
        .says("not with a file");
}
