//! The triage example, driven as the demo drives it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use cpe_rules::{AgentMessage, AgentOptions, Effect, RuleAgent, check};
use cpe_tuple::{Value, json};

const SOURCE: &str = include_str!("../../../configs/triage.clp");

fn agent() -> RuleAgent {
    let mut agent = RuleAgent::new("triage", SOURCE, AgentOptions::default()).unwrap();
    assert_eq!(agent.start(0).unwrap(), []);
    agent
}

fn case(text: &str) -> AgentMessage {
    AgentMessage::tell("demo", "case", json::parse_value(text).unwrap())
}

/// The tuple that a case leads to.
fn decision(agent: &mut RuleAgent, text: &str) -> Vec<Value> {
    let effects = agent.handle(case(text), 0).unwrap();
    match effects.as_slice() {
        [Effect::Out { workspace, tuple }] if workspace == "decisions" => tuple.fields().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn tuple(id: &str, decision: &str, reason: &str) -> Vec<Value> {
    vec![
        "decision".into(),
        id.into(),
        Value::symbol(decision),
        reason.into(),
    ]
}

#[test]
fn a_clear_case_is_decided_with_its_reason() {
    let mut agent = agent();
    let text = r#"{"id":"a","probability":0.02,"votes":100,"top_features":["worst area","mean"]}"#;
    assert_eq!(
        decision(&mut agent, text),
        tuple(
            "a",
            "benign",
            "probability of malignant is only 2.0%; weighed most: \"worst area\" \"mean\""
        )
    );
    assert_eq!(
        decision(
            &mut agent,
            r#"{"id":"b","probability":0.97,"votes":100,"top-features":[]}"#
        ),
        tuple("b", "malignant", "probability of malignant is 97.0%")
    );
}

#[test]
fn doubts_lead_to_a_second_opinion_that_names_them_all() {
    let mut agent = agent();
    assert_eq!(
        decision(&mut agent, r#"{"id":"c","probability":0.5}"#),
        tuple(
            "c",
            "second-opinion",
            "probability of malignant is 50.0%, between 15.0% and 85.0%"
        )
    );
    let few = decision(&mut agent, r#"{"id":"d","probability":0.99,"votes":3}"#);
    assert_eq!(
        few,
        tuple("d", "second-opinion", "only 3 trees voted, 20 are wanted")
    );
    let both = decision(&mut agent, r#"{"id":"e","probability":0.6,"votes":3}"#);
    let reason = both[3].as_str().unwrap();
    assert!(reason.contains("between") && reason.contains("; ") && reason.contains("3 trees"));
}

#[test]
fn the_thresholds_themselves_are_confident() {
    let mut agent = agent();
    let mut symbol =
        |p: &str| decision(&mut agent, &format!(r#"{{"id":"x","probability":{p}}}"#))[2].clone();
    assert_eq!(symbol("0.15"), Value::symbol("benign"));
    assert_eq!(symbol("0.85"), Value::symbol("malignant"));
    assert_eq!(symbol("0.151"), Value::symbol("second-opinion"));
    assert_eq!(
        (symbol("0"), symbol("1")),
        (Value::symbol("benign"), Value::symbol("malignant"))
    );
}

#[test]
fn each_case_leaves_nothing_but_its_count() {
    let mut agent = agent();
    for n in 0..300 {
        let p = f64::from(n % 100) / 100.0;
        decision(
            &mut agent,
            &format!(r#"{{"id":{n},"probability":{p},"top-features":["a"]}}"#),
        );
    }
    let facts: Vec<_> = agent
        .engine()
        .facts()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(facts.len(), 3, "{facts:?}");
    let effects = agent
        .handle(AgentMessage::ask("demo", "summary", (), 7), 0)
        .unwrap();
    let counts = json::parse_value(r#"{"benign":48,"malignant":45,"second-opinion":207}"#).unwrap();
    assert_eq!(
        effects,
        [Effect::Reply {
            ask: 7,
            value: counts
        }]
    );
}

#[test]
fn a_sender_who_asked_gets_the_decision_as_a_map() {
    let mut agent = agent();
    let body = json::parse_value(r#"{"id":"z","probability":0.9}"#).unwrap();
    let effects = agent
        .handle(AgentMessage::ask("me", "case", body, 3), 0)
        .unwrap();
    let Effect::Reply { ask: 3, value } = &effects[1] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        value.as_map().unwrap()["decision"],
        Value::symbol("malignant")
    );
}

#[test]
fn a_malformed_case_is_refused_and_the_next_one_decided() {
    let mut agent = agent();
    let error = agent
        .handle(case(r#"{"id":"a","probability":7}"#), 0)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "not delivered: slot `probability` of `case`: out of range"
    );
    let error = agent
        .handle(case(r#"{"id":"a","colour":"red"}"#), 0)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "not delivered: deftemplate `case` has no slot `colour`; \
         it has: id, probability, votes, top-features, from, ask"
    );
    assert_eq!(
        decision(&mut agent, r#"{"id":"b","probability":0}"#)[2],
        Value::symbol("benign")
    );
}

#[test]
fn the_example_checks_clean() {
    assert_eq!(check("triage.clp", SOURCE), []);
}
