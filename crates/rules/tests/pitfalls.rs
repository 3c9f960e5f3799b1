//! What CLIPS 6.40 does to those who do not expect it, and what this crate makes of it. The rest of
//! these are in `engine/tests.rs` (values, limits, notices), `attacks.rs` and `process.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

use cpe_rules::{Engine, EngineError, Kind, Limits, Value, VetLimits, vet};

fn loaded(text: &str) -> Engine {
    let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    engine.load(text).unwrap();
    engine.reset().unwrap();
    engine
}

/// No error and no float: a program that counts far must look itself.
#[test]
fn whole_numbers_wrap_around() {
    let mut engine = loaded("");
    assert_eq!(
        engine.eval("(+ 9223372036854775807 1)"),
        Ok(i64::MIN.into())
    );
    assert_eq!(engine.eval("(* 9223372036854775807 2)"), Ok((-2).into()));
    assert_eq!(
        engine.eval("(abs -9223372036854775808)"),
        Ok(i64::MIN.into())
    );
}

#[test]
fn an_empty_multifield_replaces_what_was_there() {
    let mut engine = loaded("(deftemplate t (slot x) (multislot all (default 1 2)))");
    let index = engine
        .assert("t", &[("all", vec![5.into()].into())])
        .unwrap();
    let index = engine
        .modify(index, &[("all", Value::Multifield(vec![]))])
        .unwrap();
    assert_eq!(
        engine.fact(index).unwrap().slot("all"),
        Some(&Value::Multifield(vec![]))
    );
}

#[test]
fn inherited_slots_of_an_instance_can_be_given() {
    let mut engine = loaded(
        "(defclass A (is-a USER) (slot x)) (defclass B (is-a A) (slot y)) (defclass C (is-a B))",
    );
    engine
        .make_instance("c", "C", &[("x", 1.into()), ("y", 2.into())])
        .unwrap();
    let text = engine.instance("c").unwrap().to_string();
    assert_eq!(text, "([c] of C (x 1) (y 2))");
}

#[test]
fn an_instance_is_found_also_when_its_name_is_a_symbol_elsewhere() {
    let mut engine = loaded("(defclass A (is-a USER)) (deffacts d (name-of pump))");
    engine.make_instance("pump", "A", &[]).unwrap();
    engine.make_instance("other", "A", &[]).unwrap();
    assert_eq!(engine.instance("pump").unwrap().name, "pump");
}

#[test]
fn a_retracted_fact_is_not_found_and_its_index_not_used_again() {
    let mut engine = loaded("");
    let first = engine.assert_ordered("a", vec![]).unwrap();
    engine.retract(first).unwrap();
    assert_eq!(engine.retract(first), Err(EngineError::UnknownFact(first)));
    assert!(engine.assert_ordered("a", vec![]).unwrap() > first);
}

#[test]
fn a_removed_function_stays_unknown_to_everything_that_names_functions() {
    let mut engine = loaded("");
    for text in [
        "(deffunction f () (system \"id\"))",
        "(defrule r (test (system \"id\")) => )",
        "(defrule r => (eval \"(exit)\"))",
        "(defglobal ?*x* = (open a b))",
        "(defclass A (is-a USER) (slot x (default-dynamic (read))))",
    ] {
        assert!(engine.load(text).is_err(), "{text}");
    }
    // A program may have its own of that name, and CLIPS's does not come back with it.
    engine
        .load("(defmethod system ((?x SYMBOL)) none)")
        .unwrap();
    engine.call_function("system", &["id".into()]).unwrap_err();
    assert_eq!(
        engine.call_function("system", &[Value::symbol("id")]),
        Ok(Value::symbol("none"))
    );
}

#[test]
fn the_text_of_a_removed_construct_is_gone_with_it() {
    let mut engine = loaded("(defrule r => )");
    engine.remove(Kind::Rule, "r").unwrap();
    assert!(engine.source_of(Kind::Rule, "r").is_err());
    assert_eq!(engine.run(None), Ok(0));
}

#[test]
fn a_value_out_of_an_engine_outlives_it() {
    let value = {
        let mut engine = loaded("");
        engine.eval("(create$ a \"b\" 3 4.5 [i])").unwrap()
    };
    assert_eq!(value.to_string(), "(a \"b\" 3 4.5 [i])");
}

#[test]
fn what_the_vetting_refuses_is_told_with_its_place_before_anything_is_loaded() {
    let mut engine = loaded("");
    let text = format!(
        "(defrule fine => )\n(deftemplate t (slot {}))",
        "s".repeat(40)
    );
    let told = engine.load_named("x.clp", &text).unwrap_err().to_string();
    assert!(told.starts_with("x.clp:2:22: slot name longer"), "{told}");
    assert!(!engine.has(Kind::Rule, "fine"));
    vet("x", "(defrule fine => )", &VetLimits::default()).unwrap();
}
