//! What nodes say to each other about actors, on the message lane.
//!
//! Each request carries a number of the asking node's; the answer carries it back. New variants
//! and fields go to the end (see [`cpe_tuple::codec`]).

use cpe_actors::{ActorInfo, AskError, DeadLetter, ExitReason, Origin};
use cpe_membership::{Member, NodeId};
use cpe_space::{Marked, Name, Sender, Session};
use cpe_tuple::Value;
use cpe_tuple::codec::{self, CodecError};
use serde::{Deserialize, Serialize};

use super::inspect::Inspection;
use super::poison::Poison;
use super::spec::Wishes;

/// Bytes of a frame: what the message lane carries.
pub(crate) const FRAME_BYTES_MAX: usize = cpe_network::Lane::Message.limits().message_bytes;

/// One frame.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Envelope {
    /// Put this into the mailbox, and say that it is there.
    Tell {
        id: u64,
        name: String,
        token: u64,
        message: Value,
        /// The actor that sends it.
        #[serde(default)]
        from: Option<String>,
    },
    /// Put this into the mailbox, and send the actor's answer.
    Ask {
        id: u64,
        name: String,
        token: u64,
        within_ms: u64,
        message: Value,
        /// The actor that asks.
        #[serde(default)]
        from: Option<String>,
    },
    /// Start an actor.
    Spawn {
        id: u64,
        kind: String,
        name: String,
        args: Value,
        within_ms: u64,
        #[serde(default)]
        wishes: Wishes,
    },
    /// Stop an actor and give up its name.
    Stop {
        id: u64,
        name: String,
        token: u64,
        within_ms: u64,
        /// What it committed stays, for the next one of its name.
        #[serde(default)]
        keeps: bool,
    },
    /// What a request came to.
    Answer { id: u64, answer: Answer },
    /// Say what runs there.
    Inspect { id: u64, what: Inspection },
    /// Say how this actor ends, or after a while that it has not.
    Watch {
        id: u64,
        name: String,
        token: u64,
        within_ms: u64,
        /// The token of the claim with which it began.
        #[serde(default)]
        born: u64,
    },
    /// Give this to a durable actor, unless it has handled it.
    Deliver {
        id: u64,
        name: String,
        token: u64,
        number: Number,
        /// Answered when it is there, else when it is handled.
        tell: bool,
        /// Goes before what comes by another way. Only what a node gives to an actor of its own.
        forwarded: bool,
        within_ms: u64,
        message: Value,
    },
    /// Hand a durable actor to another node.
    Migrate {
        id: u64,
        name: String,
        token: u64,
        to: NodeId,
        within_ms: u64,
    },
    /// Be ready to host an actor of this kind, and say in which life.
    Receive {
        id: u64,
        kind: String,
        within_ms: u64,
    },
    /// The actor is that node's now. At the end: all that waited for it was sent.
    Moved {
        id: u64,
        name: String,
        token: u64,
        end: bool,
    },
    /// Put these into the mailbox, in order, as long as there is room, and say how many are there.
    TellMany {
        id: u64,
        name: String,
        token: u64,
        messages: Vec<Value>,
        /// The actor that sends them.
        #[serde(default)]
        from: Option<String>,
    },
    /// Have a durable actor handle these, which waited for it at its former host, in order and
    /// before any others; answered when they are handled and that lasts.
    Forward {
        id: u64,
        name: String,
        token: u64,
        told: Vec<Told>,
    },
    /// Say how much you still have to send on to this durable actor, whose host the asker is.
    Rest { id: u64, name: String, token: u64 },
    /// Nobody waits for the answer to this `Ask` or `Deliver` any more.
    GivenUp { id: u64 },
    /// Give this actor back what it told another, which failed on it twice.
    Poisoned {
        id: u64,
        name: String,
        token: u64,
        poison: Poison,
    },
}

/// A message that was told to a durable actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) number: Number,
    pub(crate) message: Value,
}

/// By what a durable actor knows a message (rule A9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Number {
    /// The start of the node that sends it.
    pub(crate) sender: Session,
    /// Its number, unique for this sender.
    pub(crate) seq: u64,
    /// The lowest number that the sender may still send to this actor.
    pub(crate) low: u64,
    /// The durable actor for which it is sent, and its birth: then the number is that of an effect,
    /// the same for whichever node sends it.
    #[serde(default)]
    pub(crate) actor: Option<(Name, u64)>,
    /// Of what came of a take of the receiver itself, the receiver's birth and the token of the
    /// incarnation that it is for: then the number is that of the take.
    #[serde(default)]
    pub(crate) take: Option<(u64, u64)>,
    /// The actor that sends it, where it is none of the others.
    #[serde(default)]
    pub(crate) from: Option<String>,
}

impl Number {
    /// Whose number it is.
    pub(crate) fn of(&self) -> Sender {
        if let Some((born, _)) = self.take {
            let n = self.seq;
            return Sender::Take { born, n };
        }
        match self.actor.clone() {
            Some((name, born)) => Sender::Actor { name, born },
            None => Sender::Start(self.sender),
        }
    }

    /// Who sent the message, to the actor called `to`.
    pub(crate) fn origin(&self, to: &str) -> Origin {
        match (&self.take, &self.actor) {
            (Some(_), _) => Origin::Host,
            (None, Some((name, _))) if name.as_str() == to => Origin::Itself,
            (None, Some((name, _))) => Origin::Actor(name.as_str().into()),
            (None, None) => origin(self.from.as_deref()),
        }
    }

    /// The message, as a commit says that it is handled.
    pub(crate) fn marked(&self) -> Marked {
        Marked {
            sender: self.of(),
            seq: self.seq,
            low: self.low,
        }
    }
}

/// What a request came to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Told, or stopped.
    Done,
    /// The actor's answer.
    Value(Value),
    /// Started; the token its name was claimed with.
    Started(u64),
    /// Not started.
    NotStarted(NotStarted),
    /// No actor of this name and token is here.
    NotHere,
    /// Too much is under way here.
    Busy,
    /// The actor's mailbox or the actor did not do it.
    Asked(AskError),
    /// Not stopped in time.
    NotStopped(String),
    /// Living actors, parents before their children, and how many there are.
    Actors { actors: Vec<ActorInfo>, total: u64 },
    /// Dead letters, the newest first, and how many there were.
    DeadLetters {
        letters: Vec<DeadLetter>,
        total: u64,
    },
    /// The actor has ended.
    Ended(ExitReason),
    /// The message was handled before; its answer is not kept.
    Handled,
    /// Ready to host actors, in this life.
    Life(Member),
    /// Not handed to another node, and why.
    NotMoved(String),
    /// So many messages, the first ones, are in the mailbox, and why no more.
    Told { count: u64, error: Option<AskError> },
    /// It was handed on from here, and goes on there, under this token.
    Elsewhere { host: Member, token: u64 },
    /// All are handled, but for those at these places, which came after later ones of their senders
    /// were handled: they may have been handled before.
    Forwarded { passed: Vec<u64> },
    /// So many messages are still to be sent on, at least.
    Rest(u64),
}

/// Why an actor was not started.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum NotStarted {
    /// The name is held by a live actor; the text says by whom.
    Taken(String),
    /// The kind is unknown or did not accept the arguments.
    Cannot(String),
    /// The registry could not be asked.
    Registry(String),
}

/// Who sent a message that this actor sends, or nobody that has a name.
pub(crate) fn origin(from: Option<&str>) -> Origin {
    from.map_or(Origin::Nobody, |name| Origin::Actor(name.into()))
}

impl Envelope {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, FRAME_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What a real runtime says of an actor that lives and one that failed.
    fn inspected() -> [Answer; 2] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let (actors, letters) = runtime.block_on(async {
            let system = cpe_actors::System::default();
            let kinds = cpe_actors::KindRegistry::with_builtin();
            let options = || cpe_actors::Options::default().name("n");
            let actor = kinds
                .spawn(&system, "counter", options(), Value::Null)
                .unwrap();
            actor.tell(Value::from("get")).await.unwrap();
            actor.stop();
            cpe_actors::AsActor::as_actor(&actor).ended().await;
            kinds
                .spawn(&system, "counter", options(), Value::Null)
                .unwrap();
            (system.list(), system.dead_letters())
        });
        assert_eq!((actors.len(), letters.len()), (1, 1));
        let total = 17;
        [
            Answer::Actors { actors, total },
            Answer::DeadLetters { letters, total },
        ]
    }

    /// One answer of every variant, and every variant of what they carry.
    fn answers() -> Vec<Answer> {
        let actor = || "a".to_owned();
        let (reason, after) = ("why".to_owned(), Duration::from_millis(1500));
        let asked = [
            AskError::NoSuchActor { actor: actor() },
            AskError::Dead {
                actor: actor(),
                reason: ExitReason::Failed(reason.clone()),
            },
            AskError::Dead {
                actor: actor(),
                reason: ExitReason::RuntimeGone,
            },
            AskError::TimedOut {
                actor: actor(),
                after,
            },
            AskError::Full {
                actor: actor(),
                after,
            },
            AskError::Refused {
                actor: actor(),
                reason: reason.clone(),
            },
            AskError::Failed {
                actor: actor(),
                reason: reason.clone(),
            },
            AskError::Poisoned {
                actor: actor(),
                reason: reason.clone(),
            },
            AskError::Unanswered { actor: actor() },
        ];
        let mut answers = vec![
            Answer::Done,
            Answer::Value(Value::List(vec![Value::Null, Value::symbol("s")])),
            Answer::Started(u64::MAX),
            Answer::NotStarted(NotStarted::Taken(reason.clone())),
            Answer::NotStarted(NotStarted::Cannot(reason.clone())),
            Answer::NotStarted(NotStarted::Registry(reason.clone())),
            Answer::NotHere,
            Answer::Busy,
            Answer::NotStopped(reason.clone()),
            Answer::Ended(ExitReason::Stopped),
            Answer::Ended(ExitReason::Lost(reason.clone())),
            Answer::Handled,
            Answer::Life(member()),
            Answer::NotMoved(reason),
            Answer::Told {
                count: 9,
                error: Some(AskError::Unanswered { actor: actor() }),
            },
            Answer::Elsewhere {
                host: member(),
                token: 4,
            },
            Answer::Forwarded { passed: vec![0, 7] },
            Answer::Rest(3),
        ];
        answers.extend(asked.map(Answer::Asked));
        answers.extend(inspected());
        answers
    }

    fn member() -> Member {
        Member {
            node: NodeId(5),
            inc: cpe_membership::Incarnation(2),
        }
    }

    fn number() -> Number {
        Number {
            sender: Session {
                member: member(),
                boot: 3,
            },
            seq: 9,
            low: 8,
            actor: Some((Name::new("clerk").unwrap(), 2)),
            take: Some((2, 5)),
            from: Some("clerk".to_owned()),
        }
    }

    /// One frame of every variant.
    fn all() -> Vec<Envelope> {
        let (id, token, within_ms) = (7, 3, 30_000);
        let name = || "till".to_owned();
        let message = || Value::Bytes(vec![0, 255]);
        let mut all = vec![
            Envelope::Tell {
                id,
                name: name(),
                token,
                message: message(),
                from: Some(name()),
            },
            Envelope::Ask {
                id,
                name: name(),
                token,
                within_ms,
                message: message(),
                from: Some(name()),
            },
            Envelope::Spawn {
                id,
                kind: "counter".to_owned(),
                name: name(),
                args: Value::Map([("n".to_owned(), Value::Float(0.5))].into()),
                within_ms,
                wishes: Wishes {
                    require: [("gpu".to_owned(), "yes".to_owned())].into(),
                    node: Some("b".to_owned()),
                    crowd: Some("demo".to_owned()),
                    durable: true,
                    near: Some("base".to_owned()),
                    foreign: true,
                },
            },
            Envelope::Stop {
                id,
                name: name(),
                token,
                within_ms,
                keeps: true,
            },
            Envelope::Watch {
                id,
                name: name(),
                token,
                within_ms,
                born: 2,
            },
            Envelope::Deliver {
                id,
                name: name(),
                token,
                number: number(),
                tell: true,
                forwarded: true,
                within_ms,
                message: message(),
            },
            Envelope::Migrate {
                id,
                name: name(),
                token,
                to: NodeId(6),
                within_ms,
            },
            Envelope::Receive {
                id,
                kind: "counter".to_owned(),
                within_ms,
            },
            Envelope::Moved {
                id,
                name: name(),
                token,
                end: true,
            },
            Envelope::TellMany {
                id,
                name: name(),
                token,
                messages: vec![message(), Value::Null],
                from: Some(name()),
            },
            Envelope::Forward {
                id,
                name: name(),
                token,
                told: vec![Told {
                    number: number(),
                    message: message(),
                }],
            },
            Envelope::Rest {
                id,
                name: name(),
                token,
            },
        ];
        all.push(Envelope::GivenUp { id });
        all.push(Envelope::Poisoned {
            id,
            name: name(),
            token,
            poison: Poison {
                actor: name(),
                reason: "why".to_owned(),
                message: message(),
            },
        });
        for what in [Inspection::Actors, Inspection::DeadLetters] {
            all.push(Envelope::Inspect { id, what });
        }
        all.extend(
            answers()
                .into_iter()
                .map(|answer| Envelope::Answer { id, answer }),
        );
        all
    }

    /// The places of its variants among frames, answers and reasons. A new variant does not
    /// compile here until it has a place, and the test fails until the lists above have it.
    fn places(envelope: &Envelope) -> Vec<(char, usize)> {
        let answer = match envelope {
            Envelope::Tell { .. } => return vec![('e', 0)],
            Envelope::Ask { .. } => return vec![('e', 1)],
            Envelope::Spawn { .. } => return vec![('e', 2)],
            Envelope::Stop { .. } => return vec![('e', 3)],
            Envelope::Answer { answer, .. } => answer,
            Envelope::Inspect { .. } => return vec![('e', 5)],
            Envelope::Watch { .. } => return vec![('e', 6)],
            Envelope::Deliver { .. } => return vec![('e', 7)],
            Envelope::Migrate { .. } => return vec![('e', 8)],
            Envelope::Receive { .. } => return vec![('e', 9)],
            Envelope::Moved { .. } => return vec![('e', 10)],
            Envelope::TellMany { .. } => return vec![('e', 11)],
            Envelope::Forward { .. } => return vec![('e', 12)],
            Envelope::Rest { .. } => return vec![('e', 13)],
            Envelope::GivenUp { .. } => return vec![('e', 14)],
            Envelope::Poisoned { .. } => return vec![('e', 15)],
        };
        let place = match answer {
            Answer::Done => 0,
            Answer::Value(_) => 1,
            Answer::Started(_) => 2,
            Answer::NotStarted(why) => {
                let why = match why {
                    NotStarted::Taken(_) => 0,
                    NotStarted::Cannot(_) => 1,
                    NotStarted::Registry(_) => 2,
                };
                return vec![('e', 4), ('a', 3), ('n', why)];
            }
            Answer::NotHere => 4,
            Answer::Busy => 5,
            Answer::Asked(_) => 6,
            Answer::NotStopped(_) => 7,
            Answer::Actors { .. } => 8,
            Answer::DeadLetters { .. } => 9,
            Answer::Ended(_) => 10,
            Answer::Handled => 11,
            Answer::Life(_) => 12,
            Answer::NotMoved(_) => 13,
            Answer::Told { .. } => 14,
            Answer::Elsewhere { .. } => 15,
            Answer::Forwarded { .. } => 16,
            Answer::Rest(_) => 17,
        };
        vec![('e', 4), ('a', place)]
    }

    #[test]
    fn every_variant_has_an_example() {
        let seen: std::collections::BTreeSet<_> = all().iter().flat_map(places).collect();
        let numbers = |kind, count| (0..count).map(move |n| (kind, n));
        let wanted = numbers('e', 16)
            .chain(numbers('a', 18))
            .chain(numbers('n', 3));
        assert_eq!(seen, wanted.collect());
    }

    #[test]
    fn every_frame_is_plain_cbor_to_an_independent_reader() {
        for envelope in all() {
            let bytes = envelope.encode().unwrap();
            assert_eq!(Envelope::decode(&bytes).unwrap(), envelope);
            let value: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
            let mut again = Vec::new();
            ciborium::into_writer(&value, &mut again).unwrap();
            assert_eq!(Envelope::decode(&again).unwrap(), envelope);
        }
    }

    #[test]
    fn every_cut_of_a_frame_is_refused() {
        for envelope in all() {
            let bytes = envelope.encode().unwrap();
            for end in 0..bytes.len() {
                assert!(
                    Envelope::decode(&bytes[..end]).is_err(),
                    "{envelope:?} at {end}"
                );
            }
        }
    }
}
