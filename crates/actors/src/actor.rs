//! The trait a user implements.

use std::future::Future;

use cpe_tuple::Value;

use crate::{ActorError, Batch, Context, ExitReason, Poisoned, Terminated};

/// A thing with a mailbox that handles one message at a time.
///
/// Only [`handle`](Self::handle) has to be written, as a plain `async fn`. Messages of one sender
/// arrive in the order in which they were sent; no two calls of one actor overlap, so its state
/// needs no locks. What a handler awaits delays this actor only.
pub trait Actor: Send + Sized + 'static {
    /// What the actor understands; usually an enum.
    type Message: Send + 'static;

    /// What [`ask`](crate::Address::ask) answers; `()` for an actor that is only told things.
    ///
    /// For answers of several types put a [`ReplyTo`](crate::ReplyTo) into the message.
    type Reply: Send + 'static;

    /// What the actor accepts, as a short text for whoever sends it something else by value;
    /// empty by default. For example `{"add":n} or "get"`.
    const ACCEPTS: &'static str = "";

    /// How many messages [`handle_batch`](Self::handle_batch) may take at a time; with 0 or 1, the
    /// default, there are no batches and it is not called.
    const BATCH: usize = 1;

    /// Handles one message. The answer goes to the asker; a `tell` ignores it.
    ///
    /// # Errors
    /// [`ActorError::refused`] when the message is at fault, anything else when the actor is: then
    /// its [`Supervision`](crate::Supervision) decides what happens. A panic counts as a failure.
    fn handle(
        &mut self,
        message: Self::Message,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<Self::Reply, ActorError>> + Send;

    /// Handles the messages that wait, up to [`BATCH`](Self::BATCH) of them, in one go: for work
    /// that is cheaper together, as one transaction for many rows. Called instead of
    /// [`handle`](Self::handle) when `BATCH` is more than 1; by itself it calls that for each.
    ///
    /// Askers whose message was taken and not answered get
    /// [`AskError::Unanswered`](crate::AskError::Unanswered).
    ///
    /// # Errors
    /// As in `handle`, for all that was taken and not answered: none of it is tried again.
    fn handle_batch(
        &mut self,
        batch: &mut Batch<'_, Self::Message, Self::Reply>,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        async move {
            while let Some((item, message)) = batch.next() {
                match self.handle(message, ctx).await {
                    Ok(reply) => batch.answer(item, reply),
                    Err(error) if error.is_refusal() => batch.refuse(item, error),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
    }

    /// Runs before the first message, and again after each restart.
    ///
    /// # Errors
    /// Any error is a failure of the actor, as in [`handle`](Self::handle).
    fn started(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Runs after the last message, when all children have ended.
    ///
    /// Not called on an instance that failed, because its state may be broken, nor on one that was
    /// killed.
    fn stopping(
        &mut self,
        reason: &ExitReason,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (reason, ctx);
        async {}
    }

    /// An actor that this one [watches](Context::watch) has ended. Called once per watched actor.
    ///
    /// # Errors
    /// Any error is a failure of this actor: the way to end together with the other one.
    fn terminated(
        &mut self,
        other: Terminated,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = (other, ctx);
        async { Ok(()) }
    }

    /// A message that this actor sent with [`Context::tell`] failed its receiver twice and comes
    /// back. By default nothing is done: it is also among the dead letters. What a named actor of a
    /// mesh told another by its name comes back too, as a [`Value`].
    ///
    /// # Errors
    /// Any error is a failure of this actor.
    fn returned(
        &mut self,
        poisoned: Poisoned,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = (poisoned, ctx);
        async { Ok(()) }
    }

    /// The state to keep, or nothing (the default). Taken on request, see
    /// [`Context::save_snapshot`] and [`Options::snapshot_every`](crate::Options::snapshot_every).
    ///
    /// An actor with serde state returns `Ok(Some(cpe_actors::bridge::to_value(self)?))`.
    ///
    /// # Errors
    /// An error is a failure of the actor.
    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(None)
    }

    /// The form of the snapshots that this kind takes: raise it when the form changes, and read the
    /// earlier ones in [`restore_older`](Self::restore_older). 1 by default.
    fn snapshot_version(&self) -> u32 {
        1
    }

    /// Takes up the state of a snapshot of the present form; called before
    /// [`started`](Self::started).
    ///
    /// # Errors
    /// An error is a failure of the actor: say clearly if the snapshot's form is unknown.
    fn restore(&mut self, snapshot: Value) -> Result<(), ActorError> {
        let _ = snapshot;
        Ok(())
    }

    /// Takes up the state of a snapshot of an earlier form. By default none is known. One of a
    /// later form is never taken up.
    ///
    /// # Errors
    /// As for [`restore`](Self::restore).
    fn restore_older(&mut self, version: u32, snapshot: Value) -> Result<(), ActorError> {
        let _ = snapshot;
        let known = self.snapshot_version();
        Err(crate::error::unknown_form(version, known))
    }

    /// A second copy of the message for one more try after a failure; nothing by default.
    ///
    /// With `Some(message.clone())`, a message that fails is handled once more after the actor was
    /// resumed or restarted; if it fails again it is [`Poisoned`]: it goes back to its sender and
    /// to the dead letters. Kept messages are not tried again when they were part of a batch.
    fn keep(message: &Self::Message) -> Option<Self::Message> {
        let _ = message;
        None
    }

    /// How a message that was not handled shows among the dead letters; nothing by default.
    fn describe(message: &Self::Message) -> Option<Value> {
        let _ = message;
        None
    }
}
