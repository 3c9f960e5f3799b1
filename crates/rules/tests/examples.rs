//! The example programs, driven as a node drives them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::VecDeque;

use cpe_rules::{AgentMessage, AgentOptions, Effect, LaterFact, RuleAgent, check};
use cpe_tuple::{Tuple, Value, json};

const EXAMPLES: [(&str, &str); 5] = [
    (
        "diagnosis",
        include_str!("../../../examples/rules/diagnosis.clp"),
    ),
    (
        "monitor",
        include_str!("../../../examples/rules/monitor.clp"),
    ),
    ("seller", include_str!("../../../examples/rules/seller.clp")),
    ("buyer", include_str!("../../../examples/rules/buyer.clp")),
    (
        "planner",
        include_str!("../../../examples/rules/planner.clp"),
    ),
];

fn agent(name: &str) -> RuleAgent {
    let (_, source) = EXAMPLES.iter().find(|(known, _)| *known == name).unwrap();
    RuleAgent::new(name, source, AgentOptions::default()).unwrap()
}

fn tell(agent: &mut RuleAgent, kind: &str, body: &str) -> Vec<Effect> {
    let body = json::parse_value(body).unwrap();
    agent.handle(AgentMessage::tell("", kind, body), 0).unwrap()
}

fn ask(agent: &mut RuleAgent, kind: &str, body: &str) -> String {
    let body = json::parse_value(body).unwrap();
    let effects = agent
        .handle(AgentMessage::ask("", kind, body, 1), 0)
        .unwrap();
    let reply = effects.iter().find_map(|effect| match effect {
        Effect::Reply { value, .. } => Some(json::value_to_json(value).to_string()),
        _ => None,
    });
    reply.unwrap_or_else(|| panic!("no reply: {effects:?}"))
}

/// Tuples put into workspaces.
fn outs(effects: &[Effect]) -> Vec<String> {
    let outs = effects.iter().filter_map(|effect| match effect {
        Effect::Out { workspace, tuple } => {
            Some(format!("{workspace} {}", json::tuple_to_json(tuple)))
        }
        _ => None,
    });
    outs.collect()
}

#[test]
fn every_example_checks_clean() {
    for (name, source) in EXAMPLES {
        assert_eq!(check(name, source), [], "{name}");
    }
}

#[test]
fn the_diagnosis_weighs_reasons_and_takes_them_back() {
    let mut agent = agent("diagnosis");
    assert_eq!(ask(&mut agent, "next", "null"), "{\"sym\":\"gauge\"}");
    tell(
        &mut agent,
        "symptom",
        "{\"name\":\"lights\",\"value\":\"dim\"}",
    );
    tell(
        &mut agent,
        "symptom",
        "{\"name\":\"starter\",\"value\":\"slow\"}",
    );
    assert_eq!(
        ask(&mut agent, "diagnose", "null"),
        "[{\"cause\":{\"sym\":\"flat-battery\"},\"certainty\":0.85}]"
    );
    assert_eq!(
        ask(&mut agent, "why", "\"flat-battery\""),
        "[{\"sym\":\"lights\"},{\"sym\":\"starter\"}]"
    );
    // Looked at again: the lights are bright, and the starter is silent.
    tell(
        &mut agent,
        "symptom",
        "{\"name\":\"lights\",\"value\":\"bright\"}",
    );
    tell(
        &mut agent,
        "symptom",
        "{\"name\":\"starter\",\"value\":\"silent\"}",
    );
    assert_eq!(
        ask(&mut agent, "diagnose", "null"),
        "[{\"cause\":{\"sym\":\"bad-starter\"},\"certainty\":0.72}]"
    );
    tell(
        &mut agent,
        "symptom",
        "{\"name\":\"gauge\",\"value\":\"empty\"}",
    );
    let told = ask(&mut agent, "diagnose", "null");
    assert!(
        told.starts_with("[{\"cause\":{\"sym\":\"no-fuel\"}"),
        "{told}"
    );
}

#[test]
fn the_monitor_alarms_once_calms_down_and_hears_silence() {
    let mut agent = agent("monitor");
    let begun = agent.start(0).unwrap();
    let [Effect::Subscribe { subscription, .. }] = begun.as_slice() else {
        panic!("{begun:?}")
    };
    let mut reading = |celsius: i64, now: i64| {
        let fields = vec!["reading".into(), "boiler".into(), celsius.into()];
        let tuple = Tuple::new(fields).unwrap();
        agent.tuple(*subscription, &tuple, now).unwrap()
    };
    let first = reading(90, 1000);
    let after = LaterFact {
        relation: "check".into(),
        fields: vec!["boiler".into()],
    };
    let waits = Effect::After {
        ms: 60_000,
        fact: after.clone(),
    };
    assert_eq!(first, std::slice::from_ref(&waits));
    assert_eq!(reading(90, 2000), []);
    let hot = reading(91, 3000);
    assert_eq!(outs(&hot), ["alarms [{\"sym\":\"hot\"},\"boiler\",3000]"]);
    assert_eq!(reading(95, 4000), [], "one alarm is enough");
    let calm = reading(70, 5000);
    assert_eq!(outs(&calm), ["alarms [{\"sym\":\"calm\"},\"boiler\",5000]"]);
    assert_eq!(
        agent.later(&after, 61_000).unwrap(),
        std::slice::from_ref(&waits),
        "heard of 56 s ago"
    );
    let silent = agent.later(&after, 121_000).unwrap();
    assert_eq!(
        outs(&silent),
        ["alarms [{\"sym\":\"silent\"},\"boiler\",121000]"]
    );
    assert!(silent.contains(&waits));
}

#[test]
fn buyer_and_seller_meet_between_their_limits() {
    let mut agents = [agent("buyer"), agent("seller")];
    let mut mail = VecDeque::from([(0, "buy".to_owned(), Value::from("seller"))]);
    let (mut deals, mut letters) = (Vec::new(), 0);
    while let Some((to, kind, body)) = mail.pop_front() {
        letters += 1;
        assert!(letters < 100, "they talk for ever");
        let effects = agents[to]
            .handle(AgentMessage::tell("", kind, body), 0)
            .unwrap();
        deals.extend(outs(&effects));
        for effect in effects {
            if let Effect::Send { to, kind, body } = effect {
                mail.push_back((usize::from(to == "seller"), kind, body));
            }
        }
    }
    assert_eq!(deals.len(), 1, "{deals:?}");
    let price: f64 = deals[0]
        .rsplit(',')
        .next()
        .unwrap()
        .trim_end_matches(']')
        .parse()
        .unwrap();
    assert!(
        deals[0].starts_with("deals [{\"sym\":\"deal\"},{\"sym\":\"seller\"},"),
        "{deals:?}"
    );
    assert!((60.0..=80.0).contains(&price), "{price}");
    // Each keeps to itself what is over.
    assert!(
        agents
            .iter_mut()
            .all(|agent| agent.engine().facts_of("offer").is_empty())
    );
}

#[test]
fn the_planner_drops_what_rests_on_a_closed_road() {
    let mut agent = agent("planner");
    for road in [
        "{\"from\":\"a\",\"to\":\"b\",\"km\":3}",
        "{\"from\":\"b\",\"to\":\"d\",\"km\":3}",
        "{\"from\":\"a\",\"to\":\"c\",\"km\":2}",
        "{\"from\":\"c\",\"to\":\"d\",\"km\":9}",
    ] {
        tell(&mut agent, "road", road);
    }
    assert_eq!(ask(&mut agent, "plan", "null"), "null");
    let first = tell(&mut agent, "goal", "{\"from\":\"a\",\"to\":\"d\"}");
    assert_eq!(
        outs(&first),
        ["plans [{\"sym\":\"plan\"},6,\"a\",\"b\",\"d\"]"]
    );
    let plan = ask(&mut agent, "plan", "null");
    assert_eq!(plan, "{\"km\":6,\"via\":[\"a\",\"b\",\"d\"]}");
    let next = tell(&mut agent, "closed", "{\"from\":\"d\",\"to\":\"b\"}");
    assert_eq!(
        outs(&next),
        ["plans [{\"sym\":\"plan\"},11,\"a\",\"c\",\"d\"]"]
    );
    let shorter = tell(&mut agent, "road", "{\"from\":\"b\",\"to\":\"c\",\"km\":1}");
    assert_eq!(
        outs(&shorter),
        Vec::<String>::new(),
        "no better way to the goal"
    );
    tell(&mut agent, "closed", "{\"from\":\"c\",\"to\":\"d\"}");
    assert_eq!(ask(&mut agent, "plan", "null"), "null");
    assert!(
        agent
            .engine()
            .facts_of("route")
            .iter()
            .all(|route| { route.slot("to").and_then(|to| to.text()) != Some("d") })
    );
}
