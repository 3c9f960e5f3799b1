//! Groves are put together in their order while others are still grown, so that little is left to
//! do at the end. What cannot be read is left to the end, and what is after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cpe_forest::Manifest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Brought;
use super::assembly::{Groves, read};
use crate::forest::job::Request;
use crate::forest::worker::Workers;

/// A forest that grows in the order of its groves; dropping it ends that.
pub(super) struct Ahead {
    brought: mpsc::Sender<(u32, Brought)>,
    /// One task.
    reading: JoinSet<Option<Groves>>,
}

impl Ahead {
    pub(super) fn begin(workers: &Arc<Workers>, request: &Request) -> Self {
        // Each grove of the forest comes once: there is room for all.
        let room = request.spec.groves().max(1) as usize;
        let (brought, coming) = mpsc::channel(room);
        let mut reading = JoinSet::new();
        reading.spawn(put_together(Arc::clone(workers), request.clone(), coming));
        Self { brought, reading }
    }

    /// A grove has come.
    pub(super) fn take(&self, index: u32, brought: &Brought) {
        // It has ended at a grove that cannot be read.
        let _ = self.brought.try_send((index, brought.clone()));
    }

    /// The first groves, once all that came is looked at; nothing if there was something wrong
    /// here.
    pub(super) async fn finish(mut self) -> Option<Groves> {
        drop(self.brought);
        self.reading.join_next().await?.ok()?
    }
}

async fn put_together(
    workers: Arc<Workers>,
    request: Request,
    mut coming: mpsc::Receiver<(u32, Brought)>,
) -> Option<Groves> {
    let data = workers.data(&request).await.ok()?;
    let manifest = Manifest::new(&data, &request.spec).ok()?;
    let mut groves = Groves::new(data, &manifest);
    let mut waiting = BTreeMap::new();
    while let Some((index, brought)) = coming.recv().await {
        waiting.insert(index, brought);
        while let Some(brought) = waiting.remove(&groves.next()) {
            if groves.is_too_large() {
                return Some(groves);
            }
            let found = read(&workers, &request, groves.next(), &brought, &manifest).await;
            let Some((grove, votes)) = found else {
                return Some(groves);
            };
            if !brought.own {
                groves.by.insert(brought.node);
            }
            groves.push(&request, grove, votes).await.ok()?;
        }
    }
    Some(groves)
}
