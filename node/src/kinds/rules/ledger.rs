//! What a durable agent has to do yet: kept with its memory, in one commit.
//!
//! Rules ask for effects while they run. A durable agent carries out none of those that others see
//! before the memory they came from lasts: they wait here, are committed with it, and leave then,
//! in their order. What an agent waits for is here too, so that one that starts again asks again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cpe::local::Address;
use cpe::{LeaseHandle, Value};
use cpe_rules::{Effect, LaterFact};
use cpe_tuple::codec;
use serde::{Deserialize, Serialize};

/// Bytes of an encoded ledger at most: more would not be committed with the rest.
const LEDGER_BYTES_MAX: usize = 1 << 20;

/// The message by which an agent has itself called: its queue holds something, or its outbox does.
const WAKE: &str = "$rules-wake";

/// Something that is done once the memory it came from lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Due {
    /// What a rule asked for.
    Effect(Effect),
    /// A tuple was consumed: the take under this lease is to be for good.
    Consumed(String),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// In the order in which it was asked for.
    pub(super) outbox: Vec<Due>,
    /// Requests without an answer, and what was asked.
    pub(super) open: BTreeMap<u64, Effect>,
    /// Facts to come: when, in milliseconds of the time of day, and what.
    pub(super) timers: BTreeMap<u64, (i64, LaterFact)>,
    next_timer: u64,
}

impl Ledger {
    /// Notes an effect; gives back one that can be carried out at once, because nobody else sees
    /// it, or because it is undone by itself if the memory does not last.
    pub(super) fn note(&mut self, effect: Effect) -> Option<Effect> {
        match &effect {
            Effect::Find { request, .. }
            | Effect::Fetch { request, .. }
            | Effect::ForestPredict { request, .. } => {
                self.open.insert(*request, effect.clone());
                Some(effect)
            }
            Effect::Subscribe { .. }
            | Effect::Reply { .. }
            | Effect::After { .. }
            | Effect::Log { .. } => Some(effect),
            _ => {
                self.outbox.push(Due::Effect(effect));
                None
            }
        }
    }

    /// Notes a fact to come; its number.
    pub(super) fn timer(&mut self, due_ms: i64, fact: LaterFact) -> u64 {
        self.next_timer += 1;
        self.timers.insert(self.next_timer, (due_ms, fact));
        self.next_timer
    }

    /// Notes that an answer came, and that the tuple in it was taken under a lease.
    pub(super) fn answered(&mut self, request: u64, lease: Option<LeaseHandle>) {
        self.open.remove(&request);
        let consumed = lease.map(|lease| Due::Consumed(lease.to_string()));
        self.outbox.extend(consumed);
    }

    /// The agent was built again from its source: nobody waits for anything.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.timers.clear();
    }

    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        let bytes = codec::encode(self).ok()?;
        (bytes.len() <= LEDGER_BYTES_MAX).then_some(bytes)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, codec::CodecError> {
        codec::decode(bytes, LEDGER_BYTES_MAX)
    }
}

/// Has a durable agent called: only while it handles a message can something be committed.
#[derive(Clone)]
pub(super) struct Waker {
    own: Address<Value, Option<Value>>,
    called: Arc<AtomicBool>,
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}

impl Waker {
    pub(super) fn new(own: Address<Value, Option<Value>>) -> Self {
        Self {
            own,
            called: Arc::default(),
        }
    }

    /// Sees to it that the agent is called.
    pub(super) fn wake(&self) {
        if self.called.swap(true, Ordering::AcqRel) {
            return;
        }
        // A full mailbox has messages in it, and after each the agent looks itself.
        if self.own.try_tell(Value::from(WAKE)).is_err() {
            self.heard();
        }
    }

    /// The agent looks now: whoever comes later has to call again.
    pub(super) fn heard(&self) {
        self.called.store(false, Ordering::Release);
    }

    pub(super) fn is_call(message: &Value) -> bool {
        message.as_str() == Some(WAKE)
    }
}

#[cfg(test)]
mod tests {
    use cpe_rules::Level;
    use cpe_tuple::Template;

    use super::*;

    fn fetch(request: u64) -> Effect {
        Effect::Fetch {
            request,
            workspace: "w".into(),
            template: Template::named("x").unwrap(),
            wait: true,
        }
    }

    #[test]
    fn what_others_see_waits_and_the_rest_does_not() {
        let mut ledger = Ledger::default();
        let told = Effect::Send {
            to: "a".into(),
            kind: "k".into(),
            body: Value::Null,
        };
        let log = Effect::Log {
            level: Level::Info,
            text: "t".into(),
        };
        assert_eq!(ledger.note(told.clone()), None);
        assert_eq!(ledger.note(Effect::Stop), None);
        assert_eq!(ledger.note(log.clone()), Some(log));
        assert_eq!(ledger.note(fetch(3)), Some(fetch(3)));
        assert_eq!(
            ledger.outbox,
            [Due::Effect(told), Due::Effect(Effect::Stop)]
        );
        assert_eq!(ledger.open.get(&3), Some(&fetch(3)));
    }

    #[test]
    fn an_answer_under_a_lease_leaves_its_end_to_be_done() {
        let mut ledger = Ledger::default();
        ledger.note(fetch(3));
        let lease: LeaseHandle = "12.00000000000000a1.1.3.17.4711".parse().unwrap();
        ledger.answered(3, Some(lease));
        assert!(ledger.open.is_empty());
        assert_eq!(ledger.outbox, [Due::Consumed(lease.to_string())]);
        let read = Ledger::from_bytes(&ledger.to_bytes().unwrap()).unwrap();
        assert_eq!(read, ledger);
    }
}
