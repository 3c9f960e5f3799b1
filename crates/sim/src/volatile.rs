//! Volatile workspaces in a run: which variables they have, and what may be gone from them.
//!
//! Nothing excuses a tuple that is handed out twice. A tuple that is gone is excused if, and only
//! if, it was acknowledged in a generation of its shard that is over, and a generation may be over
//! only once the majority of its home group has ended.

use std::collections::BTreeSet;

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_mesh::{Failure, Genesis, Peer, Reply};
use cpe_space::{Name, ShardId, generation_of};
use cpe_tuple::Value;

use crate::check::Violation;
use crate::scenario::Scenario;
use crate::work::WORKSPACE;
use crate::world::World;

/// The volatile counterpart of [`WORKSPACE`].
pub(crate) const SCRATCH: &str = "tmp:w";

impl Scenario {
    /// The mesh as this member founds it.
    pub(crate) fn genesis(&self, founder: Member) -> Genesis {
        Genesis {
            mesh: "simulated".to_owned(),
            shards: self.shards,
            volatile: self.volatile,
            founder,
            group_size: u8::try_from(self.homes).unwrap_or(Genesis::GROUP_SIZE),
        }
    }

    /// The mesh as its first node founds it.
    pub(crate) fn founded(&self) -> Genesis {
        self.genesis(Member {
            node: NodeId(1),
            inc: Incarnation(1),
        })
    }

    /// Shards of both kinds, durable ones first.
    pub(crate) fn all_shards(&self) -> u16 {
        self.shards.saturating_add(self.volatile)
    }
}

impl World {
    /// The workspace of a variable.
    pub(crate) fn workspace_of(&mut self, number: u32) -> &'static str {
        if self.scenario.volatile == 0 || number.is_multiple_of(2) {
            return WORKSPACE;
        }
        self.record.set_apart(format!("v{number}"));
        SCRATCH
    }

    /// True for a member that is the node as it is now: in its life, or in a volatile shard in its
    /// start. A node that is down may still come back in its life, and not in its start.
    pub(crate) fn is_current(&self, shard: u16, member: Member) -> bool {
        self.nodes.iter().any(|node| {
            if shard < self.scenario.shards {
                return node.member == member;
            }
            let start = node.peer.as_ref().map(Peer::own_start);
            start == Some(member)
        })
    }

    /// A store was acknowledged as decided by this index.
    pub(crate) fn acknowledged_in(&mut self, value: i64, index: u64) {
        let generation = generation_of(index);
        let shard = self.books.in_memory.get(&value).map(|(shard, _)| *shard);
        if let Some(shard) = shard {
            self.books.in_memory.insert(value, (shard, generation));
        }
    }

    /// A value is about to be stored in this workspace.
    pub(crate) fn storing_in(&mut self, workspace: &str, variable: &str, value: i64) {
        if let Ok(name) = Name::new(workspace) {
            let genesis = self.scenario.founded();
            let ShardId(shard) = genesis.shard_of(&name, &Value::from(variable));
            if shard >= self.scenario.shards {
                self.books.in_memory.insert(value, (shard, u64::MAX));
            }
        }
    }

    /// Whether a variable that was declared may be absent for those who are bound to it, since it
    /// is gone with its generation. Who is told so declares it anew.
    pub(crate) fn may_be_absent(&mut self, reply: &Reply) -> bool {
        let absent = matches!(reply, Reply::Failed(Failure::Absent));
        let may_be = absent && !self.generations.is_empty();
        if may_be {
            self.declared.retain(|number| number.is_multiple_of(2));
        }
        may_be
    }

    /// A node has begun a generation. The first to do so shows whether it was time.
    pub(crate) fn begun(&mut self, n: usize, shard: ShardId, generation: u64) {
        let known = self.generations.entry(shard.0).or_insert(0);
        if generation <= *known {
            return;
        }
        *known = generation;
        if generation == 1 {
            return;
        }
        self.report.generations += 1;
        self.note(n, || format!("generation {generation} of shard {shard}"));
        let Some(keeper) = shard.0.checked_sub(self.scenario.shards) else {
            return;
        };
        let keeper = usize::from(keeper % self.scenario.shards.max(1));
        let peer = self.nodes.get(n).and_then(|node| node.peer.as_ref());
        let lost = peer
            .and_then(|peer| peer.shards().nth(keeper))
            .and_then(|keeper| keeper.sm().given_up(shard));
        let Some(members) = lost.map(|config| config.members.clone()) else {
            return;
        };
        let there = members.iter().filter(|m| self.is_current(shard.0, **m));
        let (there, of) = (there.count(), members.len());
        if 2 * there > of {
            self.violation = Some(Violation::GivenUpEarly {
                shard: shard.0,
                generation: generation - 1,
                there,
                of,
            });
        }
    }

    /// True for a shard that has to serve: its group has a majority, or of a volatile shard it has
    /// none any more, which the register's majority is there to find.
    pub(crate) fn must_serve(&self, shard: u16) -> bool {
        let up = |n| self.is_up(n);
        let there = self.has_majority(shard, &up);
        let Some(nth) = shard.checked_sub(self.scenario.shards) else {
            return there;
        };
        let keeper = nth % self.scenario.shards.max(1);
        let registered = self
            .newest(keeper)
            .and_then(|sm| sm.registered(ShardId(shard)));
        if there {
            // A group that follows another serves once the register has it.
            let current = self.newest(shard).map(cpe_space::Sm::config);
            return registered == current || self.has_majority(keeper, &up);
        }
        let members = registered.map(|config| config.members.as_slice());
        let members = members.unwrap_or_default();
        // Of a node that is up in another start it is known that this one is over.
        let over = members.iter().filter(|member| {
            let n = usize::try_from(member.node.0 - 1).unwrap_or(usize::MAX);
            self.is_up(n) && !self.is_current(shard, **member)
        });
        2 * over.count() >= members.len() && self.has_majority(keeper, &up)
    }

    /// Finds what is gone with generations that are over, before the books are closed.
    pub(crate) fn forget_generations(&mut self) {
        let mut forgotten = BTreeSet::new();
        for (value, (shard, generation)) in &self.books.in_memory {
            let now = self.newest(*shard).map_or(0, cpe_space::Sm::generation);
            if *generation < now {
                forgotten.insert(*value);
            }
        }
        self.report.lost_in_memory = forgotten
            .iter()
            .filter(|value| !self.books.taken.contains_key(value))
            .count() as u64;
        self.books.forgotten = forgotten;
        let mut variables = BTreeSet::new();
        let genesis = self.scenario.founded();
        if let Ok(scratch) = Name::new(SCRATCH) {
            for number in 0..self.scenario.workload.variables {
                let variable = format!("v{number}");
                let ShardId(shard) = genesis.shard_of(&scratch, &Value::from(variable.as_str()));
                let began = self.newest(shard).map_or(0, cpe_space::Sm::generation) > 1;
                if self.workspace_of(number) == SCRATCH && began {
                    variables.insert(variable);
                }
            }
        }
        self.record.leave_out(&variables);
    }
}
