//! Bodies: large values that travel apart from their tuples (docs/decisions/008-bodies.md).
//!
//! A tuple holds a [`Blob`], the hash of its body. Four rules keep the body where it is needed:
//!
//! - B1. A store, or a bound put, is sent to its home once a majority of the home group has the
//!   body on disk.
//! - B2. A member of a home group takes an entry that is not decided into its log only with the
//!   bodies the entry refers to on its disk. So what is decided is on the disks of a majority,
//!   bodies included, whatever became of groups and leaders in between.
//! - B3. A member fetches the bodies of live tuples it lacks, from whoever has them.
//! - B4. A body is deleted once no tuple, lease, unacknowledged take, store or entry of a log that
//!   this node knows has referred to it for a while.
//!
//! Chunks are asked for one by one and each is checked before it is written, so a transfer goes on
//! with another holder where it stood.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_space::{Item, ShardId};
use cpe_tuple::{Blob, BlobHash, Tuple};

use crate::io::Output;
use crate::peer::Peer;
use crate::{Failure, Reply, RequestId};

mod place;
mod pull;
mod sweep;
mod wire;

pub(crate) use place::{Placing, Way};
pub(crate) use pull::Wanted;
pub(crate) use sweep::Sweep;
pub use wire::{BodyMessage, BodyPart};

/// Bodies on one disk. More are not fetched.
pub const MAX_BODIES: usize = 1 << 20;

/// Parts being read for others at a time; more are not answered, and asked for again.
const MAX_READS: usize = 64;

/// What storage is to do for bodies, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyWork {
    /// Write a chunk of a body that is not whole yet, and report it.
    Write {
        /// The body.
        hash: BlobHash,
        /// Which chunk; each is written once, in any order.
        chunk: u32,
        /// The chunk, checked.
        bytes: Vec<u8>,
    },
    /// All chunks are written: make the body durable, and report it.
    Seal {
        /// The body.
        blob: Blob,
        /// The hashes of its chunks, as [`cpe_tuple::blob::Outline::new`] takes them.
        outline: Vec<u8>,
    },
    /// Make a body durable that the local node has written by itself, and report it.
    Adopt {
        /// The name it was written under.
        token: u64,
        /// The body.
        blob: Blob,
    },
    /// Drop the chunks of a body that is not whole.
    Abandon {
        /// The body.
        hash: BlobHash,
    },
    /// Read a part of a body, check it, and report it.
    Read {
        /// Names the question.
        ticket: u64,
        /// The body.
        hash: BlobHash,
        /// What of it.
        part: BodyPart,
    },
    /// Remove a body. It may be back after a crash.
    Delete {
        /// The body.
        hash: BlobHash,
    },
}

/// What storage reports about bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyDone {
    /// A chunk is written.
    Written {
        /// The body.
        hash: BlobHash,
        /// The chunk.
        chunk: u32,
    },
    /// A body is durable and whole: sealed or adopted.
    Sealed {
        /// The body.
        hash: BlobHash,
        /// Bytes.
        len: u64,
    },
    /// A body could not be written; its chunks are gone.
    Failed {
        /// The body.
        hash: BlobHash,
        /// Why.
        reason: String,
    },
    /// A part was read.
    Read {
        /// Of the question.
        ticket: u64,
        /// The part; none if it is not there or cannot be read.
        bytes: Option<Vec<u8>>,
        /// What is on the disk is not what was written: the body is good for nothing.
        damaged: bool,
    },
}

/// A body on the own disk.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Bytes.
    len: u64,
    /// When something new last referred to it.
    seen: Duration,
    /// Since when nothing refers to it, as far as was noticed.
    idle: Option<Duration>,
    /// Since when nothing but takes that are not acknowledged refers to it.
    taken: Option<Duration>,
}

/// A part being read for another node.
#[derive(Clone, Copy, Debug)]
struct Serving {
    to: NodeId,
    hash: BlobHash,
    part: BodyPart,
}

/// Requests by the body they wait for.
type Gathering = BTreeMap<BlobHash, BTreeSet<RequestId>>;

/// What a peer knows of bodies.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    held: BTreeMap<BlobHash, Held>,
    wanted: BTreeMap<BlobHash, Wanted>,
    /// A transfer has ended or paused since the next ones were begun.
    place_free: bool,
    /// Bodies the local node wrote and that are being made durable, with those who wait for that.
    adopting: BTreeMap<BlobHash, Vec<RequestId>>,
    serving: BTreeMap<u64, Serving>,
    next_ticket: u64,
    /// Stores that wait for a majority to have these bodies.
    placing: BTreeMap<BlobHash, BTreeSet<RequestId>>,
    /// Requests that wait for these bodies to be here.
    gathering: Gathering,
    sweep: Sweep,
    /// While draining: members of home groups that have these bodies.
    handed: BTreeSet<(BlobHash, NodeId)>,
    /// While draining: when they were last asked.
    handed_asked: Option<Duration>,
}

impl Peer {
    /// Bodies on the own disk.
    pub fn bodies(&self) -> impl Iterator<Item = BlobHash> {
        self.bodies.held.keys().copied()
    }

    /// Takes up the bodies that storage holds.
    pub(crate) fn restore_bodies(&mut self, there: &BTreeMap<BlobHash, u64>) {
        let now = self.now;
        for (hash, len) in there {
            let held = Held {
                len: *len,
                seen: now,
                idle: None,
                taken: None,
            };
            self.bodies.held.insert(*hash, held);
        }
        self.begin_sweep();
    }

    fn work(&mut self, work: BodyWork) {
        self.put_output(Output::Body(work));
    }

    fn has_body(&self, hash: BlobHash) -> bool {
        self.bodies.held.contains_key(&hash)
    }

    /// Something refers to these bodies: they are not to be deleted for a while.
    pub(crate) fn saw_bodies(&mut self, tuple: &Tuple) {
        for blob in tuple.blobs() {
            self.saw_body(blob.hash());
        }
    }

    fn saw_body(&mut self, hash: BlobHash) {
        let now = self.now;
        if let Some(held) = self.bodies.held.get_mut(&hash) {
            held.seen = now;
        }
    }

    /// The first of these stores whose bodies are not all here; they are fetched then (rule B2).
    pub(crate) fn present(&mut self, shard: ShardId, from: NodeId, items: &[Item]) -> usize {
        let mut there = 0;
        for item in items {
            if !self.has_bodies_for(shard, from, &item.tuple) {
                break;
            }
            there += 1;
        }
        there
    }

    /// Whether the bodies of a tuple are all here; those that are not are fetched (rule B2).
    pub(crate) fn has_bodies_for(&mut self, shard: ShardId, from: NodeId, tuple: &Tuple) -> bool {
        let mut missing = tuple.blobs();
        missing.retain(|blob| !self.has_body(blob.hash()));
        for blob in &missing {
            self.want(*blob, shard, Some(from));
        }
        if missing.is_empty() {
            self.saw_bodies(tuple);
        }
        missing.is_empty()
    }

    /// Storage reports.
    pub(crate) fn body_done(&mut self, done: BodyDone) {
        match done {
            BodyDone::Written { hash, chunk } => self.chunk_written(hash, chunk),
            BodyDone::Sealed { hash, len } => self.body_here(hash, len),
            BodyDone::Failed { hash, reason } => self.body_failed(hash, &reason),
            BodyDone::Read {
                ticket,
                bytes,
                damaged,
            } => self.part_read(ticket, bytes, damaged),
        }
        self.fill_places();
    }

    /// A body is on the own disk now.
    fn body_here(&mut self, hash: BlobHash, len: u64) {
        let now = self.now;
        let held = Held {
            len,
            seen: now,
            idle: None,
            taken: None,
        };
        self.bodies.held.insert(hash, held);
        self.count("bodies_stored", 1);
        for request in self.bodies.adopting.remove(&hash).unwrap_or_default() {
            self.finish(request, Reply::Done);
        }
        for request in self.bodies.gathering.remove(&hash).unwrap_or_default() {
            self.finish(request, Reply::Done);
        }
        if let Some(wanted) = self.end_want(hash) {
            if wanted.has_chunks() {
                self.work(BodyWork::Abandon { hash });
            }
            for asker in wanted.askers {
                let held = BodyMessage::Held { hash };
                self.send_body(asker, held);
            }
        }
        self.body_placed(hash, self.me.node);
        self.bodies.place_free = true;
    }

    fn body_failed(&mut self, hash: BlobHash, reason: &str) {
        self.count("bodies_failed", 1);
        let why = || format!("body {hash} cannot be written: {reason}");
        for request in self.bodies.adopting.remove(&hash).unwrap_or_default() {
            self.finish(request, Reply::Failed(Failure::Refused(why())));
        }
        for request in self.bodies.gathering.remove(&hash).unwrap_or_default() {
            self.finish(request, Reply::Failed(Failure::Busy(why())));
        }
        // Whoever needs it asks again.
        self.end_want(hash);
        self.bodies.place_free = true;
    }

    /// The local node wrote a body by itself.
    pub(crate) fn adopt_body(&mut self, request: RequestId, token: u64, blob: Blob) {
        let waiting = self.bodies.adopting.entry(blob.hash()).or_default();
        waiting.push(request);
        self.requests
            .insert(request, crate::request::Request::Adopt(blob.hash()));
        self.work(BodyWork::Adopt { token, blob });
    }

    fn send_body(&mut self, to: NodeId, message: BodyMessage) -> bool {
        self.send_if(to, crate::Message::Body(message))
    }

    /// Another node says something about bodies.
    pub(crate) fn receive_body(&mut self, from: NodeId, message: BodyMessage) {
        match message {
            BodyMessage::Hold { blob, shard } => self.serve_hold(from, blob, shard),
            BodyMessage::Held { hash } => {
                if self.draining {
                    self.bodies.handed.insert((hash, from));
                }
                self.body_placed(hash, from);
            }
            BodyMessage::Ask { hash, part } => self.serve_part(from, hash, part),
            BodyMessage::Part { hash, part, bytes } => self.take_part(from, hash, part, bytes),
        }
        self.fill_places();
    }

    fn serve_hold(&mut self, from: NodeId, blob: Blob, shard: ShardId) {
        let hash = blob.hash();
        if self.has_body(hash) {
            self.saw_body(hash);
            self.send_body(from, BodyMessage::Held { hash });
        } else {
            self.want(blob, shard, Some(from));
            self.add_asker(hash, from);
        }
    }

    fn serve_part(&mut self, from: NodeId, hash: BlobHash, part: BodyPart) {
        if !self.has_body(hash) {
            let bytes = None;
            self.send_body(from, BodyMessage::Part { hash, part, bytes });
            return;
        }
        if self.bodies.serving.len() >= MAX_READS {
            return;
        }
        let ticket = self.bodies.next_ticket;
        self.bodies.next_ticket += 1;
        let serving = Serving {
            to: from,
            hash,
            part,
        };
        self.bodies.serving.insert(ticket, serving);
        self.work(BodyWork::Read { ticket, hash, part });
    }

    fn part_read(&mut self, ticket: u64, bytes: Option<Vec<u8>>, damaged: bool) {
        let Some(Serving { to, hash, part }) = self.bodies.serving.remove(&ticket) else {
            return;
        };
        if damaged && self.bodies.held.remove(&hash).is_some() {
            // With it gone, it is fetched again where it is needed.
            self.count("bodies_damaged", 1);
            self.work(BodyWork::Delete { hash });
        }
        let bytes = bytes.map(serde_bytes::ByteBuf::from);
        self.send_body(to, BodyMessage::Part { hash, part, bytes });
    }
}
