//! `cpe rules`: CLIPS programs on this machine, without a node, and a look into live agents.

mod agent;
mod console;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use cpe_rules::{Diagnostic, Limits, RunOptions, STACK_BYTES, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::Common;
use crate::exit::{About, Fault, Status};
use crate::kinds::rules_worker;
use crate::output;

/// Bytes of a program at most. The largest known rule bases have a few megabytes.
const PROGRAM_BYTES_MAX: u64 = 16 << 20;

/// Commands of rules.
#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Load a program, assert facts, and fire its rules until none is left
    Run(RunArgs),
    /// Say whether a program loads, with file and line of each fault
    Check {
        /// Program
        file: PathBuf,
    },
    /// The prompt of CLIPS, on an engine of its own or on a live agent's
    ///
    /// A local prompt has all functions of CLIPS, files included. On a live agent it only looks,
    /// unless --write is given. TAB completes, Ctrl-C stops what runs, (exit) or Ctrl-D leaves.
    Console {
        /// Agent to look into; without one the prompt is local
        #[arg(conflicts_with = "load")]
        agent: Option<String>,
        /// Also change the agent: assert, retract, call functions. Its rules fire after each
        /// command, and what they ask for leaves, as after a message
        #[arg(long, requires = "agent")]
        write: bool,
        /// Load a program first (again for more)
        #[arg(long, value_name = "FILE")]
        load: Vec<PathBuf>,
    },
    /// Feed a file to the prompt as `clips -f2 FILE` does, with all functions of the original
    ///
    /// Nothing is confined. After the file commands come from standard input, until (exit) or its
    /// end.
    Batch {
        /// Commands
        file: PathBuf,
    },
    /// Show which rules of a live agent fired on which facts lately, and what they made
    Explain {
        /// Agent
        agent: String,
        /// A picture, in the DOT language of Graphviz
        #[arg(long)]
        dot: bool,
    },
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Program
    file: PathBuf,
    /// Assert one fact for each row of a CSV file with a header: columns are slots of the
    /// deftemplate TEMPLATE, by default the one named like the file (again for more)
    #[arg(long, value_name = "[TEMPLATE=]CSV")]
    facts: Vec<String>,
    /// Fire so many rules at most
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Write which rules fired on which facts: as a picture where FILE ends in .dot, else as text
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Number that decides the program's random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Runs a command of rules.
///
/// # Errors
/// What is wrong with the program or its facts, or which limit ended it.
pub(crate) fn run(command: RulesCommand, common: &Common) -> Result<Status, Fault> {
    match command {
        RulesCommand::Run(args) => run_program(&args, common),
        RulesCommand::Check { file } => check(&file, common),
        RulesCommand::Console {
            agent: Some(agent),
            write,
            ..
        } => agent::console(&agent, write, common),
        RulesCommand::Console {
            agent: None, load, ..
        } => {
            let load = load
                .iter()
                .map(|file| Ok((file.display().to_string(), read(file)?)));
            let sources = load.collect::<Result<Vec<_>, Fault>>()?;
            with_deep_stack(move || console::local(&sources))?
        }
        RulesCommand::Batch { file } => batch(&file),
        RulesCommand::Explain { agent, dot } => {
            super::block_on(agent::explain(&agent, dot, common))
        }
    }
}

/// Ends the process itself when it has begun, as the original does.
fn batch(file: &Path) -> Result<Status, Fault> {
    // The original complains at its prompt and goes on; a person wants to know.
    std::fs::File::open(file).about(format!("cannot read {}", file.display()))?;
    let file = file.to_owned();
    match with_deep_stack(move || cpe_rules::batch(&file))? {
        Ok(never) => match never {},
        Err(error) => Err(Fault::failed(error.to_string())),
    }
}

fn run_program(args: &RunArgs, common: &Common) -> Result<Status, Fault> {
    let text = read(&args.file)?;
    let mut options = RunOptions::default();
    options.file = args.file.display().to_string();
    options.limits.wall = common.timeout.unwrap_or(options.limits.wall);
    options.firings = args.limit;
    options.seed = args.seed;
    options.now_ms = now_ms();
    options.record = args.trace.is_some();
    let bar = progress_bar();
    let (shown_by, started) = (bar.clone(), begun());
    options.tables = args
        .facts
        .iter()
        .map(|given| table(given))
        .collect::<Result<Vec<_>, Fault>>()?;
    let keep = common.json;
    let (ran, printed) = with_deep_stack(move || {
        let mut printed = String::new();
        let mut shown = Ok(());
        let ran = cpe_rules::run(&text, &options, |progress| {
            shown_by.set_message(format!(
                "{} rules fired, {} facts",
                progress.fired, progress.facts
            ));
            if !progress.errors.is_empty() {
                shown_by.suspend(|| output::warn(format_args!("{}", progress.errors.trim_end())));
            }
            if keep {
                printed.push_str(progress.output);
            } else if shown.is_ok() && !progress.output.is_empty() {
                shown = shown_by.suspend(|| output::raw(progress.output.as_bytes()));
            }
        });
        shown.map(|()| (ran, printed))
    })??;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let report = ran.map_err(|error| Fault::failed(error.to_string()))?;
    if let (Some(file), Some(trace)) = (&args.trace, &report.trace) {
        let picture = file.extension().is_some_and(|extension| extension == "dot");
        let text = if picture {
            trace.to_dot()
        } else {
            trace.to_string()
        };
        std::fs::write(file, text).about(format!("cannot write {}", file.display()))?;
    }
    for warning in &report.warnings {
        output::warn(format_args!("{warning}"));
    }
    if common.json {
        let facts: Vec<_> = report.facts.iter().map(ToString::to_string).collect();
        output::json(&json!({
            "fired": report.fired,
            "seconds": seconds,
            "limited": report.limited,
            "facts": facts,
            "output": printed,
        }))?;
    } else {
        let more = if report.limited {
            ", with rules left to fire"
        } else {
            ""
        };
        let facts = report.facts.len();
        let fired = report.fired;
        output::warn(format_args!(
            "fired {fired}{more}; {facts} facts; {seconds:.3} s"
        ));
    }
    Ok(Status::Done)
}

/// Shown while a program runs, where a person watches.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let bar = ProgressBar::new_spinner();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}

#[expect(clippy::disallowed_methods, reason = "people ask how long it took")]
fn begun() -> std::time::Instant {
    std::time::Instant::now()
}

fn check(file: &Path, common: &Common) -> Result<Status, Fault> {
    let (name, text) = (file.display().to_string(), read(file)?);
    let command = rules_worker().map_err(Fault::failed)?;
    let found = with_deep_stack(move || cpe_rules::check_apart(command, &name, &text))?;
    let found = found.about("cannot check it")?;
    let right = found.iter().all(|diagnostic| diagnostic.warning);
    if common.json {
        let found: Vec<_> = found.iter().map(diagnostic).collect();
        output::json(&json!({"ok": right, "found": found}))?;
    } else {
        for diagnostic in &found {
            output::warn(format_args!("{diagnostic}"));
        }
        if right {
            output::line(format_args!("{} is right", file.display()))?;
        }
    }
    Ok(if right { Status::Done } else { Status::Failed })
}

fn diagnostic(found: &Diagnostic) -> Value {
    json!({
        "file": found.file,
        "line": found.line,
        "column": found.column,
        "warning": found.warning,
        "message": found.message,
    })
}

/// Programs may recurse deeper than this thread's stack.
fn with_deep_stack<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let thread = std::thread::Builder::new()
        .name("rules".to_owned())
        .stack_size(STACK_BYTES);
    let thread = thread
        .spawn(job)
        .about("cannot start a thread for the rules")?;
    thread
        .join()
        .map_err(|_| Fault::failed("the rule engine panicked; please report this"))
}

fn read(path: &Path) -> Result<String, Fault> {
    let name = path.display();
    let about = format!("cannot read {name}");
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).about(&about)?;
    file.take(PROGRAM_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .about(&about)?;
    if bytes.len() as u64 > PROGRAM_BYTES_MAX {
        let limit = format!("{name} is larger than a program may be");
        return Err(Fault::failed(format!(
            "{limit} ({PROGRAM_BYTES_MAX} bytes)"
        )));
    }
    String::from_utf8(bytes).about(format!("{name} is not UTF-8 text"))
}

/// Reads `CSV` or `TEMPLATE=CSV`.
fn table(given: &str) -> Result<Table, Fault> {
    let (template, path) = match given.split_once('=') {
        Some((template, path)) => (template.to_owned(), Path::new(path)),
        None => {
            let path = Path::new(given);
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            (stem.into_owned(), path)
        }
    };
    let name = path.display().to_string();
    let mut reader = csv::Reader::from_path(path).about(format!("cannot read {name}"))?;
    let columns = reader
        .headers()
        .about(&name)?
        .iter()
        .map(str::to_owned)
        .collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        if rows.len() >= Limits::PROGRAM.facts {
            let most = Limits::PROGRAM.facts;
            return Err(Fault::failed(format!("{name} has more than {most} rows")));
        }
        rows.push(record.about(&name)?.iter().map(str::to_owned).collect());
    }
    Ok(Table {
        template,
        columns,
        rows,
    })
}

/// What a program's `(time)` says.
fn now_ms() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "programs ask for the time of day"
    )]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
