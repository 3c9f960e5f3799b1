//! Rules with all limits on, beside CLIPS without our layer, Debian's `clips` (6.30) and clipspy
//! (6.4.2).
//!
//! ```text
//! cargo bench -p cpe-rules --bench rules             # a table
//! cargo bench -p cpe-rules --bench rules -- --json   # one JSON object per measure
//! cargo bench -p cpe-rules --bench rules -- --quick  # fewer rounds
//! ```
//!
//! Rates are per second of processor time, so that what else the machine does counts little; in
//! each round everybody runs once, and the median counts. What runs in this process is run once
//! before anything is measured, for the first to touch memory pays for it, and takes turns at who
//! goes first. The latency through a worker is of the clock on the wall, which is what waits cost;
//! beside it stands the processor time of both processes.
//! clipspy is installed by pip into the target folder; `clips` has to be there
//! (`apt-get install clips`). Who is missing is left out, and that is said.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark reads the clock and reports on stdout"
)]

mod peers;

use std::path::Path;
use std::time::{Duration, Instant};

use cpe_rules::{
    AgentOptions, Delivery, Effect, Engine, Limits, ProcessAgent, ProcessCommand, RuleAgent,
    Signature, Value,
};
use cpe_tuple::Tuple;
use peers::cpu;
use serde_json::json;

/// All limits on, and none that these programs reach.
const LIMITS: Limits = Limits {
    wall: Duration::from_secs(600),
    memory_bytes: 512 << 20,
    facts: 1_000_000,
    ..Limits::AGENT
};

const FACTS: usize = 20_000;
const CALLS: usize = 200_000;

const TEMPLATE: &str = "(deftemplate reading
    (slot sensor (type SYMBOL)) (slot celsius (type FLOAT)) (slot place (type STRING))
    (slot at (type INTEGER)) (multislot tags))";

/// One tuple in, one rule, one tuple out, with a state that is modified.
const AGENT: &str = "(deftemplate seen (slot count))
    (deffacts start (seen (count 0)))
    (defrule begin => (subscribe in \"reading\" :int :float))
    (defrule reading ?t <- (tuple (fields \"reading\" ?n ?c)) ?s <- (seen (count ?k)) =>
      (retract ?t) (modify ?s (count (+ ?k 1))) (out \"out\" warm ?n ?c))";

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One measure of one contender: the figures of all rounds.
#[derive(Default)]
struct Table(Vec<(String, &'static str, &'static str, Vec<f64>)>);

impl Table {
    fn add(&mut self, case: impl Into<String>, who: &'static str, unit: &'static str, value: f64) {
        let case = case.into();
        let row = self.0.iter_mut().find(|row| row.0 == case && row.1 == who);
        match row {
            Some(row) => row.3.push(value),
            None => self.0.push((case, who, unit, vec![value])),
        }
    }

    /// A line for each that is measured beside `ours`, or one where nobody is.
    fn print(mut self, as_json: bool) {
        let figures: Vec<_> = self
            .0
            .iter_mut()
            .map(|row| (row.0.clone(), row.1, row.2, median(&mut row.3)))
            .collect();
        for (case, _, unit, ours) in figures.iter().filter(|row| row.1 == OURS) {
            let mut beside: Vec<_> = figures
                .iter()
                .filter(|row| row.0 == *case && row.1 != OURS)
                .map(|row| (Some(row.1), Some(row.3)))
                .collect();
            if beside.is_empty() {
                beside.push((None, None));
            }
            for (baseline, value) in beside {
                let ratio = value.map(|value| ours / value);
                if as_json {
                    let line = json!({ "case": case, "value": ours, "unit": unit,
                        "baseline": baseline, "baseline_value": value, "ratio": ratio });
                    println!("{line}");
                } else {
                    let (baseline, value) = (baseline.unwrap_or("-"), value.unwrap_or(0.0));
                    let ratio = ratio.unwrap_or(0.0);
                    println!(
                        "{case:<28} {ours:>12.2} {unit:<6} {baseline:<12} {value:>12.2} {ratio:.2}"
                    );
                }
            }
        }
    }
}

const OURS: &str = "ours";
const RAW: &str = "clips-sys";
const DEBIAN: &str = "clips 6.30";
const PYTHON: &str = "clipspy";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let rounds = if asked("--quick") { 1 } else { 5 };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/rules");
    // The binary lies in target/release/deps.
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap().to_owned();
    let scratch = target.join("bench");
    std::fs::create_dir_all(&scratch).unwrap();
    let python = peers::clipspy_python(&target);
    if let Err(why) = &python {
        eprintln!("skipped: every comparison with clipspy ({why})");
    }
    let debian = peers::debian_is_there(&scratch);
    if !debian {
        eprintln!("skipped: every comparison with clips (apt-get install clips)");
    }

    let mut table = Table::default();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        let theirs = python
            .as_ref()
            .ok()
            .map(|python| peers::clipspy(python, &folder, FACTS, CALLS));
        for name in ["join", "modify"] {
            let program = folder.join(format!("{name}.clp"));
            let text = std::fs::read_to_string(&program).unwrap();
            let case = format!("{name}: firings");
            if round == 0 {
                ours(&text);
                peers::raw(&text);
            }
            let ((seconds, fired), (bare, also)) = if round % 2 == 0 {
                let first = ours(&text);
                (first, peers::raw(&text))
            } else {
                let first = peers::raw(&text);
                (ours(&text), first)
            };
            assert_eq!(fired, also, "{name}");
            let rate = |seconds: f64| fired as f64 / seconds;
            table.add(&case, OURS, "1/s", rate(seconds));
            table.add(&case, RAW, "1/s", rate(bare));
            if debian {
                let seconds = peers::debian(&program, &scratch);
                table.add(&case, DEBIAN, "1/s", rate(seconds));
            }
            if let Some(theirs) = &theirs {
                assert_eq!(theirs[name]["count"], fired, "{name}");
                let seconds = theirs[name]["seconds"].as_f64().unwrap();
                table.add(&case, PYTHON, "1/s", rate(seconds));
            }
        }
        facts(&mut table);
        calls(&mut table);
        births(&mut table);
        latencies(&mut table);
        if let Some(theirs) = &theirs {
            let (facts, calls) = (FACTS as f64, CALLS as f64);
            let seconds = |value: &serde_json::Value| value.as_f64().unwrap();
            let of = |name: &str| facts / seconds(&theirs["facts"][name]);
            table.add("assert, 5 slots", PYTHON, "1/s", of("assert"));
            table.add("read back, 5 slots", PYTHON, "1/s", of("read"));
            let each = seconds(&theirs["calls"]) / calls * 1e6;
            table.add("call of a host's function", PYTHON, "us", each);
            let birth = seconds(&theirs["birth"]) * 1e3;
            table.add("birth of an engine", PYTHON, "ms", birth);
        }
    }
    table.print(asked("--json"));
}

/// Seconds of processor time for running a program, and how many rules fired.
fn ours(text: &str) -> (f64, u64) {
    let mut engine = Engine::sandboxed(LIMITS, 1);
    engine.load(text).unwrap();
    engine.reset().unwrap();
    let begun = cpu();
    let fired = engine.run(None).unwrap();
    ((cpu() - begun).as_secs_f64(), fired)
}

fn facts(table: &mut Table) {
    let mut engine = Engine::sandboxed(LIMITS, 1);
    engine.load(TEMPLATE).unwrap();
    let tags = Value::Multifield(vec![Value::symbol("hot"), Value::symbol("new")]);
    let begun = cpu();
    for n in 0..FACTS {
        let slots = [
            ("sensor", Value::symbol("boiler")),
            ("celsius", Value::Float(n as f64 / 2.0)),
            ("place", Value::String("cellar".to_owned())),
            ("at", Value::Integer(n as i64)),
            ("tags", tags.clone()),
        ];
        engine.assert("reading", &slots).unwrap();
    }
    let filled = cpu();
    let slots: usize = engine.facts().iter().map(|fact| fact.slots.len()).sum();
    let read = cpu();
    assert_eq!(slots, 5 * FACTS);
    let rate = |from: Duration, to: Duration| FACTS as f64 / (to - from).as_secs_f64();
    table.add("assert, 5 slots", OURS, "1/s", rate(begun, filled));
    table.add("read back, 5 slots", OURS, "1/s", rate(filled, read));
}

fn calls(table: &mut Table) {
    let mut engine = Engine::sandboxed(LIMITS, 1);
    engine
        .add_function("host", Signature::exactly(1), |call| {
            Ok(Value::Integer(call.integer(0)? + 1))
        })
        .unwrap();
    let many = |name: &str, call: &str| {
        format!("(deffunction {name} () (loop-for-count (?i 1 {CALLS}) {call}))")
    };
    engine.load(&many("many", "(host ?i)")).unwrap();
    engine.load(&many("builtin", "(+ ?i 1)")).unwrap();
    for (name, who) in [("many", OURS), ("builtin", "builtin +")] {
        let begun = cpu();
        engine.eval(&format!("({name})")).unwrap();
        let each = (cpu() - begun).as_secs_f64() / CALLS as f64 * 1e6;
        table.add("call of a host's function", who, "us", each);
    }
}

fn births(table: &mut Table) {
    const COUNT: usize = 50;
    let begun = cpu();
    let engines: Vec<_> = (0..COUNT).map(|_| Engine::sandboxed(LIMITS, 1)).collect();
    let each = (cpu() - begun).as_secs_f64() / COUNT as f64 * 1e3;
    table.add("birth of an engine", OURS, "ms", each);
    table.add(
        "memory of an engine, held",
        OURS,
        "kB",
        engines[0].memory_used() as f64 / 1e3,
    );
}

const ROUNDS: i64 = 4_000;

fn latencies(table: &mut Table) {
    here(table);
    there(table);
}

fn tuple(n: i64) -> Delivery {
    let fields = vec!["reading".into(), n.into(), (n as f64 / 2.0).into()];
    Delivery::Tuple {
        subscription: 1,
        tuple: Tuple::new(fields).unwrap(),
    }
}

fn check(effects: &[Effect]) {
    assert!(matches!(effects, [Effect::Out { .. }]));
}

fn options() -> AgentOptions {
    let mut options = AgentOptions::default();
    options.limits = LIMITS;
    options
}

fn each(spent: Duration) -> f64 {
    spent.as_secs_f64() / ROUNDS as f64 * 1e6
}

/// An agent in this process.
fn here(table: &mut Table) {
    let mut agent = RuleAgent::new("here", AGENT, options()).unwrap();
    agent.start(0).unwrap();
    let begun = cpu();
    for n in 0..ROUNDS {
        check(&agent.deliver(tuple(n), n).unwrap());
    }
    table.add("tuple, rule, tuple", OURS, "us", each(cpu() - begun));
}

/// The same agent in a process of its own.
fn there(table: &mut Table) {
    let command = ProcessCommand::new(env!("CARGO_BIN_EXE_rules-worker"), Vec::<String>::new());
    let mut agent = ProcessAgent::new(command, "there", AGENT, options()).unwrap();
    agent.deliver(Delivery::Start, 0).unwrap();
    let process = agent.process_id().unwrap();
    let mut took = Vec::new();
    let before = peers::cpu_of(0) + peers::cpu_of(process);
    for n in 0..ROUNDS {
        let delivery = tuple(n);
        let begun = Instant::now();
        let effects = agent.deliver(delivery, n).unwrap();
        took.push(begun.elapsed().as_secs_f64() * 1e6);
        check(&effects);
    }
    let spent = peers::cpu_of(0) + peers::cpu_of(process) - before;
    assert_eq!(agent.process_id(), Some(process), "the worker died");
    let (pipes, pipes_spent) = peers::pipes(150, ROUNDS as usize);
    let case = "the same in a worker process";
    table.add(case, OURS, "us", median(&mut took));
    table.add(case, "two pipes", "us", pipes);
    let case = "its processor time";
    table.add(case, OURS, "us", each(spent));
    table.add(case, "two pipes", "us", each(pipes_spent));
}
