//! A node comes back to a mesh whose logs no longer reach back to where it stands, beside one that
//! comes with nothing; and what a replicated tuple takes in memory.
//!
//! ```text
//! cargo bench -p cpe-mesh --bench rejoin             # a table
//! cargo bench -p cpe-mesh --bench rejoin -- --json   # one JSON object per measure
//! cargo bench -p cpe-mesh --bench rejoin -- --quick  # fewer tuples
//! ```
//!
//! Both nodes start from what is on their disks: snapshots of 256 shards, decided by a home group
//! of three, with stores and takes of three nodes. Between the two snapshots, half of the tuples
//! that differ were taken and as many were stored. Messages are delivered at once, encoded and
//! decoded, on one thread: the time is that of both nodes together, with what the returning one
//! has to write but without the writing. All messages of the catch-up count, both ways, from
//! the first hash of everything on; not what any two nodes say to each other when they meet. The
//! bodies are what the tuples and workspaces that are new take encoded.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports on stdout"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cpe_membership::{Incarnation, Member, NodeCard, NodeId};
use cpe_mesh::{Genesis, Image, Input, Message, Output, Peer, PeerConfig, Table};
use cpe_space::{Command, Config, Dot, Entry, Name, OpId, Session, Shard, ShardId};
use cpe_tuple::{Template, Tuple, Value, codec};
use serde_json::json;

const SHARDS: u16 = 256;
const PAYLOAD: usize = 100;

fn member(n: u64) -> Member {
    // Numbers as hashes of keys are: eight bytes each.
    Member {
        node: NodeId(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n)),
        inc: Incarnation(1),
    }
}

fn genesis() -> Genesis {
    Genesis {
        mesh: "bench".into(),
        shards: SHARDS,
        volatile: 0,
        founder: member(1),
        group_size: Genesis::GROUP_SIZE,
    }
}

/// A shard while its history is made up.
#[derive(Clone)]
struct History {
    shard: Shard,
    stored: BTreeMap<u64, u64>,
    seq: u64,
    /// Variables whose tuple is there: each tuple has a variable of its own, so that any can go.
    there: Vec<u64>,
    next: u64,
}

impl History {
    fn new(id: u16) -> Self {
        let founder = Config {
            epoch: 1,
            members: vec![member(1)],
        };
        let mut history = Self {
            shard: Shard::new(ShardId(id), founder),
            stored: BTreeMap::new(),
            seq: 0,
            there: Vec::new(),
            next: u64::from(id) << 32,
        };
        let config = Config {
            epoch: 2,
            members: (1..=3).map(member).collect(),
        };
        history.decide(&Command::Seal { config });
        history
    }

    fn decide(&mut self, command: &Command) {
        self.shard.push(Entry::new(command).unwrap(), command);
        let index = self.shard.version().index;
        self.shard.trim(index);
    }

    fn store(&mut self) {
        let origin = 1 + self.next % 3;
        let n = self.stored.entry(origin).or_insert(0);
        *n += 1;
        let dot = Dot {
            origin: member(origin),
            n: *n,
        };
        let tuple = Tuple::new(vec![
            Value::from(self.next as i64),
            Value::Bytes(self.next.to_le_bytes().repeat(PAYLOAD / 8 + 1)[..PAYLOAD].to_vec()),
        ]);
        self.there.push(self.next);
        self.next += 1;
        self.decide(&Command::Admit {
            dot,
            workspace: Name::new("w").unwrap(),
            tuple: tuple.unwrap(),
        });
    }

    fn take(&mut self) {
        self.seq += 1;
        let session = Session {
            member: member(1 + self.seq % 3),
            boot: 1,
        };
        let seq = 1 + self.seq / 3;
        // Any of them: scattered over the whole history.
        let at = (self.seq as usize).wrapping_mul(0x9e37_79b1) % self.there.len();
        let variable = self.there.swap_remove(at);
        let fields = vec![
            cpe_tuple::Field::Actual(Value::from(variable as i64)),
            cpe_tuple::Field::Any,
        ];
        self.decide(&Command::Take {
            op: OpId { session, seq },
            acks: vec![seq - 1],
            workspace: Name::new("w").unwrap(),
            template: Template::new(fields).unwrap(),
            wait: false,
        });
        self.decide(&Command::Ack {
            session,
            seqs: vec![seq],
        });
    }
}

/// What a disk holds that keeps nothing but snapshots.
fn image(histories: &[History]) -> Image {
    let mut image = Image::default();
    let mut put = |table, key: &[u8], value| {
        image.entries.insert((table, key.to_vec()), value);
    };
    put(Table::Meta, b"genesis", codec::encode(&genesis()).unwrap());
    for history in histories {
        let key = history.shard.id().0.to_be_bytes();
        let state = codec::encode(history.shard.sm()).unwrap();
        put(Table::Snapshot, &key, state);
    }
    image
}

fn peer(n: u64, image: &Image) -> Peer {
    let mut config = PeerConfig::new(NodeCard::new(member(n), format!("n{n}")));
    // Neither is a home, so that nothing is decided meanwhile.
    config.takes_homes = false;
    Peer::new(config, image, n, Duration::ZERO).unwrap()
}

/// What came of a rejoin.
struct Rejoined {
    bytes: usize,
    seconds: f64,
    sketches: u64,
    snapshots: u64,
}

fn is_catch_up(bytes: &[u8]) -> bool {
    matches!(
        Message::decode(bytes).unwrap(),
        Message::Root { .. }
            | Message::Digest { .. }
            | Message::FeedReq { .. }
            | Message::Feed { .. }
            | Message::Trimmed { .. }
            | Message::StateReq { .. }
            | Message::State { .. }
    )
}

/// Links the node that is behind to the one that is ahead until they are equal.
fn rejoin(ahead: &Image, behind: &Image) -> Rejoined {
    let mut peers = [peer(4, ahead), peer(5, behind)];
    let ids = peers.each_ref().map(|peer| peer.member().node);
    for peer in &mut peers {
        while peer.poll_output().is_some() {}
    }
    let mut now = Duration::ZERO;
    let mut bytes = 0;
    let start = Instant::now();
    for (nth, other) in [(0, 1), (1, 0)] {
        peers[nth].handle(now, Input::LinkUp(ids[other]));
    }
    loop {
        let mut quiet = true;
        for nth in 0..2 {
            while let Some(output) = peers[nth].poll_output() {
                quiet = false;
                match output {
                    Output::Send { bytes: sent, .. } => {
                        if is_catch_up(&sent) {
                            bytes += sent.len();
                        }
                        let from = ids[nth];
                        peers[1 - nth].handle(now, Input::Message { from, bytes: sent });
                    }
                    Output::Persist { token, .. } => {
                        peers[nth].handle(now, Input::Persisted(token));
                    }
                    _ => {}
                }
            }
        }
        if !quiet {
            continue;
        }
        let versions = |peer: &Peer| peer.shards().map(Shard::version).collect::<Vec<_>>();
        if versions(&peers[0]) == versions(&peers[1]) {
            break;
        }
        now = peers
            .iter()
            .filter_map(Peer::next_wake)
            .min()
            .unwrap()
            .max(now);
        assert!(now < Duration::from_secs(60), "no rejoin within a minute");
        for peer in &mut peers {
            peer.handle(now, Input::Tick);
        }
    }
    let seconds = start.elapsed().as_secs_f64() + now.as_secs_f64();
    let [there, here] = &peers;
    assert!(
        there
            .shards()
            .zip(here.shards())
            .all(|(a, b)| a.sm() == b.sm())
    );
    Rejoined {
        bytes,
        seconds,
        sketches: here.counter("sketches_installed"),
        snapshots: here.counter("snapshots_installed"),
    }
}

/// Bytes of memory this process has now; 0 where that cannot be told.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_usize) * 4_096
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() {
    let flag = |name: &str| std::env::args().any(|arg| arg == name);
    let tuples: u64 = if flag("--quick") { 100_000 } else { 1_000_000 };
    let runs = if flag("--quick") { 1 } else { 3 };
    let mut rows = Vec::new();

    let mut histories: Vec<History> = (0..SHARDS).map(History::new).collect();
    for n in 0..tuples {
        histories[(n % u64::from(SHARDS)) as usize].store();
    }
    let behind = image(&histories);
    let nothing = {
        let mut image = Image::default();
        let key = (Table::Meta, b"genesis".to_vec());
        image
            .entries
            .insert(key, codec::encode(&genesis()).unwrap());
        image
    };

    // A tuple's memory: a replica that comes from a disk, less what its tuples take themselves.
    let before = resident();
    let node = peer(4, &behind);
    let taken = resident().saturating_sub(before) as f64 / tuples as f64;
    drop(node);
    let payload = (PAYLOAD + 8) as f64;
    rows.push(json!({
        "case": format!("memory per replicated tuple, {tuples} tuples of {payload} bytes"),
        "value": (taken - payload).round(), "unit": "bytes beyond the payload",
    }));

    for per_mille in [0.1, 1.0, 10.0, 100.0] {
        let differ = (tuples as f64 * per_mille / 1_000.0) as u64;
        let mut bodies = 0;
        let mut changed: Vec<History> = histories.clone();
        for n in 0..differ {
            let history = &mut changed[(n / 2 % u64::from(SHARDS)) as usize];
            if n % 2 == 0 {
                history.take();
            } else {
                history.store();
            }
        }
        for (new, old) in changed.iter().zip(&histories) {
            let index = old.shard.version().index;
            for live in new.shard.sm().live().filter(|live| live.index > index) {
                bodies += codec::encode(&live.tuple).unwrap().len();
                bodies += codec::encode(&live.workspace).unwrap().len();
            }
        }
        let ahead = image(&changed);
        drop(changed);
        let mut times = (Vec::new(), Vec::new());
        let (mut bytes, mut counts) = ((0, 0), (0, 0));
        for _ in 0..runs {
            let sketched = rejoin(&ahead, &behind);
            let whole = rejoin(&ahead, &nothing);
            assert_eq!(whole.sketches, 0);
            bytes = (sketched.bytes, whole.bytes);
            times.0.push(sketched.seconds);
            times.1.push(whole.seconds);
            counts = (sketched.sketches, sketched.snapshots);
        }
        let percent = per_mille / 10.0;
        rows.push(json!({
            "case": format!("rejoin, {tuples} tuples, {percent} % different: bytes"),
            "value": bytes.0.saturating_sub(bodies), "unit": "bytes beyond the bodies",
            "baseline": "all bytes of whole states", "baseline_value": bytes.1,
            "bodies": bodies, "by sketch": counts.0, "by snapshot": counts.1,
        }));
        rows.push(json!({
            "case": format!("rejoin, {tuples} tuples, {percent} % different: time"),
            "value": median(times.0), "unit": "s",
            "baseline": "whole states", "baseline_value": median(times.1),
        }));
    }
    for row in rows {
        if flag("--json") {
            println!("{row}");
        } else {
            println!(
                "{:60} {:>12} {:30} {}",
                row["case"].as_str().unwrap(),
                row["value"],
                row["unit"].as_str().unwrap(),
                row["baseline_value"],
            );
        }
    }
}
