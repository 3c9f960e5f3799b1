//! Fetching a body: one holder at a time, a few chunks under way, each checked before it is
//! written.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_space::ShardId;
use cpe_tuple::blob::Outline;
use cpe_tuple::{Blob, BlobHash};

use super::{BodyMessage, BodyPart, BodyWork, Gathering, MAX_BODIES};
use crate::Peer;
use crate::peer::Timer;

/// Bodies wanted at a time. More are not noted: who needs them asks again.
const MAX_WANTED: usize = 65_536;

/// Bodies being fetched at a time; the others wait for their turn.
const MAX_PULLS: usize = 4;

/// As many of them, at most, may be bodies that nobody waits for (rule B3): the last place is kept
/// for one that a store, a decision or a reader waits for.
const MAX_IDLE_PULLS: usize = MAX_PULLS - 1;

/// Chunks of one body asked for or being written: at most 2 MiB in memory, for each of the bodies
/// being fetched.
const WINDOW: usize = 8;

/// Nodes remembered as waiting to hear that a body is here.
const MAX_ASKERS: usize = 16;

/// Nodes besides the likely ones that are asked for a body in one round.
const MAX_STRANGERS: usize = 8;

/// How long a part is waited for before it is asked for again.
const PART_PATIENCE: Duration = Duration::from_millis(500);

/// So many times in a row: then another holder is tried.
const MAX_STALLS: u32 = 4;

/// Pause after all nodes that might have a body were asked in vain; times the number of rounds, up
/// to ten.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// Rounds in vain before a body is given up by this node; who needs it wants it again.
const MAX_ROUNDS: u32 = 20;

/// A body this node is to have.
#[derive(Debug)]
pub(crate) struct Wanted {
    blob: Blob,
    /// A shard that refers to it: its home group probably has it.
    pub(super) shard: ShardId,
    /// Who is to be told.
    pub(super) askers: BTreeSet<NodeId>,
    /// Who said it has it.
    hints: VecDeque<NodeId>,
    rounds: u32,
    /// All were asked in vain: a timer says when to go on.
    paused: bool,
    pull: Option<Pull>,
}

impl Wanted {
    fn is_active(&self) -> bool {
        self.pull.is_some() && !self.paused
    }

    /// It is fetched while fewer than these are: more if somebody waits for it.
    fn max_pulls(&self, gathering: &Gathering) -> usize {
        let hash = self.blob.hash();
        let unasked = self.hints.is_empty() && self.askers.is_empty();
        if unasked && !gathering.contains_key(&hash) {
            MAX_IDLE_PULLS
        } else {
            MAX_PULLS
        }
    }

    /// True when storage has chunks of it that are not becoming a body.
    pub(super) fn has_chunks(&self) -> bool {
        self.pull
            .as_ref()
            .is_some_and(|pull| pull.next > 0 && !pull.sealing)
    }
}

/// A transfer.
#[derive(Debug)]
struct Pull {
    sources: VecDeque<NodeId>,
    outline: Option<Outline>,
    /// The first chunk never asked for.
    next: u32,
    /// Chunks asked for, and not come.
    asked: BTreeSet<u32>,
    /// Chunks being written.
    writing: BTreeSet<u32>,
    stalls: u32,
    /// Something came since the last look.
    moved: bool,
    sealing: bool,
    /// Grows while it moves.
    steps: u64,
}

impl Peer {
    /// Wants a body on this node's disk; `hint` probably has it.
    pub(super) fn want(&mut self, blob: Blob, shard: ShardId, hint: Option<NodeId>) {
        let hash = blob.hash();
        let full = self.bodies.wanted.len() >= MAX_WANTED || self.bodies.held.len() >= MAX_BODIES;
        let known = self.bodies.wanted.contains_key(&hash);
        if self.has_body(hash) || self.bodies.adopting.contains_key(&hash) || (full && !known) {
            return;
        }
        let hint = hint.filter(|hint| *hint != self.me.node);
        let wanted = self.bodies.wanted.entry(hash).or_insert_with(|| Wanted {
            blob,
            shard,
            askers: BTreeSet::new(),
            hints: VecDeque::new(),
            rounds: 0,
            paused: false,
            pull: None,
        });
        if let Some(hint) = hint {
            if !wanted.hints.contains(&hint) && wanted.hints.len() < MAX_ASKERS {
                wanted.hints.push_back(hint);
            }
            if let Some(pull) = wanted.pull.as_mut()
                && !pull.sources.contains(&hint)
            {
                pull.sources.push_back(hint);
            }
            if wanted.paused && self.links.contains(&hint) {
                self.timers.set(Timer::Body(hash), self.now);
            }
        }
        self.pull_next();
    }

    pub(super) fn add_asker(&mut self, hash: BlobHash, asker: NodeId) {
        if let Some(wanted) = self.bodies.wanted.get_mut(&hash)
            && wanted.askers.len() < MAX_ASKERS
        {
            wanted.askers.insert(asker);
        }
    }

    /// Forgets that a body is wanted, and what came of it.
    pub(super) fn end_want(&mut self, hash: BlobHash) -> Option<Wanted> {
        self.timers.clear(&Timer::Body(hash));
        self.bodies.wanted.remove(&hash)
    }

    /// Begins the next transfers, if there is a place for any and somebody to ask.
    pub(crate) fn pull_next(&mut self) {
        self.bodies.place_free = false;
        let mut active = self.active_pulls();
        if active >= MAX_PULLS || self.links.is_empty() {
            return;
        }
        let gathering = &self.bodies.gathering;
        let wanted = self.bodies.wanted.iter();
        let waiting = wanted.filter(|(_, wanted)| wanted.pull.is_none() && !wanted.paused);
        let waiting = waiting.map(|(hash, wanted)| (*hash, wanted.max_pulls(gathering)));
        let (first, then): (Vec<_>, Vec<_>) = waiting.partition(|(_, max)| *max == MAX_PULLS);
        // One that nobody has takes no place: the next one is begun.
        for (hash, max) in first.into_iter().chain(then) {
            if active >= max {
                break;
            }
            self.begin_pull(hash);
            let begun = self.bodies.wanted.get(&hash);
            if begun.is_some_and(Wanted::is_active) {
                active += 1;
            }
        }
        self.bodies.place_free = false;
    }

    /// Begins the next transfers if one has ended or paused.
    pub(crate) fn fill_places(&mut self) {
        if self.bodies.place_free {
            self.pull_next();
        }
    }

    fn active_pulls(&self) -> usize {
        let wanted = self.bodies.wanted.values();
        wanted.filter(|wanted| wanted.is_active()).count()
    }

    fn begin_pull(&mut self, hash: BlobHash) {
        let Some(wanted) = self.bodies.wanted.get(&hash) else {
            return;
        };
        let sources = self.likely_holders(wanted);
        let Some(wanted) = self.bodies.wanted.get_mut(&hash) else {
            return;
        };
        let whole = (wanted.blob.chunks() == 1).then(|| Outline::new(wanted.blob, &[]).ok());
        wanted.pull = Some(Pull {
            sources,
            outline: whole.flatten(),
            next: 0,
            asked: BTreeSet::new(),
            writing: BTreeSet::new(),
            stalls: 0,
            moved: false,
            sealing: false,
            steps: 0,
        });
        self.ask_parts(hash, true);
    }

    /// Who may have a body: those who said so, the shard's home group, then anybody.
    fn likely_holders(&self, wanted: &Wanted) -> VecDeque<NodeId> {
        let slot = self.slot_ref(wanted.shard);
        let mut groups: Vec<NodeId> = Vec::new();
        if let Some(slot) = slot {
            let before = slot.shard.sm().previous().map(|(config, _)| config);
            let configs = std::iter::once(&slot.map).chain(before);
            groups.extend(configs.flat_map(|config| &config.members).map(|m| m.node));
        }
        let turn = wanted.rounds as usize * MAX_STRANGERS;
        let links = self.links.len().max(1);
        let strangers = self.links.iter().cycle().skip(turn % links);
        let strangers = strangers.take(MAX_STRANGERS.min(self.links.len()));
        let mut sources = VecDeque::new();
        let all = wanted.hints.iter().chain(&groups).chain(strangers);
        for node in all.filter(|node| self.links.contains(node)) {
            if !sources.contains(node) {
                sources.push_back(*node);
            }
        }
        sources
    }

    /// Asks the present source for what is missing: with `again`, also for what was asked before.
    fn ask_parts(&mut self, hash: BlobHash, again: bool) {
        let now = self.now;
        let links = &self.links;
        let Some(wanted) = self.bodies.wanted.get_mut(&hash) else {
            return;
        };
        let Some(pull) = wanted.pull.as_mut() else {
            return;
        };
        while pull
            .sources
            .front()
            .is_some_and(|node| !links.contains(node))
        {
            pull.sources.pop_front();
        }
        let Some(source) = pull.sources.front().copied() else {
            return self.round_over(hash);
        };
        let mut parts = Vec::new();
        if pull.outline.is_none() {
            if again {
                parts.push(BodyPart::Outline);
            }
        } else {
            if again {
                parts.extend(pull.asked.iter().map(|chunk| BodyPart::Chunk(*chunk)));
            }
            let chunks = wanted.blob.chunks();
            while pull.next < chunks && pull.asked.len() + pull.writing.len() < WINDOW {
                pull.asked.insert(pull.next);
                parts.push(BodyPart::Chunk(pull.next));
                pull.next += 1;
            }
        }
        self.timers
            .set_if_none(Timer::Body(hash), now + PART_PATIENCE);
        for part in parts {
            self.send_body(source, BodyMessage::Ask { hash, part });
        }
    }

    /// Time to look how a transfer goes.
    pub(crate) fn look_after_body(&mut self, hash: BlobHash) {
        let gathering = &self.bodies.gathering;
        let Some(wanted) = self.bodies.wanted.get_mut(&hash) else {
            return;
        };
        if wanted.paused {
            let max = wanted.max_pulls(gathering);
            if self.active_pulls() >= max {
                self.timers.set(Timer::Body(hash), self.now + PART_PATIENCE);
            } else {
                self.go_on(hash);
            }
            return;
        }
        let Some(pull) = wanted.pull.as_mut() else {
            return;
        };
        // The disk has its own time.
        let waits = pull.sealing || (pull.asked.is_empty() && !pull.writing.is_empty());
        if std::mem::take(&mut pull.moved) || waits {
            pull.stalls = 0;
            self.timers.set(Timer::Body(hash), self.now + PART_PATIENCE);
            return;
        }
        pull.stalls += 1;
        if pull.stalls >= MAX_STALLS {
            return self.next_source(hash);
        }
        self.ask_parts(hash, true);
    }

    /// A pause is over: asks everybody again, for what is missing.
    fn go_on(&mut self, hash: BlobHash) {
        let wanted = self.bodies.wanted.get(&hash);
        let sources = wanted.map(|wanted| self.likely_holders(wanted));
        let Some(wanted) = self.bodies.wanted.get_mut(&hash) else {
            return;
        };
        wanted.paused = false;
        match (wanted.pull.as_mut(), sources) {
            (Some(pull), Some(sources)) => {
                pull.sources = sources;
                pull.stalls = 0;
                self.ask_parts(hash, true);
            }
            _ => self.begin_pull(hash),
        }
    }

    fn next_source(&mut self, hash: BlobHash) {
        let pull = self.bodies.wanted.get_mut(&hash);
        if let Some(pull) = pull.and_then(|wanted| wanted.pull.as_mut()) {
            pull.sources.pop_front();
            pull.stalls = 0;
            self.timers.clear(&Timer::Body(hash));
            self.ask_parts(hash, true);
        }
    }

    /// Everybody was asked in vain. Only notes that a place is free, see
    /// [`fill_places`](Self::fill_places): this may be the thousandth in a row.
    fn round_over(&mut self, hash: BlobHash) {
        let Some(wanted) = self.bodies.wanted.get_mut(&hash) else {
            return;
        };
        if wanted.pull.as_ref().is_some_and(|pull| pull.sealing) {
            return;
        }
        if wanted.rounds >= MAX_ROUNDS {
            let begun = wanted.has_chunks();
            self.end_want(hash);
            if begun {
                self.work(BodyWork::Abandon { hash });
            }
            self.gather_failed(hash);
            self.bodies.place_free = true;
            return;
        }
        wanted.rounds += 1;
        wanted.paused = true;
        let pause = ROUND_PAUSE * wanted.rounds.min(10);
        if !wanted.has_chunks() {
            wanted.pull = None;
        }
        self.timers.set(Timer::Body(hash), self.now + pause);
        self.bodies.place_free = true;
    }

    /// A part came, or the word that it is not there.
    pub(super) fn take_part(
        &mut self,
        from: NodeId,
        hash: BlobHash,
        part: BodyPart,
        bytes: Option<serde_bytes::ByteBuf>,
    ) {
        let Some(wanted) = self.bodies.wanted.get_mut(&hash) else {
            return;
        };
        let blob = wanted.blob;
        let Some(pull) = wanted.pull.as_mut() else {
            return;
        };
        let Some(bytes) = bytes else {
            if pull.sources.front() == Some(&from) {
                self.next_source(hash);
            }
            return;
        };
        match part {
            BodyPart::Outline => {
                if pull.outline.is_some() {
                    return;
                }
                let Ok(outline) = Outline::new(blob, &bytes) else {
                    self.count("parts_refused", 1);
                    return self.next_source(hash);
                };
                pull.outline = Some(outline);
                pull.moved = true;
                pull.steps += 1;
            }
            BodyPart::Chunk(chunk) => {
                let known = pull
                    .outline
                    .as_ref()
                    .filter(|_| pull.asked.contains(&chunk));
                let Some(outline) = known else { return };
                if !outline.accepts(chunk, &bytes) {
                    let present = pull.sources.front() == Some(&from);
                    self.count("parts_refused", 1);
                    if present {
                        self.next_source(hash);
                    }
                    return;
                }
                pull.asked.remove(&chunk);
                pull.writing.insert(chunk);
                pull.moved = true;
                self.count("chunks_fetched", 1);
                let bytes = bytes.into_vec();
                self.work(BodyWork::Write { hash, chunk, bytes });
            }
        }
        self.ask_parts(hash, false);
    }

    pub(super) fn chunk_written(&mut self, hash: BlobHash, chunk: u32) {
        let Some(wanted) = self.bodies.wanted.get_mut(&hash) else {
            return;
        };
        let blob = wanted.blob;
        let Some(pull) = wanted.pull.as_mut() else {
            return;
        };
        pull.writing.remove(&chunk);
        pull.moved = true;
        pull.steps += 1;
        let all = pull.next == blob.chunks() && pull.asked.is_empty() && pull.writing.is_empty();
        if all && !pull.sealing {
            pull.sealing = true;
            let outline = pull.outline.as_ref().map(Outline::to_bytes);
            let outline = outline.unwrap_or_default();
            self.work(BodyWork::Seal { blob, outline });
        } else if !all {
            self.ask_parts(hash, false);
        }
    }

    /// How far the transfer of a body is: a number that grows while it moves.
    pub(super) fn pulled(&self, hash: BlobHash) -> u64 {
        let pull = self.bodies.wanted.get(&hash);
        pull.and_then(|wanted| wanted.pull.as_ref())
            .map_or(0, |pull| pull.steps)
    }

    /// A link is gone: what came over it goes on with another holder.
    pub(crate) fn body_link_down(&mut self, node: NodeId) {
        let from = self.bodies.wanted.iter().filter(|(_, wanted)| {
            let pull = wanted.pull.as_ref();
            pull.is_some_and(|pull| pull.sources.front() == Some(&node))
        });
        let from: Vec<BlobHash> = from.map(|(hash, _)| *hash).collect();
        for hash in from {
            self.next_source(hash);
        }
        self.bodies.serving.retain(|_, serving| serving.to != node);
        self.fill_places();
    }
}
