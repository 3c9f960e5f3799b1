//! The register of volatile shards' home groups, kept by durable shards.
//!
//! A volatile shard cannot tell by itself that its majority is lost, for whoever knew its last home
//! group may be gone. So each has a durable shard that keeps a register of it: its groups serve
//! only once they are registered, and only the register begins the next generation. (Lamport,
//! Malkhi and Zhou, "Vertical Paxos and primary-backup replication", PODC 2009: here the register
//! is the configuration master.)

use std::collections::BTreeMap;

use cpe_membership::Member;
use serde::{Deserialize, Serialize};

use super::{Applied, Sm};
use crate::{Config, ShardId, first_of, generation_of};

/// Generations that a fork skips: it may lack what was begun before. More than will ever begin
/// while a majority of the register's group is lost.
const FORK_GENERATIONS: u64 = 1 << 12;

/// The newest home group of each volatile shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Register {
    groups: BTreeMap<ShardId, Config>,
    /// Of groups that were reinstated: the index of the seal after which they go on.
    reinstated: BTreeMap<ShardId, u64>,
    /// The group that was given up last.
    given_up: BTreeMap<ShardId, Config>,
    /// Generations begin after this one.
    skipped: u64,
    /// The home group that each present generation began with.
    #[serde(default)]
    first: BTreeMap<ShardId, Vec<Member>>,
}

impl Register {
    pub(super) fn begin(&mut self, shard: ShardId, after: u64, members: &[Member]) -> Applied {
        let last = self.groups.get(&shard).map_or(0, |config| config.epoch);
        let size = 1..=Config::MAX_MEMBERS;
        if last != after || !size.contains(&members.len()) {
            return Applied::Nothing;
        }
        let epoch = first_of(generation_of(last).max(self.skipped) + 1);
        let members = members.to_vec();
        self.first.insert(shard, members.clone());
        self.reinstated.remove(&shard);
        if let Some(lost) = self.groups.insert(shard, Config { epoch, members }) {
            self.given_up.insert(shard, lost);
        }
        Applied::Registered(shard)
    }

    pub(super) fn register(&mut self, shard: ShardId, config: &Config) -> Applied {
        let Some(last) = self.groups.get_mut(&shard) else {
            return Applied::Nothing;
        };
        let same = generation_of(last.epoch) == generation_of(config.epoch);
        let size = 1..=Config::MAX_MEMBERS;
        if !same || config.epoch <= last.epoch || !size.contains(&config.members.len()) {
            return Applied::Nothing;
        }
        *last = config.clone();
        self.reinstated.remove(&shard);
        Applied::Registered(shard)
    }

    pub(super) fn reinstate(&mut self, shard: ShardId, sealed_at: u64, config: &Config) -> Applied {
        let Some(last) = self.groups.get_mut(&shard) else {
            return Applied::Nothing;
        };
        // Not if the successor came to be registered after all.
        if config.epoch != last.epoch + 2 || config.members != last.members {
            return Applied::Nothing;
        }
        *last = config.clone();
        self.reinstated.insert(shard, sealed_at);
        Applied::Registered(shard)
    }

    /// The fork that begins this epoch may lack what was registered, and what is left may be old.
    pub(super) fn forked(&mut self, epoch: u64) {
        let groups = std::mem::take(&mut self.groups);
        self.reinstated.clear();
        let epochs = groups.values().map(|config| config.epoch);
        let newest = epochs.max().map_or(0, generation_of);
        // Two forks of one shard skip different numbers, but for one chance in many.
        let apart = epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15) % FORK_GENERATIONS;
        let skipped = self.skipped.max(newest);
        self.skipped = skipped.saturating_add(FORK_GENERATIONS + apart);
    }
}

impl Sm {
    /// The state in which a generation of a volatile shard begins with this home group.
    #[must_use]
    pub fn of_generation(config: Config) -> Self {
        let floor = first_of(generation_of(config.epoch));
        Self {
            index: floor,
            floor,
            ..Self::new(config)
        }
    }

    /// The home group registered last for a volatile shard; `None` when this shard does not keep
    /// its register, or it has had none yet.
    #[must_use]
    pub fn registered(&self, shard: ShardId) -> Option<&Config> {
        self.register.groups.get(&shard)
    }

    /// The home group with which a volatile shard's present generation began: that of its first
    /// epoch, whatever was registered since. Every replica begins there.
    #[must_use]
    pub fn begun(&self, shard: ShardId) -> Option<Config> {
        let last = self.register.groups.get(&shard)?;
        let epoch = first_of(generation_of(last.epoch));
        let members = self.register.first.get(&shard)?.clone();
        Some(Config { epoch, members })
    }

    /// When the registered home group of a volatile shard was reinstated: the index of the seal
    /// after which it goes on.
    #[must_use]
    pub fn reinstated(&self, shard: ShardId) -> Option<u64> {
        self.register.reinstated.get(&shard).copied()
    }

    /// The last home group of a volatile shard's generation before the present one.
    #[must_use]
    pub fn given_up(&self, shard: ShardId) -> Option<&Config> {
        self.register.given_up.get(&shard)
    }

    /// The number after which this generation began; 0 in a durable shard.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The generation of a volatile shard, from 1; 0 in a durable shard, and before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        generation_of(self.floor)
    }

    /// True for counts of stores and operations, and in volatile shards for indices and epochs,
    /// that belong to this generation.
    #[must_use]
    pub fn is_of_now(&self, number: u64) -> bool {
        generation_of(number) == generation_of(self.floor)
    }
}
