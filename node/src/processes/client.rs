//! Somebody who stores and takes through the HTTP API and keeps a record of it.
//!
//! Each request has a connection of its own, so that it is known whether it was sent. What was not
//! answered counts as something that may have happened.
#![allow(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not; it does not panic"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cpe_sim::history::{Did, Operation, Stored, Taken};
use serde_json::{Value, json};

/// How long a node may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How much longer than the operation itself its answer may take: a node may be paused meanwhile.
const GRACE: Duration = Duration::from_secs(4);

/// Bytes of an answer at most.
const ANSWER_MAX: u64 = 1 << 20;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nobody accepted the connection: nothing was asked.
    NotAsked,
    /// It was asked, or may have been.
    Lost,
}

/// Sends a request to a node and waits for its answer: status and body.
pub(crate) fn request(
    api: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
    within: Duration,
) -> Result<(u16, Value), Silence> {
    let connected = TcpStream::connect_timeout(&api, CONNECT_WITHIN);
    let mut stream = connected.map_err(|_| Silence::NotAsked)?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let exchanged = stream
        .set_read_timeout(Some(within + GRACE))
        .and_then(|()| stream.write_all(text.as_bytes()))
        .and_then(|()| {
            (&mut stream)
                .take(ANSWER_MAX)
                .read_to_end(&mut answer)
                .map(drop)
        });
    exchanged.map_err(|_| Silence::Lost)?;
    let answer = String::from_utf8(answer).map_err(|_| Silence::Lost)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    // Half of an answer is none.
    let body = body.and_then(|body| serde_json::from_str(body).ok());
    status.zip(body).ok_or(Silence::Lost)
}

/// Reads what a node says of itself, of the mesh or of the space.
pub(crate) fn get(api: SocketAddr, path: &str) -> Option<Value> {
    match request(api, "GET", path, None, Duration::from_secs(1)) {
        Ok((200, body)) => Some(body),
        _ => None,
    }
}

/// The clock all clients share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a history of real processes")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn micros(self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Something asked, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    /// It is a take, and its node has said that it puts back what was taken, if it lives on.
    pub(crate) promised: bool,
}

/// What a client asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Store { value: i64, ack: &'static str },
    Fetch,
    FetchTry,
    Find,
    LocalFind,
}

impl Ask {
    /// The path within a workspace, and the request's body.
    fn form(self, variable: &str, within: Duration) -> (&'static str, Value) {
        let timeout_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let template = json!([variable, {"?": "int"}]);
        let matching =
            |fresh: bool| json!({"template": template, "timeout_ms": timeout_ms, "fresh": fresh});
        match self {
            Self::Store { value, ack } => {
                let tuple = json!([variable, value]);
                let body = json!({"tuple": tuple, "ack": ack, "timeout_ms": timeout_ms});
                ("out", body)
            }
            Self::Fetch => ("in", matching(false)),
            Self::FetchTry => ("inp", matching(false)),
            Self::Find => ("rdp", matching(true)),
            Self::LocalFind => ("rdp", matching(false)),
        }
    }

    /// Asks a node. What is to be recorded, if anything: a request that nobody heard leaves no
    /// trace, nor does a find that failed.
    ///
    /// # Errors
    /// When a node gives an answer that no node may give.
    pub(crate) fn of(
        self,
        api: SocketAddr,
        client: u64,
        (workspace, variable): (&str, &str),
        within: Duration,
        clock: Clock,
    ) -> Result<Option<Asked>, String> {
        let (what, body) = self.form(variable, within);
        let path = format!("/v1/spaces/{workspace}/{what}");
        let from = clock.micros();
        let answer = request(api, "POST", &path, Some(&body), within);
        let to = clock.micros();
        let Some((did, ended)) = self.did(&answer)? else {
            return Ok(None);
        };
        let to = ended.then_some(to);
        Ok(Some(Asked {
            operation: Operation::new(client, variable, from, to, did),
            promised: matches!(&answer, Ok((_, body)) if body["error"]["kind"] == "unknown"),
        }))
    }

    /// What an answer says was done, and whether it ended with the answer.
    fn did(self, answer: &Result<(u16, Value), Silence>) -> Result<Option<(Did, bool)>, String> {
        let (status, body) = match answer {
            Ok((status, body)) => (*status, body),
            Err(Silence::NotAsked) => return Ok(None),
            Err(Silence::Lost) => (0, &Value::Null),
        };
        if (400..500).contains(&status) {
            return Err(format!("a node says that it was asked wrongly: {body}"));
        }
        let kind = body["error"]["kind"].as_str().unwrap_or_default();
        let strange = || format!("a node gave an answer that none may give: {body}");
        let found = match &body["tuple"] {
            Value::Null => None,
            tuple => Some(tuple[1].as_i64().ok_or_else(strange)?),
        };
        Ok(Some(match (self, status, kind) {
            (Self::Store { value, .. }, ..) => {
                let outcome = match (status, body["stored"].as_str()) {
                    (200, Some("home")) => Stored::Acknowledged,
                    (200, Some("pending")) => Stored::Pending,
                    (200, _) => return Err(strange()),
                    _ => Stored::Unknown,
                };
                let ended = outcome == Stored::Acknowledged;
                (Did::Store { value, outcome }, ended)
            }
            (Self::Fetch | Self::FetchTry, 200, _) => {
                (Did::Take(found.map_or(Taken::Empty, Taken::Value)), true)
            }
            // What it took, if anything, was put back before the answer was given.
            (Self::Fetch | Self::FetchTry, _, "timed_out") => (Did::Take(Taken::Cancelled), true),
            (Self::Fetch | Self::FetchTry, _, "unavailable" | "busy") => {
                (Did::Take(Taken::Unavailable), true)
            }
            // It is put back when the home answers again, unless the node dies before.
            (Self::Fetch | Self::FetchTry, ..) => (Did::Take(Taken::Cancelled), false),
            (Self::Find, 200, _) => (Did::Find(found), true),
            (Self::LocalFind, 200, _) => (Did::LocalFind(found), true),
            (Self::Find | Self::LocalFind, ..) => return Ok(None),
        }))
    }
}
