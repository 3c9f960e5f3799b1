//! Messages that no actor handled: counted, the newest kept, and open to subscribers.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
};

use cpe_tuple::Value;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::ExitReason;

/// Dead letters kept for inspection; older ones are only counted.
pub const DEAD_LETTERS_KEPT: usize = 1_024;

/// Dead letters a slow subscriber may be behind before it misses some (and is told how many).
pub const DEAD_LETTERS_BEHIND: usize = 256;

/// Why a message was not handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeadReason {
    /// Its actor ended with the message in the mailbox.
    ActorEnded(ExitReason),
    /// The actor refused it and nobody waited for the answer.
    Refused(String),
    /// The actor failed on it and there was no copy for another try.
    Failed(String),
    /// It was published, and the subscriber's mailbox was full.
    MailboxFull,
    /// The actor failed on it twice.
    Poisoned(String),
    /// It did not come as far as its actor, or there is none.
    Undelivered(String),
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActorEnded(reason) => write!(f, "its actor ended: {reason}"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Failed(reason) => write!(f, "its actor failed on it: {reason}"),
            Self::MailboxFull => f.write_str("the mailbox of a subscriber was full"),
            Self::Poisoned(reason) => write!(f, "poison, its actor failed on it twice: {reason}"),
            Self::Undelivered(reason) => write!(f, "not delivered: {reason}"),
        }
    }
}

/// One message that no actor handled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The how manieth of the system, from 1.
    pub number: u64,
    /// The actor it was for: name, or kind and number.
    pub actor: String,
    /// Why it was not handled.
    pub reason: DeadReason,
    /// The message as its actor [describes](crate::Actor::describe) it.
    pub message: Option<Value>,
}

struct Ring {
    kept: VecDeque<DeadLetter>,
    count: u64,
}

/// The dead letters of one system.
pub(crate) struct DeadLetters {
    ring: Mutex<Ring>,
    subscribers: broadcast::Sender<DeadLetter>,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self {
            ring: Mutex::new(Ring {
                kept: VecDeque::new(),
                count: 0,
            }),
            subscribers: broadcast::Sender::new(DEAD_LETTERS_BEHIND),
        }
    }
}

impl DeadLetters {
    pub(crate) fn add(&self, actor: String, reason: DeadReason, message: Option<Value>) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.count += 1;
        let letter = DeadLetter {
            number: ring.count,
            actor,
            reason,
            message,
        };
        if ring.kept.len() >= DEAD_LETTERS_KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(letter.clone());
        // Under the lock, so that subscribers see them in order. Without subscribers it fails.
        let _ = self.subscribers.send(letter);
    }

    pub(crate) fn count(&self) -> u64 {
        self.ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count
    }

    pub(crate) fn kept(&self) -> Vec<DeadLetter> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.kept.iter().cloned().collect()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<DeadLetter> {
        self.subscribers.subscribe()
    }
}
