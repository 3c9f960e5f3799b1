//! Who sent a message, as far as whoever carried it knows.

use std::sync::Arc;

/// Who sent a message. Whoever carried the message says so, never the message itself: what is in a
/// message anybody can write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody that has a name: a person, or a program.
    #[default]
    Nobody,
    /// A named actor, here or on another node.
    Actor(Arc<str>),
    /// The actor that gets it: by its own address, or by an effect that it committed.
    Itself,
    /// The actor's host, which says what came of a [take](crate::Effect::Take).
    Host,
}

/// A message whose sender knows it by a number: see
/// [`AnyAddress::ask_numbered`](crate::AnyAddress::ask_numbered).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The number.
    pub number: u64,
    /// Who sent it.
    pub origin: Origin,
    /// Nobody waits for its answer, but for whether it was handled.
    pub told: bool,
}

impl Numbered {
    /// A message of nobody's, whose answer somebody waits for.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self {
            number,
            origin: Origin::Nobody,
            told: false,
        }
    }
}
