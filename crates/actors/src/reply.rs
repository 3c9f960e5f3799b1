//! Where an answer goes.

use std::fmt;

use tokio::sync::oneshot;

/// Answers one question, once, now or later, from anywhere. Part of a message sent with
/// [`Address::request`](crate::Address::request).
///
/// Dropped without an answer, it makes the asker fail with the reason of the handler's failure, or
/// as [`Unanswered`](crate::AskError::Unanswered).
pub struct ReplyTo<T>(pub(crate) oneshot::Sender<T>);

impl<T> ReplyTo<T> {
    /// Answers; an asker that no longer waits misses it.
    pub fn send(self, answer: T) {
        // Nobody to tell: a late answer is the asker's own choice of deadline.
        let _ = self.0.send(answer);
    }

    /// Whether the asker has stopped waiting, so that the work can be spared.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> fmt::Debug for ReplyTo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyTo")
    }
}
