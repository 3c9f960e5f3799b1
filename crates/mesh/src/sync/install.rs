//! A fetched state becomes the replica's, and states become snapshots on disk.

use std::collections::{BTreeMap, BTreeSet};

use cpe_space::{ShardId, Sm};
use cpe_tuple::Tuple;

use crate::RequestId;
use crate::boot;
use crate::peer::Peer;
use crate::persist::Table;
use crate::request::Request;

impl Peer {
    /// Takes over a state that is further than the replica.
    pub(super) fn install(&mut self, shard: ShardId, sm: Sm, bytes: Vec<u8>) {
        let config = sm.config().clone();
        let index = sm.index();
        let seen = self.seen_by_watches(shard, &sm);
        let Some(slot) = self.slot(shard) else { return };
        if slot.is_foreign(index) || !slot.shard.install(sm) {
            return;
        }
        slot.snapped(index, bytes.len());
        self.save_snapshot(shard, index, bytes);
        self.learned(shard);
        self.clear_outbox(shard);
        self.learn_home(shard, config);
        self.saw_bodies_of(shard);
        self.look_again(shard, &seen);
        self.hosts_installed(shard);
        self.settle_home(shard);
        for volatile in self.registered_in(shard) {
            self.registered(volatile);
        }
    }

    /// Indices of the tuples that watches have been shown of the replica's history, which this
    /// state goes on with; none if it does not.
    fn seen_by_watches(&self, shard: ShardId, next: &Sm) -> BTreeMap<RequestId, BTreeSet<u64>> {
        let slot = self.slot_ref(shard);
        let now = slot.map(|slot| slot.shard.sm());
        let Some(sm) = now.filter(|sm| sm.forked_at() == next.forked_at()) else {
            return BTreeMap::new();
        };
        let waiting = self.readers.values().flatten();
        let watches = waiting.filter_map(|id| match self.requests.get(id)? {
            Request::Watch {
                workspace,
                template,
            } => {
                let indices = sm.matches(workspace, template).map(|(index, _)| index);
                Some((*id, indices.collect()))
            }
            _ => None,
        });
        watches.collect()
    }

    /// A snapshot may hold what readers wait for.
    fn look_again(&mut self, shard: ShardId, seen: &BTreeMap<RequestId, BTreeSet<u64>>) {
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let found: Vec<(RequestId, Tuple)> = self
            .readers
            .iter()
            .flat_map(|((workspace, _), waiting)| waiting.iter().map(move |id| (workspace, id)))
            .filter_map(|(workspace, id)| Some((workspace, id, self.requests.get(id)?.template()?)))
            .flat_map(|(workspace, id, template)| {
                let matches = slot.shard.sm().matches(workspace, template);
                let seen = seen.get(id);
                let fresh = move |index| seen.is_none_or(|seen| !seen.contains(&index));
                let fresh = matches.filter(move |(index, _)| fresh(*index));
                fresh.map(|(_, tuple)| (*id, tuple.clone()))
            })
            .collect();
        for (request, tuple) in found {
            self.wake(request, &tuple);
        }
    }

    fn save_snapshot(&mut self, shard: ShardId, index: u64, bytes: Vec<u8>) {
        if let Some(batch) = self.disk(shard) {
            batch.put(Table::Snapshot, boot::shard_key(shard), bytes);
            let (from, to) = (boot::indexed(shard, 0), boot::indexed(shard, index + 1));
            batch.delete_range(Table::Log, from, to);
        }
    }

    /// Writes a snapshot when the log has outgrown it.
    pub(crate) fn compact(&mut self, shard: ShardId) {
        let (entries, bytes) = (self.config.log_entries_max, self.config.log_bytes_max);
        let (kept, most) = (self.config.log_kept, self.config.shard_bytes_max);
        let Some(slot) = self.slot(shard) else { return };
        let index = slot.shard.version().index;
        let since = index - slot.saved.min(index);
        // What is in memory is for those who lag a little. A leader has to gossip it first.
        let fed = slot.home.as_ref().map_or(index, |_| slot.fed.min(index));
        while slot.shard.log_bytes() > bytes && slot.shard.base() < fed {
            slot.shard.trim(slot.shard.base() + 1);
        }
        // Cheap first: counting tuples walks all variables.
        if since <= entries / 4 {
            return;
        }
        // A snapshot costs as much as there are tuples: let the log grow with them.
        // What has grown by less than it holds need not be written anew; a shard that is full is
        // looked at for what was taken out of it.
        let grown = slot.logged() > bytes.max(slot.saved_bytes / 2) as u64;
        let due = since > entries.max(2 * slot.shard.sm().len() as u64);
        if !due && !grown && !slot.is_full(most) {
            return;
        }
        slot.shard.trim(index.saturating_sub(kept));
        if slot.volatile {
            // What is not written need not be encoded.
            let live = slot.shard.sm().live();
            let bytes = live.map(|live| live.tuple.size()).sum();
            return slot.snapped(index, bytes);
        }
        let Ok(encoded) = cpe_tuple::codec::encode(slot.shard.sm()) else {
            return;
        };
        slot.snapped(index, encoded.len());
        self.save_snapshot(shard, index, encoded);
    }
}
