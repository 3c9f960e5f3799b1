//! The asking side of a shard: stores on their way and operations under way (rules R15, R16, R18).

mod acks;
mod stores;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cpe_membership::{Member, NodeId};
use cpe_space::{
    ActorRecord, Dot, Item, LeaseId, MAX_LEASED_BYTES, MAX_LEASES, Name, OUTBOX_BYTES_MAX, OpId,
    Outcome, ShardId, TAKES_MAX, variable_in,
};
use cpe_tuple::Tuple;

use crate::boot;
use crate::client::acks::Acks;
use crate::guard::{Guard, holds};
use crate::handle::{LeaseHandle, OpHandle};
use crate::peer::{After, MAX_REQUESTS, Peer, Timer};
use crate::persist::Table;
use crate::request::{Request, Stage};
use crate::show::actor_info;
use crate::wire::{MAX_GOSSIP_BYTES, Message, Operation};
use crate::{Ack, Failure, Reply, RequestId};

/// Stores waiting for a home, per shard. More are refused as busy.
pub(crate) const MAX_OUTBOX: usize = 65_536;

/// Bytes of stores sent to a home at once.
const STORE_BYTES: usize = 256 * 1024;

/// Bytes of unadmitted stores shown to everybody at once: they must fit a gossip frame, with what
/// stands around them. A larger one is sent by itself to each linked node.
const SHOWN_BYTES: usize = MAX_GOSSIP_BYTES * 3 / 4;

/// Bytes that a shown store takes besides its tuple and the name of its workspace, at most.
const ITEM_BYTES: usize = 16;

/// Tries of one operation that are remembered as unanswered.
const MAX_OPEN_TRIES: usize = 64;

/// Operations of one shard answered *unknown* whose outcomes are left unacknowledged, so that the
/// home can tell later what became of them. The eldest are given up first.
const MAX_UNKNOWN: usize = 256;

/// Every so many tries to reach the home, unadmitted stores are shown to everybody: to be read,
/// and for whoever can reach the home to pass on.
pub(crate) const SHOW_EVERY_TRIES: u32 = 3;

/// A node's dealings with the home of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardClient {
    /// Stores made to the shard in this life: the last dot.
    pub(crate) stored: u64,
    /// Own stores by count, until the replica has applied their admission.
    outbox: BTreeMap<u64, Out>,
    /// Stores the home has said are decided.
    admitted: u64,
    /// Stores sent at least once: the last one.
    sent: u64,
    /// Stores that any other node, or the own home, may have heard of: up to this one.
    heard: u64,
    /// The last store shown to everybody before its admission.
    shown: u64,
    store_tries: u32,
    next_seq: u64,
    ops: BTreeMap<u64, ClientOp>,
    acks: Acks,
    /// Operations answered unknown that have an outcome now, which the home still remembers, with
    /// the index that decided it.
    unknown: VecDeque<(u64, u64)>,
}

#[derive(Debug)]
struct Out {
    item: Item,
    durable: bool,
    /// Handed to this node's own home without a place in the outbox table: see [`Peer::store`].
    direct: bool,
    waiting: Option<(RequestId, Ack)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpState {
    Asking,
    /// Its tuple was handed to the local node, which has not confirmed it.
    Delivered,
    Cancelling,
}

/// What an answer to an operation has to tell of it.
#[derive(Clone, Copy, Debug)]
struct About {
    shard: ShardId,
    id: OpId,
    /// The lease it acted on.
    lease: Option<LeaseId>,
    /// The time to live of the lease it took.
    ttl_ms: u64,
    /// It was to do what cannot be undone.
    lasts: bool,
    /// It was about an actor under a lease.
    fences: bool,
}

/// True for outcomes that hand out a tuple.
fn is_tuple(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Taken { .. } | Outcome::Leased { .. })
}

/// An operation whose outcome is not yet known and acknowledged.
#[derive(Debug)]
struct ClientOp {
    operation: Operation,
    request: Option<RequestId>,
    state: OpState,
    /// It left this node: a home may have it.
    sent: bool,
    /// Its request was answered that it may have been executed.
    unknown: bool,
    /// The index that decided it; 0 while none has.
    index: u64,
    tries: u32,
    /// Tries that no member has said to have refused: each may have been executed.
    open_tries: BTreeSet<u32>,
    /// There were more of them than are kept: it may have been executed, whatever is said of these.
    doubtful: bool,
}

impl ShardClient {
    /// Operations that are not over.
    pub(crate) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.ops.values().map(|op| &op.operation)
    }

    pub(crate) fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    /// Tuples of operations on their way.
    pub(crate) fn adding(&self) -> impl Iterator<Item = &Tuple> {
        self.ops.values().filter_map(|op| op.operation.adds())
    }

    /// Own stores that the replica has not applied.
    pub(crate) fn outbox(&self) -> impl Iterator<Item = &Item> {
        self.outbox.values().map(|out| &out.item)
    }

    /// The last operation begun.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq
    }

    /// Puts back a store found in the outbox at start.
    pub(crate) fn restore(&mut self, n: u64, item: Item) {
        self.stored = self.stored.max(n);
        self.outbox.insert(
            n,
            Out {
                item,
                durable: true,
                direct: false,
                waiting: None,
            },
        );
    }
}

impl Peer {
    /// Pause before try number `tries + 1` (rule R15).
    fn pause(&self, tries: u32) -> Duration {
        let factor = 1.5_f64.powi(i32::try_from(tries.min(16)).unwrap_or(16));
        self.config
            .retry_first
            .mul_f64(factor)
            .min(self.config.retry_max)
    }

    /// The volatile shard begins anew. Whatever is not certain to be untouched by what was before
    /// ends here: a store that may have been admitted must not be admitted again. Takes go on,
    /// under numbers of the new generation; what they had taken before is gone with the old one.
    pub(crate) fn begin_anew(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let (origin, floor) = (slot.me, slot.shard.sm().floor());
        let old = std::mem::take(&mut slot.client);
        let client = &mut slot.client;
        (client.stored, client.admitted, client.sent) = (floor, floor, floor);
        (client.next_seq, client.heard, client.shown) = (floor, floor, floor);
        let mut lost = Vec::new();
        let mut waiting = Vec::new();
        let mut freed = 0;
        for (n, out) in old.outbox {
            if out.direct || n <= old.heard {
                freed += out.item.tuple.size();
                lost.extend(out.waiting.map(|(request, _)| request));
                continue;
            }
            client.stored += 1;
            let n = client.stored;
            let item = out.item.clone();
            slot.shard.add_pending(Dot { origin, n }, item.clone());
            client.outbox.insert(
                n,
                Out {
                    durable: false,
                    ..out
                },
            );
            waiting.push((n, item));
        }
        self.outbox_bytes -= freed;
        for (n, item) in waiting {
            self.save_store(shard, n, &item);
        }
        for request in lost {
            self.finish(request, Reply::Failed(Failure::Lost { shard: shard.0 }));
        }
        self.delivered.retain(|_, (at, _)| *at != shard);
        self.effects_anew(shard);
        for (seq, op) in old.ops {
            self.timers.clear(&Timer::Op(shard, seq));
            self.timers.clear(&Timer::Grace(shard, seq));
            if let Some(request) = op.request {
                // As of a store that was heard of: it may have been there, and taken.
                if op.operation.adds().is_some() && op.sent {
                    let lost = Failure::Lost { shard: shard.0 };
                    self.finish(request, Reply::Failed(lost));
                    continue;
                }
                let asking = op.state == OpState::Asking;
                self.ask_anew(request, shard, seq, asking.then_some(op.operation));
            }
        }
    }

    /// Goes on with a request whose operation was one of an earlier generation; ends it if its time
    /// was up already.
    fn ask_anew(
        &mut self,
        request: RequestId,
        shard: ShardId,
        old: u64,
        operation: Option<Operation>,
    ) {
        let Some(operation) = operation else {
            let within = match self.requests.get(&request) {
                Some(Request::Op { within, .. }) => *within,
                Some(Request::Scan(scan)) => scan.within,
                _ => Duration::ZERO,
            };
            return self.finish(request, Reply::Failed(Failure::TimedOut(within)));
        };
        let Some(seq) = self.new_op(Some(request), shard, operation) else {
            return;
        };
        match self.requests.get_mut(&request) {
            Some(Request::Op { seq: at, .. }) => *at = seq,
            Some(Request::Scan(scan)) => scan.stage = Stage::Taking(shard, seq),
            Some(Request::DropAll { left, .. }) => {
                left.remove(&(shard, old));
                left.insert((shard, seq));
            }
            _ => {}
        }
        self.send_op(shard, seq);
    }

    /// Asks the shard's home for an operation in the name of a request.
    pub(crate) fn operate(
        &mut self,
        request: RequestId,
        shard: ShardId,
        operation: Operation,
        within: Duration,
    ) {
        if let Some(seq) = self.new_op(Some(request), shard, operation) {
            self.requests
                .insert(request, Request::Op { shard, seq, within });
            self.send_op(shard, seq);
        }
    }

    pub(crate) fn new_op(
        &mut self,
        request: Option<RequestId>,
        shard: ShardId,
        operation: Operation,
    ) -> Option<u64> {
        let slot = self.slot(shard)?;
        if slot.client.ops.len() >= MAX_REQUESTS {
            if let Some(request) = request {
                let why = format!("{MAX_REQUESTS} operations at the home of shard {shard}");
                self.finish(request, Reply::Failed(Failure::Busy(why)));
            }
            return None;
        }
        slot.client.next_seq += 1;
        let seq = slot.client.next_seq;
        let state = OpState::Asking;
        let op = ClientOp {
            operation,
            request,
            state,
            sent: false,
            unknown: false,
            index: 0,
            tries: 0,
            open_tries: BTreeSet::new(),
            doubtful: false,
        };
        slot.client.ops.insert(seq, op);
        Some(seq)
    }

    /// Takes asked of homes whose outcome is open, those being cancelled included: what a node
    /// that crashes now may take with it (guarantee G7).
    #[must_use]
    pub fn unsettled_takes(&self) -> usize {
        let ops = self.slots.iter().flat_map(|slot| slot.client.ops.values());
        ops.filter(|op| {
            op.operation.takes() && !matches!(op.operation, Operation::TakeLeased { .. })
        })
        .count()
    }

    pub(crate) fn open_ops(&self, shard: ShardId) -> Vec<u64> {
        let slot = self.slot_ref(shard);
        let asking = slot.into_iter().flat_map(|slot| &slot.client.ops);
        asking
            .filter(|(_, op)| op.state != OpState::Delivered)
            .map(|(seq, _)| *seq)
            .collect()
    }

    /// Sends, or sends again, an operation or its cancellation.
    pub(crate) fn send_op(&mut self, shard: ShardId, seq: u64) {
        let (session, now) = (self.session, self.now);
        let me = self.me.node;
        if !self.ready && holds(Guard::LifeFirst) {
            return self
                .timers
                .set(Timer::Op(shard, seq), self.now + self.config.retry_first);
        }
        let leader = self.leader_of(shard).is_some();
        let Some(slot) = self.slot(shard) else { return };
        let Some(op) = slot.client.ops.get_mut(&seq) else {
            return;
        };
        let id = OpId { session, seq };
        let message = match op.state {
            OpState::Delivered => return,
            OpState::Cancelling => Message::Cancel { shard, op: id },
            OpState::Asking => {
                // Only a leader makes use of them, and logs them with a take.
                let carries = leader && op.operation.carries_acks();
                let acks = match carries {
                    true => slot.client.acks.some(now),
                    false => Vec::new(),
                };
                Message::Operate {
                    shard,
                    op: id,
                    attempt: op.tries,
                    acks,
                    operation: op.operation.clone(),
                }
            }
        };
        let tries = op.tries;
        op.tries = tries.saturating_add(1);
        let home = self.home_for(shard, tries);
        // Asking oneself is not lost: no timer, unless the home has no room.
        let pause = self.pause(tries);
        if holds(Guard::AskAgain) {
            self.timers.set(Timer::Op(shard, seq), self.now + pause);
        }
        let sent = home.is_some_and(|home| self.send_if(home, message));
        if home == Some(me) && sent {
            self.timers
                .set(Timer::Op(shard, seq), self.now + self.config.retry_max);
        }
        if let Some(op) = self
            .slot(shard)
            .and_then(|slot| slot.client.ops.get_mut(&seq))
        {
            op.sent |= sent;
            if sent {
                op.open_tries.insert(tries);
            }
            if op.open_tries.len() > MAX_OPEN_TRIES {
                op.open_tries.clear();
                op.doubtful = true;
            }
        }
    }

    /// A take is parked at the home: from now on the client only shows that it lives.
    pub(crate) fn parked(&mut self, from: NodeId, shard: ShardId, id: OpId) {
        self.found_leader(from, shard);
        if id.session == self.session {
            let slow = self.now + self.config.retry_max;
            if self.open_op(shard, id.seq) {
                self.timers.set(Timer::Op(shard, id.seq), slow);
            }
        }
    }

    /// A member did nothing at this try of an operation: the next one need not wait long.
    pub(crate) fn refused(&mut self, shard: ShardId, id: OpId, attempt: u32) {
        if id.session != self.session {
            return;
        }
        let op = self
            .slot(shard)
            .and_then(|slot| slot.client.ops.get_mut(&id.seq));
        if let Some(op) = op {
            op.open_tries.remove(&attempt);
            let again = op.tries;
            let at = self.now + self.pause(again);
            self.timers.set(Timer::Op(shard, id.seq), at);
        }
    }

    fn open_op(&self, shard: ShardId, seq: u64) -> bool {
        self.slot_ref(shard)
            .is_some_and(|slot| slot.client.ops.contains_key(&seq))
    }

    /// The home has decided an operation.
    pub(crate) fn decided(&mut self, shard: ShardId, id: OpId, outcome: Outcome, index: u64) {
        if id.session != self.session {
            return;
        }
        let seq = id.seq;
        let Some(slot) = self.slot(shard) else { return };
        let Some(op) = slot.client.ops.get_mut(&seq) else {
            return;
        };
        match op.state {
            OpState::Delivered => return,
            // A tuple on its way here when the cancellation left: the home puts it back.
            OpState::Cancelling if is_tuple(&outcome) && holds(Guard::LateOutcome) => return,
            OpState::Asking | OpState::Cancelling => {}
        }
        self.timers.clear(&Timer::Op(shard, seq));
        self.timers.clear(&Timer::Grace(shard, seq));
        let Some(op) = self
            .slot(shard)
            .and_then(|slot| slot.client.ops.get_mut(&seq))
        else {
            return;
        };
        op.index = index;
        let request = op.request.take();
        // The request's time was up when the operation was cancelled.
        let over = op.state == OpState::Cancelling;
        let lease = match &op.operation {
            Operation::ActOnLease { lease, .. } => Some(*lease),
            _ => None,
        };
        let ttl_ms = match &op.operation {
            Operation::TakeLeased { ttl_ms, .. } => *ttl_ms,
            _ => 0,
        };
        let lasts = op.operation.lasts();
        let enlists = matches!(op.operation, Operation::Enlist { .. });
        let claims = match &op.operation {
            Operation::ClaimLeased { name, .. } => Some(name.clone()),
            _ => None,
        };
        let tells = matches!(
            op.operation,
            Operation::Commit { .. }
                | Operation::Migrate { .. }
                | Operation::Release { .. }
                | Operation::NoteFailures { .. }
        );
        let fences = claims.is_some() || tells;
        let effects = matches!(
            op.operation,
            Operation::Emit { .. }
                | Operation::Sent { .. }
                | Operation::TakeFor { .. }
                | Operation::EndTake { .. }
                | Operation::TakesOver { .. }
        );
        let about = About {
            shard,
            id,
            lease,
            ttl_ms,
            lasts,
            fences,
        };
        if is_tuple(&outcome)
            && let Some(request) = request
        {
            op.state = OpState::Delivered;
            self.delivered.insert(request, (shard, seq));
        } else {
            self.end_op(shard, seq);
        }
        if enlists {
            self.enlisted(&outcome);
        }
        if effects {
            self.effect_decided(shard, seq, &outcome);
        }
        if let Some(name) = claims {
            self.claim_decided(shard, seq, name, &outcome, request.is_some());
        }
        let Some(request) = request else { return };
        match self.requests.get_mut(&request) {
            Some(Request::Scan(scan)) => {
                if matches!(outcome, Outcome::Empty) && !over {
                    scan.empty_at.insert(shard, index);
                    scan.stage = Stage::Waiting;
                    self.scan_step(request);
                    return;
                }
                let within = scan.within;
                // One shard had nothing: that says nothing about the others.
                let late = over && matches!(outcome, Outcome::Empty);
                let outcome = if late { Outcome::Cancelled } else { outcome };
                let reply = self.op_reply(about, within, outcome);
                self.finish(request, reply);
            }
            Some(Request::DropAll { left, .. }) => {
                left.remove(&(shard, seq));
                if left.is_empty() {
                    self.finish(request, Reply::Done);
                }
            }
            Some(Request::Op { within, .. }) => {
                let within = *within;
                let reply = self.op_reply(about, within, outcome);
                self.finish(request, reply);
            }
            _ => {}
        }
    }

    fn op_reply(&mut self, about: About, within: Duration, outcome: Outcome) -> Reply {
        let shard = about.shard;
        match outcome {
            Outcome::Taken { tuple, .. } => {
                self.count("taken", 1);
                Reply::Tuple(Some(tuple))
            }
            Outcome::Leased { tuple, token, .. } => {
                self.count("leased", 1);
                let lease = LeaseId {
                    op: about.id,
                    token,
                };
                Reply::Leased {
                    tuple,
                    lease: LeaseHandle { shard, lease },
                    ttl: Duration::from_millis(about.ttl_ms),
                }
            }
            Outcome::TooManyLeases => {
                let mib = MAX_LEASED_BYTES >> 20;
                let why = format!(
                    "{MAX_LEASES} leases, or {mib} MiB under lease, at the home of shard {shard}"
                );
                Reply::Failed(Failure::Busy(why))
            }
            Outcome::LeaseLost(end) => {
                let lease = about.lease.unwrap_or(LeaseId {
                    op: about.id,
                    token: 0,
                });
                let lease = LeaseHandle { shard, lease };
                Reply::Failed(Failure::LeaseLost { lease, end })
            }
            Outcome::Fate(fate) => Reply::Fate(fate),
            Outcome::Empty => Reply::Tuple(None),
            Outcome::Found { tuple } => Reply::Tuple(Some(tuple)),
            Outcome::Absent => Reply::Failed(Failure::Absent),
            Outcome::NoIteration => {
                let why = "an iteration needs a fifo or single variable, and ends with its life";
                Reply::Failed(Failure::Refused(why.to_owned()))
            }
            Outcome::Exchanged { index } => Reply::Exchanged(index),
            Outcome::Differs(there) => Reply::Differs(there),
            Outcome::Cancelled if about.lasts => {
                let why = format!("not decided within {within:?}, and never will be");
                Reply::Failed(Failure::Unavailable {
                    shard: shard.0,
                    why,
                })
            }
            // Given up by the home, which knows no more what it took.
            Outcome::Stale => Reply::Failed(Failure::Unknown {
                op: OpHandle {
                    shard,
                    op: about.id,
                },
            }),
            Outcome::Cancelled => Reply::Failed(Failure::TimedOut(within)),
            Outcome::Done => Reply::Done,
            Outcome::ModeIs(mode) => {
                let why = format!("the variable is {mode} already; delete it to change its mode");
                Reply::Failed(Failure::Refused(why))
            }
            Outcome::Claimed(record) if about.fences => self.hosted(shard, record),
            Outcome::Fenced(record) if about.fences => Reply::Failed(Failure::Fenced {
                token: record.as_ref().map_or(0, |record| record.token),
                host: record.and_then(|record| record.host),
            }),
            Outcome::OutOfTurn(last) => Reply::Failed(Failure::OutOfTurn { last }),
            Outcome::Unsent(waiting) => Reply::Failed(Failure::Unsent { waiting }),
            Outcome::TooManyTakes(open) => {
                let why = format!(
                    "{open} takes of the actor are open, and no more than {TAKES_MAX} may be, or \
                     {OUTBOX_BYTES_MAX} bytes of them: fetch what is there before more"
                );
                Reply::Failed(Failure::Refused(why))
            }
            Outcome::Moved(ActorRecord { token, host, .. }) => Reply::Moved { token, host },
            Outcome::NoSuchHost => {
                let why = "the node that is to have the actor hosts none in that life";
                Reply::Failed(Failure::Refused(why.to_owned()))
            }
            Outcome::Claimed(record) => Reply::Actor(Some(actor_info("", &record))),
            Outcome::Fenced(Some(record)) => {
                let host = record
                    .host
                    .map_or_else(|| "nobody".to_owned(), |h| h.to_string());
                let why = format!(
                    "the name is held with token {} by {host} (shard {shard})",
                    record.token
                );
                Reply::Failed(Failure::Refused(why))
            }
            Outcome::Fenced(None) => {
                Reply::Failed(Failure::Refused("there is no such name".to_owned()))
            }
            Outcome::Enlisted(life) => Reply::Enlisted(life),
            Outcome::StillAlive(life) => {
                Reply::Failed(Failure::Refused(format!("host {life} is not over yet")))
            }
        }
    }

    /// Removes a finished operation and remembers to acknowledge it.
    pub(crate) fn end_op(&mut self, shard: ShardId, seq: u64) {
        self.timers.clear(&Timer::Op(shard, seq));
        self.timers.clear(&Timer::Grace(shard, seq));
        if let Some(slot) = self.slot(shard)
            && let Some(op) = slot.client.ops.remove(&seq)
        {
            let client = &mut slot.client;
            let over = if op.unknown {
                client.unknown.push_back((seq, op.index));
                let full = client.unknown.len() > MAX_UNKNOWN;
                full.then(|| client.unknown.pop_front()).flatten()
            } else {
                Some((seq, op.index))
            };
            if let Some((seq, index)) = over {
                self.acknowledge(shard, seq, index);
            }
        }
    }

    /// The time of a request at one shard's home is up.
    pub(crate) fn op_deadline(
        &mut self,
        request: RequestId,
        shard: ShardId,
        seq: u64,
        within: Duration,
    ) {
        let Some(op) = self
            .slot(shard)
            .and_then(|slot| slot.client.ops.get_mut(&seq))
        else {
            return self.finish(request, Reply::Failed(Failure::TimedOut(within)));
        };
        let sent = op.sent;
        let take = op.operation.is_cancelled();
        // Each member asked has said that it did nothing (space.md, 2.7). A copy of the question
        // may still be on its way to one that leads by then: it goes on being cancelled.
        // What such a copy takes is put back. What it adds or deletes is not: that waits for the
        // home's word.
        let lasts = op.operation.lasts();
        let denied = op.open_tries.is_empty() && !op.doubtful;
        let refused = sent && take && !lasts && op.state == OpState::Asking && denied;
        if !sent || refused {
            op.request = None;
            let why = if sent {
                "none of its members leads".to_owned()
            } else {
                "no link to it".to_owned()
            };
            if sent {
                op.state = OpState::Cancelling;
                op.tries = 0;
                self.send_op(shard, seq);
            } else {
                self.end_op(shard, seq);
            }
            let failure = Failure::Unavailable {
                shard: shard.0,
                why,
            };
            self.finish(request, Reply::Failed(failure));
        } else if take {
            op.state = OpState::Cancelling;
            op.tries = 0;
            self.timers.set(
                Timer::Grace(shard, seq),
                self.now + self.config.cancel_grace,
            );
            self.send_op(shard, seq);
        } else {
            self.unheard(shard, seq);
            let failure = self.unknown(shard, seq);
            self.finish(request, Reply::Failed(failure));
        }
    }

    /// Nobody listens for what becomes of an operation any more. It goes on being asked, so that
    /// its number is not left open.
    pub(crate) fn unheard(&mut self, shard: ShardId, seq: u64) {
        let op = self
            .slot(shard)
            .and_then(|slot| slot.client.ops.get_mut(&seq));
        if let Some(op) = op {
            op.request = None;
            op.unknown = true;
        }
    }

    pub(crate) fn unknown(&self, shard: ShardId, seq: u64) -> Failure {
        let session = self.session;
        let op = OpId { session, seq };
        let op = OpHandle { shard, op };
        Failure::Unknown { op }
    }

    /// No answer came to a cancellation; it goes on being asked.
    pub(crate) fn grace_over(&mut self, shard: ShardId, seq: u64) {
        let op = self
            .slot(shard)
            .and_then(|slot| slot.client.ops.get_mut(&seq));
        if let Some(op) = op
            && let Some(request) = op.request.take()
        {
            op.unknown = true;
            let failure = self.unknown(shard, seq);
            self.finish(request, Reply::Failed(failure));
        }
    }

    /// Nobody waits for this operation any more.
    pub(crate) fn cancel_op(&mut self, shard: ShardId, seq: u64) {
        let Some(op) = self
            .slot(shard)
            .and_then(|slot| slot.client.ops.get_mut(&seq))
        else {
            return;
        };
        op.request = None;
        if !op.sent {
            self.end_op(shard, seq);
        } else if op.operation.is_cancelled() {
            op.state = OpState::Cancelling;
            op.tries = 0;
            self.send_op(shard, seq);
        }
    }

    /// True for an operation that a request waits for.
    pub(crate) fn is_awaited(&self, shard: ShardId, seq: u64) -> bool {
        let op = self
            .slot_ref(shard)
            .and_then(|slot| slot.client.ops.get(&seq));
        op.is_some_and(|op| op.request.is_some())
    }

    /// The tuple this request took was received: its outcome may be forgotten.
    pub(crate) fn received(&mut self, request: RequestId) {
        if let Some((shard, seq)) = self.delivered.remove(&request) {
            self.end_op(shard, seq);
        }
    }

    /// The tuple this request took was never received: it goes back (rule R18).
    pub(crate) fn give_back(&mut self, request: RequestId) {
        if let Some((shard, seq)) = self.delivered.remove(&request) {
            if holds(Guard::GiveBack) {
                self.cancel_op(shard, seq);
            } else {
                self.end_op(shard, seq);
            }
        }
    }
}
