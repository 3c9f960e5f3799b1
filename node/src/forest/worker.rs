//! The part of a node that grows groves for whoever asks in the space.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cpe::{Failure, Field, Kind, Leased, SpaceError, Template, Tuple, Value};
use cpe_forest::limits::MAX_DATASET_BYTES;
use cpe_forest::{Dataset, ENGINE, Grove, OutOfBag, grow_grove, out_of_bag};
use cpe_tuple::codec;
use rand::RngExt;
use tokio::sync::{Mutex, OnceCell, Semaphore, SemaphorePermit};
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

/// Data sets by hash, the last one asked for first; each is read once, by whoever asks first.
type Kept = VecDeque<(String, Arc<OnceCell<Arc<Dataset>>>)>;

/// What the workers and stewards of a node share.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(super) space: cpe::Space,
    pub(super) node: String,
    /// Known to this process alone: what it wrote itself it need not check.
    pub(super) key: [u8; 32],
    /// Turns to grow: as many as there are workers.
    turns: Semaphore,
    kept: Mutex<Kept>,
    groves: super::vote::Kept,
}

/// A grove that was grown here, with its votes as bytes, in which form all nodes hold them.
pub(super) struct Grown {
    pub(super) grove: Grove,
    pub(super) votes: OutOfBag,
    /// The encoded votes.
    pub(super) votes_bytes: Vec<u8>,
}

impl Grown {
    /// Hash of the encoded votes, in hexadecimal.
    pub(super) fn votes_hash(&self) -> String {
        hex(blake3::hash(&self.votes_bytes).as_bytes())
    }
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
        Value::from(request.run.as_str()),
        Value::Int(index.into()),
        Value::from(request.grower.as_str()),
        request.to_value()?,
    ])
}

impl Workers {
    /// Starts so many workers, and stewards if there is one, which work until `stop`. What is left
    /// of votes is removed once nobody has been at them for `orphaned`.
    pub(crate) fn start(
        space: cpe::Space,
        node: String,
        count: usize,
        orphaned: Duration,
        stop: &CancellationToken,
    ) {
        let shared = Arc::new(Self {
            space,
            node,
            key: rand::rng().random(),
            turns: Semaphore::new(count),
            kept: Mutex::default(),
            groves: super::vote::Kept::default(),
        });
        for n in 0..count {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    // By turns: one grows the next grove while the other takes its own to the
                    // space, which is waiting for answers.
                    () = shared.work() => {}
                    () = shared.work() => {}
                    () = shared.vote(n) => {}
                }
            });
        }
        if count > 0 {
            steward::start(&shared, stop);
            let (space, stop) = (shared.space.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = super::vote::remove_left(space, orphaned) => {}
                }
            });
        }
    }

    /// Votes with groves of models, for whoever asks.
    async fn vote(&self, n: usize) {
        let name = format!("{}.{n}", self.node);
        super::vote::serve(self.space.clone(), name, &self.groves).await;
    }

    async fn work(&self) {
        let Ok(any) = Task::any() else { return };
        // Turns end with the node.
        while let Ok(turn) = self.turns.acquire().await {
            match self
                .space
                .take_leased(WORKSPACE, any.clone(), LEASE, IDLE)
                .await
            {
                Ok(lease) => self.serve(&lease, turn).await,
                Err(SpaceError::Failed(Failure::TimedOut(_))) => {}
                Err(error) => {
                    tracing::debug!(%error, "no groves to grow can be had");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    async fn serve(&self, lease: &Leased, turn: SemaphorePermit<'_>) {
        let Some(task) = Task::of(lease.tuple()) else {
            tracing::warn!("a task to grow a grove that is none is dropped");
            let _ = lease.commit(STEP).await;
            return;
        };
        let (job, grove) = (&task.request.name, task.index);
        match while_held(lease, self.attempt(&task, turn)).await {
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
    async fn attempt(&self, task: &Task, turn: SemaphorePermit<'_>) -> Result<(), Fault> {
        let Task { request, index } = task;
        if self.is_over(request).await? || self.is_grown(task).await? {
            return Ok(());
        }
        let node = Value::from(self.node.as_str());
        let head = |variable: String| {
            let id = Value::from(request.id.as_str());
            vec![Value::from(variable), id, Value::Int((*index).into())]
        };
        let outcome = if let Some(why) = self.is_poison(request, *index).await? {
            Outcome::failed(why)
        } else {
            let mut fields = head(request.begun(*index));
            fields.push(node.clone());
            self.space
                .out(WORKSPACE, tuple(fields)?)
                .await
                .about("cannot say that it is begun")?;
            let Some(outcome) = self.grow(task, turn).await? else {
                return Ok(());
            };
            outcome
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

    /// Whether the job has ended. Another run's state says nothing: it may be an earlier one, of
    /// which this replica has not heard the end.
    async fn is_over(&self, request: &Request) -> Result<bool, Fault> {
        let state = State::get(&self.space, &request.name, Duration::ZERO).await?;
        Ok(state.is_some_and(|state| state.run == request.run && state.phase != Phase::Growing))
    }

    /// Why a grove should be begun by nobody any more, if it has been begun too often.
    pub(super) async fn is_poison(
        &self,
        request: &Request,
        index: u32,
    ) -> Result<Option<String>, Fault> {
        let variable = Value::from(request.begun(index));
        let begun = self.space.browse(WORKSPACE, variable, BEGUN_MAX).await;
        let begun = begun.about("cannot look for who began the grove")?;
        Ok((begun.len() >= BEGUN_MAX)
            .then(|| format!("grove {index} was begun {BEGUN_MAX} times, and nothing came of it")))
    }

    /// Grows a grove, which ends the turn, and puts it there; nothing if the job ended meanwhile.
    async fn grow(&self, task: &Task, turn: SemaphorePermit<'_>) -> Result<Option<Outcome>, Fault> {
        let (request, index) = (&task.request, task.index);
        let grown = self.grove(request, index).await;
        drop(turn);
        let grown = match grown? {
            Ok(grown) => grown,
            Err(error) => return Ok(Some(Outcome::failed(error))),
        };
        // The end of a run is cleaned up after: what is put there afterwards would stay. Its home
        // knows if it has ended, and if another has begun since.
        let state = State::at_home(&self.space, &request.name).await?;
        if state.is_none_or(|state| state.run != request.run || state.phase != Phase::Growing) {
            return Ok(None);
        }
        let (bytes, votes) = (grown.grove.encode(), &grown.votes_bytes);
        blob::put(&self.space, &request.grove_name(index, &self.node), &bytes).await?;
        blob::put(&self.space, &request.votes_name(index, &self.node), votes).await?;
        let mut outcome = Outcome {
            hash: hex(blake3::hash(&bytes).as_bytes()),
            bytes: bytes.len(),
            votes: votes.len(),
            error: None,
            votes_hash: grown.votes_hash(),
            seal: String::new(),
        };
        outcome.seal = outcome.seal(&self.key, request, index);
        Ok(Some(outcome))
    }

    /// Grows a grove here. The inner error is the grove's: the same everywhere.
    pub(super) async fn grove(
        &self,
        request: &Request,
        index: u32,
    ) -> Result<Result<Grown, String>, Fault> {
        if let Err(why) = request.check_grower() {
            return Ok(Err(why));
        }
        let data = self.data(request).await?;
        let spec = request.spec.clone();
        // Seconds of arithmetic: off the threads that move messages.
        let growing = tokio::task::spawn_blocking(move || {
            let grove = grow_grove(&data, &spec, index).map_err(|error| error.to_string())?;
            let votes = out_of_bag(&data, &spec, &grove).map_err(|error| error.to_string())?;
            let votes_bytes = codec::encode(&votes).map_err(|error| error.to_string())?;
            Ok(Grown {
                grove,
                votes,
                votes_bytes,
            })
        });
        growing.await.about("growing it failed")
    }

    /// The data of a job: read once by a node, and kept for its next grove.
    pub(super) async fn data(&self, request: &Request) -> Result<Arc<Dataset>, Fault> {
        let hash = &request.data_hash;
        let cell = {
            let mut kept = self.kept.lock().await;
            let place = kept.iter().position(|(known, _)| known == hash);
            let found = place.and_then(|place| kept.remove(place));
            let (_, cell) = found.unwrap_or_else(|| (hash.clone(), Arc::default()));
            kept.truncate(DATA_KEPT - 1);
            kept.push_front((hash.clone(), Arc::clone(&cell)));
            cell
        };
        // Workers of one node that begin a job together read its data once, and hold up those of
        // no other job.
        let data = cell.get_or_try_init(|| self.read_data(request)).await?;
        Ok(Arc::clone(data))
    }

    async fn read_data(&self, request: &Request) -> Result<Arc<Dataset>, Fault> {
        let name = request.data_name();
        let (length, within) = (request.data_bytes, blob::PART_WITHIN);
        let bytes = blob::read(&self.space, &name, length, MAX_DATASET_BYTES, within).await?;
        let decoding = tokio::task::spawn_blocking(move || {
            let data = Dataset::decode(&bytes)?;
            Ok::<_, cpe_forest::DataError>((hex(&data.hash()), data))
        });
        let decoded = decoding.await.about("reading the job's data failed")?;
        let (hash, data) = decoded.about("the job's data cannot be read")?;
        if hash != request.data_hash {
            return Err(Fault::failed("the job's data is not what the task says"));
        }
        Ok(Arc::new(data))
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
