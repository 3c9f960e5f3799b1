//! What can go wrong, with the place in the text where there is one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::Kind;
use crate::limits::Trip;

/// One fault in a text: where, and what CLIPS or the vetting says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The name the text was given: a path, or `<text>`.
    pub file: String,
    /// Line, counted from 1. 0 when the place is not known.
    pub line: u32,
    /// Column, counted from 1 in bytes, where it is known.
    pub column: Option<u32>,
    /// Whether this is only a warning.
    pub warning: bool,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        let kind = if self.warning { "warning: " } else { "" };
        write!(f, ": {kind}{}", self.message)
    }
}

/// The faults of a text that did not load, in the order CLIPS met them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParseErrors(pub Vec<Diagnostic>);

/// Faults kept of one text; the rest are counted by CLIPS but not told.
pub const PARSE_ERRORS_MAX: usize = 100;

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// Why an engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The text was refused before CLIPS saw it, or CLIPS could not parse all of it. Constructs
    /// without a fault are loaded all the same.
    #[error("{0}")]
    Parse(ParseErrors),
    /// An expression or a rule's action failed. `message` is what CLIPS printed.
    #[error("evaluation failed: {message}")]
    Evaluation {
        /// What CLIPS printed.
        message: String,
        /// Rules fired before the failure, the failing one included.
        fired: u64,
    },
    /// A limit ended the call. See [`Engine::replacement`](crate::Engine::replacement).
    #[error("stopped by the {trip}{}", detail(.message))]
    Tripped {
        /// Which limit.
        trip: Trip,
        /// What CLIPS printed meanwhile, or the panic's message. May be empty.
        message: String,
    },
    /// No template of this name.
    #[error("no deftemplate named `{0}`: define it, or check the spelling")]
    UnknownTemplate(String),
    /// The template belongs to ordered facts: it has no named slots.
    #[error("`{0}` is the relation of ordered facts and has no named slots: use assert_ordered")]
    OrderedTemplate(String),
    /// A slot was refused.
    #[error("slot `{slot}` of `{template}`: {reason}")]
    Slot {
        /// The template's name.
        template: String,
        /// The slot's name.
        slot: String,
        /// What is wrong with it.
        reason: SlotFault,
    },
    /// The fact could not be asserted.
    #[error("fact of `{0}` was refused: {1}")]
    Assert(String, String),
    /// No fact has this index (any more).
    #[error("no fact f-{0}: it was retracted, or never existed")]
    UnknownFact(i64),
    /// No global of this name.
    #[error("no defglobal named `?*{0}*`")]
    UnknownGlobal(String),
    /// No construct of this name.
    #[error("no {kind} named `{name}`: define it, or check the spelling and the module")]
    UnknownConstruct {
        /// The kind.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// A construct could not be removed.
    #[error("{kind} `{name}` can not be removed: something uses it, or it is not there")]
    InUse {
        /// The kind.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// Single constructs of this kind can not be watched.
    #[error("a {0} can not be watched")]
    Unwatchable(Kind),
    /// The activation is not on the agenda.
    #[error("`{rule}` on {basis} is not on the agenda any more")]
    UnknownActivation {
        /// The rule.
        rule: String,
        /// What it matched.
        basis: String,
    },
    /// A salience out of range.
    #[error("salience {0} is out of range: -10000 to 10000")]
    Salience(i32),
    /// No instance of this name.
    #[error("no instance named `[{0}]`: it was deleted, or never made")]
    UnknownInstance(String),
    /// A function can not be called so.
    #[error("function `{name}` can not be called: {reason}")]
    Uncallable {
        /// The function.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A text has a NUL byte, which CLIPS can not hold.
    #[error("text has a NUL byte, which CLIPS can not hold")]
    Nul,
    /// A value that CLIPS holds in shared pieces would be too large when copied out.
    #[error("the value is larger than an engine gives out: {0}")]
    TooLarge(&'static str),
    /// A multifield or a void stands where CLIPS can hold neither.
    #[error("a {0} can not be a field of a multifield")]
    Nested(&'static str),
    /// A host function could not be added.
    #[error("function `{name}` could not be added: {reason}")]
    Function {
        /// The name asked for.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A state can only be put into an engine that has none.
    #[error("the engine has facts or instances already: restore into a new one")]
    NotEmpty,
    /// The engine must be replaced; it takes no more calls.
    #[error("the engine must be replaced: {0}")]
    Spent(Replacement),
}

fn detail(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {}", message.trim_end())
    }
}

/// Why a slot was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotFault {
    /// The template has no such slot.
    #[error("the template has no such slot")]
    Unknown,
    /// The slot does not allow this type.
    #[error("type not allowed")]
    Type,
    /// The number is out of the slot's range.
    #[error("out of range")]
    Range,
    /// The value is not among the allowed ones.
    #[error("not an allowed value")]
    AllowedValues,
    /// Too few or too many fields, or several fields for a single-field slot.
    #[error("wrong number of fields")]
    Cardinality,
    /// Any other refusal.
    #[error("refused")]
    Other,
}

/// Why an engine must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Replacement {
    /// It still holds more memory than its limit after releasing what it could.
    #[error("it holds more memory than its limit even after clean-up")]
    Memory,
    /// It still holds more facts than its limit.
    #[error("it holds more facts than its limit")]
    Facts,
    /// CLIPS reported an internal error.
    #[error("CLIPS reported an internal error")]
    Internal,
}
