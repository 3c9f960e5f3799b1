//! Rule agents that ask forests.

use serde_json::json;

use super::super::harness::Node;

/// The rules of the page that ask a forest, as they stand there.
fn judge() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rule-agents.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = page.split("```clips\n").skip(1);
    let mut blocks = blocks.map(|block| block.split("```").next().unwrap());
    let block = blocks.find(|block| block.contains("forest-predict"));
    block.unwrap().to_owned()
}

#[test]
fn the_rules_of_the_page_ask_a_real_model() {
    let a = Node::start(&["--name", "a"]);
    let csv = a.folder().join("tumours.csv");
    let mut text = String::from("radius,kind\n");
    for n in 0..60 {
        let kind = if n < 30 { "benign" } else { "malignant" };
        text.push_str(&format!("{n},{kind}\n"));
    }
    std::fs::write(&csv, text).unwrap();
    a.cpe(&[
        "forest",
        "train",
        csv.to_str().unwrap(),
        "--target",
        "kind",
        "--trees",
        "20",
        "--out",
        "tumours",
    ])
    .code(0);
    // And what the page says of probabilities alone.
    let apart = "(defrule shares (message (kind shares) (ask ?ask) (body $?features)) =>
          (assert (asked (forest-proba tumours $?features) ?ask)))
        (defrule shared ?a <- (asked ?r ?ask) (answer (request ?r) (status ok) (value $?shares)) =>
          (retract ?a) (reply-to ?ask (map-get $?shares malignant)))
        (defrule failed ?a <- (asked ?r ?ask) (answer (request ?r) (status failed) (value ?why)) =>
          (retract ?a) (reply-to ?ask ?why))";
    let source = format!("{}{apart}", judge());
    let args = json!({"source": source}).to_string();
    a.cpe(&["actor", "spawn", "rules", "judge", "--args", &args])
        .code(0);
    let ask = |question: serde_json::Value| {
        a.cpe(&["actor", "ask", "judge", &question.to_string(), "--json"])
            .json()
    };
    for question in ["judge", "shares"] {
        let large = ask(json!({question: [55]}));
        assert!(large.as_f64() > Some(0.9), "{question}: {large}");
        let small = ask(json!({question: [5]}));
        assert!(small.as_f64() < Some(0.1), "{question}: {small}");
    }
    let why = ask(json!({"shares": [5, 6]}));
    assert!(
        why.as_str().unwrap().contains("2 features were given"),
        "{why}"
    );
}
