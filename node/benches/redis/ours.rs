//! A mesh of node processes, and a node of the library in this process as its client.

use std::time::Duration;

use cpe::{Node, Space, Stored, Value};

use crate::common::{LONG, Process};

/// The workspace of everything here.
pub(crate) const WORKSPACE: &str = "bench";

/// The same, in memory alone, also on nodes with disks.
pub(crate) const SCRATCH: &str = "tmp:bench";

/// Node processes that keep the space, and a client of theirs.
pub(crate) struct Mesh {
    pub(crate) nodes: Vec<Process>,
    pub(crate) client: Node,
}

impl Mesh {
    /// `durable`: what is acknowledged is on the disks of a majority of its home group.
    pub(crate) async fn start(count: usize, durable: bool) -> Self {
        let args: &[&str] = if durable { &[] } else { &["--ephemeral"] };
        let nodes = Process::mesh(count, args);
        let client = Self::client(&nodes, 1).await;
        Self { nodes, client }
    }

    /// A member that keeps nothing, on disk or for others: what a program has that uses the space.
    /// Ready once it sees the nodes and so many clients, itself included.
    pub(crate) async fn client(nodes: &[Process], clients: usize) -> Node {
        let builder = Node::builder().ephemeral().homes(false);
        let builder = builder
            .mesh_key(nodes[0].key())
            .listen("/ip4/127.0.0.1/tcp/0");
        let addresses = nodes.iter().map(|node| &node.address);
        let builder = addresses.fold(builder, |builder, address| builder.bootstrap(address));
        let client = builder.start().await.unwrap();
        let members = nodes.len() + clients;
        client.mesh().members(members, LONG).await.unwrap();
        client
    }

    /// Processor time of the node processes so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.nodes.iter().map(Process::cpu).sum()
    }

    /// Ends the client; the processes end with the value.
    pub(crate) async fn end(self) {
        self.client.kill().await;
    }
}

/// Stores, and waits until that is decided.
pub(crate) async fn store(space: &Space, variable: &str, value: &str) {
    store_in(space, WORKSPACE, variable, value).await;
}

pub(crate) async fn store_in(space: &Space, workspace: &str, variable: &str, value: &str) {
    let stored = space
        .store(workspace, variable, Value::from(value))
        .await
        .unwrap();
    assert!(matches!(stored, Stored::Home { .. }), "{stored:?}");
}
