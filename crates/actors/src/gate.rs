//! Until when a system may call handlers.
//!
//! A node that shares its names with others holds a lease on them. When the lease runs out another
//! node may start the same actors, so this one has to have stopped by itself, even if nobody can
//! tell it. The gate is that instant: it is looked at before each message, so a process that was
//! frozen past it finds it closed when it wakes.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use crate::ActorId;

/// The value of a gate that never closes.
const FOR_EVER: u64 = u64::MAX;

/// The instant after which the [gated](crate::Options::gated) actors of a
/// [`System`](crate::System) are not run, nor their children. Clones are the same gate. By default
/// it never closes, and costs such an actor one load per message, and others nothing.
///
/// Behind a closed gate no handler is called, `started` and `stopping` among them; mailboxes,
/// timers and notices keep what they have, up to their bounds, and senders wait or are told that
/// the mailbox is full. Once it is open again everything goes on as if nothing had been. An actor
/// can still be stopped meanwhile: it ends without its last word, as its state may be another
/// node's by now. A handler that was called before the gate closed goes on to its end.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    start: Instant,
    /// Nanoseconds since `start`, or [`FOR_EVER`].
    until: AtomicU64,
    /// Actors that have something to do and wait. Bounded by the actors of the system.
    waiting: Mutex<BTreeMap<ActorId, Waker>>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            start: Instant::now(),
            until: AtomicU64::new(FOR_EVER),
            waiting: Mutex::default(),
        }))
    }

    /// Open until an instant, earlier or later than it was; one that is past closes it.
    pub fn open_until(&self, instant: Instant) {
        let nanos = instant.saturating_duration_since(self.0.start).as_nanos();
        // 584 years from the start: whoever says so means for ever.
        self.set(u64::try_from(nanos).unwrap_or(FOR_EVER));
    }

    /// Open for ever.
    pub fn open(&self) {
        self.set(FOR_EVER);
    }

    /// Closed until somebody opens it.
    pub fn close(&self) {
        self.set(0);
    }

    /// Whether handlers are called.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // Acquire: who finds it open again sees what its opener knew.
        match self.0.until.load(Ordering::Acquire) {
            FOR_EVER => true,
            until => self.0.start.elapsed() < Duration::from_nanos(until),
        }
    }

    fn set(&self, until: u64) {
        self.0.until.store(until, Ordering::Release);
        // After the store: who registers later looks again and finds it.
        let waiting = std::mem::take(&mut *self.waiting());
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    /// Ready while it is open; wakes the actor when that changes.
    pub(crate) fn poll_open(&self, cx: &Context<'_>, actor: ActorId) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        self.waiting().insert(actor, cx.waker().clone());
        if self.is_open() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Forgets an actor that has ended.
    pub(crate) fn leave(&self, actor: ActorId) {
        if self.0.until.load(Ordering::Relaxed) != FOR_EVER {
            self.waiting().remove(&actor);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<ActorId, Waker>> {
        // Nothing under this lock panics half-way.
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate(open: {})", self.is_open())
    }
}
