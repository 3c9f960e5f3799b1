//! A user who stores, takes, leases and deletes in a workspace of its own, one thing after the
//! other: what was taken or deleted never comes back, and what was not is there.
//!
//! After each answer the user knows of every tuple whether it is there, may come (its store was not
//! answered), may be away for now (under lease, or taken by a request that was not answered), or is
//! gone. A deletion that may still be decided would make all of that doubtful, so the user goes on
//! in a new workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_mesh::{Ack, Command, Failure, Input, Peer, Reply, RequestId};
use cpe_tuple::{Template, Tuple, Value};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::check::Violation;
use crate::record::value_of;
use crate::work::Open;
use crate::world::{Happening, World};

/// Keeps this user's draws apart: the other users of a seed do what they did without.
const STREAM: u64 = 6;

/// Variables of the workspace: enough to lie in several shards.
const VARIABLES: u32 = 6;

/// Milliseconds between an answer and what is asked next.
const PAUSE_MS: std::ops::Range<u64> = 5..200;

/// Milliseconds. Leases live this long: some end before the next deletion, and some after.
const TTL_MS: std::ops::Range<u64> = 200..2_000;

/// How long after its deadline an answer that has not come is given up: its node is gone.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// Share of the tuples taken that are not received.
const NOT_RECEIVED: f64 = 0.2;

/// What happens to the user.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Asks something.
    Next,
    /// Waits no longer for the answer to this request.
    GiveUp(RequestId),
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Store(i64, u32),
    Take(u32),
    Lease(u32),
    Delete(Option<u32>),
}

/// What is known of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    There,
    /// Its store may be decided at any time.
    MayCome,
    /// It is or was there, and may be away for now.
    Away,
}

/// What the user knows.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    rng: Option<ChaCha8Rng>,
    /// How many workspaces it has left behind.
    left: u32,
    next: i64,
    asked: Option<(RequestId, Act)>,
    /// By value: its variable, and what is known.
    tuples: BTreeMap<i64, (u32, Known)>,
    gone: BTreeSet<i64>,
    /// Deletions that were answered as done.
    pub(crate) done: u64,
}

impl Deletions {
    fn workspace(&self) -> String {
        format!("gone{}", self.left)
    }

    /// A tuple was handed out.
    fn seen(&mut self, value: i64) -> Result<(), Violation> {
        if self.tuples.contains_key(&value) {
            return Ok(());
        }
        Err(if self.gone.contains(&value) {
            Violation::CameBack(value)
        } else {
            Violation::FromNowhere(value)
        })
    }

    /// It was decided that a variable holds nothing.
    fn empty(&self, variable: u32) -> Result<(), Violation> {
        let mut tuples = self.tuples.iter();
        match tuples.find(|(_, known)| **known == (variable, Known::There)) {
            Some((value, _)) => Err(Violation::Vanished(*value)),
            None => Ok(()),
        }
    }

    /// What is there of a variable, or of all, may be away for now.
    fn doubt(&mut self, variable: u32) {
        for (at, known) in self.tuples.values_mut() {
            if *at == variable && *known == Known::There {
                *known = Known::Away;
            }
        }
    }

    fn take_away(&mut self, value: i64) {
        self.tuples.remove(&value);
        self.gone.insert(value);
    }

    /// A deletion is done: what was there before it never comes back.
    fn deleted(&mut self, variable: Option<u32>) {
        self.done += 1;
        let covered = |at: u32| variable.is_none_or(|variable| variable == at);
        let over = |(at, known): &(u32, Known)| covered(*at) && *known != Known::MayCome;
        let gone: Vec<i64> = self
            .tuples
            .iter()
            .filter(|(_, it)| over(it))
            .map(|(value, _)| *value)
            .collect();
        for value in gone {
            self.take_away(value);
        }
    }

    /// Whether this act was done is not known, and will not be.
    fn unknown(&mut self, act: Act) {
        match act {
            Act::Store(value, variable) => {
                self.tuples.insert(value, (variable, Known::MayCome));
            }
            Act::Take(variable) | Act::Lease(variable) => self.doubt(variable),
            Act::Delete(_) => {
                self.left += 1;
                self.tuples.clear();
            }
        }
    }
}

impl World {
    /// Plans the user's first act, in a scenario that has one.
    pub(crate) fn plan_deletions(&mut self) {
        if self.scenario.workload.deletions {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(STREAM);
            self.deletions.rng = Some(rng);
            self.next_deletion();
        }
    }

    fn next_deletion(&mut self) {
        if let Some(rng) = &mut self.deletions.rng {
            let pause = Duration::from_millis(rng.random_range(PAUSE_MS));
            self.at(self.now + pause, Happening::Deletion(Step::Next));
        }
    }

    pub(crate) fn deletion_step(&mut self, step: Step) {
        match step {
            Step::Next if self.calm => {}
            Step::Next => self.ask_of_deletions(),
            Step::GiveUp(request) => {
                if let Some((asked, act)) = self.deletions.asked
                    && asked == request
                {
                    self.deletions.asked = None;
                    self.deletions.unknown(act);
                    self.next_deletion();
                }
            }
        }
    }

    fn ask_of_deletions(&mut self) {
        let nodes = self.nodes.len();
        let deletions = &mut self.deletions;
        let workspace = deletions.workspace();
        let Some(rng) = &mut deletions.rng else {
            return;
        };
        let n = rng.random_range(0..nodes);
        let variable = rng.random_range(0..VARIABLES);
        let name = format!("d{variable}");
        let (Ok(template), Ok(tuple)) = (
            Template::named(name.as_str()),
            Tuple::named(name.as_str(), deletions.next + 1),
        ) else {
            return;
        };
        let deadline = Duration::from_millis(rng.random_range(100..2_000));
        let draw = rng.random_range(0..100);
        let ttl = Duration::from_millis(rng.random_range(TTL_MS));
        let (act, command) = match draw {
            0..45 => {
                deletions.next += 1;
                let value = deletions.next;
                let out = Command::Out {
                    workspace,
                    tuple,
                    ack: Ack::Home,
                    deadline,
                };
                (Act::Store(value, variable), out)
            }
            45..65 => {
                let take = Command::Take {
                    workspace,
                    template,
                    wait: false,
                    deadline,
                };
                (Act::Take(variable), take)
            }
            65..80 => {
                let take = Command::TakeLeased {
                    workspace,
                    template,
                    wait: false,
                    ttl,
                    deadline,
                };
                (Act::Lease(variable), take)
            }
            _ => {
                let one = (draw >= 90).then_some(variable);
                let delete = Command::Delete {
                    workspace,
                    variable: one.map(|_| Value::from(name.as_str())),
                    deadline,
                };
                (Act::Delete(one), delete)
            }
        };
        if !self.is_up(n) {
            return self.next_deletion();
        }
        let request = self.fresh_request();
        self.deletions.asked = Some((request, act));
        if let Some(node) = self.nodes.get_mut(n) {
            node.open.insert(request, Open::Deletion);
        }
        let late = self.now + deadline + GIVEN_UP;
        self.at(late, Happening::Deletion(Step::GiveUp(request)));
        self.note(n, || format!("ask {} {command:?}", request.0));
        self.input(n, Input::Command(request, command));
    }

    /// The user was answered.
    pub(crate) fn deletion_answered(&mut self, n: usize, request: RequestId, reply: &Reply) {
        let Some((_, act)) = self.deletions.asked.filter(|(asked, _)| *asked == request) else {
            return;
        };
        self.deletions.asked = None;
        if let Err(violation) = self.learn_of_deletions(n, request, act, reply) {
            self.violation = Some(violation);
        }
        self.next_deletion();
    }

    fn learn_of_deletions(
        &mut self,
        n: usize,
        request: RequestId,
        act: Act,
        reply: &Reply,
    ) -> Result<(), Violation> {
        match (act, reply) {
            (Act::Store(value, variable), Reply::Stored { .. }) => {
                let there = (variable, Known::There);
                self.deletions.tuples.insert(value, there);
            }
            (Act::Take(_), Reply::Tuple(Some(tuple))) => {
                let value = value_of(tuple);
                self.deletions.seen(value)?;
                let draws = self.deletions.rng.as_mut();
                if draws.is_some_and(|rng| rng.random_bool(NOT_RECEIVED)) {
                    self.set_away(value);
                    self.input(n, Input::Cancel(request));
                } else {
                    self.deletions.take_away(value);
                    self.input(n, Input::Received(request));
                }
            }
            (Act::Lease(_), Reply::Leased { tuple, .. }) => {
                let value = value_of(tuple);
                self.deletions.seen(value)?;
                self.set_away(value);
                self.input(n, Input::Received(request));
            }
            (Act::Take(variable) | Act::Lease(variable), Reply::Tuple(None)) => {
                self.deletions.empty(variable)?;
            }
            (Act::Delete(variable), Reply::Done) => self.deletions.deleted(variable),
            // Nothing was done (space.md, 2.7).
            (
                Act::Take(_) | Act::Lease(_) | Act::Delete(_),
                Reply::Failed(Failure::Unavailable { .. }),
            ) => {}
            (act, _) => self.deletions.unknown(act),
        }
        Ok(())
    }

    fn set_away(&mut self, value: i64) {
        if let Some((_, known)) = self.deletions.tuples.get_mut(&value) {
            *known = Known::Away;
        }
    }

    /// At the end: nothing has come back, and nothing is missing that should be there.
    pub(crate) fn close_deletions(&self) -> Result<(), Violation> {
        let current = self.deletions.workspace();
        let mut there = BTreeSet::new();
        let peer = self.nodes.iter().find_map(|node| node.peer.as_ref());
        for shard in peer.into_iter().flat_map(Peer::shards) {
            for (name, variables) in shard.sm().workspaces() {
                let tuples = variables.values().flat_map(cpe_space::Variable::tuples);
                if name.as_str() == current {
                    there.extend(tuples.map(|(_, tuple)| value_of(tuple)));
                }
            }
        }
        if let Some(value) = there.intersection(&self.deletions.gone).next() {
            return Err(Violation::CameBack(*value));
        }
        let known = self.deletions.tuples.iter();
        let mut sure = known.filter(|(_, (_, known))| *known == Known::There);
        match sure.find(|(value, _)| !there.contains(value)) {
            Some((value, _)) => Err(Violation::Vanished(*value)),
            None => Ok(()),
        }
    }
}
