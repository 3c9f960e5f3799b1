//! One replica of one shard: decided prefix, the log that made it, and adds not yet admitted.
//!
//! A replica's value is `(index, state)` on a single chain, plus `pending` (space.md, section
//! 2.9): the product of a chain under "longer wins" and an add-wins set whose removals are read
//! off the chain. [`Shard::merge`] is therefore commutative, associative and idempotent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cpe_membership::Member;
use cpe_tuple::{Template, Tuple};
use serde::{Deserialize, Serialize};

use crate::{Applied, Command, Config, Dot, Entry, Name, ShardId, Sm};

/// Entries. How far ahead of the decided prefix feeds are kept while a gap is pulled.
pub const MAX_AHEAD_ENTRIES: usize = 4_096;
/// Bytes. The same, by size.
pub const MAX_AHEAD_BYTES: usize = 4 * 1024 * 1024;
/// Entries. Adds known but not admitted, of all origins, per shard; more are not kept (their
/// origin still has them).
pub const MAX_PENDING: usize = 16_384;
/// Bytes. The same, by size.
pub(crate) const MAX_PENDING_BYTES: usize = 64 * 1024 * 1024;

/// A store on its way to its home.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Workspace.
    pub workspace: Name,
    /// The tuple.
    pub tuple: Tuple,
}

/// Where a replica stands: what digests compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Epoch of the home group.
    pub epoch: u64,
    /// Entries applied.
    pub index: u64,
    /// Chain hash after them.
    pub hash: u64,
}

/// What is wrong with an entry or snapshot somebody sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Entry bytes that are no command.
    #[error("entry {index} of shard {shard} does not decode: {reason}")]
    Malformed {
        /// The shard.
        shard: ShardId,
        /// The entry's index.
        index: u64,
        /// What the decoder said.
        reason: String,
    },
    /// Two histories of one shard differ: a home lost or rolled back synced state.
    #[error(
        "two histories of shard {shard} differ at index {index}; stop the node and report this"
    )]
    Diverged {
        /// The shard.
        shard: ShardId,
        /// Where they were compared.
        index: u64,
    },
}

/// One replica of one shard.
#[derive(Clone, Debug)]
pub struct Shard {
    id: ShardId,
    sm: Sm,
    /// Entries `base + 1 ..= sm.index`, each with the chain hash after it.
    log: VecDeque<(Entry, u64)>,
    base: u64,
    base_hash: u64,
    log_bytes: usize,
    /// Bytes of all entries applied here.
    applied_bytes: u64,
    /// Entries beyond the prefix, waiting for a gap to close.
    ahead: BTreeMap<u64, Entry>,
    ahead_bytes: usize,
    pending: BTreeMap<Dot, Item>,
    /// Bytes of their tuples.
    pending_bytes: usize,
    /// Names that entries may have given to somebody, or freed, and nobody has asked for since.
    named: BTreeSet<String>,
}

impl Shard {
    /// A replica that knows nothing.
    #[must_use]
    pub fn new(id: ShardId, config: Config) -> Self {
        Self::from_snapshot(id, Sm::new(config))
    }

    /// A replica that begins at a snapshot.
    #[must_use]
    pub fn from_snapshot(id: ShardId, sm: Sm) -> Self {
        Self {
            id,
            base: sm.index(),
            base_hash: sm.hash(),
            sm,
            log: VecDeque::new(),
            log_bytes: 0,
            applied_bytes: 0,
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            named: BTreeSet::new(),
        }
    }

    /// Bytes of the entries applied since the replica was made, one by one: what came as a state
    /// does not count.
    #[must_use]
    pub fn applied_bytes(&self) -> u64 {
        self.applied_bytes
    }

    /// Which shard.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The decided state.
    #[must_use]
    pub fn sm(&self) -> &Sm {
        &self.sm
    }

    /// Where it stands.
    #[must_use]
    pub fn version(&self) -> Version {
        Version {
            epoch: self.sm.config().epoch,
            index: self.sm.index(),
            hash: self.sm.hash(),
        }
    }

    /// Index before the first entry still in the log.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes of the log.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    /// Entries after `from`, at most `bytes` of them in all but at least one; `None` when the log
    /// no longer reaches back that far.
    #[must_use]
    pub fn suffix(&self, from: u64, bytes: usize) -> Option<Vec<Entry>> {
        let skip = usize::try_from(from.checked_sub(self.base)?).ok()?;
        let mut left = bytes;
        let mut entries = Vec::new();
        for (entry, _) in self.log.iter().skip(skip) {
            let size = entry.as_bytes().len();
            if !entries.is_empty() && size > left {
                break;
            }
            left = left.saturating_sub(size);
            entries.push(entry.clone());
        }
        Some(entries)
    }

    /// Forgets log entries up to `index`, which a snapshot covers.
    pub fn trim(&mut self, index: u64) {
        while self.base < index.min(self.sm.index()) {
            let Some((entry, hash)) = self.log.pop_front() else {
                break;
            };
            self.log_bytes -= entry.as_bytes().len();
            self.base += 1;
            self.base_hash = hash;
        }
    }

    /// Applies the next entry. Only a home that decided it, or a feed, has one.
    pub fn push(&mut self, entry: Entry, command: &Command) -> Applied {
        let hash = entry.chain(self.sm.hash());
        let mut applied = self.sm.apply(command, hash);
        if let Applied::Added {
            dot: Some(dot),
            pending,
            ..
        } = &mut applied
        {
            *pending = self.pending.contains_key(dot);
        }
        self.log_bytes += entry.as_bytes().len();
        self.applied_bytes += entry.as_bytes().len() as u64;
        self.log.push_back((entry, hash));
        match command {
            Command::Admit { dot, .. } => self.settle(dot.origin),
            Command::Retire { .. } => self.settle_all(),
            Command::Claim { name, .. }
            | Command::ClaimLeased { name, .. }
            | Command::Migrate { name, .. }
            | Command::Release { name, .. } => drop(self.named.insert(name.clone())),
            _ => {}
        }
        applied
    }

    /// Names of actors whose host may have changed by entries since this was asked last. States
    /// that were [installed](Self::install) are not among what it tells of.
    pub fn take_named(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.named)
    }

    /// Applies what a feed brings: entries `from + 1 ..`. Calls `seen` for each entry that became
    /// part of the prefix, in order.
    ///
    /// # Errors
    /// At the first entry that does not decode, or that forks another history than this one; those
    /// before it were applied.
    pub fn feed(
        &mut self,
        from: u64,
        entries: &[Entry],
        mut seen: impl FnMut(u64, &Entry, Applied),
    ) -> Result<(), FeedError> {
        if from.checked_add(entries.len() as u64 + 1).is_none() {
            return Ok(());
        }
        let next = self.sm.index() + 1;
        for (at, entry) in (from + 1..).zip(entries) {
            let room = self.ahead.len() < MAX_AHEAD_ENTRIES && self.ahead_bytes < MAX_AHEAD_BYTES;
            if at >= next && (room || at == next) && !self.ahead.contains_key(&at) {
                self.ahead_bytes += entry.as_bytes().len();
                self.ahead.insert(at, entry.clone());
            }
            self.absorb(&mut seen)?;
        }
        self.absorb(&mut seen)
    }

    fn absorb(&mut self, seen: &mut impl FnMut(u64, &Entry, Applied)) -> Result<(), FeedError> {
        while let Some(first) = self.ahead.first_entry() {
            let next = self.sm.index() + 1;
            if *first.key() > next {
                break;
            }
            let (at, entry) = first.remove_entry();
            self.ahead_bytes -= entry.as_bytes().len();
            if at < next {
                continue;
            }
            let command = entry.command().map_err(|error| FeedError::Malformed {
                shard: self.id,
                index: at,
                reason: error.to_string(),
            })?;
            if let Command::Fork { after, .. } = &command
                && *after != self.sm.hash()
            {
                return Err(FeedError::Diverged {
                    shard: self.id,
                    index: at - 1,
                });
            }
            let applied = self.push(entry.clone(), &command);
            seen(at, &entry, applied);
            if matches!(command, Command::Fork { .. }) {
                self.forget_ahead();
            }
        }
        Ok(())
    }

    /// True when entries wait beyond a gap.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// What was heard before a fork continues the history that the fork has left.
    fn forget_ahead(&mut self) {
        self.ahead.clear();
        self.ahead_bytes = 0;
    }

    /// Takes over a snapshot that is further than this replica; false when it is not.
    pub fn install(&mut self, sm: Sm) -> bool {
        if sm.index() <= self.sm.index() {
            return false;
        }
        if sm.forked_at() > self.sm.forked_at() {
            self.forget_ahead();
        }
        self.base = sm.index();
        self.base_hash = sm.hash();
        self.sm = sm;
        self.log.clear();
        self.log_bytes = 0;
        self.ahead = self.ahead.split_off(&(self.base + 1));
        self.ahead_bytes = self
            .ahead
            .values()
            .map(|entry| entry.as_bytes().len())
            .sum();
        self.settle_all();
        true
    }

    /// Learns of a store nobody has admitted yet; false when it is admitted or known.
    pub fn add_pending(&mut self, dot: Dot, item: Item) -> bool {
        if dot.n <= self.sm.admitted(dot.origin)
            || self.pending.contains_key(&dot)
            || self.pending.len() >= MAX_PENDING
            || self.pending_bytes >= MAX_PENDING_BYTES
        {
            return false;
        }
        self.pending_bytes += item.tuple.size();
        self.pending.insert(dot, item);
        true
    }

    /// Forgets stores of an origin that nobody will bring to their home any more.
    pub fn drop_pending(&mut self, origin: Member) {
        let mut left = self.pending_bytes;
        self.pending.retain(|dot, item| {
            let keep = dot.origin != origin;
            left -= if keep { 0 } else { item.tuple.size() };
            keep
        });
        self.pending_bytes = left;
    }

    /// Stores not yet admitted, by origin and count.
    #[must_use]
    pub fn pending(&self) -> &BTreeMap<Dot, Item> {
        &self.pending
    }

    /// Stores of one origin not yet admitted, in order.
    pub fn pending_of(&self, origin: Member) -> impl Iterator<Item = (&Dot, &Item)> {
        self.pending.range(
            Dot { origin, n: 0 }..=Dot {
                origin,
                n: u64::MAX,
            },
        )
    }

    fn settle_all(&mut self) {
        let origins: BTreeSet<Member> = self.pending.keys().map(|dot| dot.origin).collect();
        for origin in origins {
            self.settle(origin);
        }
    }

    /// Drops pending adds the chain has admitted, or never will.
    fn settle(&mut self, origin: Member) {
        let admitted = self.sm.admitted(origin);
        loop {
            let first = self.pending_of(origin).next().map(|(dot, _)| *dot);
            let Some(dot) = first.filter(|dot| dot.n <= admitted) else {
                break;
            };
            if let Some(item) = self.pending.remove(&dot) {
                self.pending_bytes -= item.tuple.size();
            }
        }
    }

    /// What a local read finds: the decided state first, then pending adds (guarantee G5).
    #[must_use]
    pub fn find(&self, workspace: &Name, template: &Template) -> Option<Tuple> {
        if let Some((_, tuple)) = self.sm.find(workspace, template) {
            return Some(tuple.clone());
        }
        self.pending
            .values()
            .find(|item| item.workspace == *workspace && template.matches(&item.tuple))
            .map(|item| item.tuple.clone())
    }

    /// The join of two replicas: the longer chain, and the adds it does not cover.
    ///
    /// # Errors
    /// When the chains are not prefixes of one another, as far as this can be seen: the shorter
    /// one's end is compared where the longer one's log reaches it.
    pub fn merge(&mut self, other: &Self) -> Result<(), FeedError> {
        let (short, long) = if other.sm.index() > self.sm.index() {
            (&*self, other)
        } else {
            (other, &*self)
        };
        if long
            .hash_at(short.sm.index())
            .is_some_and(|hash| hash != short.sm.hash())
        {
            return Err(FeedError::Diverged {
                shard: self.id,
                index: short.sm.index(),
            });
        }
        if other.sm.index() > self.sm.index() {
            let pending = std::mem::take(&mut self.pending);
            let pending_bytes = self.pending_bytes;
            *self = Self {
                pending,
                pending_bytes,
                ..other.clone()
            };
        }
        for (dot, item) in &other.pending {
            self.add_pending(*dot, item.clone());
        }
        self.settle_all();
        Ok(())
    }

    /// Chain hash after an entry, as far back as the log reaches.
    #[must_use]
    pub fn hash_at(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.base)? {
            0 => Some(self.base_hash),
            n => self
                .log
                .get(usize::try_from(n - 1).ok()?)
                .map(|(_, hash)| *hash),
        }
    }
}
