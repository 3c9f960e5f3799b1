//! Tier 0: who is behind.

use cpe_membership::NodeId;
use cpe_space::{ShardId, Version};
use rand::RngExt;

use crate::peer::{Peer, Timer};
use crate::wire::Message;

impl Peer {
    /// Compares digests with one other node, beginning with a hash of everything.
    pub(crate) fn compare_digests(&mut self) {
        self.timers
            .set(Timer::Digest, self.now + self.config.digest_interval);
        self.expire_offers();
        if self.links.is_empty() {
            return;
        }
        let nth = self.rng.random_range(0..self.links.len());
        if let Some(to) = self.links.iter().nth(nth).copied() {
            if self.genesis.is_some() {
                self.send_root(to);
            } else {
                // The greeting that names the mesh was lost.
                self.greet(to);
            }
        }
    }

    /// Says where all replicas stand, in one number.
    pub(crate) fn send_root(&mut self, to: NodeId) {
        if self.genesis.is_some() {
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
            let pull = self.slot(*shard).and_then(|slot| slot.pull.as_ref());
            if pull.is_some_and(|pull| !pull.is_begun()) {
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
}
