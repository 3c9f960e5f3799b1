//! `cpe actor`: actors anywhere in the mesh, through one node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::space::value;
use crate::cli::Common;
use crate::client::{Client, segment};
use crate::config::parse_pair;
use crate::crowd::{Agent, Crowd};
use crate::exit::{Fault, Status};
use crate::output;

/// Commands of actors.
#[derive(Debug, Subcommand)]
pub(crate) enum ActorCommand {
    /// Start a named actor on a node that suits it
    Spawn {
        /// What it is: echo, counter, rules, forest, command or a kind of your own
        kind: String,
        /// Its name, unique in the mesh
        name: String,
        /// Arguments of its kind
        #[arg(
            long,
            value_name = "JSON",
            default_value = "null",
            allow_negative_numbers = true
        )]
        args: String,
        /// Only on a node with this capability (again for more)
        #[arg(long, value_name = "K=V", value_parser = parse_pair)]
        require: Vec<(String, String)>,
        /// Only on this node: its name, node id or peer id
        #[arg(long, value_name = "N")]
        node: Option<String>,
        /// Rather on the node of this actor, with which it talks most
        #[arg(long, value_name = "NAME", conflicts_with = "node")]
        near: Option<String>,
        /// Let it outlive its node: its state is kept by several nodes, and another goes on with it
        #[arg(long)]
        durable: bool,
    },
    /// Start all actors that a crowd file describes; `cpe apply` also changes and removes
    Crowd {
        /// The file, as configs/crowd.toml
        file: PathBuf,
    },
    /// List the named actors
    List,
    /// Show all actors of all nodes, children below their parents
    Tree {
        /// Only this node: its name, node id or peer id
        #[arg(long, value_name = "N")]
        node: Option<String>,
    },
    /// Show the newest messages that no actor handled
    DeadLetters {
        /// Only this node: its name, node id or peer id
        #[arg(long, value_name = "N")]
        node: Option<String>,
    },
    /// Say where an actor lives
    Where {
        /// The actor
        name: String,
    },
    /// Send a message and do not wait for an answer
    Tell {
        /// The actor
        name: String,
        /// The message: JSON, a bare word is a string
        #[arg(value_name = "MSG", allow_negative_numbers = true)]
        message: String,
    },
    /// Send a message and print the answer
    Ask {
        /// The actor
        name: String,
        /// The message: JSON, a bare word is a string
        #[arg(value_name = "MSG", allow_negative_numbers = true)]
        message: String,
    },
    /// Stop an actor
    Stop {
        /// The actor
        name: String,
    },
    /// Move a durable actor to another node, with what waits for it
    Migrate {
        /// The actor
        name: String,
        /// Where to: a name, node id or peer id
        node: String,
    },
}

/// Runs a command of actors.
///
/// # Errors
/// Why it was not done.
pub(crate) async fn run(command: ActorCommand, common: Common) -> Result<Status, Fault> {
    let client = Client::of(&common);
    let within = common.timeout();
    let at = |name: &str, what: &str| format!("/v1/actors/{}{what}", segment(name));
    let answer = match &command {
        ActorCommand::Spawn {
            kind,
            name,
            args,
            require,
            node,
            near,
            durable,
        } => {
            let require: Map<String, Value> = require
                .iter()
                .map(|(key, value)| (key.clone(), Value::from(&**value)))
                .collect();
            let body = json!({
                "kind": kind,
                "name": name,
                "args": value("--args", args)?,
                "require": require,
                "node": node,
                "near": near,
                "durable": durable,
                "timeout_ms": millis(within),
            });
            client.post("/v1/actors", &body, within).await?
        }
        ActorCommand::Crowd { file } => start(file, &client, within).await?,
        ActorCommand::List => client.get("/v1/actors", within).await?,
        ActorCommand::Tree { node } => {
            let path = inspect("actor-tree", node.as_deref(), within);
            client.get(&path, within).await?
        }
        ActorCommand::DeadLetters { node } => {
            let path = inspect("dead-letters", node.as_deref(), within);
            client.get(&path, within).await?
        }
        ActorCommand::Where { name } => client.get(&at(name, ""), within).await?,
        ActorCommand::Tell { name, message } => {
            let body = json!({"message": value("MSG", message)?});
            client.post(&at(name, "/tell"), &body, within).await?
        }
        ActorCommand::Ask { name, message } => {
            let body = json!({"message": value("MSG", message)?, "timeout_ms": millis(within)});
            let mut answer = client.post(&at(name, "/ask"), &body, within).await?;
            answer
                .get_mut("answer")
                .map(Value::take)
                .unwrap_or_default()
        }
        ActorCommand::Stop { name } => {
            let path = at(name, &format!("?timeout_ms={}", millis(within)));
            client.delete(&path, within).await?
        }
        ActorCommand::Migrate { name, node } => {
            let body = json!({"node": node, "timeout_ms": millis(within)});
            client.post(&at(name, "/migrate"), &body, within).await?
        }
    };
    show(&command, &answer, &common)?;
    Ok(Status::Done)
}

/// Starts the actors of a crowd file one after another: a later one may need an earlier one.
async fn start(file: &Path, client: &Client, within: Duration) -> Result<Value, Fault> {
    let mut started = Vec::new();
    for agent in Crowd::read(file)?.agents {
        let body = spawn_body(&agent, None, within);
        started.push(client.post("/v1/actors", &body, within).await?);
    }
    Ok(Value::Array(started))
}

/// The request that starts an agent of a crowd file.
pub(super) fn spawn_body(agent: &Agent, crowd: Option<&str>, within: Duration) -> Value {
    json!({
        "kind": agent.kind,
        "name": agent.name,
        "args": agent.args,
        "require": agent.require,
        "node": agent.node,
        "crowd": crowd,
        "durable": agent.durable,
        "near": agent.near,
        "timeout_ms": millis(within),
    })
}

fn show(command: &ActorCommand, answer: &Value, common: &Common) -> Result<(), Fault> {
    if common.json {
        return output::json(answer);
    }
    match command {
        ActorCommand::Spawn { name, .. } | ActorCommand::Where { name } => {
            match answer.get("host").and_then(Value::as_str) {
                Some(host) if holds(answer, "gone") => {
                    output::line(format_args!("{name} ended with its node {host}"))
                }
                Some(host) => {
                    let durable = if holds(answer, "durable") {
                        ", durable"
                    } else {
                        ""
                    };
                    output::line(format_args!("{name} lives on node {host}{durable}"))
                }
                None => output::line(format_args!("{name} is stopped")),
            }
        }
        ActorCommand::Crowd { .. } => {
            let columns = ["name", "host"];
            output::table(
                &columns,
                output::rows(answer, &columns),
                "the file has no agents",
            )
        }
        ActorCommand::List => {
            let columns = ["name", "host", "token", "durable", "spec"];
            output::table(&columns, output::rows(answer, &columns), "no actors yet")
        }
        ActorCommand::Tree { .. } => tree(answer),
        ActorCommand::DeadLetters { .. } => dead_letters(answer),
        ActorCommand::Ask { .. } => output::line(format_args!("{}", output::plain(answer))),
        ActorCommand::Migrate { name, node } => {
            output::line(format_args!("{name} lives on node {node} now"))
        }
        ActorCommand::Stop { name } if holds(answer, "state_only") => output::line(format_args!(
            "no actor was called {name}; the state that was kept under the name is given up"
        )),
        ActorCommand::Tell { .. } | ActorCommand::Stop { .. } => Ok(()),
    }
}

fn holds(actor: &Value, field: &str) -> bool {
    actor.get(field) == Some(&Value::Bool(true))
}

fn inspect(what: &str, node: Option<&str>, within: Duration) -> String {
    let path = format!("/v1/{what}?timeout_ms={}", millis(within));
    match node {
        Some(node) => format!("{path}&node={}", segment(node)),
        None => path,
    }
}

/// The items of a JSON list.
fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    let list = value.get(field).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, field: &str) -> String {
    match value.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(value) => clean(&output::plain(value)),
    }
}

/// Control characters would let an actor's name move the cursor of whoever looks.
fn clean(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(clean).collect()
}

fn tree(answer: &Value) -> Result<(), Fault> {
    for node in answer.as_array().map(Vec::as_slice).unwrap_or_default() {
        let name = text(node, "name");
        if node.get("error").is_some() {
            output::line(format_args!("{name}: {}", text(node, "error")))?;
            continue;
        }
        output::line(format_args!("{name}: {} actors", text(node, "total")))?;
        branches(items(node, "actors"), 1)?;
    }
    Ok(())
}

fn branches(actors: &[Value], level: usize) -> Result<(), Fault> {
    for actor in actors {
        let named = text(actor, "name");
        let label = if named.is_empty() {
            format!("{}#{}", text(actor, "kind"), text(actor, "id"))
        } else {
            format!("{named} ({})", text(actor, "kind"))
        };
        let mut line = format!(
            "{:indent$}{label} {}, {} handled, {} of {} waiting",
            "",
            text(actor, "state"),
            text(actor, "handled"),
            text(actor, "depth"),
            text(actor, "mailbox"),
            indent = level * 2,
        );
        if actor.get("failed").and_then(Value::as_u64) > Some(0) {
            line = format!(
                "{line}, {} failed, {} restarts: {}",
                text(actor, "failed"),
                text(actor, "restarts"),
                text(actor, "last_error")
            );
        }
        output::line(format_args!("{line}"))?;
        branches(items(actor, "children"), level + 1)?;
    }
    Ok(())
}

fn dead_letters(answer: &Value) -> Result<(), Fault> {
    let columns = ["number", "actor", "reason", "message"];
    let mut rows = Vec::new();
    for node in answer.as_array().map(Vec::as_slice).unwrap_or_default() {
        let name = text(node, "name");
        if node.get("error").is_some() {
            output::warn(format_args!("{name}: {}", text(node, "error")));
        }
        let letters = node.get("letters").unwrap_or(&Value::Null);
        for mut row in output::rows(letters, &columns) {
            row.insert(0, name.clone());
            rows.push(row);
        }
    }
    let head = ["node", "number", "actor", "reason", "message"];
    output::table(&head, rows, "no dead letters")
}

pub(super) fn millis(within: Duration) -> u64 {
    u64::try_from(within.as_millis()).unwrap_or(u64::MAX)
}
