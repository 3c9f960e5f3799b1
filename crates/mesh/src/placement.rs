//! Which members should be home of which shard (space.md, 2.6). Views of who is there may be wrong:
//! they decide only what a leader proposes, and a majority of the current group decides that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::{Incarnation, Member, MemberState, NodeCard, NodeId};
use cpe_space::{Command, Config, ShardId};

use crate::peer::{Peer, Slot, Timer};
use crate::request::Request;
use crate::{Failure, Genesis, Reply, RequestId};

/// How often leaders look whether their groups are the right ones.
const LOOK: Duration = Duration::from_secs(1);

/// How often a draining node looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// For how long a draining node looks for anybody to take over: links break for less.
const HEIRS_WITHIN: Duration = Duration::from_secs(5);

/// Groups one node may be changing at a time: each is without a leader for a moment.
const MAX_MOVES: usize = 32;

/// The capability that says a node is about to leave: it gives its homes away and takes none.
const DRAINING: &str = "draining";

/// The capability that says whether a node may be home of anything. It may when nothing is said.
const HOMES: &str = "homes";

/// The capability that numbers the node's starts: its life in volatile shards.
const START: &str = "start";

/// True for a node on its way out.
pub(crate) fn is_draining(card: &NodeCard) -> bool {
    card.capabilities
        .get(DRAINING)
        .is_some_and(|is| is == "true")
}

/// True for a node that is to be in no group.
fn gives_away(card: &NodeCard) -> bool {
    let has = |key, value: &str| card.capabilities.get(key).is_some_and(|is| is == value);
    has(DRAINING, "true") || has(HOMES, "false")
}

/// How a member was when last looked at, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Here,
    /// Is to be in no group.
    Draining,
    /// Alive by the word of others, but this node has no link to it.
    Apart,
    Silent,
    Gone,
}

/// Members by how they are and since when.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    members: BTreeMap<Member, Seen>,
    /// The latest life of each node, and since when it is known.
    latest: BTreeMap<NodeId, (Incarnation, Duration)>,
}

/// How a member is, and since when.
#[derive(Debug)]
struct Seen {
    standing: Standing,
    since: Duration,
    /// Since when this node has not reached it, while it is apart or silent.
    away: Duration,
}

impl Survey {
    /// Takes in how members are, and those of whom groups speak but nobody else. A later life or
    /// start of a node ends the earlier ones (rule R10).
    fn note_all(
        &mut self,
        mut all: Vec<(Member, Standing)>,
        seats: impl Iterator<Item = Member>,
        now: Duration,
    ) {
        let mut newest = BTreeMap::new();
        for (member, _) in &all {
            let inc = newest.entry(member.node).or_insert(member.inc);
            *inc = (*inc).max(member.inc);
        }
        self.latest.retain(|node, _| newest.contains_key(node));
        for (node, inc) in &newest {
            let latest = self.latest.entry(*node).or_insert((*inc, now));
            if latest.0 < *inc {
                *latest = (*inc, now);
            }
        }
        let seats: BTreeSet<Member> = seats.collect();
        // Members of groups that nobody has spoken of yet: a leader that has just started.
        let unheard = seats.iter().filter(|m| !newest.contains_key(&m.node));
        all.extend(unheard.map(|member| (*member, Standing::Silent)));
        let earlier = seats
            .iter()
            .filter(|m| newest.get(&m.node).is_some_and(|inc| *inc > m.inc));
        all.extend(earlier.map(|member| (*member, Standing::Gone)));
        for (member, standing) in all {
            self.note(member, standing, now);
        }
        self.members.retain(|member, seen| {
            let over = newest
                .get(&member.node)
                .is_some_and(|inc| *inc > member.inc);
            if over {
                seen.standing = Standing::Gone;
            }
            !over || seats.contains(member)
        });
    }

    fn note(&mut self, member: Member, standing: Standing, now: Duration) {
        let seen = self.members.entry(member).or_insert(Seen {
            standing,
            since: now,
            away: now,
        });
        let away = |standing| matches!(standing, Standing::Apart | Standing::Silent);
        if seen.standing != standing {
            if !away(seen.standing) {
                seen.away = now;
            }
            seen.standing = standing;
            seen.since = now;
        }
    }

    /// Members that are here and have been for so long, besides those in `always`.
    fn eligible(&self, now: Duration, age: Duration, always: &[Member]) -> Vec<Member> {
        let here = self.members.iter().filter(|(member, seen)| {
            seen.standing == Standing::Here && (seen.since + age <= now || always.contains(member))
        });
        here.map(|(member, _)| *member).collect()
    }

    /// Members that are here, or if none is those that are here and would rather be in no group.
    pub(crate) fn present(&self) -> Vec<Member> {
        let are = |standing: Standing| {
            let all = self.members.iter();
            all.filter(move |(_, seen)| seen.standing == standing)
                .map(|(member, _)| *member)
        };
        let here: Vec<Member> = are(Standing::Here).collect();
        if here.is_empty() {
            are(Standing::Draining).collect()
        } else {
            here
        }
    }

    /// True for a life that a later one of its node has followed, known since then or before.
    pub(crate) fn is_followed(&self, life: Member, since: Duration) -> bool {
        let latest = self.latest.get(&life.node);
        latest.is_some_and(|(inc, known)| *inc > life.inc && *known <= since)
    }

    /// True for a member that is known to be here.
    pub(crate) fn is_here(&self, member: Member) -> bool {
        let seen = self.members.get(&member);
        seen.is_some_and(|seen| seen.standing == Standing::Here)
    }

    /// True for a member that is known to be over, or has been silent for so long: to all, not to
    /// this node alone.
    pub(crate) fn is_over(&self, member: Member, now: Duration, patience: Duration) -> bool {
        self.members
            .get(&member)
            .is_some_and(|seen| match seen.standing {
                Standing::Gone => true,
                Standing::Silent => seen.since + patience <= now,
                Standing::Here | Standing::Draining | Standing::Apart => false,
            })
    }

    /// True for a member that will not come back into its groups, or not soon.
    fn is_lost(&self, member: Member, now: Duration, patience: Duration) -> bool {
        self.members
            .get(&member)
            .is_some_and(|seen| match seen.standing {
                Standing::Gone | Standing::Draining => true,
                Standing::Silent | Standing::Apart => seen.away + patience <= now,
                Standing::Here => false,
            })
    }
}

impl Peer {
    /// Looks who is there, and changes the groups this node leads where that is due.
    pub(crate) fn look(&mut self) {
        self.timers.set(Timer::Look, self.now + LOOK);
        self.survey();
        self.begin_generations();
        self.place_all(self.durable_shards(), self.moving(false));
        self.place_all(self.volatile_shards(), self.moving(true));
    }

    /// Changes groups where that is due, until so many are between two epochs.
    fn place_all(&mut self, shards: Vec<ShardId>, mut moving: usize) {
        let mut may_prefer = moving == 0;
        for shard in shards {
            if moving >= MAX_MOVES {
                break;
            }
            match self.place(shard, may_prefer) {
                Placed::Right => {}
                Placed::Changed => moving += 1,
                Placed::Preferred => {
                    moving += 1;
                    may_prefer = false;
                }
            }
        }
    }

    /// Groups that this node has sealed and that have not begun anew. Volatile ones may wait long
    /// for their register, and must not hold up the others.
    fn moving(&self, volatile: bool) -> usize {
        let moving = self.slots.iter().filter(|slot| {
            let sealed = || {
                let group = slot.seat.group();
                group.is_some_and(cpe_consensus::Group::is_sealed)
            };
            slot.volatile == volatile && (slot.is_waiting_for_successor(slot.me) || sealed())
        });
        moving.count()
    }

    pub(crate) fn survey(&mut self) {
        let now = self.now;
        let own = if gives_away(self.membership.own_card()) {
            Standing::Draining
        } else {
            Standing::Here
        };
        let mut all = vec![(self.me, own)];
        // Nobody may count on a start whose number is not yet on disk.
        let own = if self.ready { own } else { Standing::Silent };
        let mut starts = vec![(self.own_start(), own)];
        for view in self.membership.members() {
            if view.member.node == self.me.node {
                continue;
            }
            let draining = view.card.is_some_and(gives_away);
            let standing = match view.state {
                _ if self.vouchers.is_over(view.member) => Standing::Gone,
                MemberState::Alive if draining => Standing::Draining,
                MemberState::Alive if self.links.contains(&view.member.node) => Standing::Here,
                MemberState::Alive => Standing::Apart,
                MemberState::Suspect | MemberState::Dead => Standing::Silent,
                MemberState::Left => Standing::Gone,
            };
            all.push((view.member, standing));
            let start = view.card.and_then(start_of);
            starts.extend(start.map(|start| (start, standing)));
        }
        let slots = &self.slots;
        let seats = |volatile| {
            let slots = slots.iter().filter(move |slot| slot.volatile == volatile);
            slots.flat_map(|slot| slot.map.members.iter().copied())
        };
        let registered = self.volatile_shards().into_iter();
        let registered = registered.filter_map(|shard| self.registration(shard));
        let registered: Vec<Member> = registered.flat_map(|c| c.members.clone()).collect();
        self.survey.note_all(all, seats(false), now);
        self.starts
            .note_all(starts, seats(true).chain(registered), now);
    }

    /// Proposes the next group of a shard if this node leads it and another is wanted.
    fn place(&mut self, shard: ShardId, may_prefer: bool) -> Placed {
        let Some(slot) = self.slot_ref(shard) else {
            return Placed::Right;
        };
        let open = slot.home.is_some() && slot.seat.group().is_some_and(|group| !group.is_sealed());
        // A successor serves once it is registered: without a register this group goes on.
        if !open || (slot.volatile && !self.is_register_led(shard)) {
            return Placed::Right;
        }
        let config = slot.shard.sm().config().clone();
        // Cut off with a few, this node would name those it sees; nobody decides that now, but it
        // stays in the log, and may be decided when they are long gone.
        let there = |m: &&Member| **m == slot.me || self.links.contains(&m.node);
        if 2 * config.members.iter().filter(there).count() <= config.members.len() {
            return Placed::Right;
        }
        let (members, preferred) = match self.wanted(shard, &config) {
            Some(members) => (members, false),
            None if may_prefer => match self.preferred(shard, &config) {
                Some(members) => (members, true),
                None => return Placed::Right,
            },
            None => return Placed::Right,
        };
        if !self.are_there(shard, &members) {
            return Placed::Right;
        }
        let epoch = config.epoch + 1;
        let next = Config { epoch, members };
        let sealed = self.with_home(shard, |_, _, log| {
            log.propose(Command::Seal { config: next })
        });
        match sealed {
            Some(true) if preferred => Placed::Preferred,
            Some(true) => Placed::Changed,
            _ => Placed::Right,
        }
    }

    /// Members a home group should have. It has fewer while the mesh is smaller.
    pub(crate) fn group_size(&self) -> usize {
        let size = self.genesis.as_ref().map(|genesis| genesis.group_size);
        usize::from(size.unwrap_or(Genesis::GROUP_SIZE))
    }

    /// The group that should follow this one because of its size or because a member is lost.
    fn wanted(&self, shard: ShardId, config: &Config) -> Option<Vec<Member>> {
        let (now, patience) = (self.now, self.config.replace_after);
        let current = &config.members;
        let survey = self.survey_of(shard);
        let lost = |member: &Member| survey.is_lost(*member, now, patience);
        let kept: Vec<Member> = current.iter().copied().filter(|m| !lost(m)).collect();
        let leaving = current.iter().any(|member| {
            let seen = survey.members.get(member);
            let standing = seen.map(|seen| seen.standing);
            matches!(standing, Some(Standing::Gone | Standing::Draining))
        });
        let age = if leaving {
            Duration::ZERO
        } else {
            self.config.eligible_after
        };
        let eligible = survey.eligible(now, age, &kept);
        let target = odd(self.group_size().min(eligible.len()));
        // A group whose member is only dead does not shrink: its disk may come back, and two of
        // three are more than one. Who leaves for good takes its seat along.
        let size = if leaving {
            target
        } else {
            target.max(current.len())
        };
        if kept.len() == current.len() && size == current.len() {
            return None;
        }
        let key = self.ranked_by(shard);
        // Who is silent may be gone for good: it stays, but never as most of the next group while
        // there are others, or that could end as one dead member.
        let (here, silent): (Vec<Member>, Vec<Member>) = ranked(key, kept)
            .into_iter()
            .partition(|member| eligible.contains(member));
        let others = eligible.into_iter().filter(|m| !current.contains(m));
        let (few, most) = silent.split_at(silent.len().min(size.saturating_sub(1) / 2));
        let order = here.iter().chain(few).copied();
        let order = order.chain(ranked(key, others));
        let mut next: Vec<Member> = order.chain(most.iter().copied()).take(size).collect();
        if next.len() < size {
            if !leaving {
                return None;
            }
            next.truncate(odd(next.len()));
        }
        let next = ranked(key, self.one_exchange(shard, current, next));
        (!next.is_empty() && !same(&next, current)).then_some(next)
    }

    /// The next group with at most one of its members in another's place (space.md, 2.6): the
    /// others hold the state, so most of it can serve at once. Who is known to be over goes first.
    fn one_exchange(&self, shard: ShardId, current: &[Member], next: Vec<Member>) -> Vec<Member> {
        let leave: Vec<Member> = difference(current, &next);
        let come: Vec<Member> = difference(&next, current);
        let Some(first) = come.first().filter(|_| leave.len() > 1 && come.len() > 1) else {
            return next;
        };
        let survey = self.survey_of(shard);
        let urgency = |member: &&Member| {
            let seen = survey.members.get(*member);
            seen.map(|seen| (std::cmp::Reverse(seen.standing), seen.since))
        };
        let goes = leave.iter().min_by_key(urgency).copied();
        let stay = current.iter().copied().filter(|m| Some(*m) != goes);
        stay.chain([*first]).collect()
    }

    /// One exchange that brings the group nearer to the one that rendezvous hashing wants, while
    /// all of its members are here: one that is suspected for a moment is none to be replaced.
    fn preferred(&self, shard: ShardId, config: &Config) -> Option<Vec<Member>> {
        let age = self.config.replace_after;
        let survey = self.survey_of(shard);
        if !config.members.iter().all(|member| survey.is_here(*member)) {
            return None;
        }
        let eligible = survey.eligible(self.now, age, &config.members);
        let key = self.ranked_by(shard);
        let best: Vec<Member> = ranked(key, eligible)
            .into_iter()
            .take(config.members.len())
            .collect();
        let better = best.iter().find(|m| !config.members.contains(m))?;
        let worst = *config.members.iter().rev().find(|m| !best.contains(m))?;
        let kept = config.members.iter().copied().filter(|m| *m != worst);
        Some(ranked(key, kept.chain([*better])))
    }

    /// Hands every shard to other members.
    pub(crate) fn drain(&mut self, request: RequestId, within: Duration, whole: bool) {
        self.set_draining(true);
        self.requests
            .insert(request, Request::Drain { within, whole });
        self.timers.set(Timer::Drain, self.now);
    }

    fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
        self.alone_since = None;
        let card = self.membership.own_card().clone();
        self.set_card(card);
    }

    /// Shows the others a new card.
    pub(crate) fn set_card(&mut self, mut card: NodeCard) {
        let start = self.ready.then_some(self.start);
        tell_homes(&mut card, self.config.takes_homes, self.draining, start);
        if let Err(error) = self.membership.set_card(self.now, card) {
            self.malformed(None, error.to_string());
        }
    }

    pub(crate) fn continue_drain(&mut self) {
        if !self.draining {
            return;
        }
        self.look();
        let (groups, stores, heirs) = self.left_here();
        let bodies = self.bodies_handed_over();
        let whole = groups == 0 && stores == 0 && bodies;
        // A stop does not wait for who is not there.
        let enough = (groups == 0 || !heirs) && (stores == 0 || self.links.is_empty()) && bodies;
        let since = *self.alone_since.get_or_insert(self.now);
        if heirs {
            self.alone_since = None;
        }
        let given_up = !heirs && since + HEIRS_WITHIN <= self.now;
        let waiting: Vec<_> = self.drains().collect();
        for (request, within, all) in waiting {
            if (all && whole) || (!all && enough) {
                self.finish(request, Reply::Done);
            } else if all && given_up {
                self.fail_drain(request, within, all);
            }
        }
        if self.drains().next().is_some() || (self.draining && !enough) {
            self.timers.set(Timer::Drain, self.now + DRAIN_POLL);
        }
    }

    /// Drains under way: the request, its time, and whether nothing may be left.
    fn drains(&self) -> impl Iterator<Item = (RequestId, Duration, bool)> + '_ {
        self.requests.iter().filter_map(|(request, state)| {
            let Request::Drain { within, whole } = state else {
                return None;
            };
            Some((*request, *within, *whole))
        })
    }

    /// Home groups this node is in or waits for the successors of, stores on their way, and whether
    /// there is anybody to take over.
    fn left_here(&self) -> (usize, usize, bool) {
        let eligible = self.survey.eligible(self.now, Duration::ZERO, &[]);
        let heirs = eligible.iter().any(|member| *member != self.me);
        let here = |slot: &&Slot| {
            slot.map.members.contains(&slot.me) || slot.is_waiting_for_successor(slot.me)
        };
        let groups = self.slots.iter().filter(here).count();
        let stores = self.slots.iter().map(|slot| slot.client.outbox_len());
        (groups, stores.sum(), heirs)
    }

    /// Ends a drain that is not done, and says what is left. Where nobody could take anything over
    /// the node goes on as before, open to be home of more.
    pub(crate) fn fail_drain(&mut self, request: RequestId, within: Duration, whole: bool) {
        let (groups, stores, heirs) = self.left_here();
        let failure = Failure::Kept {
            groups,
            stores,
            heirs,
            within,
        };
        self.finish(request, Reply::Failed(failure));
        if whole && !heirs && self.drains().next().is_none() {
            tracing::warn!(
                groups,
                stores,
                "nobody can take over what this node is home of"
            );
            self.set_draining(false);
        }
    }
}

/// Puts into a node's card what placement has to know about it.
pub(crate) fn tell_homes(
    card: &mut NodeCard,
    takes: bool,
    draining: bool,
    start: Option<Incarnation>,
) {
    let mut say = |key: &str, value: Option<String>| match value {
        Some(value) => drop(card.capabilities.insert(key.to_owned(), value)),
        None => drop(card.capabilities.remove(key)),
    };
    if !takes {
        say(HOMES, Some("false".to_owned()));
    }
    say(DRAINING, draining.then(|| "true".to_owned()));
    say(START, start.map(|start| start.0.to_string()));
}

/// The node in the start that its card tells of.
pub(crate) fn start_of(card: &NodeCard) -> Option<Member> {
    let start = card.capabilities.get(START)?;
    Some(Member {
        node: card.node,
        inc: Incarnation(start.parse().ok()?),
    })
}

/// What became of a look at one shard.
enum Placed {
    Right,
    Changed,
    Preferred,
}

/// The largest odd number up to one that is not 0.
pub(crate) fn odd(n: usize) -> usize {
    match n {
        0 | 1 => 1,
        n if n % 2 == 0 => n - 1,
        n => n,
    }
    .min(Config::MAX_MEMBERS)
}

/// Those of `a` that are not in `b`, in order.
fn difference(a: &[Member], b: &[Member]) -> Vec<Member> {
    a.iter().copied().filter(|m| !b.contains(m)).collect()
}

fn same(a: &[Member], b: &[Member]) -> bool {
    a.iter().collect::<BTreeSet<_>>() == b.iter().collect::<BTreeSet<_>>()
}

/// Members by weight for a shard, heaviest first (Thaler and Ravishankar, "Using name-based
/// mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998): a shard's
/// choice changes only with the members that come or go.
pub(crate) fn ranked(shard: ShardId, members: impl IntoIterator<Item = Member>) -> Vec<Member> {
    let weight = |member: &Member| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&shard.0.to_be_bytes());
        hasher.update(&member.node.0.to_be_bytes());
        *hasher.finalize().as_bytes()
    };
    let mut weighed: Vec<_> = members.into_iter().map(|m| (weight(&m), m)).collect();
    weighed.sort_by(|a, b| b.cmp(a));
    weighed.into_iter().map(|(_, member)| member).collect()
}
