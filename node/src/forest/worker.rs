//! The part of a node that grows groves for whoever asks in the space.

use std::collections::VecDeque;
use std::sync::Arc;

use cpe::Value;
use cpe_forest::limits::MAX_DATASET_BYTES;
use cpe_forest::{Dataset, grow_grove, out_of_bag};
use cpe_sleigh::Worker;
use cpe_tuple::codec;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::WORKSPACE;
use super::blob;
use super::job::{Grown, KIND, Task, hex};
use crate::exit::{About, Fault};

/// Data sets kept for the next task of the same job.
const DATA_KEPT: usize = 2;

/// What the workers of a node share.
#[derive(Debug)]
pub(crate) struct Workers {
    space: cpe::Space,
    kept: Mutex<VecDeque<(String, Arc<Dataset>)>>,
}

impl Workers {
    /// Starts so many workers, which work until `stop`.
    pub(crate) fn start(space: cpe::Space, node: String, count: u16, stop: &CancellationToken) {
        let worker = Worker::new(space.clone(), WORKSPACE, KIND, node);
        let shared = Arc::new(Self {
            space,
            kept: Mutex::default(),
        });
        for _ in 0..count {
            let (shared, worker, stop) = (Arc::clone(&shared), worker.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = worker.run(|task| shared.serve(task)) => {}
                }
            });
        }
    }

    async fn serve(&self, task: Value) -> Result<Value, String> {
        let task = Task::of(&task).ok_or("this is no task to grow a grove")?;
        let grown = self.grow(&task).await.map_err(|fault| fault.to_string())?;
        Ok(grown.to_value())
    }

    async fn grow(&self, task: &Task) -> Result<Grown, Fault> {
        let data = self.data(task).await?;
        let (spec, index) = (task.spec.clone(), task.grove);
        // Seconds of arithmetic: off the threads that move messages.
        let growing = tokio::task::spawn_blocking(move || -> Result<_, Fault> {
            let grove = grow_grove(&data, &spec, index).about("cannot grow it")?;
            let votes = out_of_bag(&data, &spec, &grove).about("cannot judge it")?;
            let votes = codec::encode(&votes).about("cannot encode its votes")?;
            Ok((grove.encode(), votes))
        });
        let (grove, votes) = growing.await.about("growing it failed")??;
        blob::put(&self.space, &task.grove_name(), &grove).await?;
        blob::put(&self.space, &task.votes_name(), &votes).await?;
        Ok(Grown {
            bytes: grove.len(),
            votes: votes.len(),
        })
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
