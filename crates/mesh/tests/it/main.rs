//! Facts about peers that a simulation would only meet by chance.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod bodies;
mod bound;
mod catch_up;
mod facts;
mod full;
mod garbage;
mod gone;
mod groups;
mod hosts;
mod leases;
mod outbox;
mod recover;
mod takes;
mod volatile;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeCard, NodeId};
use cpe_mesh::{
    Ack, Command, Event, Genesis, Image, Input, Output, Peer, PeerConfig, Reply, RequestId, Took,
};
use cpe_space::{ActorRecord, Effect};
use cpe_tuple::{Template, Tuple, Value};

fn member(n: u64) -> Member {
    Member {
        node: NodeId(n),
        inc: Incarnation(1),
    }
}

/// The guard that `CPE_WITHOUT` names: a test that shows what it is for must fail then, and
/// `cargo xtask mutants` looks that it does.
#[cfg(feature = "mutants")]
fn left_out() -> Option<cpe_mesh::Mutant> {
    cpe_mesh::Mutant::named(&std::env::var("CPE_WITHOUT").ok()?)
}

/// Sees each message on its way: who sends it, to whom, and what; gives back what arrives.
type Wire = Box<dyn FnMut(u64, u64, Vec<u8>) -> Option<Vec<u8>>>;

/// Peers in one place, messages delivered at once and in order, time moved by hand.
struct Net {
    peers: BTreeMap<NodeId, Peer>,
    disks: BTreeMap<NodeId, Image>,
    shelves: BTreeMap<NodeId, bodies::Shelf>,
    replies: BTreeMap<RequestId, Vec<Reply>>,
    /// What was sent to nodes that are not there, for tests that answer in their place.
    unheard: Vec<(NodeId, Vec<u8>)>,
    now: Duration,
    next: u64,
    durable: bool,
    wire: Option<Wire>,
    malformed: usize,
    /// As a host, and until when.
    may_act: BTreeMap<NodeId, (Member, Duration)>,
    /// What nodes were given to run, by name.
    hosted: BTreeMap<(NodeId, String), ActorRecord>,
    /// What nodes were asked to do for actors, in order: name, birth and number, and what.
    effects: Vec<(NodeId, String, (u64, u64), Effect)>,
    /// What nodes were told of takes of actors, in order, by number.
    took: Vec<(NodeId, u64, Took)>,
}

impl Net {
    /// Node 1 founds, the others join it.
    fn of(nodes: u64, durable: bool) -> Self {
        let mut net = Self {
            peers: BTreeMap::new(),
            disks: BTreeMap::new(),
            shelves: BTreeMap::new(),
            replies: BTreeMap::new(),
            unheard: Vec::new(),
            now: Duration::ZERO,
            next: 0,
            durable,
            wire: None,
            malformed: 0,
            may_act: BTreeMap::new(),
            hosted: BTreeMap::new(),
            effects: Vec::new(),
            took: Vec::new(),
        };
        for n in 1..=nodes {
            net.start(n);
        }
        net.link_all();
        net
    }

    fn start(&mut self, n: u64) {
        self.start_with(n, |_| {});
    }

    fn start_with(&mut self, n: u64, set: impl FnOnce(&mut PeerConfig)) {
        #[cfg(feature = "mutants")]
        cpe_mesh::without(left_out());
        let mut config = PeerConfig::new(NodeCard::new(member(n), format!("n{n}")));
        config.durable = self.durable;
        config.log_entries_max = 32;
        if n == 1 {
            let mesh = "test".to_owned();
            config.genesis = Some(Genesis {
                mesh,
                shards: 4,
                volatile: 2,
                founder: member(1),
                group_size: Genesis::GROUP_SIZE,
            });
        }
        set(&mut config);
        let image = self.disks.entry(NodeId(n)).or_default();
        image.bodies = self.shelves.entry(NodeId(n)).or_default().there();
        let peer = Peer::new(config, image, n, self.now).unwrap();
        self.peers.insert(NodeId(n), peer);
        self.settle();
    }

    /// Takes a node away; what it was told is durable stays on its disk.
    fn kill(&mut self, n: u64) {
        self.peers.remove(&NodeId(n));
        for other in self.peers.keys().copied().collect::<Vec<_>>() {
            self.input(other, Input::LinkDown(NodeId(n)));
        }
    }

    fn link_all(&mut self) {
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for a in &nodes {
            for b in nodes.iter().filter(|b| *b != a) {
                self.input(*a, Input::LinkUp(*b));
            }
        }
    }

    fn input(&mut self, node: NodeId, input: Input) {
        let now = self.now;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.handle(now, input);
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for node in self.peers.keys().copied().collect::<Vec<_>>() {
                while let Some(output) = self.peers.get_mut(&node).and_then(Peer::poll_output) {
                    quiet = false;
                    self.output(node, output);
                }
            }
            if quiet {
                break;
            }
        }
    }

    fn output(&mut self, node: NodeId, output: Output) {
        let now = self.now;
        match output {
            Output::Send { to, bytes, .. } => {
                let bytes = match self.wire.as_mut() {
                    Some(wire) => wire(node.0, to.0, bytes),
                    None => Some(bytes),
                };
                let Some(bytes) = bytes else { return };
                if let Some(peer) = self.peers.get_mut(&to) {
                    peer.handle(now, Input::Message { from: node, bytes });
                } else {
                    self.unheard.push((to, bytes));
                }
            }
            Output::Broadcast { bytes, .. } => {
                for (_, peer) in self.peers.iter_mut().filter(|(other, _)| **other != node) {
                    peer.handle(now, Input::Gossip(bytes.clone()));
                }
            }
            Output::Persist { token, batch, .. } => {
                self.disks.entry(node).or_default().apply(batch);
                self.peers
                    .get_mut(&node)
                    .unwrap()
                    .handle(now, Input::Persisted(token));
            }
            Output::Reply(request, reply) => self.replies.entry(request).or_default().push(reply),
            Output::Event(Event::Malformed { .. }) => self.malformed += 1,
            Output::Body(work) => {
                let done = self.shelves.entry(node).or_default().work(work);
                if let (Some(done), Some(peer)) = (done, self.peers.get_mut(&node)) {
                    peer.handle(now, Input::Body(done));
                }
            }
            Output::MayAct { life, until } => drop(self.may_act.insert(node, (life, until))),
            Output::Voided { .. } => drop(self.may_act.remove(&node)),
            Output::Effect {
                name,
                born,
                n,
                effect,
            } => self.effects.push((node, name, (born, n), *effect)),
            Output::Took { n, took, .. } => self.took.push((node, n, *took)),
            Output::Host { name, record } => drop(self.hosted.insert((node, name), *record)),
            Output::Connect { .. } | Output::Named { .. } | Output::Event(_) => {}
        }
    }

    /// Moves time, waking whoever is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.peers.values().filter_map(Peer::next_wake).min() {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            for node in self.peers.keys().copied().collect::<Vec<_>>() {
                self.input(node, Input::Tick);
            }
        }
        self.now = end;
    }

    fn ask(&mut self, n: u64, command: Command) -> RequestId {
        self.next += 1;
        let request = RequestId(self.next);
        self.input(NodeId(n), Input::Command(request, command));
        request
    }

    fn reply(&self, request: RequestId) -> Option<&Reply> {
        self.replies.get(&request)?.first()
    }

    fn out(&mut self, n: u64, variable: &str, value: i64) -> RequestId {
        let workspace = "w".to_owned();
        let tuple = pair(variable, value);
        self.ask(
            n,
            Command::Out {
                workspace,
                tuple,
                ack: Ack::Home,
                deadline: SECOND,
            },
        )
    }

    fn take(&mut self, n: u64, variable: &str, wait: bool) -> RequestId {
        let template = Template::named(variable).unwrap();
        let workspace = "w".to_owned();
        self.ask(
            n,
            Command::Take {
                workspace,
                template,
                wait,
                deadline: SECOND,
            },
        )
    }

    fn read(&mut self, n: u64, variable: &str) -> RequestId {
        let template = Template::named(variable).unwrap();
        let (workspace, wait, fresh) = ("w".to_owned(), false, false);
        self.ask(
            n,
            Command::Read {
                workspace,
                template,
                wait,
                fresh,
                deadline: SECOND,
            },
        )
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn pair(variable: &str, value: i64) -> Tuple {
    Tuple::new(vec![Value::from(variable), Value::from(value)]).unwrap()
}
