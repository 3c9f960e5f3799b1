//! What waits for a durable actor of this node: each message under its number, from its arrival
//! until it is handled (rules A8 and A9).
//!
//! A copy stays here while the actor has the message, so that what it did not get to can be sent
//! after it when it moves. A message that was handled, as the last commit has it, is not handled
//! again; whoever sends one that is under way already gets the answer of the first. What was told
//! and cannot be handled by anybody any more is a dead letter.

mod moving;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpe_actors::{AnyAddress, AskError, DeadReason, ExitReason, System};
use cpe_membership::Member;
use cpe_space::{Kept, Mark, Marked, Sender, TAKES_MAX, Takes};
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
    /// The actor has it.
    handed: bool,
    /// A former host sent it on, and keeps it until it is handled.
    rest: bool,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What comes goes to the actor.
    Open,
    /// Until this former host has sent on what it had, nothing else goes to the actor.
    Holding(Member),
    /// The actor is being handed to another host: what comes is kept for it.
    Moving,
    /// It is not this node's any more.
    Gone,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    actor: Option<AnyAddress>,
    /// Counts the messages as they come.
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Messages for the actor that it does not have yet, in order.
    ready: VecDeque<u64>,
    /// Messages that it has.
    handed: usize,
    /// Messages that a former host sent on.
    rest: usize,
    tickets: BTreeMap<(Sender, u64), u64>,
    /// What is handled and lasts.
    marks: BTreeMap<Sender, Mark>,
    /// Takes of the actor as it had committed them when it began, and its birth.
    takes: (u64, Takes),
}

impl State {
    /// Whether a message is not to be handled.
    fn is_handled(&self, sender: &Sender, seq: u64) -> bool {
        if let Sender::Take { born, n } = sender {
            let (own, takes) = &self.takes;
            if born < own || (born == own && takes.is_handled(*n)) {
                return true;
            }
        }
        let mark = self.marks.get(sender);
        mark.is_some_and(|mark| mark.contains(seq))
    }

    /// The lowest number that this sender may still send, which is not above those that wait here.
    fn low(&self, Marked { sender, seq, low }: Marked) -> Marked {
        let any = (sender.clone(), 0)..=(sender.clone(), u64::MAX);
        let waits = self.tickets.range(any).next().map(|((_, seq), _)| *seq);
        let low = waits.map_or(low, |waits| low.min(waits));
        Marked { sender, seq, low }
    }
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
                phase: from.map_or(Phase::Open, Phase::Holding),
                actor: None,
                next: 1,
                waiting: BTreeMap::new(),
                ready: VecDeque::new(),
                handed: 0,
                rest: 0,
                tickets: BTreeMap::new(),
                marks: kept.map_or_else(BTreeMap::new, |kept| kept.marks().clone()),
                takes: kept.map_or_else(Default::default, |kept| {
                    (kept.outbox.born(), kept.outbox.takes.clone())
                }),
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
        let (sender, seq) = (number.of(), number.seq);
        if state.phase == Phase::Gone {
            return Err(Answer::NotHere);
        }
        // What another incarnation was to be told of its takes is told to this one by its own host.
        let other = number.take.is_some_and(|(_, token)| token != self.token);
        if other || state.is_handled(&sender, seq) {
            return Err(Answer::Handled);
        }
        let (answer, answered) = oneshot::channel();
        let place = (sender, seq);
        if let Some(ticket) = state.tickets.get(&place).copied() {
            if let Some(waiting) = state.waiting.get_mut(&ticket).filter(|_| !tell) {
                waiting.answers.push(answer);
                return Ok(answered);
            }
            return Err(Answer::Done);
        }
        if state.waiting.len() - state.rest >= WAITING_MAX {
            let (actor, after) = (self.name.clone(), Duration::ZERO);
            return Err(Answer::Asked(AskError::Full { actor, after }));
        }
        let goes = match state.phase {
            Phase::Open => true,
            Phase::Holding(_) => forwarded,
            Phase::Moving | Phase::Gone => false,
        };
        let waiting = Waiting {
            number,
            tell,
            message,
            answers: if tell { Vec::new() } else { vec![answer] },
            handed: false,
            rest: false,
        };
        self.put(&mut state, waiting, goes);
        if tell {
            return Err(Answer::Done);
        }
        Ok(answered)
    }

    /// Puts a message to those that wait, and gives it to the actor if it is its turn.
    fn put(self: &Arc<Self>, state: &mut State, waiting: Waiting, goes: bool) {
        let ticket = state.next;
        state.next += 1;
        let place = (waiting.number.of(), waiting.number.seq);
        state.tickets.insert(place, ticket);
        state.rest += usize::from(waiting.rest);
        state.waiting.insert(ticket, waiting);
        if goes {
            state.ready.push_back(ticket);
            self.hand_on(state);
        }
    }

    /// Gives the actor what there is for it, as far as there is room in its mailbox.
    fn hand_on(self: &Arc<Self>, state: &mut State) {
        while state.handed < WAITING_MAX
            && matches!(state.phase, Phase::Open | Phase::Holding(_))
            && let Some(ticket) = state.ready.pop_front()
        {
            self.hand(state, ticket);
        }
    }

    /// Gives a message to the actor.
    fn hand(self: &Arc<Self>, state: &mut State, ticket: u64) {
        let Some(actor) = state.actor.clone() else {
            return;
        };
        let Some(waiting) = state.waiting.get_mut(&ticket).filter(|it| !it.handed) else {
            return;
        };
        waiting.handed = true;
        state.handed += 1;
        let message = waiting.message.clone();
        let asking = async move { actor.ask_numbered(ticket, message, DEADLINE_MAX).await };
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
        if state.waiting.get(&ticket).is_some_and(|it| it.handed) {
            state.handed -= 1;
        }
        if state.phase == Phase::Moving {
            self.settled.notify_one();
        }
        let answer = match result {
            Ok(value) => Answer::Value(value),
            Err(AskError::Dead { actor, reason }) => {
                let fenced = matches!(reason, ExitReason::Fenced(_));
                if !fenced && !self.left.load(Ordering::Relaxed) {
                    Answer::Asked(AskError::Dead { actor, reason })
                } else if state.phase == Phase::Moving {
                    // It goes where the actor goes. If it was handled after all, they know there.
                    if let Some(waiting) = state.waiting.get_mut(&ticket) {
                        waiting.handed = false;
                    }
                    return;
                } else {
                    Answer::NotHere
                }
            }
            Err(error) => Answer::Asked(error),
        };
        if let Some(waiting) = take(state, ticket) {
            self.end(waiting, answer);
        }
    }

    /// The messages of a commit, by the tickets that the actor has of them.
    pub(super) fn marked(&self, tickets: &[u64]) -> Vec<Marked> {
        let state = lock(&self.state);
        let found = tickets.iter().filter_map(|it| state.waiting.get(it));
        found.map(|it| state.low(it.number.marked())).collect()
    }

    /// A commit lasts, and with it that these were handled.
    pub(super) fn lasts(&self, marked: &[Marked]) {
        let mut state = lock(&self.state);
        for Marked { sender, seq, low } in marked {
            let mark = state.marks.entry(sender.clone()).or_default();
            mark.insert(*seq, *low);
        }
        // Of takes only the latest can come once more.
        let any = Sender::Take { born: 0, n: 0 };
        while state.marks.range(&any..).count() > TAKES_MAX {
            let first = state
                .marks
                .range(&any..)
                .next()
                .map(|(sender, _)| sender.clone());
            state.marks.remove(&first.unwrap_or_else(|| any.clone()));
        }
    }

    /// The actor is not this node's any more: whoever waits is to look for it elsewhere, and what
    /// it was told is lost.
    pub(super) fn give_up(&self) {
        for waiting in self.empty() {
            self.end(waiting, Answer::NotHere);
        }
    }

    fn empty(&self) -> impl Iterator<Item = Waiting> + use<> {
        let mut state = lock(&self.state);
        state.phase = Phase::Gone;
        state.tickets.clear();
        state.ready.clear();
        (state.handed, state.rest) = (0, 0);
        self.opened.notify_waiters();
        std::mem::take(&mut state.waiting).into_values()
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

fn take(state: &mut State, ticket: u64) -> Option<Waiting> {
    let waiting = state.waiting.remove(&ticket)?;
    let place = (waiting.number.of(), waiting.number.seq);
    state.tickets.remove(&place);
    state.rest -= usize::from(waiting.rest);
    Some(waiting)
}

#[cfg(test)]
mod tests;
