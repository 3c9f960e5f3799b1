//! `cpe apply` on real nodes.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::harness::{Node, Ran, run};

fn apply(node: &Node, file: &Path, more: &[&str]) -> Ran {
    node.cpe(&[&["apply", file.to_str().unwrap()], more].concat())
}

fn applied(node: &Node, file: &Path) -> Value {
    apply(node, file, &["--json"]).json()
}

fn names(answer: &Value, step: &str) -> Vec<String> {
    let items = answer[step].as_array().unwrap();
    items
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_crowd_is_applied_once_and_follows_its_file() {
    let node = Node::alone();
    let file = node.folder().join("team.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write(
        "name = \"team\"
         [[agent]]\nname = \"tally\"\nkind = \"counter\"\nargs = 40
         [[agent]]\nname = \"parrot\"\nkind = \"echo\"
         [[agent]]\nname = \"spare\"\nkind = \"counter\"",
    );
    // Somebody else's actor, which no crowd may touch.
    node.cpe(&["actor", "spawn", "counter", "own"]).code(0);

    let planned = apply(&node, &file, &["--dry-run"]).code(0);
    assert!(planned.out.contains("+ tally added"), "{planned:?}");
    assert!(planned.out.contains("nothing was done"), "{planned:?}");
    node.cpe(&["actor", "where", "tally"]).code(1);

    let first = applied(&node, &file);
    assert_eq!(names(&first, "added"), ["tally", "parrot", "spare"]);
    node.cpe(&["actor", "ask", "tally", "{\"add\":2}"]).code(0);
    let again = applied(&node, &file);
    assert_eq!(names(&again, "unchanged"), ["tally", "parrot", "spare"]);
    assert_eq!(again["added"], json!([]));
    assert_eq!(node.cpe(&["actor", "ask", "tally", "get"]).out, "42\n");

    write(
        "name = \"team\"
         [[agent]]\nname = \"tally\"\nkind = \"counter\"\nargs = 7
         [[agent]]\nname = \"parrot\"\nkind = \"echo\"
         [[agent]]\nname = \"late\"\nkind = \"echo\"",
    );
    let changed = applied(&node, &file);
    assert_eq!(
        changed,
        json!({
            "crowd": "team",
            "dry_run": false,
            "added": [{"name": "late"}],
            "changed": [{"name": "tally", "fields": ["args"]}],
            "removed": [{"name": "spare"}],
            "unchanged": [{"name": "parrot"}],
        })
    );
    assert_eq!(node.cpe(&["actor", "ask", "tally", "get"]).out, "7\n");
    node.cpe(&["actor", "where", "spare"]).code(1);
    node.cpe(&["actor", "where", "own"]).code(0);

    // Another crowd's file removes nothing of this one.
    let other = node.folder().join("other.toml");
    fs::write(&other, "").unwrap();
    assert_eq!(applied(&node, &other)["removed"], json!([]));
    write("name = \"team\"");
    let removed = applied(&node, &file);
    assert_eq!(names(&removed, "removed"), ["late", "parrot", "tally"]);
    node.cpe(&["actor", "where", "own"]).code(0);
}

#[test]
fn what_cannot_be_applied_says_where_and_what_to_do() {
    let node = Node::alone();
    let file = node.folder().join("team.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();

    write("[[agent]]\nname = \"own\"\nkind = \"counter\"");
    node.cpe(&["actor", "spawn", "counter", "own"]).code(0);
    apply(&node, &file, &[])
        .code(1)
        .says("not started by `cpe apply`")
        .says("cpe actor stop own");

    write(
        "[[agent]]\nname = \"a\"\nkind = \"counter\"
         [[agent]]\nname = \"b\"\nkind = \"counter\"\nargs = \"many\"",
    );
    // The first is started, the second refused: the next try goes on.
    apply(&node, &file, &[])
        .code(1)
        .says("actor `b`")
        .says("1 of 2");
    write(
        "[[agent]]\nname = \"a\"\nkind = \"counter\"
         [[agent]]\nname = \"b\"\nkind = \"counter\"\nargs = 1",
    );
    let answer = applied(&node, &file);
    assert_eq!(names(&answer, "added"), ["b"]);
    assert_eq!(names(&answer, "unchanged"), ["a"]);

    for (args, said) in [
        ("nan", "NaN is no number"),
        ("{ from = -inf }", "-inf is no number"),
        ("{ days = [2026-11-27] }", "\"2026-11-27\""),
    ] {
        write(&format!(
            "[[agent]]\nname = \"a\"\nkind = \"echo\"\nargs = {args}"
        ));
        apply(&node, &file, &[])
            .code(1)
            .says("team.toml:4: agent `a`: args:")
            .says(said);
    }
    write("[[agent]]\nname = \"c\"\nkind = \"counter\"\nrequire = { gpu = \"yes\" }");
    apply(&node, &file, &[]).code(1).says("gpu=yes");
    apply(&node, Path::new("/nowhere.toml"), &[])
        .code(1)
        .says("/nowhere.toml");
    write("[[agent]]\nname = \"a\"\nkind = \"counter\"");
    run(&["apply", file.to_str().unwrap(), "--api", "127.0.0.1:1"])
        .code(4)
        .says("no node answers");
}

#[test]
fn a_durable_agent_keeps_its_state_when_its_file_changes_it_wrongly_too() {
    let node = Node::alone();
    let file = node.folder().join("team.toml");
    let write = |more: &str| {
        let agent = "[[agent]]\nname = \"tally\"\ndurable = true\n";
        fs::write(&file, format!("{agent}{more}")).unwrap();
    };
    let tally = || node.cpe(&["actor", "ask", "tally", "get"]).code(0).out;
    write("kind = \"counter\"\nargs = 40");
    applied(&node, &file);
    node.cpe(&["actor", "ask", "tally", "{\"add\":1}"]).code(0);

    write("kind = \"counter\"\nargs = 40\nrequire = { gpu = \"yse\" }");
    apply(&node, &file, &[]).code(1).says("gpu=yse");
    node.cpe(&["actor", "where", "tally"]).code(1);
    write("kind = \"counter\"\nargs = 40\nnear = \"somebody\"");
    assert_eq!(names(&applied(&node, &file), "added"), ["tally"]);
    assert_eq!(tally(), "41\n");

    // Another beginning is no reason to begin again.
    write("kind = \"counter\"\nargs = 7");
    let changed = applied(&node, &file);
    let fields = json!([{"name": "tally", "fields": ["args", "near"]}]);
    assert_eq!(changed["changed"], fields);
    assert_eq!(tally(), "41\n");

    write("kind = \"echo\"");
    apply(&node, &file, &[])
        .code(1)
        .says("keeps the state of an actor of the kind `counter`");
    write("kind = \"counter\"\nargs = 7");
    applied(&node, &file);
    assert_eq!(tally(), "41\n");

    fs::write(&file, "").unwrap();
    let removed = applied(&node, &file);
    assert_eq!(
        removed["removed"],
        json!([{"name": "tally", "ends_state": true}])
    );
    write("kind = \"counter\"\nargs = 7");
    applied(&node, &file);
    assert_eq!(tally(), "7\n");
}

#[test]
fn the_crowd_to_copy_is_applied() {
    let node = Node::alone();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/crowd.toml");
    let first = applied(&node, Path::new(file));
    assert_eq!(first["crowd"], "demo");
    assert!(!names(&first, "added").is_empty());
    let again = applied(&node, Path::new(file));
    assert_eq!(names(&again, "unchanged"), names(&first, "added"));
}
