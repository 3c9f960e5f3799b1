//! The local actor runtime.

pub mod bridge;

mod actor;
mod address;
mod any;
mod builtin;
mod cell;
mod context;
mod control;
mod dead_letters;
mod error;
mod kind;
mod mailbox;
mod options;
mod reply;
mod supervision;
mod system;
mod timers;

pub use actor::Actor;
pub use address::{Address, DEFAULT_DEADLINE, MAX_DEADLINE};
pub use any::AnyAddress;
pub use context::{Context, MAX_WATCHED, TooManyWatches};
pub use control::{ActorId, ActorInfo, ActorRef, AsActor, Terminated};
pub use dead_letters::{DEAD_LETTERS_BEHIND, DEAD_LETTERS_KEPT, DeadLetter, DeadReason};
pub use error::{ActorError, AskError, ExitReason, MAX_REASON_BYTES, SpawnError, TellError};
pub use kind::{Dyn, DynActor, DynContext, KEPT_MESSAGE_BYTES, KindContext, KindRegistry};
pub use mailbox::{ActorState, MAX_WATCHERS};
pub use options::{DEFAULT_GRACE, DEFAULT_MAILBOX, MAX_MAILBOX, Options, SnapshotSink};
pub use reply::ReplyTo;
pub use supervision::{Backoff, MAX_RESTARTS, OnFailure, Supervision};
pub use system::{DEFAULT_MAX_ACTORS, MAX_NAME_BYTES, ShutdownReport, System, SystemBuilder};
pub use timers::{MAX_TIMERS, MIN_PERIOD, TimerId, TooManyTimers};
