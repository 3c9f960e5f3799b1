//! The user's page, tried out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use cpe_rules::{AgentMessage, AgentOptions, Effect, REMOVED, RuleAgent, check};
use cpe_tuple::{Value, json};

const PAGE: &str = include_str!("../../../docs/rule-agents.md");

/// The page's blocks of CLIPS, in order.
fn blocks() -> Vec<&'static str> {
    PAGE.split("```clips\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

fn agent(source: &str) -> RuleAgent {
    RuleAgent::new("doc", source, AgentOptions::default()).unwrap()
}

#[test]
fn every_program_of_the_page_checks_clean() {
    let programs: Vec<_> = blocks()
        .into_iter()
        .filter(|block| !block.starts_with("(reply"))
        .collect();
    assert_eq!(programs.len(), 3);
    for program in programs {
        assert_eq!(check("page", program), [], "{program}");
    }
}

#[test]
fn the_first_agent_greets() {
    let mut agent = agent(blocks()[0]);
    let effects = agent
        .handle(AgentMessage::ask("me", "hello", "Ada", 1), 0)
        .unwrap();
    let tuple = json::parse_tuple(r#"["hello","Ada"]"#).unwrap();
    let out = Effect::Out {
        workspace: "greetings".into(),
        tuple,
    };
    assert_eq!(
        effects,
        [
            out,
            Effect::Reply {
                ask: 1,
                value: Value::from("hello Ada")
            }
        ]
    );
}

#[test]
fn the_case_becomes_the_fact_that_is_shown() {
    let mut agent = agent(blocks()[1]);
    let body = r#"{"id": "a", "probability": 1, "top_features": ["area", "texture"]}"#;
    agent
        .handle(
            AgentMessage::tell("x", "case", json::parse_value(body).unwrap()),
            0,
        )
        .unwrap();
    let shown = r#"(case (id "a") (probability 1.0) (top-features "area" "texture") (ask nil))"#;
    assert_eq!(agent.engine().facts()[0].to_string(), shown);
    assert!(PAGE.contains(body) && PAGE.contains(shown));
}

#[test]
fn the_judge_waits_for_its_prediction() {
    let mut agent = agent(blocks()[2]);
    let body = json::parse_value("[1.5]").unwrap();
    let effects = agent
        .handle(AgentMessage::ask("x", "judge", body, 9), 0)
        .unwrap();
    let Effect::ForestPredict { request, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    // As nodes answer: `cpe-node` asks one with these very rules.
    let prediction = r#"{"class":"benign","probabilities":{"benign":0.75,"malignant":0.25},
        "trees":4,"votes":{"benign":3,"malignant":1}}"#;
    let prediction = json::parse_value(prediction).unwrap();
    let effects = agent.answer(*request, Ok(prediction), 0).unwrap();
    assert_eq!(
        effects,
        [Effect::Reply {
            ask: 9,
            value: Value::Float(0.25)
        }]
    );
}

#[test]
fn the_map_example_makes_the_map() {
    let reply = blocks()[3].replace("?id", "17");
    let mut agent = agent(&format!("(defrule r (message) => {reply})"));
    let effects = agent.handle(AgentMessage::ask("x", "q", (), 1), 0).unwrap();
    let value = json::parse_value(r#"{"id":17,"features":["area","texture"]}"#).unwrap();
    assert_eq!(effects, [Effect::Reply { ask: 1, value }]);
}

#[test]
fn functions_the_page_calls_gone_are_gone() {
    let table = PAGE.split("## What is not there").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let mut count = 0;
    for name in names {
        count += 1;
        assert!(REMOVED.contains(&name), "{name}");
    }
    assert!(count > 30, "{count}");
}
