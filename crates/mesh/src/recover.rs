//! Recovery of shards whose majority is lost for ever (space.md, 2.6), at an operator's word.
//!
//! The node asked surveys every node it has a link to, picks for each such shard the most advanced
//! survivor, and tells it to go on alone: what it had accepted counts as decided, a
//! [`Command::Fork`] follows, and its home group is that one node, [`FORK_EPOCHS`] epochs further.
//! Ordinary placement lets the group grow again.
//!
//! This can break the promise that a tuple is taken once: what only the lost members knew is gone,
//! and if they are not lost but only away, they may have decided otherwise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cpe_consensus::{Ballot, Group, Held};
use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::{Command, Config, Entry, Shard, ShardId, Version};
use serde::{Deserialize, Serialize};

use crate::boot;
use crate::group::{Kept, Proposal};
use crate::io::Event;
use crate::peer::{After, Peer, Slot, Timer};
use crate::persist::Table;
use crate::request::Request;
use crate::wire::Message;
use crate::{Failure, Recovered, Reply, RequestId};

/// Epochs that a recovery skips: whatever lost members decide among themselves stays below.
pub const FORK_EPOCHS: u64 = 1 << 32;

/// How long answers to a survey are waited for. Three of the longest pauses between tries.
const SURVEY_WITHIN: Duration = Duration::from_secs(3);

/// Recoveries at a time. It is an operator's work.
const MAX_RECOVERIES: usize = 16;

/// Where a node stands with a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The shard.
    pub shard: ShardId,
    /// What it has applied.
    pub version: Version,
    /// The newest home group it knows.
    pub config: Config,
    /// The ballot it last accepted in the group of that version's epoch and the length of its log,
    /// if it is a member.
    pub tail: Option<(Option<Ballot<Member>>, u64)>,
    /// True when it hears from a majority of that group.
    pub quorum: bool,
}

/// A recovery under way at the node asked.
#[derive(Debug)]
pub(crate) struct Recovery {
    request: RequestId,
    shards: Vec<ShardId>,
    /// One shard was named: that it need not be recovered is a refusal.
    one: bool,
    waiting: BTreeSet<NodeId>,
    standings: BTreeMap<Member, Vec<Standing>>,
    /// By shard: who has been told to go on, and who could be told next.
    told: BTreeMap<ShardId, Told>,
    done: Vec<Recovered>,
}

#[derive(Debug)]
struct Told {
    epoch: u64,
    at: (u64, u64),
    by: NodeId,
    next: VecDeque<NodeId>,
}

impl Peer {
    /// Begins a recovery: of one shard, or of all durable ones that need it.
    pub(crate) fn recover(
        &mut self,
        request: RequestId,
        shard: Option<ShardId>,
    ) -> Result<(), String> {
        let shards = match shard {
            None => self.durable_shards(),
            Some(shard) => {
                self.is_shard(shard)?;
                if self.slot_ref(shard).is_some_and(|slot| slot.volatile) {
                    return self.give_up(request, shard);
                }
                vec![shard]
            }
        };
        if self.recoveries.len() >= MAX_RECOVERIES {
            return Err(format!("{MAX_RECOVERIES} recoveries are under way here"));
        }
        let query = self.next_query;
        self.next_query += 1;
        let mut waiting = self.links.clone();
        waiting.insert(self.me.node);
        let recovery = Recovery {
            request,
            shards: shards.clone(),
            one: shard.is_some(),
            waiting: waiting.clone(),
            standings: BTreeMap::new(),
            told: BTreeMap::new(),
            done: Vec::new(),
        };
        self.recoveries.insert(query, recovery);
        self.requests.insert(request, Request::Recover { query });
        self.timers
            .set(Timer::Survey(query), self.now + SURVEY_WITHIN);
        for node in waiting {
            let shards = shards.clone();
            self.send_if(node, Message::Survey { query, shards });
        }
        Ok(())
    }

    /// Tells where this node stands.
    pub(crate) fn serve_survey(&mut self, from: NodeId, query: u64, shards: &[ShardId]) {
        if shards.len() > self.slots.len() {
            return;
        }
        let standings = shards.iter().filter_map(|shard| self.slot_ref(*shard));
        let standings = standings.map(Slot::standing).collect();
        let (member, start) = (self.me, self.start);
        self.send_if(
            from,
            Message::Standings {
                query,
                member,
                start,
                standings,
            },
        );
    }

    /// A node told where it stands.
    pub(crate) fn surveyed(
        &mut self,
        from: NodeId,
        query: u64,
        (member, start): (Member, Incarnation),
        standings: Vec<Standing>,
    ) {
        if member.node != from {
            return;
        }
        let Some(recovery) = self.recoveries.get_mut(&query) else {
            return self.is_there(query, member, start);
        };
        if !recovery.waiting.remove(&from) {
            return;
        }
        recovery.standings.insert(member, standings);
        if recovery.waiting.is_empty() {
            self.survey_over(query);
        }
    }

    /// All have answered, or had time to.
    pub(crate) fn survey_over(&mut self, query: u64) {
        self.timers.clear(&Timer::Survey(query));
        let Some(recovery) = self.recoveries.get_mut(&query) else {
            return;
        };
        recovery.waiting.clear();
        let mut refusal = None;
        for shard in std::mem::take(&mut recovery.shards) {
            match recovery.plan(shard) {
                Ok(told) => {
                    recovery.told.insert(shard, told);
                }
                Err(why) => refusal = Some(why),
            }
        }
        if let (true, Some(why)) = (recovery.one, refusal) {
            let request = recovery.request;
            return self.finish(request, Reply::Failed(Failure::Refused(why)));
        }
        let all: Vec<ShardId> = recovery.told.keys().copied().collect();
        for shard in all {
            self.tell_survivor(query, shard);
        }
        self.recovered(query);
    }

    fn tell_survivor(&mut self, query: u64, shard: ShardId) {
        let Some(recovery) = self.recoveries.get(&query) else {
            return;
        };
        if let Some(told) = recovery.told.get(&shard) {
            let (to, epoch, (index, hash)) = (told.by, told.epoch, told.at);
            self.send_if(
                to,
                Message::Fork {
                    query,
                    shard,
                    epoch,
                    index,
                    hash,
                },
            );
        }
    }

    /// A survivor is told to go on alone.
    pub(crate) fn serve_fork(
        &mut self,
        from: NodeId,
        query: u64,
        shard: ShardId,
        epoch: u64,
        (index, hash): (u64, u64),
    ) {
        let refusal = match self.slot_ref(shard) {
            None => return,
            Some(slot) if slot.volatile => return,
            Some(slot) => slot.refuses_fork(epoch, index, hash),
        };
        let refused = match refusal {
            Some(why) => Some(why.to_owned()),
            None => {
                self.fork(shard, epoch);
                None
            }
        };
        let index = self
            .slot_ref(shard)
            .map_or(0, |slot| slot.shard.version().index);
        let answer = Message::Forked {
            query,
            shard,
            epoch,
            index,
            refused,
        };
        // What is told must survive a crash of this node too.
        self.afters.push(After::Send(from, Box::new(answer)));
    }

    /// Takes what was accepted as decided and goes on alone.
    fn fork(&mut self, shard: ShardId, epoch: u64) {
        self.follow(shard);
        let me = self.me;
        while let Some(slot) = self.slot(shard)
            && let next = slot.shard.version().index + 1
            && let Some(proposal) = slot
                .seat
                .group()
                .and_then(|group| group.entry(next))
                .cloned()
        {
            let applied = slot
                .shard
                .push(proposal.entry().clone(), proposal.command());
            self.applied(shard, applied);
        }
        let config = Config {
            epoch,
            members: vec![me],
        };
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let after = slot.shard.version().hash;
        let command = Command::Fork { config, after };
        let Some(proposal) = Proposal::new(command.clone()) else {
            return;
        };
        let Some(slot) = self.slot(shard) else { return };
        let applied = slot.shard.push(proposal.entry().clone(), &command);
        let index = slot.shard.version().index;
        slot.marked = index;
        self.forget_tail(shard, index - 1);
        let bytes = proposal.entry().as_bytes().to_vec();
        self.batch
            .put(Table::Log, boot::indexed(shard, index), bytes);
        let (key, value) = (boot::shard_key(shard), index.to_be_bytes().to_vec());
        self.batch.put(Table::Decided, key, value);
        if let Some(slot) = self.slot(shard) {
            slot.log_end = index;
        }
        self.count("forks", 1);
        self.applied(shard, applied);
    }

    /// A survivor went on, or refused to.
    pub(crate) fn fork_told(
        &mut self,
        from: NodeId,
        query: u64,
        shard: ShardId,
        (epoch, index): (u64, u64),
        refused: Option<String>,
    ) {
        let Some(recovery) = self.recoveries.get_mut(&query) else {
            return;
        };
        let Some(told) = recovery.told.get_mut(&shard).filter(|told| told.by == from) else {
            return;
        };
        if let (Some(_), Some(next)) = (&refused, told.next.pop_front()) {
            told.by = next;
            return self.tell_survivor(query, shard);
        }
        recovery.told.remove(&shard);
        let survivor = recovery.standings.keys().find(|m| m.node == from).copied();
        let goes_on = survivor.filter(|_| refused.is_none());
        recovery.done.push(Recovered {
            shard: shard.0,
            survivor: from,
            epoch,
            index,
            refused,
        });
        if let Some(survivor) = goes_on {
            let members = vec![survivor];
            self.learn_home(shard, Config { epoch, members });
        }
        self.recovered(query);
    }

    /// Answers the operator once every survivor has answered.
    fn recovered(&mut self, query: u64) {
        let Some(recovery) = self.recoveries.get_mut(&query) else {
            return;
        };
        if !recovery.told.is_empty() {
            return;
        }
        let (request, mut done) = (recovery.request, std::mem::take(&mut recovery.done));
        done.sort_by_key(|recovered| recovered.shard);
        self.finish(request, Reply::Recovered(done));
    }

    /// The operator's time is up: what was told is said, for some of it may have been done.
    pub(crate) fn recovery_over(&mut self, query: u64) {
        let Some(recovery) = self.recoveries.get_mut(&query) else {
            return;
        };
        if !recovery.waiting.is_empty() {
            let request = recovery.request;
            let why = "the survey of its survivors was not over in time; nothing was done";
            return self.finish(request, Reply::Failed(Failure::Refused(why.to_owned())));
        }
        for (shard, told) in std::mem::take(&mut recovery.told) {
            recovery.done.push(Recovered {
                shard: shard.0,
                survivor: told.by,
                epoch: told.epoch,
                index: told.at.0,
                refused: Some("no answer came; it may have gone on all the same".to_owned()),
            });
        }
        self.recovered(query);
    }

    /// Another node's history of a forked shard leaves no place for this replica's: that is dropped
    /// and fetched anew. True when it was.
    pub(crate) fn overruled(&mut self, shard: ShardId, from: NodeId, version: Version) -> bool {
        let me = self.me;
        let Some(slot) = self.slot_ref(shard).filter(|slot| !slot.volatile) else {
            return false;
        };
        let own = slot.shard.version();
        let skipped = version.epoch >= FORK_EPOCHS && version.epoch > own.epoch;
        let hash = slot.shard.hash_at(version.index);
        let differs = hash.is_some_and(|hash| hash != version.hash);
        let by_home = slot.map.members.iter().any(|member| member.node == from)
            && slot.map.epoch >= FORK_EPOCHS
            && !slot.map.members.contains(&me);
        let over = (skipped && version.index <= own.index) || (differs && by_home);
        over && self.start_over(shard, Some(from), version)
    }

    /// Drops a replica of which a fork leaves nothing, and fetches it anew: from whoever told of
    /// the fork, if that is known. False when this node leads the shard.
    pub(crate) fn start_over(
        &mut self,
        shard: ShardId,
        from: Option<NodeId>,
        version: Version,
    ) -> bool {
        let led = self.slot_ref(shard).is_none_or(|slot| slot.home.is_some());
        if led {
            return false;
        }
        let founder = self.genesis.as_ref().map(|genesis| genesis.founder);
        let config = Config {
            epoch: 1,
            members: founder.into_iter().collect(),
        };
        let Some(slot) = self.slot(shard) else {
            return false;
        };
        let mut fresh = Shard::new(shard, config);
        for (dot, item) in slot.shard.pending() {
            fresh.add_pending(*dot, item.clone());
        }
        let held = Held {
            epoch: version.epoch,
            index: 0,
        };
        let epoch = slot.seat.group().map_or(0, Group::epoch);
        let mut out = Vec::new();
        slot.seat.hold(held, &mut out);
        slot.shard = fresh;
        slot.pull = None;
        slot.kept = Kept::default();
        (slot.fed, slot.led_until, slot.marked) = (0, 0, 0);
        slot.snapped(0, 0);
        self.forget_tail(shard, 0);
        let (first, last) = (boot::indexed(shard, 0), boot::indexed(shard, u64::MAX));
        self.batch.delete_range(Table::Log, first, last);
        for table in [Table::Snapshot, Table::Decided] {
            self.batch.delete(table, boot::shard_key(shard));
        }
        self.hear_group(shard, epoch, out);
        self.count("overruled", 1);
        if let Some(from) = from {
            self.event(Event::Overruled { shard, by: from });
            self.pull_from(shard, from, version.index);
        }
        true
    }
}

impl Recovery {
    /// Who is to go on with a shard.
    fn plan(&self, shard: ShardId) -> Result<Told, String> {
        let all: Vec<(Member, &Standing)> = self
            .standings
            .iter()
            .filter_map(|(member, all)| {
                let standing = all.iter().find(|standing| standing.shard == shard)?;
                Some((*member, standing))
            })
            .collect();
        let newest = all.iter().map(|(_, standing)| &standing.config);
        let Some(config) = newest.max_by_key(|config| config.epoch) else {
            return Err(format!("no node knows shard {shard}"));
        };
        let here = |member: &&Member| self.standings.contains_key(member);
        let (reached, size) = (
            config.members.iter().filter(here).count(),
            config.members.len(),
        );
        if 2 * reached > size {
            return Err(format!(
                "{reached} of the {size} members of the home group of shard {shard} can be \
                 reached: a majority goes on by itself"
            ));
        }
        if all.iter().any(|(_, standing)| standing.quorum) {
            return Err(format!(
                "a member of the home group of shard {shard} hears from a majority: ask a node \
                 that does too"
            ));
        }
        // What is known to be decided must not be given up for what may have been.
        let place = |standing: &Standing| (standing.version.epoch, standing.version.index);
        let Some((_, certain)) = all.iter().max_by_key(|(_, standing)| place(standing)) else {
            return Err(format!("no node knows shard {shard}"));
        };
        let at = certain.version;
        let mut longer: Vec<_> = all
            .iter()
            .filter(|(_, standing)| standing.version.epoch == at.epoch)
            .filter_map(|(member, standing)| Some((standing.tail?, *member)))
            .filter(|((_, len), _)| *len > at.index)
            .collect();
        longer.sort_unstable();
        let longer = longer.into_iter().rev().map(|(_, member)| member);
        let level = all.iter().filter(|(_, standing)| standing.version == at);
        let (members, others): (Vec<Member>, Vec<Member>) = level
            .map(|(member, _)| *member)
            .partition(|member| config.members.contains(member));
        let mut next: VecDeque<NodeId> = VecDeque::new();
        for member in longer.chain(members).chain(others) {
            if !next.contains(&member.node) {
                next.push_back(member.node);
            }
        }
        let Some(by) = next.pop_front() else {
            return Err(format!("nobody has anything of shard {shard}"));
        };
        let epoch = config.epoch.checked_add(FORK_EPOCHS);
        let epoch = epoch.ok_or_else(|| format!("shard {shard} has had too many epochs"))?;
        let at = (at.index, at.hash);
        Ok(Told {
            epoch,
            at,
            by,
            next,
        })
    }
}

impl Slot {
    fn standing(&self) -> Standing {
        let version = self.shard.version();
        let group = self.seat.group();
        let group = group.filter(|group| group.epoch() == version.epoch);
        Standing {
            shard: self.shard.id(),
            version,
            config: self.map.clone(),
            tail: group.map(|group| (group.hard().accepted, group.len())),
            quorum: group
                .is_some_and(|group| group.members().len() == 1 || group.heartbeat().quorum),
        }
    }

    /// Why this node cannot go on alone in an epoch, from a history of which it must have the entry
    /// `index` with this chain hash.
    fn refuses_fork(&self, epoch: u64, index: u64, hash: u64) -> Option<&'static str> {
        if epoch < FORK_EPOCHS || epoch <= self.map.epoch {
            return Some("a later home group exists");
        }
        let standing = self.standing();
        if standing.quorum {
            return Some("it hears from a majority of the home group");
        }
        let own = self.shard.version();
        if index <= own.index {
            let same = self.shard.hash_at(index).is_none_or(|own| own == hash);
            return (!same).then_some("its history differs from what is known to be decided");
        }
        let mut chain = own.hash;
        for index in own.index + 1..=index {
            let Some(proposal) = self.seat.group().and_then(|group| group.entry(index)) else {
                return Some("it lacks what is known to be decided");
            };
            chain = Entry::chain(proposal.entry(), chain);
        }
        (chain != hash).then_some("what it accepted differs from what is known to be decided")
    }
}
