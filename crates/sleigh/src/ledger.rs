//! What a master knows: which elements are open, with whom, and what came of the others. Pure: time
//! comes in as an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cpe_tuple::Value;

use crate::job::Job;
use crate::wire::{Outcome, Report, Task};

/// How often the patience doubles at most.
const DOUBLINGS_MAX: u32 = 16;

/// An element that has its outcome now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settled {
    pub(crate) index: usize,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
struct Open {
    /// Positions of its elements.
    elements: Vec<usize>,
    /// How often it was put into the space.
    tries: u32,
    since: Duration,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    job: String,
    chunk: usize,
    open_max: usize,
    tries: u32,
    patience: Duration,
    elements: Vec<Value>,
    outcomes: Vec<Option<Outcome>>,
    /// Elements before this position have been issued.
    next: usize,
    /// Elements to try once more, with the tries they had.
    again: VecDeque<(usize, u32)>,
    open: BTreeMap<u64, Open>,
    /// Tasks made so far: the next one's id.
    tasks: u64,
    done: usize,
}

impl Ledger {
    pub(crate) fn new(job: &Job, elements: Vec<Value>) -> Self {
        Self {
            job: job.id.clone(),
            chunk: job.chunk,
            open_max: job.open_max,
            tries: job.tries,
            patience: job.patience,
            outcomes: vec![None; elements.len()],
            elements,
            next: 0,
            again: VecDeque::new(),
            open: BTreeMap::new(),
            tasks: 0,
            done: 0,
        }
    }

    /// The next task to put into the space, while there may be more.
    pub(crate) fn issue(&mut self, now: Duration) -> Option<Task> {
        if self.open.len() >= self.open_max {
            return None;
        }
        let (elements, before) = match self.again.pop_front() {
            // Alone: its neighbours shall not suffer with it.
            Some((index, tries)) => (vec![index], tries),
            None => {
                let end = self
                    .elements
                    .len()
                    .min(self.next.saturating_add(self.chunk));
                let range = self.next..end;
                self.next = end;
                (range.collect(), 0)
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
                tries: before + 1,
                since: now,
            },
        );
        self.task(id)
    }

    /// An open task as it is put into the space.
    pub(crate) fn task(&self, id: u64) -> Option<Task> {
        let open = self.open.get(&id)?;
        let elements = open
            .elements
            .iter()
            .filter_map(|index| self.elements.get(*index).cloned());
        Some(Task {
            job: self.job.clone(),
            id,
            elements: elements.collect(),
        })
    }

    /// Takes down what came of a task: the first time, and nothing after that.
    pub(crate) fn accept(&mut self, report: Report) -> Vec<Settled> {
        let fits = |open: &&Open| open.elements.len() == report.outcomes.len();
        if self.open.get(&report.id).filter(fits).is_none() {
            return Vec::new();
        }
        let Some(open) = self.open.remove(&report.id) else {
            return Vec::new();
        };
        let mut settled = Vec::new();
        for (index, outcome) in open.elements.into_iter().zip(report.outcomes) {
            if outcome.is_err() && open.tries < self.tries {
                self.again.push_back((index, open.tries));
            } else {
                settled.push(Settled { index, outcome });
            }
        }
        self.settle(&settled);
        settled
    }

    fn settle(&mut self, settled: &[Settled]) {
        for Settled { index, outcome } in settled {
            if let Some(place @ None) = self.outcomes.get_mut(*index) {
                *place = Some(outcome.clone());
                self.done += 1;
            }
        }
    }

    /// Tasks whose results are overdue, if they were taken at all.
    pub(crate) fn overdue(&self, now: Duration) -> Vec<u64> {
        let patience = |open: &Open| {
            let doubled = open.tries.saturating_sub(1).min(DOUBLINGS_MAX);
            self.patience.saturating_mul(1 << doubled)
        };
        let late = |open: &Open| now.saturating_sub(open.since) >= patience(open);
        self.open
            .iter()
            .filter(|(_, open)| late(open))
            .map(|(id, _)| *id)
            .collect()
    }

    /// A task turned out to wait for a worker still.
    pub(crate) fn waits(&mut self, id: u64, now: Duration) {
        if let Some(open) = self.open.get_mut(&id) {
            open.since = now;
        }
    }

    /// A task was taken and brought nothing: what to put there again, or what is settled by that.
    pub(crate) fn lost(&mut self, id: u64, now: Duration) -> (Option<Task>, Vec<Settled>) {
        match self.open.get_mut(&id) {
            Some(open) if open.tries < self.tries => {
                open.tries += 1;
                open.since = now;
                // Under the same id: if the first worker was only slow, its result still counts.
                (self.task(id), Vec::new())
            }
            Some(_) => {
                let open = self.open.remove(&id);
                let why = format!("it was taken {} times, and no result came", self.tries);
                let settled = open.into_iter().flat_map(|open| open.elements);
                let settled: Vec<_> = settled
                    .map(|index| Settled {
                        index,
                        outcome: Err(why.clone()),
                    })
                    .collect();
                self.settle(&settled);
                (None, settled)
            }
            None => (None, Vec::new()),
        }
    }

    /// Tasks without result.
    pub(crate) fn open(&self) -> Vec<u64> {
        self.open.keys().copied().collect()
    }

    /// Elements with an outcome.
    pub(crate) const fn done(&self) -> usize {
        self.done
    }

    pub(crate) const fn len(&self) -> usize {
        self.elements.len()
    }

    pub(crate) const fn finished(&self) -> bool {
        self.done == self.elements.len()
    }

    /// The outcomes in order, once all are there.
    pub(crate) fn into_outcomes(self) -> Vec<Outcome> {
        self.outcomes.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests;
