//! The kind `rules`: an actor whose behaviour is a CLIPS program.
//!
//! Arguments: `{"file": PATH}`, read on the node where the actor starts, or `{"source": TEXT}`; and
//! `{"seed": N}` for the program's random numbers. A file is the operator's own and its rules run
//! in this process, with limits; nobody else may name one: neither an actor nor another node. A
//! source came with the message, over the mesh for all we know: its rules run in a process of their
//! own, which has nothing but two pipes.
//!
//! Messages become facts as `cpe_rules::RuleAgent` describes; what rules ask for is carried out
//! against this node's space and actors.
//!
//! After a message the agent's whole memory is kept. An actor that starts again goes on from there:
//! no rule fires twice on the same facts, its subscriptions are made again, and its open requests
//! are answered `failed`.
//!
//! A durable agent commits its memory together with what it waits for and what is to be done,
//! before anybody sees what came of a message, a tuple or an answer: see `ledger` and `durable`.
//!
//! The answer to a message is what a rule gives to `(reply ...)`. A rule may do so at once, or when
//! the answer to a request of its own has come: as long as such requests are open the message
//! waits, and later messages wait behind it.

mod apart;
mod driver;
mod durable;
mod ledger;
mod log;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cpe::local::Origin;
use cpe::{ActorError, DynActor, DynContext, KindStart, NodeHandle, Value};
use cpe_rules::agent::{CONSOLE, message_kind};
use cpe_rules::process::Agent;
use cpe_rules::{AgentOptions, AgentSnapshot, ProcessAgent, ProcessCommand, RuleAgent, Worker};
use futures::future::BoxFuture;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_util::task::AbortOnDropHandle;

use crate::forest::model::Models;
use apart::Process;
pub(crate) use apart::Processes;
pub(super) use driver::now_ms;
use driver::{Driver, Inbox, Letter, Open};
use ledger::{Ledger, Own, Waker};

/// The argument that makes this program a worker for the rules of one agent.
pub(crate) const RULES_WORKER: &str = "rules-worker";

/// This program, also after its file was replaced by a newer one.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Bytes of a program at most, as the check of a source has it: a larger file is not even read.
const PROGRAM_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a snapshot up to which one is taken after each message: about two thousand facts, and
/// some milliseconds. A larger one is taken after each [`RARELY`]th.
const SNAPSHOT_OFTEN_BYTES: usize = 256 << 10;

/// Messages between two snapshots of an agent that knows much.
const RARELY: u32 = 64;

pub(super) struct RulesActor {
    program: Program,
    name: String,
    node: NodeHandle,
    models: Models,
    inbox: Inbox,
    driver: Option<Driver>,
    running: Option<AbortOnDropHandle<()>>,
    /// The latest snapshot, and messages since.
    kept: Option<Vec<u8>>,
    since: u32,
    /// Of a durable agent: the ledger as of the latest snapshot.
    ledger: Option<Vec<u8>>,
    /// Has a durable agent called.
    waker: Option<Waker>,
    /// Of one whose rules run in a process of their own. Dropped last.
    _process: Option<Process>,
}

/// Keys of a durable agent's snapshot: its memory, and what it has to do yet.
const MEMORY: &str = "memory";
const LEDGER: &str = "ledger";

impl RulesActor {
    /// The actor that the arguments describe.
    pub(super) fn make(
        start: KindStart,
        models: Models,
        processes: &Arc<Processes>,
    ) -> Result<Box<dyn DynActor>, ActorError> {
        let program = Program::of(&start.args, start.foreign)?;
        let (name, node) = (start.name, start.node);
        let process = program.foreign.then(|| processes.begin(&name));
        let process = process.transpose().map_err(ActorError::refused)?;
        let (driver, inbox) = begin(&program, &name, &node, &models, None)?;
        Ok(Box::new(Self {
            program,
            name,
            node,
            models,
            inbox,
            driver: Some(driver),
            running: None,
            kept: None,
            since: 0,
            ledger: None,
            waker: None,
            _process: process,
        }))
    }

    /// Goes on with a snapshot: the agent is built again, from it.
    fn go_on(&mut self, memory: &[u8], ledger: Option<Ledger>) -> Result<(), ActorError> {
        let read = AgentSnapshot::from_bytes(memory);
        let read = read.map_err(|error| ActorError::failed(error.to_string()))?;
        let (program, name) = (&self.program, &self.name);
        let (mut driver, inbox) = begin(program, name, &self.node, &self.models, Some(read))?;
        driver.ledger = ledger;
        (self.driver, self.inbox) = (Some(driver), inbox);
        Ok(())
    }

    /// Has a durable agent begin; it is called again to commit what came of that.
    async fn begin_durably(&mut self, waker: Waker) -> Result<(), ActorError> {
        let driver = self.driver.as_mut().ok_or_else(ended)?;
        driver.begin_durably(waker.clone()).await;
        waker.wake();
        self.waker = Some(waker);
        self.keep_durably().await
    }

    /// Handles one message of a durable agent. What its rules asked for goes with the commit that
    /// follows.
    async fn handle_durably(
        &mut self,
        message: Value,
        ctx: &mut DynContext,
    ) -> Result<Option<Value>, ActorError> {
        let (Some(driver), Some(waker)) = (&mut self.driver, &self.waker) else {
            return Err(ended());
        };
        driver.release().await;
        let answer = if Waker::is_call(&message, ctx.origin()) {
            waker.heard();
            driver.turn().await;
            Ok(None)
        } else if let Some(own) = Own::of(&message, ctx.origin()) {
            driver.in_turn(own).await;
            Ok(None)
        } else {
            match letter(message, ctx) {
                Ok(letter) => driver.answer(letter).await,
                Err(why) => Err(why),
            }
        };
        if driver.is_lost() {
            return Err(ended());
        }
        // Nothing is committed of a message that is refused: what waits goes with the next.
        if answer.is_ok() {
            driver.hand_over(ctx)?;
        }
        self.keep_durably().await?;
        answer.map_err(ActorError::refused)
    }

    /// Takes the snapshot that is committed next.
    async fn keep_durably(&mut self) -> Result<(), ActorError> {
        let driver = self.driver.as_ref().ok_or_else(ended)?;
        let memory = driver.memory().await;
        let ledger = driver.ledger.as_ref().and_then(Ledger::to_bytes);
        let (Some(memory), Some(ledger)) = (memory, ledger) else {
            let why = "its facts, or what it has to do yet, are too many to be kept";
            return Err(ActorError::failed(why));
        };
        if driver.is_due() {
            driver.wake();
        }
        (self.kept, self.ledger) = (Some(memory), Some(ledger));
        Ok(())
    }

    /// Takes a snapshot where it is time for one.
    async fn keep(&mut self, ctx: &mut DynContext) {
        self.since += 1;
        let large = |kept: &Vec<u8>| kept.len() > SNAPSHOT_OFTEN_BYTES;
        if self.since < RARELY && self.kept.as_ref().is_some_and(large) {
            return;
        }
        if let Some(bytes) = self.inbox.snapshot().await {
            self.kept = Some(bytes);
            self.since = 0;
            ctx.save_snapshot();
        }
    }
}

impl DynActor for RulesActor {
    fn started<'a>(&'a mut self, ctx: &'a mut DynContext) -> BoxFuture<'a, Result<(), ActorError>> {
        if ctx.is_durable() {
            return Box::pin(self.begin_durably(Waker::new(ctx.address())));
        }
        if let Some(driver) = self.driver.take() {
            self.running = Some(AbortOnDropHandle::new(tokio::spawn(driver.run())));
        }
        Box::pin(async { Ok(()) })
    }

    fn handle<'a>(
        &'a mut self,
        message: Value,
        ctx: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        if self.waker.is_some() {
            return Box::pin(self.handle_durably(message, ctx));
        }
        Box::pin(async move {
            let letter = letter(message, ctx).map_err(ActorError::refused)?;
            let answer = self.inbox.deliver(letter).await;
            self.keep(ctx).await;
            match answer {
                Some(answer) => answer.map_err(ActorError::refused),
                None => Err(ended()),
            }
        })
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        let Some(memory) = self.kept.clone().map(Value::Bytes) else {
            return Ok(None);
        };
        Ok(Some(match &self.ledger {
            None => memory,
            Some(ledger) => {
                let ledger = Value::Bytes(ledger.clone());
                let both = [(MEMORY.to_owned(), memory), (LEDGER.to_owned(), ledger)];
                Value::Map(both.into())
            }
        }))
    }

    fn restore(&mut self, snapshot: Value) -> Result<(), ActorError> {
        let bytes = |key: &str| match snapshot.as_map()?.get(key)? {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        };
        match (&snapshot, bytes(MEMORY), bytes(LEDGER)) {
            (Value::Bytes(memory), ..) => self.go_on(memory, None),
            (_, Some(memory), Some(ledger)) => {
                let ledger = Ledger::from_bytes(ledger);
                let ledger = ledger.map_err(|error| ActorError::failed(error.to_string()))?;
                self.go_on(memory, Some(ledger))
            }
            _ => Err(ActorError::failed("its snapshot is none of rules")),
        }
    }
}

/// A message for the rules, or a question about them.
///
/// # Errors
/// Why it is for neither: what an agent's host and the agent itself tell it has a form that others
/// must not use, and questions are for people.
fn letter(value: Value, ctx: &DynContext) -> Result<Letter, String> {
    let from = match ctx.origin() {
        Origin::Actor(name) => name.to_string(),
        Origin::Itself => ctx.label(),
        _ => String::new(),
    };
    let kind = message_kind(&value);
    if kind.starts_with(CONSOLE) {
        if kind != CONSOLE {
            return Err(format!(
                "messages of a kind like {kind} are the agent's own"
            ));
        }
        if !from.is_empty() {
            return Err(format!(
                "messages of kind {CONSOLE} are for people, not for actors"
            ));
        }
        if !driver::is_question(&value) {
            let known = "\"trace\", {\"inspect\": COMMAND} or {\"do\": COMMAND}";
            return Err(format!("a message of kind {CONSOLE} is {known}"));
        }
    }
    let asked = ctx.is_asked();
    Ok(Letter { value, from, asked })
}

fn ended() -> ActorError {
    ActorError::failed("its rule engine has ended")
}

/// An agent's driver and inbox; from a snapshot, one that goes on where it was taken.
fn begin(
    program: &Program,
    name: &str,
    node: &NodeHandle,
    models: &Models,
    snapshot: Option<AgentSnapshot>,
) -> Result<(Driver, Inbox), ActorError> {
    let open = snapshot.as_ref().map(Open::of).unwrap_or_default();
    let options = options(node, program);
    let (owned, called) = (program.clone(), name.to_owned());
    // Milliseconds for a decent program: a thread and an engine, or a small process. One that
    // computes while it is loaded takes until it trips the agent's limit.
    let agent = aside(|| {
        Worker::spawn("rules", move || {
            make(&called, &owned, options, snapshot.as_ref())
        })
    });
    let agent = Arc::new(agent.map_err(ActorError::refused)?);
    Ok(Driver::new(
        agent,
        name.to_owned(),
        node.clone(),
        models.clone(),
        open,
    ))
}

/// Does what blocks without the tasks of others waiting for this thread.
fn aside<T>(job: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(job),
        // No runtime, or one that has no other thread to go on with.
        _ => job(),
    }
}

/// The agent, here or in a process of its own, on the thread that will own it.
fn make(
    name: &str,
    program: &Program,
    options: AgentOptions,
    snapshot: Option<&AgentSnapshot>,
) -> Result<Agent, String> {
    let source = &program.source;
    if !program.foreign {
        let agent = match snapshot {
            None => RuleAgent::new(name, source, options).map(|agent| (agent, Vec::new())),
            Some(snapshot) => RuleAgent::restore(name, source, options, snapshot),
        };
        let (agent, lost) = agent.map_err(|error| error.to_string())?;
        for one in lost {
            tracing::warn!(actor = name, "{one}");
        }
        return Ok(Agent::Here(agent));
    }
    let command = rules_worker()?;
    let agent = match snapshot {
        None => ProcessAgent::new(command, name, source, options).map(|agent| (agent, Vec::new())),
        Some(snapshot) => ProcessAgent::restore(command, name, source, options, snapshot),
    };
    let (agent, lost) = agent.map_err(|error| error.to_string())?;
    for one in lost {
        tracing::warn!(actor = name, "{one}");
    }
    let confinement = agent.confinement();
    if confinement.is_full() {
        tracing::debug!(actor = name, "its rules are {confinement}");
    } else {
        tracing::warn!(actor = name, "its rules are {confinement}");
    }
    Ok(Agent::Apart(agent))
}

/// How a process for rules is started: this program, which is told to be one.
///
/// # Errors
/// When this program is not found.
pub(crate) fn rules_worker() -> Result<ProcessCommand, String> {
    Ok(ProcessCommand::new(this_program()?, [RULES_WORKER]))
}

/// Where this program is.
///
/// # Errors
/// When it is not found.
pub(crate) fn this_program() -> Result<PathBuf, String> {
    let own = Path::new(THIS_PROGRAM);
    if own.exists() {
        return Ok(own.to_owned());
    }
    std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))
}

fn options(node: &NodeHandle, program: &Program) -> AgentOptions {
    let mut options = AgentOptions::default();
    options.node = node.name().to_owned();
    options.file.clone_from(&program.file);
    options.seed = program.seed;
    options
}

/// What the arguments say.
#[derive(Clone, Debug)]
struct Program {
    file: String,
    source: String,
    seed: u64,
    /// Whether the source came with the message.
    foreign: bool,
}

impl Program {
    /// `foreign` is who asked for it: nobody of this node's own.
    fn of(args: &Value, foreign: bool) -> Result<Self, ActorError> {
        let text = |key: &str| args.as_map().and_then(|args| args.get(key)?.as_str());
        let seed = args.as_map().and_then(|args| args.get("seed")?.as_int());
        let seed = seed.map_or(0, i64::cast_unsigned);
        match (text("file"), text("source")) {
            (Some(_), None) if foreign => Err(ActorError::refused(
                "only the people of a node have it read a file: send the program itself, as \
                 {\"source\": TEXT}",
            )),
            (Some(file), None) => {
                let source = aside(|| read_at_once(Path::new(file))).map_err(|error| {
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

/// Reads a program from a file proper: nothing that could keep whoever reads it waiting, as a pipe
/// or a terminal.
fn read_at_once(path: &Path) -> std::io::Result<String> {
    use rustix::fs::{Mode, OFlags, open};

    // Opening a pipe would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    bounded(file)
}

/// Reads a program, if it is not larger than one may be.
///
/// # Errors
/// When it is, or cannot be read.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    bounded(std::fs::File::open(path)?)
}

fn bounded(file: std::fs::File) -> std::io::Result<String> {
    let mut text = String::new();
    if file.take(PROGRAM_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > PROGRAM_BYTES_MAX {
        let limit = format!("it is larger than {PROGRAM_BYTES_MAX} bytes");
        return Err(std::io::Error::other(limit));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cpe::Node;
    use cpe_tuple::json::parse_value;

    use super::*;

    const COUNT: &str = "(deffacts start (total 0))
        (defrule begin => (subscribe jobs \"job\" :int))
        (defrule wait (message (kind wait)) => (assert (waiting (find never comes))))
        (defrule gave-up ?w <- (waiting ?r) (answer (request ?r) (status failed)) =>
          (retract ?w) (assert (given-up)))
        (defrule add ?t <- (total ?n) ?m <- (message (kind add) (body ?k)) =>
          (retract ?t ?m) (assert (total (+ ?n ?k))))
        (defrule job ?t <- (total ?n) ?j <- (tuple (fields ? ?k)) =>
          (retract ?t ?j) (assert (total (+ ?n ?k))))
        (defrule total (message (kind total)) (total ?n) => (reply ?n))
        (defrule gone (message (kind gone)) (given-up) => (reply TRUE))";

    async fn told(inbox: &Inbox, message: &str) -> Value {
        let letter = Letter {
            value: parse_value(message).unwrap(),
            from: String::new(),
            asked: true,
        };
        let answer = inbox.deliver(letter).await;
        answer.unwrap().unwrap().unwrap_or_default()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_agent_that_starts_again_goes_on_from_its_snapshot() {
        let node = Node::builder().ephemeral().start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("count.clp");
        std::fs::write(&file, COUNT).unwrap();
        let args = Value::Map([("file".to_owned(), file.to_str().unwrap().into())].into());
        let program = Program::of(&args, false).unwrap();
        let (handle, models) = (node.handle(), Models::default());
        let (driver, inbox) = begin(&program, "a", &handle, &models, None).unwrap();
        let first = AbortOnDropHandle::new(tokio::spawn(driver.run()));
        told(&inbox, "{\"add\":5}").await;
        told(&inbox, "\"wait\"").await;
        let bytes = inbox.snapshot().await.unwrap();
        drop((first, inbox));

        let snapshot = AgentSnapshot::from_bytes(&bytes).unwrap();
        let begun = begin(&program, "a", &handle, &models, Some(snapshot));
        let (driver, inbox) = begun.unwrap();
        let _second = AbortOnDropHandle::new(tokio::spawn(driver.run()));
        assert_eq!(told(&inbox, "\"total\"").await, Value::Int(5));
        assert_eq!(
            told(&inbox, "\"gone\"").await,
            Value::Bool(true),
            "its request failed"
        );
        // Its subscription was made again, by the same number.
        let space = node.space();
        let within = async {
            // A subscription begins some time after it is asked for.
            while told(&inbox, "\"total\"").await == Value::Int(5) {
                space.store("jobs", "job", Value::Int(20)).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), within)
            .await
            .unwrap();
        node.shutdown(Duration::from_secs(10)).await.unwrap();
    }

    #[test]
    fn arguments_name_a_file_or_hold_the_source() {
        let of = |args: &str, foreign| Program::of(&parse_value(args).unwrap(), foreign);
        let program = of("{\"source\":\"(defrule r =>)\",\"seed\":7}", true).unwrap();
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
            of(args, false).unwrap_err();
        }
        let missing = of("{\"file\":\"/nowhere.clp\"}", false).unwrap_err();
        assert!(missing.reason().contains("/nowhere.clp"));
        let foreign = of("{\"file\":\"/nowhere.clp\"}", true).unwrap_err();
        assert!(foreign.reason().contains("people of a node"), "{foreign:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_is_read_from_a_file_that_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/null"), folder.path()] {
            let refused = read_at_once(path).unwrap_err().to_string();
            assert!(refused.contains("no regular file"), "{path:?}: {refused}");
        }
        let file = folder.path().join("x.clp");
        std::fs::write(&file, "(defrule r =>)").unwrap();
        assert_eq!(read_at_once(&file).unwrap(), "(defrule r =>)");
        std::fs::write(&file, " ".repeat((1 << 20) + 1)).unwrap();
        assert!(
            read_at_once(&file)
                .unwrap_err()
                .to_string()
                .contains("larger")
        );
    }
}
