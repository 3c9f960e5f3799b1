//! A forest grown by all nodes: whoever asks puts tasks into the space and gathers what comes.
//!
//! A grove is a pure function of data, specification and index, so a task may be done twice without
//! harm. That makes the death of a worker easy: a task that was taken and brought nothing for long
//! enough is put there again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe::{Field, Kind, Tuple, Value};
use cpe_forest::{Dataset, Forest, ForestSpec, Grove, Manifest, OutOfBag, Score};
use cpe_tuple::codec;
use tokio::time::Instant;

use super::WORKSPACE;
use super::blob::{self, template, tuple};
use crate::exit::{About, Fault};
use crate::remote::Space;

/// The variable of all tasks.
const TASKS: &str = "tasks";

/// How long to wait for a result before looking whether tasks got lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Times the longest time a grove took that a taken task may stay without result.
const PATIENCE: u32 = 4;

/// How long a taken task may stay without result at least.
const PATIENCE_MIN: Duration = Duration::from_secs(20);

/// Bytes of one grove's out-of-bag votes at most.
const VOTES_BYTES_MAX: usize = cpe_forest::limits::MAX_DATASET_BYTES;

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
    /// What matches every task.
    ///
    /// # Errors
    /// Never, in truth: it is within the limits of templates.
    pub(crate) fn any() -> Result<cpe::Template, Fault> {
        template(vec![
            Field::Actual(Value::from(TASKS)),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::Bytes),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::String),
        ])
    }

    /// What matches this task while nobody has taken it.
    fn waiting(&self) -> Result<cpe::Template, Fault> {
        template(vec![
            Field::Actual(Value::from(TASKS)),
            Field::Actual(Value::from(self.job.as_str())),
            Field::Actual(Value::Int(self.grove.into())),
            Field::Any,
            Field::Any,
            Field::Any,
        ])
    }

    fn to_tuple(&self) -> Result<Tuple, Fault> {
        let spec = codec::encode(&self.spec).about("cannot encode the specification")?;
        tuple(vec![
            Value::from(TASKS),
            Value::from(self.job.as_str()),
            Value::Int(self.grove.into()),
            Value::Bytes(spec),
            Value::Int(i64::try_from(self.data_bytes).unwrap_or(i64::MAX)),
            Value::from(self.data_hash.as_str()),
        ])
    }

    /// Reads a task back; `None` for what is none.
    pub(crate) fn of(tuple: &Tuple) -> Option<Self> {
        let [_, job, grove, spec, bytes, hash] = tuple.fields() else {
            return None;
        };
        Some(Self {
            job: job.as_str()?.to_owned(),
            grove: u32::try_from(grove.as_int()?).ok()?,
            spec: codec::decode(spec.as_bytes()?, 1 << 16).ok()?,
            data_bytes: usize::try_from(bytes.as_int()?).ok()?,
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

    /// Where it is said what came of it.
    pub(crate) fn results_name(job: &str) -> String {
        format!("job {job}")
    }
}

/// What came of a task, as it stands in the space.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Which grove.
    pub(crate) grove: u32,
    /// Who grew it, by name.
    pub(crate) node: String,
    /// How long that took.
    pub(crate) took: Duration,
    /// Bytes of the grove and of its out-of-bag votes, or why there are none.
    pub(crate) grown: Result<(usize, usize), String>,
}

impl Outcome {
    /// The tuple for a job.
    ///
    /// # Errors
    /// When the reason is larger than a tuple may be.
    pub(crate) fn to_tuple(&self, job: &str) -> Result<Tuple, Fault> {
        let number = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let (bytes, votes, error) = match &self.grown {
            Ok((bytes, votes)) => (number(*bytes), number(*votes), Value::Null),
            Err(error) => (Value::Null, Value::Null, Value::from(error.as_str())),
        };
        tuple(vec![
            Value::from(Task::results_name(job)),
            Value::Int(self.grove.into()),
            Value::from(self.node.as_str()),
            Value::Float(self.took.as_secs_f64()),
            bytes,
            votes,
            error,
        ])
    }

    fn template(job: &str) -> Result<cpe::Template, Fault> {
        let mut fields = vec![Field::Actual(Value::from(Task::results_name(job)))];
        fields.resize(7, Field::Any);
        template(fields)
    }

    fn of(tuple: &Tuple) -> Option<Self> {
        let [_, grove, node, took, bytes, votes, error] = tuple.fields() else {
            return None;
        };
        let size = |value: &Value| usize::try_from(value.as_int()?).ok();
        Some(Self {
            grove: u32::try_from(grove.as_int()?).ok()?,
            node: node.as_str()?.to_owned(),
            took: Duration::try_from_secs_f64(took.as_float()?).ok()?,
            grown: match error.as_str() {
                Some(error) => Err(error.to_owned()),
                None => Ok((size(bytes)?, size(votes)?)),
            },
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
    /// Tasks that were put there again.
    pub(crate) again: u32,
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
    space: &impl Space,
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
    clean(space, &job, &tasks).await;
    let (groves, votes, progress) = gathered?;
    let forest = Forest::assemble(manifest, groves).about("the groves do not make a forest")?;
    let out_of_bag = forest.out_of_bag_score(data, &votes).ok();
    Ok(Trained {
        forest,
        out_of_bag,
        progress,
    })
}

async fn gather(
    space: &impl Space,
    job: &str,
    tasks: &[Task],
    encoded: &[u8],
    stall: Duration,
    report: &mut impl FnMut(&Progress),
) -> Result<(Vec<Grove>, Vec<OutOfBag>, Progress), Fault> {
    let mut progress = Progress {
        groves: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
        ..Progress::default()
    };
    report(&progress);
    if let Some(first) = tasks.first() {
        blob::put(space, &first.data_name(), encoded).await?;
    }
    for task in tasks {
        space.out(WORKSPACE, task.to_tuple()?).await?;
    }
    let mut missing: BTreeSet<u32> = tasks.iter().map(|task| task.grove).collect();
    let (mut groves, mut votes) = (Vec::new(), Vec::new());
    let mut slowest = Duration::ZERO;
    let mut heard = Instant::now();
    let mut looked = Instant::now();
    while !missing.is_empty() {
        let found = space
            .take(WORKSPACE, Outcome::template(job)?, LOOK_EVERY)
            .await?;
        if let Some(outcome) = found.as_ref().and_then(Outcome::of) {
            heard = Instant::now();
            slowest = slowest.max(outcome.took);
            let task = tasks.iter().find(|task| task.grove == outcome.grove);
            let Some(task) = task.filter(|task| missing.remove(&task.grove)) else {
                continue;
            };
            let (bytes, vote_bytes) = outcome.grown.clone().map_err(|why| {
                Fault::failed(format!(
                    "node {} cannot grow grove {}: {why}",
                    outcome.node, task.grove
                ))
            })?;
            let (grove, vote) = read(space, task, bytes, vote_bytes).await?;
            groves.push(grove);
            votes.extend(vote);
            progress.done += 1;
            *progress.nodes.entry(outcome.node).or_insert(0) += 1;
            report(&progress);
            continue;
        }
        if heard.elapsed() > stall {
            return Err(Fault::unavailable(format!(
                "no node brought a grove for {stall:?}; {} of {} are missing",
                missing.len(),
                tasks.len()
            ))
            .next("`cpe mesh peers` shows who is there; a node grows when forest.workers > 0"));
        }
        if looked.elapsed() > PATIENCE_MIN.max(slowest.saturating_mul(PATIENCE)) {
            looked = Instant::now();
            progress.again += put_again(space, tasks, &missing).await?;
        }
    }
    Ok((groves, votes, progress))
}

/// Puts tasks there again that were taken and brought nothing.
async fn put_again(
    space: &impl Space,
    tasks: &[Task],
    missing: &BTreeSet<u32>,
) -> Result<u32, Fault> {
    let mut again = 0;
    for task in tasks.iter().filter(|task| missing.contains(&task.grove)) {
        if !space.holds(WORKSPACE, task.waiting()?).await? {
            space.out(WORKSPACE, task.to_tuple()?).await?;
            again += 1;
        }
    }
    Ok(again)
}

async fn read(
    space: &impl Space,
    task: &Task,
    bytes: usize,
    vote_bytes: usize,
) -> Result<(Grove, Option<OutOfBag>), Fault> {
    let name = task.grove_name();
    let grove = blob::read(space, &name, bytes, cpe_forest::limits::MAX_GROVE_BYTES).await?;
    let grove = Grove::decode(&grove).about(format!("`{name}` is no grove"))?;
    if vote_bytes == 0 {
        return Ok((grove, None));
    }
    let votes = blob::read(space, &task.votes_name(), vote_bytes, VOTES_BYTES_MAX).await?;
    Ok((grove, codec::decode(&votes, VOTES_BYTES_MAX).ok()))
}

/// Leaves nothing of the job in the space. What cannot be deleted now only takes room.
async fn clean(space: &impl Space, job: &str, tasks: &[Task]) {
    let mut names = vec![Task::results_name(job)];
    names.extend(tasks.first().map(Task::data_name));
    for task in tasks {
        names.extend([task.grove_name(), task.votes_name()]);
        if let Ok(waiting) = task.waiting() {
            let _ = space.take(WORKSPACE, waiting, Duration::ZERO).await;
        }
    }
    for name in names {
        let _ = space.delete(WORKSPACE, &name).await;
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
