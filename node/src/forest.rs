//! Forests in the mesh: where models lie in the space, and how nodes grow them together.
//!
//! Everything is in the workspace [`WORKSPACE`]:
//! - `["model NAME", {...}]`, in mode single: which bytes the model is made of (see `model`);
//! - `[NAME OF A BLOB, index, bytes]`: the parts of something larger than a tuple (see `blob`);
//! - a model's groves can be read one by one, to vote where they are (see `vote`);
//! - requests, groves to grow and what came of them: seen to and grown by all nodes (see `job`,
//!   `steward` and `worker`).

pub(crate) mod blob;
pub(crate) mod job;
pub(crate) mod model;
mod steward;
pub(crate) mod vote;
pub(crate) mod worker;

/// Where forests live in the space. The sign in front keeps it apart from workspaces of users.
pub(crate) const WORKSPACE: &str = "#forest";
