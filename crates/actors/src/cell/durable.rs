//! The way of a durable actor: what a message changed is committed before it is answered.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Sleep;

use super::outcome::{self, Outcome};
use super::{Cell, Flow, Peer, caught, panic_text};
use crate::{
    Actor, ActorError, AskError, Commit, ExitReason, NotCommitted, Snapshot,
    envelope::{Back, Envelope},
};

/// What became of a commit.
pub(super) enum Committed {
    /// It lasts, or there was nothing to commit.
    Lasts,
    Fenced(String),
    Failed(String),
    /// A stop or a halt was asked for and it was not over in time: it may last or not.
    Cancelled,
}

impl<A: Actor> Cell<A> {
    /// A durable actor handled a message: commits, then answers.
    pub(super) async fn done_durably(
        &mut self,
        shared: &Peer<A>,
        answer: A::Reply,
        kept: Option<A::Message>,
        back: Back<A::Reply>,
    ) -> Flow {
        let handled = back.number().into_iter().collect();
        match self.commit(shared, handled).await {
            Committed::Lasts => match self.done(shared, answer, back) {
                Ok(()) => Flow::Continue(()),
                Err(reason) => self.recover(shared, reason).await,
            },
            Committed::Fenced(why) => {
                let reason = ExitReason::Fenced(why);
                self.give_back(shared, &reason, kept, back);
                Flow::Break(reason)
            }
            Committed::Failed(reason) => {
                let failed = Outcome::Failed(reason);
                Box::pin(self.not_done(shared, failed, kept, back)).await
            }
            Committed::Cancelled => self.interrupted(shared, kept, back, None),
        }
    }

    /// Something that nobody waits for changed the actor: commits it.
    pub(super) async fn settle(&mut self, shared: &Peer<A>) -> Flow {
        if shared.options.journal.is_none() {
            return Flow::Continue(());
        }
        match self.commit(shared, Vec::new()).await {
            Committed::Lasts => Flow::Continue(()),
            Committed::Fenced(why) => Flow::Break(ExitReason::Fenced(why)),
            Committed::Failed(reason) => Box::pin(self.recover(shared, reason)).await,
            Committed::Cancelled => self.cancelled(shared),
        }
    }

    /// A message of a fenced incarnation was never handled: whoever has the actor now may have it.
    fn give_back(
        &mut self,
        shared: &Peer<A>,
        reason: &ExitReason,
        kept: Option<A::Message>,
        mut back: Back<A::Reply>,
    ) {
        let mut detail = None;
        if let Some(message) = kept {
            detail = outcome::describe::<A>(&message);
            match outcome::bequeath::<A>(shared, Envelope { message, back }) {
                Ok(()) => return,
                Err(envelope) => back = envelope.back,
            }
        }
        let (actor, reason) = (shared.label(), reason.clone());
        outcome::dead_with::<A>(shared, &reason, &back, detail);
        back.answer(Err(Box::new(AskError::Dead { actor, reason })));
    }

    /// Commits state and effects, unless neither is other than at the last commit.
    pub(super) async fn commit(&mut self, shared: &Peer<A>, handled: Vec<u64>) -> Committed {
        let Some(journal) = &shared.options.journal else {
            return Committed::Lasts;
        };
        let snapshot = match self.snapshot() {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => {
                let reason = "it is to be durable, and its kind has no snapshot";
                return Committed::Failed(reason.to_owned());
            }
            Err(reason) => return Committed::Failed(reason),
        };
        let effects = self.ctx.take_effects();
        let last = self
            .ctx
            .rare
            .as_ref()
            .and_then(|rare| rare.snapshot.as_ref());
        if effects.is_empty() && last == Some(&snapshot) {
            return Committed::Lasts;
        }
        let commit = Commit {
            snapshot: snapshot.clone(),
            effects,
            handled,
        };
        let journal = Arc::clone(journal);
        let mut committing = journal.commit(shared.id, commit);
        let mut grace: Option<Pin<Box<Sleep>>> = None;
        let committed = poll_fn(|cx| match caught(|| committing.as_mut().poll(cx)) {
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(Committed::Lasts),
            Ok(Poll::Ready(Err(NotCommitted::Fenced(why)))) => Poll::Ready(Committed::Fenced(why)),
            Ok(Poll::Ready(Err(error @ NotCommitted::Refused(_)))) => {
                Poll::Ready(Committed::Failed(error.to_string()))
            }
            Ok(Poll::Pending) => shared
                .poll_interrupt(cx, &mut grace)
                .map(|()| Committed::Cancelled),
            Err(panic) => Poll::Ready(Committed::Failed(panic_text(&*panic))),
        })
        .await;
        if matches!(committed, Committed::Lasts) {
            self.ctx.rare().snapshot = Some(snapshot);
        }
        committed
    }

    /// The state as it is now, or why there is none.
    pub(super) fn snapshot(&self) -> Result<Option<Snapshot>, String> {
        let taken = caught(|| {
            let state = self.actor.snapshot()?;
            let version = self.actor.snapshot_version();
            Ok(state.map(|state| Snapshot { version, state }))
        });
        taken
            .unwrap_or_else(|panic| Err(ActorError::failed(panic_text(&*panic))))
            .map_err(|error| format!("cannot take a snapshot: {error}"))
    }

    /// Takes up a snapshot, if the kind reads its form.
    pub(super) fn take_up(&mut self, snapshot: Snapshot) -> Result<(), String> {
        let Snapshot { version, state } = snapshot;
        let restored = caught(|| {
            let known = self.actor.snapshot_version();
            if version == known {
                self.actor.restore(state)
            } else if version < known {
                self.actor.restore_older(version, state)
            } else {
                Err(ActorError::failed(format!(
                    "it has form {version}, and this kind knows forms up to {known}: run it on a \
                     node with a newer version of the program"
                )))
            }
        });
        restored
            .unwrap_or_else(|panic| Err(ActorError::failed(panic_text(&*panic))))
            .map_err(|error| format!("cannot take up its snapshot: {error}"))
    }
}
