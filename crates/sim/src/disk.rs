//! A disk that forgets what was not synced when its node crashes.

use std::time::Duration;

use cpe_mesh::{Batch, Image};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// One node's durable state.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    synced: Image,
    /// Batches in order: written or queued, not yet synced.
    unsynced: Vec<Batch>,
    /// How many of them are written.
    written: usize,
    failing: Failing,
    /// When the commit under way ends.
    busy_until: Duration,
    /// When the one after it ends, if batches wait for it.
    then_until: Option<Duration>,
}

/// Whether writes fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Failing {
    #[default]
    No,
    /// The next batch will.
    Next,
    /// This batch does, counted among the unsynced; nothing after it is kept.
    At(usize),
}

impl Disk {
    /// Takes a batch to be written; when that will have ended. Batches that come while the disk is
    /// busy wait and are written together, as `cpe-storage` does.
    pub(crate) fn queue(&mut self, batch: Batch, now: Duration, takes: Duration) -> Duration {
        if self.failing == Failing::Next {
            self.failing = Failing::At(self.unsynced.len());
        }
        self.unsynced.push(batch);
        if self.busy_until <= now {
            self.busy_until = self.then_until.take().unwrap_or(now);
        }
        if self.busy_until <= now {
            self.busy_until = now + takes;
            return self.busy_until;
        }
        let after = self.busy_until + takes;
        *self.then_until.get_or_insert(after)
    }

    /// The next batch cannot be written.
    pub(crate) fn fail_next(&mut self) {
        if self.failing == Failing::No {
            self.failing = Failing::Next;
        }
    }

    /// No write fails any more that has not failed yet.
    pub(crate) fn heal(&mut self) {
        self.failing = Failing::No;
    }

    /// True when the write that ends now is the one that fails.
    pub(crate) fn fails_now(&self) -> bool {
        matches!(self.failing, Failing::At(at) if at <= self.written)
    }

    /// The next write has ended. With a sync, it and all before it are safe.
    pub(crate) fn ended(&mut self, sync: bool) {
        self.written += 1;
        if sync {
            self.sync(self.written);
        }
    }

    /// So many of the unsynced batches, in order, are safe.
    pub(crate) fn sync(&mut self, count: usize) {
        for batch in self.unsynced.drain(..count.min(self.unsynced.len())) {
            self.synced.apply(batch);
        }
        self.written = self.written.saturating_sub(count);
        if let Failing::At(at) = &mut self.failing {
            *at = at.saturating_sub(count);
        }
    }

    /// A crash: some prefix of what was not synced survives.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha8Rng) {
        if let Failing::At(at) = self.failing {
            self.unsynced.truncate(at);
        }
        let survives = rng.random_range(0..=self.unsynced.len());
        self.unsynced.truncate(survives);
        self.sync(survives);
        self.written = 0;
        self.failing = Failing::No;
        self.busy_until = Duration::ZERO;
        self.then_until = None;
    }

    /// What a starting node reads.
    pub(crate) fn image(&self) -> &Image {
        &self.synced
    }
}
