//! Many peers in one process, under virtual time and with faults.
//!
//! A [`World`] runs the same [`Peer`](cpe_mesh::Peer)s a real node runs, messages encoded and
//! decoded, disks as images with a tail that a crash may lose. A [`Scenario`] says how many there
//! are, what they do and what goes wrong ([`Faults`]); everything is drawn from one seed, so a run
//! can be repeated to the byte. First work under faults, as the [`Schedule`] has them; then, with a
//! majority of every home group up and no faults, stores and takes must succeed in time; then all
//! nodes are back and everything must settle. Throughout and at the end the [`Violation`]s are
//! looked for. Of a schedule with which one is found, [`shrink`] keeps what suffices.
//!
//! # Example
//! ```
//! use cpe_sim::{Scenario, World};
//!
//! let scenario = Scenario::parse(
//!     r#"
//!     name = "three nodes, a bad network"
//!     nodes = 3
//!     seconds = 5.0
//!     [faults]
//!     loss = 0.1
//!     duplicate = 0.05
//!     "#,
//! )?;
//! let report = World::new(scenario, 7).run().map_err(|(violation, _)| violation)?;
//! assert!(report.taken > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod actors;
mod bodies;
mod bound;
mod check;
mod clock;
mod deletions;
mod disk;
mod effects;
mod faults;
pub mod history;
mod hosts;
mod leases;
mod links;
mod migrate;
mod nodes;
mod plain;
mod posts;
mod prefix;
mod progress;
mod queue;
mod reads;
mod record;
#[cfg(test)]
mod recover;
mod release;
mod scenario;
mod schedule;
mod sendon;
mod settle;
mod shrink;
mod spread;
mod swarm;
mod takes;
mod trace;
mod volatile;
mod watches;
mod work;
mod world;

pub use check::{Report, Violation};
pub use faults::{DRIFT_MAX, Faults};
pub use queue::EventQueue;
pub use scenario::{MAX_NODES, MAX_SECONDS, Scenario, ScenarioError, Workload};
pub use schedule::{Fault, MAX_FAULTS, Planned, Schedule};
pub use shrink::{Shrunk, shrink, shrink_by};
pub use swarm::{Profile, swarm};
pub use world::World;
