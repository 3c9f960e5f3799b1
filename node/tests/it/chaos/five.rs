//! Five node processes with folders of their own, and what is done to them.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rustix::process::Signal;
use tempfile::TempDir;

use super::client::{Clock, get};
use crate::harness::{Node, cpe};
use crate::namespaces::Hosts;

pub(crate) const NAMES: &[&str] = &["a", "b", "c", "d", "e"];

/// Nodes that may be down or paused at a time: two of a home group of three are its majority.
const AWAY_MAX: usize = 2;

/// How long a host is dialled before it counts as out of reach.
const DIALLED_FOR: Duration = Duration::from_millis(300);

/// Where the nodes are, for clients.
#[derive(Debug)]
pub(crate) struct Places {
    /// Hosts of their own; `None`: all on loopback, where the nodes part themselves.
    hosts: Option<Hosts>,
    apis: Mutex<Vec<SocketAddr>>,
    /// How often each node has been started.
    lives: Mutex<Vec<u32>>,
}

impl Places {
    pub(crate) fn new(hosts: Option<Hosts>) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        Self {
            hosts,
            apis: Mutex::new(vec![nowhere; NAMES.len()]),
            lives: Mutex::new(vec![0; NAMES.len()]),
        }
    }

    /// How often each node has been started.
    pub(crate) fn lives(&self) -> Vec<u32> {
        self.lives.lock().unwrap().clone()
    }

    /// Where a node's API listens. This thread can dial it until it asks for another.
    pub(crate) fn api(&self, n: usize) -> SocketAddr {
        if let Some(hosts) = &self.hosts {
            hosts.enter(NAMES[n]);
        }
        self.apis.lock().unwrap()[n]
    }
}

/// A node, or what is left of it.
#[derive(Debug)]
struct Slot {
    node: Option<Node>,
    paused: bool,
    address: String,
    peer: String,
    /// Outlives the node.
    folder: Arc<TempDir>,
}

/// Something that goes wrong, and later ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, then a start.
    Kill(usize),
    /// SIGTERM, then a start.
    Stop(usize),
    /// SIGSTOP, then SIGCONT.
    Pause(usize),
    /// The nodes marked do not reach the others.
    Part([bool; NAMES.len()]),
}

/// The nodes.
#[derive(Debug)]
pub(crate) struct Five<'p> {
    slots: Vec<Slot>,
    /// Which side each node is on.
    sides: [bool; NAMES.len()],
    /// How many there were, and of how many it was seen that nodes did not reach each other.
    pub(crate) partitions: u32,
    pub(crate) seen: u32,
    places: &'p Places,
    /// Where logs go.
    evidence: &'p Path,
    clock: Clock,
    /// What was done, a line each.
    pub(crate) done: String,
}

impl<'p> Five<'p> {
    /// Starts them, each with the addresses of those before.
    pub(crate) fn start(places: &'p Places, evidence: &'p Path, clock: Clock) -> Self {
        let mut five = Self {
            slots: Vec::new(),
            sides: [false; NAMES.len()],
            partitions: 0,
            seen: 0,
            places,
            evidence,
            clock,
            done: String::new(),
        };
        for n in 0..NAMES.len() {
            five.slots.push(Slot {
                node: None,
                paused: false,
                address: String::new(),
                peer: String::new(),
                folder: Arc::new(tempfile::tempdir().unwrap()),
            });
            five.begin(n);
        }
        five
    }

    /// Starts one, with what it kept if it ran before.
    fn begin(&mut self, n: usize) {
        let name = NAMES[n];
        let (mut command, listen) = match &self.places.hosts {
            Some(hosts) => (hosts.on(name), format!("/ip4/10.77.0.{}/tcp/4710", n + 1)),
            None => (cpe(), "/ip4/127.0.0.1/tcp/0".to_owned()),
        };
        command.args(["node", "--json", "--name", name, "--listen", &listen]);
        // Who is cut off cannot hand over, and shall not try for long.
        command.args(["--stop-within", "3s"]);
        if self.places.hosts.is_none() {
            command.args(["--api", "127.0.0.1:0"]);
            self.tell_blocked(n);
            command.arg("--test-blocks").arg(self.blocked(n));
        }
        // Workers of forests wait in takes for ever: nothing would look settled.
        command.env("CPE_FOREST_WORKERS", "0");
        self.introduce(n, &mut command);
        let node = Node::run_in(command, Arc::clone(&self.slots[n].folder));
        self.slots[n].address = node.address().to_owned();
        self.slots[n].peer = node.ready["peer"].as_str().unwrap().to_owned();
        self.places.apis.lock().unwrap()[n] = node.api.parse().unwrap();
        self.places.lives.lock().unwrap()[n] += 1;
        self.slots[n].node = Some(node);
    }

    /// Names the mesh and all other nodes that ever ran.
    fn introduce(&self, n: usize, command: &mut Command) {
        if n > 0 {
            let key = self.slots[0].folder.path().join("data").join("mesh.key");
            command.arg("--mesh-key").arg(key);
        }
        for (other, slot) in self.slots.iter().enumerate() {
            if other != n && !slot.address.is_empty() {
                command.args(["--bootstrap", &slot.address]);
            }
        }
    }

    /// Draws something that can go wrong now.
    pub(crate) fn draw(&self, rng: &mut StdRng) -> Option<Fault> {
        let up = |slot: &Slot| slot.node.is_some() && !slot.paused;
        let victim = rng.random_range(0..NAMES.len());
        let away = self.slots.iter().filter(|slot| !up(slot)).count();
        let can = up(&self.slots[victim]) && away < AWAY_MAX;
        match rng.random_range(0..10) {
            0..4 => can.then_some(Fault::Kill(victim)),
            4..6 => can.then_some(Fault::Pause(victim)),
            6 => can.then_some(Fault::Stop(victim)),
            _ if !self.is_parted() => {
                let mut sides = [false; NAMES.len()];
                sides.fill_with(|| rng.random());
                sides[victim] = !sides[(victim + 1) % NAMES.len()];
                Some(Fault::Part(sides))
            }
            _ => None,
        }
    }

    /// Makes it go wrong.
    pub(crate) fn strike(&mut self, fault: &Fault) {
        self.note(format_args!("{fault:?}"));
        match *fault {
            Fault::Kill(n) => self.end(n, Signal::KILL),
            Fault::Stop(n) => self.end(n, Signal::TERM),
            Fault::Pause(n) => {
                let slot = &mut self.slots[n];
                if let Some(node) = &slot.node {
                    node.freeze();
                    slot.paused = true;
                }
            }
            Fault::Part(sides) => {
                self.partitions += 1;
                self.part(sides);
            }
        }
    }

    /// Lets it be over.
    pub(crate) fn heal(&mut self, fault: &Fault) {
        self.note(format_args!("{fault:?} is over"));
        match *fault {
            Fault::Kill(n) | Fault::Stop(n) => self.begin(n),
            Fault::Pause(n) => {
                let slot = &mut self.slots[n];
                if let Some(node) = &slot.node {
                    node.signal(Signal::CONT);
                    slot.paused = false;
                }
            }
            Fault::Part(_) => {
                self.seen += u32::from(self.sees_parted());
                self.part([false; NAMES.len()]);
            }
        }
    }

    fn part(&mut self, sides: [bool; NAMES.len()]) {
        self.sides = sides;
        for (n, second) in sides.into_iter().enumerate() {
            match &self.places.hosts {
                Some(hosts) => hosts.part(n, second),
                None => self.tell_blocked(n),
            }
        }
    }

    fn is_parted(&self) -> bool {
        self.sides.contains(&true)
    }

    /// The file with the peers that a node is to keep apart from.
    fn blocked(&self, n: usize) -> PathBuf {
        self.slots[n].folder.path().join("blocked")
    }

    /// Writes it, all at once: the node may be looking.
    fn tell_blocked(&self, n: usize) {
        let others = self.slots.iter().zip(self.sides);
        let across = others.filter(|(_, side)| *side != self.sides[n]);
        let peers: Vec<&str> = across.map(|(slot, _)| slot.peer.as_str()).collect();
        let path = self.blocked(n);
        let fresh = path.with_extension("next");
        std::fs::write(&fresh, peers.join("\n")).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
    }

    /// Whether a node on one side, asked now, does not reach one on the other; of two that run.
    fn sees_parted(&self) -> bool {
        let up = |n: &usize| self.slots[*n].node.is_some() && !self.slots[*n].paused;
        let on = |side: bool| (0..NAMES.len()).filter(up).find(|n| self.sides[*n] == side);
        let (Some(one), Some(other)) = (on(false), on(true)) else {
            return false;
        };
        let api = self.places.api(one);
        if self.places.hosts.is_some() {
            // This thread is on the one's host now.
            let address = SocketAddr::from(([10, 77, 0, u8::try_from(other + 1).unwrap()], 4710));
            return TcpStream::connect_timeout(&address, DIALLED_FOR).is_err();
        }
        let peers = get(api, "/v1/peers").unwrap_or_default();
        let mut peers = peers
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter();
        peers.any(|peer| peer["peer"] == *self.slots[other].peer && peer["linked"] == false)
    }

    fn end(&mut self, n: usize, signal: Signal) {
        let node = self.slots[n].node.take().unwrap();
        let (status, log) = node.end_by(signal);
        self.keep(n, &format!("{log}-- {signal:?}: {status}\n"));
        if signal == Signal::TERM {
            let orderly = matches!(status.code(), Some(0 | 1));
            assert!(orderly, "node {} ended with {status}", NAMES[n]);
        }
    }

    /// Ends all in any state, and keeps their logs.
    pub(crate) fn close(&mut self) {
        for n in 0..self.slots.len() {
            if let Some(node) = self.slots[n].node.take() {
                let (status, log) = node.end_by(Signal::KILL);
                self.keep(n, &format!("{log}-- the end: {status}\n"));
            }
        }
    }

    fn keep(&self, n: usize, log: &str) {
        let path = self.evidence.join(format!("{}.log", NAMES[n]));
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, before + log).unwrap();
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let at = self.clock.elapsed().as_secs_f64();
        writeln!(self.done, "{at:>10.6} {what}").unwrap();
    }
}

impl Drop for Five<'_> {
    fn drop(&mut self) {
        self.close();
        std::fs::write(self.evidence.join("faults.txt"), &self.done).ok();
    }
}
