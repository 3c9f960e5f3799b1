//! Each guard taken out of the protocol: does anything notice? `cargo xtask mutants` runs this.
//!
//! A simulator that catches nothing proves nothing. For each numbered rule (space.md, 2.5) that
//! admits it, the guard at the place where the rule is enforced is taken out, and seeds are run
//! until a promise is broken: of whole meshes, or of one home group by itself, whose simulation
//! has far more elections a second. A few guards have others behind them, so that no run breaks a
//! promise; of those a test shows the fact that the guard keeps.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

/// The simulation of one home group, as `cpe-consensus` tests itself with it.
#[path = "../../consensus/tests/sim"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "code of tests, of which not all is used here"
)]
mod group {
    mod checks;
    mod disk;
    mod replica;
    mod rng;
    pub(crate) mod world;
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cpe_consensus::Guard as Home;
use cpe_mesh::{Guard as Mesh, Mutant, without};
use cpe_sim::{Profile, World};
use cpe_space::Guard as Space;

const HELP: &str = "\
usage: mutants [--quick] [--jobs N] [--seeds N] [--only NAME,...]

  --quick  only simulations, from the seed known to show it, for those that show soon
  --jobs   how many guards at a time (one per core)
  --seeds  this many seeds for each instead of those stated: makes the table anew
  --only   only guards whose name contains one of these
";

/// What notices that a guard is missing.
#[derive(Clone, Copy, Debug)]
enum By {
    /// Whole peers, in scenarios of a profile. The first seed known to show it, and within how many
    /// it has to.
    Mesh(Profile, u64, u64),
    /// One home group by itself (`crates/consensus/tests/sim`). The same.
    Group(u64, u64),
    /// A test, which passes with the guard and fails without it: where `cargo test` finds it, and
    /// its name.
    Test(&'static [&'static str], &'static str),
}

/// A guard, the rule it enforces, and what has to notice when it is gone.
struct Expected {
    rule: &'static str,
    mutant: Mutant,
    by: By,
}

const fn home(rule: &'static str, guard: Home, by: By) -> Expected {
    let mutant = Mutant::Consensus(guard);
    Expected { rule, mutant, by }
}

const fn space(rule: &'static str, guard: Space, by: By) -> Expected {
    let mutant = Mutant::Space(guard);
    Expected { rule, mutant, by }
}

const fn mesh(rule: &'static str, guard: Mesh, by: By) -> Expected {
    let mutant = Mutant::Mesh(guard);
    Expected { rule, mutant, by }
}

const fn mixed(seed: u64, within: u64) -> By {
    By::Mesh(Profile::Mixed, seed, within)
}

const fn actors(seed: u64, within: u64) -> By {
    By::Mesh(Profile::Actors, seed, within)
}

const fn deletions(seed: u64, within: u64) -> By {
    By::Mesh(Profile::Deletions, seed, within)
}

const fn consensus_test(name: &'static str) -> By {
    By::Test(&["--package", "cpe-consensus", "--lib"], name)
}

const fn mesh_unit_test(name: &'static str) -> By {
    By::Test(&["--package", "cpe-mesh", "--lib"], name)
}

const fn mesh_test(name: &'static str) -> By {
    By::Test(&["--package", "cpe-mesh", "--test", "it"], name)
}

use By::{Group, Mesh as Peers};

/// All guards, in the order of the rules.
const EXPECTED: [Expected; 80] = [
    mesh("R1", Mesh::ThisRound, mixed(1, 50)),
    home("R2", Home::Lead, Group(28_710, 40_000)),
    home("R3", Home::PromiseFirst, Group(46, 100)),
    home("R4", Home::NoClamp, Group(190, 400)),
    home("R4", Home::FreshBallot, Group(38_012, 50_000)),
    home("R4", Home::OwnCount, Group(3_702, 5_000)),
    home("R5", Home::HighestBallot, Group(5, 100)),
    home("R5", Home::Splice, Group(59, 200)),
    home("R6", Home::NoShorten, Group(6, 50)),
    home(
        "R7",
        Home::SameBallot,
        consensus_test(
            "tests::model::\
             a_tuple_is_taken_once_whatever_two_leaders_two_takers_and_a_hand_over_do",
        ),
    ),
    home("R8", Home::CountBallot, Group(272, 500)),
    home("R8", Home::Durable, Group(1, 10)),
    home("R8", Home::OwnDisk, Group(1, 10)),
    mesh("R8", Mesh::DiskBeforeWord, mixed(4, 50)),
    home("R9", Home::StepDown, Group(10_825, 20_000)),
    home("R10", Home::Remember, mixed(1, 50)),
    mesh("R10", Mesh::KeepVote, mixed(1, 50)),
    home("R11", Home::Seal, Group(1, 50)),
    mesh(
        "R11",
        Mesh::TellNext,
        mesh_test(
            "groups::a_home_that_moved_away_begins_at_its_next_node_before_anything_is_gossiped",
        ),
    ),
    home("R12", Home::HoldState, Group(2, 50)),
    home("R12", Home::ForgetTail, Group(16_243, 25_000)),
    home("R13", Home::Joined, Group(46, 100)),
    home("R13", Home::Heard, Group(18, 100)),
    home("R13", Home::VoteOn, Group(95, 200)),
    mesh("R13", Mesh::NewestHome, mixed(7, 400)),
    mesh("R15", Mesh::LifeFirst, Peers(Profile::Restarts, 55, 400)),
    mesh("R15", Mesh::AskAgain, mixed(6, 50)),
    mesh("R15", Mesh::DecidedFirst, mixed(2, 50)),
    space("R15", Space::OneOutcome, mixed(287, 1_000)),
    mesh("R16", Mesh::OutboxFirst, mixed(2, 50)),
    mesh("R16", Mesh::SendAgain, mixed(1, 50)),
    mesh("R16", Mesh::NextOfOrigin, mixed(1, 50)),
    space(
        "1.3",
        Space::RetiredForGood,
        mesh_test("gone::the_counts_of_a_life_are_forgotten_some_time_after_the_next_one_came"),
    ),
    mesh(
        "R17",
        Mesh::ParkAgain,
        mesh_unit_test(
            "home::tests::a_waiting_take_that_missed_is_parked_again_before_those_that_came_later",
        ),
    ),
    mesh("R17", Mesh::StepAside, mixed(12, 100)),
    mesh("R18", Mesh::LogCancel, mixed(8, 50)),
    mesh("R18", Mesh::LateOutcome, mixed(2, 200)),
    mesh("R18", Mesh::GiveBack, mixed(4, 50)),
    space("R18", Space::CancelledFirst, mixed(58, 500)),
    space("R18", Space::OldPlace, mixed(3, 50)),
    mesh("R19", Mesh::DecideEmpty, mixed(6, 50)),
    mesh("R19", Mesh::ConfirmLead, Peers(Profile::Elections, 23, 50)),
    mesh("2.7", Mesh::DeletionUnknown, deletions(4, 100)),
    mesh("2.10", Mesh::DeleteAway, deletions(30, 200)),
    mesh("A1", Mesh::ConfirmRenewal, actors(25, 400)),
    mesh(
        "A1",
        Mesh::LogAdopted,
        mesh_test("hosts::a_leader_that_stood_still_ends_no_life_that_another_one_has_renewed"),
    ),
    mesh("A1", Mesh::StopEarly, actors(7, 100)),
    mesh("A1", Mesh::WholeLease, actors(1, 50)),
    mesh("A2", Mesh::VoidForEver, actors(1, 50)),
    mesh("A3", Mesh::ClaimVoid, actors(1, 50)),
    space("A3", Space::ReleaseVoid, actors(1, 50)),
    space("A4", Space::CommitToken, actors(1, 100)),
    space("A4", Space::CommitNext, actors(2, 100)),
    space("A5", Space::EmitOnce, actors(1, 50)),
    space(
        "A5",
        Space::SentBorn,
        mesh_test(
            "outbox::\
             what_is_said_of_the_effects_of_an_actor_that_ended_says_nothing_of_the_next",
        ),
    ),
    space(
        "A5",
        Space::ReleaseSent,
        mesh_test("outbox::a_name_is_given_up_once_what_its_actor_asked_for_is_done"),
    ),
    mesh("A5", Mesh::EffectsInTurn, actors(1, 50)),
    mesh("A5", Mesh::EffectsUntilDone, actors(1, 50)),
    mesh("A5", Mesh::EffectsOfOthers, actors(1, 50)),
    space("A6", Space::TakeOnce, actors(1, 200)),
    space(
        "A6",
        Space::TakeEndToken,
        mesh_test("takes::what_a_former_host_says_of_takes_counts_no_more_once_another_has_asked"),
    ),
    mesh("A6", Mesh::TakeUntilHandled, actors(1, 200)),
    space("A9", Space::CommitMarks, actors(1, 50)),
    space("A9", Space::MarkEach, actors(1, 50)),
    space("A8", Space::MigrateToken, actors(38, 200)),
    space("A8", Space::MigrateLast, actors(2, 50)),
    space("A8", Space::RestOver, actors(1068, 1600)),
    mesh("A8", Mesh::MovedToThisLife, actors(1, 50)),
    mesh("A8", Mesh::HoldForFormer, actors(1, 50)),
    mesh("A8", Mesh::ForwardUntilHandled, actors(6, 200)),
    mesh("A8", Mesh::ForwardFollows, actors(1, 50)),
    mesh("A8", Mesh::PassedOver, actors(1, 400)),
    mesh("A8", Mesh::PassedByWaiting, actors(69, 400)),
    mesh(
        "A8",
        Mesh::ComesInPlace,
        mesh_unit_test(
            "mailbox::tests::\
             what_two_former_hosts_have_is_handled_in_the_place_of_the_one_that_is_waited_for",
        ),
    ),
    mesh(
        "A8",
        Mesh::EndOfFormer,
        mesh_unit_test(
            "mailbox::tests::only_the_host_that_is_waited_for_says_that_it_has_sent_all",
        ),
    ),
    mesh("A8", Mesh::AwaitWhoAnswers, actors(73, 400)),
    mesh("A3", Mesh::EndReplaced, actors(6, 100)),
    mesh("watches", Mesh::WatchBorn, actors(1, 50)),
    mesh("watches", Mesh::WatchStands, actors(1, 50)),
    mesh("watches", Mesh::WatchQuestion, actors(24, 50)),
];

/// Seeds after the one that is known, when only those are run: what it shows may have moved.
const QUICK_SEEDS: u64 = 20;

/// Guards that show later than this are left out of the quick run: what it shows moves easily.
const QUICK_SEED_MAX: u64 = 50;

struct Args {
    quick: bool,
    jobs: usize,
    /// Seeds for each, instead of those stated; 0 for those.
    seeds: u64,
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
        seeds: 0,
        only: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--quick" => parsed.quick = true,
            flag @ ("--jobs" | "--seeds" | "--only") => {
                let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
                let wrong = |_| format!("`{value}` is no number");
                match flag {
                    "--jobs" => parsed.jobs = value.parse().map_err(wrong)?,
                    "--seeds" => parsed.seeds = value.parse().map_err(wrong)?,
                    _ => parsed.only = value.split(',').map(str::to_owned).collect(),
                }
            }
            other => return Err(format!("`{other}` is unknown")),
        }
    }
    Ok(Some(parsed))
}

/// Guards that stand in no line of the table: a new one has to say what it is for.
fn forgotten() -> Vec<String> {
    let home = Home::ALL.into_iter().map(Mutant::Consensus);
    let space = Space::ALL.into_iter().map(Mutant::Space);
    let mesh = Mesh::ALL.into_iter().map(Mutant::Mesh);
    // Those of the state machine are out together with the leading home's, which suffice alone.
    let behind = [Space::NextOfOrigin, Space::VoidForEver, Space::ClaimVoid].map(Mutant::Space);
    let all = home.chain(space).chain(mesh);
    let all = all.filter(|one| !behind.contains(one));
    let listed = |one: &Mutant| EXPECTED.iter().any(|expected| expected.mutant == *one);
    all.filter(|one| !listed(one)).map(name).collect()
}

fn run(args: &Args) -> ExitCode {
    let forgotten = forgotten();
    if !forgotten.is_empty() {
        eprintln!("error: nothing is expected of {}", forgotten.join(", "));
        return ExitCode::FAILURE;
    }
    let wanted = |expected: &&Expected| {
        let name = name(expected.mutant);
        let named = args.only.is_empty() || args.only.iter().any(|part| name.contains(part));
        let soon = match expected.by {
            By::Mesh(_, seed, _) | By::Group(seed, _) => seed <= QUICK_SEED_MAX,
            // Their tests run with all others.
            By::Test(..) => false,
        };
        named && (!args.quick || soon)
    };
    let guards: Vec<&Expected> = EXPECTED.iter().filter(wanted).collect();
    let next = AtomicUsize::new(0);
    let missed = AtomicBool::new(false);
    println!("| Guard | Rule | Noticed by | Seed | What is seen |\n|---|---|---|---|---|");
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some(expected) = guards.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let line = look(expected, args).unwrap_or_else(|| {
                        missed.store(true, Ordering::Relaxed);
                        "nobody | - | nothing".to_owned()
                    });
                    let (name, rule) = (name(expected.mutant), expected.rule);
                    println!("| `{name}` | {rule} | {line} |");
                }
            });
        }
    });
    println!("{} guards taken out", guards.len());
    if missed.into_inner() {
        eprintln!("error: the absence of a guard was not noticed within the seeds stated for it");
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

/// What notices, by which seed, and what is seen; nothing when nothing is.
fn look(expected: &Expected, args: &Args) -> Option<String> {
    let seeds = |seed: u64, within: u64| match args {
        Args { quick: true, .. } => seed..seed + QUICK_SEEDS,
        Args { seeds: 0, .. } => 1..1 + within,
        Args { seeds, .. } => 1..1 + seeds,
    };
    match expected.by {
        By::Mesh(profile, seed, within) => {
            without(Some(expected.mutant));
            let found = seeds(seed, within).find_map(|seed| {
                let what = broken(|| {
                    let run = World::new(profile.scenario(seed), seed).run();
                    run.err().map(|(violation, _)| violation.to_string())
                })?;
                Some(format!("{profile} meshes | {seed} | {what}"))
            });
            without(None);
            found
        }
        By::Group(seed, within) => {
            let Mutant::Consensus(guard) = expected.mutant else {
                return None;
            };
            seeds(seed, within).find_map(|seed| {
                let what = broken(|| {
                    group::world::World::new(seed, Box::new(move |seat| seat.without(guard))).run();
                    None
                })?;
                Some(format!("one group | {seed} | {what}"))
            })
        }
        By::Test(place, test) => {
            let guard = name(expected.mutant);
            let guard = guard.rsplit("::").next().unwrap_or_default();
            let noticed = passes(place, test, None) && !passes(place, test, Some(guard));
            let test = test.rsplit("::").next().unwrap_or_default();
            noticed.then(|| format!("a test | - | `{test}` fails"))
        }
    }
}

/// What a run shows, in a line: a broken promise, or an assertion that failed.
fn broken(run: impl FnOnce() -> Option<String>) -> Option<String> {
    let text = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(said) => said?,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            text.unwrap_or_default()
        }
    };
    let line = text.lines().next().unwrap_or_default();
    Some(line.replace('|', "/"))
}

/// Whether a test passes, with a guard taken out or none.
fn passes(place: &[&str], test: &str, without: Option<&str>) -> bool {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--quiet", "--features", "mutants"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.args(place).args(["--", "--exact", test]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(guard) = without {
        command.env("CPE_WITHOUT", guard);
    }
    // A name that no test has passes too, with nothing run.
    command.output().is_ok_and(|output| {
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed")
    })
}
