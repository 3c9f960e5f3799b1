//! Learning of the end of a named actor from any node: whom to ask when, and what to make of the
//! answers.
//!
//! An [`ActorWatch`] asks the actor's node, one question at a time, and judges what it hears by
//! what its own node knows of the name and of the members. A plain actor is one incarnation on one
//! node, and ends with either. A durable one goes on elsewhere as long as its name is held: it is
//! followed. Who is gone without a word is asked for by the name: if that was given up, whoever may
//! have run the actor last is asked for its reason first.
//!
//! Whoever drives it asks, waits, and hands in what came of it. It is over once, by
//! [`WatchStep::Over`].

use std::collections::VecDeque;
use std::time::Duration;

use cpe_membership::{Member, NodeId};

use crate::ActorInfo;
use crate::guard::{Guard, holds};

/// How long one question waits for the end.
const ASK_FOR: Duration = Duration::from_secs(10);

/// Pause before a question is asked again that was not answered.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the node of a plain actor may say that it does not run it before it is believed: it may
/// be about to start it. And for how long a node that is there, and silent, is asked for the reason
/// of an end that is known.
const BELIEVED_AFTER: Duration = Duration::from_secs(30);

/// An actor as it was seen in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who hosts it; if it is leased, the node in its life as a host.
    pub host: Member,
    /// The token of its claim.
    pub token: u64,
    /// The token of the claim with which it began.
    pub born: u64,
    /// Hosted under a lease: it goes on elsewhere when its host is gone.
    pub leased: bool,
}

impl Seen {
    /// What a record says; nothing if nobody hosts the name.
    #[must_use]
    pub fn of(info: &ActorInfo) -> Option<Self> {
        Some(Self {
            host: info.host?,
            token: info.token,
            born: info.born,
            leased: info.leased,
        })
    }

    /// Whether this is the same actor, wherever it lives.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let born = self.born == other.born || !holds(Guard::WatchBorn);
        born && self.leased == other.leased
    }
}

/// What came of a question how an actor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard<R> {
    /// It lives there, or is about to have its name given up.
    Lives,
    /// It has ended, so.
    Ended(R),
    /// The node knows nothing of it, or knows that it goes on elsewhere.
    NotHere,
    /// The node did not answer.
    Silent,
}

/// How an actor ended, as far as can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEnd<R> {
    /// As its node said.
    Told(R),
    /// Its node said nothing, and why it has ended all the same.
    Lost(&'static str),
}

/// What a watch wants done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchStep<R> {
    /// Ask a node how the actor is, then call [`ActorWatch::heard`] with this number. The node is
    /// to answer at the actor's end, or after `within` that it lives.
    Ask {
        /// Number of the question.
        n: u64,
        /// Whom.
        node: NodeId,
        /// For how long it may wait for the end.
        within: Duration,
    },
    /// Call [`ActorWatch::woke`] after so long.
    Wait(Duration),
    /// The actor has ended. Nothing follows.
    Over(WatchEnd<R>),
}

/// What the watching node knows at the moment.
#[derive(Clone, Copy, Debug)]
pub struct WatchView<'a> {
    /// The registry's record of the name, as its replica shows it.
    pub record: Option<&'a ActorInfo>,
    /// Nodes that are there, as far as it knows, in their incarnations; itself too.
    pub alive: &'a [Member],
}

impl WatchView<'_> {
    fn is_there(&self, node: NodeId) -> bool {
        self.alive.iter().any(|member| member.node == node)
    }
}

/// An end that is certain, whose reason is asked for.
#[derive(Debug)]
struct LastWords {
    why: &'static str,
    since: Duration,
    /// Nodes that may know it.
    left: VecDeque<NodeId>,
}

/// See the module.
#[derive(Debug)]
pub struct ActorWatch {
    seen: Seen,
    /// Of the question that is under way, or of the last one.
    n: u64,
    /// Who was asked, while a question is under way.
    asked: Option<NodeId>,
    /// Since when its node says that it does not run it.
    unknown_since: Option<Duration>,
    last_words: Option<LastWords>,
    is_over: bool,
}

impl ActorWatch {
    /// Begins to watch an actor, and what to do first.
    #[must_use]
    pub fn new<R>(seen: Seen) -> (Self, WatchStep<R>) {
        let mut watch = Self {
            seen,
            n: 0,
            asked: None,
            unknown_since: None,
            last_words: None,
            is_over: false,
        };
        let first = watch.ask_host();
        (watch, first)
    }

    /// Where the actor was seen last.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    fn ask_host<R>(&mut self) -> WatchStep<R> {
        self.ask(self.seen.host.node, ASK_FOR)
    }

    fn ask<R>(&mut self, node: NodeId, within: Duration) -> WatchStep<R> {
        self.n += 1;
        self.asked = Some(node);
        let n = self.n;
        WatchStep::Ask { n, node, within }
    }

    fn over<R>(&mut self, end: WatchEnd<R>) -> WatchStep<R> {
        self.is_over = true;
        WatchStep::Over(end)
    }

    /// Question `n` came to this, at `now` by the clock of the watching node. Nothing follows if it
    /// is not the one that is under way.
    pub fn heard<R>(
        &mut self,
        now: Duration,
        n: u64,
        heard: Heard<R>,
        view: WatchView<'_>,
    ) -> Option<WatchStep<R>> {
        let current = !self.is_over && n == self.n;
        if !current && holds(Guard::WatchQuestion) {
            return None;
        }
        let asked = match self.asked.take() {
            Some(asked) => asked,
            None if holds(Guard::WatchQuestion) => return None,
            None => self.seen.host.node,
        };
        if let Heard::Ended(reason) = heard {
            return Some(self.over(WatchEnd::Told(reason)));
        }
        if self.last_words.is_some() {
            return Some(self.no_last_word(now, asked, &heard, view));
        }
        if matches!(heard, Heard::Lives) {
            self.unknown_since = None;
            return Some(self.ask_host());
        }
        Some(self.look(now, matches!(heard, Heard::NotHere), view))
    }

    /// A pause is over.
    pub fn woke<R>(&mut self, now: Duration, view: WatchView<'_>) -> Option<WatchStep<R>> {
        if self.is_over || self.asked.is_some() {
            return None;
        }
        Some(match &self.last_words {
            Some(_) => self.ask_next(now, view),
            None => self.ask_host(),
        })
    }

    /// The actor's node did not say that it lives, nor how it ended.
    fn look<R>(&mut self, now: Duration, not_here: bool, view: WatchView<'_>) -> WatchStep<R> {
        let record = view.record;
        // A replica may lag behind what was seen before.
        if record.is_some_and(|record| record.token < self.seen.token) {
            return WatchStep::Wait(PAUSE);
        }
        let current = record.and_then(Seen::of);
        let Some(there) = current.filter(|it| self.seen.is_same(it)) else {
            let why = match current {
                None => "its name is given up",
                Some(_) => "its name is another actor's",
            };
            return self.seek_last_words(now, why, view);
        };
        if there.token > self.seen.token {
            self.seen = there;
            self.unknown_since = None;
            return self.ask_host();
        }
        if there.leased {
            return WatchStep::Wait(PAUSE);
        }
        if !view.alive.contains(&self.seen.host) {
            return self.over(WatchEnd::Lost("its node is gone"));
        }
        if not_here {
            let since = *self.unknown_since.get_or_insert(now);
            if now.saturating_sub(since) > BELIEVED_AFTER {
                return self.over(WatchEnd::Lost("its node does not know it any more"));
            }
        } else {
            self.unknown_since = None;
        }
        WatchStep::Wait(PAUSE)
    }

    /// It has ended, and somebody may know how: its node as it was seen last, or another one, if it
    /// had moved on.
    fn seek_last_words<R>(
        &mut self,
        now: Duration,
        why: &'static str,
        view: WatchView<'_>,
    ) -> WatchStep<R> {
        let host = self.seen.host.node;
        let others = view.alive.iter().map(|member| member.node);
        let others = others.filter(|node| *node != host && self.seen.leased);
        self.last_words = Some(LastWords {
            why,
            since: now,
            left: std::iter::once(host).chain(others).collect(),
        });
        self.ask_next(now, view)
    }

    fn ask_next<R>(&mut self, now: Duration, view: WatchView<'_>) -> WatchStep<R> {
        let Some(words) = &mut self.last_words else {
            return self.ask_host();
        };
        let late = now.saturating_sub(words.since) > BELIEVED_AFTER;
        words.left.retain(|node| !late && view.is_there(*node));
        let why = words.why;
        match words.left.pop_front() {
            Some(node) => self.ask(node, Duration::ZERO),
            None => self.over(WatchEnd::Lost(why)),
        }
    }

    fn no_last_word<R>(
        &mut self,
        now: Duration,
        asked: NodeId,
        heard: &Heard<R>,
        view: WatchView<'_>,
    ) -> WatchStep<R> {
        if let Some(words) = &mut self.last_words
            && !matches!(heard, Heard::NotHere)
        {
            // It may know: it has not heard yet that the name is given up, or was not reached.
            words.left.push_back(asked);
            return WatchStep::Wait(PAUSE);
        }
        self.ask_next(now, view)
    }
}

#[cfg(test)]
mod tests;
