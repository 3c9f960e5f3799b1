//! One client, from its first bytes to its last.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use cpe_tuple::Tuple;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::gateway::{Outcome, Session};
use crate::limits::{ANSWER_WITHIN, PARTS_BYTES, REQUEST_WITHIN, SMALL_BYTES, UNDER_WAY_KIB_MAX};
use crate::operation::{DESCRIPTOR, Senseless, is_text};
use crate::pace::Pace;
use crate::payload::{self, Answer, Coder, Form, Handed};
use crate::spaces::{Inlet as _, Outlet as _, Receipt, Spaces, Trouble};
use crate::wire::{
    Collector, Decoder, HANDSHAKE, Head, Item, Kept, Malformed, Reply, Request, has_cookies,
};
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
    #[error("it was gone when its answer came")]
    Gone,
    #[error("the rest of a large value cannot be had: {0}")]
    Unreadable(Trouble),
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
    let mut client = Client::new(&gateway, stream);
    let why = stop.run_until_cancelled(client.run(&mut session)).await;
    drop(client);
    let peer = &session.peer;
    match why {
        None | Some(Ok(())) => tracing::debug!(peer, "a client has gone"),
        Some(Err(why)) => tracing::info!(peer, %why, "closed the connection of a client"),
    }
    gateway.end(session).await;
}

struct Client<'a, S: Spaces> {
    gateway: &'a Gateway<S>,
    stream: TcpStream,
    /// What was read and not yet looked at.
    buffer: BytesMut,
    decoder: Decoder,
    collector: Collector,
    /// Where the large payload goes that is under way.
    inlet: Option<S::Inlet>,
    cookies: bool,
    /// Held while a large payload is under way.
    room: Option<OwnedSemaphorePermit>,
    /// How slowly the request that has begun may come.
    pace: Pace,
    /// How slowly an answer may be taken.
    taking: Pace,
    /// Short replies to requests of which the next was here already: written together.
    replies: Vec<u8>,
    /// Of the values among them that were taken.
    receipts: Vec<S::Receipt>,
}

impl<'a, S: Spaces> Client<'a, S> {
    fn new(gateway: &'a Gateway<S>, stream: TcpStream) -> Self {
        Self {
            gateway,
            stream,
            buffer: BytesMut::new(),
            decoder: Decoder::default(),
            collector: Collector::default(),
            inlet: None,
            cookies: true,
            room: None,
            pace: Pace::new(REQUEST_WITHIN),
            taking: Pace::new(ANSWER_WITHIN),
            replies: Vec::new(),
            receipts: Vec::new(),
        }
    }

    async fn run(&mut self, session: &mut Session) -> Result<(), Closed> {
        let ended = self.converse(session).await;
        // What was asked before it came to this is answered.
        let flushed = self.flush().await;
        ended.and(flushed)
    }

    async fn converse(&mut self, session: &mut Session) -> Result<(), Closed> {
        while let Some(request) = self.request(session).await? {
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
    async fn request(&mut self, session: &Session) -> Result<Option<Request>, Closed> {
        loop {
            while let Some((step, used)) = self.step()? {
                if step == Step::Part {
                    self.pass_on(used).await;
                }
                self.buffer.advance(used);
                match step {
                    Step::Nothing | Step::Part => {}
                    Step::Greet => self.send(HANDSHAKE.to_vec(), Bytes::new()).await?,
                    Step::Room(bytes) => self.reserve(bytes).await,
                    Step::Apart => {
                        self.reserve(PARTS_BYTES as u64).await;
                        self.let_in(session).await;
                    }
                    Step::Request(request) => return Ok(Some(self.complete(request).await)),
                }
            }
            self.flush().await?;
            // Between requests a client may be silent for as long as it likes, and holds nothing.
            let idle = self.decoder.is_between_requests();
            if idle {
                self.buffer = BytesMut::new();
            }
            let read = fill(&mut self.stream, &mut self.buffer);
            let read = if idle {
                read.await?
            } else {
                let read = self.pace.moves(read).await;
                read.map_err(|error| in_time(error, Closed::Silent))?
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
            self.pace = Pace::new(REQUEST_WITHIN);
        }
        let step = match item {
            None if used == 0 => return Ok(None),
            None => Step::Nothing,
            Some(Item::Handshake(first)) => {
                self.cookies = has_cookies(first);
                Step::Greet
            }
            Some(item) => {
                let request = self.collector.add(item);
                match (item, request) {
                    (_, Some(request)) => Step::Request(request),
                    (Item::Argument { length }, None) => match self.collector.kept() {
                        Kept::Apart => Step::Apart,
                        // It needs no room.
                        Kept::Not => Step::Nothing,
                        Kept::Whole if length <= SMALL_BYTES as u64 => Step::Nothing,
                        Kept::Whole => Step::Room(length),
                    },
                    (Item::Bytes(_), None) if self.collector.kept() == Kept::Apart => Step::Part,
                    _ => Step::Nothing,
                }
            }
        };
        Ok(Some((step, used)))
    }

    /// Waits until there is room for a payload of so many bytes, if it is a large one.
    async fn reserve(&mut self, bytes: u64) {
        if bytes <= SMALL_BYTES as u64 {
            return;
        }
        let kib = bytes.div_ceil(1024).min(UNDER_WAY_KIB_MAX as u64);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.gateway.room);
        // The semaphore is never closed.
        self.room = room.acquire_many_owned(kib).await.ok();
    }

    /// A large payload begins: it is let in if the request can come to anything.
    async fn let_in(&mut self, session: &Session) {
        let opened = matches!(
            self.collector.arguments(),
            [_, ws, ..] if session.open.contains_key(ws)
        );
        if !opened {
            return self.collector.refuse();
        }
        match self.gateway.spaces.inlet().await {
            Ok(inlet) => self.inlet = Some(inlet),
            Err(trouble) => self.keep_out(&trouble),
        }
    }

    /// Passes on what stands first in the buffer; what is refused already is forgotten.
    async fn pass_on(&mut self, bytes: usize) {
        let part = self.buffer.get(..bytes).unwrap_or_default();
        if let Some(inlet) = &mut self.inlet
            && let Err(trouble) = inlet.push(part).await
        {
            self.keep_out(&trouble);
        }
    }

    fn keep_out(&mut self, trouble: &Trouble) {
        tracing::warn!(%trouble, "refused: a large value could not be written");
        self.inlet = None;
        self.collector.refuse();
    }

    /// A request has come to its end, and with it its large payload, if it has one.
    async fn complete(&mut self, mut request: Request) -> Request {
        if let Some(inlet) = self.inlet.take() {
            let text = request
                .arguments
                .get(DESCRIPTOR)
                .is_some_and(|text| is_text(text));
            match inlet.finish(text).await {
                Ok(blob) => request.apart = Some(blob),
                Err(trouble) => {
                    tracing::warn!(%trouble, "refused: a large value could not be written");
                    request.is_too_large = true;
                }
            }
        }
        request
    }

    /// Executes an operation; `None` when the client goes while it waits, or while something is
    /// taken for it: that goes back.
    async fn execute(
        &mut self,
        session: &mut Session,
        operation: Operation,
    ) -> Result<Option<Answer<S>>, Closed> {
        let outcome = if matches!(operation, Operation::Retrieve { .. }) {
            tokio::select! {
                biased;
                end = hear_end(&mut self.stream, &mut self.buffer) => {
                    end?;
                    return Ok(None);
                }
                outcome = self.gateway.execute(session, operation) => outcome,
            }
        } else {
            // What changes something is done also for a client that does not stay for the answer.
            self.gateway.execute(session, operation).await
        };
        let waiting = match outcome {
            Outcome::Reply(reply) => return Ok(Some(Answer::Reply(reply))),
            Outcome::Value(value) => return Ok(Some(Answer::Value(value))),
            Outcome::Wait(waiting) => waiting,
        };
        self.room = None;
        self.flush().await?;
        tokio::select! {
            // The end first: a value that comes with it is given back, not sent to nobody.
            biased;
            heard = hear(&mut self.stream, &mut self.buffer) => heard.map(|()| None),
            value = self.gateway.wait(&waiting) => {
                Ok(Some(value.map_or(Answer::Reply(Reply::Nothing), Answer::Value)))
            }
        }
    }

    async fn answer(&mut self, answer: Answer<S>) -> Result<(), Closed> {
        let sent = match answer {
            Answer::Reply(reply) => self.reply(reply).await,
            Answer::Value(value) => self.hand_over(value).await,
        };
        self.room = None;
        sent
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), Closed> {
        let (head, payload) = reply.encode(self.cookies);
        self.reserve(payload.len() as u64).await;
        self.send(head, payload).await
    }

    /// Sends a value. What was taken is the client's once all of it was written to the socket;
    /// before, it goes back.
    async fn hand_over(&mut self, value: Handed<S>) -> Result<(), Closed> {
        let Handed {
            workspace,
            tuple,
            receipt,
        } = value;
        let size = if tuple.has_blobs() {
            PARTS_BYTES
        } else {
            tuple.size()
        };
        self.reserve(size as u64).await;
        match payload::form(&tuple) {
            Form::Whole(reply) => {
                let (head, payload) = reply.encode(self.cookies);
                self.receipts.extend(receipt);
                return self.send(head, payload).await;
            }
            Form::Parts(head, coder) => {
                let opened = tokio::select! {
                    biased;
                    end = hear_end(&mut self.stream, &mut self.buffer) => {
                        end?;
                        return Err(Closed::Gone);
                    }
                    opened = open(&self.gateway.spaces, &workspace, tuple) => opened,
                };
                match opened {
                    Ok((first, rest)) => self.send_parts(head, coder, first, rest).await?,
                    Err(trouble) => {
                        tracing::warn!(%trouble, "refused: a large value cannot be had, and stays");
                        return self.reply(Reply::Nothing).await;
                    }
                }
            }
            Form::Nested => {
                let variable = tuple.fields().first();
                tracing::warn!(?variable, "refused: what is inside of a list lies apart");
                return self.reply(Reply::Nothing).await;
            }
        }
        if let Some(receipt) = receipt {
            receipt.confirm();
        }
        Ok(())
    }

    async fn send_parts(
        &mut self,
        head: Head,
        mut coder: Coder,
        first: Option<Bytes>,
        mut rest: S::Outlet,
    ) -> Result<(), Closed> {
        self.send(head.encode(self.cookies), coder.begin()).await?;
        self.flush().await?;
        self.is_there().await?;
        let mut next = first;
        while let Some(part) = next {
            let part = coder.part(part);
            self.write(&part).await?;
            next = rest.part().await.map_err(Closed::Unreadable)?;
        }
        self.write(&coder.end()).await
    }

    /// An error when the client is known to have gone.
    async fn is_there(&mut self) -> Result<(), Closed> {
        if self.buffer.len() >= READ_BYTES {
            return Ok(());
        }
        let (stream, buffer) = (&mut self.stream, &mut self.buffer);
        let now = poll_fn(|context| Poll::Ready(poll_fill(stream, buffer, context)));
        match now.await {
            Poll::Ready(Ok(0)) => Err(Closed::Gone),
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    async fn send(&mut self, head: Vec<u8>, payload: Bytes) -> Result<(), Closed> {
        self.replies.extend_from_slice(&head);
        if payload.len() <= SMALL_BYTES {
            self.replies.extend_from_slice(&payload);
            if self.replies.len() <= SMALL_BYTES {
                return Ok(());
            }
            return self.flush().await;
        }
        let receipts = std::mem::take(&mut self.receipts);
        self.flush().await?;
        self.write(&payload).await?;
        receipts.into_iter().for_each(Receipt::confirm);
        Ok(())
    }

    /// Writes the replies that wait. What was taken is the client's after that.
    async fn flush(&mut self) -> Result<(), Closed> {
        if self.replies.is_empty() {
            return Ok(());
        }
        // Both are dropped should this fail or be cut short.
        let replies = std::mem::take(&mut self.replies);
        let receipts = std::mem::take(&mut self.receipts);
        self.taking = Pace::new(ANSWER_WITHIN);
        if !receipts.is_empty() {
            self.is_there().await?;
        }
        self.write(&replies).await?;
        receipts.into_iter().for_each(Receipt::confirm);
        Ok(())
    }

    /// Writes all of it, if the client takes it in fast enough.
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Closed> {
        while !bytes.is_empty() {
            let written = self.taking.moves(self.stream.write(bytes)).await;
            match written.map_err(|error| in_time(error, Closed::Slow))? {
                0 => return Err(Closed::Gone),
                written => bytes.advance(written),
            }
        }
        Ok(())
    }
}

/// Opens a large value and reads the first part of it: what cannot be had at all is refused, not
/// broken off.
async fn open<S: Spaces>(
    spaces: &S,
    workspace: &str,
    tuple: Tuple,
) -> Result<(Option<Bytes>, S::Outlet), Trouble> {
    let mut outlet = spaces.outlet(workspace, tuple).await?;
    let first = outlet.part().await?;
    Ok((first, outlet))
}

#[derive(PartialEq)]
enum Step {
    Nothing,
    Greet,
    /// A large argument of so many bytes begins.
    Room(u64),
    /// A payload begins that is too large to be held in memory.
    Apart,
    /// Some of its bytes stand first in the buffer.
    Part,
    Request(Request),
}

/// Listens to a client whose request waits: returns when it goes.
async fn hear(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), Closed> {
    loop {
        if buffer.len() >= COUNT_BYTES {
            return Err(Closed::Impatient);
        }
        if fill(stream, buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Listens to a client whose request is being executed: returns when it goes. It may send the next
/// requests meanwhile, which are kept up to a limit.
async fn hear_end(stream: &mut TcpStream, buffer: &mut BytesMut) -> std::io::Result<()> {
    loop {
        if buffer.len() >= READ_BYTES {
            return std::future::pending().await;
        }
        if fill(stream, buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Reads what is there, once something is: no memory is held before.
async fn fill(stream: &mut TcpStream, buffer: &mut BytesMut) -> std::io::Result<usize> {
    poll_fn(|context| poll_fill(stream, buffer, context)).await
}

/// By way of the stack: a request is short, and room for the longest read, got and given back for
/// each, was a tenth of what it cost. A read that does not fill it also tells tokio that there is
/// no more, so that nobody asks the system again before there is.
fn poll_fill(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<std::io::Result<usize>> {
    let mut room = [MaybeUninit::uninit(); READ_BYTES];
    let mut read = ReadBuf::uninit(&mut room);
    ready!(Pin::new(stream).poll_read(context, &mut read))?;
    buffer.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// Of a transfer: `late` if the other end was too slow.
fn in_time(error: std::io::Error, late: Closed) -> Closed {
    if error.kind() == ErrorKind::TimedOut {
        late
    } else {
        error.into()
    }
}

#[cfg(test)]
pub(crate) mod tests;
