//! The way of an actor that takes several messages at a time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::time::Sleep;

use super::durable::Committed;
use super::outcome::Outcome;
use super::{Cell, Flow, Peer, caught};
use crate::{
    Actor, AskError, Batch, DeadReason, ExitReason,
    batch::{self, Taken, Verdict},
    envelope::{Back, Envelope},
    mailbox::Shared,
};

impl<A: Actor> Cell<A> {
    pub(super) async fn batch(
        &mut self,
        shared: &Peer<A>,
        first: Envelope<A::Message, A::Reply>,
    ) -> Flow {
        let mut batch = Batch {
            shared,
            local: &mut self.local,
            first: Some(first),
            limit: A::BATCH,
            taken: Vec::new(),
        };
        let lent = &mut batch;
        let outcome = call!(self, shared, |actor, ctx| actor.handle_batch(lent, ctx));
        let Batch {
            mut taken, first, ..
        } = batch;
        // A handler that takes nothing would be called with the same message for ever.
        taken.extend(first.map(|Envelope { back, .. }| Taken {
            back,
            verdict: Verdict::None,
        }));
        let actor = || shared.label();
        match outcome {
            Outcome::Done(()) | Outcome::Stashed => {
                self.hold(shared, Back::Nowhere);
                let kept = |one: &&Taken<_>| !matches!(one.verdict, Verdict::Refused(_));
                let handled = taken
                    .iter()
                    .filter(kept)
                    .filter_map(|one| one.back.number());
                let handled = handled.collect();
                match self.commit(shared, handled).await {
                    Committed::Lasts => {}
                    Committed::Fenced(why) => {
                        let reason = ExitReason::Fenced(why);
                        lose(shared, taken, &reason);
                        return Flow::Break(reason);
                    }
                    Committed::Failed(reason) => {
                        let error = AskError::Failed {
                            actor: actor(),
                            reason: reason.clone(),
                        };
                        let why = DeadReason::Failed(reason.clone());
                        batch::settle(shared, unanswered(taken), Some((&why, &error)));
                        return self.recover(shared, reason).await;
                    }
                    Committed::Cancelled => {
                        lose(shared, taken, &ExitReason::Killed);
                        return self.cancelled(shared);
                    }
                }
                let messages = u64::try_from(taken.len()).unwrap_or(u64::MAX);
                let snapshot = self.handled(shared, messages);
                batch::settle(shared, taken, None);
                match snapshot {
                    Ok(()) => Flow::Continue(()),
                    Err(reason) => self.recover(shared, reason).await,
                }
            }
            Outcome::Refused(reason) => {
                self.ctx.take_effects();
                let error = AskError::Refused {
                    actor: actor(),
                    reason: reason.clone(),
                };
                batch::settle(shared, taken, Some((&DeadReason::Refused(reason), &error)));
                Flow::Continue(())
            }
            Outcome::Failed(reason) => {
                self.ctx.snapshot_due = false;
                let error = AskError::Failed {
                    actor: actor(),
                    reason: reason.clone(),
                };
                let why = DeadReason::Failed(reason.clone());
                batch::settle(shared, taken, Some((&why, &error)));
                self.recover(shared, reason).await
            }
            Outcome::Cancelled => {
                let reason = ExitReason::Killed;
                let error = AskError::Dead {
                    actor: actor(),
                    reason: reason.clone(),
                };
                let why = DeadReason::ActorEnded(reason);
                batch::settle(shared, taken, Some((&why, &error)));
                self.cancelled(shared)
            }
        }
    }
}

/// What was answered is not, as the state that led to it does not last.
fn unanswered<R>(mut taken: Vec<Taken<R>>) -> Vec<Taken<R>> {
    for one in &mut taken {
        one.verdict = Verdict::None;
    }
    taken
}

/// Tells all senders of a batch that the actor ended before it lasted.
fn lose<M: Send + 'static, R: Send + 'static>(
    shared: &Shared<M, R>,
    taken: Vec<Taken<R>>,
    reason: &ExitReason,
) {
    let error = AskError::Dead {
        actor: shared.label(),
        reason: reason.clone(),
    };
    let why = DeadReason::ActorEnded(reason.clone());
    batch::settle(shared, unanswered(taken), Some((&why, &error)));
}
