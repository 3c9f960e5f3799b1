//! What actors want done when they have handled a message (rule A5): tuples to be put, and
//! messages to other actors.
//!
//! What is checked: the tuples that an actor asked for, as its last commit has it, are in their
//! variable, each once, in order, and none beside them; and what it told another actor is in the
//! other's state in the same way.

use std::collections::{BTreeMap, BTreeSet};

use cpe_mesh::{Command, Peer};
use cpe_space::{Effect, Name, Sm};
use cpe_tuple::{Tuple, Value};

use crate::actors::{Asked, From, Parcel, Step, list_of, name, number};
use crate::check::Violation;
use crate::takes::{JOBS, TOOK, jobs_of};
use crate::world::World;

/// Where actors put their tuples. Nobody takes any.
const EFFECTS: &str = "effects";

/// Variables for the tuples of one actor.
const VARIABLES: i64 = 2;

/// What tells a message of an actor from that of a client: it is added to the number of the message
/// that led to it.
pub(crate) const TOLD: i64 = 1_000_000_000;

/// Milliseconds. A message of an actor is sent again after so long.
const RETRY_MS: std::ops::Range<u64> = 100..400;

/// What a message makes an actor ask for.
pub(crate) fn effects_of(actor: usize, actors: usize, message: i64) -> Vec<Effect> {
    if message >= TOLD {
        return Vec::new();
    }
    let tells = tell(actor, actors, message);
    let kinds = match message % 4 {
        0 => vec![out(actor, message, 0)],
        1 => vec![tells],
        2 => vec![out(actor, message, 0), tells, out(actor, message, 1)],
        _ => return jobs_of(actor, actors, message),
    };
    kinds.into_iter().flatten().collect()
}

fn variable(actor: usize, message: i64) -> String {
    format!("e{actor}-{}", message / 4 % VARIABLES)
}

fn out(actor: usize, message: i64, nth: i64) -> Option<Effect> {
    let variable = Value::from(variable(actor, message));
    let tuple = Tuple::new(vec![variable, Value::Int(message), Value::Int(nth)]);
    Some(Effect::Out {
        workspace: Name::new(EFFECTS).ok()?,
        tuple: tuple.ok()?,
    })
}

fn tell(actor: usize, actors: usize, message: i64) -> Option<Effect> {
    let next = if message / 4 % 3 == 0 { 2 } else { 1 };
    Some(Effect::Tell {
        actor: Name::new(&name((actor + next) % actors.max(1))).ok()?,
        message: Value::Int(TOLD + message),
    })
}

/// Messages that nodes send for actors, by node, actor and number.
#[derive(Debug, Default)]
pub(crate) struct Tells(BTreeMap<(usize, usize, u64), Parcel>);

impl Tells {
    /// A node has ended, and what it was at.
    pub(crate) fn gone(&mut self, n: usize) {
        self.0.retain(|(at, ..), _| *at != n);
    }
}

impl World {
    /// A node is to send a message for an actor.
    pub(crate) fn effect(&mut self, n: usize, of: &str, (born, at): (u64, u64), effect: &Effect) {
        let Effect::Tell { actor: to, message } = effect else {
            return;
        };
        let (Some(actor), Some(to), Some(value)) =
            (number(of), number(to.as_str()), message.as_int())
        else {
            return;
        };
        self.note(n, || format!("is to tell a{to} effect {at} of a{actor}"));
        let from = From::Actor { actor, born, value };
        let (message, low) = (at, at);
        let parcel = Parcel {
            from,
            to,
            message,
            low,
            by: n,
        };
        self.tells.0.insert((n, actor, at), parcel);
        self.tell(n, actor, at);
    }

    /// Sends it, or sends it again.
    pub(crate) fn tell(&mut self, n: usize, actor: usize, at: u64) {
        let Some(parcel) = self.tells.0.get(&(n, actor, at)).copied() else {
            return;
        };
        self.step_in(RETRY_MS, Step::Tell(n, actor, at));
        let stands = self
            .nodes
            .get(n)
            .is_some_and(crate::nodes::SimNode::is_held);
        if !stands && let Some(to) = self.someone_with(parcel.to) {
            self.pass_on(Step::Arrive(to, parcel));
        }
    }

    /// The actor that was told something has it, in a state that lasts.
    pub(crate) fn told(&mut self, parcel: Parcel) {
        let From::Actor { actor, born, .. } = parcel.from else {
            return;
        };
        let (n, at) = (parcel.by, parcel.message);
        let under_way = self.tells.0.get(&(n, actor, at));
        if under_way.is_none_or(|it| it.from != parcel.from) {
            return;
        }
        self.tells.0.remove(&(n, actor, at));
        self.report.told += 1;
        let name = name(actor);
        self.ask_actor(n, Asked::Effect, Command::EffectDone { name, born, n: at });
    }

    /// Effects that actors have committed and that are not done.
    pub(crate) fn effects_left(&self) -> usize {
        let peers = self.nodes.iter().filter_map(|node| node.peer.as_ref());
        let shards = peers.take(1).flat_map(Peer::shards);
        let records = shards.flat_map(|shard| shard.sm().actors());
        let kept = records.filter_map(|(_, record)| record.kept.as_ref());
        kept.map(|kept| kept.outbox.len()).sum()
    }

    /// The end: whether what was asked for is what was done.
    pub(crate) fn close_effects(&mut self) -> Result<(), Violation> {
        let peer = self.nodes.iter().find_map(|node| node.peer.as_ref());
        let states: Vec<&Sm> = peer
            .into_iter()
            .flat_map(Peer::shards)
            .map(cpe_space::Shard::sm)
            .collect();
        let actors = self.scenario.workload.actors as usize;
        let mut handled: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        for (name, record) in states.iter().flat_map(|sm| sm.actors()) {
            if let (Some(actor), Some(kept)) = (number(name), &record.kept) {
                handled.insert(actor, list_of(&kept.snapshot));
            }
        }
        // By variable, or by who was told and by whom.
        let mut asked: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
        let mut done: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
        for (actor, messages) in &handled {
            for message in messages {
                for effect in effects_of(*actor, actors, *message) {
                    if is_of_jobs(&effect) {
                        continue;
                    }
                    let (place, what) = place_of(*actor, &effect);
                    asked.entry(place).or_default().push(what);
                }
                if let Some(cause) = message
                    .checked_sub(TOLD)
                    .filter(|it| (0..TOOK - TOLD).contains(it))
                {
                    let from = self.actor_of(cause);
                    let place = format!("a{actor} told by a{from}");
                    done.entry(place).or_default().push((*message, 0));
                }
            }
        }
        let (workspace, mut emitted) = (Name::new(EFFECTS).ok(), 0);
        for (name, variable) in states
            .iter()
            .flat_map(|sm| workspace.iter().flat_map(|it| sm.variables(it)))
        {
            emitted += variable.len() as u64;
            let there = done.entry(name.as_str().unwrap_or_default().to_owned());
            let values = variable.tuples().map(|(_, tuple)| {
                let field = |n: usize| tuple.fields().get(n).and_then(Value::as_int);
                (field(1).unwrap_or(-1), field(2).unwrap_or(-1))
            });
            there.or_default().extend(values);
        }
        let places: BTreeSet<&String> = asked.keys().chain(done.keys()).collect();
        for place in places {
            let of = |all: &BTreeMap<String, Vec<_>>| all.get(place).cloned().unwrap_or_default();
            compare(place, &of(&asked), &of(&done))?;
        }
        self.report.emitted = emitted;
        Ok(())
    }
}

/// Where an effect shows, and as what.
fn place_of(actor: usize, effect: &Effect) -> (String, (i64, i64)) {
    match effect {
        Effect::Out { tuple, .. } => {
            let field = |n: usize| tuple.fields().get(n);
            let int = |n| field(n).and_then(Value::as_int).unwrap_or(-1);
            let variable = field(0).and_then(Value::as_str).unwrap_or_default();
            (variable.to_owned(), (int(1), int(2)))
        }
        Effect::Tell { actor: to, message } => {
            let place = format!("{to} told by a{actor}");
            (place, (message.as_int().unwrap_or(-1), 0))
        }
        Effect::Spawn { .. } | Effect::Take(_) => (String::new(), (-1, -1)),
    }
}

/// Whether it is looked at by [`crate::takes`].
fn is_of_jobs(effect: &Effect) -> bool {
    match effect {
        Effect::Out { workspace, .. } => workspace.as_str() == JOBS,
        Effect::Take(_) => true,
        _ => false,
    }
}

fn compare(place: &str, asked: &[(i64, i64)], done: &[(i64, i64)]) -> Result<(), Violation> {
    let mut seen = BTreeSet::new();
    let broken = |what, effect: (i64, i64)| {
        let (place, message) = (place.to_owned(), effect.0);
        Err(Violation::Effect {
            message,
            place,
            what,
        })
    };
    for effect in done {
        if !seen.insert(effect) {
            return broken("is there twice", *effect);
        }
        if !asked.contains(effect) {
            return broken("was never asked for by a state that lasts", *effect);
        }
    }
    if let Some(lost) = asked.iter().find(|effect| !seen.contains(effect)) {
        return broken("is gone", *lost);
    }
    let first = asked.iter().zip(done).find(|(one, other)| one != other);
    first.map_or(Ok(()), |(one, _)| broken("is out of order", *one))
}
