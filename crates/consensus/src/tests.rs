//! A group of members on a network that delivers at once, and disks that write at once unless
//! told not to.

mod basics;
mod bounds;
mod election;
mod epochs;
mod model;
mod replication;
mod restart;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{Ballot, Entry, Group, Heartbeat, Mark, Message, Output};

/// The guard that `CPE_WITHOUT` names: a test that shows what it is for must fail then, and
/// `cargo xtask mutants` looks that it does.
#[cfg(feature = "mutants")]
pub(crate) fn left_out() -> Option<crate::Guard> {
    let name = std::env::var("CPE_WITHOUT").ok()?;
    let all = crate::Guard::ALL;
    all.into_iter().find(|guard| format!("{guard:?}") == name)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Put(u32),
    Large(usize),
    Seal,
}

impl Entry for Word {
    fn seals(&self) -> bool {
        *self == Self::Seal
    }

    fn size(&self) -> usize {
        match self {
            Self::Large(bytes) => *bytes,
            _ => 8,
        }
    }
}

pub(crate) type Member = Group<u64, Word>;
pub(crate) type Told = Message<u64, Word>;
pub(crate) type Done = Output<u64, Word>;

#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) groups: BTreeMap<u64, Member>,
    pub(crate) wire: VecDeque<(u64, u64, Told)>,
    /// Links that lose everything.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    /// Members whose disks hang: what waits for them waits here.
    pub(crate) stuck: BTreeMap<u64, Vec<Done>>,
    /// Everything else that came out.
    pub(crate) seen: Vec<(u64, Done)>,
    /// How many messages were sent.
    pub(crate) sent: usize,
}

impl Net {
    pub(crate) fn of(k: u64) -> Self {
        let members: Vec<u64> = (1..=k).collect();
        let mut net = Self::default();
        for me in 1..=k {
            net.groups.insert(me, Group::new(me, 1, members.clone(), 0));
        }
        net
    }

    /// The same, and member 1 leads.
    pub(crate) fn led(k: u64) -> Self {
        let mut net = Self::of(k);
        net.rounds(2);
        assert!(net.groups[&1].is_leader());
        net
    }

    pub(crate) fn with<R>(
        &mut self,
        me: u64,
        act: impl FnOnce(&mut Member, &mut Vec<Done>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let group = self.groups.get_mut(&me).unwrap();
        let result = act(group, &mut out);
        group.flush(&mut out);
        self.take(me, out);
        result
    }

    fn take(&mut self, me: u64, out: Vec<Done>) {
        let mut marks: Vec<Mark<u64>> = Vec::new();
        for output in out {
            match output {
                Output::Send { durable: true, .. } | Output::Mark(_)
                    if self.stuck.contains_key(&me) =>
                {
                    self.stuck.get_mut(&me).unwrap().push(output);
                }
                Output::Send { to, message, .. } => {
                    self.sent += 1;
                    self.wire.push_back((me, to, message));
                }
                Output::Mark(mark) => marks.push(mark),
                other => self.seen.push((me, other)),
            }
        }
        for mark in marks {
            self.with(me, |group, out| group.persisted(mark, out));
        }
    }

    /// The disk of a member writes again.
    pub(crate) fn unstick(&mut self, me: u64) {
        let out = self.stuck.remove(&me).unwrap_or_default();
        self.take(me, out);
    }

    /// Delivers until nothing is under way.
    pub(crate) fn run(&mut self) {
        while let Some((from, to, message)) = self.wire.pop_front() {
            if !self.cut.contains(&(from, to)) && self.groups.contains_key(&to) {
                self.with(to, |group, out| group.receive(from, message, out));
            }
        }
    }

    /// Rounds of heartbeats, each followed by what they lead to.
    pub(crate) fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            let all: Vec<(u64, Heartbeat<u64>)> = self
                .groups
                .iter()
                .map(|(me, group)| (*me, group.heartbeat()))
                .collect();
            for (me, _) in &all {
                let heard: Vec<_> = all
                    .iter()
                    .filter(|(other, _)| other != me)
                    .filter(|(other, _)| !self.cut.contains(&(*me, *other)))
                    .filter(|(other, _)| !self.cut.contains(&(*other, *me)))
                    .copied()
                    .collect();
                self.with(*me, |group, out| group.tick(&heard, out));
            }
            self.run();
        }
    }

    pub(crate) fn put(&mut self, me: u64, n: u32) -> u64 {
        let index = self.with(me, |group, out| group.propose(Word::Put(n), out));
        index.unwrap()
    }

    pub(crate) fn isolate(&mut self, me: u64) {
        let others: Vec<u64> = self.groups.keys().copied().filter(|o| *o != me).collect();
        for other in others {
            self.cut.insert((me, other));
            self.cut.insert((other, me));
        }
    }

    pub(crate) fn words(&self, me: u64) -> Vec<Word> {
        let group = &self.groups[&me];
        (group.base() + 1..=group.decided())
            .map(|index| group.entry(index).unwrap().clone())
            .collect()
    }

    pub(crate) fn saw(&self, me: u64, output: &Done) -> bool {
        self.seen
            .iter()
            .any(|(who, seen)| *who == me && seen == output)
    }
}

pub(crate) fn ballot(round: u32, node: u64) -> Ballot<u64> {
    Ballot { round, node }
}

pub(crate) fn words(numbers: &[u32]) -> Vec<Word> {
    numbers.iter().copied().map(Word::Put).collect()
}

/// What one member answers to one message.
pub(crate) fn answer(group: &mut Member, from: u64, message: Told) -> Vec<Done> {
    let mut out = Vec::new();
    group.receive(from, message, &mut out);
    group.flush(&mut out);
    out
}

/// The messages in an output.
pub(crate) fn told<'a>(out: &'a [Done]) -> Vec<&'a Told> {
    let message = |output: &'a Done| match output {
        Output::Send { message, .. } => Some(message),
        _ => None,
    };
    out.iter().filter_map(message).collect()
}

/// Member 2 of three, in step with member 1, which leads with `(1, 1)` and sent these words.
pub(crate) fn follower(numbers: &[u32]) -> Member {
    let mut group = Group::new(2, 1, vec![1, 2, 3], 0);
    answer(&mut group, 1, prepare(ballot(1, 1)));
    answer(&mut group, 1, sync(ballot(1, 1), 0, numbers, 0));
    group
}

/// "I have nothing."
pub(crate) fn prepare(ballot: Ballot<u64>) -> Told {
    Message::Prepare {
        ballot,
        decided: 0,
        accepted: None,
        len: 0,
    }
}

pub(crate) fn sync(ballot: Ballot<u64>, from: u64, numbers: &[u32], decided: u64) -> Told {
    Message::Sync {
        ballot,
        from,
        suffix: words(numbers),
        decided,
    }
}

pub(crate) fn accept(ballot: Ballot<u64>, from: u64, numbers: &[u32], decided: u64) -> Told {
    Message::Accept {
        ballot,
        from,
        entries: words(numbers),
        decided,
    }
}

pub(crate) fn accepted(ballot: Ballot<u64>, len: u64, decided: u64) -> Told {
    Message::Accepted {
        ballot,
        len,
        decided,
        gap: false,
    }
}

/// All entries a member holds.
pub(crate) fn log(group: &Member) -> Vec<Word> {
    (group.base() + 1..=group.len())
        .map(|index| group.entry(index).unwrap().clone())
        .collect()
}

/// Member 1 of `k`, a candidate with its first ballot; it has an own log accepted under an
/// earlier one.
pub(crate) fn candidate(
    k: u64,
    accepted: Option<Ballot<u64>>,
    log: &[u32],
    decided: u64,
) -> (Member, Ballot<u64>) {
    let hard = crate::Hard {
        epoch: 1,
        promised: accepted,
        accepted,
    };
    let members: Vec<u64> = (1..=k).collect();
    let mut group = Group::restore(1, members, hard, 0, words(log), decided);
    let heard: Vec<_> = (2..=k)
        .map(|node| {
            let ballot = ballot(0, node);
            (
                node,
                Heartbeat {
                    ballot,
                    quorum: true,
                },
            )
        })
        .collect();
    let mut out = Vec::new();
    group.tick(&heard, &mut out);
    let own = group.heartbeat().ballot;
    let asked = told(&out)
        .into_iter()
        .any(|message| matches!(message, Message::Prepare { .. }));
    assert!(asked, "it asks for promises");
    (group, own)
}

/// A promise to a candidate.
pub(crate) fn promise(
    ballot: Ballot<u64>,
    accepted: Option<Ballot<u64>>,
    decided: u64,
    from: u64,
    suffix: &[u32],
) -> Told {
    Message::Promise {
        ballot,
        accepted,
        len: from + suffix.len() as u64,
        decided,
        from,
        suffix: words(suffix),
    }
}
