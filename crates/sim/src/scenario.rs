//! Scenario files: how many nodes, what they do, what happens to them.

use std::time::Duration;

use cpe_space::Mode;
use serde::{Deserialize, Serialize};

use crate::faults::Faults;

/// Nodes a scenario may have.
pub const MAX_NODES: usize = 1_000;

/// Seconds of virtual time a phase may last.
pub const MAX_SECONDS: f64 = 86_400.0;

/// What the nodes do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Requests per second, over all nodes.
    pub rate: f64,
    /// Share of the requests that store.
    pub stores: f64,
    /// Share that take, waiting for a tuple.
    pub takes: f64,
    /// Share that take without waiting.
    pub try_takes: f64,
    /// Share that take by a template that names no variable.
    pub scans: f64,
    /// Share that take under a lease; what the holder does then is drawn.
    pub leases: f64,
    /// Share that read. What is left of 1 reads too.
    pub finds: f64,
    /// Probability that the asker goes away before the answer, or does not receive it.
    pub abandon: f64,
    /// Share of the stores whose value is large: its body lies apart from the tuple.
    pub bodies: f64,
    /// How many variables the requests are spread over.
    pub variables: u32,
    /// Modes of the variables, in turn; without any, all are fifo.
    pub modes: Vec<Mode>,
    /// How long a request may take, in milliseconds.
    pub deadline_ms: f64,
    /// The lease of nodes that host actors, in milliseconds; with 0 none hosts any.
    pub node_lease_ms: f64,
    /// How many named actors there are, which nodes that host run.
    pub actors: u32,
    /// Users know an instance of the workspace: stores, takes and reads of a variable are bound to
    /// it, and each read is decided.
    pub bound: bool,
    /// There is a user who stores, takes and deletes in a workspace of its own.
    pub deletions: bool,
}

impl Workload {
    /// The mode of a variable, by its number.
    #[must_use]
    pub fn mode(&self, variable: u32) -> Mode {
        let turn = variable as usize % self.modes.len().max(1);
        self.modes.get(turn).copied().unwrap_or_default()
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let shares = [
            ("workload.stores", self.stores),
            ("workload.takes", self.takes),
            ("workload.try_takes", self.try_takes),
            ("workload.scans", self.scans),
            ("workload.leases", self.leases),
            ("workload.finds", self.finds),
            ("workload.abandon", self.abandon),
            ("workload.bodies", self.bodies),
        ];
        for (key, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return bounds(key, value, "a probability, 0 to 1");
            }
        }
        for (key, value) in [
            ("workload.rate", self.rate),
            ("workload.deadline_ms", self.deadline_ms),
            ("workload.node_lease_ms", self.node_lease_ms),
        ] {
            if !(0.0..=1.0e6).contains(&value) {
                return bounds(key, value, "0 to 1,000,000");
            }
        }
        if self.variables == 0 {
            return bounds("workload.variables", 0, "at least 1");
        }
        Ok(())
    }
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            rate: 40.0,
            stores: 0.45,
            takes: 0.25,
            try_takes: 0.15,
            scans: 0.05,
            leases: 0.05,
            finds: 0.05,
            abandon: 0.05,
            bodies: 0.0,
            variables: 5,
            modes: Vec::new(),
            deadline_ms: 2_000.0,
            node_lease_ms: 0.0,
            actors: 0,
            bound: false,
            deletions: false,
        }
    }
}

/// A simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it shows, in a sentence.
    #[serde(default)]
    pub about: String,
    /// Nodes; the first founds the mesh.
    pub nodes: usize,
    /// Shards of the mesh.
    #[serde(default = "default_shards")]
    pub shards: u16,
    /// Volatile shards beside them. With any, every other variable is kept in a volatile workspace.
    #[serde(default)]
    pub volatile: u16,
    /// Members a home group should have: 1, 3 or 5.
    #[serde(default = "default_homes")]
    pub homes: usize,
    /// How long a node has to be there before it joins a group that is too small, in milliseconds.
    #[serde(default = "default_eligible")]
    pub eligible_ms: f64,
    /// How long a member has to be gone before another takes its place, in milliseconds.
    #[serde(default = "default_replace")]
    pub replace_ms: f64,
    /// How long after each other the nodes start, in milliseconds.
    #[serde(default = "default_start_every")]
    pub start_every_ms: f64,
    /// Virtual seconds of work under faults.
    pub seconds: f64,
    /// Virtual seconds within which, after the faults have ended and with only as many nodes up as
    /// leave every home group a majority, a store and a take on every shard must succeed through
    /// every one of them.
    #[serde(default = "default_progress")]
    pub progress_seconds: f64,
    /// Virtual seconds granted after that, with all nodes up, until all is settled.
    #[serde(default = "default_settle")]
    pub settle_seconds: f64,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Faults,
    /// What the nodes do.
    #[serde(default)]
    pub workload: Workload,
}

fn default_shards() -> u16 {
    16
}

fn default_homes() -> usize {
    3
}

fn default_eligible() -> f64 {
    3_000.0
}

fn default_replace() -> f64 {
    30_000.0
}

fn default_start_every() -> f64 {
    20.0
}

fn default_progress() -> f64 {
    20.0
}

fn default_settle() -> f64 {
    60.0
}

/// A scenario that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The text is not TOML, or has a key or type that scenarios have not.
    #[error("{0}")]
    Syntax(String),
    /// A value is out of bounds.
    #[error("`{key}` is {value}: use {bounds}")]
    Bounds {
        /// Which key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        bounds: &'static str,
    },
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// When it does not parse, has unknown keys, or a value is out of bounds.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self =
            toml::from_str(text).map_err(|error| ScenarioError::Syntax(error.to_string()))?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        if self.nodes == 0 || self.nodes > MAX_NODES {
            return bounds("nodes", self.nodes, "1 to 1000");
        }
        if self.shards == 0 || self.shards > cpe_mesh::Genesis::MAX_SHARDS {
            return bounds("shards", self.shards, "1 to 4096");
        }
        if self.volatile > cpe_mesh::Genesis::MAX_VOLATILE {
            return bounds("volatile", self.volatile, "0 to 1024");
        }
        if ![1, 3, 5].contains(&self.homes) {
            return bounds("homes", self.homes, "1, 3 or 5");
        }
        for (key, value) in [
            ("seconds", self.seconds),
            ("progress_seconds", self.progress_seconds),
            ("settle_seconds", self.settle_seconds),
        ] {
            if !(0.0..=MAX_SECONDS).contains(&value) {
                return bounds(key, value, "0 to 86400 seconds");
            }
        }
        for (key, value) in [
            ("eligible_ms", self.eligible_ms),
            ("replace_ms", self.replace_ms),
            ("start_every_ms", self.start_every_ms),
        ] {
            if !(0.0..=1.0e6).contains(&value) {
                return bounds(key, value, "0 to 1,000,000");
            }
        }
        self.faults.check()?;
        self.workload.check()
    }

    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    pub(crate) fn node_lease(&self) -> Duration {
        Duration::from_secs_f64(self.workload.node_lease_ms / 1_000.0)
    }

    pub(crate) fn start_every(&self) -> Duration {
        Duration::from_secs_f64(self.start_every_ms / 1_000.0)
    }

    pub(crate) fn progress(&self) -> Duration {
        Duration::from_secs_f64(self.progress_seconds)
    }

    pub(crate) fn settle(&self) -> Duration {
        Duration::from_secs_f64(self.settle_seconds)
    }
}

pub(crate) fn bounds(
    key: &'static str,
    value: impl ToString,
    bounds: &'static str,
) -> Result<(), ScenarioError> {
    let value = value.to_string();
    Err(ScenarioError::Bounds { key, value, bounds })
}
