//! Records of named actors: who may run one (rule A3), and what of it lasts (rule A4).
//!
//! A name is claimed plainly, by whoever believes that its host is gone; or *leased*, by a node in
//! a life as a host. Then it is claimed anew only after it was released or that life is over: the
//! command names the life, and the leader of the name proposes it only once its own replica of the
//! node's record shows the end. Each claim raises the token, and what an incarnation commits counts
//! while its token is the current one. A host may also hand an actor to another one (rule A8),
//! which is an entry that raises the token as a claim does.

use std::collections::{BTreeMap, BTreeSet};

use cpe_membership::Member;
use cpe_tuple::Value;
use serde::{Deserialize, Serialize};

use crate::guard::{Guard, holds};
use crate::{Applied, Effect, Name, OpId, Outbox, Outcome, Sent, Session, Sm};

/// Bytes. The largest snapshot that is committed in the record itself: it is in an entry of the
/// history and in every replica. What is larger belongs into a tuple, as a large value.
pub const SNAPSHOT_BYTES_MAX: usize = 64 * 1024;

/// Senders whose messages a record remembers. Those heard of longest ago are dropped: a message
/// that such a one repeats after so many others would be handled once more.
pub const MAX_MARKS: usize = 1_024;

/// Messages of one sender that a record remembers by themselves. When there are more, those with
/// the lowest numbers count as handled with all below them.
pub const MARKED_MAX: usize = 1_024;

/// Requirements of one actor: more than a person would write.
pub const MAX_NEEDS: usize = 16;

/// Registry record of a named actor (space.md, section 3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorRecord {
    /// Raised by every claim.
    pub token: u64,
    /// Who hosts it; `None` once released. If it is leased, the node in its life as a host.
    pub host: Option<Member>,
    /// What it is.
    pub spec: Value,
    /// Hosted under the lease of its node.
    #[serde(default)]
    pub leased: bool,
    /// Capabilities that a node's card must have to host it.
    #[serde(default)]
    pub needs: BTreeMap<String, String>,
    /// What its incarnations have committed. Not in answers that refuse something.
    #[serde(default)]
    pub kept: Option<Box<Kept>>,
    /// Whoever handed it to its host; `None` if it was claimed.
    #[serde(default)]
    pub from: Option<Member>,
    /// Its host is giving it up: nothing more is committed under its token.
    #[serde(default)]
    pub ending: bool,
    /// Failures of its incarnations that its host still counts: what a next host goes on from, so
    /// that one that fails everywhere does not begin anew by moving.
    #[serde(default)]
    pub failures: u32,
    /// The token of the claim with which the actor began: with its name what tells it from others
    /// of that name, wherever it goes on.
    #[serde(default)]
    pub born: u64,
    /// Whoever handed it on last, and may still have messages for it: its host, also one that has
    /// claimed it since, is to have those before any others. `None` if nobody did.
    #[serde(default)]
    pub rest: Option<Member>,
}

/// What lasts of an actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Counts the commits of all its incarnations, from 1.
    pub seq: u64,
    /// Its state.
    pub snapshot: Value,
    marks: BTreeMap<Sender, Mark>,
    /// What its commits asked for and nobody has said is done (rule A5).
    #[serde(default)]
    pub outbox: Outbox,
}

/// Who sends messages that are numbered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sender {
    /// One start of a node. It never gives two messages to an actor the same number.
    Start(Session),
    /// A durable actor, whichever node sends for it: the number of a message is that of the
    /// effect.
    Actor {
        /// Its name.
        name: Name,
        /// Its [birth](Outbox::born).
        born: u64,
    },
    /// The receiver itself, which is told what came of a take (rule A6).
    Take {
        /// Its [birth](Outbox::born).
        born: u64,
        /// Number of the take.
        n: u64,
    },
}

/// A message that is handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// Who sent it.
    pub sender: Sender,
    /// Its number.
    pub seq: u64,
    /// The lowest number that the sender may still send, or send again, to this actor.
    pub low: u64,
}

/// Which messages of a sender are handled. Messages may overtake each other, and one that came
/// later says nothing about those before it; but what its sender will not send again needs no
/// place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// All below are handled, or will never be sent again.
    low: u64,
    /// Those above that are handled, at most [`MARKED_MAX`].
    done: BTreeSet<u64>,
    /// Index of the commit that added to it.
    at: u64,
}

impl Mark {
    /// Whether a message is not to be handled: it was, or its sender has given it up.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        let later = self.done.last().is_some_and(|last| seq <= *last);
        seq < self.low || self.done.contains(&seq) || (later && !holds(Guard::MarkEach))
    }

    /// Whether a message that is not known to be handled comes after one that its sender sent
    /// later: handled now it would be out of order, and it may have been handled.
    #[must_use]
    pub fn has_passed(&self, seq: u64) -> bool {
        let later = self.done.last().is_some_and(|last| seq < *last);
        !self.done.contains(&seq) && (seq < self.low || later)
    }

    /// A message is handled, and its sender will send none below `low`.
    pub fn insert(&mut self, seq: u64, low: u64) {
        self.low = self.low.max(low);
        self.done.insert(seq);
        self.done = self.done.split_off(&self.low);
        while self.done.len() > MARKED_MAX
            && let Some(first) = self.done.pop_first()
        {
            self.low = first + 1;
        }
    }
}

impl Kept {
    /// Whether the effect of a message is in the snapshot, or its sender has given it up.
    #[must_use]
    pub fn has(&self, sender: &Sender, seq: u64) -> bool {
        if let Sender::Take { born, n } = sender {
            let current = self.outbox.born();
            return *born < current || (*born == current && self.outbox.takes.is_handled(*n));
        }
        let mark = self.marks.get(sender);
        mark.is_some_and(|mark| mark.contains(seq))
    }

    /// Which messages are handled.
    #[must_use]
    pub fn marks(&self) -> &BTreeMap<Sender, Mark> {
        &self.marks
    }

    /// Whether this is what was committed last.
    fn is(&self, new: &Commit<'_>) -> bool {
        let marked = |one: &Marked| self.has(&one.sender, one.seq);
        self.snapshot == *new.snapshot
            && new.marks.iter().all(marked)
            && self.outbox.was_added(new.effects)
    }

    fn raise(&mut self, marks: &[Marked], at: u64) {
        if !holds(Guard::CommitMarks) {
            return;
        }
        for Marked { sender, seq, low } in marks {
            if let Sender::Take { born, n } = sender {
                if *born == self.outbox.born() {
                    self.outbox.takes.handled(*n);
                }
                continue;
            }
            let mark = self.marks.entry(sender.clone()).or_default();
            mark.insert(*seq, *low);
            mark.at = at;
        }
        while self.marks.len() > MAX_MARKS {
            let eldest = self.marks.iter().min_by_key(|(_, mark)| mark.at);
            let Some(sender) = eldest.map(|(sender, _)| sender.clone()) else {
                return;
            };
            self.marks.remove(&sender);
        }
    }
}

impl ActorRecord {
    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        let needs = self
            .needs
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let kept = self.kept.as_ref().map_or(0, |kept| {
            let marks = kept.marks.values().map(|mark| 64 + 8 * mark.done.len());
            let effects = kept.outbox.iter().map(Effect::size);
            let takes = kept.outbox.takes.size();
            kept.snapshot.size() + marks.sum::<usize>() + effects.sum::<usize>() + takes
        });
        self.spec.size() + needs.sum::<usize>() + kept
    }

    /// Whether an operation of this session may end it.
    fn may_release(&self, op: OpId, void: Option<Member>) -> bool {
        match self.host {
            Some(host) if self.leased && holds(Guard::ReleaseVoid) => {
                host.node == op.session.member.node || void == Some(host)
            }
            _ => true,
        }
    }

    /// Without what lasts of it: whoever is refused needs none of that.
    fn outline(&self) -> Self {
        Self {
            kept: None,
            ..self.clone()
        }
    }
}

/// Who claims an actor, and how.
pub(crate) struct Claim<'a> {
    pub(crate) name: &'a str,
    pub(crate) expect: u64,
    pub(crate) spec: &'a Value,
    pub(crate) host: Member,
    /// Of a claim under a lease: what it needs, and the former life that is over.
    pub(crate) lease: Option<(&'a BTreeMap<String, String>, Option<Member>)>,
}

/// What an incarnation commits.
pub(crate) struct Commit<'a> {
    pub(crate) name: &'a str,
    pub(crate) token: u64,
    pub(crate) seq: u64,
    pub(crate) snapshot: &'a Value,
    pub(crate) marks: &'a [Marked],
    pub(crate) effects: &'a [Effect],
    /// How far the effects of earlier commits are done.
    pub(crate) sent: Sent,
    /// No more messages of a former host are waited for.
    pub(crate) rest_over: bool,
}

impl Sm {
    pub(crate) fn claim(&mut self, op: OpId, claim: &Claim<'_>) -> Applied {
        let current = self.actors.get(claim.name);
        let token = current.map_or(0, |record| record.token);
        let void = claim.lease.and_then(|(_, void)| void);
        // Rule A3. A name that is held without a lease is its holder's, or was left by it: only a
        // claim of the same sort may be sure of that, as it always was.
        let free = current.is_none_or(|record| match record.host {
            None => true,
            Some(host) if record.leased => Some(host) == void || !holds(Guard::ClaimVoid),
            Some(_) => claim.lease.is_none(),
        });
        let outcome = if token == claim.expect && free {
            // Under a lease it is the same actor, which its last host has left.
            let goes_on = current.filter(|record| record.leased && record.host.is_some());
            let record = ActorRecord {
                token: token + 1,
                host: Some(claim.host),
                spec: claim.spec.clone(),
                leased: claim.lease.is_some(),
                needs: claim.lease.map_or_else(BTreeMap::new, |(it, _)| it.clone()),
                kept: current.and_then(|record| record.kept.clone()),
                from: None,
                ending: false,
                // Whoever starts it anew may have mended it.
                failures: goes_on.map_or(0, |record| record.failures),
                born: goes_on.map_or(token + 1, |record| record.born),
                // The host before may have died without all that it was to be sent.
                rest: goes_on.and_then(|record| record.rest),
            };
            self.actors.insert(claim.name.to_owned(), record.clone());
            Outcome::Claimed(record)
        } else {
            Outcome::Fenced(current.map(ActorRecord::outline))
        };
        self.conclude(op, outcome, None)
    }

    /// A host hands an actor to another life (rule A8): it goes on there from its last commit,
    /// which has to be the one that its host knows of. One that was given up half-way is there, or
    /// never will be.
    ///
    /// The same may come twice, under two operations, when the host was not answered.
    pub(crate) fn migrate(
        &mut self,
        op: OpId,
        name: &str,
        (token, seq): (u64, u64),
        to: Option<Member>,
    ) -> Applied {
        let outcome = match self.actors.get_mut(name) {
            Some(record)
                if record.leased
                    && record.host.is_some()
                    && (record.token == token || !holds(Guard::MigrateToken)) =>
            {
                let last = record.kept.as_ref().map_or(0, |kept| kept.seq);
                match to {
                    _ if seq != last && holds(Guard::MigrateLast) => Outcome::OutOfTurn(last),
                    None => Outcome::NoSuchHost,
                    to => {
                        record.token += 1;
                        record.ending = false;
                        record.from = std::mem::replace(&mut record.host, to);
                        record.rest = record.from;
                        Outcome::Moved(record.outline())
                    }
                }
            }
            // Nobody else has had that token.
            Some(record) if record.from.is_some() && record.token == token + 1 => {
                Outcome::Moved(record.outline())
            }
            other => Outcome::Fenced(other.map(|record| record.outline())),
        };
        self.conclude(op, outcome, None)
    }

    /// A host says how many failures of an actor it counts. What it says while another has the
    /// actor is of no use.
    pub(crate) fn note_failures(
        &mut self,
        op: OpId,
        (name, token): (&str, u64),
        failures: u32,
    ) -> Applied {
        let outcome = match self.actors.get_mut(name) {
            Some(record) if record.token == token && record.host.is_some() => {
                record.failures = failures;
                Outcome::Done
            }
            other => Outcome::Fenced(other.map(|record| record.outline())),
        };
        self.conclude(op, outcome, None)
    }

    /// The actor has ended: what it committed goes with it, unless it is kept for a next one.
    ///
    /// Under a lease only its host knows that it has ended, until the host's life is over. What it
    /// asked for is done first: nobody would see to that for a name without a host. Takes that are
    /// open are given up by its host, which asks again: from now on nothing is committed that would
    /// say that one of them is handled.
    pub(crate) fn release(
        &mut self,
        op: OpId,
        (name, token): (&str, u64),
        void: Option<Member>,
        keeps: bool,
        sent: Sent,
    ) -> Applied {
        let outcome = match self.actors.get_mut(name) {
            Some(record) if record.token == token && record.may_release(op, void) => {
                let host = record.host.map(|host| host.node);
                let (waits, takes) = record.kept.as_mut().map_or((0, 0), |kept| {
                    kept.outbox.trim(sent);
                    (kept.outbox.len(), kept.outbox.takes.unresolved())
                });
                if waits + takes > 0 && holds(Guard::ReleaseSent) {
                    record.ending |= takes > 0 && host == Some(op.session.member.node);
                    Outcome::Unsent((waits + takes) as u64)
                } else {
                    record.ending = false;
                    record.host = None;
                    if !keeps {
                        record.kept = None;
                    }
                    record.from = None;
                    record.rest = None;
                    Outcome::Done
                }
            }
            other => Outcome::Fenced(other.map(|record| record.outline())),
        };
        self.note_due(name);
        self.conclude(op, outcome, None)
    }

    /// An incarnation commits its state (rule A4): the only way in which it lasts. With it goes
    /// what is to be done because of it (rule A5).
    ///
    /// The same commit may come twice, under two operations, when its host was not answered.
    pub(crate) fn commit(&mut self, op: OpId, new: &Commit<'_>) -> Applied {
        let at = self.index();
        let Commit {
            name, token, seq, ..
        } = *new;
        let outcome = match self.actors.get_mut(name) {
            Some(record)
                if (record.token == token && record.host.is_some() && !record.ending)
                    || !holds(Guard::CommitToken) =>
            {
                let last = record.kept.as_ref().map_or(0, |kept| kept.seq);
                let repeated = record.kept.as_ref().is_some_and(|it| it.is(new));
                if seq == last + 1 || !holds(Guard::CommitNext) {
                    let kept = record.kept.get_or_insert_with(|| {
                        Box::new(Kept {
                            seq: 0,
                            snapshot: Value::Null,
                            marks: BTreeMap::new(),
                            outbox: Outbox::new(token),
                        })
                    });
                    if !kept.outbox.takes.has_room(new.effects) {
                        Outcome::TooManyTakes(kept.outbox.takes.len() as u64)
                    } else if kept.outbox.has_room(new.sent, new.effects) {
                        kept.seq = seq;
                        kept.snapshot = new.snapshot.clone();
                        kept.raise(new.marks, at);
                        kept.outbox.trim(new.sent);
                        kept.outbox.add(new.effects);
                        // The next host would have them before what this one has handled since.
                        if new.rest_over && holds(Guard::RestOver) {
                            record.rest = None;
                        }
                        Outcome::Done
                    } else {
                        Outcome::Unsent(kept.outbox.len() as u64)
                    }
                } else if seq == last && repeated {
                    Outcome::Done
                } else {
                    Outcome::OutOfTurn(last)
                }
            }
            other => Outcome::Fenced(other.map(|record| record.outline())),
        };
        self.note_due(name);
        self.conclude(op, outcome, None)
    }
}
