//! What a node's tasks tell its handles beside answers.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

/// Refusals kept, newest last.
const REFUSALS_KEPT: usize = 32;

/// Shared by the driver and the handles.
#[derive(Debug)]
pub(crate) struct State {
    joined: watch::Sender<bool>,
    /// Counts what may change the answers to status, peers and shards.
    changes: watch::Sender<u64>,
    ended: watch::Sender<bool>,
    failure: OnceLock<String>,
    refusals: Mutex<VecDeque<String>>,
}

impl State {
    pub(crate) fn new(joined: bool) -> Self {
        Self {
            joined: watch::Sender::new(joined),
            changes: watch::Sender::new(0),
            ended: watch::Sender::new(false),
            failure: OnceLock::new(),
            refusals: Mutex::default(),
        }
    }

    pub(crate) fn joined(&self) {
        self.joined.send_replace(true);
    }

    pub(crate) fn is_joined(&self) -> bool {
        *self.joined.borrow()
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn refused(&self, what: String) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() >= REFUSALS_KEPT {
            refusals.pop_front();
        }
        refusals.push_back(what);
        drop(refusals);
        self.changed();
    }

    pub(crate) fn ended(&self, failure: Option<String>) {
        if let Some(failure) = failure {
            // Only the first failure is the cause of others.
            self.failure.get_or_init(|| failure);
        }
        self.ended.send_replace(true);
        self.changed();
    }

    pub(crate) fn refusals(&self) -> Vec<String> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().cloned().collect()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits until the mesh is known, or the node has ended.
    pub(crate) async fn wait_joined(&self) -> bool {
        let mut joined = self.joined.subscribe();
        let mut ended = self.ended.subscribe();
        tokio::select! {
            biased;
            joined = joined.wait_for(|joined| *joined) => joined.is_ok(),
            _ = ended.wait_for(|ended| *ended) => false,
        }
    }

    /// Waits until the driver has closed everything; the failure that ended it, if one did.
    pub(crate) async fn wait_ended(&self) -> Option<String> {
        let mut ended = self.ended.subscribe();
        // The sender lives in `self`.
        drop(ended.wait_for(|ended| *ended).await);
        self.failure()
    }

    /// What ended the node, if something failed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }
}
