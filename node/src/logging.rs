//! The log: structured events on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::config::{LogConfig, LogFormat};
use crate::exit::Fault;

/// Starts the log of a node, as configured.
///
/// # Errors
/// When the filter cannot be read.
pub(crate) fn start(config: &LogConfig) -> Result<(), Fault> {
    install(&config.filter, config.format == LogFormat::Json)
}

/// Starts the log of any other command: warnings, unless `--log` or `CPE_LOG` says otherwise.
///
/// # Errors
/// When the filter cannot be read.
pub(crate) fn start_for_command(flag: Option<&str>) -> Result<(), Fault> {
    let env = std::env::var("CPE_LOG").ok();
    install(flag.or(env.as_deref()).unwrap_or("warn"), false)
}

fn install(filter: &str, json: bool) -> Result<(), Fault> {
    let filter = EnvFilter::try_new(quiet(filter))
        .map_err(|error| Fault::usage(format!("`{filter}` is no log filter: {error}")))?;
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_timer(SystemTime);
    // A second start can only come from a test in this process; the first one stays.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    Ok(())
}

/// The filter without a warning of libp2p's that means nothing to people: each node that is alone,
/// as every founder is at first, is told that Kademlia has nobody to ask. Who names that part of
/// the program gets what was asked for.
fn quiet(filter: &str) -> String {
    if filter.contains("libp2p_kad") {
        return filter.to_owned();
    }
    // What comes first counts least, but a longer name counts more than a shorter one.
    format!("libp2p_kad::behaviour=off,{filter}")
}
