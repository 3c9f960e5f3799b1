//! Random histories of one variable: of a correct object, of one with flaws, and damaged ones.

use cpe_space::Mode;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::history::{Did, Operation, Stored, Taken};

/// How a random history is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) mode: Mode,
    pub(super) operations: usize,
    /// How far operations reach around the moment they happen; they happen ten apart.
    pub(super) reach: u64,
    /// Probabilities.
    pub(super) finds: f64,
    pub(super) unknown: f64,
    pub(super) cancelled: f64,
    pub(super) stores: f64,
    /// Probability that the object errs: a wrong value, or none though there is one.
    pub(super) flaw: f64,
}

impl Shape {
    pub(super) fn random(mode: Mode, rng: &mut ChaCha8Rng) -> Self {
        let some = |rng: &mut ChaCha8Rng, most: f64| {
            if rng.random_bool(0.5) {
                rng.random_range(0.0..most)
            } else {
                0.0
            }
        };
        Self {
            mode,
            operations: rng.random_range(2..=10),
            reach: *[2, 8, 20, 60].choose(rng).unwrap(),
            finds: some(rng, 0.6),
            unknown: 0.0,
            cancelled: 0.0,
            stores: rng.random_range(0.25..0.7),
            flaw: 0.0,
        }
    }
}

/// The object itself: values, the oldest first, and which are hidden by a cancelled take.
struct Object {
    mode: Mode,
    flaw: f64,
    values: Vec<(i64, bool)>,
}

impl Object {
    fn pick(&self, rng: &mut ChaCha8Rng) -> Option<usize> {
        let there: Vec<usize> = (0..self.values.len())
            .filter(|n| !self.values[*n].1)
            .collect();
        if rng.random_bool(self.flaw) {
            return there.choose(rng).copied().filter(|_| rng.random_bool(0.7));
        }
        match self.mode {
            Mode::Fifo | Mode::Single => there.first().copied(),
            Mode::Lifo => there.last().copied(),
            Mode::Multi => there.choose(rng).copied(),
        }
    }

    fn store(&mut self, value: i64, rng: &mut ChaCha8Rng) {
        if self.mode == Mode::Single && !rng.random_bool(self.flaw) {
            self.values.retain(|(_, hidden)| *hidden);
        }
        self.values.push((value, false));
    }

    fn show(&mut self, value: i64) {
        let visible = self.values.iter().any(|(_, hidden)| !hidden);
        if self.mode == Mode::Single && visible {
            self.values.retain(|(other, _)| *other != value);
        } else {
            for (other, hidden) in &mut self.values {
                *hidden &= *other != value;
            }
        }
    }
}

/// A history of the object, correct when the object has no flaw.
pub(super) fn history(shape: Shape, rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let mut object = Object {
        mode: shape.mode,
        flaw: shape.flaw,
        values: Vec::new(),
    };
    // Values hidden by cancelled takes: which of the operations each.
    let mut hidden: Vec<(i64, usize)> = Vec::new();
    let mut history = Vec::new();
    for n in 0..shape.operations as u64 {
        if !hidden.is_empty() && rng.random_bool(0.3) {
            let (value, take) = hidden.remove(0);
            object.show(value);
            if rng.random() {
                // It is known that it was put back.
                let to = 1_000 + 10 * n + rng.random_range(0..=shape.reach);
                let take: &mut Operation = &mut history[take];
                take.to_us = Some(to.max(take.from_us));
            }
        }
        let at = 1_000 + 10 * n;
        let from = at - rng.random_range(0..=shape.reach);
        let to = at + rng.random_range(0..=shape.reach);
        let unknown = rng.random_bool(shape.unknown);
        let did = if rng.random_bool(shape.stores) {
            let value = n as i64;
            let happens = !unknown || rng.random();
            if happens {
                object.store(value, rng);
            }
            let outcome = match (unknown, rng.random()) {
                (false, _) => Stored::Acknowledged,
                (true, false) => Stored::Unknown,
                (true, true) => Stored::Pending,
            };
            Did::Store { value, outcome }
        } else if rng.random_bool(shape.finds) {
            Did::Find(object.pick(rng).map(|n| object.values[n].0))
        } else {
            let cancelled = rng.random_bool(shape.cancelled);
            let picked = object
                .pick(rng)
                .filter(|_| !(unknown || cancelled) || rng.random());
            Did::Take(match picked {
                Some(n) if cancelled => {
                    object.values[n].1 = true;
                    hidden.push((object.values[n].0, history.len()));
                    Taken::Cancelled
                }
                Some(n) => {
                    let (value, _) = object.values.remove(n);
                    if unknown {
                        Taken::Unknown
                    } else {
                        Taken::Value(value)
                    }
                }
                None if cancelled => Taken::Cancelled,
                None if unknown => Taken::Unknown,
                None => Taken::Empty,
            })
        };
        let open = matches!(
            did,
            Did::Store {
                outcome: Stored::Pending | Stored::Unknown,
                ..
            } | Did::Take(Taken::Unknown | Taken::Cancelled)
        );
        let to = (!open).then_some(to);
        history.push(Operation::new(n % 4, "v", from, to, did));
    }
    history
}

/// Damages a history a little; it may stay correct.
pub(super) fn damage(history: &mut Vec<Operation>, rng: &mut ChaCha8Rng) {
    if history.is_empty() {
        return;
    }
    let n = rng.random_range(0..history.len());
    match rng.random_range(0..6) {
        0 | 1 => {
            // Two takes or finds change answers.
            let is_sight = |operation: &Operation| {
                matches!(
                    operation.did,
                    Did::Take(Taken::Value(_) | Taken::Empty) | Did::Find(_)
                )
            };
            let sights: Vec<usize> = (0..history.len())
                .filter(|n| is_sight(&history[*n]))
                .collect();
            if let (Some(n), Some(other)) = (sights.choose(rng), sights.choose(rng)) {
                let did = history[*n].did;
                history[*n].did = history[*other].did;
                history[*other].did = did;
            }
        }
        2 => {
            if matches!(history[n].did, Did::Take(Taken::Value(_))) {
                history[n].did = Did::Take(Taken::Empty);
            }
        }
        3 => {
            history.remove(n);
        }
        4 => {
            // It happened elsewhen.
            let by = rng.random_range(0..60);
            history[n].from_us = history[n].from_us.saturating_sub(30) + by;
            history[n].to_us = history[n]
                .to_us
                .map(|to| (to - 30 + by).max(history[n].from_us));
        }
        _ => {
            // It took no time.
            let operation = &mut history[n];
            operation.to_us = operation.to_us.map(|to| operation.from_us.max(to - 20));
        }
    }
}
