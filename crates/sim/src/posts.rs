//! Messages that nodes tell durable actors, and ask them, through the mailboxes of their hosts: a
//! told one is acknowledged when it is in the mailbox, and is not sent again.
//!
//! What is checked: a message that was acknowledged is handled once, in the order in which its
//! sender sent it, however often its actor moves and whoever dies meanwhile. It may be gone only if
//! its host was killed with it in memory, or has said why nobody will handle it; and once all is
//! healed none waits for long. What goes on between two hosts is in [`crate::sendon`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use cpe_membership::{Member, NodeId};
use cpe_mesh::{Awaiting, Delivered, Mailbox, Moves};
use cpe_space::{ActorRecord, Marked};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::actors::{From, Parcel, list_of, name, number, sender};
use crate::check::Violation;
use crate::schedule::up_to;
use crate::sendon::{self, Batch, Order};
use crate::world::{Happening, World};

/// What tells such a message in the state of an actor from all others.
pub(crate) const POST: i64 = 1_000_000_000_000;

/// Randomness of its own.
const STREAM: u64 = 9;

/// Nodes that send to each actor.
const TELLERS: usize = 2;

/// Messages that wait in a mailbox at most.
const SIZE: usize = 32;

/// Told messages that stay open, as a sender says of its numbers.
const WINDOW: usize = 8;

/// Share of messages that are told; the others are asked.
const TOLD: f64 = 0.8;

/// Share of pauses between two messages that are long, and how long those are.
const REST: f64 = 0.2;
const REST_MS: Range<u64> = 200..1_500;

/// Milliseconds. A sender tries again after so long.
const RETRY_MS: Range<u64> = 100..400;

/// How long a sender tries.
const PATIENCE: Duration = Duration::from_secs(3);

/// Milliseconds. So long a message or an answer takes at most.
const WAY_MS: f64 = 30.0;

/// Shares of these that are lost, and that come twice.
const LOST: f64 = 0.1;
const TWICE: f64 = 0.05;

/// Milliseconds. So long a handler takes at most, and one that is slow; and how many are.
const HANDLER_MS: f64 = 15.0;
const SLOW_MS: f64 = 300.0;
const SLOW: f64 = 0.15;

/// How often what waits for something else is looked at again.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// Within how long nothing waits any more, once all is healed.
const DONE_WITHIN: Duration = Duration::from_secs(120);

/// What happens to messages.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A sender sends what it is at, unless it has had another turn since.
    Send(usize, u64),
    /// It arrives at a host, for an incarnation.
    Arrive(usize, u64, Mail),
    /// The answer arrives.
    Answer(Mail, Answer),
    /// A host looks for what its actor is to handle.
    Work(usize, usize, u64),
    /// Its handler is through.
    Through(usize, usize, u64, u64),
    /// Something between two hosts.
    On(sendon::Step),
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    teller: usize,
    /// The start of its node.
    boot: u32,
    seq: u64,
    low: u64,
    told: bool,
    pub(crate) actor: usize,
}

impl Mail {
    /// What it is in the state of who handled it.
    pub(crate) fn id(&self) -> i64 {
        let start = self.teller as i64 * 1_000 + i64::from(self.boot);
        POST + start * 1_000_000 + self.seq as i64
    }

    fn from(&self) -> From {
        From::Teller {
            teller: self.teller,
            boot: self.boot,
            value: self.id(),
        }
    }

    pub(crate) fn marked(&self) -> Option<Marked> {
        let sender = sender(self.from())?;
        let (seq, low) = (self.seq, self.low);
        Some(Marked { sender, seq, low })
    }
}

/// What a host says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is in the mailbox, or handled.
    Done,
    /// The mailbox is full.
    Full,
    NotHere,
    Elsewhere(Member, u64),
}

/// Who waits for what comes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Asker,
    Batch(u64),
}

#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) mail: Mail,
    pub(crate) waits: Vec<Waits>,
}

/// The mailbox of an actor at its host.
#[derive(Debug)]
pub(crate) struct Hosted {
    pub(crate) token: u64,
    pub(crate) born: u64,
    pub(crate) mailbox: Mailbox<Waiting>,
    /// What the actor was given and is not at yet.
    given: VecDeque<u64>,
    /// What it is at, and in which of its runs.
    at: Option<(u64, u64)>,
    runs: u64,
    /// A former host that is waited for, and the number of the question.
    pub(crate) awaiting: Option<(Awaiting, Member, u64)>,
}

/// Why nobody will handle a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The actor has ended.
    Ended,
    /// Its host lost it to another one.
    Lost,
    /// It came to the next host after later ones.
    Passed,
}

#[derive(Debug)]
struct Teller {
    node: usize,
    actor: usize,
    boot: u32,
    seq: u64,
    open: Option<(Mail, Duration)>,
    window: VecDeque<u64>,
    turn: u64,
    /// Where a former host said that the actor is.
    hint: Option<(Member, u64)>,
}

/// All senders and mailboxes.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    rng: Option<ChaCha8Rng>,
    tellers: Vec<Teller>,
    /// By node and actor.
    pub(crate) hosted: BTreeMap<(usize, usize), Hosted>,
    /// By node, actor and the token that it had there.
    pub(crate) orders: BTreeMap<(usize, usize, u64), Order>,
    pub(crate) batches: BTreeMap<u64, Batch>,
    pub(crate) next: u64,
    /// By node and actor: where it was handed to.
    trail: BTreeMap<(usize, usize), (Member, u64)>,
    /// By node: lives that it knows to be over.
    over: BTreeSet<(usize, Member)>,
    /// Former hosts that were not waited for any longer, by actor.
    pub(crate) given_up: BTreeSet<(usize, NodeId)>,
    acknowledged: BTreeSet<i64>,
    excused: BTreeSet<i64>,
}

impl Posts {
    /// Whether the actor is at a message.
    pub(crate) fn is_at_one(&self, n: usize, actor: usize) -> bool {
        let hosted = self.hosted.get(&(n, actor));
        hosted.is_some_and(|it| it.at.is_some())
    }

    /// Whether messages of a former host come first.
    pub(crate) fn holds_back(&self, n: usize, actor: usize) -> bool {
        let hosted = self.hosted.get(&(n, actor));
        hosted.is_some_and(|it| it.mailbox.is_holding())
    }

    /// A node was told that a life is over.
    pub(crate) fn life_over(&mut self, n: usize, life: Member) {
        self.over.insert((n, life));
    }

    pub(crate) fn is_over(&self, n: usize, life: Member) -> bool {
        let known = self.over.range((n, life)..);
        let mut later = known.take_while(|(at, other)| *at == n && other.node == life.node);
        later.next().is_some()
    }
}

impl World {
    pub(crate) fn post_rng(&mut self) -> &mut ChaCha8Rng {
        let seed = self.seed;
        self.posts.rng.get_or_insert_with(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(STREAM);
            rng
        })
    }

    /// Plans who sends.
    pub(crate) fn plan_posts(&mut self) {
        for actor in 0..self.scenario.workload.actors as usize {
            for _ in 0..TELLERS {
                let nodes = self.nodes.len();
                let node = self.post_rng().random_range(0..nodes);
                let teller = self.posts.tellers.len();
                self.posts.tellers.push(Teller {
                    node,
                    actor,
                    boot: 0,
                    seq: 0,
                    open: None,
                    window: VecDeque::new(),
                    turn: 0,
                    hint: None,
                });
                self.send_in(teller, REST_MS);
            }
        }
    }

    pub(crate) fn post_at(&mut self, when: Duration, step: Step) {
        self.at(when, Happening::Post(step));
    }

    /// Sends something from one node to another; false if it does not arrive.
    pub(crate) fn send_post(&mut self, (from, to): (usize, usize), step: Step) -> bool {
        let cut = from != to && !self.links.linked(from, to);
        let calm = self.calm || from == to;
        let rng = self.post_rng();
        let (lost, twice) = (rng.random_bool(LOST), rng.random_bool(TWICE));
        let (way, other) = (up_to(rng, WAY_MS), up_to(rng, WAY_MS));
        if cut || (lost && !calm) {
            return false;
        }
        if twice && !calm {
            self.post_at(self.now + other, step.clone());
        }
        self.post_at(self.now + way, step);
        true
    }

    /// True for a node that stands still: what comes waits.
    pub(crate) fn stands_still(&self, n: usize) -> bool {
        self.nodes
            .get(n)
            .is_some_and(crate::nodes::SimNode::is_held)
    }

    pub(crate) fn post_step(&mut self, step: Step) {
        let at = match &step {
            Step::Send(teller, _) | Step::Answer(Mail { teller, .. }, _) => {
                self.posts.tellers.get(*teller).map(|it| it.node)
            }
            Step::Arrive(n, ..) | Step::Work(n, ..) | Step::Through(n, ..) => Some(*n),
            Step::On(step) => Some(step.at()),
        };
        if at.is_some_and(|n| self.stands_still(n)) {
            return self.post_at(self.now + LOOK, step);
        }
        match step {
            Step::Send(teller, turn) => self.send_mail(teller, turn),
            Step::Arrive(n, token, mail) => self.mail_arrives(n, token, mail),
            Step::Answer(mail, answer) => self.mail_answered(mail, answer),
            Step::Work(n, actor, token) => {
                let hosted = self.posts.hosted.get(&(n, actor));
                if hosted.is_some_and(|it| it.token == token) {
                    self.work(n, actor);
                    self.post_at(self.now + LOOK * 2, Step::Work(n, actor, token));
                }
            }
            Step::Through(n, actor, token, run) => self.handler_ends(n, actor, (token, run)),
            Step::On(step) => self.send_on_step(step),
        }
    }

    /// A sender has its next turn after so long.
    fn send_in(&mut self, teller: usize, ms: Range<u64>) {
        let pause = Duration::from_millis(self.post_rng().random_range(ms));
        if let Some(it) = self.posts.tellers.get_mut(teller) {
            it.turn += 1;
            let turn = it.turn;
            self.post_at(self.now + pause, Step::Send(teller, turn));
        }
    }

    fn send_mail(&mut self, teller: usize, turn: u64) {
        let (now, calm) = (self.now, self.calm);
        let told = self.post_rng().random_bool(TOLD);
        let Some(it) = self.posts.tellers.get_mut(teller) else {
            return;
        };
        if it.turn != turn {
            return;
        }
        let (n, actor) = (it.node, it.actor);
        let node = self.nodes.get(n).filter(|node| node.peer.is_some());
        let Some(boot) = node.map(|node| node.boot) else {
            return self.send_in(teller, RETRY_MS);
        };
        if it.boot != boot {
            (it.boot, it.seq) = (boot, 0);
            (it.open, it.hint) = (None, None);
            it.window.clear();
        }
        if it.open.is_some_and(|(_, since)| since + PATIENCE < now) && !calm {
            it.end();
        }
        if it.open.is_none() {
            if calm {
                return;
            }
            it.seq += 1;
            let seq = it.seq;
            let low = it.window.front().copied().unwrap_or(seq).min(seq);
            let mail = Mail {
                teller,
                boot,
                seq,
                low,
                told,
                actor,
            };
            it.open = Some((mail, now));
        }
        let (open, hint) = (it.open, it.hint);
        let record = self.awake(n).and_then(|peer| peer.actor(&name(actor)));
        let known = record.and_then(|record| Some((record.host?, record.token)));
        let place = hint.filter(|hint| known.is_none_or(|known| hint.1 > known.1));
        if let Some((host, token)) = place.or(known)
            && let Some((mail, _)) = open
        {
            let to = node_of(host);
            self.send_post((n, to), Step::Arrive(to, token, mail));
        }
        self.send_in(teller, RETRY_MS);
    }

    /// A message comes to a host directly.
    fn mail_arrives(&mut self, n: usize, token: u64, mail: Mail) {
        if !self.is_up(n) {
            return;
        }
        let actor = mail.actor;
        let trail = self.posts.trail.get(&(n, actor)).copied();
        let hosted = self.posts.hosted.get_mut(&(n, actor));
        let hosted = hosted.filter(|it| it.token == token);
        let (Some(hosted), Some(marked)) = (hosted, mail.marked()) else {
            let elsewhere = trail.filter(|(_, next)| *next > token);
            let answer = elsewhere.map_or(Answer::NotHere, |(host, next)| {
                Answer::Elsewhere(host, next)
            });
            return self.answer_mail(n, mail, answer);
        };
        let waits = if mail.told {
            Vec::new()
        } else {
            vec![Waits::Asker]
        };
        let delivered = hosted
            .mailbox
            .deliver(marked, false, || Waiting { mail, waits });
        let answer = match delivered {
            Delivered::Gone => Some(Answer::NotHere),
            Delivered::Full => Some(Answer::Full),
            Delivered::Handled => Some(Answer::Done),
            // One that asks again has an answer to come.
            Delivered::Here(_) | Delivered::New(_) => mail.told.then_some(Answer::Done),
        };
        if matches!(delivered, Delivered::New(_)) {
            self.note(n, || format!("has {} for a{actor}", mail.id()));
        }
        if let Some(answer) = answer {
            self.answer_mail(n, mail, answer);
        }
        self.work(n, actor);
    }

    fn answer_mail(&mut self, n: usize, mail: Mail, answer: Answer) {
        if let Some(to) = self.posts.tellers.get(mail.teller).map(|it| it.node) {
            self.send_post((n, to), Step::Answer(mail, answer));
        }
    }

    fn mail_answered(&mut self, mail: Mail, answer: Answer) {
        let up = |it: &Teller| self.is_boot(it.node, mail.boot) && it.boot == mail.boot;
        let Some(teller) = self.posts.tellers.get(mail.teller).filter(|it| up(it)) else {
            return;
        };
        if teller.open.is_none_or(|(open, _)| open != mail) {
            return;
        }
        let long = self.post_rng().random_bool(REST);
        let Some(teller) = self.posts.tellers.get_mut(mail.teller) else {
            return;
        };
        let pause = match answer {
            Answer::Done => {
                teller.end();
                self.posts.acknowledged.insert(mail.id());
                self.report.posted += 1;
                if long { REST_MS } else { 0..20 }
            }
            Answer::Elsewhere(host, token) => {
                let newer = teller.hint.is_none_or(|(_, known)| token > known);
                if newer {
                    teller.hint = Some((host, token));
                }
                if newer { 0..1 } else { 40..60 }
            }
            Answer::NotHere => 40..60,
            Answer::Full => RETRY_MS,
        };
        self.send_in(mail.teller, pause);
    }

    /// A host begins to run an actor.
    pub(crate) fn begin_mailbox(&mut self, n: usize, actor: usize, record: &ActorRecord) {
        self.mailbox_lost(n, actor, Why::Lost);
        let awaiting = record.rest.map(|from| (Awaiting::default(), from, 0));
        let hosted = Hosted {
            token: record.token,
            born: record.born,
            mailbox: Mailbox::new(SIZE, record.kept.as_deref(), record.rest),
            given: VecDeque::new(),
            at: None,
            runs: 0,
            awaiting,
        };
        self.posts.hosted.insert((n, actor), hosted);
        let token = record.token;
        self.post_at(self.now + LOOK, Step::Work(n, actor, token));
        if record.rest.is_some() {
            self.ask_rest(n, actor, token);
        }
    }

    /// Has the actor begin with what is next for it, if it is at nothing.
    pub(crate) fn work(&mut self, n: usize, actor: usize) {
        let idle = self.is_idle(n, actor);
        let rng = self.post_rng();
        let most = if rng.random_bool(SLOW) {
            SLOW_MS
        } else {
            HANDLER_MS
        };
        let takes = up_to(rng, most);
        let Some(hosted) = self.posts.hosted.get_mut(&(n, actor)) else {
            return;
        };
        while let Some(ticket) = hosted.mailbox.give() {
            hosted.given.push_back(ticket);
        }
        if !idle || hosted.at.is_some() {
            return;
        }
        let Some(ticket) = hosted.given.pop_front() else {
            return;
        };
        hosted.runs += 1;
        let (token, run) = (hosted.token, hosted.runs);
        hosted.at = Some((ticket, run));
        self.post_at(self.now + takes, Step::Through(n, actor, token, run));
    }

    /// A handler ends: what it did is committed.
    fn handler_ends(&mut self, n: usize, actor: usize, (token, run): (u64, u64)) {
        let hosted = self.posts.hosted.get(&(n, actor));
        let hosted = hosted.filter(|it| it.token == token);
        let Some((hosted, ticket)) = hosted.and_then(|it| {
            let (ticket, of) = it.at?;
            (of == run).then_some((it, ticket))
        }) else {
            return;
        };
        let marked = hosted.mailbox.marked(&[ticket]).pop();
        let waiting = hosted.mailbox.get(ticket);
        if let (Some(Marked { seq, low, .. }), Some(Waiting { mail, .. })) = (marked, waiting) {
            let parcel = Parcel {
                from: mail.from(),
                to: actor,
                message: seq,
                low,
                by: n,
            };
            self.handle(n, actor, parcel);
        }
    }

    /// A commit lasts, by which a message was handled.
    pub(crate) fn mail_lasts(&mut self, n: usize, actor: usize, parcel: Parcel) {
        let Some(hosted) = self.posts.hosted.get_mut(&(n, actor)) else {
            return;
        };
        if let Some(marked) = parcel.marked() {
            hosted.mailbox.lasts(&[marked]);
        }
        if let (From::Teller { .. }, Some((ticket, _))) = (parcel.from, hosted.at) {
            hosted.at = None;
            if let Some(waiting) = hosted.mailbox.done(ticket) {
                self.mail_ends(n, &waiting, Ok(()));
            }
        }
        self.work(n, actor);
    }

    /// Those who wait for a message hear what came of it here.
    fn mail_ends(&mut self, n: usize, waiting: &Waiting, end: Result<(), Why>) {
        let trail = self.posts.trail.get(&(n, waiting.mail.actor)).copied();
        for waits in &waiting.waits {
            match waits {
                Waits::Asker => {
                    let answer = match (end, trail) {
                        (Ok(()), _) => Answer::Done,
                        (Err(_), Some((host, token))) => Answer::Elsewhere(host, token),
                        (Err(_), None) => Answer::NotHere,
                    };
                    self.answer_mail(n, waiting.mail, answer);
                }
                Waits::Batch(batch) => self.batch_goes_on(*batch, end),
            }
        }
    }

    /// An actor is to be handed on; false if it is not to be, for now.
    pub(crate) fn mailbox_moves(&mut self, n: usize, actor: usize, gives_up: bool) -> bool {
        let committing = self.commits(n, actor);
        let Some(hosted) = self.posts.hosted.get_mut(&(n, actor)) else {
            return true;
        };
        if hosted.mailbox.begin_move() != Moves::Begun {
            return false;
        }
        for ticket in std::mem::take(&mut hosted.given) {
            hosted.mailbox.comes_back(ticket);
        }
        if gives_up
            && !committing
            && let Some((ticket, _)) = hosted.at.take()
        {
            hosted.mailbox.comes_back(ticket);
        }
        true
    }

    /// It is not handed on after all.
    pub(crate) fn mailbox_stays(&mut self, n: usize, actor: usize) {
        if let Some(hosted) = self.posts.hosted.get_mut(&(n, actor)) {
            hosted.mailbox.stay();
            self.end_order(n, actor);
            self.work(n, actor);
        }
    }

    /// It is another host's: what it was told goes after it.
    pub(crate) fn mailbox_leaves(&mut self, n: usize, actor: usize, to: (Member, u64)) {
        let Some(mut hosted) = self.posts.hosted.remove(&(n, actor)) else {
            return;
        };
        self.posts.trail.insert((n, actor), to);
        let mut told = VecDeque::new();
        for waiting in hosted.mailbox.leave() {
            if waiting.mail.told {
                told.push_back(waiting.mail);
            }
            self.mail_ends(n, &waiting, Err(Why::Lost));
        }
        self.send_after((n, actor, hosted.token), to, hosted.born, told);
    }

    /// A host has lost an actor, or ended it.
    pub(crate) fn mailbox_lost(&mut self, n: usize, actor: usize, why: Why) {
        let Some(mut hosted) = self.posts.hosted.remove(&(n, actor)) else {
            return;
        };
        self.end_order(n, actor);
        for waiting in hosted.mailbox.leave() {
            self.mail_ends(n, &waiting, Err(why));
            // Else a former host has it too.
            if waiting.mail.told && waiting.waits.is_empty() {
                self.bury(n, waiting.mail, why);
            }
        }
    }

    /// All actors of a node are lost.
    pub(crate) fn mailboxes_lost(&mut self, n: usize) {
        let here = self.posts.hosted.range((n, 0)..(n + 1, 0));
        let actors: Vec<usize> = here.map(|((_, actor), _)| *actor).collect();
        for actor in actors {
            self.mailbox_lost(n, actor, Why::Lost);
        }
    }

    /// A message is a dead letter of this node.
    pub(crate) fn bury(&mut self, n: usize, mail: Mail, why: Why) {
        self.note(n, || format!("buries {}: {why:?}", mail.id()));
        self.report.buried += 1;
        let of = NodeId(n as u64 + 1);
        if why == Why::Passed && !self.posts.given_up.contains(&(mail.actor, of)) {
            self.violation = Some(Violation::PostPassed(mail.id()));
        }
        self.posts.excused.insert(mail.id());
    }

    /// A node has ended with all that it had in memory.
    pub(crate) fn posts_gone(&mut self, n: usize) {
        let posts = &mut self.posts;
        let mut gone = Vec::new();
        for (_, hosted) in posts.hosted.range((n, 0)..(n + 1, 0)) {
            // What a former host sent on is its own to keep.
            let own = hosted.mailbox.all().filter(|(_, rest)| !rest);
            gone.extend(own.map(|(waiting, _)| waiting.mail.id()));
        }
        let orders = posts.orders.range((n, 0, 0)..(n + 1, 0, 0));
        for mail in orders.flat_map(|(_, order)| &order.told) {
            gone.push(mail.id());
        }
        posts.hosted.retain(|(at, _), _| *at != n);
        posts.orders.retain(|(at, ..), _| *at != n);
        posts.batches.retain(|_, batch| batch.host != n);
        posts.trail.retain(|(at, _), _| *at != n);
        posts.over.retain(|(at, _)| *at != n);
        let kept = posts.orders.values().flat_map(|order| &order.told);
        let kept: BTreeSet<i64> = kept.map(Mail::id).collect();
        let lost = gone.into_iter().filter(|id| !kept.contains(id));
        posts.excused.extend(lost);
    }

    /// With all healed, what waits is handled in time.
    pub(crate) fn demand_posts(&mut self) -> Result<(), Violation> {
        let limit = self.now + DONE_WITHIN;
        loop {
            let waits = self.posts.hosted.values();
            let waits: usize = waits.map(|it| it.mailbox.all().count()).sum();
            let orders = self.posts.orders.values();
            let orders = orders.filter(|order| !order.told.is_empty()).count();
            let held = self.posts.hosted.values();
            let held = held.filter(|it| it.mailbox.is_holding()).count();
            if waits + orders + held == 0 {
                return Ok(());
            }
            if self.now >= limit {
                return Err(Violation::PostWaits {
                    waits,
                    orders,
                    held,
                    seconds: DONE_WITHIN.as_secs(),
                });
            }
            let next = self.now + LOOK * 10;
            self.run_until(next)?;
        }
    }

    /// The end: what was acknowledged is handled, in order.
    pub(crate) fn close_posts(&self) -> Result<(), Violation> {
        let mut handled = BTreeSet::new();
        let peers = self.nodes.iter().filter_map(|node| node.peer.as_ref());
        for shard in peers.take(1).flat_map(cpe_mesh::Peer::shards) {
            for (of, record) in shard.sm().actors() {
                let (Some(actor), Some(kept)) = (number(of), record.kept.as_ref()) else {
                    continue;
                };
                let mut last: BTreeMap<i64, i64> = BTreeMap::new();
                for message in list_of(&kept.snapshot) {
                    handled.insert(message);
                    // What was given up by its sender may come late.
                    if !self.posts.acknowledged.contains(&message) {
                        continue;
                    }
                    let before = last.insert((message - POST) / 1_000_000, message);
                    if before.is_some_and(|before| before > message) {
                        return Err(Violation::PostOrder { actor, message });
                    }
                }
            }
        }
        let excused = |id: &&i64| !handled.contains(id) && !self.posts.excused.contains(id);
        let lost = self.posts.acknowledged.iter().find(excused);
        lost.map_or(Ok(()), |id| Err(Violation::PostLost(*id)))
    }
}

impl Teller {
    /// What it is at is answered, or given up.
    fn end(&mut self) {
        if let Some((mail, _)) = self.open.take()
            && mail.told
        {
            self.window.push_back(mail.seq);
            if self.window.len() > WINDOW {
                self.window.pop_front();
            }
        }
    }
}

pub(crate) fn node_of(member: Member) -> usize {
    usize::try_from(member.node.0 - 1).unwrap_or(usize::MAX)
}
