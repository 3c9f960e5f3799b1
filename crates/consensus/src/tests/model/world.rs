//! The members of the model, and what one step leads to.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use super::wire::{Link, Wire};
use super::{Id, Word, members_after};
use crate::group::Role;
use crate::leader::Candidate;
use crate::log::Log;
use crate::{Ballot, Entry, Group, Heartbeat, Held, Message, Output, Seat};

pub(super) type Out = Vec<Output<Id, Word>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) seat: Seat<Id, Word>,
    /// What its replica applied, all on disk.
    pub(super) history: Vec<Word>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) wire: Wire,
    /// Who had its ballot in the first epoch, as long as that can matter.
    pub(super) ran: BTreeSet<Id>,
    /// What was proposed, in which epoch and by whom, as long as that can matter.
    pub(super) proposed: BTreeSet<(u64, Id, Word)>,
    /// The first taker has asked.
    pub(super) asked: bool,
    /// A member has restarted.
    pub(super) restarted: bool,
    /// The second epoch is at work: see the model.
    pub(super) is_second: bool,
    /// What no run may show, besides what the nodes' histories tell.
    pub(super) broken: Option<&'static str>,
}

/// What of a group decides how it goes on. The election is not in it, for nobody is elected twice;
/// nor what a leader has under way to a member, for it says everything again after every step.
#[derive(PartialEq, Eq, Hash)]
struct Essence<'a> {
    epoch: u64,
    log: &'a Log<Word>,
    decided: u64,
    promised: Option<Ballot<Id>>,
    accepted: Option<Ballot<Id>>,
    learned: u64,
    candidate: Option<&'a Candidate<Id, Word>>,
    leader: Option<(Ballot<Id>, Vec<Option<u64>>)>,
}

fn essence(group: &Group<Id, Word>) -> Essence<'_> {
    let (candidate, leader) = match &group.role {
        Role::Follower => (None, None),
        Role::Candidate(candidate) => (Some(candidate), None),
        Role::Leader(leader) => {
            let acked = leader.peers.values().map(|peer| peer.acked);
            (None, Some((leader.ballot, acked.collect())))
        }
    };
    Essence {
        epoch: group.epoch(),
        log: &group.log,
        decided: group.decided,
        promised: group.promised,
        accepted: group.accepted,
        learned: group.learned,
        candidate,
        leader,
    }
}

/// Of a member that the second epoch found in the first, nothing makes a difference any more.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for node in &self.nodes {
            if !(self.is_second && node.epoch() == 1) {
                node.history.hash(state);
                node.seat.joined().hash(state);
                node.seat.group().map(essence).hash(state);
            }
        }
        (&self.wire, &self.ran, &self.proposed).hash(state);
        (self.asked, self.restarted, self.is_second, self.broken).hash(state);
    }
}

impl Node {
    pub(super) fn epoch(&self) -> u64 {
        epoch_of(&self.history)
    }

    pub(super) fn leads(&self) -> Option<(u64, Ballot<Id>)> {
        let group = self.seat.group()?;
        match &group.role {
            Role::Leader(leader) => Some((group.epoch(), leader.ballot)),
            _ => None,
        }
    }

    pub(super) fn held(&self) -> Held {
        Held {
            epoch: self.epoch(),
            index: self.history.len() as u64,
        }
    }
}

/// The epoch after a history.
pub(super) fn epoch_of(history: &[Word]) -> u64 {
    1 + history.iter().filter(|word| word.seals()).count() as u64
}

/// The others are there, but stand for nothing.
pub(super) fn silent(group: &Group<Id, Word>) -> Vec<(Id, Heartbeat<Id>)> {
    let others = group.others().into_iter();
    let nothing = |node| Heartbeat {
        ballot: Ballot { round: 0, node },
        quorum: false,
    };
    others.map(|node| (node, nothing(node))).collect()
}

impl World {
    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[usize::from(id)]
    }

    /// A member's part in an epoch that is still at work.
    pub(super) fn group(&self, epoch: u64, id: Id) -> Option<&Group<Id, Word>> {
        let group = self.node(id).seat.group()?;
        (group.epoch() == epoch && !(self.is_second && epoch == 1)).then_some(group)
    }

    /// One step of one member, and all that follows by itself.
    pub(super) fn step(&mut self, id: Id, act: impl FnOnce(&mut Seat<Id, Word>, &mut Out)) {
        let promises = self.wire.promises.values().map(Vec::len).sum::<usize>();
        self.with(id, act);
        self.settle(id);
        self.repeat(id);
        if self.wire.promises.values().map(Vec::len).sum::<usize>() != promises {
            for other in (0..4).filter(|other| *other != id) {
                self.repeat(other);
            }
        }
        self.forget();
    }

    /// Gives one member input, and does what it wants. Its disk writes at once.
    fn with(&mut self, id: Id, act: impl FnOnce(&mut Seat<Id, Word>, &mut Out)) {
        let node = &mut self.nodes[usize::from(id)];
        let mut out = Vec::new();
        act(&mut node.seat, &mut out);
        let Some(group) = node.seat.group_mut() else {
            return;
        };
        group.flush(&mut out);
        let mut todo = VecDeque::from(out);
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Send { to, message, .. } => {
                    self.wire.send(group.epoch(), id, to, message);
                }
                Output::Mark(mark) => {
                    let mut out = Vec::new();
                    group.persisted(mark, &mut out);
                    group.flush(&mut out);
                    todo.extend(out);
                }
                _ => {}
            }
        }
    }

    /// Applies what is decided; past the seal, leaves the epoch and enters the next, as a peer does
    /// (`settle_home` in `cpe-mesh`): the first of its members stands for leader at once.
    fn settle(&mut self, id: Id) {
        let node = &mut self.nodes[usize::from(id)];
        while let Some(group) = node.seat.group()
            && group.epoch() >= node.epoch()
            && group.decided() > node.history.len() as u64
        {
            let Some(word) = group.entry(node.history.len() as u64 + 1) else {
                self.broken = Some("an entry is decided that nobody has");
                return;
            };
            node.history.push(*word);
        }
        let held = node.held();
        let Some(Word::Seal(seal)) = node.history.iter().rev().find(|word| word.seals()) else {
            return;
        };
        let members = members_after(*seal);
        if let Some(group) = node.seat.group()
            && group.epoch() < held.epoch
        {
            if group.decided() > held.index {
                self.broken = Some("something is decided after the seal");
            }
        } else if node.seat.joined() >= held.epoch {
            return;
        }
        if !members.contains(&id) {
            return self.with(id, |seat, out| seat.hold(held, out));
        }
        let is_first = members.first() == Some(&id);
        let mut refused = false;
        self.with(id, |seat, out| {
            match seat.open(held.epoch, members, held, out) {
                Ok(group) if is_first => group.tick(&silent(group), out),
                Ok(_) => {}
                Err(_) => refused = true,
            }
        });
        if refused {
            self.broken = Some("a member is kept out of its epoch");
        }
    }

    /// A leader says everything again. It is as if each step took several rounds, in which the
    /// network repeats what was promised to the leader: of that it loses whatever it likes.
    fn repeat(&mut self, id: Id) {
        let Some((epoch, ballot)) = self.node(id).leads() else {
            return;
        };
        if self.group(epoch, id).is_none() {
            return;
        }
        let links = (epoch, ballot, Id::MIN)..=(epoch, ballot, Id::MAX);
        let promises = self.wire.promises.range(links);
        let promises: Vec<_> = promises
            .flat_map(|((_, _, from), promises)| promises.iter().map(|it| (*from, it.clone())))
            .collect();
        for (from, message) in promises {
            self.receive(id, from, message);
        }
        // In the first round it waits for what was just answered.
        for _ in 0..2 {
            self.with(id, |seat, out| {
                if let Some(group) = seat.group_mut() {
                    group.tick(&silent(group), out);
                }
            });
        }
    }

    fn receive(&mut self, to: Id, from: Id, message: Message<Id, Word>) {
        self.with(to, |seat, out| {
            if let Some(group) = seat.group_mut() {
                group.receive(from, message, out);
            }
        });
    }

    /// Drops what can change nothing any more, so that fewer states differ, and looks that it does
    /// change nothing now.
    fn forget(&mut self) {
        let mut wire = std::mem::take(&mut self.wire);
        let mut old = Vec::new();
        wire.prepares.retain(|link, message| {
            let keeps = self.is_open(*link);
            if !keeps {
                old.push((link.0, link.1.node, link.2, message.clone()));
            }
            keeps
        });
        wire.told.retain(|link, told| {
            if let Some(group) = self.group(link.0, link.2) {
                told.raise(group.decided);
            }
            let keeps = self.is_open(*link);
            if !keeps {
                old.push((link.0, link.1.node, link.2, told.whole(link.1)));
            }
            keeps
        });
        wire.promises.retain(|link, promises| {
            if self.acked(*link).is_some() {
                // A leader reads nothing else of a promise.
                promises.dedup_by_key(|promise| match promise {
                    Message::Promise { decided, .. } => *decided,
                    _ => 0,
                });
            }
            let keeps = self.is_awaited(*link);
            if !keeps {
                let promises = std::mem::take(promises).into_iter();
                old.extend(promises.map(|message| (link.0, link.2, link.1.node, message)));
            }
            keeps
        });
        wire.acked.retain(|link, acked| {
            let message = accepted(link.1, acked.highest);
            if let Some(known) = self.acked(*link) {
                acked.lowest = acked.lowest.max(known.map_or(0, |known| known + 1));
            } else {
                acked.lowest = acked.highest + 1;
            }
            let keeps = acked.lowest <= acked.highest;
            if !keeps {
                old.push((link.0, link.2, link.1.node, message));
            }
            keeps
        });
        wire.catch_ups.retain(|(epoch, from, to), decided| {
            let keeps = match self.group(*epoch, *to) {
                Some(group) => group.decided < *decided,
                None => *epoch > self.node(*to).epoch(),
            };
            if !keeps {
                let decided = *decided;
                old.push((*epoch, *from, *to, Message::CatchUp { decided }));
            }
            keeps
        });
        let mut old = old.into_iter();
        if !old.all(|(epoch, from, to, message)| self.is_dead(epoch, to, from, message)) {
            self.broken = Some("an old message changes something");
        }
        self.wire = wire;
        let mut proposed = std::mem::take(&mut self.proposed);
        proposed.retain(|(epoch, id, _)| self.group(*epoch, *id).is_some_and(Group::is_leader));
        self.proposed = proposed;
        let mut ran = std::mem::take(&mut self.ran);
        ran.retain(|id| self.group(1, *id).is_some());
        self.ran = ran;
    }

    /// A ballot may still be heard by a member, or by one that is to enter its epoch.
    fn is_open(&self, (epoch, ballot, to): Link) -> bool {
        match self.group(epoch, to) {
            Some(group) => group.promised <= Some(ballot),
            None => epoch > self.node(to).epoch(),
        }
    }

    /// Promises from a member may still be heard by the owner of a ballot.
    fn is_awaited(&self, (epoch, ballot, from): Link) -> bool {
        let Some(group) = self.group(epoch, ballot.node) else {
            return false;
        };
        match &group.role {
            Role::Follower => false,
            Role::Candidate(candidate) => candidate.ballot == ballot,
            Role::Leader(_) => self.acked((epoch, ballot, from)) == Some(None),
        }
    }

    /// What a member acknowledged to the leader of a ballot; nothing when it leads no more.
    pub(super) fn acked(&self, (epoch, ballot, from): Link) -> Option<Option<u64>> {
        let group = self.group(epoch, ballot.node)?;
        match &group.role {
            Role::Leader(leader) if leader.ballot == ballot => {
                leader.peers.get(&from).map(|peer| peer.acked)
            }
            _ => None,
        }
    }

    /// A message would change nothing at its receiver.
    fn is_dead(&self, epoch: u64, to: Id, from: Id, message: Message<Id, Word>) -> bool {
        let Some(before) = self.group(epoch, to) else {
            return true;
        };
        let mut group = before.clone();
        group.receive(from, message, &mut Vec::new());
        essence(&group) == essence(before)
    }
}

/// "I have so much."
pub(super) fn accepted(ballot: Ballot<Id>, len: u64) -> Message<Id, Word> {
    Message::Accepted {
        ballot,
        len,
        decided: 0,
        gap: false,
    }
}
