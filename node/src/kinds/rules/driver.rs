//! Carries out what rules ask for, and brings the answers back.
//!
//! One task owns the agent: everything that concerns it (messages, answers, tuples of
//! subscriptions, timers) comes through one bounded queue and is delivered in its order; the
//! effects of one delivery are carried out in theirs before the next. What waits for something
//! (a find, an ask) becomes a task of its own that ends in a message to the queue.

mod effects;
mod questions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cpe::{LeaseHandle, NodeHandle, Tuple, Value};
use cpe_rules::process::Agent;
use cpe_rules::{
    AgentError, AgentMessage, AgentSnapshot, Delivery, Effect, LaterFact, Level, Subscription,
    Worker, WorkerError,
};
use cpe_tuple::limits::MAX_TUPLE_BYTES;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::ledger::{Ledger, Waker};
use super::log::Log;
use crate::forest::model::Models;
use questions::question;

pub(super) use questions::is_question;

/// What may wait to be delivered. Whoever sends more waits.
const QUEUE_MAX: usize = 1024;

/// Finds, asks, subscriptions and timers of one agent at once.
const TASKS_MAX: usize = 4096;

/// Bytes of a snapshot that is kept: what a value may have, with room for what is around it.
const SNAPSHOT_BYTES_MAX: usize = (MAX_TUPLE_BYTES / 4) * 3;

/// How long an effect that is waited for may take: a store, a message to another actor.
pub(super) const EFFECT_WITHIN: Duration = Duration::from_secs(10);

/// How long an `ask`, and a message whose answer needs other answers first, may wait.
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(30);

/// One wait of a `find` or `fetch` that waits; it begins again until the agent ends.
pub(super) const WAIT_AGAIN: Duration = Duration::from_secs(600);

/// How long to rest before asking again when the space could not be reached.
pub(super) const REST: Duration = Duration::from_secs(1);

/// What an agent's message comes to: the reply, or why it was not taken.
pub(super) type Answer = Result<Option<Value>, String>;

/// A message, and what is known of where it came from.
pub(super) struct Letter {
    pub(super) value: Value,
    /// The name of the actor that sent it; empty for one that has none, as people.
    pub(super) from: String,
    /// Whether somebody waits for the answer.
    pub(super) asked: bool,
}

/// What was taken for an answer: it goes back where rules cannot have it.
pub(super) enum Held {
    Nothing,
    /// The tuple in the answer, of this workspace.
    Tuple(String),
    /// The same, under a lease.
    Lease(LeaseHandle),
}

pub(super) enum Event {
    /// The agent is new, or was built again.
    Start,
    /// From another actor or a command, which may wait for a reply.
    Message(Letter, oneshot::Sender<Answer>),
    /// From the agent itself.
    Note(Value),
    /// To a request, and what was taken for it.
    Answer(u64, Result<Value, String>, Held),
    Tuple(u64, Tuple),
    /// A fact whose time has come, and its number in the ledger.
    Later(u64, LaterFact),
    /// The agent's whole memory is wanted.
    Snapshot(oneshot::Sender<Option<Vec<u8>>>),
}

/// Where messages for the agent are put.
pub(super) struct Inbox(mpsc::Sender<Event>);

impl Inbox {
    /// Delivers a message and waits for what comes of it; `None` when the agent has ended.
    pub(super) async fn deliver(&self, letter: Letter) -> Option<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(Event::Message(letter, sender)).await.ok()?;
        receiver.await.ok()
    }
}

impl Inbox {
    /// The agent's whole memory as bytes; `None` when it is too large, or the agent has ended.
    pub(super) async fn snapshot(&self) -> Option<Vec<u8>> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(Event::Snapshot(sender)).await.ok()?;
        receiver.await.ok()?
    }
}

/// What a restored agent waits for.
#[derive(Debug, Default)]
pub(super) struct Open {
    restored: bool,
    subscriptions: Vec<(u64, Subscription)>,
    requests: Vec<u64>,
}

impl Open {
    pub(super) fn of(snapshot: &AgentSnapshot) -> Self {
        Self {
            restored: true,
            subscriptions: snapshot.subscriptions().to_vec(),
            requests: snapshot.requests().to_vec(),
        }
    }
}

/// A message that waits for its reply.
pub(super) struct Asked {
    number: u64,
    reply: oneshot::Sender<Answer>,
    /// Requests made since, whose answers may lead to the reply.
    open: BTreeSet<u64>,
    pub(super) until: tokio::time::Instant,
}

/// Where tasks put what they come back with.
#[derive(Clone)]
pub(super) struct Queue {
    /// Weak, so that the queue closes when the actor is gone.
    events: mpsc::WeakSender<Event>,
    /// Whom to call, where nobody listens to the queue all the time.
    pub(super) waker: Option<Waker>,
}

pub(super) struct Driver {
    agent: Arc<Worker<Agent>>,
    pub(super) name: String,
    log: Log,
    pub(super) node: NodeHandle,
    models: Models,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) queue: Queue,
    pub(super) tasks: JoinSet<()>,
    pub(super) asked: Option<Asked>,
    messages: u64,
    open: Open,
    /// Of a durable agent.
    pub(super) ledger: Option<Ledger>,
}

impl Driver {
    pub(super) fn new(
        agent: Arc<Worker<Agent>>,
        name: String,
        node: NodeHandle,
        models: Models,
        open: Open,
    ) -> (Self, Inbox) {
        let (sender, events) = mpsc::channel(QUEUE_MAX);
        let queue = Queue {
            events: sender.downgrade(),
            waker: None,
        };
        let tasks = JoinSet::new();
        let this = Self {
            agent,
            log: Log::new(&name),
            name,
            node,
            models,
            events,
            queue,
            tasks,
            asked: None,
            messages: 0,
            open,
            ledger: None,
        };
        (this, Inbox(sender))
    }

    pub(super) async fn run(mut self) {
        self.resume().await;
        self.event(Event::Start).await;
        loop {
            let until = self.asked.as_ref().map(|asked| asked.until);
            let late = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.event(event).await,
                    None => return,
                },
                Some(_) = self.tasks.join_next() => {}
                () = late => self.settle(Ok(None)),
            }
            if self.agent.is_fatal() {
                tracing::error!(actor = self.name, "its rule engine failed for good");
                return;
            }
        }
    }

    /// Makes a restored agent's subscriptions again, and tells it that what it asked for before
    /// will not be answered.
    pub(super) async fn resume(&mut self) {
        let open = std::mem::take(&mut self.open);
        for (
            number,
            Subscription {
                workspace,
                template,
            },
        ) in open.subscriptions
        {
            self.subscribe(number, workspace, template);
        }
        for request in open.requests {
            if self.is_kept(request) {
                continue;
            }
            let answer = Err("the agent started again before the answer came".to_owned());
            self.deliver(Delivery::Answer { request, answer }).await;
        }
        self.ask_again().await;
        if open.restored {
            tracing::info!(actor = self.name, "its rules go on from a snapshot");
        }
    }

    /// Whether a durable agent asks for it again by itself.
    fn is_kept(&self, request: u64) -> bool {
        let ledger = self.ledger.as_ref();
        ledger.is_some_and(|ledger| ledger.keeps(request))
    }

    /// The agent's whole memory as bytes; `None` when it is too large to cross to another node.
    pub(super) async fn memory(&self) -> Option<Vec<u8>> {
        let taken = self.on_agent(|agent| agent.snapshot().map(|s| s.to_bytes()));
        let bytes = taken.await.ok()?.ok()?;
        (bytes.len() <= SNAPSHOT_BYTES_MAX).then_some(bytes)
    }

    /// Whether its engine is of no more use.
    pub(super) fn is_lost(&self) -> bool {
        self.agent.is_fatal()
    }

    pub(super) async fn event(&mut self, event: Event) {
        match event {
            // Who wanted it may have given up.
            Event::Snapshot(wanted) => drop(wanted.send(self.memory().await)),
            Event::Start => drop(self.deliver(Delivery::Start).await),
            Event::Message(letter, reply) => self.message(letter, reply).await,
            Event::Note(value) => {
                let message = AgentMessage::from_value(self.name.as_str(), value, None);
                self.deliver(Delivery::Message(message)).await;
            }
            Event::Answer(request, answer, held) => {
                self.answered(request, answer, held).await;
                if let Some(asked) = &mut self.asked {
                    asked.open.remove(&request);
                }
                self.settle_if_quiet();
            }
            Event::Tuple(subscription, tuple) => {
                let delivery = Delivery::Tuple {
                    subscription,
                    tuple,
                };
                self.deliver(delivery).await;
            }
            Event::Later(timer, fact) => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.timers.remove(&timer);
                }
                self.deliver(Delivery::Later(fact)).await;
            }
        }
    }

    /// Delivers the answer to a request. Where rules cannot have it, or fail on it, they are told
    /// why instead, and what was taken for it goes back.
    async fn answered(&mut self, request: u64, answer: Result<Value, String>, held: Held) {
        let kept = match (&held, &answer) {
            (Held::Tuple(_), Ok(Value::List(fields))) => Tuple::new(fields.clone()).ok(),
            _ => None,
        };
        let failed = match answer {
            Err(why) => {
                let answer = Err(why);
                self.deliver(Delivery::Answer { request, answer }).await;
                None
            }
            Ok(value) => match cpe_rules::to_clips(&value) {
                Err(error) => Some(error.to_string()),
                Ok(_) => {
                    let answer = Ok(value);
                    self.deliver(Delivery::Answer { request, answer }).await
                }
            },
        };
        let lease = match (failed, held) {
            (None, Held::Lease(lease)) => Some(lease),
            (None, _) => None,
            (Some(why), held) => {
                let back = self.put_back(held, kept).await;
                let answer = Err(format!("{why}{back}"));
                self.deliver(Delivery::Answer { request, answer }).await;
                None
            }
        };
        if let Some(ledger) = &mut self.ledger {
            ledger.answered(request, lease);
        }
    }

    /// Puts back what was taken; says so for the reason that the rules are given.
    async fn put_back(&mut self, held: Held, tuple: Option<Tuple>) -> &'static str {
        match (held, tuple) {
            (Held::Tuple(workspace), Some(tuple)) => {
                self.carry_out(Effect::Out { workspace, tuple }).await;
            }
            (Held::Lease(lease), _) => {
                let given = self.node.space().give_back(lease, EFFECT_WITHIN).await;
                if let Err(error) = given {
                    // It goes back by itself when the lease is over.
                    self.complain("give back a tuple", &error);
                }
            }
            _ => return "",
        }
        "; the tuple is put back"
    }

    pub(super) async fn message(&mut self, letter: Letter, reply: oneshot::Sender<Answer>) {
        let Letter { value, from, asked } = letter;
        if let Some(question) = question(&value) {
            // An asker that has given up needs no answer.
            let _ = reply.send(self.look(question).await);
            return;
        }
        // The actor hands over one message at a time; another one would only come from a handler
        // that was given up.
        self.settle(Ok(None));
        self.messages += 1;
        let number = self.messages;
        let until = tokio::time::Instant::now() + ASK_WITHIN;
        self.asked = Some(Asked {
            number,
            reply,
            open: BTreeSet::new(),
            until,
        });
        let message = AgentMessage::from_value(from, value, asked.then_some(number));
        match self.deliver(Delivery::Message(message)).await {
            Some(error) => self.settle(Err(error)),
            None => self.settle_if_quiet(),
        }
    }

    /// Does something on the agent's thread.
    async fn on_agent<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Agent) -> R + Send + 'static,
    ) -> Result<R, WorkerError> {
        let (sender, receiver) = oneshot::channel();
        self.agent
            .submit(job, move |done| drop(sender.send(done)))?;
        receiver.await.unwrap_or(Err(WorkerError::Gone))
    }

    /// Answers the message that waits.
    pub(super) fn settle(&mut self, answer: Answer) {
        if let Some(asked) = self.asked.take() {
            // An asker that has given up needs no answer.
            let _ = asked.reply.send(answer);
        }
    }

    fn settle_if_quiet(&mut self) {
        if self
            .asked
            .as_ref()
            .is_some_and(|asked| asked.open.is_empty())
        {
            self.settle(Ok(None));
        }
    }

    /// Runs rules and carries out what they ask for. Gives the reason when they could not.
    async fn deliver(&mut self, delivery: Delivery) -> Option<String> {
        self.deliver_heard(delivery).await.0
    }

    /// The same, with what was printed.
    async fn deliver_heard(&mut self, delivery: Delivery) -> (Option<String>, String) {
        let now = now_ms();
        let done = self
            .on_agent(move |agent| (agent.deliver(delivery, now), agent.take_output()))
            .await;
        let (ran, printed) = match done {
            Ok(done) => done,
            Err(error) => {
                let what = format!("its rules did not run: {error}");
                self.log.line(Level::Error, what);
                return (Some(error.to_string()), String::new());
            }
        };
        for line in printed.lines() {
            self.log.line(Level::Info, line);
        }
        let failed = match ran {
            Ok(effects) => {
                for effect in effects {
                    self.carry_out(effect).await;
                }
                None
            }
            Err(error) => {
                self.log.line(Level::Warn, &error);
                if let AgentError::Stopped {
                    rebuilt: Some(_), ..
                } = &error
                {
                    // Its requests and subscriptions are gone with its facts; it starts anew.
                    self.tasks.abort_all();
                    if let Some(ledger) = &mut self.ledger {
                        ledger.forget();
                    }
                    let queue = self.queue.clone();
                    self.spawn(async move { put(&queue, Event::Start).await });
                }
                Some(error.to_string())
            }
        };
        (failed, printed)
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        if self.tasks.len() >= TASKS_MAX {
            self.complain(
                "wait",
                &format!("{TASKS_MAX} things are waited for already"),
            );
            return;
        }
        self.tasks.spawn(task);
    }

    pub(super) fn complain(&self, what: &str, why: &dyn std::fmt::Display) {
        let what = format!("cannot {what}: {why}");
        self.log.line(Level::Warn, what);
    }
}

/// Whether it is worth trying again.
pub(super) fn passes(failure: &cpe::Failure) -> bool {
    use cpe::Failure;
    !matches!(failure, Failure::Refused(_))
}

async fn put(queue: &Queue, event: Event) {
    if let Some(events) = queue.events.upgrade() {
        // Closed: the agent has ended, and nobody waits.
        let _ = events.send(event).await;
        if let Some(waker) = &queue.waker {
            waker.wake();
        }
    }
}

/// What `(now)` says.
pub(in crate::kinds) fn now_ms() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "programs ask for the time of day"
    )]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
