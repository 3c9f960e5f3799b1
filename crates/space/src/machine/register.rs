//! The register of volatile shards' home groups, kept by durable shards.
//!
//! A volatile shard cannot tell by itself that its majority is lost, for whoever knew its last home
//! group may be gone. So each has a durable shard that keeps a register of it: its groups serve only
//! once they are registered, and only the register begins the next generation. (Lamport, Malkhi and
//! Zhou, "Vertical Paxos and primary-backup replication", PODC 2009: here the register is the
//! configuration master.)

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
    /// The group that was given up last.
    given_up: BTreeMap<ShardId, Config>,
    /// Generations begin after this one.
    skipped: u64,
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
        Applied::Registered(shard)
    }

    /// What was registered may be lost, and what is left may be old.
    pub(super) fn forked(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        let epochs = groups.values().map(|config| config.epoch);
        let newest = epochs.max().map_or(0, generation_of);
        self.skipped = self.skipped.max(newest).saturating_add(FORK_GENERATIONS);
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
