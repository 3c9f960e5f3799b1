//! Heartbeats between the members of home groups (rule R1): one exchange per pair of nodes and
//! round serves all groups they share, and carries only what has changed.

use std::collections::{BTreeMap, BTreeSet};

use cpe_consensus::{Group, Heartbeat};
use cpe_membership::{Member, NodeId};
use cpe_space::ShardId;

use crate::guard::{Guard, holds};
use crate::peer::{Peer, Timer};
use crate::wire::Message;

/// Bits of a version that count changes; those above name the start of the node, so that no
/// version of an earlier start is taken for one of this.
const CHANGES_BITS: u32 = 40;

/// What a node knows of another one's part in the groups they share.
#[derive(Debug, Default)]
struct Known {
    /// Version of the newest answer.
    version: u64,
    groups: BTreeMap<ShardId, (u64, Heartbeat<Member>)>,
}

/// The state of the exchange.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    round: u64,
    /// Who has answered this round.
    answered: BTreeSet<NodeId>,
    known: BTreeMap<NodeId, Known>,
    /// Counts changes of this node's own groups.
    changes: u64,
}

/// This node's own heartbeat in one group as it was last looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    epoch: u64,
    /// None once it takes no part any more.
    heartbeat: Option<Heartbeat<Member>>,
    /// The change that brought it.
    change: u64,
}

impl Peer {
    /// Ends a round of heartbeats and begins the next.
    pub(crate) fn beat(&mut self) {
        self.timers
            .set(Timer::Heartbeat, self.now + self.config.heartbeat);
        let mut peers: BTreeSet<NodeId> = BTreeSet::new();
        for shard in self.all_shards() {
            let Some(slot) = self.slot_ref(shard) else {
                continue;
            };
            let Some(group) = slot.seat.group() else {
                continue;
            };
            let others = group.members().iter().filter(|member| **member != slot.me);
            let mut replies = Vec::new();
            for member in others {
                peers.insert(member.node);
                if (self.heartbeats.answered.contains(&member.node) || !holds(Guard::ThisRound))
                    && let Some(known) = self.heartbeats.known.get(&member.node)
                    && let Some((epoch, heartbeat)) = known.groups.get(&shard)
                    && *epoch == group.epoch()
                {
                    replies.push((*member, *heartbeat));
                }
            }
            self.with_group(shard, |group, out| group.tick(&replies, out));
            self.proposed.insert(shard);
        }
        self.heartbeats.known.retain(|node, _| peers.contains(node));
        self.heartbeats.answered.clear();
        self.heartbeats.round += 1;
        let round = self.heartbeats.round;
        for node in peers {
            let have = self.heartbeats.known.entry(node).or_default().version;
            self.send_if(node, Message::HbReq { round, have });
        }
    }

    pub(crate) fn serve_heartbeat(&mut self, from: NodeId, round: u64, have: u64) {
        // A node whose disk was lost counts its starts anew, in another life.
        let life = self.me.inc.0.wrapping_mul(0x9E37_79B1) ^ self.session.boot;
        let start = u64::from(life & 0x00FF_FFFF) << CHANGES_BITS;
        let since = if have >> CHANGES_BITS == start >> CHANGES_BITS {
            have
        } else {
            0
        };
        let mut groups = Vec::new();
        let mut changes = self.heartbeats.changes;
        for slot in &mut self.slots {
            let group = slot.seat.group();
            if group.is_none() && slot.shown.is_none() {
                continue;
            }
            let over = slot.shard.version().epoch;
            let epoch = group.map_or(over, Group::epoch);
            let heartbeat = group.map(Group::heartbeat);
            let same = slot
                .shown
                .filter(|shown| shown.epoch == epoch && shown.heartbeat == heartbeat);
            let change = match same {
                Some(shown) => shown.change,
                None => {
                    changes += 1;
                    changes
                }
            };
            slot.shown = Some(Shown {
                epoch,
                heartbeat,
                change,
            });
            // The next group may be without the one who asks, or without this node: whoever counts
            // on it in the last one must hear that it is gone, or leads there for ever.
            if start + change > since {
                groups.push((slot.shard.id(), epoch, heartbeat));
            }
        }
        self.heartbeats.changes = changes;
        let version = start + changes;
        self.send_if(
            from,
            Message::HbRep {
                round,
                since,
                version,
                groups,
            },
        );
    }

    pub(crate) fn heartbeat_answered(
        &mut self,
        from: NodeId,
        round: u64,
        (since, version): (u64, u64),
        groups: Vec<(ShardId, u64, Option<Heartbeat<Member>>)>,
    ) {
        let Some(known) = self.heartbeats.known.get_mut(&from) else {
            return;
        };
        // An answer that builds on more than is known here, or on less than a newer one did.
        let restarted = version >> CHANGES_BITS != known.version >> CHANGES_BITS;
        if since > known.version || (!restarted && version < known.version) {
            return;
        }
        if restarted {
            known.groups.clear();
        }
        known.version = version;
        // What did not change was dealt with when it came.
        let epochs: Vec<(ShardId, u64)> = groups.iter().map(|(s, epoch, _)| (*s, *epoch)).collect();
        for (shard, epoch, heartbeat) in groups {
            match heartbeat {
                Some(heartbeat) => known.groups.insert(shard, (epoch, heartbeat)),
                None => known.groups.remove(&shard),
            };
        }
        if round == self.heartbeats.round {
            self.heartbeats.answered.insert(from);
        }
        for (shard, epoch) in epochs {
            let Some(slot) = self.slot_ref(shard) else {
                continue;
            };
            let own = slot.shard.version();
            if slot.is_foreign(epoch) {
                continue;
            }
            if epoch > own.epoch {
                self.pull_from(shard, from, own.index + 1);
            } else if slot
                .seat
                .group()
                .is_some_and(|own: &Group<_, _>| own.epoch() > epoch)
            {
                self.tell_epoch(from, shard);
            }
        }
    }
}
