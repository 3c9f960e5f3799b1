//! The actor kinds of the stock binary, beside `echo` and `counter`, which the library brings.

use cpe::NodeBuilder;

/// Adds the stock kinds to a node.
pub(crate) fn register(builder: NodeBuilder) -> NodeBuilder {
    builder
}
