//! How replicas follow the homes (space.md, 1.3): feeds, digests, pulls and snapshots.

use std::time::Duration;

use cpe_membership::{Member, NodeId};
use cpe_space::{Applied, Dot, Entry, FeedError, Item, ShardId, Sm, Version};
use rand::RngExt;

use crate::boot;
use crate::peer::{Event, Peer, Timer};
use crate::persist::Table;
use crate::serve::are_dots;
use crate::wire::{FeedPart, MAX_GOSSIP_BYTES, Message};

/// Bytes of entries sent in answer to one request.
const FEED_BYTES: usize = 1024 * 1024;

/// Bytes of one part of a snapshot.
const SNAPSHOT_PART_BYTES: usize = 256 * 1024;

/// Bytes. The largest snapshot taken from a peer.
const MAX_SNAPSHOT_BYTES: u64 = 1024 * 1024 * 1024;

/// Entries. No history reaches half of all numbers: an index beyond is not believed.
pub(crate) const MAX_INDEX: u64 = u64::MAX / 2;

/// Snapshots kept encoded while they are being fetched.
const MAX_SNAPSHOTS_SENDING: usize = 8;

/// Entries kept in memory behind a snapshot, for replicas that lag.
const LOG_KEPT: u64 = 4_096;

/// How long an answer to a pull is waited for.
const PULL_RETRY: Duration = Duration::from_secs(1);

/// What a replica knows to be missing, and who has it.
#[derive(Debug)]
pub(crate) struct Pull {
    /// Who is at least this far.
    pub(crate) from: NodeId,
    /// The furthest index heard of.
    pub(crate) index: u64,
    snapshot: Option<Incoming>,
}

/// A snapshot on its way here.
#[derive(Debug)]
struct Incoming {
    index: u64,
    total: u64,
    bytes: Vec<u8>,
}

impl Pull {
    pub(crate) fn new(from: NodeId, index: u64) -> Self {
        Self {
            from,
            index,
            snapshot: None,
        }
    }

    /// True while a snapshot is on its way: another node's would begin anew.
    pub(crate) fn is_fetching(&self) -> bool {
        self.snapshot.is_some()
    }
}

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
        // A leader is ahead of all feeds, or will step down and ask.
        if slot.home.is_some() {
            return;
        }
        let first = slot.shard.version().index + 1;
        let mut applied: Vec<(u64, Entry, Applied)> = Vec::new();
        let result = slot.shard.feed(from, entries, |index, entry, what| {
            applied.push((index, entry.clone(), what));
        });
        for (index, entry, _) in &applied {
            debug_assert!(*index >= first);
            let bytes = entry.as_bytes().to_vec();
            self.batch
                .put(Table::Log, boot::indexed(shard, *index), bytes);
        }
        self.count("entries_applied", applied.len() as u64);
        let any = !applied.is_empty();
        for (_, _, what) in applied {
            self.applied(shard, what);
        }
        if let Err(error) = result {
            self.feed_error(source, &error);
        }
        if any {
            self.learned(shard);
            self.compact(shard);
        }
        self.note_version(source, shard, version, any);
    }

    /// The replica holds history that this node's group did not bring it.
    fn learned(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        slot.log_end = slot.log_end.max(slot.shard.version().index);
        self.marks.insert(shard);
        self.hold(shard);
    }

    fn feed_error(&mut self, from: Option<NodeId>, error: &FeedError) {
        self.malformed(from, error.to_string());
    }

    /// Remembers who is ahead and sees to it that the gap closes.
    fn note_version(
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

    /// Asks for what is missing.
    pub(crate) fn pull(&mut self, shard: ShardId) {
        let links: Vec<NodeId> = self.links.iter().copied().collect();
        let Some(slot) = self.slot(shard) else { return };
        let own = slot.shard.version().index;
        let Some(pull) = slot.pull.as_mut() else {
            return;
        };
        if pull.index <= own {
            slot.pull = None;
            return;
        }
        let message = match &pull.snapshot {
            Some(incoming) => {
                let offset = incoming.bytes.len() as u64;
                Message::SnapReq {
                    shard,
                    index: incoming.index,
                    offset,
                }
            }
            None => Message::FeedReq { shard, from: own },
        };
        let mut from = pull.from;
        if !links.contains(&from)
            && let Some(other) = links.get(self.rng.random_range(0..links.len().max(1)))
        {
            from = *other;
            if let Some(pull) = self.slot(shard).and_then(|slot| slot.pull.as_mut()) {
                pull.from = from;
                pull.snapshot = None;
            }
        }
        self.count("pulls", 1);
        self.send_if(from, message);
        self.timers.set(Timer::Pull(shard), self.now + PULL_RETRY);
    }

    pub(crate) fn serve_feed(&mut self, to: NodeId, shard: ShardId, from: u64) {
        let Some(slot) = self.slot(shard) else { return };
        let version = slot.shard.version();
        if from >= version.index {
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
            None => self.serve_snapshot(to, shard, 0, 0),
        }
    }

    /// Compares digests with one other node, beginning with a hash of everything.
    pub(crate) fn compare_digests(&mut self) {
        self.timers
            .set(Timer::Digest, self.now + self.config.digest_interval);
        if self.genesis.is_none() || self.links.is_empty() {
            return;
        }
        let nth = self.rng.random_range(0..self.links.len());
        if let Some(to) = self.links.iter().nth(nth).copied() {
            let root = self.root();
            self.send_if(to, Message::Root { root });
        }
    }

    fn versions(&self) -> Vec<(ShardId, Version)> {
        let all = self
            .slots
            .iter()
            .map(|slot| (slot.shard.id(), slot.shard.version()));
        all.filter(|(_, version)| version.index > 0).collect()
    }

    /// Hash over all versions.
    fn root(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for (shard, version) in self.versions() {
            hasher.update(&shard.0.to_be_bytes());
            hasher.update(&version.index.to_be_bytes());
            hasher.update(&version.hash.to_be_bytes());
        }
        let mut low = [0_u8; 8];
        for (to, from) in low.iter_mut().zip(hasher.finalize().as_bytes()) {
            *to = *from;
        }
        u64::from_be_bytes(low)
    }

    pub(crate) fn serve_root(&mut self, from: NodeId, root: u64) {
        if self.genesis.is_some() && root != self.root() {
            let versions = self.versions();
            self.send_if(
                from,
                Message::Digest {
                    reply: false,
                    versions,
                },
            );
        }
    }

    pub(crate) fn serve_digest(
        &mut self,
        from: NodeId,
        reply: bool,
        versions: &[(ShardId, Version)],
    ) {
        let mut theirs = versions.iter().copied().peekable();
        let mut behind = Vec::new();
        for (shard, own) in self.versions() {
            while theirs.next_if(|(other, _)| *other < shard).is_some() {}
            match theirs.next_if(|(other, _)| *other == shard) {
                Some((_, version)) if version.index >= own.index => {}
                _ => behind.push((shard, own)),
            }
        }
        for (shard, version) in versions {
            let now = self.now;
            self.note_version(Some(from), *shard, *version, false);
            if self.slot(*shard).is_some_and(|slot| slot.pull.is_some()) {
                // The other has it for certain: nothing to wait for.
                self.timers.set(Timer::Pull(*shard), now);
            }
        }
        if !reply && !behind.is_empty() {
            self.send_if(
                from,
                Message::Digest {
                    reply: true,
                    versions: behind,
                },
            );
        }
    }

    /// Sends a part of a snapshot: of the one asked for while it is kept, else of a new one.
    pub(crate) fn serve_snapshot(&mut self, to: NodeId, shard: ShardId, index: u64, offset: u64) {
        let kept = self
            .snapshots
            .get(&shard)
            .is_some_and(|(at, _)| *at == index);
        let mut offset = offset;
        if !kept {
            let Some(slot) = self.slot_ref(shard) else {
                return;
            };
            let Ok(bytes) = cpe_tuple::codec::encode(slot.shard.sm()) else {
                return;
            };
            let at = slot.shard.version().index;
            // The same state has the same encoding: go on where the other is.
            if at != index {
                offset = 0;
            }
            if self.snapshots.len() >= MAX_SNAPSHOTS_SENDING {
                self.snapshots.pop_first();
            }
            self.snapshots.insert(shard, (at, bytes));
        }
        let Some((index, whole)) = self.snapshots.get(&shard) else {
            return;
        };
        let (index, total) = (*index, whole.len() as u64);
        let part = usize::try_from(offset)
            .ok()
            .and_then(|from| whole.get(from..));
        let Some(part) = part else { return };
        let bytes = part
            .get(..SNAPSHOT_PART_BYTES.min(part.len()))
            .unwrap_or(part)
            .to_vec();
        if offset + bytes.len() as u64 >= total {
            self.snapshots.remove(&shard);
        }
        self.send_if(
            to,
            Message::SnapPart {
                shard,
                index,
                total,
                offset,
                bytes,
            },
        );
    }

    pub(crate) fn take_snapshot(
        &mut self,
        from: NodeId,
        shard: ShardId,
        index: u64,
        total: u64,
        offset: u64,
        bytes: &[u8],
    ) {
        let now = self.now;
        let Some(slot) = self.slot(shard) else { return };
        if slot.home.is_some()
            || index <= slot.shard.version().index
            || index > MAX_INDEX
            || total > MAX_SNAPSHOT_BYTES
        {
            return;
        }
        let Some(pull) = slot.pull.as_mut() else {
            return;
        };
        if offset == 0 && pull.snapshot.as_ref().is_none_or(|s| s.index != index) {
            pull.from = from;
            pull.snapshot = Some(Incoming {
                index,
                total,
                bytes: Vec::new(),
            });
        }
        let Some(incoming) = pull.snapshot.as_mut() else {
            return;
        };
        let next = incoming.bytes.len() as u64;
        if incoming.index != index || incoming.total != total || next != offset {
            return;
        }
        incoming.bytes.extend_from_slice(bytes);
        if (incoming.bytes.len() as u64) < total {
            if bytes.is_empty() {
                pull.snapshot = None;
                return;
            }
            self.timers.set(Timer::Pull(shard), now);
            return;
        }
        let whole = std::mem::take(&mut incoming.bytes);
        pull.snapshot = None;
        match cpe_tuple::codec::decode::<Sm>(&whole, whole.len()) {
            Ok(sm) if sm.index() == index => self.install(shard, sm, whole),
            Ok(_) => self.malformed(Some(from), "a snapshot of another index".to_owned()),
            Err(error) => self.malformed(Some(from), format!("a snapshot: {error}")),
        }
        self.timers.set(Timer::Pull(shard), now);
    }

    fn install(&mut self, shard: ShardId, sm: Sm, bytes: Vec<u8>) {
        let config = sm.config().clone();
        let index = sm.index();
        let Some(slot) = self.slot(shard) else { return };
        if !slot.shard.install(sm) {
            return;
        }
        slot.saved = index;
        self.count("snapshots_installed", 1);
        self.save_snapshot(shard, index, bytes);
        self.learned(shard);
        self.clear_outbox(shard);
        self.learn_home(shard, config);
        self.look_again(shard);
        self.settle_home(shard);
    }

    /// A snapshot may hold what readers wait for.
    fn look_again(&mut self, shard: ShardId) {
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let tuples: Vec<_> = self
            .readers
            .keys()
            .filter_map(|(workspace, variable)| {
                let variable = variable.as_ref()?;
                let found = slot.shard.sm().variable(workspace, variable)?;
                Some((
                    workspace.clone(),
                    found.tuples().map(|(_, t)| t.clone()).collect(),
                ))
            })
            .collect();
        for (workspace, found) in tuples {
            let found: Vec<cpe_tuple::Tuple> = found;
            for tuple in found {
                self.wake_readers(&workspace, &tuple);
            }
        }
    }

    fn save_snapshot(&mut self, shard: ShardId, index: u64, bytes: Vec<u8>) {
        self.batch
            .put(Table::Snapshot, boot::shard_key(shard), bytes);
        let (from, to) = (boot::indexed(shard, 0), boot::indexed(shard, index + 1));
        self.batch.delete_range(Table::Log, from, to);
    }

    /// Writes a snapshot when the log has outgrown it.
    pub(crate) fn compact(&mut self, shard: ShardId) {
        let (entries, bytes) = (self.config.log_entries_max, self.config.log_bytes_max);
        let Some(slot) = self.slot(shard) else { return };
        let index = slot.shard.version().index;
        let since = index - slot.saved.min(index);
        // Cheap first: counting tuples walks all variables.
        if since <= entries / 4 {
            return;
        }
        // A snapshot costs as much as there are tuples: let the log grow with them.
        let due =
            since > entries.max(2 * slot.shard.sm().len() as u64) || slot.shard.log_bytes() > bytes;
        if !due {
            return;
        }
        let Ok(encoded) = cpe_tuple::codec::encode(slot.shard.sm()) else {
            return;
        };
        slot.saved = index;
        slot.shard.trim(index.saturating_sub(LOG_KEPT));
        while slot.shard.log_bytes() > bytes && slot.shard.base() < index {
            let next = slot.shard.base() + 1;
            slot.shard.trim(next);
        }
        self.save_snapshot(shard, index, encoded);
    }

    /// Stores somebody else could not bring to their home: shown here, passed on if possible.
    pub(crate) fn take_pending(
        &mut self,
        shard: ShardId,
        origin: Member,
        first: u64,
        items: Vec<Item>,
    ) {
        if origin == self.me || !are_dots(first, items.len()) {
            return;
        }
        let Some(slot) = self.slot(shard) else { return };
        let mut fresh = Vec::new();
        for (n, item) in (first..).zip(&items) {
            if slot.shard.add_pending(Dot { origin, n }, item.clone()) {
                fresh.push(item.clone());
            }
        }
        for item in fresh {
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
