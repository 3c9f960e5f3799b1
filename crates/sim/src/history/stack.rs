//! The monitor for lifo variables.
//!
//! A history of a stack is correct when each value can be given a span, from its store to its
//! take, such that any two spans are nested or apart. Three observations decide this, by removing
//! values that cannot do harm until none is left (in the manner of Lee and Mathur):
//!
//! 1. A value that need be there for one moment only is put and removed at once, between whatever
//!    else happens. It does no harm.
//! 2. At a moment when no value must be there the stack can be made empty: cut every span there.
//!    So what lies before and what lies after can be looked at separately.
//! 3. Of values between two such moments, of which at every moment at least one must be there,
//!    one must be the lowest: stored before any other must be there, taken after. If several can
//!    be, any of them may: with the others' spans cut to its own, a correct order stays correct.
//!
//! A find shows the top. A value can be the lowest only if each of its finds has a moment at which
//! no other need be there; above it those moments then are like "nothing there".
//!
//! # What it cannot see
//! A take whose outcome is unknown may have removed any value nobody else took, from the moment
//! the first such take began; that there are enough such takes is checked for each take, find and
//! "nothing there", not for all of them together. A cancelled take may put back what it took: then
//! as many groups of values as such takes had begun may be without a lowest one, if at each take
//! and find no more values were certainly above than such takes could hide.

use super::lane::{LATER, Lane, Life};
use super::{Conflict, Rule, empties};

/// Values of a group among which two that cross are looked for: the search is quadratic.
const EXPLAINED_MAX: usize = 1_000;

pub(super) fn check(lane: &Lane<'_>) -> Result<(), Box<Conflict>> {
    empties::check(lane, &lane.lives)?;
    if !lane.unknown.is_empty() || !lane.cancelled.from.is_empty() {
        tops(lane)?;
    }
    let first_away = lane.first_away();
    let mut spans: Vec<Span<'_, '_>> = lane
        .lives
        .iter()
        .map(|life| Span {
            life,
            from: life.by,
            to: match first_away {
                Some(away) if life.take.is_none() => life.seen.max(away),
                _ => life.last(),
            },
        })
        .filter(|span| span.from < span.to)
        .collect();
    spans.sort_by_key(|span| span.from);
    let mut stuck: Vec<Group<'_, '_>> = Vec::new();
    let mut groups = Vec::new();
    split(spans.into_iter(), &mut groups);
    while let Some(group) = groups.pop() {
        if !remove_lowest(&group, &mut groups) {
            if lane.hidden(group.from, group.to) == 0 {
                return Err(explain(&group));
            }
            stuck.push(group);
        }
    }
    // Each needs a cancelled take of its own, begun before the group ended.
    stuck.sort_by_key(|group| group.to);
    for (needed, group) in (1..).zip(stuck) {
        if lane.hidden(0, group.to) < needed {
            return Err(explain(&group));
        }
    }
    Ok(())
}

/// When a value was on top, not more values were certainly above it than could be away.
fn tops(lane: &Lane<'_>) -> Result<(), Box<Conflict>> {
    let mut by_store: Vec<&Life<'_>> = lane.lives.iter().collect();
    by_store.sort_by_key(|life| life.by);
    for (n, life) in by_store.iter().enumerate() {
        for sight in life.sights() {
            let (from, to) = (sight.from_us, sight.to_us.unwrap_or(LATER));
            let above = by_store.iter().skip(n + 1);
            let above = above.take_while(|other| other.by < from);
            let above = above.filter(|other| other.from > life.by && other.last() > to);
            let (mut kept, mut all, mut top) = (0, 0, None);
            for other in above {
                kept += usize::from(other.seen > to);
                all += 1;
                top = Some(other);
            }
            if let Some(top) = top
                && (kept > lane.hidden(from, to) || all > lane.away(from, to))
            {
                let rule = Rule::Crossed {
                    lower: life.value,
                    upper: top.value,
                };
                let seen = [life.store, sight].into_iter();
                return Err(Conflict::new(rule, seen.chain(top.ends())));
            }
        }
    }
    Ok(())
}

/// A value and when it must be there.
#[derive(Clone, Copy)]
struct Span<'l, 'h> {
    life: &'l Life<'h>,
    from: u64,
    to: u64,
}

/// Values of which at every moment between two times one must be there, sorted by beginning.
struct Group<'l, 'h> {
    spans: Vec<Span<'l, 'h>>,
    from: u64,
    to: u64,
}

/// Cuts, where no value must be there, spans that are sorted by their beginning.
fn split<'l, 'h>(spans: impl Iterator<Item = Span<'l, 'h>>, groups: &mut Vec<Group<'l, 'h>>) {
    let mut spans = spans.peekable();
    while let Some(first) = spans.next() {
        let (from, mut to) = (first.from, first.to);
        let mut group = vec![first];
        while let Some(next) = spans.next_if(|next| next.from < to) {
            to = to.max(next.to);
            group.push(next);
        }
        // A value alone harms nobody.
        if group.len() > 1 {
            let spans = group;
            groups.push(Group { spans, from, to });
        }
    }
}

/// Splits a group without the values that can be the lowest; false when none can.
fn remove_lowest<'l, 'h>(group: &Group<'l, 'h>, groups: &mut Vec<Group<'l, 'h>>) -> bool {
    let lowest = |n: usize, span: &Span<'_, '_>| {
        let life = span.life;
        let around = life.from <= group.from && group.to <= life.gone;
        around && (life.finds.is_empty() || shows(&group.spans, n))
    };
    let spans = group.spans.iter().enumerate();
    let lowest: Vec<usize> = spans
        .filter(|(n, span)| lowest(*n, span))
        .map(|(n, _)| n)
        .collect();
    if lowest.is_empty() {
        return false;
    }
    let mut removed = lowest.iter().copied().peekable();
    let rest = group.spans.iter().enumerate();
    let rest = rest.filter(|(n, _)| removed.next_if_eq(n).is_none());
    split(rest.map(|(_, span)| *span), groups);
    true
}

/// True when each find of the `n`th value has a moment at which no other value must be there.
fn shows(group: &[Span<'_, '_>], n: usize) -> bool {
    let Some(value) = group.get(n) else {
        return false;
    };
    let mut finds: Vec<(u64, u64)> = value
        .life
        .finds
        .iter()
        .map(|find| {
            let to = find.to_us.unwrap_or(LATER).min(value.life.gone);
            (find.from_us.max(value.life.from), to)
        })
        .collect();
    finds.sort_unstable();
    // The others, merged where they overlap, in step with the finds.
    let others = group.iter().enumerate().filter(|(other, _)| *other != n);
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (_, span) in others {
        match merged.last_mut() {
            Some((_, end)) if span.from < *end => *end = span.to.max(*end),
            _ => merged.push((span.from, span.to)),
        }
    }
    let mut merged = merged.into_iter().peekable();
    finds.into_iter().all(|(from, to)| {
        while merged.next_if(|(_, end)| *end <= from).is_some() {}
        merged
            .peek()
            .is_none_or(|(begin, end)| from <= *begin || *end <= to)
    })
}

/// Names two values that cross, when two do, or else what first and last must be there.
fn explain(group: &Group<'_, '_>) -> Box<Conflict> {
    let group = &group.spans;
    let few = group.iter().take(EXPLAINED_MAX);
    let crossing = few.clone().find_map(|one| {
        let crosses = |other: &&Span<'_, '_>| {
            let (a, b) = (one.life, other.life);
            a.by < b.from && b.by < a.seen && a.gone < other.to
        };
        few.clone().find(crosses).map(|other| [one, other])
    });
    let rule = match crossing {
        Some([one, other]) => Rule::Crossed {
            lower: one.life.value,
            upper: other.life.value,
        },
        None => Rule::NotNested(group.len()),
    };
    let ends = || {
        let first = group.iter().min_by_key(|span| span.life.gone);
        let last = group.iter().max_by_key(|span| span.to);
        first.into_iter().chain(last).collect()
    };
    let named: Vec<&Span<'_, '_>> = crossing.map_or_else(ends, |pair| pair.to_vec());
    let operations = named.into_iter().flat_map(|span| span.life.ends());
    Conflict::new(rule, operations)
}
