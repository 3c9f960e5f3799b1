//! All runs of a small group, by the model checker `stateright`: three members, a ballot each of
//! two of them, two takers and a seal of either leader, on a network that loses, repeats and
//! reorders.
//!
//! What is left out: disks that lag, restarts and trimming; the simulation has those. Nothing is
//! sent again, since no message is ever gone: each that was sent can be delivered at any time,
//! any number of times, or never.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeSet, VecDeque};

use cpe_consensus::{Ballot, Entry, Group, Heartbeat, Message, Output};
use stateright::{Checker, Model, Property};

type Id = u8;

/// A taker's proposal, or the successor a leader wants.
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

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    group: Group<Id, Word>,
    /// What it applied.
    history: Vec<Word>,
    /// It has had its ballot.
    ran: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    nodes: Vec<Node>,
    sent: BTreeSet<(Id, Id, Message<Id, Word>)>,
    /// What was proposed, by whom.
    proposed: BTreeSet<(Id, Word)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Run(Id),
    Propose(Id, Word),
    Deliver(Id, Id, Message<Id, Word>),
    Learn(Id, Id),
}

#[derive(Clone, Debug)]
struct Small {
    members: Vec<Id>,
    candidates: Vec<Id>,
    /// Members copy the state of others.
    learns: bool,
}

impl World {
    fn with(&mut self, id: Id, act: impl FnOnce(&mut Group<Id, Word>, &mut Vec<Output<Id, Word>>)) {
        let node = &mut self.nodes[usize::from(id)];
        let mut out = Vec::new();
        act(&mut node.group, &mut out);
        node.group.flush(&mut out);
        let mut todo = VecDeque::from(out);
        while let Some(output) = todo.pop_front() {
            match output {
                // Without a further ballot these change nothing.
                Output::Send {
                    message: Message::Refuse { .. },
                    ..
                } => {}
                Output::Send { to, message, .. } => {
                    self.sent.insert((id, to, message));
                }
                Output::Mark(mark) => {
                    let mut out = Vec::new();
                    node.group.persisted(mark, &mut out);
                    node.group.flush(&mut out);
                    todo.extend(out);
                }
                _ => {}
            }
        }
        while (node.history.len() as u64) < node.group.decided() {
            let index = node.history.len() as u64 + 1;
            node.history.push(*node.group.entry(index).unwrap());
        }
        self.forget();
    }

    /// Drops messages that can change nothing any more, so that fewer states differ: what comes
    /// under a ballot below the promised one, and answers to a leader that was.
    fn forget(&mut self) {
        let nodes = &self.nodes;
        self.sent.retain(|(_, to, message)| {
            let ballot = match message {
                Message::Prepare { ballot, .. }
                | Message::Promise { ballot, .. }
                | Message::Sync { ballot, .. }
                | Message::Accept { ballot, .. }
                | Message::Accepted { ballot, .. } => Some(*ballot),
                _ => None,
            };
            ballot.is_none() || nodes[usize::from(*to)].group.hard().promised <= ballot
        });
    }
}

impl Model for Small {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let node = |id: &Id| Node {
            group: Group::new(*id, 1, self.members.clone(), 0),
            history: Vec::new(),
            ran: false,
        };
        vec![World {
            nodes: self.members.iter().map(node).collect(),
            sent: BTreeSet::new(),
            proposed: BTreeSet::new(),
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for id in &self.candidates {
            let node = &world.nodes[usize::from(*id)];
            if !node.ran {
                steps.push(Step::Run(*id));
            }
            if node.group.is_leader() && !node.group.is_sealed() {
                for word in [Word::Take(*id), Word::Seal(*id)] {
                    if !world.proposed.contains(&(*id, word)) {
                        steps.push(Step::Propose(*id, word));
                    }
                }
            }
        }
        for (from, to, message) in &world.sent {
            steps.push(Step::Deliver(*from, *to, message.clone()));
        }
        if self.learns {
            for to in &self.members {
                for from in &self.members {
                    steps.push(Step::Learn(*to, *from));
                }
            }
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Run(id) => {
                world.nodes[usize::from(id)].ran = true;
                // The others are there, but stand for nothing.
                let others = self.members.iter().filter(|other| **other != id);
                let replies: Vec<_> = others
                    .map(|node| {
                        let ballot = Ballot {
                            round: 0,
                            node: *node,
                        };
                        let quorum = false;
                        (*node, Heartbeat { ballot, quorum })
                    })
                    .collect();
                world.with(id, |group, out| group.tick(&replies, out));
            }
            Step::Propose(id, word) => {
                world.proposed.insert((id, word));
                world.with(id, |group, out| {
                    group.propose(word, out).unwrap();
                });
            }
            Step::Deliver(from, to, message) => {
                world.with(to, |group, out| group.receive(from, message, out));
            }
            Step::Learn(to, from) => {
                let history = world.nodes[usize::from(from)].history.clone();
                let node = &mut world.nodes[usize::from(to)];
                let is_sealed = history.iter().any(Word::seals);
                if history.len() <= node.history.len() || is_sealed {
                    return None;
                }
                node.history = history;
                let index = node.history.len() as u64;
                world.with(to, |group, out| group.learn(index, out));
            }
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one history", |_, world: &World| {
                let histories: Vec<&Vec<Word>> =
                    world.nodes.iter().map(|node| &node.history).collect();
                histories.iter().all(|a| {
                    histories
                        .iter()
                        .all(|b| a.iter().zip(b.iter()).all(|(a, b)| a == b))
                })
            }),
            Property::always("nothing after a seal", |_, world: &World| {
                world.nodes.iter().all(|node| {
                    let seal = node.history.iter().position(Word::seals);
                    seal.is_none_or(|seal| seal + 1 == node.history.len())
                })
            }),
            Property::always("one successor", |_, world: &World| {
                let seals = world.nodes.iter().flat_map(|node| &node.history);
                let seals: BTreeSet<&Word> = seals.filter(|word| word.seals()).collect();
                seals.len() <= 1
            }),
            Property::sometimes("a take is decided", |_, world: &World| {
                let mut words = world.nodes.iter().flat_map(|node| &node.history);
                words.any(|word| !word.seals())
            }),
            Property::sometimes("all decide a seal after a take", |_, world: &World| {
                world.nodes.iter().all(|node| {
                    node.history.len() > 1 && node.history.last().is_some_and(Word::seals)
                })
            }),
            Property::sometimes("the second leader goes on", |_, world: &World| {
                world.nodes.iter().all(|node| node.history.len() > 1)
                    && world
                        .proposed
                        .iter()
                        .map(|(by, _)| by)
                        .collect::<BTreeSet<_>>()
                        .len()
                        > 1
            }),
        ]
    }
}

fn check(model: Small) {
    let started = std::env::var("CPE_MODEL_STATES").ok();
    let limit = started.map_or(usize::MAX, |text| text.parse().unwrap());
    let checker = model
        .checker()
        .threads(1)
        .target_state_count(limit.min(1 << 40));
    let checker = checker.spawn_bfs().join();
    println!(
        "{} states, {} unique, depth {}, done {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        checker.is_done()
    );
    checker.assert_properties();
}

#[test]
fn two_ballots_agree_whatever_the_network_does() {
    check(Small {
        members: vec![0, 1, 2],
        candidates: vec![0, 1],
        learns: false,
    });
}
