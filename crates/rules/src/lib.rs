//! Safe CLIPS for agents.
//!
//! Layers, each usable without the next:
//!
//! - [`Engine`]: one CLIPS environment with [`Limits`] on time, memory, facts, stack and output,
//!   a sandbox, typed facts in and out, errors with file and line.
//! - [`Worker`]: a thread with a deep stack that owns an engine (or an agent), for callers that
//!   must not block.
//! - [`RuleAgent`]: an actor whose behaviour is CLIPS source. Messages and tuples become facts;
//!   what rules ask of the world leaves as a list of [`Effect`]s. No I/O.
//! - [`ProcessAgent`]: the same in a process of its own, for rules of strangers.
//! - [`check`], [`run`] and [`batch`]: a program at the command line.
//!
//! [`Snapshot`] is the whole state of an engine, [`Trace`] why its rules fired, and the page
//! [`surface`] maps the names of PyCLIPS and clipspy to ours.
//!
//! What this crate does not do: an engine opens no file and no socket, and keeps no clock but the
//! one for deadlines. A join that explodes inside a single assert is noticed only when it has
//! ended, and CLIPS 6.40 has bugs that legal text can reach: that is what [`process`] is for.

#[doc = include_str!("surface.md")]
pub mod surface {}

pub mod agent;
mod batch;
mod bridge;
mod engine;
mod error;
mod format;
mod limits;
pub mod process;
mod program;
mod raw;
mod sandbox;
mod trace;
mod value;
mod vet;
mod worker;

pub use agent::{
    AgentError, AgentMessage, AgentOptions, AgentSnapshot, Delivery, Effect, LaterFact, Level,
    RuleAgent, RuleError, Subscription, message_value,
};
pub use batch::batch;
pub use bridge::{BridgeError, from_clips, to_clips};
pub use engine::{
    Activation, Class, ClassSlot, Construct, Difference, Engine, Event, Fact, Handler, Instance,
    Kind, Matched, Matches, Method, RowError, SNAPSHOT_BYTES_MAX, SalienceEvaluation, Settings,
    Slot, Snapshot, SnapshotError, Source, Strategy, WatchItem,
};
pub use error::{Diagnostic, EngineError, PARSE_ERRORS_MAX, ParseErrors, Replacement, SlotFault};
pub use format::{FORMATTED_BYTES_MAX, WIDTH_MAX, format};
pub use limits::{HaltHandle, Limits, Trip};
pub use process::{Confinement, ProcessAgent, ProcessCommand, ProcessError};
pub use program::{ProgramError, Progress, RunOptions, RunReport, Table, check, check_apart, run};
pub use raw::{Call, Signature, Stream};
pub use sandbox::REMOVED;
pub use trace::{FIRINGS_MAX, Firing, Recorder, Trace, TracedFact};
pub use value::Value;
pub use vet::{VetLimits, vet};
pub use worker::{EngineThread, Halt, JOBS_MAX, STACK_BYTES, SpawnError, Worker, WorkerError};
