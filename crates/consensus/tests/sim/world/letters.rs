//! What a node does with a letter.

use super::super::replica::{Command, Id, Proposal};
use super::{Letter, NODES, World};

impl World {
    pub(super) fn deliver(&mut self, from: Id, to: Id, letter: Letter) {
        match letter {
            Letter::Group(epoch, message) => {
                if self.is_in(from, to, epoch) {
                    self.with(to, |group, out| group.receive(from, message, out));
                }
            }
            Letter::Ask { epoch, round } => {
                if self.is_in(from, to, epoch) {
                    let heartbeat = self.node(to).seat.group().unwrap().heartbeat();
                    let answer = Letter::Answer {
                        epoch,
                        round,
                        heartbeat,
                    };
                    self.send(to, from, answer);
                }
            }
            Letter::Answer {
                epoch,
                round,
                heartbeat,
            } => {
                let node = self.node(to);
                let is_ours = node
                    .seat
                    .group()
                    .is_some_and(|group| group.epoch() == epoch);
                if is_ours && node.round == round {
                    node.replies.push((from, heartbeat));
                }
            }
            Letter::Map(config) => {
                self.hear(to, config);
                self.settle(to);
                self.want_state(to);
            }
            Letter::StateWanted { index } => self.feed(from, to, index),
            Letter::State(state) => {
                self.tally.states += 1;
                self.checks.installed(&state);
                if state.index > self.node(to).state.index {
                    let config = state.config.clone();
                    let node = self.node(to);
                    node.feed.clear();
                    node.feed_base = state.index;
                    node.state = state;
                    self.hear(to, config);
                    self.save(to);
                }
            }
            Letter::Feed { after, entries } => self.fed(to, after, entries),
            Letter::Put { origin, n } => self.put(to, origin, n),
            Letter::Done { upto } => {
                let node = self.node(to);
                node.hint = from;
                node.done = node.done.max(upto);
            }
        }
    }

    /// Whether a letter of an epoch is for this node's group. If not, one of the two is behind.
    pub(super) fn is_in(&mut self, from: Id, to: Id, epoch: u64) -> bool {
        let node = self.node(to);
        let own = node.seat.group().map(|group| group.epoch());
        if own == Some(epoch) {
            return true;
        }
        let index = node.state.index;
        let map = node.map.clone();
        if epoch > map.epoch {
            self.send(to, from, Letter::StateWanted { index });
        } else if epoch < map.epoch {
            self.send(to, from, Letter::Map(map));
        }
        false
    }

    /// A member of the newest epoch that does not have its state asks for it.
    pub(super) fn want_state(&mut self, id: Id) {
        let node = self.node(id);
        let index = node.state.index;
        if node.map.epoch > node.state.config.epoch && node.map.members.contains(&id) {
            let to = Id::try_from(self.rng.below(u64::from(NODES))).unwrap();
            self.send(id, to, Letter::StateWanted { index });
        }
    }

    pub(super) fn feed(&mut self, from: Id, to: Id, index: u64) {
        let node = self.node(to);
        if node.state.index <= index {
            return;
        }
        let skip = index.checked_sub(node.feed_base);
        let letter = match skip {
            Some(skip) => Letter::Feed {
                after: index,
                entries: node
                    .feed
                    .iter()
                    .skip(usize::try_from(skip).unwrap())
                    .take(16)
                    .cloned()
                    .collect(),
            },
            None => Letter::State(node.state.clone()),
        };
        self.send(to, from, letter);
    }

    pub(super) fn fed(&mut self, id: Id, after: u64, entries: Vec<Proposal>) {
        let mut is_new = false;
        for (index, entry) in (after + 1..).zip(entries) {
            let node = self.node(id);
            if index == node.state.index + 1 {
                node.state.apply(&entry);
                node.feed.push(entry.clone());
                is_new = true;
                let state = node.state.clone();
                self.checks.installed(&state);
                if let Command::Seal(config) = entry.command {
                    self.hear(id, config);
                }
            }
        }
        if is_new {
            self.save(id);
        }
    }

    pub(super) fn put(&mut self, id: Id, origin: Id, n: u64) {
        let node = self.node(id);
        let upto = node.state.puts_of(origin);
        let Some(group) = node.seat.group() else {
            let map = node.map.clone();
            return self.send(id, origin, Letter::Map(map));
        };
        if !group.is_leader() {
            if let Some(leader) = group.leader().filter(|leader| *leader != id) {
                self.node(origin).hint = leader;
            }
            return;
        }
        if n <= upto {
            return self.send(id, origin, Letter::Done { upto });
        }
        let next = node.proposed.get(&origin).copied().unwrap_or(0).max(upto) + 1;
        if n == next && self.propose(id, Command::Put { origin, n }) {
            self.node(id).proposed.insert(origin, n);
        }
    }
}
