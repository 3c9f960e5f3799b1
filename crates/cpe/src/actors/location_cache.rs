//! Where actors were when they were last heard of, and who waits for word from there.
//!
//! What is remembered is dropped, and who waits is told, as soon as this node's replica of the
//! registry shows that somebody else has the name: a host that is frozen or cut off says nothing by
//! itself, and its link may last for long.

use std::collections::BTreeMap;

use cpe_membership::Member;
use cpe_mesh::ActorInfo;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::envelope::{Answer, Envelope};
use super::post::CallError;
use super::{Inner, PATIENCE, Place, lock};

/// Places of actors remembered; all are forgotten when there are more.
const PLACES_MAX: usize = 16_384;

/// What the registry shows of a name now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) token: u64,
    pub(crate) host: Option<Member>,
    pub(crate) leased: bool,
    /// Whoever handed it to its host, if it was not claimed.
    pub(crate) from: Option<Member>,
}

impl Named {
    /// What a record shows; not from whom it came.
    pub(super) const fn of(record: &ActorInfo) -> Self {
        Self {
            token: record.token,
            host: record.host,
            leased: record.leased,
            from: None,
        }
    }

    /// Whether an actor that was at this place is not there any more.
    fn replaces(&self, place: &Place) -> bool {
        self.token > place.token || (self.token == place.token && self.host.is_none())
    }
}

/// Somebody who waits for word from a place.
#[derive(Debug)]
struct Waiting {
    place: Place,
    /// The actor was handed on from there: its former host sends on what it has, and the answer
    /// may still come.
    moved: bool,
    /// Its host's life as one is over.
    lost: bool,
    /// Dropped when nothing more is to be expected from there.
    _over: oneshot::Sender<()>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LocationCache {
    of: BTreeMap<String, Place>,
    /// Counts the changes of the registry.
    changes: u64,
    waits: BTreeMap<(String, u64), Waiting>,
    next: u64,
}

impl LocationCache {
    pub(super) fn get(&self, name: &str) -> Option<Place> {
        self.of.get(name).copied()
    }

    /// To be given to [`learned`](Self::learned) with what is read after this.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Remembers what a record showed that was read after so many changes: not if there was
    /// another one since, which may have been of this name.
    pub(super) fn learned(&mut self, name: &str, place: Place, changes: u64) {
        if changes == self.changes {
            self.remember(name, place);
        }
    }

    /// Remembers a place, unless a later one is known.
    pub(super) fn remember(&mut self, name: &str, place: Place) {
        if self.of.get(name).is_some_and(|it| it.token > place.token) {
            return;
        }
        if self.of.len() >= PLACES_MAX {
            self.of.clear();
        }
        self.of.insert(name.to_owned(), place);
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.of.remove(name);
    }

    /// The registry may show something else of a name than before.
    fn named(&mut self, name: &str, now: Named) {
        self.changes += 1;
        if self.of.get(name).is_some_and(|known| now.replaces(known)) {
            match now.host {
                Some(host) => {
                    let (token, leased) = (now.token, now.leased);
                    let place = Place {
                        host,
                        token,
                        leased,
                    };
                    self.of.insert(name.to_owned(), place);
                }
                None => self.forget(name),
            }
        }
        let of_name = (name.to_owned(), 0)..=(name.to_owned(), u64::MAX);
        let mut over = Vec::new();
        for (wait, waiting) in self.waits.range_mut(of_name) {
            if now.replaces(&waiting.place) {
                waiting.moved = now.from.is_some();
                if !waiting.moved || waiting.lost {
                    over.push(wait.1);
                }
            }
        }
        for id in over {
            self.waits.remove(&(name.to_owned(), id));
        }
    }

    /// A life of a node as a host is over: what was handed on from there and not sent is lost.
    fn life_over(&mut self, life: Member) {
        self.waits.retain(|_, waiting| {
            waiting.lost |= waiting.place.leased && waiting.place.host == life;
            !(waiting.lost && waiting.moved)
        });
    }

    /// Begins to wait for word from a place: the wait's number, what ends when nothing is to be
    /// expected from there, and whether the place is the one remembered. Nothing if a later one is.
    fn wait(&mut self, name: &str, place: Place) -> Option<(u64, oneshot::Receiver<()>, bool)> {
        let known = self.get(name);
        if known.is_some_and(|known| known.token > place.token) {
            return None;
        }
        let (over, ends) = oneshot::channel();
        let id = self.next;
        self.next += 1;
        let waiting = Waiting {
            place,
            moved: false,
            lost: false,
            _over: over,
        };
        self.waits.insert((name.to_owned(), id), waiting);
        Some((id, ends, known == Some(place)))
    }
}

/// Ends a wait when nobody waits any more.
struct Wait<'a> {
    inner: &'a Inner,
    name: &'a str,
    id: u64,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let wait = (self.name.to_owned(), self.id);
        lock(&self.inner.places).waits.remove(&wait);
    }
}

impl Inner {
    /// The registry may show something else of a name than before.
    pub(crate) fn named(&self, name: &str, now: Named) {
        self.end_replaced(name, now);
        lock(&self.places).named(name, now);
    }

    /// A life of some node as a host is over.
    pub(super) fn nothing_more_from(&self, life: Member) {
        lock(&self.places).life_over(life);
    }

    /// As [`call`](Self::call), of the node where an actor lives: lost as soon as the registry
    /// shows that the actor is not there any more, however long its node keeps silent.
    pub(super) async fn call_at(
        &self,
        name: &str,
        place: Place,
        until: Instant,
        request: impl FnOnce(u64) -> Envelope,
    ) -> Result<Answer, CallError> {
        let elsewhere = || CallError::NoLink("its name has another host by now".to_owned());
        let wait = lock(&self.places).wait(name, place);
        let (id, ends, known) = wait.ok_or_else(elsewhere)?;
        let _wait = Wait {
            inner: self,
            name,
            id,
        };
        // Of what was not remembered a change may have come before the wait began.
        if !known
            && let Ok(Some(record)) = self.record(name).await
            && record.token > place.token
        {
            return Err(elsewhere());
        }
        let called = self.call(place.host.node, until, request);
        tokio::pin!(called);
        tokio::select! {
            biased;
            answer = &mut called => return answer,
            _ = ends => {}
        }
        // What its host said before that may be on its way.
        let last = tokio::time::timeout(PATIENCE, called).await;
        last.unwrap_or_else(|_| {
            let why = "the actor was taken over from there, or its name given up, while waiting";
            Err(CallError::Lost(why.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use cpe_membership::{Incarnation, NodeId};

    use super::*;

    fn member(node: u64) -> Member {
        Member {
            node: NodeId(node),
            inc: Incarnation(1),
        }
    }

    fn place(node: u64, token: u64) -> Place {
        Place {
            host: member(node),
            token,
            leased: true,
        }
    }

    fn named(token: u64, host: Option<u64>, from: Option<u64>) -> Named {
        Named {
            token,
            host: host.map(member),
            leased: true,
            from: from.map(member),
        }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let mut places = LocationCache::default();
        let before = places.changes();
        places.named("a", named(2, Some(2), None));
        places.learned("a", place(1, 1), before);
        assert_eq!(places.get("a"), None);
        places.learned("a", place(2, 2), places.changes());
        places.named("a", named(1, Some(1), None));
        assert_eq!(places.get("a"), Some(place(2, 2)), "an older record");
        places.named("a", named(3, Some(3), None));
        assert_eq!(places.get("a"), Some(place(3, 3)));
        places.named("a", named(3, None, None));
        assert_eq!(places.get("a"), None);
    }

    #[test]
    fn who_waits_is_told_when_another_claims_the_name_or_it_is_given_up() {
        let mut places = LocationCache::default();
        for (id, now) in [named(2, Some(2), None), named(1, None, None)]
            .into_iter()
            .enumerate()
        {
            let (wait, mut ends, _) = places.wait("a", place(1, 1)).unwrap();
            assert_eq!(wait, id as u64);
            places.named("b", now);
            places.named("a", named(1, Some(1), None));
            assert!(ends.try_recv().is_err_and(|it| it == still_open()));
            places.named("a", now);
            assert!(ends.try_recv().is_err_and(|it| it != still_open()));
        }
        places.remember("a", place(2, 2));
        assert!(places.wait("a", place(1, 1)).is_none());
        assert!(places.waits.is_empty());
    }

    #[test]
    fn who_waits_for_an_actor_that_moves_waits_as_long_as_its_former_host_may_send_it_on() {
        let mut places = LocationCache::default();
        let (_, mut ends, _) = places.wait("a", place(1, 1)).unwrap();
        places.named("a", named(2, Some(2), Some(1)));
        places.named("a", named(3, Some(3), Some(2)));
        places.life_over(member(2));
        assert!(ends.try_recv().is_err_and(|it| it == still_open()));
        places.life_over(member(1));
        assert!(ends.try_recv().is_err_and(|it| it != still_open()));

        // What it hears in another order is the same.
        let (_, mut ends, _) = places.wait("b", place(1, 1)).unwrap();
        places.life_over(member(1));
        assert!(ends.try_recv().is_err_and(|it| it == still_open()));
        places.named("b", named(2, Some(2), Some(1)));
        assert!(ends.try_recv().is_err_and(|it| it != still_open()));
    }

    fn still_open() -> oneshot::error::TryRecvError {
        oneshot::error::TryRecvError::Empty
    }
}
