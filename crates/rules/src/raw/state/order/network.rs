//! The join network as it stands: every memory, every partial match, and their lists.

use std::collections::{BTreeMap, BTreeSet};

use clips_sys as c;

use super::{MATCHES_MAX, Match};

type Join = *mut c::joinNode;

/// What a partial match consists of: for each pattern the entity's time tag and where its
/// multifields lie.
type Name = Vec<(u64, Vec<(usize, usize)>)>;

/// A place where partial matches are held.
pub(super) enum Memory {
    /// Of a pattern: the lists of its hash values.
    Alpha(*mut c::patternNodeHeader),
    /// Of a join: the lists of its buckets.
    Beta(*mut c::betaMemory, Side),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Left,
    Right,
}

/// The whole network, with all partial matches named.
pub(super) struct Network {
    pub(super) memories: Vec<Memory>,
    /// The lists of each memory, as they are held: matches that are ever compared with the same.
    pub(super) held: Vec<Vec<Vec<Match>>>,
    /// By their names.
    pub(super) matches: Vec<Match>,
    pub(super) names: BTreeMap<usize, u32>,
    /// The memory of each, by the same names.
    pub(super) memory_of: Vec<u32>,
    /// For each left memory of a join, by number: the memory on its right.
    pub(super) opposite: BTreeMap<u32, u32>,
}

/// All joins above one, itself included, in an order that the rules alone decide.
pub(super) unsafe fn collect(last: Join, joins: &mut Vec<Join>, seen: &mut BTreeSet<usize>) {
    let mut waiting = vec![last];
    while let Some(join) = waiting.pop() {
        if join.is_null() || !seen.insert(join as usize) {
            continue;
        }
        joins.push(join);
        // SAFETY: joins are live.
        unsafe {
            waiting.push((*join).lastLevel);
            if (*join).joinFromTheRight() != 0 {
                waiting.push((*join).rightSideEntryStructure.cast());
            }
        }
    }
}

impl Network {
    pub(super) unsafe fn of(joins: &[Join]) -> Option<Self> {
        let mut this = Self {
            memories: Vec::new(),
            held: Vec::new(),
            matches: Vec::new(),
            names: BTreeMap::new(),
            memory_of: Vec::new(),
            opposite: BTreeMap::new(),
        };
        let mut patterns = BTreeMap::new();
        let mut found = 0;
        for join in joins {
            // SAFETY: joins, their memories and patterns are live.
            unsafe {
                let mut right = None;
                let pattern = (**join).rightSideEntryStructure;
                if (**join).joinFromTheRight() == 0 && !pattern.is_null() {
                    let next = this.memories.len() as u32;
                    let number = *patterns.entry(pattern as usize).or_insert(next);
                    if number == next {
                        this.add(Memory::Alpha(pattern.cast()), &mut found);
                    }
                    right = Some(number);
                }
                if !(**join).rightMemory.is_null() {
                    right = right.or(Some(this.memories.len() as u32));
                    this.add(Memory::Beta((**join).rightMemory, Side::Right), &mut found);
                }
                if !(**join).leftMemory.is_null() {
                    if let Some(right) = right {
                        this.opposite.insert(this.memories.len() as u32, right);
                    }
                    this.add(Memory::Beta((**join).leftMemory, Side::Left), &mut found);
                }
            }
            if found > MATCHES_MAX {
                return None;
            }
        }
        for (memory, held) in this.held.iter().enumerate() {
            // SAFETY: all matches are live.
            let named = held
                .iter()
                .flatten()
                .map(|held| (unsafe { name(*held) }, *held));
            let mut named: Vec<_> = named.collect();
            named.sort_by(|a, b| a.0.cmp(&b.0));
            for (_, held) in named {
                this.names.insert(held as usize, this.matches.len() as u32);
                this.matches.push(held);
                this.memory_of.push(memory as u32);
            }
        }
        Some(this)
    }

    unsafe fn add(&mut self, memory: Memory, found: &mut usize) {
        let mut held = Vec::new();
        // SAFETY: as the caller promises.
        unsafe { memory.each_list(|list| held.push(list.to_vec())) };
        *found += held.iter().map(Vec::len).sum::<usize>();
        self.memories.push(memory);
        self.held.push(held);
    }

    pub(super) fn names(&self, matches: &[Match]) -> Vec<u32> {
        let name = |one: &Match| self.names.get(&(*one as usize)).copied();
        matches.iter().filter_map(name).collect()
    }

    /// Instances that match some pattern, by their time tags.
    pub(super) unsafe fn instances(&self) -> BTreeMap<u64, *mut c::Instance> {
        let mut found = BTreeMap::new();
        for (memory, held) in self.memories.iter().zip(&self.held) {
            let Memory::Alpha(_) = memory else { continue };
            for one in held.iter().flatten() {
                // SAFETY: matches of patterns have one entity each; those of instances are known
                // by their information.
                unsafe {
                    let alpha = (**one).binds[0].gm.theMatch;
                    let entity = (*alpha).matchingItem;
                    if !entity.is_null() && is_instance(entity) {
                        found.insert((*entity).timeTag, entity.cast());
                    }
                }
            }
        }
        found
    }

    /// The names in a memory's lists, these in an order that their members tell.
    pub(super) fn names_of(&self, lists: &[Vec<Match>]) -> Vec<Vec<u32>> {
        let mut names: Vec<_> = lists.iter().map(|list| self.names(list)).collect();
        names.sort_by_key(|list| list.iter().min().copied());
        names
    }

    pub(super) unsafe fn pattern_names(&self, links: &[*mut c::patternMatch]) -> Vec<u32> {
        // SAFETY: as the caller promises.
        let matches = links.iter().map(|link| unsafe { (**link).theMatch });
        self.names(&matches.collect::<Vec<_>>())
    }
}

impl Memory {
    /// Shows each of its lists.
    unsafe fn each_list(&self, mut see: impl FnMut(&[Match])) {
        // SAFETY: the memory and what it holds are live.
        unsafe {
            match self {
                Self::Alpha(pattern) => {
                    let mut lists = (**pattern).firstHash;
                    while !lists.is_null() {
                        see(&chain((*lists).alphaMemory));
                        lists = (*lists).nextHash;
                    }
                }
                Self::Beta(memory, _) => {
                    for bucket in 0..(**memory).size as usize {
                        // Which hash values share a bucket depends on how large it once was.
                        let mut lists: BTreeMap<u64, Vec<Match>> = BTreeMap::new();
                        for one in chain(*(**memory).beta.add(bucket)) {
                            lists.entry((*one).hashValue).or_default().push(one);
                        }
                        lists.values().for_each(|list| see(list));
                    }
                }
            }
        }
    }

    /// Puts each of its lists into another order.
    pub(super) unsafe fn rearrange(&self, order: impl Fn(&mut Vec<Match>)) {
        // SAFETY: as above; lists keep their members.
        unsafe {
            match self {
                Self::Alpha(pattern) => {
                    let mut lists = (**pattern).firstHash;
                    while !lists.is_null() {
                        let (first, last) = link(&(*lists).alphaMemory, &order);
                        (*lists).alphaMemory = first;
                        (*lists).endOfQueue = last;
                        lists = (*lists).nextHash;
                    }
                }
                Self::Beta(memory, side) => {
                    for bucket in 0..(**memory).size as usize {
                        let head = (**memory).beta.add(bucket);
                        let (first, last) = link(&*head, &order);
                        *head = first;
                        // New matches are put in front on the left, and behind on the right.
                        if *side == Side::Right {
                            *(**memory).last.add(bucket) = last;
                        }
                    }
                }
            }
        }
    }

    /// The order in which matches come when nothing was withheld: the newest first on the left.
    pub(super) fn usual(&self, names: &[u32]) -> Vec<u32> {
        let mut names = names.to_vec();
        names.sort_unstable();
        if matches!(self, Self::Beta(_, Side::Left)) {
            names.reverse();
        }
        names
    }

    pub(super) fn is_usual(&self, names: &[u32]) -> bool {
        match self {
            Self::Beta(_, Side::Left) => descends(names),
            _ => names.is_sorted(),
        }
    }
}

/// A list of a memory in another order: its first and its last.
unsafe fn link(first: &Match, order: impl Fn(&mut Vec<Match>)) -> (Match, Match) {
    // SAFETY: the list keeps its members.
    unsafe {
        let mut list = chain(*first);
        order(&mut list);
        for (i, one) in list.iter().enumerate() {
            (**one).prevInMemory = super::before_it(&list, i);
            (**one).nextInMemory = super::after_it(&list, i);
        }
        let end = |one: Option<&Match>| one.copied().unwrap_or(std::ptr::null_mut());
        (end(list.first()), end(list.last()))
    }
}

pub(super) fn descends(names: &[u32]) -> bool {
    names.is_sorted_by(|a, b| a > b)
}

unsafe fn chain(first: Match) -> Vec<Match> {
    // SAFETY: the list is of live matches.
    unsafe { walk(first, |one| (*one).nextInMemory) }
}

unsafe fn walk<T>(first: *mut T, next: impl Fn(*mut T) -> *mut T) -> Vec<*mut T> {
    let mut list = Vec::new();
    let mut one = first;
    while !one.is_null() {
        list.push(one);
        one = next(one);
    }
    list
}

/// Whether what came of a match hangs on its right side: so it is for a pattern's, and for those
/// that enter a join from the right.
unsafe fn on_the_right(one: Match) -> bool {
    // SAFETY: the match is live.
    unsafe { (*one).betaMemory() == 0 || (*one).rhsMemory() != 0 }
}

/// What came of a match.
pub(super) unsafe fn children(one: Match) -> Vec<Match> {
    // SAFETY: the lists are of live matches.
    unsafe {
        if on_the_right(one) {
            walk((*one).children, |child| (*child).nextRightChild)
        } else {
            walk((*one).children, |child| (*child).nextLeftChild)
        }
    }
}

/// Puts them into another order.
pub(super) unsafe fn link_children(one: Match, list: &[Match]) {
    // SAFETY: `list` has the same members.
    unsafe {
        for (i, child) in list.iter().enumerate() {
            let (before, after) = (super::before_it(list, i), super::after_it(list, i));
            if on_the_right(one) {
                ((**child).prevRightChild, (**child).nextRightChild) = (before, after);
            } else {
                ((**child).prevLeftChild, (**child).nextLeftChild) = (before, after);
            }
        }
        if let Some(first) = list.first() {
            (*one).children = *first;
        }
    }
}

/// What a match blocks.
pub(super) unsafe fn blocked(one: Match) -> Vec<Match> {
    // SAFETY: as above.
    unsafe { walk((*one).blockList, |blocked| (*blocked).nextBlocked) }
}

/// What depends on a match logically.
pub(super) unsafe fn dependents(one: Match) -> Vec<*mut c::dependency> {
    // SAFETY: as above.
    unsafe {
        walk((*one).dependents.cast(), |link: *mut c::dependency| {
            (*link).next
        })
    }
}

/// The patterns that an instance matches.
pub(super) unsafe fn patterns(instance: *mut c::Instance) -> Vec<*mut c::patternMatch> {
    // SAFETY: as above.
    unsafe {
        let first = (*instance).partialMatchList.cast();
        walk(first, |link: *mut c::patternMatch| (*link).next)
    }
}

pub(super) unsafe fn tag_of(entity: *mut c::patternEntity) -> u64 {
    // SAFETY: the entity is live.
    unsafe { (*entity).timeTag }
}

unsafe fn is_instance(entity: *mut c::patternEntity) -> bool {
    // SAFETY: the entity is live.
    unsafe { u32::from((*entity).header.type_) == c::INSTANCE_ADDRESS_TYPE }
}

unsafe fn name(one: Match) -> Name {
    // SAFETY: `binds` has `bcount` entries behind the declared one; markers are live.
    unsafe {
        let binds = (&raw mut (*one).binds).cast::<c::genericMatch>();
        let parts = (0..usize::from((*one).bcount)).map(|i| {
            let alpha = (*binds.add(i)).gm.theMatch;
            if alpha.is_null() || (*alpha).matchingItem.is_null() {
                return (0, Vec::new());
            }
            let markers = walk((*alpha).markers, |marker| (*marker).next);
            let fields = markers
                .iter()
                .map(|marker| ((**marker).startPosition as usize, (**marker).range as usize));
            (tag_of((*alpha).matchingItem), fields.collect())
        });
        parts.collect()
    }
}
