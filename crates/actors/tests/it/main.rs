//! What the runtime promises, one fact per test, in virtual time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod ask;
mod durable;
mod gate;
mod links;
mod mailbox;
mod pools;
mod siblings;
mod stash;
mod supervision;
mod system;
mod timers;
mod topics;
mod tree;
mod watching;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cpe_actors::{
    Actor, ActorError, Address, Context, ExitReason, Options, ReplyTo, Supervision, System,
    Terminated, bridge,
};
use cpe_tuple::Value;
use tokio::sync::Semaphore;

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
    Link(Address<Self, i64>),
    Unlink(Address<Self, i64>),
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
            Do::Link(other) => ctx.link(&other)?,
            Do::Unlink(other) => ctx.unlink(&other),
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
