//! The rule agent: an actor whose behaviour is CLIPS source.
//!
//! A message becomes a fact, rules fire until none is left, and what they asked of the world
//! leaves together as a list of [`Effect`]s. The agent itself does no I/O and keeps no clock: the
//! host delivers, carries out, and delivers the answers.
//!
//! # What a delivery becomes
//! - A **message** whose kind names a deftemplate of the program and whose body is a map becomes a
//!   fact of that template, slots by name. Any other becomes
//!   `(message (from ?) (kind ?) (ask ?) (body $?))`.
//! - A **tuple** of a subscription becomes a fact of the deftemplate that its first field names,
//!   when the second and last is a map (slots by name) or when it has just as many further fields
//!   as the template has slots (in order). Any other becomes
//!   `(tuple (subscription ?) (workspace ?) (fields $?))`.
//! - An **answer** to a request becomes `(answer (request ?) (status ok|failed) (value $?))`.
//!
//! Facts of `message`, `tuple` and `answer` live for one delivery: those still there when no rule
//! is left to fire are retracted. All others stay until the program retracts them: they are its
//! state.
//!
//! In slots by name, a slot the map lacks, or holds null for, keeps its default; a key with
//! underscores finds the slot with hyphens; `from` and `ask` are filled in when the template has
//! such slots; text becomes a symbol where only symbols are allowed, and the other way round. A
//! key that is no slot is an error.
//!
//! # When a limit is hit
//! The effects of that delivery are discarded and [`AgentError::Stopped`] names the limit. What
//! rules did to working memory until then stays done. If the engine can not go on (it holds too
//! many facts, or too much memory) the agent is built again from its source: its facts,
//! subscriptions and open requests are then gone, which the error says.

mod console;
mod delivery;
mod effect;
mod functions;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cpe_tuple::{Tuple, Value as Datum};
use serde::{Deserialize, Serialize};

pub use console::{INSPECT, only_looks};
pub use effect::{Effect, LaterFact, Level};
pub use functions::{
    CONSOLE, EFFECT_BYTES_MAX, EFFECTS_MAX, REQUESTS_MAX, SPAWNS_MAX, SUBSCRIPTIONS_MAX,
};
pub use snapshot::{AgentSnapshot, Subscription};

use crate::bridge::{BridgeError, from_clips, to_clips};
use crate::engine::{Engine, Slot};
use crate::error::{EngineError, Replacement};
use crate::limits::{HaltHandle, Limits, Trip};
use crate::trace::{Recorder, Trace};
use crate::worker::Halt;
use functions::Outbox;

/// The templates every agent has.
const PRELUDE: &str = "
(deftemplate message (slot from) (slot kind) (slot ask) (multislot body))
(deftemplate tuple (slot subscription) (slot workspace) (multislot fields))
(deftemplate answer (slot request) (slot status) (multislot value))";

/// Templates whose facts live for one delivery.
const ENVELOPES: [&str; 3] = ["message", "tuple", "answer"];

/// How an agent runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentOptions {
    /// Limits of one delivery.
    pub limits: Limits,
    /// Seed of `(random)`. Same seed, same deliveries: same effects.
    pub seed: u64,
    /// What `(node-name)` says.
    pub node: String,
    /// What errors in the source call it.
    pub file: String,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            limits: Limits::AGENT,
            seed: 0,
            node: String::new(),
            file: "<rules>".to_owned(),
        }
    }
}

/// A message to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentMessage {
    /// Who sent it: an actor's name. May be empty.
    pub from: String,
    /// What it is about.
    pub kind: String,
    /// Its content.
    pub body: Datum,
    /// When the sender waits for an answer: the number by which [`Effect::Reply`] names it.
    pub ask: Option<u64>,
}

impl AgentMessage {
    /// A message nobody waits on an answer to.
    pub fn tell(from: impl Into<String>, kind: impl Into<String>, body: impl Into<Datum>) -> Self {
        Self {
            from: from.into(),
            kind: kind.into(),
            body: body.into(),
            ask: None,
        }
    }

    /// A message whose sender waits for the reply to `ask`.
    pub fn ask(
        from: impl Into<String>,
        kind: impl Into<String>,
        body: impl Into<Datum>,
        ask: u64,
    ) -> Self {
        Self {
            ask: Some(ask),
            ..Self::tell(from, kind, body)
        }
    }

    /// Read a message that is one value, as other actors send them: `{"add": 5}` is kind `add`
    /// with body 5, `{"kind": "add", "body": 5}` the same in full, `"get"` is kind `get` without
    /// a body, and anything else has the kind `value`.
    #[must_use]
    pub fn from_value(from: impl Into<String>, value: Datum, ask: Option<u64>) -> Self {
        let (kind, body) = split_value(value);
        Self {
            from: from.into(),
            kind,
            body,
            ask,
        }
    }
}

/// The one value that stands for a kind and a body: the inverse of [`AgentMessage::from_value`].
#[must_use]
pub fn message_value(kind: &str, body: Datum) -> Datum {
    match body {
        Datum::Null => Datum::String(kind.to_owned()),
        body => Datum::Map([(kind.to_owned(), body)].into()),
    }
}

/// The kind that [`AgentMessage::from_value`] reads in a message, without taking it apart.
#[must_use]
pub fn message_kind(value: &Datum) -> &str {
    let text = |value| match value {
        &Datum::String(ref kind) | &Datum::Symbol(ref kind) => Some(kind.as_str()),
        _ => None,
    };
    let kind = match value {
        Datum::Map(map) if map.len() == 1 => map.keys().next().map(String::as_str),
        Datum::Map(map) if map.len() == 2 && map.contains_key("body") => {
            map.get("kind").and_then(text)
        }
        other => text(other),
    };
    kind.unwrap_or("value")
}

fn split_value(value: Datum) -> (String, Datum) {
    match value {
        Datum::String(kind) | Datum::Symbol(kind) => (kind, Datum::Null),
        Datum::Map(mut map) => {
            let full = map.len() == 2 && map.contains_key("body");
            if full && let Some(Datum::String(kind) | Datum::Symbol(kind)) = map.get("kind") {
                let kind = kind.clone();
                return (kind, map.remove("body").unwrap_or(Datum::Null));
            }
            match map.pop_first() {
                Some((kind, body)) if map.is_empty() => (kind, body),
                Some((key, value)) => {
                    map.insert(key, value);
                    ("value".to_owned(), Datum::Map(map))
                }
                None => ("value".to_owned(), Datum::Map(map)),
            }
        }
        other => ("value".to_owned(), other),
    }
}

/// Something an agent is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Delivery {
    /// Fire the rules that need no message. See [`RuleAgent::start`].
    Start,
    /// A message. See [`RuleAgent::handle`].
    Message(AgentMessage),
    /// A tuple of a subscription. See [`RuleAgent::tuple`].
    Tuple {
        /// The subscription's number.
        subscription: u64,
        /// The tuple.
        tuple: Tuple,
    },
    /// The answer to a request. See [`RuleAgent::answer`].
    Answer {
        /// The request's number.
        request: u64,
        /// A value, or why there is none.
        answer: Result<Datum, String>,
    },
    /// A fact whose time has come. See [`RuleAgent::later`].
    Later(LaterFact),
    /// A command of a person at a console. See [`RuleAgent::command`].
    Command(String),
}

/// Why an agent could not be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The source did not load: parse errors with file and line, or a limit.
    #[error(transparent)]
    Source(#[from] EngineError),
    /// The source defines one of the agent's own templates in another way.
    #[error("deftemplate `{0}` is the agent's own: give yours another name")]
    Redefined(&'static str),
}

/// Why a delivery had no effects.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// What was delivered has no form in CLIPS.
    #[error("not delivered: {0}")]
    Bridge(#[from] BridgeError),
    /// What was delivered does not fit the template it names. Nothing ran.
    #[error("not delivered: {0}")]
    Unfit(EngineError),
    /// A map has a key that is no slot of the template it is for. Nothing ran.
    #[error("not delivered: deftemplate `{template}` has no slot `{key}`; it has: {slots}")]
    UnknownKey {
        /// The template.
        template: String,
        /// The key.
        key: String,
        /// The slots it has.
        slots: String,
    },
    /// A rule's action failed. The effects of the delivery are discarded; other activations wait
    /// for the next one.
    #[error("a rule failed: {message}")]
    Rule {
        /// What CLIPS or the function printed.
        message: String,
        /// Rules fired, the failing one included.
        fired: u64,
    },
    /// A limit ended the run; its effects are discarded.
    #[error("stopped by the {trip}{}{}", because(.message), replaced(*.rebuilt))]
    Stopped {
        /// Which limit.
        trip: Trip,
        /// What CLIPS printed meanwhile. May be empty.
        message: String,
        /// Why the agent was built again from its source, if it was. Its facts, subscriptions
        /// and open requests are gone then.
        rebuilt: Option<Replacement>,
    },
    /// The agent was to be built again from its source, and that failed. It is of no more use.
    #[error("the agent had to be built again, which failed: {0}")]
    Lost(RuleError),
    /// As another one of these, said by another process.
    #[error("{0}")]
    Other(String),
    /// No request of this number is open.
    #[error("no request {0} is open: it was answered, or discarded with its run")]
    UnknownRequest(u64),
    /// No subscription has this number.
    #[error("no subscription {0}: it was discarded with its run, or the agent was built again")]
    UnknownSubscription(u64),
}

fn because(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {}", message.trim_end())
    }
}

fn replaced(rebuilt: Option<Replacement>) -> String {
    rebuilt.map_or_else(String::new, |why| {
        format!("; {why}, so the agent was built again from its source and its facts are lost")
    })
}

/// An agent whose behaviour is CLIPS source.
///
/// Call [`start`](Self::start) once, then deliver. Deliveries run rules on the calling thread; see
/// [`Worker`](crate::Worker) for one with a deep stack.
///
/// ```
/// use cpe_rules::{AgentMessage, AgentOptions, Effect, RuleAgent};
/// use cpe_tuple::Value;
///
/// let source = "(defrule greet (message (kind hello) (body ?name)) =>
///                 (out \"greetings\" hello ?name) (reply (str-cat \"hello \" ?name)))";
/// let mut agent = RuleAgent::new("greeter", source, AgentOptions::default())?;
/// let effects = agent.handle(AgentMessage::ask("me", "hello", "Ada", 1), 0)?;
/// assert!(matches!(&effects[0], Effect::Out { workspace, .. } if workspace == "greetings"));
/// assert_eq!(effects[1], Effect::Reply { ask: 1, value: Value::from("hello Ada") });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RuleAgent {
    name: String,
    source: String,
    options: AgentOptions,
    halt: HaltHandle,
    engine: Engine,
    templates: BTreeMap<String, Vec<Slot>>,
    outbox: Arc<Mutex<Outbox>>,
    printed: String,
    recorder: Recorder,
}

impl fmt::Debug for RuleAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleAgent")
            .field("name", &self.name)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl Halt for RuleAgent {
    fn halt_handle(&self) -> HaltHandle {
        self.halt.clone()
    }
}

impl RuleAgent {
    /// Load `source` and reset: deffacts are there, no rule has fired.
    ///
    /// # Errors
    /// [`RuleError`], for parse errors with file and line.
    pub fn new(name: &str, source: &str, options: AgentOptions) -> Result<Self, RuleError> {
        let halt = HaltHandle::new();
        let outbox = Arc::new(Mutex::new(Outbox::default()));
        let mut built = build(name, source, &options, &halt, &outbox)?;
        built.0.reset()?;
        Ok(Self::built(name, source, options, halt, outbox, built))
    }

    fn built(
        name: &str,
        source: &str,
        options: AgentOptions,
        halt: HaltHandle,
        outbox: Arc<Mutex<Outbox>>,
        (mut engine, templates): Built,
    ) -> Self {
        let recorder = Recorder::attach(&mut engine);
        Self {
            recorder,
            name: name.to_owned(),
            source: source.to_owned(),
            options,
            halt,
            engine,
            templates,
            outbox,
            printed: String::new(),
        }
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its engine, to look at. What is asserted here takes part in the next delivery.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Which rules fired on which facts lately: why it did what it did.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.recorder.trace()
    }

    /// What rules printed in deliveries since it was last taken; bounded by the limit on output.
    pub fn take_output(&mut self) -> String {
        std::mem::take(&mut self.printed)
    }

    /// Deliver anything.
    ///
    /// # Errors
    /// As the method for it.
    pub fn deliver(&mut self, delivery: Delivery, now_ms: i64) -> Result<Vec<Effect>, AgentError> {
        match delivery {
            Delivery::Start => self.start(now_ms),
            Delivery::Message(message) => self.handle(message, now_ms),
            Delivery::Tuple {
                subscription,
                tuple,
            } => self.tuple(subscription, &tuple, now_ms),
            Delivery::Answer { request, answer } => self.answer(request, answer, now_ms),
            Delivery::Later(fact) => self.later(&fact, now_ms),
            Delivery::Command(text) => self.command(&text, now_ms),
        }
    }

    /// Fire the rules that need no message, such as those that subscribe. The first delivery
    /// would do so too.
    ///
    /// # Errors
    /// [`AgentError::Rule`], [`AgentError::Stopped`], [`AgentError::Lost`].
    pub fn start(&mut self, now_ms: i64) -> Result<Vec<Effect>, AgentError> {
        self.run_with(now_ms, None, None)
    }

    /// Deliver a message. `now_ms` is what `(now)` says.
    ///
    /// # Errors
    /// [`AgentError`]; there are no effects then.
    pub fn handle(
        &mut self,
        message: AgentMessage,
        now_ms: i64,
    ) -> Result<Vec<Effect>, AgentError> {
        let fact = self.message_fact(&message)?;
        self.run_with(now_ms, message.ask, Some(fact))
    }

    /// Deliver a tuple that matches a subscription.
    ///
    /// # Errors
    /// [`AgentError`]; there are no effects then.
    pub fn tuple(
        &mut self,
        subscription: u64,
        tuple: &Tuple,
        now_ms: i64,
    ) -> Result<Vec<Effect>, AgentError> {
        let workspace = self.outbox().workspace_of(subscription);
        let workspace = workspace.ok_or(AgentError::UnknownSubscription(subscription))?;
        let fact = self.tuple_fact(subscription, workspace, tuple)?;
        self.run_with(now_ms, None, Some(fact))
    }

    /// Deliver the answer to a request: a value, or why there is none.
    ///
    /// What a value means depends on the request: for `find` and `fetch` the list of the tuple's
    /// fields, or null when a trying form found none; for `ask` the reply; for `forest-predict`
    /// the prediction, for `forest-proba` a map from classes to their probabilities.
    ///
    /// # Errors
    /// [`AgentError`]; there are no effects then. The request stays open if the answer was a value:
    /// so that the host can say that it failed. An answer that says so closes it in any case.
    pub fn answer(
        &mut self,
        request: u64,
        answer: Result<Datum, String>,
        now_ms: i64,
    ) -> Result<Vec<Effect>, AgentError> {
        if !self.outbox().requests.remove(&request) {
            return Err(AgentError::UnknownRequest(request));
        }
        let again = answer.is_ok();
        let done = match self.answer_fact(request, answer) {
            Ok(fact) => self.run_with(now_ms, None, Some(fact)),
            Err(error) => Err(error),
        };
        let anew = |error: &AgentError| {
            matches!(
                error,
                AgentError::Lost(_)
                    | AgentError::Stopped {
                        rebuilt: Some(_),
                        ..
                    }
            )
        };
        // Of an agent that was built again nothing is open.
        if again && done.as_ref().is_err_and(|error| !anew(error)) {
            self.outbox().requests.insert(request);
        }
        done
    }

    /// Deliver what [`Effect::After`] asked to be asserted later.
    ///
    /// # Errors
    /// [`AgentError`]; there are no effects then.
    pub fn later(&mut self, fact: &LaterFact, now_ms: i64) -> Result<Vec<Effect>, AgentError> {
        let fact = self.later_fact(fact)?;
        self.run_with(now_ms, None, Some(fact))
    }

    /// Call a function of the source, or one CLIPS brings, with values, and give what it returns.
    ///
    /// A list is one argument that is a multifield; a function that returns nothing returns null.
    /// No rule fires. Facts and globals that the function changes stay changed.
    ///
    /// # Errors
    /// [`AgentError`], among others when the function asks something of the world (`store`, `tell`,
    /// ...): a call answers and does nothing else, and what it asked for is discarded.
    pub fn call(
        &mut self,
        function: &str,
        arguments: &[Datum],
        now_ms: i64,
    ) -> Result<Datum, AgentError> {
        let arguments = arguments.iter().map(to_clips);
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        self.outbox().begin(now_ms, None);
        self.engine.set_time_ms(now_ms);
        let called = self.engine.call_function(function, &arguments);
        self.keep_output();
        let value = match called {
            Ok(value) => value,
            Err(error) => return Err(self.failed(error)),
        };
        let asked = self.outbox().effects();
        self.outbox().discard();
        if asked > 0 {
            let reason = "a function that is called by itself answers and does nothing else";
            return Err(AgentError::Other(format!(
                "`{function}` asked for {asked} effects: {reason}"
            )));
        }
        match value {
            crate::Value::Void => Ok(Datum::Null),
            value => Ok(from_clips(&value)?),
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Assert, run until quiet, and release what rules asked for: or nothing of it.
    fn run_with(
        &mut self,
        now_ms: i64,
        ask: Option<u64>,
        fact: Option<delivery::NewFact>,
    ) -> Result<Vec<Effect>, AgentError> {
        self.outbox().begin(now_ms, ask);
        self.engine.set_time_ms(now_ms);
        let ran = self.engine.within(|engine| run(engine, fact));
        self.keep_output();
        let error = match ran {
            Ok(()) => return Ok(self.outbox().release()),
            Err(error) => error,
        };
        Err(self.failed(error))
    }

    /// Discard what was asked for, and be fit for what comes next.
    fn failed(&mut self, error: EngineError) -> AgentError {
        self.outbox().discard();
        match error {
            EngineError::Evaluation { message, fired } => AgentError::Rule { message, fired },
            EngineError::Tripped { trip, message } => {
                let rebuilt = self.engine.replacement();
                match rebuilt.map_or(Ok(()), |_| self.rebuild()) {
                    Ok(()) => AgentError::Stopped {
                        trip,
                        message,
                        rebuilt,
                    },
                    Err(error) => AgentError::Lost(error),
                }
            }
            other => AgentError::Unfit(other),
        }
    }

    fn keep_output(&mut self) {
        for text in [self.engine.take_output(), self.engine.take_errors()] {
            self.keep_text(&text);
        }
    }

    fn keep_text(&mut self, text: &str) {
        if self.printed.len() + text.len() <= self.options.limits.output_bytes {
            self.printed.push_str(text);
        }
    }

    fn rebuild(&mut self) -> Result<(), RuleError> {
        {
            let mut outbox = self.outbox();
            outbox.requests.clear();
            outbox.subscriptions.clear();
        }
        let (name, source) = (&self.name, &self.source);
        let built = build(name, source, &self.options, &self.halt, &self.outbox)?;
        (self.engine, self.templates) = built;
        self.engine.reset()?;
        self.recorder.listen(&mut self.engine);
        Ok(())
    }
}

/// Everything a delivery does to the engine, under one deadline.
fn run(engine: &mut Engine, fact: Option<delivery::NewFact>) -> Result<(), EngineError> {
    let envelope = match fact {
        Some(fact) => fact.assert(engine)?,
        None => false,
    };
    let ran = engine.run(None);
    if !envelope {
        return ran.map(drop);
    }
    // Also after an error: an envelope that stayed would match again in the next delivery.
    let retracted = engine.retract_held();
    ran?;
    if retracted? {
        // That the envelope is gone may be what a rule waits for.
        engine.run(None)?;
    }
    Ok(())
}

/// What an agent's engine has before its source: functions and templates. For checking a source.
pub(crate) fn prepare(engine: &mut Engine) -> Result<(), EngineError> {
    functions::add(engine, "", "", &Arc::default())?;
    engine.load(PRELUDE)
}

type Built = (Engine, BTreeMap<String, Vec<Slot>>);

fn build(
    name: &str,
    source: &str,
    options: &AgentOptions,
    halt: &HaltHandle,
    outbox: &Arc<Mutex<Outbox>>,
) -> Result<Built, RuleError> {
    let mut engine = Engine::sandboxed_with(options.limits, options.seed, halt.clone());
    functions::add(&mut engine, name, &options.node, outbox)?;
    engine.load(PRELUDE)?;
    let own: Vec<_> = ENVELOPES.iter().map(|name| engine.slots(name)).collect();
    engine.load_named(&options.file, source)?;
    for (template, before) in ENVELOPES.into_iter().zip(own) {
        if engine.slots(template) != before {
            return Err(RuleError::Redefined(template));
        }
    }
    let mut templates = BTreeMap::new();
    for construct in engine.templates() {
        // Relations of ordered facts have no slots to name.
        if let Ok(slots) = engine.slots(&construct.name) {
            templates.insert(construct.name, slots);
        }
    }
    Ok((engine, templates))
}

/// A value as the fields of a multislot.
fn fields_of(datum: &Datum) -> Result<crate::Value, BridgeError> {
    Ok(match to_clips(datum)? {
        crate::Value::Multifield(fields) => crate::Value::Multifield(fields),
        scalar => crate::Value::Multifield(vec![scalar]),
    })
}
