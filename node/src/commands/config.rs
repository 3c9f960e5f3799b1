//! `cpe config`: what a node would run with, and whether a file is right.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::node::NodeArgs;
use crate::cli::Common;
use crate::config::Settings;
use crate::exit::{Fault, Status};
use crate::output;

/// Commands of the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print each setting, its value and where that came from; takes the flags of `cpe node`
    Show(Box<NodeArgs>),
    /// Say whether a configuration file is right
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Runs a command of the configuration.
///
/// # Errors
/// What is wrong with the configuration.
pub(crate) fn run(command: ConfigCommand, common: &Common) -> Result<Status, Fault> {
    match command {
        ConfigCommand::Show(args) => {
            let file = args.config.clone();
            let env = |name: &str| std::env::var_os(name);
            show(&Settings::load(file, &env, args.flags(common)?)?, common)
        }
        ConfigCommand::Check { file } => {
            // Nothing but the file: the environment of whoever checks it is not the node's.
            Settings::load(Some(file.clone()), &|_| None, Vec::new())?;
            if common.json {
                output::json(&json!({"ok": true, "file": file}))?;
            } else {
                output::line(format_args!("{} is right", file.display()))?;
            }
            Ok(Status::Done)
        }
    }
}

fn show(settings: &Settings, common: &Common) -> Result<Status, Fault> {
    if common.json {
        let all: Map<String, Value> = settings
            .iter()
            .map(|(key, value, source)| {
                (
                    key.to_owned(),
                    json!({"value": value, "source": source.to_string()}),
                )
            })
            .collect();
        output::json(&Value::Object(all))?;
        return Ok(Status::Done);
    }
    let rows = settings
        .iter()
        .map(|(key, value, source)| vec![key.to_owned(), value.to_string(), source.to_string()]);
    output::table(&["setting", "value", "from"], rows.collect(), "no settings")?;
    Ok(Status::Done)
}
