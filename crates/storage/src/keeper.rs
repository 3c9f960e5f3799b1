//! The thread that brings the database up to the log, so that the log stays short.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use crate::engine::Engine;
use crate::error::Failed;
use crate::files::Files;
use crate::overlay::Overlay;

/// A part of the log for the database.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) overlay: Overlay,
    /// The last group in it.
    pub(crate) sequence: u64,
    /// Segments that nobody needs afterwards.
    pub(crate) segments: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) engine: Engine,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) jobs: Receiver<Checkpoint>,
    pub(crate) done: Sender<Result<(), Failed>>,
}

impl Keeper {
    pub(crate) fn run(self) {
        while let Ok(checkpoint) = self.jobs.recv() {
            // Nobody waits any more when the storage closes; the next start reads the log.
            drop(self.done.send(self.keep(&checkpoint)));
        }
    }

    fn keep(&self, checkpoint: &Checkpoint) -> Result<(), Failed> {
        self.engine
            .commit(&checkpoint.overlay, checkpoint.sequence)
            .map_err(Failed::new)?;
        for name in &checkpoint.segments {
            self.files.remove(name).map_err(Failed::new)?;
        }
        Ok(())
    }
}
