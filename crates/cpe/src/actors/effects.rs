//! What durable actors of this node want done besides tuples (rule A5, decision 013): messages to
//! other actors, and actors to be started.
//!
//! The peer gives effects from what is committed, and of one actor the next for the same receiver
//! once this module says that the one before is done. A message to a durable actor carries the
//! number of the effect, whichever node sends it, so that the actor handles it once; it is done
//! when what the actor made of it lasts. A plain actor has it when it is in the mailbox, and may
//! have it twice. What cannot be done at all ends as a dead letter of this node.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cpe_actors::{AskError, DeadReason};
use cpe_mesh::Command;
use cpe_space::{Effect, Name};
use cpe_tuple::Value;
use tokio::time::Instant;

use super::envelope::{Answer, Number};
use super::numbered::Parcel;
use super::post::CallError;
use super::{Actors, ActorsError, Inner, Place, SPAWN_DEADLINE, SpawnOptions, TELL_DEADLINE};

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: of an actor whose node is gone somebody has it within seconds.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long one try to have a message handled waits for that.
const TRY: Duration = Duration::from_secs(30);

/// How often something that has no number is tried.
const TRIES_MAX: u32 = 5;

/// One effect.
#[derive(Debug)]
struct Due {
    /// Whose.
    name: Name,
    born: u64,
    n: u64,
}

/// What came of a try.
enum Tried {
    Done,
    /// It never will be done: the dead letter.
    Never(String, DeadReason, Option<Value>),
    /// Not yet; its node was the wrong one.
    Again(Option<Place>),
    /// This node has stopped.
    Over,
}

impl Inner {
    /// The peer gives this node something to do for an actor.
    pub(crate) fn carry_out(self: &Arc<Self>, name: &str, (born, n): (u64, u64), effect: Effect) {
        let Ok(name) = Name::new(name) else {
            return;
        };
        let due = Due { name, born, n };
        let inner = Arc::downgrade(self);
        self.tasks.spawn(carry_out(inner, due, effect));
    }
}

/// Tries until it is done, and says so.
async fn carry_out(inner: Weak<Inner>, due: Due, effect: Effect) {
    let (mut wrong, mut tries, mut pause) = (None, 0, PAUSE);
    while let Some(office) = inner.upgrade() {
        tries += 1;
        let tried = match &effect {
            Effect::Tell { actor, message } => {
                tell(&office, &due, actor.as_str(), message, wrong, tries).await
            }
            Effect::Spawn { kind, name, args } => {
                spawn(&office, &due, kind, name.as_str(), args, tries).await
            }
            // Peers put and take tuples by themselves.
            Effect::Out { .. } | Effect::Take(_) => Tried::Done,
        };
        match tried {
            Tried::Again(place) => wrong = place,
            Tried::Over => return,
            Tried::Done => return done(&office, &due).await,
            Tried::Never(actor, reason, message) => {
                tracing::warn!(from = %due.name, %actor, %reason, "an effect cannot be done");
                office.system.dead_letter(actor, reason, message);
                return done(&office, &due).await;
            }
        }
        drop(office);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn done(inner: &Inner, due: &Due) {
    let name = due.name.as_str().to_owned();
    let (born, n) = (due.born, due.n);
    // It fails only when this node has stopped.
    if let Err(error) = inner.desk.ask(Command::EffectDone { name, born, n }).await {
        tracing::debug!(%error, "nobody hears that an effect is done");
    }
}

/// Gives a message to an actor.
async fn tell(
    inner: &Arc<Inner>,
    due: &Due,
    actor: &str,
    message: &Value,
    wrong: Option<Place>,
    tries: u32,
) -> Tried {
    let never = |reason| Tried::Never(actor.to_owned(), reason, Some(message.clone()));
    let until = Instant::now() + TRY;
    let place = match inner.find(actor, wrong, until).await {
        Ok(Some(place)) => place,
        Ok(None) => {
            let why = format!("no actor is called `{actor}`");
            return never(DeadReason::Undelivered(why));
        }
        Err(crate::SpaceError::Closed) => return Tried::Over,
        Err(_) => return Tried::Again(None),
    };
    if !place.leased {
        let actors = Actors::of(Arc::clone(inner), due.name.as_str());
        return match actors.tell(actor, message.clone()).await {
            Ok(()) => Tried::Done,
            Err(ActorsError::NoSuchActor(_)) => {
                let why = format!("no actor is called `{actor}`");
                never(DeadReason::Undelivered(why))
            }
            Err(error) if tries >= TRIES_MAX => never(DeadReason::Undelivered(error.to_string())),
            Err(_) => Tried::Again(None),
        };
    }
    let parcel = Parcel {
        name: actor,
        number: Number {
            sender: inner.numbers.session(),
            seq: due.n,
            // It is told nothing before it has handled what it was told before.
            low: due.n,
            actor: Some((due.name.clone(), due.born)),
            take: None,
            from: None,
        },
        tell: false,
        forwarded: false,
        message,
    };
    match inner.deliver(place, parcel, until).await {
        // Or it was handled, and has no answer.
        Ok(
            Answer::Value(_)
            | Answer::Handled
            | Answer::Done
            | Answer::Asked(AskError::Unanswered { .. }),
        ) => Tried::Done,
        // By its own end: one that another node goes on with is somewhere else.
        Ok(Answer::Asked(AskError::Dead { reason, .. })) => never(DeadReason::ActorEnded(reason)),
        Ok(Answer::Asked(AskError::Refused { reason, .. })) => never(DeadReason::Refused(reason)),
        Ok(Answer::Asked(AskError::Failed { reason, .. })) => never(DeadReason::Failed(reason)),
        Ok(Answer::Asked(AskError::Poisoned { reason, .. })) => never(DeadReason::Poisoned(reason)),
        Err(CallError::TooLarge(why)) => never(DeadReason::Undelivered(why)),
        // The same place, which was slow; or wherever it is by then.
        Ok(Answer::Asked(_) | Answer::Busy) | Err(CallError::TimedOut | CallError::Busy(_)) => {
            Tried::Again(None)
        }
        Ok(Answer::Elsewhere { host, token }) if inner.is_told_where(actor, place, host, token) => {
            Tried::Again(None)
        }
        Ok(_) | Err(_) => Tried::Again(Some(place)),
    }
}

/// Starts an actor. One whose name is taken was started, by whoever tried before.
async fn spawn(
    inner: &Arc<Inner>,
    due: &Due,
    kind: &str,
    name: &str,
    args: &Value,
    tries: u32,
) -> Tried {
    let actors = Actors::of(Arc::clone(inner), due.name.as_str());
    let options = SpawnOptions {
        deadline: SPAWN_DEADLINE.min(TELL_DEADLINE),
        ..SpawnOptions::default()
    };
    match actors.spawn(kind, name, args.clone(), options).await {
        Ok(_) | Err(ActorsError::NameTaken { .. }) => Tried::Done,
        Err(error) if tries >= TRIES_MAX => {
            let reason = DeadReason::Undelivered(format!("it was not started: {error}"));
            Tried::Never(name.to_owned(), reason, Some(args.clone()))
        }
        Err(_) => Tried::Again(None),
    }
}
