//! What a master is to do, and how it may fail.

use std::time::Duration;

use cpe_tuple::LimitError;

/// Elements of one job at most.
pub const ELEMENTS_MAX: usize = 1 << 20;

/// Elements of one task at most.
pub const CHUNK_MAX: usize = 4096;

/// A parallel map: of what kind, under which name, and within which bounds.
///
/// [`Job::new`] has the defaults; the fields are there to be changed.
#[derive(Clone, Debug)]
pub struct Job {
    /// The workspace the tasks and results are in.
    pub workspace: String,
    /// What is to be done; workers take the tasks of one kind.
    pub kind: String,
    /// Names this run. No other run may have the same name while it lasts.
    pub id: String,
    /// Elements of one task, 1 to [`CHUNK_MAX`]. More make less traffic, and coarser sharing.
    /// 1 by default.
    pub chunk: usize,
    /// Tasks in the space or with workers at once, from 1. 256 by default: enough to keep tens of
    /// nodes busy, little enough for every replica.
    pub open_max: usize,
    /// How long a task that was taken may stay without result before it is put there again; twice
    /// as long each further time. Best longer than the slowest task: shorter only wastes work. 60 s
    /// by default.
    pub patience: Duration,
    /// How often an element is tried, from 1: it failed, or no result came. 3 by default.
    pub tries: u32,
    /// What to do about an element that used up its tries.
    pub on_error: OnError,
    /// How long there may be no result at all: probably there are no workers. 1 hour by default.
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
            chunk: 1,
            open_max: 256,
            patience: Duration::from_secs(60),
            tries: 3,
            on_error: OnError::SetAside,
            stall: Duration::from_secs(3600),
            deadline: Duration::from_secs(3600),
        }
    }

    pub(crate) fn check(&self, elements: usize) -> Result<(), JobError> {
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
        within("chunk", self.chunk, CHUNK_MAX)?;
        within("open_max", self.open_max, ELEMENTS_MAX)?;
        within("tries", self.tries as usize, u32::MAX as usize)?;
        if elements > 0 {
            within("number of elements", elements, ELEMENTS_MAX)?;
        }
        Ok(())
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
    /// A task does not fit in a tuple.
    #[error(
        "a task of {elements} elements does not fit in a tuple ({source}); use a smaller chunk"
    )]
    TooLarge {
        /// Elements of the task.
        elements: usize,
        /// Which limit it breaks.
        source: LimitError,
    },
    /// An element used up its tries, and the job was to stop then.
    #[error("element {index} failed {tries} times, at last on node `{node}`: {reason}")]
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
        "no worker brought a result for {within:?}; {done} of {of} elements were done{}",
        because(.why)
    )]
    Stalled {
        /// Elements that have a result.
        done: usize,
        /// All elements.
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
        /// All elements.
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
