//! What a master is to do, and how it may fail.

use std::time::Duration;

use cpe_tuple::{LimitError, Value};

/// Elements of one job at most, where all are kept: [`each_elem`](crate::each_elem). An
/// [`imap`](crate::imap) keeps those that are under way, and has no bound.
pub const ELEMENTS_MAX: usize = 1 << 20;

/// Tasks in the space or with workers at once, at most.
pub const OPEN_MAX: usize = 1 << 16;

/// Elements of one task at most.
pub const CHUNK_MAX: usize = 4096;

/// How many elements make a task, as long as they have no more than 256 kB together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chunk {
    /// One at first, and then so many that a task takes some 60 ms, up to 256; at the end few
    /// enough that all workers have some.
    #[default]
    Auto,
    /// So many, 1 to [`CHUNK_MAX`].
    Of(usize),
}

/// A parallel map: of what kind, under which name, and within which bounds.
///
/// [`Job::new`] has the defaults; the fields are there to be changed.
#[derive(Clone, Debug)]
pub struct Job {
    /// The workspace the tasks and results are in.
    pub workspace: String,
    /// What is to be done; workers take the tasks of one kind.
    pub kind: String,
    /// Names this job. No other may have the same name while it lasts; a master that comes back to
    /// its job by this name, with the same elements, finds what was done meanwhile.
    pub id: String,
    /// Elements of one task. More make less traffic, and coarser sharing.
    pub chunk: Chunk,
    /// Tasks in the space or with workers at once, from 1. 256 by default: enough to keep tens of
    /// nodes busy, little enough for every replica.
    pub open_max: usize,
    /// Tasks in the space or with workers at once for each worker heard of, from 1; none: as many
    /// as [`open_max`](Self::open_max) allows. One always waits, for a worker that has not been
    /// heard of. Few leave more to whoever is quick, and keep results near their turn; with many no
    /// worker waits for its next task. `loadFactor` of `NetWorkSpaces`, where it is 3.
    pub load_factor: Option<usize>,
    /// How long nothing may be heard of a task before it is looked for: workers tell every few
    /// seconds that they are at it, however long it takes. Twice as long each further time. 30 s by
    /// default.
    pub patience: Duration,
    /// How often an element is tried whose result is a failure, from 1. 3 by default. Failures
    /// that a master which comes back finds in the space count, those that it took before do not.
    pub tries: u32,
    /// How many workers may be lost with an element before it is set aside. 3 by default.
    pub losses: u32,
    /// Results that count as failures although they are values: they are tried again too, and
    /// the last one is the outcome.
    pub is_failure: Option<fn(&Value) -> bool>,
    /// How far results may come ahead of the next one in order, in elements, from 1: so many are
    /// kept. 65,536 by default.
    pub look_ahead: usize,
    /// The same in bytes, from 1: once results that wait for their turn have more, no further
    /// element is begun until it has come. What is under way then is kept besides. 64 MiB by
    /// default.
    pub look_ahead_bytes: usize,
    /// Bytes of results, about, that stay in the space when they are taken, until the job ends in
    /// an orderly way: a master that comes back finds them, and has nothing of it done again. 0 by
    /// default: it finds what nobody had taken. Failures do not stay.
    pub keep_bytes: usize,
    /// What to do about an element that used up its tries.
    pub on_error: OnError,
    /// How long nothing may be heard at all: probably there are no workers. 1 hour by default.
    pub stall: Duration,
    /// How long all of it may take. 1 hour by default.
    pub deadline: Duration,
}

/// What to do about an element that used up its tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Its error stands in place of its result; the others go on.
    #[default]
    SetAside,
    /// The job ends with its error.
    Stop,
}

impl Job {
    /// A job with the defaults.
    #[must_use]
    pub fn new(
        workspace: impl Into<String>,
        kind: impl Into<String>,
        id: impl Into<String>,
    ) -> Self {
        Self {
            workspace: workspace.into(),
            kind: kind.into(),
            id: id.into(),
            chunk: Chunk::Auto,
            open_max: 256,
            load_factor: None,
            patience: Duration::from_secs(30),
            tries: 3,
            losses: 3,
            is_failure: None,
            look_ahead: 1 << 16,
            look_ahead_bytes: 64 << 20,
            keep_bytes: 0,
            on_error: OnError::SetAside,
            stall: Duration::from_secs(3600),
            deadline: Duration::from_secs(3600),
        }
    }

    pub(crate) fn check(&self) -> Result<(), JobError> {
        let within = |setting, given: usize, max: usize| {
            let out = given == 0 || given > max;
            if out {
                Err(JobError::Setting {
                    setting,
                    given,
                    max,
                })
            } else {
                Ok(())
            }
        };
        if let Chunk::Of(chunk) = self.chunk {
            within("chunk", chunk, CHUNK_MAX)?;
        }
        within("open_max", self.open_max, OPEN_MAX)?;
        within("look_ahead", self.look_ahead, ELEMENTS_MAX)?;
        within("look_ahead_bytes", self.look_ahead_bytes, usize::MAX)?;
        within("load_factor", self.load_factor.unwrap_or(1), OPEN_MAX)?;
        within("tries", self.tries as usize, u32::MAX as usize)
    }
}

/// Why a job ended without its results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A setting is outside its bounds.
    #[error("the job's {setting} is {given}; it goes from 1 to {max}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What it is.
        given: usize,
        /// Its largest value.
        max: usize,
    },
    /// The job's kind or id is too long for a tuple.
    #[error("the kind and id of the job fit in no tuple ({source}); choose shorter ones")]
    Names {
        /// Which limit they break.
        source: LimitError,
    },
    /// An element used up its tries, and the job was to stop then.
    #[error("element {index} failed {tries} times, at last with worker `{node}`: {reason}")]
    Failed {
        /// Position of the element.
        index: usize,
        /// How often it was tried.
        tries: u32,
        /// Who tried last; empty when nobody brought a result.
        node: String,
        /// What it said.
        reason: String,
    },
    /// No worker brought anything for too long.
    #[error(
        "no worker was heard of for {within:?}; {done} of {of} elements were done{}",
        because(.why)
    )]
    Stalled {
        /// Elements that have a result.
        done: usize,
        /// Elements that have come so far.
        of: usize,
        /// The job's `stall`.
        within: Duration,
        /// The last thing that went wrong with the space, if anything did.
        why: Option<String>,
    },
    /// The time was over.
    #[error("{done} of {of} elements were done within {within:?}{}", because(.why))]
    Deadline {
        /// Elements that have a result.
        done: usize,
        /// Elements that have come so far.
        of: usize,
        /// The job's deadline.
        within: Duration,
        /// The last thing that went wrong with the space, if anything did.
        why: Option<String>,
    },
}

fn because(why: &Option<String>) -> String {
    why.as_ref()
        .map(|why| format!("; last trouble: {why}"))
        .unwrap_or_default()
}
