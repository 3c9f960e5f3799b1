//! A message on its way, and where its outcome goes.

use std::{any::Any, fmt};

use tokio::sync::oneshot;

use crate::{ActorId, AskError, Numbered, Origin};

/// What an asker gets.
pub(crate) type Answer<R> = Result<R, Box<AskError>>;

pub(crate) struct Envelope<M, R> {
    pub(crate) message: M,
    pub(crate) back: Back<R>,
}

impl<M, R> Envelope<M, R> {
    pub(crate) const fn told(message: M) -> Self {
        Self {
            message,
            back: Back::Nowhere,
        }
    }
}

/// Who waits for the outcome of a message.
pub(crate) enum Back<R> {
    Nowhere,
    Asker(oneshot::Sender<Answer<R>>),
    /// The actor that told it, which gets it back if it is poison.
    Teller(ActorId),
    /// As inside; the message has failed an actor before, which is gone.
    Again(Box<Self>),
    /// As inside; whoever sent it knows it by this number, and sends it elsewhere when it hears
    /// that the actor has ended.
    Numbered(Box<(Numbered, Self)>),
    /// As inside; this is who sent it.
    From(Box<(Origin, Self)>),
}

impl<R> Back<R> {
    /// Without the mark of a failure.
    pub(crate) fn plain(self) -> Self {
        match self {
            Self::Again(inner) => inner.plain(),
            Self::Numbered(inner) => inner.1.plain(),
            Self::From(inner) => inner.1.plain(),
            plain => plain,
        }
    }

    pub(crate) fn has_failed_before(&self) -> bool {
        match self {
            Self::Again(_) => true,
            Self::Numbered(inner) => inner.1.has_failed_before(),
            Self::From(inner) => inner.1.has_failed_before(),
            Self::Nowhere | Self::Asker(_) | Self::Teller(_) => false,
        }
    }

    /// The number by which its sender knows it.
    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Again(inner) => inner.number(),
            Self::Numbered(inner) => Some(inner.0.number),
            Self::From(inner) => inner.1.number(),
            Self::Nowhere | Self::Asker(_) | Self::Teller(_) => None,
        }
    }

    /// Who sent it, if it is said.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        let origin = match self {
            Self::Again(inner) => inner.origin(),
            Self::Numbered(inner) => Some(&inner.0.origin),
            Self::From(inner) => Some(&inner.0),
            Self::Nowhere | Self::Asker(_) | Self::Teller(_) => None,
        };
        origin.filter(|origin| **origin != Origin::Nobody)
    }

    /// Whether somebody waits for the answer.
    pub(crate) fn is_asked(&self) -> bool {
        match self {
            Self::Again(inner) => inner.is_asked(),
            Self::Numbered(inner) => !inner.0.told && inner.1.is_asked(),
            Self::From(inner) => inner.1.is_asked(),
            Self::Asker(_) => true,
            Self::Nowhere | Self::Teller(_) => false,
        }
    }

    /// With who sent it.
    pub(crate) fn from(self, origin: Origin) -> Self {
        match origin {
            Origin::Nobody => self,
            origin => Self::From(Box::new((origin, self))),
        }
    }

    /// Answers the asker if there is one; whether there was.
    pub(crate) fn answer(self, answer: Answer<R>) -> bool {
        let Self::Asker(asker) = self.plain() else {
            return false;
        };
        // The asker may have stopped waiting; that is its own affair.
        let _ = asker.send(answer);
        true
    }
}

/// A message that failed an actor twice, given back to the actor that sent it with
/// [`Context::tell`](crate::Context::tell).
pub struct Poisoned {
    /// The actor that failed on it: name, or kind and number.
    pub actor: String,
    /// The second error or panic message.
    pub reason: String,
    pub(crate) message: Box<dyn Any + Send>,
}

impl Poisoned {
    /// One that comes from elsewhere: its message is a value, whatever the receiver made of it.
    #[must_use]
    pub fn new(actor: String, reason: String, message: cpe_tuple::Value) -> Self {
        Self {
            actor,
            reason,
            message: Box::new(message),
        }
    }

    /// The message, if it is of this type; otherwise all of it again.
    ///
    /// # Errors
    /// The whole, unchanged, when the message is of another type.
    pub fn into_message<M: 'static>(self) -> Result<M, Self> {
        let Self {
            actor,
            reason,
            message,
        } = self;
        message
            .downcast()
            .map(|message| *message)
            .map_err(|message| Self {
                actor,
                reason,
                message,
            })
    }
}

impl fmt::Debug for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poisoned")
            .field("actor", &self.actor)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}
