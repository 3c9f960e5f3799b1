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
}

impl Disk {
    /// Takes a batch to be written.
    pub(crate) fn queue(&mut self, batch: Batch) {
        self.unsynced.push(batch);
    }

    /// So many writes have ended, in order: they are safe.
    pub(crate) fn sync(&mut self, count: usize) {
        for batch in self.unsynced.drain(..count.min(self.unsynced.len())) {
            self.synced.apply(batch);
        }
    }

    /// A crash: some prefix of what was not synced survives.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha8Rng) {
        let survives = rng.random_range(0..=self.unsynced.len());
        self.unsynced.truncate(survives);
        self.sync(survives);
    }

    /// What a starting node reads.
    pub(crate) fn image(&self) -> &Image {
        &self.synced
    }
}
