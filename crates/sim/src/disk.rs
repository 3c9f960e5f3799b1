//! A disk that forgets what was not synced when its node crashes.

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
}

impl Disk {
    /// Takes a batch to be written.
    pub(crate) fn queue(&mut self, batch: Batch) {
        self.unsynced.push(batch);
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
    }

    /// A crash: some prefix of what was not synced survives.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha8Rng) {
        let survives = rng.random_range(0..=self.unsynced.len());
        self.unsynced.truncate(survives);
        self.sync(survives);
        self.written = 0;
    }

    /// What a starting node reads.
    pub(crate) fn image(&self) -> &Image {
        &self.synced
    }
}
