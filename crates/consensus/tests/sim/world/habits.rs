//! What happens by itself: rounds, wishes for other members, reads, clients.

use super::super::replica::{Command, Config, Id};
use super::{CALM_MS, Event, Letter, NODES, PUTS, ROUND_MS, World};

impl World {
    pub(super) fn round(&mut self, id: Id) {
        self.at(self.now + ROUND_MS, Event::Round(id));
        if !self.node(id).is_up {
            return;
        }
        self.look(id);
        self.want_state(id);
        let to = Id::try_from(self.rng.below(u64::from(NODES))).unwrap();
        let map = self.node(id).map.clone();
        let index = self.node(id).state.index;
        self.send(id, to, Letter::Map(map));
        let to = Id::try_from(self.rng.below(u64::from(NODES))).unwrap();
        self.send(id, to, Letter::StateWanted { index });
        let node = self.node(id);
        let replies = std::mem::take(&mut node.replies);
        node.round += 1;
        let round = node.round;
        let Some(group) = node.seat.group() else {
            return;
        };
        let epoch = group.epoch();
        let others: Vec<Id> = group
            .members()
            .iter()
            .copied()
            .filter(|m| *m != id)
            .collect();
        self.with(id, |group, out| group.tick(&replies, out));
        for to in others {
            self.send(id, to, Letter::Ask { epoch, round });
        }
        self.move_group(id);
        self.read(id);
    }

    /// Refreshes the view of who is there. It lags and is wrong at times.
    pub(super) fn look(&mut self, id: Id) {
        for other in 0..NODES {
            if self.rng.chance(5) {
                let there = self.node(other).is_up
                    && self.side[usize::from(other)] == self.side[usize::from(id)]
                    && !self.rng.chance(2);
                let view = &mut self.node(id).view;
                if there {
                    view.insert(other);
                } else if other != id {
                    view.remove(&other);
                }
            }
        }
    }

    /// A leader may want other members.
    pub(super) fn move_group(&mut self, id: Id) {
        let k = self.k;
        let Some(group) = self.node(id).seat.group() else {
            return;
        };
        let chance = match group.members().len() {
            few if few < k => 30,
            _ if self.is_healed => 3,
            _ => self.seals,
        };
        if self.now > CALM_MS || !self.rng.chance(chance) {
            return;
        }
        let Some(group) = self.node(id).seat.group() else {
            return;
        };
        if !group.is_leader() || group.is_sealed() {
            return;
        }
        let epoch = group.epoch() + 1;
        let current = group.members().to_vec();
        let mut members = self.wish(id, &current);
        if self.rng.chance(50) {
            let first = usize::try_from(self.rng.below(members.len() as u64)).unwrap();
            members.swap(0, first);
        }
        if members != current {
            self.propose(id, Command::Seal(Config { epoch, members }));
        }
    }

    pub(super) fn wish(&mut self, id: Id, current: &[Id]) -> Vec<Id> {
        let view: Vec<Id> = self.node(id).view.iter().copied().collect();
        let mut members = current.to_vec();
        let k = if view.len() >= self.k { self.k } else { 1 };
        let spare = |members: &[Id]| -> Vec<Id> {
            view.iter()
                .copied()
                .filter(|v| !members.contains(v))
                .collect()
        };
        if members.len() < k {
            while members.len() < k && !spare(&members).is_empty() {
                members.push(self.rng.pick(&spare(&members)));
            }
            if members.len().is_multiple_of(2) {
                members.pop();
            }
        } else if members.len() > self.k && self.rng.chance(50) {
            members.truncate(self.k);
        } else {
            // One replacement, sometimes two: of who seems gone, or of anybody.
            for _ in 0..self.rng.pick(&[1, 1, 1, 2]) {
                let gone = members.iter().position(|m| !view.contains(m));
                let any = usize::try_from(self.rng.below(members.len() as u64)).unwrap();
                let fresh = spare(&members);
                if !fresh.is_empty() {
                    members[gone.unwrap_or(any)] = self.rng.pick(&fresh);
                }
            }
        }
        members
    }

    /// A leader is asked for a read now and then.
    pub(super) fn read(&mut self, id: Id) {
        if !self.rng.chance(20) {
            return;
        }
        let least = self.checks.top();
        let node = self.node(id);
        let ticket = node
            .seat
            .group_mut()
            .and_then(|group| group.confirm(&mut Vec::new()));
        if let Some(ticket) = ticket {
            node.tickets.insert(ticket, least);
            self.with(id, |_, _| {});
        }
    }

    pub(super) fn client(&mut self, id: Id) {
        let gap = 10 + self.rng.below(40);
        self.at(self.now + gap, Event::Client(id));
        if !self.node(id).is_up {
            return;
        }
        if !self.is_healed && self.rng.chance(40) && self.node(id).wanted < PUTS {
            self.node(id).wanted += 1;
        }
        let node = self.node(id);
        if node.done == node.wanted {
            return;
        }
        // A few at a time, so that tails are longer than one.
        let (first, last) = (node.done + 1, node.wanted.min(node.done + 4));
        let members = node.map.members.clone();
        let hint = node.hint;
        let to = if members.contains(&hint) && self.rng.chance(80) {
            hint
        } else {
            self.rng.pick(&members)
        };
        for n in first..=last {
            self.send(id, to, Letter::Put { origin: id, n });
        }
    }
}
