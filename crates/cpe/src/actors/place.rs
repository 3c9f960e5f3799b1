//! Which node an actor is to live on.

use std::collections::BTreeMap;

use cpe_membership::{Member, NodeId};
use cpe_mesh::PeerInfo;

use super::ActorsError;

/// Capability by which a node names the kinds it can run, comma-separated.
pub(crate) const KINDS: &str = "kinds";

/// Capability of a node that is on its way out.
const DRAINING: &str = "draining";

/// Chooses the node for an actor: the one named, or among those that meet all requirements the
/// one with the highest weight for this name. Equal views choose equally, and names spread evenly
/// (rendezvous hashing, Thaler and Ravishankar 1998).
pub(crate) fn choose(
    peers: &[PeerInfo],
    actor: &str,
    kind: &str,
    node: Option<&str>,
    require: &BTreeMap<String, String>,
) -> Result<Member, ActorsError> {
    match node {
        Some(node) => named(peers, node).map_err(|why| ActorsError::NoSuchNode {
            actor: actor.to_owned(),
            why,
        }),
        None => placed(peers, actor, kind, require),
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

fn placed(
    peers: &[PeerInfo],
    actor: &str,
    kind: &str,
    require: &BTreeMap<String, String>,
) -> Result<Member, ActorsError> {
    let able = peers.iter().filter(|peer| {
        is_alive(peer)
            && peer.linked
            && !is_draining(peer)
            && runs(peer, kind)
            && require
                .iter()
                .all(|(key, value)| peer.capabilities.get(key) == Some(value))
    });
    let best = able.max_by_key(|peer| weight(actor, peer.node));
    best.map(member).ok_or_else(|| {
        let wanted: Vec<_> = require
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let wanted = if wanted.is_empty() {
            String::new()
        } else {
            format!(" and has {}", wanted.join(", "))
        };
        ActorsError::NoSuchNode {
            actor: actor.to_owned(),
            why: format!("none that can be reached runs the kind `{kind}`{wanted}"),
        }
    })
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
            placed(peers, &name, "echo", &BTreeMap::new()).unwrap().node
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
}
