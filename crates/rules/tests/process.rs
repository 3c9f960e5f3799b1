//! Rules in a process of their own: what they may do there, and what becomes of the agent.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests that measure how long an attack lasts"
)]

mod common;

use std::time::{Duration, Instant};

use cpe_rules::process::Landlock;
use cpe_rules::{
    AgentError, AgentMessage, AgentOptions, Delivery, Effect, Engine, Limits, ProcessAgent,
    ProcessCommand, ProcessError, Recorder, RuleAgent, Snapshot, Trace, TracedFact, Trip, Worker,
};
use cpe_tuple::Value;
use proptest::prelude::*;

/// Longer than any attack may last, far shorter than a hang.
const PATIENCE: Duration = Duration::from_secs(30);

fn worker() -> ProcessCommand {
    ProcessCommand::new(env!("CARGO_BIN_EXE_rules-worker"), Vec::<String>::new())
}

fn options() -> AgentOptions {
    let mut options = AgentOptions::default();
    options.limits = Limits {
        wall: Duration::from_millis(500),
        memory_bytes: 32 << 20,
        ..Limits::AGENT
    };
    options
}

fn agent(source: &str) -> ProcessAgent {
    ProcessAgent::new(worker(), "guest", source, options()).unwrap()
}

fn tell(kind: &str, body: impl Into<Value>) -> Delivery {
    Delivery::Message(AgentMessage::tell("me", kind, body))
}

fn ask(agent: &mut ProcessAgent, kind: &str) -> Value {
    let message = AgentMessage::ask("me", kind, Value::Null, 1);
    let effects = agent.deliver(Delivery::Message(message), 0).unwrap();
    match effects.as_slice() {
        [Effect::Reply { value, .. }] => value.clone(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn stopped(outcome: Result<Vec<Effect>, AgentError>) -> Trip {
    match outcome {
        Err(AgentError::Stopped { trip, .. }) => trip,
        other => panic!("{other:?}"),
    }
}

/// Counts what it is told; can be told to do harm.
const COUNTER: &str = "
    (deffacts start (total 0))
    (defrule add ?t <- (total ?n) ?m <- (message (kind add) (body ?k)) =>
      (retract ?t ?m) (assert (total (+ ?n ?k))) (out \"log\" ?k (random 1 1000000)))
    (defrule total (message (kind total)) (total ?n) => (reply ?n))
    (defrule spin (message (kind spin)) => (while TRUE do))
    (defrule join (message (kind join)) (b ?) (c ?) (d ?) => )
    (defrule b (message (kind fill)) =>
      (loop-for-count (?i 1 400) (assert (b ?i) (c ?i) (d ?i))))";

#[test]
fn an_agent_in_another_process_does_what_it_does_in_this_one() {
    let mut here = RuleAgent::new("guest", COUNTER, options()).unwrap();
    let mut there = agent(COUNTER);
    assert_eq!(there.deliver(Delivery::Start, 0), here.start(0));
    for n in 1..20 {
        let effects = there.deliver(tell("add", n), n).unwrap();
        assert_eq!(Ok(effects), here.deliver(tell("add", n), n));
    }
    assert_eq!(ask(&mut there, "total"), Value::Int(190));
    assert_eq!(there.deaths(), 0);
}

#[test]
fn a_function_is_called_with_values_and_ends_at_its_limits() {
    let source = "
        (deffunction area (?w ?h) (* ?w ?h))
        (deffunction sum ($?all) (bind ?s 0) (foreach ?x $?all (bind ?s (+ ?s ?x))) ?s)
        (deffunction total (?list) (sum ?list))
        (deffunction nested (?list) (create$ (map-of n (length$ ?list))))
        (deffunction spin () (while TRUE do))
        (deffunction hoard () (bind ?x \"x\") (while TRUE do (bind ?x (str-cat ?x ?x))))
        (deffunction tells () (out \"ws\" 1) 7)
        (deffunction speaks () (println \"hm\"))";
    let mut agent = agent(source);
    let mut call = |name: &str, arguments: &[Value]| agent.call(name, arguments.to_vec(), 0);
    let list = Value::List(vec![1.into(), 2.into(), 3.into()]);
    assert_eq!(call("area", &[3.into(), 4.into()]), Ok(Value::Int(12)));
    assert_eq!(call("sum", &[1.into(), 2.into()]), Ok(Value::Int(3)));
    assert_eq!(
        call("total", std::slice::from_ref(&list)),
        Ok(Value::Int(6))
    );
    let nested = Value::Map([("n".to_owned(), Value::Int(3))].into());
    assert_eq!(call("nested", &[list]), Ok(nested));
    assert_eq!(call("speaks", &[]), Ok(Value::Null));
    let why = |called: Result<Value, AgentError>| called.unwrap_err().to_string();
    assert!(why(call("area", &[3.into()])).contains("another number of arguments"));
    assert!(why(call("nobody", &[])).contains("there is no such function"));
    assert!(why(call("area", &["a".into(), 4.into()])).contains("area"));
    assert!(why(call("tells", &[])).contains("asked for 1 effects"));
    // A text that doubles may outgrow the process at once, before the engine counts it; and on a
    // busy machine its time may be over first.
    let trips: [(&str, &[Trip]); 2] = [
        ("spin", &[Trip::Deadline]),
        ("hoard", &[Trip::Memory, Trip::Crashed, Trip::Deadline]),
    ];
    for (name, trips) in trips {
        let ended = call(name, &[]);
        let by = matches!(&ended, Err(AgentError::Stopped { trip, .. }) if trips.contains(trip));
        assert!(by, "{name}: {ended:?}");
        // And it is there for the next one.
        assert_eq!(call("area", &[3.into(), 4.into()]), Ok(Value::Int(12)));
    }
    assert!(agent.take_output().starts_with("hm"));
}

#[test]
fn a_worker_has_two_pipes_and_nothing_else() {
    let mut agent = agent(COUNTER);
    let pid = agent.process_id().unwrap();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let files: Vec<_> = files
        .map(|file| std::fs::read_link(file.unwrap().path()).unwrap())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(
        files
            .iter()
            .filter(|target| target.starts_with("pipe:"))
            .count(),
        2
    );
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (limit("Max open files"), limit("Max file size")),
        ("0".into(), "0".into())
    );
    let space: u64 = limit("Max address space").parse().unwrap();
    assert!(space < 4 << 30, "{space}");
    assert_ne!(limit("Max cpu time"), "unlimited");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(environment.is_empty());
    let confinement = agent.confinement();
    assert!(confinement.seccomp && confinement.limits, "{confinement}");
    if confinement.landlock == Landlock::Full {
        assert!(confinement.to_string().starts_with("fully confined"));
    } else {
        assert!(
            confinement.to_string().contains("landlock"),
            "{confinement}"
        );
    }
    assert_eq!(ask(&mut agent, "total"), Value::Int(0));
}

#[test]
fn a_worker_that_is_killed_goes_on_from_before() {
    let mut agent = agent(COUNTER);
    // More than between two snapshots.
    for n in 0..100 {
        agent.deliver(tell("add", 1), n).unwrap();
    }
    let pid = agent.process_id().unwrap();
    std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    // The delivery that finds it dead is lost, and said to be.
    let first = agent.deliver(tell("add", 1), 100);
    assert_eq!(stopped(first), Trip::Crashed);
    assert_eq!(ask(&mut agent, "total"), Value::Int(100));
    assert_ne!(agent.process_id().unwrap(), pid);
    // Also its random numbers go on where they were.
    let mut same = RuleAgent::new("guest", COUNTER, options()).unwrap();
    for n in 0..100 {
        same.deliver(tell("add", 1), n).unwrap();
    }
    assert_eq!(
        agent.deliver(tell("add", 5), 7),
        same.deliver(tell("add", 5), 7)
    );
}

#[test]
fn what_a_person_did_at_its_prompt_outlives_its_process() {
    let mut agent = agent(COUNTER);
    let command = Delivery::Command("(do-for-fact ((?t total)) TRUE (retract ?t))".to_owned());
    agent.deliver(command, 0).unwrap();
    let command = Delivery::Command("(assert (total 700))".to_owned());
    agent.deliver(command, 1).unwrap();
    assert!(agent.take_output().contains("<Fact-"));
    let pid = agent.process_id().unwrap();
    std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    stopped(agent.deliver(tell("add", 1), 2));
    assert_eq!(ask(&mut agent, "total"), Value::Int(700));
}

#[test]
fn a_loop_is_stopped_inside_and_the_process_lives() {
    let mut agent = agent(COUNTER);
    agent.deliver(tell("add", 3), 0).unwrap();
    let pid = agent.process_id();
    assert_eq!(
        stopped(agent.deliver(tell("spin", Value::Null), 0)),
        Trip::Deadline
    );
    assert_eq!(agent.process_id(), pid);
    assert_eq!(ask(&mut agent, "total"), Value::Int(3));
}

/// The C library opens a file the first time that it gives back much memory at once.
#[test]
fn a_worker_that_gives_back_much_memory_lives_on() {
    let source = format!(
        "{COUNTER} (deffunction again (?x) (again (+ ?x 1)))
         (defrule again (message (kind again)) => (again 1))"
    );
    let mut options = options();
    options.limits.wall = Duration::from_secs(20);
    let mut agent = ProcessAgent::new(worker(), "guest", &source, options).unwrap();
    agent.deliver(tell("add", 3), 0).unwrap();
    let stopped = stopped(agent.deliver(tell("again", Value::Null), 0));
    assert_eq!((stopped, agent.deaths()), (Trip::Stack, 0));
    assert_eq!(ask(&mut agent, "total"), Value::Int(3));
}

/// The one thing that no limit inside a process can stop.
#[test]
fn a_join_that_explodes_inside_one_assert_is_ended() {
    let mut agent = agent(COUNTER);
    agent.deliver(tell("add", 3), 0).unwrap();
    agent.deliver(tell("fill", Value::Null), 0).unwrap();
    let begun = Instant::now();
    let trip = stopped(agent.deliver(tell("join", Value::Null), 0));
    assert!(matches!(trip, Trip::Memory | Trip::Deadline), "{trip}");
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(agent.deaths(), 1);
    assert_eq!(ask(&mut agent, "total"), Value::Int(3));
}

#[test]
fn an_agent_is_halted_from_outside_also_where_nothing_inside_looks() {
    let mut options = options();
    options.limits.wall = Duration::from_secs(20);
    options.limits.memory_bytes = 512 << 20;
    let agent = Worker::spawn("halt", || {
        ProcessAgent::new(worker(), "guest", COUNTER, options)
    })
    .unwrap();
    let fill = |agent: &mut ProcessAgent| drop(agent.deliver(tell("fill", Value::Null), 0));
    agent.call(fill).unwrap();
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let job = |agent: &mut ProcessAgent| agent.deliver(tell("join", Value::Null), 0);
    agent
        .submit(job, move |done| drop(send.send(done)))
        .unwrap();
    agent.halt_handle().halt();
    let trip = stopped(receive.recv_timeout(PATIENCE).unwrap().unwrap());
    assert!(matches!(trip, Trip::Halted | Trip::Memory), "{trip}");
}

/// What becomes of a text that reaches a bug of CLIPS 6.40.
#[derive(Debug, PartialEq)]
enum Becomes {
    /// Its worker ends, and nothing else.
    ACrash,
    /// The fault is told.
    Refused,
    /// It runs.
    AnAgent,
}

fn becomes(source: &str) -> Becomes {
    match ProcessAgent::new(worker(), "bug", source, options()) {
        Err(ProcessError::Died(trip)) => {
            assert_eq!(trip, Trip::Crashed, "{source}");
            Becomes::ACrash
        }
        Err(ProcessError::Source(_)) => Becomes::Refused,
        Err(other) => panic!("{source}: {other}"),
        Ok(mut agent) => match (agent.deliver(Delivery::Start, 0), agent.deaths()) {
            (Err(AgentError::Stopped { trip, .. }), 1) => {
                assert_eq!(trip, Trip::Crashed, "{source}");
                Becomes::ACrash
            }
            (_, 0) => Becomes::AnAgent,
            other => panic!("{source}: {other:?}"),
        },
    }
}

/// Texts that end CLIPS 6.40 itself end their worker alone. Where one does no longer, CLIPS was
/// mended: then drop what this crate says about that bug.
#[test]
fn bugs_of_clips_that_rules_reach_end_their_worker_alone() {
    let sources = [
        (
            "a method redefined after it was called",
            Becomes::ACrash,
            METHODS,
        ),
        (
            "two variables of one right-hand pattern",
            Becomes::ACrash,
            "(deftemplate m (slot o) (slot d)) (deftemplate z (slot c1) (slot c2) (slot c3))
             (defrule r (m (o ?x1) (d ?x2)) (z (c3 ?x3) (c1 ?x3&?x1|?x2) (c2 ~?x3&?x1|?x2)) => )
             (deffacts d (m (o 1) (d 2)) (z (c1 1) (c2 2) (c3 1)))",
        ),
        (
            "a generic named like a function that only handlers have",
            Becomes::ACrash,
            "(defgeneric ppinstance) (defclass A (is-a USER))
             (defmessage-handler A h () (ppinstance)) (defrule r => (make-instance a of A)
               (send [a] h))",
        ),
        (
            "the same with a call in place of the second pattern's `|`",
            Becomes::AnAgent,
            "(deftemplate m (slot o) (slot d)) (deftemplate z (slot c1) (slot c2) (slot c3))
             (defrule r (m (o ?x1) (d ?x2))
               (z (c3 ?x3) (c1 ?x3&:(or (eq ?x3 ?x1) (eq ?x3 ?x2)))
                 (c2 ?y&~?x3&:(or (eq ?y ?x1) (eq ?y ?x2)))) => )
             (deffacts d (m (o 1) (d 2)) (z (c1 1) (c2 2) (c3 1)))",
        ),
        // The dummy fact has a time tag here, and the buffer is long enough for this name.
        (
            "the time tag of an address that is a default",
            Becomes::AnAgent,
            "(deftemplate t (slot f (type FACT-ADDRESS))) (deffacts d (t))
             (defrule r (t (f ?f)) => (printout t (timetag ?f)))",
        ),
        (
            "a division by zero within a pattern of a long slot",
            Becomes::AnAgent,
            "(deftemplate t (slot abcdefghijklmnopqrstuvwxyzabcde)) (deffacts d (t))
             (defrule r (t (abcdefghijklmnopqrstuvwxyzabcde ?x&:(/ 1 0))) => )",
        ),
    ];
    for (name, expected, source) in sources {
        assert_eq!(becomes(source), expected, "{name}");
    }
}

const METHODS: &str = "
    (defmethod foo ()) (defglobal ?*a* = (foo)) (defmethod foo () (bind ?a 1))
    (defglobal ?*b* = (foo))";

#[test]
fn a_check_in_another_process_tells_of_a_crash_and_of_faults_where_they_are() {
    let check = |text: &str| cpe_rules::check_apart(worker(), "a.clp", text).unwrap();
    assert_eq!(check(COUNTER), []);
    let crash = check(METHODS);
    assert!(
        crash[0].message.contains("ended their process"),
        "{crash:?}"
    );
    assert_eq!(check("\n(defrule r (a) = )")[0].line, 2);
    let long = format!("\n(deftemplate t (slot {}))", "s".repeat(60));
    assert_eq!(
        (check(&long)[0].line, check(&long)[0].column),
        (2, Some(22))
    );
    let missing = ProcessCommand::new("/nowhere/cpe", ["rules-worker"]);
    cpe_rules::check_apart(missing, "a.clp", COUNTER).unwrap_err();
}

/// Twelve seconds of the clock: what loading may take, and what starting a process may.
#[test]
fn a_check_whose_process_says_nothing_is_ended_and_tells_so() {
    let silent = ProcessCommand::new("sleep", ["600"]);
    let found = cpe_rules::check_apart(silent, "a.clp", COUNTER).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .message
            .contains("ended their process while they were loaded: deadline"),
        "{found:?}"
    );
}

/// Programs that try to run away, each in a worker: how each is stopped, and that a message is
/// answered right after.
#[test]
fn every_attack_ends_in_a_named_trip_and_an_agent_that_answers() {
    use Trip::{Crashed, Deadline, Effects, Facts, Memory, Output, Stack};
    // On a busy machine the time may be over before a limit on an amount is reached, and what
    // doubles may outgrow the process before the engine counts it.
    let attacks: &[(&str, &str, &[Trip])] = &[
        ("a loop", "(while TRUE do)", &[Deadline]),
        (
            "a counted loop",
            "(loop-for-count 1000000000000000 do)",
            &[Deadline],
        ),
        (
            "a function that calls itself",
            "(again 1)",
            &[Stack, Deadline],
        ),
        (
            "a handler that sends to itself",
            "(send [guest] again)",
            &[Stack, Deadline],
        ),
        (
            "an instance that makes one",
            "(make-instance of NEST)",
            &[Stack, Deadline],
        ),
        (
            "a string that doubles",
            "(bind ?s xxxxxxxx) (while TRUE do (bind ?s (str-cat ?s ?s)))",
            &[Memory, Crashed, Deadline],
        ),
        (
            "a list that doubles",
            "(bind ?s (create$ 1)) (while TRUE do (bind ?s (create$ ?s ?s)))",
            &[Memory, Crashed, Deadline],
        ),
        (
            "facts",
            "(while TRUE do (assert (flood (gensym*))))",
            &[Facts, Deadline],
        ),
        (
            "instances",
            "(while TRUE do (make-instance (gensym*) of THING))",
            &[Memory, Deadline],
        ),
        (
            "symbols",
            "(bind ?l (create$)) (while TRUE do (bind ?l ?l (gensym*)))",
            &[Memory, Deadline],
        ),
        (
            "output",
            "(while TRUE do (printout t xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx crlf))",
            &[Output, Deadline],
        ),
        (
            "formatted output",
            "(while TRUE do (format t \"%1000d\" 1))",
            &[Output, Deadline],
        ),
        (
            "effects",
            "(while TRUE do (out flood 1))",
            &[Effects, Deadline],
        ),
        ("requests", "(while TRUE do (find flood x))", &[]),
        (
            "log lines",
            "(while TRUE do (log info xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx))",
            &[Effects, Deadline],
        ),
        (
            "four nested queries",
            "(fill) (do-for-all-facts ((?a n) (?b n) (?c n) (?d n)) TRUE)",
            &[Deadline],
        ),
        (
            "a sort that calls back",
            "(sort endless 3 2 1)",
            &[Deadline],
        ),
        // A builtin that nothing inside can stop.
        (
            "a list compared with itself",
            "(bind ?l (long 16)) (while TRUE do (subsetp ?l ?l))",
            &[Deadline],
        ),
    ];
    for (name, action, trips) in attacks {
        let source = format!(
            "(defclass THING (is-a USER))
             (defclass NEST (is-a USER))
             (defmessage-handler NEST init after () (make-instance of NEST))
             (defmessage-handler THING again () (send ?self again))
             (definstances d (guest of THING))
             (deftemplate n (slot v))
             (deffunction fill () (loop-for-count (?i 1 300) (assert (n (v ?i)))))
             (deffunction again (?x) (again (+ ?x 1)))
             (deffunction endless (?a ?b) (while TRUE do))
             (deffunction long (?n) (bind ?s (create$ 1)) (loop-for-count ?n
               (bind ?s (create$ ?s (+ 1 (length$ ?s)) ?s))) ?s)
             (defrule attack (message (kind attack)) => {action})
             (defrule hello (message (kind hello)) => (reply hi))"
        );
        let mut agent = agent(&source);
        let begun = Instant::now();
        let outcome = agent.deliver(tell("attack", Value::Null), 0);
        assert!(begun.elapsed() < PATIENCE, "{name}: {:?}", begun.elapsed());
        match &outcome {
            Err(AgentError::Stopped { trip, .. }) => {
                assert!(trips.contains(trip), "{name}: {trip:?}");
            }
            // The bound on requests is an error of the rule.
            Err(AgentError::Rule { message, .. }) if *name == "requests" => {
                assert!(message.contains("requests are open"), "{message}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(ask(&mut agent, "hello"), Value::symbol("hi"), "{name}");
    }
}

#[test]
fn a_faulty_source_is_told_with_file_and_line() {
    let mut options = options();
    options.file = "guest.clp".to_owned();
    let refused = ProcessAgent::new(worker(), "guest", "\n(defrule r (a) = )", options);
    let told = refused.unwrap_err().to_string();
    assert!(told.starts_with("guest.clp:2"), "{told}");
    let missing = ProcessCommand::new("/nowhere/cpe", ["rules-worker"]);
    let refused = ProcessAgent::new(missing, "guest", COUNTER, self::options());
    assert!(matches!(refused, Err(ProcessError::Start(_))));
}

#[test]
fn an_agent_moves_with_its_memory() {
    let mut first = agent(COUNTER);
    first.deliver(tell("add", 7), 0).unwrap();
    let snapshot = first.snapshot().unwrap();
    drop(first);
    let restored = ProcessAgent::restore(worker(), "guest", COUNTER, options(), &snapshot);
    let (mut second, lost) = restored.unwrap();
    assert_eq!(lost, Vec::<String>::new());
    assert_eq!(ask(&mut second, "total"), Value::Int(7));
}

#[test]
fn a_worker_ends_with_whoever_started_it() {
    let pid = {
        let agent = agent(COUNTER);
        agent.process_id().unwrap()
    };
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(common::cases(16)))]

    /// Whatever it does to CLIPS, it does it over there.
    #[test]
    fn any_text_leaves_this_process_alive(seed: u64) {
        let text = common::text(seed);
        match ProcessAgent::new(worker(), "text", &text, options()) {
            Err(ProcessError::Source(_)) => {}
            Err(ProcessError::Died(trip)) => eprintln!("{trip}: {text}"),
            Err(other) => prop_assert!(false, "{other}: {text}"),
            Ok(mut agent) => {
                let _ = agent.deliver(Delivery::Start, 0);
                if agent.deaths() > 0 {
                    eprintln!("died of: {text}");
                }
            }
        }
    }
}

/// A rule, and the facts that it fired on, made and removed.
type Fired = (String, [Vec<String>; 3]);

/// What fired. Facts are told apart by their text alone: an agent has some of its own, and so
/// other indices.
fn firings(trace: Trace) -> Vec<Fired> {
    let texts = |facts: Vec<TracedFact>| facts.into_iter().map(|fact| fact.text).collect();
    let firings = trace.firings.into_iter();
    let each = firings.map(|it| (it.rule, [it.facts, it.asserted, it.retracted].map(texts)));
    each.collect()
}

/// The same of an engine that goes through bytes into a new one after each firing, and what it
/// printed.
fn moved_after_every_firing(text: &str) -> (Vec<Fired>, String) {
    let loaded = || {
        let mut engine = Engine::sandboxed(Limits::AGENT, 0);
        engine.load(text).unwrap();
        engine
    };
    let mut engine = loaded();
    engine.reset().unwrap();
    let (mut all, mut output) = (Vec::new(), String::new());
    loop {
        let recorder = Recorder::attach(&mut engine);
        let fired = engine.run(Some(1));
        all.extend(firings(recorder.trace()));
        output.push_str(&engine.take_output());
        if fired != Ok(1) {
            return (all, output);
        }
        let bytes = engine.snapshot().unwrap().to_bytes();
        engine = loaded();
        let lost = engine.restore(&Snapshot::from_bytes(&bytes).unwrap());
        assert_eq!(lost.unwrap(), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(common::cases(16)))]

    #[test]
    fn a_random_program_fires_the_same_here_in_a_worker_and_moved_after_every_firing(seed: u64) {
        let text = common::program(seed)
            .replace("(defmodule MAIN (export ?ALL))", "")
            .replace("(defmodule SIDE (import MAIN ?ALL))", "")
            .replace("SIDE", "MAIN");
        // Only programs that come to an end: where one is cut off depends on the clock.
        let mut trial = Engine::sandboxed(Limits::AGENT, 0);
        trial.load(&text).unwrap();
        trial.reset().unwrap();
        prop_assume!(matches!(trial.run(Some(500)), Ok(fired) if fired < 500));
        let mut options = AgentOptions::default();
        options.limits.wall = Duration::from_secs(20);
        let mut here = RuleAgent::new("a", &text, options.clone()).unwrap();
        let mut there = ProcessAgent::new(worker(), "a", &text, options).unwrap();
        let (mine, theirs) = (here.start(0), there.deliver(Delivery::Start, 0));
        prop_assert_eq!(mine.is_ok(), theirs.is_ok());
        let printed = here.take_output();
        prop_assert_eq!(&printed, &there.take_output(), "{}", text);
        let trace = here.trace();
        prop_assert_eq!(&trace, &there.trace().unwrap(), "{}", text);
        prop_assert_eq!(here.snapshot().unwrap(), there.snapshot().unwrap());

        let (moved, output) = moved_after_every_firing(&text);
        prop_assert_eq!(&printed, &output, "{}", text);
        let skipped = usize::try_from(trace.forgotten).unwrap();
        prop_assert_eq!(firings(trace), &moved[skipped..], "{}", text);
    }
}
