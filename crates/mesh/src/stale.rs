//! How old what a local read shows may be (space.md, 2.7): a node on the minority side of a
//! partition still answers from its replica, and says since when.

use std::time::Duration;

use cpe_membership::NodeId;
use cpe_space::{Name, ShardId};
use cpe_tuple::Template;
use serde::Serialize;

use crate::peer::Peer;

/// A replica that may lack what its home decides: this node reaches no majority of the home group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Staleness {
    /// The shard.
    pub shard: u16,
    /// Entries of the shard's history that the replica has applied.
    pub applied: u64,
    /// How long the majority has been out of reach.
    pub since: Duration,
}

impl Peer {
    /// The staleness of what a template would be read from: of its variable's shard, or the worst
    /// of all the workspace's when it names no variable. `None` while the homes can be reached.
    pub(crate) fn staleness(&self, workspace: &Name, template: &Template) -> Option<Staleness> {
        if let Some(variable) = template.key() {
            return self.stale_shard(self.shard_for(workspace, variable));
        }
        let shards = self.shards_of(workspace).into_iter();
        shards
            .filter_map(|shard| self.stale_shard(shard))
            .max_by_key(|stale| stale.since)
    }

    fn stale_shard(&self, shard: ShardId) -> Option<Staleness> {
        let slot = self.slot_ref(shard)?;
        let members = slot.map.members.iter().map(|member| member.node);
        let away = members.filter(|node| *node != self.me.node && !self.links.contains(node));
        let mut lost: Vec<Duration> = away.map(|node| self.lost_at(node)).collect();
        let needed = slot.map.members.len() / 2 + 1;
        // So many may be away before the majority is.
        let spare = slot.map.members.len() - needed;
        lost.sort_unstable();
        let at = *lost.get(spare)?;
        Some(Staleness {
            shard: shard.0,
            applied: slot.shard.version().index,
            since: self.now.saturating_sub(at),
        })
    }

    /// When the link to a node that has none was lost; the start of this peer for one that never
    /// had any.
    fn lost_at(&self, node: NodeId) -> Duration {
        self.links_lost.get(&node).copied().unwrap_or(self.began)
    }
}
