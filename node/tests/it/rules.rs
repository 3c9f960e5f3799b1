//! `cpe rules` without a node.

use std::fs;

use serde_json::json;

use super::harness::run;

const PROGRAM: &str = "(deftemplate reading (slot sensor) (slot celsius (type NUMBER)))
(defrule hot
  (reading (sensor ?s) (celsius ?c&:(> ?c 80)))
  =>
  (printout t ?s \" is hot\" crlf)
  (assert (alarm ?s)))
";

fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_program_runs_on_facts_from_a_csv() {
    let (_program, program) = file("p.clp", PROGRAM);
    let (_facts, facts) = file("reading.csv", "sensor,celsius\nboiler,91\nroom,21\n");
    let ran = run(&["rules", "run", &program, "--facts", &facts]).code(0);
    assert_eq!(ran.out, "boiler is hot\n");
    let ran = run(&["rules", "run", &program, "--facts", &facts, "--json"]).json();
    assert_eq!(ran["fired"], json!(1));
    assert_eq!(ran["output"], "boiler is hot\n");
    assert!(
        ran["facts"]
            .as_array()
            .unwrap()
            .contains(&json!("(alarm boiler)")),
        "{ran}"
    );
}

#[test]
fn a_csv_whose_columns_are_no_slots_is_refused() {
    let (_program, program) = file("p.clp", PROGRAM);
    let (_facts, facts) = file("x.csv", "sensor,kelvin\nboiler,364\n");
    let given = format!("reading={facts}");
    run(&["rules", "run", &program, "--facts", &given])
        .code(1)
        .says("kelvin");
}

#[test]
fn a_program_that_does_not_parse_is_named_with_its_line() {
    let (_program, program) = file("p.clp", "(deffacts f (a))\n\n(defrule r (a) = (b))\n");
    for command in ["check", "run"] {
        run(&["rules", command, &program]).code(1).says("p.clp:3");
    }
    let checked = run(&["rules", "check", &program, "--json"]).code(1);
    let checked: serde_json::Value = serde_json::from_str(&checked.out).unwrap();
    assert_eq!(
        (&checked["ok"], &checked["found"][0]["line"]),
        (&json!(false), &json!(3))
    );
}

#[test]
fn a_program_that_never_ends_is_stopped() {
    let (_program, program) = file("p.clp", "(defrule r => (while TRUE do))\n");
    let args = ["rules", "run", &program, "--timeout", "300ms"];
    run(&args).code(1).says("deadline");
    let (_program, program) = file(
        "q.clp",
        "(deffacts f (n 0)) (defrule r ?f <- (n ?n) => (retract ?f) (assert (n (+ ?n 1))))",
    );
    run(&["rules", "run", &program, "--timeout", "300ms"])
        .code(1)
        .says("deadline");
}

#[test]
fn a_limit_ends_a_run_in_order() {
    let text = "(deffacts f (n 0)) (defrule r ?f <- (n ?n) => (retract ?f) (assert (n (+ ?n 1))))";
    let (_program, program) = file("p.clp", text);
    let ran = run(&["rules", "run", &program, "--limit", "5", "--json"]).json();
    assert_eq!((&ran["fired"], &ran["limited"]), (&json!(5), &json!(true)));
}

#[test]
fn a_program_cannot_reach_files_or_commands() {
    for text in [
        "(defrule r => (system \"ls\"))",
        "(defrule r => (open \"/etc/passwd\" f))",
    ] {
        let (_program, program) = file("p.clp", text);
        run(&["rules", "check", &program]).code(1);
    }
}
