//! The asking side of a shard: stores on their way and operations under way (rules R15, R16, R18).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cpe_consensus::MAX_TAIL;
use cpe_membership::{Member, NodeId};
use cpe_space::{Dot, Item, LeaseId, MAX_LEASES, Name, OpId, Outcome, ShardId, variable_in};
use cpe_tuple::Tuple;

use crate::boot;
use crate::guard::{Guard, holds};
use crate::handle::{LeaseHandle, OpHandle};
use crate::peer::{After, MAX_REQUESTS, Peer, Timer};
use crate::persist::Table;
use crate::request::{Request, Stage, actor_info};
use crate::wire::{MAX_GOSSIP_BYTES, Message, Operation};
use crate::{Ack, Failure, Reply, RequestId};

/// Stores waiting for a home, per shard. More are refused as busy.
pub(crate) const MAX_OUTBOX: usize = 65_536;

/// Bytes of stores sent to a home at once.
const STORE_BYTES: usize = 256 * 1024;

/// Bytes of unadmitted stores shown to everybody at once: they must fit a gossip frame, with what
/// stands around them. Nobody but its own node sees a larger one before it is admitted.
const SHOWN_BYTES: usize = MAX_GOSSIP_BYTES * 3 / 4;

/// Bytes that a shown store takes besides its tuple and the name of its workspace, at most.
const ITEM_BYTES: usize = 16;

/// Acknowledgements sent along with one operation.
const ACKS_PER_MESSAGE: usize = 64;

/// How long outcomes are left unacknowledged, to be told together.
const ACK_DELAY: Duration = Duration::from_millis(500);

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
    acks: Vec<u64>,
    /// Operations answered unknown that have an outcome now, which the home still remembers.
    unknown: VecDeque<u64>,
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
    /// It was to add a tuple.
    put: bool,
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
    tries: u32,
    /// Tries that no member has said to have refused: each may have been executed.
    open_tries: BTreeSet<u32>,
}

impl ShardClient {
    pub(crate) fn outbox_len(&self) -> usize {
        self.outbox.len()
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

    /// Adds a tuple whose bodies are where they have to be.
    pub(crate) fn store_placed(
        &mut self,
        request: RequestId,
        workspace: Name,
        tuple: Tuple,
        ack: Ack,
    ) {
        let shard = self.shard_for(&workspace, variable_in(&tuple));
        let item = Item { workspace, tuple };
        let Some(slot) = self.slot(shard) else { return };
        let origin = slot.me;
        if slot.client.outbox.len() >= MAX_OUTBOX {
            let why = format!("{MAX_OUTBOX} stores wait for the home of shard {shard}");
            self.finish(request, Reply::Failed(Failure::Busy(why)));
            return;
        }
        slot.client.stored += 1;
        let n = slot.client.stored;
        // The home of a group of one decides by writing: the entry is its own outbox. With more
        // members a proposal may be known elsewhere while it is not yet on this disk.
        let of_one = slot
            .seat
            .group()
            .is_some_and(|group| group.members().len() == 1);
        let alone = of_one
            && slot
                .client
                .outbox
                .last_key_value()
                .is_none_or(|(_, out)| out.direct);
        let group = slot.seat.group().filter(|_| slot.home.is_some());
        let deciding = group.is_some_and(|group| !group.is_sealed());
        let direct = alone && deciding && ack == Ack::Home;
        slot.shard.add_pending(Dot { origin, n }, item.clone());
        let waiting = Some((request, ack));
        if direct {
            let out = Out {
                item: item.clone(),
                durable: true,
                direct: true,
                waiting,
            };
            slot.client.outbox.insert(n, out);
            self.requests.insert(request, Request::Store);
            self.store_at_home(shard, origin, n, vec![item]);
            self.timers
                .set_if_none(Timer::Stores(shard), self.now + self.config.retry_first);
            return;
        }
        let out = Out {
            item: item.clone(),
            durable: false,
            direct: false,
            waiting,
        };
        slot.client.outbox.insert(n, out);
        self.requests.insert(request, Request::Store);
        self.save_store(shard, n, &item);
        self.wake_readers(&item.workspace, &item.tuple);
    }

    /// Writes a store into the outbox table.
    fn save_store(&mut self, shard: ShardId, n: u64, item: &Item) {
        if let Some(batch) = self.disk(shard) {
            // What was stored can be encoded: it was made within the limits of a tuple.
            if let Ok(bytes) = cpe_tuple::codec::encode(item) {
                batch.put(Table::Outbox, boot::indexed(shard, n), bytes);
            }
            batch.put(Table::Meta, boot::dot_key(shard), n.to_be_bytes().to_vec());
        }
        if holds(Guard::OutboxFirst) {
            self.once_kept(shard, After::Outbox(shard, n));
        } else {
            self.outbox_durable(shard, n);
        }
    }

    /// The own home of the shard is gone: stores it was given and did not decide take the way of
    /// all others, through the outbox, before another node hears of them.
    pub(crate) fn outbox_instead(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let mut undecided = Vec::new();
        for (n, out) in slot.client.outbox.iter_mut().filter(|(_, out)| out.direct) {
            out.direct = false;
            out.durable = false;
            undecided.push((*n, out.item.clone()));
        }
        for (n, item) in undecided {
            self.save_store(shard, n, &item);
        }
    }

    pub(crate) fn outbox_durable(&mut self, shard: ShardId, n: u64) {
        let Some(slot) = self.slot(shard) else { return };
        let Some(out) = slot.client.outbox.get_mut(&n) else {
            return;
        };
        out.durable = true;
        let local = out.waiting.take_if(|(_, ack)| *ack == Ack::Local);
        if let Some((request, _)) = local {
            self.finish(request, Reply::Pending);
        }
        // Those that became durable together go together.
        self.storing.insert(shard);
    }

    /// Sends what became durable since the last time.
    pub(crate) fn send_new_stores(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let from = slot.client.sent.max(slot.client.admitted) + 1;
        self.send_stores_from(shard, from, false);
    }

    /// Sends the shard's home what it has not admitted, sent before or not.
    pub(crate) fn send_stores(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let from = slot.client.admitted + 1;
        self.send_stores_from(shard, from, true);
    }

    fn send_stores_from(&mut self, shard: ShardId, from: u64, again: bool) {
        let Some(slot) = self.slot(shard) else { return };
        let (origin, volatile) = (slot.me, slot.volatile);
        let tries = slot.client.store_tries;
        let home = self.home_for(shard, tries);
        if volatile && !self.may_ask(home) {
            // What nobody has heard of survives the loss of the shard: it is worth to wait until
            // somebody is there.
            if let Some(slot) = self.slot(shard).filter(|slot| slot.client.outbox_len() > 0) {
                slot.client.store_tries = tries.saturating_add(1);
                let at = self.now + self.pause(tries);
                self.timers.set(Timer::Stores(shard), at);
            }
            return;
        }
        let own = home == Some(origin.node);
        let Some(slot) = self.slot(shard) else { return };
        let mut left = STORE_BYTES;
        let mut items = Vec::new();
        let mut first = 0;
        for (n, out) in slot.client.outbox.range(from..) {
            let size = out.item.tuple.size();
            let secret = out.direct && !own;
            if !out.durable || secret || (!items.is_empty() && size > left) {
                break;
            }
            if items.is_empty() {
                first = *n;
            }
            left = left.saturating_sub(size);
            items.push(out.item.clone());
        }
        if items.is_empty() {
            return;
        }
        slot.client.sent = first + items.len() as u64 - 1;
        slot.client.heard = slot.client.heard.max(slot.client.sent);
        if again {
            slot.client.store_tries = tries.saturating_add(1);
        }
        let at = self.now + self.pause(tries);
        if again && holds(Guard::SendAgain) {
            self.timers.set(Timer::Stores(shard), at);
        } else if holds(Guard::SendAgain) {
            // A store that was lost is repeated while others follow it: the home admits none of
            // them before it, so they must not put off its turn.
            self.timers.set_if_none(Timer::Stores(shard), at);
        }
        let is_time = tries % SHOW_EVERY_TRIES == SHOW_EVERY_TRIES - 1;
        if again && is_time {
            self.show_stores(shard);
        }
        if let Some(home) = home {
            self.send_if(
                home,
                Message::Store {
                    shard,
                    origin,
                    first,
                    items,
                },
            );
        }
    }

    /// Shows everybody the next stores that wait to be admitted, beginning anew after the last.
    fn show_stores(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let origin = slot.me;
        let client = &mut slot.client;
        // A direct store may still lose its number to a crash: nobody else must hear of it.
        let fits = |out: &Out| {
            let size = out.item.tuple.size() + out.item.workspace.as_str().len() + ITEM_BYTES;
            (out.durable && !out.direct && size <= SHOWN_BYTES).then_some(size)
        };
        let first_after = |client: &ShardClient, shown: u64| {
            let mut later = client.outbox.range(shown + 1..);
            later.find(|(_, out)| fits(out).is_some()).map(|(n, _)| *n)
        };
        let next = first_after(client, client.shown.max(client.admitted));
        let Some(first) = next.or_else(|| first_after(client, client.admitted)) else {
            return;
        };
        let (mut left, mut items) = (SHOWN_BYTES, Vec::new());
        for (n, out) in client.outbox.range(first..) {
            match fits(out) {
                Some(size) if size <= left && *n == first + items.len() as u64 => {
                    left -= size;
                    items.push(out.item.clone());
                }
                _ => break,
            }
        }
        client.shown = first + items.len() as u64 - 1;
        client.heard = client.heard.max(client.shown);
        let shown = Message::Pending {
            shard,
            origin,
            first,
            items,
        };
        self.broadcast(shard, &shown);
    }

    /// Stores up to `upto` are decided.
    pub(crate) fn admitted(&mut self, shard: ShardId, origin: Member, upto: u64, index: u64) {
        let Some(slot) = self.slot(shard) else { return };
        if origin != slot.me {
            return;
        }
        if upto <= slot.client.admitted || upto > slot.client.stored {
            return;
        }
        slot.client.admitted = upto;
        slot.client.store_tries = 0;
        let mut done = Vec::new();
        for (_, out) in slot.client.outbox.range_mut(..=upto) {
            done.extend(out.waiting.take().map(|(request, _)| request));
        }
        let more = slot.client.outbox.range(upto + 1..).next().is_some();
        for request in done {
            self.finish(request, Reply::Stored { index });
        }
        self.clear_outbox(shard);
        self.timers.clear(&Timer::Stores(shard));
        if more {
            // The home is at it: what it was sent is on its way, and only the rest is to be sent.
            let at = self.now + self.config.retry_first;
            if holds(Guard::SendAgain) {
                self.timers.set(Timer::Stores(shard), at);
            }
            self.send_new_stores(shard);
        }
    }

    /// Own stores the replica has applied leave the outbox (rule R16).
    pub(crate) fn clear_outbox(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let applied = slot.shard.sm().admitted(slot.me);
        let kept = slot.client.outbox.split_off(&(applied + 1));
        let gone = std::mem::replace(&mut slot.client.outbox, kept);
        let index = slot.shard.version().index;
        for (n, out) in gone {
            if let Some(batch) = self.disk(shard) {
                batch.delete(Table::Outbox, boot::indexed(shard, n));
            }
            if let Some((request, _)) = out.waiting {
                self.finish(request, Reply::Stored { index });
            }
        }
        let Some(slot) = self.slot(shard) else { return };
        slot.client.admitted = slot.client.admitted.max(applied);
        if slot.client.outbox.is_empty() {
            self.timers.clear(&Timer::Stores(shard));
        }
    }

    /// The shard was forked: sends again what the fork may lack, and tells its home which of the
    /// own stores nobody has any more.
    pub(crate) fn resume_stores(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let admitted = slot.shard.sm().admitted(slot.me);
        let client = &mut slot.client;
        let first = client.outbox.first_key_value().map(|(n, _)| *n);
        let gone = first.unwrap_or(client.stored + 1) - 1;
        client.admitted = admitted;
        client.sent = admitted;
        client.store_tries = 0;
        if first.is_some() {
            self.timers.set(Timer::Stores(shard), self.now);
        }
        if gone > admitted
            && let Some(seq) = self.new_op(None, shard, Operation::Resume { n: gone })
        {
            self.send_op(shard, seq);
        }
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
        for (n, out) in old.outbox {
            if out.direct || n <= old.heard {
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
        for (n, item) in waiting {
            self.save_store(shard, n, &item);
        }
        for request in lost {
            self.finish(request, Reply::Failed(Failure::Lost { shard: shard.0 }));
        }
        self.delivered.retain(|_, (at, _)| *at != shard);
        for (seq, op) in old.ops {
            self.timers.clear(&Timer::Op(shard, seq));
            self.timers.clear(&Timer::Grace(shard, seq));
            if let Some(request) = op.request {
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
            tries: 0,
            open_tries: BTreeSet::new(),
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
        let session = self.session;
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
                let few = if leader && op.operation.carries_acks() {
                    slot.client.acks.len().min(ACKS_PER_MESSAGE)
                } else {
                    0
                };
                // Not kept until a home has logged them: a lost acknowledgement only means that an
                // outcome is remembered until the session ends.
                let acks = slot.client.acks.drain(..few).collect();
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
            // The eldest are the first to be in doubt for ever.
            while op.open_tries.len() > MAX_OPEN_TRIES {
                op.open_tries.pop_last();
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
        let put = op.operation.puts();
        let about = About {
            shard,
            id,
            lease,
            ttl_ms,
            put,
        };
        if is_tuple(&outcome)
            && let Some(request) = request
        {
            op.state = OpState::Delivered;
            self.delivered.insert(request, (shard, seq));
        } else {
            self.end_op(shard, seq);
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
                let why = format!("{MAX_LEASES} leases at the home of shard {shard}");
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
            Outcome::Cancelled if about.put => {
                let why = format!("not decided within {within:?}, and never will be");
                Reply::Failed(Failure::Unavailable {
                    shard: shard.0,
                    why,
                })
            }
            Outcome::Cancelled | Outcome::Stale => Reply::Failed(Failure::TimedOut(within)),
            Outcome::Done => Reply::Done,
            Outcome::ModeIs(mode) => {
                let why = format!("the variable is {mode} already; delete it to change its mode");
                Reply::Failed(Failure::Refused(why))
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
        }
    }

    /// Removes a finished operation and remembers to acknowledge it.
    fn end_op(&mut self, shard: ShardId, seq: u64) {
        self.timers.clear(&Timer::Op(shard, seq));
        self.timers.clear(&Timer::Grace(shard, seq));
        if let Some(slot) = self.slot(shard)
            && let Some(op) = slot.client.ops.remove(&seq)
        {
            let client = &mut slot.client;
            let ack = if op.unknown {
                client.unknown.push_back(seq);
                let full = client.unknown.len() > MAX_UNKNOWN;
                full.then(|| client.unknown.pop_front()).flatten()
            } else {
                Some(seq)
            };
            let Some(ack) = ack else { return };
            client.acks.push(ack);
            self.unacked.insert(shard);
            self.timers.set_if_none(Timer::Acks, self.now + ACK_DELAY);
        }
    }

    pub(crate) fn send_acks(&mut self) {
        let session = self.session;
        for shard in std::mem::take(&mut self.unacked) {
            let Some(slot) = self.slot(shard) else {
                continue;
            };
            let seqs = std::mem::take(&mut slot.client.acks);
            let home = self.home_for(shard, 0);
            if let (false, Some(home)) = (seqs.is_empty(), home) {
                for few in seqs.chunks(MAX_TAIL / 16) {
                    let seqs = few.to_vec();
                    if !self.send_if(
                        home,
                        Message::Ack {
                            shard,
                            session,
                            seqs,
                        },
                    ) {
                        self.acknowledge_later(shard, few);
                    }
                }
            }
        }
    }

    /// The home could not be told: it is told when it can be.
    fn acknowledge_later(&mut self, shard: ShardId, seqs: &[u64]) {
        if let Some(slot) = self.slot(shard) {
            slot.client.acks.extend_from_slice(seqs);
            self.unacked.insert(shard);
            self.timers.set_if_none(Timer::Acks, self.now + ACK_DELAY);
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
        // What such a copy takes is put back. What it adds is not: a put waits for the home's word.
        let put = op.operation.puts();
        let refused =
            sent && take && !put && op.state == OpState::Asking && op.open_tries.is_empty();
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
            // It goes on being asked, so that its number is not left open; nobody listens.
            op.request = None;
            op.unknown = true;
            let failure = self.unknown(shard, seq);
            self.finish(request, Reply::Failed(failure));
        }
    }

    fn unknown(&self, shard: ShardId, seq: u64) -> Failure {
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
