//! The actor kinds of the stock binary, beside `echo` and `counter`, which the library brings.

mod command;
mod forest;
mod rules;

use cpe::NodeBuilder;

use crate::forest::model::Models;

pub(crate) use rules::RULES_WORKER;

/// Adds the stock kinds to a node: `command` only if it allows a program.
pub(crate) fn register(builder: NodeBuilder, commands: &[String]) -> NodeBuilder {
    let builder = command::register(builder, commands);
    let models = Models::default();
    let of_rules = models.clone();
    builder
        .kind("forest", move |start| {
            forest::ForestActor::make(start, models.clone())
        })
        .kind("rules", move |start| {
            rules::RulesActor::make(start, of_rules.clone())
        })
}
