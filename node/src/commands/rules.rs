//! `cpe rules`: CLIPS programs on this machine, without a node.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use cpe_rules::{Diagnostic, Engine, EngineError, EngineThread, Limits, ParseErrors, Worker};
use serde_json::{Value, json};

use crate::cli::Common;
use crate::exit::{About, Fault, Status};
use crate::output;

/// Bytes of a program at most. The largest known rule bases have a few megabytes.
const PROGRAM_BYTES_MAX: u64 = 16 << 20;

/// Firings between two looks at the output, so that a long run shows what it prints.
const SLICE: u64 = 10_000;

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
    let program = Program::read(&args.file)?;
    let facts = args.facts.iter().map(|given| Rows::read(given)).collect::<Result<Vec<_>, _>>()?;
    let wall = common.timeout.unwrap_or(Limits::PROGRAM.wall);
    let engine = engine(wall, args.seed)?;
    let (limit, json) = (args.limit.unwrap_or(u64::MAX), common.json);
    let ended = engine.call(move |engine| {
        engine.within(|engine| -> Result<Ended, Fault> {
            program.load(engine)?;
            engine.reset().map_err(explain)?;
            for rows in &facts {
                rows.assert(engine)?;
            }
            let mut ended = Ended::default();
            loop {
                let slice = SLICE.min(limit - ended.fired);
                let fired = engine.run(Some(slice)).map_err(|error| {
                    // What it printed before it failed helps to see why.
                    let _ = ended.take_output(engine, json);
                    explain(error)
                })?;
                ended.fired += fired;
                ended.take_output(engine, json)?;
                if fired < slice || ended.fired == limit {
                    break;
                }
            }
            ended.left = engine.agenda().len();
            ended.facts = engine.facts().iter().map(ToString::to_string).collect();
            Ok(ended)
        })
    });
    let ended = ended.about("cannot run the program")??;
    if common.json {
        output::json(&json!({
            "fired": ended.fired,
            "left": ended.left,
            "facts": ended.facts,
            "output": ended.output,
        }))?;
    } else {
        let Ended { fired, left, facts, .. } = &ended;
        output::warn(format_args!("fired {fired}, {left} left to fire, {} facts", facts.len()));
    }
    Ok(Status::Done)
}

/// How a run ended.
#[derive(Debug, Default)]
struct Ended {
    fired: u64,
    left: usize,
    facts: Vec<String>,
    output: String,
}

impl Ended {
    /// Shows what the program printed, or keeps it for the JSON document.
    fn take_output(&mut self, engine: &mut Engine, keep: bool) -> Result<(), Fault> {
        let printed = engine.take_output();
        let errors = engine.take_errors();
        if !errors.is_empty() {
            output::warn(format_args!("{}", errors.trim_end()));
        }
        if keep {
            self.output.push_str(&printed);
            return Ok(());
        }
        output::raw(printed.as_bytes())
    }
}

fn check(file: &Path, common: &Common) -> Result<Status, Fault> {
    let program = Program::read(file)?;
    let engine = engine(common.timeout(), 1)?;
    let checked = engine.call(move |engine| {
        let loaded = engine.load_named(&program.name, &program.text);
        (loaded, engine.rules().len(), engine.take_errors())
    });
    let (loaded, rules, warnings) = checked.about("cannot check the program")?;
    let faults = match loaded {
        Ok(()) => Vec::new(),
        Err(EngineError::Parse(ParseErrors(faults))) => faults,
        Err(other) => return Err(explain(other)),
    };
    let status = if faults.is_empty() { Status::Done } else { Status::Failed };
    if common.json {
        let faults: Vec<_> = faults.iter().map(diagnostic).collect();
        output::json(&json!({"ok": status == Status::Done, "rules": rules, "faults": faults}))?;
        return Ok(status);
    }
    if !warnings.is_empty() {
        output::warn(format_args!("{}", warnings.trim_end()));
    }
    for fault in &faults {
        output::warn(format_args!("{fault}"));
    }
    if status == Status::Done {
        output::line(format_args!("{} is right: {rules} rules", file.display()))?;
    }
    Ok(status)
}

fn diagnostic(fault: &Diagnostic) -> Value {
    json!({
        "file": fault.file,
        "line": fault.line,
        "column": fault.column,
        "warning": fault.warning,
        "message": fault.message,
    })
}

fn engine(wall: Duration, seed: u64) -> Result<EngineThread, Fault> {
    let limits = Limits { wall, ..Limits::PROGRAM };
    let made = Worker::spawn("rules", move || {
        Ok::<_, std::convert::Infallible>(Engine::sandboxed(limits, seed))
    });
    made.map_err(|error| Fault::failed(format!("cannot start CLIPS: {error}")))
}

fn explain(error: EngineError) -> Fault {
    Fault::failed(error.to_string())
}

/// A program as text.
struct Program {
    name: String,
    text: String,
}

impl Program {
    fn read(path: &Path) -> Result<Self, Fault> {
        let name = path.display().to_string();
        let about = format!("cannot read {name}");
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).about(&about)?;
        file.take(PROGRAM_BYTES_MAX + 1).read_to_end(&mut bytes).about(&about)?;
        if bytes.len() as u64 > PROGRAM_BYTES_MAX {
            let limit = format!("{name} is larger than a program may be");
            return Err(Fault::failed(format!("{limit} ({PROGRAM_BYTES_MAX} bytes)")));
        }
        let text = String::from_utf8(bytes).about(format!("{name} is not UTF-8 text"))?;
        Ok(Self { name, text })
    }

    fn load(&self, engine: &mut Engine) -> Result<(), Fault> {
        engine.load_named(&self.name, &self.text).map_err(explain)
    }
}

/// Rows of a CSV file, to become facts.
struct Rows {
    name: String,
    template: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Rows {
    /// Reads `CSV` or `TEMPLATE=CSV`.
    fn read(given: &str) -> Result<Self, Fault> {
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
        let columns = reader.headers().about(&name)?.iter().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            // One more row than facts may exist is refused by the engine; no need to read on.
            if rows.len() > Limits::PROGRAM.facts {
                break;
            }
            rows.push(record.about(&name)?.iter().map(str::to_owned).collect());
        }
        Ok(Self { name, template, columns, rows })
    }

    fn assert(&self, engine: &mut Engine) -> Result<(), Fault> {
        let columns: Vec<_> = self.columns.iter().map(String::as_str).collect();
        let asserted = engine.assert_rows(&self.template, &columns, self.rows.iter().cloned());
        asserted.map(|_| ()).about(&self.name)
    }
}
