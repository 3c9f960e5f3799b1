//! What can go wrong, by operation.

use std::path::PathBuf;
use std::time::Duration;

use cpe_mesh::Failure;

/// A node did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is wrong by itself.
    #[error("{what} `{value}`: {why}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// Neither a data folder was named nor an ephemeral node asked for.
    #[error("no data folder: name one with `data_dir`, or keep nothing with `ephemeral`")]
    NoDataDir,
    /// Bootstrap addresses without a key or certificate of the mesh they belong to.
    #[error(
        "bootstrap addresses lead into a mesh that this node has no key of: copy the `mesh.key` of \
         that mesh here and name it with `mesh_key`"
    )]
    NoMeshKey,
    /// The data folder belongs to another mesh.
    #[error(
        "the data folder {folder} belongs to mesh {stored}, the given key to {given}: use another \
         data folder, or the key of that mesh"
    )]
    OtherMesh {
        /// The folder.
        folder: PathBuf,
        /// The mesh it belongs to.
        stored: String,
        /// The mesh that was asked for.
        given: String,
    },
    /// A file in the data folder cannot be read or written.
    #[error("cannot {action} {path}: {why}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A key file cannot be read, written or believed.
    #[error(transparent)]
    Key(#[from] cpe_network::KeyFileError),
    /// The data folder cannot be opened.
    #[error(transparent)]
    Storage(#[from] cpe_storage::OpenError),
    /// The state in the data folder contradicts itself or the settings.
    #[error(transparent)]
    State(#[from] cpe_mesh::BootError),
    /// The network did not come up.
    #[error(transparent)]
    Network(#[from] cpe_network::StartError),
    /// The node's card is larger than a mesh carries.
    #[error(transparent)]
    Card(#[from] cpe_membership::CardError),
}

impl StartError {
    /// Whether an address to listen on was the trouble: a busy port, an address of another machine.
    #[must_use]
    pub fn is_listen(&self) -> bool {
        use cpe_network::StartError::{BadAddress, Listen};
        matches!(self, Self::Network(Listen { .. } | BadAddress { .. }))
    }
}

/// A capability was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    /// The node says this of itself.
    #[error("the capability `{0}` is the node's own to set: choose another name")]
    Reserved(String),
    /// The card would be larger than a mesh carries.
    #[error(transparent)]
    Card(#[from] cpe_membership::CardError),
    /// The node has stopped.
    #[error("the node has stopped")]
    Closed,
}

/// Something asked of the space or the mesh was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpaceError {
    /// The mesh says why.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A name, tuple or template is out of bounds.
    #[error(transparent)]
    Limit(#[from] cpe_tuple::LimitError),
    /// A tuple is there and has not the form `[name, value]`.
    #[error("{found} is not of the form [name, value]; read it with a template")]
    NotAVariable {
        /// The tuple, shortened.
        found: String,
    },
    /// The mesh was not joined, or a condition not met, in time.
    #[error("{what} did not come about within {after:?}")]
    NotYet {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// A large value could not be read or written.
    #[error("a large value: {0}")]
    Body(String),
    /// The node has stopped.
    #[error("the node has stopped")]
    Closed,
    /// The node answered something else than was asked: a fault of this program.
    #[error("the node gave an answer of another kind; please report this")]
    Unexpected,
}

/// Not everything came to its end before a node stopped. It has stopped all the same; what is
/// durable is on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped, but not in full order: {}", .unfinished.join("; "))]
pub struct ShutdownError {
    /// What did not finish, and why.
    pub unfinished: Vec<String>,
}
