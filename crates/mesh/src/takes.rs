//! What durable actors of this node take (rule A6): the host asks, and tells the actor.
//!
//! A node sees in its own replica which takes the actors that it hosts have committed. It asks the
//! homes of the tuples' shards for each, under the number of the take, and gives what comes of it
//! to the shell, whose actor handles it like a message. Once that lasts the shard is told that it
//! may forget the outcome, and then the actor's home that the take is over. A host that takes over
//! does the same from wherever the replica shows the take to be, and is answered the same.
//!
//! An actor that is given up waits for nothing more. What it has not committed by the entry that
//! says so goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_space::{Outcome, ShardId, Standing, Taker, Taking};
use cpe_tuple::Value;

use crate::guard::{Guard, holds};
use crate::io::{Output, Took};
use crate::peer::{Peer, Timer};
use crate::wire::Operation;

/// How long what is over may wait, to be told together.
const TELL_DELAY: Duration = Duration::from_millis(100);

/// Where a take stands, as far as this node is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The shard's home is asked, by this operation.
    Asking(ShardId, u64),
    /// The shell has what came of it.
    Given,
    /// The shard's home is told that it is over: that the actor has it, or has ended without it.
    Ending { back: bool },
    /// It is over there.
    Over { back: bool },
}

/// The takes of one incarnation of an actor.
#[derive(Debug)]
struct Book {
    born: u64,
    token: u64,
    /// The shard of the actor's name.
    shard: ShardId,
    steps: BTreeMap<u64, Step>,
    /// The actor's home is being told.
    telling: bool,
}

/// A question of this module: whose take, its birth, the token and the number.
pub(crate) type Whose = (String, u64, u64, u64);

/// What this node takes for actors.
#[derive(Debug, Default)]
pub(crate) struct Takes {
    by_name: BTreeMap<String, Book>,
    /// Under way at the homes of tuples, by shard and operation.
    asked: BTreeMap<(ShardId, u64), Whose>,
    /// Homes of actors being told, in the same way.
    told: BTreeMap<(ShardId, u64), String>,
}

impl Takes {
    /// Actors that take something, as far as was seen.
    pub(crate) fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    fn step(&mut self, (name, born, token, n): &Whose) -> Option<&mut Step> {
        let book = self.by_name.get_mut(name)?;
        if (book.born, book.token) != (*born, *token) {
            return None;
        }
        book.steps.get_mut(n)
    }
}

/// A take as the replica has it now.
struct Seen {
    n: u64,
    taking: Taking,
    after: u64,
    standing: Standing,
}

/// The takes of an actor as the replica has them now.
struct Record {
    born: u64,
    token: u64,
    ending: bool,
    takes: Vec<Seen>,
}

impl Record {
    fn taker(&self, name: &str, n: u64) -> Taker {
        Taker {
            name: name.to_owned(),
            born: self.born,
            token: self.token,
            n,
            open: self.takes.iter().map(|take| take.n).collect(),
        }
    }
}

impl Peer {
    /// The takes of an actor that this node hosts.
    fn takes_of(&self, name: &str) -> Option<Record> {
        let life = self.life()?;
        let shard = self.shard_of_actor(name)?;
        let record = self.slot_ref(shard)?.shard.sm().actor(name)?;
        if !record.leased || record.host != Some(life) {
            return None;
        }
        let outbox = &record.kept.as_ref()?.outbox;
        let takes = outbox.takes.iter().map(|(n, take)| Seen {
            n,
            taking: take.taking.clone(),
            after: take.after,
            standing: take.standing,
        });
        Some(Record {
            born: outbox.born(),
            token: record.token,
            ending: record.ending,
            takes: takes.collect(),
        })
    }

    /// Goes on with the takes of an actor, from where its record and this node are.
    pub(crate) fn go_on_taking(&mut self, name: &str) {
        let record = self.takes_of(name).filter(|it| !it.takes.is_empty());
        let Some(record) = record else {
            return self.drop_takes(name);
        };
        let known = self.takes.by_name.get(name);
        if known.is_some_and(|it| (it.born, it.token) != (record.born, record.token)) {
            self.drop_takes(name);
        }
        let (born, token) = (record.born, record.token);
        let Some(shard) = self.shard_of_actor(name) else {
            return;
        };
        let book = self.takes.by_name.entry(name.to_owned());
        let book = book.or_insert_with(|| Book {
            born,
            token,
            shard,
            steps: BTreeMap::new(),
            telling: false,
        });
        let there: BTreeSet<u64> = record.takes.iter().map(|take| take.n).collect();
        book.steps.retain(|n, _| there.contains(n));
        let done = self.effects_done_upto(name);
        for take in &record.takes {
            let n = take.n;
            let step = self.takes.by_name.get(name).and_then(|it| it.steps.get(&n));
            let (ending, handled) = (record.ending, take.standing == Standing::Handled);
            match (step.copied(), take.standing) {
                (Some(Step::Ending { .. } | Step::Over { .. }), _) => {}
                // It is told by its next incarnation.
                (_, Standing::GivenUp) if ending => {}
                (Some(Step::Given), Standing::GivenUp) => {}
                (None, Standing::GivenUp) => {
                    self.set_step(name, n, Step::Given);
                    self.give(name, (born, token), n, &take.taking, Took::GivenUp);
                }
                (Some(Step::Asking(shard, seq)), _) if ending => {
                    self.stop_asking(shard, seq);
                    self.end_take(name, &record, n, &take.taking, true);
                }
                (None | Some(Step::Given), _) if ending || handled => {
                    self.end_take(name, &record, n, &take.taking, !handled);
                }
                (None, _) if take.after <= done => self.take_for(name, &record, take),
                _ => {}
            }
        }
    }

    fn set_step(&mut self, name: &str, n: u64, step: Step) {
        if let Some(book) = self.takes.by_name.get_mut(name) {
            book.steps.insert(n, step);
        }
    }

    fn shard_of_taking(&self, taking: &Taking) -> ShardId {
        let variable = taking.template.key().unwrap_or(&Value::Null);
        self.shard_for(&taking.workspace, variable)
    }

    /// Asks the home of the tuples.
    fn take_for(&mut self, name: &str, record: &Record, take: &Seen) {
        let taking = &take.taking;
        let shard = self.shard_of_taking(taking);
        let operation = Operation::TakeFor {
            taker: record.taker(name, take.n),
            workspace: taking.workspace.clone(),
            template: taking.template.clone(),
            wait: taking.wait,
        };
        if let Some(seq) = self.new_op(None, shard, operation) {
            let whose = (name.to_owned(), record.born, record.token, take.n);
            self.takes.asked.insert((shard, seq), whose);
            self.set_step(name, take.n, Step::Asking(shard, seq));
            self.send_op(shard, seq);
        } else {
            self.take_again_later();
        }
    }

    /// Tells the home of the tuples that a take is over.
    fn end_take(&mut self, name: &str, record: &Record, n: u64, taking: &Taking, back: bool) {
        let shard = self.shard_of_taking(taking);
        let taker = record.taker(name, n);
        if let Some(seq) = self.new_op(None, shard, Operation::EndTake { taker, back }) {
            let whose = (name.to_owned(), record.born, record.token, n);
            self.takes.asked.insert((shard, seq), whose);
            self.set_step(name, n, Step::Ending { back });
            self.send_op(shard, seq);
        } else {
            self.take_again_later();
        }
    }

    fn take_again_later(&mut self) {
        let again = self.now + self.config.retry_max;
        self.timers.set_if_none(Timer::Effects, again);
    }

    /// Asks no more: the home never decides it, if it has not yet.
    fn stop_asking(&mut self, shard: ShardId, seq: u64) {
        self.takes.asked.remove(&(shard, seq));
        self.end_op(shard, seq);
    }

    /// Actors of a shard but for these take nothing by this node any more.
    pub(crate) fn leave_takes(&mut self, shard: ShardId, but: &[String]) {
        let books = self.takes.by_name.iter();
        let left = books.filter(|(name, book)| book.shard == shard && !but.contains(name));
        for name in left.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.drop_takes(&name);
        }
    }

    /// This node does not host the actor any more, or in another incarnation.
    fn drop_takes(&mut self, name: &str) {
        let Some(book) = self.takes.by_name.remove(name) else {
            return;
        };
        for step in book.steps.into_values() {
            if let Step::Asking(shard, seq) = step {
                self.stop_asking(shard, seq);
            }
        }
    }

    /// The actor is to be told.
    fn give(&mut self, name: &str, (born, token): (u64, u64), n: u64, taking: &Taking, took: Took) {
        self.count("takes_answered", 1);
        self.put_output(Output::Took {
            name: name.to_owned(),
            born,
            token,
            n,
            workspace: taking.workspace.clone(),
            answer: taking.answer.clone(),
            request: taking.request,
            took: Box::new(took),
        });
    }

    /// The shell says that the actor has handled what came of a take, and that it lasts.
    pub(crate) fn take_handled(&mut self, whose: &Whose) {
        let (name, born, token, n) = whose;
        let same = |record: &Record| (record.born, record.token) == (*born, *token);
        let Some(record) = self.takes_of(name).filter(same) else {
            return;
        };
        if self.takes.step(whose).copied() != Some(Step::Given) {
            return;
        }
        let take = record.takes.iter().find(|take| take.n == *n);
        if let Some(taking) = take.map(|take| take.taking.clone()) {
            self.end_take(name, &record, *n, &taking, false);
        }
    }

    /// A home has decided what this module asked of it.
    pub(crate) fn take_decided(&mut self, shard: ShardId, seq: u64, outcome: &Outcome) {
        if let Some(name) = self.takes.told.remove(&(shard, seq)) {
            if let Some(book) = self.takes.by_name.get_mut(&name) {
                book.telling = false;
            }
            self.timers
                .set_if_none(Timer::Effects, self.now + TELL_DELAY);
        }
        let Some(whose) = self.takes.asked.remove(&(shard, seq)) else {
            return;
        };
        let Some(step) = self.takes.step(&whose) else {
            return;
        };
        let (name, born, token, n) = &whose;
        match *step {
            Step::Ending { back } => {
                *step = Step::Over { back };
                self.timers
                    .set_if_none(Timer::Effects, self.now + TELL_DELAY);
            }
            Step::Asking(..) => {
                *step = Step::Given;
                let took = match outcome {
                    Outcome::Taken { tuple, .. } => Took::Tuple(tuple.clone()),
                    Outcome::Empty => Took::Nothing,
                    _ => Took::GivenUp,
                };
                let record = self.takes_of(name);
                let mut takes = record.into_iter().flat_map(|record| record.takes);
                if let Some(take) = takes.find(|take| take.n == *n) {
                    self.give(name, (*born, *token), *n, &take.taking, took);
                    if !holds(Guard::TakeUntilHandled) {
                        self.take_handled(&whose);
                    }
                }
            }
            Step::Given | Step::Over { .. } => {}
        }
    }

    /// Tells homes which takes of their actors are over.
    pub(crate) fn tell_takes(&mut self) {
        for name in self.takes.names() {
            self.tell_takes_of(&name);
            self.go_on_taking(&name);
        }
    }

    fn tell_takes_of(&mut self, name: &str) {
        let Some(book) = self.takes.by_name.get(name).filter(|it| !it.telling) else {
            return;
        };
        let shard = book.shard;
        let over = |wanted: bool| {
            let steps = book.steps.iter();
            let over = steps.filter(move |(_, step)| **step == Step::Over { back: wanted });
            over.map(|(n, _)| *n).collect::<Vec<u64>>()
        };
        let (born, token) = (book.born, book.token);
        let (received, given_up) = (over(false), over(true));
        let (takes, ended) = if received.is_empty() {
            (given_up, Some(token))
        } else {
            (received, None)
        };
        if takes.is_empty() {
            return;
        }
        let name = name.to_owned();
        let tell = Operation::TakesOver {
            name: name.clone(),
            born,
            takes,
            ended,
        };
        if let Some(seq) = self.new_op(None, shard, tell) {
            if let Some(book) = self.takes.by_name.get_mut(&name) {
                book.telling = true;
            }
            self.takes.told.insert((shard, seq), name);
            self.send_op(shard, seq);
        } else {
            self.take_again_later();
        }
    }

    /// A volatile shard begins anew, and with it what was asked of its home.
    pub(crate) fn takes_anew(&mut self, shard: ShardId) {
        let lost: Vec<(ShardId, u64)> = self
            .takes
            .asked
            .keys()
            .filter(|(at, _)| *at == shard)
            .copied()
            .collect();
        for place in lost {
            if let Some(whose) = self.takes.asked.remove(&place)
                && let Some(book) = self.takes.by_name.get_mut(&whose.0)
                && (book.born, book.token) == (whose.1, whose.2)
            {
                book.steps.remove(&whose.3);
            }
        }
        self.take_again_later();
    }
}
