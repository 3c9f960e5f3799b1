//! Actors reached by values: from the command line, from rules, from other nodes.

use std::{fmt, sync::Arc, time::Duration};

use cpe_tuple::Value;
use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    ActorId, ActorInfo, ActorRef, Address, AsActor, AskError, Numbered, Origin, TellError, bridge,
};

/// An address whose messages and answers are [`Value`]s, whatever the actor's own types are.
#[derive(Clone)]
pub struct AnyAddress(Arc<dyn Target>);

impl AnyAddress {
    /// For a typed actor: messages and answers are translated by [`bridge`], in the caller, so that
    /// the actor never sees a message it cannot read.
    #[must_use]
    pub fn from_typed<M, R>(address: Address<M, R>) -> Self
    where
        M: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        Self::accepting(address, "")
    }

    /// As [`from_typed`](Self::from_typed), with a text for those who send something else.
    #[must_use]
    pub fn accepting<M, R>(address: Address<M, R>, accepts: &'static str) -> Self
    where
        M: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        Self(Arc::new(Typed { address, accepts }))
    }

    pub(crate) fn from_plain(address: Address<Value, Option<Value>>) -> Self {
        Self(Arc::new(Plain(address)))
    }

    /// The actor's number.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.as_actor().id()
    }

    /// The actor's name, or kind and number.
    #[must_use]
    pub fn label(&self) -> String {
        self.as_actor().label()
    }

    /// A moment's view of the actor.
    #[must_use]
    pub fn info(&self) -> ActorInfo {
        self.as_actor().info()
    }

    /// Puts a message into the mailbox, waiting while that is full.
    ///
    /// # Errors
    /// [`AskError::Dead`], or [`AskError::Refused`] for a value that is no message of the actor.
    pub async fn tell(&self, message: Value) -> Result<(), AskError> {
        self.0.tell(message).await
    }

    /// Puts a message into the mailbox if there is room now.
    ///
    /// # Errors
    /// As for [`tell`](Self::tell), and [`AskError::Full`].
    pub fn try_tell(&self, message: Value) -> Result<(), AskError> {
        self.try_tell_from(Origin::Nobody, message)
    }

    /// As [`try_tell`](Self::try_tell), with who sends it: see
    /// [`Context::origin`](crate::Context::origin).
    ///
    /// # Errors
    /// As for [`try_tell`](Self::try_tell).
    pub fn try_tell_from(&self, origin: Origin, message: Value) -> Result<(), AskError> {
        self.0.try_tell(origin, message)
    }

    /// Asks and waits for the answer for up to `deadline`; an actor that answers nothing answers
    /// [`Value::Null`].
    ///
    /// # Errors
    /// As for [`Address::ask_within`], and [`AskError::Refused`] for a value that is no message of
    /// the actor.
    pub async fn ask(&self, message: Value, deadline: Duration) -> Result<Value, AskError> {
        self.ask_from(Origin::Nobody, message, deadline).await
    }

    /// As [`ask`](Self::ask), with who asks: see [`Context::origin`](crate::Context::origin).
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub async fn ask_from(
        &self,
        origin: Origin,
        message: Value,
        deadline: Duration,
    ) -> Result<Value, AskError> {
        self.0.ask(origin, message, deadline).await
    }

    /// As [`ask_from`](Self::ask_from), with a number by which the asker knows the message. What a
    /// durable actor commits says which numbers it has handled
    /// ([`Commit::handled`](crate::Commit)). If the actor ends first, the asker is told so, and the
    /// message is no dead letter: whoever numbers messages has a copy and sends it to whatever
    /// actor comes next.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub async fn ask_numbered(
        &self,
        number: Numbered,
        message: Value,
        deadline: Duration,
    ) -> Result<Value, AskError> {
        self.0.ask_numbered(number, message, deadline).await
    }

    /// As [`ActorRef::stop`].
    pub fn stop(&self) {
        self.as_actor().stop();
    }
}

impl AsActor for AnyAddress {
    fn as_actor(&self) -> ActorRef {
        self.0.actor()
    }
}

impl fmt::Debug for AnyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyAddress({})", self.label())
    }
}

trait Target: Send + Sync {
    fn actor(&self) -> ActorRef;
    fn tell(&self, message: Value) -> BoxFuture<'_, Result<(), AskError>>;
    fn try_tell(&self, origin: Origin, message: Value) -> Result<(), AskError>;
    fn ask(
        &self,
        origin: Origin,
        message: Value,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Value, AskError>>;
    fn ask_numbered(
        &self,
        number: Numbered,
        message: Value,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Value, AskError>>;
}

struct Plain(Address<Value, Option<Value>>);

impl Target for Plain {
    fn actor(&self) -> ActorRef {
        self.0.as_actor()
    }

    fn tell(&self, message: Value) -> BoxFuture<'_, Result<(), AskError>> {
        Box::pin(async { self.0.tell(message).await.map_err(without_message) })
    }

    fn try_tell(&self, origin: Origin, message: Value) -> Result<(), AskError> {
        let told = self.0.try_tell_from(origin, message);
        told.map_err(without_message)
    }

    fn ask(
        &self,
        origin: Origin,
        message: Value,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Value, AskError>> {
        Box::pin(async move {
            self.0
                .ask_from(origin, deadline, message)
                .await
                .map(Option::unwrap_or_default)
        })
    }

    fn ask_numbered(
        &self,
        number: Numbered,
        message: Value,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Value, AskError>> {
        Box::pin(async move {
            let asked = self.0.ask_numbered(number, deadline, message);
            asked.await.map(Option::unwrap_or_default)
        })
    }
}

struct Typed<M, R> {
    address: Address<M, R>,
    accepts: &'static str,
}

impl<M, R> Typed<M, R>
where
    M: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
{
    fn read(&self, message: &Value) -> Result<M, AskError> {
        bridge::from_value(message).map_err(|error| {
            let mut reason = error.to_string();
            if !self.accepts.is_empty() {
                reason = format!("{reason}; it accepts {}", self.accepts);
            }
            let reason = crate::error::bounded(reason);
            AskError::Refused {
                actor: self.address.label(),
                reason,
            }
        })
    }

    fn write(&self, answer: &R) -> Result<Value, AskError> {
        bridge::to_value(answer).map_err(|error| AskError::Failed {
            actor: self.address.label(),
            reason: crate::error::bounded(format!("its answer is no value: {error}")),
        })
    }
}

impl<M, R> Target for Typed<M, R>
where
    M: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
{
    fn actor(&self) -> ActorRef {
        self.address.as_actor()
    }

    fn tell(&self, message: Value) -> BoxFuture<'_, Result<(), AskError>> {
        let message = self.read(&message);
        Box::pin(async { self.address.tell(message?).await.map_err(without_message) })
    }

    fn try_tell(&self, origin: Origin, message: Value) -> Result<(), AskError> {
        self.address
            .try_tell_from(origin, self.read(&message)?)
            .map_err(without_message)
    }

    fn ask(
        &self,
        origin: Origin,
        message: Value,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Value, AskError>> {
        let message = self.read(&message);
        Box::pin(async move {
            let answer = self.address.ask_from(origin, deadline, message?).await?;
            self.write(&answer)
        })
    }

    fn ask_numbered(
        &self,
        number: Numbered,
        message: Value,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Value, AskError>> {
        let message = self.read(&message);
        Box::pin(async move {
            let asked = self.address.ask_numbered(number, deadline, message?);
            self.write(&asked.await?)
        })
    }
}

fn without_message<M>(error: TellError<M>) -> AskError {
    match error {
        TellError::Full { actor, .. } => AskError::Full {
            actor,
            after: Duration::ZERO,
        },
        TellError::Dead { actor, reason, .. } => AskError::Dead { actor, reason },
    }
}
