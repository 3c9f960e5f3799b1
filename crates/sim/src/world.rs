//! The world: time, what happens next, and the phases of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::{BodyDone, Input, RequestId};
use cpe_space::Shard;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::actors::{ActorBooks, Step};
use crate::bodies::Bodies;
use crate::check::{Books, Report, Violation};
use crate::clock::Clock;
use crate::deletions::{self, Deletions};
use crate::effects::Tells;
use crate::hosts::Hosts;
use crate::links::Links;
use crate::nodes::SimNode;
use crate::plain::{self, Plains};
use crate::posts::{self, Posts};
use crate::prefix::Prefixes;
use crate::progress::Progress;
use crate::queue::EventQueue;
use crate::record::Record;
use crate::scenario::Scenario;
use crate::schedule::{Fault, Schedule, poisson};
use crate::takes::Answers;
use crate::trace::{Gone, Trace, between};
use crate::watches::{self, Watches};

/// Keep what is drawn for the network, for nodes and users, apart from each other and from the
/// schedule, so that a fault left out changes as little else as possible.
const NODES_STREAM: u64 = 2;
const NETWORK_STREAM: u64 = 3;

/// Keeps turns apart from the rest: a world without any draws nothing for them.
const TURNS_STREAM: u64 = 4;

/// How often the end looks whether all is settled.
const SETTLE_POLL: Duration = Duration::from_millis(500);

/// What happens when.
#[derive(Debug)]
pub(crate) enum Happening {
    Deliver {
        from: usize,
        /// Which start of its sender sent it.
        sent_by: u32,
        to: usize,
        boot: u32,
        bytes: Vec<u8>,
    },
    Gossip {
        to: usize,
        boot: u32,
        bytes: Arc<Vec<u8>>,
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
    Worked {
        node: usize,
        boot: u32,
        done: BodyDone,
    },
    /// A turn ends.
    Settle {
        node: usize,
        boot: u32,
    },
    LinkUp {
        a: usize,
        b: usize,
    },
    Start {
        node: usize,
    },
    Resume {
        node: usize,
        boot: u32,
    },
    Fault(Fault),
    Heal {
        partition: u64,
    },
    Hear {
        from: usize,
        to: usize,
    },
    FlapDown {
        a: usize,
        b: usize,
        until: Duration,
        period: Duration,
    },
    FlapUp {
        a: usize,
        b: usize,
        until: Duration,
        period: Duration,
    },
    /// Somebody asks something: the how-manieth.
    Ask(u64),
    Actor(Step),
    Watch(watches::Step),
    Deletion(deletions::Step),
    Post(posts::Step),
    Plain(plain::Step),
    /// A node wants to host actors.
    Enlist {
        node: usize,
        boot: u32,
    },
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

/// A running simulation.
#[derive(Debug)]
pub struct World {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    pub(crate) now: Duration,
    /// Nodes and users.
    pub(crate) rng: ChaCha8Rng,
    /// The network.
    pub(crate) net: ChaCha8Rng,
    pub(crate) turns: ChaCha8Rng,
    queue: EventQueue<Happening>,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) links: Links,
    /// True once the faults have ended.
    pub(crate) calm: bool,
    pub(crate) progress: Option<Progress>,
    pub(crate) books: Books,
    pub(crate) bodies: Bodies,
    pub(crate) hosts: Hosts,
    pub(crate) actors: ActorBooks,
    pub(crate) tells: Tells,
    pub(crate) answers: Answers,
    pub(crate) watches: Watches,
    pub(crate) deletions: Deletions,
    pub(crate) posts: Posts,
    pub(crate) plains: Plains,
    /// Clients of actors have stopped.
    pub(crate) actors_end: bool,
    pub(crate) record: Record,
    pub(crate) prefixes: Prefixes,
    /// The generation of each volatile shard, as far as any node was seen to know.
    pub(crate) generations: BTreeMap<u16, u64>,
    /// Variables whose mode is known to be set, by number.
    pub(crate) declared: BTreeSet<u32>,
    pub(crate) next_value: i64,
    pub(crate) next_request: u64,
    pub(crate) report: Report,
    pub(crate) violation: Option<Violation>,
    trace: Option<Trace>,
    /// What a node that leaves has to say: it arrives before the node's links go.
    pub(crate) farewell: Option<Vec<(usize, Vec<u8>)>>,
}

impl World {
    /// A world before anything happened.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let schedule = Schedule::draw(&scenario, seed);
        Self::with_schedule(scenario, seed, &schedule)
    }

    /// A world in which these faults happen and no others; messages are lost and delayed as the
    /// scenario says.
    #[must_use]
    pub fn with_schedule(scenario: Scenario, seed: u64, schedule: &Schedule) -> Self {
        let stream = |stream| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream);
            rng
        };
        let mut world = Self {
            links: Links::new(scenario.nodes),
            nodes: (0..scenario.nodes).map(SimNode::new).collect(),
            scenario,
            seed,
            now: Duration::ZERO,
            rng: stream(NODES_STREAM),
            net: stream(NETWORK_STREAM),
            turns: stream(TURNS_STREAM),
            queue: EventQueue::default(),
            calm: false,
            progress: None,
            books: Books::default(),
            bodies: Bodies::default(),
            hosts: Hosts::default(),
            actors: ActorBooks::default(),
            tells: Tells::default(),
            answers: Answers::default(),
            watches: Watches::default(),
            deletions: Deletions::default(),
            posts: Posts::default(),
            plains: Plains::default(),
            actors_end: false,
            record: Record::default(),
            prefixes: Prefixes::default(),
            generations: BTreeMap::new(),
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
        world.plan(schedule);
        world
    }

    /// Keeps a line per event, for [`World::trace`].
    pub fn keep_trace(&mut self) {
        self.trace = Some(Trace::default());
    }

    /// The lines kept.
    #[must_use]
    pub fn trace(&self) -> &[String] {
        self.trace.as_ref().map_or(&[], Trace::lines)
    }

    /// Runs to the end. First work under faults. Then the faults end, only so many nodes stay up
    /// that every home group has a majority, and stores and takes must succeed in time. At last
    /// all are back, and everything must settle.
    ///
    /// # Errors
    /// The first promise that was broken, and the lines kept.
    pub fn run(mut self) -> Result<Report, (Violation, Vec<String>)> {
        let result = self.run_all();
        let trace = self.trace.take().unwrap_or_default();
        result.map_err(|violation| (violation, trace.end()))
    }

    fn run_all(&mut self) -> Result<Report, Violation> {
        let end = self.scenario.span();
        self.run_until(end)?;
        if let Some(violation) = self.states_differ() {
            return Err(violation);
        }
        self.calm_down();
        self.finish()
    }

    /// With the faults over: progress with a majority, and then all must settle.
    pub(crate) fn finish(&mut self) -> Result<Report, Violation> {
        self.demand_progress()?;
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        self.demand_posts()?;
        self.demand_one_plain()?;
        self.demand_steady_hosts()?;
        self.demand_told()?;
        let limit = self.now + self.scenario.settle();
        let mut settled = false;
        while !settled && self.now < limit {
            let next = self.now + SETTLE_POLL;
            self.run_until(next)?;
            settled = self.is_settled();
        }
        self.close_actors()?;
        self.close_posts()?;
        self.close_effects()?;
        self.close_jobs()?;
        self.close_deletions()?;
        self.close()
    }

    pub(crate) fn run_until(&mut self, end: Duration) -> Result<(), Violation> {
        while let Some((at, happening)) = self.queue.next_until(end) {
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
        self.queue.add(when, happening);
    }

    /// Plans starts, faults and requests.
    fn plan(&mut self, schedule: &Schedule) {
        for planned in schedule.iter() {
            match &planned.fault {
                Fault::Clock {
                    node,
                    drift_ppm,
                    offset,
                } => {
                    if let Some(node) = self.nodes.get_mut(*node) {
                        node.clock = Clock::new(*drift_ppm, *offset);
                    }
                }
                fault => self.at(planned.at, Happening::Fault(fault.clone())),
            }
        }
        for node in 0..self.nodes.len() {
            let at = self.scenario.start_every() * node as u32;
            self.at(at, Happening::Start { node });
        }
        let (end, rate) = (self.scenario.span(), self.scenario.workload.rate);
        let times = poisson(&mut self.rng, Duration::from_millis(200), end, rate);
        for (number, at) in times.into_iter().enumerate() {
            self.at(at, Happening::Ask(number as u64));
        }
        self.plan_actors();
        self.plan_watches();
        self.plan_deletions();
        self.plan_posts();
        self.plan_plains();
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver {
                from,
                sent_by,
                to,
                boot,
                bytes,
            } => {
                if self.is_boot(to, boot) && self.links.linked(from, to) {
                    self.report.messages += 1;
                    if !self.is_boot(from, sent_by) {
                        self.books.heard_late(from, sent_by, self.now);
                    }
                    let from = NodeId(from as u64 + 1);
                    self.input(to, Input::Message { from, bytes });
                }
            }
            Happening::Gossip { to, boot, bytes } => {
                if self.is_boot(to, boot) {
                    self.report.messages += 1;
                    let bytes = Arc::unwrap_or_clone(bytes);
                    self.input(to, Input::Gossip(bytes));
                }
            }
            Happening::Wake { node, boot } => {
                if self.is_boot(node, boot) {
                    self.wake(node);
                }
            }
            Happening::Written {
                node,
                boot,
                token,
                sync,
            } => {
                if self.is_boot(node, boot) {
                    self.written(node, token, sync);
                }
            }
            Happening::Worked { node, boot, done } => {
                if self.is_boot(node, boot) {
                    self.worked(node, done);
                }
            }
            Happening::Settle { node, boot } => {
                if self.is_boot(node, boot) {
                    self.settle(node);
                }
            }
            Happening::LinkUp { a, b } => self.link_up(a, b),
            Happening::Start { node } => self.start(node),
            Happening::Resume { node, boot } => {
                if self.is_boot(node, boot) {
                    self.resume(node);
                }
            }
            Happening::Fault(fault) => self.fault(fault),
            Happening::Heal { partition } => self.heal(partition),
            Happening::Hear { from, to } => self.hear(from, to),
            Happening::FlapDown {
                a,
                b,
                until,
                period,
            } => self.flap_down(a, b, until, period),
            Happening::FlapUp {
                a,
                b,
                until,
                period,
            } => self.flap_up(a, b, until, period),
            Happening::Ask(number) => self.ask(number),
            Happening::Actor(step) => self.actor_step(step),
            Happening::Watch(step) => self.watch_step(step),
            Happening::Deletion(step) => self.deletion_step(step),
            Happening::Post(step) => self.post_step(step),
            Happening::Plain(step) => self.plain_step(step),
            Happening::Enlist { node, boot } => {
                if self.is_boot(node, boot) {
                    self.enlist(node);
                }
            }
            Happening::Act { node, lease, act } => self.act(node, lease, act),
            Happening::Abandon {
                node,
                boot,
                request,
            } => self.abandon(node, boot, request),
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Crash { node, down } => self.crash(node, Some(down)),
            Fault::Stop { node, down } => self.stop(node, down),
            Fault::Pause { node, lasts } => self.pause(node, lasts),
            Fault::Partition { side, lasts } => self.part(&side, lasts),
            Fault::OneWay { from, to, lasts } => self.deafen(from, to, lasts),
            Fault::Flap {
                a,
                b,
                lasts,
                period,
            } => {
                self.report.bad_links += 1;
                self.note_all(|| format!("the link {} flaps for {lasts:?}", between(a, b)));
                self.flap_down(a, b, self.now + lasts, period);
            }
            // Set before the start.
            Fault::Clock { .. } => {}
            Fault::SlowDisk { node, lasts, write } => {
                self.report.bad_disks += 1;
                let until = self.now + lasts;
                self.note(node, || format!("its disk is slow for {lasts:?}"));
                if let Some(node) = self.nodes.get_mut(node) {
                    node.slow_disk = (until, write);
                }
            }
            Fault::WriteError { node, down } => self.fail_write(node, down),
            Fault::LoseDisk { node, down } => self.lose_disk(node, down),
        }
    }

    /// The faults end, and everybody comes back.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.note_all(|| "the faults end".to_owned());
        self.scenario.faults = self.scenario.faults.healed();
        self.links.heal();
        for n in 0..self.nodes.len() {
            self.resume(n);
            let Some(node) = self.nodes.get_mut(n) else {
                return;
            };
            node.slow_disk.0 = self.now;
            node.disk.heal();
            // Its end would come in the middle of the next phase.
            if node.is_draining() {
                self.crash(n, None);
            }
            self.start(n);
        }
        self.relink();
    }

    pub(crate) fn fresh_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    pub(crate) fn note(&mut self, n: usize, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = self.trace.as_mut() {
            trace.line(now, &format!("n{}", n + 1), &what());
        }
    }

    /// The same, of what concerns no node by itself.
    pub(crate) fn note_all(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = self.trace.as_mut() {
            trace.line(now, "--", &what());
        }
    }

    /// A message was sent; `lost` says what became of it, if it does not arrive.
    pub(crate) fn note_sent(&mut self, lost: Option<Gone>) {
        let now = self.now;
        if let Some(trace) = self.trace.as_mut() {
            trace.sent(now, lost);
        }
    }

    /// Keeps a line for each home group whose ballot changed, as a node sees it.
    pub(crate) fn note_ballots(&mut self, n: usize) {
        let now = self.now;
        let peer = self.nodes.get(n).and_then(|node| node.peer.as_ref());
        if let (Some(trace), Some(peer)) = (self.trace.as_mut(), peer) {
            for shard in peer.shards().map(Shard::id) {
                trace.group(now, n, shard.0, peer.group_of(shard));
            }
        }
    }
}
