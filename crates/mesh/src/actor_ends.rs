//! How the actors of a node ended, for those who watch them from elsewhere.

use std::collections::{BTreeMap, VecDeque};

use crate::Heard;
use crate::guard::{Guard, holds};

/// Ends of actors that a node remembers, for those who ask after them.
const ENDS_KEPT: usize = 4_096;

/// An end, which may not be told of yet.
#[derive(Clone, Debug)]
struct End<R> {
    born: u64,
    reason: R,
    /// Whether the actor is over for all. A durable one is once its name is given up: until then
    /// another node may go on with it.
    stands: bool,
}

/// The latest ends of a node's actors, by name and token.
#[derive(Clone, Debug)]
pub struct ActorEnds<R> {
    ends: BTreeMap<(String, u64), End<R>>,
    order: VecDeque<(String, u64)>,
}

impl<R> Default for ActorEnds<R> {
    fn default() -> Self {
        Self {
            ends: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<R: Clone> ActorEnds<R> {
    /// Notes how the actor of this claim ended, unless that is known. `born` is the token of the
    /// claim with which it began. One that does not stand yet is told to nobody before
    /// [`stands`](Self::stands).
    pub fn note(&mut self, name: &str, (token, born): (u64, u64), reason: R, stands: bool) {
        let claim = (name.to_owned(), token);
        if self.ends.contains_key(&claim) {
            return;
        }
        if self.order.len() >= ENDS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
        }
        self.order.push_back(claim.clone());
        let end = End {
            born,
            reason,
            stands: stands || !holds(Guard::WatchStands),
        };
        self.ends.insert(claim, end);
    }

    /// The name of an actor that ended here is given up.
    pub fn stands(&mut self, name: &str, token: u64) {
        if let Some(end) = self.ends.get_mut(&(name.to_owned(), token)) {
            end.stands = true;
        }
    }

    /// The name of an actor that ended here was not given up: another node had taken it over.
    pub fn goes_on(&mut self, name: &str, token: u64) {
        let claim = (name.to_owned(), token);
        if self.ends.get(&claim).is_some_and(|end| !end.stands) {
            self.ends.remove(&claim);
            self.order.retain(|it| *it != claim);
        }
    }

    /// The life of this node as a host is over: what it had not given up by then others may go on
    /// with, or give up.
    pub fn life_over(&mut self) {
        self.ends.retain(|_, end| end.stands);
        let ends = &self.ends;
        self.order.retain(|claim| ends.contains_key(claim));
    }

    /// Whether the actor of this claim has ended here.
    #[must_use]
    pub fn has(&self, name: &str, token: u64) -> bool {
        self.ends.contains_key(&(name.to_owned(), token))
    }

    /// How the actor of this claim ended here.
    #[must_use]
    pub fn of(&self, name: &str, token: u64) -> Option<&R> {
        let end = self.ends.get(&(name.to_owned(), token));
        end.map(|end| &end.reason)
    }

    /// What to say of an actor that does not run here, by the claim with which it began.
    #[must_use]
    pub fn heard(&self, name: &str, born: u64) -> Heard<R> {
        let of_name = (name.to_owned(), 0)..=(name.to_owned(), u64::MAX);
        let mut ends = self.ends.range(of_name).rev().map(|(_, end)| end);
        match ends.find(|end| end.born == born) {
            Some(End {
                stands: true,
                reason,
                ..
            }) => Heard::Ended(reason.clone()),
            // Its name is about to be given up, or another node goes on with it.
            Some(_) => Heard::Lives,
            None => Heard::NotHere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_ends_are_remembered_and_no_more() {
        let mut ends = ActorEnds::default();
        for token in 0..=ENDS_KEPT as u64 {
            ends.note("a", (token, token), "stopped", true);
            ends.note("a", (token, token), "killed", true);
        }
        assert_eq!(ends.of("a", 0), None);
        assert_eq!(ends.of("a", 1), Some(&"stopped"));
        assert_eq!(ends.of("b", 1), None);
        assert_eq!(ends.order.len(), ends.ends.len());
    }

    #[test]
    fn an_end_is_told_once_the_name_is_given_up_and_by_the_birth_of_the_actor() {
        let mut ends = ActorEnds::default();
        ends.note("a", (5, 3), "stopped", false);
        assert_eq!(ends.heard("a", 3), Heard::Lives);
        ends.stands("a", 5);
        assert_eq!(ends.heard("a", 3), Heard::Ended("stopped"));
        assert_eq!(ends.heard("a", 5), Heard::NotHere, "another actor");
        assert_eq!(ends.heard("b", 3), Heard::NotHere);
        ends.note("a", (6, 6), "failed", false);
        ends.life_over();
        assert_eq!(ends.heard("a", 6), Heard::NotHere, "others have it now");
        assert_eq!(ends.heard("a", 3), Heard::Ended("stopped"));
        assert_eq!(ends.order.len(), ends.ends.len());
    }
}
