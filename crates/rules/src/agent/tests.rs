//! Facts about rule agents.

use std::ops::Bound;
use std::time::Duration;

use cpe_tuple::{Field, Kind, Template, json};

use super::*;

fn agent(source: &str) -> RuleAgent {
    RuleAgent::new("tester", source, AgentOptions::default()).unwrap()
}

fn small(source: &str) -> RuleAgent {
    let limits = Limits {
        wall: Duration::from_millis(300),
        facts: 500,
        ..Limits::AGENT
    };
    let options = AgentOptions {
        limits,
        ..AgentOptions::default()
    };
    RuleAgent::new("tester", source, options).unwrap()
}

fn datum(text: &str) -> Datum {
    json::parse_value(text).unwrap()
}

fn tell(kind: &str, body: &str) -> AgentMessage {
    AgentMessage::tell("ada", kind, datum(body))
}

fn facts(agent: &mut RuleAgent) -> Vec<String> {
    agent
        .engine()
        .facts()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_message_is_a_fact_for_one_delivery() {
    let mut agent = agent(
        "(defrule r (message (from ?f) (kind ?k) (ask nil) (body $?b)) =>
           (assert (got ?f ?k $?b)))",
    );
    agent
        .handle(tell("hello", r#"{"a":1,"b":[true,null]}"#), 0)
        .unwrap();
    assert_eq!(
        facts(&mut agent),
        ["(got ada hello { a 1 b [ TRUE nil ] })"]
    );
    agent.handle(tell("hello", "null"), 0).unwrap();
    assert_eq!(facts(&mut agent)[1], "(got ada hello)");
}

#[test]
fn a_message_that_a_rule_changed_goes_with_its_delivery_too() {
    let mut agent = agent(
        "(defrule r ?m <- (message (kind hello)) => (modify ?m (kind done)))
         (defrule gone (goodbye) (not (message)) => (assert (quiet)))",
    );
    agent.handle(tell("hello", "1"), 0).unwrap();
    assert!(facts(&mut agent).is_empty(), "{:?}", facts(&mut agent));
    agent
        .engine()
        .assert_ordered("goodbye", Vec::new())
        .unwrap();
    agent.handle(tell("hello", "1"), 0).unwrap();
    assert_eq!(facts(&mut agent), ["(goodbye)", "(quiet)"]);
}

#[test]
fn a_message_that_a_limit_stopped_while_it_was_matched_does_not_stay() {
    let mut agent = small(
        "(deffunction spin () (while TRUE do))
         (defrule r (message (kind slow)) (test (spin)) => (assert (done)))",
    );
    let stopped = agent.handle(tell("slow", "1"), 0).unwrap_err();
    let deadline = Trip::Deadline;
    assert!(
        matches!(stopped, AgentError::Stopped { trip, rebuilt: None, .. } if trip == deadline),
        "{stopped:?}"
    );
    assert!(facts(&mut agent).is_empty(), "{:?}", facts(&mut agent));
}

#[test]
fn a_message_named_like_a_template_fills_its_slots() {
    let mut agent = agent(
        "(deftemplate job (slot id) (slot state (type SYMBOL)) (slot size (type FLOAT))
           (multislot some-tags) (slot from) (slot n (default 7)))",
    );
    let body = r#"{"id":"x","state":"new","size":3,"some_tags":"one","n":null}"#;
    agent.handle(tell("job", body), 0).unwrap();
    assert_eq!(
        facts(&mut agent),
        ["(job (id \"x\") (state new) (size 3.0) (some-tags \"one\") (from ada) (n 7))"]
    );
    let error = agent.handle(tell("job", r#"{"id":[1,2]}"#), 0).unwrap_err();
    assert!(
        matches!(error, AgentError::Unfit(EngineError::Slot { .. })),
        "{error}"
    );
    // Not a map: an ordinary message, which nobody wants.
    assert_eq!(agent.handle(tell("job", "5"), 0), Ok(vec![]));
    assert_eq!(facts(&mut agent).len(), 1);
}

#[test]
fn tuples_of_a_subscription_become_facts() {
    let mut agent = agent(
        "(deftemplate reading (slot sensor) (slot value))
         (defrule start => (subscribe plant reading :any) (subscribe plant \"r\" :int))
         (defrule other (tuple (subscription ?n) (workspace ?w) (fields $?f)) =>
           (assert (saw ?n ?w $?f)))",
    );
    let effects = agent.start(0).unwrap();
    let [
        Effect::Subscribe {
            subscription: a, ..
        },
        Effect::Subscribe {
            subscription: b, ..
        },
    ] = effects[..]
    else {
        panic!("{effects:?}")
    };
    let mut deliver = |number, text: &str| {
        agent
            .tuple(number, &json::parse_tuple(text).unwrap(), 0)
            .unwrap();
        facts(&mut agent).pop().unwrap()
    };
    let by_name = deliver(a, r#"["reading",{"sensor":"s1","value":4}]"#);
    assert_eq!(by_name, "(reading (sensor \"s1\") (value 4))");
    let by_place = deliver(a, r#"["reading","s2",5]"#);
    assert_eq!(by_place, "(reading (sensor \"s2\") (value 5))");
    assert_eq!(
        deliver(b, r#"["r",[1,2]]"#),
        format!("(saw {b} plant \"r\" [ 1 2 ])")
    );
    let unknown = agent.tuple(99, &json::parse_tuple("[1]").unwrap(), 0);
    assert_eq!(unknown, Err(AgentError::UnknownSubscription(99)));
}

#[test]
fn effects_leave_together_in_the_order_they_were_asked_for() {
    let mut agent = agent(
        "(defrule a (declare (salience 1)) (message (kind go)) =>
           (store ws x 1 (map-of k (list-of 1 2)))
           (out ws \"t\" sym 2.5 (create$ a b))
           (tell counter add 5) (tell counter get))
         (defrule b (message (kind go)) =>
           (log warn \"seen \" 3 x) (after 1500 tick 1 (create$ a \"b\")) (stop-self))",
    );
    let text = |workspace: &str, tuple: &str| Effect::Out {
        workspace: workspace.into(),
        tuple: json::parse_tuple(tuple).unwrap(),
    };
    let store = |value: &str| Effect::Store {
        workspace: "ws".into(),
        name: "x".into(),
        value: datum(value),
    };
    let send = |kind: &str, body| Effect::Send {
        to: "counter".into(),
        kind: kind.into(),
        body,
    };
    let fact = LaterFact {
        relation: "tick".into(),
        fields: vec![Datum::Int(1), datum(r#"[{"sym":"a"},"b"]"#)],
    };
    assert_eq!(
        agent.handle(tell("go", "null"), 0).unwrap(),
        [
            store("1"),
            store(r#"{"k":[1,2]}"#),
            text("ws", r#"["t",{"sym":"sym"},2.5,[{"sym":"a"},{"sym":"b"}]]"#),
            send("add", Datum::Int(5)),
            send("get", Datum::Null),
            Effect::Log {
                level: Level::Warn,
                text: "seen 3x".into()
            },
            Effect::After {
                ms: 1500,
                fact: fact.clone()
            },
            Effect::Stop,
        ]
    );
    agent.later(&fact, 1500).unwrap();
    assert_eq!(facts(&mut agent), ["(tick 1 a \"b\")"]);
}

#[test]
fn templates_for_the_space_are_written_as_rules_write_them() {
    let mut agent = agent(
        "(defrule go (message (kind go)) =>
           (find ws jobs)
           (fetch-try ws \"t\" :int :any (create$ :prefix \"a\") (create$ :range 3 9))
           (fetch ws :symbol) (find-try ws (create$ 1 2) (create$ :range nil z)))",
    );
    let effects = agent.handle(tell("go", "null"), 0).unwrap();
    let shown: Vec<_> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Find { template, wait, .. } => (false, *wait, template.clone()),
            Effect::Fetch { template, wait, .. } => (true, *wait, template.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    let template = |fields| Template::new(fields).unwrap();
    let range = |low, high| Field::Range { low, high };
    assert_eq!(shown[0], (false, true, Template::named("jobs").unwrap()));
    let wide = template(vec![
        Field::Actual("t".into()),
        Field::Typed(Kind::Int),
        Field::Any,
        Field::Prefix("a".into()),
        range(Bound::Included(3.into()), Bound::Excluded(9.into())),
    ]);
    assert_eq!(shown[1], (true, false, wide));
    assert_eq!(
        shown[2],
        (true, true, template(vec![Field::Typed(Kind::Symbol)]))
    );
    let list = Field::Actual(Datum::List(vec![1.into(), 2.into()]));
    let below = range(Bound::Unbounded, Bound::Excluded(Datum::symbol("z")));
    assert_eq!(shown[3], (false, false, template(vec![list, below])));
}

#[test]
fn answers_find_the_rule_that_remembers_the_request() {
    let mut agent = agent(
        "(deftemplate waiting (slot request) (slot ask))
         (defrule asked (message (kind judge) (ask ?ask) (body $?features)) =>
           (assert (waiting (request (forest-predict tumours $?features)) (ask ?ask))))
         (defrule answered
           ?w <- (waiting (request ?r) (ask ?ask))
           (answer (request ?r) (status ok) (value $?v)) =>
           (retract ?w) (reply-to ?ask (map-get $?v probabilities \"b c\")))
         (defrule failed
           ?w <- (waiting (request ?r) (ask ?ask))
           (answer (request ?r) (status failed) (value ?why)) =>
           (retract ?w) (reply-to ?ask ?why))",
    );
    let message = AgentMessage::ask("ada", "judge", datum("[1.5,2]"), 40);
    let effects = agent.handle(message.clone(), 0).unwrap();
    let Effect::ForestPredict {
        request,
        features,
        probabilities,
        ..
    } = &effects[0]
    else {
        panic!()
    };
    assert_eq!(features, &[1.5.into(), 2.into()]);
    assert!(!probabilities);
    // As nodes answer.
    let answer = Ok(datum(
        r#"{"class":"a","probabilities":{"a":0.75,"b c":0.25},"trees":4,"votes":{"a":3,"b c":1}}"#,
    ));
    let replied = agent.answer(*request, answer.clone(), 0).unwrap();
    assert_eq!(
        replied,
        [Effect::Reply {
            ask: 40,
            value: 0.25.into()
        }]
    );
    assert_eq!(
        agent.answer(*request, answer, 0),
        Err(AgentError::UnknownRequest(*request))
    );

    let effects = agent.handle(message, 0).unwrap();
    let Effect::ForestPredict { request, .. } = &effects[0] else {
        panic!()
    };
    let replied = agent
        .answer(*request, Err("no such model".into()), 0)
        .unwrap();
    assert_eq!(
        replied,
        [Effect::Reply {
            ask: 40,
            value: "no such model".into()
        }]
    );
    assert_eq!(facts(&mut agent), [""; 0]);
}

#[test]
fn probabilities_alone_are_asked_for_by_a_function_of_their_own() {
    let mut agent = agent("(defrule r (message) => (forest-proba tumours 1.5 (create$ 2 3)))");
    let effects = agent.handle(tell("q", "null"), 0).unwrap();
    let [
        Effect::ForestPredict {
            model,
            features,
            probabilities: true,
            ..
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(model, "tumours");
    assert_eq!(features, &[1.5.into(), 2.into(), 3.into()]);
}

#[test]
fn a_message_is_replied_to_once() {
    let mut agent = agent("(defrule r (message (kind q)) => (reply 1) (reply 2))");
    let effects = agent
        .handle(AgentMessage::ask("ada", "q", (), 5), 0)
        .unwrap();
    assert_eq!(
        effects,
        [Effect::Reply {
            ask: 5,
            value: 1.into()
        }]
    );
    assert_eq!(agent.handle(tell("q", "null"), 0), Ok(vec![]));
}

#[test]
fn an_endless_run_releases_nothing_and_the_agent_lives_on() {
    let mut agent = small(
        "(defrule bad (message (kind bad)) => (store ws x 1) (find ws y) (while TRUE do))
         (defrule good (message (kind good)) => (store ws y 2))",
    );
    let error = agent.handle(tell("bad", "null"), 0).unwrap_err();
    assert!(
        matches!(
            error,
            AgentError::Stopped {
                trip: Trip::Deadline,
                rebuilt: None,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        agent.answer(1, Ok(Datum::Null), 0),
        Err(AgentError::UnknownRequest(1))
    );
    assert_eq!(agent.handle(tell("good", "null"), 0).unwrap().len(), 1);
}

#[test]
fn an_agent_with_too_many_facts_is_built_again_and_says_so() {
    let mut agent = small(
        "(deffacts d (kept))
         (defrule start => (subscribe ws x))
         (defrule bomb (message (kind bomb)) => (assert (n 0)))
         (defrule more (n ?x) => (assert (n (+ ?x 1))))",
    );
    agent.start(0).unwrap();
    let error = agent.handle(tell("bomb", "null"), 0).unwrap_err();
    assert!(
        matches!(
            error,
            AgentError::Stopped {
                trip: Trip::Facts,
                rebuilt: Some(Replacement::Facts),
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("its facts are lost"), "{error}");
    assert_eq!(facts(&mut agent), ["(kept)"]);
    let effects = agent.handle(tell("other", "null"), 0).unwrap();
    assert!(
        matches!(effects[..], [Effect::Subscribe { .. }]),
        "it starts again"
    );
}

#[test]
fn too_many_effects_trip_by_name() {
    let mut agent = agent(
        "(defrule many (message (kind many)) => (while TRUE do (out ws 1)))
         (defrule big (message (kind big) (body ?s)) => (while TRUE do (out ws ?s)))",
    );
    let big = format!("\"{}\"", "x".repeat(1 << 20));
    for message in [tell("many", "null"), tell("big", &big)] {
        let error = agent.handle(message, 0).unwrap_err();
        assert!(
            matches!(
                error,
                AgentError::Stopped {
                    trip: Trip::Effects,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn more_actors_than_one_run_may_start_are_refused_by_name() {
    let mut agent = agent(
        "(defrule r (message (kind go) (body ?n)) =>
           (loop-for-count (?i 1 ?n) (spawn echo (sym-cat e ?i))))",
    );
    let most = SPAWNS_MAX.to_string();
    assert_eq!(
        agent.handle(tell("go", &most), 0).unwrap().len(),
        SPAWNS_MAX
    );
    let more = (SPAWNS_MAX + 1).to_string();
    let refused = agent.handle(tell("go", &more), 0).unwrap_err().to_string();
    assert!(refused.contains("[spawn] 32 actors"), "{refused}");
    assert_eq!(
        agent.handle(tell("go", &most), 0).unwrap().len(),
        SPAWNS_MAX
    );
}

#[test]
fn a_request_whose_answer_failed_is_answered_with_the_reason() {
    let mut agent = agent(
        "(defrule go (message (kind go)) => (fetch ws x))
         (defrule good (answer (request ?r) (status ok) (value ?x)) => (out ws (/ 1 ?x)))
         (defrule bad (answer (request ?r) (status failed) (value ?why)) => (out why ?why))",
    );
    agent.handle(tell("go", "null"), 0).unwrap();
    let bytes = Ok(Datum::Bytes(vec![1]));
    let refused = agent.answer(1, bytes, 0).unwrap_err();
    assert_eq!(refused, AgentError::Bridge(BridgeError::Bytes));
    let failed = agent.answer(1, Ok(Datum::Int(0)), 0).unwrap_err();
    assert!(matches!(failed, AgentError::Rule { .. }), "{failed}");
    let told = agent.answer(1, Err("why".into()), 0).unwrap();
    assert!(matches!(&told[..], [Effect::Out { workspace, .. }] if workspace == "why"));
    let over = agent.answer(1, Err("why".into()), 0);
    assert_eq!(over, Err(AgentError::UnknownRequest(1)));
}

#[test]
fn a_failing_rule_releases_nothing_and_is_told() {
    let mut agent = agent(
        "(defrule r (message (kind q) (body ?x)) => (store ws a 1) (store ws b (/ 1 ?x)))
         (defrule bad (message (kind bad)) => (log loudly \"x\"))",
    );
    let error = agent.handle(tell("q", "0"), 0).unwrap_err();
    assert!(
        matches!(error, AgentError::Rule { fired: 1, .. }),
        "{error}"
    );
    assert_eq!(agent.handle(tell("q", "2"), 0).unwrap().len(), 2);
    assert_eq!(facts(&mut agent), [""; 0]);
    let error = agent
        .handle(tell("bad", "null"), 0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("[log] the level is one of"), "{error}");
}

#[test]
fn time_and_chance_are_given_not_taken() {
    let source = "(defrule r (message (kind q)) => (reply (create$ (now) (time) (random 1 1000)
                    (node-name) (agent-name) (log 1.0))))";
    let ask = |seed| {
        let options = AgentOptions {
            seed,
            node: "n7".into(),
            ..AgentOptions::default()
        };
        let mut agent = RuleAgent::new("a", source, options).unwrap();
        let effects = agent
            .handle(AgentMessage::ask("x", "q", (), 1), 2500)
            .unwrap();
        let Effect::Reply { value, .. } = &effects[0] else {
            panic!()
        };
        value.as_list().unwrap().to_vec()
    };
    assert_eq!(ask(3), ask(3));
    assert_ne!(ask(3)[2], ask(4)[2]);
    let (now, time) = (Datum::Int(2500), Datum::Float(2.5));
    assert_eq!(ask(3)[..2], [now, time]);
    assert_eq!(
        ask(3)[3..],
        [Datum::symbol("n7"), Datum::symbol("a"), Datum::Float(0.0)]
    );
}

#[test]
fn a_command_of_a_person_is_done_and_rules_fire_on_it() {
    let mut agent = agent(
        "(deffacts d (total 5))
         (defrule big (total ?n&:(> ?n 100)) => (printout t big crlf) (out alarms ?n))",
    );
    let effects = agent.command("(assert (total 500))", 7).unwrap();
    assert!(matches!(effects.as_slice(), [Effect::Out { .. }]));
    assert_eq!(agent.take_output(), "<Fact-2>\nbig\n");
    let effects = agent.deliver(Delivery::Command("(out x (now))".to_owned()), 9);
    let tuple = Tuple::new(vec![9.into()]).unwrap();
    let workspace = "x".to_owned();
    assert_eq!(effects, Ok(vec![Effect::Out { workspace, tuple }]));
    agent.take_output();
    agent.command("(nope)", 0).unwrap();
    assert!(agent.take_output().contains("nope"));
    agent.command("(system \"id\")", 0).unwrap();
    assert!(agent.take_output().contains("system"));
    assert_eq!(facts(&mut agent), ["(total 5)", "(total 500)"]);
}

#[test]
fn what_is_too_much_to_look_at_is_cut_off_and_is_not_in_the_way() {
    let mut agent = agent(
        "(defrule fill (message (kind fill)) =>
           (loop-for-count (?i 1 30000) (assert (n ?i \"0123456789012345678901234567890\"))))
         (defrule q (message (kind q)) => (printout t x) (reply 1))",
    );
    agent.handle(tell("fill", "null"), 0).unwrap();
    for _ in 0..2 {
        let printed = agent.inspect("(facts)").unwrap();
        assert!(printed.starts_with("f-2 "), "{}", &printed[..100]);
        assert!(printed.contains("cut off here"), "{}", printed.len());
    }
    let asked = AgentMessage::ask("ada", "q", (), 1);
    assert_eq!(agent.handle(asked, 0).map(|effects| effects.len()), Ok(1));
    assert_eq!(agent.take_output(), "x");
}

#[test]
fn a_command_at_its_limit_releases_nothing_and_says_so() {
    let mut agent = small("(defrule r (go) => (while TRUE do))");
    for command in ["(progn (out x 1) (while TRUE do))", "(assert (go))"] {
        let stopped = agent.command(command, 0).unwrap_err();
        assert!(stopped.to_string().contains("deadline"), "{stopped}");
    }
    assert_eq!(
        agent.command("(out x 2)", 0).map(|effects| effects.len()),
        Ok(1)
    );
}

/// They would be gone when the agent is built again from its source.
#[test]
fn a_command_is_no_construct() {
    let mut agent = agent("(defglobal ?*g* = 1)");
    for command in [
        "(defrule r => (assert (a)))",
        " ; x\n ( defmessage-handler USER h () 1)",
        ";\r(defrule r => (assert (a)))",
        "(defmethod + ((?x STRING)) 1)",
        "(defglobal ?*g* = 2)",
    ] {
        let refused = agent.command(command, 0).unwrap_err().to_string();
        assert!(refused.contains("change that"), "{refused}");
    }
    agent.command("(bind ?*g* 3)", 0).unwrap();
    assert_eq!(agent.engine().eval("?*g*"), Ok(3.into()));
    assert_eq!(agent.engine().rules().len(), 0);
}

/// It would end the process: as a message it may come from anybody whom the node lets in.
#[test]
fn a_command_behind_a_comment_is_measured_like_any_other() {
    let mut agent = agent("");
    let calls = format!("{}1{}", "(+ 1 ".repeat(100_000), ")".repeat(100_000));
    for before in ["", ";\r", ";\n"] {
        let refused = agent.command(&format!("{before}{calls}"), 0).unwrap_err();
        assert!(refused.to_string().contains("nested deeper"), "{refused}");
    }
}

#[test]
fn a_variable_bound_by_a_command_is_gone_with_it() {
    let mut agent = agent("");
    agent.command("(bind ?x 3)", 0).unwrap();
    agent.take_output();
    agent.command("?x", 0).unwrap();
    assert!(agent.take_output().contains("unbound"));
}

#[test]
fn rules_do_not_write_into_other_agents_as_people_do() {
    let mut agent = agent(
        "(defrule t (message (kind t)) => (tell other \"$rules\" (map-of do \"(assert (a))\")))
         (defrule a (message (kind a)) => (ask other (sym-cat \"$\" rules) trace))
         (defrule o (message (kind o)) => (tell other \"$rules-own\" (map-of stop nil)))",
    );
    for kind in ["t", "a", "o"] {
        let refused = agent.handle(tell(kind, "null"), 0).unwrap_err().to_string();
        assert!(refused.contains("for people, not for rules"), "{refused}");
    }
}

#[test]
fn a_source_that_does_not_load_says_where() {
    let options = AgentOptions {
        file: "x.clp".into(),
        ..AgentOptions::default()
    };
    let error = RuleAgent::new("a", "\n(defrule r (a) => (nope))", options.clone()).unwrap_err();
    assert!(error.to_string().starts_with("x.clp:2: "), "{error}");
    let own = RuleAgent::new("a", "(deftemplate message (slot x))", options).unwrap_err();
    assert_eq!(own, RuleError::Redefined("message"));
}

#[test]
fn what_is_printed_can_be_taken() {
    let mut agent = agent("(defrule r (message) => (printout t \"hi\" crlf))");
    agent.handle(tell("x", "null"), 0).unwrap();
    assert_eq!(agent.take_output(), "hi\n");
    assert_eq!(agent.take_output(), "");
}

#[test]
fn a_value_is_a_message_and_back() {
    let read = |text: &str| {
        let kind = message_kind(&datum(text)).to_owned();
        let message = AgentMessage::from_value("x", datum(text), None);
        assert_eq!(message.kind, kind);
        (message.kind, message.body)
    };
    assert_eq!(read(r#"{"add":5}"#), ("add".into(), 5.into()));
    assert_eq!(read(r#"{"kind":"add","body":5}"#), ("add".into(), 5.into()));
    assert_eq!(read(r#""get""#), ("get".into(), Datum::Null));
    assert_eq!(
        read(r#"{"a":1,"b":2}"#),
        ("value".into(), datum(r#"{"a":1,"b":2}"#))
    );
    assert_eq!(read("[1]"), ("value".into(), datum("[1]")));
    for (kind, body) in [("add", datum("5")), ("get", Datum::Null)] {
        let message = AgentMessage::from_value("x", message_value(kind, body.clone()), None);
        assert_eq!((message.kind.as_str(), message.body), (kind, body));
    }
}

#[test]
fn bytes_and_nul_are_refused_before_anything_runs() {
    let mut agent = agent("");
    let bytes = AgentMessage::tell("x", "k", Datum::Bytes(vec![1]));
    assert_eq!(
        agent.handle(bytes, 0),
        Err(AgentError::Bridge(BridgeError::Bytes))
    );
    let nul = AgentMessage::tell("x\0", "k", Datum::Null);
    assert_eq!(
        agent.handle(nul, 0),
        Err(AgentError::Bridge(BridgeError::Nul))
    );
}

#[test]
fn an_agent_works_on_a_worker_of_its_own() {
    let source = "(defrule r (message (kind q) (body ?x)) => (reply (* 2 ?x)))";
    let make = || RuleAgent::new("a", source, AgentOptions::default());
    let worker = crate::Worker::spawn("agent", make).unwrap();
    let effects = worker
        .call(|a| a.handle(AgentMessage::ask("x", "q", 21, 1), 0))
        .unwrap();
    assert_eq!(
        effects,
        Ok(vec![Effect::Reply {
            ask: 1,
            value: 42.into()
        }])
    );
    worker.close();
}
