//! Nodes: how they start, stop, stand still and lose what they had.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeCard, NodeId};
use cpe_mesh::{Command, Event, Input, Output, Peer, PeerConfig, Reply, RequestId};
use cpe_space::ShardId;
use rand::RngExt;

use crate::bodies::Shelf;
use crate::check::{Excuse, Violation};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::schedule::up_to;
use crate::work::Open;
use crate::world::{Happening, World};

/// How long a node has to hand over its homes before a clean stop becomes an end.
const DRAIN: Duration = Duration::from_secs(10);

/// A node, its disk and its clock.
#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) member: Member,
    pub(crate) peer: Option<Peer>,
    pub(crate) disk: Disk,
    pub(crate) shelf: Shelf,
    pub(crate) clock: Clock,
    /// Counts its starts: what was under way for an earlier one is void.
    pub(crate) boot: u32,
    /// When it will be woken next.
    waking: Option<Duration>,
    /// Writes take up to the second while it is not yet the first.
    pub(crate) slow_disk: (Duration, Duration),
    pub(crate) open: BTreeMap<RequestId, Open>,
    /// The request by which it drains, while it does, and how long it is down then.
    draining: Option<(RequestId, Duration)>,
    /// What waits for it, while it stands still.
    held: Option<Vec<Input>>,
    /// It has taken in something and not finished it.
    in_turn: bool,
    /// How long it is down after its next write, which fails.
    fails: Option<Duration>,
}

impl SimNode {
    pub(crate) fn new(n: usize) -> Self {
        Self {
            member: Member {
                node: NodeId(n as u64 + 1),
                inc: Incarnation(1),
            },
            peer: None,
            disk: Disk::default(),
            shelf: Shelf::default(),
            clock: Clock::default(),
            boot: 0,
            waking: None,
            slow_disk: (Duration::ZERO, Duration::ZERO),
            open: BTreeMap::new(),
            draining: None,
            held: None,
            in_turn: false,
            fails: None,
        }
    }

    /// True while it stands still.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }
}

impl World {
    pub(crate) fn is_boot(&self, node: usize, boot: u32) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|node| node.peer.is_some() && node.boot == boot)
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.peer.is_some())
    }

    pub(crate) fn start(&mut self, n: usize) {
        if self.is_up(n) {
            return;
        }
        let seed = self.rng.random();
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        let member = node.member;
        let mut card = NodeCard::new(member, format!("n{}", n + 1));
        card.peer_id = format!("peer-{}", n + 1);
        card.addresses = vec![format!("/sim/{}", n + 1)];
        let mut config = PeerConfig::new(card);
        // Small, so that snapshots happen.
        config.log_entries_max = 64;
        config.log_kept = 16;
        if self.scenario.workload.bodies > 0.0 {
            config.sweep_interval = Duration::from_secs(2);
        }
        config.body_grace = Duration::from_secs(5);
        config.body_taken_max = Duration::from_secs(20);
        // Longer than any message is on its way.
        config.retire_after = Duration::from_secs(5);
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1_000.0);
        if self.scenario.workload.node_lease_ms > 0.0 {
            config.node_lease = self.scenario.node_lease();
            // Besides being told to.
            config.stands_by = self.seed.is_multiple_of(2);
        }
        config.eligible_after = ms(self.scenario.eligible_ms);
        config.replace_after = ms(self.scenario.replace_ms);
        // Who founds the mesh and lost it joins like any other: to found it again would be another
        // mesh.
        let founds = n == 0 && member.inc == Incarnation(1);
        if founds {
            config.genesis = Some(self.scenario.genesis(member));
        }
        node.boot += 1;
        node.draining = None;
        node.waking = None;
        node.held = None;
        node.in_turn = false;
        node.fails = None;
        let now = node.clock.shows(self.now);
        let mut image = Cow::Borrowed(node.disk.image());
        let bodies = node.shelf.there();
        if !bodies.is_empty() {
            image.to_mut().bodies = bodies;
        }
        match Peer::new(config, &image, seed, now) {
            Ok(peer) => node.peer = Some(peer),
            Err(error) => {
                self.violation = Some(Violation::Boot(error.to_string()));
                return;
            }
        }
        self.links.forget_dials(n);
        if n != 0 {
            self.links.dial(n, 0);
        } else if !founds && self.nodes.len() > 1 {
            self.links.dial(0, 1);
        }
        self.note(n, || "start".to_owned());
        self.drain_outputs(n);
        self.relink_node(n);
        self.host_later(n);
    }

    pub(crate) fn crash(&mut self, n: usize, down: Option<Duration>) {
        if !self.is_up(n) {
            return;
        }
        self.report.crashes += 1;
        self.note(n, || "crash".to_owned());
        self.end_at_once(n, down);
    }

    fn end_at_once(&mut self, n: usize, down: Option<Duration>) {
        if let Some(node) = self.nodes.get_mut(n) {
            node.disk.crash(&mut self.rng);
            node.shelf.crash(&mut self.rng);
        }
        self.end(n, down);
    }

    /// Takes a node away and plans its return, if it returns by itself.
    fn end(&mut self, n: usize, down: Option<Duration>) {
        self.count_catch_ups(n);
        self.watches_gone(n);
        self.posts_gone(n);
        self.plains.gone(n);
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        let unsettled = node.peer.as_ref().map_or(0, Peer::unsettled_takes);
        self.books.excused.push(Excuse {
            node: n,
            boot: node.boot,
            until: self.now,
            takes: unsettled as u64,
        });
        node.peer = None;
        node.held = None;
        self.hosts.gone(n, self.now);
        self.actors.gone(n);
        self.tells.gone(n);
        self.answers.gone(n);
        self.bodies.gone(&node.open);
        node.open.clear();
        self.record.gone(n);
        self.links_end(n);
        if let Some(down) = down {
            self.at(self.now + down, Happening::Start { node: n });
        }
    }

    /// A node that crashes and whose disk is lost, if that is within the guarantees.
    pub(crate) fn lose_disk(&mut self, n: usize, down: Duration) {
        if !self.may_lose_disk(n) {
            self.note(n, || "spared the loss of its disk".to_owned());
            return;
        }
        self.forfeit(n, Some(down));
    }

    /// A node crashes and its disk is lost.
    pub(crate) fn forfeit(&mut self, n: usize, down: Option<Duration>) {
        self.report.lost_disks += 1;
        self.note(n, || "crash, and its disk is lost".to_owned());
        self.end(n, down);
        if let Some(node) = self.nodes.get_mut(n) {
            node.disk = Disk::default();
            // As a clock would: above the number of any start before.
            node.member.inc.0 = node.boot + 1;
            node.shelf = Shelf::default();
        }
    }

    /// True when every shard's group outlives the loss of any one disk: see
    /// [`Faults::disk_losses`](crate::Faults::disk_losses).
    fn may_lose_disk(&self, n: usize) -> bool {
        // A node that is down may know of a group that nobody else does.
        if !self.is_up(n) || !self.nodes.iter().all(|node| node.peer.is_some()) {
            return false;
        }
        let current = |member: &Member| self.nodes.iter().any(|node| node.member == *member);
        // A group of one may be named already, and decided any moment.
        let named = |shard| {
            let peers = self.nodes.iter().filter_map(|node| node.peer.as_ref());
            peers
                .into_iter()
                .any(|peer| peer.names_successor(ShardId(shard)))
        };
        (0..self.scenario.shards).all(|shard| {
            !named(shard)
                && self.newest(shard).is_some_and(|sm| {
                    let members = &sm.config().members;
                    let decided = sm.previous().is_none_or(|(_, sealed)| sm.index() > *sealed);
                    members.len() >= 3 && members.iter().all(current) && decided
                })
        }) && self.bodies_outlive(n)
    }

    pub(crate) fn fail_write(&mut self, n: usize, down: Duration) {
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        if node.peer.is_some() && node.fails.is_none() {
            node.disk.fail_next();
            node.fails = Some(down);
            self.report.bad_disks += 1;
            self.note(n, || "the next write fails".to_owned());
        }
    }

    /// A write has ended.
    pub(crate) fn written(&mut self, n: usize, token: u64, sync: bool) {
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        if node.disk.fails_now() {
            let down = node.fails;
            self.note(n, || "a write failed: stop".to_owned());
            self.end_at_once(n, down);
            return;
        }
        node.disk.ended(sync);
        self.input(n, Input::Persisted(token));
    }

    pub(crate) fn stop(&mut self, n: usize, down: Duration) {
        if !self.is_up(n) || self.nodes.get(n).is_some_and(SimNode::is_draining) {
            return;
        }
        self.report.stops += 1;
        self.note(n, || "drain".to_owned());
        let request = self.fresh_request();
        if let Some(node) = self.nodes.get_mut(n) {
            node.draining = Some((request, down));
        }
        let (deadline, whole) = (DRAIN, false);
        let drain = Command::Drain { deadline, whole };
        self.input(n, Input::Command(request, drain));
    }

    fn drained(&mut self, n: usize, down: Duration) {
        self.note(n, || "stop".to_owned());
        self.farewell = Some(Vec::new());
        self.input(n, Input::Leave);
        self.settle(n);
        let from = NodeId(n as u64 + 1);
        for (to, bytes) in self.farewell.take().unwrap_or_default() {
            self.report.messages += 1;
            self.input(to, Input::Message { from, bytes });
        }
        if self.nodes.get(n).is_some_and(|node| node.fails.is_some()) {
            return self.end_at_once(n, Some(down));
        }
        if let Some(node) = self.nodes.get_mut(n) {
            node.disk.sync(usize::MAX);
        }
        self.end(n, Some(down));
    }

    pub(crate) fn pause(&mut self, n: usize, lasts: Duration) {
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        if node.peer.is_some() && node.held.is_none() {
            node.held = Some(Vec::new());
            let boot = node.boot;
            self.report.pauses += 1;
            self.note(n, || "stands still".to_owned());
            self.at(self.now + lasts, Happening::Resume { node: n, boot });
        }
    }

    /// A node goes on: it finds its clock moved on, and all that arrived.
    pub(crate) fn resume(&mut self, n: usize) {
        let Some(held) = self.nodes.get_mut(n).and_then(|node| node.held.take()) else {
            return;
        };
        self.note(n, || format!("goes on, {} things waited", held.len()));
        self.settle(n);
        // Its timers and its mail are ready together: either may come first.
        if self.rng.random() {
            self.input(n, Input::Tick);
        }
        for input in held {
            self.input(n, input);
        }
        self.input(n, Input::Tick);
    }

    pub(crate) fn wake(&mut self, n: usize) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        // One that was put off, by an earlier one, would set off another for ever.
        if node.waking != Some(now) {
            return;
        }
        node.waking = None;
        if node.held.is_none() {
            self.input(n, Input::Tick);
        }
    }

    pub(crate) fn input(&mut self, n: usize, input: Input) {
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        if let Some(held) = node.held.as_mut() {
            held.push(input);
            return;
        }
        let now = node.clock.shows(self.now);
        let Some(peer) = node.peer.as_mut() else {
            return;
        };
        if node.in_turn {
            peer.take_in(now, input);
            return;
        }
        let (turns, turn_ms) = (self.scenario.faults.turns, self.scenario.faults.turn_ms);
        if turns > 0.0 && self.turns.random_bool(turns) {
            peer.take_in(now, input);
            node.in_turn = true;
            let boot = node.boot;
            let at = self.now + up_to(&mut self.turns, turn_ms);
            self.report.turns += 1;
            self.at(at, Happening::Settle { node: n, boot });
        } else {
            peer.handle(now, input);
            self.drain_outputs(n);
        }
    }

    /// Finishes what a node has taken in.
    pub(crate) fn settle(&mut self, n: usize) {
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        // A node that stands still in the middle of a turn ends it when it goes on.
        if node.held.is_some() {
            return;
        }
        if std::mem::take(&mut node.in_turn)
            && let Some(peer) = node.peer.as_mut()
        {
            peer.settle();
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
        self.note_ballots(n);
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        let boot = node.boot;
        if let Some(wake) = node.peer.as_ref().and_then(Peer::next_wake) {
            let at = node.clock.reaches(wake).max(self.now);
            if node.waking.is_none_or(|waking| at < waking) {
                node.waking = Some(at);
                self.at(at, Happening::Wake { node: n, boot });
            }
        }
    }

    fn output(&mut self, n: usize, output: Output) {
        match output {
            Output::Send { to, bytes, .. } => {
                let to = usize::try_from(to.0 - 1).unwrap_or(usize::MAX);
                self.transmit(n, to, bytes);
            }
            Output::Broadcast { bytes, .. } => self.broadcast(n, bytes),
            Output::Persist { token, batch, sync } => {
                let Some(node) = self.nodes.get_mut(n) else {
                    return;
                };
                let (until, slow) = node.slow_disk;
                let takes = if self.now < until {
                    up_to(&mut self.rng, slow.as_secs_f64() * 1_000.0)
                } else {
                    up_to(&mut self.rng, self.scenario.faults.disk_ms)
                };
                let at = node.disk.queue(batch, self.now, takes);
                let boot = node.boot;
                self.note(n, || {
                    format!("write {token}{}", if sync { ", synced" } else { "" })
                });
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
                let draining = self.nodes.get(n).and_then(|node| node.draining);
                match draining {
                    Some((drain, down)) if drain == request => {
                        let done = matches!(reply, Reply::Done);
                        self.note(n, || {
                            let how = if done { "" } else { "not " };
                            format!("{how}drained in time")
                        });
                        self.drained(n, down);
                    }
                    _ if self.hosts.is_answered(request) => self.enlisted(n, &reply),
                    _ if self.actor_replied(n, request, &reply) => {}
                    _ => self.replied(n, request, reply),
                }
            }
            Output::Event(Event::Diverged { shard, .. }) => {
                self.violation = Some(Violation::Diverged(shard.0));
            }
            Output::Event(Event::Malformed { reason, .. }) => {
                self.violation = Some(Violation::Malformed(reason));
            }
            Output::Event(Event::Moved(shard, config)) => {
                self.report.moves += 1;
                self.note(n, || format!("learned that {shard} moved: {config:?}"));
            }
            Output::Event(Event::Begun { shard, generation }) => {
                self.begun(n, shard, generation);
            }
            Output::Connect { node, .. } => {
                let to = usize::try_from(node.0 - 1).unwrap_or(usize::MAX);
                self.dial(n, to);
            }
            Output::Body(work) => self.body_work(n, work),
            Output::MayAct { life, until } => self.may_act(n, life, until),
            Output::Voided { life } => self.voided(n, life),
            Output::Effect {
                name,
                born,
                n: at,
                effect,
            } => self.effect(n, &name, (born, at), &effect),
            Output::Took {
                name,
                born,
                token,
                n: at,
                request,
                took,
                ..
            } => self.took(n, &name, (born, token, at), (request, &*took)),
            Output::Host { name, record } => self.run_actor(n, Some(&name), &record),
            Output::Event(Event::Voided(life)) => {
                self.posts.life_over(n, life);
                self.life_is_over(n, life);
            }
            Output::Named {
                name, token, host, ..
            } => self.plain_named(n, &name, (token, host)),
            Output::Event(_) => {}
        }
    }
}
