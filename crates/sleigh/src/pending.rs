//! Maps that run beside, and maps over workers instead of elements.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cpe_tuple::Value;
use futures::{StreamExt as _, stream};
use tokio::task::JoinHandle;

use crate::job::{Chunk, Job, JobError};
use crate::master::{Arrival, each_elem, imap};
use crate::port::TaskSpace;
use crate::wire::Outcome;

/// Workers that [`each_worker`] asks at once.
const WORKERS_AT_ONCE: usize = 64;

/// A map that runs beside: `eachElem` with `blocking=False` of `NetWorkSpaces`. Dropping it ends
/// the map; what is under way stays in the space then.
#[derive(Debug)]
pub struct Pending {
    running: JoinHandle<Result<Vec<Outcome>, JobError>>,
    done: Arc<AtomicUsize>,
    of: usize,
}

impl Pending {
    /// How many elements have no outcome yet; 0 once [`wait`](Self::wait) will not wait.
    #[must_use]
    pub fn check(&self) -> usize {
        if self.running.is_finished() {
            return 0;
        }
        // The last outcome is there a moment before all is.
        (self.of - self.done.load(Ordering::Relaxed)).max(1)
    }

    /// The outcomes in order.
    ///
    /// # Errors
    /// As [`each_elem`].
    ///
    /// # Panics
    /// As the function that was called for each arrival did.
    pub async fn wait(mut self) -> Result<Vec<Outcome>, JobError> {
        match (&mut self.running).await {
            Ok(outcomes) => outcomes,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Begins a map as [`each_elem`] does and does not wait. `arrived` accumulates results as they
/// come.
pub fn each_elem_pending<S: TaskSpace + 'static>(
    space: S,
    job: Job,
    elements: Vec<Value>,
    mut arrived: impl FnMut(Arrival<'_>) + Send + 'static,
) -> Pending {
    let (of, done) = (elements.len(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&done);
    let running = tokio::spawn(async move {
        let each = |arrival: Arrival<'_>| {
            count.store(arrival.done, Ordering::Relaxed);
            arrived(arrival);
        };
        each_elem(&space, &job, elements, each).await
    });
    Pending { running, done, of }
}

/// Has each of these workers, by name, apply the function to one element; the outcomes are in the
/// order of the names. A worker that is not there has an error in place of its outcome once the
/// job's patience and losses are used up.
///
/// # Errors
/// As [`each_elem`].
pub async fn each_worker<S: TaskSpace>(
    space: &S,
    job: &Job,
    workers: &[String],
    element: Value,
) -> Result<Vec<Outcome>, JobError> {
    let one = |worker: &String| {
        let mut job = job.clone();
        job.id = format!("{}@{worker}", job.id);
        job.chunk = Chunk::Of(1);
        let elements = stream::iter([element.clone()]);
        let worker = worker.clone();
        async move {
            let stall = job.stall;
            let mut map = imap(space, job, elements).only(&worker);
            let next = map.next().await;
            map.clean().await;
            match next {
                Ok(Some(done)) => Ok(done.outcome),
                Ok(None) => Ok(Err("nothing came of it".to_owned())),
                Err(JobError::Stalled { .. }) => Ok(Err(format!(
                    "worker `{worker}` was not heard of for {stall:?}"
                ))),
                Err(error) => Err(error),
            }
        }
    };
    let outcomes: Vec<_> = stream::iter(workers.iter().map(one))
        .buffered(WORKERS_AT_ONCE)
        .collect()
        .await;
    outcomes.into_iter().collect()
}
