//! What the runtime promises, one fact per test, in virtual time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use cpe_actors::{
    Actor, ActorError, ActorState, Address, AskError, Backoff, Context, DeadReason, ExitReason,
    Options, ReplyTo, SpawnError, Supervision, System, TellError, Terminated, bridge,
};
use cpe_tuple::Value;
use tokio::{sync::Semaphore, time::Instant};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Log = Arc<Mutex<Vec<String>>>;

/// An actor that does as it is told and writes down what happens to it.
struct Puppet {
    log: Log,
    gate: Arc<Semaphore>,
    total: i64,
    terminated_fails: bool,
}

enum Do {
    Note(&'static str),
    Add(i64),
    /// Waits for a permit of the gate.
    Wait,
    Sleep(Duration),
    Fail,
    Panic,
    Refuse,
    Stop,
    Kids(Vec<(&'static str, Supervision)>),
    Watch(Address<Self, i64>),
    Unwatch(Address<Self, i64>),
    After(Duration, &'static str),
    Every(Duration, &'static str),
    Later(Duration, ReplyTo<u8>),
    Drop(ReplyTo<u8>),
    FailWith(ReplyTo<u8>),
    Save,
    Kept(&'static str, Arc<AtomicU32>),
    Block,
}

impl Puppet {
    fn new(log: &Log) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        Self {
            log: Arc::clone(log),
            gate,
            total: 0,
            terminated_fails: false,
        }
    }

    fn note(&self, text: impl Into<String>) {
        self.log.lock().unwrap().push(text.into());
    }
}

impl Actor for Puppet {
    type Message = Do;
    type Reply = i64;

    async fn handle(&mut self, message: Do, ctx: &mut Context<Self>) -> Result<i64, ActorError> {
        match message {
            Do::Note(text) => self.note(text),
            Do::Add(n) => self.total += n,
            Do::Wait => self.gate.acquire().await?.forget(),
            Do::Sleep(time) => tokio::time::sleep(time).await,
            Do::Fail => return Err(ActorError::failed("told to fail")),
            Do::Panic => panic!("told to panic"),
            Do::Refuse => return Err(ActorError::refused("told to refuse")),
            Do::Stop => ctx.stop(),
            Do::Kids(kids) => {
                for (name, supervision) in kids {
                    let log = Arc::clone(&self.log);
                    let options = Options::default().name(name).supervision(supervision);
                    ctx.spawn_with(options, move || Ok(Self::new(&log)))?;
                }
            }
            Do::Watch(other) => ctx.watch(&other)?,
            Do::Unwatch(other) => ctx.unwatch(&other),
            Do::After(delay, text) => {
                let _ = ctx.tell_after(delay, Do::Note(text))?;
            }
            Do::Every(period, text) => {
                let _ = ctx.tell_every(period, move || Do::Note(text))?;
            }
            Do::Later(delay, reply) => {
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    reply.send(7);
                });
            }
            Do::Drop(reply) => drop(reply),
            Do::FailWith(reply) => {
                assert!(!reply.is_abandoned());
                return Err(ActorError::failed("no value"));
            }
            Do::Save => ctx.save_snapshot(),
            Do::Kept(text, failures) => {
                self.note(text);
                if failures.load(Ordering::SeqCst) > 0 {
                    failures.fetch_sub(1, Ordering::SeqCst);
                    return Err(ActorError::failed("not this time"));
                }
            }
            Do::Block => {
                return ctx.blocking(|| 42).await;
            }
        }
        Ok(self.total)
    }

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        self.note(format!("started {}", ctx.label()));
        Ok(())
    }

    async fn stopping(&mut self, reason: &ExitReason, ctx: &mut Context<Self>) {
        self.note(format!("stopping {}: {reason}", ctx.label()));
    }

    async fn terminated(
        &mut self,
        other: Terminated,
        _: &mut Context<Self>,
    ) -> Result<(), ActorError> {
        self.note(format!("terminated {}: {}", other.actor, other.reason));
        if self.terminated_fails {
            return Err(ActorError::failed("linked"));
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(bridge::to_value(&self.total)?))
    }

    fn restore(&mut self, snapshot: Value) -> Result<(), ActorError> {
        self.total = bridge::from_value(&snapshot)?;
        Ok(())
    }

    fn keep(message: &Do) -> Option<Do> {
        match message {
            Do::Kept(text, failures) => Some(Do::Kept(text, Arc::clone(failures))),
            _ => None,
        }
    }

    fn describe(message: &Do) -> Option<Value> {
        match message {
            Do::Note(text) | Do::Kept(text, _) => Some(Value::from(*text)),
            _ => None,
        }
    }
}

fn log() -> Log {
    Log::default()
}

fn lines(log: &Log) -> Vec<String> {
    log.lock().unwrap().clone()
}

fn capacity(messages: usize) -> Options {
    Options::default().mailbox(NonZeroUsize::new(messages).unwrap())
}

/// A named puppet with a factory.
fn spawn(system: &System, log: &Log, options: Options) -> Address<Do, i64> {
    let log = Arc::clone(log);
    system
        .spawn_with(options, move || Ok(Puppet::new(&log)))
        .unwrap()
}

/// A puppet whose `Do::Wait` the test can end.
fn gated(system: &System, log: &Log, options: Options) -> (Address<Do, i64>, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let (log, held) = (Arc::clone(log), Arc::clone(&gate));
    let make = move || {
        Ok(Puppet {
            gate: Arc::clone(&held),
            ..Puppet::new(&log)
        })
    };
    (system.spawn_with(options, make).unwrap(), gate)
}

/// Lets all other tasks run until they wait.
async fn settle() {
    tokio::time::sleep(MS).await;
}

// ---- mailbox ----

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_gives_the_message_back() {
    let system = System::default();
    let (actor, gate) = gated(&system, &log(), capacity(2).name("p"));
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    actor.try_tell(Do::Add(1)).unwrap();
    actor.try_tell(Do::Add(2)).unwrap();
    assert_eq!(actor.info().depth, 2);
    let error = actor.try_tell(Do::Add(3)).unwrap_err();
    assert!(matches!(error, TellError::Full { .. }));
    assert_eq!(error.to_string(), "the mailbox of p is full");
    let Do::Add(3) = error.into_message() else {
        panic!("another message")
    };
    gate.add_permits(1);
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_bound_counts_messages_that_were_taken_in_a_batch() {
    let system = System::default();
    let (actor, gate) = gated(&system, &log(), capacity(3));
    for message in [Do::Wait, Do::Wait, Do::Add(1)] {
        actor.try_tell(message).unwrap();
    }
    settle().await;
    // One is being handled, two wait.
    actor.try_tell(Do::Add(1)).unwrap();
    assert!(actor.try_tell(Do::Add(1)).is_err());
    gate.add_permits(1);
    settle().await;
    actor.try_tell(Do::Add(1)).unwrap();
    assert!(actor.try_tell(Do::Add(1)).is_err());
    gate.add_permits(1);
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn tell_waits_while_the_mailbox_is_full() {
    let system = System::default();
    let (actor, gate) = gated(&system, &log(), capacity(1));
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    actor.tell(Do::Add(1)).await.unwrap();
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let actor = actor.clone();
            tokio::spawn(async move { actor.tell(Do::Add(1)).await.unwrap() })
        })
        .collect();
    settle().await;
    assert!(waiting.iter().all(|task| !task.is_finished()));
    // A sender that gives up leaves no hole and takes no room.
    waiting[0].abort();
    gate.add_permits(1);
    for task in waiting.into_iter().skip(1) {
        task.await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_arrive_in_order_per_sender() {
    const SENDERS: usize = 10;
    const EACH: u64 = 10_000;
    struct Order(Vec<u64>);
    impl Actor for Order {
        type Message = (usize, u64);
        type Reply = u64;
        async fn handle(
            &mut self,
            (sender, n): (usize, u64),
            _: &mut Context<Self>,
        ) -> Result<u64, ActorError> {
            if sender < SENDERS {
                assert_eq!(self.0[sender], n, "sender {sender}");
                self.0[sender] += 1;
            }
            Ok(self.0.iter().sum())
        }
    }
    let system = System::default();
    // Small, so that senders are blocked again and again.
    let order = system
        .spawn_with(capacity(16), || Ok(Order(vec![0; SENDERS])))
        .unwrap();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let order = order.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    order.tell((sender, n)).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(
        order.ask((SENDERS, 0)).await.unwrap(),
        SENDERS as u64 * EACH
    );
    assert_eq!((order.info().failed, order.info().depth), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn stop_overtakes_user_messages() {
    let system = System::default();
    let log = log();
    let (actor, gate) = gated(&system, &log, Options::default().name("p"));
    actor.tell(Do::Wait).await.unwrap();
    for text in ["a", "b", "c"] {
        actor.tell(Do::Note(text)).await.unwrap();
    }
    settle().await;
    actor.stop();
    gate.add_permits(1);
    let end = actor.ended().await;
    assert_eq!(end.reason, ExitReason::Stopped);
    assert_eq!(lines(&log), ["started p", "stopping p: stopped"]);
    let letters = system.dead_letters();
    let texts: Vec<_> = letters
        .iter()
        .map(|letter| letter.message.clone().unwrap())
        .collect();
    assert_eq!(
        texts,
        [Value::from("a"), Value::from("b"), Value::from("c")]
    );
    assert_eq!(
        letters[0].reason,
        DeadReason::ActorEnded(ExitReason::Stopped)
    );
}

#[tokio::test(start_paused = true)]
async fn an_actor_can_stop_itself() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default());
    assert_eq!(actor.ask(Do::Stop).await.unwrap(), 0);
    assert_eq!(actor.ended().await.reason, ExitReason::Stopped);
}

#[tokio::test(start_paused = true)]
async fn drain_handles_what_is_there_and_takes_nothing_more() {
    let system = System::default();
    let log = log();
    let (actor, gate) = gated(&system, &log, capacity(3).name("p"));
    for message in [Do::Wait, Do::Note("a"), Do::Note("b")] {
        actor.tell(message).await.unwrap();
    }
    settle().await;
    actor.drain();
    assert!(matches!(
        actor.tell(Do::Note("c")).await,
        Err(TellError::Dead { .. })
    ));
    gate.add_permits(1);
    assert_eq!(actor.ended().await.reason, ExitReason::Stopped);
    assert_eq!(lines(&log), ["started p", "a", "b", "stopping p: stopped"]);
    assert_eq!(system.dead_letter_count(), 0);
}

// ---- ask ----

#[tokio::test(start_paused = true)]
async fn ask_times_out_at_its_deadline() {
    let system = System::default();
    let (actor, _gate) = gated(&system, &log(), Options::default().name("p"));
    let start = Instant::now();
    let error = actor.ask(Do::Wait).await.unwrap_err();
    assert_eq!(error.to_string(), "p did not answer within 5s");
    assert_eq!(start.elapsed().as_secs(), 5);
    let error = actor.ask_within(20 * MS, Do::Wait).await.unwrap_err();
    assert_eq!(
        error,
        AskError::TimedOut {
            actor: "p".to_owned(),
            after: 20 * MS
        }
    );
}

#[tokio::test(start_paused = true)]
async fn ask_says_when_the_mailbox_stayed_full() {
    let system = System::default();
    let (actor, _gate) = gated(&system, &log(), capacity(1).name("p"));
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    actor.tell(Do::Wait).await.unwrap();
    let error = actor.ask_within(SECOND, Do::Add(1)).await.unwrap_err();
    assert_eq!(
        error,
        AskError::Full {
            actor: "p".to_owned(),
            after: SECOND
        }
    );
}

#[tokio::test(start_paused = true)]
async fn ask_tells_refusal_failure_and_death_apart() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default().name("p"));
    let refused = actor.ask(Do::Refuse).await.unwrap_err();
    assert_eq!(refused.to_string(), "p refused the message: told to refuse");
    assert_eq!(actor.info().failed, 0);
    let failed = actor.ask(Do::Fail).await.unwrap_err();
    assert_eq!(failed.to_string(), "p failed: told to fail");
    let panicked = actor.ask(Do::Panic).await.unwrap_err();
    assert_eq!(panicked.to_string(), "p failed: panicked: told to panic");
    actor.stop();
    let dead = actor.ask(Do::Add(1)).await.unwrap_err();
    assert_eq!(dead.to_string(), "p is dead: stopped");
    assert!(matches!(
        actor.tell(Do::Add(1)).await,
        Err(TellError::Dead { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn an_asker_in_the_queue_learns_of_the_end_at_once() {
    let system = System::default();
    let (actor, _gate) = gated(&system, &log(), Options::default().name("p"));
    actor.tell(Do::Wait).await.unwrap();
    let asker = tokio::spawn({
        let actor = actor.clone();
        async move { actor.ask_within(3_600 * SECOND, Do::Add(1)).await }
    });
    settle().await;
    let start = Instant::now();
    actor.kill();
    let reason = ExitReason::Killed;
    assert_eq!(
        asker.await.unwrap(),
        Err(AskError::Dead {
            actor: "p".to_owned(),
            reason
        })
    );
    assert!(start.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_reply_may_come_later_and_from_elsewhere() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default().name("p"));
    assert_eq!(
        actor
            .request(|reply| Do::Later(SECOND, reply))
            .await
            .unwrap(),
        7
    );
    let error = actor.request(Do::Drop).await.unwrap_err();
    assert_eq!(
        error,
        AskError::Unanswered {
            actor: "p".to_owned()
        }
    );
    let error = actor.request(Do::FailWith).await.unwrap_err();
    assert_eq!(error.to_string(), "p failed: no value");
    let late = actor
        .request_within(MS, |reply| Do::Later(SECOND, reply))
        .await
        .unwrap_err();
    assert!(matches!(late, AskError::TimedOut { .. }));
}

#[tokio::test(start_paused = true)]
async fn blocking_work_is_done_beside_the_other_actors() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default());
    assert_eq!(actor.ask(Do::Block).await.unwrap(), 42);
}

// ---- supervision ----

#[tokio::test(start_paused = true)]
async fn resume_keeps_the_state() {
    let system = System::default();
    let options = Options::default().supervision(Supervision::resume());
    let actor = spawn(&system, &log(), options);
    actor.tell(Do::Add(5)).await.unwrap();
    actor.tell(Do::Panic).await.unwrap();
    assert_eq!(actor.ask(Do::Add(1)).await.unwrap(), 6);
    let info = actor.info();
    assert_eq!((info.failed, info.restarts, info.handled), (1, 0, 2));
    assert_eq!(info.last_error.as_deref(), Some("panicked: told to panic"));
}

#[tokio::test(start_paused = true)]
async fn restart_makes_a_fresh_instance_and_keeps_the_mailbox() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    for message in [Do::Add(5), Do::Fail, Do::Add(1)] {
        actor.tell(message).await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(1)).await.unwrap(), 2);
    assert_eq!(lines(&log), ["started p", "started p"]);
    assert_eq!(actor.info().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn restart_takes_up_the_last_snapshot() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default());
    for message in [Do::Add(5), Do::Save, Do::Add(10), Do::Fail] {
        actor.tell(message).await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(1)).await.unwrap(), 6);

    let every = Options::default().snapshot_every(NonZeroU64::new(2).unwrap());
    let actor = spawn(&system, &log(), every);
    for message in [Do::Add(1), Do::Add(1), Do::Add(1), Do::Fail] {
        actor.tell(message).await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 2);

    let fresh = Supervision {
        from_snapshot: false,
        ..Supervision::default()
    };
    let actor = spawn(&system, &log(), Options::default().supervision(fresh));
    for message in [Do::Add(5), Do::Save, Do::Fail] {
        actor.tell(message).await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn more_failures_than_the_limit_end_the_actor() {
    let system = System::default();
    let policy = Supervision::restart()
        .limit(2, 10 * SECOND)
        .backoff(Backoff::NONE);
    let actor = spawn(&system, &log(), Options::default().supervision(policy));
    for _ in 0..2 {
        actor.ask(Do::Fail).await.unwrap_err();
    }
    // Outside the window they no longer count.
    tokio::time::sleep(11 * SECOND).await;
    for _ in 0..2 {
        actor.ask(Do::Fail).await.unwrap_err();
        actor.ask(Do::Add(1)).await.unwrap();
    }
    actor.tell(Do::Fail).await.unwrap();
    let ExitReason::Failed(reason) = actor.ended().await.reason else {
        panic!("not failed")
    };
    assert_eq!(
        reason,
        "told to fail (gave up: more than 2 failures within 10s)"
    );
}

#[tokio::test(start_paused = true)]
async fn restarts_wait_longer_each_time() {
    let system = System::default();
    let backoff = Backoff {
        first: SECOND,
        max: 3 * SECOND,
        jitter: 0.0,
    };
    let policy = Supervision::restart()
        .limit(9, 1_000 * SECOND)
        .backoff(backoff);
    let actor = spawn(&system, &log(), Options::default().supervision(policy));
    let mut waits = Vec::new();
    for _ in 0..4 {
        let start = Instant::now();
        actor.tell(Do::Fail).await.unwrap();
        actor.ask_within(60 * SECOND, Do::Add(1)).await.unwrap();
        waits.push(start.elapsed().as_secs());
    }
    assert_eq!(waits, [1, 2, 3, 3]);
}

#[test]
fn jitter_comes_from_the_seed_and_stays_in_bounds() {
    let backoff = Backoff {
        first: SECOND,
        max: 60 * SECOND,
        jitter: 0.5,
    };
    for seed in 0..100 {
        let delay = backoff.delay(2, seed);
        assert_eq!(delay, backoff.delay(2, seed));
        assert!(delay >= 2 * SECOND && delay <= 4 * SECOND, "{delay:?}");
        assert!(backoff.delay(u32::MAX, seed) <= 60 * SECOND);
    }
    assert_ne!(backoff.delay(2, 1), backoff.delay(2, 2));
    let odd = Backoff {
        jitter: f64::NAN,
        ..backoff
    };
    assert_eq!(odd.delay(0, 1), SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_actor_without_a_factory_ends_at_its_first_failure() {
    let system = System::default();
    let actor = system.spawn_named("p", Puppet::new(&log())).unwrap();
    actor.tell(Do::Fail).await.unwrap();
    assert_eq!(
        actor.ended().await.reason,
        ExitReason::Failed("told to fail".to_owned())
    );
    assert!(system.find_ref("p").is_none());
}

#[tokio::test(start_paused = true)]
async fn stop_is_possible_during_the_wait_for_a_restart() {
    let system = System::default();
    let backoff = Backoff {
        first: 3_600 * SECOND,
        max: 3_600 * SECOND,
        jitter: 0.0,
    };
    let options = Options::default().supervision(Supervision::restart().backoff(backoff));
    let actor = spawn(&system, &log(), options);
    actor.tell(Do::Fail).await.unwrap();
    settle().await;
    assert_eq!(actor.info().state, ActorState::Restarting);
    let start = Instant::now();
    actor.stop();
    assert_eq!(actor.ended().await.reason, ExitReason::Stopped);
    assert!(start.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_kept_message_is_tried_once_more_and_then_poisoned() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    let once = Arc::new(AtomicU32::new(1));
    actor.ask(Do::Kept("once", once)).await.unwrap();
    let for_ever = Arc::new(AtomicU32::new(99));
    let error = actor
        .ask(Do::Kept("bad", Arc::clone(&for_ever)))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the message poisoned p: not this time");
    actor.ask(Do::Note("next")).await.unwrap();
    assert_eq!(for_ever.load(Ordering::SeqCst), 97);
    let handled: Vec<_> = lines(&log)
        .into_iter()
        .filter(|line| !line.starts_with("started"))
        .collect();
    assert_eq!(handled, ["once", "once", "bad", "bad", "next"]);
    let letters = system.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].message, Some(Value::from("bad")));
    assert_eq!(
        letters[0].reason,
        DeadReason::Poisoned("not this time".to_owned())
    );
}

// ---- tree ----

#[tokio::test(start_paused = true)]
async fn stopping_a_parent_stops_its_children_first() {
    let system = System::default();
    let log = log();
    let parent = spawn(&system, &log, Options::default().name("parent"));
    let kids = vec![("kid", Supervision::default())];
    parent.ask(Do::Kids(kids)).await.unwrap();
    let kid = system.find::<Do, i64>("kid").unwrap();
    kid.ask(Do::Kids(vec![("grandkid", Supervision::default())]))
        .await
        .unwrap();
    let tree: Vec<_> = system
        .list()
        .into_iter()
        .map(|info| (info.name, info.parent))
        .collect();
    assert_eq!(
        tree,
        [
            (Some("parent".to_owned()), None),
            (Some("kid".to_owned()), Some(parent.id())),
            (Some("grandkid".to_owned()), Some(kid.id())),
        ]
    );
    settle().await;
    log.lock().unwrap().clear();
    parent.stop();
    parent.ended().await;
    assert_eq!(
        lines(&log),
        [
            "stopping grandkid: its parent stopped",
            "stopping kid: its parent stopped",
            "stopping parent: stopped",
        ]
    );
    assert!(system.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_parent_has_no_children() {
    let system = System::default();
    let parent = spawn(&system, &log(), Options::default());
    parent
        .ask(Do::Kids(vec![("kid", Supervision::default())]))
        .await
        .unwrap();
    parent.tell(Do::Fail).await.unwrap();
    parent.ask(Do::Add(1)).await.unwrap();
    assert!(system.find_ref("kid").is_none());
    assert_eq!(system.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn escalation_fails_the_parent_in_turn() {
    let system = System::default();
    let log = log();
    let parent = spawn(&system, &log, Options::default().name("parent"));
    parent.tell(Do::Add(1)).await.unwrap();
    parent
        .ask(Do::Kids(vec![("kid", Supervision::escalate())]))
        .await
        .unwrap();
    let kid = system.find::<Do, i64>("kid").unwrap();
    kid.tell(Do::Fail).await.unwrap();
    assert_eq!(
        kid.ended().await.reason,
        ExitReason::Failed("told to fail".to_owned())
    );
    settle().await;
    tokio::time::sleep(SECOND).await;
    let info = parent.info();
    assert_eq!((info.failed, info.restarts), (1, 1));
    assert_eq!(
        info.last_error.as_deref(),
        Some("child kid failed: told to fail")
    );

    let alone = Options::default().supervision(Supervision::escalate());
    let alone = spawn(&system, &log, alone);
    alone.tell(Do::Fail).await.unwrap();
    assert!(matches!(alone.ended().await.reason, ExitReason::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_ends_is_cancelled_after_the_grace_period() {
    let system = System::default();
    let log = log();
    let options = Options::default().name("p").grace(2 * SECOND);
    let (actor, _gate) = gated(&system, &log, options);
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    let start = Instant::now();
    actor.stop();
    assert_eq!(actor.ended().await.reason, ExitReason::Killed);
    assert_eq!(start.elapsed().as_secs(), 2);
    // It was killed, so it had no last word.
    assert_eq!(lines(&log), ["started p"]);
}

#[tokio::test(start_paused = true)]
async fn two_actors_blocked_on_each_others_mailbox_can_be_stopped() {
    struct Pusher;
    struct Push(Option<Address<Self>>);
    impl Actor for Pusher {
        type Message = Push;
        type Reply = ();
        async fn handle(
            &mut self,
            Push(other): Push,
            _: &mut Context<Self>,
        ) -> Result<(), ActorError> {
            let Some(other) = other else { return Ok(()) };
            loop {
                other.tell(Push(None)).await?;
            }
        }
    }
    let system = System::default();
    let one = system.spawn_with(capacity(4), || Ok(Pusher)).unwrap();
    let two = system.spawn_with(capacity(4), || Ok(Pusher)).unwrap();
    one.tell(Push(Some(two.clone()))).await.unwrap();
    two.tell(Push(Some(one.clone()))).await.unwrap();
    settle().await;
    assert_eq!((one.info().depth, two.info().depth), (4, 4));
    let start = Instant::now();
    one.stop();
    assert_eq!(one.ended().await.reason, ExitReason::Killed);
    assert_eq!(start.elapsed(), cpe_actors::DEFAULT_GRACE);
    two.stop();
    two.ended().await;
    assert!(system.is_empty());
}

// ---- watching ----

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_exactly_once() {
    let system = System::default();
    let (log, quiet) = (log(), log());
    let watcher = spawn(&system, &log, Options::default().name("w"));
    let watched = spawn(&system, &quiet, Options::default().name("p"));
    watcher.tell(Do::Watch(watched.clone())).await.unwrap();
    watcher.ask(Do::Watch(watched.clone())).await.unwrap();
    watched.stop();
    watched.ended().await;
    settle().await;
    assert_eq!(lines(&log), ["started w", "terminated p: stopped"]);
    // Also of one that ended before.
    watcher.ask(Do::Watch(watched.clone())).await.unwrap();
    settle().await;
    assert_eq!(lines(&log).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_unwatched_end_is_not_told() {
    let system = System::default();
    let (log, quiet) = (log(), log());
    let watcher = spawn(&system, &log, Options::default().name("w"));
    let watched = spawn(&system, &quiet, Options::default().name("p"));
    watcher.ask(Do::Watch(watched.clone())).await.unwrap();
    watcher.ask(Do::Unwatch(watched.clone())).await.unwrap();
    watched.kill();
    watched.ended().await;
    settle().await;
    assert_eq!(lines(&log), ["started w"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_in_terminated_ends_both_together() {
    let system = System::default();
    let linked = Puppet {
        terminated_fails: true,
        ..Puppet::new(&log())
    };
    let linked = system.spawn(linked).unwrap();
    let other = spawn(&system, &log(), Options::default());
    linked.ask(Do::Watch(other.clone())).await.unwrap();
    other.stop();
    assert_eq!(
        linked.ended().await.reason,
        ExitReason::Failed("linked".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn what_an_actor_held_is_released_before_its_watchers_are_told() {
    struct Holder(#[expect(dead_code, reason = "held")] Arc<()>);
    impl Actor for Holder {
        type Message = ();
        type Reply = ();
        async fn handle(&mut self, (): (), _: &mut Context<Self>) -> Result<(), ActorError> {
            Ok(())
        }
    }
    let system = System::default();
    let held = Arc::new(());
    let holder = system.spawn_named("h", Holder(Arc::clone(&held))).unwrap();
    holder.stop();
    holder.ended().await;
    assert_eq!(Arc::strong_count(&held), 1);
    // And its name is free.
    system.spawn_named("h", Holder(held)).unwrap();
}

// ---- timers ----

#[tokio::test(start_paused = true)]
async fn timers_fire_in_order_ahead_of_the_mailbox() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    for (delay, text) in [(3, "third"), (1, "first"), (2, "second"), (2, "second too")] {
        actor.ask(Do::After(delay * SECOND, text)).await.unwrap();
    }
    actor.tell(Do::Sleep(10 * SECOND)).await.unwrap();
    actor.tell(Do::Note("mailbox")).await.unwrap();
    actor.ask_within(60 * SECOND, Do::Add(0)).await.unwrap();
    assert_eq!(
        lines(&log),
        [
            "started p",
            "first",
            "second",
            "second too",
            "third",
            "mailbox"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_periodic_timer_skips_missed_beats_and_can_be_cancelled() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    actor.ask(Do::Every(SECOND, "beat")).await.unwrap();
    tokio::time::sleep(3_500 * MS).await;
    assert_eq!(lines(&log).len(), 1 + 3);
    // Busy from 3.5 s to 8.5 s: the beats at 4 to 8 s become one, the next is at 9 s.
    actor.tell(Do::Sleep(5 * SECOND)).await.unwrap();
    tokio::time::sleep(5_600 * MS).await;
    assert_eq!(lines(&log).len(), 1 + 5);
    // A restart ends it.
    actor.tell(Do::Fail).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(lines(&log).len(), 1 + 5 + 1);
}

#[tokio::test(start_paused = true)]
async fn tell_after_waits_and_is_cancellable() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    let kept = actor.tell_after(SECOND, Do::Note("kept")).unwrap();
    let cancelled = actor.tell_after(SECOND, Do::Note("cancelled")).unwrap();
    assert!(actor.cancel_timer(cancelled));
    assert!(!actor.cancel_timer(cancelled));
    tokio::time::sleep(999 * MS).await;
    assert_eq!(lines(&log), ["started p"]);
    tokio::time::sleep(2 * MS).await;
    assert_eq!(lines(&log), ["started p", "kept"]);
    assert!(!actor.cancel_timer(kept));
    for _ in 0..cpe_actors::MAX_TIMERS {
        let _ = actor.tell_after(SECOND, Do::Add(1)).unwrap();
    }
    assert!(matches!(
        actor.tell_after(SECOND, Do::Add(1)),
        Err(TellError::Full { .. })
    ));
    actor.stop();
    actor.ended().await;
    assert!(matches!(
        actor.tell_after(SECOND, Do::Add(1)),
        Err(TellError::Dead { .. })
    ));
}

// ---- system ----

#[tokio::test(start_paused = true)]
async fn names_are_unique_while_their_actor_lives() {
    let system = System::default();
    let log = log();
    let first = system.spawn_named("p", Puppet::new(&log)).unwrap();
    let error = system.spawn_named("p", Puppet::new(&log)).unwrap_err();
    assert_eq!(
        error,
        SpawnError::NameTaken {
            name: "p".to_owned()
        }
    );
    assert_eq!(system.find::<Do, i64>("p").unwrap().id(), first.id());
    assert!(system.stop("p"));
    first.ended().await;
    assert!(!system.stop("p"));
    system.spawn_named("p", Puppet::new(&log)).unwrap();
    for bad in [String::new(), "a\nb".to_owned(), "x".repeat(257)] {
        let error = system.spawn_named(&bad, Puppet::new(&log)).unwrap_err();
        assert!(matches!(error, SpawnError::BadName { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_holds_no_more_actors_than_it_may() {
    let system = System::builder().max_actors(1).build();
    let actor = system.spawn(Puppet::new(&log())).unwrap();
    let error = system.spawn(Puppet::new(&log())).unwrap_err();
    assert_eq!(error, SpawnError::TooMany { limit: 1 });
    actor.stop();
    actor.ended().await;
    system.spawn(Puppet::new(&log())).unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_everything_within_its_deadline() {
    let system = System::default();
    let log = log();
    let parent = spawn(&system, &log, Options::default().name("parent"));
    parent
        .ask(Do::Kids(vec![("kid", Supervision::default())]))
        .await
        .unwrap();
    let (stuck, _gate) = gated(&system, &log, Options::default().name("stuck"));
    stuck.tell(Do::Wait).await.unwrap();
    settle().await;
    let start = Instant::now();
    let report = system.shutdown(4 * SECOND).await;
    assert_eq!((report.stopped, report.remaining.len()), (3, 0));
    assert!(start.elapsed() <= 4 * SECOND);
    assert!(system.is_empty());
    assert_eq!(parent.ended().await.reason, ExitReason::Shutdown);
    assert_eq!(stuck.ended().await.reason, ExitReason::Killed);
    assert_eq!(
        system.spawn(Puppet::new(&log)).unwrap_err(),
        SpawnError::ShuttingDown
    );
}

#[test]
fn an_actor_whose_runtime_is_dropped_is_reported_as_gone() {
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = build();
    let (system, actor) = first.block_on(async {
        let system = System::default();
        let actor = system.spawn_named("p", Puppet::new(&log())).unwrap();
        actor.ask(Do::Add(1)).await.unwrap();
        (system, actor)
    });
    drop(first);
    let second = build();
    assert_eq!(
        second.block_on(actor.ended()).reason,
        ExitReason::RuntimeGone
    );
    assert!(system.is_empty());
    let error = second.block_on(actor.ask(Do::Add(1))).unwrap_err();
    assert!(matches!(error, AskError::Dead { .. }));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_counted_bounded_and_open_to_subscribers() {
    let system = System::default();
    let mut subscriber = system.subscribe_dead_letters();
    let actor = spawn(&system, &log(), Options::default().name("p"));
    actor.tell(Do::Refuse).await.unwrap();
    let letter = subscriber.recv().await.unwrap();
    assert_eq!((letter.number, letter.actor.as_str()), (1, "p"));
    assert_eq!(
        letter.reason,
        DeadReason::Refused("told to refuse".to_owned())
    );
    // An asker was told; that is no dead letter.
    actor.ask(Do::Refuse).await.unwrap_err();
    assert_eq!(system.dead_letter_count(), 1);
    for _ in 0..2_000 {
        actor.tell(Do::Refuse).await.unwrap();
    }
    actor.ask(Do::Add(0)).await.unwrap();
    assert_eq!(system.dead_letter_count(), 2_001);
    let kept = system.dead_letters();
    assert_eq!(kept.len(), cpe_actors::DEAD_LETTERS_KEPT);
    assert_eq!(kept.last().unwrap().number, 2_001);
}
