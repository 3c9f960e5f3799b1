//! What waited for an actor that was handed on: sent after it by its former host
//! ([`Forwarding`]), and waited for by the next one ([`Awaiting`](cpe_mesh::Awaiting)), as nodes do
//! it (decision 032).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use cpe_membership::{Member, NodeId};
use cpe_mesh::{
    AwaitStep, ForwardEnd, ForwardStep, Forwarding, Reached, Rest, Room, Seen, TakenIn,
};
use rand::RngExt;

use crate::actors::name;
use crate::posts::{self, LOOK, Mail, Waiting, Waits, Why, node_of};
use crate::world::World;

/// Messages of one batch at most: few, so that there are many batches.
const BATCH_MAX: usize = 4;

/// How long a former host may take to say what it still has.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// Milliseconds. A call that was lost is found to be so within so long.
const FOUND_MS: std::ops::Range<u64> = 100..1_500;

/// What happens between two hosts.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A batch arrives at a host, for an incarnation.
    Batch {
        order: Key,
        call: u64,
        at: usize,
        token: u64,
        mails: Vec<Mail>,
    },
    /// What came of it: which of it was passed over.
    Came {
        order: Key,
        call: u64,
        reached: Reached,
        passed: BTreeSet<usize>,
    },
    /// The former host looks whether its call may still be answered.
    Call { order: Key, call: u64 },
    /// A pause of the former host is over.
    Woke { order: Key, call: u64 },
    /// A next host asks what its former host has.
    Ask { at: usize, actor: usize, token: u64 },
    /// The question arrives there.
    Asked {
        at: usize,
        by: usize,
        actor: usize,
        token: u64,
        n: u64,
    },
    /// The answer arrives.
    Rest {
        at: usize,
        actor: usize,
        token: u64,
        n: u64,
        rest: Rest,
    },
    /// A former host says that it has sent all.
    End {
        at: usize,
        actor: usize,
        token: u64,
        from: usize,
    },
}

/// The former host, the actor, and the token that it had there.
pub(crate) type Key = (usize, usize, u64);

impl Step {
    /// The node that it concerns.
    pub(crate) fn at(&self) -> usize {
        match self {
            Self::Batch { at, .. }
            | Self::Ask { at, .. }
            | Self::Asked { at, .. }
            | Self::Rest { at, .. }
            | Self::End { at, .. } => *at,
            Self::Came { order, .. } | Self::Call { order, .. } | Self::Woke { order, .. } => {
                order.0
            }
        }
    }
}

/// What a former host sends after an actor.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Nothing until the home has said whose the actor is.
    forwarding: Option<Forwarding>,
    pub(crate) told: VecDeque<Mail>,
    /// The token of the host that it is sent to.
    to: u64,
    /// Counts the calls and pauses.
    call: u64,
    /// What is sent, and to which start of which node; nothing while it waits.
    sent: Option<(usize, usize, u32)>,
}

/// What a host has taken in of a former one.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) host: usize,
    order: Key,
    call: u64,
    count: usize,
    left: usize,
    passed: BTreeSet<usize>,
}

impl World {
    fn on_at(&mut self, when: Duration, step: Step) {
        self.post_at(when, posts::Step::On(step));
    }

    fn send_on(&mut self, way: (usize, usize), step: Step) -> bool {
        self.send_post(way, posts::Step::On(step))
    }

    pub(crate) fn send_on_step(&mut self, step: Step) {
        match step {
            Step::Batch {
                order,
                call,
                at,
                token,
                mails,
            } => self.batch_arrives((order, call), at, token, &mails),
            Step::Came {
                order,
                call,
                reached,
                passed,
            } => self.batch_came((order, call), reached, &passed),
            Step::Call { order, call } => self.look_at_call(order, call),
            Step::Woke { order, call } => {
                self.forward(order, call, |it, now, record| it.woke(now, record));
            }
            Step::Ask { at, actor, token } => self.ask_rest(at, actor, token),
            Step::Asked {
                at,
                by,
                actor,
                token,
                n,
            } => {
                if self.is_up(at) {
                    let rest = self.rest_of(at, actor, token);
                    let at_asker = Step::Rest {
                        at: by,
                        actor,
                        token,
                        n,
                        rest,
                    };
                    self.send_on((at, by), at_asker);
                }
            }
            Step::Rest {
                at,
                actor,
                token,
                n,
                rest,
            } => self.rest_heard((at, actor, token), n, rest),
            Step::End {
                at,
                actor,
                token,
                from,
            } => {
                let hosted = self.posts.hosted.get_mut(&(at, actor));
                if let Some(hosted) = hosted.filter(|it| it.token == token)
                    && hosted.mailbox.all_sent(NodeId(from as u64 + 1))
                {
                    self.work(at, actor);
                }
            }
        }
    }

    /// Something may be to be sent after an actor, as its host is about to ask the home.
    pub(crate) fn begin_order(&mut self, n: usize, actor: usize, token: u64) {
        self.posts.orders.entry((n, actor, token)).or_default();
    }

    /// Nothing is, of what has not begun.
    pub(crate) fn end_order(&mut self, n: usize, actor: usize) {
        let of_it = |it: &Key| (it.0, it.1) == (n, actor);
        self.posts
            .orders
            .retain(|key, order| !of_it(key) || order.forwarding.is_some());
    }

    /// The home has said whose the actor is: what it was told is sent there.
    pub(crate) fn send_after(
        &mut self,
        key: Key,
        (host, token): (Member, u64),
        born: u64,
        told: VecDeque<Mail>,
    ) {
        self.note(key.0, || {
            let all: Vec<i64> = told.iter().map(Mail::id).collect();
            format!("sends after a{} to {host}, {token}: {all:?}", key.1)
        });
        let seen = Seen {
            host,
            token,
            born,
            leased: true,
        };
        let (forwarding, first) = Forwarding::new(seen, told.len());
        let order = self.posts.orders.entry(key).or_default();
        order.forwarding = Some(forwarding);
        order.told = told;
        self.forwarding_wants(key, first);
    }

    fn forwarding_wants(&mut self, key: Key, step: ForwardStep) {
        let (n, actor, _) = key;
        let Some(order) = self.posts.orders.get_mut(&key) else {
            return;
        };
        order.call += 1;
        let call = order.call;
        order.sent = None;
        match step {
            ForwardStep::Wait(pause) => {
                let order = key;
                self.on_at(self.now + pause, Step::Woke { order, call });
            }
            ForwardStep::Send { host, token } => {
                order.to = token;
                let mails: Vec<Mail> = order.told.iter().take(BATCH_MAX).copied().collect();
                let at = node_of(host);
                let boot = self.nodes.get(at).map_or(0, |node| node.boot);
                order.sent = Some((mails.len(), at, boot));
                let batch = Step::Batch {
                    order: key,
                    call,
                    at,
                    token,
                    mails,
                };
                let order = key;
                if self.send_on((n, at), batch) {
                    self.on_at(self.now + LOOK, Step::Call { order, call });
                } else {
                    self.call_fails(key, call);
                }
            }
            ForwardStep::Over(end) => {
                let Some(order) = self.posts.orders.remove(&key) else {
                    return;
                };
                if let ForwardEnd::Undelivered(why) = end {
                    self.note(n, || format!("gives up what is left for a{actor}: {why}"));
                    for mail in order.told {
                        self.bury(n, mail, Why::Ended);
                    }
                }
                if let Some(to) = order.forwarding.map(|it| *it.to()) {
                    let (at, token, from) = (node_of(to.host), to.token, n);
                    let end = Step::End {
                        at,
                        actor,
                        token,
                        from,
                    };
                    self.send_on((n, at), end);
                }
            }
        }
    }

    /// A call is lost, as its node finds soon.
    fn call_fails(&mut self, order: Key, call: u64) {
        let pause = Duration::from_millis(self.post_rng().random_range(FOUND_MS));
        let came = Step::Came {
            order,
            call,
            reached: Reached::Silent,
            passed: BTreeSet::new(),
        };
        self.on_at(self.now + pause, came);
    }

    fn look_at_call(&mut self, key: Key, call: u64) {
        let order = self.posts.orders.get(&key).filter(|it| it.call == call);
        let Some((_, at, boot)) = order.and_then(|order| order.sent) else {
            return;
        };
        let linked = at == key.0 || self.links.linked(key.0, at);
        if linked && self.is_boot(at, boot) {
            let order = key;
            return self.on_at(self.now + LOOK, Step::Call { order, call });
        }
        self.batch_came((key, call), Reached::Silent, &BTreeSet::new());
    }

    /// A batch came to this.
    fn batch_came(&mut self, (key, call): (Key, u64), reached: Reached, passed: &BTreeSet<usize>) {
        let Some(order) = self.posts.orders.get_mut(&key) else {
            return;
        };
        if order.call != call || order.sent.is_none() {
            return;
        }
        if let Reached::Handled(count) = reached {
            let count = count.min(order.told.len());
            let done: Vec<Mail> = order.told.drain(..count).collect();
            for (at, mail) in done.into_iter().enumerate() {
                if passed.contains(&at) {
                    self.bury(key.0, mail, Why::Passed);
                }
            }
            self.report.sent_on += count as u64;
        }
        self.forward(key, call, |it, now, record| it.heard(now, reached, record));
    }

    fn forward(
        &mut self,
        key: Key,
        call: u64,
        step: impl FnOnce(&mut Forwarding, Duration, Option<&cpe_mesh::ActorInfo>) -> ForwardStep,
    ) {
        let Some(node) = self.nodes.get(key.0) else {
            return;
        };
        let Some(record) = node.peer.as_ref().map(|peer| peer.actor(&name(key.1))) else {
            return;
        };
        let now = node.clock.shows(self.now);
        let order = self.posts.orders.get_mut(&key);
        let order = order.filter(|order| order.call == call);
        if let Some(forwarding) = order.and_then(|order| order.forwarding.as_mut()) {
            let next = step(forwarding, now, record.as_ref());
            self.forwarding_wants(key, next);
        }
    }

    /// A batch arrives at a host.
    fn batch_arrives(&mut self, of: (Key, u64), n: usize, token: u64, mails: &[Mail]) {
        let (key, call) = of;
        let (actor, from) = (key.1, NodeId(key.0 as u64 + 1));
        if !self.is_up(n) {
            return;
        }
        let hosted = self.posts.hosted.get_mut(&(n, actor));
        let Some(hosted) = hosted.filter(|it| it.token == token) else {
            return self.answer_batch(n, of, Reached::NotThere, BTreeSet::new());
        };
        let refused = match hosted.mailbox.room(mails.len()) {
            Room::There => None,
            Room::Busy => Some(Reached::Silent),
            Room::Gone => Some(Reached::NotThere),
        };
        if let Some(refused) = refused {
            return self.answer_batch(n, of, refused, BTreeSet::new());
        }
        self.posts.next += 1;
        let id = self.posts.next;
        let mut batch = Batch {
            host: n,
            order: key,
            call,
            count: mails.len(),
            left: 0,
            passed: BTreeSet::new(),
        };
        for (at, mail) in mails.iter().enumerate() {
            let Some(marked) = mail.marked() else {
                continue;
            };
            let taken = hosted.mailbox.take_in(from, marked, || Waiting {
                mail: *mail,
                waits: Vec::new(),
            });
            match taken {
                TakenIn::Passed => drop(batch.passed.insert(at)),
                TakenIn::Handled => {}
                TakenIn::Here(ticket) | TakenIn::New(ticket) => {
                    batch.left += 1;
                    if let Some(waiting) = hosted.mailbox.get_mut(ticket) {
                        waiting.waits.push(Waits::Batch(id));
                    }
                }
            }
        }
        let all: Vec<i64> = mails.iter().map(Mail::id).collect();
        self.note(n, || format!("takes in {all:?}, {batch:?}"));
        self.posts.batches.insert(id, batch);
        self.look_at_batch(id);
        self.work(n, actor);
    }

    /// One message of a batch is handled, or will not be here.
    pub(crate) fn batch_goes_on(&mut self, id: u64, end: Result<(), Why>) {
        match end {
            Ok(()) => {
                if let Some(batch) = self.posts.batches.get_mut(&id) {
                    batch.left -= 1;
                }
                self.look_at_batch(id);
            }
            Err(why) => {
                let reached = match why {
                    Why::Ended => Reached::Ended,
                    Why::Lost | Why::Passed => Reached::NotThere,
                };
                if let Some(batch) = self.posts.batches.remove(&id) {
                    let of = (batch.order, batch.call);
                    self.answer_batch(batch.host, of, reached, BTreeSet::new());
                }
            }
        }
    }

    fn look_at_batch(&mut self, id: u64) {
        let batch = self.posts.batches.get(&id);
        if batch.is_none_or(|batch| batch.left > 0) {
            return;
        }
        if let Some(batch) = self.posts.batches.remove(&id) {
            let (of, reached) = ((batch.order, batch.call), Reached::Handled(batch.count));
            self.answer_batch(batch.host, of, reached, batch.passed);
        }
    }

    fn answer_batch(
        &mut self,
        n: usize,
        (order, call): (Key, u64),
        reached: Reached,
        passed: BTreeSet<usize>,
    ) {
        let came = Step::Came {
            order,
            call,
            reached,
            passed,
        };
        if !self.send_on((n, order.0), came) {
            self.call_fails(order, call);
        }
    }

    /// A next host asks its former one.
    pub(crate) fn ask_rest(&mut self, n: usize, actor: usize, token: u64) {
        let hosted = self.posts.hosted.get_mut(&(n, actor));
        let Some(hosted) = hosted.filter(|it| it.token == token && it.mailbox.is_holding()) else {
            return;
        };
        let Some((_, from, asked)) = hosted.awaiting.as_mut() else {
            return;
        };
        *asked += 1;
        let (q, at) = (*asked, node_of(*from));
        let answer = |rest| Step::Rest {
            at: n,
            actor,
            token,
            n: q,
            rest,
        };
        if at == n {
            let rest = self.rest_of(n, actor, token);
            return self.on_at(self.now, answer(rest));
        }
        let question = Step::Asked {
            at,
            by: n,
            actor,
            token,
            n: q,
        };
        let linked = self.links.linked(n, at);
        self.send_on((n, at), question);
        let within = if linked { ASK_WITHIN } else { Duration::ZERO };
        self.on_at(self.now + within, answer(Rest::Silent));
    }

    /// What a node has for an actor that has this token by now: sent to whoever asks.
    fn rest_of(&mut self, n: usize, actor: usize, token: u64) -> Rest {
        let earlier = (n, actor, 0)..(n, actor, token);
        let orders = self.posts.orders.range(earlier);
        let all: Vec<(Key, u64, bool)> = orders
            .map(|(key, order)| {
                let looks = order.sent.is_some() && order.to < token;
                (*key, order.call, looks)
            })
            .collect();
        for (key, call, looks) in &all {
            if *looks {
                self.batch_came((*key, *call), Reached::Silent, &BTreeSet::new());
            }
        }
        if all.is_empty() {
            Rest::None
        } else {
            Rest::Some
        }
    }

    fn rest_heard(&mut self, (n, actor, token): (usize, usize, u64), q: u64, rest: Rest) {
        let Some(node) = self.nodes.get(n) else {
            return;
        };
        let now = node.clock.shows(self.now);
        let hosted = self.posts.hosted.get_mut(&(n, actor));
        let hosted = hosted.filter(|it| it.token == token && it.mailbox.is_holding());
        let Some((awaiting, from, asked)) = hosted.and_then(|it| it.awaiting.as_mut()) else {
            return;
        };
        if *asked != q {
            return;
        }
        // Answered: what comes late to the same question is of no use.
        *asked += 1;
        let from = *from;
        let mut awaiting = std::mem::take(awaiting);
        let is_over = self.posts.is_over(n, from);
        let step = awaiting.heard(now, rest, is_over);
        let Some(hosted) = self.posts.hosted.get_mut(&(n, actor)) else {
            return;
        };
        if let Some(kept) = hosted.awaiting.as_mut() {
            kept.0 = awaiting;
        }
        match step {
            AwaitStep::Ask(pause) => {
                let ask = Step::Ask {
                    at: n,
                    actor,
                    token,
                };
                return self.on_at(self.now + pause, ask);
            }
            AwaitStep::Open => {}
            AwaitStep::Lost => {
                // One that answers is waited for.
                if rest == Rest::Silent {
                    self.posts.given_up.insert((actor, from.node));
                }
                self.report.given_up += 1;
                self.note(n, || {
                    format!("waits no more for what {from} has for a{actor}")
                });
            }
        }
        if let Some(hosted) = self.posts.hosted.get_mut(&(n, actor)) {
            hosted.mailbox.open();
        }
        self.work(n, actor);
    }
}
