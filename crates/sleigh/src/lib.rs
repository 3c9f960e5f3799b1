//! Parallel map over a tuple space.
//!
//! A master calls [`each_elem`]: the elements become tasks in the space. Anywhere in the mesh
//! [`Worker`]s of the same kind take them, apply a function, and put the results back. The master
//! gathers those in order.
//!
//! - **The function is pure.** A task whose result does not come within [`Job::patience`] is put
//!   into the space again, so it may run twice for an element; the first result counts.
//! - **Nothing is tried for ever.** An element that failed, or brought no result, [`Job::tries`]
//!   times is set aside with its error, or ends the job ([`OnError`]).
//! - **Everything is bounded:** elements ([`ELEMENTS_MAX`]), those of a task ([`CHUNK_MAX`]), tasks
//!   at once ([`Job::open_max`]), and the whole job ([`Job::deadline`]).
//!
//! The space is behind [`TaskSpace`], four methods that `cpe::Space` implements.
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
mod ledger;
mod master;
mod port;
mod wire;
mod worker;

pub use job::{CHUNK_MAX, ELEMENTS_MAX, Job, JobError, OnError};
pub use master::{Arrival, each_elem};
pub use port::TaskSpace;
pub use wire::Outcome;
pub use worker::Worker;
