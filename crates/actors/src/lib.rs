//! The local actor runtime of the CPE mesh, on tokio.
//!
//! An [`Actor`] is a Rust type with a mailbox that handles one message at a time: no locks, no
//! threads, no callbacks. A [`System`] runs any number of them; an [`Address`] is how to reach one.
//!
//! ```
//! use cpe_actors::{Actor, ActorError, Context, System};
//!
//! struct Counter(i64);
//!
//! enum Message {
//!     Add(i64),
//!     Get,
//! }
//!
//! impl Actor for Counter {
//!     type Message = Message;
//!     type Reply = i64;
//!
//!     async fn handle(&mut self, it: Message, _: &mut Context<Self>) -> Result<i64, ActorError> {
//!         if let Message::Add(n) = it {
//!             self.0 += n;
//!         }
//!         Ok(self.0)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let system = System::default();
//! let counter = system.spawn(Counter(40))?;
//! counter.tell(Message::Add(2)).await?;
//! assert_eq!(counter.ask(Message::Get).await?, 42);
//! # Ok(())
//! # }
//! ```
//!
//! # Sending
//!
//! [`Address::tell`] waits while the bounded mailbox is full, [`Address::try_tell`] gives the
//! message back, [`Address::ask`] waits for the answer up to a deadline. Messages of one sender
//! arrive in order. Nothing is lost silently: a message is handled, comes back in an error, or is a
//! [dead letter](DeadLetter). For answers of several types, or later, put a [`ReplyTo`] into the
//! message and use [`Address::request`].
//!
//! # Failing
//!
//! An error or a panic in a handler is a failure, and the actor's [`Supervision`] decides: resume,
//! restart (after a growing, jittered wait; with the last snapshot if there is one), stop, or fail
//! the parent; too many failures in a while end the actor. [`ActorError::refused`] is no failure:
//! only the message was at fault. A message that [`Actor::keep`] copies is tried twice, then it is
//! poisoned. A restart needs a factory, so [`System::spawn_with`] takes one. A parent's
//! [`Strategy`] has children begin anew together; [linked](Context::link) actors fail together.
//!
//! # Ending
//!
//! [`Address::stop`] overtakes what waits in the mailbox; children ([`Context::spawn`]) end before
//! their parent. A handler that is blocked, be it on a full mailbox, is cancelled after a grace
//! period. Who [watches](Context::watch) an actor is told of its end once, with the reason.
//!
//! # Working together
//!
//! A [`Pool`] shares work among workers that it starts and replaces. A [`Topic`] carries events to
//! whoever subscribed. [`Context::stash`] puts a message aside, [`Actor::handle_batch`] takes
//! several at a time, [`Context::tell_after`] and [`Context::tell_every`] are timers.
//!
//! # Kinds
//!
//! A [`KindRegistry`] starts actors by the name of their kind and gives an [`AnyAddress`] that
//! speaks [`Value`](cpe_tuple::Value)s: the form in which the command line, rules and other nodes
//! talk to any actor. Kinds are [`DynActor`]s or typed actors with serde messages; `echo` and
//! `counter` are built in.
//!
//! # What this crate is not
//!
//! It knows one process only. Names across the mesh, placement, failover and migration are built on
//! it by the `cpe` crate. Code that computes long without awaiting belongs into
//! [`Context::blocking`]: no runtime can interrupt it.

pub mod bridge;

mod actor;
mod address;
mod any;
mod batch;
mod builtin;
mod cell;
mod context;
mod control;
mod dead_letters;
mod durable;
mod envelope;
mod error;
mod gate;
mod kind;
mod mailbox;
mod options;
mod origin;
mod pool;
mod reply;
mod returns;
mod siblings;
mod stash;
mod supervision;
mod system;
mod timers;
mod topic;
mod tree;

pub use actor::Actor;
pub use address::{Address, DEFAULT_DEADLINE, MAX_DEADLINE};
pub use any::AnyAddress;
pub use batch::{Batch, BatchItem};
pub use context::{Context, MAX_WATCHED, TooManyWatches};
pub use control::{ActorId, ActorInfo, ActorRef, AsActor, Terminated};
pub use dead_letters::{DEAD_LETTERS_BEHIND, DEAD_LETTERS_KEPT, DeadLetter, DeadReason};
pub use durable::{
    Commit, EFFECTS_BYTES_MAX, EFFECTS_MAX, Effect, Journal, NotCommitted, Snapshot,
};
pub use envelope::Poisoned;
pub use error::{ActorError, AskError, ExitReason, MAX_REASON_BYTES, SpawnError, TellError};
pub use gate::Gate;
pub use kind::{Dyn, DynActor, DynContext, KEPT_MESSAGE_BYTES, KindContext, KindRegistry};
pub use mailbox::{ActorState, MAX_RETURNED, MAX_WATCHERS};
pub use options::{DEFAULT_GRACE, DEFAULT_MAILBOX, MAX_MAILBOX, Options, SnapshotSink};
pub use origin::{Numbered, Origin};
pub use pool::{MAX_WORKERS, Pool, PoolKey, PoolOptions, Routing};
pub use reply::ReplyTo;
pub use supervision::{Backoff, MAX_RESTARTS, OnFailure, Strategy, Supervision};
pub use system::{DEFAULT_MAX_ACTORS, MAX_NAME_BYTES, ShutdownReport, System, SystemBuilder};
pub use timers::{MAX_TIMERS, MIN_PERIOD, TimerId, TooManyTimers};
pub use topic::{MAX_SUBSCRIBERS, MAX_TOPICS, Published, TooManySubscribers, Topic};
pub use tree::ActorTree;
