//! Snapshots: an engine goes on elsewhere as if nothing had happened.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};

use cpe_rules::{
    Difference, Engine, EngineError, Event, Limits, Snapshot, SnapshotError, Strategy, Value,
};
use proptest::prelude::*;

fn loaded(text: &str) -> Engine {
    let mut engine = Engine::sandboxed(Limits::AGENT, 7);
    engine.load(text).unwrap();
    engine
}

fn started(text: &str) -> Engine {
    let mut engine = loaded(text);
    engine.reset().unwrap();
    engine
}

/// Through bytes into a new engine with the same rules, and nothing lost.
fn moved(engine: &mut Engine, text: &str) -> Engine {
    let snapshot = Snapshot::from_bytes(&engine.snapshot().unwrap().to_bytes()).unwrap();
    let mut next = loaded(text);
    assert_eq!(next.restore(&snapshot).unwrap(), []);
    let again = next.snapshot().unwrap();
    // Line by line, to see what differs.
    let (old, new) = (format!("{snapshot:#?}"), format!("{again:#?}"));
    let differ: Vec<_> = old
        .lines()
        .zip(new.lines())
        .filter(|(a, b)| a != b)
        .take(8)
        .collect();
    assert!(again == snapshot, "{differ:#?}");
    next
}

type Trace = Arc<Mutex<Vec<String>>>;

fn trace(engine: &mut Engine, trace: &Trace) {
    let trace = trace.clone();
    engine.listen(move |event| {
        if let Event::Fires(activation) = event {
            let line = format!("{} {}", activation.rule, activation.basis);
            trace.lock().unwrap().push(line);
        }
    });
}

/// The firings and the output of `steps` firings, with or without a move after each.
fn traced(text: &str, steps: usize, moves: bool, strategy: Strategy) -> (Vec<String>, String) {
    let lines = Trace::default();
    let mut engine = started(text);
    engine.set_strategy(strategy).unwrap();
    let mut output = String::new();
    for _ in 0..steps {
        trace(&mut engine, &lines);
        let fired = engine.run(Some(1));
        engine.stop_listening();
        output.push_str(&engine.take_output());
        if !matches!(fired, Ok(1)) {
            break;
        }
        if moves {
            engine = moved(&mut engine, text);
        }
    }
    let lines = std::mem::take(&mut *lines.lock().unwrap());
    (lines, output)
}

fn fires_the_same_when_moved_after_every_firing(seed: u64) {
    let text = common::program(seed);
    let strategy = match seed % 4 {
        0 => Strategy::Depth,
        1 => Strategy::Breadth,
        2 => Strategy::Lex,
        _ => Strategy::Mea,
    };
    let stayed = traced(&text, 40, false, strategy);
    let went = traced(&text, 40, true, strategy);
    assert_eq!(stayed, went, "seed {seed}: {text}");
}

/// In this program one retraction lets a `not` hold again for several matches at once: they come
/// onto the agenda in the order in which CLIPS holds them, which is not the one of their facts.
#[test]
fn matches_that_hold_again_at_once_keep_their_order() {
    fires_the_same_when_moved_after_every_firing(11_682_096_276_704_216_837);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(common::cases(64)))]

    #[test]
    fn a_program_moved_after_every_firing_fires_the_same(seed: u64) {
        fires_the_same_when_moved_after_every_firing(seed);
    }

    #[test]
    fn damaged_bytes_are_refused_or_restored_without_harm(
        seed: u64,
        at in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let text = common::program(seed);
        let mut engine = started(&text);
        let _ = engine.run(Some(5));
        let mut bytes = engine.snapshot().unwrap().to_bytes();
        for (index, byte) in at {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(snapshot) = Snapshot::from_bytes(&bytes) {
            let mut engine = loaded(&text);
            if engine.restore(&snapshot).is_ok() {
                let _ = engine.run(Some(20));
                let _ = engine.facts();
                let _ = engine.instances();
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = Snapshot::from_bytes(&bytes);
    }
}

const JOBS: &str = "
    (deftemplate job (slot id) (slot state (default new)))
    (defglobal ?*seen* = 0)
    (defrule start ?j <- (job (state new)) => (modify ?j (state running)))
    (defrule note (declare (salience 5)) (job (id ?i)) => (bind ?*seen* (+ ?*seen* 1))
      (printout t \"seen \" ?i crlf))
    (defrule derive (logical (job (id ?i) (state running))) => (assert (active ?i)))";

#[test]
fn a_rule_does_not_fire_again_after_a_move() {
    let mut engine = started("(defrule r (a ?x) => (printout t ?x))");
    engine.assert_ordered("a", vec![1.into()]).unwrap();
    engine.run(None).unwrap();
    engine.assert_ordered("a", vec![2.into()]).unwrap();
    let mut next = moved(&mut engine, "(defrule r (a ?x) => (printout t ?x))");
    assert_eq!(next.run(None), Ok(1));
    assert_eq!(next.take_output(), "2");
}

#[test]
fn a_rule_without_conditions_fires_once_wherever_the_move_happens() {
    let text = "(defrule once => (printout t once))";
    let mut engine = started(text);
    let mut before = moved(&mut engine, text);
    assert_eq!(before.run(None), Ok(1));
    let mut after = moved(&mut before, text);
    assert_eq!(after.run(None), Ok(0));
}

#[test]
fn what_facts_depend_on_logically_still_holds_them() {
    let mut engine = started(JOBS);
    engine.assert("job", &[("id", 1.into())]).unwrap();
    engine.run(None).unwrap();
    let mut next = moved(&mut engine, JOBS);
    assert_eq!(next.facts_of("active").len(), 1);
    let job = next.facts_of("job")[0].index;
    next.retract(job).unwrap();
    assert_eq!(next.facts_of("active").len(), 0);
}

#[test]
fn support_whose_rule_does_not_wait_any_more_is_kept_too() {
    // The trigger is gone: the rule has no activation, the match of its logical part exists.
    let text = "(defrule r (logical (a ?x)) ?t <- (trigger) => (retract ?t) (assert (b ?x)))";
    let mut engine = started(text);
    engine.assert_ordered("a", vec![1.into()]).unwrap();
    engine.assert_ordered("trigger", vec![]).unwrap();
    engine.run(None).unwrap();
    let mut next = moved(&mut engine, text);
    assert_eq!(next.facts().len(), 2);
    let a = next.facts_of("a")[0].index;
    next.retract(a).unwrap();
    assert_eq!(next.facts().len(), 0);
}

#[test]
fn facts_that_refer_to_each_other_and_to_later_ones_survive() {
    let text = "(deftemplate n (slot name) (slot to))
        (deffunction tie (?a ?b) (modify ?a (name a) (to ?b)))
        (defrule same ?b <- (n (name b)) (n (name a) (to ?b)) => (printout t joined))";
    let mut engine = started(text);
    let a = engine.assert("n", &[("name", "a".into())]).unwrap();
    let slots = [("name", Value::symbol("b")), ("to", Value::Fact(a))];
    let b = engine.assert("n", &slots).unwrap();
    let both = [Value::Fact(a), Value::Fact(b)];
    engine.call_function("tie", &both).unwrap();
    // Now b is older than a, and each holds the other's address.
    let mut next = moved(&mut engine, text);
    assert_eq!(next.fact(a).unwrap().slot("to"), Some(&Value::Fact(b)));
    assert_eq!(next.fact(b).unwrap().slot("to"), Some(&Value::Fact(a)));
    assert_eq!(next.run(None), Ok(1));
    assert_eq!(next.take_output(), "joined");
}

#[test]
fn the_address_of_a_retracted_fact_stays_one() {
    let text = "(deftemplate n (slot to)) (deffunction gone (?f) (not (fact-existp ?f)))";
    let mut engine = started(text);
    let old = engine.assert("n", &[]).unwrap();
    let holder = engine.assert("n", &[("to", Value::Fact(old))]).unwrap();
    engine.retract(old).unwrap();
    let mut next = moved(&mut engine, text);
    assert_eq!(
        next.fact(holder).unwrap().slot("to"),
        Some(&Value::Fact(old))
    );
    next.retract(holder).unwrap();
    assert_eq!(next.eval("(+ 40 2)"), Ok(42.into()));
}

#[test]
fn instances_keep_their_slots_and_what_handlers_left_there() {
    let text =
        "(defclass C (is-a USER) (role concrete) (pattern-match reactive) (slot n (default 0))
          (slot total (storage shared) (default 0)) (multislot log) (slot of))
        (defmessage-handler C bump () (bind ?self:n (+ ?self:n 1))
          (bind ?self:total (+ ?self:total 1)) (bind ?self:log ?self:log (sym-cat b ?self:n)))
        (defmessage-handler C init after () (printout t init))
        (defrule r (object (is-a C) (n ?n)) => (printout t ?n \" \"))";
    let mut engine = started(text);
    engine.make_instance("x", "C", &[]).unwrap();
    engine
        .make_instance("y", "C", &[("of", Value::Instance("x".into()))])
        .unwrap();
    engine.send("x", "bump", &[]).unwrap();
    engine.send("y", "bump", &[]).unwrap();
    engine.send("x", "bump", &[]).unwrap();
    engine.run(None).unwrap();
    engine.take_output();
    let mut next = moved(&mut engine, text);
    assert_eq!(next.run(None), Ok(0));
    assert_eq!(next.take_output(), "", "no init message was sent");
    next.send("x", "bump", &[]).unwrap();
    let x = next.instance("x").unwrap();
    assert_eq!(
        (x.slot("n"), x.slot("total")),
        (Some(&3.into()), Some(&4.into()))
    );
    let log = ["b1", "b2", "b3"].map(Value::symbol).to_vec();
    assert_eq!(x.slot("log"), Some(&Value::Multifield(log)));
    assert_eq!(
        next.instance("y").unwrap().slot("of"),
        Some(&Value::Instance("x".into()))
    );
    assert_eq!(next.run(None), Ok(1));
}

#[test]
fn focus_globals_strategy_counters_and_random_numbers_go_on() {
    let text = "(defmodule MAIN (export ?ALL)) (defglobal ?*g* = 1)
        (defmodule A (import MAIN ?ALL)) (defrule A::r (go) => (printout t (gensym*)))
        (defmodule B (import MAIN ?ALL)) (defrule B::r (go) => (printout t b))";
    let mut engine = started(text);
    engine.set_strategy(Strategy::Breadth).unwrap();
    engine
        .set_global("g", &vec![1.into(), "two".into()].into())
        .unwrap();
    engine.eval("(gensym*)").unwrap();
    engine.eval("(random)").unwrap();
    engine.set_current_module("MAIN").unwrap();
    engine.assert_ordered("go", vec![]).unwrap();
    engine.focus("A").unwrap();
    engine.focus("B").unwrap();
    let mut next = moved(&mut engine, text);
    assert_eq!(next.focus_stack(), ["B", "A", "MAIN"]);
    assert_eq!(next.strategy(), Strategy::Breadth);
    assert_eq!(next.eval("(random)"), engine.eval("(random)"));
    next.run(None).unwrap();
    engine.run(None).unwrap();
    assert_eq!(next.take_output(), engine.take_output());
    assert_eq!(
        next.assert_ordered("go", vec![1.into()]),
        engine.assert_ordered("go", vec![1.into()])
    );
}

#[test]
fn an_upgrade_keeps_what_still_fits_and_tells_the_rest() {
    let mut engine = started(
        "(deftemplate keep (slot x) (slot gone)) (deftemplate lost (slot x)) (defglobal ?*g* = 3)
         (defrule same (keep) => (printout t same)) (defrule other (keep) => (printout t old))
         (defrule derive (logical (keep (x ?x))) => (assert (derived ?x)))",
    );
    engine
        .assert("keep", &[("x", 5.into()), ("gone", 1.into())])
        .unwrap();
    engine.assert("lost", &[("x", 5.into())]).unwrap();
    engine.run(None).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let mut next = loaded(
        "(deftemplate keep (slot x) (slot new (default 9)))
         (defrule same (keep) => (printout t same)) (defrule other (keep) => (printout t new))",
    );
    let told: Vec<_> = next
        .restore(&snapshot)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "fact f-2 of MAIN::lost is gone: there is no such deftemplate any more",
            "slot `gone` of fact f-1 of MAIN::keep lost its value",
            "f-3 is gone: what it depends on holds no more",
            "rule MAIN::other is new or changed",
            "global MAIN::g is gone",
        ]
    );
    assert_eq!(next.facts()[0].to_string(), "(keep (x 5) (new 9))");
    assert_eq!(next.run(None), Ok(1));
    assert_eq!(
        next.take_output(),
        "new",
        "the rule that is the same does not fire again"
    );
    assert_eq!(
        next.assert_ordered("derived", vec![]),
        Ok(4),
        "no index is used twice"
    );
}

#[test]
fn a_value_out_of_its_new_range_falls_back_to_the_default() {
    let mut engine = started("(deftemplate n (slot x (type INTEGER)))");
    engine.assert("n", &[("x", 50.into())]).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let mut next = loaded("(deftemplate n (slot x (type INTEGER) (range 0 9) (default 3)))");
    let differences = next.restore(&snapshot).unwrap();
    assert!(matches!(&differences[0], Difference::Slot { slot, .. } if slot == "x"));
    assert_eq!(next.facts()[0].slot("x"), Some(&3.into()));
}

#[test]
fn a_snapshot_holds_its_sources_and_is_refused_when_it_can_not_be_right() {
    let mut engine = started(JOBS);
    engine.assert("job", &[("id", 1.into())]).unwrap();
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(
        (snapshot.sources()[0].text.as_str(), snapshot.fact_count()),
        (JOBS, 1)
    );
    assert_eq!(engine.restore(&snapshot), Err(EngineError::NotEmpty));
    assert!(matches!(
        Snapshot::from_bytes(b"no"),
        Err(SnapshotError::Malformed(_))
    ));
    let mut bytes = snapshot.to_bytes();
    // A map of five fields, the first of which is the version.
    assert_eq!(bytes[..3], [0xa5, 0, 1]);
    bytes[2] = 2;
    assert_eq!(Snapshot::from_bytes(&bytes), Err(SnapshotError::Version(2)));
    bytes.truncate(bytes.len() / 2);
    assert!(Snapshot::from_bytes(&bytes).is_err());
}
