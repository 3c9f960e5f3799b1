//! Tier 1: entries of the history, gossiped as they are decided and asked for where some are
//! missing; and stores that no home has admitted yet.

use std::collections::BTreeSet;

use cpe_membership::{Member, NodeId};
use cpe_space::{Applied, Dot, Entry, FeedError, Item, ShardId, Version};

use super::{MAX_INDEX, Pull};
use crate::boot;
use crate::io::Event;
use crate::peer::{Peer, Timer};
use crate::persist::Table;
use crate::serve::are_dots;
use crate::wire::{FeedPart, MAX_GOSSIP_BYTES, Message};

/// Bytes of entries sent in answer to one request.
const FEED_BYTES: usize = 1024 * 1024;

/// Entries gossiped before that go along with those that a node is sent at once: the gossip may
/// come later than they do.
const FED_AGAIN: u64 = 8;

impl Peer {
    /// Gossips what was decided since the last time, in as few frames as possible.
    pub(crate) fn gossip_feeds(&mut self) {
        let mut parts = Vec::new();
        let mut size = 0;
        for shard in std::mem::take(&mut self.dirty) {
            let Some(slot) = self.slot(shard) else {
                continue;
            };
            let version = slot.shard.version();
            let mut from = slot.fed.max(slot.shard.base());
            slot.fed = version.index;
            let mut pending = slot.shard.suffix(from, usize::MAX).unwrap_or_default();
            while !pending.is_empty() {
                let mut bytes = 0;
                let fits = pending
                    .iter()
                    .take_while(|entry| {
                        bytes += entry.as_bytes().len() + 8;
                        size + bytes + 128 <= MAX_GOSSIP_BYTES
                    })
                    .count();
                let rest = pending.split_off(fits);
                let count = pending.len() as u64;
                if count > 0 {
                    size += pending
                        .iter()
                        .map(|entry| entry.as_bytes().len() + 8)
                        .sum::<usize>();
                    parts.push(FeedPart {
                        shard,
                        from,
                        entries: pending,
                        version,
                    });
                    size += 64;
                    from += count;
                } else if parts.is_empty() {
                    // Too large for gossip by itself: say that it is there.
                    parts.push(FeedPart {
                        shard,
                        from,
                        entries: Vec::new(),
                        version,
                    });
                    break;
                }
                if !rest.is_empty() {
                    self.gossip_parts(&mut parts, &mut size);
                }
                pending = rest;
            }
        }
        self.gossip_parts(&mut parts, &mut size);
    }

    fn gossip_parts(&mut self, parts: &mut Vec<FeedPart>, size: &mut usize) {
        *size = 0;
        let parts = std::mem::take(parts);
        if self.links.is_empty() {
            return;
        }
        if let Some(shard) = parts.first().map(|part| part.shard) {
            self.broadcast(shard, &Message::Feeds(parts));
        }
    }

    /// Sends what was decided since the last gossip to those nodes at once: an actor is theirs now,
    /// and stands still until they know.
    pub(crate) fn feed_now(&mut self, shard: ShardId, to: BTreeSet<NodeId>) {
        let fed = self.slot_ref(shard).map_or(0, |slot| {
            slot.fed.saturating_sub(FED_AGAIN).max(slot.shard.base())
        });
        for node in to {
            if node != self.me.node {
                self.serve_feed(node, shard, fed);
            }
        }
    }

    pub(crate) fn take_feeds(&mut self, parts: Vec<FeedPart>) {
        for part in parts {
            self.take_feed(None, part.shard, part.from, &part.entries, part.version);
        }
    }

    /// Applies a feed; asks for what is missing when the sender is ahead.
    pub(crate) fn take_feed(
        &mut self,
        source: Option<NodeId>,
        shard: ShardId,
        from: u64,
        entries: &[Entry],
        version: Version,
    ) {
        if from > MAX_INDEX || version.index > MAX_INDEX {
            return self.malformed(source, "a feed beyond all indices".to_owned());
        }
        let Some(slot) = self.slot(shard) else { return };
        let foreign = slot.is_foreign(from) || slot.is_foreign(version.index);
        if foreign || self.leads(shard, version.epoch) {
            return;
        }
        let Some(slot) = self.slot(shard) else { return };
        let first = slot.shard.version().index + 1;
        let mut applied: Vec<(u64, Entry, Applied)> = Vec::new();
        let result = slot.shard.feed(from, entries, |index, entry, what| {
            applied.push((index, entry.clone(), what));
        });
        for (index, entry, _) in &applied {
            debug_assert!(*index >= first);
            if let Some(batch) = self.disk(shard) {
                let bytes = entry.as_bytes().to_vec();
                batch.put(Table::Log, boot::indexed(shard, *index), bytes);
            }
        }
        self.count("entries_applied", applied.len() as u64);
        let any = !applied.is_empty();
        for (_, _, what) in applied {
            self.applied(shard, what);
        }
        if any {
            self.learned(shard);
            self.compact(shard);
        }
        match result {
            Ok(()) => {}
            Err(FeedError::Diverged { .. }) => {
                self.start_over(shard, source, version);
                return;
            }
            Err(error) => self.feed_error(source, &error),
        }
        self.note_version(source, shard, version, any);
    }

    /// The replica holds history that this node's group did not bring it.
    pub(super) fn learned(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        slot.log_end = slot.log_end.max(slot.shard.version().index);
        self.mark_later(shard);
        self.hold(shard);
        self.synced(shard);
    }

    fn feed_error(&mut self, from: Option<NodeId>, error: &FeedError) {
        self.malformed(from, error.to_string());
    }

    /// Remembers who is ahead and sees to it that the gap closes.
    pub(super) fn note_version(
        &mut self,
        source: Option<NodeId>,
        shard: ShardId,
        version: Version,
        progress: bool,
    ) {
        let now = self.now;
        let delay = self.config.pull_delay;
        if version.index > MAX_INDEX {
            return;
        }
        if self
            .slot_ref(shard)
            .is_none_or(|slot| slot.is_foreign(version.index))
        {
            return;
        }
        if let Some(from) = source
            && self.overruled(shard, from, version)
        {
            return;
        }
        let Some(slot) = self.slot(shard) else { return };
        let own = slot.shard.version();
        if slot
            .shard
            .hash_at(version.index)
            .is_some_and(|hash| hash != version.hash)
        {
            if let Some(with) = source {
                self.event(Event::Diverged { shard, with });
            }
            return;
        }
        if version.index <= own.index {
            if slot
                .pull
                .as_ref()
                .is_some_and(|pull| pull.index <= own.index)
            {
                slot.pull = None;
                self.timers.clear(&Timer::Pull(shard));
            }
            return;
        }
        let home = slot
            .leader
            .or_else(|| slot.map.members.first().map(|m| m.node));
        let Some(from) = source.or(home) else { return };
        match slot.pull.as_mut() {
            Some(pull) => {
                pull.index = pull.index.max(version.index);
                if progress {
                    pull.answered();
                }
                if source.is_some() && !pull.is_fetching() {
                    pull.from = from;
                }
            }
            None => slot.pull = Some(Pull::new(from, version.index)),
        }
        if source.is_some() {
            // An answer that brought something, or a digest: there is more where it came from.
            let at = if progress { now } else { now + delay };
            if progress {
                self.timers.set(Timer::Pull(shard), at);
            } else {
                self.timers.set_if_none(Timer::Pull(shard), at);
            }
        } else {
            self.timers.set_if_none(Timer::Pull(shard), now + delay);
        }
    }

    /// Sends the entries after an index, or says that the log no longer reaches back to it.
    pub(crate) fn serve_feed(&mut self, to: NodeId, shard: ShardId, from: u64) {
        let Some(slot) = self.slot(shard) else { return };
        let version = slot.shard.version();
        if from >= version.index || slot.is_foreign(from) {
            return;
        }
        match slot.shard.suffix(from, FEED_BYTES) {
            Some(entries) => {
                self.send_if(
                    to,
                    Message::Feed {
                        shard,
                        from,
                        entries,
                        version,
                    },
                );
            }
            None => {
                let index = version.index;
                self.send_if(to, Message::Trimmed { shard, index });
            }
        }
    }

    /// Stores somebody else could not bring to their home: shown here, passed on if possible.
    pub(crate) fn take_pending(
        &mut self,
        shard: ShardId,
        origin: Member,
        first: u64,
        items: Vec<Item>,
    ) {
        let Some(slot) = self.slot(shard) else { return };
        let now = slot.shard.sm().is_of_now(first);
        if origin == slot.me || !now || !are_dots(first, items.len()) {
            return;
        }
        let mut fresh = Vec::new();
        for (n, item) in (first..).zip(&items) {
            if slot.shard.add_pending(Dot { origin, n }, item.clone()) {
                fresh.push(item.clone());
            }
        }
        for item in fresh {
            self.saw_bodies(&item.tuple);
            self.wake_readers(&item.workspace, &item.tuple);
        }
        if let Some(home) = self.home_for(shard, 0)
            && home != origin.node
        {
            self.send_if(
                home,
                Message::Store {
                    shard,
                    origin,
                    first,
                    items,
                },
            );
        }
    }
}
