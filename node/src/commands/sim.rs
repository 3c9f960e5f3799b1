//! `cpe sim`: meshes with faults, in virtual time.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::{Args, Subcommand, ValueEnum};
use cpe_sim::{Report, Scenario, Violation, World};
use serde_json::{Value, json};

use crate::cli::Common;
use crate::exit::{About, Fault, Status};
use crate::output;

/// Where a user's scenarios lie, and those of the repository.
const FOLDER: &str = "simulations";

/// The scenarios of the repository, so that the binary alone can run them.
const SHIPPED: [(&str, &str); 6] = [
    ("churn", include_str!("../../../simulations/churn.toml")),
    (
        "everything",
        include_str!("../../../simulations/everything.toml"),
    ),
    (
        "lossy-network",
        include_str!("../../../simulations/lossy-network.toml"),
    ),
    (
        "partition",
        include_str!("../../../simulations/partition.toml"),
    ),
    (
        "rolling-restart",
        include_str!("../../../simulations/rolling-restart.toml"),
    ),
    ("steady", include_str!("../../../simulations/steady.toml")),
];

/// Bytes of a scenario file at most.
const SCENARIO_BYTES_MAX: u64 = 1 << 20;

/// Seeds of one command at most: a day of work on two cores.
const SEEDS_MAX: u64 = 1_000_000;

/// Commands of simulations.
#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Run a scenario and look for broken promises
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
    /// Scenario: a file, or the name of one in ./simulations or of one that comes with the program
    file: PathBuf,
    /// Number that decides everything that happens
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "seeds")]
    seed: u64,
    /// Run once with each seed from N up to but not including M
    #[arg(long, value_name = "N..M", value_parser = seeds)]
    seeds: Option<(u64, u64)>,
    /// What runs the nodes
    #[arg(long, value_enum, default_value_t = Engine::Virtual)]
    engine: Engine,
    /// Write report.json, and the trace of a run that failed, to this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

/// What runs the nodes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    /// One process in virtual time: the same seed, the same run
    Virtual,
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
        SimCommand::Run(args) => run_scenario(&args, common),
        SimCommand::List { folder } => list(folder.as_deref(), common),
    }
}

/// What a run came to.
#[derive(Debug)]
struct Ended {
    seed: u64,
    result: Result<Report, (Violation, Vec<String>)>,
}

fn run_scenario(args: &RunArgs, common: &Common) -> Result<Status, Fault> {
    let Engine::Virtual = args.engine;
    let scenario = find(&args.file)?;
    let (low, high) = args
        .seeds
        .unwrap_or_else(|| (args.seed, args.seed.saturating_add(1)));
    let ended = run_seeds(&scenario, low, high);
    let broken = ended.iter().find(|run| run.result.is_err());
    if let Some(folder) = &args.report {
        write_report(folder, &scenario, &ended)?;
    }
    if common.json {
        output::json(&document(&scenario, &ended))?;
    } else {
        show(&scenario, &ended)?;
    }
    let Some(Ended {
        seed,
        result: Err((violation, _)),
    }) = broken
    else {
        return Ok(Status::Done);
    };
    let file = args.file.display();
    Err(Fault::failed(format!(
        "seed {seed} of `{}` broke a promise: {violation}",
        scenario.name
    ))
    .next(format!(
        "run it again: cpe sim run {file} --seed {seed} --report DIR"
    )))
}

/// Runs each seed, on all cores; stops early when one fails. In order of seeds.
fn run_seeds(scenario: &Scenario, low: u64, high: u64) -> Vec<Ended> {
    let next = AtomicU64::new(low);
    let broken = AtomicBool::new(false);
    let ended = Mutex::new(Vec::new());
    let work = || {
        while !broken.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= high {
                break;
            }
            let mut world = World::new(scenario.clone(), seed);
            // A line per event of one run is worth its memory; of thousands it is not.
            if high - low == 1 {
                world.keep_trace();
            }
            let result = world.run();
            broken.fetch_or(result.is_err(), Ordering::Relaxed);
            ended
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Ended { seed, result });
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by_key(|run| run.seed);
    ended
}

fn document(scenario: &Scenario, ended: &[Ended]) -> Value {
    let runs: Vec<_> = ended
        .iter()
        .map(|run| match &run.result {
            Ok(report) => json!({"seed": run.seed, "ok": true, "report": report}),
            Err((violation, _)) => {
                json!({"seed": run.seed, "ok": false, "violation": violation.to_string()})
            }
        })
        .collect();
    let ok = ended.iter().all(|run| run.result.is_ok());
    json!({"scenario": scenario.name, "ok": ok, "runs": runs})
}

fn show(scenario: &Scenario, ended: &[Ended]) -> Result<(), Fault> {
    let reports: Vec<&Report> = ended
        .iter()
        .filter_map(|run| run.result.as_ref().ok())
        .collect();
    let sum = |field: fn(&Report) -> u64| reports.iter().map(|report| field(report)).sum::<u64>();
    output::line(format_args!(
        "{}: {} nodes, {} of {} runs kept every promise",
        scenario.name,
        scenario.nodes,
        reports.len(),
        ended.len()
    ))?;
    let rows = [
        (
            "virtual seconds",
            reports.iter().map(|report| report.seconds).sum::<f64>() as u64,
        ),
        ("messages", sum(|report| report.messages)),
        ("stores", sum(|report| report.stores)),
        ("acknowledged", sum(|report| report.acknowledged)),
        ("tuples taken", sum(|report| report.taken)),
        ("tuples leased", sum(|report| report.leased)),
        ("leases committed", sum(|report| report.committed)),
        ("timed out", sum(|report| report.timed_out)),
        ("unavailable", sum(|report| report.unavailable)),
        ("crashes", sum(|report| report.crashes)),
        ("clean stops", sum(|report| report.stops)),
        ("partitions", sum(|report| report.partitions)),
        ("homes moved", sum(|report| report.moves)),
    ];
    let rows = rows
        .iter()
        .map(|(what, count)| vec![(*what).to_owned(), count.to_string()]);
    output::table(&["what", "count"], rows.collect(), "")
}

fn write_report(folder: &Path, scenario: &Scenario, ended: &[Ended]) -> Result<(), Fault> {
    std::fs::create_dir_all(folder).about(format!("cannot make {}", folder.display()))?;
    let write = |name: String, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).about(format!("cannot write {}", path.display()))
    };
    write(
        "report.json".to_owned(),
        format!("{:#}\n", document(scenario, ended)),
    )?;
    for run in ended {
        if let Err((_, trace)) = &run.result
            && !trace.is_empty()
        {
            write(format!("trace-{}.txt", run.seed), trace.join("\n") + "\n")?;
        }
    }
    Ok(())
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
