//! Shrinking: the few faults of a schedule that suffice to break the same promise.

use std::fmt;

use crate::check::Violation;
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::world::World;

/// A failing run with as few faults as were found to suffice.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The seed.
    pub seed: u64,
    /// The faults left.
    pub schedule: Schedule,
    /// The promise that is broken with them.
    pub violation: Violation,
    /// How many faults there were.
    pub of: usize,
    /// How many runs it took.
    pub runs: usize,
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.schedule.len();
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        writeln!(f, "{left} of {} faults suffice:", self.of)?;
        write!(f, "{}", self.schedule)
    }
}

/// Drops faults while a promise of the same kind is broken: halves first, then smaller parts
/// (delta debugging: Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
/// IEEE Transactions on Software Engineering 28(2), 2002). At most `runs_max` runs.
///
/// `None` when the whole schedule breaks nothing.
#[must_use]
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    schedule: &Schedule,
    runs_max: usize,
) -> Option<Shrunk> {
    shrink_by(seed, schedule, runs_max, |schedule| {
        let world = World::with_schedule(scenario.clone(), seed, schedule);
        world.run().err().map(|(violation, _)| violation)
    })
}

/// The same for a judge of the caller's: which promise a schedule breaks, if any.
pub fn shrink_by(
    seed: u64,
    schedule: &Schedule,
    runs_max: usize,
    mut judge: impl FnMut(&Schedule) -> Option<Violation>,
) -> Option<Shrunk> {
    let first = judge(schedule)?;
    let mut violation = first.clone();
    let mut runs = 1;
    let kept = minimal(schedule.numbers(), |numbers| {
        if runs >= runs_max {
            return false;
        }
        runs += 1;
        match judge(&schedule.keep(numbers)) {
            Some(found) if found.is_like(&first) => {
                violation = found;
                true
            }
            _ => false,
        }
    });
    Some(Shrunk {
        seed,
        schedule: schedule.keep(&kept),
        violation,
        of: schedule.len(),
        runs,
    })
}

/// The items without which it does not fail, as far as dropping parts of shrinking size can tell.
fn minimal(mut items: Vec<usize>, mut fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    if !items.is_empty() && fails(&[]) {
        return Vec::new();
    }
    let mut part = items.len().div_ceil(2).max(1);
    loop {
        let mut dropped = false;
        let mut at = 0;
        while at < items.len() && items.len() > 1 {
            let mut rest = items.clone();
            rest.drain(at..(at + part).min(items.len()));
            if !rest.is_empty() && fails(&rest) {
                items = rest;
                dropped = true;
            } else {
                at += part;
            }
        }
        if part == 1 && !dropped {
            return items;
        }
        if !dropped {
            part = part.div_ceil(2).max(1);
        } else {
            part = part.min(items.len().div_ceil(2)).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_dropped() {
        let mut runs = 0;
        let items: Vec<usize> = (0..200).collect();
        let left = minimal(items, |items| {
            runs += 1;
            items.contains(&17) && items.contains(&120) && items.contains(&121)
        });
        assert_eq!(left, [17, 120, 121]);
        assert!(runs < 120, "{runs} runs");
    }

    #[test]
    fn a_failure_that_needs_no_fault_needs_none() {
        assert!(minimal(vec![1, 2, 3], |_| true).is_empty());
    }
}
