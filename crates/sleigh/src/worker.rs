//! The side that does the work.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use cpe_tuple::Value;
use futures::FutureExt;
use tokio::time::Instant;

use crate::port::TaskSpace;
use crate::wire::{Outcome, Report, Task};

/// How long one wait for a task lasts; it begins again.
const IDLE: Duration = Duration::from_secs(60);

/// How long to rest when the space cannot be reached, at first and at most.
const REST: Duration = Duration::from_millis(250);
const REST_MAX: Duration = Duration::from_secs(10);

/// How often a result is offered to a space that cannot be reached. After that the task counts as
/// lost, and its master puts it there again.
const REPORTS_MAX: u32 = 20;

/// Takes tasks of one kind, one at a time, applies a function to their elements, and puts the
/// results back. Run several for several at once.
#[derive(Clone, Debug)]
pub struct Worker<S> {
    space: S,
    workspace: String,
    kind: String,
    node: String,
}

impl<S: TaskSpace> Worker<S> {
    /// A worker on the node of this name.
    #[must_use]
    pub fn new(
        space: S,
        workspace: impl Into<String>,
        kind: impl Into<String>,
        node: impl Into<String>,
    ) -> Self {
        Self {
            space,
            workspace: workspace.into(),
            kind: kind.into(),
            node: node.into(),
        }
    }

    /// Works until the future is dropped.
    ///
    /// The function must be pure: an element may be tried again, here or elsewhere. What takes
    /// long without awaiting belongs on a thread of its own. A panic counts as an error.
    ///
    /// # Cancel safety
    /// Dropped while it works on a task, that task is lost; its master puts it there again once
    /// its patience is over.
    pub async fn run<F, W>(&self, work: F)
    where
        F: Fn(Value) -> W + Sync,
        W: Future<Output = Outcome> + Send,
    {
        let Ok(any) = Task::any(&self.kind) else {
            tracing::error!("the kind of tasks has too long a name; there is nothing to do");
            return;
        };
        let mut rest = REST;
        loop {
            match self.space.take(&self.workspace, any.clone(), IDLE).await {
                Ok(None) => {}
                Ok(Some(tuple)) => {
                    rest = REST;
                    match Task::of(&tuple) {
                        Some(task) => self.serve(task, &work).await,
                        None => tracing::warn!(kind = self.kind, "a task that is none is dropped"),
                    }
                }
                Err(error) => {
                    tracing::debug!(kind = self.kind, %error, "no tasks can be had");
                    tokio::time::sleep(rest).await;
                    rest = rest.saturating_mul(2).min(REST_MAX);
                }
            }
        }
    }

    async fn serve<F, W>(&self, task: Task, work: &F)
    where
        F: Fn(Value) -> W + Sync,
        W: Future<Output = Outcome> + Send,
    {
        let began = Instant::now();
        let mut outcomes = Vec::with_capacity(task.elements.len());
        for element in task.elements {
            let working = AssertUnwindSafe(async { work(element).await });
            let outcome = working.catch_unwind().await;
            outcomes.push(outcome.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))));
        }
        let (id, node, took) = (task.id, self.node.clone(), began.elapsed());
        let mut report = Report {
            id,
            node,
            took,
            outcomes,
        };
        let tuple = report.to_tuple(&task.job).or_else(|error| {
            let why = format!("the result is too large: {error}");
            report.outcomes.fill(Err(why));
            report.to_tuple(&task.job)
        });
        let Ok(tuple) = tuple else {
            tracing::warn!(job = task.job, task = id, "no result fits in a tuple");
            return;
        };
        for _ in 0..REPORTS_MAX {
            match self.space.out(&self.workspace, tuple.clone()).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(job = task.job, %error, "the result cannot be put"),
            }
            tokio::time::sleep(REST).await;
        }
        tracing::warn!(
            job = task.job,
            task = id,
            "gave up putting the result into the space"
        );
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("without a message"))
}
