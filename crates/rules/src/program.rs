//! A rule program at the command line: check it, or run it to its end.

use crate::agent::AgentOptions;
use crate::engine::{Engine, Fact, RowError};
use crate::error::{Diagnostic, EngineError, ParseErrors};
use crate::limits::{HaltHandle, Limits};
use crate::process::{ProcessAgent, ProcessCommand, ProcessError};
use crate::trace::{Recorder, Trace};
use crate::vet::{VetLimits, vet};

/// Rules fired between two reports of progress.
const SLICE: u64 = 1000;

/// Facts of a table, given to a program before it runs.
#[derive(Clone, Debug)]
pub struct Table {
    /// The template of its facts.
    pub template: String,
    /// Slots, by column.
    pub columns: Vec<String>,
    /// Cells, by row and column. See [`Engine::assert_rows`].
    pub rows: Vec<Vec<String>>,
}

/// How to run a program.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// What errors call the program.
    pub file: String,
    /// Limits of the whole run, its wall time included.
    pub limits: Limits,
    /// Rules to fire at most.
    pub firings: Option<u64>,
    /// Seed of `(random)`.
    pub seed: u64,
    /// What `(time)` says, in milliseconds.
    pub now_ms: i64,
    /// Tables to assert before.
    pub tables: Vec<Table>,
    /// Whether to keep which rules fired on which facts.
    pub record: bool,
    /// Stops the run from outside, by Ctrl-C for one.
    pub halt: HaltHandle,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            file: "<text>".to_owned(),
            limits: Limits::PROGRAM,
            firings: None,
            seed: 0,
            now_ms: 0,
            tables: Vec::new(),
            record: false,
            halt: HaltHandle::new(),
        }
    }
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// Rules fired.
    pub fired: u64,
    /// Facts that exist.
    pub facts: usize,
    /// What was printed since the last report.
    pub output: &'a str,
    /// Errors and warnings printed since the last report.
    pub errors: &'a str,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunReport {
    /// Rules fired.
    pub fired: u64,
    /// The facts left.
    pub facts: Vec<Fact>,
    /// Whether it ended because [`RunOptions::firings`] were reached with rules left to fire.
    pub limited: bool,
    /// Warnings of loading.
    pub warnings: Vec<Diagnostic>,
    /// The latest firings, where [`RunOptions::record`] asked for them.
    pub trace: Option<Trace>,
}

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// It did not load: [`EngineError::Parse`] with the places. Nothing ran.
    #[error("{0}")]
    Load(EngineError),
    /// A table does not fit. Nothing ran.
    #[error("table for `{template}`: {error}")]
    Table {
        /// The template.
        template: String,
        /// What is wrong.
        error: RowError,
    },
    /// A rule failed, or a limit was hit.
    #[error("after {fired} rules: {error}")]
    Run {
        /// Rules fired before.
        fired: u64,
        /// What happened.
        error: EngineError,
    },
}

/// Vet and parse a program as an agent's engine would, without running it: faults and warnings in
/// the order of their lines, none if it is well.
///
/// Functions that only agents have are known, so that an agent's source can be checked.
#[must_use]
pub fn check(file: &str, text: &str) -> Vec<Diagnostic> {
    let mut engine = Engine::sandboxed(Limits::AGENT, 0);
    let whole = |message: String| Diagnostic {
        file: file.to_owned(),
        line: 0,
        column: None,
        warning: false,
        message,
    };
    if let Err(error) = crate::agent::prepare(&mut engine) {
        return vec![whole(error.to_string())];
    }
    let (loaded, mut found) = engine.load_reporting(file, text);
    match loaded {
        Ok(()) => {}
        Err(EngineError::Parse(ParseErrors(errors))) => found.extend(errors),
        Err(error) => found.push(whole(error.to_string())),
    }
    found.sort_by_key(|diagnostic| diagnostic.line);
    found
}

/// As [`check`], for a text that may end whoever reads it: an agent's process of its own loads it
/// first, and is ended when it takes too long.
///
/// # Errors
/// When there can be no such process.
pub fn check_apart(
    command: ProcessCommand,
    file: &str,
    text: &str,
) -> Result<Vec<Diagnostic>, ProcessError> {
    if vet(file, text, &VetLimits::default()).is_err() {
        return Ok(check(file, text));
    }
    let options = AgentOptions {
        file: file.to_owned(),
        ..AgentOptions::default()
    };
    match ProcessAgent::new(command, "check", text, options) {
        Err(ProcessError::Died(trip)) => Ok(vec![Diagnostic {
            file: file.to_owned(),
            line: 0,
            column: None,
            warning: false,
            message: ProcessError::Died(trip).to_string(),
        }]),
        Err(ProcessError::Source(_)) | Ok(_) => Ok(check(file, text)),
        Err(error) => Err(error),
    }
}

/// Run a program until no rule is left to fire, reporting to `progress` every thousand firings
/// and at the end.
///
/// The program is sandboxed. Call it on a thread with a deep stack where recursion matters.
///
/// ```
/// let text = "(deffacts d (n 3)) (defrule down ?f <- (n ?x&:(> ?x 0)) =>
///               (retract ?f) (printout t ?x crlf) (assert (n (- ?x 1))))";
/// let mut printed = String::new();
/// let report = cpe_rules::run(text, &Default::default(), |p| printed.push_str(p.output))?;
/// assert_eq!((report.fired, printed.as_str()), (3, "3\n2\n1\n"));
/// assert_eq!(report.facts[0].to_string(), "(n 0)");
/// # Ok::<(), cpe_rules::ProgramError>(())
/// ```
///
/// # Errors
/// [`ProgramError`]; what was printed until then has been reported.
pub fn run(
    text: &str,
    options: &RunOptions,
    mut progress: impl FnMut(&Progress<'_>),
) -> Result<RunReport, ProgramError> {
    let mut engine = Engine::sandboxed_with(options.limits, options.seed, options.halt.clone());
    engine.set_time_ms(options.now_ms);
    let recorder = options.record.then(|| Recorder::attach(&mut engine));
    engine.within(|engine| {
        let (loaded, warnings) = engine.load_reporting(&options.file, text);
        loaded.map_err(ProgramError::Load)?;
        engine
            .reset()
            .map_err(|error| ProgramError::Run { fired: 0, error })?;
        for table in &options.tables {
            let columns: Vec<_> = table.columns.iter().map(String::as_str).collect();
            let asserted =
                engine.assert_rows(&table.template, &columns, table.rows.iter().cloned());
            asserted.map_err(|error| {
                let template = table.template.clone();
                ProgramError::Table { template, error }
            })?;
        }
        let (fired, outcome) = fire(engine, options.firings, &mut progress);
        outcome.map_err(|error| ProgramError::Run { fired, error })?;
        let limited = options.firings == Some(fired) && !engine.is_quiet();
        Ok(RunReport {
            fired,
            facts: engine.facts(),
            limited,
            warnings,
            trace: recorder.map(|recorder| recorder.trace()),
        })
    })
}

fn fire(
    engine: &mut Engine,
    limit: Option<u64>,
    progress: &mut impl FnMut(&Progress<'_>),
) -> (u64, Result<(), EngineError>) {
    let mut fired = 0;
    loop {
        let slice = limit.map_or(SLICE, |limit| SLICE.min(limit - fired));
        let outcome = engine.run(Some(slice));
        fired += match &outcome {
            Ok(fired) | Err(EngineError::Evaluation { fired, .. }) => *fired,
            Err(_) => 0,
        };
        let (output, errors) = (engine.take_output(), engine.take_errors());
        let facts = engine.fact_count();
        progress(&Progress {
            fired,
            facts,
            output: &output,
            errors: &errors,
        });
        match outcome {
            Ok(now) if now == slice && limit != Some(fired) => {}
            Ok(_) => return (fired, Ok(())),
            Err(error) => return (fired, Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(text: &str, options: &RunOptions) -> Result<RunReport, ProgramError> {
        run(text, options, |_| ())
    }

    #[test]
    fn check_names_file_line_and_fault_and_is_silent_otherwise() {
        assert_eq!(check("a.clp", "(defrule r (a ?x) => (reply ?x))"), []);
        let found = check(
            "a.clp",
            "(deftemplate t (slot a))\n(defrule r (t (b 1)) => )",
        );
        assert_eq!((found.len(), found[0].line), (1, 2));
        let vetted = check(
            "a.clp",
            &format!("\n(deftemplate t (slot {}))", "s".repeat(60)),
        );
        assert_eq!((vetted[0].line, vetted[0].column), (2, Some(22)));
        assert!(
            check("a.clp", "(defglobal ?*x* = (while TRUE do))")[0]
                .message
                .contains("dead")
        );
    }

    #[test]
    fn a_table_is_asserted_before_the_run() {
        let table = Table {
            template: "p".into(),
            columns: vec!["n".into()],
            rows: vec![vec!["1".into()], vec!["2".into()]],
        };
        let options = RunOptions {
            tables: vec![table],
            ..RunOptions::default()
        };
        let text = "(deftemplate p (slot n)) (defrule r (p (n ?n)) => (assert (seen ?n)))";
        let report = quiet(text, &options).unwrap();
        assert_eq!(
            (report.fired, report.facts.len(), report.limited),
            (2, 4, false)
        );
        assert!(matches!(
            quiet("", &options),
            Err(ProgramError::Table { .. })
        ));
    }

    #[test]
    fn a_run_reports_in_slices_and_stops_at_its_limit() {
        let text =
            "(deffacts d (n 0)) (defrule r ?f <- (n ?x) => (retract ?f) (assert (n (+ ?x 1))))";
        let options = RunOptions {
            firings: Some(2500),
            ..RunOptions::default()
        };
        let mut seen = Vec::new();
        let report = run(text, &options, |progress| seen.push(progress.fired)).unwrap();
        assert_eq!(
            (seen, report.fired, report.limited),
            (vec![1000, 2000, 2500], 2500, true)
        );
    }

    #[test]
    fn a_failing_rule_and_an_endless_one_say_after_how_many() {
        let text = "(deffacts d (a) (b)) (defrule r (declare (salience 1)) (a) => )
                    (defrule bad (b) => (/ 1 0))";
        let error = quiet(text, &RunOptions::default()).unwrap_err().to_string();
        assert!(
            error.starts_with("after 2 rules: evaluation failed: [PRNTUTIL7]"),
            "{error}"
        );
        let limits = Limits {
            wall: std::time::Duration::from_millis(200),
            ..Limits::PROGRAM
        };
        let options = RunOptions {
            limits,
            ..RunOptions::default()
        };
        let error = quiet("(defrule r => (while TRUE do))", &options)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "after 0 rules: stopped by the deadline: [PRCCODE4] Execution halted \
            during the actions of defrule 'r'."
        );
    }
}
