//! A forest grown by all nodes: whoever asks maps the growing of groves over the workers.
//!
//! A grove is a pure function of data, specification and index, so it may be grown twice without
//! harm; `cpe_sleigh` makes use of that when a worker dies. Tasks and outcomes are small: data,
//! groves and votes lie beside them as blobs.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe::Value;
use cpe_forest::{Dataset, Forest, ForestSpec, Grove, Manifest, OutOfBag, Score};
use cpe_sleigh::{Job, JobError, OnError, TaskSpace, each_elem};
use cpe_tuple::codec;
use futures::{StreamExt, TryStreamExt, stream};

use super::WORKSPACE;
use super::blob;
use crate::exit::{About, Fault};
use crate::remote::Space;

/// The kind of the tasks.
pub(crate) const KIND: &str = "grove";

/// How long a grove may take before it is given to another worker too; it doubles each time.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a grove is given to a worker: after 20 minutes without result it is given up.
const TRIES: u32 = 6;

/// Groves read from the space at once.
const READ_AT_ONCE: usize = 4;

/// Bytes of one grove's out-of-bag votes at most.
const VOTES_BYTES_MAX: usize = cpe_forest::limits::MAX_DATASET_BYTES;

/// Bytes of an encoded specification at most.
const SPEC_BYTES_MAX: usize = 1 << 16;

/// One grove to grow, as it stands in the space.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    /// Which job.
    pub(crate) job: String,
    /// Which grove.
    pub(crate) grove: u32,
    /// What is to be grown.
    pub(crate) spec: ForestSpec,
    /// Bytes of the encoded data.
    pub(crate) data_bytes: usize,
    /// The data's hash, in hexadecimal: whoever has it need not read it again.
    pub(crate) data_hash: String,
}

impl Task {
    fn to_value(&self) -> Result<Value, Fault> {
        let spec = codec::encode(&self.spec).about("cannot encode the specification")?;
        Ok(Value::List(vec![
            Value::from(self.job.as_str()),
            Value::Int(self.grove.into()),
            Value::Bytes(spec),
            number(self.data_bytes),
            Value::from(self.data_hash.as_str()),
        ]))
    }

    /// Reads a task back; `None` for what is none.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let [job, grove, spec, bytes, hash] = value.as_list()? else {
            return None;
        };
        Some(Self {
            job: job.as_str()?.to_owned(),
            grove: u32::try_from(grove.as_int()?).ok()?,
            spec: codec::decode(spec.as_bytes()?, SPEC_BYTES_MAX).ok()?,
            data_bytes: size(bytes)?,
            data_hash: hash.as_str()?.to_owned(),
        })
    }

    /// Where the data lies.
    pub(crate) fn data_name(&self) -> String {
        format!("{} data", self.job)
    }

    /// Where the grove is put.
    pub(crate) fn grove_name(&self) -> String {
        format!("{} grove {}", self.job, self.grove)
    }

    /// Where its out-of-bag votes are put.
    pub(crate) fn votes_name(&self) -> String {
        format!("{} votes {}", self.job, self.grove)
    }
}

/// What came of a task: how many bytes its grove and its votes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grown {
    /// Bytes of the grove.
    pub(crate) bytes: usize,
    /// Bytes of its out-of-bag votes; 0 for none.
    pub(crate) votes: usize,
}

impl Grown {
    /// As it stands in the space.
    pub(crate) fn to_value(self) -> Value {
        Value::List(vec![number(self.bytes), number(self.votes)])
    }

    fn of(value: &Value) -> Option<Self> {
        let [bytes, votes] = value.as_list()? else {
            return None;
        };
        Some(Self {
            bytes: size(bytes)?,
            votes: size(votes)?,
        })
    }
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Groves there are.
    pub(crate) done: u32,
    /// Groves there will be.
    pub(crate) groves: u32,
    /// Groves by node.
    pub(crate) nodes: BTreeMap<String, u32>,
}

/// What a job ends with.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The forest.
    pub(crate) forest: Forest,
    /// Its score on the training data, each row judged by trees that have not seen it.
    pub(crate) out_of_bag: Option<Score>,
    /// Who did what.
    pub(crate) progress: Progress,
}

/// Has a forest grown by the workers of all nodes.
///
/// # Errors
/// When the data does not suit the specification, the space cannot be reached, or no worker brings
/// anything for `stall`.
pub(crate) async fn train(
    space: &(impl Space + TaskSpace),
    data: &Dataset,
    spec: &ForestSpec,
    stall: Duration,
    mut report: impl FnMut(&Progress),
) -> Result<Trained, Fault> {
    let manifest = Manifest::new(data, spec).about("cannot grow this forest")?;
    let encoded = data.encode().about("cannot encode the data")?;
    let job = format!("{:016x}", rand::random::<u64>());
    let tasks: Vec<Task> = (0..spec.groves())
        .map(|grove| Task {
            job: job.clone(),
            grove,
            spec: spec.clone(),
            data_bytes: encoded.len(),
            data_hash: hex(&data.hash()),
        })
        .collect();
    let gathered = gather(space, &job, &tasks, &encoded, stall, &mut report).await;
    clean(space, &tasks).await;
    let (grown, progress) = gathered?;
    let (groves, votes): (Vec<Grove>, Vec<Option<OutOfBag>>) = grown.into_iter().unzip();
    let votes: Vec<OutOfBag> = votes.into_iter().flatten().collect();
    let forest = Forest::assemble(manifest, groves).about("the groves do not make a forest")?;
    let out_of_bag = forest.out_of_bag_score(data, &votes).ok();
    Ok(Trained {
        forest,
        out_of_bag,
        progress,
    })
}

async fn gather(
    space: &(impl Space + TaskSpace),
    job: &str,
    tasks: &[Task],
    encoded: &[u8],
    stall: Duration,
    report: &mut impl FnMut(&Progress),
) -> Result<(Vec<(Grove, Option<OutOfBag>)>, Progress), Fault> {
    let mut progress = Progress {
        groves: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
        ..Progress::default()
    };
    report(&progress);
    if let Some(first) = tasks.first() {
        blob::put(space, &first.data_name(), encoded).await?;
    }
    let mut map = Job::new(WORKSPACE, KIND, job);
    (map.patience, map.tries) = (PATIENCE, TRIES);
    (map.on_error, map.stall) = (OnError::Stop, stall);
    map.deadline = Duration::MAX;
    let elements = tasks.iter().map(Task::to_value).collect::<Result<_, _>>()?;
    let outcomes = each_elem(space, &map, elements, |arrival| {
        progress.done += 1;
        *progress.nodes.entry(arrival.node.to_owned()).or_insert(0) += 1;
        report(&progress);
    });
    let outcomes = outcomes.await.map_err(fault)?;
    let reading = tasks
        .iter()
        .zip(outcomes)
        .map(|(task, outcome)| async move {
            let grown = outcome.ok().as_ref().and_then(Grown::of);
            let grown = grown.ok_or_else(|| {
                let grove = task.grove;
                Fault::failed(format!("what a worker said of grove {grove} is no outcome"))
            })?;
            read(space, task, grown).await
        });
    let groves = stream::iter(reading)
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await?;
    Ok((groves, progress))
}

async fn read(
    space: &impl Space,
    task: &Task,
    grown: Grown,
) -> Result<(Grove, Option<OutOfBag>), Fault> {
    let name = task.grove_name();
    let limit = cpe_forest::limits::MAX_GROVE_BYTES;
    let grove = blob::read(space, &name, grown.bytes, limit).await?;
    let grove = Grove::decode(&grove).about(format!("`{name}` is no grove"))?;
    if grown.votes == 0 {
        return Ok((grove, None));
    }
    let votes = blob::read(space, &task.votes_name(), grown.votes, VOTES_BYTES_MAX).await?;
    Ok((grove, codec::decode(&votes, VOTES_BYTES_MAX).ok()))
}

/// Leaves no blobs of the job in the space. What cannot be deleted now only takes room.
async fn clean(space: &impl Space, tasks: &[Task]) {
    let data = tasks.first().map(Task::data_name);
    let grown = tasks
        .iter()
        .flat_map(|task| [task.grove_name(), task.votes_name()]);
    for name in data.into_iter().chain(grown) {
        let _ = space.delete(WORKSPACE, &name).await;
    }
}

fn fault(error: JobError) -> Fault {
    match error {
        JobError::Stalled { .. } => Fault::unavailable(error.to_string())
            .next("`cpe mesh peers` shows who is there; a node grows when forest.workers > 0"),
        JobError::Failed {
            index,
            reason,
            node,
            ..
        } => Fault::failed(format!("node {node} cannot grow grove {index}: {reason}")),
        other => Fault::failed(other.to_string()),
    }
}

fn number(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_int()?).ok()
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_as_it_was_written() {
        let task = Task {
            job: "j".to_owned(),
            grove: 3,
            spec: ForestSpec::classify(),
            data_bytes: 17,
            data_hash: "ab".to_owned(),
        };
        assert_eq!(Task::of(&task.to_value().unwrap()), Some(task));
        assert_eq!(Task::of(&Value::List(vec![Value::Null; 5])), None);
        let grown = Grown { bytes: 7, votes: 0 };
        assert_eq!(Grown::of(&grown.to_value()), Some(grown));
    }
}
