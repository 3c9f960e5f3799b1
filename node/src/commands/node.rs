//! `cpe node`: a node from its first breath to its last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use cpe::Node;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::{self, Server};
use crate::cli::Common;
use crate::config::{Config, Flag, check_multiaddr, parse_pair, parse_span};
use crate::exit::{About, Fault, Status};
use crate::forest::model::Models;
use crate::forest::worker::Workers;
use crate::map::function;
use crate::map::host::{self, Terms};
use crate::map::program::Limits;
use crate::map::user::User;
use crate::test_blocks::{self, Following};
use crate::{environment, kinds, logging, nws, output, reaper};

/// Flags of `cpe node`. Each is a setting; the configuration file and the environment are weaker.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Configuration file [env: CPE_CONFIG]
    #[arg(long, value_name = "F")]
    pub(crate) config: Option<PathBuf>,

    /// Folder of everything the node keeps [default: cpe-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,

    /// What people call this node [default: made from its peer id]
    #[arg(long, value_name = "N")]
    name: Option<String>,

    /// Where to listen for other nodes (again for more) [default: port 4710, TCP and QUIC]
    #[arg(long, value_name = "MULTIADDR", value_parser = multiaddr)]
    listen: Vec<String>,

    /// A member of the mesh to join by (again for more)
    #[arg(long, value_name = "MULTIADDR", value_parser = multiaddr)]
    bootstrap: Vec<String>,

    /// Key of the mesh to belong to
    #[arg(long, value_name = "F")]
    mesh_key: Option<String>,

    /// Say of this node that it has something (again for more)
    #[arg(long, value_name = "K=V", value_parser = parse_pair)]
    capability: Vec<(String, String)>,

    /// Let `cpe map` and actors of the kind `command` run this program here (again for more)
    #[arg(long, value_name = "PROGRAM")]
    allow_command: Vec<String>,

    /// Look for members on the local network
    #[arg(long)]
    mdns: bool,

    /// Be home of nothing: use the space, and leave it to other nodes to decide and keep
    #[arg(long)]
    no_homes: bool,

    /// Shards of the mesh, when this node founds it
    #[arg(long, value_name = "COUNT")]
    shards: Option<u16>,

    /// Members of each home group of the mesh, when this node founds it: 1, 3 or 5
    #[arg(long, value_name = "COUNT")]
    group_size: Option<u8>,

    /// Where R, Python and MATLAB programs written for `NetWorkSpaces` connect
    /// [default: 127.0.0.1:8765]
    #[arg(long, value_name = "ADDR|off")]
    nws: Option<String>,

    /// Keep the state in memory. Without --data there is no folder at all and nothing outlives the
    /// node; with --data the folder keeps who it is (identity, certificate) and nothing else
    #[arg(long)]
    ephemeral: bool,

    /// How long an orderly stop may take [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    stop_within: Option<Duration>,

    /// How log lines look
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormatArg>,

    /// For tests of partitions: keep apart from the peers in this file, as it is now and changes
    #[arg(long, value_name = "F", hide = true)]
    test_blocks: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormatArg {
    Pretty,
    Json,
}

impl NodeArgs {
    /// The settings given by flags.
    ///
    /// # Errors
    /// When a capability is given twice.
    pub(crate) fn flags(&self, common: &Common) -> Result<Vec<Flag>, Fault> {
        let mut flags = Vec::new();
        let mut add = |key, flag, value: Option<Value>| {
            flags.extend(value.map(|value| Flag { key, flag, value }));
        };
        let text = |value: &Option<String>| value.as_deref().map(Value::from);
        let list = |items: &[String]| (!items.is_empty()).then(|| json!(items));
        add("node.name", "--name", text(&self.name));
        add("node.data", "--data", text(&self.data));
        add(
            "node.ephemeral",
            "--ephemeral",
            self.ephemeral.then_some(Value::Bool(true)),
        );
        add(
            "node.capabilities",
            "--capability",
            capabilities(&self.capability)?,
        );
        add(
            "node.commands",
            "--allow-command",
            list(&self.allow_command),
        );
        let stop = self
            .stop_within
            .map(|span| humantime::format_duration(span).to_string());
        add("node.stop_within", "--stop-within", stop.map(Value::from));
        add("mesh.listen", "--listen", list(&self.listen));
        add("mesh.bootstrap", "--bootstrap", list(&self.bootstrap));
        add("mesh.key", "--mesh-key", text(&self.mesh_key));
        add(
            "mesh.mdns",
            "--mdns",
            self.mdns.then_some(Value::Bool(true)),
        );
        add(
            "mesh.homes",
            "--no-homes",
            self.no_homes.then_some(Value::Bool(false)),
        );
        add("mesh.shards", "--shards", self.shards.map(Value::from));
        let group_size = self.group_size.map(Value::from);
        add("mesh.group_size", "--group-size", group_size);
        add("api.listen", "--api", text(&common.api));
        add("nws.listen", "--nws", text(&self.nws));
        add("log.filter", "--log", text(&common.log));
        let format = self.log_format.map(|format| match format {
            LogFormatArg::Pretty => "pretty",
            LogFormatArg::Json => "json",
        });
        add("log.format", "--log-format", format.map(Value::from));
        Ok(flags)
    }
}

fn capabilities(pairs: &[(String, String)]) -> Result<Option<Value>, Fault> {
    let mut map = serde_json::Map::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), Value::from(&**value)).is_some() {
            return Err(Fault::usage(format!("--capability {key} is given twice")));
        }
    }
    Ok((!map.is_empty()).then_some(Value::Object(map)))
}

fn multiaddr(text: &str) -> Result<String, String> {
    check_multiaddr(text).map(|()| text.to_owned())
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// When it cannot start, or could not stop in an orderly way.
pub(crate) async fn run(args: NodeArgs, common: Common) -> Result<Status, Fault> {
    let config = Config::load(args.config.clone(), args.flags(&common)?)?;
    logging::start(&config.log)?;
    for complaint in environment::complaints() {
        tracing::warn!("{complaint}");
    }
    // Before anything is started: a signal that comes early must not be missed.
    let mut signals = Signals::new()?;
    // The API's port first: it is the cheapest thing to find taken.
    let server = Server::bind(&config.api.listen).await?;
    let gateway = nws::bind(&config.nws).await?;
    let apart = args.test_blocks.as_deref().map(test_blocks::follow);
    let apart = apart.transpose()?;
    let models = Models::default();
    let node = tokio::select! {
        node = start(&config, apart.as_ref(), models.clone()) => node?,
        () = signals.next() => return Ok(Status::Done),
    };

    let stop = CancellationToken::new();
    // Also without clients of its own, it purges what those of other nodes have left.
    let purges = nws::gateway(node.space(), node.mesh(), node.member());
    let door = gateway
        .as_ref()
        .map(|server| (server.address().to_string(), Arc::clone(&purges)));
    let app = Arc::new(api::Shared {
        nws: door.clone(),
        token: api::token(),
        space: node.space(),
        models,
        actors: node.actors(),
        mesh: node.mesh(),
        about: api::About {
            name: node.name().to_owned(),
            peer: node.peer_id(),
            addresses: node.addresses(),
            version: env!("CARGO_PKG_VERSION"),
        },
        hosts: config.api.hosts.clone(),
        body_bytes_max: config.api.body_bytes_max,
        stop: stop.clone(),
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = usize::from(config.forest.workers).min(cores);
    let (name, orphaned) = (node.name().to_owned(), config.forest.orphaned);
    Workers::start(node.space(), name, workers, orphaned, &stop);
    // Lives as long as the node: programs run in it.
    let _folder = start_commands(&node, &config, cores, &stop)?;
    let api = server.address().to_owned();
    let serving = server.serve(&app);
    let nws = door.as_ref().map(|(address, _)| address.as_str());
    announce(&node, &api, nws, &config, common.json)?;
    let gateway = gateway
        .zip(door)
        .map(|(server, (_, gateway))| server.serve(gateway, stop.clone()));
    let purging = tokio::spawn(cpe_nws::purge(purges, stop.clone()));

    tokio::select! {
        () = signals.next() => {}
        why = node.stopped() => {
            stop.cancel();
            let why = why.unwrap_or_else(|| "for no known reason".to_owned());
            return Err(Fault::failed(format!("the node stopped by itself: {why}")));
        }
    }
    tracing::info!(within = ?config.node.stop_within, "stopping; a second signal stops at once");
    tokio::spawn(async move {
        signals.next().await;
        output::warn(format_args!(
            "stopped at once, without handing anything over"
        ));
        std::process::exit(Status::Failed as i32);
    });
    stop.cancel();
    let orderly = async {
        let _ = serving.await;
        // What its clients own is purged while the node can still say so.
        if let Some(gateway) = gateway {
            let _ = gateway.await;
        }
        let _ = purging.await;
        drop(app);
        node.shutdown(config.node.stop_within).await
    };
    // The node keeps its own deadline; this one only guards against a fault in that.
    let guard = config
        .node
        .stop_within
        .saturating_add(Duration::from_secs(5));
    match tokio::time::timeout(guard, orderly).await {
        Ok(Ok(())) => Ok(Status::Done),
        Ok(Err(error)) => {
            // Everything stored is on disk: the node was told to stop and it does.
            tracing::warn!(%error, "stopped without handing everything over");
            Ok(Status::Done)
        }
        Err(_) => Err(Fault::failed(format!(
            "the node did not stop within {guard:?}"
        ))),
    }
}

/// Lets the node run programs and functions for `cpe map`, if it allows any. What is returned is a
/// folder that is removed when it is dropped, if there is one.
fn start_commands(
    node: &Node,
    config: &Config,
    cores: usize,
    stop: &CancellationToken,
) -> Result<Option<TempDir>, Fault> {
    let own = &config.commands;
    if config.node.commands.is_empty() && !own.functions {
        return Ok(None);
    }
    if !config.node.commands.is_empty()
        && let Err(error) = reaper::start()
    {
        tracing::warn!(%error, "programs may outlive this node if it is killed");
    }
    let mut temporary = None;
    let folder = match (&config.node.data, own.folder.as_os_str().is_empty()) {
        (_, false) => own.folder.clone(),
        (Some(data), true) => data.join("commands"),
        (None, true) => {
            let made = tempfile::tempdir().about("cannot make a folder for commands")?;
            let path = made.path().to_owned();
            temporary = Some(made);
            path
        }
    };
    let folder = std::path::absolute(&folder).about("the folder of commands is not found")?;
    let mut capabilities = config.node.capabilities.clone();
    for program in &config.node.commands {
        capabilities.insert(format!("command:{program}"), "yes".to_owned());
    }
    if own.functions {
        capabilities.insert(function::CAPABILITY.to_owned(), "yes".to_owned());
    }
    let terms = Terms {
        slots: usize::from(own.slots).min(cores).max(1),
        orphaned: own.orphaned,
        limits: Limits {
            within: own.within,
            memory: (own.memory > 0).then_some(own.memory),
            output: own.output,
            user: user_of(&own.user)?,
            folder,
        },
    };
    let name = node.name().to_owned();
    host::start(node.space(), name, capabilities, terms, stop);
    Ok(temporary)
}

/// The user of a setting, which has a name, or `UID:GID`.
fn user_of(text: &str) -> Result<Option<User>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    User::of_setting(text).map(Some).ok_or_else(|| {
        Fault::usage(format!(
            "commands.user: `{text}` is no user of this machine and not UID:GID"
        ))
    })
}

async fn start(config: &Config, apart: Option<&Following>, models: Models) -> Result<Node, Fault> {
    let mut builder = Node::builder()
        .mdns(config.mesh.mdns)
        .homes(config.mesh.homes)
        .shards(config.mesh.shards)
        .group_size(config.mesh.group_size);
    if !config.node.name.is_empty() {
        builder = builder.name(&config.node.name);
    }
    if let Some(folder) = &config.node.data {
        builder = builder.data_dir(folder);
    }
    if config.node.ephemeral {
        builder = builder.ephemeral();
    }
    if !config.mesh.key.as_os_str().is_empty() {
        builder = builder.mesh_key(&config.mesh.key);
    }
    for address in &config.mesh.listen {
        builder = builder.listen(address);
    }
    for address in &config.mesh.bootstrap {
        builder = builder.bootstrap(address);
    }
    if let Some(apart) = apart {
        builder = builder.test_blocks(apart.blocks.clone());
    }
    for (key, value) in &config.node.capabilities {
        builder = builder.capability(key, value);
    }
    if config.commands.functions {
        builder = builder.capability(function::CAPABILITY, "yes");
    }
    builder = builder.rebalance(config.actors.rebalance());
    let processes = kinds::Processes::new(config.actors.rules_processes.into());
    kinds::register(builder, &config.node.commands, models, processes)
        .start()
        .await
        .map_err(|error| {
            let fault = Fault::failed(format!("cannot start the node: {error}"));
            if error.is_listen() {
                fault.next("name another address with --listen; port 0 takes any free one")
            } else {
                fault
            }
        })
}

/// Says that the node is ready: to a person how to go on, to a program where everything is.
fn announce(
    node: &Node,
    api: &str,
    nws: Option<&str>,
    config: &Config,
    json: bool,
) -> Result<(), Fault> {
    let addresses = node.addresses();
    if json {
        return output::json(&json!({
            "ready": true,
            "name": node.name(),
            "peer": node.peer_id(),
            "addresses": addresses,
            "api": api,
            "nws": nws,
        }));
    }
    output::line(format_args!("node {} is ready", node.name()))?;
    output::line(format_args!("  peer    {}", node.peer_id()))?;
    for address in &addresses {
        output::line(format_args!("  listens {address}"))?;
    }
    output::line(format_args!("  api     http://{api}/"))?;
    if let Some(nws) = nws {
        output::line(format_args!("  nws     {nws}"))?;
    }
    if let (Some(key), Some(address)) = (node.mesh_key_path(), reachable(&addresses)) {
        let key = key.display();
        output::line(format_args!(
            "It founded a mesh. To join it from another folder or machine:"
        ))?;
        output::line(format_args!(
            "  cpe node --mesh-key {key} --bootstrap {address}"
        ))?;
        output::line(format_args!(
            "(copy {key} there first; whoever has it can join)"
        ))?;
    } else if config.mesh.bootstrap.is_empty() && !config.mesh.mdns {
        output::line(format_args!(
            "It waits to be joined, or for nodes it met before."
        ))?;
    }
    Ok(())
}

/// The address another machine most likely reaches.
fn reachable(addresses: &[String]) -> Option<&String> {
    addresses
        .iter()
        .find(|address| !address.contains("/127.0.0.1/"))
        .or_else(|| addresses.first())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Fault> {
        let open = |kind| signal(kind).about("cannot listen for signals");
        Ok(Self {
            terminate: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
