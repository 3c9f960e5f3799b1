//! Bodies on their way: of stores to a majority of the home group (rules B1 and B2), and to this
//! node for those who read.

use std::collections::BTreeSet;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_space::{Bound, Name, ShardId, Terms, variable_of};
use cpe_tuple::{Blob, BlobHash, Tuple};

use super::BodyMessage;
use crate::peer::Timer;
use crate::request::Request;
use crate::wire::{GroupMessage, Operation};
use crate::{Ack, Failure, Peer, Reply, RequestId};

/// How often the members that have not answered are asked again to have a body.
const HOLD_AGAIN: Duration = Duration::from_secs(1);

/// A store that waits for its bodies to be at a majority.
#[derive(Debug)]
pub(crate) struct Placing {
    workspace: Name,
    tuple: Tuple,
    way: Way,
    shard: ShardId,
    blobs: Vec<Blob>,
    held: BTreeSet<(BlobHash, NodeId)>,
}

/// How a tuple goes on to its home once its bodies are in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the outbox.
    Outbox(Ack),
    /// As an operation under these terms.
    Bound { terms: Terms, within: Duration },
}

impl Peer {
    /// Adds a tuple: its bodies first, then the way it takes, then the home (rules B1 and R16).
    pub(crate) fn store(&mut self, request: RequestId, workspace: Name, tuple: Tuple, way: Way) {
        if !tuple.has_blobs() {
            self.add_by_way(request, workspace, tuple, way);
        } else if let Err(refusal) = self.place_first(request, workspace, tuple, way) {
            self.finish(request, Reply::Failed(Failure::Refused(refusal)));
        }
    }

    fn add_by_way(&mut self, request: RequestId, workspace: Name, tuple: Tuple, way: Way) {
        match way {
            Way::Outbox(ack) => self.store_placed(request, workspace, tuple, ack),
            Way::Bound { terms, within } => {
                let shard = self.shard_for(&workspace, &variable_of(&tuple));
                let act = Bound::Put { tuple };
                let operation = Operation::Bound {
                    workspace,
                    terms,
                    act,
                };
                self.operate(request, shard, operation, within);
            }
        }
    }

    /// Begins to store a tuple with bodies.
    fn place_first(
        &mut self,
        request: RequestId,
        workspace: Name,
        tuple: Tuple,
        way: Way,
    ) -> Result<(), String> {
        let blobs = tuple.blobs();
        for blob in &blobs {
            let (hash, said) = (blob.hash(), blob.len());
            let Some(held) = self.bodies.held.get(&hash) else {
                return Err(format!(
                    "body {hash} is not at this node; give it the value itself"
                ));
            };
            // Nobody could fetch it, and all later stores would wait for it.
            if held.len != said {
                let len = held.len;
                return Err(format!("body {hash} has {len} bytes, not {said}"));
            }
        }
        self.saw_bodies(&tuple);
        // What is acknowledged here has its place in the order of this node's stores at once.
        if way == Way::Outbox(Ack::Local) {
            self.add_by_way(request, workspace, tuple, way);
            return Ok(());
        }
        let shard = self.shard_for(&workspace, &variable_of(&tuple));
        let me = self.me.node;
        let held = blobs.iter().map(|blob| (blob.hash(), me)).collect();
        for blob in &blobs {
            let waiting = self.bodies.placing.entry(blob.hash()).or_default();
            waiting.insert(request);
        }
        let placing = Placing {
            workspace,
            tuple,
            way,
            shard,
            blobs,
            held,
        };
        self.requests
            .insert(request, Request::Place(Box::new(placing)));
        self.place_bodies(request);
        Ok(())
    }

    /// Asks the members of the home group to have the bodies; stores the tuple when a majority has.
    pub(crate) fn place_bodies(&mut self, request: RequestId) {
        let Some(Request::Place(placing)) = self.requests.get(&request) else {
            return;
        };
        let shard = placing.shard;
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let members: Vec<NodeId> = slot.map.members.iter().map(|member| member.node).collect();
        let has = |node: &NodeId| {
            let mut hashes = placing.blobs.iter().map(Blob::hash);
            hashes.all(|hash| placing.held.contains(&(hash, *node)))
        };
        let count = members.iter().filter(|node| has(node)).count();
        if count > members.len() / 2 {
            return self.bodies_are_placed(request);
        }
        let mut asked = Vec::new();
        for node in &members {
            for blob in &placing.blobs {
                if !placing.held.contains(&(blob.hash(), *node)) {
                    asked.push((*node, *blob));
                }
            }
        }
        for (node, blob) in asked {
            self.send_body(node, BodyMessage::Hold { blob, shard });
        }
        self.timers
            .set(Timer::Place(request), self.now + HOLD_AGAIN);
    }

    fn bodies_are_placed(&mut self, request: RequestId) {
        let Some(Request::Place(placing)) = self.requests.remove(&request) else {
            return;
        };
        self.forget_placing(request, &placing);
        self.saw_bodies(&placing.tuple);
        self.add_by_way(request, placing.workspace, placing.tuple, placing.way);
    }

    /// A node has a body on its disk.
    pub(super) fn body_placed(&mut self, hash: BlobHash, node: NodeId) {
        let waiting = self.bodies.placing.get(&hash);
        for request in waiting.cloned().unwrap_or_default() {
            if let Some(Request::Place(placing)) = self.requests.get_mut(&request) {
                placing.held.insert((hash, node));
                self.place_bodies(request);
            }
        }
    }

    pub(crate) fn forget_placing(&mut self, request: RequestId, placing: &Placing) {
        self.timers.clear(&Timer::Place(request));
        for blob in &placing.blobs {
            let hash = blob.hash();
            if let Some(waiting) = self.bodies.placing.get_mut(&hash) {
                waiting.remove(&request);
                if waiting.is_empty() {
                    self.bodies.placing.remove(&hash);
                }
            }
        }
    }

    /// No majority has the bodies in time: a store waits in the outbox, as any other would; an
    /// operation has not begun, and never will.
    pub(crate) fn placing_over(&mut self, request: RequestId) {
        let Some(Request::Place(placing)) = self.requests.get_mut(&request) else {
            return;
        };
        if let Way::Outbox(ack) = &mut placing.way {
            *ack = Ack::Local;
            return self.bodies_are_placed(request);
        }
        let shard = placing.shard.0;
        let why = "no majority of its members got the large value in time".to_owned();
        self.finish(request, Reply::Failed(Failure::Unavailable { shard, why }));
    }

    /// Somebody here reads a body.
    pub(crate) fn gather(
        &mut self,
        request: RequestId,
        blob: Blob,
        shard: ShardId,
        within: Duration,
    ) {
        let hash = blob.hash();
        if self.has_body(hash) {
            self.saw_body(hash);
            return self.finish(request, Reply::Done);
        }
        let waiting = self.bodies.gathering.entry(hash).or_default();
        waiting.insert(request);
        self.want(blob, shard, None);
        let pulled = self.pulled(hash);
        let state = Request::Gather {
            blob,
            shard,
            pulled,
            within,
        };
        self.requests.insert(request, state);
    }

    /// A reader's time is up, unless something came in it.
    pub(crate) fn gathering_over(&mut self, request: RequestId) {
        let Some(Request::Gather {
            blob,
            shard,
            pulled,
            within,
        }) = self.requests.get(&request)
        else {
            return;
        };
        let (blob, shard, within) = (*blob, *shard, *within);
        let now = self.pulled(blob.hash());
        if now == *pulled {
            return self.not_gathered(request, blob.hash(), shard);
        }
        if let Some(Request::Gather { pulled, .. }) = self.requests.get_mut(&request) {
            *pulled = now;
        }
        self.timers.set(Timer::Deadline(request), self.now + within);
    }

    fn not_gathered(&mut self, request: RequestId, hash: BlobHash, shard: ShardId) {
        let why = format!("no node that can be reached has body {hash}");
        let shard = shard.0;
        self.finish(request, Reply::Failed(Failure::Unavailable { shard, why }));
    }

    pub(super) fn gather_failed(&mut self, hash: BlobHash) {
        for request in self.bodies.gathering.remove(&hash).unwrap_or_default() {
            if let Some(Request::Gather { shard, .. }) = self.requests.get(&request) {
                self.not_gathered(request, hash, *shard);
            }
        }
    }

    pub(crate) fn forget_gathering(&mut self, request: RequestId, hash: BlobHash) {
        if let Some(waiting) = self.bodies.gathering.get_mut(&hash) {
            waiting.remove(&request);
            if waiting.is_empty() {
                self.bodies.gathering.remove(&hash);
            }
        }
    }

    pub(crate) fn forget_adopting(&mut self, request: RequestId, hash: BlobHash) {
        if let Some(waiting) = self.bodies.adopting.get_mut(&hash) {
            waiting.retain(|other| *other != request);
        }
    }

    /// Rule B2: true when this node has the bodies of all entries in a message of the home group
    /// that are not decided. Else the message is as good as lost: it comes again, when the bodies
    /// that are fetched now may be here.
    pub(crate) fn has_bodies_of(
        &mut self,
        from: NodeId,
        shard: ShardId,
        message: &GroupMessage,
    ) -> bool {
        use cpe_consensus::Message as Said;
        let (Said::Promise {
            decided,
            from: before,
            suffix: entries,
            ..
        }
        | Said::Sync {
            decided,
            from: before,
            suffix: entries,
            ..
        }
        | Said::Accept {
            decided,
            from: before,
            entries,
            ..
        }) = message
        else {
            return true;
        };
        let applied = self
            .slot_ref(shard)
            .map_or(0, |slot| slot.shard.version().index);
        // What is decided is at a majority already, and may be taken and gone.
        let decided = (*decided).max(applied).saturating_sub(*before);
        let decided = usize::try_from(decided).unwrap_or(usize::MAX);
        let mut all = true;
        for proposal in entries.iter().skip(decided) {
            if let Some((_, tuple)) = proposal.command().adds()
                && tuple.has_blobs()
            {
                for blob in tuple.blobs() {
                    if self.has_body(blob.hash()) {
                        self.saw_body(blob.hash());
                    } else {
                        all = false;
                        self.want(blob, shard, Some(from));
                    }
                }
            }
        }
        all
    }
}
