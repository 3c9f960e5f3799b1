//! Seeds without end: `cargo xtask soak` runs this in release.
//!
//! Each seed is a scenario of its own ([`cpe_sim::Profile`]). One that fails is shrunk and written
//! to the folder with what happened in it. Ctrl-C ends it, after the seeds under way.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cpe_sim::{Profile, Schedule, World, shrink};

const HELP: &str = "\
usage: soak [--seeds FROM..TO | FROM..] [--profile NAME] [--jobs N] [--folder DIR]
            [--keep N,N,...]

  --seeds   which seeds; without an end it runs until Ctrl-C (0..)
  --profile what the scenarios have in common: mixed, elections, handovers, restarts,
            actors or deletions (mixed)
  --jobs    how many at a time (one per core)
  --folder  where what failed is written (target/soak)
  --keep    only these faults of each seed's schedule: replays what was shrunk
";

/// Runs that shrinking one failure may take: about half a minute.
const SHRINK_RUNS_MAX: usize = 300;

/// How often a line says how far it is, where there is no terminal.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The same on a terminal, where the line replaces the one before.
const DRAW_EVERY: Duration = Duration::from_secs(1);

struct Args {
    seeds: (u64, u64),
    profile: Profile,
    jobs: usize,
    folder: PathBuf,
    keep: Option<Vec<usize>>,
}

/// What all jobs share.
struct Soak {
    args: Args,
    next: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    messages: AtomicU64,
    taken: AtomicU64,
    stop: AtomicBool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Some(args)) => soak(args),
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed = Args {
        seeds: (0, u64::MAX),
        profile: Profile::Mixed,
        jobs: cores,
        folder: PathBuf::from("target/soak"),
        keep: None,
    };
    while let Some(arg) = args.next() {
        if matches!(arg.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let value = args
            .next()
            .ok_or_else(|| format!("{arg} needs a value, or is unknown"))?;
        let wrong = || format!("`{value}` is nothing for {arg}");
        match arg.as_str() {
            "--seeds" => {
                let (from, to) = value.split_once("..").ok_or_else(wrong)?;
                let to = match to {
                    "" => u64::MAX,
                    to => to.parse().map_err(|_| wrong())?,
                };
                parsed.seeds = (from.parse().map_err(|_| wrong())?, to);
            }
            "--jobs" => {
                parsed.jobs = value.parse().map_err(|_| wrong())?;
                if parsed.jobs == 0 {
                    return Err(wrong());
                }
            }
            "--profile" => {
                let named = |profile: &Profile| profile.to_string() == value;
                parsed.profile = Profile::ALL.into_iter().find(named).ok_or_else(wrong)?;
            }
            "--folder" => parsed.folder = PathBuf::from(&value),
            "--keep" => {
                let numbers = value.split(',').map(str::parse);
                let numbers: Result<Vec<usize>, _> = numbers.collect();
                parsed.keep = Some(numbers.map_err(|_| wrong())?);
            }
            _ => return Err(format!("`{arg}` is unknown")),
        }
    }
    Ok(Some(parsed))
}

fn soak(args: Args) -> ExitCode {
    if let Err(error) = std::fs::create_dir_all(&args.folder) {
        eprintln!("error: cannot make {}: {error}", args.folder.display());
        return ExitCode::FAILURE;
    }
    let jobs = args.jobs;
    let soak = Soak {
        next: AtomicU64::new(args.seeds.0),
        args,
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        messages: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| soak.work())).collect();
        watch(&soak, &|| workers.iter().all(|worker| worker.is_finished()));
    });
    let failed = soak.failed.load(Ordering::Relaxed);
    println!("{}", soak.line(""));
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    println!("what failed is in {}", soak.args.folder.display());
    ExitCode::FAILURE
}

/// Says how far it is, and listens for Ctrl-C.
fn watch(soak: &Soak, over: &dyn Fn() -> bool) {
    let began = now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        eprintln!("error: cannot listen for Ctrl-C");
        return;
    };
    let terminal = std::io::stderr().is_terminal();
    let every = if terminal { DRAW_EVERY } else { SAY_EVERY };
    runtime.block_on(async {
        let mut said = began;
        while !over() {
            let pause = tokio::time::sleep(Duration::from_millis(100));
            tokio::select! {
                _ = tokio::signal::ctrl_c(), if !soak.stop.load(Ordering::Relaxed) => {
                    soak.stop.store(true, Ordering::Relaxed);
                    eprintln!("\nending: the seeds under way are finished first");
                }
                () = pause => {}
            }
            if said.elapsed() >= every {
                said = now();
                let seconds = began.elapsed().as_secs_f64();
                let rate = soak.done.load(Ordering::Relaxed) as f64 / seconds;
                let line = soak.line(&format!(", {rate:.1} seeds/s"));
                if terminal {
                    eprint!("\r{line}  ");
                    let _ = std::io::stderr().flush();
                } else {
                    eprintln!("{line}");
                }
            }
        }
        if terminal {
            eprintln!();
        }
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program: the one place it reads time"
)]
fn now() -> Instant {
    Instant::now()
}

impl Soak {
    fn line(&self, more: &str) -> String {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        format!(
            "soak, {}: {} seeds from {}, {} failed, {} takes, {} messages{more}",
            self.args.profile,
            count(&self.done),
            self.args.seeds.0,
            count(&self.failed),
            count(&self.taken),
            count(&self.messages),
        )
    }

    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.args.seeds.1 {
                return;
            }
            self.seed(seed);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn seed(&self, seed: u64) {
        let scenario = self.args.profile.scenario(seed);
        let mut schedule = Schedule::draw(&scenario, seed);
        if let Some(keep) = &self.args.keep {
            schedule = schedule.keep(keep);
        }
        // A panic is a failure of the seed, not of the soak.
        let world = World::with_schedule(scenario, seed, &schedule);
        match catch_unwind(AssertUnwindSafe(|| world.run())) {
            Err(panic) => {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
                let said = said.unwrap_or("it did not say why");
                self.failed(seed, &format!("panicked: {said}"), |file, profile| {
                    std::fs::write(file, panicked(profile, seed, said, &schedule))
                });
            }
            Ok(Ok(report)) => {
                self.messages.fetch_add(report.messages, Ordering::Relaxed);
                self.taken.fetch_add(report.taken, Ordering::Relaxed);
            }
            Ok(Err((violation, _))) => {
                self.failed(seed, &violation.to_string(), |file, profile| {
                    write(file, profile, seed, &schedule)
                });
            }
        }
    }

    /// Counts a seed that failed, and keeps it.
    fn failed(
        &self,
        seed: u64,
        how: &str,
        keep: impl FnOnce(&Path, Profile) -> std::io::Result<()>,
    ) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let profile = self.args.profile;
        let file = self.args.folder.join(format!("{profile}-{seed}.txt"));
        eprintln!("\nseed {seed}: {how}; see {}", file.display());
        if let Err(error) = keep(&file, profile) {
            eprintln!("error: cannot write {}: {error}", file.display());
        }
    }
}

/// What is kept of a seed that panicked: shrinking it would panic as well.
fn panicked(profile: Profile, seed: u64, said: &str, schedule: &Schedule) -> String {
    format!(
        "panicked: {said}\n\nto run it again:\n  CPE_SIM_PROFILE={profile} CPE_SIM_SEED={seed} \
         cargo nextest run -p cpe-sim one_seed --no-capture\n\n{schedule:#?}\n"
    )
}

/// Writes what a failing seed came to: shrunk, with how to run it again and a line per event.
fn write(file: &Path, profile: Profile, seed: u64, schedule: &Schedule) -> std::io::Result<()> {
    let scenario = profile.scenario(seed);
    let shrunk = shrink(&scenario, seed, schedule, SHRINK_RUNS_MAX);
    let mut text = String::new();
    let mut least = schedule.clone();
    if let Some(shrunk) = shrunk {
        text.push_str(&shrunk.to_string());
        least = shrunk.schedule;
    }
    let numbers: Vec<String> = least.numbers().iter().map(ToString::to_string).collect();
    text.push_str(&format!(
        "\nto run it again:\n  CPE_SIM_PROFILE={profile} CPE_SIM_SEED={seed} CPE_SIM_KEEP={} \
         cargo nextest run -p cpe-sim one_seed --no-capture\n\n{scenario:#?}\n\n",
        numbers.join(",")
    ));
    let mut world = World::with_schedule(scenario, seed, &least);
    world.keep_trace();
    if let Err((_, trace)) = world.run() {
        text.push_str(&trace.join("\n"));
        text.push('\n');
    }
    std::fs::write(file, text)
}
