//! Which durable actors are to live on another node: decided from what a node's replica shows, and
//! nothing else.
//!
//! Two reasons move an actor: its node no longer has what the actor needs ([`View::must_go`]), or a
//! node has come and could take some of the load ([`View::even`]). The load of a node is the number
//! of durable actors that it runs. Every node works out the same plan from the same view and does
//! the moves of its own actors; a move always goes to a node that has at least two fewer, so each
//! makes the loads more even, and no sequence of them comes back to where it was.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::meets;

use super::place::weight;

/// How long the nodes of a mesh must have stayed the same before actors are spread over them: a
/// mesh that is started, or a node that comes and goes, is waited for.
pub(super) const SETTLE: Duration = Duration::from_secs(3);

/// Looks without any progress after which spreading is given up, until a node comes: who is to hand
/// on may not want to.
const LOOKS_MAX: u32 = 30;

/// A node as a place for durable actors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) node: NodeId,
    /// Alive, within reach and not on its way out.
    pub(super) takes: bool,
    pub(super) capabilities: BTreeMap<String, String>,
}

/// A durable actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) name: String,
    pub(super) host: NodeId,
    /// Which of the [`View::needs`] are its own.
    pub(super) class: usize,
    /// It was started for the node where it is, or to be near an actor there: its load counts, and
    /// it is not moved for balance.
    pub(super) stays: bool,
}

/// An actor and where it is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) name: String,
    pub(super) to: NodeId,
}

/// What a node sees of the durable actors of its mesh.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) hosts: Vec<Host>,
    /// The different requirements that actors have.
    pub(super) needs: Vec<BTreeMap<String, String>>,
    pub(super) guests: Vec<Guest>,
}

/// What [`View::even`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evening {
    /// The moves of this node's actors, the most useful first.
    pub(super) own: Vec<Move>,
    /// Whether any node has anything to move.
    pub(super) any: bool,
    /// How uneven the loads are: less with each move. The sum of their squares.
    pub(super) uneven: usize,
}

impl View {
    /// Durable actors by the node that runs them.
    fn loads(&self) -> BTreeMap<NodeId, usize> {
        let mut loads: BTreeMap<NodeId, usize> =
            self.hosts.iter().map(|host| (host.node, 0)).collect();
        for guest in &self.guests {
            *loads.entry(guest.host).or_default() += 1;
        }
        loads
    }

    /// For each of the needs, the nodes that meet them and take actors.
    fn able(&self) -> Vec<Vec<NodeId>> {
        let able = |needs| {
            let meets = |host: &&Host| host.takes && meets(&host.capabilities, needs);
            self.hosts.iter().filter(meets).map(|it| it.node).collect()
        };
        self.needs.iter().map(able).collect()
    }

    /// The actors of this node that it should not run: it does not meet their needs, or takes no
    /// actors any more. Each with the node that fits best: the one with the fewest actors, of
    /// equals the first in the order in which nodes claim what a dead one left (rule A3). Those
    /// that nobody can take are named apart.
    pub(super) fn must_go(&self, me: NodeId) -> (Vec<Move>, Vec<String>) {
        let able = self.able();
        let mut loads = self.loads();
        let (mut moves, mut stuck) = (Vec::new(), Vec::new());
        for guest in self.guests.iter().filter(|guest| guest.host == me) {
            let Some(able) = able.get(guest.class) else {
                continue;
            };
            if able.contains(&me) {
                continue;
            }
            let load = |node: &NodeId| loads.get(node).copied().unwrap_or_default();
            let order = |node: &&NodeId| (load(node), Reverse(weight(&guest.name, **node)));
            match able.iter().min_by_key(order).copied() {
                Some(to) => {
                    *loads.entry(to).or_default() += 1;
                    let name = guest.name.clone();
                    moves.push(Move { name, to });
                }
                None => stuck.push(guest.name.clone()),
            }
        }
        (moves, stuck)
    }

    /// Moves that make the loads even, as far as needs let them: again and again one actor of the
    /// node and to the node between which the difference is largest, while that is two or more. At
    /// most `own_max` of this node's actors.
    pub(super) fn even(&self, me: NodeId, own_max: usize) -> Evening {
        let able = self.able();
        let mut loads = self.loads();
        let fits = |class: usize, node| able.get(class).is_some_and(|it| it.contains(&node));
        // By node and class, those that may be moved. One that does not fit where it is has to go
        // anyhow.
        let mut movable: BTreeMap<(NodeId, usize), Vec<&str>> = BTreeMap::new();
        for guest in &self.guests {
            if !guest.stays && fits(guest.class, guest.host) {
                let of = movable.entry((guest.host, guest.class)).or_default();
                of.push(&guest.name);
            }
        }
        // Loads as this node's own moves alone make them: the others may be slower.
        let mut alone = loads.clone();
        let takers: Vec<NodeId> = self
            .hosts
            .iter()
            .filter(|it| it.takes)
            .map(|it| it.node)
            .collect();
        let mut evening = Evening {
            uneven: loads.values().map(|load| load * load).sum(),
            ..Evening::default()
        };
        // A bound for what one look costs: the moves of all, while each makes as many.
        for _ in 0..=own_max * takers.len() {
            if evening.own.len() >= own_max {
                break;
            }
            let load = |node: &NodeId| loads.get(node).copied().unwrap_or_default();
            let steps = movable.iter().filter(|(_, names)| !names.is_empty());
            let steps = steps.flat_map(|((from, class), names)| {
                let to = takers.iter().filter(|to| fits(*class, **to));
                to.map(move |to| (*from, *to, *class, names.len()))
            });
            let best = steps
                .filter(|(from, to, ..)| load(from) >= load(to) + 2)
                .max_by_key(|(from, to, class, count)| {
                    let far = load(from) - load(to);
                    (far, *count, Reverse(*from), Reverse(*to), Reverse(*class))
                });
            let Some((from, to, class, _)) = best else {
                break;
            };
            let Some(names) = movable.get_mut(&(from, class)) else {
                break;
            };
            let load = |node: &NodeId| alone.get(node).copied().unwrap_or_default();
            if from != me || load(&me) < load(&to) + 2 {
                // One of its own that would follow others' is there again when they are done.
                names.pop();
            } else {
                // The one that would have been placed there first.
                let first = names.iter().enumerate();
                let first = first.max_by_key(|(_, name)| weight(name, to));
                let Some((at, _)) = first else { break };
                let name = names.swap_remove(at).to_owned();
                evening.own.push(Move { name, to });
                *alone.entry(me).or_default() -= 1;
                *alone.entry(to).or_default() += 1;
            }
            *loads.entry(from).or_default() -= 1;
            *loads.entry(to).or_default() += 1;
            evening.any = true;
        }
        evening
    }
}

/// When actors are to be spread: from some time after a node has come, until they are.
#[derive(Debug, Default)]
pub(super) struct Occasion {
    /// The nodes that take actors, with what they can, as they were last seen.
    known: BTreeMap<NodeId, BTreeMap<String, String>>,
    /// When to begin.
    due: Option<Duration>,
    /// The least uneven that the loads were, and for how many looks they have not become less so.
    least: Option<(usize, u32)>,
}

impl Occasion {
    /// Takes in which nodes there are; whether it is time to spread actors over them.
    pub(super) fn see(&mut self, now: Duration, hosts: &[Host]) -> bool {
        let takers = hosts.iter().filter(|host| host.takes);
        let seen: BTreeMap<_, _> = takers
            .map(|host| (host.node, host.capabilities.clone()))
            .collect();
        // One that goes leaves its actors to others by itself, and can take no more.
        let gained = seen
            .iter()
            .any(|(node, has)| self.known.get(node) != Some(has));
        self.known = seen;
        if gained {
            self.due = Some(now + SETTLE);
            self.least = None;
        }
        self.due.is_some_and(|due| due <= now)
    }

    /// What the last look had.
    pub(super) fn looked(&mut self, evening: &Evening) {
        let looks = match self.least {
            Some((least, looks)) if evening.uneven >= least => looks + 1,
            _ => 0,
        };
        let least = self.least.map_or(usize::MAX, |(least, _)| least);
        self.least = Some((least.min(evening.uneven), looks));
        if !evening.any || looks >= LOOKS_MAX {
            self.due = None;
            self.least = None;
        }
    }
}

#[cfg(test)]
mod tests;
