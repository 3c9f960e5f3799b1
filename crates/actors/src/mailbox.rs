//! What all holders of an actor share: its mailbox, its system messages and its counters.
//!
//! User messages wait in one queue behind a mutex; the actor takes the whole queue at once and
//! works it off without the lock, so a busy actor costs a sender one short lock per message and no
//! wake-up. The bound stays exact: a message counts until the actor takes it from its batch, told
//! by a counter that only the actor writes and that senders read only when the mailbox looks full.
//!
//! System messages (stop, a watched actor's end, a child's failure, timers) have places of their
//! own and are looked at before every user message. They are bounded by what caused them: one stop,
//! one notice per watch, one per child, [`MAX_TIMERS`](crate::MAX_TIMERS) timers.

mod counters;
mod orders;
mod ties;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context as TaskContext, Poll, Waker},
};

use tokio::{
    sync::Notify,
    time::{Instant, Sleep},
};

use crate::{
    ActorId, ExitReason, Options, Poisoned, System, Terminated,
    control::Control,
    envelope::Envelope,
    siblings::Halt,
    timers::{Due, Payload, Timers},
};

/// Messages handled in one go before other tasks get their turn; tokio's own budget is of this size
/// (tokio 1.54, `coop::Budget::initial`).
const TURN: u32 = 128;

/// Queues that grew beyond this many messages are freed when the actor goes idle.
const KEPT_SLOTS: usize = 64;

/// The most actors that may watch one actor.
pub const MAX_WATCHERS: usize = 65_536;

/// Poisoned messages that wait to be given back to one actor, at most; more are dead letters only.
pub const MAX_RETURNED: usize = 1_024;

/// A system message that the actor is told in order.
pub(crate) enum Notice {
    Terminated(Terminated),
    ChildFailed {
        child: String,
        reason: String,
    },
    /// A linked actor failed.
    Linked {
        id: ActorId,
        actor: String,
        reason: String,
    },
    /// A message it sent was poison.
    Returned(Poisoned),
}

/// What the actor does next.
pub(crate) enum Next<M, R> {
    Stop(ExitReason),
    /// Begin anew together with a sibling that failed.
    Halt(Box<Halt>),
    Notice(Box<Notice>),
    Message(Envelope<M, R>),
    /// The time has come to take a snapshot.
    Snapshot,
    /// A timer's function panicked.
    Broken(String),
}

/// Why a message was not put in.
pub(crate) enum Refusal {
    Full,
    Dead(ExitReason),
}

struct Stop {
    reason: ExitReason,
    deadline: Instant,
    /// The actor has found it: it ends.
    taken: bool,
}

impl Stop {
    /// The actor has found it.
    fn take(&mut self) -> ExitReason {
        self.taken = true;
        self.reason.clone()
    }
}

/// Parts that an ordinary actor never needs.
struct Extra<M> {
    notices: VecDeque<Notice>,
    /// Those of `notices` that give a message back.
    returned: usize,
    links: Vec<(ActorId, Weak<dyn Control>)>,
    halt: Option<Box<Halt>>,
    stashed: usize,
    watchers: Vec<(ActorId, Weak<dyn Control>)>,
    timers: Timers<M>,
    last_error: Option<String>,
    stop: Option<Stop>,
    exit: Option<ExitReason>,
    failed: u32,
    restarts: u32,
    /// There once somebody waits for the begin or the end; told of both.
    ended: Option<Arc<Notify>>,
}

impl<M> Default for Extra<M> {
    fn default() -> Self {
        Self {
            notices: VecDeque::new(),
            returned: 0,
            links: Vec::new(),
            halt: None,
            stashed: 0,
            watchers: Vec::new(),
            timers: Timers::default(),
            last_error: None,
            stop: None,
            exit: None,
            failed: 0,
            restarts: 0,
            ended: None,
        }
    }
}

struct Queue<M, R> {
    user: VecDeque<Envelope<M, R>>,
    /// All messages ever put in.
    pushed: u64,
    /// The actor's `taken` as last read by a sender.
    seen: u64,
    waker: Option<Waker>,
    /// The actor waits for user messages too, not only for system messages.
    idle: bool,
    /// Handles what is here, takes nothing more, then stops.
    draining: bool,
    /// Takes nothing more.
    closed: bool,
    ended: bool,
    extra: Option<Box<Extra<M>>>,
}

impl<M, R> Queue<M, R> {
    fn extra(&mut self) -> &mut Extra<M> {
        self.extra.get_or_insert_default()
    }

    /// Why the mailbox is closed, if it is.
    fn exit(&self) -> Option<ExitReason> {
        let exit = self.extra.as_ref().and_then(|extra| extra.exit.clone());
        self.closed.then(|| exit.unwrap_or(ExitReason::RuntimeGone))
    }
}

/// Where an actor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ActorState {
    /// Spawned, not yet through its `started`.
    Starting,
    /// Handling messages or waiting for them.
    Running,
    /// Between a failure and its next instance.
    Restarting,
    /// Stopping its children and itself.
    Stopping,
    /// Gone.
    Ended,
}

pub(crate) struct Shared<M, R> {
    pub(crate) id: ActorId,
    pub(crate) parent: Option<ActorId>,
    /// A function, for it is half the size of its result.
    pub(crate) type_name: fn() -> &'static str,
    pub(crate) options: Arc<Options>,
    pub(crate) system: System,
    /// Whether the system's gate holds it.
    pub(crate) gated: bool,
    queue: Mutex<Queue<M, R>>,
    /// A system message waits. Written under the lock, read without.
    urgent: AtomicBool,
    state: AtomicU8,
    /// Senders waiting for room.
    waiting: AtomicU32,

    /// User messages that left the mailbox. Only the actor writes it.
    taken: AtomicU64,
    /// Messages handled without failure, timers' included. Only the actor writes it.
    handled: AtomicU64,
    room: Notify,
}

/// The actor's own side of its mailbox.
pub(crate) struct Local<M, R> {
    batch: VecDeque<Envelope<M, R>>,
    /// Messages that come first, as they were taken before.
    again: Option<Box<Again<M, R>>>,
    taken: u64,
    next_due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    turn: u32,
}

struct Again<M, R>(VecDeque<Envelope<M, R>>);

impl<M, R> Local<M, R> {
    /// Has these handled next.
    pub(crate) fn put_back(&mut self, mut messages: VecDeque<Envelope<M, R>>) {
        if let Some(again) = &mut self.again {
            messages.append(&mut again.0);
        }
        if !messages.is_empty() {
            self.again = Some(Box::new(Again(messages)));
        }
    }

    fn pop_again(&mut self) -> Option<Envelope<M, R>> {
        let envelope = self.again.as_mut()?.0.pop_front();
        if envelope.is_none() {
            self.again = None;
        }
        envelope
    }
}

impl<M, R> Default for Local<M, R> {
    fn default() -> Self {
        Self {
            batch: VecDeque::new(),
            again: None,
            taken: 0,
            next_due: None,
            sleep: None,
            turn: 0,
        }
    }
}

/// Counts a sender that waits for room, also when its future is dropped.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<M: Send + 'static, R: Send + 'static> Shared<M, R> {
    pub(crate) fn new(
        id: ActorId,
        parent: Option<ActorId>,
        type_name: fn() -> &'static str,
        options: Arc<Options>,
        system: System,
    ) -> Self {
        let parent_gated = || {
            let parent = parent.and_then(|id| system.control(id));
            parent.is_some_and(|parent| parent.is_gated())
        };
        Self {
            id,
            parent,
            type_name,
            gated: options.gated || parent_gated(),
            options,
            system,
            queue: Mutex::new(Queue {
                user: VecDeque::new(),
                pushed: 0,
                seen: 0,
                waker: None,
                idle: false,
                draining: false,
                ended: false,
                closed: false,
                extra: None,
            }),
            urgent: AtomicBool::new(false),
            state: AtomicU8::new(ActorState::Starting as u8),
            waiting: AtomicU32::new(0),

            taken: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            room: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<M, R>> {
        // No user code runs under this lock, so a poisoned one is still in order.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- senders ----

    /// Puts a message in, or says why not and gives it back.
    pub(crate) fn push(&self, envelope: Envelope<M, R>) -> Result<(), (Envelope<M, R>, Refusal)> {
        let mut queue = self.lock();
        if queue.closed || queue.draining {
            let reason = queue.exit().unwrap_or(ExitReason::Stopped);
            return Err((envelope, Refusal::Dead(reason)));
        }
        let capacity = self.options.mailbox as u64;
        if queue.pushed - queue.seen >= capacity {
            queue.seen = self.taken.load(Ordering::SeqCst);
            if queue.pushed - queue.seen >= capacity {
                return Err((envelope, Refusal::Full));
            }
        }
        if queue.user.capacity() == 0 {
            // Half of what it would reserve: most actors never have more than one waiting.
            queue.user.reserve_exact(2);
        }
        queue.user.push_back(envelope);
        queue.pushed += 1;
        let waker = if queue.idle {
            queue.idle = false;
            queue.waker.take()
        } else {
            None
        };
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Puts a message in, waiting for room.
    pub(crate) async fn push_waiting(
        &self,
        mut envelope: Envelope<M, R>,
    ) -> Result<(), (Envelope<M, R>, ExitReason)> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        let mut room = pin!(self.room.notified());
        loop {
            // Listening before looking: room made in between is not missed. Each message the actor
            // takes while someone waits sends one notification, and a waiter that is dropped
            // passes its own on, so no free slot goes unannounced.
            room.as_mut().enable();
            match self.push(envelope) {
                Ok(()) => return Ok(()),
                Err((back, Refusal::Dead(reason))) => return Err((back, reason)),
                Err((back, Refusal::Full)) => envelope = back,
            }
            room.as_mut().await;
            room.set(self.room.notified());
        }
    }

    // ---- the actor's own side ----

    pub(crate) fn poll_next(
        &self,
        cx: &mut TaskContext<'_>,
        local: &mut Local<M, R>,
    ) -> Poll<Next<M, R>> {
        if local.turn >= TURN {
            local.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        local.turn += 1;
        if !self.may_act() {
            return self.poll_closed(cx);
        }
        if self.urgent.load(Ordering::Acquire)
            && let Some(next) = self.take_urgent(local)
        {
            return Poll::Ready(next);
        }
        if let Some(due) = local.next_due
            && let Some(next) = self.take_due(due, local)
        {
            return Poll::Ready(next);
        }
        if let Some(envelope) = local.pop_again() {
            return Poll::Ready(Next::Message(envelope));
        }
        if local.batch.is_empty() {
            let mut queue = self.lock();
            if queue.user.is_empty() {
                if queue.draining {
                    return Poll::Ready(Next::Stop(ExitReason::Stopped));
                }
                // Set under the lock since the look above: go round again.
                if self.urgent.load(Ordering::Acquire) {
                    drop(queue);
                    return self.poll_next(cx, local);
                }
                queue.idle = true;
                register(&mut queue.waker, cx);
                // One small buffer is enough for an actor that gets a message now and then.
                if queue.user.capacity() == 0 {
                    std::mem::swap(&mut queue.user, &mut local.batch);
                }
                for buffer in [&mut queue.user, &mut local.batch] {
                    if buffer.capacity() > KEPT_SLOTS {
                        *buffer = VecDeque::new();
                    }
                }
                drop(queue);
                local.turn = 0;
                return self.poll_sleep(cx, local);
            }
            std::mem::swap(&mut queue.user, &mut local.batch);
        }
        match self.pop(local) {
            Some(envelope) => Poll::Ready(Next::Message(envelope)),
            None => Poll::Pending,
        }
    }

    /// Whether its handlers may be called.
    pub(crate) fn may_act(&self) -> bool {
        !self.gated || self.system.gate().is_open()
    }

    /// Behind a closed gate: ready with a stop, and with nothing else.
    fn poll_closed(&self, cx: &mut TaskContext<'_>) -> Poll<Next<M, R>> {
        {
            let mut queue = self.lock();
            if let Some(stop) = queue.extra.as_mut().and_then(|extra| extra.stop.as_mut()) {
                return Poll::Ready(Next::Stop(stop.take()));
            }
            register(&mut queue.waker, cx);
            queue.idle = false;
        }
        if self.system.gate().poll_open(cx, self.id).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Ready once a new instance may begin, or once a stop was asked for; true if it may begin.
    pub(crate) fn poll_may_begin(&self, cx: &mut TaskContext<'_>) -> Poll<bool> {
        if self.may_act() {
            return Poll::Ready(true);
        }
        self.poll_closed(cx).map(|_| false)
    }

    fn pop(&self, local: &mut Local<M, R>) -> Option<Envelope<M, R>> {
        let envelope = local.batch.pop_front()?;
        local.taken += 1;
        self.taken.store(local.taken, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.room.notify_one();
        }
        Some(envelope)
    }

    /// The next message that waits, for a handler that takes several.
    pub(crate) fn pop_batch(&self, local: &mut Local<M, R>) -> Option<Envelope<M, R>> {
        if !self.may_act() {
            return None;
        }
        if let Some(envelope) = local.pop_again() {
            return Some(envelope);
        }
        if local.batch.is_empty() {
            std::mem::swap(&mut self.lock().user, &mut local.batch);
        }
        self.pop(local)
    }

    fn take_urgent(&self, local: &mut Local<M, R>) -> Option<Next<M, R>> {
        let mut queue = self.lock();
        let extra = queue.extra();
        local.next_due = extra.timers.next_due();
        if let Some(stop) = &mut extra.stop {
            return Some(Next::Stop(stop.take()));
        }
        if let Some(halt) = extra.halt.take() {
            return Some(Next::Halt(halt));
        }
        let notice = extra.notices.pop_front();
        if matches!(notice, Some(Notice::Returned(_))) {
            extra.returned -= 1;
        }
        if extra.notices.is_empty() {
            self.urgent.store(false, Ordering::Release);
        }
        notice.map(|notice| Next::Notice(Box::new(notice)))
    }

    fn take_due(&self, due: Instant, local: &mut Local<M, R>) -> Option<Next<M, R>> {
        let now = Instant::now();
        if due > now {
            return None;
        }
        let fired = {
            let mut queue = self.lock();
            let timers = &mut queue.extra().timers;
            let fired = timers.pop_due(now);
            local.next_due = timers.next_due();
            fired
        };
        let message = match fired? {
            Due::Message(message) => message,
            Due::Snapshot => return Some(Next::Snapshot),
            Due::Make(make) => match catch_unwind(AssertUnwindSafe(|| make())) {
                Ok(message) => message,
                Err(panic) => return Some(Next::Broken(crate::cell::panic_text(&*panic))),
            },
        };
        Some(Next::Message(Envelope::told(message)))
    }

    fn poll_sleep(&self, cx: &mut TaskContext<'_>, local: &mut Local<M, R>) -> Poll<Next<M, R>> {
        let Some(due) = local.next_due else {
            local.sleep = None;
            return Poll::Pending;
        };
        let sleep = local
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        if sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// While a handler waits: ready once a stop or a halt was asked for and its grace is over.
    pub(crate) fn poll_interrupt(
        &self,
        cx: &mut TaskContext<'_>,
        grace: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<()> {
        let deadline = {
            let mut queue = self.lock();
            register(&mut queue.waker, cx);
            queue.idle = false;
            queue.extra.as_ref().and_then(|extra| {
                let stop = extra.stop.as_ref().map(|stop| stop.deadline);
                let halt = extra.halt.as_ref().map(|halt| halt.deadline);
                stop.into_iter().chain(halt).min()
            })
        };
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let sleep = grace.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }

    /// Takes no more messages; gives back those that were not handled.
    pub(crate) fn close(
        &self,
        reason: &ExitReason,
        local: &mut Local<M, R>,
    ) -> VecDeque<Envelope<M, R>> {
        let mut rest: VecDeque<_> = std::iter::from_fn(|| local.pop_again()).collect();
        rest.append(&mut local.batch);
        {
            let mut queue = self.lock();
            if !queue.closed {
                queue.closed = true;
                queue.extra().exit = Some(reason.clone());
            }
            rest.append(&mut queue.user);
            self.taken.store(queue.pushed, Ordering::SeqCst);
            if let Some(extra) = &mut queue.extra {
                extra.timers.clear();
            }
        }
        self.room.notify_waiters();
        rest
    }

    /// Marks the actor as gone and tells its watchers. Only the first call does anything.
    pub(crate) fn finish(&self) {
        let (watchers, notify, terminated) = {
            let mut queue = self.lock();
            if queue.ended {
                return;
            }
            queue.ended = true;
            queue.waker = None;
            let terminated = self.terminated(&queue);
            let extra = queue.extra();
            extra.notices.clear();
            extra.halt = None;
            (
                std::mem::take(&mut extra.watchers),
                extra.ended.clone(),
                terminated,
            )
        };
        self.set_state(ActorState::Ended);
        let reason = &terminated.reason;
        let failure = reason.is_failure().then(|| reason.to_string());
        self.end_links(failure.as_deref());
        if let Some(notify) = notify {
            notify.notify_waiters();
        }
        for (_, watcher) in watchers {
            if let Some(watcher) = watcher.upgrade() {
                watcher.notify(Notice::Terminated(terminated.clone()));
            }
        }
    }
}

/// A timer that was not set.
pub(crate) struct Refused<M> {
    pub(crate) payload: Payload<M>,
    pub(crate) dead: Option<ExitReason>,
}

fn register(slot: &mut Option<Waker>, cx: &TaskContext<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}
