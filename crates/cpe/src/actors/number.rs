//! Numbers of the messages that this node sends to durable actors (rule A9).
//!
//! A message keeps its number however often it is sent, to whatever incarnation. With it goes the
//! lowest number that this node may still send to the actor: what is below needs to be remembered
//! by nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use cpe_space::Session;

use super::envelope::Number;
use super::lock;

/// Messages from this node to one durable actor that are not answered, at most.
const OPEN_MAX: usize = cpe_space::MARKED_MAX / 2;

/// Messages that were told last stay open for so many more: one that waits in a mailbox may be sent
/// on to another host, after later ones were handled there.
const TOLD_MAX: usize = 64;

/// Actors for which told messages are remembered; all are forgotten when there are more.
const WINDOWS_MAX: usize = 16_384;

#[derive(Debug, Default)]
struct Window {
    open: BTreeSet<u64>,
    told: VecDeque<u64>,
}

/// The numbers of one start of this node.
#[derive(Debug)]
pub(super) struct Numbers {
    session: Session,
    state: Mutex<(u64, BTreeMap<String, Window>)>,
}

/// The number of a message that may still be sent. Dropped, it never will be.
#[derive(Debug)]
pub(super) struct Open<'a> {
    numbers: &'a Numbers,
    actor: &'a str,
    seq: u64,
    told: bool,
}

impl Numbers {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            state: Mutex::default(),
        }
    }

    /// The start of this node.
    pub(super) fn session(&self) -> Session {
        self.session
    }

    /// A number for a message; none when too many are open.
    pub(super) fn begin<'a>(&'a self, actor: &'a str, told: bool) -> Option<Open<'a>> {
        let mut state = lock(&self.state);
        let (last, windows) = &mut *state;
        if windows.len() >= WINDOWS_MAX && !windows.contains_key(actor) {
            windows.retain(|_, window| !window.open.is_empty());
        }
        let window = windows.entry(actor.to_owned()).or_default();
        if window.open.len() >= OPEN_MAX {
            return None;
        }
        *last += 1;
        let seq = *last;
        window.open.insert(seq);
        Some(Open {
            numbers: self,
            actor,
            seq,
            told,
        })
    }
}

impl Open<'_> {
    /// The number as it goes with the message now.
    pub(super) fn number(&self) -> Number {
        let state = lock(&self.numbers.state);
        let window = state.1.get(self.actor);
        let open = window.and_then(|window| window.open.first().copied());
        let told = window.and_then(|window| window.told.front().copied());
        let low = open.into_iter().chain(told).chain([self.seq]).min();
        Number {
            sender: self.numbers.session,
            seq: self.seq,
            low: low.unwrap_or(self.seq),
            actor: None,
            take: None,
            from: None,
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.numbers.state);
        let Some(window) = state.1.get_mut(self.actor) else {
            return;
        };
        window.open.remove(&self.seq);
        if self.told {
            // In the order of their numbers, as the first says what may still come.
            let at = window.told.partition_point(|it| *it < self.seq);
            window.told.insert(at, self.seq);
            while window.told.len() > TOLD_MAX {
                window.told.pop_front();
            }
        } else if window.open.is_empty() && window.told.is_empty() {
            state.1.remove(self.actor);
        }
    }
}

#[cfg(test)]
mod tests {
    use cpe_membership::{Incarnation, Member, NodeId};

    use super::*;

    #[test]
    fn the_lowest_number_that_may_still_come_goes_with_each() {
        let member = Member {
            node: NodeId(1),
            inc: Incarnation(1),
        };
        let numbers = Numbers::new(Session { member, boot: 3 });
        let of = |open: &Open<'_>| (open.number().seq, open.number().low);
        let first = numbers.begin("a", false).unwrap();
        let second = numbers.begin("a", false).unwrap();
        let other = numbers.begin("b", false).unwrap();
        assert_eq!(
            (of(&first), of(&second), of(&other)),
            ((1, 1), (2, 1), (3, 3))
        );
        drop(first);
        assert_eq!(of(&second), (2, 2));
        drop(numbers.begin("a", true).unwrap());
        drop(second);
        let last = numbers.begin("a", false).unwrap();
        assert_eq!(of(&last), (5, 4), "what was told may still be sent on");
        for _ in 0..TOLD_MAX {
            drop(numbers.begin("a", true).unwrap());
        }
        assert_eq!(of(&last), (5, 5));
    }

    #[test]
    fn so_many_are_open_and_no_more() {
        let member = Member {
            node: NodeId(1),
            inc: Incarnation(1),
        };
        let numbers = Numbers::new(Session { member, boot: 3 });
        let open: Vec<_> = (0..OPEN_MAX).map(|_| numbers.begin("a", false)).collect();
        assert!(open.iter().all(Option::is_some));
        assert!(numbers.begin("a", false).is_none());
        drop(open);
        assert!(numbers.begin("a", false).is_some());
    }
}
