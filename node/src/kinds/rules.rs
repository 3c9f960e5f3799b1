//! The kind `rules`: an actor whose behaviour is a CLIPS program.
//!
//! Arguments: `{"file": PATH}`, read on the node where the actor starts, or `{"source": TEXT}`; and
//! `{"seed": N}` for the program's random numbers. A file is the operator's own and its rules run
//! in this process, with limits. A source came with the message, over the mesh for all we know: its
//! rules run in a process of their own, which has nothing but two pipes.
//!
//! Messages become facts as `cpe_rules::RuleAgent` describes; what rules ask for is carried out
//! against this node's space and actors.
//!
//! The answer to a message is what a rule gives to `(reply ...)`. A rule may do so at once, or when
//! the answer to a request of its own has come: as long as such requests are open the message
//! waits, and later messages wait behind it.

mod driver;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use cpe::{ActorError, DynActor, DynContext, KindStart, NodeHandle, Value};
use cpe_rules::process::Agent;
use cpe_rules::{AgentOptions, ProcessAgent, ProcessCommand, RuleAgent, Worker};
use futures::future::BoxFuture;
use tokio_util::task::AbortOnDropHandle;

use crate::forest::model::Models;
use driver::{Driver, Inbox};

/// The argument that makes this program a worker for the rules of one agent.
pub(crate) const RULES_WORKER: &str = "rules-worker";

/// This program, also after its file was replaced by a newer one.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Bytes of a program at most, as the check of a source has it: a larger file is not even read.
const PROGRAM_BYTES_MAX: u64 = 1 << 20;

pub(super) struct RulesActor {
    inbox: Inbox,
    driver: Option<Driver>,
    running: Option<AbortOnDropHandle<()>>,
}

impl RulesActor {
    /// The actor that the arguments describe.
    pub(super) fn make(start: KindStart, models: Models) -> Result<Box<dyn DynActor>, ActorError> {
        let program = Program::of(&start.args)?;
        let options = options(&start.node, &program);
        let name = start.name.clone();
        // Milliseconds: a thread and an empty engine, or a small process. A program that takes
        // longer trips the agent's limit.
        let agent = Worker::spawn("rules", move || make(&name, program, options));
        let agent = Arc::new(agent.map_err(ActorError::refused)?);
        let (driver, inbox) = Driver::new(agent, start.name, start.node, models);
        Ok(Box::new(Self {
            inbox,
            driver: Some(driver),
            running: None,
        }))
    }
}

impl DynActor for RulesActor {
    fn started<'a>(&'a mut self, _: &'a mut DynContext) -> BoxFuture<'a, Result<(), ActorError>> {
        if let Some(driver) = self.driver.take() {
            self.running = Some(AbortOnDropHandle::new(tokio::spawn(driver.run())));
        }
        Box::pin(async { Ok(()) })
    }

    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            match self.inbox.deliver(message).await {
                Some(answer) => answer.map_err(ActorError::refused),
                None => Err(ActorError::failed("its rule engine has ended")),
            }
        })
    }
}

/// The agent, here or in a process of its own, on the thread that will own it.
fn make(name: &str, program: Program, options: AgentOptions) -> Result<Agent, String> {
    if !program.foreign {
        let agent = RuleAgent::new(name, &program.source, options);
        return agent.map(Agent::Here).map_err(|error| error.to_string());
    }
    let own = std::path::Path::new(THIS_PROGRAM);
    let path = if own.exists() {
        own.to_owned()
    } else {
        std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?
    };
    let command = ProcessCommand::new(path, [RULES_WORKER]);
    let agent = ProcessAgent::new(command, name, &program.source, options);
    let agent = agent.map_err(|error| error.to_string())?;
    let confinement = agent.confinement();
    if confinement.is_full() {
        tracing::debug!(actor = name, "its rules are {confinement}");
    } else {
        tracing::warn!(actor = name, "its rules are {confinement}");
    }
    Ok(Agent::Apart(agent))
}

fn options(node: &NodeHandle, program: &Program) -> AgentOptions {
    let mut options = AgentOptions::default();
    options.node = node.name().to_owned();
    options.file.clone_from(&program.file);
    options.seed = program.seed;
    options
}

/// What the arguments say.
#[derive(Debug)]
struct Program {
    file: String,
    source: String,
    seed: u64,
    /// Whether the source came with the message.
    foreign: bool,
}

impl Program {
    fn of(args: &Value) -> Result<Self, ActorError> {
        let text = |key: &str| args.as_map().and_then(|args| args.get(key)?.as_str());
        let seed = args.as_map().and_then(|args| args.get("seed")?.as_int());
        let seed = seed.map_or(0, i64::cast_unsigned);
        match (text("file"), text("source")) {
            (Some(file), None) => {
                let source = read(Path::new(file)).map_err(|error| {
                    ActorError::refused(format!("cannot read the program {file}: {error}"))
                })?;
                Ok(Self {
                    file: file.to_owned(),
                    source,
                    seed,
                    foreign: false,
                })
            }
            (None, Some(source)) => Ok(Self {
                file: "<rules>".to_owned(),
                source: source.to_owned(),
                seed,
                foreign: true,
            }),
            _ => Err(ActorError::refused(
                "rules need a program: {\"file\": PATH} or {\"source\": TEXT}",
            )),
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if file.take(PROGRAM_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > PROGRAM_BYTES_MAX {
        let limit = format!("it is larger than {PROGRAM_BYTES_MAX} bytes");
        return Err(std::io::Error::other(limit));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use cpe_tuple::json::parse_value;

    use super::*;

    #[test]
    fn arguments_name_a_file_or_hold_the_source() {
        let program =
            Program::of(&parse_value("{\"source\":\"(defrule r =>)\",\"seed\":7}").unwrap());
        let program = program.unwrap();
        assert_eq!(
            (program.source.as_str(), program.seed),
            ("(defrule r =>)", 7)
        );
        for args in [
            "null",
            "{}",
            "{\"file\":\"a\",\"source\":\"b\"}",
            "{\"file\":17}",
        ] {
            Program::of(&parse_value(args).unwrap()).unwrap_err();
        }
        let missing = Program::of(&parse_value("{\"file\":\"/nowhere.clp\"}").unwrap());
        assert!(missing.unwrap_err().reason().contains("/nowhere.clp"));
    }
}
