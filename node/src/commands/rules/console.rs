//! `cpe rules console`: the prompt of CLIPS, with history, completion and a Ctrl-C that stops the
//! run and not the program.

use std::borrow::Cow;
use std::path::PathBuf;

use cpe_rules::agent::{INSPECT, only_looks};
use cpe_rules::{AgentOptions, Engine, EngineError, HaltHandle, Kind, Limits, RuleAgent, Value};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{About, Fault, Status};
use crate::output;

const PROMPT: &str = "CLIPS> ";

/// Commands of history kept.
const HISTORY_MAX: usize = 1000;

/// Runs the prompt on an engine of its own, with the programs of `files` loaded.
///
/// Call it on a thread with a deep stack.
pub(super) fn local(sources: &[(String, String)]) -> Result<Status, Fault> {
    let mut engine = Engine::new(Limits::PROGRAM);
    for (name, text) in sources {
        if let Err(error) = engine.load_named(name, text) {
            output::warn(format_args!("{error}"));
        }
    }
    let _stop = on_interrupt(engine.halt_handle())?;
    let mut words = words(&mut engine);
    prompt(words.clone(), |line| {
        engine.halt_handle().clear();
        let done = match engine.command(line) {
            Ok(printed) => output::raw(printed.as_bytes()),
            Err(error @ EngineError::Spent(_)) => Err(Fault::failed(error.to_string())),
            Err(error) => {
                let printed = engine.take_output() + &engine.take_errors();
                output::raw(printed.as_bytes())?;
                output::warn(format_args!("{error}"));
                Ok(())
            }
        };
        if line.contains("(def") || line.contains("(load") {
            words = self::words(&mut engine);
        }
        done.map(|()| words.clone())
    })
}

/// Runs the prompt on a live agent's engine. Without `writes`: commands that look, and no others.
pub(super) fn live(
    writes: bool,
    mut ask: impl FnMut(Line<'_>) -> Result<String, Fault>,
) -> Result<Status, Fault> {
    let mut words = words_of_an_agent(|command| ask(Line::Looks(command)));
    if writes {
        words.extend(words_of_agents());
        words.sort();
        words.dedup();
    }
    prompt(words.clone(), |line| {
        let line = if writes && !only_looks(line) {
            Line::Does(line)
        } else {
            Line::Looks(line)
        };
        match ask(line) {
            Ok(printed) => output::raw(printed.as_bytes())?,
            Err(fault) => fault.report(),
        }
        Ok(words.clone())
    })
}

/// What was typed at the prompt of a live agent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'a> {
    /// It is to look at the engine.
    Looks(&'a str),
    /// It may change what is there, and rules fire afterwards.
    Does(&'a str),
}

/// Reads commands and does each, until `(exit)` or the end of the input.
fn prompt(
    words: Vec<String>,
    mut job: impl FnMut(&str) -> Result<Vec<String>, Fault>,
) -> Result<Status, Fault> {
    let config = Config::builder().max_history_size(HISTORY_MAX);
    let config = config.about("cannot keep a history")?.build();
    let editor: rustyline::Result<Editor<Words, FileHistory>> = Editor::with_config(config);
    let mut editor = editor.about("cannot use this terminal")?;
    editor.set_helper(Some(Words(words)));
    let history = history_file();
    if let Some(file) = &history {
        // None yet, or not to be read: the prompt works all the same.
        let _ = editor.load_history(file);
    }
    loop {
        match editor.readline(PROMPT) {
            Ok(line) if is_exit(&line) => break,
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                let _ = editor.add_history_entry(line.as_str());
                let words = job(&line)?;
                editor.set_helper(Some(Words(words)));
            }
            // Ctrl-C at the prompt gives up the line.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Fault::failed(format!("cannot read a line: {error}"))),
        }
    }
    if let Some(file) = &history {
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = editor.save_history(file);
    }
    Ok(Status::Done)
}

fn is_exit(line: &str) -> bool {
    let inner = line
        .trim()
        .strip_prefix('(')
        .and_then(|line| line.strip_suffix(')'));
    inner.is_some_and(|inner| inner.split_whitespace().next() == Some("exit"))
}

/// Where this user's history is, as the XDG conventions have it.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = state.filter(|path| path.is_absolute()).or_else(home)?;
    Some(state.join("cpe").join("rules_history"))
}

/// Stops the engine's call at Ctrl-C, until it is dropped.
fn on_interrupt(halt: HaltHandle) -> Result<tokio::runtime::Runtime, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .about("cannot listen for Ctrl-C")?;
    // Registered before the first command runs: until then Ctrl-C would end the program.
    let mut interrupts = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt()).about("cannot listen for Ctrl-C")?
    };
    runtime.spawn(async move {
        while interrupts.recv().await.is_some() {
            halt.halt();
        }
    });
    Ok(runtime)
}

/// What can be completed: functions, kinds of constructs, and the constructs there are.
fn words(engine: &mut Engine) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    if let Ok(Value::Multifield(functions)) = engine.eval("(get-function-list)") {
        words.extend(
            functions
                .iter()
                .filter_map(|name| name.text().map(str::to_owned)),
        );
    }
    for kind in Kind::ALL {
        words.push(kind.to_string());
        words.extend(engine.constructs(kind).into_iter().map(|one| one.name));
    }
    words.sort();
    words.dedup();
    words
}

/// What can be completed when looking into an agent: the commands that look, and its constructs.
fn words_of_an_agent(mut ask: impl FnMut(&str) -> Result<String, Fault>) -> Vec<String> {
    let commands = INSPECT;
    let mut words: Vec<String> = commands.iter().map(|word| (*word).to_owned()).collect();
    for list in commands.iter().filter(|name| name.starts_with("list-def")) {
        // An agent that does not answer now may answer at the prompt.
        let Ok(printed) = ask(&format!("({list})")) else {
            break;
        };
        words.extend(listed(&printed).map(str::to_owned));
    }
    words.sort();
    words.dedup();
    words
}

/// The functions that every agent has.
fn words_of_agents() -> Vec<String> {
    let agent = RuleAgent::new("", "", AgentOptions::default());
    // Completion is a convenience: without these the prompt works all the same.
    agent.map_or_else(|_| Vec::new(), |mut agent| words(agent.engine()))
}

/// The names in what a command of CLIPS lists: one a line, and a total in the end.
fn listed(printed: &str) -> impl Iterator<Item = &str> {
    let lines = printed.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.contains(char::is_whitespace))
}

/// Completes words, and asks for more lines while parentheses are open.
struct Words(Vec<String>);

impl Helper for Words {}
impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        Cow::Borrowed(line)
    }
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..at).unwrap_or_default();
        let start = before.rfind(|c: char| c.is_whitespace() || "()".contains(c));
        let start = start.map_or(0, |start| start + 1);
        let begun = before.get(start..).unwrap_or_default();
        if begun.is_empty() {
            return Ok((at, Vec::new()));
        }
        let fits = self.0.iter().filter(|word| word.starts_with(begun));
        Ok((start, fits.cloned().collect()))
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_open(context.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

/// Whether a command goes on in the next line: a parenthesis or a string is open.
fn is_open(text: &str) -> bool {
    let (mut depth, mut rest) = (0_usize, text.chars());
    while let Some(character) = rest.next() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ';' => drop(rest.by_ref().find(|c| *c == '\n')),
            '"' => loop {
                match rest.next() {
                    None => return true,
                    Some('\\') => drop(rest.next()),
                    Some('"') => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    depth > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_on_while_something_is_open() {
        for open in ["(defrule r", "(a \"(", "(a ; )\n", "\"x\\\""] {
            assert!(is_open(open), "{open}");
        }
        for whole in ["", "(a)", "(a \")(\")", "(a) ; (", "red", ")"] {
            assert!(!is_open(whole), "{whole}");
        }
        assert!(is_exit(" (exit) ") && is_exit("(exit 3)") && !is_exit("(exits)"));
    }

    #[test]
    fn the_constructs_of_a_live_agent_are_completed_too() {
        let words = words_of_an_agent(|command| {
            Ok(match command {
                "(list-defrules)" => "greet\nboiler-is-hot\nFor a total of 2 defrules.\n".into(),
                _ => String::new(),
            })
        });
        for word in ["boiler-is-hot", "greet", "matches"] {
            assert!(words.iter().any(|known| known == word), "{word}: {words:?}");
        }
        assert!(
            !words.iter().any(|word| word.contains("total")),
            "{words:?}"
        );
    }

    #[test]
    fn what_agents_can_do_is_completed_where_one_may_write() {
        let words = words_of_agents();
        for word in ["assert", "retract", "out", "subscribe"] {
            assert!(words.iter().any(|known| known == word), "{word}");
        }
        assert!(!words.iter().any(|word| word == "system"));
    }

    #[test]
    fn words_complete_functions_and_constructs() {
        let mut engine = Engine::new(Limits::AGENT);
        engine.load("(defrule boiler-is-hot => )").unwrap();
        let helper = Words(words(&mut engine));
        let history = FileHistory::new();
        let complete = |line: &str| helper.complete(line, line.len(), &Context::new(&history));
        assert_eq!(
            complete("(ppdefrule boil").unwrap(),
            (11, vec!["boiler-is-hot".to_owned()])
        );
        assert!(
            complete("(str-c")
                .unwrap()
                .1
                .contains(&"str-cat".to_owned())
        );
        assert_eq!(complete("(").unwrap().1, Vec::<String>::new());
    }
}
