//! `cpe-actors` beside kameo, ractor, actix and bare tokio tasks, doing the same things.
//!
//! Each side has one actor type whose message is a number and whose answer is the sum so far, and
//! does what its own documentation shows for telling, asking and spawning. All mailboxes that have
//! a bound hold 1,024 messages; ractor's `cast` and actix's `do_send` have none and never wait.
//! `benches/actors.rs` runs the sides, each measurement in a process of its own.

use std::future::Future;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

mod actix;
mod bare;
mod kameo;
mod ours;
mod ractor;
pub mod remote;

/// Messages that bounded mailboxes hold.
const MAILBOX: usize = 1_024;

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `cpe-actors`.
    Ours,
    /// A tokio task and a bounded channel.
    Bare,
    /// kameo.
    Kameo,
    /// ractor.
    Ractor,
    /// actix.
    Actix,
}

impl Side {
    /// All sides, in the order in which they take turns.
    pub const ALL: [Self; 5] = [
        Self::Ours,
        Self::Bare,
        Self::Kameo,
        Self::Ractor,
        Self::Actix,
    ];

    /// Its name on command lines and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "cpe",
            Self::Bare => "bare",
            Self::Kameo => "kameo",
            Self::Ractor => "ractor",
            Self::Actix => "actix",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// One sender tells one actor, until the last message is handled.
    Tell,
    /// One asker, one question in flight.
    Ask,
    /// Actors started, until the last one has answered.
    Spawn,
    /// Resident memory of actors that have each answered once and wait.
    Idle,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tell, Self::Ask, Self::Spawn, Self::Idle];

    /// Its name on command lines and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tell => "tell",
            Self::Ask => "ask",
            Self::Spawn => "spawn",
            Self::Idle => "idle",
        }
    }
}

/// What operations took; of idle actors, the bytes of each.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Nanoseconds of an operation, or bytes of an idle actor.
    pub value: f64,
    /// Nanoseconds of processor time of an operation; 0 for idle actors.
    pub cpu_ns: f64,
}

/// Measures one thing on one side, `count` operations on a runtime of so many threads.
#[must_use]
pub fn measure(side: Side, measure: Measure, threads: usize, count: u64) -> Sample {
    match side {
        Side::Ours => on_tokio(threads, move || ours::run(measure, count)),
        Side::Bare => on_tokio(threads, move || bare::run(measure, count)),
        Side::Kameo => on_tokio(threads, move || kameo::run(measure, count)),
        Side::Ractor => on_tokio(threads, move || ractor::run(measure, count)),
        Side::Actix => actix::run(measure, threads, count),
    }
}

fn on_tokio<F>(threads: usize, work: impl FnOnce() -> F) -> Sample
where
    F: Future<Output = Sample> + Send + 'static,
{
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads);
        builder
    };
    let runtime = builder.enable_all().build().expect("a runtime starts");
    let task = runtime.spawn(work());
    let sample = runtime.block_on(task).expect("the measurement ends");
    runtime.shutdown_background();
    sample
}

/// Reads clocks at the start and at the end of `count` operations.
struct Stopwatch {
    wall: Instant,
    cpu: Duration,
    count: u64,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn start(count: u64) -> Self {
        Self {
            wall: Instant::now(),
            cpu: cpu(),
            count,
        }
    }

    fn stop(self) -> Sample {
        let wall = self.wall.elapsed();
        let cpu = cpu().saturating_sub(self.cpu);
        let each = |time: Duration| time.as_secs_f64() * 1e9 / self.count as f64;
        Sample {
            value: each(wall),
            cpu_ns: each(cpu),
        }
    }
}

/// Processor time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}

/// Resident memory of this process, in bytes; 0 where `/proc` is not there.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    pages
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4_096
}

/// What each of `count` things takes since there were `before` bytes.
fn grown(before: u64, count: u64) -> Sample {
    Sample {
        value: resident().saturating_sub(before) as f64 / count as f64,
        cpu_ns: 0.0,
    }
}
