//! The thread that works on bodies.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::JoinHandle;

use cpe_mesh::{BodyDone, BodyWork};
use tokio::sync::mpsc;

use super::{Bodies, Hands};

/// Things to do that wait for the thread, and reports that wait for the shell. Chunks among them
/// are bounded by the peer: it has so many under way and no more.
pub const BODY_QUEUE_MAX: usize = 256;

/// There is no room, or the thread has ended; it gives back what was to be done.
#[derive(Debug)]
pub struct BodyQueueFull(pub BodyWork);

/// Works on the bodies of one folder, in order. Dropping it waits for what was taken.
#[derive(Debug)]
pub struct BodyWorker {
    thread: Option<(SyncSender<BodyWork>, JoinHandle<()>)>,
}

impl BodyWorker {
    /// Starts the thread; reports come out of the receiver.
    ///
    /// # Errors
    /// When the operating system has no thread.
    pub fn start(bodies: Bodies) -> std::io::Result<(Self, mpsc::Receiver<BodyDone>)> {
        let (jobs, queue) = std::sync::mpsc::sync_channel(BODY_QUEUE_MAX);
        let (reports, done) = mpsc::channel(BODY_QUEUE_MAX);
        let thread = std::thread::Builder::new().name("cpe-bodies".to_owned());
        let handle = thread.spawn(move || {
            let mut hands = Hands::new(bodies);
            for work in queue {
                if let Some(report) = hands.work(work)
                    && reports.blocking_send(report).is_err()
                {
                    break;
                }
            }
        })?;
        let thread = Some((jobs, handle));
        Ok((Self { thread }, done))
    }

    /// Queues something to do. Never blocks.
    ///
    /// # Errors
    /// [`BodyQueueFull`].
    pub fn submit(&self, work: BodyWork) -> Result<(), BodyQueueFull> {
        let Some((jobs, _)) = &self.thread else {
            return Err(BodyQueueFull(work));
        };
        jobs.try_send(work).map_err(|error| match error {
            TrySendError::Full(work) | TrySendError::Disconnected(work) => BodyQueueFull(work),
        })
    }
}

impl Drop for BodyWorker {
    fn drop(&mut self) {
        if let Some((jobs, handle)) = self.thread.take() {
            drop(jobs);
            if handle.join().is_err() {
                tracing::error!("the thread that works on bodies panicked");
            }
        }
    }
}
