//! Telling one actor many messages without waiting for each.
//!
//! What is told while the node of the actor has not answered goes there in one frame. One frame is
//! under way at a time, which keeps the order; what had no room in the mailbox is sent again.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cpe_actors::AskError;
use cpe_tuple::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::envelope::{Answer, Envelope, origin};
use super::{Actors, ActorsError, Inner, TELL_DEADLINE};
use crate::SpaceError;

/// Messages that wait in an outlet, and messages of one frame, at most.
const WAITING_MAX: usize = 256;

/// Bytes of the messages of one frame, unless the first alone has more.
const FRAME_BYTES: usize = 128 * 1024;

/// Pause before what had no room in the mailbox is sent again; it doubles up to the longest.
const FULL_PAUSE: Duration = Duration::from_millis(1);
const FULL_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Tells an actor messages in the order in which they come, without waiting for each to arrive.
///
/// Made by [`Actors::outlet`]. It holds up to 256 messages: then [`tell`](Self::tell) waits, so a
/// slow actor slows down who tells it. Once anything has failed all that follows fails with the
/// same error: nothing arrives after a gap. Dropped, it still sends what was told, and the log says
/// when that failed.
#[derive(Clone, Debug)]
pub struct Outlet {
    orders: mpsc::Sender<Order>,
    failed: Arc<OnceLock<ActorsError>>,
}

#[derive(Debug)]
enum Order {
    Message(Value),
    /// Answer once all before it is in the mailbox.
    Flush(oneshot::Sender<()>),
}

impl Outlet {
    /// Takes a message to be told; done when there is room for it here, not when it has arrived.
    ///
    /// # Errors
    /// What [`Actors::tell`] says, of this or of an earlier message. Of those that were told since
    /// the last [`flush`](Self::flush) the first ones may have arrived, without a gap.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the message is not told.
    pub async fn tell(&self, message: Value) -> Result<(), ActorsError> {
        let sent = self.orders.send(Order::Message(message)).await;
        sent.map_err(|_| self.why())
    }

    /// Waits until all that was told before is in the mailbox.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub async fn flush(&self) -> Result<(), ActorsError> {
        let (done, flushed) = oneshot::channel();
        let sent = self.orders.send(Order::Flush(done)).await;
        sent.map_err(|_| self.why())?;
        flushed.await.map_err(|_| self.why())
    }

    fn why(&self) -> ActorsError {
        let failed = self.failed.get().cloned();
        failed.unwrap_or(ActorsError::Space(SpaceError::Closed))
    }
}

impl Actors {
    /// A way to tell an actor many messages: they go together where they can, in order, and none
    /// arrives twice.
    ///
    /// Between two nodes it moves several times as many messages as [`tell`](Self::tell), each of
    /// which waits for the other node. Messages to a durable actor have numbers, and go one by one.
    #[must_use]
    pub fn outlet(&self, name: &str) -> Outlet {
        let (orders, queue) = mpsc::channel(WAITING_MAX);
        let failed = Arc::new(OnceLock::new());
        let sending = send_all(self.clone(), name.to_owned(), queue, Arc::clone(&failed));
        self.inner.tasks.spawn(sending);
        Outlet { orders, failed }
    }

    /// Puts messages into an actor's mailbox, in order; those that are there are taken out.
    async fn tell_many(&self, name: &str, batch: &mut VecDeque<Value>) -> Result<(), ActorsError> {
        let mut until = Instant::now() + TELL_DEADLINE;
        let mut pause = FULL_PAUSE;
        while !batch.is_empty() {
            if self.is_durable(name, until).await? {
                if let Some(message) = batch.pop_front() {
                    self.tell(name, message).await?;
                }
                continue;
            }
            let (answer, node) = self
                .request(name, TELL_DEADLINE, until, |place, inner| {
                    let messages: Vec<Value> = batch.iter().cloned().collect();
                    let (name, token) = (name.to_owned(), place.token);
                    let from = self.from.as_deref().map(str::to_owned);
                    async move {
                        if place.host.node == inner.me.node {
                            return Ok(inner.put_in(&name, token, messages, from.as_deref()));
                        }
                        let of = name.clone();
                        let request = |id| Envelope::TellMany {
                            id,
                            name: of,
                            token,
                            messages,
                            from,
                        };
                        inner.call_at(&name, place, until, request).await
                    }
                })
                .await?;
            let (count, error) = match answer {
                Answer::Told { count, error } => (count, error),
                other => return Err(self.inner.refused(name, node, TELL_DEADLINE, other).await),
            };
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            batch.drain(..count.min(batch.len()));
            match error {
                None => {}
                Some(full @ AskError::Full { .. }) => {
                    if count > 0 {
                        until = Instant::now() + TELL_DEADLINE;
                        pause = FULL_PAUSE;
                    }
                    if Instant::now() + pause >= until {
                        let answer = Answer::Asked(full);
                        return Err(self.inner.refused(name, node, TELL_DEADLINE, answer).await);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(FULL_PAUSE_MAX);
                }
                Some(other) => {
                    let answer = Answer::Asked(other);
                    return Err(self.inner.refused(name, node, TELL_DEADLINE, answer).await);
                }
            }
        }
        Ok(())
    }
}

impl Inner {
    /// Puts messages into the mailbox of a plain actor of this node, as long as there is room.
    pub(super) fn put_in(
        &self,
        name: &str,
        token: u64,
        messages: Vec<Value>,
        from: Option<&str>,
    ) -> Answer {
        // One that is durable knows messages by their numbers.
        let plain = self.inbox(name, token).is_none();
        let Some(actor) = self.hosted(name, token).filter(|_| plain) else {
            return Answer::NotHere;
        };
        let mut count = 0;
        for message in messages {
            if let Err(error) = actor.try_tell_from(origin(from), message) {
                let error = Some(error);
                return Answer::Told { count, error };
            }
            count += 1;
        }
        Answer::Told { count, error: None }
    }
}

/// Sends what comes until the outlet is dropped or something fails.
async fn send_all(
    actors: Actors,
    name: String,
    mut queue: mpsc::Receiver<Order>,
    failed: Arc<OnceLock<ActorsError>>,
) {
    let mut orders = Vec::with_capacity(WAITING_MAX);
    let mut batch = VecDeque::with_capacity(WAITING_MAX);
    while queue.recv_many(&mut orders, WAITING_MAX).await > 0 {
        let mut bytes = 0;
        let last = orders.len() - 1;
        for (at, order) in orders.drain(..).enumerate() {
            let flush = match order {
                Order::Message(message) => {
                    bytes += message.size();
                    batch.push_back(message);
                    None
                }
                Order::Flush(done) => Some(done),
            };
            if at < last && flush.is_none() && bytes < FRAME_BYTES {
                continue;
            }
            bytes = 0;
            if let Err(error) = actors.tell_many(&name, &mut batch).await {
                tracing::warn!(actor = %name, %error, "messages that were told did not arrive");
                // Told before the queue closes, so that whoever finds it closed finds why.
                failed.get_or_init(|| error);
                // Before whoever waits for a flush is told.
                queue.close();
                return;
            }
            if let Some(done) = flush {
                // Nobody waiting is no harm.
                let _ = done.send(());
            }
        }
    }
}
