//! The way of an actor that takes several messages at a time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::time::Sleep;

use super::outcome::Outcome;
use super::{Cell, Flow, Peer, caught};
use crate::{
    Actor, AskError, Batch, DeadReason, ExitReason,
    batch::{self, Taken, Verdict},
    envelope::{Back, Envelope},
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
                let messages = u64::try_from(taken.len()).unwrap_or(u64::MAX);
                let snapshot = self.handled(shared, messages);
                batch::settle(shared, taken, None);
                match snapshot {
                    Ok(()) => Flow::Continue(()),
                    Err(reason) => self.recover(shared, reason).await,
                }
            }
            Outcome::Refused(reason) => {
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
