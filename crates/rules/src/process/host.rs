//! The node's side: starts the worker, talks to it, and starts it again when it dies.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use cpe_tuple::Value as Datum;

use super::Confinement;
use super::protocol::{self, Begin, Failure, Request, Response};
use super::serve::{BROKEN, NO_MEMORY};
use crate::agent::{AgentError, AgentOptions, AgentSnapshot, Delivery, Effect, RuleAgent};
use crate::limits::{HaltHandle, Trip};
use crate::trace::Trace;
use crate::worker::Halt;

/// Deliveries between two snapshots: as many are delivered again, at most, when a worker dies.
const JOURNAL_MAX: usize = 64;

/// How long a worker may take beyond the wall time of its limits, before it is ended: the limit
/// inside is the one that leaves it alive.
const GRACE: Duration = Duration::from_millis(500);

/// How long a worker may take to start, beyond the wall time of its limits.
const START_WITHIN: Duration = Duration::from_secs(10);

/// How often to look whether somebody wants the call stopped.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a worker is started: a program, and the arguments that make it call
/// [`serve`](super::serve).
#[derive(Clone, Debug)]
pub struct ProcessCommand {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl ProcessCommand {
    /// A program and its arguments.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
        }
    }
}

/// Why an agent has no process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The program could not be started.
    #[error("cannot start a process for the rules: {0}")]
    Start(std::io::Error),
    /// The source is faulty: what an agent in this process would say.
    #[error("{0}")]
    Source(String),
    /// The process ended, or had to be ended, before it was ready.
    #[error("the rules ended their process while they were loaded: {0}")]
    Died(Trip),
}

/// A [`RuleAgent`] in a process of its own. Blocks while the other process works: give it a thread
/// ([`Worker`](crate::Worker)).
pub struct ProcessAgent {
    command: ProcessCommand,
    name: String,
    source: String,
    options: AgentOptions,
    halt: HaltHandle,
    running: Option<Running>,
    confinement: Confinement,
    snapshot: Option<Vec<u8>>,
    /// What was delivered since.
    journal: Vec<(Delivery, i64)>,
    printed: String,
    deaths: u64,
}

impl fmt::Debug for ProcessAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessAgent")
            .field("name", &self.name)
            .field("process", &self.running.as_ref().map(|r| r.child.id()))
            .field("deaths", &self.deaths)
            .finish_non_exhaustive()
    }
}

impl Halt for ProcessAgent {
    fn halt_handle(&self) -> HaltHandle {
        self.halt.clone()
    }
}

/// A process that lives.
struct Running {
    child: Child,
    input: ChildStdin,
    responses: Receiver<Response>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended; either way it is waited for, so that none is left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ProcessAgent {
    /// Start a process with an agent. See [`RuleAgent::new`].
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn new(
        command: ProcessCommand,
        name: &str,
        source: &str,
        options: AgentOptions,
    ) -> Result<Self, ProcessError> {
        Self::start(command, name, source, options, None).map(|(this, _)| this)
    }

    /// Start a process with an agent that goes on where another one stood; also says what could
    /// not be kept. See [`RuleAgent::restore`].
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn restore(
        command: ProcessCommand,
        name: &str,
        source: &str,
        options: AgentOptions,
        snapshot: &AgentSnapshot,
    ) -> Result<(Self, Vec<String>), ProcessError> {
        Self::start(command, name, source, options, Some(snapshot.to_bytes()))
    }

    fn start(
        command: ProcessCommand,
        name: &str,
        source: &str,
        options: AgentOptions,
        snapshot: Option<Vec<u8>>,
    ) -> Result<(Self, Vec<String>), ProcessError> {
        let begin = begin(name, source, &options, snapshot.clone());
        let (running, confinement, lost) = Running::start(&command, begin, &options)?;
        let this = Self {
            command,
            name: name.to_owned(),
            source: source.to_owned(),
            options,
            halt: HaltHandle::new(),
            running: Some(running),
            confinement,
            snapshot,
            journal: Vec::new(),
            printed: String::new(),
            deaths: 0,
        };
        Ok((this, lost))
    }

    /// What the process has given up.
    #[must_use]
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// How many processes of this agent have died.
    #[must_use]
    pub fn deaths(&self) -> u64 {
        self.deaths
    }

    /// The number by which the system knows the process that lives.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// What rules printed since it was last taken.
    pub fn take_output(&mut self) -> String {
        std::mem::take(&mut self.printed)
    }

    /// Deliver. See [`RuleAgent::deliver`].
    ///
    /// # Errors
    /// [`AgentError`]. When the process died of it, [`AgentError::Stopped`] names the limit or says
    /// that it crashed, and the agent is as it was before the delivery.
    pub fn deliver(&mut self, delivery: Delivery, now_ms: i64) -> Result<Vec<Effect>, AgentError> {
        self.revive()?;
        let asked = Request::Deliver(delivery, now_ms);
        let answered = self.ask(&asked);
        let Request::Deliver(delivery, now_ms) = asked else {
            return Err(AgentError::Other("not a delivery".to_owned()));
        };
        match answered {
            Ok(Response::Done(done, printed)) => {
                self.keep(&printed);
                let done = done.map_err(AgentError::from);
                self.journal.push((delivery, now_ms));
                // How far a stopped run came is not to be had again from the journal.
                let stopped = matches!(done, Err(AgentError::Stopped { .. }));
                if stopped || self.journal.len() >= JOURNAL_MAX {
                    self.save();
                }
                done
            }
            Ok(_) => Err(self.died(Trip::Crashed)),
            Err(trip) => Err(self.died(trip)),
        }
    }

    /// Call a function. See [`RuleAgent::call`]. What the function changed is not kept if the
    /// process dies later.
    ///
    /// # Errors
    /// [`AgentError`]. When the process died of it, [`AgentError::Stopped`] names the limit or says
    /// that it crashed, and the agent goes on in another one.
    pub fn call(
        &mut self,
        function: &str,
        arguments: Vec<Datum>,
        now_ms: i64,
    ) -> Result<Datum, AgentError> {
        self.revive()?;
        match self.ask(&Request::Call(function.to_owned(), arguments, now_ms)) {
            Ok(Response::Called(called, printed)) => {
                self.keep(&printed);
                called.map_err(AgentError::from)
            }
            Ok(_) => Err(self.died(Trip::Crashed)),
            Err(trip) => Err(self.died(trip)),
        }
    }

    /// The whole state.
    ///
    /// # Errors
    /// [`AgentError`] when it is too large, or the process died of it.
    pub fn snapshot(&mut self) -> Result<AgentSnapshot, AgentError> {
        self.revive()?;
        match self.ask(&Request::Snapshot) {
            Ok(Response::Snapshot(bytes)) => {
                let read = AgentSnapshot::from_bytes(&bytes);
                let snapshot = read.map_err(|error| AgentError::Other(error.to_string()))?;
                self.snapshot = Some(bytes);
                self.journal.clear();
                Ok(snapshot)
            }
            Ok(Response::NoSnapshot(reason)) => Err(AgentError::Other(reason)),
            Ok(_) => Err(self.died(Trip::Crashed)),
            Err(trip) => Err(self.died(trip)),
        }
    }

    /// Which rules fired on which facts lately, in the process that lives.
    ///
    /// # Errors
    /// [`AgentError`] when the process died.
    pub fn trace(&mut self) -> Result<Trace, AgentError> {
        self.revive()?;
        match self.ask(&Request::Trace) {
            Ok(Response::Trace(trace)) => Ok(trace),
            Ok(_) => Err(self.died(Trip::Crashed)),
            Err(trip) => Err(self.died(trip)),
        }
    }

    /// Look at its engine. See [`RuleAgent::inspect`].
    ///
    /// # Errors
    /// [`AgentError`] for a command that does more than look, or when the process died of it.
    pub fn inspect(&mut self, command: &str) -> Result<String, AgentError> {
        self.revive()?;
        match self.ask(&Request::Inspect(command.to_owned())) {
            Ok(Response::Inspected(printed)) => printed.map_err(AgentError::Other),
            Ok(_) => Err(self.died(Trip::Crashed)),
            Err(trip) => Err(self.died(trip)),
        }
    }

    /// Take a snapshot for the case of a death. Where there is none the journal goes on, up to a
    /// bound; beyond it, a death would lose what the oldest deliveries did.
    fn save(&mut self) {
        const JOURNAL_WITHOUT: usize = 64 * JOURNAL_MAX;
        if self.snapshot().is_err() && self.journal.len() >= JOURNAL_WITHOUT {
            self.journal.drain(..JOURNAL_MAX);
        }
    }

    fn keep(&mut self, printed: &str) {
        if self.printed.len() + printed.len() <= self.options.limits.output_bytes {
            self.printed.push_str(printed);
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Response, Trip> {
        let within = self.options.limits.wall + GRACE;
        match &mut self.running {
            Some(running) => running.ask(request, within, &self.halt),
            None => Err(Trip::Crashed),
        }
    }

    /// End what is left of the process, start another, and say so.
    fn died(&mut self, trip: Trip) -> AgentError {
        self.running = None;
        self.deaths += 1;
        if trip == Trip::Halted {
            self.halt.clear();
        }
        let message = "its process had to be ended; it goes on in another one from before";
        match self.revive() {
            Ok(()) => AgentError::Stopped {
                trip,
                message: message.to_owned(),
                rebuilt: None,
            },
            Err(error) => error,
        }
    }

    /// A new process if there is none, with the last snapshot and what was delivered since.
    fn revive(&mut self) -> Result<(), AgentError> {
        if self.running.is_some() {
            return Ok(());
        }
        let failed = |error: &dyn fmt::Display| AgentError::Other(error.to_string());
        let begin = begin(
            &self.name,
            &self.source,
            &self.options,
            self.snapshot.clone(),
        );
        let started = Running::start(&self.command, begin, &self.options);
        let (mut running, _, _) = started.map_err(|error| failed(&error))?;
        let within = self.options.limits.wall + GRACE;
        for (delivery, now_ms) in &self.journal {
            let again = Request::Replay(delivery.clone(), *now_ms);
            // It went well once, and would again: but not on a machine that is too busy now. The
            // next delivery tries anew.
            let repeated = running.ask(&again, within, &self.halt);
            if let Ok(Response::Done(Err(Failure::Stopped { trip, .. }), _)) | Err(trip) = repeated
            {
                let reason = format!("its last deliveries could not be repeated: {trip}");
                return Err(failed(&reason));
            }
        }
        self.running = Some(running);
        Ok(())
    }
}

fn begin(name: &str, source: &str, options: &AgentOptions, snapshot: Option<Vec<u8>>) -> Begin {
    Begin {
        name: name.to_owned(),
        source: source.to_owned(),
        limits: options.limits,
        seed: options.seed,
        node: options.node.clone(),
        file: options.file.clone(),
        snapshot,
    }
}

impl Running {
    fn start(
        command: &ProcessCommand,
        begin: Begin,
        options: &AgentOptions,
    ) -> Result<(Self, Confinement, Vec<String>), ProcessError> {
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(ProcessError::Start)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let Some((input, mut output)) = pipes else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(ProcessError::Start(std::io::Error::other("no pipes")));
        };
        let (send, responses) = sync_channel(1);
        // Ends when the process does: its pipe is closed then.
        let reader = std::thread::Builder::new().name("rules-pipe".to_owned());
        let reader = reader.spawn(move || {
            while let Ok(Some(response)) = protocol::read::<Response>(&mut output) {
                if send.send(response).is_err() {
                    return;
                }
            }
        });
        let mut this = Self {
            child,
            input,
            responses,
        };
        reader.map_err(ProcessError::Start)?;
        let within = options.limits.wall + START_WITHIN;
        match this.ask(&Request::Begin(begin), within, &HaltHandle::new()) {
            Ok(Response::Ready(confinement, lost)) => Ok((this, confinement, lost)),
            Ok(Response::Refused(reason)) => Err(ProcessError::Source(reason)),
            Ok(_) => Err(ProcessError::Died(Trip::Crashed)),
            Err(trip) => Err(ProcessError::Died(trip)),
        }
    }

    /// Ask, and wait for the answer: or why there will be none.
    fn ask(
        &mut self,
        request: &Request,
        within: Duration,
        halt: &HaltHandle,
    ) -> Result<Response, Trip> {
        // A worker that has died does not read; what it died of is seen below.
        let _ = protocol::write(&mut self.input, request);
        let until = crate::raw::now().checked_add(within);
        loop {
            match self.responses.recv_timeout(LOOK_EVERY) {
                Ok(response) => return Ok(response),
                Err(RecvTimeoutError::Disconnected) => return Err(self.cause()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if halt.is_halted() {
                return Err(Trip::Halted);
            }
            if until.is_some_and(|until| crate::raw::now() >= until) {
                return Err(Trip::Deadline);
            }
        }
    }

    /// What a process that has closed its pipe died of.
    fn cause(&mut self) -> Trip {
        let status = self.child.wait();
        status.map_or(Trip::Crashed, |status| cause_of(&status))
    }
}

fn cause_of(status: &ExitStatus) -> Trip {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(NO_MEMORY), _) => Trip::Memory,
        (Some(BROKEN), _) => Trip::Crashed,
        (_, Some(signal)) if signal == libc::SIGXCPU => Trip::Deadline,
        _ => Trip::Crashed,
    }
}

/// A rule agent, wherever it runs.
#[derive(Debug)]
pub enum Agent {
    /// In this process: for rules of the operator's own.
    Here(RuleAgent),
    /// In another one: for rules of anybody's.
    Apart(ProcessAgent),
}

impl Halt for Agent {
    fn halt_handle(&self) -> HaltHandle {
        match self {
            Self::Here(agent) => Halt::halt_handle(agent),
            Self::Apart(agent) => agent.halt_handle(),
        }
    }
}

impl Agent {
    /// Deliver. See [`RuleAgent::deliver`].
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn deliver(&mut self, delivery: Delivery, now_ms: i64) -> Result<Vec<Effect>, AgentError> {
        match self {
            Self::Here(agent) => agent.deliver(delivery, now_ms),
            Self::Apart(agent) => agent.deliver(delivery, now_ms),
        }
    }

    /// What rules printed since it was last taken.
    pub fn take_output(&mut self) -> String {
        match self {
            Self::Here(agent) => agent.take_output(),
            Self::Apart(agent) => agent.take_output(),
        }
    }

    /// Look at its engine. See [`RuleAgent::inspect`].
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn inspect(&mut self, command: &str) -> Result<String, AgentError> {
        match self {
            Self::Here(agent) => {
                let printed = agent.inspect(command);
                printed.map_err(|error| AgentError::Other(error.to_string()))
            }
            Self::Apart(agent) => agent.inspect(command),
        }
    }

    /// Which rules fired on which facts lately.
    ///
    /// # Errors
    /// [`AgentError`] when the agent's process died.
    pub fn trace(&mut self) -> Result<Trace, AgentError> {
        match self {
            Self::Here(agent) => Ok(agent.trace()),
            Self::Apart(agent) => agent.trace(),
        }
    }

    /// The whole state.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn snapshot(&mut self) -> Result<AgentSnapshot, AgentError> {
        match self {
            Self::Here(agent) => {
                let taken = agent.snapshot();
                taken.map_err(|error| AgentError::Other(error.to_string()))
            }
            Self::Apart(agent) => agent.snapshot(),
        }
    }
}
