//! The event queue: what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Events by time; those of one time in the order in which they were added.
///
/// The heap moves small keys only; the events stay where they are until their time has come.
#[derive(Debug)]
pub struct EventQueue<T> {
    heap: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    events: Vec<Option<T>>,
    free: Vec<usize>,
    added: u64,
}

impl<T> Default for EventQueue<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            added: 0,
        }
    }
}

impl<T> EventQueue<T> {
    /// Adds an event.
    pub fn add(&mut self, at: Duration, event: T) {
        self.added += 1;
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.events.push(None);
                self.events.len() - 1
            }
        };
        if let Some(slot) = self.events.get_mut(place) {
            *slot = Some(event);
        }
        self.heap.push(Reverse((at, self.added, place)));
    }

    /// Takes the next event if its time is not after `end`.
    pub fn next_until(&mut self, end: Duration) -> Option<(Duration, T)> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > end {
            return None;
        }
        let Reverse((at, _, place)) = self.heap.pop()?;
        let event = self.events.get_mut(place)?.take()?;
        self.free.push(place);
        Some((at, event))
    }

    /// How many events are waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_time_in_order() {
        let mut queue = EventQueue::default();
        for (at, event) in [(3, 'd'), (1, 'a'), (2, 'b'), (2, 'c')] {
            queue.add(Duration::from_secs(at), event);
        }
        let mut seen = String::new();
        while let Some((_, event)) = queue.next_until(Duration::from_secs(2)) {
            seen.push(event);
        }
        assert_eq!(seen, "abc");
        queue.add(Duration::from_secs(2), 'e');
        assert_eq!(queue.next_until(Duration::MAX).map(|(_, e)| e), Some('e'));
        assert_eq!(queue.len(), 1);
    }
}
