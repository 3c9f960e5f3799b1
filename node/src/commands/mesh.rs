//! `cpe mesh`: make a mesh, look at its members and homes.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::Common;
use crate::client::{Client, segment};
use crate::config::parse_pair;
use crate::exit::{About, Fault, Status};
use crate::output;

/// Commands of the mesh.
#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// Make a mesh: write its key to DIR/mesh.key, for every node that is to belong to it
    Init {
        /// Folder; made when it is not there
        dir: PathBuf,
    },
    /// Summarise the node asked
    Status,
    /// List the members with their state
    Peers,
    /// List the shards with their homes, and how far the node asked is behind
    Shards,
    /// Hand everything the node asked is home of to others, before it is taken away
    ///
    /// Done means that nothing needs its disk any more. While nobody is there to take over it fails
    /// and the node goes on as before; a node that only stops for a while needs no drain.
    Drain,
    /// Say what the node asked has, until it stops
    ///
    /// Actors are placed by it from then on. A durable actor that needs what its node has no more
    /// moves to a node that has it; while there is none it goes on where it is.
    #[command(subcommand)]
    Capability(CapabilityCommand),
    /// Let a shard whose majority for ever go on with the most advanced survivor
    ///
    /// Use it when the disks of most members of the shard's home group are gone for good. What only
    /// they knew is lost, though it was acknowledged; and should they come back after all, a tuple
    /// may have been taken twice. The shard is marked as forked for ever. Ask one node, once; it is
    /// refused while a majority can be reached.
    Recover {
        /// Yes: the majority is lost for ever
        #[arg(long = "unsafe")]
        knowingly: bool,
        /// Number of the shard, or `all` that have lost their majority
        #[arg(value_name = "SHARD", value_parser = shard)]
        shard: Shard,
    },
}

/// What to say of a node.
#[derive(Debug, Subcommand)]
pub(crate) enum CapabilityCommand {
    /// The node has something now
    Set {
        /// The capability and its value, as gpu=yes
        #[arg(value_name = "K=V", value_parser = parse_pair)]
        pair: (String, String),
    },
    /// The node has something no more
    Remove {
        /// The capability
        #[arg(value_name = "K")]
        key: String,
    },
}

/// A shard's number, or all shards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shard(Option<u16>);

fn shard(text: &str) -> Result<Shard, String> {
    if text == "all" {
        return Ok(Shard(None));
    }
    let number = text.parse().map_err(|_| {
        format!("`{text}` is no shard: use a number, as `cpe mesh shards` shows, or `all`")
    })?;
    Ok(Shard(Some(number)))
}

/// Runs a command of the mesh.
///
/// # Errors
/// Why it was not done.
pub(crate) async fn run(command: MeshCommand, common: Common) -> Result<Status, Fault> {
    let within = common.timeout();
    let client = Client::of(&common);
    match command {
        MeshCommand::Init { dir } => return init(dir, &common).await,
        MeshCommand::Status => status(&client.get("/v1/status", within).await?, &common)?,
        MeshCommand::Peers => peers(&client.get("/v1/peers", within).await?, &common)?,
        MeshCommand::Shards => {
            let all = client.get("/v1/shards", within).await?;
            let peers = client.get("/v1/peers", within).await?;
            shards(&all, &peers, &common)?;
        }
        MeshCommand::Drain => {
            let timeout_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
            let body = json!({"timeout_ms": timeout_ms});
            let done = client.post("/v1/drain", &body, within).await?;
            if common.json {
                output::json(&done)?;
            } else {
                output::line(format_args!(
                    "drained: other nodes are home of everything now"
                ))?;
            }
        }
        MeshCommand::Capability(command) => capability(&client, command, &common).await?,
        MeshCommand::Recover { knowingly, shard } => {
            return recover(&client, knowingly, shard, &common).await;
        }
    }
    Ok(Status::Done)
}

async fn capability(
    client: &Client,
    command: CapabilityCommand,
    common: &Common,
) -> Result<(), Fault> {
    let within = common.timeout();
    let path = |key: &str| format!("/v1/capabilities/{}", segment(key));
    let (done, said) = match command {
        CapabilityCommand::Set { pair: (key, value) } => {
            let body = json!({"value": value});
            let done = client.post(&path(&key), &body, within).await?;
            (done, format!("{key}={value} is said of this node"))
        }
        CapabilityCommand::Remove { key } => {
            let done = client.delete(&path(&key), within).await?;
            (done, format!("{key} is no longer said of this node"))
        }
    };
    if common.json {
        return output::json(&done);
    }
    output::line(format_args!("{said}"))
}

async fn recover(
    client: &Client,
    knowingly: bool,
    Shard(shard): Shard,
    common: &Common,
) -> Result<Status, Fault> {
    if !knowingly {
        return Err(Fault::usage(
            "recovery may lose what was acknowledged, and hand out again what was taken",
        )
        .next("if the majority is lost for ever, say `cpe mesh recover --unsafe SHARD`"));
    }
    let within = common.timeout();
    let timeout_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let body = json!({"shard": shard, "unsafe": true, "timeout_ms": timeout_ms});
    let all = client.post("/v1/recover", &body, within).await?;
    let items = all.as_array().map(Vec::as_slice).unwrap_or_default();
    let refused = |item: &Value| item.get("refused").is_some_and(|why| !why.is_null());
    if common.json {
        output::json(&all)?;
    } else {
        let columns = ["shard", "node", "epoch", "index", "refused"];
        output::table(
            &columns,
            output::rows(&all, &columns),
            "no shard has lost its majority",
        )?;
    }
    Ok(if items.iter().any(refused) {
        Status::Failed
    } else {
        Status::Done
    })
}

async fn init(dir: PathBuf, common: &Common) -> Result<Status, Fault> {
    let path = dir.join("mesh.key");
    let shown = path.display().to_string();
    let make = tokio::task::spawn_blocking(move || -> Result<String, Fault> {
        std::fs::create_dir_all(&dir).about(format!("cannot make {}", dir.display()))?;
        if path.exists() {
            return Err(
                Fault::failed(format!("{} is there already", path.display()))
                    .next("a mesh keeps its key: choose another folder for another mesh"),
            );
        }
        let key = cpe::MeshKey::generate();
        key.save(&path)
            .about(format!("cannot write {}", path.display()))?;
        Ok(key.mesh_id().to_string())
    });
    let mesh = make.await.about("cannot make the key")??;
    if common.json {
        output::json(&json!({"key": shown, "mesh": mesh}))?;
    } else {
        output::line(format_args!("wrote {shown}, the key of mesh {mesh}"))?;
        output::line(format_args!(
            "Whoever has this file can join. Copy it to each machine, then"
        ))?;
        output::line(format_args!("  cpe node --mesh-key {shown}"))?;
        output::line(format_args!(
            "on the first, and on the others, with an address that the first prints,"
        ))?;
        output::line(format_args!(
            "  cpe node --mesh-key {shown} --bootstrap ADDRESS"
        ))?;
    }
    Ok(Status::Done)
}

fn status(status: &Value, common: &Common) -> Result<(), Fault> {
    if common.json {
        return output::json(status);
    }
    let Some(fields) = status.as_object() else {
        return output::json(status);
    };
    let rows = fields
        .iter()
        .filter(|(name, _)| *name != "counters")
        .map(|(name, value)| vec![name.clone(), output::plain(value)]);
    output::table(&["about", "value"], rows.collect(), "")
}

fn peers(peers: &Value, common: &Common) -> Result<(), Fault> {
    if common.json {
        return output::json(peers);
    }
    let items = peers.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |peer: &Value, field: &str| peer.get(field).map(output::plain).unwrap_or_default();
    let rows = items.iter().map(|peer| {
        let link = if peer.get("linked") == Some(&Value::Bool(true)) {
            "up"
        } else {
            "-"
        };
        vec![
            text(peer, "name"),
            text(peer, "node"),
            text(peer, "state"),
            link.to_owned(),
            text(peer, "peer"),
        ]
    });
    output::table(
        &["name", "node", "state", "link", "peer"],
        rows.collect(),
        "no members",
    )
}

fn shards(shards: &Value, peers: &Value, common: &Common) -> Result<(), Fault> {
    if common.json {
        return output::json(shards);
    }
    let items = shards.as_array().map(Vec::as_slice).unwrap_or_default();
    let number = |shard: &Value, field: &str| shard.get(field).and_then(Value::as_u64).unwrap_or(0);
    let rows = items.iter().map(|shard| {
        let homes = shard
            .get("members")
            .and_then(Value::as_array)
            .map(Vec::as_slice);
        let homes = homes.unwrap_or_default().iter();
        let leader = shard.get("leader").filter(|leader| !leader.is_null());
        let homes: Vec<_> = homes
            .filter_map(|member| member.get("node"))
            .map(|node| {
                let mark = if Some(node) == leader { "*" } else { "" };
                format!("{}{mark}", name_of(node, peers))
            })
            .collect();
        let forked = match shard.get("forked") {
            Some(Value::Bool(true)) => " forked",
            _ => "",
        };
        let lag = number(shard, "decided").saturating_sub(number(shard, "applied"));
        vec![
            number(shard, "shard").to_string(),
            kind(shard),
            homes.join(" "),
            format!("{}{forked}", number(shard, "epoch")),
            number(shard, "applied").to_string(),
            lag.to_string(),
            number(shard, "tuples").to_string(),
        ]
    });
    let head = [
        "shard",
        "kept",
        "homes, * leads",
        "epoch",
        "applied",
        "lag",
        "tuples",
    ];
    output::table(&head, rows.collect(), "no shard was written to yet")
}

/// Where a shard is kept, and the number of the generation of a volatile one.
fn kind(shard: &Value) -> String {
    match shard.get("generation").and_then(Value::as_u64) {
        None => "disk".to_owned(),
        Some(generation) => format!("memory #{generation}"),
    }
}

/// The name of a node, or its id where the members do not tell.
fn name_of(node: &Value, peers: &Value) -> String {
    let peers = peers.as_array().map(Vec::as_slice).unwrap_or_default();
    let known = peers.iter().find(|peer| peer.get("node") == Some(node));
    let name = known.and_then(|peer| peer.get("name")).unwrap_or(node);
    output::plain(name)
}
