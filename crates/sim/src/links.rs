//! Links: who can hear whom, and what becomes of a message on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::Input;
use rand::RngExt;

use crate::schedule::{exponential, up_to};
use crate::trace::{Gone, between};
use crate::world::{Happening, World};

/// Neighbours a gossiped frame is passed on to at each hop (gossipsub's D).
const GOSSIP_DEGREE: usize = 6;

/// Longest time a link takes to come up once it can, in milliseconds, besides the shortest.
const LINK_UP_MS: f64 = 50.0;

/// Shortest time a link takes to come up.
const LINK_UP: Duration = Duration::from_millis(5);

/// The state of the network.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Per node, whether it is linked with each other.
    up: Vec<Vec<bool>>,
    /// Per node, whom it keeps dialling: the founder from the start, others as its peer asks.
    dialling: Vec<BTreeSet<usize>>,
    /// Partitions under way: which side each node is on.
    partitions: BTreeMap<u64, Vec<bool>>,
    /// Links that are held down, and by how many faults.
    cut: BTreeMap<(usize, usize), u32>,
    /// Directions in which everything vanishes, and by how many faults.
    deaf: BTreeMap<(usize, usize), u32>,
    faults: u64,
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn release(map: &mut BTreeMap<(usize, usize), u32>, key: (usize, usize)) {
    if let Some(count) = map.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            map.remove(&key);
        }
    }
}

impl Links {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            up: vec![vec![false; nodes]; nodes],
            dialling: vec![BTreeSet::new(); nodes],
            ..Self::default()
        }
    }

    pub(crate) fn linked(&self, a: usize, b: usize) -> bool {
        let links = self.up.get(a);
        links.and_then(|links| links.get(b)).copied() == Some(true)
    }

    fn set_linked(&mut self, a: usize, b: usize, linked: bool) {
        for (here, there) in [(a, b), (b, a)] {
            let links = self.up.get_mut(here);
            if let Some(link) = links.and_then(|links| links.get_mut(there)) {
                *link = linked;
            }
        }
    }

    /// Whom a node is linked with, in order.
    fn of(&self, n: usize) -> Vec<usize> {
        let links = self.up.get(n).into_iter().flatten().enumerate();
        links
            .filter(|(_, up)| **up)
            .map(|(other, _)| other)
            .collect()
    }

    /// True when a dial by either end is wanted.
    fn wanted(&self, a: usize, b: usize) -> bool {
        let dials = |a: usize, b: usize| self.dialling.get(a).is_some_and(|d| d.contains(&b));
        dials(a, b) || dials(b, a)
    }

    /// True while neither a partition nor a cut stands between two nodes.
    fn is_open(&self, a: usize, b: usize) -> bool {
        let together = |sides: &Vec<bool>| sides.get(a) == sides.get(b);
        self.partitions.values().all(together) && !self.cut.contains_key(&ordered(a, b))
    }

    fn is_deaf(&self, from: usize, to: usize) -> bool {
        !self.deaf.is_empty() && self.deaf.contains_key(&(from, to))
    }

    /// Wants a link; false when it was wanted already.
    pub(crate) fn dial(&mut self, from: usize, to: usize) -> bool {
        self.dialling.get_mut(from).is_some_and(|d| d.insert(to))
    }

    pub(crate) fn forget_dials(&mut self, from: usize) {
        if let Some(dialling) = self.dialling.get_mut(from) {
            dialling.clear();
        }
    }

    /// Ends every fault of the network.
    pub(crate) fn heal(&mut self) {
        self.partitions.clear();
        self.cut.clear();
        self.deaf.clear();
    }
}

impl World {
    /// True while nothing stands between two nodes.
    fn can_hear(&self, a: usize, b: usize) -> bool {
        self.is_up(a) && self.is_up(b) && self.links.is_open(a, b)
    }

    fn plan_link(&mut self, a: usize, b: usize) {
        let (a, b) = ordered(a, b);
        if !self.links.linked(a, b) && self.links.wanted(a, b) && self.can_hear(a, b) {
            let at = self.now + LINK_UP + up_to(&mut self.rng, LINK_UP_MS);
            self.at(at, Happening::LinkUp { a, b });
        }
    }

    /// Brings up, a little later, every link of a node that can be.
    pub(crate) fn relink_node(&mut self, n: usize) {
        for other in 0..self.nodes.len() {
            if other != n {
                self.plan_link(n, other);
            }
        }
    }

    /// Brings up, a little later, every link that can be.
    pub(crate) fn relink(&mut self) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                self.plan_link(a, b);
            }
        }
    }

    /// A node wants a link to another from now on.
    pub(crate) fn dial(&mut self, from: usize, to: usize) {
        if self.links.dial(from, to) {
            self.plan_link(from, to);
        }
    }

    pub(crate) fn link_up(&mut self, a: usize, b: usize) {
        if self.links.linked(a, b) || !self.links.wanted(a, b) || !self.can_hear(a, b) {
            return;
        }
        self.links.set_linked(a, b, true);
        self.note_all(|| format!("{} are linked", between(a, b)));
        for (here, there) in [(a, b), (b, a)] {
            self.input(here, Input::LinkUp(NodeId(there as u64 + 1)));
        }
    }

    fn link_down(&mut self, a: usize, b: usize) {
        if !self.links.linked(a, b) {
            return;
        }
        self.links.set_linked(a, b, false);
        self.note_all(|| format!("{} are linked no more", between(a, b)));
        for (here, there) in [(a, b), (b, a)] {
            if self.is_up(here) {
                self.input(here, Input::LinkDown(NodeId(there as u64 + 1)));
            }
        }
    }

    /// A node is gone: so are its links.
    pub(crate) fn links_end(&mut self, n: usize) {
        for other in self.links.of(n) {
            self.link_down(n, other);
        }
    }

    fn drop_closed_links(&mut self) {
        for a in 0..self.nodes.len() {
            for b in self.links.of(a) {
                if a < b && !self.links.is_open(a, b) {
                    self.link_down(a, b);
                }
            }
        }
    }

    pub(crate) fn part(&mut self, side: &[usize], lasts: Duration) {
        self.report.partitions += 1;
        let mut sides = vec![false; self.nodes.len()];
        for node in side {
            if let Some(at) = sides.get_mut(*node) {
                *at = true;
            }
        }
        self.links.faults += 1;
        let number = self.links.faults;
        self.note_all(|| {
            let apart: Vec<String> = side.iter().map(|n| format!("n{}", n + 1)).collect();
            format!(
                "partition {number} for {lasts:?}: {} apart",
                apart.join(" ")
            )
        });
        self.links.partitions.insert(number, sides);
        self.drop_closed_links();
        self.at(self.now + lasts, Happening::Heal { partition: number });
    }

    pub(crate) fn heal(&mut self, partition: u64) {
        if self.links.partitions.remove(&partition).is_some() {
            self.note_all(|| format!("partition {partition} heals"));
        }
        self.relink();
    }

    pub(crate) fn deafen(&mut self, from: usize, to: usize, lasts: Duration) {
        self.report.bad_links += 1;
        self.note_all(|| format!("n{} hears nothing of n{} for {lasts:?}", to + 1, from + 1));
        *self.links.deaf.entry((from, to)).or_insert(0) += 1;
        self.at(self.now + lasts, Happening::Hear { from, to });
    }

    pub(crate) fn hear(&mut self, from: usize, to: usize) {
        release(&mut self.links.deaf, (from, to));
        self.note_all(|| format!("n{} hears n{} again", to + 1, from + 1));
    }

    /// A flapping link goes down, and will come back until its time is over.
    pub(crate) fn flap_down(&mut self, a: usize, b: usize, until: Duration, period: Duration) {
        *self.links.cut.entry(ordered(a, b)).or_insert(0) += 1;
        self.note_all(|| format!("the link {} is cut", between(a, b)));
        self.link_down(a, b);
        let at = self.now + period;
        self.at(
            at,
            Happening::FlapUp {
                a,
                b,
                until,
                period,
            },
        );
    }

    pub(crate) fn flap_up(&mut self, a: usize, b: usize, until: Duration, period: Duration) {
        release(&mut self.links.cut, ordered(a, b));
        self.note_all(|| format!("the link {} is no longer cut", between(a, b)));
        self.plan_link(a, b);
        let at = self.now + period;
        if at < until && !self.calm {
            self.at(
                at,
                Happening::FlapDown {
                    a,
                    b,
                    until,
                    period,
                },
            );
        }
    }

    fn latency(&mut self) -> Duration {
        let faults = &self.scenario.faults;
        let (least, mean) = (faults.delay_min_ms, faults.delay_mean_ms);
        let (straggle, straggle_ms) = (faults.straggle, faults.straggle_ms);
        let mut took = Duration::from_secs_f64(least / 1_000.0);
        took += exponential(&mut self.net, mean / 1_000.0);
        if self.lucky(straggle) {
            took += up_to(&mut self.net, straggle_ms);
        }
        took
    }

    fn lucky(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.net.random_bool(probability.min(1.0))
    }

    pub(crate) fn transmit(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.mark(&bytes);
        self.report.bytes += bytes.len() as u64;
        let lost = self.lucky(self.scenario.faults.loss);
        let gone = if lost {
            Some(Gone::Lost)
        } else if self.links.is_deaf(from, to) {
            Some(Gone::Deaf)
        } else {
            (!self.links.linked(from, to)).then_some(Gone::Unlinked)
        };
        self.note_sent(gone);
        if gone.is_some() {
            return;
        }
        if let Some(farewell) = self.farewell.as_mut() {
            farewell.push((to, bytes));
            return;
        }
        let boot = self.nodes.get(to).map_or(0, |node| node.boot);
        let sent_by = self.nodes.get(from).map_or(0, |node| node.boot);
        if self.lucky(self.scenario.faults.duplicate) {
            let at = self.now + self.latency();
            let bytes = bytes.clone();
            self.at(
                at,
                Happening::Deliver {
                    from,
                    sent_by,
                    to,
                    boot,
                    bytes,
                },
            );
        }
        let at = self.now + self.latency();
        self.at(
            at,
            Happening::Deliver {
                from,
                sent_by,
                to,
                boot,
                bytes,
            },
        );
    }

    /// Gossips a frame: each node has it after as many hops as a tree of that degree is deep.
    pub(crate) fn broadcast(&mut self, from: usize, bytes: Vec<u8>) {
        self.mark(&bytes);
        let bytes = Arc::new(bytes);
        let others = self.nodes.len().saturating_sub(1);
        for to in 0..self.nodes.len() {
            let lost = self.lucky(self.scenario.faults.gossip_loss);
            if to == from {
                continue;
            }
            let gone = if lost {
                Some(Gone::Lost)
            } else if self.links.is_deaf(from, to) {
                Some(Gone::Deaf)
            } else {
                (!self.can_hear(from, to)).then_some(Gone::Unlinked)
            };
            self.note_sent(gone);
            if gone.is_some() {
                continue;
            }
            let mut at = self.now + self.latency();
            let (mut reached, mut rank) = (GOSSIP_DEGREE, 0);
            if others > reached {
                rank = self.net.random_range(0..others);
            }
            let mut width = GOSSIP_DEGREE;
            while rank >= reached {
                at += self.latency();
                width *= GOSSIP_DEGREE;
                reached += width;
            }
            let boot = self.nodes.get(to).map_or(0, |node| node.boot);
            let bytes = Arc::clone(&bytes);
            self.at(at, Happening::Gossip { to, boot, bytes });
        }
    }

    /// Folds what is sent into the run's hash.
    fn mark(&mut self, bytes: &[u8]) {
        let mut hash = self.report.trace ^ self.now.as_nanos() as u64;
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0_u8; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        for word in words.iter().chain([&last]) {
            hash = (hash ^ u64::from_le_bytes(*word))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(29);
        }
        self.report.trace = hash;
    }
}
