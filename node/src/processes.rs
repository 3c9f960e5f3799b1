//! `cpe sim run --engine processes`: the scenarios of the simulator on real node processes.
//!
//! The same file, the same schedule of faults as far as processes can have them (SIGKILL, SIGTERM,
//! SIGSTOP, partitions by `--test-blocks`), the same shares of requests, through the HTTP API; and
//! the same judge of what the clients saw. What cannot be had is named ([`left_out()`]). A seed
//! repeats what is done and asked, not what the machine makes of it.
#![allow(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not; it does not panic"
)]

pub(crate) mod client;
mod left_out;
mod nodes;
pub(crate) mod record;

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use cpe::Mode;
use cpe_sim::history::{Did, History, HistoryError, Operation, Stored, Taken, Unsound};
use cpe_sim::{Fault as Goes, Report, Scenario, Schedule, Violation};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::exit::{About, Fault};
use client::{Ask, Clock, get, request};
pub(crate) use left_out::left_out;
use nodes::{Nodes, Places};
use record::{Recorded, at_rest, history};

/// Nodes of a scenario at most: each is a process with its own threads and files.
const NODES_MAX: usize = 16;

/// Seconds of a scenario at most: real ones.
const SECONDS_MAX: f64 = 3_600.0;

/// Clients at work at a time, for each node.
const CLIENTS_PER_NODE: u64 = 2;

/// How long the nodes may take to find each other.
const FORMED_WITHIN: Duration = Duration::from_secs(60);

/// Added to what a scenario grants for progress and settling: it speaks of virtual time, in which
/// computing takes none.
const SLACK: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long an operation may take once all is healed.
const HEALED_WITHIN: Duration = Duration::from_secs(20);

/// Variables the requests are spread over at most: each is taken out at the end.
pub(crate) const VARIABLES_MAX: u32 = 64;

const WORKSPACE: &str = "sim";

/// Runs a scenario. Data, logs, the faults and the history go to the folder.
///
/// # Errors
/// When it cannot be run at all. A broken promise is no error of this function.
pub(crate) fn run(
    scenario: &Scenario,
    schedule: &Schedule,
    seed: u64,
    folder: &Path,
) -> Result<Result<Report, Violation>, Fault> {
    if scenario.nodes > NODES_MAX || scenario.seconds > SECONDS_MAX {
        return Err(Fault::usage(format!(
            "`{}` has {} nodes for {} s: as processes at most {NODES_MAX} for {SECONDS_MAX} s",
            scenario.name, scenario.nodes, scenario.seconds
        ))
        .next("run it with --engine virtual"));
    }
    std::fs::create_dir_all(folder).about(format!("cannot make {}", folder.display()))?;
    let mut run = Run {
        scenario,
        seed,
        clock: Clock::start(),
        nodes: Nodes::new(scenario.nodes, scenario.shards, folder),
        recorded: Mutex::default(),
        values: AtomicI64::new(0),
        report: Report {
            seed,
            ..Report::default()
        },
    };
    let faults = folder.join("faults.txt");
    let what = format!("cannot write {}", faults.display());
    std::fs::write(faults, schedule.to_string()).about(what)?;
    let ended = run.go(schedule)?;
    run.keep_history(folder)?;
    Ok(ended.map(|()| run.report))
}

/// One run under way.
struct Run<'a> {
    scenario: &'a Scenario,
    seed: u64,
    clock: Clock,
    nodes: Nodes,
    recorded: Mutex<Vec<Recorded>>,
    /// The last value stored: each is stored once.
    values: AtomicI64,
    report: Report,
}

impl Run<'_> {
    fn go(&mut self, schedule: &Schedule) -> Result<Result<(), Violation>, Fault> {
        for n in 0..self.scenario.nodes {
            self.nodes.start(n)?;
            let said = self.wait(FORMED_WITHIN, |run| run.speaks(n));
            said.map_err(|why| Fault::unavailable(format!("node n{} is not ready: {why}", n + 1)))?;
        }
        self.wait(FORMED_WITHIN, Self::is_formed)
            .map_err(|why| Fault::unavailable(format!("the mesh has not formed: {why}")))?;
        self.declare()?;
        let places = self.nodes.places().clone();
        let over = AtomicBool::new(false);
        let strange: Mutex<Option<String>> = Mutex::default();
        let clients = CLIENTS_PER_NODE * self.scenario.nodes as u64;
        let (scenario, seed, clock) = (self.scenario, self.seed, self.clock);
        let recorded = std::mem::take(&mut self.recorded);
        let disturbed = thread::scope(|scope| {
            for n in 1..=clients {
                let client = Client {
                    n,
                    scenario,
                    places: &places,
                    clock,
                    values: &self.values,
                    rng: StdRng::seed_from_u64(seed ^ (n << 32)),
                    think: clients as f64 / scenario.workload.rate.max(0.001),
                };
                let (over, strange, recorded) = (&over, &strange, &recorded);
                scope.spawn(move || {
                    if let Err(why) = client.work(over, recorded) {
                        *strange.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                    }
                });
            }
            let done = disturb(&mut self.nodes, &mut self.report, scenario, schedule, clock);
            over.store(true, Ordering::Relaxed);
            done
        });
        self.recorded = recorded;
        disturbed?;
        if let Some(why) = strange.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Err(Violation::Strange(why)));
        }
        Ok(self.settle_and_judge())
    }

    /// All nodes run: everything must come to rest in time, go on through each of them, and add up.
    fn settle_and_judge(&mut self) -> Result<(), Violation> {
        let granted = self.scenario.progress_seconds + self.scenario.settle_seconds;
        let within = SLACK + Duration::from_secs_f64(granted);
        let unsettled = |why| Violation::NotAtRest {
            seconds: within.as_secs(),
            last: why,
        };
        self.wait(within, Self::is_quiet).map_err(unsettled)?;
        let (rest, places) = (self.clock.micros(), self.nodes.places().all());
        let lives: Vec<u32> = places.iter().map(|place| place.life).collect();
        self.drain().map_err(unsettled)?;
        let recorded = self.recorded();
        let operations = at_rest(&recorded, rest, &lives);
        self.count(&recorded);
        let history = self.history(&operations);
        let history = history.map_err(|error| Violation::Strange(error.to_string()))?;
        let sound = history.judge().map_err(|unsound| match unsound {
            Unsound::Order(conflict) => Violation::Order(conflict),
            Unsound::Books { account, excuses } => Violation::Lost {
                lost: account.lost,
                excused: excuses,
            },
        })?;
        self.report.checked = sound.checked.operations as u64;
        self.report.lost_with_taker = sound.account.lost;
        self.report.seconds = self.clock.elapsed().as_secs_f64();
        Ok(())
    }

    fn recorded(&self) -> Vec<Recorded> {
        let recorded = self.recorded.lock();
        recorded.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The variables with their modes.
    fn modes(&self) -> Vec<(String, Mode)> {
        let work = &self.scenario.workload;
        let numbers = 0..work.variables.min(VARIABLES_MAX);
        numbers.map(|n| (variable(n), work.mode(n))).collect()
    }

    fn history(&self, operations: &[Operation]) -> Result<History, HistoryError> {
        let modes = self.modes();
        let modes = modes.iter().map(|(name, mode)| (name.as_str(), *mode));
        history(modes, operations)
    }

    /// Sets the modes before anybody uses the variables.
    fn declare(&self) -> Result<(), Fault> {
        let Some(api) = self.nodes.places().of(0).api else {
            return Ok(());
        };
        for (name, mode) in self.modes() {
            let timeout_ms = u64::try_from(HEALED_WITHIN.as_millis()).unwrap_or(u64::MAX);
            let body = json!({"name": name, "mode": mode, "timeout_ms": timeout_ms});
            let path = format!("/v1/spaces/{WORKSPACE}/declare");
            let answer = request(api, "POST", &path, Some(&body), HEALED_WITHIN);
            if !matches!(answer, Ok((200, _))) {
                let what = format!("the mode of {name} could not be set: {answer:?}");
                return Err(Fault::unavailable(what));
            }
        }
        Ok(())
    }

    /// Takes out everything, through one node after the other.
    fn drain(&mut self) -> Result<(), String> {
        let mut node = 0;
        for (name, _) in self.modes() {
            loop {
                node = (node + 1) % self.scenario.nodes;
                let place = self.nodes.places().of(node);
                let Some(api) = place.api else {
                    return Err(format!("node n{} has ended", node + 1));
                };
                let named = (WORKSPACE, name.as_str());
                let asked = Ask::FetchTry.of(api, 0, named, HEALED_WITHIN, self.clock)?;
                let Some(asked) = asked else {
                    return Err(format!("node n{} cannot be asked", node + 1));
                };
                let did = asked.operation.did;
                let by = (node, place.life);
                let mut all = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(Recorded { asked, by });
                drop(all);
                match did {
                    Did::Take(Taken::Value(_)) => self.report.left += 1,
                    Did::Take(Taken::Empty) => break,
                    other => return Err(format!("n{} answers {other:?} of {name}", node + 1)),
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, recorded: &[Recorded]) {
        let report = &mut self.report;
        for one in recorded {
            match one.asked.operation.did {
                Did::Store { outcome, .. } => {
                    report.stores += 1;
                    report.acknowledged += u64::from(outcome == Stored::Acknowledged);
                }
                Did::Take(Taken::Value(_)) => report.taken += 1,
                Did::Take(Taken::Empty) => report.empty += 1,
                Did::Take(Taken::Unavailable) => report.unavailable += 1,
                Did::Take(_) if one.asked.operation.to_us.is_some() => report.timed_out += 1,
                Did::Take(_) => report.unknown += 1,
                Did::Find(_) | Did::LocalFind(_) => {}
            }
        }
    }

    fn keep_history(&self, folder: &Path) -> Result<(), Fault> {
        let operations = self.recorded().into_iter();
        let operations: Vec<_> = operations.map(|one| one.asked.operation).collect();
        let history = self.history(&operations).about("the history")?;
        let path = folder.join("history.jsonl");
        let what = format!("cannot write {}", path.display());
        let file = std::fs::File::create(path).about(&what)?;
        let mut file = std::io::BufWriter::new(file);
        let written = history.write(&mut file).and_then(|()| file.flush());
        written.about(what)
    }

    /// Waits until something is so; why it is not, when it takes too long.
    fn wait(
        &self,
        within: Duration,
        so: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let end = self.clock.elapsed() + within;
        loop {
            match so(self) {
                Ok(()) => return Ok(()),
                Err(why) if self.clock.elapsed() > end => return Err(why),
                Err(_) => thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn speaks(&self, n: usize) -> Result<(), String> {
        match self.nodes.places().of(n).api {
            Some(_) => Ok(()),
            None => Err("it has not said where it listens; see its log".to_owned()),
        }
    }

    fn ask_all(&self, path: &str) -> Result<Vec<Value>, String> {
        let ask = |n: usize| {
            let api = self.nodes.places().of(n).api;
            let answer = api.and_then(|api| get(api, path));
            answer.ok_or_else(|| format!("node n{} is silent", n + 1))
        };
        (0..self.scenario.nodes).map(ask).collect()
    }

    /// Each node sees all others, alive and linked.
    fn is_formed(&self) -> Result<(), String> {
        let up = |peer: &&Value| peer["state"] == "alive" && peer["linked"] == true;
        for (n, peers) in self.ask_all("/v1/peers")?.iter().enumerate() {
            if rows(peers).iter().filter(up).count() != self.scenario.nodes {
                return Err(format!("node n{} sees {peers}", n + 1));
            }
        }
        Ok(())
    }

    /// Nothing is on its way, each shard has a leader that somebody knows, and all replicas are
    /// equally far.
    fn is_quiet(&self) -> Result<(), String> {
        self.is_formed()?;
        for (n, status) in self.ask_all("/v1/status")?.iter().enumerate() {
            if status["outbox"] != 0 || status["open_takes"] != 0 {
                return Err(format!("node n{} is busy: {status}", n + 1));
            }
        }
        let views = self.ask_all("/v1/shards")?;
        let reach = |view: &Value| -> Vec<Value> {
            let row = |shard: &Value| {
                let fields = ["shard", "epoch", "applied", "tuples"];
                fields.map(|field| shard[field].clone()).to_vec().into()
            };
            rows(view).iter().map(row).collect()
        };
        let led = |shard: &Value| {
            let mut all = views.iter().flat_map(rows);
            all.any(|row| row["shard"] == shard["shard"] && !row["leader"].is_null())
        };
        for (n, view) in views.iter().enumerate() {
            let late = |shard: &&Value| shard["applied"] != shard["decided"] || !led(shard);
            if let Some(shard) = rows(view).iter().find(late) {
                return Err(format!("node n{} sees {shard}", n + 1));
            }
            if views
                .first()
                .is_some_and(|first| reach(first) != reach(view))
            {
                return Err(format!("the replicas of n1 and n{} differ", n + 1));
            }
        }
        Ok(())
    }
}

fn rows(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// The name of a variable, by its number.
fn variable(number: u32) -> String {
    format!("v{number}")
}

/// What is to be done at a time.
enum Step<'a> {
    Strike(&'a Goes),
    Start(usize),
    GoOn(usize),
    Cut(Pairs),
    Mend(Pairs),
    /// The end of a partition, which must have been one.
    Join(Pairs),
}

/// Nodes by two.
type Pairs = Vec<(usize, usize)>;

/// All pairs of which one is on this side.
fn across(side: &[usize], nodes: usize) -> Pairs {
    let others = || (0..nodes).filter(|n| !side.contains(n));
    let pairs = side.iter().flat_map(|a| others().map(|b| (*a, b)));
    pairs.collect()
}

/// Lets the faults of a schedule happen for as long as the scenario says, and then heals all.
fn disturb(
    nodes: &mut Nodes,
    report: &mut Report,
    scenario: &Scenario,
    schedule: &Schedule,
    clock: Clock,
) -> Result<(), Fault> {
    let began = clock.elapsed();
    let end = Duration::from_secs_f64(scenario.seconds);
    let planned = schedule
        .iter()
        .map(|one| (one.at, Step::Strike(&one.fault)));
    let mut steps: Vec<(Duration, Step<'_>)> = planned.collect();
    // Asked to stop and not seen to end yet, and how long each is down then.
    let mut stopping: Vec<(usize, Duration)> = Vec::new();
    loop {
        let now = clock.elapsed() - began;
        let mut ended = Vec::new();
        stopping.retain(|(n, down)| {
            let over = nodes.reap(*n);
            if over {
                ended.push((now + *down, Step::Start(*n)));
            }
            !over
        });
        steps.extend(ended);
        steps.sort_by_key(|(at, _)| *at);
        let due = steps.partition_point(|(at, _)| *at <= now);
        for (_, step) in steps.drain(..due).collect::<Vec<_>>() {
            let is_stopping = |n: usize| stopping.iter().any(|(other, _)| *other == n);
            match step {
                Step::Start(n) => nodes.start(n)?,
                Step::GoOn(n) => nodes.go_on(n),
                Step::Cut(pairs) => nodes.part(&pairs, true)?,
                Step::Mend(pairs) => nodes.part(&pairs, false)?,
                Step::Join(pairs) => {
                    report.partitions += u64::from(nodes.sees_cut(&pairs));
                    nodes.part(&pairs, false)?;
                }
                Step::Strike(Goes::Partition { side, lasts }) => {
                    let pairs = across(side, scenario.nodes);
                    nodes.part(&pairs, true)?;
                    steps.push((now + *lasts, Step::Join(pairs)));
                }
                Step::Strike(Goes::Flap {
                    a,
                    b,
                    lasts,
                    period,
                }) => {
                    report.bad_links += 1;
                    let period = (*period).max(LOOK_EVERY);
                    let mut at = Duration::ZERO;
                    while at < *lasts {
                        steps.push((now + at, Step::Cut(vec![(*a, *b)])));
                        let up = (at + period).min(*lasts);
                        steps.push((now + up, Step::Mend(vec![(*a, *b)])));
                        at += 2 * period;
                    }
                }
                Step::Strike(Goes::Crash { node, down }) if !is_stopping(*node) => {
                    if nodes.kill(*node) {
                        report.crashes += 1;
                        steps.push((now + *down, Step::Start(*node)));
                    }
                }
                Step::Strike(Goes::Stop { node, down }) if !is_stopping(*node) => {
                    if nodes.stop(*node) {
                        report.stops += 1;
                        stopping.push((*node, *down));
                    }
                }
                Step::Strike(Goes::Pause { node, lasts }) if !is_stopping(*node) => {
                    if nodes.pause(*node) {
                        report.pauses += 1;
                        steps.push((now + *lasts, Step::GoOn(*node)));
                    }
                }
                Step::Strike(_) => {}
            }
        }
        if now >= end {
            break;
        }
        let next = steps
            .iter()
            .map(|(at, _)| *at)
            .min()
            .unwrap_or(end)
            .min(end);
        let pause = next.saturating_sub(now).min(LOOK_EVERY);
        thread::sleep(pause.max(Duration::from_millis(1)));
    }
    nodes.join_all()?;
    for n in 0..scenario.nodes {
        nodes.go_on(n);
    }
    let limit = clock.elapsed() + SLACK;
    for (n, _) in stopping {
        while !nodes.reap(n) && clock.elapsed() < limit {
            thread::sleep(LOOK_EVERY);
        }
    }
    for n in 0..scenario.nodes {
        nodes.start(n)?;
    }
    Ok(())
}

/// Somebody at work.
struct Client<'a> {
    n: u64,
    scenario: &'a Scenario,
    places: &'a Places,
    clock: Clock,
    values: &'a AtomicI64,
    rng: StdRng,
    /// Seconds between two requests, on average.
    think: f64,
}

impl Client<'_> {
    fn work(mut self, over: &AtomicBool, all: &Mutex<Vec<Recorded>>) -> Result<(), String> {
        let within = Duration::from_secs_f64(self.scenario.workload.deadline_ms / 1_000.0);
        let variables = self.scenario.workload.variables.min(VARIABLES_MAX);
        while !over.load(Ordering::Relaxed) {
            let think = -self.rng.random_range(f64::EPSILON..1.0).ln() * self.think;
            thread::sleep(Duration::from_secs_f64(think.min(1.0)));
            let node = self.rng.random_range(0..self.scenario.nodes);
            let name = variable(self.rng.random_range(0..variables));
            let ask = self.ask();
            // The life before the question: if the node dies meanwhile, it is another one after.
            let place = self.places.of(node);
            let Some(api) = place.api else {
                continue;
            };
            let asked = ask.of(api, self.n, (WORKSPACE, &name), within, self.clock)?;
            let by = (node, place.life);
            let recorded = asked.map(|asked| Recorded { asked, by });
            all.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(recorded);
        }
        Ok(())
    }

    fn ask(&mut self) -> Ask {
        let [stores, takes, tries] = left_out::shares(&self.scenario.workload);
        let draw: f64 = self.rng.random();
        if draw < stores {
            let value = self.values.fetch_add(1, Ordering::Relaxed) + 1;
            let ack = if self.rng.random_bool(0.2) {
                "local"
            } else {
                "home"
            };
            Ask::Store { value, ack }
        } else if draw < stores + takes {
            Ask::Fetch
        } else if draw < stores + takes + tries {
            Ask::FetchTry
        } else if self.rng.random() {
            Ask::Find
        } else {
            Ask::LocalFind
        }
    }
}
