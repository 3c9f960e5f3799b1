//! CLIPS functions over many values: called in confined processes, which are kept for the next.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cpe::Value;
use cpe_rules::{AgentOptions, Engine, Halt as _, HaltHandle, Kind, Limits, ProcessAgent, Worker};
use serde::{Deserialize, Serialize};

use super::program::Ran;
use crate::kinds;

/// What a node that calls functions for others says of itself.
pub(crate) const CAPABILITY: &str = "function:clips";

/// A function to be mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Function {
    /// Its name: one that the source defines, or one of CLIPS.
    pub(crate) name: String,
    /// The program that has it.
    pub(crate) source: String,
    /// What errors call the program.
    pub(crate) file: String,
    /// Whether a line is a text, and the argument. Otherwise it is JSON: a list has the arguments,
    /// anything else is the argument.
    pub(crate) text: bool,
}

impl Function {
    /// Loads the program and looks for the function, as nodes will.
    ///
    /// # Errors
    /// What is wrong with it, with file and line.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (name, source, file) = (self.name.clone(), self.source.clone(), self.file.clone());
        // On a deep stack, as everywhere.
        let engine = Worker::spawn("rules", move || {
            let mut options = AgentOptions::default();
            options.file = file;
            let mut agent = cpe_rules::RuleAgent::new("map", &source, options)
                .map_err(|error| error.to_string())?;
            if has(agent.engine(), &name) {
                return Ok(Engine::sandboxed(Limits::AGENT, 0));
            }
            Err(format!("it defines no function `{name}`"))
        });
        engine.map(drop).map_err(|error| error.to_string())
    }

    /// The arguments that a line stands for.
    fn arguments(&self, line: &[u8]) -> Result<Vec<Value>, String> {
        let text = std::str::from_utf8(line).map_err(|_| "the line is no UTF-8 text")?;
        if self.text {
            return Ok(vec![Value::from(text)]);
        }
        match cpe_tuple::json::parse_value(text) {
            Ok(Value::List(arguments)) => Ok(arguments),
            Ok(argument) => Ok(vec![argument]),
            Err(error) => Err(format!(
                "the line is no JSON ({error}); --text takes lines as texts"
            )),
        }
    }
}

fn has(engine: &mut Engine, name: &str) -> bool {
    engine.has(Kind::Function, name) || engine.has(Kind::Generic, name)
}

/// Processes in which the function of one job is called.
#[derive(Debug)]
pub(crate) struct Functions {
    function: Arc<Function>,
    options: AgentOptions,
    idle: Arc<Mutex<Vec<ProcessAgent>>>,
}

impl Functions {
    /// None is started before the first call.
    pub(crate) fn new(function: &Function, within: Duration, memory: Option<u64>) -> Self {
        let mut options = AgentOptions::default();
        options.limits.wall = within;
        if let Some(memory) = memory {
            options.limits.memory_bytes = usize::try_from(memory).unwrap_or(usize::MAX);
        }
        options.file.clone_from(&function.file);
        Self {
            function: Arc::new(function.clone()),
            options,
            idle: Arc::default(),
        }
    }

    /// Calls the function for a line.
    ///
    /// # Cancel safety
    /// Dropped before, the call is ended, and its process with it.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a call took is real time"
    )]
    pub(crate) async fn call(&self, line: &[u8]) -> Ran {
        let began = std::time::Instant::now();
        let mut ran = match self.function.arguments(line) {
            Ok(arguments) => self.called(arguments).await,
            Err(why) => failed(why),
        };
        ran.took = began.elapsed();
        ran
    }

    async fn called(&self, arguments: Vec<Value>) -> Ran {
        let kept = self.lock().pop();
        let agent = match kept {
            Some(agent) => Ok(agent),
            None => self.start().await,
        };
        let mut agent = match agent {
            Ok(agent) => agent,
            Err(why) => return failed(why),
        };
        let ending = Ending(Some(agent.halt_handle()));
        let (function, idle) = (Arc::clone(&self.function), Arc::clone(&self.idle));
        let calling = tokio::task::spawn_blocking(move || {
            let called = agent.call(&function.name, arguments, kinds::now_ms());
            let printed = agent.take_output();
            // Nobody waits: the job is over.
            if !agent.halt_handle().is_halted() {
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.push(agent);
            }
            (called, printed)
        });
        let ended = calling.await;
        ending.not_needed();
        match ended {
            Ok((Ok(value), printed)) => returned(value, printed),
            Ok((Err(error), printed)) => Ran {
                err: printed.into_bytes(),
                ..failed(error.to_string())
            },
            Err(error) => failed(error.to_string()),
        }
    }

    async fn start(&self) -> Result<ProcessAgent, String> {
        let (function, options) = (Arc::clone(&self.function), self.options.clone());
        let starting = tokio::task::spawn_blocking(move || {
            let command = kinds::rules_worker()?;
            ProcessAgent::new(command, "map", &function.source, options)
                .map_err(|error| error.to_string())
        });
        starting.await.map_err(|error| error.to_string())?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ProcessAgent>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the call that runs when it is dropped.
struct Ending(Option<HaltHandle>);

impl Ending {
    fn not_needed(mut self) {
        self.0 = None;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(halt) = &self.0 {
            halt.halt();
        }
    }
}

fn failed(why: String) -> Ran {
    Ran {
        why: Some(why),
        ..Ran::default()
    }
}

/// What a function returned: a text as it is, anything else as JSON.
fn returned(value: Value, printed: String) -> Ran {
    let text = match value.as_str().or_else(|| value.as_symbol()) {
        Some(text) => text.to_owned(),
        None => cpe_tuple::json::value_to_json(&value).to_string(),
    };
    Ran {
        code: Some(0),
        out: format!("{text}\n").into_bytes(),
        err: printed.into_bytes(),
        value: Some(value),
        ..Ran::default()
    }
}

/// Reads a program to send along.
///
/// # Errors
/// When it cannot be read, or is larger than a program may be.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    kinds::read_program(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, text: bool) -> Function {
        Function {
            name: name.to_owned(),
            source: "(deffunction twice (?x) (* 2 ?x))".to_owned(),
            file: "f.clp".to_owned(),
            text,
        }
    }

    #[test]
    fn a_line_is_json_or_a_text() {
        let json = |line: &str| function("twice", false).arguments(line.as_bytes());
        assert_eq!(json("7"), Ok(vec![Value::Int(7)]));
        assert_eq!(json("\"a b\""), Ok(vec![Value::from("a b")]));
        assert_eq!(json("[1, [2]]").unwrap().len(), 2);
        assert_eq!(json("[]"), Ok(Vec::new()));
        assert!(json("a b").unwrap_err().contains("--text"));
        let text = function("twice", true).arguments(b"7");
        assert_eq!(text, Ok(vec![Value::from("7")]));
        function("twice", true).arguments(b"\xff").unwrap_err();
    }

    #[test]
    fn a_program_is_checked_before_it_is_sent() {
        assert_eq!(function("twice", false).check(), Ok(()));
        let none = function("thrice", false).check().unwrap_err();
        assert!(none.contains("no function `thrice`"), "{none}");
        let mut wrong = function("twice", false);
        wrong.source = "(deffunction twice (?x)".to_owned();
        let said = wrong.check().unwrap_err();
        assert!(said.contains("f.clp"), "{said}");
    }
}
