//! The search and somebody else's: `stateright`'s tester, on histories it can take.

use cpe_space::Mode;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::random::{Shape, damage, history};
use crate::history::search::is_linearizable;
use crate::history::{Did, Operation, Stored, Taken};

/// A variable, as one client alone would see it.
#[derive(Clone, Debug)]
struct Variable {
    mode: Mode,
    values: Vec<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Store(i64),
    Take,
    Find,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Stored,
    Value(Option<i64>),
}

impl Variable {
    fn pick(&self) -> Option<i64> {
        match self.mode {
            Mode::Lifo => self.values.last().copied(),
            _ => self.values.first().copied(),
        }
    }
}

impl SequentialSpec for Variable {
    type Op = Ask;
    type Ret = Answer;

    fn invoke(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Store(value) => {
                if self.mode == Mode::Single {
                    self.values.clear();
                }
                self.values.push(*value);
                Answer::Stored
            }
            Ask::Find => Answer::Value(self.pick()),
            Ask::Take => {
                let picked = self.pick();
                self.values.retain(|value| Some(*value) != picked);
                Answer::Value(picked)
            }
        }
    }

    fn is_valid_step(&mut self, ask: &Ask, answer: &Answer) -> bool {
        match (self.mode, answer) {
            // Any of them may be picked.
            (Mode::Multi, Answer::Value(Some(value))) => {
                let there = self.values.contains(value);
                if matches!(ask, Ask::Take) {
                    self.values.retain(|other| other != value);
                }
                there
            }
            _ => self.invoke(ask) == *answer,
        }
    }
}

/// What `stateright` says. Each operation is a thread of its own, so that time alone orders them.
fn second_opinion(operations: &[Operation], mode: Mode) -> bool {
    let values = Vec::new();
    let mut tester = LinearizabilityTester::new(Variable { mode, values });
    let mut events = Vec::new();
    for (n, operation) in operations.iter().enumerate() {
        let (ask, answer) = match operation.did {
            Did::Store { value, outcome } => {
                let answer = (outcome != Stored::Unknown).then_some(Answer::Stored);
                (Ask::Store(value), answer)
            }
            Did::Take(Taken::Value(value)) => (Ask::Take, Some(Answer::Value(Some(value)))),
            Did::Take(Taken::Empty) => (Ask::Take, Some(Answer::Value(None))),
            Did::Take(_) => (Ask::Take, None),
            Did::Find(found) | Did::LocalFind(found) => (Ask::Find, Some(Answer::Value(found))),
        };
        // At the same time, what begins overlaps what ends.
        events.push((operation.from_us, 0, n, Some(ask), None));
        if let (Some(to), Some(answer)) = (operation.to_us, answer) {
            events.push((to, 1, n, None, Some(answer)));
        }
    }
    events.sort_by_key(|(at, turn, n, _, _)| (*at, *turn, *n));
    for (_, _, n, ask, answer) in events {
        if let Some(ask) = ask {
            tester.on_invoke(n, ask).unwrap();
        }
        if let Some(answer) = answer {
            tester.on_return(n, answer).unwrap();
        }
    }
    tester.is_consistent()
}

#[test]
fn the_search_decides_as_another_tester_does() {
    let (mut right, mut wrong) = (0, 0);
    for mode in [Mode::Fifo, Mode::Lifo, Mode::Multi, Mode::Single] {
        for seed in 0..2_000 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut shape = Shape::random(mode, &mut rng);
            shape.operations = rng.random_range(2..=6);
            // The other tester lets an open take of a multiset take the first value only.
            if mode != Mode::Multi {
                shape.unknown = 0.15;
            }
            shape.flaw = if seed % 3 == 1 { 0.4 } else { 0.0 };
            let mut operations = history(shape, &mut rng);
            if seed % 3 == 2 {
                for _ in 0..3 {
                    damage(&mut operations, &mut rng);
                }
            }
            let ours = is_linearizable(&operations, mode).unwrap();
            let theirs = second_opinion(&operations, mode);
            assert_eq!(ours, theirs, "seed {seed}, {mode}: {operations:#?}");
            *(if ours { &mut right } else { &mut wrong }) += 1;
        }
    }
    assert!(right > 1_000 && wrong > 500, "{right} right, {wrong} wrong");
}
