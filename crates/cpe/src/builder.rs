//! What a node is told before it starts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cpe_actors::{Actor, ActorError, DynActor};
use cpe_mesh::Genesis;
use cpe_network::{ADDRESSES_MAX, Multiaddr, TestBlocks};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::kinds::{KindStart, Kinds};
use crate::{Node, Rebalance, StartError};

/// Shards of a mesh unless set otherwise: 256 spread over a hundred nodes evenly enough, and cost
/// an idle node nothing worth measuring.
pub const SHARDS_DEFAULT: u16 = 256;

/// Collects the settings of a [`Node`]. Mistakes in them surface at [`start`](Self::start).
#[derive(Debug)]
#[must_use]
pub struct NodeBuilder {
    pub(crate) name: Option<String>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) ephemeral: bool,
    pub(crate) listen: Vec<String>,
    pub(crate) bootstrap: Vec<String>,
    pub(crate) mesh_key: Option<PathBuf>,
    pub(crate) mdns: bool,
    pub(crate) capabilities: BTreeMap<String, String>,
    pub(crate) shards: u16,
    pub(crate) group_size: u8,
    pub(crate) homes: bool,
    pub(crate) test_blocks: Option<TestBlocks>,
    pub(crate) rebalance: Option<Rebalance>,
    pub(crate) kinds: Kinds,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            name: None,
            data_dir: None,
            ephemeral: false,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            mesh_key: None,
            mdns: false,
            capabilities: BTreeMap::new(),
            shards: SHARDS_DEFAULT,
            group_size: Genesis::GROUP_SIZE,
            homes: true,
            test_blocks: None,
            rebalance: Some(Rebalance::default()),
            kinds: Kinds::default(),
        }
    }
}

impl NodeBuilder {
    /// The name people use, at most 64 bytes. Made from the identity by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The folder that holds identity, certificate and state; made when it is not there. Without
    /// one the node must be [`ephemeral`](Self::ephemeral).
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Keeps the state in memory: after a stop the node comes back as a new member that has
    /// nothing. With a [`data_dir`](Self::data_dir) it keeps its identity and certificate there,
    /// without one it is somebody new at each start.
    pub fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// Listens at an address such as `/ip4/0.0.0.0/tcp/4710` or `/ip4/0.0.0.0/udp/4710/quic-v1`;
    /// port 0 takes any. Again for more, up to 16. A node that listens nowhere can still join.
    pub fn listen(mut self, multiaddr: &str) -> Self {
        self.listen.push(multiaddr.to_owned());
        self
    }

    /// A member to join by; again for more, up to 16. The node keeps trying.
    pub fn bootstrap(mut self, multiaddr: &str) -> Self {
        self.bootstrap.push(multiaddr.to_owned());
        self
    }

    /// The file with the key of the mesh to belong to.
    ///
    /// The first node of a mesh founds it: a node that has the key, no state yet, and seeks nobody
    /// (no [`bootstrap`](Self::bootstrap), no [`mdns`](Self::mdns)). All others need one of the
    /// two, and join.
    pub fn mesh_key(mut self, path: impl Into<PathBuf>) -> Self {
        self.mesh_key = Some(path.into());
        self
    }

    /// Whether to look for members on the local network by multicast. No by default.
    pub fn mdns(mut self, on: bool) -> Self {
        self.mdns = on;
        self
    }

    /// Says of this node that it has something, for [`SpawnOptions::require`](crate::SpawnOptions)
    /// and for people. `cores` and `kinds` are there by themselves.
    pub fn capability(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.capabilities.insert(key.into(), value.into());
        self
    }

    /// Durable shards of the mesh when this node founds it; [`SHARDS_DEFAULT`] by default, at most
    /// 4,096. It has a quarter as many volatile shards, for workspaces whose names begin with
    /// `tmp:`.
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// Members of each home group of the mesh when this node founds it: 1, 3 or 5; 3 by default.
    /// Any minority of them can be lost. There are fewer while the mesh has fewer nodes.
    pub fn group_size(mut self, members: u8) -> Self {
        self.group_size = members;
        self
    }

    /// Whether this node may be home of parts of the space. Yes by default. A node that says no
    /// keeps its replica of everything and uses the space as any other, but has no say in what is
    /// decided: right for a machine that comes and goes. It gives away what it founded as soon as
    /// there is somebody to take it.
    pub fn homes(mut self, takes: bool) -> Self {
        self.homes = takes;
        self
    }

    /// How this node hands durable actors to others that have fewer when a node has come; with
    /// `None` it hands none on for that. As [`Rebalance::default`] says unless set.
    pub fn rebalance(mut self, rebalance: Option<Rebalance>) -> Self {
        self.rebalance = rebalance;
        self
    }

    /// Lets a test part this node from others while it runs. Nobody can without this call.
    pub fn test_blocks(mut self, blocks: TestBlocks) -> Self {
        self.test_blocks = Some(blocks);
        self
    }

    /// Adds a kind of actors that this node can run, or replaces the one of this name; `echo` and
    /// `counter` are always there. The factory is called for an actor's first instance and after
    /// each of its failures.
    pub fn kind<F>(mut self, name: &str, factory: F) -> Self
    where
        F: Fn(KindStart) -> Result<Box<dyn DynActor>, ActorError> + Send + Sync + 'static,
    {
        self.kinds.add(name, factory);
        self
    }

    /// Adds a kind of typed actors, whose messages and answers are serde types.
    pub fn typed_kind<A, F>(mut self, name: &str, factory: F) -> Self
    where
        A: Actor,
        A::Message: DeserializeOwned,
        A::Reply: Serialize,
        F: Fn(KindStart) -> Result<A, ActorError> + Send + Sync + 'static,
    {
        self.kinds.add_typed(name, factory);
        self
    }

    /// Starts the node. It has joined its mesh when [`Mesh::joined`](crate::Mesh::joined) says so;
    /// until then commands wait.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with which setting, file or address.
    ///
    /// # Cancel safety
    /// Nothing is left running when the future is dropped.
    pub async fn start(self) -> Result<Node, StartError> {
        Node::start(self).await
    }

    pub(crate) fn check(&self) -> Result<(Vec<Multiaddr>, Vec<Multiaddr>), StartError> {
        if self.shards == 0 || self.shards > Genesis::MAX_SHARDS {
            return Err(StartError::Setting {
                what: "shards",
                value: self.shards.to_string(),
                why: format!("a mesh has 1 to {} shards", Genesis::MAX_SHARDS),
            });
        }
        if self.data_dir.is_none() && !self.ephemeral {
            return Err(StartError::NoDataDir);
        }
        Ok((
            parse("listen address", &self.listen)?,
            parse("bootstrap address", &self.bootstrap)?,
        ))
    }
}

fn parse(what: &'static str, texts: &[String]) -> Result<Vec<Multiaddr>, StartError> {
    let setting = |value: &str, why: String| StartError::Setting {
        what,
        value: value.to_owned(),
        why,
    };
    if let Some(beyond) = texts.get(ADDRESSES_MAX) {
        return Err(setting(
            beyond,
            format!("at most {ADDRESSES_MAX} are taken"),
        ));
    }
    texts
        .iter()
        .map(|text| {
            text.parse().map_err(|error| {
                setting(
                    text,
                    format!("{error}; an address looks like /ip4/192.0.2.1/tcp/4710"),
                )
            })
        })
        .collect()
}
