//! What an actor does about its failures, and about those of its siblings.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use futures::FutureExt as _;
use tokio::time::{Instant, Sleep};

use super::outcome::{self, Outcome};
use super::{Cell, Flow, Peer, build, caught, stop_children};
use crate::{
    Actor, ActorError, ActorState, ExitReason, OnFailure, Supervision,
    control::Control,
    envelope::{Back, Envelope},
    error::bounded,
    mailbox::{Next, Notice},
    siblings::{Halt, Ticket},
    supervision::MAX_RESTARTS,
};

/// What an actor waits for before it begins anew.
enum Turn {
    Sleep(Pin<Box<Sleep>>),
    Ticket(Ticket),
}

enum Woken<M, R> {
    Order(Next<M, R>),
    Go,
    GivenUp,
}

impl<A: Actor> Cell<A> {
    /// A message was not handled: tells its sender and, if the actor failed, applies its policy and
    /// tries the message once more if there is a copy.
    pub(super) async fn not_done(
        &mut self,
        shared: &Peer<A>,
        outcome: Outcome<A::Reply>,
        kept: Option<A::Message>,
        back: Back<A::Reply>,
    ) -> Flow {
        self.ctx.take_effects();
        let reason = match outcome {
            Outcome::Failed(reason) => reason,
            Outcome::Stashed => {
                self.hold(shared, back);
                return Flow::Continue(());
            }
            Outcome::Refused(reason) => {
                let detail = kept.as_ref().and_then(outcome::describe::<A>);
                outcome::refuse::<A>(shared, reason, back, detail);
                return Flow::Continue(());
            }
            Outcome::Cancelled => return self.interrupted(shared, kept, back, None),
            Outcome::Done(_) => return Flow::Continue(()),
        };
        self.ctx.snapshot_due = false;
        let Some(message) = kept else {
            outcome::fail::<A>(shared, reason.clone(), back, None);
            return self.recover(shared, reason).await;
        };
        let detail = outcome::describe::<A>(&message);
        if back.has_failed_before() {
            outcome::poison::<A>(shared, Some(message), reason.clone(), back, detail);
            return self.recover(shared, reason).await;
        }
        if let Flow::Break(exit) = self.recover(shared, reason.clone()).await {
            // Whoever takes over may try it, but no third.
            let back = Back::Again(Box::new(back));
            if let Err(envelope) = outcome::bequeath::<A>(shared, Envelope { message, back }) {
                outcome::fail::<A>(shared, reason, envelope.back, detail);
            }
            return Flow::Break(exit);
        }
        if !shared.may_act() {
            let back = Back::Again(Box::new(back));
            self.local.put_back([Envelope { message, back }].into());
            return Flow::Continue(());
        }
        let spare = caught(|| A::keep(&message)).unwrap_or_default();
        self.ctx.begin_message(&back);
        match call!(self, shared, |actor, ctx| actor.handle(message, ctx)) {
            Outcome::Done(answer) => Box::pin(self.done_again(shared, answer, spare, back)).await,
            Outcome::Failed(reason) => {
                self.ctx.snapshot_due = false;
                outcome::poison::<A>(shared, spare, reason.clone(), back, detail);
                self.recover(shared, reason).await
            }
            Outcome::Refused(reason) => {
                outcome::refuse::<A>(shared, reason, back, detail);
                Flow::Continue(())
            }
            Outcome::Stashed => {
                self.hold(shared, back);
                Flow::Continue(())
            }
            Outcome::Cancelled => self.interrupted(shared, spare, back, detail),
        }
    }

    /// A message was handled at its second try.
    async fn done_again(
        &mut self,
        shared: &Peer<A>,
        answer: A::Reply,
        spare: Option<A::Message>,
        back: Back<A::Reply>,
    ) -> Flow {
        if shared.options.journal.is_some() {
            // A third would be one too many, should the commit fail.
            let back = Back::Again(Box::new(back));
            return self.done_durably(shared, answer, spare, back).await;
        }
        match self.done(shared, answer, back) {
            Ok(()) => Flow::Continue(()),
            Err(reason) => self.recover(shared, reason).await,
        }
    }

    /// A handler was cancelled. Its message is not at fault: with a copy, who comes next has it.
    pub(super) fn interrupted(
        &mut self,
        shared: &Peer<A>,
        kept: Option<A::Message>,
        back: Back<A::Reply>,
        detail: Option<cpe_tuple::Value>,
    ) -> Flow {
        let flow = self.cancelled(shared);
        let Some(message) = kept else {
            if flow.is_break() {
                return outcome::killed::<A>(shared, back, detail);
            }
            let reason = "cancelled to begin anew with a sibling that failed".to_owned();
            outcome::fail::<A>(shared, reason, back, detail);
            return flow;
        };
        let envelope = Envelope { message, back };
        if flow.is_continue() {
            self.local.put_back([envelope].into());
        } else if let Err(Envelope { back, .. }) = outcome::bequeath::<A>(shared, envelope) {
            return outcome::killed::<A>(shared, back, detail);
        }
        flow
    }

    /// Applies the policy to a failure: goes on with a sound instance, or says how it ends.
    pub(super) async fn recover(&mut self, shared: &Peer<A>, mut reason: String) -> Flow {
        self.ctx.take_effects();
        let policy = &shared.options.supervision;
        loop {
            reason = bounded(reason);
            shared.count_failure(&reason);
            tracing::warn!(actor = %shared.label(), %reason, "actor failed");
            if policy.on_failure != OnFailure::Resume {
                shared.end_links(Some(&format!("failed: {reason}")));
            }
            match policy.on_failure {
                OnFailure::Restart if self.factory.is_some() => {}
                OnFailure::Resume => {}
                OnFailure::Restart | OnFailure::Stop => {
                    return Flow::Break(ExitReason::Failed(reason));
                }
                OnFailure::Escalate => return escalate::<A>(shared, reason),
            }
            let Some(attempt) = self.count_failure(policy) else {
                let (count, within) = (policy.max_restarts, policy.within);
                let reason = bounded(format!(
                    "{reason} (gave up: more than {count} failures within {within:?})"
                ));
                if policy.escalate_at_limit {
                    return escalate::<A>(shared, reason);
                }
                return Flow::Break(ExitReason::Failed(reason));
            };
            if let Some(journal) = &shared.options.journal {
                journal.failed(shared.id, attempt.saturating_add(1), policy.within);
            }
            if policy.on_failure == OnFailure::Resume {
                return Flow::Continue(());
            }
            match self.restart(shared, attempt, &reason).await {
                Ok(flow) => return flow,
                Err(next) => reason = next,
            }
        }
    }

    /// Notes a failure; gives the number of those before it within the window, or nothing when
    /// they are too many.
    fn count_failure(&mut self, policy: &Supervision) -> Option<u32> {
        let now = Instant::now();
        let failures = &mut self.ctx.rare().failures;
        while failures
            .front()
            .is_some_and(|first| now - *first > policy.within)
        {
            failures.pop_front();
        }
        let before = u32::try_from(failures.len()).unwrap_or(u32::MAX);
        failures.push_back(now);
        (before < policy.max_restarts.min(MAX_RESTARTS)).then_some(before)
    }

    async fn restart(
        &mut self,
        shared: &Peer<A>,
        attempt: u32,
        reason: &str,
    ) -> Result<Flow, String> {
        shared.set_state(ActorState::Restarting);
        stop_children(shared, &ExitReason::ParentStopped).await;
        self.leave_behind(shared);
        let family = shared.parent.and_then(|id| shared.system.family(id));
        let turn = match family {
            Some((parent, family)) => {
                Turn::Ticket(family.fail(&shared.system, &parent, shared, reason))
            }
            None => {
                let seed = shared.system.seed() ^ shared.id.as_u64().rotate_left(32);
                let backoff = &shared.options.supervision.backoff;
                let delay = backoff.delay(attempt, seed ^ u64::from(shared.restarts()));
                Turn::Sleep(Box::pin(tokio::time::sleep(delay)))
            }
        };
        self.anew(shared, turn).await
    }

    /// A sibling failed, and this actor begins anew with it.
    pub(super) async fn halt(&mut self, shared: &Peer<A>, halt: Halt) -> Flow {
        let why = ExitReason::SiblingFailed(halt.sibling.clone());
        if self.factory.is_none() {
            return Flow::Break(why);
        }
        shared.set_state(ActorState::Restarting);
        stop_children(shared, &ExitReason::ParentStopped).await;
        if !self.ctx.rare().broken {
            let why = &why;
            let last = call!(self, shared, |actor, ctx| {
                actor.stopping(why, ctx).map(Ok::<(), ActorError>)
            });
            if let Outcome::Failed(reason) = last {
                shared.count_failure(&reason);
            }
        }
        self.leave_behind(shared);
        match self.anew(shared, Turn::Ticket(halt.accept())).await {
            Ok(flow) => flow,
            Err(reason) => self.recover(shared, reason).await,
        }
    }

    /// Waits for its turn, then makes a new instance; an error is that one's failure.
    async fn anew(&mut self, shared: &Peer<A>, mut turn: Turn) -> Result<Flow, String> {
        loop {
            let woken = poll_fn(|cx| {
                if let Poll::Ready(order) = shared.poll_order(cx) {
                    return Poll::Ready(Woken::Order(order));
                }
                match &mut turn {
                    Turn::Sleep(sleep) => sleep.as_mut().poll(cx).map(|()| Woken::Go),
                    Turn::Ticket(ticket) => Pin::new(&mut ticket.go).poll(cx).map(|go| match go {
                        Ok(()) => Woken::Go,
                        Err(_) => Woken::GivenUp,
                    }),
                }
            })
            .await;
            match woken {
                Woken::Order(Next::Stop(reason)) => return Ok(Flow::Break(reason)),
                // It had failed just before: the newer request counts.
                Woken::Order(Next::Halt(halt)) => turn = Turn::Ticket(halt.accept()),
                Woken::Order(_) => {}
                Woken::Go => break,
                Woken::GivenUp => {
                    let reason = "it and its siblings failed too often".to_owned();
                    return Ok(Flow::Break(ExitReason::Failed(reason)));
                }
            }
        }
        if let Some(factory) = &mut self.factory {
            self.actor =
                build(factory).map_err(|error| format!("cannot make a new instance: {error}"))?;
        }
        self.ctx.rare().broken = false;
        shared.count_restart();
        self.begin(shared, false).await?;
        if let Turn::Ticket(ticket) = turn {
            // A round that is gone waits for nobody.
            let _ = ticket.up.send(());
        }
        Ok(Flow::Continue(()))
    }
}

/// Ends the actor and fails its parent.
fn escalate<A: Actor>(shared: &Peer<A>, reason: String) -> Flow {
    let exit = ExitReason::Failed(reason);
    if let Some(parent) = shared.parent.and_then(|id| shared.system.control(id)) {
        let (child, reason) = (Control::label(shared), exit.to_string());
        parent.notify(Notice::ChildFailed { child, reason });
    }
    Flow::Break(exit)
}
