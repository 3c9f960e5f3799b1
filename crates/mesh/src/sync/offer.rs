//! A state offered to replicas that are behind: kept as it was while they fetch it.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_space::{Live, Scale, ShardId, Sketch, Sm};

use super::{FIRST_SYMBOLS, MAX_BODIES, MAX_INDEX, MAX_PART_SYMBOLS, PART_BYTES};
use crate::peer::Peer;
use crate::wire::{Message, Part, Want};

/// States offered at a time. Nobody who asks beyond that is answered: they ask again.
const MAX_OFFERS: usize = 16;

/// Tuples of all offers together, but for a single one that has more. With 48 bytes each, 24 more
/// while a sketch is made, and the tuples themselves where they are gone from the replica.
const MAX_OFFERED: usize = 2 * 1024 * 1024;

/// An offer nobody asks for is given up after this long.
const IDLE: Duration = Duration::from_secs(3);

/// An offer is good for others who begin for this long: then they get the newest state.
const FRESH: Duration = Duration::from_secs(5);

/// A state as it was at an index.
#[derive(Debug)]
struct Offer {
    index: u64,
    digest: u64,
    /// The outline, packed.
    outline: Vec<u8>,
    /// Its bytes before.
    raw: u64,
    /// By index.
    live: Vec<Live>,
    sketch: Option<Sketch>,
    made: Duration,
    used: Duration,
    /// True while somebody has only a part of it.
    open: bool,
}

impl Offer {
    fn new(sm: &Sm, now: Duration) -> Option<Self> {
        let digest = Sm::digest(&cpe_tuple::codec::encode(sm).ok()?);
        let mut outline = sm.clone();
        let live = outline.take_tuples();
        let outline = cpe_tuple::codec::encode(&outline).ok()?;
        Some(Self {
            index: sm.index(),
            digest,
            raw: outline.len() as u64,
            outline: lz4_flex::block::compress(&outline),
            live,
            sketch: None,
            made: now,
            used: now,
            open: false,
        })
    }

    /// What is wanted, and for a beginning as much else as fits.
    fn answer(&mut self, want: &Want, after: u64) -> Vec<Part> {
        match want {
            Want::Begin => {
                let mut parts = vec![
                    Part::Head {
                        digest: self.digest,
                        live: self.live.len() as u64,
                        packed: self.outline.len() as u64,
                        raw: self.raw,
                    },
                    self.outline(0),
                ];
                if self.open {
                    return parts;
                }
                // Who begins with nothing gets all tuples, and nothing to compare.
                if after > 0 {
                    parts.push(self.symbols(0, FIRST_SYMBOLS));
                }
                parts.push(self.page(after, 0));
                parts
            }
            Want::Outline { offset } => vec![self.outline(*offset)],
            Want::Symbols { from, count } => {
                let (from, count) = (*from as usize, *count as usize);
                vec![self.symbols(from, count.min(MAX_PART_SYMBOLS))]
            }
            Want::Page { after, upto } => vec![self.page(*after, *upto)],
            Want::Bodies(indices) => vec![self.bodies(indices)],
        }
    }

    fn outline(&mut self, offset: u64) -> Part {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.outline.get(from..).unwrap_or_default();
        let bytes = rest.get(..PART_BYTES).unwrap_or(rest).to_vec();
        self.open = bytes.len() < rest.len();
        Part::Outline { offset, bytes }
    }

    fn symbols(&mut self, from: usize, count: usize) -> Part {
        let live = &self.live;
        let sketch = self
            .sketch
            .get_or_insert_with(|| Sketch::new(live.iter().map(|live| live.index)));
        let symbols = sketch.symbols(from.saturating_add(count)).get(from..);
        let scale = Scale {
            len: live.len() as u64,
            max: self.index,
        };
        Part::Symbols {
            from: u32::try_from(from).unwrap_or(u32::MAX),
            bytes: scale.pack(from, symbols.unwrap_or_default()),
        }
    }

    fn page(&mut self, after: u64, upto: u64) -> Part {
        let from = self.live.partition_point(|live| live.index <= after);
        let to = match upto {
            0 => self.live.len(),
            _ => self.live.partition_point(|live| live.index <= upto),
        };
        let wanted = self.live.get(from..to).unwrap_or_default();
        let tuples = fitting(wanted.iter());
        let end = tuples.len() == wanted.len();
        self.open = !end;
        Part::Page {
            after,
            upto,
            tuples,
            end,
        }
    }

    fn bodies(&self, indices: &[u64]) -> Part {
        let found = indices.iter().take(MAX_BODIES).filter_map(|index| {
            let at = self.live.binary_search_by_key(index, |live| live.index);
            self.live.get(at.ok()?)
        });
        Part::Bodies(fitting(found))
    }
}

/// The first of the tuples, as many as fit into a part but at least one.
fn fitting<'a>(tuples: impl Iterator<Item = &'a Live>) -> Vec<Live> {
    let mut bytes = 0;
    let mut fit = Vec::new();
    for live in tuples {
        bytes += live.tuple.size() + live.workspace.as_str().len() + 16;
        if bytes > PART_BYTES && !fit.is_empty() {
            break;
        }
        fit.push(live.clone());
    }
    fit
}

/// What this node offers, by shard: at most [`MAX_OFFERS`].
#[derive(Debug, Default)]
pub(crate) struct Offers {
    by_shard: BTreeMap<ShardId, Offer>,
}

impl Offers {
    /// The offer that goes on for whoever asks; a new one where none does. `None` while there is
    /// no room.
    fn find(
        &mut self,
        shard: ShardId,
        (index, after): (u64, u64),
        sm: &Sm,
        now: Duration,
    ) -> Option<&mut Offer> {
        let goes_on = self.by_shard.get(&shard).is_some_and(|offer| {
            let shared = offer.open && offer.index > after && now < offer.made + FRESH;
            offer.index == index || offer.index == sm.index() || shared
        });
        if !goes_on {
            self.by_shard.remove(&shard);
            self.make_room(sm.len(), now)?;
            self.by_shard.insert(shard, Offer::new(sm, now)?);
        }
        let offer = self.by_shard.get_mut(&shard)?;
        offer.used = now;
        Some(offer)
    }

    /// Gives up offers, the longest unused first, as long as there are too many.
    fn make_room(&mut self, tuples: usize, now: Duration) -> Option<()> {
        loop {
            let offered: usize = self.by_shard.values().map(|offer| offer.live.len()).sum();
            let room = self.by_shard.len() < MAX_OFFERS && offered + tuples <= MAX_OFFERED;
            if room || self.by_shard.is_empty() {
                return Some(());
            }
            let unused = self
                .by_shard
                .iter()
                .filter(|(_, offer)| !offer.open || offer.used + IDLE <= now)
                .min_by_key(|(_, offer)| offer.used)
                .map(|(shard, _)| *shard)?;
            self.by_shard.remove(&unused);
        }
    }

    /// Forgets offers nobody asked for in a while.
    fn expire(&mut self, now: Duration) {
        self.by_shard.retain(|_, offer| offer.used + IDLE > now);
    }

    /// True when there is something to forget, some time.
    fn is_empty(&self) -> bool {
        self.by_shard.is_empty()
    }
}

impl Peer {
    /// Sends parts of the state at an index; of the newest where that is not there any more.
    pub(crate) fn serve_state(
        &mut self,
        to: NodeId,
        shard: ShardId,
        index: u64,
        after: u64,
        want: &Want,
    ) {
        let now = self.now;
        let Some(slot) = self.slots.get(usize::from(shard.0)) else {
            return;
        };
        let sm = slot.shard.sm();
        if sm.index() == 0 || index > MAX_INDEX {
            return;
        }
        let foreign = |number| number > 0 && slot.is_foreign(number);
        if foreign(index) || foreign(after) {
            return;
        }
        let Some(offer) = self.offers.find(shard, (index, after), sm, now) else {
            self.count("offers_refused", 1);
            return;
        };
        let want = if offer.index == index {
            want
        } else {
            &Want::Begin
        };
        let parts = offer.answer(want, after);
        let index = offer.index;
        self.send_if(
            to,
            Message::State {
                shard,
                index,
                parts,
            },
        );
    }

    /// Gives up offers that nobody fetches any more.
    pub(super) fn expire_offers(&mut self) {
        if !self.offers.is_empty() {
            self.offers.expire(self.now);
        }
    }
}
