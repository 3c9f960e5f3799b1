//! Volatile shards: the same groups, feeds and placement as durable ones, and nothing on disk.
//!
//! A member of a volatile group that restarts has forgotten what it promised. So a node is a member
//! in one *start* of its program only (rule R10), and a majority of starts that are over is lost
//! for ever. What the group decided is gone then, and the shard begins its next *generation*,
//! empty.
//!
//! Who says so must know the last home group. Therefore each volatile shard has a durable one that
//! keeps its register: a group serves nobody before it is registered, and the register begins a
//! generation only after the very group that it registered last. Every number of a generation is
//! above those of earlier ones (see [`cpe_space::generation_of`]), so that nothing under way counts
//! in another generation than its own: a tuple of one can be taken in that one only.

use std::collections::BTreeSet;
use std::time::Duration;

use cpe_consensus::{Group, Held, Seat};
use cpe_membership::{Member, NodeId};
use cpe_space::{Command, Config, Name, Shard, ShardId, Sm, generation_of};

use crate::boot;
use crate::client::SHOW_EVERY_TRIES;
use crate::group::{Kept, Proposal};
use crate::home::Proposed;
use crate::io::Event;
use crate::peer::{After, Peer, Slot, Timer};
use crate::persist::Batch;
use crate::placement::{Survey, odd, ranked, start_of};
use crate::request::Request;
use crate::wire::{Genesis, Message};
use crate::{Recovered, Reply, RequestId};

/// How long a group has to be without a majority before its shard begins anew: a successor that it
/// has decided may be about to be registered.
const VACANCY: Duration = Duration::from_secs(1);

/// How long a successor may take to be registered before the group that decided it goes on in its
/// place. Longer than an election and the transfer of a small state; it tries again.
const PASSED_OVER: Duration = Duration::from_secs(5);

/// How often a group that leads and is not registered asks for it.
const REGISTER_RETRY: Duration = Duration::from_millis(200);

impl Peer {
    /// Sets up the volatile shards: without a home as long as the register tells of none.
    pub(crate) fn found_volatile(&mut self, genesis: &Genesis) {
        let me = self.own_start();
        for n in genesis.shards..genesis.all() {
            let config = Config {
                epoch: 0,
                members: Vec::new(),
            };
            let shard = Shard::from_snapshot(ShardId(n), Sm::of_generation(config));
            let mut slot = boot::new_slot(shard, Seat::new(me), me);
            slot.volatile = true;
            self.slots.push(slot);
        }
    }

    /// This node as it is called in volatile shards: the node in this start of its program.
    #[must_use]
    pub fn own_start(&self) -> Member {
        Member {
            node: self.me.node,
            inc: self.start,
        }
    }

    /// The number of this start is on disk, so that no other will have it: it may be told and used.
    pub(crate) fn now_ready(&mut self) {
        self.ready = true;
        let card = self.membership.own_card().clone();
        self.set_card(card);
        self.look();
    }

    /// Where to write what is to be kept of a shard; nowhere if it is volatile.
    pub(crate) fn disk(&mut self, shard: ShardId) -> Option<&mut Batch> {
        let volatile = self.slot_ref(shard).is_some_and(|slot| slot.volatile);
        (!volatile).then_some(&mut self.batch)
    }

    /// Does something once what was written of a shard is durable: soon, where nothing is.
    pub(crate) fn once_kept(&mut self, shard: ShardId, after: After) {
        if self.slot_ref(shard).is_some_and(|slot| slot.volatile) {
            self.at_once.push(after);
        } else {
            self.afters.push(after);
        }
    }

    /// Writes some time how far a shard is decided.
    pub(crate) fn mark_later(&mut self, shard: ShardId) {
        if self.slot_ref(shard).is_some_and(|slot| !slot.volatile) {
            self.marks.insert(shard);
        }
    }

    pub(crate) fn durable_shards(&self) -> Vec<ShardId> {
        self.shards_by(false)
    }

    pub(crate) fn volatile_shards(&self) -> Vec<ShardId> {
        self.shards_by(true)
    }

    fn shards_by(&self, volatile: bool) -> Vec<ShardId> {
        let slots = self.slots.iter().filter(|slot| slot.volatile == volatile);
        slots.map(|slot| slot.shard.id()).collect()
    }

    /// The shards in which a workspace can have anything.
    pub(crate) fn shards_of(&self, workspace: &Name) -> Vec<ShardId> {
        let any = self.slots.iter().any(|slot| slot.volatile);
        self.shards_by(any && workspace.is_volatile())
    }

    /// Members of the groups of a shard's kind.
    pub(crate) fn survey_of(&self, shard: ShardId) -> &Survey {
        if self.slot_ref(shard).is_some_and(|slot| slot.volatile) {
            &self.starts
        } else {
            &self.survey
        }
    }

    /// By which shard members are ranked: a volatile shard lives where its register does, so that
    /// a partition parts neither from the other.
    pub(crate) fn ranked_by(&self, shard: ShardId) -> ShardId {
        let genesis = self.genesis.as_ref();
        let register = genesis.and_then(|genesis| genesis.register_of(shard));
        register.unwrap_or(shard)
    }

    /// True for a number of the shard's present generation. What has another is as if it were lost
    /// on the way: whoever sent it will learn of the generation, or this node will.
    pub(crate) fn is_of_now(&self, shard: ShardId, number: u64) -> bool {
        let slot = self.slot_ref(shard);
        slot.is_some_and(|slot| slot.shard.sm().is_of_now(number))
    }

    /// The home group registered last for a volatile shard, as far as this replica knows.
    pub(crate) fn registration(&self, shard: ShardId) -> Option<&Config> {
        let keeper = self.genesis.as_ref()?.register_of(shard)?;
        self.slot_ref(keeper)?.shard.sm().registered(shard)
    }

    /// The volatile shards whose register a shard keeps.
    pub(crate) fn registered_in(&self, keeper: ShardId) -> Vec<ShardId> {
        let Some(genesis) = &self.genesis else {
            return Vec::new();
        };
        let volatile = (genesis.shards..genesis.all()).map(ShardId);
        volatile
            .filter(|shard| genesis.register_of(*shard) == Some(keeper))
            .collect()
    }

    /// False for the home group of a volatile shard that is not registered.
    pub(crate) fn may_serve(&self, shard: ShardId) -> bool {
        let Some(slot) = self.slot_ref(shard).filter(|slot| slot.volatile) else {
            return true;
        };
        let epoch = slot.seat.group().map(Group::epoch);
        // That one alone: an earlier one may have been passed over, and others gone on without it.
        self.registration(shard)
            .is_some_and(|config| Some(config.epoch) == epoch)
    }

    /// The register of a volatile shard may have news.
    pub(crate) fn registered(&mut self, shard: ShardId) {
        let Some(config) = self.registration(shard).cloned() else {
            return;
        };
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let (registered, own) = (generation_of(config.epoch), slot.shard.sm().generation());
        // A history that is heard again after a fork tells of generations that are over.
        if registered < own {
            return;
        }
        if registered > own {
            return self.begin_generation(shard, config);
        }
        self.learn_home(shard, config);
        if self.reinstate(shard) {
            return;
        }
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let group = slot.seat.group();
        let leads = group.is_some_and(|group| group.is_leader() && !group.is_sealed());
        if leads && slot.home.is_none() && self.may_serve(shard) {
            self.lead(shard);
        }
    }

    /// Ends the epoch of a successor that the register has passed over. It decided nothing, for it
    /// never served: that its seal is the next entry follows from the register alone. True if
    /// it was so.
    fn reinstate(&mut self, shard: ShardId) -> bool {
        let Some(config) = self.registration(shard).cloned() else {
            return false;
        };
        let keeper = self.slot_ref(self.ranked_by(shard));
        let sealed_at = keeper.and_then(|keeper| keeper.shard.sm().reinstated(shard));
        let command = Command::Seal { config };
        let Some(proposal) = Proposal::new(command.clone()) else {
            return false;
        };
        let Some(slot) = self.slot(shard) else {
            return false;
        };
        let Command::Seal { config } = &command else {
            return false;
        };
        let version = slot.shard.version();
        if sealed_at != Some(version.index) || version.epoch + 1 != config.epoch {
            return false;
        }
        let applied = slot.shard.push(proposal.entry().clone(), &command);
        self.count("reinstated", 1);
        self.applied(shard, applied);
        true
    }

    /// The registered group has decided a successor, which does not register: it may be gone, and
    /// who decided it has all that the shard holds. Lets it go on.
    fn propose_reinstatement(&mut self, shard: ShardId) {
        let Some(last) = self.registration(shard).cloned() else {
            return;
        };
        let Some(sm) = self.slot_ref(shard).map(|slot| slot.shard.sm()) else {
            return;
        };
        let sealed_at = sm.index();
        let fresh = sm.previous().is_some_and(|(_, at)| *at == sealed_at);
        let next = sm.config().epoch;
        if !fresh || next != last.epoch + 1 {
            self.sealed_since.remove(&shard);
            return;
        }
        // Each successor has its time.
        let entry = self.sealed_since.entry(shard);
        let sealed = entry.or_insert((sealed_at, self.now));
        if sealed.0 != sealed_at {
            *sealed = (sealed_at, self.now);
        }
        if sealed.1 + PASSED_OVER > self.now {
            return;
        }
        let reinstate = Command::Reinstate {
            shard,
            sealed_at,
            config: Config {
                epoch: next + 1,
                members: last.members,
            },
        };
        let keeper = self.ranked_by(shard);
        self.with_home(keeper, |_, _, log| log.propose(reinstate));
    }

    /// Drops all of the last generation and begins this one.
    fn begin_generation(&mut self, shard: ShardId, config: Config) {
        self.follow(shard);
        // Whoever comes later begins where all began, and fetches what was decided since: only then
        // it is a member of a later group (rule R12).
        let keeper = self.slot_ref(self.ranked_by(shard));
        let begun = keeper.and_then(|keeper| keeper.shard.sm().begun(shard));
        let begun = begun.unwrap_or_else(|| config.clone());
        let held_epoch = begun.epoch;
        let state = Sm::of_generation(begun);
        let (index, generation) = (state.index(), state.generation());
        let Some(slot) = self.slot(shard) else { return };
        let before = slot.shard.sm().generation();
        let epoch = slot.seat.group().map_or(0, Group::epoch);
        let held = Held {
            epoch: held_epoch,
            index,
        };
        let mut out = Vec::new();
        slot.seat.hold(held, &mut out);
        slot.seat.hear(config.epoch);
        if config.epoch < epoch {
            slot.seat = Seat::new(slot.me);
        }
        slot.shard = Shard::from_snapshot(shard, state);
        slot.map = config;
        slot.leader = None;
        slot.proposed = Proposed::default();
        slot.pull = None;
        slot.kept = Kept::default();
        (slot.fed, slot.marked, slot.log_end) = (index, index, index);
        slot.snapped(index, 0);
        slot.led_until = 0;
        self.hear_group(shard, epoch, out);
        self.drop_confirming(shard);
        self.count("generations", 1);
        // Who has just started learns of a generation that began before.
        if before > 0 || generation == 1 {
            self.event(Event::Begun { shard, generation });
        }
        self.begin_anew(shard);
        self.settle_home(shard);
        self.given_up(shard);
    }

    /// This node leads a group that is not registered: asks for it, until it is or leads no more.
    pub(crate) fn ask_register(&mut self, shard: ShardId) {
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let config = slot.shard.sm().config().clone();
        let leads = slot.seat.group().is_some_and(Group::is_leader);
        let registered = self.registration(shard).map_or(0, |config| config.epoch);
        if !leads || registered >= config.epoch {
            return;
        }
        // Whichever leads: who does not, says nothing.
        let keeper = self.slot_ref(self.ranked_by(shard));
        let members = keeper.map(|slot| slot.map.members.clone());
        for member in members.unwrap_or_default() {
            let config = config.clone();
            self.send_if(member.node, Message::Register { shard, config });
        }
        let again = self.now + REGISTER_RETRY;
        self.timers.set(Timer::Register(shard), again);
    }

    /// True while the shard that keeps a volatile shard's register has a leader within reach. Of a
    /// group that this node is not in it may never have heard who leads: then most of its members
    /// within reach will do, for all of them are asked to register.
    pub(crate) fn is_register_led(&self, shard: ShardId) -> bool {
        let keeper = self.ranked_by(shard);
        let within_reach = |node: NodeId| node == self.me.node || self.links.contains(&node);
        if let Some(leader) = self.leader_of(keeper) {
            return within_reach(leader);
        }
        self.slot_ref(keeper).is_some_and(|slot| {
            let members = &slot.map.members;
            let there = members.iter().filter(|member| within_reach(member.node));
            !members.contains(&slot.me) && 2 * there.count() > members.len()
        })
    }

    /// Registers a later group of a volatile shard, if this node leads the shard that keeps the
    /// register. Whoever asked learns of it as of any other decision.
    pub(crate) fn serve_register(&mut self, shard: ShardId, config: Config) {
        if !self.slot_ref(shard).is_some_and(|slot| slot.volatile) {
            return;
        }
        let keeper = self.ranked_by(shard);
        self.with_home(keeper, |_, sm, log| {
            let later = |last: &Config| last.epoch < config.epoch;
            if sm.registered(shard).is_some_and(later) {
                log.propose(Command::Register { shard, config });
            }
        });
    }

    /// Begins the next generation of volatile shards whose group is lost, of those whose register
    /// this node leads.
    pub(crate) fn begin_generations(&mut self) {
        self.drop_orphans();
        for shard in self.volatile_shards() {
            let keeper = self.ranked_by(shard);
            let leads = self
                .slot_ref(keeper)
                .is_some_and(|slot| slot.home.is_some());
            if !leads || self.has_majority(shard) {
                self.vacant.remove(&shard);
                if leads {
                    self.propose_reinstatement(shard);
                } else {
                    self.sealed_since.remove(&shard);
                }
                continue;
            }
            let since = *self.vacant.entry(shard).or_insert(self.now);
            let last = self.registration(shard).map(|config| config.epoch);
            if last.is_none() || since + VACANCY <= self.now {
                self.propose_generation(shard, last.unwrap_or(0));
            }
        }
    }

    /// Whether enough members of the registered group may still be there to decide anything.
    fn has_majority(&self, shard: ShardId) -> bool {
        let Some(config) = self.registration(shard) else {
            return false;
        };
        let (now, patience) = (self.now, self.config.forget_after);
        let over = |member: &&Member| self.starts.is_over(**member, now, patience);
        let left = config.members.len() - config.members.iter().filter(over).count();
        2 * left > config.members.len()
    }

    fn propose_generation(&mut self, shard: ShardId, after: u64) {
        let keeper = self.ranked_by(shard);
        let mut members = ranked(keeper, self.starts.present());
        if members.is_empty() {
            return;
        }
        members.truncate(odd(members.len().min(self.group_size())));
        let begin = Command::Begin {
            shard,
            after,
            members,
        };
        self.with_home(keeper, |_, _, log| log.propose(begin));
    }

    /// An operator gives up the home group of a volatile shard: what it holds, and the wait for
    /// its silent members.
    pub(crate) fn give_up(&mut self, request: RequestId, shard: ShardId) -> Result<(), String> {
        self.survey();
        let epoch = self.may_be_given_up(shard)?;
        self.requests.insert(request, Request::GiveUp { shard });
        let keeper = self.ranked_by(shard);
        let members = self.slot_ref(keeper).map(|slot| slot.map.members.clone());
        for member in members.unwrap_or_default() {
            self.send_if(member.node, Message::GiveUp { shard, epoch });
        }
        Ok(())
    }

    /// Epoch of the registered group, if most of its members are not here.
    fn may_be_given_up(&self, shard: ShardId) -> Result<u64, String> {
        let Some(config) = self.registration(shard) else {
            return Err(format!("volatile shard {shard} has had no home yet"));
        };
        let size = config.members.len();
        let over = |member: &&Member| self.starts.is_over(**member, self.now, Duration::ZERO);
        let here = size - config.members.iter().filter(over).count();
        if 2 * here > size {
            return Err(format!(
                "{here} of the {size} members of the home group of volatile shard {shard} can be \
                 reached: a majority goes on by itself"
            ));
        }
        Ok(config.epoch)
    }

    /// An operator gives up the group that was registered last, if this node leads the shard that
    /// keeps the register and sees no majority either.
    pub(crate) fn serve_give_up(&mut self, shard: ShardId, epoch: u64) {
        if self.may_be_given_up(shard) == Ok(epoch) {
            self.propose_generation(shard, epoch);
        }
    }

    /// Ends the requests of those who gave up the last generation.
    fn given_up(&mut self, shard: ShardId) {
        let waiting: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, state)| matches!(state, Request::GiveUp { shard: of } if *of == shard))
            .map(|(request, _)| *request)
            .collect();
        let Some(map) = self.slot_ref(shard).map(|slot| slot.map.clone()) else {
            return;
        };
        let survivor = map.members.first().map_or(self.me.node, |m| m.node);
        for request in waiting {
            let recovered = Recovered {
                shard: shard.0,
                survivor,
                epoch: map.epoch,
                index: 0,
                refused: None,
            };
            self.finish(request, Reply::Recovered(vec![recovered]));
        }
    }

    /// Forgets stores that starts which are over did not bring to their home.
    fn drop_orphans(&mut self) {
        for shard in self.volatile_shards() {
            let pending = self.slot_ref(shard).map(|slot| slot.shard.pending());
            let origins = pending.into_iter().flat_map(|pending| pending.keys());
            let origins: BTreeSet<Member> = origins.map(|dot| dot.origin).collect();
            for origin in origins {
                let start = if origin.node == self.me.node {
                    Some(self.own_start())
                } else {
                    self.membership.card(origin.node).and_then(start_of)
                };
                if start.is_some_and(|start| start.inc > origin.inc)
                    && let Some(slot) = self.slot(shard)
                {
                    slot.shard.drop_pending(origin);
                }
            }
        }
    }

    /// Where to send requests for a volatile shard: only to a start that is a member. Its
    /// successor on the same node knows nothing of it.
    pub(crate) fn home_in_memory(&self, shard: ShardId, tries: u32) -> Option<NodeId> {
        let members = &self.slot_ref(shard)?.map.members;
        let own = self.own_start();
        let there = |member: &&Member| {
            let card = self.membership.card(member.node);
            **member == own || card.and_then(start_of) == Some(**member)
        };
        let there: Vec<NodeId> = members.iter().filter(there).map(|m| m.node).collect();
        let leader = self.leader_of(shard).filter(|node| there.contains(node));
        if leader.is_some() && tries % SHOW_EVERY_TRIES != SHOW_EVERY_TRIES - 1 {
            return leader;
        }
        let linked = |node: &&NodeId| self.may_ask(Some(**node));
        let linked: Vec<NodeId> = there.iter().filter(linked).copied().collect();
        let nth = usize::try_from(tries).unwrap_or(0) % linked.len().max(1);
        linked.get(nth).copied()
    }

    /// True for a node that can be sent something now.
    pub(crate) fn may_ask(&self, node: Option<NodeId>) -> bool {
        let linked = |node| node == self.me.node || self.links.contains(&node);
        self.ready && node.is_some_and(linked)
    }
}

impl Slot {
    /// True for an index or epoch of another generation of a volatile shard.
    pub(crate) fn is_foreign(&self, number: u64) -> bool {
        self.volatile && !self.shard.sm().is_of_now(number)
    }

    /// The generation, of a volatile shard.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.volatile.then(|| self.shard.sm().generation())
    }

    /// Entries applied, of this generation.
    pub(crate) fn applied(&self) -> u64 {
        self.shard.version().index - self.shard.sm().floor()
    }
}
