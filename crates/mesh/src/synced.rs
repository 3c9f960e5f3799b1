//! Waiting until the local replica shows all that was decided before: a barrier before local reads.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_space::{Name, ShardId};

use crate::peer::Peer;
use crate::request::Request;
use crate::{Reply, RequestId};

/// Any name: the question is not about a workspace.
const ALL: &str = "#";

impl Peer {
    /// Asks the homes of a workspace, or all, how far they are, and waits for the replica to be
    /// there.
    pub(crate) fn sync(
        &mut self,
        request: RequestId,
        workspace: Option<Name>,
        within: Duration,
    ) -> Result<(), String> {
        let (shards, about) = match workspace {
            Some(workspace) => (self.shards_of(&workspace), workspace),
            None => {
                let all = Name::new(ALL).map_err(|error| error.to_string())?;
                (self.all_shards(), all)
            }
        };
        let query = self.ask(request, shards, &about, None);
        let state = Request::Sync {
            query: Some(query),
            left: BTreeMap::new(),
            within,
        };
        self.requests.insert(request, state);
        self.syncing.insert(request);
        Ok(())
    }

    /// Homes have said how far they are.
    pub(crate) fn reached(&mut self, from: NodeId, query: u64, reached: &[(ShardId, u64)]) {
        let Some(request) = self.asker(query).filter(|it| self.syncing.contains(it)) else {
            return;
        };
        for (shard, index) in reached {
            let Some(slot) = self.slot_ref(*shard) else {
                continue;
            };
            if slot.shard.version().index >= *index {
                continue;
            }
            if let Some(Request::Sync { left, .. }) = self.requests.get_mut(&request) {
                left.insert(*shard, *index);
            }
            // The feed will come; this is sooner.
            self.pull_from(*shard, from, *index);
        }
    }

    /// All homes have answered.
    pub(crate) fn all_reached(&mut self, request: RequestId) {
        if let Some(Request::Sync { query, .. }) = self.requests.get_mut(&request)
            && let Some(query) = query.take()
        {
            self.drop_query(query);
        }
        self.sync_step(request);
    }

    /// The replica of a shard has come further.
    pub(crate) fn synced(&mut self, shard: ShardId) {
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let index = slot.shard.version().index;
        for request in self.syncing.clone() {
            if let Some(Request::Sync { left, .. }) = self.requests.get_mut(&request)
                && left.get(&shard).is_some_and(|wanted| *wanted <= index)
            {
                left.remove(&shard);
                self.sync_step(request);
            }
        }
    }

    fn sync_step(&mut self, request: RequestId) {
        if let Some(Request::Sync {
            query: None, left, ..
        }) = self.requests.get(&request)
            && left.is_empty()
        {
            self.finish(request, Reply::Done);
        }
    }
}
