//! Large values: their bodies on simulated disks, users who store and read them, and what must hold
//! of them in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cpe_mesh::{Ack, BodyDone, BodyPart, BodyWork, Command, Input, Reply, RequestId};
use cpe_space::Refers;
use cpe_tuple::blob::{Builder, CHUNK_BYTES};
use cpe_tuple::{Blob, BlobHash, Tuple, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::check::Violation;
use crate::record::What;
use crate::schedule::up_to;
use crate::work::{Open, WORKSPACE};
use crate::world::{Happening, World};

/// Probability that the writing of a part of a body fails while there are faults: a full disk.
const FAILURE: f64 = 0.005;

/// A body on a disk.
#[derive(Clone, Debug)]
struct Whole {
    body: Arc<Vec<u8>>,
    outline: Vec<u8>,
    synced: bool,
}

/// One node's bodies.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    parts: BTreeMap<BlobHash, BTreeMap<u32, Vec<u8>>>,
    whole: BTreeMap<BlobHash, Whole>,
    /// Deleted, but the disk has not heard of it for good.
    deleted: BTreeMap<BlobHash, Whole>,
    /// Written by users of the node, and not adopted.
    new: BTreeMap<u64, Arc<Vec<u8>>>,
    /// When the last thing to do is done.
    busy_until: Duration,
}

impl Shelf {
    pub(crate) fn there(&self) -> BTreeMap<BlobHash, u64> {
        let whole = self.whole.iter();
        whole
            .map(|(hash, whole)| (*hash, whole.body.len() as u64))
            .collect()
    }

    pub(crate) fn has(&self, hash: BlobHash) -> bool {
        self.whole.get(&hash).is_some_and(|whole| whole.synced)
    }

    fn is_whole(&self, blob: Blob) -> bool {
        let body = self.whole.get(&blob.hash()).map(|whole| &whole.body);
        body.is_some_and(|body| Blob::of(blob.is_text(), body) == Ok(blob))
    }

    fn work(&mut self, work: BodyWork) -> Option<BodyDone> {
        match work {
            BodyWork::Write { hash, chunk, bytes } => {
                self.parts.entry(hash).or_default().insert(chunk, bytes);
                Some(BodyDone::Written { hash, chunk })
            }
            BodyWork::Seal { blob, outline } => {
                let chunks = self.parts.remove(&blob.hash()).unwrap_or_default();
                let body = chunks.into_values().collect::<Vec<_>>().concat();
                Some(self.put(blob.hash(), Arc::new(body), outline))
            }
            BodyWork::Adopt { token, blob } => {
                let hash = blob.hash();
                let Some(body) = self.new.remove(&token) else {
                    let reason = "it is not there".to_owned();
                    return Some(BodyDone::Failed { hash, reason });
                };
                let outline = built(&body).map(|(_, outline)| outline).unwrap_or_default();
                Some(self.put(hash, body, outline))
            }
            BodyWork::Abandon { hash } => {
                self.parts.remove(&hash);
                None
            }
            BodyWork::Read { ticket, hash, part } => {
                let whole = self.whole.get(&hash);
                let bytes = whole.and_then(|whole| match part {
                    BodyPart::Outline => Some(whole.outline.clone()),
                    BodyPart::Chunk(chunk) => {
                        let mut chunks = whole.body.chunks(CHUNK_BYTES);
                        let chunk = usize::try_from(chunk).ok()?;
                        chunks.nth(chunk).map(<[u8]>::to_vec)
                    }
                });
                let damaged = whole.is_none();
                Some(BodyDone::Read {
                    ticket,
                    bytes,
                    damaged,
                })
            }
            BodyWork::Delete { hash } => {
                if let Some(whole) = self.whole.remove(&hash) {
                    self.deleted.insert(hash, whole);
                }
                None
            }
        }
    }

    fn put(&mut self, hash: BlobHash, body: Arc<Vec<u8>>, outline: Vec<u8>) -> BodyDone {
        let synced = self.has(hash);
        let len = body.len() as u64;
        let whole = Whole {
            body,
            outline,
            synced,
        };
        self.whole.insert(hash, whole);
        BodyDone::Sealed { hash, len }
    }

    /// Something has ended; what was written by then is safe.
    fn ended(&mut self, done: &BodyDone) {
        if let BodyDone::Sealed { hash, .. } = done
            && let Some(whole) = self.whole.get_mut(hash)
        {
            whole.synced = true;
        }
    }

    /// What was not synced may be there or not, and what was deleted may be back.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha8Rng) {
        self.parts.clear();
        self.new.clear();
        self.busy_until = Duration::ZERO;
        self.whole.retain(|_, whole| whole.synced || rng.random());
        for (hash, whole) in std::mem::take(&mut self.deleted) {
            if rng.random() {
                self.whole.entry(hash).or_insert(whole);
            }
        }
        for whole in self.whole.values_mut() {
            whole.synced = true;
        }
    }
}

fn built(body: &[u8]) -> Option<(Blob, Vec<u8>)> {
    let mut builder = Builder::default();
    for chunk in body.chunks(CHUNK_BYTES) {
        builder.push(chunk).ok()?;
    }
    let (blob, outline) = builder.finish(false).ok()?;
    Some((blob, outline.to_bytes()))
}

/// A store whose body comes first.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) value: i64,
    variable: String,
    tuple: Tuple,
    ack: Ack,
    deadline: Duration,
}

/// A tuple whose reader fetches its body before it looks at the answer.
#[derive(Debug)]
pub(crate) struct Gathered {
    request: RequestId,
    open: Open,
    reply: Reply,
    blob: Blob,
}

/// Large values of the users.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    large: BTreeMap<RequestId, Large>,
    gathered: BTreeMap<RequestId, Gathered>,
    next_token: u64,
}

impl Bodies {
    /// A node is gone, and its requests with it.
    pub(crate) fn gone(&mut self, open: &BTreeMap<RequestId, Open>) {
        self.large.retain(|request, _| !open.contains_key(request));
        self.gathered
            .retain(|request, _| !open.contains_key(request));
    }
}

impl World {
    /// A peer wants something done for a body.
    pub(crate) fn body_work(&mut self, n: usize, work: BodyWork) {
        let disk_ms = self.scenario.faults.disk_ms;
        let takes = up_to(&mut self.rng, disk_ms);
        let writes = matches!(work, BodyWork::Write { .. } | BodyWork::Seal { .. });
        let fails = writes && !self.calm && self.rng.random_bool(FAILURE);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        let failing = match &work {
            BodyWork::Write { hash, .. } if fails => Some(*hash),
            BodyWork::Seal { blob, .. } if fails => Some(blob.hash()),
            _ => None,
        };
        let done = match failing {
            Some(hash) => {
                node.shelf.parts.remove(&hash);
                let reason = "no room".to_owned();
                Some(BodyDone::Failed { hash, reason })
            }
            None => node.shelf.work(work),
        };
        let at = node.shelf.busy_until.max(now) + takes;
        node.shelf.busy_until = at;
        let boot = node.boot;
        if let Some(done) = done {
            self.at(
                at,
                Happening::Worked {
                    node: n,
                    boot,
                    done,
                },
            );
        }
    }

    pub(crate) fn worked(&mut self, n: usize, done: BodyDone) {
        if let Some(node) = self.nodes.get_mut(n) {
            node.shelf.ended(&done);
        }
        self.input(n, Input::Body(done));
    }

    /// A user stores a large value: the tuple `[variable, [value, body]]`.
    pub(crate) fn store_large(
        &mut self,
        n: usize,
        rng: &mut ChaCha8Rng,
        (variable, value): (String, i64),
        ack: Ack,
        deadline: Duration,
    ) {
        // Up to three chunks, and a tenth of all bodies twice.
        let len = rng.random_range(70_000..3 * CHUNK_BYTES);
        let seed = if rng.random_bool(0.1) {
            value / 2
        } else {
            value
        };
        let body: Vec<u8> = seed.to_le_bytes().repeat(len / 8 + 1);
        let Some((blob, _)) = built(&body) else {
            return;
        };
        let both = Value::List(vec![Value::Int(value), Value::from(blob)]);
        let Ok(tuple) = Tuple::new(vec![Value::from(variable.clone()), both]) else {
            return;
        };
        self.bodies.next_token += 1;
        let token = self.bodies.next_token;
        let request = self.fresh_request();
        let large = Large {
            value,
            variable,
            tuple,
            ack,
            deadline,
        };
        self.bodies.large.insert(request, large);
        if let Some(node) = self.nodes.get_mut(n) {
            node.shelf.new.insert(token, Arc::new(body));
            node.open.insert(request, Open::Adopt);
        }
        self.note(n, || format!("adopt {} {}", request.0, blob.hash()));
        let command = Command::Adopt {
            token,
            blob,
            deadline,
        };
        self.input(n, Input::Command(request, command));
    }

    /// The body is on the node's disk: the tuple follows.
    pub(crate) fn adopted(&mut self, n: usize, adopted: RequestId, reply: &Reply) {
        let Some(large) = self.bodies.large.remove(&adopted) else {
            return;
        };
        if *reply != Reply::Done {
            return;
        }
        let request = self.fresh_request();
        let value = large.value;
        self.books.stored.insert(value, self.now);
        self.report.stores += 1;
        self.report.large_stores += 1;
        if let Some(node) = self.nodes.get_mut(n) {
            node.open.insert(request, Open::Store(value));
        }
        let variable = Some(large.variable);
        self.record
            .asked(request, n, self.now, variable, What::Store(value));
        let command = Command::Out {
            workspace: WORKSPACE.to_owned(),
            tuple: large.tuple,
            ack: large.ack,
            deadline: large.deadline,
        };
        self.note(n, || format!("ask {} {command:?}", request.0));
        self.input(n, Input::Command(request, command));
    }

    /// An answer with a body: fetches that first; false when it has none.
    pub(crate) fn gather_first(
        &mut self,
        n: usize,
        request: RequestId,
        open: Open,
        reply: &Reply,
    ) -> bool {
        let (Reply::Tuple(Some(tuple)) | Reply::Leased { tuple, .. }) = reply else {
            return false;
        };
        let Some(blob) = tuple.blobs().first().copied() else {
            return false;
        };
        let variable = cpe_space::variable_of(tuple);
        let gather = self.fresh_request();
        let gathered = Gathered {
            request,
            open,
            reply: reply.clone(),
            blob,
        };
        self.bodies.gathered.insert(gather, gathered);
        if let Some(node) = self.nodes.get_mut(n) {
            node.open.insert(gather, Open::Gather);
        }
        let command = Command::Gather {
            blob,
            workspace: WORKSPACE.to_owned(),
            variable,
            deadline: Duration::from_secs(2),
        };
        self.note(n, || format!("gather {} for {}", gather.0, request.0));
        self.input(n, Input::Command(gather, command));
        true
    }

    /// The body is here, or not.
    pub(crate) fn gathered(&mut self, n: usize, gather: RequestId, reply: &Reply) {
        let Some(gathered) = self.bodies.gathered.remove(&gather) else {
            return;
        };
        let Gathered {
            request,
            open,
            reply: answer,
            blob,
        } = gathered;
        let here = *reply == Reply::Done;
        if here {
            self.report.bodies_read += 1;
            let whole = self
                .nodes
                .get(n)
                .is_some_and(|node| node.shelf.is_whole(blob));
            if !whole {
                self.violation = Some(Violation::BodyLost(blob.hash().to_string()));
                return;
            }
        }
        self.settle_reply(n, request, open, answer, here);
    }

    /// Bodies that live tuples refer to, each with its home group.
    fn live_bodies(&self) -> BTreeMap<BlobHash, Vec<(Blob, Vec<usize>)>> {
        let mut live: BTreeMap<BlobHash, Vec<(Blob, Vec<usize>)>> = BTreeMap::new();
        for shard in 0..self.scenario.shards {
            let Some(sm) = self.newest(shard) else {
                continue;
            };
            let group = sm.config().members.iter();
            let group: Vec<usize> = group
                .filter_map(|member| self.nodes.iter().position(|node| node.member == *member))
                .collect();
            sm.bodies(|blob, refers| {
                if refers == Refers::Live {
                    let places = live.entry(blob.hash()).or_default();
                    places.push((blob, group.clone()));
                }
            });
        }
        live
    }

    fn has_body(&self, n: usize, hash: BlobHash) -> bool {
        self.nodes.get(n).is_some_and(|node| node.shelf.has(hash))
    }

    /// True when each body outlives the loss of one disk with a majority that has it.
    pub(crate) fn bodies_outlive(&self, n: usize) -> bool {
        self.live_bodies().iter().all(|(hash, places)| {
            places.iter().all(|(_, group)| {
                let others = group.iter().filter(|other| **other != n);
                others.filter(|other| self.has_body(**other, *hash)).count() > group.len() / 2
            })
        })
    }

    /// A body that a majority of its home group has not got though a tuple refers to it.
    pub(crate) fn lost_body(&self) -> Option<BlobHash> {
        let lost = self.live_bodies().into_iter().find(|(hash, places)| {
            places.iter().any(|(blob, group)| {
                let has = |n: &&usize| {
                    let shelf = self.nodes.get(**n).map(|node| &node.shelf);
                    shelf.is_some_and(|shelf| shelf.has(*hash) && shelf.is_whole(*blob))
                };
                group.iter().filter(has).count() <= group.len() / 2
            })
        });
        lost.map(|(hash, _)| hash)
    }

    /// Bodies on disks that nothing refers to. A store that is known and whose node has lost its
    /// disk may never be admitted: it refers to its bodies as long as it is known.
    pub(crate) fn stray_bodies(&self) -> usize {
        if self.scenario.workload.bodies == 0.0 {
            return 0;
        }
        let live = self.live_bodies();
        let mut strays = 0;
        for node in &self.nodes {
            let shards = node.peer.iter().flat_map(cpe_mesh::Peer::shards);
            let known = shards.flat_map(|shard| shard.pending().values());
            let known: BTreeSet<BlobHash> = known
                .flat_map(|item| item.tuple.blobs())
                .map(|blob| blob.hash())
                .collect();
            let stray = |hash: &&BlobHash| !live.contains_key(*hash) && !known.contains(*hash);
            strays += node.shelf.whole.keys().filter(stray).count();
        }
        strays
    }
}
