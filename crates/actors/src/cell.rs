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

use cpe_tuple::Value;
use futures::FutureExt as _;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use crate::{
    Actor, ActorError, ActorState, AskError, Context, DeadReason, ExitReason, OnFailure,
    Supervision,
    error::bounded,
    mailbox::{Answer, Envelope, Local, Next, Notice, Shared},
    supervision::MAX_RESTARTS,
    system::Factory,
};

/// How one call of user code ended.
enum Outcome<T> {
    Done(T),
    Refused(String),
    Failed(String),
    /// A stop was asked for and the call was not over in time.
    Cancelled,
}

impl<T> Outcome<T> {
    fn from_panic(panic: &(dyn Any + Send)) -> Self {
        Self::Failed(panic_text(panic))
    }
}

impl<T> From<Result<T, ActorError>> for Outcome<T> {
    fn from(result: Result<T, ActorError>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(error) if error.is_refusal() => Self::Refused(error.into_reason()),
            Err(error) => Self::Failed(error.into_reason()),
        }
    }
}

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
        bury_messages::<A>(shared, &reason, &mut Local::default());
        shared
            .system
            .leave(shared.id, shared.parent, shared.options.name.as_deref());
        shared.finish();
    }
}

/// Closes the mailbox, answers who still waits, and makes the rest dead letters.
fn bury_messages<A: Actor>(
    shared: &Shared<A::Message, A::Reply>,
    reason: &ExitReason,
    local: &mut Local<A::Message, A::Reply>,
) {
    for Envelope { message, reply } in shared.close(reason, local) {
        let detail = describe::<A>(&message);
        let why = DeadReason::ActorEnded(reason.clone());
        shared.system.dead_letter(shared.label(), why, detail);
        if let Some(reply) = reply {
            let dead = AskError::Dead {
                actor: shared.label(),
                reason: reason.clone(),
            };
            let _ = reply.send(Err(Box::new(dead)));
        }
    }
}

fn describe<A: Actor>(message: &A::Message) -> Option<Value> {
    caught(|| A::describe(message)).unwrap_or_default()
}

type Reply<A> = Option<oneshot::Sender<Answer<<A as Actor>::Reply>>>;
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
        match Box::pin(self.begin(shared, true)).await {
            Ok(()) => {}
            Err(reason) => match Box::pin(self.recover(shared, reason)).await {
                Flow::Continue(()) => {}
                Flow::Break(exit) => return exit,
            },
        }
        loop {
            let next = poll_fn(|cx| shared.poll_next(cx, &mut self.local)).await;
            let (message, reply) = match next {
                Next::Message(Envelope { message, reply }) => (message, reply),
                Next::Stop(reason) => return reason,
                other => match Box::pin(self.other(shared, other)).await {
                    Flow::Continue(()) => continue,
                    Flow::Break(exit) => return exit,
                },
            };
            let kept = caught(|| A::keep(&message)).unwrap_or_default();
            let outcome = call!(self, shared, |actor, ctx| actor.handle(message, ctx));
            let failure = match outcome {
                Outcome::Done(answer) => match self.done(shared, answer, reply) {
                    Ok(()) => continue,
                    Err(reason) => Box::pin(self.recover(shared, reason)),
                },
                outcome => match Box::pin(self.not_done(shared, outcome, kept, reply)).await {
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
            Next::Notice(notice) => self.notice(shared, notice).await,
            Next::Broken(reason) => self.recover(shared, reason).await,
            // The caller has taken the messages out.
            Next::Message(_) => Flow::Continue(()),
        }
    }

    /// Makes a new instance ready for messages.
    async fn begin(&mut self, shared: &Peer<A>, first: bool) -> Result<(), String> {
        if (first || shared.options.supervision.from_snapshot)
            && let Some(snapshot) = self
                .ctx
                .rare
                .as_ref()
                .and_then(|rare| rare.snapshot.clone())
        {
            let restored = caught(|| self.actor.restore(snapshot));
            restored
                .unwrap_or_else(|panic| Err(ActorError::failed(panic_text(&*panic))))
                .map_err(|error| format!("cannot take up its snapshot: {error}"))?;
        }
        match call!(self, shared, |actor, ctx| actor.started(ctx)) {
            Outcome::Done(()) => {
                shared.set_state(ActorState::Running);
                Ok(())
            }
            Outcome::Refused(reason) | Outcome::Failed(reason) => Err(reason),
            // The loop finds the stop itself.
            Outcome::Cancelled => Ok(()),
        }
    }

    /// A message was handled: counts it, answers, and takes a snapshot if one is due.
    fn done(&mut self, shared: &Peer<A>, answer: A::Reply, reply: Reply<A>) -> Result<(), String> {
        let handled = shared.count_handled();
        let every = shared.options.snapshot_every;
        let due = self.ctx.snapshot_due || every.is_some_and(|every| handled.is_multiple_of(every));
        // Before the answer: what an asker was told of survives the next failure.
        let taken = if due {
            self.take_snapshot(shared)
        } else {
            Ok(())
        };
        if let Some(reply) = reply {
            // The asker may have stopped waiting; that is its own affair.
            let _ = reply.send(Ok(answer));
        }
        taken
    }

    fn take_snapshot(&mut self, shared: &Peer<A>) -> Result<(), String> {
        self.ctx.snapshot_due = false;
        let taken = caught(|| {
            let snapshot = self.actor.snapshot()?;
            if let (Some(snapshot), Some(sink)) = (&snapshot, &shared.options.sink) {
                sink(shared.id, snapshot);
            }
            Ok(snapshot)
        });
        let snapshot = taken
            .unwrap_or_else(|panic| Err(ActorError::failed(panic_text(&*panic))))
            .map_err(|error| format!("cannot take a snapshot: {error}"))?;
        if snapshot.is_some() && self.factory.is_some() {
            self.ctx.rare().snapshot = snapshot;
        }
        Ok(())
    }

    /// A message was not handled: tells its sender and, if the actor failed, applies its policy and
    /// tries the message once more if there is a copy.
    async fn not_done(
        &mut self,
        shared: &Peer<A>,
        outcome: Outcome<A::Reply>,
        kept: Option<A::Message>,
        reply: Reply<A>,
    ) -> Flow {
        let reason = match outcome {
            Outcome::Failed(reason) => reason,
            outcome => return settle::<A>(shared, outcome, reply, None),
        };
        self.ctx.snapshot_due = false;
        let Some(message) = kept else {
            let _ = settle::<A>(shared, Outcome::Failed(reason.clone()), reply, None);
            return self.recover(shared, reason).await;
        };
        if let Flow::Break(exit) = self.recover(shared, reason.clone()).await {
            let detail = describe::<A>(&message);
            let _ = settle::<A>(shared, Outcome::Failed(reason), reply, detail);
            return Flow::Break(exit);
        }
        let detail = describe::<A>(&message);
        match call!(self, shared, |actor, ctx| actor.handle(message, ctx)) {
            Outcome::Done(answer) => match self.done(shared, answer, reply) {
                Ok(()) => Flow::Continue(()),
                Err(reason) => self.recover(shared, reason).await,
            },
            Outcome::Failed(reason) => {
                self.ctx.snapshot_due = false;
                shared.system.dead_letter(
                    shared.label(),
                    DeadReason::Poisoned(reason.clone()),
                    detail,
                );
                if let Some(reply) = reply {
                    let actor = shared.label();
                    let poisoned = AskError::Poisoned {
                        actor,
                        reason: reason.clone(),
                    };
                    let _ = reply.send(Err(Box::new(poisoned)));
                }
                self.recover(shared, reason).await
            }
            outcome => settle::<A>(shared, outcome, reply, detail),
        }
    }

    async fn notice(&mut self, shared: &Peer<A>, notice: Notice) -> Flow {
        let reason = match notice {
            Notice::ChildFailed { child, reason } => format!("child {child} {reason}"),
            Notice::Terminated(other) => {
                if !self.ctx.rare().watching.remove(&other.id) {
                    return Flow::Continue(());
                }
                match call!(self, shared, |actor, ctx| actor.terminated(other, ctx)) {
                    Outcome::Done(()) => return Flow::Continue(()),
                    Outcome::Cancelled => return Flow::Break(ExitReason::Killed),
                    Outcome::Refused(reason) | Outcome::Failed(reason) => reason,
                }
            }
        };
        self.recover(shared, reason).await
    }

    /// Applies the policy to a failure: goes on with a sound instance, or says how it ends.
    async fn recover(&mut self, shared: &Peer<A>, mut reason: String) -> Flow {
        let policy = &shared.options.supervision;
        loop {
            reason = bounded(reason);
            shared.count_failure(&reason);
            tracing::warn!(actor = %shared.label(), %reason, "actor failed");
            match policy.on_failure {
                OnFailure::Restart if self.factory.is_some() => {}
                OnFailure::Resume => {}
                OnFailure::Restart | OnFailure::Stop => {
                    return Flow::Break(ExitReason::Failed(reason));
                }
                OnFailure::Escalate => {
                    let exit = ExitReason::Failed(reason);
                    if let Some(parent) = shared.parent.and_then(|id| shared.system.control(id)) {
                        let (child, reason) = (shared.label(), exit.to_string());
                        parent.notify(Notice::ChildFailed { child, reason });
                    }
                    return Flow::Break(exit);
                }
            }
            let Some(attempt) = self.count_failure(policy) else {
                let (count, within) = (policy.max_restarts, policy.within);
                let reason = bounded(format!(
                    "{reason} (gave up: more than {count} failures within {within:?})"
                ));
                return Flow::Break(ExitReason::Failed(reason));
            };
            if policy.on_failure == OnFailure::Resume {
                return Flow::Continue(());
            }
            match self.restart(shared, attempt).await {
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

    async fn restart(&mut self, shared: &Peer<A>, attempt: u32) -> Result<Flow, String> {
        shared.set_state(ActorState::Restarting);
        stop_children(shared, &ExitReason::ParentStopped).await;
        self.leave_behind(shared);
        let seed = shared.system.seed() ^ shared.id.as_u64().rotate_left(32);
        let delay = shared
            .options
            .supervision
            .backoff
            .delay(attempt, seed ^ u64::from(shared.restarts()));
        let mut sleep = pin!(tokio::time::sleep(delay));
        let stopped = poll_fn(|cx| match shared.poll_stop_requested(cx) {
            Poll::Ready(reason) => Poll::Ready(Some(reason)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
        })
        .await;
        if let Some(reason) = stopped {
            return Ok(Flow::Break(reason));
        }
        if let Some(factory) = &mut self.factory {
            self.actor =
                build(factory).map_err(|error| format!("cannot make a new instance: {error}"))?;
        }
        shared.count_restart();
        self.begin(shared, false).await.map(Flow::Continue)
    }

    /// Drops the timers and watches of an instance that is gone.
    fn leave_behind(&mut self, shared: &Peer<A>) {
        shared.clear_timers();
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
    }

    /// The orderly end: children first, then the actor's own last word.
    async fn end(&mut self, reason: ExitReason) {
        let shared = Arc::clone(&self.ctx.shared);
        shared.set_state(ActorState::Stopping);
        bury_messages::<A>(&shared, &reason, &mut self.local);
        stop_children(&*shared, &ExitReason::ParentStopped).await;
        self.leave_behind(&shared);
        if !matches!(reason, ExitReason::Failed(_) | ExitReason::Killed) {
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
}

/// Tells the sender of a message that was not handled; only a cancelled call ends the actor.
fn settle<A: Actor>(
    shared: &Peer<A>,
    outcome: Outcome<A::Reply>,
    reply: Reply<A>,
    detail: Option<Value>,
) -> Flow {
    let actor = shared.label();
    let (dead, error, flow) = match outcome {
        Outcome::Done(_) => return Flow::Continue(()),
        Outcome::Refused(reason) => {
            // An asker learns of it; a teller can only find it among the dead letters.
            let dead = reply.is_none().then(|| DeadReason::Refused(reason.clone()));
            (
                dead,
                AskError::Refused {
                    actor: actor.clone(),
                    reason,
                },
                Flow::Continue(()),
            )
        }
        Outcome::Failed(reason) => (
            Some(DeadReason::Failed(reason.clone())),
            AskError::Failed {
                actor: actor.clone(),
                reason,
            },
            Flow::Continue(()),
        ),
        Outcome::Cancelled => (
            Some(DeadReason::ActorEnded(ExitReason::Killed)),
            AskError::Dead {
                actor: actor.clone(),
                reason: ExitReason::Killed,
            },
            Flow::Break(ExitReason::Killed),
        ),
    };
    if let Some(reason) = dead {
        shared.system.dead_letter(actor, reason, detail);
    }
    if let Some(reply) = reply {
        let _ = reply.send(Err(Box::new(error)));
    }
    flow
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
