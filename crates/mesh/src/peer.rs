//! The peer: its state, and the order in which things happen.

mod dispatch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cpe_consensus::{Hard, Heartbeat, Mark, Seat};
use cpe_membership::{Incarnation, Member, Membership, NodeId};
use cpe_space::{Config, Name, Session, Shard, ShardId};
use cpe_tuple::BlobHash;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::body::Bodies;
use crate::boot::{self, BootError};
use crate::claims::Claims;
use crate::client::ShardClient;
use crate::group::{Kept, Proposal, Said};
use crate::heartbeat::{Heartbeats, Shown};
use crate::home::{Home, Proposed};
use crate::io::{Event, Input, Output};
use crate::node_lease::{Holder, Keeper};
use crate::outbox::Outboxes;
use crate::persist::{Batch, Image};
use crate::placement::Survey;
use crate::query::Serving;
use crate::read::{Place, QueryState};
use crate::recover::Recovery;
use crate::request::Request;
use crate::sync::{Offers, Places, Pull};
use crate::takes::Takes;
use crate::timers::Timers;
use crate::vouch::Vouchers;
use crate::wire::{Lane, MAX_CONTROL_BYTES, MAX_GOSSIP_BYTES, Message};
use crate::{Command, Failure, Genesis, PeerConfig, Reply, RequestId};

/// Requests of the local node under way at a time. More are refused as busy.
pub const MAX_REQUESTS: usize = 262_144;

/// How long the decided index may wait for another write to go along with.
const MARKS_DELAY: Duration = Duration::from_secs(1);

/// What is due when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Feed,
    Digest,
    Acks,
    Stores(ShardId),
    Op(ShardId, u64),
    Query(u64),
    Pull(ShardId),
    Epoch(ShardId),
    Park(ShardId),
    Deadline(RequestId),
    Grace(ShardId, u64),
    Lease(ShardId, u64),
    Drain,
    Heartbeat,
    Look,
    Retire,
    Marks,
    Survey(u64),
    Register(ShardId),
    /// A body being fetched.
    Body(BlobHash),
    /// A store that waits for its bodies to be at a majority.
    Place(RequestId),
    Sweep,
    /// This node's lease as a host is to be renewed.
    Renew,
    /// Actors that others have left are to be claimed.
    Claims,
    /// The lease of a node whose record this node keeps.
    Host(ShardId, NodeId),
    /// Homes are to be told how far the effects of their actors are done.
    Effects,
}

/// What to do once a batch is durable.
#[derive(Debug)]
pub(crate) enum After {
    /// The number of this start: operations may carry it now.
    Life,
    /// What the group of a shard accepted in an epoch counts (rule R8).
    Mark(ShardId, u64, Mark<Member>),
    /// What was promised or accepted may be said.
    Send(NodeId, Box<Message>),
    /// This store is in the outbox.
    Outbox(ShardId, u64),
}

/// One shard as this peer has it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) shard: Shard,
    /// Nothing of it is written: see [`crate::volatile`].
    pub(crate) volatile: bool,
    /// This node as it is called in the shard: in this life, or in this start if it is volatile.
    pub(crate) me: Member,
    /// This node's place in the home group, if it has one.
    pub(crate) seat: Seat<Member, Proposal>,
    /// Present while this node leads the home group.
    pub(crate) home: Option<Home>,
    /// Operations that this node proposed, while it led, and of which it has not seen the outcome.
    pub(crate) proposed: Proposed,
    /// Who is believed to lead it.
    pub(crate) leader: Option<NodeId>,
    /// Before this, news of another leader does not make requests be sent again.
    pub(crate) redirect_after: Duration,
    /// Who asked this node, a member that does not lead: to be told when it does.
    pub(crate) askers: BTreeSet<NodeId>,
    /// The newest home group heard of: never older than the replica's.
    pub(crate) map: Config,
    pub(crate) client: ShardClient,
    /// Decided entries gossiped so far.
    pub(crate) fed: u64,
    /// Index of the last seal that this node led to.
    pub(crate) led_until: u64,
    pub(crate) pull: Option<Pull>,
    /// Index of the newest snapshot on disk.
    pub(crate) saved: u64,
    /// Bytes of the state at that snapshot.
    pub(crate) saved_bytes: usize,
    /// Bytes of entries that this replica had applied by then.
    pub(crate) saved_applied: u64,
    /// The decided index on disk.
    pub(crate) marked: u64,
    /// Index of the last entry on disk.
    pub(crate) log_end: u64,
    pub(crate) kept: Kept,
    pub(crate) shown: Option<Shown>,
}

impl Slot {
    /// A snapshot at `index`: where the log begins anew.
    pub(crate) fn snapped(&mut self, index: u64, bytes: usize) {
        self.saved = index;
        self.saved_bytes = bytes;
        self.saved_applied = self.shard.applied_bytes();
    }

    /// Bytes of the entries applied since the last snapshot.
    pub(crate) fn logged(&self) -> u64 {
        let applied = self.shard.applied_bytes();
        applied.saturating_sub(self.saved_applied)
    }

    /// True when the shard holds so much that its home admits no more.
    pub(crate) fn is_full(&self, most: usize) -> bool {
        self.saved_bytes as u64 + self.logged() >= most as u64
    }
}

/// A node's part in a home group: record, heartbeat, decided index and length of its log.
pub type GroupView = (Hard<Member>, Heartbeat<Member>, u64, u64);

/// One node of the mesh, as a state machine.
///
/// *Input*: [`handle`](Self::handle), with the time, a monotonic `Duration` since an arbitrary
/// start; or several by [`take_in`](Self::take_in) and then [`settle`](Self::settle), for a shell
/// that finds many waiting. *Output*: drain [`poll_output`](Self::poll_output) after each input
/// and do what it says in order; a batch may be written later, as long as batches stay in order.
/// *Time*: call `handle` with [`Input::Tick`] at [`next_wake`](Self::next_wake). Nothing here
/// blocks, reads a clock or draws entropy: same seed, same inputs, same outputs.
#[derive(Debug)]
pub struct Peer {
    pub(crate) config: PeerConfig,
    pub(crate) me: Member,
    /// Names this start among all of the node: its life in volatile shards (rule R10).
    pub(crate) start: Incarnation,
    pub(crate) session: Session,
    pub(crate) now: Duration,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) genesis: Option<Genesis>,
    /// By shard number; empty until the mesh is known.
    pub(crate) slots: Vec<Slot>,
    pub(crate) membership: Membership,
    pub(crate) links: BTreeSet<NodeId>,
    /// When the links were lost to nodes that have none and are not forgotten.
    pub(crate) links_lost: BTreeMap<NodeId, Duration>,
    /// When this peer began.
    pub(crate) began: Duration,
    pub(crate) timers: Timers<Timer>,
    pub(crate) requests: BTreeMap<RequestId, Request>,
    /// Bytes of the tuples in all outboxes.
    pub(crate) outbox_bytes: usize,
    /// Takes answered to the local node, which has not yet said that it received the tuple.
    pub(crate) delivered: BTreeMap<RequestId, (ShardId, u64)>,
    pub(crate) readers: BTreeMap<Place, BTreeSet<RequestId>>,
    pub(crate) queries: BTreeMap<u64, QueryState>,
    /// Requests that wait for the replica to be current: among `requests`.
    pub(crate) syncing: BTreeSet<RequestId>,
    pub(crate) next_query: u64,
    /// Recoveries that this node was asked for.
    pub(crate) recoveries: BTreeMap<u64, Recovery>,
    /// Shards with decided entries not yet gossiped.
    pub(crate) dirty: BTreeSet<ShardId>,
    /// Shards with outcomes to acknowledge.
    pub(crate) unacked: BTreeSet<ShardId>,
    /// Shards with own stores that became durable.
    pub(crate) storing: BTreeSet<ShardId>,
    /// Shards whose group has something to send.
    pub(crate) proposed: BTreeSet<ShardId>,
    /// What groups said and was not yet done.
    pub(crate) said: VecDeque<Said>,
    /// Shards whose decided index has to be written, some time.
    pub(crate) marks: BTreeSet<ShardId>,
    marks_due: bool,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) survey: Survey,
    pub(crate) vouchers: Vouchers,
    /// Members of volatile groups: nodes in one of their starts.
    pub(crate) starts: Survey,
    /// Volatile shards whose registered group has no majority any more, and since when.
    pub(crate) vacant: BTreeMap<ShardId, Duration>,
    /// Volatile shards whose registered group has decided a successor that is not registered, and
    /// since when.
    pub(crate) sealed_since: BTreeMap<ShardId, (u64, Duration)>,
    /// Queries of others that wait for a majority to confirm that this node leads.
    pub(crate) serving: BTreeMap<u64, Serving>,
    pub(crate) next_serving: u64,
    /// By shard, epoch and ticket: the query that waits.
    pub(crate) confirming: BTreeMap<(ShardId, u64, u64), u64>,
    /// Confirmed and waiting until an index is applied.
    pub(crate) current: BTreeMap<ShardId, Vec<(u64, u64)>>,
    /// States offered to those who are behind.
    pub(crate) offers: Offers,
    /// Which shards fetch a state.
    pub(crate) places: Places,
    /// Set once the number of this start is durable. An operation sent before could share its id
    /// with one of the next start.
    pub(crate) ready: bool,
    pub(crate) draining: bool,
    /// While draining: since when nobody is there to take over.
    pub(crate) alone_since: Option<Duration>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) bodies: Bodies,
    pub(crate) holder: Holder,
    pub(crate) keeper: Keeper,
    pub(crate) claims: Claims,
    pub(crate) outboxes: Outboxes,
    pub(crate) takes: Takes,
    pub(crate) batch: Batch,
    pub(crate) afters: Vec<After>,
    /// What waits for no disk: it concerns volatile shards.
    pub(crate) at_once: Vec<After>,
    /// Commands that came before the mesh was known.
    early: VecDeque<(RequestId, Command)>,
    writes: VecDeque<(u64, Vec<After>)>,
    next_token: u64,
    loopback: VecDeque<Message>,
    outputs: VecDeque<Output>,
}

impl Peer {
    /// A peer over what its storage holds; an empty image for a new node.
    ///
    /// `seed` must differ between nodes and starts.
    ///
    /// # Errors
    /// [`BootError`] when the image contradicts itself or the settings.
    pub fn new(
        config: PeerConfig,
        image: &Image,
        seed: u64,
        now: Duration,
    ) -> Result<Self, BootError> {
        let life = boot::life(&config, image)?;
        let mut card = config.card.clone();
        card.inc = life.inc;
        // Above any version of an earlier start: with an equal one others would keep the old card.
        card.version = (u64::from(life.boot) << 32) | 1;
        crate::placement::tell_homes(&mut card, config.takes_homes, false, None);
        let me = card.member();
        let membership = Membership::new(card, config.membership.clone(), seed, now)?;
        let mut peer = Self {
            me,
            start: life.start,
            session: Session {
                member: me,
                boot: life.boot,
            },
            now,
            rng: ChaCha8Rng::seed_from_u64(seed),
            genesis: None,
            slots: Vec::new(),
            membership,
            links: BTreeSet::new(),
            links_lost: BTreeMap::new(),
            began: now,
            timers: Timers::default(),
            requests: BTreeMap::new(),
            outbox_bytes: 0,
            delivered: BTreeMap::new(),
            readers: BTreeMap::new(),
            queries: BTreeMap::new(),
            syncing: BTreeSet::new(),
            // A home may answer what an earlier start of this node asked.
            next_query: u64::from(life.boot) << 32,
            recoveries: BTreeMap::new(),
            dirty: BTreeSet::new(),
            unacked: BTreeSet::new(),
            storing: BTreeSet::new(),
            proposed: BTreeSet::new(),
            said: VecDeque::new(),
            marks: BTreeSet::new(),
            marks_due: false,
            heartbeats: Heartbeats::default(),
            survey: Survey::default(),
            vouchers: Vouchers::default(),
            starts: Survey::default(),
            vacant: BTreeMap::new(),
            sealed_since: BTreeMap::new(),
            serving: BTreeMap::new(),
            next_serving: 1,
            confirming: BTreeMap::new(),
            current: BTreeMap::new(),
            offers: Offers::default(),
            places: Places::default(),
            ready: false,
            draining: false,
            alone_since: None,
            counters: BTreeMap::new(),
            bodies: Bodies::default(),
            holder: Holder::default(),
            keeper: Keeper::default(),
            claims: Claims::default(),
            outboxes: Outboxes::default(),
            takes: Takes::default(),
            batch: Batch::default(),
            afters: Vec::new(),
            at_once: Vec::new(),
            early: VecDeque::new(),
            writes: VecDeque::new(),
            next_token: 1,
            loopback: VecDeque::new(),
            outputs: VecDeque::new(),
            config,
        };
        peer.save_life();
        peer.restore(image)?;
        peer.restore_bodies(&image.bodies);
        peer.timers
            .set(Timer::Digest, now + peer.config.digest_interval);
        peer.beat();
        peer.look();
        peer.retire();
        peer.seek_left();
        peer.settle();
        Ok(peer)
    }

    /// The node and its life.
    #[must_use]
    pub fn member(&self) -> Member {
        self.me
    }

    /// This start of the node: the scope of numbers that never repeat.
    #[must_use]
    pub fn session(&self) -> Session {
        self.session
    }

    /// The mesh, once known.
    #[must_use]
    pub fn genesis(&self) -> Option<&Genesis> {
        self.genesis.as_ref()
    }

    /// The replicas, by shard.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.slots.iter().map(|slot| &slot.shard)
    }

    /// This node's part in the home group of a shard, for whoever looks why it does nothing: its
    /// durable record, its heartbeat, and how far its log is decided and reaches.
    #[must_use]
    pub fn group_of(&self, shard: ShardId) -> Option<GroupView> {
        let group = self.slot_ref(shard)?.seat.group()?;
        Some((
            group.hard(),
            group.heartbeat(),
            group.decided(),
            group.len(),
        ))
    }

    /// True while this node's log of a shard ends with the seal of its epoch, decided or not: the
    /// next home group is named.
    #[must_use]
    pub fn names_successor(&self, shard: ShardId) -> bool {
        let group = self.slot_ref(shard).and_then(|slot| slot.seat.group());
        group.is_some_and(cpe_consensus::Group::is_sealed)
    }

    /// How often something happened, by the name it has in [`Status`](crate::Status).
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        [self.timers.next(), self.membership.next_wake()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Duration, input: Input) {
        self.take_in(now, input);
        self.settle();
    }

    /// Takes an input and leaves open what can wait for more of them: what is proposed is not sent
    /// to the home group's other members, and nothing is handed out to be written. Call
    /// [`settle`](Self::settle) before [`poll_output`](Self::poll_output): inputs that came
    /// together then share messages and writes.
    pub fn take_in(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Message { from, bytes } => match Message::decode(&bytes) {
                Ok(message) => self.receive(from, message),
                Err(error) => self.malformed(Some(from), error.to_string()),
            },
            Input::Gossip(bytes) => match Message::decode(&bytes) {
                Ok(Message::Feeds(parts)) => self.take_feeds(parts),
                Ok(Message::Pending {
                    shard,
                    origin,
                    first,
                    items,
                }) => {
                    self.take_pending(shard, origin, first, items);
                }
                Ok(_) => self.malformed(None, "not a gossip frame".to_owned()),
                Err(error) => self.malformed(None, error.to_string()),
            },
            Input::LinkUp(node) => self.link_up(node),
            Input::LinkDown(node) => self.link_down(node),
            Input::Persisted(token) => self.persisted(token),
            Input::Command(request, command) => self.command(request, command),
            Input::Cancel(request) => self.cancel(request),
            Input::Received(request) => self.received(request),
            Input::Card(card) => self.set_card(*card),
            Input::Leave => {
                self.say_good_bye();
                self.membership.leave(self.now);
            }
            Input::Body(done) => self.body_done(done),
            Input::Tick => {}
        }
        self.tick();
        self.obey();
    }

    fn tick(&mut self) {
        if self.membership.next_wake().is_some_and(|at| at <= self.now) {
            self.membership.tick(self.now);
        }
        while let Some(timer) = self.timers.pop(self.now) {
            self.due(timer);
        }
    }

    fn due(&mut self, timer: Timer) {
        match timer {
            Timer::Feed => self.gossip_feeds(),
            Timer::Digest => self.compare_digests(),
            Timer::Acks => self.send_acks(),
            Timer::Stores(shard) => self.send_stores(shard),
            Timer::Op(shard, seq) => self.send_op(shard, seq),
            Timer::Query(query) => self.send_query(query),
            Timer::Pull(shard) => self.pull(shard),
            Timer::Epoch(shard) => self.push_epoch(shard),
            Timer::Park(shard) => self.expire_parked(shard),
            Timer::Deadline(request) => self.deadline(request),
            Timer::Grace(shard, seq) => self.grace_over(shard, seq),
            Timer::Lease(shard, token) => self.lease_over(shard, token),
            Timer::Drain => self.continue_drain(),
            Timer::Heartbeat => self.beat(),
            Timer::Look => self.look(),
            Timer::Retire => self.retire(),
            Timer::Marks => self.marks_due = true,
            Timer::Survey(query) => self.survey_over(query),
            Timer::Register(shard) => self.ask_register(shard),
            Timer::Body(hash) => {
                self.look_after_body(hash);
                self.fill_places();
            }
            Timer::Place(request) => self.place_bodies(request),
            Timer::Sweep => self.sweep_bodies(),
            Timer::Renew => self.renew(),
            Timer::Claims => self.claim_left(),
            Timer::Host(shard, node) => self.host_over(shard, node),
            Timer::Effects => self.tell_effects(),
        }
    }

    /// Does what membership and groups want, and hears its own messages, until there are none.
    fn obey(&mut self) {
        loop {
            while let Some(output) = self.membership.poll_output() {
                self.membership_says(output);
            }
            if let Some(message) = self.loopback.pop_front() {
                self.receive(self.me.node, message);
            } else if !self.obey_group() {
                break;
            }
        }
    }

    /// Finishes the inputs taken: runs until nothing is left that needs another.
    pub fn settle(&mut self) {
        loop {
            self.obey();
            let mut flushed = false;
            for shard in std::mem::take(&mut self.proposed) {
                self.flush(shard);
                flushed = true;
            }
            for shard in std::mem::take(&mut self.storing) {
                self.send_new_stores(shard);
                flushed = true;
            }
            let at_once = std::mem::take(&mut self.at_once);
            if flushed || !at_once.is_empty() {
                self.written(at_once);
                continue;
            }
            if !self.write() {
                break;
            }
        }
    }

    fn membership_says(&mut self, output: cpe_membership::Output) {
        use cpe_membership::Output as Said;
        match output {
            Said::Send { to, bytes } => self.send(to, &Message::Swim(bytes)),
            Said::Up(member) => {
                self.event(Event::Up(member));
                self.connect(member.node);
            }
            Said::Card(node) => self.connect(node),
            // Dialling goes on, with the network's own back-off. After a partition in which each
            // side gave up the other, nobody else would begin; and a member that said good-bye may
            // come back knowing nobody's address, as the founder does.
            Said::Down(member) => {
                self.pass_over(member.node);
                self.event(Event::Down(member));
            }
            Said::Left(member) => {
                self.pass_over(member.node);
                self.event(Event::Left(member));
            }
            Said::Defunct { .. } => self.event(Event::Defunct),
            _ => {}
        }
    }

    fn connect(&mut self, node: NodeId) {
        if node == self.me.node {
            return;
        }
        if let Some(card) = self.membership.card(node) {
            let (peer, addresses) = (card.peer_id.clone(), card.addresses.clone());
            if !addresses.is_empty() {
                self.outputs.push_back(Output::Connect {
                    node,
                    peer,
                    addresses,
                });
            }
        }
    }

    fn link_up(&mut self, node: NodeId) {
        self.links.insert(node);
        self.links_lost.remove(&node);
        self.greet(node);
        self.pull_next();
        self.membership.announce(self.now, node);
        // One of the two says where it stands: who was away need not wait for its turn.
        if self.me.node < node {
            self.send_root(node);
        }
        // What waits for this node need not wait for its timer.
        for shard in self.shards_homed_at(node) {
            self.timers.set_if_none(Timer::Stores(shard), self.now);
            self.timers.set(Timer::Stores(shard), self.now);
            for seq in self.open_ops(shard) {
                self.timers.set(Timer::Op(shard, seq), self.now);
            }
        }
    }

    fn link_down(&mut self, node: NodeId) {
        self.links.remove(&node);
        let membership = &self.membership;
        self.links_lost
            .retain(|node, _| membership.card(*node).is_some());
        self.links_lost.insert(node, self.now);
        self.body_link_down(node);
        self.pass_over(node);
        for slot in &mut self.slots {
            slot.leader.take_if(|leader| *leader == node);
        }
    }

    fn shards_homed_at(&self, node: NodeId) -> Vec<ShardId> {
        let homed = |slot: &&Slot| slot.map.members.iter().any(|member| member.node == node);
        self.slots
            .iter()
            .filter(homed)
            .map(|slot| slot.shard.id())
            .collect()
    }

    fn command(&mut self, request: RequestId, command: Command) {
        if self.genesis.is_some() || matches!(command, Command::Status | Command::Peers) {
            self.begin(request, command);
        } else if self.early.len() >= MAX_REQUESTS {
            self.reply(
                request,
                Reply::Failed(Failure::Busy("not joined yet".to_owned())),
            );
        } else {
            if let Some(patience) = command.patience() {
                self.timers
                    .set(Timer::Deadline(request), self.now + patience);
            }
            self.early.push_back((request, command));
        }
    }

    /// Begins the commands that came before the mesh was known.
    pub(crate) fn begin_early(&mut self) {
        for (request, command) in std::mem::take(&mut self.early) {
            self.begin(request, command);
        }
    }

    /// Takes a command out of those that came too early.
    pub(crate) fn drop_early(&mut self, request: RequestId) -> bool {
        let before = self.early.len();
        self.early.retain(|(other, _)| *other != request);
        self.early.len() < before
    }

    fn persisted(&mut self, token: u64) {
        while self
            .writes
            .front()
            .is_some_and(|(first, _)| *first <= token)
        {
            if let Some((_, afters)) = self.writes.pop_front() {
                self.written(afters);
            }
        }
    }

    /// Hands what has to be durable to storage; false when there was nothing.
    fn write(&mut self) -> bool {
        if self.batch.is_empty() && self.afters.is_empty() && !self.marks_due {
            if !self.marks.is_empty() {
                self.timers
                    .set_if_none(Timer::Marks, self.now + MARKS_DELAY);
            }
            return false;
        }
        self.marks_due = false;
        self.timers.clear(&Timer::Marks);
        self.save_marks();
        if self.batch.is_empty() && self.afters.is_empty() {
            return false;
        }
        let batch = std::mem::take(&mut self.batch);
        let afters = std::mem::take(&mut self.afters);
        if !self.config.durable {
            self.written(afters);
            return true;
        }
        let token = self.next_token;
        self.next_token += 1;
        let sync = !afters.is_empty();
        self.outputs
            .push_back(Output::Persist { token, batch, sync });
        self.writes.push_back((token, afters));
        true
    }

    fn written(&mut self, afters: Vec<After>) {
        for after in afters {
            match after {
                After::Life => self.now_ready(),
                After::Mark(shard, epoch, mark) => self.mark_durable(shard, epoch, mark),
                After::Send(to, message) => {
                    self.send_if(to, *message);
                }
                After::Outbox(shard, n) => self.outbox_durable(shard, n),
            }
        }
    }

    pub(crate) fn slot(&mut self, shard: ShardId) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(shard.0))
    }

    pub(crate) fn slot_ref(&self, shard: ShardId) -> Option<&Slot> {
        self.slots.get(usize::from(shard.0))
    }

    pub(crate) fn shard_for(&self, workspace: &Name, variable: &cpe_tuple::Value) -> ShardId {
        let genesis = self.genesis.as_ref();
        genesis.map_or(ShardId(0), |genesis| genesis.shard_of(workspace, variable))
    }

    /// Sends a message, to itself too; false when there is no link.
    pub(crate) fn send_if(&mut self, to: NodeId, message: Message) -> bool {
        if to == self.me.node {
            self.loopback.push_back(message);
            return true;
        }
        if !self.links.contains(&to) {
            return false;
        }
        self.send(to, &message);
        true
    }

    fn send(&mut self, to: NodeId, message: &Message) {
        if !self.links.contains(&to) {
            return;
        }
        match message.encode() {
            Ok(bytes) => {
                self.count("messages_out", 1);
                let large = bytes.len() > MAX_CONTROL_BYTES
                    || matches!(message, Message::Feed { .. } | Message::State { .. });
                let lane = if large { Lane::Bulk } else { Lane::Control };
                self.outputs.push_back(Output::Send { to, lane, bytes });
            }
            Err(error) => self.malformed(None, format!("own message: {error}")),
        }
    }

    /// Gossips a frame; false when it is too large for that.
    pub(crate) fn broadcast(&mut self, shard: ShardId, message: &Message) -> bool {
        let Ok(bytes) = message.encode() else {
            return false;
        };
        if bytes.len() > MAX_GOSSIP_BYTES {
            return false;
        }
        let mut id = [0_u8; 8];
        for (to, from) in id.iter_mut().zip(blake3::hash(&bytes).as_bytes()) {
            *to = *from;
        }
        self.count("frames_gossiped", 1);
        let id = u64::from_be_bytes(id);
        self.outputs.push_back(Output::Broadcast {
            topic: shard.0,
            id,
            bytes,
        });
        true
    }

    pub(crate) fn put_output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.outputs.push_back(Output::Reply(request, reply));
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(crate) fn malformed(&mut self, from: Option<NodeId>, reason: String) {
        self.count("malformed", 1);
        self.event(Event::Malformed { from, reason });
    }

    pub(crate) fn count(&mut self, name: &'static str, by: u64) {
        *self.counters.entry(name).or_insert(0) += by;
    }
}
