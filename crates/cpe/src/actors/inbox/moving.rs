//! An inbox before and after a move: what comes from a former host before anything else, and what
//! goes to the next one (rule A8, decision 032).

use std::collections::VecDeque;
use std::sync::Arc;

use cpe_actors::AskError;
use cpe_membership::{Member, NodeId};
use cpe_mesh::{Moves, Room, TakenIn as Taken};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Inbox, State, Waiting};
use crate::actors::envelope::{Answer, Told};
use crate::actors::lock;

/// What becomes of messages that a former host sends on.
#[derive(Debug, Default)]
pub(in crate::actors) struct TakenIn {
    /// Those that are not to be handled, by their places: later ones of their senders were.
    passed: Vec<u64>,
    /// Of the others, what came of them.
    pub(super) waits: Vec<oneshot::Receiver<Answer>>,
}

impl TakenIn {
    /// Waits until all are handled, or will not be here.
    pub(in crate::actors) async fn answer(self) -> Answer {
        for waits in self.waits {
            match waits.await {
                Ok(Answer::NotHere | Answer::Elsewhere { .. }) | Err(_) => return Answer::NotHere,
                Ok(ended @ Answer::Asked(AskError::Dead { .. })) => return ended,
                // Or it was handled, and has no answer; or the actor could do nothing with it.
                Ok(_) => {}
            }
        }
        Answer::Forwarded {
            passed: self.passed,
        }
    }
}

impl Inbox {
    /// Takes messages in that a former host sends on: the first that it has left, in their order.
    /// Answered when they are handled: it keeps them until then.
    pub(in crate::actors) fn take_in(
        self: &Arc<Self>,
        from: NodeId,
        told: Vec<Told>,
    ) -> Result<TakenIn, Answer> {
        let mut state = lock(&self.state);
        match state.mailbox.room(told.len()) {
            Room::There => {}
            Room::Busy => return Err(Answer::Busy),
            Room::Gone => return Err(Answer::NotHere),
        }
        let mut taken = TakenIn::default();
        for (at, Told { number, message }) in (0..).zip(told) {
            let came = state.mailbox.take_in(from, number.marked(), || Waiting {
                number,
                tell: true,
                message,
                answers: Vec::new(),
            });
            match came {
                Taken::Passed => taken.passed.push(at),
                Taken::Handled => {}
                Taken::Here(ticket) | Taken::New(ticket) => {
                    let (answer, answered) = oneshot::channel();
                    taken.waits.push(answered);
                    if let Some(waiting) = state.mailbox.get_mut(ticket) {
                        waiting.answers.push(answer);
                    }
                }
            }
        }
        self.hand_on(&mut state);
        Ok(taken)
    }

    /// Nothing is to come any more from a former host: what came directly goes to the actor now.
    pub(in crate::actors) fn open(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.mailbox.open() {
            self.go_on(&mut state);
        }
    }

    /// The same, as this node says that it has sent all it had.
    pub(in crate::actors) fn all_sent(self: &Arc<Self>, from: NodeId) {
        let mut state = lock(&self.state);
        if state.mailbox.all_sent(from) {
            self.go_on(&mut state);
        }
    }

    /// The actor takes what waited.
    fn go_on(self: &Arc<Self>, state: &mut State) {
        self.opened.notify_waiters();
        self.hand_on(state);
    }

    /// Whether messages of a former host may be still to come.
    pub(in crate::actors) fn is_holding(&self) -> bool {
        lock(&self.state).mailbox.is_holding()
    }

    /// The actor is to be handed to another host: what comes is kept for it. One that has just come
    /// waits first until its former host has sent on all it had.
    pub(in crate::actors) async fn begin_move(&self, until: Instant) -> Result<(), &'static str> {
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            // What opens from here on is heard.
            opened.as_mut().enable();
            let moves = lock(&self.state).mailbox.begin_move();
            match moves {
                Moves::Begun => return Ok(()),
                Moves::Holding => {}
                Moves::Already => return Err("it is on its way already"),
            }
            if tokio::time::timeout_at(until, opened).await.is_err() {
                return Err("it has come from another node, which still sends on its messages");
            }
        }
    }

    /// The actor stays after all, and takes what has come meanwhile.
    pub(in crate::actors) fn stay(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.mailbox.stay() {
            self.go_on(&mut state);
        }
    }

    /// Waits until the actor, which has ended, has said of all messages what came of them: those it
    /// answered are not to be sent on. For one who waits, after [`begin_move`](Self::begin_move).
    pub(in crate::actors) async fn settled(&self) {
        while !lock(&self.state).mailbox.is_settled() {
            // One that was through since that look has left a permit.
            self.settled.notified().await;
        }
    }

    /// The actor is another node's: what it was told and did not get to, in order. Those who asked
    /// are told where it is, and ask there.
    pub(in crate::actors) fn leave(&self, host: Member, token: u64) -> VecDeque<Told> {
        let mut told = VecDeque::new();
        for mut waiting in self.empty() {
            if waiting.tell {
                let message = std::mem::take(&mut waiting.message);
                let number = waiting.number.clone();
                told.push_back(Told { number, message });
            }
            waiting.answer(Answer::Elsewhere { host, token });
        }
        told
    }
}
