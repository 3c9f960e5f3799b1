//! A state on its way here.
//!
//! What was fetched stays true: a tuple is the same in all states that have it. So when the offer
//! changes under way, the tuples stay, and only the outline and the sketch are fetched anew.

use std::collections::{BTreeMap, BTreeSet};

use cpe_membership::NodeId;
use cpe_space::{Decoder, Difference, Live, MAX_SYMBOLS, Scale, Sketch, Sm, Symbol};

use super::{FIRST_SYMBOLS, MAX_BODIES, MAX_OUTLINE_BYTES, MAX_PART_SYMBOLS};
use crate::wire::{Part, Want};

/// Bytes of the tuples fetched for one state at most, with [`TUPLE_BYTES`] for each. Many times
/// what the home of a shard admits
/// ([`PeerConfig::shard_bytes_max`](crate::PeerConfig::shard_bytes_max)): what is there must be
/// fetched.
const MAX_STATE_BYTES: usize = 16 * 1024 * 1024 * 1024;

/// Bytes. What a tuple takes beyond its own size while it is fetched.
const TUPLE_BYTES: usize = 96;

/// Symbols read in any case: with fewer tuples than about fifty, symbols are cheaper than a second
/// thought.
const MIN_SYMBOLS: usize = 16;

/// Percent. A sketch longer than this share of the tuples is given up for the tuples themselves
/// (space.md, 1.3).
const MAX_SYMBOLS_SHARE: u64 = 30;

/// The state that is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    index: u64,
    digest: u64,
    live: u64,
    packed: u64,
    raw: u64,
}

impl Target {
    /// What a head describes; `None` when it cannot be, or when the part is none.
    pub(super) fn new(index: u64, head: &Part) -> Option<Self> {
        let Part::Head {
            digest,
            live,
            packed,
            raw,
        } = *head
        else {
            return None;
        };
        // A block of LZ4 grows by at most 255 when it is unpacked.
        let fits = raw <= MAX_OUTLINE_BYTES && raw <= packed.saturating_mul(255);
        if !fits || packed == 0 || packed > raw + raw / 255 + 64 || live > index {
            return None;
        }
        Some(Self {
            index,
            digest,
            live,
            packed,
            raw,
        })
    }
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask for this.
    Ask(Want),
    /// It is here, verified: the state and its encoding, and whether the replica's own tuples were
    /// of use.
    Done {
        sm: Box<Sm>,
        encoded: Vec<u8>,
        sketched: bool,
    },
    /// What came does not make the state that was offered.
    Failed(&'static str),
}

/// A state on its way here.
#[derive(Debug)]
pub(super) struct Fetch {
    /// Who described the target.
    from: NodeId,
    target: Target,
    /// The packed outline, as far as it is here.
    outline: Vec<u8>,
    /// The first symbols of the target's sketch.
    symbols: Vec<Symbol>,
    /// Compares with the replica as it was at an index.
    decoder: Option<(u64, Decoder)>,
    /// Tuples fetched, of this target or of one before it.
    got: BTreeMap<u64, Live>,
    got_bytes: usize,
    /// Tuples are listed after this index,
    after: u64,
    /// up to this one, or to the end when it is 0,
    upto: u64,
    /// until all are.
    listed: bool,
    /// Index of the replica when the listing began.
    own: u64,
    /// The replica's own tuples are of no use: all are fetched.
    whole: bool,
    /// Some of what was listed or fetched belongs to an earlier target.
    moved: bool,
    /// Nothing fetched before may be used for another target.
    strict: bool,
}

impl Fetch {
    /// Begins to fetch for a replica that stands at `own`. With `strict`, nothing but the target's
    /// own parts are used.
    pub(super) fn new(from: NodeId, target: Target, own: u64, strict: bool) -> Self {
        Self {
            from,
            target,
            outline: Vec::new(),
            symbols: Vec::new(),
            decoder: None,
            got: BTreeMap::new(),
            got_bytes: 0,
            after: if strict { 0 } else { own },
            upto: 0,
            listed: false,
            own,
            whole: strict || own == 0,
            moved: false,
            strict,
        }
    }

    /// Index of the state that is fetched.
    pub(super) fn index(&self) -> u64 {
        self.target.index
    }

    /// Where to go on listing tuples should the target have changed.
    pub(super) fn cursor(&self) -> u64 {
        if self.listed {
            self.target.index
        } else {
            self.after
        }
    }

    /// Takes another target, if it is news from the one who is asked; false when it is not.
    pub(super) fn retarget(&mut self, from: NodeId, asked: NodeId, target: Target) -> bool {
        let old = from == self.from && target.index <= self.target.index;
        if target == self.target || from != asked || old {
            return false;
        }
        if self.strict {
            *self = Self::new(from, target, self.own, true);
            return true;
        }
        // What was listed may have changed, even where there was nothing: a tuple that was taken
        // then can be back by now.
        self.moved |= self.listed || !self.got.is_empty();
        if self.listed {
            // All that is newer than the last target is news.
            self.after = self.target.index;
            self.listed = false;
        }
        // A listing that had an end has it no more: what is newer than that was listed for another.
        self.upto = 0;
        self.from = from;
        self.target = target;
        self.outline.clear();
        self.symbols.clear();
        self.decoder = None;
        true
    }

    /// Takes a part of the target; false when it is none that was missing.
    pub(super) fn take(&mut self, part: Part) -> bool {
        match part {
            Part::Head { .. } => false,
            Part::Outline { offset, bytes } => {
                let here = self.outline.len() as u64;
                let fits = here + bytes.len() as u64 <= self.target.packed;
                if offset != here || bytes.is_empty() || !fits {
                    return false;
                }
                self.outline.extend_from_slice(&bytes);
                true
            }
            Part::Symbols { from, bytes } => {
                let here = self.symbols.len();
                if from as usize != here || self.whole && !self.moved || here >= MAX_SYMBOLS {
                    return false;
                }
                match self.scale().unpack(here, &bytes, MAX_PART_SYMBOLS) {
                    Some(read) if !read.is_empty() => self.symbols.extend_from_slice(&read),
                    // Whoever has no more symbols has tuples.
                    _ => self.fetch_all(),
                }
                true
            }
            Part::Page {
                after,
                upto,
                tuples,
                end,
            } => self.take_page((after, upto), tuples, end),
            Part::Bodies(tuples) => {
                let wanted = self.wanted();
                if tuples.is_empty() && !wanted.is_empty() {
                    // The sketch was misread: there are no such tuples.
                    self.fetch_all();
                    return true;
                }
                let mut any = false;
                for live in tuples {
                    if wanted.contains(&live.index) {
                        any |= self.keep(live);
                    }
                }
                any
            }
        }
    }

    fn take_page(&mut self, place: (u64, u64), tuples: Vec<Live>, end: bool) -> bool {
        if self.listed || place != (self.after, self.upto) || (tuples.is_empty() && !end) {
            return false;
        }
        let last = if self.upto == 0 {
            self.target.index
        } else {
            self.upto
        };
        let indices = tuples.iter().map(|live| live.index);
        if !indices.is_sorted_by(|a, b| a < b)
            || tuples.first().is_some_and(|live| live.index <= self.after)
            || tuples.last().is_some_and(|live| live.index > last)
        {
            return false;
        }
        for live in tuples {
            self.after = live.index;
            self.keep(live);
        }
        self.listed = end;
        true
    }

    fn keep(&mut self, live: Live) -> bool {
        let bytes = live.tuple.size() + TUPLE_BYTES;
        let fresh = self.got.insert(live.index, live).is_none();
        if fresh {
            self.got_bytes += bytes;
        }
        fresh
    }

    fn scale(&self) -> Scale {
        Scale {
            len: self.target.live,
            max: self.target.index,
        }
    }

    /// Tuples known to be missing.
    fn wanted(&self) -> BTreeSet<u64> {
        let decoder = self.decoder.as_ref();
        let difference = decoder.and_then(|(_, decoder)| decoder.difference());
        let added = difference.unwrap_or_default().added.into_iter();
        added
            .filter(|index| !self.got.contains_key(index))
            .collect()
    }

    /// What to do next, for a replica in this state. The same again until something arrived.
    pub(super) fn step(&mut self, own: &Sm) -> Step {
        loop {
            if self.got_bytes > MAX_STATE_BYTES {
                return Step::Failed("a state larger than any may be");
            }
            let offset = self.outline.len() as u64;
            if offset < self.target.packed {
                return Step::Ask(Want::Outline { offset });
            }
            if !self.listed {
                let (after, upto) = (self.after, self.upto);
                return Step::Ask(Want::Page { after, upto });
            }
            if self.whole && !self.moved {
                return self.assemble(own, &Difference::default());
            }
            match self.compare(own) {
                Compared::More(count) => {
                    let from = u32::try_from(self.symbols.len()).unwrap_or(u32::MAX);
                    return Step::Ask(Want::Symbols { from, count });
                }
                Compared::TooDifferent => self.fetch_all(),
                Compared::Known(difference) => {
                    let wanted = self.wanted();
                    if wanted.is_empty() {
                        return self.assemble(own, &difference);
                    }
                    let some = wanted.into_iter().take(MAX_BODIES).collect();
                    return Step::Ask(Want::Bodies(some));
                }
            }
        }
    }

    /// How the target's indices differ from those of the tuples at hand.
    fn compare(&mut self, own: &Sm) -> Compared {
        let at = if self.whole { 0 } else { own.index() };
        let limit = self.target.live.saturating_mul(MAX_SYMBOLS_SHARE) / 100;
        let limit = usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .max(MIN_SYMBOLS);
        if self.decoder.as_ref().is_none_or(|(made, _)| *made != at) {
            let own = (!self.whole).then(|| own.indices());
            let got = self.got.keys().copied();
            let sketch = Sketch::new(own.into_iter().flatten().chain(got));
            if (sketch.len() as u64).abs_diff(self.target.live) > limit as u64 {
                return Compared::TooDifferent;
            }
            self.decoder = Some((at, Decoder::new(sketch)));
        }
        let Some((_, decoder)) = self.decoder.as_mut() else {
            return Compared::TooDifferent;
        };
        let unread = self.symbols.get(decoder.read()..).unwrap_or_default();
        if decoder.push(unread).is_err() {
            return Compared::TooDifferent;
        }
        if let Some(difference) = decoder.difference() {
            return Compared::Known(difference);
        }
        let here = self.symbols.len();
        if here >= limit {
            return Compared::TooDifferent;
        }
        let count = (here / 2).clamp(FIRST_SYMBOLS, MAX_PART_SYMBOLS);
        Compared::More(u32::try_from(count).unwrap_or(1))
    }

    /// Gives the sketch up: lists what was not listed yet; and if even what was listed since has
    /// changed too much, everything anew.
    fn fetch_all(&mut self) {
        self.decoder = None;
        if self.whole {
            *self = Self::new(self.from, self.target, self.own, true);
            return;
        }
        self.whole = true;
        self.upto = if self.listed { self.own } else { 0 };
        self.after = 0;
        self.listed = false;
    }

    /// Puts the state together and checks that it is the one that was offered.
    fn assemble(&mut self, own: &Sm, difference: &Difference) -> Step {
        let raw = usize::try_from(self.target.raw).unwrap_or(usize::MAX);
        let Ok(outline) = lz4_flex::block::decompress(&self.outline, raw) else {
            return Step::Failed("an outline that cannot be unpacked");
        };
        let Ok(mut sm) = cpe_tuple::codec::decode::<Sm>(&outline, raw) else {
            return Step::Failed("an outline that is none");
        };
        drop(outline);
        let stays = |live: &Live| difference.removed.binary_search(&live.index).is_err();
        if !self.whole {
            let got = &self.got;
            sm.put_tuples(
                own.live()
                    .filter(|live| !got.contains_key(&live.index))
                    .filter(stays),
            );
        }
        let got = std::mem::take(&mut self.got);
        sm.put_tuples(got.into_values().filter(stays));
        let Ok(encoded) = cpe_tuple::codec::encode(&sm) else {
            return Step::Failed("a state that cannot be encoded");
        };
        if sm.index() != self.target.index || Sm::digest(&encoded) != self.target.digest {
            return Step::Failed("parts that do not make the state that was offered");
        }
        Step::Done {
            sm: Box::new(sm),
            encoded,
            sketched: !self.whole,
        }
    }
}

/// What a comparison came to.
#[derive(Debug)]
enum Compared {
    /// So many more symbols are needed.
    More(u32),
    /// It does not pay.
    TooDifferent,
    /// This is all.
    Known(Difference),
}
