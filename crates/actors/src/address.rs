//! The typed handle to an actor.

use std::{fmt, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    ActorId, ActorInfo, ActorRef, AsActor, AskError, Numbered, Origin, ReplyTo, TellError,
    Terminated, TimerId,
    control::Control,
    envelope::{Answer, Back, Envelope},
    mailbox::{Refusal, Shared},
    timers::Payload,
};

/// How long [`Address::ask`] waits for an answer.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// The longest deadline; longer ones are cut to it. A year: tokio's timers reach about two.
pub const MAX_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Where to send messages of type `M` and questions answered by `R`. Cheap to clone.
///
/// An address does not keep its actor alive: an actor lives until it is stopped.
pub struct Address<M, R = ()> {
    pub(crate) shared: Arc<Shared<M, R>>,
}

impl<M, R> Clone for Address<M, R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M: Send + 'static, R: Send + 'static> fmt::Debug for Address<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.label())
    }
}

impl<M: Send + 'static, R: Send + 'static> AsActor for Address<M, R> {
    fn as_actor(&self) -> ActorRef {
        ActorRef(Arc::clone(&self.shared) as Arc<dyn Control>)
    }
}

impl<M: Send + 'static, R: Send + 'static> Address<M, R> {
    /// The actor's number.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.shared.id
    }

    /// The actor's name, or kind and number.
    #[must_use]
    pub fn label(&self) -> String {
        self.shared.label()
    }

    /// A moment's view of the actor.
    #[must_use]
    pub fn info(&self) -> ActorInfo {
        self.shared.info()
    }

    /// Puts a message into the mailbox, waiting while that is full.
    ///
    /// That the message is in the mailbox does not mean that it will be handled: the actor may end
    /// first, and then it shows among the dead letters.
    ///
    /// # Errors
    /// [`TellError::Dead`] with the message when the actor has ended.
    ///
    /// # Cancel safety
    /// When dropped before it is done, the message was not put in, and is dropped.
    pub async fn tell(&self, message: M) -> Result<(), TellError<M>> {
        self.tell_as(message, Back::Nowhere).await
    }

    pub(crate) async fn tell_as(&self, message: M, back: Back<R>) -> Result<(), TellError<M>> {
        match self.shared.push(Envelope { message, back }) {
            Ok(()) => Ok(()),
            Err((envelope, Refusal::Full)) => match self.shared.push_waiting(envelope).await {
                Ok(()) => Ok(()),
                Err((envelope, reason)) => Err(self.dead(envelope.message, reason)),
            },
            Err((envelope, Refusal::Dead(reason))) => Err(self.dead(envelope.message, reason)),
        }
    }

    /// Puts a message into the mailbox if there is room now.
    ///
    /// # Errors
    /// [`TellError::Full`] or [`TellError::Dead`], with the message.
    pub fn try_tell(&self, message: M) -> Result<(), TellError<M>> {
        self.try_tell_from(Origin::Nobody, message)
    }

    /// As [`try_tell`](Self::try_tell), with who sends it: see
    /// [`Context::origin`](crate::Context::origin).
    ///
    /// # Errors
    /// As for [`try_tell`](Self::try_tell).
    pub fn try_tell_from(&self, origin: Origin, message: M) -> Result<(), TellError<M>> {
        let back = Back::Nowhere.from(origin);
        self.shared
            .push(Envelope { message, back })
            .map_err(|(envelope, refusal)| match refusal {
                Refusal::Full => TellError::Full {
                    actor: self.label(),
                    message: envelope.message,
                },
                Refusal::Dead(reason) => self.dead(envelope.message, reason),
            })
    }

    /// Sends a message after a while, by a timer of the actor: it comes ahead of what waits in the
    /// mailbox, and ends with the actor.
    ///
    /// # Errors
    /// [`TellError::Dead`], or [`TellError::Full`] when the actor has
    /// [`MAX_TIMERS`](crate::MAX_TIMERS) timers running.
    pub fn tell_after(&self, delay: Duration, message: M) -> Result<TimerId, TellError<M>> {
        let at = Instant::now() + delay.min(MAX_DEADLINE);
        self.shared
            .set_timer(at, Payload::Once(message))
            .map_err(|refused| {
                let Payload::Once(message) = refused.payload else {
                    unreachable!("the payload that comes back is the one that went in")
                };
                match refused.dead {
                    Some(reason) => self.dead(message, reason),
                    None => TellError::Full {
                        actor: self.label(),
                        message,
                    },
                }
            })
    }

    /// Cancels a timer; false if it has fired or never was.
    #[must_use]
    pub fn cancel_timer(&self, timer: TimerId) -> bool {
        self.shared.cancel_timer(timer)
    }

    /// Asks and waits for the answer for up to [`DEFAULT_DEADLINE`].
    ///
    /// # Errors
    /// Each variant of [`AskError`] but `NoSuchActor`.
    ///
    /// # Cancel safety
    /// When dropped, the question may still be handled; its answer is lost.
    pub async fn ask(&self, message: M) -> Result<R, AskError> {
        self.ask_within(DEFAULT_DEADLINE, message).await
    }

    /// Asks and waits for the answer for up to `deadline`, which covers both the wait for room in
    /// the mailbox and the wait for the answer.
    ///
    /// # Errors
    /// Each variant of [`AskError`] but `NoSuchActor`.
    ///
    /// # Cancel safety
    /// As for [`ask`](Self::ask).
    pub async fn ask_within(&self, deadline: Duration, message: M) -> Result<R, AskError> {
        self.ask_by(deadline, message, |back| back).await
    }

    /// As [`ask_within`](Self::ask_within), with who asks: see
    /// [`Context::origin`](crate::Context::origin).
    ///
    /// # Errors
    /// As for [`ask_within`](Self::ask_within).
    ///
    /// # Cancel safety
    /// As for [`ask`](Self::ask).
    pub async fn ask_from(
        &self,
        origin: Origin,
        deadline: Duration,
        message: M,
    ) -> Result<R, AskError> {
        self.ask_by(deadline, message, |back| back.from(origin))
            .await
    }

    /// As [`ask_within`](Self::ask_within), with a number by which the asker knows the message.
    pub(crate) async fn ask_numbered(
        &self,
        number: Numbered,
        deadline: Duration,
        message: M,
    ) -> Result<R, AskError> {
        let numbered = |back| Back::Numbered(Box::new((number, back)));
        self.ask_by(deadline, message, numbered).await
    }

    async fn ask_by(
        &self,
        deadline: Duration,
        message: M,
        back: impl FnOnce(Back<R>) -> Back<R>,
    ) -> Result<R, AskError> {
        let (reply, mut answer) = oneshot::channel();
        let back = back(Back::Asker(reply));
        let left = self
            .send_within(deadline, Envelope { message, back })
            .await?;
        match patiently(left, &mut answer).await {
            Some(answer) => self.answered(answer),
            None => Err(AskError::TimedOut {
                actor: self.label(),
                after: deadline,
            }),
        }
    }

    /// Asks by a message that carries where its answer goes, for answers of any type and at any
    /// time: `address.request(Message::Sum)` for a variant `Sum(ReplyTo<u64>)`. Waits for up to
    /// [`DEFAULT_DEADLINE`].
    ///
    /// # Errors
    /// As for [`ask`](Self::ask); [`AskError::Unanswered`] when the actor drops the [`ReplyTo`].
    pub async fn request<T: Send + 'static>(
        &self,
        message: impl FnOnce(ReplyTo<T>) -> M,
    ) -> Result<T, AskError> {
        self.request_within(DEFAULT_DEADLINE, message).await
    }

    /// As [`request`](Self::request), waiting for up to `deadline`.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub async fn request_within<T: Send + 'static>(
        &self,
        deadline: Duration,
        message: impl FnOnce(ReplyTo<T>) -> M,
    ) -> Result<T, AskError> {
        let due = Due::At(Instant::now() + deadline.min(MAX_DEADLINE));
        let (to, mut value) = oneshot::channel();
        // The actor's own answer is only looked at for the reason when no value comes.
        let (reply, mut answer) = oneshot::channel();
        let envelope = Envelope {
            message: message(ReplyTo(to)),
            back: Back::Asker(reply),
        };
        self.send_within(deadline, envelope).await?;
        match patiently(due, &mut value).await {
            Some(Ok(value)) => return Ok(value),
            Some(Err(_)) => {
                if let Some(answer) = patiently(due, &mut answer).await {
                    self.answered(answer)?;
                    return Err(AskError::Unanswered {
                        actor: self.label(),
                    });
                }
            }
            None => {}
        }
        Err(AskError::TimedOut {
            actor: self.label(),
            after: deadline,
        })
    }

    /// As [`ActorRef::stop`].
    pub fn stop(&self) {
        self.as_actor().stop();
    }

    /// As [`ActorRef::drain`].
    pub fn drain(&self) {
        self.shared.drain();
    }

    /// As [`ActorRef::kill`].
    pub fn kill(&self) {
        self.as_actor().kill();
    }

    /// Waits until the actor is gone and says why.
    pub async fn ended(&self) -> Terminated {
        self.shared.wait_ended().await
    }

    /// Puts a question in and returns when the answer is due.
    async fn send_within(
        &self,
        deadline: Duration,
        envelope: Envelope<M, R>,
    ) -> Result<Due, AskError> {
        let deadline = deadline.min(MAX_DEADLINE);
        let reason = match self.shared.push(envelope) {
            Ok(()) => return Ok(Due::In(deadline)),
            Err((envelope, Refusal::Full)) => {
                let due = Instant::now() + deadline;
                match tokio::time::timeout_at(due, self.shared.push_waiting(envelope)).await {
                    Ok(Ok(())) => return Ok(Due::At(due)),
                    Ok(Err((_, reason))) => reason,
                    Err(_) => {
                        return Err(AskError::Full {
                            actor: self.label(),
                            after: deadline,
                        });
                    }
                }
            }
            Err((_, Refusal::Dead(reason))) => reason,
        };
        Err(AskError::Dead {
            actor: self.label(),
            reason,
        })
    }

    fn answered(
        &self,
        answer: Result<Answer<R>, oneshot::error::RecvError>,
    ) -> Result<R, AskError> {
        match answer {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(*error),
            // Only an actor whose task is gone drops a question without a word.
            Err(_) => {
                let reason = self
                    .shared
                    .exit_reason()
                    .unwrap_or(crate::ExitReason::RuntimeGone);
                Err(AskError::Dead {
                    actor: self.label(),
                    reason,
                })
            }
        }
    }

    fn dead(&self, message: M, reason: crate::ExitReason) -> TellError<M> {
        TellError::Dead {
            actor: self.label(),
            reason,
            message,
        }
    }
}

/// When an answer is due. Reading the clock is put off until the answer is not there at once.
#[derive(Clone, Copy)]
pub(crate) enum Due {
    In(Duration),
    At(Instant),
}

/// Waits for `answer`, or gives nothing when it is due.
///
/// An actor on the same thread answers before this task's next turn. So the first time the answer
/// is not there this only lets other tasks run, and a timer is set up the second time: most
/// questions never touch the timer wheel, whose lock all threads share.
pub(crate) async fn patiently<T>(
    due: Due,
    answer: &mut oneshot::Receiver<T>,
) -> Option<Result<T, oneshot::error::RecvError>> {
    let mut turned = false;
    let early = poll_fn(|cx| match Pin::new(&mut *answer).poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if turned => Poll::Ready(None),
        Poll::Pending => {
            turned = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
    if early.is_some() {
        return early;
    }
    let due = match due {
        Due::In(left) => Instant::now() + left,
        Due::At(due) => due,
    };
    tokio::time::timeout_at(due, answer).await.ok()
}
