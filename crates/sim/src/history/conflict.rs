//! A violation, explained.

use std::fmt;

use cpe_space::Mode;

use super::Operation;

/// Operations a conflict names at most: enough to see it, few enough to read.
const NAMED_MAX: usize = 4;

/// Operations that contradict each other: no correct space can have answered all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct Conflict {
    /// The variable and its mode, when it is about one.
    pub variable: Option<(String, Mode)>,
    /// What was broken.
    pub rule: Rule,
    /// The operations, the earliest first; at most four.
    pub operations: Vec<Operation>,
}

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// The history cannot be checked: values must be unique.
    #[error("value {0} was stored twice: a history needs unique values")]
    StoredTwice(i64),
    /// Nobody stored it, there at least.
    #[error("value {0} was seen but never stored there")]
    FromNowhere(i64),
    /// It was seen before its store began.
    #[error("value {0} was seen before it was stored")]
    TooEarly(i64),
    /// Two takes got it.
    #[error("value {0} was taken twice")]
    TakenTwice(i64),
    /// It was found after its take had ended.
    #[error("value {0} was found after it was taken")]
    TooLate(i64),
    /// "Nothing there" while something was.
    #[error("\"nothing there\", while at every moment of it something was there")]
    NotEmpty,
    /// A queue's order was broken.
    #[error("value {later} overtook value {earlier}, stored before it")]
    Overtook {
        /// The one that was ahead in the queue.
        earlier: i64,
        /// The one that was taken or found first.
        later: i64,
    },
    /// A value was taken or found while another was certainly at the head, or the only one.
    #[error("value {other} was seen while value {head} was the one to see")]
    TwoHeads {
        /// The one that was at the head all the time.
        head: i64,
        /// The other.
        other: i64,
    },
    /// A value below another on a stack was taken before it.
    #[error("value {lower} was taken from under value {upper}, stored after it")]
    Crossed {
        /// The one below.
        lower: i64,
        /// The one on top of it.
        upper: i64,
    },
    /// Values of a stack that cannot be nested, each within or beside the others.
    #[error("values taken or found out of a stack's order: none of {0} can be the lowest")]
    NotNested(usize),
    /// More values are gone than takes without an answer can explain.
    #[error("{gone} values must be gone, and only {takes} takes may have taken them")]
    TooManyGone {
        /// Values.
        gone: usize,
        /// Takes without an answer.
        takes: usize,
    },
}

impl Conflict {
    pub(super) fn new<'h>(
        rule: Rule,
        operations: impl IntoIterator<Item = &'h Operation>,
    ) -> Box<Self> {
        let mut operations: Vec<Operation> =
            operations.into_iter().take(NAMED_MAX).cloned().collect();
        operations.sort_by_key(|operation| operation.from_us);
        Box::new(Self {
            variable: None,
            rule,
            operations,
        })
    }

    pub(super) fn within(mut self: Box<Self>, variable: &str, mode: Mode) -> Box<Self> {
        self.variable = Some((variable.to_owned(), mode));
        self
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, mode)) = &self.variable {
            write!(f, "{name} ({mode}): ")?;
        }
        write!(f, "{}", self.rule)?;
        for operation in &self.operations {
            write!(f, "\n  {operation}")?;
        }
        Ok(())
    }
}
