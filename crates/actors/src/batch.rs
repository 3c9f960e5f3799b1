//! Several messages handled together.

use crate::{
    AskError, DeadReason,
    envelope::{Back, Envelope},
    error::bounded,
    mailbox::{Local, Shared},
};

/// The messages that [`Actor::handle_batch`](crate::Actor::handle_batch) takes, one after the
/// other, as long as some wait and the batch is not full.
///
/// What is not taken stays in the mailbox. Answers are sent when the handler has ended, after a
/// snapshot that it asked for.
pub struct Batch<'a, M, R> {
    pub(crate) shared: &'a Shared<M, R>,
    pub(crate) local: &'a mut Local<M, R>,
    pub(crate) first: Option<Envelope<M, R>>,
    pub(crate) limit: usize,
    pub(crate) taken: Vec<Taken<R>>,
}

/// One message of a [`Batch`], for answering it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchItem(usize);

/// A message that the handler has, and what it said of it.
pub(crate) struct Taken<R> {
    pub(crate) back: Back<R>,
    pub(crate) verdict: Verdict<R>,
}

pub(crate) enum Verdict<R> {
    None,
    Answer(R),
    Refused(String),
}

impl<M: Send + 'static, R: Send + 'static> Batch<'_, M, R> {
    /// The next message, and what to answer it by; nothing when the batch is over.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would borrow the batch, which has to be answered meanwhile"
    )]
    pub fn next(&mut self) -> Option<(BatchItem, M)> {
        let Envelope { message, back } = match self.first.take() {
            Some(first) => first,
            None if self.taken.len() < self.limit => self.shared.pop_batch(self.local)?,
            None => return None,
        };
        let item = BatchItem(self.taken.len());
        self.taken.push(Taken {
            back,
            verdict: Verdict::None,
        });
        Some((item, message))
    }

    /// Answers a message; needless for one that was told.
    pub fn answer(&mut self, item: BatchItem, reply: R) {
        if let Some(taken) = self.taken.get_mut(item.0) {
            taken.verdict = Verdict::Answer(reply);
        }
    }

    /// Says that a message is not acceptable: its asker gets the reason, or it is a dead letter.
    pub fn refuse(&mut self, item: BatchItem, reason: impl std::fmt::Display) {
        if let Some(taken) = self.taken.get_mut(item.0) {
            taken.verdict = Verdict::Refused(bounded(reason.to_string()));
        }
    }
}

impl<M, R> std::fmt::Debug for Batch<'_, M, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("taken", &self.taken.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Sends the answers of a batch. `failed` is why it failed, if it did: then whoever was not
/// answered learns of it.
pub(crate) fn settle<M: Send + 'static, R: Send + 'static>(
    shared: &Shared<M, R>,
    taken: Vec<Taken<R>>,
    failed: Option<(&DeadReason, &AskError)>,
) {
    let actor = || shared.label();
    for Taken { back, verdict } in taken {
        match (verdict, failed) {
            (Verdict::Answer(reply), _) => {
                back.answer(Ok(reply));
            }
            (Verdict::Refused(reason), _) => {
                let error = AskError::Refused {
                    actor: actor(),
                    reason: reason.clone(),
                };
                if !back.answer(Err(Box::new(error))) {
                    let reason = DeadReason::Refused(reason);
                    shared.system.dead_letter(actor(), reason, None);
                }
            }
            (Verdict::None, Some((dead, error))) => {
                // Whoever numbered it sends it elsewhere.
                let goes_on = matches!(dead, DeadReason::ActorEnded(_)) && back.number().is_some();
                if !goes_on {
                    shared.system.dead_letter(actor(), dead.clone(), None);
                }
                back.answer(Err(Box::new(error.clone())));
            }
            (Verdict::None, None) => {
                back.answer(Err(Box::new(AskError::Unanswered { actor: actor() })));
            }
        }
    }
}
