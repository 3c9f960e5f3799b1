//! What waits for a durable actor at its host, each message under its number: which of it goes to
//! the actor, in what order, and what is not handled again (rules A8 and A9, decision 032).
//!
//! A [`Mailbox`] keeps a message from its arrival until it is handled. While a former host of the
//! actor may have messages for it, what comes directly is held; while the actor moves, all of it is
//! kept for the next host. Whoever drives it keeps with each message what it likes (`T`), gives the
//! actor what [`Mailbox::give`] says, and tells what came of it.

use std::collections::{BTreeMap, VecDeque};

use cpe_membership::{Member, NodeId};
use cpe_space::{Kept, Mark, Marked, Sender, TAKES_MAX, Takes};

use crate::guard::{Guard, holds};

/// What becomes of a message that comes directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The actor is not here any more.
    Gone,
    /// It was handled, and that lasts; or it never will be.
    Handled,
    /// It is here already, under this ticket.
    Here(u64),
    /// Too many wait.
    Full,
    /// It waits, under this ticket.
    New(u64),
}

/// What becomes of a message that a former host sends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenIn {
    /// It is not handled here: later ones of its sender came first.
    Passed,
    /// It was handled, and that lasts.
    Handled,
    /// It is here already, under this ticket: the former host keeps it until it is handled.
    Here(u64),
    /// It waits, under this ticket; the same.
    New(u64),
}

/// Whether a batch of a former host is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It is.
    There,
    /// Not now: too much waits.
    Busy,
    /// The actor is not here any more.
    Gone,
}

/// Whether an actor begins to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    /// It does.
    Begun,
    /// Not yet: a former host may have messages for it.
    Holding,
    /// It moves already, or is gone.
    Already,
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
struct Waiting<T> {
    marked: Marked,
    /// Its place in the order in which all are handled: what a former host sends on while it is
    /// waited for comes before everything else, also before what came sooner.
    place: (bool, u64),
    /// It goes to the actor when its turn comes, or has gone.
    goes: bool,
    /// The actor has it.
    handed: bool,
    /// A former host sent it on, and keeps it until it is handled.
    rest: bool,
    what: T,
}

/// See the module.
#[derive(Debug)]
pub struct Mailbox<T> {
    /// Messages that wait at most, but for those that a former host sends on; and messages that the
    /// actor has at most.
    size: usize,
    phase: Phase,
    /// Counts the messages as they come.
    next: u64,
    waiting: BTreeMap<u64, Waiting<T>>,
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

impl<T> Mailbox<T> {
    /// The mailbox of an actor that begins from what it has committed. `from` is who may have
    /// messages that are to come first.
    #[must_use]
    pub fn new(size: usize, kept: Option<&Kept>, from: Option<Member>) -> Self {
        let from = from.filter(|_| holds(Guard::HoldForFormer));
        Self {
            size,
            phase: from.map_or(Phase::Open, Phase::Holding),
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
        }
    }

    /// Whether a message is not to be handled.
    #[must_use]
    pub fn is_handled(&self, sender: &Sender, seq: u64) -> bool {
        if let Sender::Take { born, n } = sender {
            let (own, takes) = &self.takes;
            if born < own || (born == own && takes.is_handled(*n)) {
                return true;
            }
        }
        let mark = self.marks.get(sender);
        mark.is_some_and(|mark| mark.contains(seq))
    }

    /// A message comes directly; `forwarded` by a former host of an earlier form, which waits until
    /// it is here.
    pub fn deliver(
        &mut self,
        marked: Marked,
        forwarded: bool,
        what: impl FnOnce() -> T,
    ) -> Delivered {
        if self.phase == Phase::Gone {
            return Delivered::Gone;
        }
        if self.is_handled(&marked.sender, marked.seq) {
            return Delivered::Handled;
        }
        let place = (marked.sender.clone(), marked.seq);
        if let Some(ticket) = self.tickets.get(&place) {
            return Delivered::Here(*ticket);
        }
        if self.waiting.len() - self.rest >= self.size {
            return Delivered::Full;
        }
        let goes = match self.phase {
            Phase::Open => true,
            Phase::Holding(_) => forwarded,
            Phase::Moving | Phase::Gone => false,
        };
        Delivered::New(self.put(marked, goes, false, what()))
    }

    fn put(&mut self, marked: Marked, goes: bool, rest: bool, what: T) -> u64 {
        let ticket = self.next;
        self.next += 1;
        let place = (marked.sender.clone(), marked.seq);
        self.tickets.insert(place, ticket);
        self.rest += usize::from(rest);
        if goes {
            self.ready.push_back(ticket);
        }
        let first = goes && self.is_holding();
        let waiting = Waiting {
            marked,
            place: (!first, ticket),
            goes,
            handed: false,
            rest,
            what,
        };
        self.waiting.insert(ticket, waiting);
        ticket
    }

    /// Whether there is room for so many messages of a former host.
    #[must_use]
    pub fn room(&self, count: usize) -> Room {
        if self.phase == Phase::Gone {
            Room::Gone
        } else if self.rest + count > 2 * self.size {
            Room::Busy
        } else {
            Room::There
        }
    }

    /// A former host sends on a message, one after the other in their order. It keeps it until it
    /// is handled here.
    pub fn take_in(&mut self, from: NodeId, marked: Marked, what: impl FnOnce() -> T) -> TakenIn {
        // Else it was not waited for, and later messages may have been handled.
        let in_time = matches!(self.phase, Phase::Holding(held) if held.node == from);
        let Marked { sender, seq, .. } = &marked;
        let mark = self.marks.get(sender);
        let late = !in_time && holds(Guard::PassedOver);
        if late && mark.is_some_and(|mark| mark.has_passed(*seq)) {
            return TakenIn::Passed;
        }
        if self.is_handled(sender, *seq) {
            return TakenIn::Handled;
        }
        if let Some(ticket) = self.tickets.get(&(sender.clone(), *seq)).copied() {
            if in_time {
                self.comes_twice(ticket);
            }
            return Self::kept_until_handled(TakenIn::Here(ticket));
        }
        // Later ones that wait here are about to be handled.
        let later = (sender.clone(), *seq)..=(sender.clone(), u64::MAX);
        let waits = late && holds(Guard::PassedByWaiting);
        if waits && self.tickets.range(later).next().is_some() {
            return TakenIn::Passed;
        }
        let goes = in_time || self.phase == Phase::Open;
        let ticket = self.put(marked, goes, true, what());
        Self::kept_until_handled(TakenIn::New(ticket))
    }

    /// A former host that was told sooner would not have it any more if this one died.
    fn kept_until_handled(taken: TakenIn) -> TakenIn {
        if holds(Guard::ForwardUntilHandled) {
            taken
        } else {
            TakenIn::Handled
        }
    }

    /// A message that is sent on is here already. If it came by another way, because its sender was
    /// not answered or because a host before the former one had it too, it comes in its place among
    /// those that are sent on: these end before anything else begins.
    fn comes_twice(&mut self, ticket: u64) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else {
            return;
        };
        let known = std::mem::replace(&mut waiting.rest, true);
        self.rest += usize::from(!known);
        if known && !holds(Guard::ComesInPlace) {
            return;
        }
        if !std::mem::replace(&mut waiting.goes, true) {
            waiting.place = (false, self.next);
            self.next += 1;
            self.ready.push_back(ticket);
        }
    }

    /// The next message for the actor, if it is to be given one.
    pub fn give(&mut self) -> Option<u64> {
        while self.handed < self.size && matches!(self.phase, Phase::Open | Phase::Holding(_)) {
            let ticket = self.ready.pop_front()?;
            if let Some(waiting) = self.waiting.get_mut(&ticket).filter(|it| !it.handed) {
                waiting.handed = true;
                self.handed += 1;
                return Some(ticket);
            }
        }
        None
    }

    /// What is kept with a message.
    #[must_use]
    pub fn get(&self, ticket: u64) -> Option<&T> {
        self.waiting.get(&ticket).map(|it| &it.what)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, ticket: u64) -> Option<&mut T> {
        self.waiting.get_mut(&ticket).map(|it| &mut it.what)
    }

    /// All that is here, in the order in which it came, and whether a former host has it too.
    pub fn all(&self) -> impl Iterator<Item = (&T, bool)> {
        self.waiting.values().map(|it| (&it.what, it.rest))
    }

    /// The actor is through with a message.
    pub fn done(&mut self, ticket: u64) -> Option<T> {
        let waiting = self.waiting.remove(&ticket)?;
        let place = (waiting.marked.sender, waiting.marked.seq);
        self.tickets.remove(&place);
        self.rest -= usize::from(waiting.rest);
        self.handed -= usize::from(waiting.handed);
        Some(waiting.what)
    }

    /// The actor ended without a word of a message. While it moves that goes where the actor goes:
    /// if it was handled after all, they know there. False if it does not move.
    pub fn comes_back(&mut self, ticket: u64) -> bool {
        if self.phase != Phase::Moving {
            return false;
        }
        if let Some(waiting) = self.waiting.get_mut(&ticket) {
            self.handed -= usize::from(std::mem::take(&mut waiting.handed));
        }
        true
    }

    /// The messages of a commit, by the tickets that the actor has of them. None of their senders
    /// gives up more by it than those that wait here allow.
    #[must_use]
    pub fn marked(&self, tickets: &[u64]) -> Vec<Marked> {
        let found = tickets.iter().filter_map(|it| self.waiting.get(it));
        found.map(|it| self.low(&it.marked)).collect()
    }

    fn low(&self, Marked { sender, seq, low }: &Marked) -> Marked {
        let any = (sender.clone(), 0)..=(sender.clone(), u64::MAX);
        let waits = self.tickets.range(any).next().map(|((_, seq), _)| *seq);
        let low = waits.map_or(*low, |waits| waits.min(*low));
        let (sender, seq) = (sender.clone(), *seq);
        Marked { sender, seq, low }
    }

    /// A commit lasts, and with it that these were handled.
    pub fn lasts(&mut self, marked: &[Marked]) {
        for Marked { sender, seq, low } in marked {
            let mark = self.marks.entry(sender.clone()).or_default();
            mark.insert(*seq, *low);
        }
        // Of takes only the latest can come once more.
        let any = Sender::Take { born: 0, n: 0 };
        while self.marks.range(&any..).count() > TAKES_MAX
            && let Some(first) = self.marks.range(&any..).next().map(|it| it.0.clone())
        {
            self.marks.remove(&first);
        }
    }

    /// Nothing is to come any more from a former host: what came directly goes to the actor now.
    /// False if nothing was held for one.
    pub fn open(&mut self) -> bool {
        let holding = self.is_holding();
        if holding {
            self.go_on();
        }
        holding
    }

    /// The same, as this node says that it has sent all it had: another one that is waited for may
    /// have some yet.
    pub fn all_sent(&mut self, from: NodeId) -> bool {
        let held = matches!(self.phase, Phase::Holding(held) if held.node == from);
        (held || !holds(Guard::EndOfFormer)) && self.open()
    }

    /// Gives the actor all that waits, from now on.
    fn go_on(&mut self) {
        self.phase = Phase::Open;
        let mut ready = Vec::new();
        for (ticket, waiting) in &mut self.waiting {
            waiting.goes = true;
            if !waiting.handed {
                ready.push((waiting.place, *ticket));
            }
        }
        ready.sort_unstable();
        self.ready = ready.into_iter().map(|(_, ticket)| ticket).collect();
    }

    /// Whether messages of a former host may be still to come.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        matches!(self.phase, Phase::Holding(_))
    }

    /// Whether the actor moves.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.phase == Phase::Moving
    }

    /// The actor is to be handed to another host: what comes is kept for it.
    pub fn begin_move(&mut self) -> Moves {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Moving;
                Moves::Begun
            }
            Phase::Holding(_) => Moves::Holding,
            Phase::Moving | Phase::Gone => Moves::Already,
        }
    }

    /// The actor stays after all, and takes what has come meanwhile. False if it does not move.
    pub fn stay(&mut self) -> bool {
        let moving = self.is_moving();
        if moving {
            self.go_on();
        }
        moving
    }

    /// Whether the actor has said of all messages what came of them.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.handed == 0
    }

    /// The actor is not this node's any more: all that waited, in the order in which it would have
    /// been handled.
    pub fn leave(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.phase = Phase::Gone;
        self.tickets.clear();
        self.ready.clear();
        (self.handed, self.rest) = (0, 0);
        let waiting = std::mem::take(&mut self.waiting);
        let mut waiting: Vec<Waiting<T>> = waiting.into_values().collect();
        waiting.sort_unstable_by_key(|it| it.place);
        waiting.into_iter().map(|it| it.what)
    }
}

#[cfg(test)]
mod tests;
