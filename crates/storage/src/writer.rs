//! The thread that writes: everything that waits becomes one transaction and one sync.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cpe_mesh::{Batch, Write};
use tokio::sync::mpsc::OwnedPermit;

use crate::engine::Engine;
use crate::error::Failed;
use crate::folder::Folder;
use crate::storage::Completion;

/// Bytes of one transaction. Larger groups save nothing and make the first batch wait.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a batch that did not ask for a sync may stay unsynced while nothing else is written.
const LAZY_SYNC: Duration = Duration::from_secs(1);

/// A batch on its way, with the place its answer has in the queue of completions.
pub(crate) struct Job {
    pub(crate) token: u64,
    pub(crate) batch: Batch,
    pub(crate) sync: bool,
    pub(crate) bytes: usize,
    pub(crate) permit: OwnedPermit<Completion>,
}

/// What the writer and its callers share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) queued_bytes: AtomicUsize,
    pub(crate) failed: OnceLock<Failed>,
}

pub(crate) struct Writer {
    pub(crate) engine: Engine,
    /// Keeps the folder locked for as long as the engine writes; `None` for other backends.
    pub(crate) _folder: Option<Folder>,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) shared: Arc<Shared>,
}

impl Writer {
    pub(crate) fn run(self) {
        let mut unsynced = false;
        loop {
            let first = if unsynced {
                match self.jobs.recv_timeout(LAZY_SYNC) {
                    Ok(job) => job,
                    Err(error) => {
                        // A failure has been noted for the next caller.
                        let _ = self.commit(&[], true);
                        unsynced = false;
                        if error == RecvTimeoutError::Disconnected {
                            return;
                        }
                        continue;
                    }
                }
            } else {
                match self.jobs.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            };
            let synced = self.write(first);
            unsynced = !synced;
        }
    }

    /// Writes a job and all that wait behind it; says whether it was synced.
    fn write(&self, first: Job) -> bool {
        let mut bytes = first.bytes;
        let mut jobs = vec![first];
        while bytes < GROUP_BYTES_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            bytes += job.bytes;
            jobs.push(job);
        }
        let sync = jobs.iter().any(|job| job.sync);
        let mut batches = Vec::with_capacity(jobs.len());
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            batches.push(job.batch);
            answers.push((job.token, job.permit));
        }
        let result = self.commit(&batches, sync);
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        for (token, permit) in answers {
            permit.send(Completion {
                token,
                result: result.clone(),
            });
        }
        sync
    }

    fn commit(&self, batches: &[Batch], sync: bool) -> Result<(), Failed> {
        if let Some(failed) = self.shared.failed.get() {
            return Err(failed.clone());
        }
        self.engine.commit(batches, sync).map_err(|error| {
            tracing::error!(%error, "storage write failed; nothing more will be written");
            self.shared
                .failed
                .get_or_init(|| Failed::new(&error))
                .clone()
        })
    }
}

/// Bytes a batch holds in memory, about.
pub(crate) fn bytes_of(batch: &Batch) -> usize {
    let write = |write: &Write| match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete { key, .. } => key.len(),
        Write::DeleteRange { from, to, .. } => from.len() + to.len(),
    };
    batch
        .writes
        .iter()
        .map(|item| write(item) + size_of::<Write>())
        .sum()
}
