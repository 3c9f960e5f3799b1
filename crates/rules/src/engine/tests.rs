//! Facts about one engine; attacks are in `tests/attacks.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{SlotFault, Stream};

const TEMPLATES: &str = "(deftemplate reading (slot sensor (type SYMBOL))
  (slot value (type NUMBER) (range -100 1000)) (slot note (type STRING)) (multislot tags))";

fn engine() -> Engine {
    Engine::sandboxed(Limits::AGENT, 1)
}

fn loaded(text: &str) -> Engine {
    let mut engine = engine();
    engine.load(text).unwrap();
    engine.reset().unwrap();
    engine
}

fn s(text: &str) -> Value {
    Value::symbol(text)
}

#[test]
fn typed_slots_cross_unparsed() {
    let mut engine = loaded(TEMPLATES);
    let evil = "x\")) (defrule pwn => (exit)) (a \"\\ é 漢 \n\t";
    let tags = vec![s("a b)(c"), Value::string("s"), (-5).into(), 0.1.into()];
    let slots = [
        ("sensor", s("one two")),
        ("value", Value::Float(1.5)),
        ("note", Value::string(evil)),
        ("tags", Value::Multifield(tags.clone())),
    ];
    let index = engine.assert("reading", &slots).unwrap();
    let fact = engine.fact(index).unwrap();
    assert_eq!(fact.slot("note"), Some(&Value::string(evil)));
    assert_eq!(fact.slot("sensor"), Some(&s("one two")));
    assert_eq!(fact.slot("tags"), Some(&Value::Multifield(tags)));
    assert_eq!(engine.rules(), []);
}

#[test]
fn an_equal_fact_is_not_asserted_twice() {
    let mut engine = loaded(TEMPLATES);
    let first = engine.assert("reading", &[("value", 1.into())]).unwrap();
    assert_eq!(engine.assert("reading", &[("value", 1.into())]), Ok(first));
}

#[test]
fn a_refused_slot_says_which_and_why() {
    let mut engine = loaded(TEMPLATES);
    let mut reason = |slot: &str, value: Value| match engine.assert("reading", &[(slot, value)]) {
        Err(EngineError::Slot {
            slot: named,
            reason,
            ..
        }) if named == slot => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason("sensor", 1.into()), SlotFault::Type);
    assert_eq!(reason("value", 5000.into()), SlotFault::Range);
    assert_eq!(
        reason("value", Value::Multifield(vec![])),
        SlotFault::Cardinality
    );
    assert_eq!(reason("nope", 1.into()), SlotFault::Unknown);
    let nul = engine.assert("reading", &[("note", Value::string("a\0b"))]);
    assert_eq!(nul, Err(EngineError::Nul));
    assert_eq!(
        engine.assert("nope", &[]),
        Err(EngineError::UnknownTemplate("nope".into()))
    );
}

#[test]
fn ordered_facts_take_known_and_new_relations() {
    let mut engine = loaded("(defrule r (pair ?a ?b) => )");
    engine
        .assert_ordered("pair", vec![1.into(), Value::string("q\"q")])
        .unwrap();
    let index = engine.assert_ordered("never-seen", vec![s("k")]).unwrap();
    assert_eq!(engine.fact(index).unwrap().fields(), Some(&[s("k")][..]));
    let error = engine.assert("pair", &[]).unwrap_err();
    assert_eq!(error, EngineError::OrderedTemplate("pair".into()));
    let nested = engine.assert_ordered("n", vec![Value::Multifield(vec![])]);
    assert_eq!(nested, Err(EngineError::Nested("MULTIFIELD")));
    engine.load(TEMPLATES).unwrap();
    assert!(engine.assert_ordered("reading", vec![]).is_err());
}

#[test]
fn modify_keeps_the_other_slots_and_survives_a_refusal() {
    let mut engine = loaded(TEMPLATES);
    let start = [
        ("sensor", s("a")),
        ("value", 1.into()),
        ("tags", vec![s("x"), s("y")].into()),
    ];
    let mut index = engine.assert("reading", &start).unwrap();
    for n in 0..200 {
        index = engine.modify(index, &[("value", n.into())]).unwrap();
    }
    let fact = engine.fact(index).unwrap();
    assert_eq!(
        fact.to_string(),
        "(reading (sensor a) (value 199) (note \"\") (tags x y))"
    );
    assert!(engine.modify(index, &[("value", 5000.into())]).is_err());
    assert_eq!(engine.facts().len(), 1);
    assert_eq!(engine.facts()[0].slot("value"), Some(&199.into()));
    assert_eq!(
        engine.modify(9999, &[]),
        Err(EngineError::UnknownFact(9999))
    );
}

#[test]
fn a_run_stops_at_its_limit_and_goes_on_from_there() {
    let mut engine = loaded("(defrule inc ?f <- (n ?x) => (retract ?f) (assert (n (+ ?x 1))))");
    engine.assert_ordered("n", vec![0.into()]).unwrap();
    assert_eq!(engine.run(Some(10)), Ok(10));
    assert_eq!(engine.run(Some(5)), Ok(5));
    assert_eq!(engine.facts()[0].fields(), Some(&[15.into()][..]));
    assert_eq!(engine.agenda()[0].rule, "inc");
}

#[test]
fn the_false_notice_of_a_reached_limit_is_not_shown() {
    let mut engine = loaded("(defrule a (x ?) => (printout t fired crlf))");
    for n in 0..5 {
        engine.assert_ordered("x", vec![n.into()]).unwrap();
    }
    assert_eq!(engine.run(Some(10)), Ok(5));
    assert_eq!(engine.take_output(), "fired\n".repeat(5));
}

#[test]
fn output_and_errors_are_captured_apart() {
    let mut engine = loaded(
        "(defrule p (a) => (printout t \"o1\" crlf) (printout stderr \"e1\" crlf)
           (printout stdwrn \"w1\" crlf) (println 5) (format t \"%05.2f%n\" 3.14159))",
    );
    engine.assert_ordered("a", vec![]).unwrap();
    engine.run(None).unwrap();
    assert_eq!(engine.take_output(), "o1\n5\n03.14\n");
    assert_eq!(engine.take_errors(), "e1\nw1\n");
    assert_eq!(engine.take_output(), "");
}

#[test]
fn a_failing_action_is_an_error_with_clips_words() {
    let mut engine = loaded("(defrule bad (a ?x) => (+ 1 (/ 1 ?x)))");
    engine.assert_ordered("a", vec![0.into()]).unwrap();
    let Err(EngineError::Evaluation { message, fired: 1 }) = engine.run(None) else {
        panic!()
    };
    assert!(
        message.contains("divide by zero") && message.contains("defrule 'bad'"),
        "{message}"
    );
    assert_eq!(engine.take_errors(), "");
    assert_eq!(engine.eval("(+ 40 2)"), Ok(42.into()));
}

#[test]
fn halt_in_a_rule_is_no_error() {
    let mut engine = loaded("(defrule stop (a ?) => (halt))");
    engine.assert_ordered("a", vec![1.into()]).unwrap();
    engine.assert_ordered("a", vec![2.into()]).unwrap();
    assert_eq!(engine.run(None), Ok(1));
}

#[test]
fn parse_errors_carry_file_line_and_message() {
    let mut engine = engine();
    let text = "(deftemplate ok (slot a))\n\n(defrule bad (ok (b 1)) => )\n\
        (defrule good (ok (a ?x)) => (printout t ?x crlf))\n\
        (defrule bad2 (ok (a ?x)) => (prntout t ?x))\n";
    let Err(EngineError::Parse(ParseErrors(errors))) = engine.load_named("x.clp", text) else {
        panic!()
    };
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("x.clp:3: ") && told[0].contains("'b'"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("x.clp:5: ") && told[1].contains("prntout"),
        "{told:?}"
    );
    let good: Vec<_> = engine.rules().into_iter().map(|rule| rule.name).collect();
    assert_eq!(good, ["good"]);
    assert_eq!(engine.take_errors(), "");
}

#[test]
fn unbalanced_text_and_junk_are_refused_but_nothing_is_not() {
    let mut engine = engine();
    assert!(engine.load("(defrule q (a) => (printout t x)").is_err());
    let junk = engine.load("hello world").unwrap_err().to_string();
    assert!(junk.starts_with("<text>"), "{junk}");
    assert_eq!(engine.load("(a \"\0\")"), Err(EngineError::Nul));
    assert_eq!(engine.load(""), Ok(()));
    assert_eq!(engine.load("; nothing\n"), Ok(()));
}

#[test]
fn constructs_can_be_listed() {
    let mut engine = loaded(
        "(deftemplate t (slot a (type SYMBOL)) (multislot b)) (defglobal ?*g* = 5)
         (defrule r (t) (o 1) => ) (defmodule OTHER) (defrule in-other => )",
    );
    let rules: Vec<_> = engine
        .rules()
        .iter()
        .map(|c| (c.module.clone(), c.name.clone()))
        .collect();
    assert_eq!(
        rules,
        [
            ("MAIN".into(), "r".into()),
            ("OTHER".into(), "in-other".into())
        ]
    );
    let names: Vec<_> = engine.templates().into_iter().map(|c| c.name).collect();
    assert!(
        names.contains(&"t".into()) && names.contains(&"o".into()),
        "{names:?}"
    );
}

#[test]
fn slots_and_globals_can_be_read_and_globals_set() {
    let mut engine =
        loaded("(deftemplate t (slot a (type SYMBOL)) (multislot b)) (defglobal ?*g* = 5)");
    let slots = engine.slots("t").unwrap();
    assert_eq!((slots[0].multi, slots[1].multi), (false, true));
    assert_eq!(slots[0].types, ["SYMBOL"]);
    assert!(slots[1].allows("STRING"));
    assert_eq!(engine.globals(), [("g".into(), 5.into())]);
    engine
        .set_global("g", &vec![s("x"), 2.5.into()].into())
        .unwrap();
    assert_eq!(engine.global("g"), Ok(vec![s("x"), 2.5.into()].into()));
    assert_eq!(
        engine.global("no"),
        Err(EngineError::UnknownGlobal("no".into()))
    );
}

#[test]
fn host_functions_take_and_give_every_kind_of_value() {
    let mut engine = engine();
    engine
        .add_function("reversed", Signature::at_least(0), |call| {
            Ok(Value::Multifield(
                call.arguments().iter().rev().cloned().collect(),
            ))
        })
        .unwrap();
    engine
        .add_function("same", Signature::exactly(1), |call| {
            Ok(call.arguments()[0].clone())
        })
        .unwrap();
    assert_eq!(
        engine.eval("(create$ x (reversed 1 2.5 \"s\" [i] sym))"),
        Ok(vec![
            s("x"),
            s("sym"),
            Value::InstanceName("i".into()),
            Value::string("s"),
            2.5.into(),
            1.into()
        ]
        .into())
    );
    let slice = engine.eval("(same (subseq$ (create$ a b c d e) 2 3))");
    assert_eq!(slice, Ok(vec![s("b"), s("c")].into()));
}

#[test]
fn a_host_functions_complaint_ends_the_expression_and_is_told() {
    let mut engine = engine();
    engine
        .add_function("f", Signature::exactly(0), |_| Err("backend down".into()))
        .unwrap();
    let error = engine.eval("(f)").unwrap_err().to_string();
    assert!(error.contains("[f] backend down"), "{error}");
    let taken = engine.add_function("printout", Signature::exactly(0), |_| Ok(Value::Void));
    assert!(matches!(taken, Err(EngineError::Function { .. })));
}

#[test]
fn argument_types_are_checked_when_rules_are_loaded() {
    let mut engine = engine();
    let signature = Signature::exactly(2).types(";l;sy");
    engine
        .add_function("typed", signature, |call| Ok(call.integer(0)?.into()))
        .unwrap();
    assert!(engine.load("(defrule t => (typed foo bar))").is_err());
    assert_eq!(engine.eval("(typed 1 bar)"), Ok(1.into()));
}

#[test]
fn a_panic_in_a_host_function_is_contained() {
    let mut engine = loaded("");
    engine
        .add_function("boom", Signature::exactly(0), |_| panic!("kaboom"))
        .unwrap();
    let error = engine.eval("(boom)").unwrap_err();
    assert_eq!(
        error,
        EngineError::Tripped {
            trip: Trip::Panic,
            message: "kaboom".into()
        }
    );
    assert_eq!(engine.eval("(+ 40 2)"), Ok(42.into()));
}

#[test]
fn a_dropped_engine_drops_its_functions() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let mut engine = engine();
    let counted = Counted(drops.clone());
    engine
        .add_function("f", Signature::exactly(0), move |_| {
            let _ = &counted;
            Ok(Value::Void)
        })
        .unwrap();
    drop(engine);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn a_halt_before_a_call_is_not_lost() {
    let mut engine = engine();
    engine.halt_handle().halt();
    let tripped = EngineError::Tripped {
        trip: Trip::Halted,
        message: String::new(),
    };
    assert_eq!(engine.eval("1"), Err(tripped));
    assert_eq!(engine.eval("1"), Ok(1.into()));
}

#[test]
fn random_is_the_engines_own_and_time_its_owners() {
    let draw = |seed| {
        let mut engine = Engine::sandboxed(Limits::AGENT, seed);
        engine
            .eval("(create$ (random) (random 1 6) (random -5 -5))")
            .unwrap()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let mut engine = engine();
    engine.set_time_ms(1500);
    assert_eq!(engine.eval("(time)"), Ok(1.5.into()));
    assert!(engine.eval("(random 6 1)").is_err());
}

#[test]
fn rows_become_facts_by_the_types_of_their_slots() {
    let mut engine = loaded(
        "(deftemplate p (slot name) (slot code (type STRING)) (slot n (type INTEGER) (default 7))
           (slot x (type FLOAT)) (multislot tags))",
    );
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let rows = [
        row(["anna", "007", "", "3", "a b 4"]),
        row(["bo b", "x", "5", "2.5", ""]),
    ];
    let columns = ["name", "code", "n", "x", "tags"];
    assert_eq!(engine.assert_rows("p", &columns, rows).unwrap(), 2);
    let told: Vec<_> = engine.facts().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "(p (name anna) (code \"007\") (n 7) (x 3.0) (tags a b 4))",
            "(p (name \"bo b\") (code \"x\") (n 5) (x 2.5) (tags))"
        ]
    );
}

#[test]
fn a_table_that_does_not_fit_says_where() {
    let mut engine = loaded("(deftemplate p (slot n (type INTEGER)))");
    let column = engine.assert_rows("p", &["m"], []).unwrap_err().to_string();
    assert_eq!(column, "column `m` is no slot of `p`, which has: n");
    let width = engine
        .assert_rows("p", &["n"], [vec![]])
        .unwrap_err()
        .to_string();
    assert_eq!(width, "row 1 has 0 cells, the header has 1");
    let rows = [vec!["1".to_owned()], vec!["one".to_owned()]];
    let refused = engine
        .assert_rows("p", &["n"], rows)
        .unwrap_err()
        .to_string();
    assert_eq!(refused, "row 2: slot `n` of `p`: type not allowed");
}

#[test]
fn an_assert_and_run_loop_does_not_grow() {
    let mut engine = loaded("(defrule r ?f <- (n ?x) => (retract ?f))");
    let mut cycle = |rounds: i64| {
        for n in 0..rounds {
            engine
                .assert_ordered("n", vec![n.into(), Value::string("text")])
                .unwrap();
            engine.assert_ordered("n", vec![n.into()]).unwrap();
            engine.run(None).unwrap();
            let last = engine.facts().last().unwrap().index;
            engine.retract(last).unwrap();
        }
        engine.memory_used()
    };
    let early = cycle(500);
    let late = cycle(5000);
    assert!(late < early + 64_000, "{early} -> {late}");
}

#[test]
fn printing_from_a_host_function_is_captured() {
    let mut engine = engine();
    let print = |call: &mut Call<'_>| {
        call.print(Stream::Out, "hello");
        Ok(Value::Void)
    };
    engine
        .add_function("greet", Signature::exactly(0), print)
        .unwrap();
    engine.eval("(greet)").unwrap();
    assert_eq!(engine.take_output(), "hello");
}

#[test]
fn shared_texts_are_not_copied_into_more_than_the_budget() {
    let mut engine = loaded(
        "(defglobal ?*m* = (create$))
         (deffunction grow (?n ?v) (bind ?m (create$ ?v))
           (loop-for-count ?n (bind ?m (create$ ?m ?m))) (bind ?*m* ?m) ?n)",
    );
    engine
        .add_function("eat", Signature::exactly(1), |_| Ok(Value::Void))
        .unwrap();
    engine.set_limits(Limits {
        memory_bytes: 4 << 20,
        ..Limits::AGENT
    });
    // 16 384 references to one text of 8 KiB: a quarter megabyte to CLIPS, 128 when copied.
    let text = "x".repeat(8192);
    engine.set_global("m", &Value::string(text)).unwrap();
    engine.eval("(grow 14 ?*m*)").unwrap();
    assert!(matches!(engine.eval("?*m*"), Err(EngineError::TooLarge(_))));
    assert_eq!(engine.global("m"), Ok(Value::Void));
    let error = engine.eval("(eat ?*m*)").unwrap_err().to_string();
    assert!(error.contains("arguments take more than"), "{error}");
    assert_eq!(engine.eval("(+ 40 2)"), Ok(42.into()));
}

#[test]
fn values_print_as_clips_prints_them() {
    let mut engine = engine();
    for text in [
        "0.1",
        "3.0",
        "-2.5e-10",
        "1e+22",
        "123456.789",
        "abc",
        "17",
        "0.3",
    ] {
        let value = engine.eval(text).unwrap();
        engine.eval(&format!("(printout t {text})")).unwrap();
        assert_eq!(engine.take_output(), value.to_string());
    }
    assert_eq!(Value::Float(0.1 + 0.2).to_string(), "0.3");
}
