//! The part of a node that grows groves for whoever asks in the space.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cpe::{Failure, Field, Kind, Leased, SpaceError, Template, Tuple, Value};
use cpe_forest::limits::MAX_DATASET_BYTES;
use cpe_forest::{Dataset, ENGINE, Grove, OutOfBag, grow_grove, out_of_bag};
use cpe_tuple::codec;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::blob::{self, template, tuple};
use super::job::{GROVES, Outcome, Phase, Request, State, hex};
use super::{WORKSPACE, steward};
use crate::exit::{About, Fault};

/// Data sets kept for the next task of the same job.
const DATA_KEPT: usize = 2;

/// How long a task stays with a worker that says nothing more; it is renewed three times as often.
pub(super) const LEASE: Duration = Duration::from_secs(6);

/// How long one wait for a task lasts; it begins again.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// How long to rest when the space cannot be reached.
pub(super) const REST: Duration = Duration::from_secs(1);

/// How long one step with a lease may take.
pub(super) const STEP: Duration = Duration::from_secs(10);

/// How often a grove is begun: after that it counts as one that ends whoever grows it.
const BEGUN_MAX: usize = 8;

/// What the workers and stewards of a node share.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(super) space: cpe::Space,
    pub(super) node: String,
    kept: Mutex<VecDeque<(String, Arc<Dataset>)>>,
    groves: super::vote::Kept,
}

/// A task as it stands in the space.
struct Task {
    request: Request,
    index: u32,
}

impl Task {
    fn any() -> Result<Template, Fault> {
        template(vec![
            Field::Actual(Value::from(GROVES)),
            Field::Typed(Kind::String),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Int),
            Field::Actual(Value::from(ENGINE)),
            Field::Typed(Kind::Bytes),
        ])
    }

    fn of(tuple: &Tuple) -> Option<Self> {
        let [_, _, _, index, _, request] = tuple.fields() else {
            return None;
        };
        Some(Self {
            index: u32::try_from(index.as_int()?).ok()?,
            request: Request::of(request)?,
        })
    }
}

/// A grove to grow, as a tuple.
pub(super) fn task(request: &Request, index: u32) -> Result<Tuple, Fault> {
    tuple(vec![
        Value::from(GROVES),
        Value::from(request.name.as_str()),
        Value::from(request.id.as_str()),
        Value::Int(index.into()),
        Value::from(request.grower.as_str()),
        request.to_value()?,
    ])
}

impl Workers {
    /// Starts so many workers, and stewards if there is one, which work until `stop`.
    pub(crate) fn start(space: cpe::Space, node: String, count: usize, stop: &CancellationToken) {
        let shared = Arc::new(Self {
            space,
            node,
            kept: Mutex::default(),
            groves: super::vote::Kept::default(),
        });
        for n in 0..count {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = shared.work() => {}
                    () = shared.vote(n) => {}
                }
            });
        }
        if count > 0 {
            steward::start(&shared, stop);
        }
    }

    /// Votes with groves of models, for whoever asks.
    async fn vote(&self, n: usize) {
        let name = format!("{}.{n}", self.node);
        super::vote::serve(self.space.clone(), name, &self.groves).await;
    }

    async fn work(&self) {
        let Ok(any) = Task::any() else { return };
        loop {
            match self
                .space
                .take_leased(WORKSPACE, any.clone(), LEASE, IDLE)
                .await
            {
                Ok(lease) => self.serve(&lease).await,
                Err(SpaceError::Failed(Failure::TimedOut(_))) => {}
                Err(error) => {
                    tracing::debug!(%error, "no groves to grow can be had");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    async fn serve(&self, lease: &Leased) {
        let Some(task) = Task::of(lease.tuple()) else {
            tracing::warn!("a task to grow a grove that is none is dropped");
            let _ = lease.commit(STEP).await;
            return;
        };
        let (job, grove) = (&task.request.name, task.index);
        match while_held(lease, self.attempt(&task)).await {
            Some(Ok(())) => {
                if let Err(error) = lease.commit(STEP).await {
                    // It comes back after a while, and whoever takes it finds what came of it.
                    tracing::debug!(job, grove, %error, "a grown grove cannot be taken off");
                }
            }
            Some(Err(fault)) => {
                tracing::warn!(job, grove, %fault, "a grove is left to others");
                tokio::time::sleep(REST).await;
                let _ = lease.give_back(STEP).await;
            }
            None => tracing::debug!(job, grove, "a grove was given to another meanwhile"),
        }
    }

    /// Grows a grove and says what came of it. An error is this node's, not the grove's.
    async fn attempt(&self, task: &Task) -> Result<(), Fault> {
        let Task { request, index } = task;
        let state = State::get(&self.space, &request.name, Duration::ZERO).await?;
        // Another run's state says nothing: it may be an earlier one, of which this replica has not
        // heard the end.
        let over = |state: State| state.run == request.run && state.phase != Phase::Growing;
        if state.is_some_and(over) || self.is_grown(task).await? {
            return Ok(());
        }
        let node = Value::from(self.node.as_str());
        let head = |variable: String| {
            let id = Value::from(request.id.as_str());
            vec![Value::from(variable), id, Value::Int((*index).into())]
        };
        let outcome = if self.begun(task).await? >= BEGUN_MAX {
            Outcome {
                hash: String::new(),
                bytes: 0,
                votes: 0,
                error: Some(format!(
                    "grove {index} was begun {BEGUN_MAX} times, and nothing came of it"
                )),
            }
        } else {
            let mut fields = head(request.begun());
            fields.push(node.clone());
            self.space
                .out(WORKSPACE, tuple(fields)?)
                .await
                .about("cannot say that it is begun")?;
            self.grow(task).await?
        };
        let outcome = codec::encode(&outcome).about("cannot encode an outcome")?;
        let mut fields = head(request.grown());
        fields.extend([node, Value::Bytes(outcome)]);
        crate::remote::Space::out(&self.space, WORKSPACE, tuple(fields)?).await
    }

    async fn is_grown(&self, task: &Task) -> Result<bool, Fault> {
        let template = template(vec![
            Field::Actual(Value::from(task.request.grown())),
            Field::Actual(Value::from(task.request.id.as_str())),
            Field::Actual(Value::Int(task.index.into())),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Bytes),
        ])?;
        let found = self.space.rdp(WORKSPACE, template, None).await;
        Ok(found.about("cannot look for the grove")?.is_some())
    }

    async fn begun(&self, task: &Task) -> Result<usize, Fault> {
        let limit = task.request.spec.groves() as usize * BEGUN_MAX;
        let variable = Value::from(task.request.begun());
        let all = self.space.browse(WORKSPACE, variable, limit).await;
        let all = all.about("cannot look for who began the grove")?;
        let index = Value::Int(task.index.into());
        let same = |tuple: &&Tuple| {
            let fields = tuple.fields();
            fields.get(1).and_then(Value::as_str) == Some(&task.request.id)
                && fields.get(2) == Some(&index)
        };
        Ok(all.iter().filter(same).count())
    }

    async fn grow(&self, task: &Task) -> Result<Outcome, Fault> {
        let (request, index) = (&task.request, task.index);
        let (grove, votes) = match self.grove(request, index).await? {
            Ok(grown) => grown,
            Err(error) => {
                return Ok(Outcome {
                    hash: String::new(),
                    bytes: 0,
                    votes: 0,
                    error: Some(error),
                });
            }
        };
        let bytes = grove.encode();
        let votes = codec::encode(&votes).about("cannot encode its votes")?;
        blob::put(&self.space, &request.grove_name(index, &self.node), &bytes).await?;
        blob::put(&self.space, &request.votes_name(index, &self.node), &votes).await?;
        Ok(Outcome {
            hash: hex(blake3::hash(&bytes).as_bytes()),
            bytes: bytes.len(),
            votes: votes.len(),
            error: None,
        })
    }

    /// Grows a grove here. The inner error is the grove's: the same everywhere.
    pub(super) async fn grove(
        &self,
        request: &Request,
        index: u32,
    ) -> Result<Result<(Grove, OutOfBag), String>, Fault> {
        if let Err(why) = request.check_grower() {
            return Ok(Err(why));
        }
        let data = self.data(request).await?;
        let spec = request.spec.clone();
        // Seconds of arithmetic: off the threads that move messages.
        let growing = tokio::task::spawn_blocking(move || {
            let grove = grow_grove(&data, &spec, index).map_err(|error| error.to_string())?;
            let votes = out_of_bag(&data, &spec, &grove).map_err(|error| error.to_string())?;
            Ok((grove, votes))
        });
        growing.await.about("growing it failed")
    }

    /// The data of a job: read once by a node, and kept for its next grove.
    pub(super) async fn data(&self, request: &Request) -> Result<Arc<Dataset>, Fault> {
        // Held while reading: workers of one node that begin a job together read its data once.
        let mut kept = self.kept.lock().await;
        if let Some((_, data)) = kept.iter().find(|(hash, _)| *hash == request.data_hash) {
            return Ok(Arc::clone(data));
        }
        let name = request.data_name();
        let bytes = blob::read(&self.space, &name, request.data_bytes, MAX_DATASET_BYTES).await?;
        let data = Dataset::decode(&bytes).about("the job's data cannot be read")?;
        if hex(&data.hash()) != request.data_hash {
            return Err(Fault::failed("the job's data is not what the task says"));
        }
        let data = Arc::new(data);
        kept.truncate(DATA_KEPT - 1);
        kept.push_front((request.data_hash.clone(), Arc::clone(&data)));
        Ok(data)
    }
}

/// Does work while a lease lives, and renews it; `None` when the lease is lost before the end.
pub(super) async fn while_held<T>(lease: &Leased, work: impl Future<Output = T>) -> Option<T> {
    let renewing = async {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            match lease.renew(LEASE).await {
                Err(SpaceError::Failed(Failure::LeaseLost { .. })) => return,
                // Perhaps the next one reaches its home; if none does, another has the lease.
                Err(error) => tracing::debug!(%error, "a lease cannot be renewed now"),
                Ok(()) => {}
            }
        }
    };
    tokio::select! {
        done = work => Some(done),
        () = renewing => None,
    }
}
