//! What waits for a durable actor of this node: each message under its number, from its arrival
//! until it is handled (rules A8 and A9).
//!
//! A copy stays here while the actor has the message, so that what it did not get to can be sent
//! after it when it moves. A message that was handled, as the last commit has it, is not handled
//! again; whoever sends one that is under way already gets the answer of the first. What was told
//! and cannot be handled by anybody any more is a dead letter.

mod moving;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpe_actors::{AnyAddress, AskError, DeadReason, ExitReason, Numbered, System};
use cpe_membership::Member;
use cpe_mesh::{Delivered, Mailbox};
use cpe_space::{Kept, Marked};
use cpe_tuple::Value;
use futures::FutureExt;
use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;

use super::envelope::{Answer, Number};
use super::{DEADLINE_MAX, lock};

/// Why a message that was told is a dead letter when its actor goes on elsewhere.
const LOST: &str =
    "its actor was taken over from this node, which had it; it may have been handled";

/// Messages that wait at most, those in the mailbox included, but for those that a former host
/// sends on. And messages that the actor has at most: as many as the mailbox holds, so that none of
/// them ever waits for room there, which would change their order.
const WAITING_MAX: usize = cpe_actors::DEFAULT_MAILBOX;

/// A message and who waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    number: Number,
    tell: bool,
    message: Value,
    answers: Vec<oneshot::Sender<Answer>>,
}

impl Waiting {
    fn answer(self, answer: Answer) {
        let mut answers = self.answers.into_iter();
        // The first asked: those who asked again are told that it is not theirs to tell twice.
        if let Some(first) = answers.next() {
            for other in answers {
                drop(other.send(again(&answer)));
            }
            drop(first.send(answer));
        }
    }
}

/// The answer for whoever asked a second time.
fn again(answer: &Answer) -> Answer {
    match answer {
        Answer::Value(value) => Answer::Value(value.clone()),
        Answer::Asked(error) => Answer::Asked(error.clone()),
        Answer::Done => Answer::Done,
        Answer::Handled => Answer::Handled,
        Answer::Elsewhere { host, token } => Answer::Elsewhere {
            host: *host,
            token: *token,
        },
        _ => Answer::NotHere,
    }
}

#[derive(Debug)]
struct State {
    actor: Option<AnyAddress>,
    mailbox: Mailbox<Waiting>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    name: String,
    /// The token of the incarnation.
    token: u64,
    tasks: TaskTracker,
    /// Where its dead letters go.
    system: System,
    /// This node lost the actor, or left it to others: its end here is not its end.
    pub(super) left: Arc<AtomicBool>,
    /// The actor was through with a message while it moves.
    settled: Notify,
    /// What came directly goes to the actor now, or nothing more will.
    opened: Notify,
    state: Mutex<State>,
}

impl Inbox {
    /// The inbox of an actor that begins from what it has committed. `from` is who may have
    /// messages that are to come first.
    pub(super) fn new(
        (name, token): (&str, u64),
        (tasks, system): (&TaskTracker, &System),
        kept: Option<&Kept>,
        from: Option<Member>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            token,
            tasks: tasks.clone(),
            system: system.clone(),
            left: Arc::default(),
            settled: Notify::new(),
            opened: Notify::new(),
            state: Mutex::new(State {
                actor: None,
                mailbox: Mailbox::new(WAITING_MAX, kept, from),
            }),
        })
    }

    /// The actor is there.
    pub(super) fn serve(&self, actor: AnyAddress) {
        lock(&self.state).actor = Some(actor);
    }

    /// Takes a message in: the answer follows, or is known at once. A message that is told is
    /// answered when it is here.
    pub(super) fn deliver(
        self: &Arc<Self>,
        number: Number,
        tell: bool,
        forwarded: bool,
        message: Value,
    ) -> Result<oneshot::Receiver<Answer>, Answer> {
        let mut state = lock(&self.state);
        // What another incarnation was to be told of its takes is told to this one by its own host.
        let other = number.take.is_some_and(|(_, token)| token != self.token);
        if other {
            return Err(Answer::Handled);
        }
        let (answer, answered) = oneshot::channel();
        let mut answer = Some(answer).filter(|_| !tell);
        let delivered = state
            .mailbox
            .deliver(number.marked(), forwarded, || Waiting {
                number,
                tell,
                message,
                answers: answer.take().into_iter().collect(),
            });
        match delivered {
            Delivered::Gone => return Err(Answer::NotHere),
            Delivered::Handled => return Err(Answer::Handled),
            Delivered::Full => {
                let (actor, after) = (self.name.clone(), Duration::ZERO);
                return Err(Answer::Asked(AskError::Full { actor, after }));
            }
            Delivered::Here(ticket) => {
                if let Some(waiting) = state.mailbox.get_mut(ticket) {
                    waiting.answers.extend(answer);
                }
            }
            Delivered::New(_) => self.hand_on(&mut state),
        }
        if tell {
            return Err(Answer::Done);
        }
        Ok(answered)
    }

    /// Gives the actor what there is for it, as far as there is room in its mailbox.
    fn hand_on(self: &Arc<Self>, state: &mut State) {
        let Some(actor) = state.actor.clone() else {
            return;
        };
        while let Some(ticket) = state.mailbox.give() {
            self.hand(state, &actor, ticket);
        }
    }

    /// Gives a message to the actor.
    fn hand(self: &Arc<Self>, state: &mut State, actor: &AnyAddress, ticket: u64) {
        let Some(waiting) = state.mailbox.get(ticket) else {
            return;
        };
        let actor = actor.clone();
        let message = waiting.message.clone();
        let number = Numbered {
            number: ticket,
            origin: waiting.number.origin(&self.name),
            // Who carries out an effect or a take only waits until it is handled.
            told: waiting.tell || waiting.number.actor.is_some() || waiting.number.take.is_some(),
        };
        let asking = async move { actor.ask_numbered(number, message, DEADLINE_MAX).await };
        let mut asking = Box::pin(asking);
        // The first look puts it into the mailbox, in the order in which messages came.
        if let Some(result) = (&mut asking).now_or_never() {
            return self.handled(state, ticket, result);
        }
        let inbox = Arc::clone(self);
        self.tasks.spawn(async move {
            let result = asking.await;
            let mut state = lock(&inbox.state);
            inbox.handled(&mut state, ticket, result);
            inbox.hand_on(&mut state);
        });
    }

    /// The actor is through with a message, or has ended.
    fn handled(&self, state: &mut State, ticket: u64, result: Result<Value, AskError>) {
        if state.mailbox.is_moving() {
            self.settled.notify_one();
        }
        let answer = match result {
            Ok(value) => Answer::Value(value),
            Err(AskError::Dead { actor, reason }) => {
                let fenced = matches!(reason, ExitReason::Fenced(_));
                if !fenced && !self.left.load(Ordering::Relaxed) {
                    Answer::Asked(AskError::Dead { actor, reason })
                } else if state.mailbox.comes_back(ticket) {
                    return;
                } else {
                    Answer::NotHere
                }
            }
            Err(error) => Answer::Asked(error),
        };
        if let Some(waiting) = state.mailbox.done(ticket) {
            self.end(waiting, answer);
        }
    }

    /// The messages of a commit, by the tickets that the actor has of them.
    pub(super) fn marked(&self, tickets: &[u64]) -> Vec<Marked> {
        lock(&self.state).mailbox.marked(tickets)
    }

    /// A commit lasts, and with it that these were handled.
    pub(super) fn lasts(&self, marked: &[Marked]) {
        lock(&self.state).mailbox.lasts(marked);
    }

    /// The actor is not this node's any more: whoever waits is to look for it elsewhere, and what
    /// it was told is lost.
    pub(super) fn give_up(&self) {
        for waiting in self.empty() {
            self.end(waiting, Answer::NotHere);
        }
    }

    fn empty(&self) -> impl Iterator<Item = Waiting> + use<> {
        let left = lock(&self.state).mailbox.leave();
        self.opened.notify_waiters();
        left
    }

    /// Nothing more comes of a message here. One that was told and not handled nobody sends again,
    /// unless a former host has it too.
    fn end(&self, waiting: Waiting, answer: Answer) {
        let reason = match &answer {
            Answer::Asked(AskError::Dead { reason, .. }) => {
                Some(DeadReason::ActorEnded(reason.clone()))
            }
            Answer::NotHere => Some(DeadReason::Undelivered(LOST.to_owned())),
            _ => None,
        };
        if let Some(reason) = reason.filter(|_| waiting.tell && waiting.answers.is_empty()) {
            tracing::warn!(actor = %self.name, %reason, "a message that was told is lost");
            let message = Some(waiting.message.clone());
            self.system.dead_letter(self.name.clone(), reason, message);
        }
        waiting.answer(answer);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // What the actor never had when it ended.
        self.give_up();
    }
}

#[cfg(test)]
mod tests;
