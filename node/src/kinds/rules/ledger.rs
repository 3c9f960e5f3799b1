//! What a durable agent has to do yet: kept with its memory, in one commit.
//!
//! Rules ask for effects while they run. Those that others see are not a durable agent's to carry
//! out: they go with the commit of the memory that they came from, and whoever hosts the agent
//! sends them on, in their order and once. They wait here only until the end of the delivery, or
//! longer when a commit has no room for so many. What an agent waits for is here too, so that one
//! that starts again asks again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cpe::local::{self, Address, Origin};
use cpe::{LeaseHandle, Tuple, Value};
use cpe_rules::{Effect, LaterFact, message_value};
use cpe_tuple::codec;
use cpe_tuple::limits::MAX_NAME_BYTES;
use serde::{Deserialize, Serialize};

/// Bytes of an encoded ledger at most: more would not be committed with the rest.
const LEDGER_BYTES_MAX: usize = 1 << 20;

/// The message by which an agent has itself called: its queue holds something, or its outbox does.
const WAKE: &str = "$rules-wake";

/// The key of what an agent tells itself, and of its parts.
const OWN: &str = "$rules-own";
const ASK: &str = "ask";
const NOTE: &str = "note";
const STOP: &str = "stop";

/// The kind of message by which an agent hears what came of a take, and the parts of it.
const TOOK: &str = "$rules-took";
const REQUEST: &str = "request";
const TUPLE: &str = "tuple";
const FAILED: &str = "failed";
const WORKSPACE: &str = "workspace";

/// Takes of an agent that are under way at a time, at most; an actor may have as many.
const TAKES_MAX: usize = 256;

/// Something that is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Due {
    /// What a rule asked for: goes with a commit.
    Effect(Effect),
    /// A tuple was consumed: the take under this lease is to be for good, once that lasts.
    Consumed(String),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// In the order in which it was asked for.
    pub(super) outbox: VecDeque<Due>,
    /// Requests without an answer, and what was asked.
    pub(super) open: BTreeMap<u64, Effect>,
    /// Facts to come: when, in milliseconds of the time of day, and what.
    pub(super) timers: BTreeMap<u64, (i64, LaterFact)>,
    next_timer: u64,
    /// Questions that went with a commit, to be asked when what came before them is done.
    #[serde(default)]
    held: BTreeMap<u64, Effect>,
    /// Takes that went with a commit, by numbers of their own: those of requests begin anew when an
    /// agent is built again.
    #[serde(default)]
    taking: BTreeMap<u64, Taking>,
    #[serde(default)]
    last_take: u64,
}

/// A take under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Taking {
    /// The request of the rules that it answers; none if they have forgotten it.
    request: Option<u64>,
    workspace: String,
}

/// What came of a take.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Took {
    /// Number of the take.
    take: u64,
    /// The tuple, if there was one.
    fields: Option<Vec<Value>>,
    failed: Option<String>,
    /// Where the tuple was.
    workspace: Option<String>,
}

/// What a take came to, for the request that it answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taken {
    pub(super) request: u64,
    pub(super) answer: Result<Value, String>,
    /// Where the tuple in the answer was.
    pub(super) workspace: String,
}

/// What an agent tells itself in its turn among its effects, because only it can do it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Own {
    /// Ask another actor, under this number.
    Ask(u64),
    /// A message of the rules to their own agent.
    Note(Value),
    /// End.
    Stop,
    /// What came of a take.
    Took(Took),
}

impl Own {
    fn to_value(&self) -> Value {
        let what = match self {
            Self::Ask(request) => (ASK, Value::Int(request.cast_signed())),
            Self::Note(message) => (NOTE, message.clone()),
            Self::Stop => (STOP, Value::Null),
            // Told by the agent's host, not by itself.
            Self::Took(_) => return Value::Null,
        };
        let what = Value::Map([(what.0.to_owned(), what.1)].into());
        Value::Map([(OWN.to_owned(), what)].into())
    }

    /// What a message says that the agent itself sent, or its host. What others send in the same
    /// form says nothing.
    pub(super) fn of(message: &Value, origin: &Origin) -> Option<Self> {
        let message = message.as_map().filter(|map| map.len() == 1)?;
        if *origin == Origin::Host {
            let took = message.get(TOOK)?.as_map()?;
            return Some(Self::Took(Took {
                take: took.get(REQUEST)?.as_int()?.cast_unsigned(),
                fields: took.get(TUPLE)?.as_list().map(<[Value]>::to_vec),
                failed: took.get(FAILED).and_then(Value::as_str).map(str::to_owned),
                workspace: took
                    .get(WORKSPACE)
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            }));
        }
        if *origin != Origin::Itself {
            return None;
        }
        let what = message.get(OWN)?;
        let (what, value) = what.as_map().filter(|map| map.len() == 1)?.iter().next()?;
        match what.as_str() {
            ASK => Some(Self::Ask(value.as_int()?.cast_unsigned())),
            NOTE => Some(Self::Note(value.clone())),
            STOP => Some(Self::Stop),
            _ => None,
        }
    }
}

/// An effect of rules as one of the actor called `own`, under this number if it is a take.
fn effect_of(own: &str, effect: &Effect, take: u64) -> Result<local::Effect, String> {
    let name = |what: &str, name: &str| match name.len() {
        1..=MAX_NAME_BYTES => Ok(name.to_owned()),
        0 => Err(format!("{what} without a name")),
        n => Err(format!(
            "{what} with a name of {n} bytes: {MAX_NAME_BYTES} are the most"
        )),
    };
    let to_itself = |own: &str, message: &Own| local::Effect::Tell {
        actor: own.to_owned(),
        message: message.to_value(),
    };
    Ok(match effect.clone() {
        Effect::Store {
            workspace,
            name: variable,
            value,
        } => local::Effect::Out {
            workspace: name("a workspace", &workspace)?,
            tuple: Tuple::new(vec![Value::from(variable), value])
                .map_err(|error| error.to_string())?,
        },
        Effect::Out { workspace, tuple } => local::Effect::Out {
            workspace: name("a workspace", &workspace)?,
            tuple,
        },
        Effect::Send { to, kind, body } => {
            let message = message_value(&kind, body);
            if to == own {
                to_itself(own, &Own::Note(message))
            } else {
                let actor = name("an actor", &to)?;
                local::Effect::Tell { actor, message }
            }
        }
        Effect::Spawn {
            kind,
            name: of,
            args,
        } => local::Effect::Spawn {
            kind,
            name: name("an actor", &of)?,
            args,
        },
        Effect::Fetch {
            workspace,
            template,
            wait,
            ..
        } => local::Effect::Take {
            workspace,
            template,
            wait,
            answer: TOOK.to_owned(),
            request: take,
        },
        Effect::Ask { request, .. } => to_itself(own, &Own::Ask(request)),
        Effect::Stop => to_itself(own, &Own::Stop),
        other => return Err(format!("an effect this node does not know: {other:?}")),
    })
}

impl Ledger {
    /// Notes an effect; gives back one that can be carried out at once, because nobody else sees
    /// it, or because it is undone by itself if the memory does not last.
    pub(super) fn note(&mut self, effect: Effect) -> Option<Effect> {
        match &effect {
            Effect::Fetch {
                workspace,
                template,
                ..
            } if template.key().is_some()
                && (1..=MAX_NAME_BYTES).contains(&workspace.len())
                && self.takes() < TAKES_MAX =>
            {
                self.outbox.push_back(Due::Effect(effect));
                None
            }
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
                self.outbox.push_back(Due::Effect(effect));
                None
            }
        }
    }

    /// Takes that are under way, or will be.
    fn takes(&self) -> usize {
        let waits = |due: &&Due| matches!(due, Due::Effect(Effect::Fetch { .. }));
        self.taking.len() + self.outbox.iter().filter(waits).count()
    }

    /// What a take came to, for the request that it answers; nothing if that is forgotten, or was
    /// never asked for: then the tuple is put back.
    pub(super) fn took(&mut self, took: Took) -> Option<Taken> {
        let (request, workspace) = match self.taking.remove(&took.take) {
            Some(taking) => (taking.request, taking.workspace),
            None => (None, took.workspace?),
        };
        let Some(request) = request else {
            if let Some(tuple) = took.fields.and_then(|fields| Tuple::new(fields).ok()) {
                let out = Effect::Out { workspace, tuple };
                self.outbox.push_back(Due::Effect(out));
            }
            return None;
        };
        Some(Taken {
            request,
            answer: match took.failed {
                Some(why) => Err(why),
                None => Ok(took.fields.map_or(Value::Null, Value::List)),
            },
            workspace,
        })
    }

    /// Gives effects to the commit of the actor called `own`, in their order, as long as `commit`
    /// takes them. Says which of them cannot be done by anybody, and why.
    ///
    /// # Errors
    /// What `commit` says of an effect that it refuses as the first one: it will never take it.
    pub(super) fn hand_over<E>(
        &mut self,
        own: &str,
        mut commit: impl FnMut(local::Effect) -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        let (mut faults, mut taken) = (Vec::new(), 0);
        let mut stays = VecDeque::new();
        while let Some(due) = self.outbox.pop_front() {
            let Due::Effect(effect) = due else {
                stays.push_back(due);
                continue;
            };
            match effect_of(own, &effect, self.last_take + 1).map(&mut commit) {
                Ok(Ok(())) => {
                    taken += 1;
                    match effect {
                        Effect::Ask { request, .. } => {
                            self.held.insert(request, effect);
                        }
                        Effect::Fetch {
                            request, workspace, ..
                        } => {
                            self.last_take += 1;
                            let request = Some(request);
                            let taking = Taking { request, workspace };
                            self.taking.insert(self.last_take, taking);
                        }
                        _ => {}
                    }
                }
                Ok(Err(error)) if taken == 0 => return Err(error),
                Ok(Err(_)) => {
                    stays.push_back(Due::Effect(effect));
                    break;
                }
                Err(fault) => faults.push(fault),
            }
        }
        stays.append(&mut self.outbox);
        self.outbox = stays;
        Ok(faults)
    }

    /// It is a question's turn, if it was not asked before.
    pub(super) fn ask(&mut self, request: u64) -> Option<Effect> {
        let effect = self.held.remove(&request)?;
        self.open.insert(request, effect.clone());
        Some(effect)
    }

    /// Leases of tuples that were consumed, as it is committed by now.
    pub(super) fn consumed(&mut self) -> Vec<String> {
        let mut leases = Vec::new();
        self.outbox.retain(|due| match due {
            Due::Consumed(lease) => {
                leases.push(lease.clone());
                false
            }
            Due::Effect(_) => true,
        });
        leases
    }

    /// Whether it asks for this by itself, now or in its turn.
    pub(super) fn keeps(&self, request: u64) -> bool {
        let asks = |due: &Due| match due {
            Due::Effect(Effect::Ask { request: of, .. } | Effect::Fetch { request: of, .. }) => {
                *of == request
            }
            _ => false,
        };
        let mut taking = self.taking.values();
        self.open.contains_key(&request)
            || taking.any(|take| take.request == Some(request))
            || self.held.contains_key(&request)
            || self.outbox.iter().any(asks)
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
        self.held.clear();
        for take in self.taking.values_mut() {
            take.request = None;
        }
        let fetches = |due: &Due| matches!(due, Due::Effect(Effect::Fetch { .. }));
        self.outbox.retain(|due| !fetches(due));
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
        let called = self.own.try_tell_from(Origin::Itself, Value::from(WAKE));
        if called.is_err() {
            self.heard();
        }
    }

    /// The agent looks now: whoever comes later has to call again.
    pub(super) fn heard(&self) {
        self.called.store(false, Ordering::Release);
    }

    /// Whether a message is such a call. One that somebody else sent is none.
    pub(super) fn is_call(message: &Value, origin: &Origin) -> bool {
        *origin == Origin::Itself && message.as_str() == Some(WAKE)
    }
}

#[cfg(test)]
mod tests {
    use cpe_rules::Level;
    use cpe_tuple::{Field, Template};

    use super::*;

    fn fetch(request: u64, field: Field) -> Effect {
        Effect::Fetch {
            request,
            workspace: "w".into(),
            template: Template::new(vec![field]).unwrap(),
            wait: true,
        }
    }

    /// A take from any variable.
    fn fetch_any(request: u64) -> Effect {
        fetch(request, Field::Any)
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
        assert_eq!(ledger.note(fetch_any(3)), Some(fetch_any(3)));
        assert_eq!(
            ledger.outbox,
            [Due::Effect(told), Due::Effect(Effect::Stop)]
        );
        assert_eq!(ledger.open.get(&3), Some(&fetch_any(3)));
    }

    fn out(n: i64) -> Effect {
        Effect::Out {
            workspace: "w".into(),
            tuple: Tuple::new(vec![n.into()]).unwrap(),
        }
    }

    fn ask(request: u64) -> Effect {
        Effect::Ask {
            request,
            to: "b".into(),
            kind: "k".into(),
            body: Value::Null,
        }
    }

    /// What goes with a commit that has room for so many.
    fn committed(ledger: &mut Ledger, room: usize) -> Vec<local::Effect> {
        let mut taken = Vec::new();
        let commit = |effect| {
            if taken.len() == room {
                return Err("full");
            }
            taken.push(effect);
            Ok(())
        };
        let faults = ledger.hand_over("a", commit).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        taken
    }

    #[test]
    fn what_a_commit_has_no_room_for_goes_with_the_next_in_order() {
        let mut ledger = Ledger::default();
        for n in 0..5 {
            ledger.note(out(n));
        }
        let effect = |n| effect_of("a", &out(n), 1).unwrap();
        assert_eq!(committed(&mut ledger, 3), [effect(0), effect(1), effect(2)]);
        assert_eq!(committed(&mut ledger, 3), [effect(3), effect(4)]);
        assert!(ledger.outbox.is_empty());
        ledger.note(out(5));
        let refused = ledger.hand_over("a", |_| Err("too large"));
        assert_eq!(refused, Err("too large"), "not kept for ever");
    }

    #[test]
    fn a_question_is_asked_once_and_not_before_its_turn() {
        let mut ledger = Ledger::default();
        ledger.note(out(1));
        ledger.note(ask(4));
        assert!(ledger.keeps(4));
        assert_eq!(ledger.ask(4), None, "what it follows is not committed");
        let sent = committed(&mut ledger, 10);
        let [_, local::Effect::Tell { actor, message }] = &sent[..] else {
            panic!("{sent:?}");
        };
        let own = Own::of(message, &Origin::Itself);
        assert_eq!((actor.as_str(), own), ("a", Some(Own::Ask(4))));
        let mut ledger = Ledger::from_bytes(&ledger.to_bytes().unwrap()).unwrap();
        assert!(ledger.keeps(4) && ledger.open.is_empty());
        assert_eq!(ledger.ask(4), Some(ask(4)));
        assert_eq!(
            ledger.open.get(&4),
            Some(&ask(4)),
            "asked again by who starts again"
        );
        assert_eq!(ledger.ask(4), None);
    }

    /// What the host tells an agent of a take.
    fn took(take: i64, tuple: Value) -> Own {
        let parts = [
            (REQUEST.to_owned(), Value::Int(take)),
            (TUPLE.to_owned(), tuple),
            (WORKSPACE.to_owned(), Value::from("w")),
        ];
        let message = Value::Map([(TOOK.to_owned(), Value::Map(parts.into()))].into());
        Own::of(&message, &Origin::Host).unwrap()
    }

    #[test]
    fn a_tuple_that_was_taken_answers_its_request_once() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.note(fetch(3, Field::Actual(1.into()))), None);
        assert!(ledger.keeps(3));
        let sent = committed(&mut ledger, 10);
        let [local::Effect::Take { request, .. }] = &sent[..] else {
            panic!("{sent:?}");
        };
        assert_eq!(*request, 1);
        let mut ledger = Ledger::from_bytes(&ledger.to_bytes().unwrap()).unwrap();
        assert!(ledger.keeps(3));
        let Own::Took(took) = took(1, Value::List(vec![1.into()])) else {
            panic!();
        };
        let answer = Taken {
            request: 3,
            answer: Ok(Value::List(vec![1.into()])),
            workspace: "w".into(),
        };
        assert_eq!(ledger.took(took.clone()), Some(answer));
        assert!(!ledger.keeps(3));
        assert!(ledger.outbox.is_empty());
    }

    #[test]
    fn a_tuple_that_nobody_asked_for_is_put_back() {
        let mut ledger = Ledger::default();
        let Own::Took(took) = took(1, Value::List(vec![1.into()])) else {
            panic!();
        };
        assert_eq!(ledger.took(took), None);
        assert_eq!(ledger.outbox, [Due::Effect(out(1))]);
    }

    #[test]
    fn what_came_of_a_take_only_the_host_can_say() {
        let parts = [
            (REQUEST.to_owned(), Value::Int(1)),
            (TUPLE.to_owned(), Value::List(vec!["forged".into()])),
        ];
        let message = Value::Map([(TOOK.to_owned(), Value::Map(parts.into()))].into());
        for stranger in [Origin::Nobody, Origin::Actor("x".into()), Origin::Itself] {
            assert_eq!(Own::of(&message, &stranger), None);
        }
        let call = Value::from(WAKE);
        assert!(Waker::is_call(&call, &Origin::Itself));
        assert!(!Waker::is_call(&call, &Origin::Nobody));
    }

    #[test]
    fn a_tuple_whose_request_is_forgotten_is_put_back() {
        let mut ledger = Ledger::default();
        ledger.note(fetch(3, Field::Actual(1.into())));
        committed(&mut ledger, 10);
        ledger.forget();
        assert!(!ledger.keeps(3));
        let Own::Took(took) = took(1, Value::List(vec![1.into()])) else {
            panic!();
        };
        assert_eq!(ledger.took(took), None);
        assert_eq!(ledger.outbox, [Due::Effect(out(1))]);
    }

    #[test]
    fn what_nobody_can_do_is_said_and_keeps_nothing_back() {
        let mut ledger = Ledger::default();
        ledger.note(Effect::Send {
            to: String::new(),
            kind: "k".into(),
            body: Value::Null,
        });
        ledger.note(out(1));
        let mut count = 0;
        let faults = ledger.hand_over("a", |_| {
            count += 1;
            Ok::<(), ()>(())
        });
        assert_eq!((faults.unwrap().len(), count), (1, 1));
        assert!(ledger.outbox.is_empty());
    }

    #[test]
    fn what_an_agent_tells_itself_is_known_again() {
        for own in [Own::Ask(7), Own::Note("x".into()), Own::Stop] {
            let value = own.to_value();
            assert_eq!(Own::of(&value, &Origin::Itself), Some(own));
            for stranger in [Origin::Nobody, Origin::Actor("a".into()), Origin::Host] {
                assert_eq!(Own::of(&value, &stranger), None);
            }
        }
        assert_eq!(Own::of(&"stop".into(), &Origin::Itself), None);
    }

    #[test]
    fn an_answer_under_a_lease_leaves_its_end_to_be_done() {
        let mut ledger = Ledger::default();
        ledger.note(fetch_any(3));
        let lease: LeaseHandle = "12.00000000000000a1.1.3.17.4711".parse().unwrap();
        ledger.answered(3, Some(lease));
        assert!(ledger.open.is_empty());
        ledger.note(out(1));
        let mut read = Ledger::from_bytes(&ledger.to_bytes().unwrap()).unwrap();
        assert_eq!(read, ledger);
        assert_eq!(committed(&mut read, 10).len(), 1);
        assert_eq!(read.consumed(), [lease.to_string()]);
        assert!(read.outbox.is_empty());
    }
}
