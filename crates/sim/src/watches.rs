//! Watchers of actors, on any node, which ask each other's nodes as real ones do: messages that are
//! lost, late or come to nobody, nodes that crash or stand still.
//!
//! What is checked: a watcher is told of no actor that goes on, of none twice, and with a reason
//! that was given for that very actor or with none; and once all is healed every watcher of an
//! actor that has ended is told in time. Names are given up and used anew meanwhile, by other
//! actors, which these watchers are not to follow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_mesh::{ActorEnds, ActorWatch, Heard, Peer, Seen, WatchEnd, WatchStep, WatchView};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::actors::{PLAIN, name};
use crate::check::Violation;
use crate::schedule::up_to;
use crate::world::{Happening, World};

/// Randomness of its own: watchers change nothing of what they watch.
const STREAM: u64 = 8;

/// Milliseconds. So often somebody begins to watch an actor.
const WATCH_MS: std::ops::Range<u64> = 300..2_000;

/// Watchers of one actor at a time.
const WATCHERS_MAX: usize = 4;

/// Milliseconds. So long a question or an answer takes at most.
const WAY_MS: f64 = 30.0;

/// Share of these that are lost.
const LOST: f64 = 0.1;

/// How long after its time a question counts as not answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How often a node looks at the questions that wait for an end.
const LOOK: Duration = Duration::from_millis(50);

/// Within how long all are told, once all is healed.
const TOLD_WITHIN: Duration = Duration::from_secs(90);

/// What happens to watchers, each by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Somebody begins to watch an actor.
    Begin(usize),
    /// A question arrives, or is looked at again.
    Ask(Question),
    /// Its answer arrives.
    Answer(Question, Answer),
    /// Nobody answered in time.
    Silence(Question),
    /// A pause is over.
    Wake(u64),
}

/// A question of a watcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    watcher: u64,
    n: u64,
    /// The node that is asked.
    at: usize,
    actor: usize,
    born: u64,
    until: Duration,
}

/// What a node says: with a reason, that the actor has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Lives,
    NotHere,
    Ended(u64),
}

#[derive(Debug)]
struct Watcher {
    node: usize,
    actor: usize,
    /// The token with which the actor began that it is to be told of, whoever the watch follows.
    born: u64,
    watch: ActorWatch,
    told: bool,
}

/// All watchers, and what is known of ends.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    rng: Option<ChaCha8Rng>,
    watchers: BTreeMap<u64, Watcher>,
    next: u64,
    /// What nodes remember of ends, by node.
    ends: BTreeMap<usize, ActorEnds<u64>>,
    /// Reasons that were given, by actor and birth.
    reasons: BTreeMap<(usize, u64), BTreeSet<u64>>,
    /// Actors of which some replica has shown the end, by birth.
    over: BTreeSet<(usize, u64)>,
}

impl World {
    fn watch_rng(&mut self) -> &mut ChaCha8Rng {
        let seed = self.seed;
        self.watches.rng.get_or_insert_with(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(STREAM);
            rng
        })
    }

    /// Plans the first watchers.
    pub(crate) fn plan_watches(&mut self) {
        for actor in 0..self.scenario.workload.actors as usize {
            self.watch_in(WATCH_MS, Step::Begin(actor));
        }
    }

    /// Plans the first one of a plain actor.
    pub(crate) fn watch_plain(&mut self, actor: usize) {
        self.watch_in(WATCH_MS, Step::Begin(actor));
    }

    fn watch_in(&mut self, ms: std::ops::Range<u64>, step: Step) {
        let pause = Duration::from_millis(self.watch_rng().random_range(ms));
        self.at(self.now + pause, Happening::Watch(step));
    }

    /// Sends something from one node to another.
    fn send_watch(&mut self, (from, to): (usize, usize), step: Step) {
        let cut = from != to && !self.links.linked(from, to);
        let calm = self.calm;
        let rng = self.watch_rng();
        let (lost, way) = (rng.random_bool(LOST), up_to(rng, WAY_MS));
        if !cut && (calm || !lost) {
            self.at(self.now + way, Happening::Watch(step));
        }
    }

    pub(crate) fn watch_step(&mut self, step: Step) {
        match step {
            Step::Begin(actor) => self.begin_watch(actor),
            Step::Ask(question) => self.asked_watch(question),
            Step::Answer(question, answer) => {
                let heard = match answer {
                    Answer::Lives => Heard::Lives,
                    Answer::NotHere => Heard::NotHere,
                    Answer::Ended(reason) => Heard::Ended(reason),
                };
                self.heard_watch(question.watcher, question.n, heard);
            }
            Step::Silence(Question { watcher, n, .. }) => {
                self.heard_watch(watcher, n, Heard::Silent);
            }
            Step::Wake(id) => self.advance(id, |watch, now, view| watch.woke(now, view)),
        }
    }

    fn begin_watch(&mut self, actor: usize) {
        if !self.calm {
            self.watch_in(WATCH_MS, Step::Begin(actor));
        }
        let nodes = self.nodes.len();
        let node = self.watch_rng().random_range(0..nodes);
        let open = self.watches.watchers.values();
        let open = open.filter(|it| it.actor == actor && !it.told).count();
        let peer = self.awake(node);
        let seen = peer.and_then(|peer| Seen::of(&peer.actor(&name(actor))?));
        let Some(seen) = seen.filter(|_| open < WATCHERS_MAX) else {
            return;
        };
        let (watch, first) = ActorWatch::new(seen);
        let id = self.watches.next;
        self.watches.next += 1;
        let watcher = Watcher {
            node,
            actor,
            born: seen.born,
            watch,
            told: false,
        };
        self.watches.watchers.insert(id, watcher);
        self.note(node, || format!("w{id} watches a{actor}: {seen:?}"));
        self.watch_wants(id, first);
    }

    /// The peer of a node that is up and does not stand still.
    pub(crate) fn awake(&self, n: usize) -> Option<&Peer> {
        let node = self.nodes.get(n).filter(|node| !node.is_held())?;
        node.peer.as_ref()
    }

    fn heard_watch(&mut self, id: u64, n: u64, heard: Heard<u64>) {
        self.advance(id, |watch, now, view| watch.heard(now, n, heard, view));
    }

    /// Has a watch do what is next.
    fn advance(
        &mut self,
        id: u64,
        step: impl FnOnce(&mut ActorWatch, Duration, WatchView<'_>) -> Option<WatchStep<u64>>,
    ) {
        let Some(mut watcher) = self.watches.watchers.remove(&id) else {
            return;
        };
        let peer = self.nodes.get(watcher.node);
        let Some(peer) = peer.and_then(|node| node.peer.as_ref()) else {
            return;
        };
        let (record, alive) = (peer.actor(&name(watcher.actor)), peer.alive());
        let view = WatchView {
            record: record.as_ref(),
            alive: &alive,
        };
        let next = step(&mut watcher.watch, self.now, view);
        self.watches.watchers.insert(id, watcher);
        if let Some(next) = next {
            self.watch_wants(id, next);
        }
    }

    fn watch_wants(&mut self, id: u64, step: WatchStep<u64>) {
        let Some(watcher) = self.watches.watchers.get(&id) else {
            return;
        };
        let (node, actor) = (watcher.node, watcher.actor);
        let born = watcher.watch.seen().born;
        match step {
            WatchStep::Ask {
                n,
                node: whom,
                within,
            } => {
                let until = self.now + within;
                let at = usize::try_from(whom.0 - 1).unwrap_or(usize::MAX);
                let question = Question {
                    watcher: id,
                    n,
                    at,
                    actor,
                    born,
                    until,
                };
                let late = Happening::Watch(Step::Silence(question));
                self.at(until + ANSWER_WITHIN, late);
                self.send_watch((node, at), Step::Ask(question));
            }
            WatchStep::Wait(pause) => {
                self.at(self.now + pause, Happening::Watch(Step::Wake(id)));
            }
            WatchStep::Over(end) => self.told_watcher(id, &end),
        }
    }

    /// A node is asked how an actor is.
    fn asked_watch(&mut self, question: Question) {
        let Question {
            at, actor, born, ..
        } = question;
        let Some(node) = self.nodes.get(at).filter(|node| node.peer.is_some()) else {
            return;
        };
        let again = Happening::Watch(Step::Ask(question));
        if node.is_held() {
            return self.at(self.now + LOOK, again);
        }
        let running = self.actors.running.get(&(at, actor));
        let plain = self.plains.runs(at, actor, born);
        let answer = if plain || running.is_some_and(|it| it.born == born) {
            Heard::Lives
        } else {
            let ends = self.watches.ends.get(&at);
            ends.map_or(Heard::NotHere, |ends| ends.heard(&name(actor), born))
        };
        let answer = match answer {
            Heard::Lives if self.now < question.until => return self.at(self.now + LOOK, again),
            Heard::Lives => Answer::Lives,
            Heard::Ended(reason) => Answer::Ended(reason),
            Heard::NotHere | Heard::Silent => Answer::NotHere,
        };
        let watcher = self.watches.watchers.get(&question.watcher);
        if let Some(to) = watcher.map(|watcher| watcher.node) {
            self.send_watch((at, to), Step::Answer(question, answer));
        }
    }

    /// A watcher is told of the end of its actor.
    fn told_watcher(&mut self, id: u64, end: &WatchEnd<u64>) {
        self.note_ends();
        let Some(watcher) = self.watches.watchers.get_mut(&id) else {
            return;
        };
        let (node, actor, born) = (watcher.node, watcher.actor, watcher.born);
        if std::mem::replace(&mut watcher.told, true) {
            self.violation = Some(Violation::ToldTwice(actor));
            return;
        }
        self.note(node, || {
            format!("w{id} is told of a{actor}, born {born}: {end:?}")
        });
        self.report.watchers_told += 1;
        let given = self.watches.reasons.get(&(actor, born));
        let true_reason = match end {
            WatchEnd::Told(reason) => given.is_some_and(|given| given.contains(reason)),
            WatchEnd::Lost(_) => true,
        };
        self.report.told_why += u64::from(matches!(end, WatchEnd::Told(_)));
        // A plain one has ended when its node says so. Who is told that it is lost is told, also if
        // its node was only cut off.
        let over = actor >= PLAIN || self.watches.over.contains(&(actor, born));
        if !over || !true_reason {
            self.violation = Some(Violation::ToldWrong { actor, born });
        }
    }

    /// Notes the ends that some replica shows.
    fn note_ends(&mut self) {
        let watched: Vec<(usize, u64)> = self
            .watches
            .watchers
            .values()
            .map(|it| (it.actor, it.born))
            .filter(|it| !self.watches.over.contains(it))
            .collect();
        for (actor, born) in watched {
            let peers = self.nodes.iter().filter_map(|node| node.peer.as_ref());
            let mut records = peers.filter_map(|peer| peer.actor(&name(actor)));
            let over =
                |it: cpe_mesh::ActorInfo| it.born > born || (it.born == born && it.host.is_none());
            if records.any(over) {
                self.watches.over.insert((actor, born));
            }
        }
    }

    /// A host stopped an actor, and is about to give up its name.
    pub(crate) fn actor_ended(&mut self, n: usize, actor: usize, token: u64, born: u64) {
        let reason = self.watch_rng().random();
        let of_it = self.watches.reasons.entry((actor, born)).or_default();
        of_it.insert(reason);
        let ends = self.watches.ends.entry(n).or_default();
        ends.note(&name(actor), (token, born), reason, false);
    }

    /// A plain actor has ended on a node.
    pub(crate) fn plain_ended(&mut self, n: usize, actor: usize, token: u64) {
        let reason = self.watch_rng().random();
        let of_it = self.watches.reasons.entry((actor, token)).or_default();
        of_it.insert(reason);
        let ends = self.watches.ends.entry(n).or_default();
        ends.note(&name(actor), (token, token), reason, true);
    }

    /// The home has it from this node that a name is given up.
    pub(crate) fn actor_end_stands(&mut self, n: usize, actor: usize, token: u64) {
        if let Some(ends) = self.watches.ends.get_mut(&n) {
            ends.stands(&name(actor), token);
        }
    }

    /// A node hears that a name was not its to give up any more.
    pub(crate) fn actor_goes_on(&mut self, n: usize, actor: usize, token: u64) {
        if let Some(ends) = self.watches.ends.get_mut(&n) {
            ends.goes_on(&name(actor), token);
        }
    }

    /// A node has lost its life as a host.
    pub(crate) fn ends_life_over(&mut self, n: usize) {
        if let Some(ends) = self.watches.ends.get_mut(&n) {
            ends.life_over();
        }
    }

    /// A node is about to be gone, and with it its watchers and what it remembers.
    pub(crate) fn watches_gone(&mut self, n: usize) {
        self.note_ends();
        self.watches.watchers.retain(|_, watcher| watcher.node != n);
        self.watches.ends.remove(&n);
    }

    /// With all healed, each watcher of an actor that has ended is told in time.
    pub(crate) fn demand_told(&mut self) -> Result<(), Violation> {
        let limit = self.now + TOLD_WITHIN;
        loop {
            self.note_ends();
            let mut open = self.watches.watchers.values().filter(|it| !it.told);
            let late = open.find(|it| self.watches.over.contains(&(it.actor, it.born)));
            let Some(actor) = late.map(|it| it.actor) else {
                return Ok(());
            };
            if self.now >= limit {
                return Err(Violation::NotTold(actor));
            }
            let next = self.now + LOOK * 10;
            self.run_until(next)?;
        }
    }
}
