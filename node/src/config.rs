//! The node's configuration: file, environment and flags, in that order of weakness.
//!
//! One table (`settings`) says for each setting its key in the file, its environment variable,
//! its flag, its form and its default. Everything else follows from the table: what a file may
//! hold, what `cpe config show` prints, and what `configs/node.toml` must mention.

mod layers;
mod settings;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub(crate) use layers::{Flag, Settings};
pub(crate) use settings::variables;
pub(crate) use shape::{check_multiaddr, parse_pair, parse_span};

use crate::exit::Fault;

/// What a node runs with. Fields are the settings of the table, section by section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The node itself.
    pub(crate) node: NodeConfig,
    /// Its mesh.
    pub(crate) mesh: MeshConfig,
    /// Its HTTP API.
    pub(crate) api: ApiConfig,
    /// Its `NetWorkSpaces` gateway.
    pub(crate) nws: NwsConfig,
    /// What it does for forests.
    pub(crate) forest: ForestConfig,
    /// How its actors are spread.
    pub(crate) actors: ActorsConfig,
    /// Its log.
    pub(crate) commands: CommandsConfig,
    pub(crate) log: LogConfig,
}

/// Section `[node]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeConfig {
    /// What people call it; empty: derived from its peer id.
    pub(crate) name: String,
    /// Folder of everything it keeps; none for an ephemeral node that was given none.
    #[serde(deserialize_with = "folder")]
    pub(crate) data: Option<PathBuf>,
    /// Keep everything in memory.
    pub(crate) ephemeral: bool,
    /// What it says of itself.
    pub(crate) capabilities: BTreeMap<String, String>,
    /// Programs that actors may run here.
    pub(crate) commands: Vec<String>,
    /// How long an orderly stop may take.
    #[serde(deserialize_with = "span")]
    pub(crate) stop_within: Duration,
}

/// Section `[mesh]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MeshConfig {
    /// Multiaddrs to listen on.
    pub(crate) listen: Vec<String>,
    /// Multiaddrs of members to join by.
    pub(crate) bootstrap: Vec<String>,
    /// File of the mesh key; empty: the one in the data folder, or a new mesh.
    pub(crate) key: PathBuf,
    /// Look for members on the local network.
    pub(crate) mdns: bool,
    /// Whether it may be home of parts of the space.
    pub(crate) homes: bool,
    /// Shards of a mesh this node founds.
    pub(crate) shards: u16,
    /// Members of each home group of a mesh this node founds.
    pub(crate) group_size: u8,
}

/// Section `[api]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiConfig {
    /// Address and port to listen on.
    pub(crate) listen: String,
    /// Names besides loopback's that requests may call this node by.
    pub(crate) hosts: Vec<String>,
    /// Bytes of a request's body at most.
    pub(crate) body_bytes_max: usize,
}

/// Section `[nws]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NwsConfig {
    /// Address and port to listen on, or `off`.
    pub(crate) listen: String,
    /// Nobody asked for that address.
    #[serde(skip)]
    pub(crate) is_default: bool,
}

/// Section `[forest]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForestConfig {
    /// Groves it grows at once for whoever asks in the mesh.
    pub(crate) workers: u16,
    /// How long nobody may wait for votes before what is left of them is removed.
    #[serde(deserialize_with = "span")]
    pub(crate) orphaned: Duration,
}

/// Section `[actors]`: how durable actors are handed to a node that has come, and how many agents
/// have rules of strangers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActorsConfig {
    /// Whether they are.
    pub(crate) rebalance: bool,
    /// At the same time, at most.
    pub(crate) moves_at_once: u16,
    /// In a second, at most.
    pub(crate) moves_per_second: u16,
    /// Agents whose rules run in processes of their own, at most.
    pub(crate) rules_processes: u16,
}

impl ActorsConfig {
    /// As the library takes it.
    pub(crate) fn rebalance(&self) -> Option<cpe::Rebalance> {
        self.rebalance.then(|| cpe::Rebalance {
            at_once: self.moves_at_once.into(),
            per_second: self.moves_per_second.into(),
        })
    }
}

/// Section `[commands]`: how programs are run for `cpe map`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandsConfig {
    /// Programs at once at most; not more than there are cores.
    pub(crate) slots: u16,
    /// Below which jobs have their folders; empty: in the node's own, or a temporary one.
    pub(crate) folder: PathBuf,
    /// Who runs them, a name or `UID:GID`; empty: whoever runs the node.
    pub(crate) user: String,
    /// How long one may take.
    #[serde(deserialize_with = "span")]
    pub(crate) within: Duration,
    /// Bytes of memory one may map; 0: no bound.
    pub(crate) memory: u64,
    /// Bytes one may write to standard output, and as many to standard error.
    pub(crate) output: usize,
    /// How long nobody may be at a job before it counts as left by whoever asked.
    #[serde(deserialize_with = "span")]
    pub(crate) orphaned: Duration,
    /// Whether functions of rules are called for whoever asks.
    pub(crate) functions: bool,
}

/// Section `[log]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// Which events are written.
    pub(crate) filter: String,
    /// How.
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people; in colours on a terminal.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Joins the layers.
    ///
    /// # Errors
    /// A usage fault that names the file and line, the variable or the flag, and says what would
    /// be right.
    pub(crate) fn load(file: Option<PathBuf>, flags: Vec<Flag>) -> Result<Self, Fault> {
        Self::from_settings(&Settings::load(
            file,
            &|name| std::env::var_os(name),
            flags,
        )?)
    }

    fn from_settings(settings: &Settings) -> Result<Self, Fault> {
        // The table checked every value: what fails here is a table at odds with these structs,
        // which a test rules out.
        let mut config: Self = serde_json::from_value(settings.nested()).map_err(|error| {
            Fault::failed(format!("the settings table is inconsistent: {error}"))
        })?;
        config.nws.is_default = settings.is_default("nws.listen");
        // Nobody asked for a folder: an ephemeral node leaves none behind.
        if config.node.ephemeral && settings.is_default("node.data") {
            config.node.data = None;
        }
        Ok(config)
    }
}

fn folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    PathBuf::deserialize(deserializer).map(Some)
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_span(&text).map_err(serde::de::Error::custom)
}
