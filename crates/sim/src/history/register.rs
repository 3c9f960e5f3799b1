//! The monitor for single variables: a store replaces the value, a take removes it.
//!
//! The operations on one value follow each other without another's between them. So each value
//! has a zone (Gibbons and Korach, "Testing shared memories", SIAM J. Comput. 1997): if two of its
//! operations follow each other in time, the span from its first end to its last beginning, in
//! which no other value can be; else the span in which all its operations can be at one moment.
//! Zones of the first kind must not overlap; for the others moments are chosen.
//!
//! "Nothing there" needs more: the last value before it must have been taken, not just be waiting
//! to be replaced. The moments are chosen in the order of time, as late as possible:
//! - A value that was taken makes the variable empty. It is placed when a "nothing there" cannot
//!   wait longer, the one first whose own time ends first; or when its own time ends.
//! - A value that was not taken fills the variable. It does no harm just before another value, nor
//!   while the variable is full; else it is placed when its time ends.
//!
//! Placing later never takes a choice away, so if this fails nothing succeeds. A take whose
//! outcome is unknown can make the variable empty at any moment after it began.
//!
//! # What it cannot see
//! A cancelled take may put its value back, even one that was replaced meanwhile. After the first
//! one has begun, only what holds in every mode is checked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::lane::{LATER, Lane, Life, NEVER, up_to};
use super::{Conflict, Operation, Rule};

pub(super) fn check(lane: &Lane<'_>) -> Result<(), Box<Conflict>> {
    let until_cancelled = lane.cancelled.from.first().map(|end| lane.until(*end));
    let lane = until_cancelled.as_ref().unwrap_or(lane);
    let zones = zones(&lane.lives)?;
    Schedule::new(lane, &zones)?.run()
}

/// Spans that belong to one value each, by their beginnings.
type Zones<'l, 'h> = BTreeMap<u64, &'l Life<'h>>;

fn zones<'l, 'h>(lives: &'l [Life<'h>]) -> Result<Zones<'l, 'h>, Box<Conflict>> {
    let mut zones = Zones::new();
    for life in lives.iter().filter(|life| life.by < life.seen) {
        if let Some(other) = zones.insert(life.by, life) {
            return Err(two_heads(other, life));
        }
    }
    for (head, other) in zones.values().zip(zones.values().skip(1)) {
        if other.by < head.seen {
            return Err(two_heads(head, other));
        }
    }
    Ok(zones)
}

fn two_heads(head: &Life<'_>, other: &Life<'_>) -> Box<Conflict> {
    let rule = Rule::TwoHeads {
        head: head.value,
        other: other.value,
    };
    Conflict::new(rule, head.ends().chain(other.ends()))
}

/// What is placed.
#[derive(Clone, Copy)]
enum Item<'l, 'h> {
    Zone(&'l Life<'h>),
    Taken(&'l Life<'h>),
    Left(&'l Life<'h>),
    Empty(&'h Operation),
}

/// What happens as time goes on; at the same time in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    ZoneEnds,
    Begins,
    TakenDue,
    EmptyDue,
    LeftDue,
}

struct Schedule<'l, 'h> {
    items: Vec<Item<'l, 'h>>,
    placed: Vec<bool>,
    /// When, what, which item.
    turns: Vec<(u64, Turn, usize)>,
    unknown: &'l [u64],
    unknown_used: usize,
    /// The value there; `None` when the variable is empty.
    full: Option<&'l Life<'h>>,
    /// Items whose time has begun: taken ones by the end of their time, and the others.
    taken: BinaryHeap<Reverse<(u64, usize)>>,
    left: Vec<usize>,
    empties: Vec<usize>,
}

impl<'l, 'h> Schedule<'l, 'h> {
    fn new(lane: &'l Lane<'h>, zones: &Zones<'l, 'h>) -> Result<Self, Box<Conflict>> {
        let mut items = Vec::new();
        let mut turns = Vec::new();
        let within = |at: u64| {
            let (_, zone) = zones.range(..at).next_back()?;
            (at < zone.seen).then_some(*zone)
        };
        for zone in zones.values() {
            turns.push((zone.seen, Turn::ZoneEnds, items.len()));
            items.push(Item::Zone(zone));
        }
        let others = lane.lives.iter().filter(|life| life.by >= life.seen);
        let others = others.map(|life| match life.take {
            Some(_) => (life.seen, life.by, Item::Taken(life)),
            None => (life.seen, life.by, Item::Left(life)),
        });
        let empties = lane.empties.iter().map(|empty| {
            let to = empty.to_us.unwrap_or(LATER);
            (empty.from_us, to, Item::Empty(empty))
        });
        for (from, to, item) in others.chain(empties) {
            let begin = within(from).map_or(from, |zone| zone.seen);
            let due = within(to).map_or(to, |zone| zone.by);
            if due < begin {
                return Err(match (within(from), item) {
                    (Some(zone), Item::Empty(empty)) => occupied(empty, Some(zone)),
                    (Some(zone), Item::Taken(life) | Item::Left(life)) => two_heads(zone, life),
                    (_, Item::Empty(empty)) => occupied(empty, None),
                    (_, Item::Zone(life) | Item::Taken(life) | Item::Left(life)) => {
                        two_heads(life, life)
                    }
                });
            }
            let at_end = match item {
                Item::Taken(_) => Turn::TakenDue,
                Item::Left(_) => Turn::LeftDue,
                Item::Empty(_) | Item::Zone(_) => Turn::EmptyDue,
            };
            turns.push((begin, Turn::Begins, items.len()));
            turns.push((due, at_end, items.len()));
            items.push(item);
        }
        turns.sort_unstable();
        Ok(Self {
            placed: vec![false; items.len()],
            items,
            turns,
            unknown: &lane.unknown,
            unknown_used: 0,
            full: None,
            taken: BinaryHeap::new(),
            left: Vec::new(),
            empties: Vec::new(),
        })
    }

    fn run(mut self) -> Result<(), Box<Conflict>> {
        // Where each taken item's time ends, for the heap.
        let mut due = vec![NEVER; self.items.len()];
        for (at, turn, n) in &self.turns {
            if let (Turn::TakenDue, Some(due)) = (turn, due.get_mut(*n)) {
                *due = *at;
            }
        }
        for (at, turn, n) in std::mem::take(&mut self.turns) {
            let Some(item) = self.items.get(n).copied() else {
                continue;
            };
            match (turn, item) {
                (_, Item::Zone(life)) if life.take.is_some() => self.clear(),
                (_, Item::Zone(life)) => self.fill(life),
                (Turn::Begins, Item::Taken(_)) => {
                    let due = due.get(n).copied().unwrap_or(NEVER);
                    self.taken.push(Reverse((due, n)));
                }
                (Turn::Begins, Item::Left(_)) => {
                    self.left.push(n);
                    if self.full.is_some() {
                        self.replace();
                    }
                }
                (Turn::Begins, Item::Empty(_)) => match self.full {
                    Some(_) => self.empties.push(n),
                    None => self.place(n),
                },
                _ if self.is_placed(n) => {}
                (_, Item::Taken(_)) => {
                    self.place(n);
                    self.clear();
                }
                (_, Item::Left(life)) => self.fill(life),
                (_, Item::Empty(empty)) => {
                    if !self.make_empty(at) {
                        return Err(occupied(empty, self.full));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_placed(&self, n: usize) -> bool {
        self.placed.get(n).copied().unwrap_or(true)
    }

    fn place(&mut self, n: usize) {
        if let Some(placed) = self.placed.get_mut(n) {
            *placed = true;
        }
    }

    /// Another value follows: those left can have come just before it.
    fn replace(&mut self) {
        for n in std::mem::take(&mut self.left) {
            self.place(n);
        }
    }

    fn fill(&mut self, life: &'l Life<'h>) {
        self.replace();
        self.full = Some(life);
    }

    fn clear(&mut self) {
        self.replace();
        self.full = None;
        for n in std::mem::take(&mut self.empties) {
            self.place(n);
        }
    }

    /// Uses a value that was taken, or a take without an outcome.
    fn make_empty(&mut self, at: u64) -> bool {
        while let Some(Reverse((_, n))) = self.taken.pop() {
            if !self.is_placed(n) {
                self.place(n);
                self.clear();
                return true;
            }
        }
        if self.unknown_used < up_to(self.unknown, at) {
            self.unknown_used += 1;
            self.clear();
            return true;
        }
        false
    }
}

fn occupied(empty: &Operation, by: Option<&Life<'_>>) -> Box<Conflict> {
    let shown = by.into_iter().flat_map(Life::ends);
    Conflict::new(Rule::NotEmpty, std::iter::once(empty).chain(shown))
}
