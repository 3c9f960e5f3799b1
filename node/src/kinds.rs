//! The actor kinds of the stock binary, beside `echo` and `counter`, which the library brings.

mod command;
pub(crate) mod forest;
mod rules;

use std::sync::Arc;

use cpe::NodeBuilder;

use crate::forest::model::Models;

pub(crate) use rules::{Processes, RULES_WORKER, read as read_program, rules_worker, this_program};

/// Milliseconds since 1970: what `(now)` says to rules.
pub(crate) fn now_ms() -> i64 {
    rules::now_ms()
}

/// Adds the stock kinds to a node: `command` only if it allows a program. Agents with rules of
/// strangers share `processes`.
pub(crate) fn register(
    builder: NodeBuilder,
    commands: &[String],
    models: Models,
    processes: Arc<Processes>,
) -> NodeBuilder {
    let builder = command::register(builder, commands);
    let of_rules = models.clone();
    builder
        .kind("forest", move |start| {
            forest::ForestActor::make(start, models.clone())
        })
        .kind("rules", move |start| {
            rules::RulesActor::make(start, of_rules.clone(), &processes)
        })
}
