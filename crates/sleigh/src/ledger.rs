//! What a master knows: which elements are open, with whom, and what came of the others. Pure: time
//! comes in as an argument.
//!
//! It holds only elements that are under way, so a job may have any number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cpe_tuple::{LimitError, Value};

use crate::job::{CHUNK_MAX, Chunk, Job};
use crate::wire::{Answer, Element, News, Outcome, Report, Task};

/// How often the patience doubles at most.
const DOUBLINGS_MAX: u32 = 16;

/// How long a task should take when its size is up to the master: much longer than passing it on,
/// and short beside anybody's patience at the end.
const CHUNK_AIM: Duration = Duration::from_millis(60);

/// Elements of one task when that is up to the master.
const CHUNK_AUTO_MAX: usize = 256;

/// Bytes of the elements of one task, about, unless one alone has more: so that many long ones fit
/// in a tuple, and none keeps others waiting while it travels.
const TASK_BYTES: usize = 256 << 10;

/// Workers told apart.
const WORKERS_MAX: usize = 1 << 12;

/// An element that has its outcome now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settled {
    pub(crate) index: usize,
    pub(crate) outcome: Outcome,
    pub(crate) node: String,
    pub(crate) took: Duration,
    /// How often it failed, and how often it was lost with a worker, before.
    pub(crate) tries: u32,
}

#[derive(Clone, Debug)]
struct Known {
    element: Element,
    /// Results that were failures.
    failed: u32,
    /// Workers that were lost with it.
    lost: u32,
    /// Bytes it takes in a task, about.
    bytes: usize,
}

/// What an earlier life of the job left of an element.
#[derive(Debug)]
struct Early {
    /// Of the element it is about.
    mark: i64,
    /// Its result, or the last of its failures.
    settled: Settled,
    /// Results that were failures.
    failed: u32,
    /// Whether all were.
    fails: bool,
}

#[derive(Debug)]
struct Open {
    elements: Vec<Known>,
    /// Workers that have begun it.
    begun: u32,
    /// The lease of the last of them.
    lease: Option<String>,
    /// How often it was put into the space.
    put: u32,
    since: Duration,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    job: String,
    chunk: Chunk,
    open_max: usize,
    load_factor: Option<usize>,
    tries: u32,
    losses: u32,
    patience: Duration,
    is_failure: Option<fn(&Value) -> bool>,
    /// Elements that were not yet put into the space.
    fresh: VecDeque<Known>,
    /// Bytes they have, about.
    fresh_bytes: usize,
    /// Elements to try once more, each in a task of its own.
    again: VecDeque<Known>,
    open: BTreeMap<u64, Open>,
    /// What came in an earlier life of this job.
    early: BTreeMap<usize, Early>,
    /// Tasks made so far: the next one's id.
    tasks: u64,
    /// Elements that have come so far: the next one's index.
    offered: usize,
    settled: usize,
    workers: BTreeSet<String>,
    /// Mean time of an element, as far as known.
    pace: Option<Duration>,
}

impl Ledger {
    pub(crate) fn new(job: &Job, first_task: u64) -> Self {
        Self {
            job: job.id.clone(),
            chunk: job.chunk,
            open_max: job.open_max,
            load_factor: job.load_factor,
            tries: job.tries,
            losses: job.losses,
            patience: job.patience,
            is_failure: job.is_failure,
            fresh: VecDeque::new(),
            fresh_bytes: 0,
            again: VecDeque::new(),
            open: BTreeMap::new(),
            early: BTreeMap::new(),
            tasks: first_task,
            offered: 0,
            settled: 0,
            workers: BTreeSet::new(),
            pace: None,
        }
    }

    /// Keeps what came in an earlier life of this job, until its elements come.
    pub(crate) fn remember(&mut self, report: Report) {
        let News::Answers { took, answers } = report.news else {
            return;
        };
        for Answer {
            index,
            mark,
            outcome,
        } in answers
        {
            let fails = is_failed(&outcome, self.is_failure);
            let before = self.early.remove(&index);
            let before = before.filter(|early| early.mark == mark);
            let failed = before.as_ref().map_or(0, |early| early.failed) + u32::from(fails);
            let early = match before {
                // It has its result; a worker that was given up told of it once more.
                Some(before) if !before.fails => before,
                _ => Early {
                    mark,
                    settled: Settled {
                        index,
                        outcome,
                        node: report.node.clone(),
                        took,
                        tries: failed + u32::from(!fails),
                    },
                    failed,
                    fails,
                },
            };
            self.early.insert(index, early);
        }
    }

    /// Whether another element may come.
    pub(crate) fn room(&self) -> bool {
        let chunk = self.chunk_now();
        let under_way = self.fresh.len() + self.again.len();
        self.may_open() && under_way < 2 * chunk && self.fresh_bytes < 2 * TASK_BYTES
    }

    /// Whether another task may be put into the space.
    fn may_open(&self) -> bool {
        let open = self.open.len();
        let loaded = |factor: usize| {
            let waits = || self.open.values().any(|open| open.begun == 0);
            open >= factor.saturating_mul(self.workers.len()) && waits()
        };
        open < self.open_max && !self.load_factor.is_some_and(loaded)
    }

    /// The next element; if its outcome is there already, that. One that only failed so far has as
    /// many tries as are left.
    pub(crate) fn offer(&mut self, value: Value) -> Option<Settled> {
        let index = self.offered;
        self.offered += 1;
        let early = self.early.remove(&index);
        let early = early.filter(|early| early.mark == Element::mark(&value));
        let failed = match early {
            Some(early) if early.fails && early.failed < self.tries => early.failed,
            Some(early) => {
                self.settled += 1;
                return Some(early.settled);
            }
            None => 0,
        };
        let bytes = value.size();
        let known = Known {
            element: Element { index, value },
            failed,
            lost: 0,
            bytes,
        };
        if failed > 0 {
            self.again.push_back(known);
        } else {
            self.fresh_bytes += bytes;
            self.fresh.push_back(known);
        }
        None
    }

    fn chunk_now(&self) -> usize {
        match (self.chunk, self.pace) {
            (Chunk::Of(chunk), _) => chunk.min(CHUNK_MAX),
            (Chunk::Auto, None) => 1,
            (Chunk::Auto, Some(pace)) => {
                let fit = CHUNK_AIM.as_micros() / pace.as_micros().max(1);
                usize::try_from(fit)
                    .unwrap_or(CHUNK_AUTO_MAX)
                    .clamp(1, CHUNK_AUTO_MAX)
            }
        }
    }

    /// The next task to put into the space, while there may be more. `last` says that no further
    /// element will come: then what is left is shared out among the workers.
    pub(crate) fn issue(&mut self, now: Duration, last: bool) -> Option<Task> {
        if !self.may_open() {
            return None;
        }
        let elements: Vec<Known> = match self.again.pop_front() {
            // Alone: its neighbours shall not suffer with it.
            Some(known) => vec![known],
            None => {
                let mut chunk = self.chunk_now();
                if last && self.chunk == Chunk::Auto {
                    let workers = self.workers.len().max(1);
                    chunk = chunk.min(self.fresh.len().div_ceil(2 * workers)).max(1);
                } else if !last
                    && self.fresh.len() < chunk
                    && self.fresh_bytes < TASK_BYTES
                    && self.open.len() > self.workers.len()
                {
                    // More may come soon, and nobody is idle.
                    return None;
                }
                self.first(chunk)
            }
        };
        if elements.is_empty() {
            return None;
        }
        let id = self.tasks;
        self.tasks += 1;
        self.open.insert(
            id,
            Open {
                elements,
                begun: 0,
                lease: None,
                put: 1,
                since: now,
            },
        );
        self.task(id)
    }

    /// The first elements that wait: at most so many, and no more than fit in a task.
    fn first(&mut self, chunk: usize) -> Vec<Known> {
        let mut bytes = 0;
        let fit = self.fresh.iter().take(chunk).take_while(|known| {
            let first = bytes == 0;
            bytes += known.bytes;
            first || bytes <= TASK_BYTES
        });
        let fit = fit.count();
        let first: Vec<Known> = self.fresh.drain(..fit).collect();
        self.fresh_bytes -= first.iter().map(|known| known.bytes).sum::<usize>();
        first
    }

    /// A task fits in no tuple: its elements are put there each alone, and one that is alone
    /// already has failed.
    pub(crate) fn refuse(&mut self, id: u64, why: &LimitError) -> Vec<Settled> {
        let Some(open) = self.open.remove(&id) else {
            return Vec::new();
        };
        if open.elements.len() > 1 {
            self.again.extend(open.elements);
            return Vec::new();
        }
        self.settled += open.elements.len();
        let settled = |known: Known| Settled {
            index: known.element.index,
            outcome: Err(format!("the element fits in no tuple: {why}")),
            node: String::new(),
            took: Duration::ZERO,
            tries: 0,
        };
        open.elements.into_iter().map(settled).collect()
    }

    /// An open task as it is put into the space.
    pub(crate) fn task(&self, id: u64) -> Option<Task> {
        let open = self.open.get(&id)?;
        Some(Task {
            job: self.job.clone(),
            id,
            elements: open
                .elements
                .iter()
                .map(|known| known.element.clone())
                .collect(),
        })
    }

    /// Takes down what a worker tells: of each element the first outcome, and nothing after that.
    pub(crate) fn accept(&mut self, report: Report, now: Duration) -> Vec<Settled> {
        let Report { id, node, news } = report;
        let Some(open) = self.open.get_mut(&id) else {
            return Vec::new();
        };
        open.since = now;
        if self.workers.len() < WORKERS_MAX && !self.workers.contains(&node) {
            self.workers.insert(node.clone());
        }
        let (took, answers) = match news {
            News::Begun { lease } => {
                open.begun += 1;
                open.lease = Some(lease);
                return Vec::new();
            }
            News::Alive => return Vec::new(),
            News::Spare { indexes } => {
                self.take_back(id, &indexes);
                return Vec::new();
            }
            News::Answers { took, answers } => (took, answers),
        };
        let share = took / u32::try_from(answers.len().max(1)).unwrap_or(u32::MAX);
        self.pace = Some(self.pace.map_or(share, |pace| (pace * 3 + share) / 4));
        let mut settled = Vec::new();
        for answer in answers {
            let place = open.elements.iter().position(|known| {
                known.element.index == answer.index
                    && Element::mark(&known.element.value) == answer.mark
            });
            let Some(place) = place else { continue };
            let mut known = open.elements.swap_remove(place);
            let failed = is_failed(&answer.outcome, self.is_failure);
            known.failed += u32::from(failed);
            if failed && known.failed < self.tries {
                self.again.push_back(known);
                continue;
            }
            self.settled += 1;
            settled.push(Settled {
                index: answer.index,
                outcome: answer.outcome,
                node: node.clone(),
                took: share,
                tries: known.failed + known.lost + u32::from(!failed),
            });
        }
        if open.elements.is_empty() {
            self.open.remove(&id);
        }
        settled
    }

    /// Has elements back that a worker will not come to soon: they are the next ones to be put into
    /// the space.
    fn take_back(&mut self, id: u64, indexes: &[usize]) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let (back, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut open.elements)
            .into_iter()
            .partition(|known| indexes.contains(&known.element.index));
        open.elements = kept;
        if open.elements.is_empty() {
            self.open.remove(&id);
        }
        for known in back.into_iter().rev() {
            self.fresh_bytes += known.bytes;
            self.fresh.push_front(known);
        }
    }

    /// Tasks of which nothing was heard for long.
    pub(crate) fn overdue(&self, now: Duration) -> Vec<u64> {
        let patience = |open: &Open| {
            let doubled = open.put.saturating_sub(1).min(DOUBLINGS_MAX);
            self.patience.saturating_mul(1 << doubled)
        };
        let late = |open: &Open| now.saturating_sub(open.since) >= patience(open);
        self.open
            .iter()
            .filter(|(_, open)| late(open) || open.begun > self.losses)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Whether a task was begun so often that its workers must have ended by it.
    pub(crate) fn is_poison(&self, id: u64) -> bool {
        self.open
            .get(&id)
            .is_some_and(|open| open.begun > self.losses)
    }

    /// The lease under which a task was begun last.
    pub(crate) fn lease(&self, id: u64) -> Option<&str> {
        self.open.get(&id)?.lease.as_deref()
    }

    /// How long nothing was heard of a task.
    pub(crate) fn silent_for(&self, id: u64, now: Duration) -> Duration {
        let since = self.open.get(&id).map(|open| open.since);
        since.map_or(Duration::MAX, |since| now.saturating_sub(since))
    }

    /// A task turned out to wait for a worker still.
    pub(crate) fn waits(&mut self, id: u64, now: Duration) {
        if let Some(open) = self.open.get_mut(&id) {
            open.since = now;
        }
    }

    /// A task is gone, or nobody is heard of who has it: what to put there again, each element
    /// alone if some worker has begun it, and what is settled by that.
    pub(crate) fn lost(&mut self, id: u64, now: Duration) -> (Option<Task>, Vec<Settled>) {
        let Some(open) = self.open.get_mut(&id) else {
            return (None, Vec::new());
        };
        let alone = open.elements.len() == 1;
        if alone && open.begun <= self.losses && open.put <= self.losses {
            open.put += 1;
            open.since = now;
            // Under the same id: if the first worker was only slow, its result still counts.
            return (self.task(id), Vec::new());
        }
        let Some(open) = self.open.remove(&id) else {
            return (None, Vec::new());
        };
        let mut settled = Vec::new();
        for mut known in open.elements {
            // One of many: which of them it was shows when each is alone.
            known.lost += if alone { self.losses + 1 } else { 1 };
            if known.lost <= self.losses {
                self.again.push_back(known);
                continue;
            }
            self.settled += 1;
            settled.push(Settled {
                index: known.element.index,
                outcome: Err(format!(
                    "it was begun {} times, and each worker was lost with it",
                    open.begun.max(self.losses)
                )),
                node: String::new(),
                took: Duration::ZERO,
                tries: known.failed + open.begun.max(self.losses),
            });
        }
        (None, settled)
    }

    /// Takes an open task out whose elements shall not be done, and says how many they are.
    pub(crate) fn cancel(&mut self, id: u64) -> usize {
        self.open.remove(&id).map_or(0, |open| open.elements.len())
    }

    /// Drops what no worker has begun, of what is not in the space, and says how many elements they
    /// are.
    pub(crate) fn cancel_fresh(&mut self) -> usize {
        let dropped = self.fresh.len();
        self.fresh.clear();
        self.fresh_bytes = 0;
        dropped
    }

    /// Drops what was to be tried again, and says how many elements they are.
    pub(crate) fn cancel_again(&mut self) -> usize {
        let dropped = self.again.len();
        self.again.clear();
        dropped
    }

    /// Tasks without result.
    pub(crate) fn open(&self) -> Vec<u64> {
        self.open.keys().copied().collect()
    }

    /// Elements that a worker has begun and not ended, as far as told.
    pub(crate) fn running(&self) -> usize {
        let begun = self.open.values().filter(|open| open.begun > 0);
        begun.map(|open| open.elements.len()).sum()
    }

    /// Workers heard of.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Elements with an outcome.
    pub(crate) const fn done(&self) -> usize {
        self.settled
    }

    /// Elements that have come.
    pub(crate) const fn offered(&self) -> usize {
        self.offered
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.fresh.is_empty() && self.again.is_empty()
    }
}

/// Whether a result is one after which an element is tried again.
fn is_failed(outcome: &Outcome, is_failure: Option<fn(&Value) -> bool>) -> bool {
    match (outcome, is_failure) {
        (Err(_), _) => true,
        (Ok(value), Some(is_failure)) => is_failure(value),
        (Ok(_), None) => false,
    }
}

#[cfg(test)]
mod tests;
