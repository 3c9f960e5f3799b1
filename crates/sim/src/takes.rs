//! Actors that take tuples (rule A6): jobs that they put themselves, in variables of their own.
//!
//! What an actor is told came of a take goes into its state, like a message that it handles. What
//! is checked: each job that a state asked to be put is there, or in the state of exactly one
//! actor, once; and each take of a state that lasts is answered once, whatever became of who asked.

use std::collections::{BTreeMap, BTreeSet};

use cpe_mesh::{Command, Peer, Took};
use cpe_space::{Effect, Name, Sm, Standing, Taking};
use cpe_tuple::{Template, Tuple, Value};

use crate::actors::{Asked, From, Parcel, Step, list_of, name, number};
use crate::check::Violation;
use crate::posts::POST;
use crate::world::World;

/// Where actors put jobs and take them from.
pub(crate) const JOBS: &str = "jobs";

/// What tells an answer in the state of an actor from messages: it is added to the number of the
/// job that was taken.
pub(crate) const TOOK: i64 = 2_000_000_000;

/// The same for a take that came to nothing: added to the number of the message that led to it.
const NOTHING: i64 = 3_000_000_000;

/// The same for a take that was given up.
const GIVEN_UP: i64 = 4_000_000_000;

/// Milliseconds. A node gives its actor an answer again after so long.
const RETRY_MS: std::ops::Range<u64> = 100..400;

/// What a message makes an actor put and take.
pub(crate) fn jobs_of(actor: usize, actors: usize, message: i64) -> Vec<Effect> {
    let put = (message / 4).cast_unsigned() as usize;
    let from = put + 1 + actor % 2;
    let kinds = match message / 4 % 3 {
        0 => vec![put_job(put % actors.max(1), message)],
        1 => vec![take_job(from % actors.max(1), message)],
        _ => vec![
            put_job(put % actors.max(1), message),
            take_job(from % actors.max(1), message),
        ],
    };
    kinds.into_iter().flatten().collect()
}

fn variable(at: usize) -> String {
    format!("j{at}")
}

fn put_job(at: usize, message: i64) -> Option<Effect> {
    let tuple = Tuple::new(vec![Value::from(variable(at)), Value::Int(message)]);
    Some(Effect::Out {
        workspace: Name::new(JOBS).ok()?,
        tuple: tuple.ok()?,
    })
}

fn take_job(from: usize, message: i64) -> Option<Effect> {
    Some(Effect::Take(Taking {
        workspace: Name::new(JOBS).ok()?,
        template: Template::named(variable(from)).ok()?,
        wait: message / 12 % 3 > 0,
        answer: "took".to_owned(),
        request: message.cast_unsigned(),
    }))
}

/// Answers that nodes give to their actors, by node, actor and number.
#[derive(Debug, Default)]
pub(crate) struct Answers(BTreeMap<(usize, usize, u64), Parcel>);

impl Answers {
    /// A node has ended, and what it was at.
    pub(crate) fn gone(&mut self, n: usize) {
        self.0.retain(|(at, ..), _| *at != n);
    }
}

impl World {
    /// A node is to give its actor what came of a take.
    pub(crate) fn took(
        &mut self,
        n: usize,
        of: &str,
        (born, token, at): (u64, u64, u64),
        answer: (u64, &Took),
    ) {
        let Some(actor) = number(of) else {
            return;
        };
        let request = answer.0.cast_signed();
        let value = match answer.1 {
            Took::Tuple(tuple) => TOOK + job_of(tuple),
            Took::Nothing => NOTHING + request,
            Took::GivenUp => GIVEN_UP + request,
        };
        self.note(n, || format!("is to give a{actor} {value} for take {at}"));
        let from = From::Take {
            born,
            token,
            n: at,
            value,
        };
        let parcel = Parcel {
            from,
            to: actor,
            message: 1,
            low: 1,
            by: n,
        };
        self.answers.0.insert((n, actor, at), parcel);
        self.give(n, actor, at);
    }

    /// Gives it, or gives it again.
    pub(crate) fn give(&mut self, n: usize, actor: usize, at: u64) {
        let Some(parcel) = self.answers.0.get(&(n, actor, at)).copied() else {
            return;
        };
        self.step_in(RETRY_MS, Step::Give(n, actor, at));
        self.pass_on(Step::Arrive(n, parcel));
    }

    /// The actor has it, in a state that lasts.
    pub(crate) fn given(&mut self, parcel: Parcel) {
        let From::Take {
            born, token, n: at, ..
        } = parcel.from
        else {
            return;
        };
        let (n, actor) = (parcel.by, parcel.to);
        let under_way = self.answers.0.get(&(n, actor, at));
        if under_way.is_none_or(|it| it.from != parcel.from) {
            return;
        }
        self.answers.0.remove(&(n, actor, at));
        self.report.took += 1;
        let done = Command::TakeDone {
            name: name(actor),
            born,
            token,
            n: at,
        };
        self.ask_actor(n, Asked::Effect, done);
    }

    /// Takes that are to be answered, or settled, yet.
    pub(crate) fn takes_left(&self) -> usize {
        let peer = self.nodes.iter().find_map(|node| node.peer.as_ref());
        let states: Vec<&Sm> = peer
            .into_iter()
            .flat_map(Peer::shards)
            .map(cpe_space::Shard::sm)
            .collect();
        let unreceived: usize = states.iter().map(|sm| sm.unreceived().count()).sum();
        let mut left = unreceived;
        for (_, record) in states.iter().flat_map(|sm| sm.actors()) {
            let Some(kept) = record.kept.as_ref().filter(|_| record.host.is_some()) else {
                continue;
            };
            left += kept
                .outbox
                .takes
                .iter()
                .filter(|(_, take)| {
                    let Taking {
                        workspace,
                        template,
                        wait,
                        ..
                    } = &take.taking;
                    let there = || {
                        states
                            .iter()
                            .any(|sm| sm.find(workspace, template).is_some())
                    };
                    take.standing != Standing::Open || !wait || there()
                })
                .count();
        }
        left
    }

    /// The end: where each job is.
    pub(crate) fn close_jobs(&self) -> Result<(), Violation> {
        let peer = self.nodes.iter().find_map(|node| node.peer.as_ref());
        let states: Vec<&Sm> = peer
            .into_iter()
            .flat_map(Peer::shards)
            .map(cpe_space::Shard::sm)
            .collect();
        let actors = self.scenario.workload.actors as usize;
        let (mut put, mut had) = (BTreeSet::new(), BTreeSet::new());
        let (mut asked, mut answered) = (0_usize, 0_usize);
        for (of, record) in states.iter().flat_map(|sm| sm.actors()) {
            let (Some(actor), Some(kept)) = (number(of), &record.kept) else {
                continue;
            };
            for message in list_of(&kept.snapshot) {
                for effect in crate::effects::effects_of(actor, actors, message) {
                    match effect {
                        Effect::Take(_) => asked += 1,
                        Effect::Out { workspace, .. } if workspace.as_str() == JOBS => {
                            put.insert(message);
                        }
                        _ => {}
                    }
                }
                answered += usize::from((TOOK..POST).contains(&message));
                if (TOOK..NOTHING).contains(&message) && !had.insert(message - TOOK) {
                    return broken("was taken twice", message - TOOK);
                }
            }
            // Those that wait.
            answered += kept.outbox.takes.len();
        }
        let workspace = Name::new(JOBS).ok();
        let there: BTreeSet<i64> = states
            .iter()
            .flat_map(|sm| workspace.iter().flat_map(|it| sm.variables(it)))
            .flat_map(|(_, variable)| variable.tuples())
            .map(|(_, tuple)| job_of(tuple))
            .collect();
        if let Some(job) = had.intersection(&there).next() {
            return broken("was taken, and is there", *job);
        }
        if let Some(job) = had.union(&there).find(|job| !put.contains(job)) {
            return broken("was never put by a state that lasts", *job);
        }
        let lost = put
            .iter()
            .find(|job| !had.contains(job) && !there.contains(job));
        if let Some(job) = lost {
            return broken("is gone", *job);
        }
        if asked != answered {
            return broken("has another number of answers than of takes", -1);
        }
        Ok(())
    }
}

fn job_of(tuple: &Tuple) -> i64 {
    tuple.fields().get(1).and_then(Value::as_int).unwrap_or(-1)
}

fn broken(what: &'static str, message: i64) -> Result<(), Violation> {
    let place = JOBS.to_owned();
    Err(Violation::Effect {
        message,
        place,
        what,
    })
}
