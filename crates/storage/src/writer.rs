//! The thread that writes: everything that waits becomes one group of the log and one sync.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cpe_mesh::{Batch, Write};
use tokio::sync::mpsc::OwnedPermit;

use crate::error::Failed;
use crate::folder::Folder;
use crate::keeper::Checkpoint;
use crate::log::Log;
use crate::overlay::Overlay;
use crate::storage::Completion;

/// Bytes of one group. Larger groups save nothing and make the first batch wait.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes the log may have before the database is brought up to date. More is read at a start and
/// held in memory, less writes the same pages of the database more often.
const LOG_BYTES_MAX: usize = 16 << 20;

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

/// What has been appended since the database was last brought up to date.
#[derive(Debug, Default)]
struct Recent {
    overlay: Overlay,
    bytes: usize,
}

pub(crate) struct Writer {
    pub(crate) log: Log,
    pub(crate) keeper: SyncSender<Checkpoint>,
    pub(crate) kept: Receiver<Result<(), Failed>>,
    /// Keeps the folder locked for as long as the log is written; `None` for other places.
    pub(crate) _folder: Option<Folder>,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) shared: Arc<Shared>,
}

impl Writer {
    /// Writes until the storage closes; gives itself back, with the folder it keeps locked.
    pub(crate) fn run(mut self) -> Self {
        let mut recent = Recent::default();
        let mut keeping = false;
        let mut unsynced = false;
        loop {
            let first = if unsynced {
                match self.jobs.recv_timeout(LAZY_SYNC) {
                    Ok(job) => job,
                    Err(error) => {
                        // A failure is noted for the next caller.
                        let synced = self.log.sync();
                        let _ = self.outcome(synced);
                        unsynced = false;
                        if error == RecvTimeoutError::Disconnected {
                            return self;
                        }
                        continue;
                    }
                }
            } else {
                match self.jobs.recv() {
                    Ok(job) => job,
                    Err(_) => return self,
                }
            };
            unsynced = !self.write(first, &mut recent);
            keeping = self.keep(&mut recent, keeping);
        }
    }

    /// Writes a job and all that wait behind it; says whether it was synced.
    fn write(&mut self, first: Job, recent: &mut Recent) -> bool {
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
        let result = match self.shared.failed.get() {
            Some(failed) => Err(failed.clone()),
            None => {
                let appended = self.log.append(&batches, sync);
                self.outcome(appended).map(|bytes| recent.bytes += bytes)
            }
        };
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        for (token, permit) in answers {
            permit.send(Completion {
                token,
                result: result.clone(),
            });
        }
        if result.is_ok() {
            for batch in batches {
                recent.overlay.apply(batch);
            }
        }
        sync
    }

    /// Has the database brought up to date when the log has grown long; says whether that is going
    /// on.
    fn keep(&mut self, recent: &mut Recent, mut keeping: bool) -> bool {
        if keeping {
            let done = if recent.bytes < 2 * LOG_BYTES_MAX {
                self.kept.try_recv()
            } else {
                // It cannot follow: let it.
                self.kept.recv().map_err(|_| TryRecvError::Disconnected)
            };
            match done {
                Ok(Ok(())) => keeping = false,
                Ok(Err(failed)) => {
                    self.fail(failed);
                    keeping = false;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    self.fail(Failed::new("the thread that keeps the database has ended"));
                }
            }
        }
        if keeping || recent.bytes < LOG_BYTES_MAX || self.shared.failed.get().is_some() {
            return keeping;
        }
        let recent = std::mem::take(recent);
        let checkpoint = Checkpoint {
            overlay: recent.overlay,
            sequence: self.log.sequence(),
            segments: self.log.take_full(),
        };
        self.keeper.try_send(checkpoint).is_ok()
    }

    fn outcome<T>(&self, result: std::io::Result<T>) -> Result<T, Failed> {
        result.map_err(|error| self.fail(Failed::new(error)))
    }

    /// Notes a failure; says which was the first.
    fn fail(&self, failed: Failed) -> Failed {
        tracing::error!(%failed, "nothing more is written");
        self.shared.failed.get_or_init(|| failed).clone()
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
