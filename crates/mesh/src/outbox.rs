//! What durable actors want done (rule A5): the host sends it on.
//!
//! A node sees in its own replica what the actors that it hosts have committed, and sends their
//! effects on: tuples to the homes of their shards, all else to the shell. One of each actor is
//! under way at a time, and the next one begins when that is done; so whoever else sends on for the
//! same actor, the order is kept. What is done is told to the actor's home with its next commit, or
//! after a moment.
//!
//! No lease is needed for that: what is committed is to happen, whoever sees to it.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_space::{Effect, OUTBOX_MAX, Outbox, Outcome, Sent, ShardId, variable_in};

use crate::guard::{Guard, holds};
use crate::io::Output;
use crate::peer::{Peer, Timer};
use crate::wire::Operation;

/// How long what is done may wait for the actor's next commit, to be told with it.
const TELL_DELAY: Duration = Duration::from_millis(100);

/// The effects of one actor.
#[derive(Debug, Default)]
struct Sending {
    /// How far they are done, as this node knows.
    done: Sent,
    /// The one under way.
    at: Option<u64>,
    /// The home is being told.
    telling: bool,
}

/// What this node sends on.
#[derive(Debug, Default)]
pub(crate) struct Outboxes {
    by_name: BTreeMap<String, Sending>,
    /// Tuples under way, by shard and operation.
    asked: BTreeMap<(ShardId, u64), (String, Sent)>,
    /// Homes being told, in the same way.
    told: BTreeMap<(ShardId, u64), String>,
}

impl Outboxes {
    /// How far the effects of an actor are done, for whatever goes to its home anyway.
    pub(crate) fn done(&self, name: &str) -> Sent {
        let sending = self.by_name.get(name);
        let mut done = sending.map_or_else(Sent::default, |it| it.done);
        if !holds(Guard::EffectsUntilDone) {
            let at = sending.and_then(|it| it.at).unwrap_or(0);
            done.upto = done.upto.max(at);
        }
        done
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
        for name in due {
            self.send_next_effect(&name);
        }
    }

    /// The same for all shards: this node has a life.
    pub(crate) fn send_all_effects(&mut self) {
        for shard in self.all_shards() {
            self.send_effects(shard);
        }
    }

    /// Sends the next effect of an actor, when the one before it is done.
    fn send_next_effect(&mut self, name: &str) {
        let Some(outbox) = self.outbox_of(name) else {
            self.outboxes.by_name.remove(name);
            return;
        };
        let (born, sent) = (outbox.born(), outbox.sent());
        let known = self.outboxes.by_name.get(name);
        let same = known.filter(|it| it.done.born == born);
        let at = same.and_then(|it| it.at);
        if at.is_some() && holds(Guard::EffectsInTurn) {
            return;
        }
        let done = same.map_or(0, |it| it.done.upto).max(sent);
        let n = done.max(at.unwrap_or(0)) + 1;
        let Some(effect) = outbox.get(n).cloned() else {
            if done == sent && at.is_none() {
                // The home knows as much.
                self.outboxes.by_name.remove(name);
            }
            return;
        };
        let sending = self.outboxes.by_name.entry(name.to_owned()).or_default();
        sending.done = Sent { born, upto: done };
        sending.at = Some(n);
        match effect {
            Effect::Out { workspace, tuple } => {
                let shard = self.shard_for(&workspace, variable_in(&tuple));
                let emit = Operation::Emit {
                    name: name.to_owned(),
                    born,
                    n,
                    workspace,
                    tuple,
                };
                if let Some(seq) = self.new_op(None, shard, emit) {
                    let which = (name.to_owned(), Sent { born, upto: n });
                    self.outboxes.asked.insert((shard, seq), which);
                    self.send_op(shard, seq);
                } else {
                    self.effect_failed(name, born, n);
                }
            }
            effect => {
                self.count("effects_handed_out", 1);
                let name = name.to_owned();
                self.put_output(Output::Effect {
                    name,
                    born,
                    n,
                    effect: Box::new(effect),
                });
            }
        }
        if !holds(Guard::EffectsInTurn) {
            self.send_next_effect(name);
        }
    }

    /// An effect was not done: it is tried again in a moment.
    fn effect_failed(&mut self, name: &str, born: u64, n: u64) {
        if let Some(sending) = self.outboxes.by_name.get_mut(name)
            && sending.done.born == born
            && sending.at == Some(n)
        {
            sending.at = None;
            let again = self.now + self.config.retry_max;
            self.timers.set_if_none(Timer::Effects, again);
        }
    }

    /// An effect is done: the next one.
    pub(crate) fn effect_done(&mut self, name: &str, born: u64, n: u64) {
        let Some(sending) = self.outboxes.by_name.get_mut(name) else {
            return;
        };
        if sending.done.born != born || n <= sending.done.upto {
            return;
        }
        sending.done.upto = n;
        if sending.at.is_some_and(|at| at <= n) {
            sending.at = None;
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
        self.send_next_effect(name);
    }

    /// Tells homes how far the effects of their actors are done, and tries again what failed.
    pub(crate) fn tell_effects(&mut self) {
        let open = |it: &Sending| !it.telling;
        let names = self.outboxes.by_name.iter();
        let names: Vec<String> = names
            .filter(|(_, it)| open(it))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.tell_effects_of(&name);
            self.send_next_effect(&name);
        }
    }

    fn tell_effects_of(&mut self, name: &str) {
        let (Some(outbox), Some(shard)) = (self.outbox_of(name), self.shard_of_actor(name)) else {
            return;
        };
        let sent = self.outboxes.done(name);
        if sent.born != outbox.born() || sent.upto <= outbox.sent() {
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
        if let Some((name, Sent { born, upto })) = self.outboxes.asked.remove(&(shard, seq)) {
            if matches!(outcome, Outcome::Done) {
                self.effect_done(&name, born, upto);
            } else {
                self.effect_failed(&name, born, upto);
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
            if let Some((name, Sent { born, upto })) = self.outboxes.asked.remove(&place) {
                self.effect_failed(&name, born, upto);
            }
        }
    }
}
