//! The surface of CLIPS, group by group: each row of the table in the crate's page.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use cpe_rules::{
    Engine, EngineError, Event, Kind, Limits, Matched, SalienceEvaluation, Settings, Strategy,
    Trip, Value, WatchItem,
};

fn loaded(text: &str) -> Engine {
    let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    engine.load(text).unwrap();
    engine.reset().unwrap();
    engine
}

fn symbol(text: &str) -> Value {
    Value::symbol(text)
}

fn names(engine: &mut Engine, kind: Kind) -> Vec<String> {
    let found = engine.constructs(kind).into_iter();
    found.map(|construct| construct.path()).collect()
}

const ONE_OF_EACH: &str = "
    (deftemplate reading (slot sensor) (slot celsius (type NUMBER) (range -50 200) (default 20))
      (slot state (allowed-values on off)) (multislot tags (cardinality 0 3))
      (slot made (default-dynamic (gensym*))))
    (deffacts start (reading (sensor boiler)))
    (defglobal ?*limit* = 80)
    (deffunction twice (?x) (* 2 ?x))
    (defgeneric area) (defmethod area ((?a INTEGER)) ?a) (defmethod area ((?a INTEGER) (?b INTEGER))
      (* ?a ?b))
    (defclass DEVICE (is-a USER) (slot state (default off)))
    (definstances devices (pump of DEVICE))
    (defrule hot (reading (celsius ?c&:(> ?c ?*limit*))) => (assert (alarm)))";

#[test]
fn constructs_of_every_kind_are_listed_shown_and_removed() {
    let mut engine = loaded(ONE_OF_EACH);
    let each = [
        (Kind::Template, "reading"),
        (Kind::Facts, "start"),
        (Kind::Global, "limit"),
        (Kind::Function, "twice"),
        (Kind::Generic, "area"),
        (Kind::Class, "DEVICE"),
        (Kind::Instances, "devices"),
        (Kind::Rule, "hot"),
    ];
    for (kind, name) in each {
        let path = format!("MAIN::{name}");
        assert!(names(&mut engine, kind).contains(&path), "{kind}");
        assert!(
            engine.has(kind, name) && !engine.has(kind, "nope"),
            "{kind}"
        );
        let source = engine.source_of(kind, name).unwrap().unwrap();
        assert!(source.starts_with(&format!("({kind}")), "{kind}: {source}");
        let unknown = engine.source_of(kind, "nope").unwrap_err();
        assert_eq!(
            unknown,
            EngineError::UnknownConstruct {
                kind,
                name: "nope".into()
            }
        );
    }
    // A fact and a rule need the template.
    assert!(!engine.is_removable(Kind::Template, "reading").unwrap());
    let refused = engine.remove(Kind::Template, "reading").unwrap_err();
    assert!(matches!(refused, EngineError::InUse { .. }), "{refused}");
    engine.retract(1).unwrap();
    engine.delete_instance("pump").unwrap();
    for (kind, name) in each.into_iter().rev() {
        engine.remove(kind, name).unwrap();
        assert!(!engine.has(kind, name), "{kind}");
    }
    assert_eq!(engine.eval("(+ 40 2)"), Ok(42.into()));
}

#[test]
fn the_source_of_an_engine_makes_the_same_engine() {
    let text = format!(
        "(defmodule MAIN (export ?ALL)) {ONE_OF_EACH}
         (defmessage-handler DEVICE on () (bind ?self:state on))
         (defmodule OTHER (import MAIN ?ALL)) (defrule OTHER::r (alarm) => )"
    );
    let mut first = loaded(&text);
    let source = first.source();
    let mut second = loaded(&source);
    assert_eq!(second.source(), source);
    for kind in Kind::ALL {
        assert_eq!(names(&mut first, kind), names(&mut second, kind), "{kind}");
    }
    second.send("pump", "on", &[]).unwrap();
    assert_eq!(
        second.instance("pump").unwrap().slot("state"),
        Some(&symbol("on"))
    );
}

#[test]
fn slots_of_a_template_tell_their_constraints() {
    let mut engine = loaded(ONE_OF_EACH);
    let slots = engine.slots("reading").unwrap();
    let [sensor, celsius, state, tags, made] = slots.as_slice() else {
        panic!("{slots:?}")
    };
    assert_eq!(sensor.default, Some(symbol("nil")));
    assert_eq!(celsius.types, ["FLOAT", "INTEGER"]);
    assert_eq!(celsius.range, [(-50).into(), 200.into()]);
    assert_eq!(celsius.default, Some(20.into()));
    assert_eq!(state.allowed, [symbol("on"), symbol("off")]);
    assert_eq!(
        (tags.multi, &tags.cardinality[..]),
        (true, &[0.into(), 3.into()][..])
    );
    assert!(made.dynamic_default && made.default.is_none());
}

#[test]
fn facts_come_from_text_and_go_back_to_it() {
    let mut engine = loaded("(deftemplate p (slot x) (multislot y))");
    let index = engine.assert_text("(p (x (+ 1 2)) (y a \"b c\"))").unwrap();
    let text = engine.fact(index).unwrap().to_string();
    assert_eq!(text, "(p (x 3) (y a \"b c\"))");
    engine.retract(index).unwrap();
    assert_eq!(engine.load_facts(&text), Ok(1));
    assert_eq!(engine.facts_of("p")[0].to_string(), text);
    assert!(engine.load_facts("(p (x 1)) (nope (x 1))").is_err());
    assert!(engine.assert_text("(p (z 1))").is_err());
    assert!(engine.assert_text("(p (x 1)").is_err());
    assert_eq!(engine.facts_of("p").len(), 2);
}

#[test]
fn the_agenda_is_inspected_and_changed() {
    let mut engine = loaded(
        "(defrule low (declare (salience -5)) (a ?) => (printout t low))
         (defrule high (declare (salience 5)) (a ?) (not (b)) => (printout t high))",
    );
    engine.assert_ordered("a", vec![1.into()]).unwrap();
    let agenda = engine.agenda();
    let told: Vec<_> = agenda
        .iter()
        .map(|a| (a.rule.as_str(), a.salience))
        .collect();
    assert_eq!(told, [("high", 5), ("low", -5)]);
    assert_eq!(agenda[0].matched, [Matched::Fact(1), Matched::Nothing]);
    engine.reorder_agenda(None).unwrap();
    assert_eq!(engine.agenda()[0].rule, "high");
    assert_eq!(
        engine.set_salience(&agenda[1], 20_000),
        Err(EngineError::Salience(20_000))
    );
    engine.set_salience(&agenda[1], 6).unwrap();
    assert_eq!(engine.agenda()[0].rule, "low");
    engine.remove_activation(&agenda[0]).unwrap();
    assert!(matches!(
        engine.remove_activation(&agenda[0]),
        Err(EngineError::UnknownActivation { .. })
    ));
    assert_eq!(engine.run(None), Ok(1));
    assert_eq!(engine.take_output(), "low");
    engine.refresh_rule("low").unwrap();
    assert_eq!(engine.run(None), Ok(1));
    engine.refresh_rule("high").unwrap();
    engine.clear_agenda().unwrap();
    assert!(engine.is_quiet() && engine.conflict_set().is_empty());
}

#[test]
fn saliences_are_computed_when_asked() {
    let mut engine = loaded(
        "(defglobal ?*s* = 1) (defrule a (declare (salience ?*s*)) (x) => ) (defrule b (x) => )",
    );
    assert_eq!(
        engine.salience_evaluation(),
        SalienceEvaluation::WhenDefined
    );
    engine.assert_ordered("x", vec![]).unwrap();
    engine.set_global("s", &(-1).into()).unwrap();
    assert_eq!(engine.agenda()[0].rule, "a", "it was computed when defined");
    let every = SalienceEvaluation::EveryCycle;
    engine.set_salience_evaluation(every).unwrap();
    engine.refresh_agenda(Some("MAIN")).unwrap();
    assert_eq!(
        (
            engine.salience_evaluation(),
            engine.agenda()[0].rule.as_str()
        ),
        (every, "b")
    );
}

#[test]
fn each_strategy_orders_the_agenda_its_own_way() {
    let order = |strategy: Strategy| {
        let mut engine =
            loaded("(defrule plain (a ?) => ) (defrule picky (a ?x&:(> ?x 0)&:(< ?x 9)) (b) => )");
        engine.set_strategy(strategy).unwrap();
        assert_eq!(engine.strategy(), strategy);
        engine.assert_ordered("b", vec![]).unwrap();
        engine.assert_ordered("a", vec![1.into()]).unwrap();
        engine.assert_ordered("a", vec![2.into()]).unwrap();
        let agenda = engine.agenda().into_iter();
        agenda
            .map(|a| format!("{} {}", a.rule, a.basis))
            .collect::<Vec<_>>()
    };
    assert!(
        order(Strategy::Depth)[0].ends_with("f-3") || order(Strategy::Depth)[0].contains("f-3")
    );
    assert!(order(Strategy::Breadth)[0].contains("f-2"));
    assert_eq!(
        order(Strategy::Complexity)[0].split(' ').next(),
        Some("picky")
    );
    assert_eq!(
        order(Strategy::Simplicity)[0].split(' ').next(),
        Some("plain")
    );
    assert_eq!(order(Strategy::Lex)[0], "picky f-3,f-1");
    assert!(order(Strategy::Mea)[0].contains("f-3"));
    assert_eq!(order(Strategy::Random).len(), 4);
}

#[test]
fn breakpoints_halt_before_their_rule() {
    let mut engine =
        loaded("(defrule one (declare (salience 1)) => ) (defrule two => (printout t two))");
    engine.set_breakpoint("two", true).unwrap();
    assert!(engine.has_breakpoint("two").unwrap());
    assert_eq!(engine.run(None), Ok(1));
    assert_eq!(engine.take_output(), "Breaking on rule two.\n");
    engine.set_breakpoint("two", false).unwrap();
    assert_eq!(engine.run(None), Ok(1));
    assert_eq!(engine.take_output(), "two");
}

#[test]
fn matches_tell_why_a_rule_waits() {
    let mut engine = loaded("(defrule r (a ?x) (b ?x) (c) => )");
    for (relation, n) in [("a", 1), ("a", 2), ("b", 1)] {
        engine.assert_ordered(relation, vec![n.into()]).unwrap();
    }
    let matches = engine.matches("r").unwrap();
    assert_eq!(
        (matches.patterns, matches.partial, matches.activations),
        (3, 1, 0)
    );
    assert!(matches.text.contains("f-1,f-3"), "{}", matches.text);
    assert_eq!(
        engine.take_output(),
        "",
        "the list is not the program's output"
    );
    engine.matches("nope").unwrap_err();
}

#[test]
fn modules_and_focus_decide_whose_rules_fire() {
    let mut engine = loaded(
        "(defmodule MAIN (export ?ALL)) (deftemplate MAIN::t (slot x))
         (defrule MAIN::m (t) => (printout t m))
         (defmodule A (import MAIN ?ALL)) (defglobal A ?*g* = 1)
         (defrule A::a (t) => (printout t a))",
    );
    assert_eq!(names(&mut engine, Kind::Module), ["MAIN::MAIN", "A::A"]);
    assert_eq!(engine.current_module(), "MAIN");
    assert!(engine.global("g").is_err());
    engine.set_current_module("A").unwrap();
    assert_eq!(engine.global("g"), Ok(1.into()));
    engine.set_current_module("MAIN").unwrap();
    engine.assert("t", &[]).unwrap();
    assert_eq!(engine.agenda_of("A").unwrap()[0].rule, "a");
    assert_eq!(engine.conflict_set().len(), 2);
    engine.focus("A").unwrap();
    assert_eq!(engine.focus_stack(), ["A", "MAIN"]);
    assert_eq!(engine.pop_focus().as_deref(), Some("A"));
    engine.run(None).unwrap();
    assert_eq!(engine.take_output(), "m");
    engine.focus("A").unwrap();
    engine.run(None).unwrap();
    assert_eq!(engine.take_output(), "a");
    engine.clear_focus();
    assert!(engine.focus_stack().is_empty() && engine.pop_focus().is_none());
    engine.focus("NOPE").unwrap_err();
}

#[test]
fn functions_and_methods_are_called_with_values() {
    let mut engine = loaded(ONE_OF_EACH);
    assert_eq!(engine.call_function("twice", &[4.into()]), Ok(8.into()));
    assert_eq!(
        engine.call_function("area", &[4.into(), 5.into()]),
        Ok(20.into())
    );
    let list = Value::Multifield(vec![symbol("a b"), 2.into()]);
    assert_eq!(engine.call_function("length$", &[list]), Ok(2.into()));
    let reason = |engine: &mut Engine, name: &str, arguments: &[Value]| {
        let failed = engine.call_function(name, arguments).unwrap_err();
        assert!(
            matches!(failed, EngineError::Uncallable { .. }),
            "{name}: {failed:?}"
        );
    };
    reason(&mut engine, "nope", &[]);
    reason(&mut engine, "twice", &[]);
    reason(&mut engine, "if", &[]);
    reason(&mut engine, "str-cat", &[]);
    let failed = engine
        .call_function("/", &[1.into(), 0.into()])
        .unwrap_err();
    assert!(failed.to_string().contains("divide by zero"), "{failed}");
    let methods = engine.methods("area").unwrap();
    let forms: Vec<_> = methods.iter().map(|method| method.form.as_str()).collect();
    assert_eq!(forms, ["2  (INTEGER) (INTEGER)", "1  (INTEGER)"]);
    engine.remove_method("area", methods[0].number).unwrap();
    engine.remove_method("area", 9).unwrap_err();
    assert!(engine.call_function("area", &[4.into(), 5.into()]).is_err());
    assert_eq!(engine.call_function("area", &[4.into()]), Ok(4.into()));
}

const OBJECTS: &str = "
    (defclass BASE (is-a USER) (role abstract) (slot id (type INTEGER) (default 7)
      (visibility public)))
    (defclass PUMP (is-a BASE) (role concrete) (pattern-match reactive)
      (slot bar (type NUMBER) (range 0 20)) (slot state (allowed-symbols off on))
      (multislot tags (cardinality 0 2)) (slot total (storage shared) (default 0)))
    (defmessage-handler PUMP start () (bind ?self:state on) (send ?self noted))
    (defmessage-handler PUMP noted () ?self:id)
    (defmessage-handler PUMP init after () (bind ?self:total (+ ?self:total 1)))
    (defmessage-handler PUMP delete before () (printout t \"bye \" (instance-name ?self)))
    (defrule on (object (is-a PUMP) (state on) (name ?n)) => (printout t ?n \" runs\" crlf))";

#[test]
fn classes_tell_their_slots_and_kin() {
    let mut engine = loaded(OBJECTS);
    let pump = engine.class("PUMP").unwrap();
    assert_eq!((pump.is_abstract, pump.reactive), (false, true));
    assert_eq!(pump.superclasses, ["BASE"]);
    assert_eq!(engine.class("BASE").unwrap().subclasses, ["PUMP"]);
    let slot = |name: &str| pump.slots.iter().find(|slot| slot.name == name).unwrap();
    assert_eq!(slot("id").default, Some(7.into()), "inherited");
    assert_eq!(slot("bar").range, [0.into(), 20.into()]);
    assert_eq!(slot("state").allowed, [symbol("off"), symbol("on")]);
    assert_eq!(slot("tags").cardinality, [0.into(), 2.into()]);
    assert!(
        slot("total").facets.contains(&"SHR".to_owned()),
        "{:?}",
        slot("total").facets
    );
    assert_eq!(slot("bar").types, ["FLOAT", "INTEGER"]);
    engine.class("NOPE").unwrap_err();
}

#[test]
fn instances_are_made_read_changed_and_unmade() {
    let mut engine = loaded(OBJECTS);
    let evil = "a) (exit) \"";
    let slots = [
        ("bar", 2.5.into()),
        (
            "tags",
            Value::Multifield(vec![symbol(evil), Value::string(evil)]),
        ),
    ];
    engine.make_instance("p 1", "PUMP", &slots).unwrap();
    engine
        .make_instance("p2", "PUMP", &[("tags", Value::Multifield(vec![]))])
        .unwrap();
    let first = engine.instance("p 1").unwrap();
    assert_eq!(
        (first.class.as_str(), first.slot("bar")),
        ("PUMP", Some(&2.5.into()))
    );
    assert_eq!(first.slot("tags"), Some(&slots[1].1));
    assert_eq!(
        first.slot("total"),
        Some(&2.into()),
        "the slot is shared, init ran twice"
    );
    assert_eq!(engine.instances().len(), engine.instance_count());
    let refused = engine
        .make_instance("p3", "PUMP", &[("bar", 50.into())])
        .unwrap_err();
    assert!(refused.to_string().contains("range"), "{refused}");
    engine
        .make_instance("p3", "PUMP", &[("nope", 1.into())])
        .unwrap_err();
    engine.make_instance("p3", "BASE", &[]).unwrap_err();
    engine
        .put_instance_slot("p2", "state", &symbol("on"))
        .unwrap();
    engine
        .put_instance_slot("p2", "state", &symbol("broken"))
        .unwrap_err();
    engine
        .put_instance_slot("p 1", "tags", &Value::Multifield(vec![]))
        .unwrap();
    assert_eq!(
        engine.instance("p 1").unwrap().slot("tags"),
        Some(&Value::Multifield(vec![])),
        "an empty multifield is stored"
    );
    engine.run(None).unwrap();
    assert_eq!(engine.take_output(), "[p2] runs\n", "patterns see the slot");
    engine.unmake_instance("p2").unwrap();
    assert_eq!(engine.take_output(), "bye [p2]");
    engine.delete_instance("p 1").unwrap();
    assert_eq!(
        (engine.take_output(), engine.instance_count()),
        (String::new(), 0)
    );
    engine.instance("p2").unwrap_err();
}

#[test]
fn instances_come_from_text_and_go_back_to_it() {
    let mut engine = loaded(OBJECTS);
    engine
        .make_instance("p", "PUMP", &[("bar", 1.into()), ("state", symbol("on"))])
        .unwrap();
    let text = engine.instance("p").unwrap().to_string();
    engine.delete_instance("p").unwrap();
    assert_eq!(engine.restore_instances(&text), Ok(1));
    assert_eq!(engine.instance("p").unwrap().to_string(), text);
    assert_eq!(engine.load_instances("([q] of PUMP (bar 3))"), Ok(1));
    engine.load_instances("([r] of NOPE)").unwrap_err();
}

#[test]
fn handlers_are_listed_previewed_sent_to_and_removed() {
    let mut engine = loaded(OBJECTS);
    let handlers = engine.handlers("PUMP", false).unwrap();
    assert!(
        handlers
            .iter()
            .any(|h| h.name == "init" && h.kind == "after"),
        "{handlers:?}"
    );
    let source = engine
        .handler_source("PUMP", "start", "primary")
        .unwrap()
        .unwrap();
    assert!(
        source.starts_with("(defmessage-handler MAIN::PUMP start"),
        "{source}"
    );
    let preview = engine.preview_send("PUMP", "delete").unwrap();
    assert!(
        preview.contains("before") && preview.contains("PUMP"),
        "{preview}"
    );
    engine.make_instance("p", "PUMP", &[]).unwrap();
    assert_eq!(engine.send("p", "start", &[]), Ok(7.into()));
    assert_eq!(engine.send("p", "put-bar", &[3.into()]), Ok(3.into()));
    engine.send("p", "nope", &[]).unwrap_err();
    engine.send("nope", "start", &[]).unwrap_err();
    engine.remove_handler("PUMP", "noted", "primary").unwrap();
    engine
        .remove_handler("PUMP", "noted", "primary")
        .unwrap_err();
    engine.send("p", "start", &[]).unwrap_err();
}

#[test]
fn events_tell_what_happens_in_its_order() {
    let mut engine =
        loaded("(deftemplate n (slot x)) (defrule r ?f <- (n (x 1)) => (modify ?f (x 2)))");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    engine.listen(move |event| {
        log.lock().unwrap().push(match event {
            Event::Asserted(fact) => format!("+f-{} {fact}", fact.index),
            Event::Retracted(fact) => format!("-f-{} {fact}", fact.index),
            Event::Fires(activation) => format!("{} {}", activation.rule, activation.basis),
            _ => "done".to_owned(),
        });
    });
    engine.assert("n", &[("x", 1.into())]).unwrap();
    engine.run(None).unwrap();
    let told = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(
        told,
        [
            "+f-1 (n (x 1))",
            "r f-1",
            "-f-1 (n (x 1))",
            "+f-1 (n (x 2))",
            "done"
        ]
    );
    engine.listen(|_| panic!("heard"));
    let tripped = engine.assert("n", &[("x", 3.into())]).unwrap_err();
    assert!(
        matches!(
            tripped,
            EngineError::Tripped {
                trip: Trip::Panic,
                ..
            }
        ),
        "{tripped}"
    );
    engine.stop_listening();
    engine.assert("n", &[("x", 4.into())]).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 0);
}

#[test]
fn watched_items_are_printed_among_the_output() {
    let mut engine = loaded(
        "(deftemplate n (slot x)) (deftemplate m (slot x)) (defrule r (n) => (assert (m (x 9))))",
    );
    engine.watch(WatchItem::Rules, true);
    assert!(engine.is_watched(WatchItem::Rules) && !engine.is_watched(WatchItem::Facts));
    engine.watch_one(Kind::Template, "m", true).unwrap();
    assert!(engine.is_one_watched(Kind::Template, "m").unwrap());
    assert!(!engine.is_one_watched(Kind::Template, "n").unwrap());
    engine.assert("n", &[]).unwrap();
    engine.run(None).unwrap();
    assert_eq!(
        engine.take_output(),
        "FIRE    1 r: f-1\n==> f-2     (m (x 9))\n"
    );
    engine.watch(WatchItem::All, false);
    assert!(!engine.is_watched(WatchItem::Rules));
    let unwatchable = engine.watch_one(Kind::Module, "MAIN", true);
    assert_eq!(unwatchable, Err(EngineError::Unwatchable(Kind::Module)));
}

#[test]
fn switches_change_how_clips_works() {
    let mut engine = loaded("(defglobal ?*g* = 1) (deffunction f ($?x) (length$ ?x))");
    assert_eq!(engine.settings(), Settings::default());
    let changed = Settings {
        reset_globals: false,
        ..Settings::default()
    };
    engine.set_settings(changed);
    assert_eq!(engine.settings(), changed);
    engine.set_global("g", &5.into()).unwrap();
    engine.reset().unwrap();
    assert_eq!(engine.global("g"), Ok(5.into()));
}

#[test]
fn an_open_program_reads_what_it_is_given() {
    let mut engine = Engine::new(Limits::AGENT);
    engine.push_input("hello\n17\nthe rest\n");
    assert_eq!(engine.eval("(read)"), Ok(symbol("hello")));
    assert_eq!(engine.eval("(read)"), Ok(17.into()));
    assert_eq!(engine.eval("(readline)"), Ok(Value::string("the rest")));
    assert_eq!(engine.eval("(read)"), Ok(symbol("EOF")));
}

#[test]
fn memory_is_counted_and_given_back() {
    let mut engine = loaded("(deftemplate t (slot x))");
    for n in 0..2000 {
        engine.assert("t", &[("x", n.into())]).unwrap();
    }
    let (bytes, pieces) = (engine.memory_used(), engine.memory_requests());
    for fact in engine.facts() {
        engine.retract(fact.index).unwrap();
    }
    engine.release_memory();
    assert!(engine.memory_used() < bytes && engine.memory_requests() < pieces);
}
