//! "Nothing there": was there a moment when nothing was?
//!
//! A value is certainly there between [`Life::by`](super::lane::Life::by) and the beginning of its
//! take. Outside it need not be: store it as late as possible and take it as early, and if both
//! can be the same moment, at that moment. So an answer "nothing there" is right exactly when some
//! moment of it lies outside of all those spans. This is all there is to a multiset; a queue and a
//! stack can always follow (see their modules), with spans narrowed or widened by their order.
//!
//! A take whose outcome is unknown may have removed one value that nobody else took. At a moment,
//! as many values as such takes had begun may be away. The count per moment is exact: a take that
//! began by then can have taken any of the values, and each value that must be away for an earlier
//! moment must be away for this one too. A cancelled take may also have hidden a value that
//! somebody took later; which one, and when it came back, is not tried, only counted.

use super::lane::{Lane, Life, NEVER, before, up_to};
use super::{Conflict, Operation, Rule};

/// Checks every "nothing there" against the lives, whose times may have been narrowed.
pub(super) fn check(lane: &Lane<'_>, lives: &[Life<'_>]) -> Result<(), Box<Conflict>> {
    if lane.empties.is_empty() {
        return Ok(());
    }
    let there = There::new(lane, lives);
    for empty in &lane.empties {
        let to = empty.to_us.unwrap_or(NEVER);
        if !there.may_be_empty(empty.from_us, to) {
            return Err(explain(empty, lives));
        }
    }
    Ok(())
}

/// How many values are there, when.
struct There<'l, 'h> {
    lane: &'l Lane<'h>,
    /// Spans during which a value can at most be hidden: beginnings and ends, sorted.
    kept_from: Vec<u64>,
    kept_to: Vec<u64>,
    /// Values nobody is known to have taken: when they were there at the latest, sorted.
    left_from: Vec<u64>,
    /// Spans of those among them that were seen.
    left_kept_from: Vec<u64>,
    left_kept_to: Vec<u64>,
    /// Moments at which nothing may be there: those where the number of values there, less those
    /// that may be away, has just gone down. Sorted.
    moments: Vec<u64>,
}

impl<'l, 'h> There<'l, 'h> {
    fn new(lane: &'l Lane<'h>, lives: &[Life<'h>]) -> Self {
        let mut there = Self {
            lane,
            kept_from: Vec::new(),
            kept_to: Vec::new(),
            left_from: Vec::new(),
            left_kept_from: Vec::new(),
            left_kept_to: Vec::new(),
            moments: Vec::new(),
        };
        for life in lives {
            if life.by < life.seen {
                there.kept_from.push(life.by);
                there.kept_to.push(life.seen);
            }
            if life.take.is_none() {
                there.left_from.push(life.by);
                if life.by < life.seen {
                    there.left_kept_from.push(life.by);
                    there.left_kept_to.push(life.seen);
                }
            }
        }
        for times in [
            &mut there.kept_from,
            &mut there.kept_to,
            &mut there.left_from,
            &mut there.left_kept_from,
            &mut there.left_kept_to,
        ] {
            times.sort_unstable();
        }
        let drops = there
            .kept_to
            .iter()
            .chain(&lane.unknown)
            .chain(&lane.cancelled.from);
        let mut moments: Vec<u64> = drops.copied().collect();
        moments.sort_unstable();
        moments.dedup();
        moments.retain(|at| there.nothing(*at));
        there.moments = moments;
        there
    }

    /// True when nothing need be there at a moment.
    fn nothing(&self, at: u64) -> bool {
        let kept = before(&self.kept_from, at) - up_to(&self.kept_to, at);
        let left = before(&self.left_from, at);
        // Those left and kept are in both counts.
        let both = before(&self.left_kept_from, at) - up_to(&self.left_kept_to, at);
        kept <= self.lane.hidden(at, at) && kept + left - both <= self.lane.away(at, at)
    }

    fn may_be_empty(&self, from: u64, to: u64) -> bool {
        let next = before(&self.moments, from);
        self.nothing(from) || self.moments.get(next).is_some_and(|at| *at <= to)
    }
}

/// Names the answer and values that cover it.
fn explain(empty: &Operation, lives: &[Life<'_>]) -> Box<Conflict> {
    let there = |at: u64| {
        lives
            .iter()
            .filter(move |life| life.by < at && life.last() > at)
            .max_by_key(|life| life.last())
    };
    let mut named = vec![empty];
    if let Some(life) = there(empty.from_us) {
        named.extend(std::iter::once(life.store).chain(life.take));
        if empty.to_us.is_some_and(|to| life.last() <= to)
            && let Some(next) = there(life.last())
        {
            named.push(next.store);
        }
    }
    Conflict::new(Rule::NotEmpty, named)
}
