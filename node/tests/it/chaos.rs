//! Five real processes under faults; what their clients saw, judged by the simulator's checkers.
//!
//! Clients store unique values into variables of every mode and take, look for and find them, each
//! time at another node. Meanwhile nodes are killed and started again, paused, stopped in order,
//! and parted from each other. Then all is healed; once nothing is under way any more, what is left
//! is taken out, and the history of it all must be one that a correct space can show.
//!
//! They are parted in two ways: on hosts of their own (network namespaces) by taking the cable out,
//! and on loopback by telling each node whom to keep apart from (`--test-blocks`). The first has
//! connections that hang, the second ones that end; the second can be made everywhere.
//!
//! ```text
//! CPE_CHAOS_SECONDS=300 CPE_CHAOS_SEED=7 \
//!     cargo test -p cpe-node --test it chaos::five -- --nocapture
//! ```
//! A seed repeats what is done and asked, not what the machine makes of it. A failure leaves the
//! logs, the faults and the history in a folder that it names.

#[path = "../../src/processes/client.rs"]
mod client;
mod five;
mod judge;
#[path = "../../src/processes/record.rs"]
mod record;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use cpe::Mode;
use cpe_sim::history::{Did, Operation, Sound, Stored, Taken};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::namespaces::{Hosts, in_namespaces, skipped};
use client::{Ask, Clock, get};
use five::{Fault, Five, NAMES, Places};
use record::{Recorded, at_rest, history};

/// Unless `CPE_CHAOS_SECONDS` says otherwise.
const SECONDS: u64 = 30;

/// How long everything may take to be quiet again, on a machine that is busy testing.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// How long five nodes may take to find each other.
const FORMED_WITHIN: Duration = Duration::from_secs(30);

/// How often they are started at most.
const SET_UPS_MAX: u32 = 3;

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const CLIENTS: u64 = 10;

const WORKSPACE: &str = "chaos";

const MODES: &[(&str, Mode)] = &[
    ("fifo-1", Mode::Fifo),
    ("fifo-2", Mode::Fifo),
    ("lifo", Mode::Lifo),
    ("multi", Mode::Multi),
    ("single", Mode::Single),
];

#[test]
fn five_nodes_under_faults_keep_every_promise() {
    run(None);
}

#[test]
fn five_hosts_under_faults_keep_every_promise() {
    let test = "five_hosts_under_faults_keep_every_promise";
    let path = format!("chaos::{test}");
    if let Err(why) = in_namespaces(&path, || run(Some(Hosts::new("f", NAMES)))) {
        skipped(test, &why);
    }
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

/// What is left for whoever looks at a failure.
struct Evidence {
    seed: u64,
    seconds: u64,
    folder: PathBuf,
    recorded: Mutex<Vec<Recorded>>,
}

impl Evidence {
    fn new() -> Self {
        let seed = setting("CPE_CHAOS_SEED").unwrap_or_else(rand::random);
        let seconds = setting("CPE_CHAOS_SECONDS").unwrap_or(SECONDS);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
        std::fs::remove_dir_all(&folder).ok();
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            seed,
            seconds,
            folder,
            recorded: Mutex::default(),
        }
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        let Self { seed, seconds, .. } = self;
        if !thread::panicking() {
            std::fs::remove_dir_all(&self.folder).ok();
            return;
        }
        if let Ok(recorded) = self.recorded.lock() {
            let mut lines = Vec::new();
            let operations = recorded.iter().map(|one| one.asked.operation.clone());
            let history = history(MODES.iter().copied(), &operations.collect::<Vec<_>>());
            history.unwrap_or_default().write(&mut lines).ok();
            std::fs::write(self.folder.join("history.jsonl"), lines).ok();
        }
        println!(
            "seed {seed}: logs, faults and history are in {}\nagain: CPE_CHAOS_SEED={seed} \
             CPE_CHAOS_SECONDS={seconds} cargo test -p cpe-node --test it chaos::five -- \
             --nocapture",
            self.folder.display()
        );
    }
}

fn run(hosts: Option<Hosts>) {
    let evidence = Evidence::new();
    let clock = Clock::start();
    let places = Places::new(hosts);
    let mut five = formed(&places, &evidence.folder, clock);
    for (variable, mode) in MODES {
        declare(&places, variable, *mode);
    }
    let over = AtomicBool::new(false);
    let values = AtomicI64::new(0);
    thread::scope(|scope| {
        for n in 1..=CLIENTS {
            let client = Client {
                n,
                places: &places,
                clock,
                values: &values,
                rng: StdRng::seed_from_u64(evidence.seed ^ (n << 32)),
            };
            let (over, all) = (&over, &evidence.recorded);
            scope.spawn(move || client.work(over, all));
        }
        let rng = StdRng::seed_from_u64(evidence.seed);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            disturb(&mut five, rng, clock, Duration::from_secs(evidence.seconds));
        }));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });

    settle(&places, "nothing is under way any more", quiet);
    let (rest, lives) = (clock.micros(), places.lives());
    drain(&places, clock, &evidence.recorded);
    settle(&places, "every node shows an empty space", empty);

    let operations = at_rest(&evidence.recorded.lock().unwrap(), rest, &lives);
    let sound = judge(&operations).unwrap_or_else(|why| panic!("{why}"));
    let account = &sound.account;
    println!(
        "seed {}: {} operations, {} takes without an end\n{account}",
        evidence.seed, sound.checked.operations, sound.excuses
    );
    assert!(
        account.taken > evidence.seconds,
        "hardly anything was asked"
    );
    println!("{} partitions, {} of them seen", five.partitions, five.seen);
    // One may be over before anybody looks; not all of them.
    assert!(
        five.seen > 0,
        "{} partitions parted nobody",
        five.partitions
    );
    tampered_is_refused(&operations, sound.excuses);
}

/// Five nodes that see each other. Where they do not in time, on a machine that is busy testing,
/// others are started: nothing was asked of them yet. From here on nothing is tried twice.
fn formed<'a>(places: &'a Places, folder: &'a Path, clock: Clock) -> Five<'a> {
    for _ in 1..SET_UPS_MAX {
        let five = Five::start(places, folder, clock);
        match settled(places, FORMED_WITHIN, ready) {
            Ok(()) => return five,
            Err(why) => println!("the set-up failed, once more: {why}"),
        }
    }
    let five = Five::start(places, folder, clock);
    settle(places, "the mesh has formed", ready);
    five
}

fn judge(operations: &[Operation]) -> Result<Sound, String> {
    let history = history(MODES.iter().copied(), operations).unwrap();
    history.judge().map_err(|why| why.to_string())
}

/// Shows that this very history would not have been accepted had more gone wrong than did.
fn tampered_is_refused(operations: &[Operation], excuses: u64) {
    let refused = |operations: &[Operation]| judge(operations).unwrap_err();
    let last = operations.iter().filter_map(|one| one.to_us).max().unwrap();
    let booked = |one: &&Operation| one.variable.as_deref() != Some("single");
    let takes = operations
        .iter()
        .filter(|one| matches!(one.did, Did::Take(Taken::Value(_))));
    let takes: Vec<&Operation> = takes.filter(booked).collect();

    let mut twice = operations.to_vec();
    let mut again = takes[0].clone();
    (again.from_us, again.to_us) = (last + 1, Some(last + 2));
    twice.push(again);
    let why = refused(&twice);
    assert!(why.contains("taken twice"), "{why}");

    let stored = |one: &Operation| {
        let Did::Store { value, outcome } = one.did else {
            return None;
        };
        (outcome == Stored::Acknowledged).then_some(value)
    };
    let acknowledged: std::collections::BTreeSet<i64> =
        operations.iter().filter_map(stored).collect();
    let known = takes.iter().filter_map(|take| match take.did {
        Did::Take(Taken::Value(value)) => acknowledged.contains(&value).then_some(take.did),
        _ => None,
    });
    let losses = usize::try_from(excuses).unwrap() + 1;
    let gone: Vec<Did> = known.take(losses).collect();
    let mut lossy = operations.to_vec();
    lossy.retain(|one| !gone.contains(&one.did));
    refused(&lossy);
}

/// Goes on making things go wrong until it is time, and then heals all.
fn disturb(five: &mut Five<'_>, mut rng: StdRng, clock: Clock, span: Duration) {
    let end = clock.elapsed() + span;
    let mut next = clock.elapsed();
    let mut open: Vec<(Duration, Fault)> = Vec::new();
    while clock.elapsed() < end {
        open.sort_by_key(|(until, _)| *until);
        let due = open.first().map_or(next, |(until, _)| next.min(*until));
        thread::sleep(due.min(end).saturating_sub(clock.elapsed()));
        let now = clock.elapsed();
        if let Some((until, _)) = open.first()
            && *until <= now
        {
            let (_, fault) = open.remove(0);
            five.heal(&fault);
        } else if next <= now {
            if let Some(fault) = five.draw(&mut rng) {
                five.strike(&fault);
                open.push((
                    now + Duration::from_millis(rng.random_range(200..4_000)),
                    fault,
                ));
            }
            next = now + Duration::from_millis(rng.random_range(100..1_500));
        }
    }
    for (_, fault) in open {
        five.heal(&fault);
    }
}

/// Somebody at work.
struct Client<'a> {
    n: u64,
    places: &'a Places,
    clock: Clock,
    values: &'a AtomicI64,
    rng: StdRng,
}

impl Client<'_> {
    fn work(mut self, over: &AtomicBool, all: &Mutex<Vec<Recorded>>) {
        while !over.load(Ordering::Relaxed) {
            let node = self.rng.random_range(0..NAMES.len());
            let (variable, _) = MODES[self.rng.random_range(0..MODES.len())];
            let ask = self.ask();
            let within = Duration::from_millis(self.rng.random_range(50..1_000));
            // The life before the question: if the node dies meanwhile, it is another one after.
            let by = (node, self.places.lives()[node]);
            let api = self.places.api(node);
            let asked = ask.of(api, self.n, (WORKSPACE, variable), within, self.clock);
            let asked = asked.unwrap_or_else(|why| panic!("{why}"));
            let recorded = asked.map(|asked| Recorded { asked, by });
            all.lock().unwrap().extend(recorded);
            // A user thinks. It also leaves the machine some time for the nodes.
            thread::sleep(Duration::from_millis(self.rng.random_range(0..20)));
        }
    }

    /// Draws what to ask. Stores prevail for some seconds, then takes, so that variables fill up
    /// and run empty.
    fn ask(&mut self) -> Ask {
        let stores = if self.clock.elapsed().as_secs() % 8 < 4 {
            55
        } else {
            25
        };
        let drawn = self.rng.random_range(0..100);
        match drawn {
            _ if drawn < stores => {
                let value = self.values.fetch_add(1, Ordering::Relaxed) + 1;
                let ack = if self.rng.random_bool(0.2) {
                    "local"
                } else {
                    "home"
                };
                Ask::Store { value, ack }
            }
            90..100 => Ask::LocalFind,
            80..90 => Ask::Find,
            _ if drawn % 2 == 0 => Ask::Fetch,
            _ => Ask::FetchTry,
        }
    }
}

/// Sets a variable's mode.
fn declare(places: &Places, variable: &str, mode: Mode) {
    let body = json!({"name": variable, "mode": mode, "timeout_ms": 30_000});
    let path = format!("/v1/spaces/{WORKSPACE}/declare");
    let patience = Duration::from_secs(30);
    let answer = client::request(places.api(0), "POST", &path, Some(&body), patience);
    assert_eq!(answer, Ok((200, json!({}))), "{variable} {mode}");
}

/// Takes out everything, at one node after the other.
fn drain(places: &Places, clock: Clock, all: &Mutex<Vec<Recorded>>) {
    let within = Duration::from_secs(20);
    let mut node = 0;
    for (variable, _) in MODES {
        loop {
            node = (node + 1) % NAMES.len();
            let api = places.api(node);
            let asked = Ask::FetchTry.of(api, 0, (WORKSPACE, variable), within, clock);
            let asked = asked.unwrap_or_else(|why| panic!("{why}"));
            let asked = asked.expect("all nodes are up");
            let did = asked.operation.did;
            let by = (node, 0);
            all.lock().unwrap().push(Recorded { asked, by });
            match did {
                Did::Take(Taken::Value(_)) => {}
                Did::Take(Taken::Empty) => break,
                other => panic!("{variable} is not answered by {}: {other:?}", NAMES[node]),
            }
        }
    }
}

/// Waits until something is so of the whole mesh.
fn settle(places: &Places, what: &str, so: fn(&[View]) -> Result<(), String>) {
    if let Err(why) = settled(places, SETTLED_WITHIN, so) {
        panic!("it never came to be that {what}: {why}");
    }
}

/// The same; why it is not so, when it takes too long.
fn settled(
    places: &Places,
    within: Duration,
    so: fn(&[View]) -> Result<(), String>,
) -> Result<(), String> {
    let clock = Clock::start();
    loop {
        let views: Option<Vec<View>> = (0..NAMES.len()).map(|n| View::of(places, n)).collect();
        let settled = views.map_or_else(|| Err("a node is silent".to_owned()), |views| so(&views));
        match settled {
            Ok(()) => return Ok(()),
            Err(why) if clock.elapsed() > within => return Err(why),
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// What one node sees.
struct View {
    name: &'static str,
    status: Value,
    peers: Value,
    shards: Value,
    variables: Value,
}

impl View {
    fn of(places: &Places, n: usize) -> Option<Self> {
        let api = places.api(n);
        Some(Self {
            name: NAMES[n],
            status: get(api, "/v1/status")?,
            peers: get(api, "/v1/peers")?,
            shards: get(api, "/v1/shards")?,
            variables: get(api, &format!("/v1/spaces/{WORKSPACE}"))?,
        })
    }

    fn rows(list: &Value) -> &[Value] {
        list.as_array().map_or(&[], Vec::as_slice)
    }
}

/// Each node sees all others, alive and linked.
fn ready(views: &[View]) -> Result<(), String> {
    let up = |peer: &&Value| peer["state"] == "alive" && peer["linked"] == true;
    for view in views {
        if View::rows(&view.peers).iter().filter(up).count() != NAMES.len() {
            return Err(format!("{} sees {}", view.name, view.peers));
        }
    }
    Ok(())
}

/// Nothing is on its way, somebody knows a leader of each shard, and all replicas are equally far.
fn quiet(views: &[View]) -> Result<(), String> {
    ready(views)?;
    let reach = |view: &View| -> Vec<Value> {
        let row = |shard: &Value| {
            let fields = ["shard", "epoch", "applied", "tuples"];
            fields.map(|field| shard[field].clone()).to_vec().into()
        };
        View::rows(&view.shards).iter().map(row).collect()
    };
    let led = |shard: &Value| {
        let rows = views.iter().flat_map(|view| View::rows(&view.shards));
        let mut leaders = rows.filter(|row| row["shard"] == shard["shard"]);
        leaders.any(|row| !row["leader"].is_null())
    };
    for view in views {
        if view.status["outbox"] != 0 || view.status["open_takes"] != 0 {
            return Err(format!("{} is busy: {}", view.name, view.status));
        }
        let late = |shard: &&Value| shard["applied"] != shard["decided"] || !led(shard);
        if let Some(shard) = View::rows(&view.shards).iter().find(late) {
            return Err(format!("{} sees {shard}", view.name));
        }
        if reach(view) != reach(&views[0]) {
            let (here, there) = (&view.shards, &views[0].shards);
            return Err(format!(
                "{} has {here}, {} {there}",
                view.name, views[0].name
            ));
        }
    }
    Ok(())
}

/// Quiet, and no node shows a tuple.
fn empty(views: &[View]) -> Result<(), String> {
    quiet(views)?;
    for view in views {
        let left = |variable: &&Value| variable["tuples"] != 0 || variable["pending"] != 0;
        if let Some(variable) = View::rows(&view.variables).iter().find(left) {
            return Err(format!("{} shows {variable}", view.name));
        }
    }
    Ok(())
}
