//! The operations of one variable, gathered by value.
//!
//! A value lives from its store to its take. Four times bound that life, whatever the variable's
//! mode: [`Life::from`], [`Life::by`], [`Life::seen`] and [`Life::gone`]. Checked here is what
//! holds in every mode: each value seen was stored before, taken once, and not found after.

use std::collections::BTreeMap;

use super::{Conflict, Did, Operation, Rule, Stored, Taken};

/// The end of an operation that has none: after everything that has an end.
pub(super) const LATER: u64 = u64::MAX - 1;

/// The time of what does not happen.
pub(super) const NEVER: u64 = u64::MAX;

/// A value's life.
#[derive(Clone, Debug)]
pub(super) struct Life<'h> {
    pub(super) value: i64,
    pub(super) store: &'h Operation,
    pub(super) take: Option<&'h Operation>,
    pub(super) finds: Vec<&'h Operation>,
    /// Not there before: its store began.
    pub(super) from: u64,
    /// Stored by then at the latest: its store, or something that saw it, had ended.
    pub(super) by: u64,
    /// The earliest end of something that saw it, its take included; [`NEVER`] when nothing did.
    pub(super) first: u64,
    /// When that began.
    pub(super) first_from: u64,
    /// The latest beginning of something that saw it, its take included, or else [`Life::from`].
    pub(super) seen: u64,
    /// Taken by then at the latest; [`NEVER`] when nobody is known to have taken it.
    pub(super) gone: u64,
}

impl<'h> Life<'h> {
    fn new(value: i64, store: &'h Operation) -> Self {
        let to = store.to_us.filter(|_| {
            !matches!(
                store.did,
                Did::Store {
                    outcome: Stored::Unknown,
                    ..
                }
            )
        });
        Self {
            value,
            store,
            take: None,
            finds: Vec::new(),
            from: store.from_us,
            by: to.unwrap_or(LATER),
            first: NEVER,
            first_from: NEVER,
            seen: store.from_us,
            gone: NEVER,
        }
    }

    fn saw(&mut self, operation: &'h Operation) {
        let to = operation.to_us.unwrap_or(LATER);
        self.by = self.by.min(to);
        if to < self.first {
            self.first = to;
            self.first_from = operation.from_us;
        }
        self.seen = self.seen.max(operation.from_us);
        if matches!(operation.did, Did::Take(_)) {
            self.take = Some(operation);
            self.gone = to;
        } else {
            self.finds.push(operation);
        }
    }

    /// Certainly there from [`Life::by`] until then, both excluded.
    pub(super) fn last(&self) -> u64 {
        if self.take.is_some() {
            self.seen
        } else {
            NEVER
        }
    }

    /// Operations that saw it: take and finds.
    pub(super) fn sights(&self) -> impl Iterator<Item = &'h Operation> {
        self.take.into_iter().chain(self.finds.iter().copied())
    }

    /// The operations that bound its life: the first to end and the last to begin.
    pub(super) fn ends(&self) -> impl Iterator<Item = &'h Operation> {
        let all = || std::iter::once(self.store).chain(self.sights());
        let first = all().min_by_key(|operation| operation.to_us.unwrap_or(LATER));
        let last = all().max_by_key(|operation| operation.from_us);
        let last = last.filter(|last| first.is_none_or(|first| !std::ptr::eq(first, *last)));
        first.into_iter().chain(last)
    }
}

/// One variable's part of a history.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane<'h> {
    /// Values that certainly were stored.
    pub(super) lives: Vec<Life<'h>>,
    /// Takes and finds that were told "nothing there".
    pub(super) empties: Vec<&'h Operation>,
    /// Beginnings of the takes that may have taken a value for good, sorted.
    pub(super) unknown: Vec<u64>,
    /// The takes that may have taken a value and put it back.
    pub(super) cancelled: Cancelled,
}

/// Takes that may have taken a value and put it back.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancelled {
    /// Their beginnings, sorted.
    pub(super) from: Vec<u64>,
    /// When those that certainly put it back had done so, sorted.
    to: Vec<u64>,
    /// Beginnings of the others, sorted.
    open: Vec<u64>,
}

impl Cancelled {
    fn add(&mut self, operation: &Operation) {
        self.from.push(operation.from_us);
        match operation.to_us {
            Some(to) => self.to.push(to),
            None => self.open.push(operation.from_us),
        }
    }

    fn extend(&mut self, other: &Self) {
        self.from.extend(&other.from);
        self.to.extend(&other.to);
        self.open.extend(&other.open);
        for times in [&mut self.from, &mut self.to, &mut self.open] {
            times.sort_unstable();
        }
    }
}

impl<'h> Lane<'h> {
    /// What is certain of it before a moment: what has ended; what has begun may happen later.
    pub(super) fn until(&self, end: u64) -> Self {
        let mut lane = Self {
            empties: self.empties.clone(),
            unknown: self.unknown.clone(),
            ..Self::default()
        };
        let ended = |operation: &Operation| operation.to_us.is_some_and(|to| to < end);
        lane.empties.retain(|empty| ended(empty));
        for life in self.lives.iter().filter(|life| life.from <= end) {
            let mut shorter = Life::new(life.value, life.store);
            if shorter.by >= end {
                shorter.by = LATER;
            }
            for find in life.finds.iter().filter(|find| ended(find)) {
                shorter.saw(find);
            }
            match life.take {
                Some(take) if ended(take) => shorter.saw(take),
                Some(take) if take.from_us <= end => lane.unknown.push(take.from_us),
                _ => {}
            }
            if shorter.by != LATER {
                lane.lives.push(shorter);
            }
        }
        lane.unknown.sort_unstable();
        lane
    }

    /// How many values can be away at a time and come back later: at most, at any moment of it.
    pub(super) fn hidden(&self, from: u64, to: u64) -> usize {
        let begun = up_to(&self.cancelled.from, to);
        begun - before(&self.cancelled.to, from).min(begun)
    }

    /// How many values can be away at a time, for ever or not.
    pub(super) fn away(&self, from: u64, to: u64) -> usize {
        up_to(&self.unknown, to) + self.hidden(from, to)
    }

    /// When the first take began that may have taken a value for good.
    pub(super) fn first_away(&self) -> Option<u64> {
        let firsts = self.unknown.first().into_iter();
        firsts.chain(self.cancelled.open.first()).min().copied()
    }
}

/// How many of the sorted times are not after `at`.
pub(super) fn up_to(sorted: &[u64], at: u64) -> usize {
    sorted.partition_point(|time| *time <= at)
}

/// How many of the sorted times are before `at`.
pub(super) fn before(sorted: &[u64], at: u64) -> usize {
    sorted.partition_point(|time| *time < at)
}

/// Gathers the operations by variable and value.
pub(super) fn lanes(operations: &[Operation]) -> Result<BTreeMap<&str, Lane<'_>>, Box<Conflict>> {
    let mut lives: BTreeMap<i64, Life<'_>> = BTreeMap::new();
    for operation in operations {
        if let Did::Store { value, .. } = operation.did
            && let Some(other) = lives.insert(value, Life::new(value, operation))
        {
            let rule = Rule::StoredTwice(value);
            return Err(Conflict::new(rule, [other.store, operation]));
        }
    }
    let mut lanes: BTreeMap<&str, Lane<'_>> = BTreeMap::new();
    let mut anywhere = Lane::default();
    for operation in operations {
        let lane = match operation.variable.as_deref() {
            Some(name) => lanes.entry(name).or_default(),
            None => &mut anywhere,
        };
        match operation.did {
            Did::Take(Taken::Value(value)) | Did::Find(Some(value)) => {
                let life = stored(&mut lives, value, operation)?;
                if let Some(other) = life.take
                    && matches!(operation.did, Did::Take(_))
                {
                    let rule = Rule::TakenTwice(value);
                    return Err(Conflict::new(rule, [life.store, other, operation]));
                }
                life.saw(operation);
            }
            Did::LocalFind(Some(value)) => {
                stored(&mut lives, value, operation)?;
            }
            Did::Take(Taken::Empty) | Did::Find(None) => lane.empties.push(operation),
            Did::Take(Taken::Unknown) => lane.unknown.push(operation.from_us),
            Did::Take(Taken::Cancelled) => lane.cancelled.add(operation),
            Did::Store { .. } | Did::Take(Taken::Unavailable) | Did::LocalFind(None) => {}
        }
    }
    for life in lives.into_values() {
        if let Some(take) = life.take
            && let Some(find) = life.finds.iter().find(|find| find.from_us > life.gone)
        {
            let rule = Rule::TooLate(life.value);
            return Err(Conflict::new(rule, [life.store, take, find]));
        }
        // A store that may not have happened and was never seen: that it did not is the reading
        // that contradicts least.
        if life.by != LATER
            && let Some(name) = life.store.variable.as_deref()
        {
            lanes.entry(name).or_default().lives.push(life);
        }
    }
    for lane in lanes.values_mut() {
        lane.unknown.extend(&anywhere.unknown);
        lane.unknown.sort_unstable();
        lane.cancelled.extend(&anywhere.cancelled);
    }
    Ok(lanes)
}

/// The life of a value that was seen, if it was stored where it was seen, and not after.
fn stored<'l, 'h>(
    lives: &'l mut BTreeMap<i64, Life<'h>>,
    value: i64,
    operation: &'h Operation,
) -> Result<&'l mut Life<'h>, Box<Conflict>> {
    let nowhere = || Conflict::new(Rule::FromNowhere(value), [operation]);
    let life = lives.get_mut(&value).ok_or_else(nowhere)?;
    if operation.to_us.is_some_and(|to| to < life.from) {
        let rule = Rule::TooEarly(value);
        return Err(Conflict::new(rule, [life.store, operation]));
    }
    if operation.variable.is_some() && operation.variable != life.store.variable {
        let rule = Rule::FromNowhere(value);
        return Err(Conflict::new(rule, [life.store, operation]));
    }
    Ok(life)
}
