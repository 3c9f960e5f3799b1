//! The typed address of a named actor.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use cpe_actors::bridge;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Actors, ActorsError};

/// A named actor that takes messages of type `M` and answers `R`, wherever in the mesh it lives.
///
/// It is the name and the types: cheap to clone, and serialised as the name, so that it can be part
/// of a message or a tuple. Whoever gets it sends through the [`Actors`] of the node it is on. That
/// the actor of this name does take such messages is found when one is sent.
///
/// Messages and answers travel in the forms of [`bridge`].
///
/// ```
/// # use cpe::prelude::*;
/// # use cpe::Address;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// #[serde(rename_all = "kebab-case")]
/// enum Count {
///     Add(i64),
///     Get,
/// }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let node = Node::builder().ephemeral().start().await?;
/// # let actors = node.actors();
/// actors.spawn("counter", "visits", Value::Null, SpawnOptions::default()).await?;
/// let visits = Address::<Count, i64>::new("visits");
/// visits.tell(&actors, &Count::Add(2)).await?;
/// assert_eq!(visits.ask(&actors, &Count::Get, Duration::from_secs(5)).await?, 2);
/// # node.shutdown(Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(from = "String", into = "String", bound = "")]
pub struct Address<M, R = ()> {
    name: Arc<str>,
    types: PhantomData<fn(M) -> R>,
}

impl<M, R> From<String> for Address<M, R> {
    fn from(name: String) -> Self {
        Self {
            name: Arc::from(name),
            types: PhantomData,
        }
    }
}

impl<M, R> From<Address<M, R>> for String {
    fn from(address: Address<M, R>) -> Self {
        Self::from(&*address.name)
    }
}

impl<M, R> Clone for Address<M, R> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            types: PhantomData,
        }
    }
}

impl<M, R> fmt::Debug for Address<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.name)
    }
}

impl<M, R> PartialEq for Address<M, R> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl<M, R> Eq for Address<M, R> {}

impl<M: Serialize, R: DeserializeOwned> Address<M, R> {
    /// The actor of this name.
    #[must_use]
    pub fn new(name: impl AsRef<str>) -> Self {
        Self {
            name: Arc::from(name.as_ref()),
            types: PhantomData,
        }
    }

    /// The actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As [`Actors::tell`].
    ///
    /// # Errors
    /// As for [`Actors::tell`], and [`ActorsError::NotTyped`] for a message that no value can say.
    pub async fn tell(&self, actors: &Actors, message: &M) -> Result<(), ActorsError> {
        let message = bridge::to_value(message).map_err(|error| self.not_typed(&error))?;
        actors.tell(&self.name, message).await
    }

    /// As [`Actors::ask`].
    ///
    /// # Errors
    /// As for [`Actors::ask`], and [`ActorsError::NotTyped`] for a message that no value can say or
    /// an answer of another type.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the actor may or may not handle the message.
    pub async fn ask(
        &self,
        actors: &Actors,
        message: &M,
        deadline: Duration,
    ) -> Result<R, ActorsError> {
        let message = bridge::to_value(message).map_err(|error| self.not_typed(&error))?;
        let answer = actors.ask(&self.name, message, deadline).await?;
        bridge::from_value(&answer).map_err(|error| self.not_typed(&error))
    }

    fn not_typed(&self, error: &bridge::BridgeError) -> ActorsError {
        ActorsError::NotTyped {
            actor: self.name.to_string(),
            reason: error.to_string(),
        }
    }
}
