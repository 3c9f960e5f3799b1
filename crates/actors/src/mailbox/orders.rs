//! System messages: stops, halts, notices and timers.

use std::{
    sync::{MutexGuard, atomic::Ordering},
    task::{Context as TaskContext, Poll},
};

use tokio::time::Instant;

use super::{Extra, MAX_RETURNED, Next, Notice, Queue, Refused, Shared, Stop, register};
use crate::{ExitReason, TimerId, siblings::Halt, timers::Payload};

impl<M: Send + 'static, R: Send + 'static> Shared<M, R> {
    /// Runs `change` on the parts for system messages and wakes the actor.
    pub(super) fn urge<T>(&self, change: impl FnOnce(&mut Extra<M>) -> T) -> T {
        self.urge_locked(self.lock(), change)
    }

    /// As [`urge`](Self::urge), but an actor that has ended is left alone.
    pub(super) fn urge_living(&self, change: impl FnOnce(&mut Extra<M>)) {
        let queue = self.lock();
        if !queue.ended {
            self.urge_locked(queue, change);
        }
    }

    pub(super) fn urge_locked<T>(
        &self,
        mut queue: MutexGuard<'_, Queue<M, R>>,
        change: impl FnOnce(&mut Extra<M>) -> T,
    ) -> T {
        let result = change(queue.extra());
        self.urgent.store(true, Ordering::Release);
        queue.idle = false;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Asks for a stop by `deadline`; an earlier deadline replaces a later one.
    pub(crate) fn request_stop(&self, reason: ExitReason, deadline: Instant) {
        self.urge(|extra| match &mut extra.stop {
            Some(stop) if stop.deadline <= deadline => {}
            stop => {
                let taken = stop.as_ref().is_some_and(|stop| stop.taken);
                *stop = Some(Stop {
                    reason,
                    deadline,
                    taken,
                });
            }
        });
    }

    /// Takes back a stop that was asked for by this `deadline`. False if the actor has found it, or
    /// an earlier one was asked for.
    pub(crate) fn take_stop_back(&self, deadline: Instant) -> bool {
        self.urge(|extra| {
            let found = extra.stop.as_ref();
            let back = found.is_some_and(|stop| !stop.taken && stop.deadline == deadline);
            if back {
                extra.stop = None;
            }
            back
        })
    }

    pub(crate) fn notify(&self, notice: Notice) {
        self.urge_living(|extra| {
            if matches!(notice, Notice::Returned(_)) {
                if extra.returned >= MAX_RETURNED {
                    return;
                }
                extra.returned += 1;
            }
            extra.notices.push_back(notice);
        });
    }

    /// Asks the actor to begin anew in its turn; dropping the request tells that it cannot.
    pub(crate) fn request_halt(&self, halt: Halt) {
        self.urge_living(|extra| extra.halt = Some(Box::new(halt)));
    }

    /// How an actor ends whose handler was cancelled, if it was to end: as killed, unless another
    /// incarnation of it is why.
    pub(crate) fn cut_short(&self) -> Option<ExitReason> {
        let queue = self.lock();
        let stop = queue.extra.as_ref()?.stop.as_ref()?;
        Some(match &stop.reason {
            fenced @ ExitReason::Fenced(_) => fenced.clone(),
            _ => ExitReason::Killed,
        })
    }

    /// Ready with a stop or a halt, whatever its deadline.
    pub(crate) fn poll_order(&self, cx: &mut TaskContext<'_>) -> Poll<Next<M, R>> {
        let mut queue = self.lock();
        if let Some(extra) = &mut queue.extra {
            if let Some(stop) = &mut extra.stop {
                return Poll::Ready(Next::Stop(stop.take()));
            }
            if let Some(halt) = extra.halt.take() {
                return Poll::Ready(Next::Halt(halt));
            }
        }
        register(&mut queue.waker, cx);
        queue.idle = false;
        Poll::Pending
    }

    pub(crate) fn drain(&self) {
        self.lock().draining = true;
        self.urge(|_| ());
        self.room.notify_waiters();
    }

    pub(crate) fn set_timer(
        &self,
        at: Instant,
        payload: Payload<M>,
    ) -> Result<TimerId, Refused<M>> {
        if let Some(reason) = self.exit_reason() {
            return Err(Refused {
                payload,
                dead: Some(reason),
            });
        }
        self.urge(|extra| extra.timers.set(at, payload))
            .map_err(|payload| Refused {
                payload,
                dead: None,
            })
    }

    pub(crate) fn cancel_timer(&self, id: TimerId) -> bool {
        self.urge(|extra| extra.timers.cancel(id))
    }

    pub(crate) fn clear_timers(&self) {
        self.urge(|extra| extra.timers.clear());
    }
}
