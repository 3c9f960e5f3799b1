//! The side that has elements and wants results.

use std::time::Duration;

use cpe_tuple::Value;
use tokio::time::Instant;

use crate::job::{Job, JobError, OnError};
use crate::ledger::{Ledger, Settled};
use crate::port::TaskSpace;
use crate::wire::{Outcome, Report, Task};

/// How long one wait for a result lasts, before looking at what is overdue.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long to rest when the space cannot be reached.
const REST: Duration = Duration::from_millis(250);

/// An element that has its outcome, as it is told while the job runs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Arrival<'a> {
    /// Position of the element.
    pub index: usize,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// Who brought it; empty when nobody did.
    pub node: &'a str,
    /// How long its task took there.
    pub took: Duration,
    /// Elements that have an outcome now.
    pub done: usize,
    /// All elements.
    pub of: usize,
}

/// Has a function applied to each element by the workers of a kind, and gives the outcomes in
/// order. `arrived` is called once for each element, in the order the outcomes come.
///
/// All elements and outcomes are kept in memory. At the end no task is left in the space; a result
/// of a worker that was given up may be.
///
/// # Errors
/// [`JobError`].
///
/// # Cancel safety
/// Dropped before it is ready, the tasks under way stay in the space, and their results too.
pub async fn each_elem<S: TaskSpace>(
    space: &S,
    job: &Job,
    elements: Vec<Value>,
    mut arrived: impl FnMut(Arrival<'_>),
) -> Result<Vec<Outcome>, JobError> {
    job.check(elements.len())?;
    let ledger = Ledger::new(job, elements);
    let (began, heard) = (Instant::now(), Instant::now());
    let mut master = Master {
        space,
        job,
        ledger,
        began,
        heard,
        why: None,
    };
    let ended = master.run(&mut arrived).await;
    master.clean().await;
    ended.map(|()| master.ledger.into_outcomes())
}

struct Master<'a, S> {
    space: &'a S,
    job: &'a Job,
    ledger: Ledger,
    began: Instant,
    /// When a result came last.
    heard: Instant,
    /// The last thing that went wrong with the space.
    why: Option<String>,
}

impl<S: TaskSpace> Master<'_, S> {
    async fn run(&mut self, arrived: &mut impl FnMut(Arrival<'_>)) -> Result<(), JobError> {
        let results = Report::any(&self.job.id);
        let results = results.map_err(|source| JobError::TooLarge {
            elements: 0,
            source,
        })?;
        while !self.ledger.finished() {
            while let Some(task) = self.ledger.issue(self.began.elapsed()) {
                self.put(&task).await?;
            }
            let within = LOOK_EVERY.min(self.left()?);
            match self
                .space
                .take(&self.job.workspace, results.clone(), within)
                .await
            {
                Ok(Some(tuple)) => {
                    if let Some(report) = Report::of(&tuple) {
                        self.heard = Instant::now();
                        let (node, took) = (report.node.clone(), report.took);
                        let settled = self.ledger.accept(report);
                        self.tell(&settled, &node, took, arrived)?;
                    }
                }
                Ok(None) => {}
                Err(error) => self.trouble(error).await,
            }
            for id in self.ledger.overdue(self.began.elapsed()) {
                self.look_after(id, arrived).await?;
            }
        }
        Ok(())
    }

    /// Puts a task into the space, however long that takes.
    async fn put(&mut self, task: &Task) -> Result<(), JobError> {
        let elements = task.elements.len();
        let tuple = task.to_tuple(&self.job.kind);
        let tuple = tuple.map_err(|source| JobError::TooLarge { elements, source })?;
        while let Err(error) = self.space.out(&self.job.workspace, tuple.clone()).await {
            self.trouble(error).await;
            self.left()?;
        }
        Ok(())
    }

    /// Sees to a task that has brought nothing for long.
    async fn look_after(
        &mut self,
        id: u64,
        arrived: &mut impl FnMut(Arrival<'_>),
    ) -> Result<(), JobError> {
        match self.withdraw(id).await {
            // Nobody has taken it yet: back it goes, as if nothing had been.
            Ok(true) => {
                self.ledger.waits(id, self.began.elapsed());
                if let Some(task) = self.ledger.task(id) {
                    self.put(&task).await?;
                }
            }
            Ok(false) => {
                let (again, settled) = self.ledger.lost(id, self.began.elapsed());
                tracing::debug!(job = self.job.id, task = id, "no result came of a task");
                self.tell(&settled, "", self.job.patience, arrived)?;
                if let Some(task) = again {
                    self.put(&task).await?;
                }
            }
            Err(error) => self.trouble(error).await,
        }
        Ok(())
    }

    /// Takes a task back; false when somebody else has it.
    async fn withdraw(&self, id: u64) -> Result<bool, S::Error> {
        let Ok(waiting) = Task::waiting(&self.job.kind, &self.job.id, id) else {
            return Ok(false);
        };
        Ok(self
            .space
            .try_take(&self.job.workspace, waiting)
            .await?
            .is_some())
    }

    fn tell(
        &self,
        settled: &[Settled],
        node: &str,
        took: Duration,
        arrived: &mut impl FnMut(Arrival<'_>),
    ) -> Result<(), JobError> {
        let of = self.ledger.len();
        let before = self.ledger.done() - settled.len();
        for (n, Settled { index, outcome }) in settled.iter().enumerate() {
            arrived(Arrival {
                index: *index,
                outcome,
                node,
                took,
                done: before + n + 1,
                of,
            });
            if let (Err(reason), OnError::Stop) = (outcome, self.job.on_error) {
                return Err(JobError::Failed {
                    index: *index,
                    tries: self.job.tries,
                    node: node.to_owned(),
                    reason: reason.clone(),
                });
            }
        }
        Ok(())
    }

    /// Keeps in mind what went wrong with the space, and gives it time.
    async fn trouble(&mut self, error: S::Error) {
        tracing::debug!(job = self.job.id, %error, "the space cannot be reached");
        self.why = Some(error.to_string());
        tokio::time::sleep(REST).await;
    }

    /// The time that is left.
    fn left(&self) -> Result<Duration, JobError> {
        if self.heard.elapsed() > self.job.stall {
            return Err(JobError::Stalled {
                done: self.ledger.done(),
                of: self.ledger.len(),
                within: self.job.stall,
                why: self.why.clone(),
            });
        }
        let left = self.job.deadline.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return Err(JobError::Deadline {
                done: self.ledger.done(),
                of: self.ledger.len(),
                within: self.job.deadline,
                why: self.why.clone(),
            });
        }
        Ok(left)
    }

    /// Leaves nothing of the job in the space, as far as it can be reached.
    async fn clean(&self) {
        for id in self.ledger.open() {
            if self.withdraw(id).await.is_err() {
                // The others would fail as slowly.
                break;
            }
        }
        let _ = self
            .space
            .delete(&self.job.workspace, &Report::variable(&self.job.id))
            .await;
    }
}
