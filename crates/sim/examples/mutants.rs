//! Each guard taken out of the peers: does the simulation notice? `cargo xtask mutants` runs this.
//!
//! A simulator that catches nothing proves nothing. For each numbered rule (space.md, 2.5) that
//! admits it, the guard at the place where the rule is enforced is taken out, and seeds are run
//! until a promise is broken.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cpe_consensus::Guard as Home;
use cpe_mesh::{Guard as Mesh, Mutant, without};
use cpe_sim::{World, swarm};
use cpe_space::Guard as Space;

const HELP: &str = "\
usage: mutants [--quick] [--jobs N] [--all SEEDS] [--only NAME,...]

  --quick  only the seeds known to show it, for those that show soon
  --jobs   how many guards at a time (one per core)
  --all    also those that are not expected to show, each for so many seeds
  --only   only guards whose name contains one of these
";

/// A guard and within how many seeds its absence has to show; 0 when it is not expected to.
struct Expected {
    rule: &'static str,
    mutant: Mutant,
    /// The first seed known to show it.
    seed: u64,
    within: u64,
}

const fn home(rule: &'static str, guard: Home, seed: u64, within: u64) -> Expected {
    let mutant = Mutant::Consensus(guard);
    Expected {
        rule,
        mutant,
        seed,
        within,
    }
}

const fn space(rule: &'static str, guard: Space, seed: u64, within: u64) -> Expected {
    let mutant = Mutant::Space(guard);
    Expected {
        rule,
        mutant,
        seed,
        within,
    }
}

const fn mesh(rule: &'static str, guard: Mesh, seed: u64, within: u64) -> Expected {
    let mutant = Mutant::Mesh(guard);
    Expected {
        rule,
        mutant,
        seed,
        within,
    }
}

/// All guards, in the order of the rules.
const EXPECTED: [Expected; 40] = [
    mesh("R1", Mesh::ThisRound, 1, 50),
    home("R2", Home::Lead, 1, 0),
    home("R3", Home::PromiseFirst, 1, 0),
    home("R4", Home::NoClamp, 1, 0),
    home("R4", Home::FreshBallot, 1, 0),
    home("R4", Home::OwnCount, 1, 0),
    home("R5", Home::HighestBallot, 1, 0),
    home("R5", Home::Splice, 1, 0),
    home("R6", Home::NoShorten, 1, 0),
    home("R7", Home::SameBallot, 1, 0),
    home("R8", Home::CountBallot, 1, 0),
    home("R8", Home::Durable, 79, 400),
    home("R8", Home::OwnDisk, 1, 0),
    mesh("R8", Mesh::DiskBeforeWord, 1, 50),
    home("R9", Home::StepDown, 1, 0),
    home("R10", Home::Remember, 1, 50),
    mesh("R10", Mesh::KeepVote, 1, 50),
    home("R11", Home::Seal, 1, 0),
    mesh("R11", Mesh::TellNext, 1, 0),
    home("R12", Home::HoldState, 1, 0),
    home("R12", Home::ForgetTail, 1, 0),
    home("R13", Home::Joined, 1, 0),
    home("R13", Home::Heard, 1, 0),
    home("R13", Home::VoteOn, 1, 0),
    mesh("R13", Mesh::NewestHome, 5, 50),
    mesh("R15", Mesh::LifeFirst, 1, 0),
    mesh("R15", Mesh::AskAgain, 1, 0),
    mesh("R15", Mesh::DecidedFirst, 2, 50),
    space("R15", Space::OneOutcome, 235, 1_000),
    mesh("R16", Mesh::OutboxFirst, 1, 50),
    mesh("R16", Mesh::SendAgain, 4, 50),
    space("R16", Space::NextOfOrigin, 1, 0),
    mesh("R17", Mesh::ParkAgain, 1, 0),
    mesh("R18", Mesh::LogCancel, 6, 50),
    mesh("R18", Mesh::LateOutcome, 6, 50),
    mesh("R18", Mesh::GiveBack, 1, 50),
    space("R18", Space::CancelledFirst, 62, 300),
    space("R18", Space::OldPlace, 3, 50),
    mesh("R19", Mesh::DecideEmpty, 2, 50),
    mesh("R19", Mesh::ConfirmLead, 1, 0),
];

/// Seeds after the one that is known, when only those are run: what it shows may have moved.
const QUICK_SEEDS: u64 = 20;

/// Guards that show later than this are left out of the quick run.
const QUICK_WITHIN: u64 = 300;

struct Args {
    quick: bool,
    jobs: usize,
    /// Seeds for those not expected to show.
    all: u64,
    only: Vec<String>,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    // What a missing guard makes panic is caught, and told in the table.
    std::panic::set_hook(Box::new(|_| {}));
    run(&args)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let mut parsed = Args {
        quick: false,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        all: 0,
        only: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--quick" => parsed.quick = true,
            flag @ ("--jobs" | "--all" | "--only") => {
                let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
                let wrong = |_| format!("`{value}` is no number");
                match flag {
                    "--jobs" => parsed.jobs = value.parse().map_err(wrong)?,
                    "--all" => parsed.all = value.parse().map_err(wrong)?,
                    _ => parsed.only = value.split(',').map(str::to_owned).collect(),
                }
            }
            other => return Err(format!("`{other}` is unknown")),
        }
    }
    Ok(Some(parsed))
}

fn run(args: &Args) -> ExitCode {
    let wanted = |expected: &&Expected| {
        let name = name(expected.mutant);
        let named = args.only.is_empty() || args.only.iter().any(|part| name.contains(part));
        let soon = expected.within > 0 && (!args.quick || expected.within <= QUICK_WITHIN);
        named && (soon || args.all > 0)
    };
    let guards: Vec<&Expected> = EXPECTED.iter().filter(wanted).collect();
    let next = AtomicUsize::new(0);
    let missed = AtomicBool::new(false);
    let lines = Mutex::new(Vec::new());
    println!("| Guard | Rule | Seed | What is seen |\n|---|---|---|---|");
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some(expected) = guards.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = first(expected, args);
                    let (name, rule) = (name(expected.mutant), expected.rule);
                    let line = match found {
                        Some((seed, what)) => format!("| `{name}` | {rule} | {seed} | {what} |"),
                        None => {
                            missed.fetch_or(expected.within > 0, Ordering::Relaxed);
                            format!("| `{name}` | {rule} | - | nothing |")
                        }
                    };
                    println!("{line}");
                    lines
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(line);
                }
            });
        }
    });
    let lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} guards taken out", lines.len());
    if missed.into_inner() {
        eprintln!("error: the absence of a guard did not show within the seeds stated for it");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn name(mutant: Mutant) -> String {
    match mutant {
        Mutant::Consensus(guard) => format!("consensus::{guard:?}"),
        Mutant::Space(guard) => format!("space::{guard:?}"),
        Mutant::Mesh(guard) => format!("mesh::{guard:?}"),
    }
}

/// The first seed that breaks a promise without the guard, and which.
fn first(expected: &Expected, args: &Args) -> Option<(u64, String)> {
    without(Some(expected.mutant));
    let seeds = if args.quick {
        expected.seed..expected.seed + QUICK_SEEDS
    } else {
        1..1 + expected.within.max(args.all)
    };
    let found = seeds
        .into_iter()
        .find_map(|seed| Some((seed, broken(seed)?)));
    without(None);
    found
}

fn broken(seed: u64) -> Option<String> {
    let run = || World::new(swarm(seed), seed).run();
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(_)) => None,
        Ok(Err((violation, _))) => {
            let text = violation.to_string();
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let text = text.unwrap_or_default();
            let line = text.lines().next().unwrap_or_default();
            Some(format!("an assertion: {line}"))
        }
    }
}
