//! The monitor for fifo variables.
//!
//! Two values contradict each other when one was certainly stored before the other
//! (`v.by < w.from`) and the other was certainly seen before the first was done with
//! (`w.first < v.last()`). Both relations, "stored before" and "seen before", have the property of
//! interval orders: from `a < b` and `c < d` follows `a < d` or `c < b`. Hence a shortest cycle of
//! the two has two values, and if no pair contradicts, one order of all values respects time. An
//! answer "nothing there" is one more value, stored and taken at one moment.
//!
//! A find of a fifo variable shows its head, so a value found is at the head from the end of its
//! first find to the beginning of its last or of its take. Such spans must not overlap, and nothing
//! else was seen within one. So what was seen by the end of an operation within one was seen before
//! it began; with that, the argument above holds again. (Without it three values can contradict
//! each other where no two do.)
//!
//! # What it cannot see
//! A take whose outcome is unknown may have removed any value nobody else took. Per moment it is
//! counted how many values must be gone; which take removed which, and whether several "nothing
//! there" and overtakings can share them, is not tried. With a cancelled take, which may put back
//! what it took, a pair contradicts only if more values were overtaken at once than could be
//! hidden, and finds are held against overtaking and "nothing there" only, not against each other.

use std::collections::BTreeMap;

use super::lane::{LATER, Lane, Life, NEVER, before, up_to};
use super::{Conflict, Rule, empties};

pub(super) fn check(lane: &Lane<'_>) -> Result<(), Box<Conflict>> {
    let mut lives = lane.lives.clone();
    for life in &mut lives {
        if life.take.is_none() && lane.first_away().is_none() {
            life.seen = NEVER;
        }
    }
    if lane.cancelled.from.is_empty() {
        one_head_at_a_time(&mut lives)?;
        order(&lives)?;
    } else {
        order_with_hidden(lane, &lives)?;
    }
    gone_in_order(lane, &lives)?;
    empties::check(lane, &lives)
}

/// Spans during which a value found was at the head. They exclude each other, and everything else
/// that was seen.
fn one_head_at_a_time(lives: &mut [Life<'_>]) -> Result<(), Box<Conflict>> {
    // By their beginning: the end and the value.
    let mut spans: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
    for life in lives.iter().filter(|life| life.first < life.seen) {
        let span = (life.seen, life.value);
        if let Some((_, other)) = spans.insert(life.first, span) {
            return Err(two_heads(lives, other, life.value));
        }
    }
    for ((_, (end, head)), (begin, (_, other))) in spans.iter().zip(spans.iter().skip(1)) {
        if begin < end {
            return Err(two_heads(lives, *head, *other));
        }
    }
    let within = |at: u64| {
        let (begin, (end, head)) = spans.range(..at).next_back()?;
        (at < *end).then_some((*begin, *head))
    };
    let mut conflict = None;
    for life in lives.iter_mut().filter(|life| life.first >= life.seen) {
        if let Some((begin, head)) = within(life.first) {
            if begin < life.seen {
                conflict = Some((head, life.value));
                break;
            }
            // It was seen before the other came to the head.
            life.first = begin;
        }
    }
    match conflict {
        Some((head, other)) => Err(two_heads(lives, head, other)),
        None => Ok(()),
    }
}

fn two_heads(lives: &[Life<'_>], head: i64, other: i64) -> Box<Conflict> {
    let sights = |value: i64| {
        let life = lives.iter().find(|life| life.value == value);
        life.into_iter().flat_map(Life::sights)
    };
    let first = sights(head).min_by_key(|sight| sight.to_us);
    let last = sights(head).max_by_key(|sight| sight.from_us);
    let rule = Rule::TwoHeads { head, other };
    Conflict::new(rule, first.into_iter().chain(last).chain(sights(other)))
}

/// No value overtakes another.
fn order(lives: &[Life<'_>]) -> Result<(), Box<Conflict>> {
    let mut by_store: Vec<&Life<'_>> = lives.iter().collect();
    by_store.sort_by_key(|life| life.by);
    let mut stored = by_store.into_iter().peekable();
    let mut by_from: Vec<&Life<'_>> = lives.iter().collect();
    by_from.sort_by_key(|life| life.from);
    // Of those stored before, the one that stays longest.
    let mut longest: Option<&Life<'_>> = None;
    for later in by_from {
        while let Some(life) = stored.next_if(|life| life.by < later.from) {
            if longest.is_none_or(|longest| longest.seen < life.seen) {
                longest = Some(life);
            }
        }
        if let Some(earlier) = longest
            && later.first < earlier.seen
        {
            return Err(overtook(earlier, later));
        }
    }
    Ok(())
}

/// Not more values are overtaken at once than can be hidden.
fn order_with_hidden(lane: &Lane<'_>, lives: &[Life<'_>]) -> Result<(), Box<Conflict>> {
    let mut by_store: Vec<&Life<'_>> = lives.iter().collect();
    by_store.sort_by_key(|life| life.by);
    let mut stored = by_store.into_iter().peekable();
    let mut by_from: Vec<&Life<'_>> = lives.iter().collect();
    by_from.sort_by_key(|life| life.from);
    let mut ends: Vec<u64> = lives.iter().map(|life| life.seen).collect();
    ends.sort_unstable();
    let mut known = Tally::new(lives.len());
    let mut longest: Option<&Life<'_>> = None;
    for later in by_from {
        while let Some(life) = stored.next_if(|life| life.by < later.from) {
            known.add(before(&ends, life.seen));
            if longest.is_none_or(|longest| longest.seen < life.seen) {
                longest = Some(life);
            }
        }
        for sight in later.sights() {
            // Those stored before it that are seen again after it was seen.
            let to = sight.to_us.unwrap_or(LATER);
            let overtaken = known.from(up_to(&ends, to));
            if let Some(earlier) = longest
                && overtaken > lane.hidden(sight.from_us, to)
            {
                return Err(overtook(earlier, later));
            }
        }
    }
    Ok(())
}

fn overtook(earlier: &Life<'_>, later: &Life<'_>) -> Box<Conflict> {
    let rule = Rule::Overtook {
        earlier: earlier.value,
        later: later.value,
    };
    let first = later.sights().min_by_key(|sight| sight.to_us);
    let last = earlier.sights().max_by_key(|sight| sight.from_us);
    let stores = [earlier.store, later.store];
    Conflict::new(rule, stores.into_iter().chain(first).chain(last))
}

/// What nobody is known to have taken must be gone once something stored after it was seen; there
/// must be takes that can have taken it by then.
fn gone_in_order(lane: &Lane<'_>, lives: &[Life<'_>]) -> Result<(), Box<Conflict>> {
    let mut left: Vec<u64> = Vec::new();
    for life in lives.iter().filter(|life| life.take.is_none()) {
        left.push(life.by);
    }
    left.sort_unstable();
    for life in lives.iter().filter(|life| life.first < NEVER) {
        let gone = before(&left, life.from);
        let takes = lane.away(life.first_from, life.first);
        if gone > takes {
            let rule = Rule::TooManyGone { gone, takes };
            let named = lives
                .iter()
                .filter(|left| left.take.is_none() && left.by < life.from)
                .map(|left| left.store)
                .take(2);
            let sights = life.sights().take(1);
            return Err(Conflict::new(rule, named.chain([life.store]).chain(sights)));
        }
    }
    Ok(())
}

/// Counts of ranks, with fast sums from a rank up (a Fenwick tree: "A new data structure for
/// cumulative frequency tables", Software: Practice and Experience, 1994).
struct Tally {
    sums: Vec<usize>,
    total: usize,
}

impl Tally {
    fn new(ranks: usize) -> Self {
        Self {
            sums: vec![0; ranks + 1],
            total: 0,
        }
    }

    fn add(&mut self, rank: usize) {
        self.total += 1;
        let mut node = rank + 1;
        while let Some(sum) = self.sums.get_mut(node) {
            *sum += 1;
            node += node & node.wrapping_neg();
        }
    }

    /// How many were added with this rank or a higher one.
    fn from(&self, rank: usize) -> usize {
        let (mut node, mut below) = (rank, 0);
        while node > 0 {
            below += self.sums.get(node).copied().unwrap_or(0);
            node &= node - 1;
        }
        self.total - below
    }
}
