//! Siblings that begin anew together: the strategies one-for-all and rest-for-one.
//!
//! A child restarts itself; with these strategies it does so in its turn. The family of one parent
//! has at most one round at a time, a task that lives as long as somebody has failed:
//!
//! 1. Those who failed have told their [`Family`] and wait. The rest that the strategy names are
//!    asked to halt, the youngest first; each stops its own children and waits too.
//! 2. After the parent's back-off they are let go one after the other, the eldest first; each makes
//!    its new instance and says so before the next.
//!
//! A child that waits holds one [`Ticket`]. A newer one replaces it (it had failed just before it
//! was asked to halt), which the round finds by the closed channel. A child that ends drops its
//! ticket. The parent's supervision limits the rounds: beyond it the parent fails and the children
//! that wait end.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    ActorId, Strategy, System, control::Control, mailbox::Notice, supervision::MAX_RESTARTS,
};

/// A request to halt and begin anew in turn.
pub(crate) struct Halt {
    /// Who failed.
    pub(crate) sibling: String,
    /// When a handler that still waits is cancelled.
    pub(crate) deadline: Instant,
    halted: oneshot::Sender<()>,
    ticket: Ticket,
}

impl Halt {
    /// Says that the actor has halted.
    pub(crate) fn accept(self) -> Ticket {
        // A round that is gone drops the ticket's other end too, which the child sees.
        let _ = self.halted.send(());
        self.ticket
    }
}

/// A halted child's end: waits to go, then says that it is up.
pub(crate) struct Ticket {
    /// An error when the family was given up.
    pub(crate) go: oneshot::Receiver<()>,
    pub(crate) up: oneshot::Sender<()>,
}

/// The round's end of a [`Ticket`].
struct Held {
    go: oneshot::Sender<()>,
    up: oneshot::Receiver<()>,
}

fn ticket() -> (Ticket, Held) {
    let (go, going) = oneshot::channel();
    let (upped, up) = oneshot::channel();
    let ticket = Ticket {
        go: going,
        up: upped,
    };
    (ticket, Held { go, up })
}

struct Failed {
    id: ActorId,
    label: String,
    reason: String,
    held: Held,
}

/// The children of one parent, as far as they fail together.
#[derive(Default)]
pub(crate) struct Family {
    state: Mutex<State>,
    failed: Notify,
}

#[derive(Default)]
struct State {
    /// A round is under way.
    running: bool,
    failed: Vec<Failed>,
    /// When the last rounds were, oldest first; bounded by the parent's limit.
    rounds: VecDeque<Instant>,
}

impl Family {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A child has failed and waits for its turn.
    pub(crate) fn fail(
        self: &Arc<Self>,
        system: &System,
        parent: &Arc<dyn Control>,
        child: &dyn Control,
        reason: &str,
    ) -> Ticket {
        let (ticket, held) = ticket();
        let start = {
            let mut state = self.lock();
            state.failed.push(Failed {
                id: child.id(),
                label: child.label(),
                reason: reason.to_owned(),
                held,
            });
            !std::mem::replace(&mut state.running, true)
        };
        self.failed.notify_waiters();
        if start {
            let round = Round {
                family: Arc::clone(self),
                system: system.clone(),
                parent: Arc::clone(parent),
                held: BTreeMap::new(),
            };
            system.run(round.run());
        }
        ticket
    }

    fn has_failed(&self, id: ActorId) -> bool {
        self.lock().failed.iter().any(|failed| failed.id == id)
    }

    /// Notes a round; its number within the window, or nothing when there were too many.
    fn count(&self, parent: &dyn Control) -> Option<u32> {
        let policy = parent.supervision();
        let now = Instant::now();
        let mut state = self.lock();
        while state
            .rounds
            .front()
            .is_some_and(|first| now - *first > policy.within)
        {
            state.rounds.pop_front();
        }
        let before = u32::try_from(state.rounds.len()).unwrap_or(u32::MAX);
        state.rounds.push_back(now);
        (before < policy.max_restarts.min(MAX_RESTARTS)).then_some(before)
    }
}

struct Round {
    family: Arc<Family>,
    system: System,
    parent: Arc<dyn Control>,
    /// Children that have halted.
    held: BTreeMap<ActorId, Held>,
}

impl Round {
    async fn run(mut self) {
        loop {
            if let Some((first, sibling, reason)) = self.gather() {
                let Some(attempt) = self.family.count(&*self.parent) else {
                    return self.give_up(sibling, &reason);
                };
                self.halt(first, &sibling).await;
                let seed = self.system.seed() ^ self.parent.id().as_u64() ^ u64::from(attempt);
                let delay = self.parent.supervision().backoff.delay(attempt, seed);
                tokio::time::sleep(delay).await;
            } else if self.held.is_empty() {
                return;
            }
            self.start().await;
        }
    }

    /// Takes in who has failed: the eldest's number, name and reason. Without any, and when nobody
    /// is held, the round is over.
    fn gather(&mut self) -> Option<(ActorId, String, String)> {
        let mut state = self.family.lock();
        let mut eldest: Option<(ActorId, String, String)> = None;
        for failed in std::mem::take(&mut state.failed) {
            // Closed: the child has a newer ticket, or has ended.
            if failed.held.go.is_closed() {
                continue;
            }
            if eldest.as_ref().is_none_or(|(id, ..)| failed.id < *id) {
                eldest = Some((failed.id, failed.label, failed.reason));
            }
            self.held.insert(failed.id, failed.held);
        }
        state.running = !self.held.is_empty();
        eldest
    }

    /// Has all children halted that begin anew with the one that failed, the youngest first.
    async fn halt(&mut self, first: ActorId, sibling: &str) {
        let mut affected = self.system.children(self.parent.id());
        if self.parent.strategy() == Strategy::RestForOne {
            affected.retain(|child| child.id() >= first);
        }
        for child in affected.iter().rev() {
            if self.held.contains_key(&child.id()) {
                continue;
            }
            let (ticket, held) = ticket();
            let (halted, has_halted) = oneshot::channel();
            child.request_halt(Halt {
                sibling: sibling.to_owned(),
                deadline: Instant::now() + child.grace(),
                halted,
                ticket,
            });
            // An error: it has ended.
            if has_halted.await.is_ok() {
                self.held.insert(child.id(), held);
            }
        }
    }

    /// Lets those who halted go, the eldest first, until one fails again.
    async fn start(&mut self) {
        while let Some((id, held)) = self.held.pop_first() {
            if held.go.send(()).is_err() || held.up.await.is_ok() {
                continue;
            }
            let Some(child) = self.system.control(id) else {
                continue;
            };
            // It failed again, which it is about to tell, or it ends.
            let mut ended = pin!(Arc::clone(&child).ended());
            loop {
                let mut news = pin!(self.family.failed.notified());
                news.as_mut().enable();
                if self.family.has_failed(id) {
                    return;
                }
                tokio::select! {
                    () = news => {}
                    _ = &mut ended => break,
                }
            }
        }
    }

    /// Fails the parent; the children that wait see their tickets end.
    fn give_up(self, child: String, reason: &str) {
        let policy = self.parent.supervision();
        let reason = format!(
            "failed: {reason} (gave up: the children began anew more than {} times within {:?})",
            policy.max_restarts, policy.within
        );
        self.parent.notify(Notice::ChildFailed { child, reason });
        let mut state = self.family.lock();
        state.running = false;
        state.failed.clear();
    }
}
