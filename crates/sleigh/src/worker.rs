//! The side that does the work.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cpe_tuple::{Tuple, Value};
use futures::FutureExt;
use futures::future::Either;
use tokio::time::Instant;

use crate::port::TaskSpace;
use crate::wire::{Answer, Element, News, Outcome, Report, Task, size};

/// How long one wait for a task lasts; it begins again.
const IDLE: Duration = Duration::from_secs(60);

/// How long to rest when the space cannot be reached, at first and at most.
const REST: Duration = Duration::from_millis(250);
const REST_MAX: Duration = Duration::from_secs(10);

/// How often a result is offered to a space that cannot be reached. After that the task is left to
/// another.
const REPORTS_MAX: u32 = 20;

/// How long a task stays with a worker that says nothing more; it is renewed three times as often.
const LEASE: Duration = Duration::from_secs(6);

/// Bytes of results, about, after which they are told before a task's other elements are done.
const REPORT_BYTES: usize = 256 << 10;

/// How long a worker is at a task before it tells what is done, and offers to give back what it has
/// not begun: others may be idle, or the job be stopped.
const SPARE_AFTER: Duration = Duration::from_secs(1);

/// Who works: what a function may want to know, as in `NetWorkSpaces`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// The worker's name, different for each of a kind.
    pub name: String,
    /// Its place among the workers of its node, from 0.
    pub rank: usize,
    /// How many they are.
    pub workers: usize,
}

/// Takes tasks of one kind, one at a time, applies a function to their elements, and puts the
/// results back. Run several for several at once.
#[derive(Clone, Debug)]
pub struct Worker<S> {
    space: S,
    workspace: String,
    kind: String,
    info: WorkerInfo,
    within: Option<Duration>,
}

impl<S: TaskSpace> Worker<S> {
    /// A worker of this name.
    #[must_use]
    pub fn new(
        space: S,
        workspace: impl Into<String>,
        kind: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            space,
            workspace: workspace.into(),
            kind: kind.into(),
            info: WorkerInfo {
                name: name.into(),
                rank: 0,
                workers: 1,
            },
            within: None,
        }
    }

    /// The same, that gives up an element which takes longer: that counts as an error, and the
    /// function is dropped where it awaits. Without it, a function that never ends holds its worker
    /// until the job is over.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// The same as the one of this rank among so many.
    #[must_use]
    pub fn ranked(mut self, rank: usize, workers: usize) -> Self {
        (self.info.rank, self.info.workers) = (rank, workers);
        self
    }

    /// Who it is.
    #[must_use]
    pub fn info(&self) -> &WorkerInfo {
        &self.info
    }

    /// Works until the future is dropped.
    ///
    /// The function must be pure, or do no harm when it is done twice: an element may be tried
    /// again, here or elsewhere. What takes long without awaiting belongs on a thread of its own. A
    /// panic counts as an error.
    ///
    /// # Cancel safety
    /// Dropped while it works on a task, the task goes back into the space after a few seconds.
    pub async fn run<F, W>(&self, work: F)
    where
        F: Fn(Value) -> W + Sync,
        W: Future<Output = Outcome> + Send,
    {
        let shared = Task::variable(&self.kind, None);
        let own = Task::variable(&self.kind, Some(&self.info.name));
        futures::join!(self.serve_all(&shared, &work), self.serve_all(&own, &work));
    }

    async fn serve_all<F, W>(&self, variable: &str, work: &F)
    where
        F: Fn(Value) -> W + Sync,
        W: Future<Output = Outcome> + Send,
    {
        let Ok(any) = Task::any(variable) else {
            tracing::error!("the kind of tasks has too long a name; there is nothing to do");
            return;
        };
        let mut rest = REST;
        loop {
            let (workspace, any) = (&self.workspace, any.clone());
            match self.space.take_leased(workspace, any, LEASE, IDLE).await {
                Ok(None) => {}
                Ok(Some((tuple, lease))) => {
                    rest = REST;
                    self.serve(&tuple, &lease, work).await;
                }
                Err(error) => {
                    tracing::debug!(kind = self.kind, %error, "no tasks can be had");
                    tokio::time::sleep(rest).await;
                    rest = rest.saturating_mul(2).min(REST_MAX);
                }
            }
        }
    }

    async fn serve<F, W>(&self, tuple: &Tuple, lease: &S::Lease, work: &F)
    where
        F: Fn(Value) -> W + Sync,
        W: Future<Output = Outcome> + Send,
    {
        let Some(task) = Task::of(tuple) else {
            tracing::warn!(kind = self.kind, "a task that is none is dropped");
            let _ = self.space.commit(lease).await;
            return;
        };
        let (job, id) = (task.job.clone(), task.id);
        let told = tokio::select! {
            told = self.attempt(task, lease, work) => told,
            () = self.hold(lease, &job, id) => {
                tracing::debug!(job, task = id, "a task was given to another meanwhile");
                return;
            }
        };
        // What was not told is left to another, once the lease ends.
        if told && let Err(error) = self.space.commit(lease).await {
            tracing::debug!(job, task = id, %error, "a task that is done cannot be taken off");
        }
    }

    /// Renews a lease and tells that the work goes on; ends when the lease is lost.
    async fn hold(&self, lease: &S::Lease, job: &str, id: u64) {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            match self.space.renew(lease).await {
                Ok(true) => {}
                Ok(false) => return,
                // Perhaps the next one reaches its home; if none does, another gets the task.
                Err(error) => tracing::debug!(job, task = id, %error, "a lease is not renewed"),
            }
            self.tell_once(job, id, News::Alive).await;
        }
    }

    /// Works on a task and tells what comes of it; false when that could not be told.
    async fn attempt<F, W>(&self, task: Task, lease: &S::Lease, work: &F) -> bool
    where
        F: Fn(Value) -> W + Sync,
        W: Future<Output = Outcome> + Send,
    {
        let (job, id) = (task.job, task.id);
        if !self
            .tell(
                &job,
                id,
                News::Begun {
                    lease: lease.to_string(),
                },
            )
            .await
        {
            return false;
        }
        let mut began = Instant::now();
        let (mut answers, mut bytes) = (Vec::new(), 0);
        let mut rest = VecDeque::from(task.elements);
        while let Some(Element { index, value }) = rest.pop_front() {
            let mark = Element::mark(&value);
            let (offered, told) = (AtomicBool::new(false), AtomicBool::new(true));
            let outcome = {
                let working = pin!(self.outcome(value, work));
                let offering = pin!(async {
                    tokio::time::sleep_until(began + SPARE_AFTER).await;
                    offered.store(true, Ordering::Relaxed);
                    let took = began.elapsed();
                    let answers = std::mem::take(&mut answers);
                    if !answers.is_empty() {
                        let answers = News::Answers { took, answers };
                        told.store(self.tell(&job, id, answers).await, Ordering::Relaxed);
                    }
                    let indexes = rest.iter().map(|element| element.index).collect();
                    self.tell_once(&job, id, News::Spare { indexes }).await;
                });
                if rest.is_empty() {
                    working.await
                } else {
                    match futures::future::select(working, offering).await {
                        Either::Left((outcome, offering)) => {
                            if offered.load(Ordering::Relaxed) {
                                offering.await;
                            }
                            outcome
                        }
                        Either::Right(((), working)) => working.await,
                    }
                }
            };
            if !told.into_inner() {
                return false;
            }
            if offered.into_inner() {
                if !self.have_back(&job, id).await {
                    rest.clear();
                }
                (bytes, began) = (0, Instant::now());
            }
            bytes += size(&outcome);
            answers.push(Answer {
                index,
                mark,
                outcome,
            });
            if rest.is_empty() || bytes > REPORT_BYTES {
                let took = began.elapsed();
                let answers = std::mem::take(&mut answers);
                if !self.tell(&job, id, News::Answers { took, answers }).await {
                    return false;
                }
                (bytes, began) = (0, Instant::now());
            }
        }
        true
    }

    /// Applies the function to an element.
    async fn outcome<F, W>(&self, value: Value, work: &F) -> Outcome
    where
        F: Fn(Value) -> W + Sync,
        W: Future<Output = Outcome> + Send,
    {
        let working = AssertUnwindSafe(async { work(value).await }).catch_unwind();
        let ended = match self.within {
            None => working.await,
            Some(within) => match tokio::time::timeout(within, working).await {
                Ok(ended) => ended,
                Err(_) => return Err(format!("it did not end within {within:?}")),
            },
        };
        ended.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
    }

    /// Whether what this worker offered to give back of a task is its own again: no master has
    /// taken it.
    async fn have_back(&self, job: &str, id: u64) -> bool {
        let Ok(spare) = Report::spare(job, id, &self.info.name) else {
            return true;
        };
        for _ in 0..REPORTS_MAX {
            match self.space.try_take(&self.workspace, spare.clone()).await {
                Ok(found) => return found.is_some(),
                Err(error) => tracing::debug!(job, %error, "it is not known who has a task"),
            }
            tokio::time::sleep(REST).await;
        }
        // Done twice, perhaps, rather than not at all.
        true
    }

    /// Puts a report into the space, if need be with less in it.
    async fn tell(&self, job: &str, id: u64, news: News) -> bool {
        let report = self.report(id, news);
        let tuple = report.to_tuple(job).or_else(|error| {
            let mut report = report;
            if let News::Answers { answers, .. } = &mut report.news {
                for answer in answers {
                    answer.outcome = Err(format!("the result is too large: {error}"));
                }
            }
            report.to_tuple(job)
        });
        let Ok(tuple) = tuple else {
            tracing::warn!(job, task = id, "no result fits in a tuple");
            return false;
        };
        for _ in 0..REPORTS_MAX {
            match self.space.out(&self.workspace, tuple.clone()).await {
                Ok(()) => return true,
                Err(error) => tracing::debug!(job, %error, "the result cannot be put"),
            }
            tokio::time::sleep(REST).await;
        }
        tracing::warn!(job, task = id, "gave up putting the result into the space");
        false
    }

    async fn tell_once(&self, job: &str, id: u64, news: News) {
        if let Ok(tuple) = self.report(id, news).to_tuple(job) {
            let _ = self.space.out(&self.workspace, tuple).await;
        }
    }

    fn report(&self, id: u64, news: News) -> Report {
        let node = self.info.name.clone();
        Report { id, node, news }
    }
}

/// Makes a function of several arguments one of a list of them: elements are lists then.
pub fn star<F, W>(work: F) -> impl Fn(Value) -> Either<W, Refused> + Sync
where
    F: Fn(Vec<Value>) -> W + Sync,
    W: Future<Output = Outcome> + Send,
{
    use futures::future::ready;
    move |value| match value {
        Value::List(arguments) => Either::Left(work(arguments)),
        other => Either::Right(ready(Err(format!(
            "an element is a list of arguments, not a value of {}",
            other.kind()
        )))),
    }
}

/// What [`star`] makes of an element that is no list.
pub type Refused = futures::future::Ready<Outcome>;

fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("without a message"))
}
