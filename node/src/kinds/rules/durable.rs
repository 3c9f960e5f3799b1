//! The way of a durable agent: everything that changes it comes through its mailbox, so that the
//! actor commits memory, ledger and what is to be done because of it in one.

use std::time::Duration;

use cpe::{ActorError, DynContext, Failure, LeaseHandle, Space, SpaceError, Template, Tuple};
use cpe_rules::Effect;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::driver::{
    ASK_WITHIN, Answer, Driver, EFFECT_WITHIN, Event, Held, Letter, REST, WAIT_AGAIN, now_ms,
    passes,
};
use super::ledger::{Own, Taken, Waker};

/// How long a tuple that a durable agent fetched stays its own until the commit that consumes it.
/// When an agent dies before, others can have the tuple after that time; when it dies after, and
/// nobody goes on with it for so long, the tuple comes back although it was consumed.
pub(super) const LEASE: Duration = Duration::from_secs(20);

/// Events handled between two commits at most.
const TURN_MAX: usize = 64;

impl Driver {
    /// Begins, as [`run`](Self::run) does, but handles nothing more by itself.
    pub(super) async fn begin_durably(&mut self, waker: Waker) {
        self.queue.waker = Some(waker);
        self.ledger.get_or_insert_default();
        self.resume().await;
        self.event(Event::Start).await;
    }

    /// Ends the leases of what was consumed, as it is committed by now.
    pub(super) async fn release(&mut self) {
        let consumed = self.ledger.as_mut().map(super::ledger::Ledger::consumed);
        for lease in consumed.unwrap_or_default() {
            self.end_lease(&lease).await;
        }
    }

    /// Gives what rules asked for to the commit that ends this message, as far as it has room.
    pub(super) fn hand_over(&mut self, ctx: &mut DynContext) -> Result<(), ActorError> {
        let own = self.name.clone();
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        for fault in ledger.hand_over(&own, |effect| ctx.effect(effect))? {
            self.complain("do what a rule asked for", &fault);
        }
        Ok(())
    }

    /// What the agent told itself: what came before it is done.
    pub(super) async fn in_turn(&mut self, own: Own) {
        match own {
            Own::Ask(request) => {
                let asked = self.ledger.as_mut().and_then(|it| it.ask(request));
                if let Some(effect) = asked {
                    self.act(effect).await;
                }
            }
            Own::Note(message) => self.event(Event::Note(message)).await,
            Own::Stop => self.act(Effect::Stop).await,
            Own::Took(took) => {
                let answered = self.ledger.as_mut().and_then(|it| it.took(took));
                let Some(taken) = answered else {
                    return;
                };
                let Taken {
                    request,
                    answer,
                    workspace,
                } = taken;
                let held = Held::Tuple(workspace);
                self.event(Event::Answer(request, answer, held)).await;
            }
        }
    }

    /// The tuple was consumed, and that lasts: it must not come back.
    async fn end_lease(&mut self, lease: &str) {
        let Ok(lease) = lease.parse::<LeaseHandle>() else {
            return self.complain("end a lease", &lease);
        };
        let space = self.node.space().clone();
        while let Err(error) = space.commit(lease, EFFECT_WITHIN).await {
            if !again(&error) {
                let what = "keep a tuple that it consumed from coming back";
                return self.complain(what, &error);
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// Handles what waits in the queue.
    pub(super) async fn turn(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        for _ in 0..TURN_MAX {
            let Ok(event) = self.events.try_recv() else {
                return;
            };
            self.event(event).await;
        }
        self.wake();
    }

    /// Handles a message, and what comes meanwhile, until it is answered.
    pub(super) async fn answer(&mut self, letter: Letter) -> Answer {
        let (sender, mut answer) = oneshot::channel();
        self.message(letter, sender).await;
        loop {
            let until = self.asked.as_ref().map(|asked| asked.until);
            let late = tokio::time::sleep_until(until.unwrap_or_else(Instant::now));
            tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or(Ok(None)),
                Some(event) = self.events.recv() => self.event(event).await,
                Some(_) = self.tasks.join_next() => {}
                () = late => self.settle(Ok(None)),
            }
        }
    }

    /// Has itself called again if something is to be done yet.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.queue.waker {
            waker.wake();
        }
    }

    /// Whether something waits for the commit.
    pub(super) fn is_due(&self) -> bool {
        let due = self.ledger.as_ref();
        due.is_some_and(|ledger| !ledger.outbox.is_empty()) || !self.events.is_empty()
    }

    /// What it waited for when it was kept, begun again.
    pub(super) async fn ask_again(&mut self) {
        let Some(ledger) = &self.ledger else {
            return;
        };
        let (open, timers) = (ledger.open.clone(), ledger.timers.clone());
        for effect in open.into_values() {
            self.act(effect).await;
        }
        for (timer, (due_ms, fact)) in timers {
            let left = u64::try_from(due_ms.saturating_sub(now_ms())).unwrap_or(0);
            self.come_later(left, fact, timer);
        }
    }
}

/// Takes a tuple so that it is nobody else's, and comes back if the agent dies before its commit.
pub(super) async fn lease(
    space: &Space,
    workspace: &str,
    template: Template,
    wait: bool,
) -> Result<Option<(Tuple, LeaseHandle)>, SpaceError> {
    let leased = if wait {
        let taken = space.take_leased(workspace, template, LEASE, WAIT_AGAIN);
        Some(taken.await?)
    } else {
        let taken = space.try_take_leased(workspace, template, LEASE, ASK_WITHIN);
        taken.await?
    };
    Ok(leased.map(|leased| (leased.tuple().clone(), leased.handle())))
}

/// Whether it may be done later, or be found to have been done.
fn again(error: &SpaceError) -> bool {
    match error {
        SpaceError::Failed(Failure::LeaseLost { .. }) => false,
        SpaceError::Failed(failure) => passes(failure),
        _ => false,
    }
}
