//! Pools of workers.

use std::sync::Arc;

use crate::envelope::Envelope;

/// Who takes over the messages that an actor leaves behind.
pub(crate) struct Heir<M, R>(pub(crate) Arc<dyn Inherit<M, R>>);

pub(crate) trait Inherit<M, R>: Send + Sync {
    /// Takes a message over, or gives it back.
    fn inherit(&self, envelope: Envelope<M, R>) -> Result<(), Envelope<M, R>>;
}
