//! Actors that get the tuples that match a template as messages.

use std::fmt;

use cpe_actors::Address;
use cpe_tuple::{Template, Tuple};
use tokio::task::JoinHandle;

use crate::{Space, SpaceError};

/// Why a [`Subscription`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionEnd {
    /// The actor ended.
    ActorEnded,
    /// The node stopped.
    NodeStopped,
    /// The actor was so slow that tuples were missed: see [`Watch`](crate::Watch).
    FellBehind,
    /// It was dropped, or panicked in the function that makes messages.
    Cancelled,
}

/// Tuples on their way to an actor, as its node learns of them, beginning with those there are;
/// dropping it ends it. An actor keeps it in its state, so that it goes with the instance.
#[must_use = "dropping it ends the subscription"]
pub struct Subscription {
    task: JoinHandle<SubscriptionEnd>,
    /// Once it was told: a task tells its end once.
    end: Option<SubscriptionEnd>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("ended", &self.task.is_finished())
            .finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscription {
    /// Waits until it ends, and says why.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ended(&mut self) -> SubscriptionEnd {
        match self.end {
            Some(end) => end,
            None => {
                let end = (&mut self.task).await;
                let end = end.unwrap_or(SubscriptionEnd::Cancelled);
                *self.end.insert(end)
            }
        }
    }
}

impl Space {
    /// Has a local actor get each tuple of a workspace that matches, as a message.
    ///
    /// Every node can have subscribers; a tuple is not taken by them. A tuple comes once, with the
    /// exceptions of [`Watch`](crate::Watch): let the tuples carry a number where they matter. A
    /// full mailbox makes the subscription wait.
    ///
    /// # Errors
    /// As for [`watch`](Self::watch).
    pub async fn subscribe<M, R>(
        &self,
        ws: &str,
        template: Template,
        actor: &Address<M, R>,
        wrap: impl Fn(Tuple) -> M + Send + 'static,
    ) -> Result<Subscription, SpaceError>
    where
        M: Send + 'static,
        R: Send + 'static,
    {
        let mut watch = self.watch(ws, template).await?;
        let actor = actor.clone();
        let task = tokio::spawn(async move {
            loop {
                let tuple = tokio::select! {
                    tuple = watch.next() => tuple,
                    _ = actor.ended() => return SubscriptionEnd::ActorEnded,
                };
                let Some(tuple) = tuple else {
                    return if watch.fell_behind() {
                        SubscriptionEnd::FellBehind
                    } else {
                        SubscriptionEnd::NodeStopped
                    };
                };
                if actor.tell(wrap(tuple)).await.is_err() {
                    return SubscriptionEnd::ActorEnded;
                }
            }
        });
        Ok(Subscription { task, end: None })
    }
}
