//! What a message came to, and who is told.

use std::any::Any;

use cpe_tuple::Value;

use super::{Flow, Peer, caught, panic_text};
use crate::{
    Actor, ActorError, AskError, DeadReason, ExitReason, Origin, Poisoned,
    envelope::{Back, Envelope},
    mailbox::{Local, Notice},
    pool::Heir,
};

/// How one call of user code ended.
pub(super) enum Outcome<T> {
    Done(T),
    Refused(String),
    Failed(String),
    /// The message was put aside for later.
    Stashed,
    /// A stop or a halt was asked for and the call was not over in time.
    Cancelled,
}

impl<T> Outcome<T> {
    pub(super) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        Self::Failed(panic_text(panic))
    }
}

impl<T> From<Result<T, ActorError>> for Outcome<T> {
    fn from(result: Result<T, ActorError>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(error) if error.is_refusal() => Self::Refused(error.into_reason()),
            Err(error) if error.is_stashed() => Self::Stashed,
            Err(error) => Self::Failed(error.into_reason()),
        }
    }
}

/// Closes the mailbox and gives what is in it to the heir; without one, answers who still waits and
/// makes the rest dead letters.
pub(super) fn bury<A: Actor>(
    shared: &Peer<A>,
    reason: &ExitReason,
    local: &mut Local<A::Message, A::Reply>,
) {
    for envelope in shared.close(reason, local) {
        let Err(Envelope { message, back }) = bequeath::<A>(shared, envelope) else {
            continue;
        };
        let detail = describe::<A>(&message);
        dead_with::<A>(shared, reason, &back, detail);
        let dead = AskError::Dead {
            actor: shared.label(),
            reason: reason.clone(),
        };
        back.answer(Err(Box::new(dead)));
    }
}

/// A message that an actor leaves behind at its end is a dead letter, unless it has a number:
/// whoever gave it that sends it elsewhere.
pub(super) fn dead_with<A: Actor>(
    shared: &Peer<A>,
    reason: &ExitReason,
    back: &Back<A::Reply>,
    detail: Option<Value>,
) {
    if back.number().is_none() {
        let why = DeadReason::ActorEnded(reason.clone());
        shared.system.dead_letter(shared.label(), why, detail);
    }
}

/// Gives a message to whoever takes over from this actor, or back.
pub(super) fn bequeath<A: Actor>(
    shared: &Peer<A>,
    envelope: Envelope<A::Message, A::Reply>,
) -> Result<(), Envelope<A::Message, A::Reply>> {
    let heir = shared.options.heir.as_ref();
    match heir.and_then(|heir| heir.downcast_ref::<Heir<A::Message, A::Reply>>()) {
        Some(heir) => heir.inherit(envelope),
        None => Err(envelope),
    }
}

pub(super) fn describe<A: Actor>(message: &A::Message) -> Option<Value> {
    caught(|| A::describe(message)).unwrap_or_default()
}

/// Tells the sender of a message that the actor failed on it.
pub(super) fn fail<A: Actor>(
    shared: &Peer<A>,
    reason: String,
    back: Back<A::Reply>,
    detail: Option<Value>,
) {
    let actor = shared.label();
    let why = DeadReason::Failed(reason.clone());
    shared.system.dead_letter(actor.clone(), why, detail);
    back.answer(Err(Box::new(AskError::Failed { actor, reason })));
}

/// Tells the sender of a message that it was not acceptable.
pub(super) fn refuse<A: Actor>(
    shared: &Peer<A>,
    reason: String,
    back: Back<A::Reply>,
    detail: Option<Value>,
) {
    let actor = shared.label();
    let error = AskError::Refused {
        actor: actor.clone(),
        reason: reason.clone(),
    };
    // An asker learns of it; a teller can only find it among the dead letters.
    if !back.answer(Err(Box::new(error))) {
        let why = DeadReason::Refused(reason);
        shared.system.dead_letter(actor, why, detail);
    }
}

/// Tells the sender of a message that the actor was killed over it.
pub(super) fn killed<A: Actor>(
    shared: &Peer<A>,
    back: Back<A::Reply>,
    detail: Option<Value>,
) -> Flow {
    let actor = shared.label();
    let reason = shared.cut_short().unwrap_or(ExitReason::Killed);
    dead_with::<A>(shared, &reason, &back, detail);
    let ends = Flow::Break(reason.clone());
    back.answer(Err(Box::new(AskError::Dead { actor, reason })));
    ends
}

/// Takes a message out that failed twice: back to its sender, and among the dead letters.
pub(super) fn poison<A: Actor>(
    shared: &Peer<A>,
    message: Option<A::Message>,
    reason: String,
    back: Back<A::Reply>,
    detail: Option<Value>,
) {
    let actor = shared.label();
    if let Some(Origin::Actor(sender)) = back.origin()
        && !back.is_asked()
        && let Some(message) = &detail
    {
        let poisoned = Poisoned::new(actor.clone(), reason.clone(), message.clone());
        shared.system.return_to(sender, poisoned);
    }
    let why = DeadReason::Poisoned(reason.clone());
    shared.system.dead_letter(actor.clone(), why, detail);
    match (back.plain(), message) {
        (Back::Teller(id), Some(message)) => {
            if let Some(teller) = shared.system.control(id) {
                let message = Box::new(message);
                teller.notify(Notice::Returned(Poisoned {
                    actor,
                    reason,
                    message,
                }));
            }
        }
        (back, _) => {
            back.answer(Err(Box::new(AskError::Poisoned { actor, reason })));
        }
    }
}
