//! One client, from its first bytes to its last.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::gateway::{Outcome, Session};
use crate::limits::{
    ANSWER_WITHIN, REQUEST_WITHIN, SLOWEST_BYTES_PER_SECOND, SMALL_BYTES, UNDER_WAY_KIB_MAX,
};
use crate::operation::Senseless;
use crate::payload::Answer;
use crate::spaces::Spaces;
use crate::wire::{Collector, Decoder, HANDSHAKE, Item, Malformed, Reply, Request, has_cookies};
use crate::{Gateway, Operation};

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;

/// Bytes that show that a request has been sent: its count.
const COUNT_BYTES: usize = 4;

/// Why a connection was closed by this side.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("there is no operation {0}")]
    Unknown(String),
    #[error("a request came while another one waited")]
    Impatient,
    #[error("the rest of a request did not come in time")]
    Silent,
    #[error("an answer was not taken in time")]
    Slow,
    #[error("it broke: {0}")]
    Broken(#[from] std::io::Error),
}

/// Serves a client until it goes or the token is set.
pub(crate) async fn serve<S: Spaces>(
    gateway: Arc<Gateway<S>>,
    stream: TcpStream,
    peer: String,
    stop: CancellationToken,
) {
    let mut session = gateway.begin(peer);
    let mut client = Client {
        gateway: &gateway,
        stream,
        buffer: BytesMut::with_capacity(READ_BYTES),
        decoder: Decoder::default(),
        collector: Collector::default(),
        cookies: true,
        room: None,
        due: within(REQUEST_WITHIN, 0),
    };
    let why = stop.run_until_cancelled(client.run(&mut session)).await;
    drop(client);
    let peer = &session.peer;
    match why {
        None | Some(Ok(())) => tracing::debug!(peer, "a client has gone"),
        Some(Err(why)) => tracing::info!(peer, %why, "closed the connection of a client"),
    }
    gateway.end(session).await;
}

struct Client<'a, S> {
    gateway: &'a Gateway<S>,
    stream: TcpStream,
    /// What was read and not yet looked at.
    buffer: BytesMut,
    decoder: Decoder,
    collector: Collector,
    cookies: bool,
    /// Held while a large payload is under way.
    room: Option<OwnedSemaphorePermit>,
    /// When the request that has begun must be there.
    due: Instant,
}

impl<S: Spaces> Client<'_, S> {
    async fn run(&mut self, session: &mut Session) -> Result<(), Closed> {
        while let Some(request) = self.request().await? {
            let answer = match Operation::read(request) {
                Ok(operation) => self.execute(session, operation).await?,
                Err(Senseless::Refused(reply)) => Some(Answer::Reply(reply)),
                Err(Senseless::Unknown(name)) => return Err(Closed::Unknown(name)),
            };
            self.room = None;
            let Some(answer) = answer else {
                return Ok(());
            };
            self.answer(answer).await?;
        }
        Ok(())
    }

    /// The next request; `None` when the client has gone.
    async fn request(&mut self) -> Result<Option<Request>, Closed> {
        loop {
            while let Some((step, used)) = self.step()? {
                self.buffer.advance(used);
                match step {
                    Step::Nothing => {}
                    Step::Greet => self.send(HANDSHAKE.to_vec(), Bytes::new()).await?,
                    Step::Room(bytes) => {
                        self.reserve(bytes).await;
                        self.due = within(REQUEST_WITHIN, bytes);
                    }
                    // What is not kept needs no room, but time to come and be refused.
                    Step::Skip(bytes) => self.due = within(REQUEST_WITHIN, bytes),
                    Step::Request(request) => return Ok(Some(request)),
                }
            }
            let read = self.stream.read_buf(&mut self.buffer);
            // Between requests a client may be silent for as long as it likes.
            let read = if self.decoder.is_between_requests() {
                read.await?
            } else {
                timeout_at(self.due, read)
                    .await
                    .map_err(|_| Closed::Silent)??
            };
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// Decodes one piece of what was read, and says how many bytes that used up.
    fn step(&mut self) -> Result<Option<(Step, usize)>, Closed> {
        let mut rest = &self.buffer[..];
        let before = rest.len();
        let begins = self.decoder.is_between_requests();
        let item = self.decoder.next(&mut rest)?;
        let used = before - rest.len();
        // At the first byte of its count, which may come in pieces.
        if begins && used > 0 {
            self.due = within(REQUEST_WITHIN, 0);
        }
        let step = match item {
            None if used == 0 => return Ok(None),
            None => Step::Nothing,
            Some(Item::Handshake(first)) => {
                self.cookies = has_cookies(first);
                Step::Greet
            }
            Some(item) => {
                let limit = self.collector.limit();
                let request = self.collector.add(item);
                match (item, request) {
                    (_, Some(request)) => Step::Request(request),
                    (Item::Argument { length }, None) => {
                        let length = usize::try_from(length).unwrap_or(usize::MAX);
                        if length <= SMALL_BYTES {
                            Step::Nothing
                        } else if length > limit {
                            Step::Skip(length)
                        } else {
                            Step::Room(length)
                        }
                    }
                    _ => Step::Nothing,
                }
            }
        };
        Ok(Some((step, used)))
    }

    /// Waits until there is room for a payload of so many bytes, if it is a large one.
    async fn reserve(&mut self, bytes: usize) {
        if bytes <= SMALL_BYTES {
            return;
        }
        let kib = bytes.div_ceil(1024).min(UNDER_WAY_KIB_MAX);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let room = std::sync::Arc::clone(&self.gateway.room);
        // The semaphore is never closed.
        self.room = room.acquire_many_owned(kib).await.ok();
    }

    /// Executes an operation; `None` when the client goes while it waits.
    async fn execute(
        &mut self,
        session: &mut Session,
        operation: Operation,
    ) -> Result<Option<Answer>, Closed> {
        let waiting = match self.gateway.execute(session, operation).await {
            Outcome::Reply(reply) => return Ok(Some(Answer::Reply(reply))),
            Outcome::Value(tuple) => return Ok(Some(Answer::Value(tuple))),
            Outcome::Wait(waiting) => waiting,
        };
        self.room = None;
        tokio::select! {
            // The end first: a value that comes with it is given back, not sent to nobody.
            biased;
            heard = hear(&mut self.stream, &mut self.buffer) => heard.map(|()| None),
            value = self.gateway.wait(&waiting) => {
                Ok(Some(value.map_or(Answer::Reply(Reply::Nothing), Answer::Value)))
            }
        }
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), Closed> {
        self.reserve(answer.size()).await;
        let (head, payload) = answer.into_reply().encode(self.cookies);
        let sent = self.send(head, payload).await;
        self.room = None;
        sent
    }

    async fn send(&mut self, head: Vec<u8>, payload: Bytes) -> Result<(), Closed> {
        if payload.len() <= SMALL_BYTES {
            let all = [head.as_slice(), &payload].concat();
            return write(&mut self.stream, &all).await;
        }
        write(&mut self.stream, &head).await?;
        write(&mut self.stream, &payload).await
    }
}

enum Step {
    Nothing,
    Greet,
    /// A large argument of so many bytes begins.
    Room(usize),
    /// One begins that is too large to be kept.
    Skip(usize),
    Request(Request),
}

/// Listens to a client whose request waits: returns when it goes.
async fn hear(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), Closed> {
    loop {
        if buffer.len() >= COUNT_BYTES {
            return Err(Closed::Impatient);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Writes all of it, in the time that even a slow reader needs.
async fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), Closed> {
    let due = within(ANSWER_WITHIN, bytes.len());
    let written = timeout_at(due, stream.write_all(bytes)).await;
    Ok(written.map_err(|_| Closed::Slow)??)
}

/// When so many bytes must have been passed on.
fn within(patience: Duration, bytes: usize) -> Instant {
    let seconds = bytes as u64 / SLOWEST_BYTES_PER_SECOND;
    Instant::now() + patience + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests;
