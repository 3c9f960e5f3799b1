//! What durable actors want done (rule A5): kept with the state that led to it, and done once.
//!
//! A commit adds effects to the actor's *outbox*, which is part of what lasts of it. Whoever hosts
//! the actor sends them on, in order, and says how far it came; who takes it over begins again at
//! the first of which nobody has said so. So an effect may be sent on more
//! than once, by more than one node. It is done once all the same, because it has a number: the
//! shard of a tuple remembers the last one of each actor, and so do the marks of an actor that is
//! told something.
//!
//! What is committed is to happen, whoever sends it on: a former host that still does so does no
//! harm, as none sends a tuple before those before it are there, or an actor anything before it has
//! handled what it was told before.

use std::collections::{BTreeMap, VecDeque};

use cpe_tuple::{Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::guard::{Guard, holds};
use crate::{Applied, Name, OpId, Outcome, Sm, Takes, Taking, variable_in};

/// Effects of an actor that wait to be sent on, at most. A commit with more is refused until some
/// are.
pub const OUTBOX_MAX: usize = 256;

/// Bytes of these, as [`Effect::size`] counts them.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Actors that a shard remembers as those whose effects it has, at most. When there are more, the
/// half that was heard of longest ago is forgotten: an effect of theirs that is sent on again
/// after that would be done once more.
pub const MAX_EMITTERS: usize = 16_384;

/// What an effect takes beside its values, in bytes: names and the form around them.
const EFFECT_OVERHEAD_BYTES: usize = 64;

/// Something to be done once the state that led to it lasts.
///
/// The variants' order is part of the wire format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Put a tuple into a workspace.
    Out {
        /// The workspace.
        workspace: Name,
        /// The tuple, without references to bodies.
        tuple: Tuple,
    },
    /// Give a message to a named actor.
    Tell {
        /// Its name.
        actor: Name,
        /// The message.
        message: Value,
    },
    /// Start a named actor.
    Spawn {
        /// Its kind.
        kind: String,
        /// Its name.
        name: Name,
        /// Arguments of its kind.
        args: Value,
    },
    /// Take a tuple, and tell the actor that asks for it (rule A6). It stands beside the others in
    /// the outbox, under numbers of its own: it may wait for long.
    Take(Taking),
}

impl Effect {
    /// Bytes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let values = match self {
            Self::Out { workspace, tuple } => workspace.as_str().len() + tuple.size(),
            Self::Tell { actor, message } => actor.as_str().len() + message.size(),
            Self::Spawn { kind, name, args } => kind.len() + name.as_str().len() + args.size(),
            Self::Take(taking) => taking.size(),
        };
        values + EFFECT_OVERHEAD_BYTES
    }

    /// What it takes, if it does.
    #[must_use]
    pub fn take(&self) -> Option<&Taking> {
        match self {
            Self::Take(taking) => Some(taking),
            _ => None,
        }
    }

    /// Whether it refers to a body, which nobody would keep for it.
    #[must_use]
    pub fn refers(&self) -> bool {
        match self {
            Self::Out { tuple, .. } => tuple.has_blobs(),
            Self::Tell { message: value, .. } | Self::Spawn { args: value, .. } => {
                !value.blobs().is_empty()
            }
            // It looks for tuples, and keeps none.
            Self::Take(_) => false,
        }
    }
}

/// How far the effects of an actor are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Which numbers: [`Outbox::born`].
    pub born: u64,
    /// All up to this one.
    pub upto: u64,
}

/// Effects of an actor that nobody has said are done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outbox {
    born: u64,
    last: u64,
    /// How many of them the last commit added.
    added: u64,
    effects: VecDeque<Effect>,
    /// Takes, which are none of the effects above.
    #[serde(default)]
    pub takes: Takes,
}

impl Outbox {
    pub(crate) fn new(born: u64) -> Self {
        Self {
            born,
            ..Self::default()
        }
    }

    /// Token of the first commit since the name was given up: numbers begin anew with each, and
    /// each is higher than those before.
    #[must_use]
    pub fn born(&self) -> u64 {
        self.born
    }

    /// Number of the last effect, from 1; 0 when there was none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Number of the last effect that is done, as far as the home was told.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.last.saturating_sub(self.effects.len() as u64)
    }

    /// How many wait, but for takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.effects.len()
    }

    /// True when none waits, but for takes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// An effect that waits, by its number.
    #[must_use]
    pub fn get(&self, n: u64) -> Option<&Effect> {
        let at = n.checked_sub(self.sent() + 1)?;
        self.effects.get(usize::try_from(at).ok()?)
    }

    /// Those that wait, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.effects.iter()
    }

    /// Whether this is what the last commit added, as far as it is still here.
    pub(crate) fn was_added(&self, effects: &[Effect]) -> bool {
        let there = self.effects.iter().rev();
        let others: Vec<&Effect> = effects.iter().filter(|it| it.take().is_none()).collect();
        self.added == others.len() as u64
            && there
                .zip(others.into_iter().rev())
                .all(|(one, other)| one == other)
            && self
                .takes
                .were_added(effects.iter().filter_map(Effect::take))
    }

    /// Whether there is room for these beside those that would stay.
    pub(crate) fn has_room(&self, sent: Sent, effects: &[Effect]) -> bool {
        let stay = self.effects.iter().skip(self.done_by(sent));
        let more = || effects.iter().filter(|it| it.take().is_none());
        let all = stay.chain(more());
        let (count, bytes) = all.fold((0, 0), |(count, bytes), effect| {
            (count + 1, bytes + effect.size())
        });
        more().next().is_none() || (count <= OUTBOX_MAX && bytes <= OUTBOX_BYTES_MAX)
    }

    pub(crate) fn add(&mut self, effects: &[Effect]) {
        self.added = 0;
        self.takes.begin_commit();
        for effect in effects {
            if let Effect::Take(taking) = effect {
                self.takes.add(taking.clone(), self.last);
            } else {
                self.added += 1;
                self.last += 1;
                self.effects.push_back(effect.clone());
            }
        }
    }

    /// How many of those that wait are done.
    fn done_by(&self, sent: Sent) -> usize {
        if sent.born != self.born && holds(Guard::SentBorn) {
            return 0;
        }
        let done = sent.upto.min(self.last).saturating_sub(self.sent());
        usize::try_from(done).unwrap_or(usize::MAX)
    }

    pub(crate) fn trim(&mut self, sent: Sent) {
        let done = self.done_by(sent);
        self.effects.drain(..done);
    }
}

/// Of an actor, the last effect that a shard has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Emitter {
    born: u64,
    n: u64,
    /// Index of the entry that brought it.
    at: u64,
}

/// Actors whose effects a shard has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Emitters(BTreeMap<String, Emitter>);

impl Emitters {
    fn last(&self, name: &str) -> Option<(u64, u64)> {
        self.0.get(name).map(|it| (it.born, it.n))
    }

    fn note(&mut self, name: &str, born: u64, n: u64, at: u64) {
        self.0.insert(name.to_owned(), Emitter { born, n, at });
        if self.0.len() <= MAX_EMITTERS {
            return;
        }
        let mut ages: Vec<u64> = self.0.values().map(|it| it.at).collect();
        let (_, middle, _) = ages.select_nth_unstable(MAX_EMITTERS / 2);
        let middle = *middle;
        self.0.retain(|_, it| it.at > middle);
    }
}

impl Sm {
    /// Actors with effects that nobody has said are done, or takes, in order.
    pub fn due(&self) -> impl Iterator<Item = &str> {
        self.due.iter().map(String::as_str)
    }

    /// Number of the last effect of an actor that this shard has, under its
    /// [birth](Outbox::born).
    #[must_use]
    pub fn emitted(&self, name: &str) -> Option<(u64, u64)> {
        self.emitters.last(name)
    }

    /// Notes whether the actor has effects that wait.
    pub(crate) fn note_due(&mut self, name: &str) {
        let kept = self.actors.get(name).and_then(|it| it.kept.as_ref());
        let waits = |outbox: &Outbox| !outbox.is_empty() || !outbox.takes.is_empty();
        if kept.is_some_and(|kept| waits(&kept.outbox)) {
            self.due.insert(name.to_owned());
        } else {
            self.due.remove(name);
        }
    }

    /// An effect of an actor, sent on by whoever does: a tuple, unless it is here already.
    ///
    /// No tuple is sent on before those before it are there, so a later one here means that this
    /// one was; and a later birth means that all of an earlier one were.
    pub(crate) fn emit(
        &mut self,
        op: OpId,
        (name, born, n): (&str, u64, u64),
        workspace: &Name,
        tuple: &Tuple,
    ) -> Applied {
        let done = self.conclude(op, Outcome::Done, None);
        if self.emitters.last(name) >= Some((born, n)) && holds(Guard::EmitOnce) {
            return done;
        }
        let index = self.index();
        self.emitters.note(name, born, n, index);
        let tuple = self
            .enter(workspace, variable_in(tuple))
            .insert(index, tuple.clone());
        Applied::Added {
            index,
            dot: None,
            pending: false,
            workspace: workspace.clone(),
            tuple,
        }
    }

    /// Effects of an actor are done, as whoever sent them on says: it may forget them. True
    /// whoever says so, and whenever, for those numbers.
    pub(crate) fn effects_sent(&mut self, op: OpId, name: &str, sent: Sent) -> Applied {
        let record = self.actors.get_mut(name);
        if let Some(kept) = record.and_then(|record| record.kept.as_mut()) {
            kept.outbox.trim(sent);
        }
        self.note_due(name);
        self.conclude(op, Outcome::Done, None)
    }
}
