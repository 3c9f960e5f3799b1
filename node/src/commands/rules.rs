//! `cpe rules`: CLIPS programs on this machine, without a node.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use cpe_rules::{Diagnostic, Limits, RunOptions, STACK_BYTES, Table};
use serde_json::{Value, json};

use crate::cli::Common;
use crate::exit::{About, Fault, Status};
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
            if !progress.errors.is_empty() {
                output::warn(format_args!("{}", progress.errors.trim_end()));
            }
            if keep {
                printed.push_str(progress.output);
            } else if shown.is_ok() {
                shown = output::raw(progress.output.as_bytes());
            }
        });
        shown.map(|()| (ran, printed))
    })??;
    let report = ran.map_err(|error| Fault::failed(error.to_string()))?;
    for warning in &report.warnings {
        output::warn(format_args!("{warning}"));
    }
    if common.json {
        let facts: Vec<_> = report.facts.iter().map(ToString::to_string).collect();
        output::json(&json!({
            "fired": report.fired,
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
        output::warn(format_args!("fired {}{more}; {facts} facts", report.fired));
    }
    Ok(Status::Done)
}

fn check(file: &Path, common: &Common) -> Result<Status, Fault> {
    let (name, text) = (file.display().to_string(), read(file)?);
    let found = with_deep_stack(move || cpe_rules::check(&name, &text))?;
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
