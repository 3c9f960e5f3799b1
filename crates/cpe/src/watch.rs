//! A stream of the tuples a node learns of.

use cpe_tuple::Tuple;

use crate::Space;
use crate::desk::WatchReceiver;

/// Matching tuples as a node learns of them; dropping it ends the watch.
///
/// A tuple comes once, as soon as the node hears of it, be its store admitted or still pending. It
/// comes again when a take that had it is undone, and may when it was pending while the node, back
/// from an absence, fetched the state of a shard as a whole.
///
/// At most 65,536 tuples and 64 MiB wait to be looked at. A watch further behind ends after those
/// it holds, and [`fell_behind`](Self::fell_behind) says so: start another, which begins with
/// what is there then.
pub struct Watch {
    receiver: WatchReceiver,
    space: Space,
    workspace: String,
    /// Taken out, while its large values are fetched.
    next: Option<Tuple>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("fell_behind", &self.fell_behind())
            .finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(receiver: WatchReceiver, space: Space, workspace: &str) -> Self {
        let workspace = workspace.to_owned();
        Self {
            receiver,
            space,
            workspace,
            next: None,
        }
    }

    /// The next matching tuple, its large values put together as far as they fit in a tuple and are
    /// still there; `None` when the node has stopped or the watch fell behind.
    ///
    /// # Cancel safety
    /// No tuple is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Tuple> {
        if self.next.is_none() {
            self.next = self.receiver.next().await;
        }
        let tuple = self.next.clone()?;
        // One that was taken meanwhile may be gone: its reference tells what it was.
        let whole = self.space.tuple_whole(&self.workspace, tuple.clone()).await;
        self.next = None;
        Some(whole.unwrap_or(tuple))
    }

    /// Whether tuples were missed because too many waited to be looked at.
    #[must_use]
    pub fn fell_behind(&self) -> bool {
        self.receiver.fell_behind()
    }
}
