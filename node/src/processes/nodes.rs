//! Nodes as real processes on loopback, with folders of their own, and what is done to them.
#![allow(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not; it does not panic"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::client::get;
use crate::exit::{About, Fault};

/// Where a node is, and which of its lives this is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Its API, once it has said where.
    pub(crate) api: Option<SocketAddr>,
    /// How often it has been started.
    pub(crate) life: u32,
    /// Where other nodes dial it; what it said last.
    address: Option<String>,
    /// Its peer id, once it has said it: each life has the same.
    pub(crate) peer: Option<String>,
}

/// Where all nodes are, for clients.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Mutex<Vec<Place>>>);

impl Places {
    fn new(nodes: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![Place::default(); nodes])))
    }

    pub(crate) fn all(&self) -> Vec<Place> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn of(&self, n: usize) -> Place {
        self.all().get(n).cloned().unwrap_or_default()
    }

    fn change(&self, n: usize, change: impl FnOnce(&mut Place)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = all.get_mut(n) {
            change(place);
        }
    }
}

/// The nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    children: Vec<Option<Child>>,
    paused: Vec<bool>,
    folder: PathBuf,
    shards: u16,
    places: Places,
    /// Pairs of nodes that are parted, lower number first, and by how many faults.
    parted: BTreeMap<(usize, usize), u32>,
}

impl Nodes {
    /// As many as there are to be, none of them started. Each keeps its data, and its log, in the
    /// folder.
    pub(crate) fn new(nodes: usize, shards: u16, folder: &Path) -> Self {
        Self {
            children: (0..nodes).map(|_| None).collect(),
            paused: vec![false; nodes],
            folder: folder.to_owned(),
            shards,
            places: Places::new(nodes),
            parted: BTreeMap::new(),
        }
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Starts a node, with what it kept if it ran before; it tells later where it listens. Does
    /// nothing to one that runs.
    pub(crate) fn start(&mut self, n: usize) -> Result<(), Fault> {
        if self.is_up(n) {
            return Ok(());
        }
        let program = std::env::current_exe().about("cannot find this program")?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CPE_") {
                command.env_remove(name);
            }
        }
        let data = |n: usize| self.folder.join(format!("n{}", n + 1));
        command.args(["node", "--json", "--name", &format!("n{}", n + 1)]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--api", "127.0.0.1:0"]);
        command.arg("--data").arg(data(n));
        let blocked = self.blocked(n);
        if !blocked.exists() {
            let what = format!("cannot write {}", blocked.display());
            std::fs::write(&blocked, "").about(what)?;
        }
        command.arg("--test-blocks").arg(blocked);
        // Workers of forests wait in takes for ever: nothing would look settled.
        command.env("CPE_FOREST_WORKERS", "0");
        if n == 0 {
            command.args(["--shards", &self.shards.to_string()]);
        } else {
            command.arg("--mesh-key").arg(data(0).join("mesh.key"));
        }
        for (other, place) in self.places.all().into_iter().enumerate() {
            if let (true, Some(address)) = (other != n, place.address) {
                command.args(["--bootstrap", &address]);
            }
        }
        let log = self.folder.join(format!("n{}.log", n + 1));
        let what = || format!("cannot write {}", log.display());
        let file = File::options().create(true).append(true).open(&log);
        command.stderr(file.about(what())?);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().about("cannot start a node")?;
        self.places.change(n, |place| {
            place.api = None;
            place.life += 1;
        });
        if let Some(out) = child.stdout.take() {
            let life = self.places.of(n).life;
            let places = self.places.clone();
            thread::spawn(move || listen(out, &places, n, life));
        }
        if let Some(slot) = self.children.get_mut(n) {
            *slot = Some(child);
        }
        Ok(())
    }

    /// True for a node that was started and has not been seen to end.
    pub(crate) fn is_up(&self, n: usize) -> bool {
        self.children.get(n).is_some_and(Option::is_some)
    }

    /// Sends a signal, once to one that runs; false to one that does not.
    fn signal(&self, n: usize, signal: Signal) -> bool {
        let child = self.children.get(n).and_then(Option::as_ref);
        child.is_some_and(|child| kill_process(Pid::from_child(child), signal).is_ok())
    }

    /// SIGKILL. False when it does not run.
    pub(crate) fn kill(&mut self, n: usize) -> bool {
        let child = self.children.get_mut(n).and_then(Option::take);
        let Some(mut child) = child else {
            return false;
        };
        self.ended(n);
        child.kill().is_ok() && child.wait().is_ok()
    }

    /// SIGTERM: it drains and ends by itself, as [`Self::reap`] will see. False when it cannot be
    /// asked.
    pub(crate) fn stop(&mut self, n: usize) -> bool {
        !self.is_paused(n) && self.signal(n, Signal::TERM)
    }

    /// True once a node that was asked to stop has ended.
    pub(crate) fn reap(&mut self, n: usize) -> bool {
        let Some(slot) = self.children.get_mut(n) else {
            return true;
        };
        let over = slot
            .as_mut()
            .is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if over && slot.take().is_some() {
            self.ended(n);
        }
        over
    }

    fn ended(&mut self, n: usize) {
        self.places.change(n, |place| place.api = None);
        if let Some(paused) = self.paused.get_mut(n) {
            *paused = false;
        }
    }

    fn is_paused(&self, n: usize) -> bool {
        self.paused.get(n).copied().unwrap_or(false)
    }

    /// SIGSTOP. False when it does not run, or stands still already.
    pub(crate) fn pause(&mut self, n: usize) -> bool {
        let paused = !self.is_paused(n) && self.signal(n, Signal::STOP);
        if let (true, Some(slot)) = (paused, self.paused.get_mut(n)) {
            *slot = true;
        }
        paused
    }

    /// The file with the peers that a node is kept apart from.
    fn blocked(&self, n: usize) -> PathBuf {
        self.folder.join(format!("n{}.blocked", n + 1))
    }

    /// Cuts all ways between these pairs, or mends them; what several faults have cut is whole once
    /// all of them are over.
    ///
    /// # Errors
    /// When a node cannot be told.
    pub(crate) fn part(&mut self, pairs: &[(usize, usize)], cut: bool) -> Result<(), Fault> {
        for (a, b) in pairs {
            let times = self.parted.entry((*a.min(b), *a.max(b))).or_default();
            *times = if cut {
                *times + 1
            } else {
                times.saturating_sub(1)
            };
        }
        self.parted.retain(|_, times| *times > 0);
        let mut touched: Vec<usize> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
        touched.sort_unstable();
        touched.dedup();
        for n in touched {
            self.tell_blocked(n)?;
        }
        Ok(())
    }

    /// Writes whom a node is to keep apart from, all at once: it may be looking.
    fn tell_blocked(&self, n: usize) -> Result<(), Fault> {
        let other = |(a, b): &(usize, usize)| match n {
            n if n == *a => Some(*b),
            n if n == *b => Some(*a),
            _ => None,
        };
        let others = self.parted.keys().filter_map(other);
        let peers: Vec<String> = others.filter_map(|n| self.places.of(n).peer).collect();
        let path = self.blocked(n);
        let fresh = path.with_extension("next");
        let what = format!("cannot write {}", path.display());
        std::fs::write(&fresh, peers.join("\n")).about(&what)?;
        std::fs::rename(&fresh, &path).about(what)
    }

    /// Mends all.
    ///
    /// # Errors
    /// As for [`Self::part`].
    pub(crate) fn join_all(&mut self) -> Result<(), Fault> {
        self.parted.clear();
        (0..self.children.len()).try_for_each(|n| self.tell_blocked(n))
    }

    /// True when of one of these pairs, both up, one says that it has no link to the other.
    pub(crate) fn sees_cut(&self, pairs: &[(usize, usize)]) -> bool {
        let answers = |n: usize| self.is_up(n) && !self.is_paused(n);
        let seen = |(a, b): &(usize, usize)| {
            let (one, other) = (self.places.of(*a), self.places.of(*b));
            let peers = one.api.and_then(|api| get(api, "/v1/peers"));
            let Some(peer) = other.peer.filter(|_| other.api.is_some()) else {
                return false;
            };
            let peers = peers.as_ref().and_then(Value::as_array);
            let mut peers = peers.map(Vec::as_slice).unwrap_or_default().iter();
            peers.any(|seen| seen["peer"] == *peer && seen["linked"] == false)
        };
        let mut both_up = pairs.iter().filter(|(a, b)| answers(*a) && answers(*b));
        both_up.next().is_some_and(seen)
    }

    /// SIGCONT.
    pub(crate) fn go_on(&mut self, n: usize) {
        if let Some(paused) = self.paused.get_mut(n)
            && std::mem::take(paused)
        {
            self.signal(n, Signal::CONT);
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // By their handles, hence by their ids: nothing else can be hit.
        for n in 0..self.children.len() {
            self.kill(n);
        }
    }
}

/// Reads where a node listens from the line it says when it is ready, and the rest to its end: a
/// full pipe would stop the node.
fn listen(out: impl Read, places: &Places, n: usize, life: u32) {
    let mut out = BufReader::new(out);
    let mut line = String::new();
    if out.read_line(&mut line).is_err() {
        return;
    }
    let ready: Value = serde_json::from_str(&line).unwrap_or_default();
    let api = ready["api"].as_str().and_then(|text| text.parse().ok());
    let address = ready["addresses"][0].as_str().map(str::to_owned);
    let peer = ready["peer"].as_str().map(str::to_owned);
    places.change(n, |place| {
        if place.life == life {
            place.api = api;
            place.address = address;
            place.peer = peer;
        }
    });
    std::io::copy(&mut out, &mut std::io::sink()).ok();
}
