//! Rules from strangers, in a process of their own.
//!
//! [`ProcessAgent`] is a [`RuleAgent`](crate::RuleAgent) in another process: deliveries go there
//! through a pipe, effects come back through another. The process is the same program started
//! with other arguments, which calls [`serve`]; it inherits nothing but the two pipes, and gives
//! up what it does not need before it reads the first byte of a rule ([`Confinement`]).
//!
//! When it dies (a bug of CLIPS that rules can reach, a join that explodes, a limit of the system)
//! the delivery it died of is reported with a [`Trip`](crate::Trip), and the agent goes on: a new
//! process is given the last snapshot and the deliveries since. The one it died of is not among
//! them.

mod confine;
#[cfg(any(fuzzing, test))]
pub mod fuzz;
mod host;
mod protocol;
mod serve;

pub use confine::{Confinement, Landlock};
pub use host::{Agent, ProcessAgent, ProcessCommand, ProcessError};
pub use protocol::FRAME_BYTES_MAX;
pub use serve::serve;
