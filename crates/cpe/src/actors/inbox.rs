//! What waits for a durable actor of this node: each message under its number, from its arrival
//! until it is handled (rules A8 and A9).
//!
//! A copy stays here while the actor has the message, so that what it did not get to can be sent
//! after it when it moves. A message that was handled, as the last commit has it, is not handled
//! again; whoever sends one that is under way already gets the answer of the first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpe_actors::{AnyAddress, AskError, ExitReason, Numbered};
use cpe_membership::Member;
use cpe_space::{Kept, Mark, Marked, Sender, TAKES_MAX, Takes};
use cpe_tuple::Value;
use futures::FutureExt;
use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;

use super::envelope::{Answer, Number};
use super::{DEADLINE_MAX, lock};

/// Messages that wait at most, those in the mailbox included: as many as that holds, so that none
/// of them ever waits for room there, which would change their order.
const WAITING_MAX: usize = cpe_actors::DEFAULT_MAILBOX;

/// A message and who waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) number: Number,
    pub(super) tell: bool,
    pub(super) message: Value,
    pub(super) answers: Vec<oneshot::Sender<Answer>>,
    /// The actor has it.
    handed: bool,
}

impl Waiting {
    pub(super) fn answer(self, answer: Answer) {
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
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    name: String,
    /// The token of the incarnation.
    token: u64,
    tasks: TaskTracker,
    /// This node lost the actor, or left it to others: its end here is not its end.
    pub(super) left: Arc<AtomicBool>,
    /// The actor was through with a message while it moves.
    settled: Notify,
    state: Mutex<State>,
}

impl Inbox {
    /// The inbox of an actor that begins from what it has committed. `from` is who handed it to
    /// this node.
    pub(super) fn new(
        (name, token): (&str, u64),
        tasks: &TaskTracker,
        kept: Option<&Kept>,
        from: Option<Member>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            token,
            tasks: tasks.clone(),
            left: Arc::default(),
            settled: Notify::new(),
            state: Mutex::new(State {
                phase: from.map_or(Phase::Open, Phase::Holding),
                actor: None,
                next: 1,
                waiting: BTreeMap::new(),
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
        if state.waiting.len() >= WAITING_MAX {
            let (actor, after) = (self.name.clone(), Duration::ZERO);
            return Err(Answer::Asked(AskError::Full { actor, after }));
        }
        let ticket = state.next;
        state.next += 1;
        state.tickets.insert(place, ticket);
        let waiting = Waiting {
            number,
            tell,
            message,
            answers: if tell { Vec::new() } else { vec![answer] },
            handed: false,
        };
        state.waiting.insert(ticket, waiting);
        let goes = match state.phase {
            Phase::Open => true,
            Phase::Holding(_) => forwarded,
            Phase::Moving | Phase::Gone => false,
        };
        if goes {
            self.hand(&mut state, ticket);
        }
        if tell {
            return Err(Answer::Done);
        }
        Ok(answered)
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
            inbox.handled(&mut lock(&inbox.state), ticket, result);
        });
    }

    /// The actor is through with a message, or has ended.
    fn handled(&self, state: &mut State, ticket: u64, result: Result<Value, AskError>) {
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
            waiting.answer(answer);
        }
    }

    /// The messages of a commit, by the tickets that the actor has of them.
    pub(super) fn marked(&self, tickets: &[u64]) -> Vec<Marked> {
        let state = lock(&self.state);
        let found = tickets.iter().filter_map(|it| state.waiting.get(it));
        found.map(|it| it.number.marked()).collect()
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

    /// The former host has sent on what it had, or has ended: what came directly goes to the actor
    /// now. With `None` whoever it was.
    pub(super) fn open(self: &Arc<Self>, from: Option<Member>) {
        let mut state = lock(&self.state);
        let Phase::Holding(held) = state.phase else {
            return;
        };
        if from.is_some_and(|from| from != held) {
            return;
        }
        state.phase = Phase::Open;
        let waiting: Vec<u64> = state.waiting.keys().copied().collect();
        for ticket in waiting {
            self.hand(&mut state, ticket);
        }
    }

    /// Whether the messages of a former host are still to come.
    pub(super) fn is_holding(&self) -> bool {
        matches!(lock(&self.state).phase, Phase::Holding(_))
    }

    /// The actor is to be handed to another host; false when that is under way already, or when it
    /// has just come.
    pub(super) fn begin_move(&self) -> bool {
        let mut state = lock(&self.state);
        let open = state.phase == Phase::Open;
        if open {
            state.phase = Phase::Moving;
        }
        open
    }

    /// Waits until the actor, which has ended, has said of all messages what came of them: those it
    /// answered are not to be sent on. For one who waits, after [`begin_move`](Self::begin_move).
    pub(super) async fn settled(&self) {
        while lock(&self.state).waiting.values().any(|it| it.handed) {
            // One that was through since that look has left a permit.
            self.settled.notified().await;
        }
    }

    /// The next message to send after the actor; without one nothing more is taken in.
    pub(super) fn next_to_forward(&self) -> Option<Waiting> {
        let mut state = lock(&self.state);
        let first = state.waiting.keys().next().copied();
        let found = first.and_then(|ticket| take(&mut state, ticket));
        if found.is_none() {
            state.phase = Phase::Gone;
        }
        found
    }

    /// The actor is not this node's any more: whoever waits is to look for it elsewhere.
    pub(super) fn give_up(&self) {
        let waiting = {
            let mut state = lock(&self.state);
            state.phase = Phase::Gone;
            state.tickets.clear();
            std::mem::take(&mut state.waiting)
        };
        for waiting in waiting.into_values() {
            waiting.answer(Answer::NotHere);
        }
    }
}

fn take(state: &mut State, ticket: u64) -> Option<Waiting> {
    let waiting = state.waiting.remove(&ticket)?;
    let place = (waiting.number.of(), waiting.number.seq);
    state.tickets.remove(&place);
    Some(waiting)
}

#[cfg(test)]
mod tests {
    use cpe_actors::{AsActor, KindRegistry, Options, System};
    use cpe_membership::{Incarnation, NodeId};
    use cpe_space::{Name, Session};
    use cpe_tuple::Value;

    use super::*;

    fn member(node: u64) -> Member {
        Member {
            node: NodeId(node),
            inc: Incarnation(1),
        }
    }

    fn number(seq: u64) -> Number {
        let sender = Session {
            member: member(7),
            boot: 1,
        };
        Number {
            sender,
            seq,
            low: 1,
            actor: None,
            take: None,
            from: None,
        }
    }

    fn echo(inbox: &Arc<Inbox>) -> AnyAddress {
        let kinds = KindRegistry::with_builtin();
        let system = System::default();
        let spawned = kinds.spawn(&system, "echo", Options::default(), Value::Null);
        let address = spawned.unwrap();
        inbox.serve(address.clone());
        address
    }

    fn inbox(from: Option<Member>) -> Arc<Inbox> {
        Inbox::new(("a", 1), &TaskTracker::new(), None, from)
    }

    #[tokio::test]
    async fn what_is_handled_and_lasts_is_not_handled_again() {
        let inbox = inbox(None);
        echo(&inbox);
        let ask = |seq| inbox.deliver(number(seq), false, false, Value::from(5));
        let asked = ask(1).unwrap();
        let again = ask(1).unwrap();
        assert_eq!(asked.await.unwrap(), Answer::Value(Value::from(5)));
        assert_eq!(again.await.unwrap(), Answer::Value(Value::from(5)));
        inbox.lasts(&[number(2).marked()]);
        assert_eq!(ask(2).unwrap_err(), Answer::Handled);
        assert!(
            ask(1).is_ok(),
            "an earlier one that was overtaken is another"
        );
    }

    #[tokio::test]
    async fn what_two_nodes_send_for_one_actor_under_one_number_is_one_message() {
        let inbox = inbox(None);
        echo(&inbox);
        let of = |node, n| Number {
            sender: Session {
                member: member(node),
                boot: 1,
            },
            seq: n,
            low: n,
            actor: Some((Name::new("b").unwrap(), 3)),
            take: None,
            from: None,
        };
        let ask = |number| inbox.deliver(number, false, false, Value::from(5));
        let asked = ask(of(1, 4)).unwrap();
        assert_eq!(asked.await.unwrap(), Answer::Value(Value::from(5)));
        inbox.lasts(&[of(1, 4).marked()]);
        assert_eq!(ask(of(2, 4)).unwrap_err(), Answer::Handled);
        assert_eq!(ask(of(2, 3)).unwrap_err(), Answer::Handled, "told before");
        assert!(ask(of(2, 5)).is_ok());
        assert!(ask(number(4)).is_ok(), "a node's own number is another");
    }

    #[tokio::test]
    async fn what_comes_directly_waits_for_what_the_former_host_sends_on() {
        let inbox = inbox(Some(member(1)));
        echo(&inbox);
        let ask = |seq, forwarded| inbox.deliver(number(seq), false, forwarded, Value::from(1));
        let mut direct = ask(1, false).unwrap();
        assert!(ask(2, true).unwrap().await.is_ok());
        inbox.open(Some(member(2)));
        assert!(inbox.is_holding(), "another host's end says nothing");
        assert!(direct.try_recv().is_err());
        inbox.open(Some(member(1)));
        assert_eq!(direct.await.unwrap(), Answer::Value(Value::from(1)));
    }

    #[tokio::test]
    async fn what_comes_while_an_actor_moves_is_kept_in_order() {
        let inbox = inbox(None);
        let address = echo(&inbox);
        assert!(inbox.begin_move() && !inbox.begin_move());
        inbox.left.store(true, Ordering::Relaxed);
        address.stop();
        address.as_actor().ended().await;
        let asked = inbox.deliver(number(3), false, false, Value::Null).unwrap();
        let told = inbox.deliver(number(2), true, false, Value::Null);
        assert_eq!(told.unwrap_err(), Answer::Done);
        let first = inbox.next_to_forward().unwrap();
        assert_eq!((first.number.seq, first.tell), (3, false));
        first.answer(Answer::Handled);
        assert_eq!(asked.await.unwrap(), Answer::Handled);
        let second = inbox.next_to_forward().unwrap();
        assert_eq!((second.number.seq, second.tell), (2, true));
        assert!(inbox.next_to_forward().is_none());
        let late = inbox.deliver(number(4), false, false, Value::Null);
        assert_eq!(late.unwrap_err(), Answer::NotHere);
    }
}
