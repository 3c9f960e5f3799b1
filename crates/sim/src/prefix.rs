//! What a node's replicas show: a prefix of the one history of each shard, and never a shorter one
//! than before (guarantee G5); and that replicas at the same place in it are the same.

use std::collections::BTreeMap;

use cpe_mesh::Peer;
use cpe_space::{Shard, Version, generation_of};

use crate::check::Violation;
use crate::world::World;

/// Places of a shard's history that are remembered. Beyond that the oldest are forgotten.
const PLACES_MAX: usize = 100_000;

/// Lines of states that differ that are shown.
const LINES: usize = 12;

/// What was seen of replicas when their nodes answered.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    /// By node and shard: in which start, and where it stood.
    seen: BTreeMap<(usize, u16), (u32, Version)>,
    /// The history, as its hash at each place: by shard, generation and index.
    history: BTreeMap<(u16, u64, u64), u64>,
}

impl Prefixes {
    /// A replica stands here, in this start of its node.
    fn see(
        &mut self,
        node: usize,
        shard: u16,
        boot: u32,
        version: Version,
    ) -> Result<(), Violation> {
        let before = self.seen.insert((node, shard), (boot, version));
        // The next generation of a volatile shard begins anew.
        let place = |version: Version| (generation_of(version.epoch), version.index);
        if let Some((last, before)) = before
            && last == boot
            && (version.epoch < before.epoch || place(version) < place(before))
        {
            return Err(Violation::WentBack {
                node: node + 1,
                shard,
            });
        }
        let (generation, index) = place(version);
        let place = (shard, generation, index);
        let hash = *self.history.entry(place).or_insert(version.hash);
        if self.history.len() > PLACES_MAX {
            self.history.pop_first();
        }
        if hash != version.hash {
            return Err(Violation::Diverged(shard));
        }
        Ok(())
    }
}

impl World {
    /// A node has answered from its replica.
    pub(crate) fn look(&mut self, n: usize) {
        let Some(node) = self.nodes.get(n) else {
            return;
        };
        for replica in node.peer.iter().flat_map(Peer::shards) {
            let (shard, version) = (replica.id().0, replica.version());
            if let Err(violation) = self.prefixes.see(n, shard, node.boot, version) {
                self.violation = Some(violation);
                return;
            }
        }
        self.report.looks += 1;
    }

    /// Replicas that stand at the same place and are not the same.
    pub(crate) fn states_differ(&mut self) -> Option<Violation> {
        let mut first: BTreeMap<(u16, Version), &Shard> = BTreeMap::new();
        let peers = self.nodes.iter().filter_map(|node| node.peer.as_ref());
        let (shard, index, what) = peers.flat_map(Peer::shards).find_map(|replica| {
            let (shard, version) = (replica.id().0, replica.version());
            let other = *first.entry((shard, version)).or_insert(replica);
            let (a, b) = (other.sm(), replica.sm());
            (a != b).then(|| {
                let what = difference(
                    &format!("{:#?}", other.sm()),
                    &format!("{:#?}", replica.sm()),
                );
                (shard, version.index, what)
            })
        })?;
        self.note_all(|| format!("in shard {shard} replicas differ: {what}"));
        Some(Violation::StatesDiffer { shard, index })
    }
}

/// The first lines in which two texts differ.
fn difference(a: &str, b: &str) -> String {
    let mut pairs = a.lines().zip(b.lines());
    let first = pairs.position(|(a, b)| a != b).unwrap_or(0);
    let part = |text: &str| {
        let lines = text
            .lines()
            .skip(first.saturating_sub(LINES / 2))
            .take(LINES);
        let lines: Vec<&str> = lines.map(str::trim).collect();
        lines.join(" ")
    };
    format!("{} against {}", part(a), part(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(epoch: u64, index: u64, hash: u64) -> Version {
        Version { epoch, index, hash }
    }

    #[test]
    fn a_replica_that_shows_less_than_before_is_a_violation_but_not_after_a_restart() {
        let mut prefixes = Prefixes::default();
        prefixes.see(0, 3, 1, at(1, 5, 50)).unwrap();
        prefixes.see(1, 3, 1, at(1, 4, 40)).unwrap();
        prefixes.see(0, 3, 1, at(2, 5, 50)).unwrap();
        let back = Violation::WentBack { node: 1, shard: 3 };
        assert_eq!(prefixes.see(0, 3, 1, at(2, 4, 40)), Err(back));
        prefixes.see(1, 3, 2, at(1, 3, 30)).unwrap();
    }

    #[test]
    fn two_histories_are_seen_at_the_first_place_where_they_differ() {
        let mut prefixes = Prefixes::default();
        prefixes.see(0, 3, 1, at(1, 5, 50)).unwrap();
        prefixes.see(1, 3, 1, at(1, 4, 41)).unwrap();
        assert_eq!(
            prefixes.see(1, 3, 1, at(1, 5, 51)),
            Err(Violation::Diverged(3))
        );
    }
}
