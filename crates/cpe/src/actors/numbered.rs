//! Sending to durable actors: under a number, again and again until the actor that is there,
//! whoever runs it, has handled the message (rule A9).

use std::sync::Arc;
use std::time::Duration;

use cpe_actors::AskError;
use cpe_tuple::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::envelope::{Answer, Envelope, Number};
use super::inbox::Inbox;
use super::post::CallError;
use super::{Actors, ActorsError, Inner, Place, lock, milliseconds};

/// Pause between two tries to reach an actor whose node is gone or has handed it on.
const PAUSE: Duration = Duration::from_millis(50);

/// A message as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Parcel<'a> {
    pub(super) name: &'a str,
    pub(super) number: Number,
    pub(super) tell: bool,
    pub(super) forwarded: bool,
    pub(super) message: &'a Value,
}

/// What came of a message that the actor has.
pub(super) async fn answer(
    actor: String,
    answered: oneshot::Receiver<Answer>,
    within: Duration,
) -> Answer {
    match tokio::time::timeout(within, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Answer::NotHere,
        Err(_) => Answer::Asked(AskError::TimedOut {
            actor,
            after: within,
        }),
    }
}

impl Inner {
    /// The inbox of a durable actor, if it lives here under this token.
    pub(super) fn inbox(&self, name: &str, token: u64) -> Option<Arc<Inbox>> {
        let hosted = lock(&self.hosted);
        let hosted = hosted.get(name).filter(|hosted| hosted.token == token)?;
        Some(Arc::clone(&hosted.durable.as_ref()?.inbox))
    }

    /// Gives a message to an actor at its place, and waits for what comes of it.
    pub(super) async fn deliver(
        &self,
        place: Place,
        parcel: Parcel<'_>,
        until: Instant,
    ) -> Result<Answer, CallError> {
        let Parcel {
            name,
            number,
            tell,
            forwarded,
            message,
        } = parcel;
        let left = until.saturating_duration_since(Instant::now());
        if place.host.node == self.me.node {
            let Some(inbox) = self.inbox(name, place.token) else {
                return Ok(self.not_here(name, place.token));
            };
            return Ok(
                match inbox.deliver(number, tell, forwarded, message.clone()) {
                    Err(Answer::NotHere) => self.elsewhere(name, place.token),
                    Err(known) => known,
                    Ok(answered) => answer(name.to_owned(), answered, left).await,
                },
            );
        }
        let (token, within_ms) = (place.token, milliseconds(left));
        let request = |id| Envelope::Deliver {
            id,
            name: name.to_owned(),
            token,
            number: number.clone(),
            tell,
            forwarded,
            within_ms,
            message: message.clone(),
        };
        self.call_at(name, place, until, request).await
    }
}

impl Actors {
    /// Whether messages to an actor are numbered, as far as this node knows of it.
    pub(super) async fn is_durable(&self, name: &str, until: Instant) -> Result<bool, ActorsError> {
        match self.inner.find(name, None, until).await? {
            Some(place) => Ok(place.leased),
            None => Err(ActorsError::NoSuchActor(name.to_owned())),
        }
    }

    /// Sends a message to a durable actor until it is handled; a told one until it is there.
    pub(super) async fn send_numbered(
        &self,
        name: &str,
        message: Value,
        tell: bool,
        deadline: Duration,
        until: Instant,
    ) -> Result<Value, ActorsError> {
        let inner = &self.inner;
        let from = self.from.as_deref().map(str::to_owned);
        let Some(open) = inner.numbers.begin(name, tell) else {
            return Err(ActorsError::Refused {
                actor: name.to_owned(),
                node: inner.name.to_string(),
                reason: "too many messages to it from here are not answered yet".to_owned(),
            });
        };
        let mut wrong = None;
        loop {
            let Some(place) = inner.find(name, wrong, until).await? else {
                return Err(ActorsError::NoSuchActor(name.to_owned()));
            };
            let node = place.host.node;
            let parcel = Parcel {
                name,
                number: Number {
                    from: from.clone(),
                    ..open.number()
                },
                tell,
                forwarded: false,
                message: &message,
            };
            let failed = match inner.deliver(place, parcel, until).await {
                Ok(Answer::Value(value)) => return Ok(value),
                Ok(Answer::Done) => return Ok(Value::Null),
                Ok(Answer::Handled) if tell => return Ok(Value::Null),
                Ok(Answer::Handled) => {
                    let actor = name.to_owned();
                    return Err(ActorsError::AnswerLost { actor });
                }
                // It is there: its former host has heard so.
                Ok(Answer::Elsewhere { host, token })
                    if Instant::now() < until && inner.is_told_where(name, place, host, token) =>
                {
                    wrong = None;
                    continue;
                }
                Ok(Answer::NotHere | Answer::Elsewhere { .. }) => None,
                Ok(other) => return Err(inner.refused(name, node, deadline, other).await),
                Err(error @ (CallError::NoLink(_) | CallError::Lost(_))) => Some(error),
                Err(error) => {
                    inner.forget(name);
                    return Err(inner.not_called(name, node, deadline, error).await);
                }
            };
            // Its node is gone, or it has moved: whoever has it next is in the registry soon.
            if Instant::now() + PAUSE >= until {
                let error = failed.unwrap_or(CallError::TimedOut);
                return Err(inner.not_called(name, node, deadline, error).await);
            }
            tokio::time::sleep(PAUSE).await;
            wrong = Some(place);
        }
    }
}
