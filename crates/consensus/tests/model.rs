//! Runs of a small group, one by one, by the model checker `stateright`: three members, a ballot
//! each of two of them, takes and seals of either leader, on a network that loses, repeats and
//! reorders.
//!
//! What is left out: disks that lag, restarts and trimming; the simulation has those. Nothing is
//! sent again, since no message is ever gone: each that was sent can be delivered at any time,
//! any number of times, or never.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

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
    /// What they propose, once each, in any order.
    words: Vec<(Id, Word)>,
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
                for (by, word) in &self.words {
                    if by == id && !world.proposed.contains(&(*id, *word)) {
                        steps.push(Step::Propose(*id, *word));
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
            Property::sometimes("something is decided everywhere", |_, world: &World| {
                world.nodes.iter().all(|node| !node.history.is_empty())
            }),
            Property::sometimes("a seal is decided", |_, world: &World| {
                let mut words = world.nodes.iter().flat_map(|node| &node.history);
                words.any(Word::seals)
            }),
        ]
    }
}

/// Looks at so many states, the nearest first. True when there are no more.
fn check(model: Small, states: usize) -> bool {
    let limit = std::env::var("CPE_MODEL_STATES").map_or(states, |text| text.parse().unwrap());
    let checker = model.checker().threads(1).target_state_count(limit);
    let checker = checker.spawn_bfs().join();
    println!(
        "{} states, {} unique, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
    );
    checker.assert_properties();
    checker.state_count() < limit
}

fn small(words: &[(Id, Word)]) -> Small {
    Small {
        members: vec![0, 1, 2],
        candidates: vec![0, 1],
        words: words.to_vec(),
        learns: false,
    }
}

/// All runs: 139,091 states.
#[test]
fn two_leaders_that_both_want_to_seal_get_one_successor() {
    let words = [(0, Word::Seal(0)), (1, Word::Seal(1))];
    assert!(check(small(&words), 1_000_000), "it has that few states");
}

/// Not all runs: there are more than four million. `CPE_MODEL_STATES` sets how many.
#[test]
fn takes_and_seals_of_two_leaders_make_one_history() {
    let takes = [(0, Word::Take(0)), (1, Word::Take(1))];
    let seals = [(0, Word::Seal(0)), (1, Word::Seal(1))];
    check(small(&[takes, seals].concat()), 300_000);
}

/// Members also learn what others decided, as a state. Not all runs either.
#[test]
fn members_that_learn_a_state_keep_to_the_history() {
    let words = [(0, Word::Take(0)), (1, Word::Take(1)), (1, Word::Seal(1))];
    let model = Small {
        learns: true,
        ..small(&words)
    };
    check(model, 300_000);
}
