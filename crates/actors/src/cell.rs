//! The task of one actor: from its first message to its last, through failures and restarts.

use std::{
    any::Any,
    future::{Future, poll_fn},
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use futures::FutureExt as _;
use tokio::time::{Instant, Sleep};

use crate::timers::Payload;
use crate::{
    Actor, ActorError, ActorState, Context, ExitReason,
    envelope::{Back, Envelope},
    error::bounded,
    mailbox::{Local, Next, Notice, Shared},
    supervision::MAX_RESTARTS,
    system::Factory,
};
use durable::Committed;
use outcome::Outcome;

/// Calls user code: a panic becomes a failure, and a stop cancels it after the grace period.
///
/// A macro, because the future borrows the actor and its context, which a generic function over
/// `impl Future` could not be given by name; and because each function between would hold a copy of
/// the future, in every idle actor.
macro_rules! call {
    ($cell:expr, $shared:expr, |$actor:ident, $ctx:ident| $call:expr) => {
        'call: {
            let mut future = pin!({
                let ($actor, $ctx) = (&mut $cell.actor, &mut $cell.ctx);
                match caught(move || $call) {
                    Ok(future) => future,
                    Err(panic) => break 'call Outcome::from_panic(&*panic),
                }
            });
            let mut grace: Option<Pin<Box<Sleep>>> = None;
            let shared = $shared;
            poll_fn(|cx| match caught(|| future.as_mut().poll(cx)) {
                Ok(Poll::Ready(result)) => Poll::Ready(Outcome::from(result)),
                Ok(Poll::Pending) => shared
                    .poll_interrupt(cx, &mut grace)
                    .map(|()| Outcome::Cancelled),
                Err(panic) => Poll::Ready(Outcome::from_panic(&*panic)),
            })
            .await
        }
    };
}

mod batch;
mod durable;
mod failure;
mod outcome;

/// An actor whose call panicked is not used again unless its policy says so.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(call))
}

/// Makes an instance; a panic of the factory is an error.
pub(crate) fn build<A>(factory: &mut Factory<A>) -> Result<A, ActorError> {
    caught(factory).unwrap_or_else(|panic| Err(ActorError::failed(panic_text(&*panic))))
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text");
    bounded(format!("panicked: {text}"))
}

/// Runs an actor to its end.
pub(crate) fn run<A: Actor>(
    shared: Arc<Shared<A::Message, A::Reply>>,
    actor: A,
    factory: Option<Factory<A>>,
) -> impl Future<Output = ()> + Send {
    let grave = Grave {
        shared: Arc::clone(&shared),
    };
    let ctx = Context::new(shared);
    let cell = Cell {
        actor,
        ctx,
        factory,
        local: Local::default(),
    };
    let mut tenure = Tenure { cell, grave };
    async move {
        let reason = tenure.cell.live().await;
        Box::pin(tenure.cell.end(reason)).await;
        drop(tenure);
    }
}

/// The order of the fields is the order in which they are dropped: whoever learns of an actor's end
/// finds what it held (files, ports, locks) released.
struct Tenure<A: Actor> {
    cell: Cell<A>,
    #[expect(dead_code, reason = "it is there for its drop")]
    grave: Grave<A>,
}

/// Makes the end known however it comes, also when the task is dropped with its runtime.
struct Grave<A: Actor> {
    shared: Arc<Shared<A::Message, A::Reply>>,
}

impl<A: Actor> Drop for Grave<A> {
    fn drop(&mut self) {
        let shared = &self.shared;
        // Without effect after an orderly end, which has closed the mailbox with its own reason.
        let reason = if std::thread::panicking() {
            ExitReason::Failed("panicked outside its handlers".to_owned())
        } else {
            ExitReason::RuntimeGone
        };
        outcome::bury::<A>(shared, &reason, &mut Local::default());
        shared
            .system
            .leave(shared.id, shared.parent, shared.options.name.as_deref());
        shared.finish();
    }
}

type Peer<A> = Shared<<A as Actor>::Message, <A as Actor>::Reply>;
type Flow = ControlFlow<ExitReason>;

struct Cell<A: Actor> {
    actor: A,
    ctx: Context<A>,
    factory: Option<Factory<A>>,
    local: Local<A::Message, A::Reply>,
}

impl<A: Actor> Cell<A> {
    /// From the start to the reason for the end. What is rare is boxed, to keep idle actors small.
    async fn live(&mut self) -> ExitReason {
        // Held apart from the context, which the handlers borrow.
        let shared = Arc::clone(&self.ctx.shared);
        let shared = &*shared;
        if let Some(snapshot) = &shared.options.snapshot {
            self.ctx.rare().snapshot = Some(snapshot.clone());
        }
        let earlier = shared.options.failures.min(MAX_RESTARTS);
        if earlier > 0 {
            let failures = &mut self.ctx.rare().failures;
            failures.extend(std::iter::repeat_n(Instant::now(), earlier as usize));
        }
        match Box::pin(self.begin(shared, true)).await {
            Ok(()) => {}
            Err(reason) => match Box::pin(self.recover(shared, reason)).await {
                Flow::Continue(()) => {}
                Flow::Break(exit) => return exit,
            },
        }
        loop {
            if self.ctx.stash.is_some() {
                self.put_stash_back(shared, false);
            }
            let next = poll_fn(|cx| shared.poll_next(cx, &mut self.local)).await;
            let (message, back) = match next {
                Next::Message(first) if A::BATCH > 1 => {
                    match Box::pin(self.batch(shared, first)).await {
                        Flow::Continue(()) => continue,
                        Flow::Break(exit) => return exit,
                    }
                }
                Next::Message(Envelope { message, back }) => (message, back),
                Next::Stop(reason) => return reason,
                other => match Box::pin(self.other(shared, other)).await {
                    Flow::Continue(()) => continue,
                    Flow::Break(exit) => return exit,
                },
            };
            let kept = caught(|| A::keep(&message)).unwrap_or_default();
            self.ctx.begin_message(&back);
            let outcome = call!(self, shared, |actor, ctx| actor.handle(message, ctx));
            let failure = match outcome {
                Outcome::Done(answer) if shared.options.journal.is_some() => {
                    match Box::pin(self.done_durably(shared, answer, kept, back)).await {
                        Flow::Continue(()) => continue,
                        Flow::Break(exit) => return exit,
                    }
                }
                Outcome::Done(answer) => match self.done(shared, answer, back) {
                    Ok(()) => continue,
                    Err(reason) => Box::pin(self.recover(shared, reason)),
                },
                outcome => match Box::pin(self.not_done(shared, outcome, kept, back)).await {
                    Flow::Continue(()) => continue,
                    Flow::Break(exit) => return exit,
                },
            };
            if let Flow::Break(exit) = failure.await {
                return exit;
            }
        }
    }

    /// What is not a message.
    async fn other(&mut self, shared: &Peer<A>, next: Next<A::Message, A::Reply>) -> Flow {
        match next {
            Next::Stop(reason) => Flow::Break(reason),
            Next::Halt(halt) => self.halt(shared, *halt).await,
            Next::Notice(notice) => self.notice(shared, *notice).await,
            Next::Snapshot => {
                self.ctx.rare().snapshot_awaited = false;
                match self.take_snapshot(shared) {
                    Ok(()) => Flow::Continue(()),
                    Err(reason) => self.recover(shared, reason).await,
                }
            }
            Next::Broken(reason) => self.recover(shared, reason).await,
            // The caller has taken the messages out.
            Next::Message(_) => Flow::Continue(()),
        }
    }

    /// Makes a new instance ready for messages.
    async fn begin(&mut self, shared: &Peer<A>, first: bool) -> Result<(), String> {
        if !poll_fn(|cx| shared.poll_may_begin(cx)).await {
            // The loop finds the stop itself.
            return Ok(());
        }
        if (first || shared.options.supervision.from_snapshot)
            && let Some(snapshot) = self
                .ctx
                .rare
                .as_ref()
                .and_then(|rare| rare.snapshot.clone())
        {
            self.take_up(snapshot)?;
        }
        match call!(self, shared, |actor, ctx| actor.started(ctx)) {
            Outcome::Done(()) => {
                match self.commit(shared, Vec::new()).await {
                    Committed::Lasts | Committed::Cancelled => {}
                    Committed::Failed(reason) => return Err(reason),
                    Committed::Fenced(why) => {
                        // The loop finds the stop itself, as after a cancelled call.
                        shared.request_stop(ExitReason::Fenced(why), Instant::now());
                        return Ok(());
                    }
                }
                shared.begun();
                Ok(())
            }
            Outcome::Refused(reason) | Outcome::Failed(reason) => Err(reason),
            Outcome::Stashed => Err("put a message aside before it had one".to_owned()),
            // The loop finds the stop itself.
            Outcome::Cancelled => Ok(()),
        }
    }

    /// A message was handled: counts it, answers, and takes a snapshot if one is due.
    fn done(
        &mut self,
        shared: &Peer<A>,
        answer: A::Reply,
        back: Back<A::Reply>,
    ) -> Result<(), String> {
        // Before the answer: what an asker was told of survives the next failure.
        let taken = self.handled(shared, 1);
        back.answer(Ok(answer));
        taken
    }

    /// Counts messages that were handled, and takes a snapshot if one is due.
    fn handled(&mut self, shared: &Peer<A>, messages: u64) -> Result<(), String> {
        let handled = shared.count_handled(messages);
        let every = shared.options.snapshot_every;
        let crossed = |every: u64| handled / every != (handled - messages) / every;
        if self.ctx.snapshot_due || every.is_some_and(crossed) {
            return self.take_snapshot(shared);
        }
        if let Some(within) = shared.options.snapshot_within
            && !self.ctx.rare().snapshot_awaited
        {
            // With no room for a timer the next message tries again.
            let set = shared.set_timer(Instant::now() + within, Payload::Snapshot);
            self.ctx.rare().snapshot_awaited = set.is_ok();
        }
        Ok(())
    }

    fn take_snapshot(&mut self, shared: &Peer<A>) -> Result<(), String> {
        self.ctx.snapshot_due = false;
        let snapshot = self.snapshot()?;
        if let (Some(snapshot), Some(sink)) = (&snapshot, &shared.options.sink) {
            caught(|| sink(shared.id, snapshot))
                .map_err(|panic| format!("cannot take a snapshot: {}", panic_text(&*panic)))?;
        }
        // A durable actor begins anew from what was committed.
        let keeps = self.factory.is_some() && shared.options.journal.is_none();
        if snapshot.is_some() && keeps {
            self.ctx.rare().snapshot = snapshot;
        }
        Ok(())
    }

    async fn notice(&mut self, shared: &Peer<A>, notice: Notice) -> Flow {
        let outcome = match notice {
            Notice::ChildFailed { child, reason } => {
                Outcome::Failed(format!("child {child} {reason}"))
            }
            // Both sides of a link end it; only the first of them fails the other.
            Notice::Linked { id, .. } if !shared.remove_link(id) => Outcome::Done(()),
            Notice::Linked { actor, reason, .. } => {
                Outcome::Failed(format!("linked actor {actor} {reason}"))
            }
            Notice::Returned(poisoned) => {
                call!(self, shared, |actor, ctx| actor.returned(poisoned, ctx))
            }
            Notice::Terminated(other) => {
                if !self.ctx.rare().watching.remove(&other.id) {
                    return Flow::Continue(());
                }
                call!(self, shared, |actor, ctx| actor.terminated(other, ctx))
            }
        };
        match outcome {
            Outcome::Done(()) => self.settle(shared).await,
            Outcome::Cancelled => self.cancelled(shared),
            Outcome::Stashed => {
                self.hold(shared, Back::Nowhere);
                Flow::Continue(())
            }
            Outcome::Refused(reason) | Outcome::Failed(reason) => {
                self.recover(shared, reason).await
            }
        }
    }

    /// After a call was cancelled: ends the actor, unless it is only to begin anew.
    fn cancelled(&mut self, shared: &Peer<A>) -> Flow {
        if let Some(reason) = shared.cut_short() {
            return Flow::Break(reason);
        }
        self.ctx.rare().broken = true;
        Flow::Continue(())
    }

    /// Drops the timers and watches of an instance that is gone.
    fn leave_behind(&mut self, shared: &Peer<A>) {
        self.ctx.take_effects();
        shared.clear_timers();
        if let Some(rare) = &mut self.ctx.rare {
            rare.snapshot_awaited = false;
        }
        let watching = self
            .ctx
            .rare
            .as_mut()
            .map(|rare| std::mem::take(&mut rare.watching));
        for id in watching.unwrap_or_default() {
            if let Some(other) = shared.system.control(id) {
                other.remove_watcher(shared.id);
            }
        }
        self.put_stash_back(shared, true);
    }

    /// The orderly end: children first, then the actor's own last word.
    async fn end(&mut self, reason: ExitReason) {
        let shared = Arc::clone(&self.ctx.shared);
        shared.set_state(ActorState::Stopping);
        self.put_stash_back(&shared, true);
        outcome::bury::<A>(&shared, &reason, &mut self.local);
        stop_children(&*shared, &ExitReason::ParentStopped).await;
        self.leave_behind(&shared);
        // Behind a closed gate another node may have the actor by now, and has it after a fence:
        // no last word.
        let may = shared.may_act() && !matches!(reason, ExitReason::Fenced(_));
        if !reason.is_failure() && may {
            let why = &reason;
            let last = call!(self, &*shared, |actor, ctx| {
                actor.stopping(why, ctx).map(Ok::<(), ActorError>)
            });
            if let Outcome::Failed(reason) = last {
                shared.count_failure(&reason);
                tracing::warn!(actor = %shared.label(), %reason, "actor failed while stopping");
            }
        }
        tracing::debug!(actor = %shared.label(), %reason, "actor ended");
    }

    // ---- the stash ----

    /// Puts the present message aside with who waits for it.
    fn hold(&mut self, shared: &Peer<A>, back: Back<A::Reply>) {
        let Some(stash) = &mut self.ctx.stash else {
            return;
        };
        let stash = crate::context::stash(stash);
        let limit = shared.options.mailbox;
        if let Err(Envelope { message, back }) = stash.hold(back, limit) {
            let reason = format!("its stash is full: {limit} messages wait in it");
            let detail = outcome::describe::<A>(&message);
            outcome::refuse::<A>(shared, reason, back, detail);
        }
        shared.set_stashed(stash.len());
    }

    /// Has what was put aside handled next, if the handler asked for it or in `any` case.
    fn put_stash_back(&mut self, shared: &Peer<A>, any: bool) {
        let Some(stash) = &mut self.ctx.stash else {
            return;
        };
        let stash = crate::context::stash(stash);
        if any || stash.back {
            self.local.put_back(stash.take());
            shared.set_stashed(0);
        }
    }
}

/// Stops all children and waits for their end; kills them when this actor is itself out of time.
async fn stop_children<M: Send + 'static, R: Send + 'static>(
    shared: &Shared<M, R>,
    reason: &ExitReason,
) {
    let children = shared.system.children(shared.id);
    let now = Instant::now();
    for child in &children {
        child.request_stop(reason.clone(), now + child.grace());
    }
    let mut grace = None;
    let mut killed = false;
    for child in &children {
        let mut ended = Arc::clone(child).ended();
        poll_fn(|cx| {
            if !killed && shared.poll_interrupt(cx, &mut grace).is_ready() {
                killed = true;
                for child in &children {
                    child.request_stop(ExitReason::Killed, Instant::now());
                }
            }
            ended.as_mut().poll(cx).map(|_| ())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, System};

    struct Small(u64);

    impl Actor for Small {
        type Message = u64;
        type Reply = u64;

        async fn handle(&mut self, n: u64, _: &mut Context<Self>) -> Result<u64, ActorError> {
            self.0 += n;
            Ok(self.0)
        }
    }

    /// The goal is 1,000 bytes for all of an idle actor; `examples/idle_memory.rs` measures it.
    /// tokio rounds a task up to a multiple of 128 bytes and adds about 100 of its own.
    #[tokio::test]
    async fn an_idle_actor_is_small() {
        let id = crate::ActorId(std::num::NonZeroU64::MIN);
        let options = Arc::new(Options::default());
        let shared = Arc::new(Shared::new(
            id,
            None,
            || "Small",
            options,
            System::default(),
        ));
        let shared_bytes = size_of_val(&*shared);
        let task_bytes = size_of_val(&run(shared, Small(0), None));
        assert!(shared_bytes <= 192, "{shared_bytes}");
        assert!(task_bytes <= 400, "{task_bytes}");
    }
}
