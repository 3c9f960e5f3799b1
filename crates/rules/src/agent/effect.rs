//! What rules ask of the world.

use cpe_tuple::{Template, Tuple, Value as Datum};
use serde::{Deserialize, Serialize};

/// One thing a run of rules asks its host to do. Effects of a run are in the order they were asked
/// for, and are to be carried out in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Effect {
    /// `(store ws name value)`: put a value into a variable of a workspace.
    Store {
        /// The workspace.
        workspace: String,
        /// The variable.
        name: String,
        /// The value.
        value: Datum,
    },
    /// `(out ws field...)`: put a tuple into a workspace.
    Out {
        /// The workspace.
        workspace: String,
        /// The tuple.
        tuple: Tuple,
    },
    /// `(find ws ...)`, `(find-try ws ...)`: read a tuple that matches.
    Find {
        /// Answer to this number.
        request: u64,
        /// The workspace.
        workspace: String,
        /// What matches.
        template: Template,
        /// Whether to wait until there is one.
        wait: bool,
    },
    /// `(fetch ws ...)`, `(fetch-try ws ...)`: take a tuple that matches.
    Fetch {
        /// Answer to this number.
        request: u64,
        /// The workspace.
        workspace: String,
        /// What matches.
        template: Template,
        /// Whether to wait until there is one.
        wait: bool,
    },
    /// `(subscribe ws ...)`: deliver each tuple that matches, from now on.
    Subscribe {
        /// Deliver under this number.
        subscription: u64,
        /// The workspace.
        workspace: String,
        /// What matches.
        template: Template,
    },
    /// `(tell actor kind body)`: send a message.
    Send {
        /// The actor's name.
        to: String,
        /// The kind of message.
        kind: String,
        /// Its body; null when none was given. See [`message_value`](crate::message_value).
        body: Datum,
    },
    /// `(ask actor kind body)`: send a message and wait for its answer.
    Ask {
        /// Answer to this number.
        request: u64,
        /// The actor's name.
        to: String,
        /// The kind of message.
        kind: String,
        /// Its body; null when none was given.
        body: Datum,
    },
    /// `(reply value)`, `(reply-to ask value)`: answer a message whose sender waits.
    Reply {
        /// The number that came with the message.
        ask: u64,
        /// The answer.
        value: Datum,
    },
    /// `(after ms relation field...)`: give the fact back to
    /// [`RuleAgent::later`](crate::RuleAgent::later) when the time has passed.
    After {
        /// Milliseconds from now.
        ms: u64,
        /// The fact.
        fact: LaterFact,
    },
    /// `(forest-predict model feature...)` or `(forest-proba model feature...)`.
    ForestPredict {
        /// Answer to this number.
        request: u64,
        /// The model's name.
        model: String,
        /// The case: its features in the model's order.
        features: Vec<Datum>,
        /// Whether the answer is how probable each class is, and nothing else.
        #[serde(default)]
        probabilities: bool,
    },
    /// `(log level text...)`.
    Log {
        /// How loud.
        level: Level,
        /// The text.
        text: String,
    },
    /// `(spawn kind name args)`: start an actor.
    Spawn {
        /// The kind of actor.
        kind: String,
        /// The name it gets.
        name: String,
        /// What it is started with; null when nothing was given.
        args: Datum,
    },
    /// `(stop-self)`: stop the agent after these effects.
    Stop,
}

/// A fact to be asserted later: `(after 1000 tick 3)` gives `(tick 3)` back after a second.
///
/// When the relation is a deftemplate with named slots, the fields are slot names and values in
/// turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaterFact {
    /// The relation or template.
    pub relation: String,
    /// The fields.
    pub fields: Vec<Datum>,
}

/// How loud a log line of a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Needs a person.
    Error,
    /// Worth a look.
    Warn,
    /// For the record.
    Info,
    /// For the author.
    Debug,
}

impl Level {
    /// The level of a word: `error`, `warn` (or `warning`), `info`, `debug`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "error" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            _ => return None,
        })
    }
}
