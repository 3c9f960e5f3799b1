//! The order in which CLIPS holds what has matched.
//!
//! When one change lets several rules match at once, they come onto the agenda in the order in
//! which the join network holds their partial matches; and that is the order in which these once
//! came to be. Asserting the facts again makes the same partial matches, not always in the same
//! order: a match that a `not` withheld for a while came later than its facts tell. So each list
//! of the network is written down where it is in no order that can be told from its members, and
//! put into that order again.
//!
//! A partial match is named by its place among all, sorted by memory and by the time tags of what
//! it consists of: two networks of the same rules over the same facts name them the same.

mod network;

use std::collections::{BTreeMap, BTreeSet};

use clips_sys as c;
use serde::{Deserialize, Serialize};

use super::super::Env;
use crate::engine::Kind;
use network::{
    Network, blocked, children, collect, dependents, descends, link_children, patterns, tag_of,
};

/// Partial matches beyond which no order is written down: it would take longer than it is worth.
const MATCHES_MAX: usize = 1 << 20;

type Match = *mut c::partialMatch;

/// The order of an engine's partial matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// How many there are.
    matches: u32,
    /// Memories that are not in the order of their kind, by their number.
    memories: Vec<(u32, Vec<u32>)>,
    /// What came of a match, where that is not in the usual order.
    children: Vec<(u32, Vec<u32>)>,
    /// What each match keeps from holding, or makes hold.
    blocked: Vec<(u32, Vec<u32>)>,
    /// Time tags of what depends on a match, where they are more than one.
    dependents: Vec<(u32, Vec<u64>)>,
    /// Patterns that an instance matches, where they are more than one, by its time tag.
    patterns: Vec<(u64, Vec<u32>)>,
}

impl Env {
    /// Writes the order down.
    pub(super) fn order(&mut self) -> Order {
        // SAFETY: nothing runs while the network is looked at.
        unsafe {
            match self.network() {
                Some(network) => network.order(),
                None => Order::default(),
            }
        }
    }

    /// Puts everything into that order, as far as it fits: numbers that make no sense change
    /// nothing.
    pub(super) fn give_order(&mut self, order: &Order) {
        // SAFETY: nothing runs meanwhile; lists are only permuted, and blocked matches stay within
        // their join.
        unsafe {
            let Some(network) = self.network() else {
                return;
            };
            if network.matches.len() == order.matches as usize {
                network.put(order);
            }
        }
    }

    /// `None` when there are too many matches.
    unsafe fn network(&mut self) -> Option<Network> {
        let mut joins = Vec::new();
        let mut seen = BTreeSet::new();
        for (module, name) in self.constructs(Kind::Rule) {
            let Ok(found) = self.find(Kind::Rule, &format!("{module}::{name}")) else {
                continue;
            };
            let mut rule: *mut c::Defrule = found.cast();
            // SAFETY: rules and their joins stay while nothing is loaded or removed.
            unsafe {
                while !rule.is_null() {
                    collect((*rule).lastJoin, &mut joins, &mut seen);
                    rule = (*rule).disjunct;
                }
            }
        }
        // SAFETY: as the caller promises.
        unsafe { Network::of(&joins) }
    }
}

impl Network {
    unsafe fn order(&self) -> Order {
        let mut order = Order {
            matches: self.matches.len() as u32,
            ..Order::default()
        };
        for (number, (memory, held)) in self.memories.iter().zip(&self.held).enumerate() {
            let lists = self.names_of(held);
            if !lists.iter().all(|names| memory.is_usual(names)) {
                order.memories.push((number as u32, lists.concat()));
            }
        }
        for (name, one) in self.matches.iter().enumerate() {
            let name = name as u32;
            // SAFETY: matches, and what their lists hold, are live.
            unsafe {
                let children = self.names(&children(*one));
                if !descends(&children) {
                    order.children.push((name, children));
                }
                let blocked = self.names(&blocked(*one));
                if !blocked.is_empty() {
                    order.blocked.push((name, blocked));
                }
                let dependents = dependents(*one);
                let dependents: Vec<u64> = dependents
                    .iter()
                    .map(|link| tag_of((**link).dPtr.cast()))
                    .collect();
                if dependents.len() > 1 {
                    order.dependents.push((name, dependents));
                }
            }
        }
        // SAFETY: as above.
        for (tag, instance) in unsafe { self.instances() } {
            // SAFETY: as above.
            let names = unsafe { self.pattern_names(&patterns(instance)) };
            if names.len() > 1 {
                order.patterns.push((tag, names));
            }
        }
        order
    }

    unsafe fn put(&self, order: &Order) {
        let told: BTreeMap<u32, &Vec<u32>> = lists(&order.memories);
        for (number, (memory, held)) in self.memories.iter().zip(&self.held).enumerate() {
            let names = self.names_of(held).concat();
            let wanted = match told.get(&(number as u32)) {
                Some(wanted) if same(wanted, &names) => (*wanted).clone(),
                _ => memory.usual(&names),
            };
            let places = places(&wanted);
            // SAFETY: each list is permuted.
            unsafe {
                memory.rearrange(|list| list.sort_by_key(|one| self.place(&places, *one)));
            }
        }
        let told = lists(&order.children);
        for (name, one) in self.matches.iter().enumerate() {
            // SAFETY: the list is permuted.
            unsafe {
                let mut list = children(*one);
                if list.len() < 2 {
                    continue;
                }
                let mut names = self.names(&list);
                let wanted = match told.get(&(name as u32)) {
                    Some(wanted) if same(wanted, &names) => (*wanted).clone(),
                    _ => {
                        names.sort_unstable_by(|a, b| b.cmp(a));
                        names
                    }
                };
                let places = places(&wanted);
                list.sort_by_key(|one| self.place(&places, *one));
                link_children(*one, &list);
            }
        }
        // SAFETY: as the caller promises.
        unsafe {
            self.put_blocked(order);
            self.put_dependents(order);
            self.put_patterns(order);
        }
    }

    fn place(&self, places: &BTreeMap<u32, usize>, one: Match) -> usize {
        let name = self.names.get(&(one as usize));
        let place = name.and_then(|name| places.get(name));
        place.copied().unwrap_or(usize::MAX)
    }

    /// Which match blocks which: only among those that are blocked, and by one that their join
    /// compares them with.
    unsafe fn put_blocked(&self, order: &Order) {
        // SAFETY: links are taken off and put on again for the same matches.
        unsafe {
            let mut before = BTreeSet::new();
            for one in &self.matches {
                before.extend(self.names(&blocked(*one)));
            }
            let mut after = BTreeSet::new();
            for (by, names) in &order.blocked {
                for name in names {
                    let memories = self.memory_of.get(*name as usize);
                    let right = memories.and_then(|left| self.opposite.get(left));
                    let fits = right.is_some() && right == self.memory_of.get(*by as usize);
                    if !fits || !after.insert(*name) {
                        return;
                    }
                }
            }
            let once: BTreeSet<u32> = order.blocked.iter().map(|(by, _)| *by).collect();
            if before != after || once.len() != order.blocked.len() {
                return;
            }
            for one in &self.matches {
                (**one).blockList = std::ptr::null_mut();
            }
            for (by, names) in &order.blocked {
                let named = |name: &u32| self.matches.get(*name as usize).copied();
                let list: Vec<Match> = names.iter().filter_map(named).collect();
                let (Some(by), Some(first)) = (named(by), list.first()) else {
                    continue;
                };
                for (i, one) in list.iter().enumerate() {
                    (**one).marker = by.cast();
                    (**one).prevBlocked = before_it(&list, i);
                    (**one).nextBlocked = after_it(&list, i);
                }
                (*by).blockList = *first;
            }
        }
    }

    unsafe fn put_dependents(&self, order: &Order) {
        for (name, wanted) in &order.dependents {
            let Some(one) = self.matches.get(*name as usize) else {
                continue;
            };
            // SAFETY: the list is permuted.
            unsafe {
                let list = dependents(*one);
                // An entity may be there more than once: each takes the next of its places.
                let mut free: Vec<_> = wanted.iter().map(Some).collect();
                let mut placed = Vec::new();
                for link in list {
                    let tag = tag_of((*link).dPtr.cast());
                    let place = free.iter().position(|free| *free == Some(&tag));
                    if let Some(taken) = place.and_then(|place| free.get_mut(place)) {
                        *taken = None;
                    }
                    placed.push((place.unwrap_or(usize::MAX), link));
                }
                placed.sort_by_key(|(place, _)| *place);
                let list: Vec<_> = placed.into_iter().map(|(_, link)| link).collect();
                for (i, link) in list.iter().enumerate() {
                    (**link).next = list.get(i + 1).copied().unwrap_or(std::ptr::null_mut());
                }
                if let Some(first) = list.first() {
                    (**one).dependents = first.cast();
                }
            }
        }
    }

    unsafe fn put_patterns(&self, order: &Order) {
        // SAFETY: as for the others.
        unsafe {
            let instances = self.instances();
            for (tag, wanted) in &order.patterns {
                let Some(instance) = instances.get(tag).copied() else {
                    continue;
                };
                let mut list = patterns(instance);
                let places = places(wanted);
                list.sort_by_key(|link| self.place(&places, (**link).theMatch));
                for (i, link) in list.iter().enumerate() {
                    (**link).next = list.get(i + 1).copied().unwrap_or(std::ptr::null_mut());
                }
                if let Some(first) = list.first() {
                    (*instance).partialMatchList = first.cast();
                }
            }
        }
    }
}

/// Lists by what they belong to.
fn lists(lists: &[(u32, Vec<u32>)]) -> BTreeMap<u32, &Vec<u32>> {
    lists.iter().map(|(of, list)| (*of, list)).collect()
}

/// Where each name is in a list.
fn places(list: &[u32]) -> BTreeMap<u32, usize> {
    list.iter()
        .enumerate()
        .map(|(i, name)| (*name, i))
        .collect()
}

/// Whether two lists have the same members, each once.
fn same(a: &[u32], b: &[u32]) -> bool {
    let set = |list: &[u32]| list.iter().copied().collect::<BTreeSet<u32>>();
    a.len() == b.len() && set(a) == set(b) && set(a).len() == a.len()
}

fn before_it(list: &[Match], i: usize) -> Match {
    let before = i.checked_sub(1).and_then(|i| list.get(i));
    before.copied().unwrap_or(std::ptr::null_mut())
}

fn after_it(list: &[Match], i: usize) -> Match {
    list.get(i + 1).copied().unwrap_or(std::ptr::null_mut())
}
