//! The table of settings.

use std::time::Duration;

use serde_json::{Value, json};

use super::shape::Shape;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Section and name in the file, joined by a dot.
    pub(crate) key: &'static str,
    /// Its environment variable.
    pub(crate) env: &'static str,
    /// Which values it takes.
    pub(crate) shape: Shape,
    /// What it is when nobody says.
    pub(crate) default: fn() -> Value,
}

/// A node's name, as its card takes it. Bytes.
const NODE_NAME_BYTES_MAX: usize = 64;

/// Names of other things: hosts, capabilities. Bytes.
const NAME_BYTES_MAX: usize = 256;

/// A program that actors may run: it must fit into a capability with what stands before it. Bytes.
const PROGRAM_BYTES_MAX: usize = 200;

/// Largest request body that may be configured: room for a few values of the largest size, and
/// little enough that many requests at once do not exhaust a small machine. Bytes.
const BODY_BYTES_CEILING: u64 = 64 << 20;

/// Most that a program of `cpe map` may be allowed to write: output and errors of one must fit in a
/// tuple of 4 MiB as JSON. Bytes.
const COMMAND_OUTPUT_CEILING: u64 = 1 << 20;

/// All settings, in the order of `configs/node.toml`.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        key: "node.name",
        env: "CPE_NODE_NAME",
        shape: Shape::Text {
            bytes_max: NODE_NAME_BYTES_MAX,
        },
        default: || json!(""),
    },
    Setting {
        key: "node.data",
        env: "CPE_NODE_DATA",
        shape: Shape::Path,
        default: || json!("cpe-data"),
    },
    Setting {
        key: "node.ephemeral",
        env: "CPE_NODE_EPHEMERAL",
        shape: Shape::Flag,
        default: || json!(false),
    },
    Setting {
        key: "node.capabilities",
        env: "CPE_NODE_CAPABILITIES",
        shape: Shape::Pairs {
            bytes_max: NAME_BYTES_MAX,
        },
        default: || json!({}),
    },
    Setting {
        key: "node.commands",
        env: "CPE_NODE_COMMANDS",
        shape: Shape::Names {
            bytes_max: PROGRAM_BYTES_MAX,
        },
        default: || json!([]),
    },
    Setting {
        key: "node.stop_within",
        env: "CPE_NODE_STOP_WITHIN",
        shape: Shape::Span {
            low: Duration::from_millis(100),
            high: Duration::from_secs(600),
        },
        default: || json!("10s"),
    },
    Setting {
        key: "mesh.listen",
        env: "CPE_MESH_LISTEN",
        shape: Shape::Multiaddrs,
        default: || json!(["/ip4/0.0.0.0/tcp/4710", "/ip4/0.0.0.0/udp/4710/quic-v1"]),
    },
    Setting {
        key: "mesh.bootstrap",
        env: "CPE_MESH_BOOTSTRAP",
        shape: Shape::Multiaddrs,
        default: || json!([]),
    },
    Setting {
        key: "mesh.key",
        env: "CPE_MESH_KEY",
        shape: Shape::Path,
        default: || json!(""),
    },
    Setting {
        key: "mesh.mdns",
        env: "CPE_MESH_MDNS",
        shape: Shape::Flag,
        default: || json!(false),
    },
    Setting {
        key: "mesh.homes",
        env: "CPE_MESH_HOMES",
        shape: Shape::Flag,
        default: || json!(true),
    },
    Setting {
        key: "mesh.shards",
        env: "CPE_MESH_SHARDS",
        shape: Shape::Count {
            low: 1,
            high: 4096,
            unit: "shards",
        },
        default: || json!(256),
    },
    Setting {
        key: "mesh.group_size",
        env: "CPE_MESH_GROUP_SIZE",
        shape: Shape::Count {
            low: 1,
            high: 5,
            unit: "members, 1, 3 or 5",
        },
        default: || json!(3),
    },
    Setting {
        key: "api.listen",
        env: "CPE_API",
        shape: Shape::Socket,
        default: || json!(crate::cli::API_DEFAULT),
    },
    Setting {
        key: "api.hosts",
        env: "CPE_API_HOSTS",
        shape: Shape::Names {
            bytes_max: NAME_BYTES_MAX,
        },
        default: || json!([]),
    },
    Setting {
        key: "api.body_bytes_max",
        env: "CPE_API_BODY_BYTES_MAX",
        shape: Shape::Size {
            low: 4096,
            high: BODY_BYTES_CEILING,
        },
        default: || json!(8 << 20),
    },
    Setting {
        key: "nws.listen",
        env: "CPE_NWS",
        shape: Shape::SocketOrOff,
        default: || json!(crate::cli::NWS_DEFAULT),
    },
    Setting {
        key: "forest.workers",
        env: "CPE_FOREST_WORKERS",
        shape: Shape::Count {
            low: 0,
            high: 256,
            unit: "workers",
        },
        default: || json!(256),
    },
    Setting {
        key: "forest.orphaned",
        env: "CPE_FOREST_ORPHANED",
        shape: Shape::Span {
            low: Duration::from_secs(3),
            high: Duration::from_secs(30 * 24 * 3600),
        },
        default: || json!("2m"),
    },
    Setting {
        key: "actors.rebalance",
        env: "CPE_ACTORS_REBALANCE",
        shape: Shape::Flag,
        default: || json!(true),
    },
    Setting {
        key: "actors.moves_at_once",
        env: "CPE_ACTORS_MOVES_AT_ONCE",
        shape: Shape::Count {
            low: 1,
            high: 1024,
            unit: "actors",
        },
        default: || json!(8),
    },
    Setting {
        key: "actors.moves_per_second",
        env: "CPE_ACTORS_MOVES_PER_SECOND",
        shape: Shape::Count {
            low: 1,
            high: 10_000,
            unit: "actors",
        },
        default: || json!(50),
    },
    Setting {
        key: "actors.rules_processes",
        env: "CPE_ACTORS_RULES_PROCESSES",
        shape: Shape::Count {
            low: 1,
            high: 4096,
            unit: "processes",
        },
        default: || json!(64),
    },
    Setting {
        key: "commands.slots",
        env: "CPE_COMMANDS_SLOTS",
        shape: Shape::Count {
            low: 1,
            high: 1024,
            unit: "programs",
        },
        default: || json!(1024),
    },
    Setting {
        key: "commands.folder",
        env: "CPE_COMMANDS_FOLDER",
        shape: Shape::Path,
        default: || json!(""),
    },
    Setting {
        key: "commands.user",
        env: "CPE_COMMANDS_USER",
        shape: Shape::Text {
            bytes_max: NAME_BYTES_MAX,
        },
        default: || json!(""),
    },
    Setting {
        key: "commands.within",
        env: "CPE_COMMANDS_WITHIN",
        shape: Shape::Span {
            low: Duration::from_millis(100),
            high: Duration::from_secs(30 * 24 * 3600),
        },
        default: || json!("1h"),
    },
    Setting {
        key: "commands.memory",
        env: "CPE_COMMANDS_MEMORY",
        shape: Shape::Size {
            low: 0,
            high: 1 << 50,
        },
        default: || json!(0),
    },
    Setting {
        key: "commands.output",
        env: "CPE_COMMANDS_OUTPUT",
        shape: Shape::Size {
            low: 1 << 10,
            high: COMMAND_OUTPUT_CEILING,
        },
        default: || json!(1 << 20),
    },
    Setting {
        key: "commands.orphaned",
        env: "CPE_COMMANDS_ORPHANED",
        shape: Shape::Span {
            low: Duration::from_secs(3),
            high: Duration::from_secs(30 * 24 * 3600),
        },
        default: || json!("15m"),
    },
    Setting {
        key: "commands.functions",
        env: "CPE_COMMANDS_FUNCTIONS",
        shape: Shape::Flag,
        default: || json!(true),
    },
    Setting {
        key: "log.filter",
        env: "CPE_LOG",
        shape: Shape::Filter,
        default: || json!("info"),
    },
    Setting {
        key: "log.format",
        env: "CPE_LOG_FORMAT",
        shape: Shape::Choice(&["pretty", "json"]),
        default: || json!("pretty"),
    },
];

/// The environment variables of all settings.
pub(crate) fn variables() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.env)
}

/// The setting called `key`.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The known key a person most likely meant by `wrong`, if any is near.
pub(crate) fn nearest(wrong: &str) -> Option<&'static str> {
    // A right name in the wrong section counts as near, hence the second comparison.
    let leaf = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let distance = |key: &str| {
        strsim::damerau_levenshtein(key, wrong)
            .min(1 + strsim::damerau_levenshtein(&leaf(key), &leaf(wrong)))
    };
    let near = SETTINGS
        .iter()
        .map(|setting| (distance(setting.key), setting.key))
        .min()?;
    (near.0 <= 1 + wrong.len() / 3).then_some(near.1)
}
