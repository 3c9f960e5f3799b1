//! Which node an actor is to live on: one that meets its requirements, that of the actor it is to
//! be near, or else the first of its own order that has room.
//!
//! Each name has an order of the nodes (rendezvous hashing, Thaler and Ravishankar 1998), and each
//! node takes so many more actors than the mean ([`room`]): "Consistent Hashing with Bounded
//! Loads" (Mirrokni, Thorup, Zadimoghaddam 2018). Loads are counted in this node's replica of the
//! registry, once a second, and those that it starts itself at once: many nodes that start actors
//! in the same second may go beyond the bound by what the others started in it.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::{Member, NodeId};
use cpe_mesh::{ActorInfo, PeerInfo, meets};

use tokio::time::Instant;

use super::{ActorsError, Inner, SpawnOptions, lock};
use crate::SpaceError;

/// Capability by which a node names the kinds it can run, comma-separated.
pub(crate) const KINDS: &str = "kinds";

/// Capability of a node that is on its way out.
const DRAINING: &str = "draining";

/// For how long actors that were counted need not be counted again.
const COUNTED_FOR: Duration = Duration::from_secs(1);

/// Actors by the node that hosts them.
#[derive(Debug, Default)]
pub(super) struct Loads {
    counted: Option<Instant>,
    of: BTreeMap<NodeId, usize>,
}

impl Inner {
    /// Chooses the node for an actor, and counts it there.
    pub(super) async fn place(
        &self,
        peers: &[PeerInfo],
        actor: &str,
        kind: &str,
        options: &SpawnOptions,
        until: Instant,
    ) -> Result<Member, ActorsError> {
        if let Some(node) = &options.node {
            let host = able(peers, node, &options.require).map_err(|why| {
                let actor = actor.to_owned();
                ActorsError::NoSuchNode { actor, why }
            })?;
            *lock(&self.loads).of.entry(host.node).or_default() += 1;
            return Ok(host);
        }
        let now = Instant::now();
        let counted = lock(&self.loads).counted;
        if counted.is_none_or(|at| at + COUNTED_FOR <= now) {
            let of = self.count(peers).await?;
            *lock(&self.loads) = Loads {
                counted: Some(now),
                of,
            };
        }
        let near = match &options.near {
            // It may have been started a moment ago.
            Some(near) => {
                let lives = |record: Option<&ActorInfo>| record.is_some_and(|it| it.host.is_some());
                let record = self.record_that(near, until, lives).await?;
                record.and_then(|record| record.host)
            }
            None => None,
        };
        let near = near.map(|host| host.node);
        let mut loads = lock(&self.loads);
        let host = placed(peers, &loads.of, near, actor, kind, &options.require)?;
        *loads.of.entry(host.node).or_default() += 1;
        Ok(host)
    }

    async fn count(&self, peers: &[PeerInfo]) -> Result<BTreeMap<NodeId, usize>, SpaceError> {
        let mut of = BTreeMap::new();
        let all = self.all().await?;
        for (host, leased) in all.iter().filter_map(|it| Some((it.host?, it.leased))) {
            let lives =
                |peer: &&PeerInfo| peer.node == host.node && (leased || peer.inc == host.inc);
            if peers.iter().any(|peer| lives(&peer)) {
                *of.entry(host.node).or_default() += 1;
            }
        }
        Ok(of)
    }
}

/// The live node that is meant, or why there is none.
pub(super) fn named(peers: &[PeerInfo], node: &str) -> Result<Member, String> {
    let meant: Vec<_> = peers.iter().filter(|it| is_meant(it, node)).collect();
    let alive: Vec<_> = meant.iter().filter(|peer| is_alive(peer)).collect();
    match (alive.as_slice(), meant.first()) {
        ([one], _) => Ok(member(one)),
        ([], Some(gone)) => Err(format!("`{node}` is {}", gone.state)),
        ([], None) => {
            let known: Vec<_> = peers
                .iter()
                .take(8)
                .map(|peer| peer.name.as_str())
                .collect();
            Err(format!(
                "none has the name, node id or peer id `{node}`; there are {}",
                known.join(", ")
            ))
        }
        _ => Err(format!(
            "{} nodes are called `{node}`; give a node id",
            alive.len()
        )),
    }
}

/// Whether a text names a node: by its name, node id or peer id.
pub(super) fn is_meant(peer: &PeerInfo, node: &str) -> bool {
    peer.name == node || peer.peer == node || node.parse::<NodeId>() == Ok(peer.node)
}

/// Whether a node is on its way out.
pub(super) fn is_draining(peer: &PeerInfo) -> bool {
    peer.capabilities.contains_key(DRAINING)
}

/// How many actors a node may have before others are preferred: a quarter more than the mean, with
/// the one that is to be placed.
fn room(actors: usize, nodes: usize) -> usize {
    (5 * (actors + 1)).div_ceil(4 * nodes.max(1))
}

fn placed(
    peers: &[PeerInfo],
    loads: &BTreeMap<NodeId, usize>,
    near: Option<NodeId>,
    actor: &str,
    kind: &str,
    require: &BTreeMap<String, String>,
) -> Result<Member, ActorsError> {
    let able = peers.iter().filter(|peer| {
        is_alive(peer)
            && peer.linked
            && !is_draining(peer)
            && runs(peer, kind)
            && meets(&peer.capabilities, require)
    });
    let able: Vec<_> = able.collect();
    let load = |peer: &PeerInfo| loads.get(&peer.node).copied().unwrap_or_default();
    let room = room(able.iter().map(|peer| load(peer)).sum(), able.len());
    let there = able.iter().find(|peer| Some(peer.node) == near);
    let first = able.iter().filter(|peer| load(peer) < room);
    let first = first.max_by_key(|peer| weight(actor, peer.node));
    there.or(first).map(|peer| member(peer)).ok_or_else(|| {
        let wanted = if require.is_empty() {
            String::new()
        } else {
            format!(" and has {}", shown(require))
        };
        ActorsError::NoSuchNode {
            actor: actor.to_owned(),
            why: format!("none that can be reached runs the kind `{kind}`{wanted}"),
        }
    })
}

fn shown(require: &BTreeMap<String, String>) -> String {
    let pairs = require.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

/// The live node that is meant, if it has what is required.
fn able(
    peers: &[PeerInfo],
    node: &str,
    require: &BTreeMap<String, String>,
) -> Result<Member, String> {
    let host = named(peers, node)?;
    let peer = peers.iter().find(|peer| peer.node == host.node);
    if peer.is_some_and(|peer| meets(&peer.capabilities, require)) {
        return Ok(host);
    }
    Err(format!("`{node}` does not have {}", shown(require)))
}

pub(super) fn is_alive(peer: &PeerInfo) -> bool {
    peer.state == "alive" || peer.state == "suspect"
}

/// Whether a node has said that it runs the kind; one that says nothing is believed to.
fn runs(peer: &PeerInfo, kind: &str) -> bool {
    peer.capabilities
        .get(KINDS)
        .is_none_or(|kinds| kinds.split(',').any(|one| one == kind))
}

fn member(peer: &PeerInfo) -> Member {
    Member {
        node: peer.node,
        inc: peer.inc,
    }
}

pub(super) fn weight(actor: &str, node: NodeId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&node.0.to_be_bytes());
    hasher.update(actor.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use cpe_membership::Incarnation;

    use super::*;

    fn peer(node: u64) -> PeerInfo {
        PeerInfo {
            node: NodeId(node),
            inc: Incarnation(1),
            name: format!("n{node}"),
            peer: String::new(),
            state: "alive",
            linked: true,
            addresses: Vec::new(),
            capabilities: BTreeMap::new(),
        }
    }

    #[test]
    fn names_spread_evenly_and_a_new_node_takes_its_share_and_moves_no_other() {
        const NAMES: usize = 5_000;
        let nodes: Vec<_> = (1..=5).map(peer).collect();
        let more: Vec<_> = (1..=6).map(peer).collect();
        let host = |peers: &[PeerInfo], name: usize| {
            let name = format!("actor-{name}");
            placed(
                peers,
                &BTreeMap::new(),
                None,
                &name,
                "echo",
                &BTreeMap::new(),
            )
            .unwrap()
            .node
        };
        let mut counts = BTreeMap::<NodeId, usize>::new();
        let mut moved = 0;
        for name in 0..NAMES {
            let (before, after) = (host(&nodes, name), host(&more, name));
            *counts.entry(before).or_default() += 1;
            if after != before {
                assert_eq!(after, NodeId(6));
                moved += 1;
            }
        }
        // A tenth is more than three standard deviations of such a share.
        let share = NAMES / 5;
        for (node, count) in counts {
            assert!(count.abs_diff(share) < share / 10, "{count} on {node}");
        }
        let share = NAMES / 6;
        assert!(
            moved > share - share / 8 && moved < share + share / 8,
            "{moved}"
        );
    }

    #[test]
    fn no_node_gets_more_than_a_quarter_more_than_the_mean_and_an_empty_one_is_filled_first() {
        let nodes: Vec<_> = (1..=5).map(peer).collect();
        let mut loads = BTreeMap::from([(NodeId(1), 400), (NodeId(2), 50)]);
        let mut placed_now = BTreeMap::<NodeId, usize>::new();
        for name in 0..300 {
            let name = format!("actor-{name}");
            let host = placed(&nodes, &loads, None, &name, "echo", &BTreeMap::new());
            let host = host.unwrap().node;
            *loads.entry(host).or_default() += 1;
            *placed_now.entry(host).or_default() += 1;
            let mean = loads.values().sum::<usize>() as f64 / 5.0;
            assert!(loads[&host] as f64 <= (1.25 * mean).ceil(), "{loads:?}");
        }
        assert_eq!(placed_now.get(&NodeId(1)), None);
        assert!(
            placed_now[&NodeId(2)] < placed_now[&NodeId(3)],
            "{placed_now:?}"
        );
    }

    #[test]
    fn an_actor_is_placed_near_another_if_that_ones_node_is_able() {
        let mut nodes: Vec<_> = (1..=3).map(peer).collect();
        nodes[2]
            .capabilities
            .insert("gpu".to_owned(), "yes".to_owned());
        let loads = BTreeMap::from([(NodeId(2), 1_000)]);
        let gpu = BTreeMap::from([("gpu".to_owned(), "yes".to_owned())]);
        let host = |near, require: &BTreeMap<_, _>| {
            let host = placed(&nodes, &loads, near, "a", "echo", require);
            host.unwrap().node
        };
        assert_eq!(host(Some(NodeId(2)), &BTreeMap::new()), NodeId(2));
        assert_eq!(host(Some(NodeId(2)), &gpu), NodeId(3));
        assert_ne!(host(Some(NodeId(9)), &BTreeMap::new()), NodeId(2));
    }

    #[test]
    fn a_named_node_must_have_what_is_required_and_a_capability_may_be_a_list() {
        let mut nodes: Vec<_> = (1..=2).map(peer).collect();
        nodes[0]
            .capabilities
            .insert("role".to_owned(), "x,y".to_owned());
        let role = |role: &str| BTreeMap::from([("role".to_owned(), role.to_owned())]);
        let found = able(&nodes, "n1", &role("y")).unwrap();
        assert_eq!(found.node, NodeId(1));
        let lacks = able(&nodes, "n2", &role("y")).unwrap_err();
        assert_eq!(lacks, "`n2` does not have role=y");
        let placed = placed(&nodes, &BTreeMap::new(), None, "a", "echo", &role("x"));
        assert_eq!(placed.unwrap().node, NodeId(1));
    }
}
