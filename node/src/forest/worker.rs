//! The part of a node that grows groves for whoever asks in the space.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cpe_forest::limits::MAX_DATASET_BYTES;
use cpe_forest::{Dataset, grow_grove, out_of_bag};
use cpe_tuple::codec;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::WORKSPACE;
use super::blob;
use super::job::{Outcome, Task, hex};
use crate::exit::{About, Fault};
use crate::remote::Space;

/// How long one wait for a task lasts.
const IDLE: Duration = Duration::from_secs(60);

/// How long to rest when the space cannot be reached, at first and at most.
const REST: Duration = Duration::from_millis(500);
const REST_MAX: Duration = Duration::from_secs(10);

/// Data sets kept for the next task of the same job.
const DATA_KEPT: usize = 2;

/// Bytes of a reason why not.
const REASON_BYTES_MAX: usize = 4096;

/// What the workers of a node share.
#[derive(Debug)]
pub(crate) struct Workers<S> {
    space: S,
    node: String,
    kept: Mutex<VecDeque<(String, Arc<Dataset>)>>,
}

impl<S: Space + Send + Sync + 'static> Workers<S> {
    /// Starts so many workers, which work until `stop`.
    pub(crate) fn start(space: S, node: String, count: u16, stop: &CancellationToken) {
        let shared = Arc::new(Self {
            space,
            node,
            kept: Mutex::default(),
        });
        for _ in 0..count {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = shared.work() => {}
                }
            });
        }
    }

    async fn work(&self) {
        let Ok(any) = Task::any() else { return };
        let mut rest = REST;
        loop {
            match self.space.take(WORKSPACE, any.clone(), IDLE).await {
                Ok(None) => {}
                Ok(Some(tuple)) => {
                    rest = REST;
                    let Some(task) = Task::of(&tuple) else {
                        tracing::warn!("took a task that is none; it is dropped");
                        continue;
                    };
                    if let Err(fault) = self.serve(&task).await {
                        tracing::warn!(job = task.job, grove = task.grove, "{fault}");
                    }
                }
                Err(fault) => {
                    tracing::debug!(%fault, "no tasks can be had");
                    tokio::time::sleep(rest).await;
                    rest = rest.saturating_mul(2).min(REST_MAX);
                }
            }
        }
    }

    async fn serve(&self, task: &Task) -> Result<(), Fault> {
        let began = Instant::now();
        let grown = match self.grow(task).await {
            Ok((grove, votes)) => {
                blob::put(&self.space, &task.grove_name(), &grove).await?;
                blob::put(&self.space, &task.votes_name(), &votes).await?;
                Ok((grove.len(), votes.len()))
            }
            Err(fault) => {
                let mut reason = fault.to_string();
                reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
                Err(reason)
            }
        };
        let outcome = Outcome {
            grove: task.grove,
            node: self.node.clone(),
            took: began.elapsed(),
            grown,
        };
        self.space
            .out(WORKSPACE, outcome.to_tuple(&task.job)?)
            .await
    }

    async fn grow(&self, task: &Task) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let data = self.data(task).await?;
        let (spec, index) = (task.spec.clone(), task.grove);
        // Seconds of arithmetic: off the threads that move messages.
        let growing = tokio::task::spawn_blocking(move || -> Result<_, Fault> {
            let grove = grow_grove(&data, &spec, index).about("cannot grow it")?;
            let votes = out_of_bag(&data, &spec, &grove).about("cannot judge it")?;
            let votes = codec::encode(&votes).about("cannot encode its votes")?;
            Ok((grove.encode(), votes))
        });
        growing.await.about("growing it failed")?
    }

    async fn data(&self, task: &Task) -> Result<Arc<Dataset>, Fault> {
        // Held while reading: workers of one node that begin a job together read its data once.
        let mut kept = self.kept.lock().await;
        if let Some((_, data)) = kept.iter().find(|(hash, _)| *hash == task.data_hash) {
            return Ok(Arc::clone(data));
        }
        let name = task.data_name();
        let bytes = blob::read(&self.space, &name, task.data_bytes, MAX_DATASET_BYTES).await?;
        let data = Dataset::decode(&bytes).about("the job's data cannot be read")?;
        if hex(&data.hash()) != task.data_hash {
            return Err(Fault::failed("the job's data is not what the task says"));
        }
        let data = Arc::new(data);
        kept.truncate(DATA_KEPT - 1);
        kept.push_front((task.data_hash.clone(), Arc::clone(&data)));
        Ok(data)
    }
}
