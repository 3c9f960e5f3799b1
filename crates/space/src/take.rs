//! What durable actors take (rule A6): exactly once, whoever hosts them meanwhile.
//!
//! A take is an effect: an actor asks for it in a commit, and it stays in the actor's record, under
//! a number, until the actor has committed what came of it. Whoever hosts the actor asks the home
//! of the tuple's shard under that number, and this shard remembers the outcome under it. So a
//! host that takes over asks the same and gets the same tuple; and what the actor makes of it lasts
//! together with the note that it has it. Then the shard forgets the outcome, and after it the
//! record the take.
//!
//! An actor that is given up is told nothing more: its record says that it ends, and refuses
//! further commits. What is not in its last one by then goes back to its place.

use std::collections::{BTreeMap, BTreeSet};

use cpe_tuple::{Template, Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::guard::{Guard, holds};
use crate::{Applied, Effect, Name, OpId, Outcome, Sm, variable_of};

/// Takes of one actor that are open at a time, at most. A commit with more is refused.
pub const TAKES_MAX: usize = 256;

/// Bytes of outcomes that a shard remembers for actors, at most: it gives them nothing more until
/// some have what they took. They travel with a state that a replica fetches, in the part that is
/// not fetched by the tuple.
pub const MAX_UNRECEIVED_BYTES: usize = 32 * 1024 * 1024;

/// Actors whose takes a shard remembers, at most. When there are more, the half heard of longest
/// ago is forgotten, but for those with an outcome that they have not received: a question of
/// theirs that was answered and comes once more after that would be another one.
pub const MAX_TAKERS: usize = 16_384;

/// What an outcome takes beside its tuple, in bytes.
const HELD_OVERHEAD_BYTES: usize = 128;

/// What an actor asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taking {
    /// The workspace.
    pub workspace: Name,
    /// What matches. It names the variable.
    pub template: Template,
    /// Whether to wait until something does.
    pub wait: bool,
    /// The kind of the message by which the actor is told.
    pub answer: String,
    /// What the actor knows it by.
    pub request: u64,
}

impl Taking {
    /// Bytes, about.
    pub(crate) fn size(&self) -> usize {
        let prefixes = self.template.fields().iter().map(|field| match field {
            cpe_tuple::Field::Prefix(prefix) => prefix.len(),
            _ => 0,
        });
        let fields = 16 * self.template.arity() + prefixes.sum::<usize>();
        let values = self.values().map(Value::size).sum::<usize>();
        self.workspace.as_str().len() + self.answer.len() + fields + values
    }

    /// Values that the template names.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Value> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let of = |bound| match bound {
            Included(value) | Excluded(value) => Some(value),
            Unbounded => None,
        };
        let fields = self.template.fields().iter();
        fields
            .flat_map(move |field| match field {
                cpe_tuple::Field::Actual(value) => [Some(value), None],
                cpe_tuple::Field::Range { low, high } => [of(low.as_ref()), of(high.as_ref())],
                _ => [None, None],
            })
            .flatten()
    }
}

/// How a take of an actor stands, as its record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// The actor waits for it.
    Open,
    /// What the actor made of it lasts: the shard may forget it.
    Handled,
    /// It was given up when the actor ended: the next one of its name is told so.
    GivenUp,
}

/// A take in an actor's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenTake {
    /// What is asked for.
    pub taking: Taking,
    /// Number of the last effect that was asked for before it, which is to be done first.
    pub after: u64,
    /// How it stands.
    pub standing: Standing,
}

/// Takes that an actor has asked for and not done with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Takes {
    last: u64,
    /// How many of them the last commit added.
    added: u64,
    open: BTreeMap<u64, OpenTake>,
}

impl Takes {
    /// Number of the last one, from 1; 0 when there was none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// A take by its number, until the actor and the shard are done with it.
    #[must_use]
    pub fn get(&self, n: u64) -> Option<&OpenTake> {
        self.open.get(&n)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &OpenTake)> {
        self.open.iter().map(|(n, take)| (*n, take))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How many the actor's end has to wait for.
    pub(crate) fn unresolved(&self) -> usize {
        let open = self.open.values();
        open.filter(|take| take.standing != Standing::GivenUp)
            .count()
    }

    pub(crate) fn size(&self) -> usize {
        let takes = self.open.values();
        takes.map(|take| take.taking.size() + 32).sum()
    }

    /// Whether what came of a take is in the state, or nobody waits for it any more.
    #[must_use]
    pub fn is_handled(&self, n: u64) -> bool {
        match self.open.get(&n) {
            Some(take) => take.standing == Standing::Handled,
            None => n <= self.last,
        }
    }

    pub(crate) fn has_room(&self, effects: &[Effect]) -> bool {
        let more = effects.iter().filter(|effect| effect.take().is_some());
        let (count, bytes) = more.fold((0, 0), |(count, bytes), it| (count + 1, bytes + it.size()));
        count == 0
            || (self.open.len() + count <= TAKES_MAX
                && self.size() + bytes <= crate::OUTBOX_BYTES_MAX)
    }

    pub(crate) fn begin_commit(&mut self) {
        self.added = 0;
    }

    pub(crate) fn add(&mut self, taking: Taking, after: u64) {
        self.added += 1;
        self.last += 1;
        let standing = Standing::Open;
        let take = OpenTake {
            taking,
            after,
            standing,
        };
        self.open.insert(self.last, take);
    }

    /// Whether these are what the last commit added, as far as they are still here.
    pub(crate) fn were_added<'a>(&self, takings: impl Iterator<Item = &'a Taking>) -> bool {
        let first = self.last - self.added;
        let mut count = 0;
        let same = takings.into_iter().all(|taking| {
            count += 1;
            let there = self.open.get(&(first + count));
            there.is_none_or(|take| take.taking == *taking)
        });
        same && count == self.added
    }

    /// What came of a take is in the state that is committed.
    pub(crate) fn handled(&mut self, n: u64) {
        if let Some(take) = self.open.get_mut(&n) {
            take.standing = Standing::Handled;
        }
    }

    /// The shard of a take has forgotten its outcome.
    fn received(&mut self, n: u64) {
        self.open.remove(&n);
    }

    /// The shard of a take has given it up.
    fn given_up(&mut self, n: u64) {
        if let Some(take) = self.open.get_mut(&n)
            && take.standing == Standing::Open
        {
            take.standing = Standing::GivenUp;
        }
    }
}

/// Who asks a shard for a take of an actor, and for which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taker {
    /// The actor's name.
    pub name: String,
    /// Its [birth](crate::Outbox::born).
    pub born: u64,
    /// The token of the incarnation that asks.
    pub token: u64,
    /// Number of the take.
    pub n: u64,
    /// Numbers of all takes of the actor that were open when this was asked. Those below the
    /// highest of them that are not among them are over for ever.
    pub open: Vec<u64>,
}

/// An outcome that an actor may not have yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Held {
    outcome: Outcome,
    /// Where the tuple came from; `None` when it cannot return.
    home: Option<Name>,
}

impl Held {
    fn bytes(&self) -> usize {
        match &self.outcome {
            Outcome::Taken { tuple, .. } => tuple.size() + HELD_OVERHEAD_BYTES,
            _ => HELD_OVERHEAD_BYTES,
        }
    }
}

/// What a shard knows of the takes of one actor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    born: u64,
    /// The highest token that asked.
    token: u64,
    /// The highest number heard of.
    upto: u64,
    /// Of those up to it, the ones that may still be asked for.
    open: BTreeSet<u64>,
    held: BTreeMap<u64, Held>,
    /// Index of the entry that spoke of it last.
    at: u64,
}

impl Known {
    /// What a question says of the actor's takes, besides the one it is about.
    fn learn(&mut self, taker: &Taker) {
        let named: BTreeSet<u64> = taker.open.iter().copied().chain([taker.n]).collect();
        let highest = named.last().copied().unwrap_or(0);
        self.open.retain(|n| *n > highest || named.contains(n));
        self.open.extend(named.range(self.upto + 1..));
        self.upto = self.upto.max(highest);
        self.token = self.token.max(taker.token);
    }
}

/// Actors that take here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Kept")]
pub(crate) struct Takers {
    by_name: BTreeMap<String, Known>,
    /// Bytes of all outcomes that are held.
    #[serde(skip)]
    bytes: usize,
}

/// The same as it is kept.
#[derive(Deserialize)]
struct Kept {
    by_name: BTreeMap<String, Known>,
}

impl From<Kept> for Takers {
    fn from(Kept { by_name }: Kept) -> Self {
        let held = by_name.values().flat_map(|known| known.held.values());
        let bytes = held.map(Held::bytes).sum();
        Self { by_name, bytes }
    }
}

impl Takers {
    /// The takes of an actor, with what this question says of them; nothing if it is of an actor
    /// whose name another one has had since.
    fn learn(&mut self, taker: &Taker, at: u64) -> Option<&mut Known> {
        let known = self.by_name.entry(taker.name.clone()).or_default();
        if known.born > taker.born {
            return None;
        }
        if known.born < taker.born {
            // A name is free only when all of its actor is settled.
            let bytes: usize = known.held.values().map(Held::bytes).sum();
            self.bytes -= bytes;
            *known = Known {
                born: taker.born,
                ..Known::default()
            };
        }
        known.learn(taker);
        known.at = at;
        let over: Vec<u64> = known
            .held
            .keys()
            .filter(|n| !known.open.contains(n))
            .copied()
            .collect();
        for n in over {
            let held = known.held.remove(&n);
            self.bytes -= held.map_or(0, |held| held.bytes());
        }
        if self.by_name.len() > MAX_TAKERS {
            self.forget_some(&taker.name);
        }
        self.by_name.get_mut(&taker.name)
    }

    fn forget_some(&mut self, but: &str) {
        let mut ages: Vec<u64> = self.by_name.values().map(|it| it.at).collect();
        let (_, middle, _) = ages.select_nth_unstable(MAX_TAKERS / 2);
        let middle = *middle;
        let by_name = &mut self.by_name;
        by_name.retain(|name, it| it.at > middle || !it.held.is_empty() || name == but);
    }

    fn hold(&mut self, taker: &Taker, held: Held) {
        if let Some(known) = self.by_name.get_mut(&taker.name) {
            self.bytes += held.bytes();
            known.held.insert(taker.n, held);
        }
    }

    /// Whether a tuple may go back to this workspace.
    pub(crate) fn has_any_of(&self, workspace: &Name) -> bool {
        let mut held = self.by_name.values().flat_map(|known| known.held.values());
        held.any(|held| held.home.as_ref() == Some(workspace))
    }

    /// Tuples of a deleted variable must not come back.
    pub(crate) fn deleted(&mut self, workspace: &Name, key: Option<&Value>) {
        let held = self.by_name.values_mut();
        for held in held.flat_map(|known| known.held.values_mut()) {
            if let Outcome::Taken { tuple, .. } = &held.outcome
                && held.home.as_ref() == Some(workspace)
                && key.is_none_or(|key| *key == variable_of(tuple))
            {
                held.home = None;
            }
        }
    }

    /// Tuples that actors may not have yet.
    pub(crate) fn tuples(&self) -> impl Iterator<Item = &Tuple> {
        let held = self.by_name.values().flat_map(|known| known.held.values());
        held.filter_map(|held| match &held.outcome {
            Outcome::Taken { tuple, .. } => Some(tuple),
            _ => None,
        })
    }

    /// True when nothing more is taken for actors.
    fn is_full(&self) -> bool {
        self.bytes >= MAX_UNRECEIVED_BYTES
    }
}

impl Sm {
    /// Outcomes of takes that are remembered for actors: whose, and the number.
    pub fn unreceived(&self) -> impl Iterator<Item = (&str, u64)> {
        let takers = self.takers.by_name.iter();
        takers.flat_map(|(name, known)| known.held.keys().map(|n| (name.as_str(), *n)))
    }

    /// Whether a take of an actor is decided here, or over.
    #[must_use]
    pub fn is_settled(&self, taker: &Taker) -> bool {
        let Some(known) = self.takers.by_name.get(&taker.name) else {
            return false;
        };
        known.born > taker.born
            || (known.born == taker.born
                && (known.held.contains_key(&taker.n)
                    || (taker.n <= known.upto && !known.open.contains(&taker.n))))
    }

    /// True when so much is remembered for actors that nothing more is taken for them:
    /// [`MAX_UNRECEIVED_BYTES`], until some have what they took.
    #[must_use]
    pub fn is_full_of_unreceived(&self) -> bool {
        self.takers.is_full()
    }

    /// A take of an actor, asked for by whoever hosts it: what came of it before, if anything.
    pub(crate) fn take_for(
        &mut self,
        op: OpId,
        taker: &Taker,
        workspace: &Name,
        template: &Template,
        wait: bool,
    ) -> Applied {
        let at = self.index();
        let known = self.takers.learn(taker, at);
        let open = known.as_ref().is_some_and(|it| it.open.contains(&taker.n));
        let held = known.and_then(|known| known.held.get(&taker.n));
        let before = match held {
            Some(held) => Some(held.outcome.clone()),
            None if open => None,
            None => Some(Outcome::Stale),
        };
        if let Some(outcome) = before.filter(|_| holds(Guard::TakeOnce)) {
            return self.conclude(op, outcome, None);
        }
        if self.takers.is_full() || self.is_full_of_outcomes(op.session) {
            return Applied::Missed(op);
        }
        let found = self.pick(workspace, template, at);
        let held = match found.map(|(index, tuple)| (index, tuple.clone())) {
            Some((index, tuple)) => {
                self.remove(workspace, &variable_of(&tuple), index);
                Held {
                    outcome: Outcome::Taken { index, tuple },
                    home: Some(workspace.clone()),
                }
            }
            None if wait => return Applied::Missed(op),
            None => Held {
                outcome: Outcome::Empty,
                home: None,
            },
        };
        let outcome = held.outcome.clone();
        self.takers.hold(taker, held);
        self.conclude(op, outcome, None)
    }

    /// A take of an actor is over. The actor has what came of it; or it has ended, in the
    /// incarnation with the token that asks, and will never have it: then a tuple goes back.
    pub(crate) fn end_take(&mut self, op: OpId, taker: &Taker, back: bool) -> Applied {
        let at = self.index();
        let done = self.conclude(op, Outcome::Done, None);
        let Some(known) = self.takers.learn(taker, at) else {
            return done;
        };
        // Whoever goes on with the actor may have had it from here.
        if back && taker.token < known.token && holds(Guard::TakeEndToken) {
            return done;
        }
        known.open.remove(&taker.n);
        let held = known.held.remove(&taker.n);
        self.takers.bytes -= held.as_ref().map_or(0, Held::bytes);
        match held {
            Some(Held {
                outcome: Outcome::Taken { index, tuple },
                home: Some(workspace),
            }) if back => self.put_back(workspace, index, tuple).unwrap_or(done),
            _ => done,
        }
    }

    /// Shards are done with takes of an actor: they have forgotten what came of them, since the
    /// actor has it; or given them up, because it ends in the incarnation with this token.
    pub(crate) fn takes_over(
        &mut self,
        op: OpId,
        (name, born): (&str, u64),
        takes: &[u64],
        ended: Option<u64>,
    ) -> Applied {
        if let Some(record) = self.actors.get_mut(name) {
            let ends = record.ending && ended == Some(record.token);
            if let Some(kept) = record.kept.as_mut().filter(|it| it.outbox.born() == born) {
                for n in takes {
                    match ended {
                        None => kept.outbox.takes.received(*n),
                        Some(_) if ends => kept.outbox.takes.given_up(*n),
                        Some(_) => {}
                    }
                }
            }
        }
        self.note_due(name);
        self.conclude(op, Outcome::Done, None)
    }
}
