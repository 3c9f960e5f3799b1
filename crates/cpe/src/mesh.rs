//! The handle to the mesh itself: members, homes, leaving.

use std::sync::Arc;
use std::time::Duration;

use cpe_mesh::{Command, PeerInfo, Recovered, Reply, ShardInfo, Status};

use crate::desk::Desk;
use crate::space::done;
use crate::state::State;
use crate::{CapabilityError, SpaceError};

/// Capabilities by which a node tells others what they have to know of it.
const RESERVED: [&str; 4] = ["draining", "homes", "kinds", "start"];

/// A cheap handle to what a node knows of its mesh.
#[derive(Clone, Debug)]
pub struct Mesh {
    desk: Arc<Desk>,
    state: Arc<State>,
}

impl Mesh {
    pub(crate) fn new(desk: Arc<Desk>, state: Arc<State>) -> Self {
        Self { desk, state }
    }

    /// A summary of this node.
    ///
    /// # Errors
    /// [`SpaceError::Closed`].
    pub async fn status(&self) -> Result<Status, SpaceError> {
        match self.desk.ask(Command::Status).await? {
            Reply::Status(status) => Ok(*status),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// The members as this node sees them, itself first.
    ///
    /// # Errors
    /// [`SpaceError::Closed`].
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, SpaceError> {
        match self.desk.ask(Command::Peers).await? {
            Reply::Peers(peers) => Ok(peers),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// The shards that were ever written to, their homes, and how far this replica is.
    ///
    /// # Errors
    /// [`SpaceError::Closed`].
    pub async fn shards(&self) -> Result<Vec<ShardInfo>, SpaceError> {
        match self.desk.ask(Command::Shards).await? {
            Reply::Shards(shards) => Ok(shards),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// Says of this node that it has a capability, or with `None` that it has it no more, until it
    /// stops: the next start has what it was started with. Actors are placed by it from then on. A
    /// durable actor that runs here and needs what the node has no more moves to the node that has
    /// it and the fewest durable actors; while there is none it goes on here. Other actors stay.
    ///
    /// # Errors
    /// [`CapabilityError::Reserved`] for what the node says by itself, [`CapabilityError::Card`]
    /// for more than a node may say.
    pub async fn set_capability(
        &self,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), CapabilityError> {
        if RESERVED.contains(&key) {
            return Err(CapabilityError::Reserved(key.to_owned()));
        }
        let value = value.map(str::to_owned);
        self.desk.capability(key.to_owned(), value).await
    }

    /// Hands every shard this node is home of to other members, and takes none from now on. Once it
    /// is done nothing needs this node's disk any more.
    ///
    /// # Errors
    /// [`Failure::Kept`](cpe_mesh::Failure::Kept) when not all were taken over in time, or nobody
    /// is there to take them over: then the node goes on as before.
    pub async fn drain(&self, deadline: Duration) -> Result<(), SpaceError> {
        let whole = true;
        done(self.desk.ask(Command::Drain { deadline, whole }).await?)
    }

    /// The same before a stop: what nobody within reach can take over stays on disk.
    pub(crate) async fn hand_over(&self, deadline: Duration) -> Result<(), SpaceError> {
        let whole = false;
        done(self.desk.ask(Command::Drain { deadline, whole }).await?)
    }

    /// Lets a shard whose majority is lost for ever, or all such shards, go on with the most
    /// advanced survivor this node can reach, and marks them as forked for ever.
    ///
    /// *Unsafe*: stores that were acknowledged may be gone, and should the lost members come back
    /// after all, a tuple may have been taken twice. Ask one node, once.
    ///
    /// # Errors
    /// `Refused` for one shard that has a majority within reach. Of all shards, those are left out.
    pub async fn recover_unsafe(
        &self,
        shard: Option<u16>,
        deadline: Duration,
    ) -> Result<Vec<Recovered>, SpaceError> {
        match self.desk.ask(Command::Recover { shard, deadline }).await? {
            Reply::Recovered(all) => Ok(all),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// Waits until this node knows its mesh: at once for a founder.
    ///
    /// # Errors
    /// [`SpaceError::NotYet`] when it has not joined in time; it goes on trying.
    pub async fn joined(&self, deadline: Duration) -> Result<(), SpaceError> {
        match tokio::time::timeout(deadline, self.state.wait_joined()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(SpaceError::Closed),
            Err(_) => Err(SpaceError::NotYet {
                what: "joining the mesh".to_owned(),
                after: deadline,
            }),
        }
    }

    /// Waits until this node sees exactly `count` members alive (or suspect), itself included, and
    /// is linked to all of them.
    ///
    /// # Errors
    /// [`SpaceError::NotYet`] when that is not so in time.
    pub async fn members(&self, count: usize, deadline: Duration) -> Result<(), SpaceError> {
        let mut changes = self.state.changes();
        let all = async {
            loop {
                changes.borrow_and_update();
                let peers = self.peers().await?;
                // A suspect is alive until the others have heard nothing from it for a while.
                let is_alive = |peer: &&PeerInfo| matches!(peer.state, "alive" | "suspect");
                let alive = peers.iter().filter(is_alive);
                let linked = alive.clone().filter(|peer| peer.linked);
                if alive.count() == count && linked.count() == count {
                    return Ok(());
                }
                if changes.changed().await.is_err() {
                    return Err(SpaceError::Closed);
                }
            }
        };
        let late = SpaceError::NotYet {
            what: format!("a mesh of {count} members"),
            after: deadline,
        };
        tokio::time::timeout(deadline, all)
            .await
            .unwrap_or(Err(late))
    }

    /// The last peers that were refused, or refused this node, and why; at most 32.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        self.state.refusals()
    }
}
