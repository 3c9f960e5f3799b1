//! How much other nodes may have under way here, and for what: a slow actor, or many who ask it,
//! are to keep nobody from other actors, nor anybody from stopping it.
//!
//! Questions share one room, and an actor may have as many of its places as its mailbox has, and as
//! are still free: dynamic thresholds (Choudhury and Hahne 1998). So one slow actor has at most
//! half of the room, the next one half of what is left, and however many there are, some is left.
//! What is done at once, and what is asked of the node itself, has rooms of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpe_actors::AskError;
use cpe_membership::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::envelope::{Answer, Envelope};
use super::{Inner, lock};

/// Questions of other nodes under way here at a time. More are answered as busy, so that slow
/// actors cost no more memory than this.
const ASKS_MAX: usize = 4_096;

/// Requests that are answered at once: they wait at most for room on the link.
const QUICK_MAX: usize = 4_096;

/// Requests to start, stop and move actors, and to look at them.
const ACTS_MAX: usize = 1_024;

/// Questions after the ends of actors, which may take long.
const WATCHES_MAX: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(super) struct Rooms {
    asks: Arc<Semaphore>,
    quick: Arc<Semaphore>,
    acts: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    /// Questions that wait for their actor, by who asks.
    askers: Mutex<BTreeMap<(NodeId, u64), oneshot::Sender<()>>>,
}

impl Default for Rooms {
    fn default() -> Self {
        let room = |places| Arc::new(Semaphore::new(places));
        Self {
            asks: room(ASKS_MAX),
            quick: room(QUICK_MAX),
            acts: room(ACTS_MAX),
            watches: room(WATCHES_MAX),
            askers: Mutex::default(),
        }
    }
}

/// A place in a room, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    _place: OwnedSemaphorePermit,
    /// Counts the places of its actor.
    of: Option<Arc<AtomicUsize>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            of.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Rooms {
    /// A place for a question to an actor that has so many already, and a mailbox of this size.
    /// Nothing when it has its share.
    fn ask(&self, held: &Arc<AtomicUsize>, mailbox: usize) -> Option<Taken> {
        let share = mailbox.min(self.asks.available_permits());
        // Requests come one by one: nobody else adds to it meanwhile.
        if held.load(Ordering::Relaxed) >= share {
            return None;
        }
        let place = Arc::clone(&self.asks).try_acquire_owned().ok()?;
        held.fetch_add(1, Ordering::Relaxed);
        Some(Taken {
            _place: place,
            of: Some(Arc::clone(held)),
        })
    }

    /// Somebody waits for an actor's answer: what is ready when that is over.
    pub(super) fn asks(&self, from: NodeId, id: u64) -> oneshot::Receiver<()> {
        let (waits, gone) = oneshot::channel();
        lock(&self.askers).insert((from, id), waits);
        gone
    }

    /// A question was answered, or nobody waits for that any more.
    pub(super) fn given_up(&self, from: NodeId, id: u64) {
        lock(&self.askers).remove(&(from, id));
    }

    /// A link was lost: who asked over it has been told so there, and hears no answer.
    pub(super) fn asker_gone(&self, node: NodeId) {
        let of_node = (node, 0)..=(node, u64::MAX);
        let mut askers = lock(&self.askers);
        let gone: Vec<_> = askers.range(of_node).map(|(key, _)| *key).collect();
        for key in gone {
            askers.remove(&key);
        }
    }
}

impl Inner {
    /// A place for a request of another node, or what to answer when there is none.
    pub(super) fn room_for(&self, request: &Envelope) -> Result<Taken, Answer> {
        let rooms = &self.rooms;
        let room = match request {
            Envelope::Ask { name, token, .. }
            | Envelope::Deliver {
                name,
                token,
                tell: false,
                forwarded: false,
                ..
            } => {
                // Of one that is not here that much is said at once.
                if let Some((held, mailbox)) = self.share_of(name, *token) {
                    return rooms.ask(&held, mailbox).ok_or_else(|| {
                        let (actor, after) = (name.clone(), Duration::ZERO);
                        Answer::Asked(AskError::Full { actor, after })
                    });
                }
                &rooms.quick
            }
            Envelope::Tell { .. }
            | Envelope::TellMany { .. }
            | Envelope::Deliver { .. }
            | Envelope::Poisoned { .. }
            | Envelope::Rest { .. } => &rooms.quick,
            // Answered when all of it is handled. Who is told that this node is busy comes again.
            Envelope::Forward { .. } => &rooms.asks,
            Envelope::Watch { .. } => &rooms.watches,
            _ => &rooms.acts,
        };
        let place = Arc::clone(room).try_acquire_owned();
        let place = place.map_err(|_| Answer::Busy)?;
        Ok(Taken {
            _place: place,
            of: None,
        })
    }

    /// How many questions to an actor of this node are under way, and the size of its mailbox.
    fn share_of(&self, name: &str, token: u64) -> Option<(Arc<AtomicUsize>, usize)> {
        let hosted = lock(&self.hosted);
        let hosted = hosted.get(name).filter(|it| it.token == token)?;
        Some((Arc::clone(&hosted.asks), hosted.mailbox))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_actors_leave_room_for_the_next_and_have_no_more_than_their_mailboxes() {
        let rooms = Rooms::default();
        let fill = |mailbox| {
            let held = Arc::default();
            std::iter::from_fn(|| rooms.ask(&held, mailbox)).collect::<Vec<_>>()
        };
        let small = fill(7);
        assert_eq!(small.len(), 7);
        drop(small);
        let first = fill(usize::MAX);
        assert_eq!(first.len(), ASKS_MAX / 2);
        let others: Vec<_> = (0..5).map(|_| fill(usize::MAX)).collect();
        assert!(
            others.iter().all(|it| it.len() >= ASKS_MAX / 128),
            "some are left out"
        );
        drop(others);
        drop(first);
        assert_eq!(rooms.asks.available_permits(), ASKS_MAX);
    }

    #[test]
    fn askers_that_go_away_are_waited_for_no_more() {
        let rooms = Rooms::default();
        let mut waits = [(1, 1), (1, 2), (2, 1)].map(|(node, id)| rooms.asks(NodeId(node), id));
        rooms.given_up(NodeId(1), 2);
        let is_over = |it: &mut oneshot::Receiver<()>| {
            it.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        assert_eq!(waits.each_mut().map(is_over), [false, true, false]);
        rooms.asker_gone(NodeId(1));
        assert_eq!(waits.each_mut().map(is_over), [true, true, false]);
        assert_eq!(lock(&rooms.askers).len(), 1);
    }
}
