//! What durable actors want done (rule A5): the host sends it on.
//!
//! A node sees in its own replica what the actors that it hosts have committed, and sends their
//! effects on: tuples to the homes of their shards, all else to the shell. They begin in order.
//! What follows a tuple waits until that is there, and what is told to an actor waits until it has
//! handled what it was told before; so whoever else sends on for the same actor, the order is kept,
//! at each place where it shows. What is done is told to the actor's home with its next commit, or
//! after a moment.
//!
//! What actors take is in [`crate::takes`].
//!
//! No lease is needed for that: what is committed is to happen, whoever sees to it.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_space::{Effect, Name, OUTBOX_MAX, Outbox, Outcome, Sent, ShardId, variable_in};

use crate::guard::{Guard, holds};
use crate::io::Output;
use crate::peer::{Peer, Timer};
use crate::wire::Operation;

/// How long what is done may wait for the actor's next commit, to be told with it.
const TELL_DELAY: Duration = Duration::from_millis(100);

/// Whom an effect concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Space,
    /// An actor that is told something, or started.
    Actor(Name),
}

impl Place {
    fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Out { .. } => Self::Space,
            Effect::Tell { actor: name, .. } | Effect::Spawn { name, .. } => {
                Self::Actor(name.clone())
            }
            // None of those that stand in line.
            Effect::Take(_) => Self::Space,
        }
    }
}

/// The effects of one actor.
#[derive(Debug, Default)]
struct Sending {
    born: u64,
    /// All up to this one have begun.
    begun: u64,
    /// Those of them that are not done.
    open: BTreeMap<u64, Place>,
    /// One failed: none begins before it has begun again.
    failed: bool,
    /// The home is being told.
    telling: bool,
}

impl Sending {
    /// All up to this one are done.
    fn done(&self) -> u64 {
        let first = self.open.first_key_value();
        match first {
            Some((n, _)) if holds(Guard::EffectsUntilDone) => n - 1,
            _ => self.begun,
        }
    }

    /// The home says which numbers are meant, and how far effects are done, whoever did them.
    fn home_knows(&mut self, born: u64, sent: u64) {
        if self.born != born {
            let telling = self.telling;
            *self = Self {
                born,
                telling,
                ..Self::default()
            };
        }
        self.begun = self.begun.max(sent);
        self.open = self.open.split_off(&(sent + 1));
    }

    /// Whether an effect may begin.
    fn may_begin(&self, place: &Place) -> bool {
        let mut open = self.open.values();
        let waits = open.any(|other| *other == Place::Space || other == place);
        !waits || !holds(Guard::EffectsInTurn)
    }
}

/// What this node sends on.
#[derive(Debug, Default)]
pub(crate) struct Outboxes {
    by_name: BTreeMap<String, Sending>,
    /// Tuples under way, by shard and operation: whose, its birth and the number.
    asked: BTreeMap<(ShardId, u64), (String, u64, u64)>,
    /// Homes being told, in the same way.
    told: BTreeMap<(ShardId, u64), String>,
}

impl Outboxes {
    /// How far the effects of an actor are done, for whatever goes to its home anyway.
    pub(crate) fn done(&self, name: &str) -> Sent {
        let sending = self.by_name.get(name);
        sending.map_or_else(Sent::default, |it| Sent {
            born: it.born,
            upto: it.done(),
        })
    }
}

impl Peer {
    /// The outbox of an actor that this node hosts, as its replica has it.
    fn outbox_of(&self, name: &str) -> Option<&Outbox> {
        let life = self.life()?;
        let shard = self.shard_of_actor(name)?;
        let record = self.slot_ref(shard)?.shard.sm().actor(name)?;
        let outbox = &record.kept.as_ref()?.outbox;
        let own = record.token == outbox.born() || holds(Guard::EffectsOfOthers);
        (record.leased && record.host == Some(life) && own).then_some(outbox)
    }

    /// Sends on what actors of this node want done, of those whose names are in a shard.
    pub(crate) fn send_effects(&mut self, shard: ShardId) {
        let Some(life) = self.life() else {
            return;
        };
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let sm = slot.shard.sm();
        let mine = |name: &&str| sm.actor(name).is_some_and(|it| it.host == Some(life));
        let due: Vec<String> = sm.due().filter(mine).map(str::to_owned).collect();
        self.leave_takes(shard, &due);
        for name in due {
            self.send_next_effects(&name);
            self.go_on_taking(&name);
        }
    }

    /// Up to which number the effects of an actor are done, as far as this node knows.
    pub(crate) fn effects_done_upto(&self, name: &str) -> u64 {
        let Some(outbox) = self.outbox_of(name) else {
            return 0;
        };
        let sending = self.outboxes.by_name.get(name);
        let own = sending.filter(|it| it.born == outbox.born());
        own.map_or(0, Sending::done).max(outbox.sent())
    }

    /// The same for all shards: this node has a life.
    pub(crate) fn send_all_effects(&mut self) {
        for shard in self.all_shards() {
            self.send_effects(shard);
        }
    }

    /// Sends the next effects of an actor, as far as they need not wait for those before.
    fn send_next_effects(&mut self, name: &str) {
        loop {
            let Some(outbox) = self.outbox_of(name) else {
                self.outboxes.by_name.remove(name);
                return;
            };
            let (born, sent) = (outbox.born(), outbox.sent());
            if let Some(sending) = self.outboxes.by_name.get_mut(name) {
                sending.home_knows(born, sent);
            }
            let Some(outbox) = self.outbox_of(name) else {
                return;
            };
            let known = self.outboxes.by_name.get(name);
            let n = known.map_or(0, |it| it.begun).max(sent) + 1;
            let Some(effect) = outbox.get(n) else {
                if known.is_some_and(|it| it.open.is_empty() && it.begun == sent) {
                    // The home knows as much.
                    self.outboxes.by_name.remove(name);
                }
                return;
            };
            let place = Place::of(effect);
            if known.is_some_and(|it| !it.may_begin(&place)) {
                return;
            }
            let effect = effect.clone();
            let sending = self.outboxes.by_name.entry(name.to_owned()).or_default();
            sending.home_knows(born, sent);
            sending.begun = n;
            sending.open.insert(n, place);
            self.send_effect(name, (born, n), effect);
        }
    }

    fn send_effect(&mut self, name: &str, (born, n): (u64, u64), effect: Effect) {
        let name = name.to_owned();
        let Effect::Out { workspace, tuple } = effect else {
            self.count("effects_handed_out", 1);
            let effect = Box::new(effect);
            return self.put_output(Output::Effect {
                name,
                born,
                n,
                effect,
            });
        };
        let shard = self.shard_for(&workspace, variable_in(&tuple));
        let emit = Operation::Emit {
            name: name.clone(),
            born,
            n,
            workspace,
            tuple,
        };
        if let Some(seq) = self.new_op(None, shard, emit) {
            self.outboxes.asked.insert((shard, seq), (name, born, n));
            self.send_op(shard, seq);
        } else {
            self.tuple_failed(&name, born, n);
        }
    }

    /// A tuple was not put: it is tried again in a moment.
    fn tuple_failed(&mut self, name: &str, born: u64, n: u64) {
        if let Some(sending) = self.outboxes.by_name.get_mut(name)
            && sending.born == born
            && sending.open.contains_key(&n)
        {
            sending.failed = true;
            let again = self.now + self.config.retry_max;
            self.timers.set_if_none(Timer::Effects, again);
        }
    }

    /// Sends a tuple again that failed. Nothing that comes after it has begun.
    fn send_again(&mut self, name: &str) {
        let Some(sending) = self.outboxes.by_name.get_mut(name) else {
            return;
        };
        if !std::mem::take(&mut sending.failed) {
            return;
        }
        let born = sending.born;
        let tuples = sending.open.iter().filter(|(_, it)| **it == Place::Space);
        for n in tuples.map(|(n, _)| *n).collect::<Vec<_>>() {
            let outbox = self.outbox_of(name).filter(|it| it.born() == born);
            if let Some(effect) = outbox.and_then(|it| it.get(n)).cloned() {
                self.send_effect(name, (born, n), effect);
            }
        }
    }

    /// An effect is done: those that waited for it may begin.
    pub(crate) fn effect_done(&mut self, name: &str, born: u64, n: u64) {
        let Some(sending) = self.outboxes.by_name.get_mut(name) else {
            return;
        };
        if sending.born != born || sending.open.remove(&n).is_none() {
            return;
        }
        self.count("effects_done", 1);
        // A commit may wait for room.
        let waits = self.outbox_of(name).map_or(0, Outbox::len);
        if waits > OUTBOX_MAX / 2 {
            self.timers.set(Timer::Effects, self.now);
        } else {
            let soon = self.now + TELL_DELAY;
            self.timers.set_if_none(Timer::Effects, soon);
        }
        self.send_next_effects(name);
        self.go_on_taking(name);
    }

    /// Tells homes how far the effects of their actors are done, and tries again what failed.
    pub(crate) fn tell_effects(&mut self) {
        let names: Vec<String> = self.outboxes.by_name.keys().cloned().collect();
        for name in names {
            self.tell_effects_of(&name);
            self.send_again(&name);
            self.send_next_effects(&name);
        }
        self.tell_takes();
    }

    fn tell_effects_of(&mut self, name: &str) {
        let (Some(outbox), Some(shard)) = (self.outbox_of(name), self.shard_of_actor(name)) else {
            return;
        };
        let sent = self.outboxes.done(name);
        let told = self.outboxes.by_name.get(name).is_some_and(|it| it.telling);
        if told || sent.born != outbox.born() || sent.upto <= outbox.sent() {
            return;
        }
        let tell = Operation::Sent {
            name: name.to_owned(),
            sent,
        };
        if let Some(seq) = self.new_op(None, shard, tell) {
            if let Some(sending) = self.outboxes.by_name.get_mut(name) {
                sending.telling = true;
            }
            self.outboxes.told.insert((shard, seq), name.to_owned());
            self.send_op(shard, seq);
        } else {
            let again = self.now + self.config.retry_max;
            self.timers.set_if_none(Timer::Effects, again);
        }
    }

    /// A home has decided what this module asked of it.
    pub(crate) fn effect_decided(&mut self, shard: ShardId, seq: u64, outcome: &Outcome) {
        self.take_decided(shard, seq, outcome);
        if let Some((name, born, n)) = self.outboxes.asked.remove(&(shard, seq)) {
            if matches!(outcome, Outcome::Done) {
                self.effect_done(&name, born, n);
            } else {
                self.tuple_failed(&name, born, n);
            }
        }
        if let Some(name) = self.outboxes.told.remove(&(shard, seq))
            && let Some(sending) = self.outboxes.by_name.get_mut(&name)
        {
            sending.telling = false;
            // More may have been done meanwhile.
            self.timers
                .set_if_none(Timer::Effects, self.now + TELL_DELAY);
        }
    }

    /// A volatile shard begins anew, and with it what was asked of its home: tuples that it may
    /// have had are put there once more.
    pub(crate) fn effects_anew(&mut self, shard: ShardId) {
        let lost: Vec<(ShardId, u64)> = self
            .outboxes
            .asked
            .keys()
            .filter(|(at, _)| *at == shard)
            .copied()
            .collect();
        for place in lost {
            if let Some((name, born, n)) = self.outboxes.asked.remove(&place) {
                self.tuple_failed(&name, born, n);
            }
        }
        self.takes_anew(shard);
    }
}
