//! What people do at an agent's prompt.

use super::{AgentError, Effect, RuleAgent};
use crate::engine::Kind;
use crate::error::EngineError;
use crate::limits::Trip;
use crate::vet;

/// Of what is too much to be printed so much is given.
const CUT_OFF_BYTES: usize = 256 << 10;

/// Commands of CLIPS that look at an engine and change nothing.
pub const INSPECT: &[&str] = &[
    "agenda",
    "facts",
    "get-current-module",
    "get-focus",
    "get-focus-stack",
    "get-strategy",
    "instances",
    "list-defclasses",
    "list-deffacts",
    "list-deffunctions",
    "list-defgenerics",
    "list-defglobals",
    "list-definstances",
    "list-defmessage-handlers",
    "list-defmethods",
    "list-defmodules",
    "list-defrules",
    "list-deftemplates",
    "list-focus-stack",
    "matches",
    "ppdefclass",
    "ppdeffacts",
    "ppdeffunction",
    "ppdefgeneric",
    "ppdefglobal",
    "ppdefinstances",
    "ppdefmessage-handler",
    "ppdefmethod",
    "ppdefmodule",
    "ppdefrule",
    "ppdeftemplate",
    "ppfact",
    "rules",
    "show-defglobals",
];

/// Whether a text is one of CLIPS's commands that only look ([`INSPECT`]), with plain arguments.
#[must_use]
pub fn only_looks(command: &str) -> bool {
    let inner = command.trim().strip_prefix('(');
    let inner = inner.and_then(|text| text.strip_suffix(')'));
    // One pair of parentheses: an argument that is a call could do anything.
    let plain = inner.filter(|inner| !inner.contains(['(', ')', '"', ';']));
    let head = plain.and_then(|inner| inner.split_whitespace().next());
    head.is_some_and(|head| INSPECT.contains(&head))
}

impl RuleAgent {
    /// Do one of CLIPS's commands that only look ([`INSPECT`]), and give what it prints: the
    /// beginning of it, where it is too much.
    ///
    /// # Errors
    /// [`EngineError::Uncallable`] for any other text: to change an agent, send it a message.
    pub fn inspect(&mut self, command: &str) -> Result<String, EngineError> {
        if !only_looks(command) {
            return Err(uncallable(
                command,
                "only commands that look are allowed here, as (facts), (agenda), (rules)",
            ));
        }
        let error = match self.engine.command(command.trim()) {
            Ok(printed) => return Ok(printed),
            Err(error) => error,
        };
        // What was printed until then would count for the next delivery.
        let mut printed = self.engine.take_output();
        self.engine.take_errors();
        if !matches!(
            error,
            EngineError::Tripped {
                trip: Trip::Output,
                ..
            }
        ) {
            return Err(error);
        }
        let cut = printed.floor_char_boundary(CUT_OFF_BYTES);
        printed.truncate(cut);
        printed.push_str("\n[cut off here: there is more than can be printed at a time]\n");
        Ok(printed)
    }

    /// Do what a person types at the agent's prompt: evaluate it and print what comes of it, then
    /// fire rules until none is left. What was printed is in [`take_output`](Self::take_output);
    /// what the command and the rules asked of the world is released together.
    ///
    /// # Errors
    /// [`AgentError::Unfit`] for a construct: an agent's constructs are those of its source, from
    /// which it is built again. Else as for a message; there are no effects then.
    pub fn command(&mut self, text: &str, now_ms: i64) -> Result<Vec<Effect>, AgentError> {
        if is_construct(text) {
            let why = "an agent's constructs are those of its program: change that, and start the \
                agent again";
            return Err(AgentError::Unfit(uncallable(text, why)));
        }
        self.outbox().begin(now_ms, None);
        self.engine.set_time_ms(now_ms);
        let mut printed = String::new();
        let ran = self.engine.within(|engine| {
            let told = engine.command(text);
            // No part of its state: gone with the process, or when it moves.
            engine.forget_variables();
            printed = told?;
            engine.run(None).map(drop)
        });
        self.keep_text(&printed);
        self.keep_output();
        match ran {
            Ok(()) => Ok(self.outbox().release()),
            Err(error) => Err(self.failed(error)),
        }
    }
}

fn is_construct(text: &str) -> bool {
    let head = vet::head(text).unwrap_or_default();
    ["defmethod", "defmessage-handler"].contains(&head)
        || Kind::ALL.iter().any(|kind| kind.to_string() == head)
}

fn uncallable(text: &str, reason: &'static str) -> EngineError {
    EngineError::Uncallable {
        name: text.trim().chars().take(60).collect(),
        reason,
    }
}
