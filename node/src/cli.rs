//! The command line: what a user may type. What each command does is in `commands`.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    actor, apply, completions, config, forest, map, mesh, node, rules, sim, space,
};
use crate::config::parse_span;
use crate::demo;

/// Where a node's HTTP API listens, and where commands look for it, when nobody says.
pub(crate) const API_DEFAULT: &str = "127.0.0.1:8766";

/// Where a node's `NetWorkSpaces` gateway listens when nobody says: that server's own port.
pub(crate) const NWS_DEFAULT: &str = "127.0.0.1:8765";

/// How long a command waits when nobody says.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a command may be told to wait: also the bound of the HTTP API.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The Crowd Programming Engine: agents on many machines that share one tuple space.
///
/// Values are JSON; a bare word is a string. A template is a JSON array in which a value matches
/// itself, {"?":"int"} any value of a type, {"?":"any"} anything, {">=":3,"<":9} a range and
/// {"prefix":"a"} text that begins so.
#[derive(Debug, Parser)]
#[command(
    name = "cpe",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 a -try form found nothing, \
                  4 unavailable or timed out."
)]
pub(crate) struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Answer in JSON: one document, or one a line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The node to talk to; for `cpe node`, where its API listens [env: CPE_API] [default:
    /// 127.0.0.1:8766]
    #[arg(long, global = true, value_name = "ADDR", value_parser = host_and_port)]
    pub(crate) api: Option<String>,

    /// How long to wait, as 500ms, 10s or 2m [default: 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,

    /// Which log events to write to standard error, as `debug` or `cpe_mesh=trace,info`
    /// [env: CPE_LOG] [default: warn; info for `cpe node`]
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

impl Common {
    /// How long to wait.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node until SIGTERM or SIGINT
    Node(Box<node::NodeArgs>),
    /// Make a mesh and look at its members
    #[command(subcommand)]
    Mesh(mesh::MeshCommand),
    /// Store, read and take values of the shared tuple space
    #[command(subcommand)]
    Space(space::SpaceCommand),
    /// Start actors and talk to them, wherever they live
    #[command(subcommand)]
    Actor(actor::ActorCommand),
    /// Have the mesh run the actors of a crowd file: start, change and stop what differs
    Apply(apply::ApplyArgs),
    /// Run and check CLIPS rules on this machine
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Train and use random forests
    #[command(subcommand)]
    Forest(forest::ForestCommand),
    /// Run a command for each line of standard input, on any node that allows its program
    Map(Box<map::MapArgs>),
    /// Run simulations of meshes with faults in virtual time
    #[command(subcommand)]
    Sim(sim::SimCommand),
    /// The main job on this machine: several nodes, real data, a report
    Demo(demo::DemoArgs),
    /// Look at a node's configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Write a completion script for a shell to standard output
    Completions(completions::CompletionsArgs),
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_span(text)?;
    if timeout > TIMEOUT_MAX {
        return Err(format!("{text} is too long: at most 24h"));
    }
    Ok(timeout)
}

/// An address as `HOST:PORT`, which may be written as the URL that a node prints.
fn host_and_port(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.trim_end_matches('/');
    let right = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
    if address.rsplit_once(':').is_some_and(right) {
        Ok(address.to_owned())
    } else {
        Err(format!(
            "`{text}` is no address: write it as HOST:PORT, as {API_DEFAULT}"
        ))
    }
}
