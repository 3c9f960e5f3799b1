//! The worker protocol for the fuzzer: `cargo xtask fuzz worker`.

use std::io;
use std::time::Duration;

use cpe_tuple::{Tuple, Value};

use super::protocol::{Request, Response, read, write};
use super::serve::answer;
use crate::agent::{AgentMessage, AgentOptions, Delivery, LaterFact, RuleAgent};
use crate::limits::Limits;

/// An agent with a rule for each sort of delivery.
const SOURCE: &str = "
    (deftemplate case (slot id) (slot p (type FLOAT)) (multislot top-features) (slot ask))
    (deffacts start (total 0))
    (defrule begin => (subscribe ws :int :any) (find ws x) (after 10 tick 1))
    (defrule add ?t <- (total ?n) ?m <- (message (kind add) (body ?k&:(numberp ?k))) =>
      (retract ?t ?m) (assert (total (+ ?n ?k))) (out log ?k (random 1 9)))
    (defrule case ?c <- (case (id ?id) (p ?p) (top-features $?f)) =>
      (retract ?c) (reply (map-of id ?id f (list-of $?f))))
    (defrule tuple (tuple (fields $?f)) => (store ws x (length$ $?f)))
    (defrule answer (answer (request ?r) (status ?s) (value $?v)) => (log info ?r ?s))
    (defrule tick (tick ?n&:(numberp ?n)) => (after 10 tick (+ ?n 1)))";

/// Read bytes as frames of both directions, and answer those that ask an agent.
pub fn converse(bytes: &[u8]) {
    let mut answers = bytes;
    while matches!(read::<Response>(&mut answers), Ok(Some(_))) {}
    // Most mutated bytes are no request, and an engine takes a while to make.
    if !matches!(read::<Request>(&mut &*bytes), Ok(Some(_))) {
        return;
    }
    let options = AgentOptions {
        limits: Limits {
            wall: Duration::from_millis(500),
            memory_bytes: 32 << 20,
            ..Limits::AGENT
        },
        ..AgentOptions::default()
    };
    let Ok(mut agent) = RuleAgent::new("fuzz", SOURCE, options) else {
        return;
    };
    let _ = answer(&mut agent, &mut &*bytes, &mut io::sink(), || ());
}

/// Conversations to begin with: every sort of frame.
#[must_use]
pub fn conversations() -> Vec<Vec<u8>> {
    let message = |kind: &str, body: Value| {
        let message = AgentMessage::ask("me", kind, body, 1);
        Request::Deliver(Delivery::Message(message), 5)
    };
    let case = Value::Map(
        [
            ("id".to_owned(), Value::from("a")),
            ("p".to_owned(), Value::from(1)),
            (
                "top_features".to_owned(),
                Value::List(vec![Value::from("x")]),
            ),
        ]
        .into(),
    );
    let tuple = Tuple::new(vec![Value::from(7), Value::from("x")]);
    let tuple = tuple.map(|tuple| Delivery::Tuple {
        subscription: 1,
        tuple,
    });
    let answer = Delivery::Answer {
        request: 2,
        answer: Ok(Value::List(vec![Value::from(1.5)])),
    };
    let later = Delivery::Later(LaterFact {
        relation: "tick".to_owned(),
        fields: vec![Value::from(1)],
    });
    let conversations = [
        vec![Request::Deliver(Delivery::Start, 1), Request::Snapshot],
        vec![message("add", Value::from(3)), Request::Trace],
        vec![
            message("case", case),
            Request::Inspect("(facts)".to_owned()),
        ],
        vec![
            Request::Deliver(Delivery::Start, 1),
            Request::Deliver(tuple.unwrap_or(Delivery::Start), 2),
            Request::Replay(answer, 3),
            Request::Deliver(later, 4),
        ],
        vec![
            Request::Deliver(Delivery::Command("(assert (tick 1))".to_owned()), 5),
            Request::Call("+".to_owned(), vec![Value::from(1), Value::from(2)], 6),
        ],
    ];
    let requests = conversations.iter().map(|requests| frames(requests));
    let responses = [
        Response::Done(Ok(Vec::new()), "printed".to_owned()),
        Response::Snapshot(vec![1, 2, 3]),
        Response::Inspected(Err("no".to_owned())),
    ];
    requests.chain([frames(&responses)]).collect()
}

fn frames<T: serde::Serialize>(messages: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        // Into memory nothing fails but a frame too large.
        let _ = write(&mut bytes, message);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fuzzing_begins_with_is_understood_to_its_end() {
        let mut asked = 0;
        for bytes in conversations() {
            converse(&bytes);
            let mut rest = bytes.as_slice();
            while let Ok(Some(_)) = read::<Request>(&mut rest) {
                asked += 1;
            }
        }
        assert_eq!(asked, 12);
    }
}
