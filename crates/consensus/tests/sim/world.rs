//! Seven nodes, one shard, virtual time, and everything that can go wrong.

mod faults;
mod habits;
mod letters;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use cpe_consensus::{Heartbeat, Held, Message, Output, Refused, Seat};

use super::checks::Checks;
use super::disk::{Disk, Item, Write};
use super::replica::{Command, Config, Id, Proposal, State};
use super::rng::{Rng, mix};

pub(crate) const NODES: Id = 7;

/// Milliseconds between two rounds of heartbeats.
const ROUND_MS: u64 = 100;
/// When the faults end.
pub(crate) const HEAL_MS: u64 = 8_000;
/// When progress is measured from.
const CALM_MS: u64 = 14_000;
/// When all must be well.
pub(crate) const END_MS: u64 = 17_000;
/// A run that takes more is caught in a loop.
const MAX_EVENTS: u64 = 2_000_000;
/// Puts of each node.
const PUTS: u64 = 60;

/// What is done to each seat before it is used.
pub(crate) type Equip = Box<dyn Fn(Seat<Id, Proposal>) -> Seat<Id, Proposal>>;

type Word = Message<Id, Proposal>;

#[derive(Clone, Debug)]
enum Letter {
    Group(u64, Word),
    Ask {
        epoch: u64,
        round: u64,
    },
    Answer {
        epoch: u64,
        round: u64,
        heartbeat: Heartbeat<Id>,
    },
    Map(Config),
    StateWanted {
        index: u64,
    },
    State(State),
    Feed {
        after: u64,
        entries: Vec<Proposal>,
    },
    Put {
        origin: Id,
        n: u64,
    },
    Done {
        upto: u64,
    },
}

/// Kinds of messages within a group that [`kind`] tells apart.
const KINDS: u64 = 6;

/// What sort of message it is: those of one sort may be lost more than others.
fn kind(word: &Word) -> u64 {
    match word {
        Message::Prepare { .. } => 0,
        Message::Promise { .. } => 1,
        Message::Sync { .. } => 2,
        Message::Accept { .. } => 3,
        Message::Accepted { .. } => 4,
        _ => 5,
    }
}

#[derive(Clone, Debug)]
enum Event {
    Letter(Id, Id, Letter),
    Round(Id),
    Client(Id),
    /// With the life of the node it belongs to.
    Synced(Id, u64),
    /// The node fails and is back at once; with the life of the node.
    Stumble(Id, u64),
    Fault,
    Heal,
    Calm,
}

struct Node {
    life: u64,
    is_up: bool,
    seat: Seat<Id, Proposal>,
    disk: Disk,
    state: State,
    /// What was last given to the disk.
    saved: State,
    /// Applied entries after `feed_base`, to feed others.
    feed: Vec<Proposal>,
    feed_base: u64,
    map: Config,
    round: u64,
    replies: Vec<(Id, Heartbeat<Id>)>,
    view: BTreeSet<Id>,
    hint: Id,
    /// Puts of this node's client.
    wanted: u64,
    done: u64,
    /// Proposed by this leader and not yet applied.
    proposed: BTreeMap<Id, u64>,
    /// Tickets and what was decided anywhere when they were drawn.
    tickets: BTreeMap<u64, u64>,
}

/// What a run had in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) decided: u64,
    pub(crate) epochs: u64,
    pub(crate) states: u64,
    pub(crate) crashes: u64,
    pub(crate) leads: u64,
    pub(crate) reads: u64,
    pub(crate) full: u64,
}

pub(crate) struct World {
    now: u64,
    /// When each event is due, and which it is; equal times in the order of entry.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    events: Vec<Option<Event>>,
    nodes: Vec<Node>,
    rng: Rng,
    side: Vec<u8>,
    one_way: BTreeSet<(Id, Id)>,
    /// In a hundred.
    loss: u64,
    seals: u64,
    /// In a hundred: nodes that crash soon after they entered an epoch.
    at_opening: u64,
    /// A kind of message that is mostly lost.
    scarce: Option<u64>,
    /// How many letters come again much later.
    old: u64,
    /// Milliseconds between two faults, at most.
    pause: u64,
    /// A node whose disk is slow.
    sluggish: Id,
    /// In a hundred: entries that pretend to be large.
    large: u64,
    is_healed: bool,
    is_eager: bool,
    k: usize,
    uid: u64,
    mark: u64,
    checks: Checks,
    tally: Tally,
    equip: Equip,
}

impl World {
    pub(crate) fn new(seed: u64, equip: Equip) -> Self {
        let mut rng = Rng::new(seed);
        let mut kinds = Rng::new(mix(seed));
        let genesis = Config {
            epoch: 1,
            members: vec![0],
        };
        let node = |id: Id| Node {
            life: 0,
            is_up: true,
            seat: equip(Seat::new(id)),
            disk: Disk::new(State::new(genesis.clone())),
            state: State::new(genesis.clone()),
            saved: State::new(genesis.clone()),
            feed: Vec::new(),
            feed_base: 0,
            map: genesis.clone(),
            round: 0,
            replies: Vec::new(),
            view: (0..NODES).collect(),
            hint: 0,
            wanted: 0,
            done: 0,
            proposed: BTreeMap::new(),
            tickets: BTreeMap::new(),
        };
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            nodes: (0..NODES).map(node).collect(),
            side: vec![0; usize::from(NODES)],
            one_way: BTreeSet::new(),
            loss: rng.pick(&[0, 2, 10, 20]),
            seals: rng.pick(&[0, 1, 2, 5, 10, 20]),
            old: rng.pick(&[0, 0, 3, 10]),
            pause: rng.pick(&[200, 500, 1_000]),
            sluggish: Id::try_from(rng.below(2 * u64::from(NODES))).unwrap(),
            large: rng.pick(&[0, 0, 0, 5]),
            is_healed: false,
            is_eager: rng.chance(50),
            k: rng.pick(&[1, 3, 3, 5, 5]),
            at_opening: if seed % 4 == 3 { 30 } else { 0 },
            scarce: (seed % 8 == 7).then(|| kinds.below(KINDS)),
            rng,
            uid: 0,
            mark: u64::MAX,
            checks: Checks::default(),
            tally: Tally::default(),
            equip,
        };
        world.checks.config(&genesis);
        for id in 0..NODES {
            let at = world.rng.below(ROUND_MS);
            world.at(at, Event::Round(id));
            let at = world.rng.below(50);
            world.at(at, Event::Client(id));
        }
        world.settle(0);
        world.at(500, Event::Fault);
        world.at(HEAL_MS, Event::Heal);
        world.at(CALM_MS, Event::Calm);
        world
    }

    /// Runs to the end and checks that all is well.
    pub(crate) fn run(mut self) -> Tally {
        while let Some(Reverse((time, order))) = self.queue.pop() {
            if time > END_MS {
                break;
            }
            self.now = time;
            self.tally.events += 1;
            assert!(self.tally.events < MAX_EVENTS, "a loop without end");
            let event = self.events[order].take().unwrap();
            self.handle(event);
        }
        self.finish();
        self.tally
    }

    fn finish(&mut self) {
        let top = self
            .nodes
            .iter()
            .map(|node| node.state.index)
            .max()
            .unwrap();
        let best = self.nodes.iter().find(|node| node.state.index == top);
        let best = best.unwrap().state.clone();
        let leads = |node: &&Node| {
            node.seat
                .group()
                .is_some_and(cpe_consensus::Group::is_leader)
        };
        let leaders = self.nodes.iter().filter(leads).count();
        assert!(
            leaders > 0,
            "nobody leads after the faults ended: {}",
            self.show()
        );
        for (id, node) in self.nodes.iter().enumerate() {
            let origin = Id::try_from(id).unwrap();
            assert!(
                best.puts_of(origin) >= node.done,
                "an acknowledged put of {id} is lost"
            );
            assert_eq!(
                node.done,
                node.wanted,
                "puts of {id} are stuck: {}",
                self.show()
            );
            assert!(
                node.state.index >= self.mark,
                "{id} does not catch up: {}",
                self.show()
            );
        }
        self.tally.decided = top;
        self.tally.epochs = best.config.epoch;
    }

    fn show(&self) -> String {
        let mut text = String::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let group = node.seat.group().map(|group| {
                (
                    group.epoch(),
                    group.members().to_vec(),
                    group.is_leader(),
                    (group.base(), group.decided(), group.len()),
                    group.leader(),
                    group.hard(),
                    group.heartbeat(),
                )
            });
            text += &format!(
                "\nnode {id}: state {} {:?} joined {} heard {} puts {}/{} {group:?}",
                node.state.index,
                node.state.config,
                node.seat.joined(),
                node.seat.heard(),
                node.done,
                node.wanted,
            );
        }
        text
    }

    fn at(&mut self, time: u64, event: Event) {
        self.queue.push(Reverse((time, self.events.len())));
        self.events.push(Some(event));
    }

    fn node(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[usize::from(id)]
    }

    fn send(&mut self, from: Id, to: Id, letter: Letter) {
        let is_apart = self.side[usize::from(from)] != self.side[usize::from(to)];
        if is_apart || self.one_way.contains(&(from, to)) || self.rng.chance(self.loss) {
            return;
        }
        if let (Letter::Group(_, word), Some(scarce)) = (&letter, self.scarce)
            && !self.is_healed
            && kind(word) == scarce
            && self.rng.chance(70)
        {
            return;
        }
        let mut delay = 1 + self.rng.below(10);
        if self.rng.chance(5) {
            delay += self.rng.below(3 * ROUND_MS);
        }
        if !self.is_healed {
            if self.rng.chance(2) {
                let again = self.now + delay + self.rng.below(200);
                self.at(again, Event::Letter(from, to, letter.clone()));
            }
            // A very old copy.
            if self.old > 0 && self.rng.chance(self.old) {
                let again = self.now + delay + self.rng.below(3_000);
                self.at(again, Event::Letter(from, to, letter.clone()));
            }
        }
        self.at(self.now + delay, Event::Letter(from, to, letter));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Letter(from, to, letter) => {
                if self.node(to).is_up {
                    self.deliver(from, to, letter);
                }
            }
            Event::Round(id) => self.round(id),
            Event::Client(id) => self.client(id),
            Event::Synced(id, life) => {
                if self.node(id).is_up && self.node(id).life == life {
                    self.synced(id);
                }
            }
            Event::Stumble(id, life) => {
                if self.node(id).is_up && self.node(id).life == life && !self.is_healed {
                    self.crash(id);
                    self.start(id);
                }
            }
            Event::Fault => self.fault(),
            Event::Heal => self.heal(),
            Event::Calm => {
                let top = self.nodes.iter().map(|node| node.state.index).max();
                self.mark = top.unwrap();
            }
        }
    }

    // The shell of a node.

    /// Gives a node's group something to do, then does what it wants.
    fn with(
        &mut self,
        id: Id,
        act: impl FnOnce(&mut cpe_consensus::Group<Id, Proposal>, &mut Vec<Output<Id, Proposal>>),
    ) {
        let mut out = Vec::new();
        let Some(group) = self.node(id).seat.group_mut() else {
            return;
        };
        act(group, &mut out);
        group.flush(&mut out);
        self.absorb(id, out);
    }

    fn absorb(&mut self, id: Id, out: Vec<Output<Id, Proposal>>) {
        let epoch = self.node(id).seat.group().map_or(0, |group| group.epoch());
        let mut writes = Vec::new();
        let mut gated = Vec::new();
        let mut rest = Vec::new();
        for output in out {
            match output {
                Output::Hard(hard) => writes.push(Write::Hard(hard)),
                Output::Append { after, entries } => writes.push(Write::Append { after, entries }),
                Output::Send {
                    to,
                    message,
                    durable: true,
                } => gated.push(Item::Send(to, epoch, message)),
                Output::Send { to, message, .. } => {
                    self.send(id, to, Letter::Group(epoch, message));
                }
                Output::Mark(mark) => gated.push(Item::Mark(epoch, mark)),
                other => rest.push(other),
            }
        }
        if !writes.is_empty() {
            self.node(id).disk.push(Item::Batch(writes));
        }
        for item in gated {
            if self.node(id).disk.is_clean() {
                self.release(id, item);
            } else {
                self.node(id).disk.push(item);
            }
        }
        for output in rest {
            self.obey(id, output);
        }
        self.sync(id);
    }

    fn obey(&mut self, id: Id, output: Output<Id, Proposal>) {
        match output {
            Output::Decided(index) => self.decided(id, index),
            Output::Behind { peer, .. } => {
                let index = self.node(id).state.index;
                self.send(id, peer, Letter::StateWanted { index });
            }
            Output::Lead => {
                self.tally.leads += 1;
                self.node(id).proposed.clear();
                self.propose(id, Command::Noop);
            }
            Output::Follow => {
                self.node(id).proposed.clear();
                self.node(id).tickets.clear();
            }
            Output::Confirmed { ticket, index } => {
                // The seal just applied may have voided it.
                if let Some(least) = self.node(id).tickets.remove(&ticket) {
                    assert!(index >= least, "a read at {index} misses {least}");
                    self.tally.reads += 1;
                }
            }
            other => unreachable!("{other:?}"),
        }
    }

    /// Starts the disk, if it has something to do.
    fn sync(&mut self, id: Id) {
        if self.node(id).disk.begin() {
            let is_slow = self.rng.chance(if self.sluggish == id { 50 } else { 5 });
            let slow = if is_slow { 300 } else { 15 };
            let time = self.now + 1 + self.rng.below(slow);
            let life = self.node(id).life;
            self.at(time, Event::Synced(id, life));
        }
    }

    fn synced(&mut self, id: Id) {
        let free = self.node(id).disk.end();
        self.settle(id);
        for item in free {
            self.release(id, item);
        }
        self.sync(id);
    }

    fn release(&mut self, id: Id, item: Item) {
        match item {
            Item::Send(to, epoch, message) => self.send(id, to, Letter::Group(epoch, message)),
            Item::Mark(epoch, mark) => {
                if self.node(id).seat.group().map(|group| group.epoch()) == Some(epoch) {
                    self.with(id, |group, out| group.persisted(mark, out));
                }
            }
            Item::Batch(_) => unreachable!("the disk keeps its writes"),
        }
    }

    /// The state may have come far enough to learn from it, or to enter an epoch: the one on disk,
    /// or already the one on its way there.
    fn settle(&mut self, id: Id) {
        let is_eager = self.is_eager;
        let node = &mut self.nodes[usize::from(id)];
        let state = if is_eager {
            &node.saved
        } else {
            &node.disk.durable.state
        };
        let held = Held {
            epoch: state.config.epoch,
            index: state.index,
        };
        let own = state.config.clone();
        let newest = node.map.clone();
        let life = node.life;
        let mut has_opened = false;
        let mut out = Vec::new();
        node.seat.hear(own.epoch);
        node.seat.hold(held, &mut out);
        // It is the seat's task to refuse what comes too early, too late or twice.
        for config in [newest, own] {
            let current = node.seat.group().map(|group| group.epoch());
            if current >= Some(config.epoch) {
                continue;
            }
            let members = config.members;
            let heard = node.map.epoch;
            if node
                .seat
                .open(config.epoch, members, held, &mut out)
                .is_ok()
            {
                node.proposed.clear();
                node.tickets.clear();
                node.replies.clear();
                self.checks.opened(config.epoch, heard);
                has_opened = true;
            }
        }
        if let Some(group) = node.seat.group_mut() {
            group.flush(&mut out);
        }
        self.absorb(id, out);
        if has_opened && self.at_opening > 0 && self.rng.chance(self.at_opening) {
            let at = self.now + self.rng.below(40);
            self.at(at, Event::Stumble(id, life));
        }
    }

    fn decided(&mut self, id: Id, index: u64) {
        loop {
            let now = self.now;
            let node = &mut self.nodes[usize::from(id)];
            let Some(group) = node.seat.group() else {
                return;
            };
            if node.state.index >= index || node.state.config.epoch > group.epoch() {
                break;
            }
            let entry = group
                .entry(node.state.index + 1)
                .expect("it is decided")
                .clone();
            let epoch = group.epoch();
            let is_leader = group.is_leader();
            let members = group.members().to_vec();
            let effect = node.state.apply(&entry);
            node.feed.push(entry.clone());
            let state = node.state.clone();
            if self.checks.applied(&state, epoch, now) {
                self.check_disks(&members, &state, &entry);
            }
            if let Command::Put { origin, n } = entry.command {
                if effect {
                    self.checks.effect(origin, n, state.index);
                }
                if is_leader {
                    let upto = state.puts_of(origin);
                    self.send(id, origin, Letter::Done { upto });
                }
            }
            if let Command::Seal(config) = entry.command {
                self.checks.config(&config);
                assert_eq!(index, state.index, "something is decided after a seal");
                self.hear(id, config.clone());
                self.save(id);
                for to in 0..NODES {
                    if to != id {
                        self.send(id, to, Letter::Map(config.clone()));
                    }
                }
                return;
            }
        }
        if self.rng.chance(3) {
            self.save(id);
            let node = self.node(id);
            let index = node.disk.durable.state.index;
            if let Some(group) = node.seat.group_mut() {
                group.trim(index);
            }
        }
        if self.node(id).feed.len() > 40 {
            let node = self.node(id);
            node.feed.drain(..20);
            node.feed_base += 20;
        }
    }

    /// Whenever something is first known to be decided, a majority has it on disk.
    fn check_disks(&self, members: &[Id], state: &State, entry: &Proposal) {
        let has = |member: &&Id| {
            let durable = &self.nodes[usize::from(**member)].disk.durable;
            durable.state.index >= state.index || durable.log.get(&state.index) == Some(entry)
        };
        let count = members.iter().filter(has).count();
        let majority = members.len() / 2 + 1;
        assert!(
            count >= majority,
            "{} is decided on {count} disks",
            state.index
        );
    }

    /// Writes the state.
    fn save(&mut self, id: Id) {
        let node = self.node(id);
        let state = node.state.clone();
        node.saved = state.clone();
        node.disk.push(Item::Batch(vec![Write::State(state)]));
        self.sync(id);
        if self.is_eager {
            self.settle(id);
        }
    }

    fn hear(&mut self, id: Id, config: Config) {
        let node = self.node(id);
        node.seat.hear(config.epoch);
        if config.epoch > node.map.epoch {
            node.map = config;
        }
    }

    fn propose(&mut self, id: Id, command: Command) -> bool {
        self.uid += 1;
        let is_large = self.large > 0 && self.rng.chance(self.large);
        let proposal = Proposal {
            uid: mix(self.uid),
            command,
            bytes: if is_large { 3 << 20 } else { 100 },
        };
        let mut is_taken = false;
        let mut is_full = 0;
        self.with(id, |group, out| match group.propose(proposal, out) {
            Ok(_) => is_taken = true,
            Err(Refused::Full { .. }) => is_full = 1,
            Err(_) => {}
        });
        self.tally.full += is_full;
        is_taken
    }
}
