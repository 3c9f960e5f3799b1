//! The post office: frames of the message lane, and the requests that wait for answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cpe_membership::NodeId;
use cpe_network::{Lane, SendError};
use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::envelope::{Answer, Envelope, FRAME_BYTES_MAX, origin};
use super::rooms::Taken;
use super::spec::Spec;
use super::{DEADLINE_MAX, Inner, LOOK_PAUSE, PATIENCE, host, lock, migrate, numbered};
use crate::driver::Mail;

/// Requests to other nodes that wait for their answers, at most.
const PENDING_MAX: usize = 65_536;

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    to: NodeId,
    answer: oneshot::Sender<Answer>,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// It was certainly not sent.
    NoLink(String),
    /// The link was lost while waiting.
    Lost(String),
    /// The deadline passed.
    TimedOut,
    /// It is too large for the lane.
    TooLarge(String),
    /// Too many requests wait already.
    Busy(String),
}

/// Removes a request from the table when nobody waits for it any more.
struct Entry<'a> {
    inner: &'a Inner,
    id: u64,
    /// It is a question: whoever works on it need not wait for its answer then.
    asks: bool,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let unanswered = lock(&self.inner.pending).remove(&self.id);
        if let Some(Pending { to, .. }) = unanswered.filter(|_| self.asks) {
            self.inner.gives_up(to, self.id);
        }
    }
}

impl Inner {
    /// Sends a request to a node and waits for its answer.
    pub(super) async fn call(
        &self,
        to: NodeId,
        until: Instant,
        request: impl FnOnce(u64) -> Envelope,
    ) -> Result<Answer, CallError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let request = request(id);
        let asks = matches!(request, Envelope::Ask { .. } | Envelope::Deliver { .. });
        let bytes = request
            .encode()
            .map_err(|error| CallError::TooLarge(error.to_string()))?;
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(CallError::TooLarge(format!(
                "the message takes {} bytes, more than {FRAME_BYTES_MAX}: put the data into the \
                 space and send its name",
                bytes.len()
            )));
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut pending = lock(&self.pending);
            if pending.len() >= PENDING_MAX {
                return Err(CallError::Busy(format!(
                    "{PENDING_MAX} requests wait already"
                )));
            }
            pending.insert(id, Pending { to, answer: sender });
        }
        let _entry = Entry {
            inner: self,
            id,
            asks,
        };
        let exchange = async {
            self.send(to, bytes.into()).await?;
            let lost = || CallError::Lost("the link was lost while waiting".to_owned());
            receiver.await.map_err(|_| lost())
        };
        tokio::time::timeout_at(until, exchange)
            .await
            .unwrap_or(Err(CallError::TimedOut))
    }

    /// Tells a node that nobody waits for the answer to a question any more. Lost, it costs that
    /// node a place until the question's deadline.
    fn gives_up(&self, to: NodeId, id: u64) {
        let sent = match (Envelope::GivenUp { id }).encode() {
            Ok(bytes) => self.network.try_send(to, Lane::Message, bytes.into()),
            Err(_) => return,
        };
        if let Err(error) = sent {
            tracing::debug!(%to, %error, "a question was given up and its node not told");
        }
    }

    /// Queues a frame, waiting for room; for a short time also for a link, which may be on its way.
    async fn send(&self, to: NodeId, bytes: Bytes) -> Result<(), CallError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.network.send(to, Lane::Message, bytes.clone()).await {
                Ok(()) => return Ok(()),
                Err(SendError::NoLink(_)) if Instant::now() < until => {
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
                Err(error) => return Err(CallError::NoLink(error.to_string())),
            }
        }
    }
}

/// Receives until the driver has gone. Nothing here waits: a slow actor or link delays nobody.
pub(crate) async fn run(inner: Arc<Inner>, mut mail: mpsc::Receiver<Mail>) {
    while let Some(piece) = mail.recv().await {
        match piece {
            Mail::Frame(from, bytes) => match Envelope::decode(&bytes) {
                Ok(envelope) => receive(&inner, from, envelope),
                Err(error) => tracing::warn!(%from, %error, "malformed frame about actors"),
            },
            Mail::LinkDown(node) => {
                // Dropping the senders tells those who wait.
                lock(&inner.pending).retain(|_, pending| pending.to != node);
                inner.rooms.asker_gone(node);
            }
        }
    }
    lock(&inner.pending).clear();
}

fn receive(inner: &Arc<Inner>, from: NodeId, envelope: Envelope) {
    let id = match &envelope {
        Envelope::Answer { id, .. }
        | Envelope::Tell { id, .. }
        | Envelope::Ask { id, .. }
        | Envelope::Spawn { id, .. }
        | Envelope::Stop { id, .. }
        | Envelope::Inspect { id, .. }
        | Envelope::Watch { id, .. }
        | Envelope::Deliver { id, .. }
        | Envelope::Migrate { id, .. }
        | Envelope::Receive { id, .. }
        | Envelope::Moved { id, .. }
        | Envelope::TellMany { id, .. }
        | Envelope::Forward { id, .. }
        | Envelope::Rest { id, .. }
        | Envelope::Poisoned { id, .. }
        | Envelope::GivenUp { id } => *id,
    };
    match envelope {
        Envelope::Answer { answer, .. } => return deliver(inner, from, id, answer),
        Envelope::GivenUp { .. } => return inner.rooms.given_up(from, id),
        _ => {}
    }
    let permit = match inner.room_for(&envelope) {
        Ok(place) => Some(place),
        Err(answer) => return reply(inner, from, id, answer, None),
    };
    match envelope {
        Envelope::Tell {
            name,
            token,
            message,
            from: sender,
            ..
        } => {
            let answer = match inner.hosted(&name, token) {
                Some(actor) => match actor.try_tell_from(origin(sender.as_deref()), message) {
                    Ok(()) => Answer::Done,
                    Err(error) => Answer::Asked(error),
                },
                None => Answer::NotHere,
            };
            reply(inner, from, id, answer, permit);
        }
        Envelope::Ask {
            name,
            token,
            within_ms,
            message,
            from: sender,
            ..
        } => {
            let Some(actor) = inner.hosted(&name, token) else {
                return reply(inner, from, id, Answer::NotHere, permit);
            };
            let mut asking = Box::pin(async move {
                let origin = origin(sender.as_deref());
                match actor.ask_from(origin, message, within(within_ms)).await {
                    Ok(value) => Answer::Value(value),
                    Err(error) => Answer::Asked(error),
                }
            });
            // The first look puts the message into the mailbox, in the order of the frames.
            if let Some(answer) = (&mut asking).now_or_never() {
                return reply(inner, from, id, answer, permit);
            }
            answer_asker(inner, from, id, permit, asking);
        }
        Envelope::Spawn {
            kind,
            name,
            args,
            within_ms,
            mut wishes,
            ..
        } => {
            // Whoever asked for it there is nobody of this node.
            wishes.foreign = true;
            let until = Instant::now() + within(within_ms);
            let starting = host::start(Arc::clone(inner), name, Spec { kind, args, wishes }, until);
            answer_later(inner, from, id, permit, async {
                starting
                    .await
                    .map_or_else(Answer::NotStarted, Answer::Started)
            });
        }
        Envelope::Stop {
            name,
            token,
            within_ms,
            keeps,
            ..
        } => {
            let until = Instant::now() + within(within_ms);
            let host = Arc::clone(inner);
            answer_later(inner, from, id, permit, async move {
                host::stop(&host, &name, token, until, keeps).await
            });
        }
        Envelope::Deliver {
            name,
            token,
            number,
            tell,
            forwarded,
            within_ms,
            message,
            ..
        } => {
            // An actor hears of its takes from its own host alone; what another one sends after it
            // is told to it again by that.
            if number.take.is_some() {
                return reply(inner, from, id, Answer::Handled, permit);
            }
            let Some(inbox) = inner.inbox(&name, token) else {
                let answer = inner.not_here(&name, token);
                return reply(inner, from, id, answer, permit);
            };
            match inbox.deliver(number, tell, forwarded, message) {
                Err(Answer::NotHere) => {
                    reply(inner, from, id, inner.elsewhere(&name, token), permit);
                }
                Err(answer) => reply(inner, from, id, answer, permit),
                Ok(answered) => {
                    let answer = numbered::answer(name, answered, within(within_ms));
                    answer_asker(inner, from, id, permit, answer);
                }
            }
        }
        Envelope::Migrate {
            name,
            token,
            to,
            within_ms,
            ..
        } => {
            let until = Instant::now() + within(within_ms);
            let moving = migrate::hand_on(Arc::clone(inner), name, token, to, until);
            answer_later(inner, from, id, permit, moving);
        }
        Envelope::Receive {
            kind, within_ms, ..
        } => {
            let host = Arc::clone(inner);
            let ready = async move { migrate::ready(&host, &kind, within(within_ms)).await };
            answer_later(inner, from, id, permit, ready);
        }
        Envelope::Moved {
            name, token, end, ..
        } => match inner.inbox(&name, token) {
            Some(inbox) => {
                if end {
                    inbox.all_sent(from);
                }
                reply(inner, from, id, Answer::Done, permit);
            }
            None if end => reply(inner, from, id, Answer::NotHere, permit),
            None => {
                let host = Arc::clone(inner);
                let until = Instant::now() + DEADLINE_MAX;
                answer_later(inner, from, id, permit, async move {
                    if host.has_begun(&name, token, until).await {
                        Answer::Done
                    } else {
                        Answer::NotHere
                    }
                });
            }
        },
        Envelope::Forward {
            name, token, told, ..
        } => {
            let inbox = inner.inbox(&name, token).ok_or(Answer::NotHere);
            match inbox.and_then(|inbox| inbox.take_in(from, told)) {
                Ok(taken) => answer_later(inner, from, id, permit, taken.answer()),
                Err(answer) => reply(inner, from, id, answer, permit),
            }
        }
        Envelope::Rest { name, token, .. } => {
            let answer = Answer::Rest(inner.forwards.rest(&name, token));
            reply(inner, from, id, answer, permit);
        }
        Envelope::TellMany {
            name,
            token,
            messages,
            from: sender,
            ..
        } => {
            let answer = inner.put_in(&name, token, messages, sender.as_deref());
            reply(inner, from, id, answer, permit);
        }
        Envelope::Inspect { what, .. } => {
            let answer = inner.look(what);
            reply(inner, from, id, answer, permit);
        }
        Envelope::Watch {
            name,
            within_ms,
            born,
            ..
        } => {
            let host = Arc::clone(inner);
            answer_later(inner, from, id, permit, async move {
                host.end_of(&name, born, within(within_ms)).await
            });
        }
        Envelope::Poisoned {
            name,
            token,
            poison,
            ..
        } => {
            let answer = inner.take_back(&name, token, poison);
            reply(inner, from, id, answer, permit);
        }
        Envelope::Answer { .. } | Envelope::GivenUp { .. } => {}
    }
}

/// Hands an answer to the request that waits for it, if it was sent to that node.
fn deliver(inner: &Inner, from: NodeId, id: u64, answer: Answer) {
    let mut pending = lock(&inner.pending);
    if pending.get(&id).is_some_and(|pending| pending.to == from)
        && let Some(found) = pending.remove(&id)
    {
        // Nobody waiting is no harm.
        drop(found.answer.send(answer));
    }
}

fn answer_later(
    inner: &Arc<Inner>,
    to: NodeId,
    id: u64,
    permit: Option<Taken>,
    answer: impl Future<Output = Answer> + Send + 'static,
) {
    let office = Arc::clone(inner);
    inner.tasks.spawn(async move {
        let answer = answer.await;
        reply(&office, to, id, answer, permit);
    });
}

/// As [`answer_later`], unless the asker goes away first.
fn answer_asker(
    inner: &Arc<Inner>,
    to: NodeId,
    id: u64,
    permit: Option<Taken>,
    answer: impl Future<Output = Answer> + Send + 'static,
) {
    let (office, gone) = (Arc::clone(inner), inner.rooms.asks(to, id));
    inner.tasks.spawn(async move {
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            // Nobody is left to be answered.
            _ = gone => return,
        };
        office.rooms.given_up(to, id);
        reply(&office, to, id, answer, permit);
    });
}

/// Queues an answer; waits for room on the link in a task of its own.
fn reply(inner: &Arc<Inner>, to: NodeId, id: u64, answer: Answer, permit: Option<Taken>) {
    let bytes: Bytes = match frame(id, answer) {
        Ok(bytes) => bytes.into(),
        Err(error) => {
            tracing::warn!(%to, %error, "an answer cannot be written");
            return;
        }
    };
    match inner.network.try_send(to, Lane::Message, bytes.clone()) {
        Ok(()) => {}
        Err(SendError::Full(_)) if permit.is_some() => {
            let office = Arc::clone(inner);
            inner.tasks.spawn(async move {
                if let Err(error) = office.network.send(to, Lane::Message, bytes).await {
                    tracing::debug!(%error, "an answer was dropped");
                }
                drop(permit);
            });
        }
        Err(error) => tracing::debug!(%error, "an answer was dropped"),
    }
}

/// The frame of an answer; of a refusal, when the answer is too large.
fn frame(id: u64, answer: Answer) -> Result<Vec<u8>, cpe_tuple::CodecError> {
    let bytes = Envelope::Answer { id, answer }.encode()?;
    if bytes.len() <= FRAME_BYTES_MAX {
        return Ok(bytes);
    }
    let reason = format!(
        "its answer takes {} bytes, more than {FRAME_BYTES_MAX}: let it put the data into the \
         space and answer its name",
        bytes.len()
    );
    let answer = Answer::Asked(cpe_actors::AskError::Failed {
        actor: String::new(),
        reason,
    });
    Envelope::Answer { id, answer }.encode()
}

fn within(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds).min(DEADLINE_MAX)
}
