//! Storage on real folders: what comes back, and what happens when files, disks and processes
//! break.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod disk;
mod faults;
mod files;
mod folder;
mod killed;
mod medium;
mod model;
mod peer;

use cpe_mesh::{Batch, Table};
use cpe_storage::{Completion, Opened};

/// A batch that sets one key of the log.
fn put(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.put(Table::Log, key.to_vec(), value.to_vec());
    batch
}

/// Writes a batch, synced, and waits for its answer.
fn write(opened: &mut Opened, batch: Batch) -> Completion {
    opened.storage.write(0, batch, true).unwrap();
    opened.completions.blocking_recv().unwrap()
}
