//! Many peers in one process, under virtual time and with faults.
//!
//! A [`World`] runs the same [`Peer`](cpe_mesh::Peer)s a real node runs, messages encoded and
//! decoded, disks as images with a tail that a crash may lose. A [`Scenario`] says how many there
//! are, what they do and what goes wrong; everything is drawn from one seed, so a run can be
//! repeated to the byte. Two phases: work under faults, then calm, in which everything must
//! settle. Throughout and at the end the [`Violation`]s are looked for.
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

mod check;
mod disk;
pub mod history;
mod leases;
mod record;
mod scenario;
mod work;
mod world;

pub use check::{Report, Violation};
pub use scenario::{Faults, MAX_NODES, MAX_SECONDS, Scenario, ScenarioError, Workload};
pub use world::World;
