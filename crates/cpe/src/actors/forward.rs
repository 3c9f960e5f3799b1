//! Sending on what waited for a durable actor that this node has handed on, and waiting for that at
//! the next host (rule A8, decision 032). What is sent when is decided in [`Forwarding`] and
//! [`Awaiting`].
//!
//! The messages stay here until they are handled and that lasts, or nobody will handle them: then
//! they are dead letters of this node. There are as many as waited when the actor went, and no more
//! come.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use cpe_actors::{AskError, DeadReason};
use cpe_membership::Member;
use cpe_mesh::{AwaitStep, Awaiting, ForwardEnd, ForwardStep, Forwarding, Reached, Rest, Seen};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::envelope::{Answer, Envelope, Told};
use super::migrate::tell_moved;
use super::post::CallError;
use super::{DEADLINE_MAX, Inner, Place, lock};

/// Messages of one batch, at most.
const BATCH_MAX: usize = 128;

/// Bytes of the messages of one batch, unless the first alone has more.
const BATCH_BYTES: usize = 128 * 1024;

/// How long a former host may take to say what it still has. It knows at once.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// How long the new host may take to hear that all was sent. It asks by itself if it does not.
const END_WITHIN: Duration = Duration::from_secs(2);

/// How long it takes at most to give up what is not sent when the node stops.
const STOP_WITHIN: Duration = Duration::from_millis(500);

/// Why messages are dead letters that were not sent on.
const STOPS: &str = "the node that had them stopped first; the last ones sent on may be handled";
const PASSED: &str = "it came to the next host after later ones; it may have been handled before";

/// What this node still has to send on.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    /// By the name of the actor and the token that it had here.
    under_way: Mutex<BTreeMap<(String, u64), Arc<Order>>>,
    done: Notify,
    stop: CancellationToken,
}

/// What is sent after one actor.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The token of the host that it is sent to.
    to: AtomicU64,
    /// Another host asked for it.
    look: Notify,
}

impl Forwards {
    /// Something may be to be sent after an actor that has this token here. Called before the home
    /// is asked to make another its host: whoever that is finds it here.
    pub(super) fn begin(&self, name: &str, token: u64) -> Arc<Order> {
        let order = Arc::new(Order::default());
        let key = (name.to_owned(), token);
        lock(&self.under_way).insert(key, Arc::clone(&order));
        order
    }

    /// All is done.
    pub(super) fn end(&self, order: &Arc<Order>) {
        lock(&self.under_way).retain(|_, it| !Arc::ptr_eq(it, order));
        self.done.notify_waiters();
    }

    /// How much there is still to be sent after an actor that has this token by now, at least. Who
    /// asks hosts it: it is sent there from now on.
    pub(super) fn rest(&self, name: &str, token: u64) -> u64 {
        let under_way = lock(&self.under_way);
        let earlier = (name.to_owned(), 0)..(name.to_owned(), token);
        let mut count = 0;
        for order in under_way.range(earlier).map(|(_, order)| order) {
            count += 1;
            // It has not begun, and will look by itself.
            let to = order.to.load(Ordering::Relaxed);
            if to > 0 && to < token {
                order.look.notify_one();
            }
        }
        count
    }

    /// This node stops: waits until all is sent on, and gives up what is not by then.
    pub(super) async fn finish(&self, until: Instant) {
        let finished = async {
            loop {
                let done = self.done.notified();
                tokio::pin!(done);
                // What is done from here on is heard.
                done.as_mut().enable();
                if lock(&self.under_way).is_empty() {
                    return;
                }
                done.await;
            }
        };
        tokio::pin!(finished);
        if tokio::time::timeout_at(until, &mut finished).await.is_err() {
            self.stop.cancel();
            // What a home has not decided yet does not end.
            drop(tokio::time::timeout(STOP_WITHIN, finished).await);
        }
    }
}

impl Inner {
    fn is_over(&self, life: Member) -> bool {
        lock(&self.over)
            .get(&life.node)
            .is_some_and(|newest| life.inc <= *newest)
    }
}

/// What came of a batch, and which of it was not handled, by their places.
struct Sent {
    reached: Reached,
    passed: Vec<u64>,
    /// Why the first one cannot be sent at all.
    refused: Option<String>,
}

impl Sent {
    fn nothing(reached: Reached) -> Self {
        Self {
            reached,
            passed: Vec::new(),
            refused: None,
        }
    }
}

/// Sends messages after an actor until all are handled or never will be.
pub(super) async fn send_after(
    inner: Arc<Inner>,
    order: Arc<Order>,
    name: String,
    to: Seen,
    mut told: VecDeque<Told>,
) {
    let began = Instant::now();
    let (mut forwarding, mut step) = Forwarding::new(to, told.len());
    let end = loop {
        let sent = match step {
            ForwardStep::Over(end) => break end,
            ForwardStep::Wait(pause) => tokio::select! {
                () = tokio::time::sleep(pause) => None,
                () = inner.forwards.stop.cancelled() => break ForwardEnd::Undelivered(STOPS),
            },
            ForwardStep::Send { host, token } => {
                order.to.store(token, Ordering::Relaxed);
                let batch = first_of(&told);
                tokio::select! {
                    sent = send(&inner, &name, Place::durable(host, token), batch) => Some(sent),
                    () = order.look.notified() => Some(Sent::nothing(Reached::Silent)),
                    () = inner.forwards.stop.cancelled() => break ForwardEnd::Undelivered(STOPS),
                }
            }
        };
        let Ok(record) = inner.record(&name).await else {
            break ForwardEnd::Undelivered(STOPS);
        };
        let now = began.elapsed();
        step = match sent {
            None => forwarding.woke(now, record.as_ref()),
            Some(sent) => {
                take_out(&inner, &name, &mut told, &sent);
                forwarding.heard(now, sent.reached, record.as_ref())
            }
        };
    };
    if let ForwardEnd::Undelivered(why) = end {
        let count = told.len();
        tracing::warn!(actor = %name, %why, count, "messages that were told are not delivered");
        for it in told {
            bury(&inner, &name, it, why);
        }
    }
    inner.forwards.end(&order);
    let Seen { host, token, .. } = *forwarding.to();
    let until = Instant::now() + END_WITHIN;
    tell_moved(&inner, &name, Place::durable(host, token), true, until).await;
}

/// The messages that go together next.
fn first_of(told: &VecDeque<Told>) -> Vec<Told> {
    let mut bytes = 0;
    let mut fits = |at: usize, it: &Told| {
        bytes += it.message.size();
        at == 0 || bytes <= BATCH_BYTES
    };
    let batch = told.iter().take(BATCH_MAX).enumerate();
    batch
        .take_while(|(at, it)| fits(*at, it))
        .map(|(_, it)| it.clone())
        .collect()
}

/// Has a batch handled.
async fn send(inner: &Arc<Inner>, name: &str, place: Place, batch: Vec<Told>) -> Sent {
    let (count, token) = (batch.len(), place.token);
    let answer = if place.host.node == inner.me.node {
        let inbox = inner.inbox(name, token).ok_or(Answer::NotHere);
        let taken = inbox.and_then(|inbox| inbox.take_in(inner.me.node, batch));
        Ok(match taken {
            Ok(taken) => taken.answer().await,
            Err(answer) => answer,
        })
    } else {
        let request = |id| Envelope::Forward {
            id,
            name: name.to_owned(),
            token,
            told: batch,
        };
        // It takes as long as the actor does. A host that is gone is found by its link, or by
        // whoever has the actor next.
        let until = Instant::now() + DEADLINE_MAX;
        inner.call(place.host.node, until, request).await
    };
    match answer {
        Ok(Answer::Forwarded { passed }) => Sent {
            reached: Reached::Handled(count),
            passed,
            refused: None,
        },
        Ok(Answer::Asked(AskError::Dead { .. })) => Sent::nothing(Reached::Ended),
        Ok(Answer::NotHere | Answer::Elsewhere { .. }) => Sent::nothing(Reached::NotThere),
        Err(CallError::TooLarge(why)) => Sent {
            reached: Reached::Handled(1),
            passed: Vec::new(),
            refused: Some(why),
        },
        Ok(_) | Err(_) => Sent::nothing(Reached::Silent),
    }
}

/// Takes out of those that are left what is handled, and what cannot be.
fn take_out(inner: &Inner, name: &str, told: &mut VecDeque<Told>, sent: &Sent) {
    let Reached::Handled(count) = sent.reached else {
        return;
    };
    for (at, it) in (0..).zip(told.drain(..count.min(told.len()))) {
        let why = sent.refused.as_deref();
        let why = why.or_else(|| sent.passed.contains(&at).then_some(PASSED));
        if let Some(why) = why {
            tracing::warn!(actor = %name, %why, "a message that was told is not delivered");
            bury(inner, name, it, why);
        }
    }
}

fn bury(inner: &Inner, name: &str, told: Told, why: &str) {
    let reason = DeadReason::Undelivered(why.to_owned());
    let message = Some(told.message);
    inner.system.dead_letter(name.to_owned(), reason, message);
}

/// Keeps what comes directly from an actor of this node until the former host has nothing more for
/// it.
pub(super) async fn await_rest(inner: Weak<Inner>, name: String, token: u64, from: Member) {
    let began = Instant::now();
    let mut awaiting = Awaiting::default();
    while let Some(office) = inner.upgrade() {
        let Some(inbox) = office.inbox(&name, token).filter(|it| it.is_holding()) else {
            return;
        };
        let rest = ask_rest(&office, &name, token, from).await;
        match awaiting.heard(began.elapsed(), rest, office.is_over(from)) {
            AwaitStep::Ask(pause) => {
                drop((office, inbox));
                tokio::time::sleep(pause).await;
            }
            AwaitStep::Open => return inbox.open(),
            AwaitStep::Lost => {
                let why = "its former host is gone, with what it may have had for it";
                tracing::warn!(actor = %name, %from, "{why}");
                return inbox.open();
            }
        }
    }
}

async fn ask_rest(inner: &Inner, name: &str, token: u64, from: Member) -> Rest {
    let answer = if from.node == inner.me.node {
        Ok(Answer::Rest(inner.forwards.rest(name, token)))
    } else {
        let request = |id| Envelope::Rest {
            id,
            name: name.to_owned(),
            token,
        };
        inner
            .call(from.node, Instant::now() + ASK_WITHIN, request)
            .await
    };
    match answer {
        Ok(Answer::Rest(0)) => Rest::None,
        // It is there, and too busy to look.
        Ok(Answer::Rest(_) | Answer::Busy) => Rest::Some,
        Ok(_) | Err(_) => Rest::Silent,
    }
}
