//! The end of a run: whether all is settled, and what must add up then.

use std::collections::{BTreeMap, BTreeSet};

use cpe_mesh::Peer;
use cpe_space::Sm;

use crate::check::{Report, Violation};
use crate::record::value_of;
use crate::volatile::SCRATCH;
use crate::work::WORKSPACE;
use crate::world::World;

impl World {
    fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.nodes.iter().filter_map(|node| node.peer.as_ref())
    }

    /// The state of the replica that is furthest.
    pub(crate) fn newest(&self, shard: u16) -> Option<&Sm> {
        let replicas = self
            .peers()
            .filter_map(|peer| peer.shards().nth(usize::from(shard)));
        replicas
            .map(cpe_space::Shard::sm)
            .max_by_key(|sm| sm.index())
    }

    /// True when nothing is left to wait for.
    pub(crate) fn is_settled(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.open.is_empty()
                && node
                    .peer
                    .as_ref()
                    // A take given up may hold a tuple until its home has put it back.
                    .is_some_and(|peer| peer.genesis().is_some() && peer.unsettled_takes() == 0)
        }) && self.unadmitted() == 0
            && self.leases_left() == 0
            && self.effects_left() == 0
            && self.takes_left() == 0
            && self.lost_body().is_none()
            && self.stray_bodies() == 0
            && self.unacknowledged() == 0
            && self.difference().is_none()
    }

    /// Stores still on their way, anywhere. What a node knew only on a disk that was lost is not.
    fn unadmitted(&self) -> usize {
        let pending = self.peers().flat_map(Peer::shards).flat_map(|shard| {
            let pending = shard.pending().keys();
            pending.map(move |dot| (shard.id().0, dot.origin))
        });
        pending
            .filter(|(shard, origin)| self.is_current(*shard, *origin))
            .count()
    }

    /// Keeps a line for each shard that has stores on their way, and what each node knows of it.
    fn note_stuck(&mut self) {
        let mut lines = Vec::new();
        for (n, node) in self.nodes.iter().enumerate() {
            for shard in node.peer.iter().flat_map(Peer::shards) {
                let (id, sm, pending) = (shard.id(), shard.sm(), shard.pending().len());
                if pending > 0 {
                    let (version, config) = (shard.version(), sm.config());
                    let before = sm.previous();
                    let what = format!(
                        "{pending} on their way in {id}: {version:?} {config:?} {before:?}"
                    );
                    lines.push((n, what));
                }
            }
        }
        for (n, what) in lines {
            self.note(n, || what);
        }
    }

    /// Keeps a line of each node that is up for how it stands in a shard.
    pub(crate) fn note_shard(&mut self, shard: u16) {
        let mut lines = Vec::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let peer = node.peer.as_ref();
            if let Some(replica) = peer.and_then(|peer| peer.shards().nth(usize::from(shard))) {
                let (version, sm) = (replica.version(), replica.sm());
                let (config, before) = (sm.config(), sm.previous());
                let standing = peer.and_then(|peer| peer.group_of(replica.id()));
                let what = format!(
                    "in {shard}: {version:?} {config:?}, before {before:?}, group {standing:?}"
                );
                lines.push((n, what));
            }
        }
        for (n, what) in lines {
            self.note(n, || what);
        }
    }

    /// A shard whose replicas differ.
    fn difference(&self) -> Option<u16> {
        let mut peers = self.peers();
        let first = peers.next()?;
        for other in peers {
            for (a, b) in first.shards().zip(other.shards()) {
                if a.version() != b.version() {
                    return Some(a.id().0);
                }
            }
            if first.shards().count() != other.shards().count() {
                return Some(0);
            }
        }
        None
    }

    /// Outcomes that nodes have received and homes still remember.
    fn unacknowledged(&self) -> usize {
        self.peers().map(Peer::unacknowledged).sum()
    }

    /// The end: closes the books.
    pub(crate) fn close(&mut self) -> Result<Report, Violation> {
        let quiet = (self.now.saturating_sub(self.scenario.span())).as_secs();
        if let Some(shard) = self.difference() {
            return Err(Violation::NotConverged {
                shard,
                seconds: quiet,
            });
        }
        if let Some(violation) = self.states_differ() {
            return Err(violation);
        }
        let unadmitted = self.unadmitted();
        if unadmitted > 0 {
            self.note_stuck();
            return Err(Violation::NotAdmitted(unadmitted));
        }
        let open = self.nodes.iter().map(|node| node.open.len()).sum();
        if open > 0 {
            return Err(Violation::Unanswered(open));
        }
        let unsettled = self.peers().map(Peer::unsettled_takes).sum();
        if unsettled > 0 {
            return Err(Violation::Unsettled(unsettled));
        }
        let kept = self.unacknowledged();
        if kept > 0 {
            return Err(Violation::NotForgotten(kept));
        }
        let leases = self.leases_left();
        if leases > 0 {
            return Err(Violation::NotExpired(leases));
        }
        self.forget_generations();
        if let Some(hash) = self.lost_body() {
            return Err(Violation::BodyLost(hash.to_string()));
        }
        let strays = self.stray_bodies();
        if strays > 0 {
            return Err(Violation::BodiesLeft(strays));
        }
        let left = self.variables_left();
        let there: BTreeSet<i64> = left.values().flatten().copied().collect();
        self.report.lost_with_taker = self.books.close(&there)?;
        self.report.left = there.len() as u64;
        self.report.deletions = self.deletions.done;
        for n in 0..self.nodes.len() {
            self.count_catch_ups(n);
        }
        let checked = self.record.check(self.now, left);
        self.report.checked = checked.map_err(Violation::Order)?;
        self.report.seconds = self.now.as_secs_f64();
        Ok(self.report.clone())
    }

    /// Adds up how the replicas of a node caught up.
    pub(crate) fn count_catch_ups(&mut self, n: usize) {
        let Some(peer) = self.nodes.get(n).and_then(|node| node.peer.as_ref()) else {
            return;
        };
        self.report.sketches += peer.counter("sketches_installed");
        self.report.snapshots += peer.counter("snapshots_installed");
        self.report.states_failed += peer.counter("states_failed");
    }

    /// What is left in each variable, the oldest first.
    fn variables_left(&self) -> BTreeMap<String, Vec<i64>> {
        let mut left: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for shard in self.peers().next().into_iter().flat_map(Peer::shards) {
            let workspaces = shard.sm().workspaces();
            let ours = |name: &cpe_space::Name| [WORKSPACE, SCRATCH].contains(&name.as_str());
            for (_, variables) in workspaces.filter(|(name, _)| ours(name)) {
                for (name, variable) in variables {
                    let values = variable.tuples().map(|(_, tuple)| value_of(tuple));
                    let name = name.as_str().unwrap_or_default().to_owned();
                    left.entry(name).or_default().extend(values);
                }
            }
        }
        left
    }
}
