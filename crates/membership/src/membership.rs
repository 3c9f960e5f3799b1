//! The state machine.

mod exchange;
mod swim;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use foca::{Foca, NoCustomBroadcast, State};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::card::CardError;
use crate::cards::Cards;
use crate::config::{ConfigError, MembershipConfig};
use crate::health::LocalHealth;
use crate::identity::SwimId;
use crate::timers::{Due, Timers};
use crate::wire::{self, DIGEST_ENTRIES_MAX, Frame, Offer, SwimCodec, SwimPacket};
use crate::{Incarnation, Member, NodeCard, NodeId};

/// Members known at a time, dead ones included. Four times the largest mesh planned for; each
/// costs about 100 bytes and its card. News of further nodes is refused.
pub const MEMBERS_MAX: usize = 4_096;

/// Nodes being announced to at a time; further ones replace nobody and are ignored.
pub const JOINS_MAX: usize = 64;

/// Packets waiting for [`Membership::poll_output`]. Further ones are dropped, as a network would.
pub const SENDS_MAX: usize = 16_384;

/// How long an announcement waits for its answer before it is repeated.
const JOIN_RETRY: Duration = Duration::from_secs(1);

/// How often it is repeated: a node that stays silent for half a minute is somebody else's job.
const JOIN_ATTEMPTS: u8 = 30;

/// Cards pushed in answer to one digest; the rest follows with the next.
const PUSHES_MAX: usize = 16;

/// How long a member's card may fail to come before others are asked for it, and how often.
const CARD_RETRY: Duration = Duration::from_secs(1);

/// Up to this many members, a new member is asked for its card directly; in larger meshes that
/// would be a stampede, and gossip brings it within a second or two.
const DIRECT_WANTS_MAX: usize = 64;

/// Members greeted per healing round.
const HEAL_FANOUT: usize = 2;

/// Declared dead again within this time, a node takes larger steps: others may remember a bump
/// far above ours from before a restart.
const REJOIN_WINDOW: Duration = Duration::from_secs(10);

/// A member that left says so as "down" with this SWIM incarnation, which refuting never reaches
/// in practice; foca passes the number on untouched.
const LEFT: u16 = u16::MAX;

type Swim = Foca<SwimId, SwimCodec, ChaCha8Rng, NoCustomBroadcast>;

/// What a [`Membership`] wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Send these bytes, at most [`FRAME_BYTES_MAX`](crate::FRAME_BYTES_MAX); they may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// A frame for the other's [`Membership::handle_packet`].
        bytes: Vec<u8>,
    },
    /// A member is there.
    Up(Member),
    /// A member does not answer, or a newer life of its node took its place.
    Down(Member),
    /// A member said good-bye.
    Left(Member),
    /// A card arrived or changed: [`Membership::card`] has it.
    Card(NodeId),
    /// We were declared dead by mistake and came back, in the same incarnation.
    Rejoined,
    /// Others know a later life of this node: this one is over. Nothing is sent or heard until
    /// [`Membership::raise_incarnation`] goes above `seen`; or the process is a left-over and
    /// should end.
    Defunct {
        /// The highest incarnation others know.
        seen: Incarnation,
    },
}

/// How a node sees a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It did not answer and may object; until then it counts as alive.
    Suspect,
    /// It did not object in time.
    Dead,
    /// It said good-bye.
    Left,
}

impl MemberState {
    /// True while work may be given to the member.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// One row of [`Membership::members`].
#[derive(Clone, Copy, Debug)]
pub struct MemberView<'a> {
    /// The node and its life.
    pub member: Member,
    /// How it is seen from here.
    pub state: MemberState,
    /// Its card, once it has arrived.
    pub card: Option<&'a NodeCard>,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Packets received.
    pub packets_in: u64,
    /// Packets refused: malformed, from somebody else than they say, or with too many new names.
    pub packets_refused: u64,
    /// Packets handed out.
    pub packets_out: u64,
    /// Packets dropped because [`SENDS_MAX`] were waiting.
    pub packets_dropped: u64,
    /// Times we were wrongly declared dead.
    pub rejoins: u64,
    /// Times the caller's loop was late by more than the tolerance.
    pub stalls: u64,
    /// Suspects that were given more time because this node doubted itself.
    pub reprieves: u64,
}

/// A membership cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewError {
    /// A setting is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node's own card is too large.
    #[error(transparent)]
    Card(#[from] CardError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// A newer life of our node is about.
    Defunct,
    /// We said good-bye.
    Left,
}

/// One node's view of the mesh; see the crate's page for an example.
///
/// *Inputs* carry the time, a monotonic `Duration` since an arbitrary start, and never fail on
/// bytes from others: [`handle_packet`](Self::handle_packet), [`tick`](Self::tick),
/// [`announce`](Self::announce), [`set_card`](Self::set_card),
/// [`raise_incarnation`](Self::raise_incarnation), [`leave`](Self::leave). After each, drain
/// [`poll_output`](Self::poll_output) and ask [`next_wake`](Self::next_wake) when to `tick`.
/// *Views*: [`members`](Self::members), [`card`](Self::card), [`state`](Self::state).
pub struct Membership {
    config: MembershipConfig,
    swim: Swim,
    rng: ChaCha8Rng,
    now: Duration,
    timers: Timers,
    phase: Phase,
    cards: Cards,
    /// Who was last reported as up: reports are differences to this.
    told: BTreeMap<NodeId, Incarnation>,
    joins: BTreeMap<NodeId, u8>,
    health: LocalHealth,
    /// Suspicions that were given more time already, by whom they are of and the life and SWIM
    /// incarnation they are about: at most one a member.
    reprieved: BTreeMap<NodeId, (SwimId, u16)>,
    rejoined_at: Option<Duration>,
    rejoin_step: u32,
    sends: VecDeque<Output>,
    events: VecDeque<Output>,
    stats: Stats,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("id", self.swim.identity())
            .field("now", &self.now)
            .field("phase", &self.phase)
            .field("up", &self.told)
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// A node that knows nobody yet.
    ///
    /// `seed` must differ between nodes and starts, or their probes fall in step.
    ///
    /// # Errors
    /// [`NewError`] when a setting or the card is out of bounds.
    pub fn new(
        card: NodeCard,
        config: MembershipConfig,
        seed: u64,
        now: Duration,
    ) -> Result<Self, NewError> {
        config.check()?;
        card.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let swim_rng = ChaCha8Rng::from_rng(&mut rng);
        let id = SwimId::new(card.member());
        let mut timers = Timers::default();
        timers.set(now.saturating_add(config.heal_interval), Due::Heal);
        Ok(Self {
            swim: Foca::new(id, config.to_foca(), swim_rng, SwimCodec),
            rng,
            now,
            timers,
            phase: Phase::Running,
            cards: Cards::new(card, config.transmissions),
            told: BTreeMap::new(),
            joins: BTreeMap::new(),
            health: LocalHealth::default(),
            reprieved: BTreeMap::new(),
            rejoined_at: None,
            rejoin_step: 1,
            sends: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
            config,
        })
    }

    /// Takes a frame that `from` sent; the transport vouches for `from`.
    ///
    /// Bad bytes are counted in [`Stats::packets_refused`] and change nothing.
    pub fn handle_packet(&mut self, now: Duration, from: NodeId, bytes: &[u8]) {
        self.now = self.now.max(now);
        if self.phase != Phase::Running {
            return;
        }
        self.stats.packets_in += 1;
        let accepted = from != self.node() && self.handle_frame(from, bytes).is_some();
        if accepted {
            self.health.heard();
        } else {
            self.stats.packets_refused += 1;
        }
    }

    fn handle_frame(&mut self, from: NodeId, bytes: &[u8]) -> Option<()> {
        match wire::read_frame(bytes).ok()? {
            Frame::Swim(body) => self.handle_swim(from, body),
            Frame::Digest(offers) => {
                self.handle_digest(from, &offers);
                Some(())
            }
            Frame::Want(nodes) => {
                for node in nodes {
                    self.push_card(from, node);
                }
                Some(())
            }
            Frame::Card(card) => self.handle_card(*card),
        }
    }

    /// Does what is due. Call it at [`next_wake`](Self::next_wake) or soon after: a delay beyond
    /// [`MembershipConfig::stall_tolerance`] is taken out of foca's time.
    pub fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.phase != Phase::Running {
            return;
        }
        let late = self
            .timers
            .next()
            .map_or(Duration::ZERO, |at| self.now.saturating_sub(at));
        if late > self.config.stall_tolerance {
            self.stats.stalls += 1;
            self.health.stalled();
            self.timers.shift(late);
        }
        while self.phase == Phase::Running
            && let Some(due) = self.timers.pop_due(self.now)
        {
            self.act(due);
        }
    }

    fn act(&mut self, due: Due) {
        match due {
            Due::Swim(timer) => self.act_swim(timer),
            Due::Cards => self.offer_cards(),
            Due::Heal => self.heal(),
            Due::Join => self.repeat_joins(),
            Due::Missing => self.ask_for_cards(),
        }
    }

    /// When [`tick`](Self::tick) has something to do; `None` after [`leave`](Self::leave) or
    /// while defunct.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// The next thing to do or know. Packets come before events of the same call.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.sends.pop_front().or_else(|| self.events.pop_front())
    }

    /// Joins the mesh that `to`, a node we have a link to, belongs to. Repeated every second, at
    /// most 30 times, until it answers. In a large mesh a member that is up is not greeted: with a
    /// link to everybody each would be answered with the list of all.
    pub fn announce(&mut self, now: Duration, to: NodeId) {
        self.now = self.now.max(now);
        let room = self.joins.len() < JOINS_MAX || self.joins.contains_key(&to);
        let is_known = self.told.len() > DIRECT_WANTS_MAX && self.is_up(to);
        if self.phase != Phase::Running || to == self.node() || !room || is_known {
            return;
        }
        self.joins.insert(to, JOIN_ATTEMPTS);
        if !self.timers.is_set_for_join() {
            self.timers
                .set(self.now.saturating_add(JOIN_RETRY), Due::Join);
        }
        self.greet(to);
    }

    /// Tells everybody that we go, and falls silent: they see it with one message.
    pub fn leave(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.phase != Phase::Running {
            return;
        }
        let me = *self.swim.identity();
        let news = foca::Member::new(me, LEFT, State::Down);
        let active: Vec<SwimId> = self
            .swim
            .iter_members()
            .map(|member| *member.id())
            .collect();
        for to in active {
            if let Ok(packet) = wire::gossip_packet(me, 0, to, &news) {
                self.send(to.node, wire::swim_frame(&packet));
            }
        }
        self.phase = Phase::Left;
        self.timers.clear();
    }

    /// Replaces our card; node and incarnation stay ours and the version is raised.
    ///
    /// # Errors
    /// [`CardError`] when the card is too large; the old one stays.
    pub fn set_card(&mut self, now: Duration, mut card: NodeCard) -> Result<(), CardError> {
        self.now = self.now.max(now);
        let own = self.cards.own();
        card.node = own.node;
        card.inc = own.inc;
        card.version = own.version.saturating_add(1);
        card.check()?;
        self.cards.set_own(card);
        self.wake_for_cards();
        Ok(())
    }

    /// Starts a new life under `inc`, because durable state was lost or [`Output::Defunct`] came.
    /// Ignored unless `inc` is higher than the present one.
    pub fn raise_incarnation(&mut self, now: Duration, inc: Incarnation) {
        self.now = self.now.max(now);
        let own = self.member();
        if inc <= own.inc || self.phase == Phase::Left {
            return;
        }
        if self.phase == Phase::Defunct {
            self.phase = Phase::Running;
            self.timers.set(
                self.now.saturating_add(self.config.heal_interval),
                Due::Heal,
            );
        }
        let mut card = self.cards.own().clone();
        card.inc = inc;
        self.cards.set_own(card);
        self.wake_for_cards();
        self.change_identity(SwimId::new(Member {
            node: own.node,
            inc,
        }));
    }

    /// Everybody known, ourselves among them, by node id; the dead and those who left too, until
    /// [`MembershipConfig::forget_dead_after`].
    pub fn members(&self) -> impl Iterator<Item = MemberView<'_>> {
        let own_state = match self.phase {
            Phase::Running => MemberState::Alive,
            Phase::Defunct => MemberState::Dead,
            Phase::Left => MemberState::Left,
        };
        let me = self.member();
        let mut all = BTreeMap::from([(me.node, (me, own_state))]);
        for other in self
            .swim
            .iter_membership_state()
            .filter(|m| m.id().node != me.node)
        {
            all.insert(other.id().node, (other.id().member(), state_of(other)));
        }
        all.into_iter().map(|(node, (member, state))| MemberView {
            member,
            state,
            card: self.cards.get(node),
        })
    }

    /// How one node is seen; `None` if it is unknown.
    #[must_use]
    pub fn state(&self, node: NodeId) -> Option<MemberState> {
        if node == self.node() {
            return self
                .members()
                .find(|view| view.member.node == node)
                .map(|view| view.state);
        }
        self.find(node).map(state_of)
    }

    /// The card of a node, ours included.
    #[must_use]
    pub fn card(&self, node: NodeId) -> Option<&NodeCard> {
        self.cards.get(node)
    }

    /// Our own card.
    #[must_use]
    pub fn own_card(&self) -> &NodeCard {
        self.cards.own()
    }

    /// Ourselves.
    #[must_use]
    pub fn member(&self) -> Member {
        self.swim.identity().member()
    }

    /// Members that count as alive, ourselves included.
    #[must_use]
    pub fn active_count(&self) -> usize {
        self.swim.num_members() + usize::from(self.phase == Phase::Running)
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn node(&self) -> NodeId {
        self.swim.identity().node
    }

    fn find(&self, node: NodeId) -> Option<&foca::Member<SwimId>> {
        self.swim
            .iter_membership_state()
            .find(|member| member.id().node == node)
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.told.contains_key(&node)
    }
}

fn state_of(member: &foca::Member<SwimId>) -> MemberState {
    match (member.state(), member.incarnation()) {
        (State::Alive, _) => MemberState::Alive,
        (State::Suspect, _) => MemberState::Suspect,
        (State::Down, LEFT) => MemberState::Left,
        (State::Down, _) => MemberState::Dead,
    }
}
