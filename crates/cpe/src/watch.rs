//! A stream of the tuples a node learns of.

use cpe_tuple::Tuple;

use crate::desk::WatchReceiver;

/// Matching tuples as a node learns of them; dropping it ends the watch.
///
/// A tuple comes at least once: again when its store, seen while it was pending, is admitted, and
/// when the node catches up after an absence.
///
/// At most 65,536 tuples and 64 MiB wait to be looked at. A watch further behind ends after those
/// it holds, and [`fell_behind`](Self::fell_behind) says so: start another, which begins with
/// what is there then.
pub struct Watch {
    receiver: WatchReceiver,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("fell_behind", &self.fell_behind())
            .finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(receiver: WatchReceiver) -> Self {
        Self { receiver }
    }

    /// The next matching tuple; `None` when the node has stopped or the watch fell behind.
    ///
    /// # Cancel safety
    /// No tuple is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Tuple> {
        self.receiver.next().await
    }

    /// Whether tuples were missed because too many waited to be looked at.
    #[must_use]
    pub fn fell_behind(&self) -> bool {
        self.receiver.fell_behind()
    }
}
