//! All runs of a small home group, by the model checker `stateright`: three members, two ballots,
//! two takers, a hand-over to a group with a newcomer, a network that loses, repeats, delays and
//! reorders. It runs [`Seat`] and [`Group`](crate::Group) as they are.
//!
//! One tuple is there. Two takers ask, each another leader of the first epoch, and both the leader
//! of the second once more: operations are asked again. Whose take is first in the history has the
//! tuple. Either leader of the first epoch may seal it, with other successors in mind; each list
//! of successors lacks a member and has a newcomer, which must fetch the state. Members also learn
//! what is decided as a state, at any time. That is one model, gone through to the end. A restart
//! and a third ballot are in two smaller ones.
//!
//! What makes the number of runs finite, and small enough to go through all of them:
//!
//! - Everybody has at most one ballot in an epoch: two have one in the first, the preferred leader
//!   in the second. Without a hand-over, three have one.
//! - Disks write at once. What lags is the business of the simulation (`tests/sim`).
//! - The network is no bag of messages: see [`wire`]. Leaders say everything again after each step.
//!   Both only add runs.
//! - Messages that can change nothing any more are dropped. That they change nothing is tried out
//!   when they are.
//! - Who is no member of an epoch only watches it: its replica is looked at when it enters one.
//! - Where both takers ask everybody, they differ only in their names: the first to ask has the
//!   lower one.
//! - A member is in one epoch, and a message is for one. So a step of the second epoch, and one of
//!   the first taken after it, touch different members and messages, and can change places: unless
//!   the latter is that a member fetches a state of the second. Of all the runs that differ by such
//!   changes, which all end in the same state, the model has the one with the steps of the first
//!   epoch before those of the second. What is left in the first makes no difference then.

mod wire;
mod world;

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model, Property};

use self::wire::Wire;
use self::world::{Node, World, accepted, epoch_of, silent};
use crate::guard::{Guard, Guards};
use crate::{Entry, Group, Held, Message, Seat};

type Id = u8;

/// A taker's operation, or the successors that a leader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Word {
    Take(Id),
    Seal(Id),
}

impl Entry for Word {
    fn seals(&self) -> bool {
        matches!(self, Self::Seal(_))
    }

    fn size(&self) -> usize {
        1
    }
}

const FIRST: [Id; 3] = [0, 1, 2];

/// The members of the second epoch. Member 3 is new.
fn members_after(seal: Id) -> Vec<Id> {
    match seal {
        0 => vec![1, 2, 3],
        _ => vec![0, 1, 3],
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A candidate's ballot.
    Run(Id),
    Propose(Id, Word),
    /// In an epoch, from one to another.
    Deliver(u64, Id, Id, Message<Id, Word>),
    /// A replica is brought up to an index of the history.
    Learn(Id, u64),
    /// A node that heard of the next epoch enters it with the state that it has, or a member enters
    /// its epoch again. Neither may ever be let in, so this is never taken.
    Enter(Id, u64, Vec<Id>),
    /// A crash, and all is there that was on the disk.
    Restart(Id),
}

/// What is in the model.
#[derive(Clone, Debug)]
struct Small {
    /// Who has a ballot in the first epoch.
    candidates: Vec<Id>,
    /// What leaders propose in the first epoch, and which of them, once each and in any order.
    first: Vec<(Id, Word)>,
    /// What the leader of the second epoch proposes.
    second: Vec<Word>,
    /// Members also learn what is decided as a state. Else only those do that enter an epoch.
    learns: bool,
    /// One of them restarts, once.
    restarts: bool,
    /// Either taker asks whom the other asks.
    is_fair: bool,
}

impl Small {
    fn proposals(&self, world: &World, id: Id, steps: &mut Vec<Step>) {
        let Some((epoch, _)) = world.node(id).leads() else {
            return;
        };
        let Some(group) = world.group(epoch, id) else {
            return;
        };
        if group.is_sealed() && Guards::default().hold(Guard::Seal) {
            return; // it would be refused
        }
        let first = self.first.iter().filter(|(by, _)| *by == id && epoch == 1);
        let second = self.second.iter().filter(|_| epoch == 2);
        for word in first.map(|(_, word)| word).chain(second) {
            let has_turn = !self.is_fair || world.asked || *word != Word::Take(1);
            if has_turn && !world.proposed.contains(&(epoch, id, *word)) {
                steps.push(Step::Propose(id, *word));
            }
        }
    }

    fn deliveries(world: &World, steps: &mut Vec<Step>) {
        let mut deliver = |epoch: u64, from: Id, to: Id, message: Message<Id, Word>| {
            if world.group(epoch, to).is_some() {
                steps.push(Step::Deliver(epoch, from, to, message));
            }
        };
        for ((epoch, ballot, to), message) in &world.wire.prepares {
            deliver(*epoch, ballot.node, *to, message.clone());
        }
        for ((epoch, ballot, from), promises) in &world.wire.promises {
            for message in promises {
                deliver(*epoch, *from, ballot.node, message.clone());
            }
        }
        for ((epoch, ballot, to), told) in &world.wire.told {
            let group = world.group(*epoch, *to);
            for message in group.map_or(Vec::new(), |group| told.messages(*ballot, group)) {
                deliver(*epoch, ballot.node, *to, message);
            }
        }
        for ((epoch, ballot, from), acked) in &world.wire.acked {
            for len in acked.lowest..=acked.highest {
                deliver(*epoch, *from, ballot.node, accepted(*ballot, len));
            }
        }
        for ((epoch, from, to), decided) in &world.wire.catch_ups {
            let decided = *decided;
            deliver(*epoch, *from, *to, Message::CatchUp { decided });
        }
    }

    fn states(&self, world: &World, to: Id, steps: &mut Vec<Step>) {
        let node = world.node(to);
        let longest = longest(world);
        for len in node.history.len() + 1..=longest.len() {
            let epoch = epoch_of(&longest[..len]);
            let is_inside = world.group(epoch, to).is_some();
            if self.learns && is_inside || epoch > node.epoch() {
                steps.push(Step::Learn(to, len as u64));
            }
        }
        if let Some(Word::Seal(seal)) = longest.iter().find(|word| word.seals()) {
            let members = members_after(*seal);
            if node.epoch() == 1 && members.contains(&to) && node.seat.joined() < 2 {
                Self::attempt(world, to, 2, members, steps);
            }
        }
        if let Some(group) = world.group(node.epoch(), to) {
            Self::attempt(world, to, group.epoch(), group.members().to_vec(), steps);
        }
    }

    /// A member tries to enter an epoch; it is no step when it is not let in.
    fn attempt(world: &World, id: Id, epoch: u64, members: Vec<Id>, steps: &mut Vec<Step>) {
        let node = world.node(id);
        let mut seat = node.seat.clone();
        let opened = seat.open(epoch, members.clone(), node.held(), &mut Vec::new());
        if opened.is_ok() {
            steps.push(Step::Enter(id, epoch, members));
        }
    }
}

/// The longest history there is.
fn longest(world: &World) -> &[Word] {
    let histories = world.nodes.iter().map(|node| node.history.as_slice());
    histories.max_by_key(|history| history.len()).unwrap()
}

impl Model for Small {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let node = |id: Id| {
            let mut seat = Seat::new(id);
            let held = Held { epoch: 1, index: 0 };
            if FIRST.contains(&id) {
                seat.open(1, FIRST.to_vec(), held, &mut Vec::new()).unwrap();
            }
            let history = Vec::new();
            Node { seat, history }
        };
        vec![World {
            nodes: (0..4).map(node).collect(),
            wire: Wire::default(),
            ran: BTreeSet::new(),
            proposed: BTreeSet::new(),
            asked: false,
            restarted: false,
            is_second: false,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for id in self.candidates.iter().copied() {
            if world.group(1, id).is_some() && !world.ran.contains(&id) {
                steps.push(Step::Run(id));
            }
        }
        Self::deliveries(world, steps);
        for id in 0..4 {
            self.proposals(world, id, steps);
            self.states(world, id, steps);
            let epoch = world.node(id).epoch();
            if self.restarts && !world.restarted && world.group(epoch, id).is_some() {
                steps.push(Step::Restart(id));
            }
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Run(id) => {
                world.ran.insert(id);
                world.step(id, |seat, out| {
                    let group = seat.group_mut().unwrap();
                    group.tick(&silent(group), out);
                });
            }
            Step::Propose(id, word) => {
                let (epoch, _) = before.node(id).leads().unwrap();
                world.is_second |= epoch == 2;
                world.asked |= self.is_fair && word == Word::Take(0);
                world.proposed.insert((epoch, id, word));
                world.step(id, |seat, out| {
                    let taken = seat.group_mut().unwrap().propose(word, out);
                    assert!(taken.is_ok(), "it leads");
                });
            }
            Step::Deliver(epoch, from, to, message) => {
                world.is_second |= epoch == 2;
                world.step(to, |seat, out| {
                    seat.group_mut().unwrap().receive(from, message, out);
                });
            }
            Step::Learn(id, index) => {
                let node = &mut world.nodes[usize::from(id)];
                world.is_second |= node.epoch() == 2;
                let len = usize::try_from(index).unwrap();
                node.history = longest(before)[..len].to_vec();
                let held = node.held();
                world.step(id, |seat, out| {
                    let group = seat.group().map(Group::epoch);
                    if group == Some(held.epoch) {
                        seat.hold(held, out);
                    }
                });
            }
            Step::Enter(id, epoch, members) => {
                world.is_second |= before.group(2, id).is_some();
                let held = before.node(id).held();
                let is_first = members.first() == Some(&id);
                world.step(id, |seat, out| match seat.open(epoch, members, held, out) {
                    Ok(group) if is_first => group.tick(&silent(group), out),
                    Ok(_) => {}
                    Err(refusal) => unreachable!("{refusal}"),
                });
            }
            Step::Restart(id) => {
                world.restarted = true;
                world.is_second |= before.node(id).epoch() == 2;
                restart(&mut world, id);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("one history", |_, world: &World| {
                let longest = longest(world);
                let mut nodes = world.nodes.iter();
                nodes.all(|node| longest.starts_with(&node.history))
            }),
            Property::always("the tuple has one taker", |_, world: &World| {
                let takers = world.nodes.iter().filter_map(|node| taker(&node.history));
                takers.collect::<BTreeSet<Id>>().len() <= 1
            }),
            Property::always("one log under one ballot", |_, world: &World| {
                !world.wire.contradicts
            }),
            Property::always("nothing else is broken", |_, world: &World| {
                world.broken.is_none()
            }),
            Property::sometimes("all ballots are accepted", |model: &Self, world| {
                let accepted = |id| world.group(1, id).and_then(|group| group.accepted);
                let ballots: BTreeSet<_> = FIRST.into_iter().filter_map(accepted).collect();
                ballots.len() == model.candidates.len()
            }),
            Property::sometimes("one taker has the tuple", |_, world: &World| {
                taker(longest(world)) == Some(0)
            }),
            Property::sometimes("the other taker has the tuple", |_, world: &World| {
                taker(longest(world)) == Some(1)
            }),
        ];
        if self.first.iter().any(|(_, word)| word.seals()) {
            properties.extend([
                Property::sometimes("one leader seals", |_, world: &World| {
                    longest(world).contains(&Word::Seal(0))
                }),
                Property::sometimes("the other leader seals", |_, world: &World| {
                    longest(world).contains(&Word::Seal(1))
                }),
                Property::sometimes("the second epoch decides all", |model: &Self, world| {
                    let longest = longest(world);
                    let seal = longest.iter().position(Word::seals);
                    let after = seal.map(|seal| longest.len() - seal - 1);
                    after == Some(model.second.len())
                }),
                Property::sometimes("all are in the second epoch", |_, world: &World| {
                    let groups = (0..4).filter_map(|id| world.group(2, id));
                    groups
                        .filter(|group| group.decided() > group.base())
                        .count()
                        == 3
                }),
            ]);
        }
        properties
    }
}

/// Who has the tuple after a history.
fn taker(history: &[Word]) -> Option<Id> {
    history.iter().find_map(|word| match word {
        Word::Take(taker) => Some(*taker),
        Word::Seal(_) => None,
    })
}

fn restart(world: &mut World, id: Id) {
    let node = &mut world.nodes[usize::from(id)];
    let held = node.held();
    let Some(group) = node.seat.group() else {
        return;
    };
    let entries = (held.index + 1..=group.len()).map(|index| *group.entry(index).unwrap());
    let (hard, members) = (group.hard(), group.members().to_vec());
    node.seat = Seat::restore(id, hard, held, members, entries.collect(), held.index);
    #[cfg(feature = "mutants")]
    if !Guards::default().hold(Guard::Remember) {
        node.seat = node.seat.clone().without(Guard::Remember);
    }
    world.step(id, |_, _| {});
}

/// Goes through all there is.
fn exhaust(model: Small) {
    let checker = model.checker().threads(1);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_dfs().join();
    println!(
        "{} states, {} of them new, at most {} steps deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
    );
    for (name, path) in checker.discoveries() {
        println!("{name}: {:#?}", path.into_actions());
    }
    checker.assert_properties();
    assert!(checker.is_done(), "there are more");
}

fn both(id: Id) -> [(Id, Word); 3] {
    [
        (id, Word::Take(0)),
        (id, Word::Take(1)),
        (id, Word::Seal(id)),
    ]
}

fn one(id: Id) -> [(Id, Word); 2] {
    [(id, Word::Take(id)), (id, Word::Seal(id))]
}

#[test]
fn a_tuple_is_taken_once_whatever_two_leaders_two_takers_and_a_hand_over_do() {
    exhaust(Small {
        candidates: vec![0, 1],
        first: [one(0), one(1)].concat(),
        second: vec![Word::Take(0), Word::Take(1)],
        learns: true,
        restarts: false,
        is_fair: false,
    });
}

#[test]
#[ignore = "it takes more than three minutes; how many states it has is not known"]
fn a_tuple_is_taken_once_when_both_takers_ask_both_leaders_of_an_epoch() {
    exhaust(Small {
        candidates: vec![0, 1],
        first: [both(0), both(1)].concat(),
        second: vec![Word::Take(0), Word::Take(1)],
        learns: false,
        restarts: false,
        is_fair: true,
    });
}

#[test]
fn a_member_that_restarts_keeps_to_the_history() {
    exhaust(Small {
        candidates: vec![0, 1],
        first: [one(0), one(1)].concat(),
        second: vec![Word::Take(0)],
        learns: false,
        restarts: true,
        is_fair: false,
    });
}

/// Of the logs of two ballots, the third leader takes over the right one.
#[test]
fn a_third_leader_keeps_what_two_others_decided() {
    exhaust(Small {
        candidates: vec![0, 1, 2],
        first: vec![(0, Word::Take(0)), (1, Word::Take(1))],
        second: Vec::new(),
        learns: false,
        restarts: false,
        is_fair: false,
    });
}
