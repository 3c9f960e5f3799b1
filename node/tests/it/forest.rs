//! `cpe forest`, with a node and without.

use std::fs;
use std::path::{Path, PathBuf};

use super::harness::{Node, run};

mod abandoned;
mod crowd;
mod ends;
mod liars;
mod options;
mod parquet;
mod rules;
mod votes;

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
    run(&train)
        .code(1)
        .says("take the column as text (`--types zip=text`)");
    run(&[&train[..], &["--types", "zip=text"]].concat()).code(0);
    let told = run(&["forest", "predict", out, csv]).code(0);
    let classes: Vec<_> = told.out.lines().skip(1).map(|line| &line[..1]).collect();
    assert_eq!(classes, ["x", "y", "x", "y", "x", "y"]);
    let mut wrong = train.to_vec();
    wrong.extend(["--types", "zap=text"]);
    run(&wrong).code(1).says("there is no column \"zap\"");
    run(&[&train[..], &["--types", "zip=number"]].concat())
        .code(1)
        .says("line 3, column \"zip\": \"2a\" is no number");
    run(&[&train[..], &["--types", "zip=colour"]].concat())
        .code(2)
        .says("COLUMN=text or COLUMN=number");
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

/// A larger table, so that a grove takes long enough to be killed at.
fn long(folder: &Path) -> PathBuf {
    let path = folder.join("long.csv");
    let mut text = String::from("a,b,c,d,e,f,kind\n");
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % 1000
    };
    for _ in 0..4000 {
        let row: Vec<u64> = (0..6).map(|_| next()).collect();
        let kind = if row[0] * row[1] + next() * 300 > 400_000 {
            "yes"
        } else {
            "no"
        };
        let cells: Vec<String> = row.iter().map(u64::to_string).collect();
        text.push_str(&format!("{},{kind}\n", cells.join(",")));
    }
    fs::write(&path, text).unwrap();
    path
}

const SETTINGS: [&str; 8] = [
    "--target",
    "kind",
    "--trees",
    "300",
    "--grove-trees",
    "15",
    "--seed",
    "7",
];

/// The forest's hash as one machine grows it alone.
fn hash_here(folder: &Path, csv: &str, settings: &[&str]) -> String {
    let file = folder.join("here.forest");
    let args = [
        "forest",
        "train",
        csv,
        "--json",
        "--local",
        "--out",
        file.to_str().unwrap(),
    ];
    let here = run(&[&args[..], settings].concat()).json();
    here["card"]["forest"].as_str().unwrap().to_owned()
}

/// Begins a job and does not wait.
fn begin(node: &Node, csv: &str, name: &str) {
    let args = ["forest", "train", csv, "--detach", "--out", name];
    node.cpe(&[&args[..], &SETTINGS].concat()).code(0);
}

/// Waits for a job from any node.
fn attach(node: &Node, name: &str) -> serde_json::Value {
    node.cpe(&[
        "forest",
        "train",
        "--attach",
        name,
        "--json",
        "--timeout",
        "2m",
    ])
    .json()
}

fn groves(trained: &serde_json::Value) -> u64 {
    let nodes = trained["groves_by_node"].as_object().unwrap();
    nodes.values().filter_map(serde_json::Value::as_u64).sum()
}

#[test]
fn a_job_outlives_the_node_that_was_asked_and_the_steward() {
    let folder = tempfile::tempdir().unwrap();
    let csv = long(folder.path());
    let csv = csv.to_str().unwrap();
    let wanted = hash_here(folder.path(), csv, &SETTINGS);
    let [a, b, c] = Node::three();
    // Three are homes: whichever two are killed here, at most one of those.
    let d = a.join(&["--name", "d", "--no-homes"]);
    let e = a.join(&["--name", "e", "--no-homes"]);
    for node in [&a, &b, &c, &d, &e] {
        node.sees(5);
    }
    a.has_homes();
    begin(&e, csv, "crowd");
    a.has_homes();
    // The node that was asked is killed at once.
    e.end_by(rustix::process::Signal::KILL);
    // And, as soon as it is known, the one that sees to the job, if that is another.
    let mut steward = String::new();
    super::harness::until("the job has a steward and some groves", || {
        let jobs = a.cpe(&["forest", "jobs", "--json"]).json();
        let job = &jobs[0];
        if job["done"].as_u64() > Some(1) {
            job["stewards"][0]
                .as_str()
                .unwrap()
                .clone_into(&mut steward);
        }
        !steward.is_empty()
    });
    let mut nodes: Vec<(&str, Node)> = vec![("a", a), ("b", b), ("c", c), ("d", d)];
    if let Some(place) = nodes.iter().position(|(name, _)| *name == steward) {
        nodes.remove(place).1.end_by(rustix::process::Signal::KILL);
    }
    let trained = attach(&nodes[0].1, "crowd");
    assert_eq!(trained["card"]["forest"], wanted.as_str());
    assert_eq!(groves(&trained), 20);
    let stewards = trained["stewards"].as_array().unwrap();
    assert!(stewards.len() > 1, "{stewards:?}");
    assert!(trained["audited"].as_u64().unwrap() >= 1);
    assert_eq!(trained["liars"], serde_json::json!([]));
    // In the end nothing but the model, its bytes and the last state is left.
    super::harness::until("nothing of the job is left", || {
        let left = nodes[1]
            .1
            .cpe(&["space", "list", "#forest", "--json"])
            .json();
        let left = left.as_array().unwrap().iter();
        left.filter(|variable| variable["tuples"].as_u64() > Some(0))
            .count()
            == 3
    });
}

#[test]
fn more_trees_under_a_models_name_keep_those_it_has() {
    let a = Node::alone();
    let csv = csv(a.folder());
    let csv = csv.to_str().unwrap();
    let train = |trees: &str, out: &str, more: &[&str]| {
        let args = [
            "forest", "train", csv, "--target", "kind", "--json", "--out", out,
        ];
        a.cpe(&[&args[..], &["--trees", trees], more].concat())
            .json()
    };
    train("20", "model", &[]);
    let more = train("60", "model", &[]);
    assert_eq!(groves(&more), 4, "{more}");
    let file = a.folder().join("here.forest");
    let file = file.to_str().unwrap();
    train("20", file, &["--local"]);
    let here = train("60", file, &["--local"]);
    assert_eq!(more["card"]["forest"], here["card"]["forest"]);
    assert_eq!(more["card"]["out_of_bag"], here["card"]["out_of_bag"]);
}

#[test]
fn a_job_can_be_ended_and_its_name_be_used_again() {
    let a = Node::alone();
    let csv = long(a.folder());
    let csv = csv.to_str().unwrap();
    let args = [
        "forest", "train", csv, "--detach", "--target", "kind", "--out", "model",
    ];
    a.cpe(&[&args[..], &["--trees", "20000"]].concat()).code(0);
    a.cpe(&[&args[..], &["--trees", "10"]].concat())
        .code(1)
        .says("a job `model` is growing another forest");
    a.cpe(&["forest", "cancel", "model"]).code(0);
    a.cpe(&["forest", "train", "--attach", "model"])
        .code(1)
        .says("job `model` was cancelled");
    a.cpe(&["forest", "cancel", "model"])
        .code(1)
        .says("no job `model` is growing a forest");
    a.cpe(&[&args[..], &["--trees", "10"]].concat()).code(0);
    assert_eq!(groves(&attach(&a, "model")), 1);
    a.cpe(&["forest", "train", "--attach", "nobody"])
        .code(1)
        .says("no job is called `nobody`");
}

#[test]
fn what_another_version_is_to_grow_is_left_to_it() {
    let a = Node::start(&["--name", "a"]);
    // As a node of another version puts them there, and as one did before growers had names.
    let others = [
        serde_json::json!(["job", "theirs", "cpe exact 9", {"bytes": "AA=="}]),
        serde_json::json!(["grove", "theirs", "id", 0, "cpe exact 9", {"bytes": "AA=="}]),
        serde_json::json!(["job", "old", {"bytes": "AA=="}]),
        serde_json::json!(["grove", "old", "id", 0, {"bytes": "AA=="}]),
    ];
    for tuple in &others {
        a.cpe(&["space", "out", "#forest", &tuple.to_string()])
            .code(0);
    }
    // Ours is done past them.
    let csv = csv(a.folder());
    let csv = csv.to_str().unwrap();
    let trained = a
        .cpe(&[
            "forest", "train", csv, "--target", "kind", "--trees", "20", "--json", "--out", "ours",
        ])
        .json();
    assert_eq!(trained["card"]["engine"], "cpe exact 1");
    // Nobody took theirs: each is still there.
    for tuple in &others {
        let taken = a.cpe(&["space", "inp", "#forest", &tuple.to_string(), "--json"]);
        assert_eq!(taken.code, Some(0), "{tuple}: {}", taken.err);
    }
}

#[test]
fn a_forest_is_looked_into_with_bars_shuffles_and_plots() {
    let folder = tempfile::tempdir().unwrap();
    let csv = csv(folder.path());
    let (csv, model) = (csv.to_str().unwrap(), folder.path().join("m.forest"));
    let (model, plots) = (model.to_str().unwrap(), folder.path().join("plots"));
    let plots = plots.to_str().unwrap();
    let train = [
        "forest", "train", csv, "--target", "kind", "--out", model, "--local",
    ];
    run(&[&train[..], &["--trees", "20", "--balanced"]].concat()).code(0);
    let args = [
        "forest",
        "inspect",
        model,
        "--plots",
        plots,
        "--data",
        csv,
        "--shuffle",
        "3",
    ];
    let ran = run(&args).code(0);
    for part in [
        "Importance of the 2 columns",
        "█",
        "out of bag: accuracy",
        "held out: accuracy",
    ] {
        assert!(ran.out.contains(part), "{part:?} is not in {}", ran.out);
    }
    let wide = ran
        .out
        .lines()
        .find(|line| line.chars().count() > 80 && !line.contains("wrote"));
    assert_eq!(wide, None);
    for plot in ["importances", "confusion", "roc", "calibration"] {
        let svg = fs::read_to_string(format!("{plots}/{plot}.svg")).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.ends_with("</svg>\n"),
            "{plot}"
        );
    }
    let card = run(&[&args[..], &["--json"]].concat()).json();
    assert!(
        card["falls_if_shuffled"]["size"].as_f64() > Some(0.2),
        "{card}"
    );
    assert_eq!(card["spec"]["class_weights"], "balanced");
    run(&[&train[..], &["--class-weight", "huge=3"]].concat())
        .code(1)
        .says("class_weights = huge is outside the classes: large, small");
}

#[test]
fn numbers_are_told_with_quantiles_and_rows_by_weight() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.csv");
    let mut text = String::from("x,trust,price\n");
    for n in 0..300u32 {
        let noise = n.wrapping_mul(2_654_435_761) % 100;
        // Every third row lies, and nobody trusts it.
        let lie = if n % 3 == 0 { 1000.0 } else { 0.0 };
        let price = f64::from(n % 50) * 10.0 + f64::from(noise) / 10.0 + lie + 0.5;
        text.push_str(&format!("{},{},{price}\n", n % 50, u32::from(n % 3 != 0)));
    }
    fs::write(&path, text).unwrap();
    let (csv, model) = (path.to_str().unwrap(), folder.path().join("m.forest"));
    let model = model.to_str().unwrap();
    let train = [
        "forest", "train", csv, "--target", "price", "--out", model, "--local",
    ];
    run(&[&train[..], &["--trees", "20", "--weights", "trust"]].concat()).code(0);
    let told = run(&["forest", "predict", model, csv]).code(0);
    let prices: Vec<f64> = told
        .out
        .lines()
        .skip(1)
        .map(|line| line.parse().unwrap())
        .collect();
    assert!(prices.iter().all(|price| *price < 600.0), "{prices:?}");

    run(&[&train[..], &["--trees", "20", "--ignore", "trust"]].concat()).code(0);
    let args = [
        "forest",
        "predict",
        model,
        csv,
        "--quantiles",
        "0.1,0.9",
        "--training",
        csv,
    ];
    let told = run(&args).code(0);
    let mut lines = told.out.lines();
    assert_eq!(lines.next(), Some("price,q(0.1),q(0.9)"));
    for line in lines {
        let row: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        assert!(row[1] <= row[2], "{line}");
    }
    let leaves = run(&["forest", "predict", model, csv, "--leaves"]).code(0);
    let first: Vec<u32> = serde_json::from_str(leaves.out.lines().next().unwrap()).unwrap();
    assert_eq!(first.len(), 20);
    run(&["forest", "predict", model, csv, "--quantiles", "0.5"]).code(2);
}
