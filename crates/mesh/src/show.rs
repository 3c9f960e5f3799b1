//! What a node shows of its replicas and of the mesh, as it knows them at the moment.

use std::collections::BTreeMap;

use cpe_membership::{Member, MemberState};
use cpe_space::{Name, variable_of};
use cpe_tuple::{Tuple, Value};

use crate::peer::Peer;
use crate::{ActorInfo, PeerInfo, ShardInfo, Status, VariableInfo, WorkspaceInfo};

/// Bytes of tuples shown at once, unless the first alone has more.
const BROWSED_BYTES: usize = 1024 * 1024;

impl Peer {
    pub(crate) fn workspaces(&self) -> Vec<WorkspaceInfo> {
        let mut all: BTreeMap<&Name, WorkspaceInfo> = BTreeMap::new();
        for slot in &self.slots {
            for (name, variables) in slot.shard.sm().workspaces() {
                let info = all.entry(name).or_insert_with(|| WorkspaceInfo {
                    name: name.to_string(),
                    variables: 0,
                    tuples: 0,
                    volatile: slot.volatile,
                });
                info.variables += variables.len();
                info.tuples += variables
                    .values()
                    .map(cpe_space::Variable::len)
                    .sum::<usize>();
            }
        }
        all.into_values().collect()
    }

    pub(crate) fn variables(&self, workspace: &Name) -> Vec<VariableInfo> {
        let mut all: BTreeMap<Value, VariableInfo> = BTreeMap::new();
        for slot in &self.slots {
            let shard = slot.shard.id().0;
            let blank = |name: &Value| VariableInfo {
                name: name.clone(),
                mode: cpe_space::Mode::default(),
                declared: false,
                instance: None,
                tuples: 0,
                pending: 0,
                shard,
            };
            for (name, variable) in slot.shard.sm().variables(workspace) {
                let info = all.entry(name.clone()).or_insert_with(|| blank(name));
                info.mode = variable.mode();
                info.declared = variable.is_declared();
                info.instance = variable.life().map(|life| life.instance);
                info.tuples = variable.len();
            }
            for item in slot
                .shard
                .pending()
                .values()
                .filter(|i| i.workspace == *workspace)
            {
                let name = variable_of(&item.tuple);
                all.entry(name.clone())
                    .or_insert_with(|| blank(&name))
                    .pending += 1;
            }
        }
        all.into_values().collect()
    }

    pub(crate) fn browse(&self, workspace: &Name, variable: &Value, limit: usize) -> Vec<Tuple> {
        let slot = self.slot_ref(self.shard_for(workspace, variable));
        let there = slot.and_then(|slot| slot.shard.sm().variable(workspace, variable));
        let mut bytes = 0;
        let tuples = there.into_iter().flat_map(cpe_space::Variable::tuples);
        let shown = tuples.map(|(_, tuple)| tuple).take_while(|tuple| {
            let first = bytes == 0;
            bytes += tuple.size();
            first || bytes <= BROWSED_BYTES
        });
        shown.take(limit).cloned().collect()
    }

    /// The registry's record of a name, as this replica shows it.
    #[must_use]
    pub fn actor(&self, name: &str) -> Option<ActorInfo> {
        let slot = self.slot_ref(self.shard_of_actor(name)?)?;
        let record = slot.shard.sm().actor(name)?;
        Some(actor_info(name, record))
    }

    /// Nodes that are there, as far as this one knows, in their incarnations; itself too.
    #[must_use]
    pub fn alive(&self) -> Vec<Member> {
        let there = |state| matches!(state, MemberState::Alive | MemberState::Suspect);
        let others = self.membership.members();
        let others = others.filter(|it| it.member.node != self.me.node && there(it.state));
        let others = others.map(|it| it.member);
        std::iter::once(self.me).chain(others).collect()
    }

    pub(crate) fn status(&self) -> Status {
        let waiting = self.slots.iter().filter_map(|slot| slot.home.as_ref());
        Status {
            node: self.me.node,
            inc: self.me.inc,
            name: self.config.card.name.clone(),
            mesh: self
                .genesis
                .as_ref()
                .map(|genesis| genesis.mesh.clone())
                .unwrap_or_default(),
            joined: self.genesis.is_some(),
            alive: self.membership.active_count(),
            shards: self.genesis.as_ref().map_or(0, |genesis| genesis.shards),
            volatile_shards: self.genesis.as_ref().map_or(0, |genesis| genesis.volatile),
            homes: self
                .slots
                .iter()
                .filter(|slot| slot.seat.group().is_some())
                .count(),
            leads: self.slots.iter().filter(|slot| slot.home.is_some()).count(),
            applied: self.slots.iter().map(crate::peer::Slot::applied).sum(),
            outbox: self.slots.iter().map(|slot| slot.client.outbox_len()).sum(),
            tuples: self.slots.iter().map(|slot| slot.shard.sm().len()).sum(),
            waiting: self.requests.len() + waiting.map(crate::home::Home::waiting).sum::<usize>(),
            open_takes: self.unsettled_takes(),
            counters: self.counters.clone(),
        }
    }

    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let own = self.membership.own_card();
        let own = std::iter::once((self.me, MemberState::Alive, Some(own)));
        let others = self
            .membership
            .members()
            .filter(|view| view.member.node != self.me.node);
        own.chain(others.map(|view| (view.member, view.state, view.card)))
            .map(|(member, state, card)| PeerInfo {
                node: member.node,
                inc: member.inc,
                name: card.map(|card| card.name.clone()).unwrap_or_default(),
                peer: card.map(|card| card.peer_id.clone()).unwrap_or_default(),
                state: match state {
                    MemberState::Alive => "alive",
                    MemberState::Suspect => "suspect",
                    MemberState::Dead => "dead",
                    MemberState::Left => "left",
                },
                linked: member.node == self.me.node || self.links.contains(&member.node),
                addresses: card.map(|card| card.addresses.clone()).unwrap_or_default(),
                capabilities: card
                    .map(|card| card.capabilities.clone())
                    .unwrap_or_default(),
            })
            .collect()
    }

    pub(crate) fn shard_infos(&self) -> Vec<ShardInfo> {
        let used = |slot: &&crate::peer::Slot| {
            slot.shard.version().index > 0 || slot.map.epoch > 1 || slot.pull.is_some()
        };
        let info = |slot: &crate::peer::Slot| ShardInfo {
            shard: slot.shard.id().0,
            epoch: slot.map.epoch - slot.shard.sm().floor().min(slot.map.epoch),
            members: slot.map.members.clone(),
            leader: self.leader_of(slot.shard.id()),
            applied: slot.applied(),
            decided: slot
                .pull
                .as_ref()
                .map_or(0, |pull| pull.index)
                .max(slot.shard.version().index)
                - slot.shard.sm().floor(),
            tuples: slot.shard.sm().len(),
            leased: slot.shard.sm().leases().count(),
            forked: slot.shard.sm().forked_at().is_some(),
            generation: slot.generation(),
        };
        self.slots.iter().filter(used).map(info).collect()
    }
}

/// A registry record as it is shown.
pub(crate) fn actor_info(name: &str, record: &cpe_space::ActorRecord) -> ActorInfo {
    ActorInfo {
        name: name.to_owned(),
        spec: record.spec.clone(),
        token: record.token,
        host: record.host,
        leased: record.leased,
        born: record.born,
        kept: record.kept.is_some(),
    }
}
