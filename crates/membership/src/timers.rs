//! Deadlines in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use foca::Timer;

use crate::NodeId;
use crate::identity::SwimId;

/// What happens at a deadline.
#[derive(Debug)]
pub(crate) enum Due {
    Swim(Timer<SwimId>),
    /// Offer new cards to others.
    Cards,
    /// Greet a dead member.
    Heal,
    /// Repeat announcements nobody answered.
    Join,
    /// Ask for cards that did not come.
    Missing,
}

/// One deadline is kept per key: foca starts a chain anew under a fresh token without ending the
/// old one, and a flapping member would otherwise fill the queue for a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Probe,
    IndirectProbe,
    Announce,
    AnnounceDown,
    Gossip,
    Suspect(NodeId),
    Forget(NodeId),
    Cards,
    Heal,
    Join,
    Missing,
}

/// Deadlines by time, then by the order they were set. Holds at most two per member and nine.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeMap<(Duration, u64), (Key, Due)>,
    places: BTreeMap<Key, (Duration, u64)>,
    seq: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Duration, due: Due) {
        let key = key(&due);
        if let Some(place) = self.places.get(&key) {
            let same = self
                .queue
                .get(place)
                .is_some_and(|(_, old)| same_suspicion(old, &due));
            if same {
                // A suspect that is probed again is not given more time.
                return;
            }
            self.queue.remove(place);
        }
        let place = (at, self.seq);
        self.seq += 1;
        self.queue.insert(place, (key, due));
        self.places.insert(key, place);
    }

    pub(crate) fn is_set_for_cards(&self) -> bool {
        self.places.contains_key(&Key::Cards)
    }

    pub(crate) fn is_set_for_join(&self) -> bool {
        self.places.contains_key(&Key::Join)
    }

    pub(crate) fn is_set_for_missing(&self) -> bool {
        self.places.contains_key(&Key::Missing)
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        let (_, (key, due)) = self.queue.pop_first()?;
        self.places.remove(&key);
        Some(due)
    }

    /// Moves every deadline by `delay`; their order stays.
    pub(crate) fn shift(&mut self, delay: Duration) {
        let late = |(at, seq): (Duration, u64)| (at.saturating_add(delay), seq);
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue
            .into_iter()
            .map(|(place, item)| (late(place), item))
            .collect();
        for place in self.places.values_mut() {
            *place = late(*place);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.places.clear();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

fn key(due: &Due) -> Key {
    match due {
        Due::Swim(Timer::ProbeRandomMember(_)) => Key::Probe,
        Due::Swim(Timer::SendIndirectProbe { .. }) => Key::IndirectProbe,
        Due::Swim(Timer::ChangeSuspectToDown { member_id, .. }) => Key::Suspect(member_id.node),
        Due::Swim(Timer::PeriodicAnnounce(_)) => Key::Announce,
        Due::Swim(Timer::PeriodicAnnounceDown(_)) => Key::AnnounceDown,
        Due::Swim(Timer::PeriodicGossip(_)) => Key::Gossip,
        Due::Swim(Timer::RemoveDown(id)) => Key::Forget(id.node),
        Due::Cards => Key::Cards,
        Due::Heal => Key::Heal,
        Due::Join => Key::Join,
        Due::Missing => Key::Missing,
    }
}

fn same_suspicion(old: &Due, new: &Due) -> bool {
    match (old, new) {
        (
            Due::Swim(old @ Timer::ChangeSuspectToDown { .. }),
            Due::Swim(new @ Timer::ChangeSuspectToDown { .. }),
        ) => old == new,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Incarnation, Member};

    fn suspect(node: u64, incarnation: u16) -> Due {
        let member_id = SwimId::new(Member {
            node: NodeId(node),
            inc: Incarnation(1),
        });
        Due::Swim(Timer::ChangeSuspectToDown {
            member_id,
            incarnation,
            token: 0,
        })
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_they_were_set() {
        let mut timers = Timers::default();
        let at = Duration::from_secs(1);
        timers.set(at, Due::Heal);
        timers.set(at, Due::Cards);
        assert!(timers.pop_due(Duration::ZERO).is_none());
        assert!(matches!(timers.pop_due(at), Some(Due::Heal)));
        assert!(matches!(timers.pop_due(at), Some(Due::Cards)));
    }

    #[test]
    fn a_suspect_probed_again_keeps_its_deadline() {
        let mut timers = Timers::default();
        timers.set(Duration::from_secs(1), suspect(7, 0));
        timers.set(Duration::from_secs(2), suspect(7, 0));
        assert_eq!(
            (timers.len(), timers.next()),
            (1, Some(Duration::from_secs(1)))
        );
        // A newer suspicion, after the first was refuted, starts afresh.
        timers.set(Duration::from_secs(3), suspect(7, 1));
        assert_eq!(
            (timers.len(), timers.next()),
            (1, Some(Duration::from_secs(3)))
        );
    }

    #[test]
    fn a_shift_moves_everything_and_replacing_still_works() {
        let mut timers = Timers::default();
        timers.set(Duration::from_secs(1), Due::Heal);
        timers.shift(Duration::from_secs(9));
        assert_eq!(timers.next(), Some(Duration::from_secs(10)));
        timers.set(Duration::from_secs(11), Due::Heal);
        assert_eq!(
            (timers.len(), timers.next()),
            (1, Some(Duration::from_secs(11)))
        );
    }
}
