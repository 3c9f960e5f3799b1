//! Messages put aside by their actor for later.

use std::collections::VecDeque;

use crate::envelope::{Back, Envelope};

/// One actor's stash; there once it is used.
pub(crate) struct Stash<M, R> {
    /// The present message, until its handler has ended.
    incoming: Option<M>,
    held: VecDeque<Envelope<M, R>>,
    /// To be put back once the present message is done with.
    pub(crate) back: bool,
}

impl<M, R> Default for Stash<M, R> {
    fn default() -> Self {
        Self {
            incoming: None,
            held: VecDeque::new(),
            back: false,
        }
    }
}

impl<M, R> Stash<M, R> {
    pub(crate) fn put(&mut self, message: M) {
        if let Some(earlier) = self.incoming.replace(message) {
            // A handler that puts aside more than its message: nobody waits for the first.
            self.held.push_back(Envelope::told(earlier));
        }
    }

    /// Keeps the message with who waits for it; gives both back when `limit` are held.
    pub(crate) fn hold(&mut self, back: Back<R>, limit: usize) -> Result<(), Envelope<M, R>> {
        let Some(message) = self.incoming.take() else {
            return Ok(());
        };
        let envelope = Envelope { message, back };
        if self.held.len() >= limit {
            return Err(envelope);
        }
        self.held.push_back(envelope);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// All that is held, in order.
    pub(crate) fn take(&mut self) -> VecDeque<Envelope<M, R>> {
        self.back = false;
        std::mem::take(&mut self.held)
    }
}
