//! What is said on the command line is done, or refused.

use std::fs;

use super::super::harness::{Node, run};
use super::{begin, csv, long};

#[test]
fn what_could_not_be_done_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, file) = (csv(folder.path()), folder.path().join("m.forest"));
    let (csv, file) = (csv.to_str().unwrap(), file.to_str().unwrap());
    let train = ["forest", "train", csv, "--target", "kind", "--out"];
    let refused = |args: &[&str], said: &str| {
        run(args).code(2).says(said);
        assert!(!fs::exists(file).unwrap(), "{args:?}");
    };
    let with = |more: &[&'static str]| [&train[..], &[file, "--local"], more].concat();
    refused(
        &[&train[..], &[file, "--detach"]].concat(),
        "nobody waits for the model",
    );
    refused(&[&train[..], &[""]].concat(), "--out says where");
    refused(
        &with(&["--types", "size=text,size=number"]),
        "column \"size\" is said to hold texts, and to hold numbers",
    );
    refused(
        &with(&["--types", "size=number", "--text", "size"]),
        "column \"size\" is said to hold texts",
    );
    refused(&with(&["--delimiter", "ab"]), "one sign");
    let attach = ["forest", "train", "--attach", "job"];
    refused(
        &[&attach[..], &["--out", "other"]].concat(),
        "kept in the mesh as `job`, not as `other`",
    );
    refused(&[&attach[..], &["--trees", "5"]].concat(), "--trees");
    refused(
        &["forest", "predict", file, csv, "--training", csv],
        "--quantiles",
    );
    run(&with(&["--weights", "kind"]))
        .code(1)
        .says("cannot say how much each row counts");
    // Said twice alike is said once.
    run(&with(&["--types", "size=number,size=number"])).code(0);
}

#[test]
fn where_the_model_cannot_be_put_is_said_before_it_is_grown() {
    let folder = tempfile::tempdir().unwrap();
    let csv = long(folder.path());
    let csv = csv.to_str().unwrap();
    // It would take an hour.
    let train = ["forest", "train", csv, "--target", "kind", "--local"];
    let train = [&train[..], &["--trees", "1000000", "--out"]].concat();
    let nowhere = folder.path().join("nowhere").join("m.forest");
    let here = folder.path().join(".");
    for place in [&nowhere, &here] {
        let place = place.to_str().unwrap();
        run(&[&train[..], &[place]].concat())
            .code(1)
            .says("cannot write");
    }
    let mesh = ["name", "--api", "127.0.0.1:1", "--timeout", "5s"];
    run(&[&train[..], &mesh].concat()).code(4);
}

#[test]
fn an_attached_job_can_be_written_to_a_file() {
    let a = Node::start(&["--name", "a"]);
    let csv = long(a.folder());
    let csv = csv.to_str().unwrap();
    begin(&a, csv, "crowd");
    let more = ["forest", "train", csv, "--target", "kind", "--trees", "10"];
    let more = a.cpe(&[&more[..], &["--out", "my model", "--detach"]].concat());
    let hint = "`cpe forest train --attach 'my model'`";
    assert!(more.out.contains(hint), "{more:?}");
    let file = a.folder().join("m.forest");
    let file = file.to_str().unwrap();
    let args = ["forest", "train", "--attach", "crowd", "--out", file];
    let trained = a
        .cpe(&[&args[..], &["--json", "--timeout", "2m"]].concat())
        .json();
    assert_eq!(trained["model"], file);
    let read = run(&["forest", "inspect", file, "--json"]).json();
    assert_eq!(read["forest"], trained["card"]["forest"]);
}

#[test]
fn a_model_of_weighed_rows_tells_quantiles() {
    let folder = tempfile::tempdir().unwrap();
    let (path, model) = (folder.path().join("d.csv"), folder.path().join("m.forest"));
    let mut text = String::from("x,trust,price\n");
    for n in 0..60 {
        text.push_str(&format!("{n},{},{}.5\n", n % 3 + 1, n * 7));
    }
    fs::write(&path, text).unwrap();
    let (csv, model) = (path.to_str().unwrap(), model.to_str().unwrap());
    run(&[
        "forest",
        "train",
        csv,
        "--target",
        "price",
        "--weights",
        "trust",
        "--out",
        model,
        "--local",
        "--trees",
        "20",
    ])
    .code(0);
    let args = ["forest", "predict", model, csv, "--training", csv];
    let told = run(&[&args[..], &["--quantiles", "0.1,0.9"]].concat()).code(0);
    assert_eq!(told.out.lines().next(), Some("price,q(0.1),q(0.9)"));
    run(&[&args[..], &["--quantiles", "0,0.9"]].concat())
        .code(1)
        .says("above 0 and below 1");
}

#[test]
fn classes_taken_as_texts_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, model) = (folder.path().join("d.csv"), folder.path().join("m.forest"));
    // With semicolons, and decimal points all the same.
    let mut text = String::from("x;kind\n");
    for n in 0..40 {
        text.push_str(&format!("{n}.5;0{}\n", 1 + n / 20));
    }
    fs::write(&path, text).unwrap();
    let (csv, model) = (path.to_str().unwrap(), model.to_str().unwrap());
    let by = ["--delimiter", ";"];
    let train = ["forest", "train", csv, "--target", "kind", "--out", model];
    let train = [&train[..], &["--local", "--types", "kind=text"]].concat();
    run(&[&train[..], &by].concat()).code(0);
    let score = run(&[&["forest", "evaluate", model, csv, "--json"][..], &by].concat()).json();
    assert_eq!(score["classes"]["classes"], serde_json::json!(["01", "02"]));
    assert!(score["classes"]["accuracy"].as_f64() > Some(0.9), "{score}");
    run(&[&["forest", "inspect", model, "--data", csv][..], &by].concat()).code(0);
    run(&["forest", "evaluate", model, csv]).code(1);
}
