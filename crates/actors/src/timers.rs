//! An actor's timers: kept with its mailbox, so that they need no task and die with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

/// The most timers one actor may have running.
pub const MAX_TIMERS: usize = 1_024;

/// The shortest period of a repeating timer.
pub const MIN_PERIOD: Duration = Duration::from_millis(1);

/// Names a running timer of one actor, for cancelling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(u64);

/// The actor has [`MAX_TIMERS`] timers running; cancel some first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the actor already has {MAX_TIMERS} timers running: cancel some first")]
pub struct TooManyTimers;

/// What a timer sends.
pub(crate) enum Payload<M> {
    Once(M),
    Every(Duration, Arc<dyn Fn() -> M + Send + Sync>),
    /// The actor's own: it takes a snapshot.
    Snapshot,
}

/// What is due now.
pub(crate) enum Due<M> {
    Message(M),
    Make(Arc<dyn Fn() -> M + Send + Sync>),
    Snapshot,
}

/// Ordered by time, then by number: timers due at one instant fire in the order they were set.
pub(crate) struct Timers<M> {
    entries: BTreeMap<(Instant, TimerId), Payload<M>>,
    next: u64,
}

impl<M> Default for Timers<M> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<M> Timers<M> {
    /// Gives the payload back when there is no room.
    pub(crate) fn set(&mut self, at: Instant, payload: Payload<M>) -> Result<TimerId, Payload<M>> {
        if self.entries.len() >= MAX_TIMERS {
            return Err(payload);
        }
        let id = TimerId(self.next);
        self.next += 1;
        self.entries.insert((at, id), payload);
        Ok(id)
    }

    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, other), _| *other != id);
        self.entries.len() < before
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Due<M>> {
        if self.next_due()? > now {
            return None;
        }
        let ((at, id), payload) = self.entries.pop_first()?;
        match payload {
            Payload::Once(message) => Some(Due::Message(message)),
            Payload::Snapshot => Some(Due::Snapshot),
            Payload::Every(period, make) => {
                // Beats that were missed while the actor was busy are skipped, not made up for:
                // the next one is the first multiple of the period that lies ahead.
                let late = now.saturating_duration_since(at);
                let beats = late.as_nanos() / period.as_nanos().max(1) + 1;
                let ahead = period.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX));
                self.entries
                    .insert((at + ahead, id), Payload::Every(period, Arc::clone(&make)));
                Some(Due::Make(make))
            }
        }
    }
}
