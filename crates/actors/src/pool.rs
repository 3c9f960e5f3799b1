//! Pools: several workers behind one handle.
//!
//! A [`Pool`] sends each message straight to a worker's mailbox, so that nothing stands between. A
//! keeper, the parent of the workers, replaces those that end, adds some when all are busy and
//! takes idle ones away. What a worker leaves behind when it ends, its mailbox and the message it
//! was at if there is a copy, is given to the others.

mod keeper;
mod options;
mod router;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    ActorId, ActorInfo, ActorRef, AsActor, AskError, DEFAULT_DEADLINE, MAX_DEADLINE, TellError,
    address::{Due, patiently},
    envelope::{Back, Envelope},
    mailbox::Refusal,
};
pub(crate) use keeper::start;
pub use options::{MAX_WORKERS, PoolKey, PoolOptions, Routing};
pub(crate) use router::{Heir, Router};

/// A handle to a pool of workers, cheap to clone. Made by
/// [`System::spawn_pool`](crate::System::spawn_pool).
///
/// ```
/// # use cpe_actors::{Actor, ActorError, Context, PoolKey, PoolOptions, Routing, System};
/// # use std::num::NonZeroUsize;
/// struct Length;
///
/// impl Actor for Length {
///     type Message = String;
///     type Reply = usize;
///
///     async fn handle(&mut self, it: String, _: &mut Context<Self>) -> Result<usize, ActorError> {
///         Ok(it.len())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let system = System::default();
/// let two = NonZeroUsize::MIN.saturating_add(1);
/// let options = PoolOptions::fixed(two)
///     .routing(Routing::by_key(|word: &String| PoolKey::of(word)))
///     .name("lengths");
/// let pool = system.spawn_pool(options, || Ok(Length))?;
/// assert_eq!(pool.ask("word".to_owned()).await?, 4);
/// # Ok(())
/// # }
/// ```
///
/// As an actor (for watching, linking and stopping) it stands for the parent of its workers.
pub struct Pool<M, R = ()> {
    router: Arc<Router<M, R>>,
}

impl<M, R> Clone for Pool<M, R> {
    fn clone(&self) -> Self {
        Self {
            router: Arc::clone(&self.router),
        }
    }
}

impl<M: Send + 'static, R: Send + 'static> fmt::Debug for Pool<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({}, {} workers)", self.label(), self.len())
    }
}

impl<M: Send + 'static, R: Send + 'static> AsActor for Pool<M, R> {
    fn as_actor(&self) -> ActorRef {
        self.router.keeper().as_actor()
    }
}

impl<M: Send + 'static, R: Send + 'static> Pool<M, R> {
    pub(crate) const fn new(router: Arc<Router<M, R>>) -> Self {
        Self { router }
    }

    /// The number of the workers' parent.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.router.keeper().id()
    }

    /// The pool's name, or `pool` and a number.
    #[must_use]
    pub fn label(&self) -> String {
        self.router.keeper().label()
    }

    /// Its workers at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.router.len()
    }

    /// Whether it has no workers, because it has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A moment's view of the workers.
    #[must_use]
    pub fn workers(&self) -> Vec<ActorInfo> {
        self.router.infos()
    }

    /// Puts a message into a worker's mailbox, waiting while those that may have it are full.
    ///
    /// # Errors
    /// [`TellError::Dead`] with the message when the pool has ended.
    ///
    /// # Cancel safety
    /// When dropped before it is done, the message was not put in, and is dropped.
    pub async fn tell(&self, message: M) -> Result<(), TellError<M>> {
        let told = self.router.push_waiting(Envelope::told(message)).await;
        told.map_err(|(envelope, reason)| TellError::Dead {
            actor: self.label(),
            reason,
            message: envelope.message,
        })
    }

    /// Puts a message into a worker's mailbox if there is room now.
    ///
    /// # Errors
    /// [`TellError::Full`] or [`TellError::Dead`], with the message.
    pub fn try_tell(&self, message: M) -> Result<(), TellError<M>> {
        let told = self.router.push(Envelope::told(message));
        told.map_err(|(Envelope { message, .. }, refusal)| {
            let actor = self.label();
            match refusal {
                Refusal::Full => TellError::Full { actor, message },
                Refusal::Dead(reason) => TellError::Dead {
                    actor,
                    reason,
                    message,
                },
            }
        })
    }

    /// Asks a worker and waits for the answer for up to [`DEFAULT_DEADLINE`].
    ///
    /// # Errors
    /// As for [`Address::ask`](crate::Address::ask); the actor named is the pool where no single
    /// worker is meant.
    ///
    /// # Cancel safety
    /// When dropped, the question may still be handled; its answer is lost.
    pub async fn ask(&self, message: M) -> Result<R, AskError> {
        self.ask_within(DEFAULT_DEADLINE, message).await
    }

    /// As [`ask`](Self::ask), waiting for up to `deadline` in all.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub async fn ask_within(&self, deadline: Duration, message: M) -> Result<R, AskError> {
        let due = Instant::now() + deadline.min(MAX_DEADLINE);
        let (asker, mut answer) = oneshot::channel();
        let envelope = Envelope {
            message,
            back: Back::Asker(asker),
        };
        let sent = tokio::time::timeout_at(due, self.router.push_waiting(envelope)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err((_, reason))) => {
                let actor = self.label();
                return Err(AskError::Dead { actor, reason });
            }
            Err(_) => {
                return Err(AskError::Full {
                    actor: self.label(),
                    after: deadline,
                });
            }
        }
        match patiently(Due::At(due), &mut answer).await {
            Some(Ok(answer)) => answer.map_err(|error| *error),
            Some(Err(_)) => Err(AskError::Dead {
                actor: self.label(),
                reason: self.router.exit_reason(),
            }),
            None => Err(AskError::TimedOut {
                actor: self.label(),
                after: deadline,
            }),
        }
    }

    /// Stops the workers, each after the message it is at; what waits becomes dead letters.
    pub fn stop(&self) {
        self.router.keeper().stop();
    }

    /// Takes no more messages; the workers handle those they have, then the pool ends.
    pub fn drain(&self) {
        self.router.drain();
    }
}
