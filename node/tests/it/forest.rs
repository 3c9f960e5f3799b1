//! `cpe forest`, with a node and without.

use std::fs;
use std::path::{Path, PathBuf};

use super::harness::{Node, run};

/// Two classes that one column nearly tells apart.
fn csv(folder: &Path) -> PathBuf {
    let path = folder.join("data.csv");
    let mut text = String::from("size,noise,kind\n");
    for n in 0..120u32 {
        let noise = n.wrapping_mul(2_654_435_761) % 97;
        let kind = if n % 40 > 18 { "large" } else { "small" };
        text.push_str(&format!("{},{noise},{kind}\n", n % 40));
    }
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_forest_is_trained_used_and_inspected_without_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let csv = csv(folder.path());
    let (csv, model) = (csv.to_str().unwrap(), folder.path().join("m.forest"));
    let model = model.to_str().unwrap();
    let args = [
        "forest", "train", csv, "--target", "kind", "--out", model, "--local",
    ];
    let trained = run(&[&args[..], &["--trees", "20", "--json"]].concat()).json();
    assert_eq!(trained["card"]["target"], "kind");

    let score = run(&["forest", "evaluate", model, csv, "--json"]).json();
    assert!(
        score["classes"]["accuracy"].as_f64().unwrap() > 0.95,
        "{score}"
    );
    let ran = run(&["forest", "predict", model, csv]).code(0);
    let mut lines = ran.out.lines();
    assert_eq!(lines.next(), Some("kind,p(large),p(small)"));
    assert!(lines.next().unwrap().starts_with("small,"), "{}", ran.out);
    assert_eq!(lines.count(), 119);
    let card = run(&["forest", "inspect", model, "--json"]).json();
    assert_eq!(card["forest"], trained["card"]["forest"]);
    run(&["forest", "inspect", model]).code(0);
}

#[test]
fn wrong_data_is_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m.forest");
    let train = |text: &str, target: &str| {
        let csv = folder.path().join("d.csv");
        fs::write(&csv, text).unwrap();
        let (csv, out) = (csv.to_str().unwrap(), out.to_str().unwrap());
        run(&[
            "forest", "train", csv, "--target", target, "--out", out, "--local",
        ])
        .code(1)
    };
    train("a,b\n1,2\n3,4\n5,6\n7,8\n", "kind")
        .says("there is no column \"kind\"; the columns are a, b");
    train("a,b\n1,2\n3\n5,6\n7,8\n", "b").says("line 3 of the CSV has 1 cells, the header has 2");
    train("a,b\n1,x\nfoo,y\n5,x\n7,y\n", "b")
        .says("line 3, column \"a\": \"foo\" is text, but line 2 has a number");
    train("", "b").says("the CSV is empty");
    assert!(!out.exists());
    run(&["forest", "inspect", "/nowhere/m.forest"])
        .code(1)
        .says("/nowhere/m.forest");
}

#[test]
fn a_column_that_is_mixed_can_be_taken_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, out) = (folder.path().join("d.csv"), folder.path().join("m.forest"));
    fs::write(&csv, "zip,kind\n1,x\n2a,y\n1,x\n2a,y\n1,x\n2a,y\n").unwrap();
    let (csv, out) = (csv.to_str().unwrap(), out.to_str().unwrap());
    let train = [
        "forest", "train", csv, "--target", "kind", "--out", out, "--local", "--trees", "10",
    ];
    run(&train).code(1).says("take the column as text");
    run(&[&train[..], &["--text", "zip"]].concat()).code(0);
    let told = run(&["forest", "predict", out, csv]).code(0);
    let classes: Vec<_> = told.out.lines().skip(1).map(|line| &line[..1]).collect();
    assert_eq!(classes, ["x", "y", "x", "y", "x", "y"]);
    let mut wrong = train.to_vec();
    wrong.extend(["--text", "zap"]);
    run(&wrong).code(1).says("there is no column \"zap\"");
}

#[test]
fn three_nodes_grow_the_forest_that_one_machine_grows_alone() {
    let nodes = Node::three();
    let csv = csv(nodes[0].folder());
    let (csv, file) = (csv.to_str().unwrap(), nodes[0].folder().join("m.forest"));
    let file = file.to_str().unwrap();
    let args = [
        "forest", "train", csv, "--target", "kind", "--trees", "60", "--json", "--out",
    ];
    let here = run(&[&args[..], &[file, "--local"]].concat()).json();
    let there = nodes[0].cpe(&[&args[..], &["crowd"]].concat()).json();
    assert_eq!(here["card"]["forest"], there["card"]["forest"]);
    assert!(
        there["card"]["out_of_bag"]["classes"]["accuracy"]
            .as_f64()
            .unwrap()
            > 0.9
    );
    let grown: u64 = there["groves_by_node"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|n| n.as_u64())
        .sum();
    assert_eq!(grown, 6);

    // Every node has the model by its name.
    let score = nodes[2]
        .cpe(&["forest", "evaluate", "crowd", csv, "--json"])
        .json();
    assert!(score["classes"]["accuracy"].as_f64().unwrap() > 0.95);
    nodes[1]
        .cpe(&["forest", "inspect", "nobody"])
        .code(1)
        .says("nobody");

    // And an actor that answers by it.
    let args = "{\"model\":\"crowd\"}";
    nodes[1]
        .cpe(&[
            "actor", "spawn", "forest", "oracle", "--args", args, "--node", "b",
        ])
        .code(0);
    let told = nodes[2]
        .cpe(&["actor", "ask", "oracle", "{\"predict\":[30,5]}", "--json"])
        .json();
    assert_eq!(
        (&told["class"], &told["trees"]),
        (&"large".into(), &60.into())
    );
}
