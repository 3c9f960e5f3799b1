//! The world: nodes, links, disks and time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeCard, NodeId};
use cpe_mesh::{Command, Event, Genesis, Input, Output, Peer, PeerConfig, Reply, RequestId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::check::{Books, Report, Violation};
use crate::disk::Disk;
use crate::record::{Record, value_of};
use crate::scenario::Scenario;
use crate::work::Open;

/// How long a node has to hand over its homes before a clean stop becomes an end.
const DRAIN: Duration = Duration::from_secs(10);

/// What happens when.
#[derive(Debug)]
pub(crate) enum Happening {
    Deliver {
        from: usize,
        to: usize,
        boot: u32,
        bytes: Vec<u8>,
    },
    Gossip {
        to: usize,
        boot: u32,
        bytes: Vec<u8>,
    },
    Wake {
        node: usize,
        boot: u32,
    },
    Written {
        node: usize,
        boot: u32,
        token: u64,
        sync: bool,
    },
    LinkUp {
        a: usize,
        b: usize,
    },
    Start {
        node: usize,
    },
    Crash {
        node: usize,
    },
    Stop {
        node: usize,
    },
    Part,
    Heal,
    Ask,
    Act {
        node: usize,
        lease: cpe_mesh::LeaseHandle,
        act: cpe_space::LeaseAct,
    },
    Abandon {
        node: usize,
        boot: u32,
        request: RequestId,
    },
}

/// A node and its disk.
#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) id: NodeId,
    pub(crate) peer: Option<Peer>,
    disk: Disk,
    /// Counts its starts: what was under way for an earlier one is void.
    pub(crate) boot: u32,
    waking: Option<Duration>,
    /// When the disk is free: writes end in order.
    disk_free: Duration,
    pub(crate) open: BTreeMap<RequestId, Open>,
    /// The request by which it drains, while it does.
    draining: Option<RequestId>,
}

/// A running simulation.
#[derive(Debug)]
pub struct World {
    pub(crate) scenario: Scenario,
    pub(crate) now: Duration,
    pub(crate) rng: ChaCha8Rng,
    queue: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    pub(crate) nodes: Vec<SimNode>,
    /// Which side of a partition each node is on.
    sides: Vec<bool>,
    up: BTreeSet<(usize, usize)>,
    /// Who keeps dialling whom: the founder's address from the start, others as peers ask for it.
    dialling: BTreeSet<(usize, usize)>,
    pub(crate) calm: bool,
    pub(crate) books: Books,
    pub(crate) record: Record,
    /// Variables whose mode is known to be set, by number.
    pub(crate) declared: BTreeSet<u32>,
    pub(crate) next_value: i64,
    pub(crate) next_request: u64,
    pub(crate) report: Report,
    pub(crate) violation: Option<Violation>,
    trace: Option<Vec<String>>,
    /// What a node that leaves has to say: it arrives before the node's links go.
    farewell: Option<Vec<(usize, Vec<u8>)>>,
}

impl World {
    /// A world before anything happened.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let nodes = (0..scenario.nodes)
            .map(|n| SimNode {
                id: NodeId(n as u64 + 1),
                peer: None,
                disk: Disk::default(),
                boot: 0,
                waking: None,
                disk_free: Duration::ZERO,
                open: BTreeMap::new(),
                draining: None,
            })
            .collect();
        let mut world = Self {
            sides: vec![false; scenario.nodes],
            scenario,
            now: Duration::ZERO,
            rng,
            queue: BTreeMap::new(),
            sequence: 0,
            nodes,
            up: BTreeSet::new(),
            dialling: BTreeSet::new(),
            calm: false,
            books: Books::default(),
            record: Record::default(),
            declared: BTreeSet::new(),
            next_value: 0,
            next_request: 0,
            report: Report {
                seed,
                ..Report::default()
            },
            violation: None,
            trace: None,
            farewell: None,
        };
        world.plan();
        world
    }

    /// Keeps a line per event, for [`World::trace`].
    pub fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// The lines kept.
    #[must_use]
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// How much of the virtual time has passed, 0 to 1, settling not included.
    #[must_use]
    pub fn progress(&self) -> f64 {
        (self.now.as_secs_f64() / self.scenario.seconds.max(f64::MIN_POSITIVE)).min(1.0)
    }

    /// Runs to the end: work under faults, then calm until all is settled.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run(mut self) -> Result<Report, (Violation, Vec<String>)> {
        let result = self.run_all();
        let trace = self.trace.take().unwrap_or_default();
        result.map_err(|violation| (violation, trace))
    }

    fn run_all(&mut self) -> Result<Report, Violation> {
        let end = self.scenario.span();
        self.run_until(end)?;
        self.calm_down();
        let limit = end + self.scenario.settle();
        let mut settled = false;
        while !settled && self.now < limit {
            let next = self.now + Duration::from_millis(500);
            self.run_until(next)?;
            settled = self.is_settled();
        }
        self.close()
    }

    fn run_until(&mut self, end: Duration) -> Result<(), Violation> {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), happening) = entry.remove_entry();
            self.now = at;
            self.happen(happening);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.now = end;
        Ok(())
    }

    pub(crate) fn at(&mut self, when: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((when, self.sequence), happening);
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random_bool(probability.min(1.0))
    }

    /// A time with an exponential distribution, from its mean.
    fn exponential(&mut self, mean_seconds: f64) -> Duration {
        let u: f64 = self.rng.random_range(f64::EPSILON..1.0);
        Duration::from_secs_f64((-u.ln() * mean_seconds).min(1.0e6))
    }

    fn up_to(&mut self, most_ms: f64) -> Duration {
        let ms = self.rng.random_range(0.0..=most_ms.max(0.0));
        Duration::from_secs_f64(ms / 1_000.0)
    }

    /// Draws the schedule of starts, faults and requests.
    fn plan(&mut self) {
        for node in 0..self.nodes.len() {
            let at = Duration::from_millis(20 * node as u64);
            self.at(at, Happening::Start { node });
        }
        let end = self.scenario.span();
        let faults = self.scenario.faults.clone();
        for node in 0..self.nodes.len() {
            for (per_minute, crash) in [(faults.crashes, true), (faults.stops, false)] {
                for at in self.times(Duration::from_secs(1), end, per_minute / 60.0) {
                    let what = if crash {
                        Happening::Crash { node }
                    } else {
                        Happening::Stop { node }
                    };
                    self.at(at, what);
                }
            }
        }
        if self.nodes.len() > 1 {
            for at in self.times(Duration::from_secs(1), end, faults.partitions / 60.0) {
                self.at(at, Happening::Part);
            }
        }
        let rate = self.scenario.workload.rate;
        for at in self.times(Duration::from_millis(200), end, rate) {
            self.at(at, Happening::Ask);
        }
    }

    /// Times of a Poisson process.
    fn times(&mut self, from: Duration, end: Duration, per_second: f64) -> Vec<Duration> {
        let mut times = Vec::new();
        let mut at = from;
        if per_second > 0.0 {
            loop {
                at += self.exponential(1.0 / per_second);
                if at >= end {
                    break;
                }
                times.push(at);
            }
        }
        times
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver {
                from,
                to,
                boot,
                bytes,
            } => {
                if self.is_boot(to, boot) && self.linked(from, to) {
                    self.report.messages += 1;
                    let from = NodeId(from as u64 + 1);
                    self.input(to, Input::Message { from, bytes });
                }
            }
            Happening::Gossip { to, boot, bytes } => {
                if self.is_boot(to, boot) {
                    self.report.messages += 1;
                    self.input(to, Input::Gossip(bytes));
                }
            }
            Happening::Wake { node, boot } => {
                if self.is_boot(node, boot) {
                    if let Some(node) = self.nodes.get_mut(node) {
                        node.waking = None;
                    }
                    self.input(node, Input::Tick);
                }
            }
            Happening::Written {
                node,
                boot,
                token,
                sync,
            } => {
                if self.is_boot(node, boot) {
                    if let Some(node) = self.nodes.get_mut(node) {
                        node.disk.ended(sync);
                    }
                    self.input(node, Input::Persisted(token));
                }
            }
            Happening::LinkUp { a, b } => self.link_up(a, b),
            Happening::Start { node } => self.start(node),
            Happening::Crash { node } => self.crash(node),
            Happening::Stop { node } => self.stop(node),
            Happening::Part => self.part(),
            Happening::Heal => {
                self.sides.fill(false);
                self.relink();
            }
            Happening::Ask => self.ask(),
            Happening::Act { node, lease, act } => self.act(node, lease, act),
            Happening::Abandon {
                node,
                boot,
                request,
            } => self.abandon(node, boot, request),
        }
    }

    pub(crate) fn is_boot(&self, node: usize, boot: u32) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|node| node.peer.is_some() && node.boot == boot)
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.peer.is_some())
    }

    fn linked(&self, a: usize, b: usize) -> bool {
        self.up.contains(&(a.min(b), a.max(b)))
    }

    fn start(&mut self, n: usize) {
        if self.is_up(n) {
            return;
        }
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        let member = Member {
            node: node.id,
            inc: Incarnation(1),
        };
        let mut card = NodeCard::new(member, format!("n{}", n + 1));
        card.peer_id = format!("peer-{}", n + 1);
        card.addresses = vec![format!("/sim/{}", n + 1)];
        let mut config = PeerConfig::new(card);
        // Small, so that snapshots happen.
        config.log_entries_max = 64;
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1_000.0);
        config.group_size = self.scenario.homes;
        config.eligible_after = ms(self.scenario.eligible_ms);
        config.replace_after = ms(self.scenario.replace_ms);
        if n == 0 {
            let shards = self.scenario.shards;
            let mesh = "simulated".to_owned();
            config.genesis = Some(Genesis {
                mesh,
                shards,
                founder: member,
            });
        }
        node.boot += 1;
        node.draining = None;
        node.waking = None;
        node.disk_free = self.now;
        self.dialling.retain(|(from, _)| *from != n);
        if n != 0 {
            self.dialling.insert((n, 0));
        }
        let seed = self.rng.random();
        match Peer::new(config, node.disk.image(), seed, self.now) {
            Ok(peer) => node.peer = Some(peer),
            Err(error) => {
                self.violation = Some(Violation::Boot(error.to_string()));
                return;
            }
        }
        self.drain_outputs(n);
        self.relink();
    }

    /// Brings up, a little later, every link that can be.
    fn relink(&mut self) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                if !self.linked(a, b) && self.can_link(a, b) {
                    let at = self.now + Duration::from_millis(5) + self.up_to(50.0);
                    self.at(at, Happening::LinkUp { a, b });
                }
            }
        }
    }

    /// True while nothing stands between two nodes.
    fn can_hear(&self, a: usize, b: usize) -> bool {
        self.is_up(a) && self.is_up(b) && self.sides.get(a) == self.sides.get(b)
    }

    fn can_link(&self, a: usize, b: usize) -> bool {
        let dialled = self.dialling.contains(&(a, b)) || self.dialling.contains(&(b, a));
        dialled && self.can_hear(a, b)
    }

    /// A node wants a link to another from now on.
    fn dial(&mut self, from: usize, to: usize) {
        if self.dialling.insert((from, to)) {
            let (a, b) = (from.min(to), from.max(to));
            let at = self.now + Duration::from_millis(5) + self.up_to(50.0);
            self.at(at, Happening::LinkUp { a, b });
        }
    }

    fn link_up(&mut self, a: usize, b: usize) {
        if !self.linked(a, b) && self.can_link(a, b) {
            self.up.insert((a, b));
            for (here, there) in [(a, b), (b, a)] {
                self.input(here, Input::LinkUp(NodeId(there as u64 + 1)));
            }
        }
    }

    fn link_down(&mut self, a: usize, b: usize) {
        if self.up.remove(&(a.min(b), a.max(b))) {
            for (here, there) in [(a, b), (b, a)] {
                if self.is_up(here) {
                    self.input(here, Input::LinkDown(NodeId(there as u64 + 1)));
                }
            }
        }
    }

    fn crash(&mut self, n: usize) {
        if !self.is_up(n) {
            return;
        }
        self.report.crashes += 1;
        self.note(n, "crash");
        if let Some(node) = self.nodes.get_mut(n) {
            node.disk.crash(&mut self.rng);
        }
        self.end(n);
    }

    /// Takes a node away and plans its return.
    fn end(&mut self, n: usize) {
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        let unsettled = node.peer.as_ref().map_or(0, Peer::unsettled_takes);
        self.books.excused += unsettled as u64;
        node.peer = None;
        node.open.clear();
        self.record.gone(n);
        for other in 0..self.nodes.len() {
            self.link_down(n, other);
        }
        let at = self.now + Duration::from_millis(100) + self.up_to(self.scenario.faults.down_ms);
        self.at(at, Happening::Start { node: n });
    }

    fn stop(&mut self, n: usize) {
        if !self.is_up(n)
            || self
                .nodes
                .get(n)
                .is_some_and(|node| node.draining.is_some())
        {
            return;
        }
        self.report.stops += 1;
        self.note(n, "drain");
        let request = self.fresh_request();
        if let Some(node) = self.nodes.get_mut(n) {
            node.draining = Some(request);
        }
        self.input(
            n,
            Input::Command(request, Command::Drain { deadline: DRAIN }),
        );
    }

    fn drained(&mut self, n: usize) {
        self.note(n, "stop");
        self.farewell = Some(Vec::new());
        self.input(n, Input::Leave);
        let from = NodeId(n as u64 + 1);
        for (to, bytes) in self.farewell.take().unwrap_or_default() {
            self.report.messages += 1;
            self.input(to, Input::Message { from, bytes });
        }
        if let Some(node) = self.nodes.get_mut(n) {
            node.disk.sync(usize::MAX);
        }
        self.end(n);
    }

    fn part(&mut self) {
        self.report.partitions += 1;
        for node in 0..self.nodes.len() {
            let side = self.rng.random_bool(0.5);
            if let Some(at) = self.sides.get_mut(node) {
                *at = side;
            }
        }
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                if self.linked(a, b) && !self.can_hear(a, b) {
                    self.link_down(a, b);
                }
            }
        }
        self.relink();
        let heal = self.now + self.up_to(self.scenario.faults.partition_ms);
        self.at(heal, Happening::Heal);
    }

    /// The second phase: no more faults, everybody back.
    fn calm_down(&mut self) {
        self.calm = true;
        self.scenario.faults = crate::Faults {
            delay_min_ms: self.scenario.faults.delay_min_ms,
            delay_mean_ms: self.scenario.faults.delay_mean_ms,
            disk_ms: self.scenario.faults.disk_ms,
            ..crate::Faults::default()
        };
        self.sides.fill(false);
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        self.relink();
    }

    pub(crate) fn fresh_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    pub(crate) fn input(&mut self, n: usize, input: Input) {
        let now = self.now;
        if let Some(peer) = self.nodes.get_mut(n).and_then(|node| node.peer.as_mut()) {
            peer.handle(now, input);
            self.drain_outputs(n);
        }
    }

    fn drain_outputs(&mut self, n: usize) {
        loop {
            let Some(node) = self.nodes.get_mut(n) else {
                return;
            };
            let Some(output) = node.peer.as_mut().and_then(Peer::poll_output) else {
                break;
            };
            self.output(n, output);
        }
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        let boot = node.boot;
        if let Some(wake) = node.peer.as_ref().and_then(Peer::next_wake)
            && node.waking.is_none_or(|at| wake < at)
        {
            node.waking = Some(wake);
            let at = wake.max(self.now);
            self.at(at, Happening::Wake { node: n, boot });
        }
    }

    fn output(&mut self, n: usize, output: Output) {
        match output {
            Output::Send { to, bytes, .. } => {
                let to = usize::try_from(to.0 - 1).unwrap_or(usize::MAX);
                self.mark(&bytes);
                self.transmit(n, to, bytes);
            }
            Output::Broadcast { bytes, .. } => {
                self.mark(&bytes);
                for to in 0..self.nodes.len() {
                    let lost = self.chance(self.scenario.faults.gossip_loss);
                    if to != n && self.can_hear(n, to) && !lost {
                        let at = self.now + self.latency();
                        let boot = self.nodes.get(to).map_or(0, |node| node.boot);
                        let bytes = bytes.clone();
                        self.at(at, Happening::Gossip { to, boot, bytes });
                    }
                }
            }
            Output::Persist { token, batch, sync } => {
                let takes = self.up_to(self.scenario.faults.disk_ms);
                let Some(node) = self.nodes.get_mut(n) else {
                    return;
                };
                node.disk.queue(batch);
                let at = node.disk_free.max(self.now) + takes;
                node.disk_free = at;
                let boot = node.boot;
                self.at(
                    at,
                    Happening::Written {
                        node: n,
                        boot,
                        token,
                        sync,
                    },
                );
            }
            Output::Reply(request, reply) => {
                if self
                    .nodes
                    .get(n)
                    .is_some_and(|node| node.draining == Some(request))
                {
                    let ends = matches!(reply, Reply::Done);
                    self.note(
                        n,
                        if ends {
                            "drained"
                        } else {
                            "not drained in time"
                        },
                    );
                    self.drained(n);
                } else {
                    self.replied(n, request, reply);
                }
            }
            Output::Event(Event::Diverged { shard, .. }) => {
                self.violation = Some(Violation::Diverged(shard.0));
            }
            Output::Event(Event::Malformed { reason, .. }) => {
                self.violation = Some(Violation::Malformed(reason));
            }
            Output::Event(Event::Moved(..)) => self.report.moves += 1,
            Output::Connect { node, .. } => {
                let to = usize::try_from(node.0 - 1).unwrap_or(usize::MAX);
                self.dial(n, to);
            }
            Output::Event(_) => {}
        }
    }

    fn latency(&mut self) -> Duration {
        let faults = &self.scenario.faults;
        let (least, mean) = (faults.delay_min_ms, faults.delay_mean_ms);
        let (straggle, straggle_ms) = (faults.straggle, faults.straggle_ms);
        let mut took = Duration::from_secs_f64(least / 1_000.0);
        took += self.exponential(mean / 1_000.0);
        if self.chance(straggle) {
            took += self.up_to(straggle_ms);
        }
        took
    }

    fn transmit(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.report.bytes += bytes.len() as u64;
        if !self.linked(from, to) || self.chance(self.scenario.faults.loss) {
            return;
        }
        if let Some(farewell) = self.farewell.as_mut() {
            farewell.push((to, bytes));
            return;
        }
        let boot = self.nodes.get(to).map_or(0, |node| node.boot);
        let copies = if self.chance(self.scenario.faults.duplicate) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let at = self.now + self.latency();
            let bytes = bytes.clone();
            self.at(
                at,
                Happening::Deliver {
                    from,
                    to,
                    boot,
                    bytes,
                },
            );
        }
    }

    /// Folds what is sent into the run's hash.
    fn mark(&mut self, bytes: &[u8]) {
        let mut hash = self.report.trace ^ self.now.as_nanos() as u64;
        for chunk in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            hash = (hash ^ u64::from_le_bytes(word))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(29);
        }
        self.report.trace = hash;
    }

    pub(crate) fn note(&mut self, n: usize, what: &str) {
        let now = self.now;
        if let Some(trace) = self.trace.as_mut() {
            trace.push(format!("{:>10.6} n{} {what}", now.as_secs_f64(), n + 1));
        }
    }

    /// True when nothing is left to wait for.
    fn is_settled(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.open.is_empty()
                && node
                    .peer
                    .as_ref()
                    // A take given up may hold a tuple until its home has put it back.
                    .is_some_and(|peer| peer.genesis().is_some() && peer.unsettled_takes() == 0)
        }) && self.unadmitted() == 0
            && self.leases_left() == 0
            && self.difference().is_none()
    }

    /// Stores still on their way, anywhere.
    fn unadmitted(&self) -> usize {
        let peers = self.nodes.iter().filter_map(|node| node.peer.as_ref());
        peers
            .flat_map(Peer::shards)
            .map(|shard| shard.pending().len())
            .sum()
    }

    /// A shard whose replicas differ.
    fn difference(&self) -> Option<u16> {
        let mut peers = self.nodes.iter().filter_map(|node| node.peer.as_ref());
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

    /// The end: closes the books.
    fn close(&mut self) -> Result<Report, Violation> {
        let quiet = (self.now.saturating_sub(self.scenario.span())).as_secs();
        if let Some(shard) = self.difference() {
            return Err(Violation::NotConverged {
                shard,
                seconds: quiet,
            });
        }
        let unadmitted = self.unadmitted();
        if unadmitted > 0 {
            return Err(Violation::NotAdmitted(unadmitted));
        }
        let open = self.nodes.iter().map(|node| node.open.len()).sum();
        if open > 0 {
            return Err(Violation::Unanswered(open));
        }
        let leases = self.leases_left();
        if leases > 0 {
            return Err(Violation::NotExpired(leases));
        }
        let there = self.values_left();
        self.report.lost_with_taker = self.books.close(&there)?;
        self.report.left = there.len() as u64;
        let left = self.variables_left();
        let checked = self.record.check(self.now, left);
        self.report.checked = checked.map_err(Violation::Order)?;
        self.report.seconds = self.now.as_secs_f64();
        Ok(self.report.clone())
    }

    fn values_left(&self) -> BTreeSet<i64> {
        self.variables_left().into_values().flatten().collect()
    }

    /// What is left in each variable, the oldest first.
    fn variables_left(&self) -> BTreeMap<String, Vec<i64>> {
        let peer = self.nodes.first().and_then(|node| node.peer.as_ref());
        let mut left: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for shard in peer.into_iter().flat_map(Peer::shards) {
            for (_, variables) in shard.sm().workspaces() {
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
