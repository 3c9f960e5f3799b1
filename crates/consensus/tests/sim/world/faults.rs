//! What goes wrong.

use cpe_consensus::{Held, Seat};

use super::super::replica::Id;
use super::{Event, NODES, World};

impl World {
    pub(super) fn fault(&mut self) {
        if self.is_healed {
            return;
        }
        let next = self.now + 50 + self.rng.below(self.pause);
        self.at(next, Event::Fault);
        let some = self.victim();
        let other = Id::try_from(self.rng.below(u64::from(NODES))).unwrap();
        match self.rng.below(14) {
            0 | 1 => {
                for side in &mut self.side {
                    *side = u8::try_from(self.rng.below(2)).unwrap();
                }
            }
            2 | 3 => {
                self.side.fill(0);
                self.one_way.clear();
            }
            4 => {
                self.one_way.insert((some, other));
                if self.rng.chance(50) {
                    self.one_way.insert((other, some));
                }
            }
            5 | 6 => self.crash(some),
            // A short outage: only what was not on disk is gone.
            7 | 8 => {
                self.crash(some);
                self.start(some);
            }
            // Nobody hears everybody, but word gets around.
            9 | 10 => {
                let percent = self.rng.pick(&[20, 40]);
                self.one_way.clear();
                for pair in 0..NODES * NODES {
                    if self.rng.chance(percent) {
                        self.one_way.insert((pair / NODES, pair % NODES));
                    }
                }
            }
            11 => self.side[usize::from(some)] ^= 1,
            _ => {
                for id in 0..NODES {
                    if self.rng.chance(70) {
                        self.start(id);
                    }
                }
            }
        }
    }

    /// Leaders have more accidents than others.
    pub(super) fn victim(&mut self) -> Id {
        let leads = |id: &Id| {
            let node = &self.nodes[usize::from(*id)];
            let group = node.seat.group();
            node.is_up && group.is_some_and(cpe_consensus::Group::is_leader)
        };
        let leaders: Vec<Id> = (0..NODES).filter(leads).collect();
        if leaders.is_empty() || self.rng.chance(50) {
            return Id::try_from(self.rng.below(u64::from(NODES))).unwrap();
        }
        self.rng.pick(&leaders)
    }

    pub(super) fn crash(&mut self, id: Id) {
        if self.node(id).is_up {
            self.tally.crashes += 1;
            let mut rng = self.rng.clone();
            let node = self.node(id);
            node.is_up = false;
            node.life += 1;
            node.disk.crash(&mut rng);
            self.rng = rng;
        }
    }

    pub(super) fn start(&mut self, id: Id) {
        let node = &mut self.nodes[usize::from(id)];
        if node.is_up {
            return;
        }
        node.is_up = true;
        let durable = &node.disk.durable;
        let state = durable.state.clone();
        let held = Held {
            epoch: state.config.epoch,
            index: state.index,
        };
        let members = state.config.members.clone();
        let seat = match durable.hard {
            Some(hard) => Seat::restore(id, hard, held, members, durable.tail(), 0),
            None => Seat::new(id),
        };
        node.seat = (self.equip)(seat);
        node.feed.clear();
        node.feed_base = state.index;
        node.map = state.config.clone();
        node.saved = state.clone();
        node.state = state;
        node.replies.clear();
        node.proposed.clear();
        node.tickets.clear();
        self.settle(id);
    }

    pub(super) fn heal(&mut self) {
        self.is_healed = true;
        self.loss = 0;
        self.side.fill(0);
        self.one_way.clear();
        for id in 0..NODES {
            self.start(id);
        }
    }
}
