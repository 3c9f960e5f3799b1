//! Parallel map over a tuple space.
//!
//! A master calls [`each_elem`]: the elements become tasks in the space. Anywhere in the mesh
//! [`Worker`]s of the same kind take them, apply a function, and put the results back. The master
//! gathers those in order.
//!
//! - **A task is taken under a lease** that its worker renews. If the worker dies, the task goes
//!   back and another does it: an element is done at least once, and its first result counts. So
//!   the function is pure, or does no harm when it is done twice.
//! - **Nothing is tried for ever.** An element that failed [`Job::tries`] times, or with which
//!   [`Job::losses`] workers were lost, is set aside with its error, or ends the job ([`OnError`]).
//! - **Everything is bounded:** elements of a task ([`CHUNK_MAX`]), tasks at once
//!   ([`Job::open_max`]), what waits for its turn ([`Job::look_ahead`]), and the whole job
//!   ([`Job::deadline`]). A map over a stream ([`imap`]) may have any number of elements.
//! - **A master may come back.** Results lie in the space until a master takes them; one that
//!   begins the same job again finds those that no master has taken.
//!
//! [`each_worker`] has named workers do something once, [`each_elem_pending`] does not wait,
//! [`star`] takes elements apart into arguments.
//!
//! The space is behind [`TaskSpace`], which `cpe::Space` implements.
//!
//! # Example
//! ```
//! use cpe_sleigh::{Job, TaskSpace, Worker, each_elem};
//! use cpe_tuple::Value;
//!
//! /// Squares numbers with a worker next door; on another node it would be the same.
//! async fn squares(space: &impl TaskSpace) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
//!     let worker = Worker::new(space, "work", "square", "here");
//!     let square = |value: Value| async move {
//!         let n = value.as_int().ok_or("not a number")?;
//!         Ok(Value::Int(n.checked_mul(n).ok_or("too large")?))
//!     };
//!     let job = Job::new("work", "square", "squares-1");
//!     let numbers = (0..10).map(Value::Int).collect();
//!     let outcomes = tokio::select! {
//!         outcomes = each_elem(space, &job, numbers, |arrival| {
//!             println!("{} of {}, from {}", arrival.done, arrival.of, arrival.node);
//!         }) => outcomes?,
//!         () = worker.run(square) => unreachable!("a worker has no end"),
//!     };
//!     Ok(outcomes.into_iter().collect::<Result<_, _>>()?)
//! }
//! ```

mod job;
mod keeping;
mod ledger;
mod master;
mod pending;
mod port;
mod wire;
mod worker;

pub use job::{CHUNK_MAX, Chunk, ELEMENTS_MAX, Job, JobError, OPEN_MAX, OnError};
pub use master::{Arrival, Done, Imap, Standing, Stopper, each_elem, imap};
pub use pending::{Pending, each_elem_pending, each_worker};
pub use port::TaskSpace;
pub use wire::Outcome;
pub use worker::{Refused, Worker, WorkerInfo, star};
