//! Named actors under leases: who runs which, what they commit, and clients that number messages.
//!
//! Each actor keeps a list of the messages it has handled, and commits it with the mark of their
//! sender before it answers. What is checked: at no instant may two nodes run the same name; the
//! commits of a name are one chain, its numbers one by one and its tokens never falling; each
//! message that was answered is in the list once, and none is twice; after the faults every name is
//! run by somebody, and every client is answered. Messages that are told once, through mailboxes,
//! are in [`crate::posts`], and plain actors in [`crate::plain`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_mesh::{Command, Failure, Input, OpHandle, Peer, Reply, RequestId};
use cpe_space::{ActorRecord, Effect, Mark, Marked, Name, Sender, Session, Takes};
use cpe_tuple::Value;
use rand::RngExt;

use crate::check::Violation;
use crate::effects::effects_of;
use crate::migrate::{MOVE_MS, Moving};
use crate::posts::Why;
use crate::release::RELEASE_MS;
use crate::schedule::up_to;
use crate::world::{Happening, World};

/// Clients of each actor.
const CLIENTS: usize = 2;

/// Keeps the messages of clients apart: more than any of them sends.
const CLIENT_IDS: i64 = 1_000_000;

/// Messages that a client has under way.
const AT_A_TIME: u64 = 2;

/// Milliseconds. A client asks again after so long.
const RETRY_MS: std::ops::Range<u64> = 100..400;

/// Milliseconds. So long a message to an actor takes at most.
const WAY_MS: f64 = 30.0;

/// Share of these that are lost, and of the answers.
const LOST: f64 = 0.1;

/// Milliseconds. So often somebody tries to claim a name, whether it is free or not.
const CLAIM_MS: std::ops::Range<u64> = 200..1_500;

/// How long a claim or a commit may take; then it is asked anew.
const DEADLINE: Duration = Duration::from_millis(700);

/// Pause before a commit that was not answered is asked anew.
const PAUSE: Duration = Duration::from_millis(50);

/// What happens to actors, by name or client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Somebody claims an actor, by its number.
    Claim(usize),
    /// A client sends what it is at.
    Send(usize),
    /// It arrives at a node.
    Arrive(usize, Parcel),
    /// The answer to it arrives.
    Answer(Parcel),
    /// A node sends again what it tells for an actor.
    Tell(usize, usize, u64),
    /// A node gives its actor again what came of a take.
    Give(usize, usize, u64),
    /// A node asks anew for the commit of an actor.
    Commit(usize, usize),
    /// Somebody hands an actor on.
    Move(usize),
    /// A node asks anew to hand an actor on.
    HandOn(usize, usize),
    /// A node asks anew what became of that question, for an actor with this token.
    AskFate(usize, usize, u64, OpHandle),
    /// Somebody gives up a name.
    Release(usize),
    /// A node asks anew to give up the name of an actor with this token.
    ReleaseAgain(usize, usize, u64),
}

/// Who sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Client(usize),
    /// An actor of this birth, and what it tells.
    Actor {
        actor: usize,
        born: u64,
        value: i64,
    },
    /// The actor's host, with what came of a take of the incarnation with this token.
    Take {
        born: u64,
        token: u64,
        n: u64,
        value: i64,
    },
    /// A start of a node that tells and asks through mailboxes.
    Teller {
        teller: usize,
        boot: u32,
        value: i64,
    },
}

/// A message to an actor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel {
    pub(crate) from: From,
    /// The actor.
    pub(crate) to: usize,
    /// Its number, from 1.
    pub(crate) message: u64,
    /// The lowest number that the sender may still send.
    pub(crate) low: u64,
    /// The node that sends for an actor.
    pub(crate) by: usize,
}

/// A commit under way.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    state: Vec<i64>,
    parcel: Parcel,
    effects: Vec<Effect>,
}

/// An actor that runs on a node.
#[derive(Debug)]
pub(crate) struct Instance {
    life: Member,
    pub(crate) born: u64,
    pub(crate) token: u64,
    pub(crate) seq: u64,
    state: Vec<i64>,
    marks: BTreeMap<Sender, Mark>,
    /// Takes that it knew of when it began, and its birth.
    takes: (u64, Takes),
    pub(crate) pending: Option<Pending>,
    /// It is being handed to another host, and does not act.
    pub(crate) moving: Option<Moving>,
}

#[derive(Debug)]
struct Client {
    actor: usize,
    /// Messages that are not answered: several, so that they overtake each other.
    open: BTreeSet<u64>,
    /// How many it has begun.
    begun: u64,
    /// When it was answered last.
    answered: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Claim,
    Commit {
        actor: usize,
        token: u64,
        seq: u64,
    },
    Migrate {
        actor: usize,
        token: u64,
    },
    Fate {
        actor: usize,
        token: u64,
        op: OpHandle,
    },
    Release {
        actor: usize,
        token: u64,
    },
    /// For a plain actor.
    Plain(usize),
    /// A node says that an effect is done.
    Effect,
}

/// All actors, and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct ActorBooks {
    /// By node and number.
    pub(crate) running: BTreeMap<(usize, usize), Instance>,
    /// By actor and token: the commit that its host knew as the last when it handed it on.
    pub(crate) handed: BTreeMap<(usize, u64), u64>,
    clients: Vec<Client>,
    asked: BTreeMap<RequestId, Asked>,
    /// Actors that somebody has had.
    begun: BTreeSet<usize>,
    /// Of each actor, the token of each commit that was acknowledged.
    chains: BTreeMap<(usize, u64), u64>,
    /// Messages that were answered.
    answered: BTreeSet<i64>,
}

/// From here on they are plain ones, with names of their own.
pub(crate) const PLAIN: usize = 100;

pub(crate) fn name(actor: usize) -> String {
    match actor.checked_sub(PLAIN) {
        Some(plain) => format!("p{plain}"),
        None => format!("a{actor}"),
    }
}

pub(crate) fn number(name: &str) -> Option<usize> {
    name.strip_prefix('a')?.parse().ok()
}

pub(crate) fn sender(from: From) -> Option<Sender> {
    let (node, boot) = match from {
        From::Client(client) => (1_000 + client as u64, 1_u32),
        From::Teller { teller, boot, .. } => (10_000 + teller as u64, boot),
        From::Take { born, n, .. } => return Some(Sender::Take { born, n }),
        From::Actor { actor, born, .. } => {
            let name = Name::new(&name(actor)).ok()?;
            return Some(Sender::Actor { name, born });
        }
    };
    let node = NodeId(node);
    let inc = Incarnation(1);
    let member = Member { node, inc };
    Some(Sender::Start(Session { member, boot }))
}

/// What makes a message unlike all others.
fn id(client: usize, message: u64) -> i64 {
    client as i64 * CLIENT_IDS + message as i64
}

impl Parcel {
    pub(crate) fn marked(self) -> Option<Marked> {
        Some(Marked {
            sender: sender(self.from)?,
            seq: self.message,
            low: self.low,
        })
    }

    /// What it is in the state of who handled it.
    fn id(self) -> i64 {
        match self.from {
            From::Client(client) => id(client, self.message),
            From::Actor { value, .. } | From::Take { value, .. } | From::Teller { value, .. } => {
                value
            }
        }
    }
}

fn list(state: &[i64]) -> Value {
    Value::List(state.iter().copied().map(Value::Int).collect())
}

pub(crate) fn list_of(value: &Value) -> Vec<i64> {
    match value {
        Value::List(all) => all.iter().filter_map(Value::as_int).collect(),
        _ => Vec::new(),
    }
}

impl ActorBooks {
    /// A node has ended, or lost its life as a host: nothing runs there.
    pub(crate) fn gone(&mut self, n: usize) {
        self.running.retain(|(at, _), _| *at != n);
    }

    /// A commit was acknowledged.
    fn committed(&mut self, actor: usize, token: u64, seq: u64) -> Result<(), Violation> {
        let broken = Err(Violation::NoChain { actor, token, seq });
        let earlier = self.chains.range((actor, 0)..(actor, seq)).next_back();
        let later = self.chains.range((actor, seq + 1)..(actor + 1, 0)).next();
        if earlier.is_some_and(|(_, other)| *other > token)
            || later.is_some_and(|(_, other)| *other < token)
        {
            return broken;
        }
        match self.chains.insert((actor, seq), token) {
            Some(other) if other != token => broken,
            _ => Ok(()),
        }
    }
}

impl World {
    /// Plans what clients and claimants do.
    pub(crate) fn plan_actors(&mut self) {
        let actors = self.scenario.workload.actors as usize;
        for actor in 0..actors {
            self.step_in(CLAIM_MS, Step::Claim(actor));
            self.step_in(MOVE_MS, Step::Move(actor));
            self.step_in(RELEASE_MS, Step::Release(actor));
            for _ in 0..CLIENTS {
                let client = self.actors.clients.len();
                self.actors.clients.push(Client {
                    actor,
                    open: (1..=AT_A_TIME).collect(),
                    begun: AT_A_TIME,
                    answered: Duration::ZERO,
                });
                self.step_in(RETRY_MS, Step::Send(client));
            }
        }
    }

    pub(crate) fn step_in(&mut self, ms: std::ops::Range<u64>, step: Step) {
        let pause = Duration::from_millis(self.rng.random_range(ms));
        self.at(self.now + pause, Happening::Actor(step));
    }

    /// Sends something between a client and a node.
    pub(crate) fn pass_on(&mut self, step: Step) {
        if self.calm || !self.rng.random_bool(LOST) {
            let way = up_to(&mut self.rng, WAY_MS);
            self.at(self.now + way, Happening::Actor(step));
        }
    }

    pub(crate) fn actor_step(&mut self, step: Step) {
        match step {
            Step::Claim(actor) => {
                self.claim(actor);
                if !self.actors_end {
                    self.step_in(CLAIM_MS, Step::Claim(actor));
                }
            }
            Step::Send(client) => self.send(client),
            Step::Arrive(n, parcel) => self.arrive(n, parcel),
            Step::Answer(parcel) => self.answer(parcel),
            Step::Tell(n, actor, at) => self.tell(n, actor, at),
            Step::Give(n, actor, at) => self.give(n, actor, at),
            Step::Commit(n, actor) => self.commit(n, actor),
            Step::Move(actor) => self.move_actor(actor),
            Step::HandOn(n, actor) => self.hand_on(n, actor),
            Step::AskFate(n, actor, token, op) => self.ask_fate(n, actor, token, op),
            Step::Release(actor) => self.release_some(actor),
            Step::ReleaseAgain(n, actor, token) => self.release(n, actor, token),
        }
    }

    fn claim(&mut self, actor: usize) {
        let n = self.any_node();
        // Once a name has a host others take it over by themselves, as is demanded of them.
        if self.calm && self.actors.begun.contains(&actor) && !self.is_free(n, actor) {
            return;
        }
        let Some(peer) = self.nodes.get(n).and_then(|node| node.peer.as_ref()) else {
            return;
        };
        let records = peer
            .shards()
            .find_map(|shard| shard.sm().actor(&name(actor)));
        let command = Command::Host {
            name: name(actor),
            expect: records.map_or(0, |record| record.token),
            spec: Value::Int(actor as i64),
            needs: BTreeMap::new(),
            deadline: DEADLINE,
        };
        self.ask_actor(n, Asked::Claim, command);
    }

    pub(crate) fn any_node(&mut self) -> usize {
        self.rng.random_range(0..self.nodes.len())
    }

    pub(crate) fn ask_actor(&mut self, n: usize, asked: Asked, command: Command) {
        let request = self.fresh_request();
        self.actors.asked.insert(request, asked);
        self.note(n, || format!("ask {} {command:?}", request.0));
        self.input(n, Input::Command(request, command));
    }

    /// An answer came; false when it is not about an actor.
    pub(crate) fn actor_replied(&mut self, n: usize, request: RequestId, reply: &Reply) -> bool {
        let Some(asked) = self.actors.asked.remove(&request) else {
            return false;
        };
        self.note(n, || format!("got {} {reply:?}", request.0));
        match (asked, reply) {
            (Asked::Claim, Reply::Hosted(record)) => self.run_actor(n, None, record),
            (Asked::Claim | Asked::Effect, _) => {}
            (Asked::Plain(actor), reply) => self.plain_claimed(n, actor, reply),
            (Asked::Commit { actor, token, seq }, reply) => {
                self.commit_ended(n, actor, (token, seq), reply);
            }
            (Asked::Migrate { actor, token }, reply) => self.migrate_ended(n, actor, token, reply),
            (Asked::Fate { actor, token, op }, reply) => {
                self.fate_known(n, (actor, token, op), reply);
            }
            (Asked::Release { actor, token }, reply) => self.release_ended(n, actor, token, reply),
        }
        true
    }

    /// A node is given an actor to run: in answer to the last claim of its record's name, or
    /// because others left it.
    pub(crate) fn run_actor(&mut self, n: usize, named: Option<&str>, record: &ActorRecord) {
        let found = named.and_then(number).or_else(|| self.named(record));
        let (Some(actor), Some(life)) = (found, record.host) else {
            return;
        };
        self.note(n, || format!("runs a{actor} with token {}", record.token));
        self.report.actors_run += 1;
        self.report.taken_over += u64::from(named.is_some() && record.from.is_none());
        if record.from.is_some() {
            let seq = record.kept.as_ref().map_or(0, |kept| kept.seq);
            self.look_at_handed(actor, record.token, seq);
        }
        self.actors.begun.insert(actor);
        let kept = record.kept.as_ref();
        let instance = Instance {
            life,
            born: record.born,
            token: record.token,
            seq: kept.map_or(0, |kept| kept.seq),
            state: kept.map_or_else(Vec::new, |kept| list_of(&kept.snapshot)),
            marks: kept.map_or_else(BTreeMap::new, |kept| kept.marks().clone()),
            takes: kept.map_or_else(Default::default, |kept| {
                (kept.outbox.born(), kept.outbox.takes.clone())
            }),
            pending: None,
            moving: None,
        };
        self.actors.running.insert((n, actor), instance);
        self.begin_mailbox(n, actor, record);
        self.look_at_runners(actor);
    }

    /// The name of a record, by its spec.
    fn named(&self, record: &ActorRecord) -> Option<usize> {
        usize::try_from(record.spec.as_int()?).ok()
    }

    /// What runs in a life may act for longer now.
    pub(crate) fn look_at_life(&mut self, life: Member) {
        let running = self.actors.running.iter();
        let actors: Vec<usize> = running
            .filter(|(_, it)| it.life == life)
            .map(|((_, actor), _)| *actor)
            .collect();
        for actor in actors {
            self.look_at_runners(actor);
        }
    }

    pub(crate) fn look_at_runners(&mut self, actor: usize) {
        if self.runners(actor).count() > 1 {
            self.violation = Some(Violation::TwoRun(actor));
        }
    }

    /// Nodes that run an actor and may.
    fn runners(&self, actor: usize) -> impl Iterator<Item = usize> {
        let running = self.actors.running.iter();
        let of_it = running.filter(move |((_, other), it)| *other == actor && it.moving.is_none());
        let acting = of_it.filter(|(_, it)| self.hosts.until(it.life) > self.now);
        acting.map(|((n, _), _)| *n)
    }

    fn send(&mut self, client: usize) {
        if self.actors_end {
            return;
        }
        self.step_in(RETRY_MS, Step::Send(client));
        let Some(Client { actor, open, .. }) = self.actors.clients.get(client) else {
            return;
        };
        let one = self.rng.random_range(0..open.len().max(1));
        let (Some(message), Some(low)) = (open.iter().nth(one), open.first()) else {
            return;
        };
        let parcel = Parcel {
            from: From::Client(client),
            to: *actor,
            message: *message,
            low: *low,
            by: 0,
        };
        if let Some(n) = self.someone_with(parcel.to) {
            self.pass_on(Step::Arrive(n, parcel));
        }
    }

    /// A node that runs an actor, or believes so.
    pub(crate) fn someone_with(&mut self, actor: usize) -> Option<usize> {
        let mut nodes = self.actors.running.keys().filter(|(_, it)| *it == actor);
        let count = nodes.clone().count();
        let pick = self.rng.random_range(0..count.max(1));
        nodes.nth(pick).map(|(n, _)| *n)
    }

    fn arrive(&mut self, n: usize, parcel: Parcel) {
        let held = self
            .nodes
            .get(n)
            .is_some_and(crate::nodes::SimNode::is_held);
        let (actor, now) = (parcel.to, self.now);
        let Some(sender) = sender(parcel.from) else {
            return;
        };
        let busy = self.posts.is_at_one(n, actor) || self.posts.holds_back(n, actor);
        let Some(instance) = self.actors.running.get_mut(&(n, actor)) else {
            return;
        };
        if let Some(moving) = &mut instance.moving {
            return moving.hold(parcel);
        }
        if busy {
            return;
        }
        // What another incarnation was to be told may be gone.
        if matches!(parcel.from, From::Take { token, .. } if token != instance.token) {
            return;
        }
        // Rule A7: the gate, looked at before each message.
        if held || self.hosts.until(instance.life) <= now || instance.pending.is_some() {
            return;
        }
        let mark = instance.marks.get(&sender);
        let had = match sender {
            Sender::Take { born, n } => {
                let (own, takes) = &instance.takes;
                born < *own || (born == *own && takes.is_handled(n))
            }
            _ => false,
        };
        if had || mark.is_some_and(|mark| mark.contains(parcel.message)) {
            return self.pass_on(Step::Answer(parcel));
        }
        self.handle(n, actor, parcel);
    }

    /// Whether an actor may begin with a message that waits for it.
    pub(crate) fn is_idle(&self, n: usize, actor: usize) -> bool {
        let running = self.actors.running.get(&(n, actor));
        !self.stands_still(n)
            && running.is_some_and(|it| {
                let acts = self.hosts.until(it.life) > self.now;
                acts && it.pending.is_none() && it.moving.is_none()
            })
    }

    /// Whether a commit of an actor is under way.
    pub(crate) fn commits(&self, n: usize, actor: usize) -> bool {
        let running = self.actors.running.get(&(n, actor));
        running.is_some_and(|it| it.pending.is_some())
    }

    /// An actor has handled a message: what it did is committed.
    pub(crate) fn handle(&mut self, n: usize, actor: usize, parcel: Parcel) {
        let Some(instance) = self.actors.running.get_mut(&(n, actor)) else {
            return;
        };
        let mut state = instance.state.clone();
        state.push(parcel.id());
        let actors = self.scenario.workload.actors as usize;
        let effects = effects_of(actor, actors, parcel.id());
        instance.pending = Some(Pending {
            state,
            parcel,
            effects,
        });
        self.commit(n, actor);
    }

    pub(crate) fn commit(&mut self, n: usize, actor: usize) {
        let Some(instance) = self.actors.running.get(&(n, actor)) else {
            return;
        };
        let Some(pending) = &instance.pending else {
            return;
        };
        if instance.moving.as_ref().is_some_and(Moving::gave_up) {
            return;
        }
        let (token, seq) = (instance.token, instance.seq + 1);
        let command = Command::Commit {
            name: name(actor),
            token,
            seq,
            snapshot: list(&pending.state),
            marks: pending.parcel.marked().into_iter().collect(),
            effects: pending.effects.clone(),
            rest_over: !self.posts.holds_back(n, actor),
            deadline: DEADLINE,
        };
        self.ask_actor(n, Asked::Commit { actor, token, seq }, command);
    }

    fn commit_ended(&mut self, n: usize, actor: usize, (token, seq): (u64, u64), reply: &Reply) {
        if matches!(reply, Reply::Done)
            && let Err(violation) = self.actors.committed(actor, token, seq)
        {
            self.violation = Some(violation);
        }
        let running = self.actors.running.get_mut(&(n, actor));
        let Some(instance) = running.filter(|it| it.token == token && it.seq + 1 == seq) else {
            return;
        };
        match reply {
            Reply::Done if instance.moving.as_ref().is_some_and(Moving::gave_up) => {}
            Reply::Done => {
                self.pending_lasts(n, actor);
                self.hand_on(n, actor);
            }
            Reply::Failed(Failure::Fenced { .. }) => {
                self.report.fenced += 1;
                self.actors.running.remove(&(n, actor));
                self.mailbox_lost(n, actor, Why::Lost);
            }
            Reply::Failed(Failure::OutOfTurn { .. }) => {
                self.violation = Some(Violation::NoChain { actor, token, seq });
            }
            _ => {
                let again = Happening::Actor(Step::Commit(n, actor));
                self.at(self.now + PAUSE, again);
            }
        }
    }

    /// The commit under way lasts: its client is answered.
    pub(crate) fn pending_lasts(&mut self, n: usize, actor: usize) {
        let Some(instance) = self.actors.running.get_mut(&(n, actor)) else {
            return;
        };
        let Some(pending) = instance.pending.take() else {
            return;
        };
        let Pending { state, parcel, .. } = pending;
        instance.state = state;
        instance.seq += 1;
        if let Some(Marked { sender, seq, low }) = parcel.marked() {
            instance.marks.entry(sender).or_default().insert(seq, low);
        }
        self.report.commits += 1;
        if !matches!(parcel.from, From::Teller { .. }) {
            self.pass_on(Step::Answer(parcel));
        }
        self.mail_lasts(n, actor, parcel);
    }

    fn answer(&mut self, parcel: Parcel) {
        let From::Client(client) = parcel.from else {
            self.told(parcel);
            return self.given(parcel);
        };
        let (now, message) = (self.now, parcel.message);
        let Some(it) = self.actors.clients.get_mut(client) else {
            return;
        };
        it.answered = now;
        if it.open.remove(&message) {
            it.begun += 1;
            it.open.insert(it.begun);
            self.actors.answered.insert(id(client, message));
        }
    }

    /// True when every actor is run by somebody, and every client was answered since.
    pub(crate) fn actors_go_on(&self, since: Duration) -> bool {
        let actors = 0..self.scenario.workload.actors as usize;
        let mut actors = actors.filter(|actor| self.actors.begun.contains(actor));
        let clients = self.actors.clients.iter();
        let mut clients = clients.filter(|client| self.actors.begun.contains(&client.actor));
        actors.all(|actor| self.runners(actor).next().is_some())
            && clients.all(|client| client.answered > since)
    }

    /// The actor that a message of a client is to.
    pub(crate) fn actor_of(&self, message: i64) -> usize {
        let client = usize::try_from(message / CLIENT_IDS).unwrap_or(usize::MAX);
        let client = self.actors.clients.get(client);
        client.map_or(usize::MAX, |client| client.actor)
    }

    /// The end: what the records hold.
    pub(crate) fn close_actors(&self) -> Result<(), Violation> {
        let mut handled = BTreeSet::new();
        let peers = self.nodes.iter().filter_map(|node| node.peer.as_ref());
        for shard in peers.take(1).flat_map(Peer::shards) {
            for (_, record) in shard.sm().actors() {
                let kept = record.kept.as_ref();
                for message in kept.map_or_else(Vec::new, |kept| list_of(&kept.snapshot)) {
                    if !handled.insert(message) {
                        return Err(Violation::HandledTwice(message));
                    }
                }
            }
        }
        let mut lost = self.actors.answered.difference(&handled);
        lost.next()
            .map_or(Ok(()), |message| Err(Violation::EffectLost(*message)))
    }
}
