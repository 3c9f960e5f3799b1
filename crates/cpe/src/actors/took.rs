//! What durable actors of this node took (rule A6, decision 028): given to them as messages.
//!
//! The peer says what came of a take. The message about it has the number of the take, so that the
//! actor handles it once; when what the actor made of it lasts, or when it never will take it, the
//! peer hears so. It is for one incarnation: to the next one whoever hosts that gives the same, or
//! says that it was given up.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cpe_actors::{AskError, DeadReason};
use cpe_mesh::{Command, Took};
use cpe_space::Name;
use cpe_tuple::Value;
use tokio::time::Instant;

use super::envelope::{Answer, Number};
use super::numbered::answer as answered;
use super::{Inner, lock};
use crate::SpaceError;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long one try to have a message handled waits for that.
const TRY: Duration = Duration::from_secs(30);

/// Keys of the message: see [`cpe_actors::Effect::Take`].
const REQUEST: &str = "request";
const TUPLE: &str = "tuple";
const FAILED: &str = "failed";
const WORKSPACE: &str = "workspace";

/// What came of a take, and whose it is.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) name: String,
    pub(crate) born: u64,
    /// Of the incarnation that it is for.
    pub(crate) token: u64,
    pub(crate) n: u64,
    pub(crate) workspace: Name,
    /// The kind of message that the actor asked for.
    pub(crate) answer: String,
    pub(crate) request: u64,
}

/// What came of a try.
enum Tried {
    Done,
    /// It never will be handled.
    Never(DeadReason),
    Again,
    /// It is not this node's to do any more.
    Over,
}

impl Inner {
    /// The peer says what came of a take of an actor that it hosts.
    pub(crate) fn took(self: &Arc<Self>, due: Due, took: Took) {
        let inner = Arc::downgrade(self);
        self.tasks.spawn(give(inner, due, took));
    }

    /// Whether this node hosts an actor under a token, in its present life.
    pub(super) async fn hosts(&self, name: &str, token: u64) -> Result<bool, SpaceError> {
        let record = self.record(name).await?;
        let life = *lock(&self.life);
        let mine = record.filter(|record| record.leased && record.host == life && life.is_some());
        Ok(mine.is_some_and(|record| record.token == token))
    }
}

/// Tries until the actor has it, and says so.
async fn give(inner: Weak<Inner>, due: Due, took: Took) {
    let (mut message, mut pause) = (None, PAUSE);
    while let Some(office) = inner.upgrade() {
        let tried = match message.clone() {
            Some(message) => offer(&office, &due, message).await,
            None => match put_together(&office, &due, &took).await {
                Ok(whole) => {
                    message = Some(whole);
                    continue;
                }
                Err(SpaceError::Closed) => Tried::Over,
                Err(_) => Tried::Again,
            },
        };
        match tried {
            Tried::Over => return,
            Tried::Done => return done(&office, &due).await,
            Tried::Never(reason) => {
                tracing::warn!(actor = %due.name, %reason, "does not take what it took");
                office.system.dead_letter(due.name.clone(), reason, message);
                return done(&office, &due).await;
            }
            Tried::Again => {}
        }
        drop(office);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn done(inner: &Inner, due: &Due) {
    let done = Command::TakeDone {
        name: due.name.clone(),
        born: due.born,
        token: due.token,
        n: due.n,
    };
    // It fails only when this node has stopped.
    if let Err(error) = inner.desk.ask(done).await {
        tracing::debug!(%error, "nobody hears that an actor has what it took");
    }
}

/// The message: with the tuple, large values and all.
async fn put_together(inner: &Inner, due: &Due, took: &Took) -> Result<Value, SpaceError> {
    let mut parts = BTreeMap::from([
        (REQUEST.to_owned(), Value::Int(due.request.cast_signed())),
        (TUPLE.to_owned(), Value::Null),
        (WORKSPACE.to_owned(), Value::from(due.workspace.as_str())),
    ]);
    match took {
        Took::Nothing => {}
        Took::GivenUp => {
            let why = "it was given up when the actor was about to end; nothing was taken";
            parts.insert(FAILED.to_owned(), Value::from(why));
        }
        Took::Tuple(tuple) => {
            let whole = inner
                .space
                .taken_whole(due.workspace.as_str(), tuple.clone());
            match whole.await {
                Ok(whole) => {
                    parts.insert(TUPLE.to_owned(), Value::List(Vec::from(whole)));
                }
                Err(error @ (SpaceError::Closed | SpaceError::Failed(_))) => return Err(error),
                // Too large for any message: what is there of it, so that it is not lost unseen.
                Err(error) => {
                    parts.insert(TUPLE.to_owned(), Value::List(Vec::from(tuple.clone())));
                    parts.insert(FAILED.to_owned(), Value::from(error.to_string()));
                }
            }
        }
    }
    let message = (due.answer.clone(), Value::Map(parts));
    Ok(Value::Map(BTreeMap::from([message])))
}

/// Gives it to the actor, if it is here.
async fn offer(inner: &Arc<Inner>, due: &Due, message: Value) -> Tried {
    match inner.hosts(&due.name, due.token).await {
        Ok(true) => {}
        Ok(false) | Err(SpaceError::Closed) => return Tried::Over,
        Err(_) => return Tried::Again,
    }
    // It may be about to begin.
    let Some(inbox) = inner.inbox(&due.name, due.token) else {
        return Tried::Again;
    };
    let number = Number {
        sender: inner.numbers.session(),
        seq: due.n,
        low: due.n,
        actor: None,
        take: Some((due.born, due.token)),
        from: None,
    };
    let until = Instant::now() + TRY;
    let came = match inbox.deliver(number, false, true, message) {
        Err(known) => known,
        Ok(receiver) => {
            let left = until.saturating_duration_since(Instant::now());
            answered(due.name.clone(), receiver, left).await
        }
    };
    match came {
        // Or it was handled, and has no answer.
        Answer::Value(_)
        | Answer::Handled
        | Answer::Done
        | Answer::Asked(AskError::Unanswered { .. }) => Tried::Done,
        Answer::Asked(AskError::Refused { reason, .. }) => {
            Tried::Never(DeadReason::Refused(reason))
        }
        Answer::Asked(AskError::Failed { reason, .. }) => Tried::Never(DeadReason::Failed(reason)),
        Answer::Asked(AskError::Poisoned { reason, .. }) => {
            Tried::Never(DeadReason::Poisoned(reason))
        }
        // It has ended, moved, or is slow: it is somebody's who will be given the same.
        _ => Tried::Again,
    }
}
