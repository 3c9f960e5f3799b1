//! Meshes to test with.

use std::path::PathBuf;
use std::time::Duration;

use cpe::{MeshKey, Node, NodeBuilder};
use tempfile::TempDir;

/// Longer than anything takes on a busy machine; nothing waits for it to pass.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// An address with a port of the system's choice.
pub(crate) const ANY: &str = "/ip4/127.0.0.1/tcp/0";

/// A mesh's key and the folders of its nodes.
pub(crate) struct Ground {
    folder: TempDir,
}

impl Ground {
    pub(crate) fn new() -> Self {
        log();
        let folder = TempDir::new().unwrap();
        let ground = Self { folder };
        MeshKey::generate().save(&ground.key()).unwrap();
        ground
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("mesh.key")
    }

    /// Where a node of this name keeps its state.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A durable node that founds the mesh, unless it is told of others.
    pub(crate) fn durable(&self, name: &str) -> NodeBuilder {
        Node::builder()
            .name(name)
            .data_dir(self.data(name))
            .mesh_key(self.key())
            .listen(ANY)
            .shards(16)
    }

    /// The same without a disk.
    pub(crate) fn ephemeral(&self, name: &str) -> NodeBuilder {
        Node::builder()
            .name(name)
            .ephemeral()
            .mesh_key(self.key())
            .listen(ANY)
            .shards(16)
    }

    /// Nodes `a`, which founds the mesh, `b` and `c`; all linked.
    pub(crate) async fn three(&self) -> [Node; 3] {
        let a = self.ephemeral("a").start().await.unwrap();
        let b = join(self.ephemeral("b"), &a).start().await.unwrap();
        let c = join(self.ephemeral("c"), &a).start().await.unwrap();
        let nodes = [a, b, c];
        all_linked(&nodes).await;
        nodes
    }
}

/// Tells a node of another.
pub(crate) fn join(builder: NodeBuilder, other: &Node) -> NodeBuilder {
    builder.bootstrap(&other.addresses()[0])
}

/// Waits until each node has joined and is linked to all others.
pub(crate) async fn all_linked(nodes: &[Node]) {
    for node in nodes {
        node.mesh().joined(LONG).await.unwrap();
        if let Err(error) = node.mesh().members(nodes.len(), LONG).await {
            panic!("{error}: {:#?}", node.mesh().peers().await);
        }
    }
}

/// Shows what nodes say of themselves, when `RUST_LOG` asks for it.
fn log() {
    let shown = tracing_subscriber::EnvFilter::from_default_env();
    let log = tracing_subscriber::fmt()
        .with_env_filter(shown)
        .with_test_writer();
    // Another test of this process has set it already.
    drop(log.try_init());
}
