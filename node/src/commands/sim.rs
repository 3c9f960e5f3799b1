//! `cpe sim`: meshes with faults, in virtual time.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::{Args, Subcommand, ValueEnum};
use cpe_sim::{Report, Scenario, Schedule, Shrunk, Violation, World};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::Common;
use crate::exit::{About, Fault, Status};
use crate::output;

/// Where a user's scenarios lie, and those of the repository.
const FOLDER: &str = "simulations";

macro_rules! shipped {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../simulations/", $name, ".toml")),
        )
    };
}

/// The scenarios of the repository, so that the binary alone can run them.
const SHIPPED: [(&str, &str); 12] = [
    shipped!("churn"),
    shipped!("everything"),
    shipped!("flapping-link"),
    shipped!("large-values"),
    shipped!("lossy-network"),
    shipped!("mass-crash"),
    shipped!("one-way-link"),
    shipped!("partition"),
    shipped!("rolling-restart"),
    shipped!("slow-disk"),
    shipped!("steady"),
    shipped!("thousand-nodes"),
];

/// Runs that shrinking one failure may take.
const SHRINK_RUNS_MAX: usize = 100;

/// Nodes beyond which a failure is not shrunk: each try would take a minute.
const SHRINK_NODES_MAX: usize = 50;

/// Bytes of a scenario file at most.
const SCENARIO_BYTES_MAX: u64 = 1 << 20;

/// Seeds of one command at most: a day of work on two cores.
const SEEDS_MAX: u64 = 1_000_000;

/// Commands of simulations.
#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Run scenarios and look for broken promises
    Run(RunArgs),
    /// List the scenarios that come with the program, or those of a folder
    List {
        /// Folder
        folder: Option<PathBuf>,
    },
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Scenarios: files, or names of those in ./simulations or that come with the program
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Number that decides everything that happens
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "seeds")]
    seed: u64,
    /// Run once with each seed from N up to but not including M
    #[arg(long, value_name = "N..M", value_parser = seeds)]
    seeds: Option<(u64, u64)>,
    /// Only these faults of those drawn, by number, as the report of a failure names them
    #[arg(
        long,
        value_name = "N,N",
        value_delimiter = ',',
        conflicts_with = "seeds"
    )]
    keep: Option<Vec<usize>>,
    /// What runs the nodes
    #[arg(long, value_enum, default_value_t = Engine::Virtual)]
    engine: Engine,
    /// Write report.json to this folder, and of each run that failed the few faults that suffice
    /// and a line per event
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

/// What runs the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// One process in virtual time: the same seed, the same run
    Virtual,
    /// Real nodes on loopback, killed, stopped and paused: as long as the scenario says, and what
    /// processes cannot have is left out by name
    Processes,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("`{text}` is no range of seeds: write it as 1..100");
    let (low, high) = text.split_once("..").ok_or_else(wrong)?;
    let (low, high) = (
        low.parse().map_err(|_| wrong())?,
        high.parse::<u64>().map_err(|_| wrong())?,
    );
    if low >= high {
        return Err(format!(
            "`{text}` has no seed: the second number must be larger"
        ));
    }
    if high - low > SEEDS_MAX {
        return Err(format!("`{text}` has more than {SEEDS_MAX} seeds"));
    }
    Ok((low, high))
}

/// Runs a command of simulations.
///
/// # Errors
/// What is wrong with a scenario.
pub(crate) fn run(command: SimCommand, common: &Common) -> Result<Status, Fault> {
    match command {
        SimCommand::Run(args) => run_scenarios(&args, common),
        SimCommand::List { folder } => list(folder.as_deref(), common),
    }
}

/// The runs of one scenario, by seed.
type Ended = Vec<(u64, Result<Report, Violation>)>;

/// What the runs of one scenario came to.
#[derive(Debug)]
struct Ran<'a> {
    file: &'a Path,
    scenario: Scenario,
    /// In order of seeds; ends early when one failed.
    ended: Ended,
    /// What the engine could not do of what the scenario asks for, in any of the runs.
    left_out: BTreeSet<String>,
}

impl Ran<'_> {
    fn broken(&self) -> Option<(u64, &Violation)> {
        let mut ended = self.ended.iter();
        ended.find_map(|(seed, result)| Some((*seed, result.as_ref().err()?)))
    }

    fn reports(&self) -> impl Iterator<Item = &Report> {
        self.ended
            .iter()
            .filter_map(|(_, result)| result.as_ref().ok())
    }

    fn sum(&self, field: fn(&Report) -> u64) -> u64 {
        self.reports().map(field).sum()
    }

    /// The file's name without its ending.
    fn stem(&self) -> String {
        let stem = self.file.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }
}

fn run_scenarios(args: &RunArgs, common: &Common) -> Result<Status, Fault> {
    let scenarios: Vec<Scenario> = args
        .files
        .iter()
        .map(|file| find(file))
        .collect::<Result<_, _>>()?;
    let seeds = args
        .seeds
        .unwrap_or_else(|| (args.seed, args.seed.saturating_add(1)));
    let bar = bar(scenarios.len() as u64 * (seeds.1 - seeds.0), common);
    let mut all = Vec::new();
    for (file, scenario) in args.files.iter().zip(scenarios) {
        bar.set_message(scenario.name.clone());
        let keep = args.keep.as_deref();
        let mut left_out = BTreeSet::new();
        let ended = match args.engine {
            Engine::Virtual => run_seeds(&scenario, seeds, keep, &bar),
            Engine::Processes => {
                let report = args.report.as_deref();
                run_processes(file, &scenario, seeds, keep, report, &mut left_out, &bar)?
            }
        };
        all.push(Ran {
            file,
            scenario,
            ended,
            left_out,
        });
    }
    bar.finish_and_clear();
    if let Some(folder) = &args.report {
        write_report(folder, &all, args.engine, args.keep.as_deref())?;
    }
    if common.json {
        output::json(&document(&all))?;
    } else {
        show(&all)?;
    }
    for ran in &all {
        for what in &ran.left_out {
            output::warn(format_args!("left out of {}: {what}", ran.scenario.name));
        }
    }
    let broken = all.iter().find_map(|ran| Some((ran, ran.broken()?)));
    let Some((ran, (seed, violation))) = broken else {
        return Ok(Status::Done);
    };
    let (name, file) = (&ran.scenario.name, ran.file.display());
    let engine = match args.engine {
        Engine::Virtual => "",
        Engine::Processes => " --engine processes",
    };
    Err(Fault::failed(format!(
        "seed {seed} of `{name}` broke a promise: {violation}"
    ))
    .next(format!(
        "run it again: cpe sim run {file} --seed {seed}{engine} --report DIR"
    )))
}

fn bar(runs: u64, common: &Common) -> ProgressBar {
    if common.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(runs);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs {msg} {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn schedule(scenario: &Scenario, seed: u64, keep: Option<&[usize]>) -> Schedule {
    let schedule = Schedule::draw(scenario, seed);
    keep.map_or_else(|| schedule.clone(), |numbers| schedule.keep(numbers))
}

/// Runs each seed, on all cores; stops early when one fails. In order of seeds.
fn run_seeds(
    scenario: &Scenario,
    (low, high): (u64, u64),
    keep: Option<&[usize]>,
    bar: &ProgressBar,
) -> Ended {
    let next = AtomicU64::new(low);
    let broken = AtomicBool::new(false);
    let ended = Mutex::new(Vec::new());
    let work = || {
        while !broken.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= high {
                break;
            }
            let schedule = schedule(scenario, seed, keep);
            let world = World::with_schedule(scenario.clone(), seed, &schedule);
            let result = world.run().map_err(|(violation, _)| violation);
            broken.fetch_or(result.is_err(), Ordering::Relaxed);
            ended
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((seed, result));
            bar.inc(1);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by_key(|(seed, _)| *seed);
    ended
}

/// Runs each seed on real processes, one after the other; stops early when one fails. What they
/// keep goes to the report's folder, if there is to be one.
#[cfg(unix)]
fn run_processes(
    file: &Path,
    scenario: &Scenario,
    (low, high): (u64, u64),
    keep: Option<&[usize]>,
    report: Option<&Path>,
    left_out: &mut BTreeSet<String>,
    bar: &ProgressBar,
) -> Result<Ended, Fault> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let own = tempfile::tempdir().about("cannot make a folder for the nodes")?;
    let mut ended = Vec::new();
    for seed in low..high {
        let schedule = schedule(scenario, seed, keep);
        left_out.extend(crate::processes::left_out(scenario, &schedule));
        let folder = report
            .unwrap_or_else(|| own.path())
            .join(format!("{stem}-{seed}"));
        if folder.exists() {
            let what = format!("{} is there already", folder.display());
            return Err(Fault::failed(what).next("name another folder with --report"));
        }
        let result = crate::processes::run(scenario, &schedule, seed, &folder)?;
        let broken = result.is_err();
        ended.push((seed, result));
        bar.inc(1);
        if broken {
            break;
        }
    }
    Ok(ended)
}

#[cfg(not(unix))]
fn run_processes(
    _: &Path,
    _: &Scenario,
    _: (u64, u64),
    _: Option<&[usize]>,
    _: Option<&Path>,
    _: &mut BTreeSet<String>,
    _: &ProgressBar,
) -> Result<Ended, Fault> {
    let what = "processes cannot be killed, stopped and paused by signals on this system";
    Err(Fault::failed(what).next("run it with --engine virtual"))
}

fn document(all: &[Ran<'_>]) -> Value {
    let scenarios = all.iter().map(|ran| {
        let runs = ran.ended.iter().map(|(seed, result)| match result {
            Ok(report) => json!({"seed": seed, "ok": true, "report": report}),
            Err(violation) => {
                json!({"seed": seed, "ok": false, "violation": violation.to_string()})
            }
        });
        let runs: Vec<Value> = runs.collect();
        let ok = ran.broken().is_none();
        let left_out = &ran.left_out;
        json!({"scenario": ran.scenario.name, "ok": ok, "runs": runs, "left_out": left_out})
    });
    let scenarios: Vec<Value> = scenarios.collect();
    let ok = all.iter().all(|ran| ran.broken().is_none());
    json!({"ok": ok, "scenarios": scenarios})
}

fn show(all: &[Ran<'_>]) -> Result<(), Fault> {
    if let [ran] = all {
        return show_one(ran);
    }
    let rows = all.iter().map(|ran| {
        let kept = ran.reports().count();
        let runs = ran.ended.len();
        vec![
            ran.stem(),
            ran.scenario.nodes.to_string(),
            format!("{kept} of {runs}"),
            ran.sum(|report| report.messages).to_string(),
            ran.sum(|report| report.acknowledged).to_string(),
            ran.sum(|report| report.taken).to_string(),
        ]
    });
    let head = [
        "scenario",
        "nodes",
        "runs kept",
        "messages",
        "stored",
        "taken",
    ];
    output::table(&head, rows.collect(), "")
}

fn show_one(ran: &Ran<'_>) -> Result<(), Fault> {
    output::line(format_args!(
        "{}: {} nodes, {} of {} runs kept every promise",
        ran.scenario.name,
        ran.scenario.nodes,
        ran.reports().count(),
        ran.ended.len()
    ))?;
    let seconds = ran.reports().map(|report| report.seconds).sum::<f64>() as u64;
    let rows = [
        ("seconds", seconds),
        ("messages", ran.sum(|report| report.messages)),
        ("stores", ran.sum(|report| report.stores)),
        ("acknowledged", ran.sum(|report| report.acknowledged)),
        ("tuples taken", ran.sum(|report| report.taken)),
        ("tuples leased", ran.sum(|report| report.leased)),
        ("leases committed", ran.sum(|report| report.committed)),
        ("timed out", ran.sum(|report| report.timed_out)),
        ("unavailable", ran.sum(|report| report.unavailable)),
        ("unknown", ran.sum(|report| report.unknown)),
        ("operations checked", ran.sum(|report| report.checked)),
        ("crashes", ran.sum(|report| report.crashes)),
        ("clean stops", ran.sum(|report| report.stops)),
        ("pauses", ran.sum(|report| report.pauses)),
        ("partitions", ran.sum(|report| report.partitions)),
        ("bad links", ran.sum(|report| report.bad_links)),
        ("bad disks", ran.sum(|report| report.bad_disks)),
        ("lost disks", ran.sum(|report| report.lost_disks)),
        ("homes moved", ran.sum(|report| report.moves)),
    ];
    let rows = rows
        .iter()
        .map(|(what, count)| vec![(*what).to_owned(), count.to_string()]);
    output::table(&["what", "count"], rows.collect(), "")
}

fn write_report(
    folder: &Path,
    all: &[Ran<'_>],
    engine: Engine,
    keep: Option<&[usize]>,
) -> Result<(), Fault> {
    std::fs::create_dir_all(folder).about(format!("cannot make {}", folder.display()))?;
    let write = |name: String, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).about(format!("cannot write {}", path.display()))
    };
    write("report.json".to_owned(), format!("{:#}\n", document(all)))?;
    for ran in all {
        for (seed, result) in &ran.ended {
            // Real processes have written their own.
            if result.is_err() && engine == Engine::Virtual {
                let name = format!("{}-{seed}.txt", ran.stem());
                write(name, explain(ran, *seed, keep))?;
            }
        }
    }
    Ok(())
}

/// The few faults with which a seed fails, how to run them again, and a line per event.
fn explain(ran: &Ran<'_>, seed: u64, keep: Option<&[usize]>) -> String {
    let scenario = &ran.scenario;
    let drawn = schedule(scenario, seed, keep);
    let small = scenario.nodes <= SHRINK_NODES_MAX;
    let shrunk = small
        .then(|| cpe_sim::shrink(scenario, seed, &drawn, SHRINK_RUNS_MAX))
        .flatten();
    let said = shrunk
        .as_ref()
        .map_or_else(|| drawn.to_string(), Shrunk::to_string);
    let least = shrunk.map_or(drawn, |shrunk| shrunk.schedule);
    let numbers: Vec<String> = least.numbers().iter().map(ToString::to_string).collect();
    let (file, numbers) = (ran.file.display(), numbers.join(","));
    let mut world = World::with_schedule(scenario.clone(), seed, &least);
    world.keep_trace();
    let trace = world.run().err().map(|(_, trace)| trace.join("\n"));
    let trace = trace.unwrap_or_default();
    format!(
        "{said}\nto run it again:\n  cpe sim run {file} --seed {seed} --keep {numbers}\n\n{trace}\n"
    )
}

fn list(folder: Option<&Path>, common: &Common) -> Result<Status, Fault> {
    let scenarios = match folder {
        Some(folder) => in_folder(folder)?,
        None => SHIPPED
            .iter()
            .map(|(name, text)| Ok(((*name).to_owned(), Scenario::parse(text).about(name)?)))
            .collect::<Result<_, Fault>>()?,
    };
    let rows = scenarios.into_iter().map(|(stem, scenario)| {
        json!({
            "scenario": stem,
            "name": scenario.name,
            "about": scenario.about,
            "nodes": scenario.nodes,
        })
    });
    let rows = Value::Array(rows.collect());
    if common.json {
        output::json(&rows)?;
    } else {
        let columns = ["scenario", "nodes", "name"];
        output::table(&columns, output::rows(&rows, &columns), "no scenarios here")?;
    }
    Ok(Status::Done)
}

fn in_folder(folder: &Path) -> Result<Vec<(String, Scenario)>, Fault> {
    let about = format!("cannot list {}", folder.display());
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .about(about)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    let mut scenarios = Vec::new();
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        scenarios.push((stem.into_owned(), read(&file)?));
    }
    Ok(scenarios)
}

/// A file, else one in the folder of scenarios, else one that comes with the program.
fn find(given: &Path) -> Result<Scenario, Fault> {
    let named = Path::new(FOLDER).join(given).with_extension("toml");
    if let Some(file) = [given, &named].into_iter().find(|path| path.is_file()) {
        return read(file);
    }
    let shipped = SHIPPED.iter().find(|(name, _)| Path::new(name) == given);
    match shipped {
        Some((name, text)) => Scenario::parse(text).about(name),
        None => Err(Fault::failed(format!(
            "there is no scenario {}: no file, and none comes with the program by this name",
            given.display()
        ))
        .next("`cpe sim list` shows those that come with the program")),
    }
}

fn read(path: &Path) -> Result<Scenario, Fault> {
    let shown = path.display();
    let about = std::fs::metadata(path).about(format!("cannot read the scenario {shown}"))?;
    if about.len() > SCENARIO_BYTES_MAX {
        return Err(Fault::failed(format!(
            "{shown} is larger than a scenario may be"
        )));
    }
    let text = std::fs::read_to_string(path).about(format!("cannot read {shown}"))?;
    Scenario::parse(&text).about(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_repository_comes_with_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../simulations");
        let names = in_folder(Path::new(folder)).unwrap();
        let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, SHIPPED.map(|(name, _)| name));
    }

    #[test]
    fn a_scenario_is_found_by_name_without_its_file() {
        assert!(find(Path::new("rolling-restart")).is_ok());
        let wrong = find(Path::new("no-such")).unwrap_err().to_string();
        assert!(wrong.contains("no scenario no-such"), "{wrong}");
    }
}
