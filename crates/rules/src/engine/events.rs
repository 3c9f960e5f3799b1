//! What an engine tells while it works: events, and CLIPS's own watch items.

use super::{Activation, Engine, Fact, Kind};
use crate::error::EngineError;
use crate::raw::Happened;

/// Something that happened in an engine.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A fact exists now. A `modify` tells of a retraction and an assertion under the same index.
    Asserted(Fact),
    /// A fact is about to go.
    Retracted(Fact),
    /// A rule is about to fire.
    Fires(Activation),
    /// The rule that fired last has done its actions.
    Fired,
}

/// What CLIPS can print about its work, among the captured output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum WatchItem {
    /// All of the following.
    All = 0,
    /// `==>` and `<==` for each fact.
    Facts,
    /// Instances that come and go.
    Instances,
    /// Slots of instances that change.
    Slots,
    /// `FIRE` for each rule.
    Rules,
    /// Activations that come and go.
    Activations,
    /// Messages that begin and end.
    Messages,
    /// Handlers that begin and end.
    MessageHandlers,
    /// Generic functions that begin and end.
    GenericFunctions,
    /// Methods that begin and end.
    Methods,
    /// Functions of the program that begin and end.
    Functions,
    /// Constructs as they are loaded.
    Compilations,
    /// Counts at the end of a run.
    Statistics,
    /// Globals that change.
    Globals,
    /// Modules that get and lose the focus.
    Focus,
}

impl Engine {
    /// Tell `listener` of each event from now on, within the call that causes it; `None` tells
    /// nobody. It must not block. Its panic ends the call with [`Trip::Panic`](crate::Trip::Panic).
    ///
    /// ```
    /// # use cpe_rules::{Engine, Event, Limits};
    /// # use std::sync::{Arc, Mutex};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(defrule r ?f <- (a) => (retract ?f) (assert (b)))")?;
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let log = seen.clone();
    /// engine.listen(move |event| {
    ///     log.lock().unwrap().push(match event {
    ///         Event::Asserted(fact) => format!("+{fact}"),
    ///         Event::Retracted(fact) => format!("-{fact}"),
    ///         Event::Fires(activation) => format!("{} on {}", activation.rule, activation.basis),
    ///         _ => return,
    ///     });
    /// });
    /// engine.assert_ordered("a", vec![])?;
    /// engine.run(None)?;
    /// assert_eq!(*seen.lock().unwrap(), ["+(a)", "r on f-1", "-(a)", "+(b)"]);
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    pub fn listen(&mut self, mut listener: impl FnMut(&Event) + Send + 'static) {
        self.listen_live(move |happened| listener(&happened.copied()));
    }

    /// As [`listen`](Self::listen), for a listener that copies of an event what it needs.
    pub(crate) fn listen_live(&mut self, listener: impl FnMut(&Happened<'_>) + Send + 'static) {
        self.env.listen(Some(Box::new(listener)));
    }

    /// Tell nobody of events any more.
    pub fn stop_listening(&mut self) {
        self.env.listen(None);
    }

    /// Let CLIPS print about an item among the output, or no more. `Compilations` and `All` also
    /// print while constructs are loaded.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits, WatchItem};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.watch(WatchItem::Facts, true);
    /// engine.assert_ordered("a", vec![1.into()])?;
    /// assert_eq!(engine.take_output(), "==> f-1     (a 1)\n");
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    pub fn watch(&mut self, item: WatchItem, on: bool) {
        self.env.watch(item as u32, on);
    }

    /// Whether an item is watched.
    pub fn is_watched(&mut self, item: WatchItem) -> bool {
        self.env.is_watched(item as u32)
    }

    /// Watch one construct: facts of a template, firings and activations of a rule, calls of a
    /// function or generic, changes of a global, instances and slots of a class.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`]; [`EngineError::Unwatchable`] for other kinds.
    pub fn watch_one(&mut self, kind: Kind, name: &str, on: bool) -> Result<(), EngineError> {
        if self.env.watch_construct(kind, name, on)? {
            Ok(())
        } else {
            Err(EngineError::Unwatchable(kind))
        }
    }

    /// Whether one construct is watched.
    ///
    /// # Errors
    /// As [`watch_one`](Self::watch_one).
    pub fn is_one_watched(&mut self, kind: Kind, name: &str) -> Result<bool, EngineError> {
        let watched = self.env.construct_is_watched(kind, name)?;
        watched.ok_or(EngineError::Unwatchable(kind))
    }
}
