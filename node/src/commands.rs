//! What the commands do. Each module has its arguments and a `run`.

pub(crate) mod actor;
pub(crate) mod apply;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod forest;
pub(crate) mod map;
pub(crate) mod mesh;
pub(crate) mod node;
pub(crate) mod rules;
pub(crate) mod sim;
pub(crate) mod space;

use crate::cli::{Cli, Command};
use crate::exit::{About, Fault, Status};
use crate::{demo, environment, logging, output};

/// Does what the command line says.
///
/// # Errors
/// Why it was not done.
pub(crate) fn run(cli: Cli) -> Result<Status, Fault> {
    let Cli { common, command } = cli;
    // The node sets up its own log: its configuration has a say in it.
    if !matches!(command, Command::Node(_)) {
        logging::start_for_command(common.log.as_deref())?;
        for complaint in environment::complaints() {
            output::warn(format_args!("warning: {complaint}"));
        }
    }
    match command {
        Command::Node(args) => block_on_all_cores(node::run(*args, common)),
        Command::Mesh(command) => block_on(mesh::run(command, common)),
        Command::Space(command) => block_on(space::run(command, common)),
        Command::Actor(command) => block_on(actor::run(command, common)),
        Command::Apply(args) => block_on(apply::run(args, common)),
        Command::Rules(command) => rules::run(command, &common),
        Command::Forest(command) => block_on(forest::run(command, common)),
        Command::Map(args) => block_on(map::run(*args, common)),
        Command::Sim(command) => sim::run(command, &common),
        Command::Demo(args) => block_on_all_cores(demo::run(args, common)),
        Command::Config(command) => config::run(command, &common),
        Command::Completions(args) => completions::run(&args),
    }
}

/// One thread is enough for a client.
fn block_on(job: impl Future<Output = Result<Status, Fault>>) -> Result<Status, Fault> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .about("cannot start the runtime")?
        .block_on(job)
}

fn block_on_all_cores(job: impl Future<Output = Result<Status, Fault>>) -> Result<Status, Fault> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder
        .enable_all()
        .build()
        .about("cannot start the runtime")?;
    let ended = runtime.block_on(job);
    // What still blocks a thread must not keep the process: everything to keep is on disk by now.
    runtime.shutdown_background();
    ended
}
