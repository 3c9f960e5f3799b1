//! Answering what is decided and current (rule R19): the leader of a shard makes sure that it still
//! leads before it says what it has.

use cpe_membership::NodeId;
use cpe_space::{Config, Name, ShardId};
use cpe_tuple::{Template, Tuple};

use crate::guard::{Guard, holds};
use crate::peer::Peer;
use crate::wire::Message;

/// Queries being answered at a time. More are dropped: whoever asks asks again.
const MAX_SERVING: usize = 65_536;

/// A query of another node, or of this one, that this node answers as far as it leads.
#[derive(Debug)]
pub(crate) struct Serving {
    from: NodeId,
    query: u64,
    workspace: Name,
    template: Option<Template>,
    /// Shards for which a majority has not yet confirmed that this node leads.
    waiting: usize,
    nothing: Vec<ShardId>,
    found: Option<(ShardId, Option<Tuple>)>,
    more: Vec<ShardId>,
    elsewhere: Vec<(ShardId, Config, Option<NodeId>)>,
    reached: Vec<(ShardId, u64)>,
}

impl Peer {
    pub(crate) fn serve_query(
        &mut self,
        from: NodeId,
        query: u64,
        shards: Vec<ShardId>,
        workspace: Name,
        template: Option<Template>,
    ) {
        // Whoever has not joined yet knows no shards: the asker will ask again.
        if self.genesis.is_none() {
            return;
        }
        if shards.len() > self.slots.len() {
            return self.malformed(
                Some(from),
                "a query of more shards than there are".to_owned(),
            );
        }
        if self.serving.len() >= MAX_SERVING {
            return;
        }
        let id = self.next_serving;
        self.next_serving += 1;
        let mut serving = Serving {
            from,
            query,
            workspace,
            template,
            waiting: 0,
            nothing: Vec::new(),
            found: None,
            more: Vec::new(),
            elsewhere: Vec::new(),
            reached: Vec::new(),
        };
        for shard in shards {
            let Some(slot) = self.slot_ref(shard) else {
                continue;
            };
            if slot.home.is_some() && !holds(Guard::ConfirmLead) {
                serving.waiting += 1;
                self.current.entry(shard).or_default().push((0, id));
                continue;
            }
            let ticket = if slot.home.is_some() {
                self.with_group(shard, |group, out| {
                    Some((group.epoch(), group.confirm(out)?))
                })
                .flatten()
            } else {
                None
            };
            if let Some((epoch, ticket)) = ticket {
                serving.waiting += 1;
                self.proposed.insert(shard);
                self.confirming.insert((shard, epoch, ticket), id);
            } else if let Some(slot) = self.slot_ref(shard) {
                let elsewhere = (shard, slot.map.clone(), self.leader_of(shard));
                serving.elsewhere.push(elsewhere);
            }
        }
        self.serving.insert(id, serving);
        if !holds(Guard::ConfirmLead) {
            for shard in self.all_shards() {
                self.serve_confirmed(shard);
            }
        }
        self.answer_if_done(id);
    }

    /// A majority confirmed: what this replica shows once it has applied `index` is current.
    pub(crate) fn confirmed(&mut self, shard: ShardId, epoch: u64, ticket: u64, index: u64) {
        if let Some(id) = self.confirming.remove(&(shard, epoch, ticket)) {
            self.current.entry(shard).or_default().push((index, id));
            self.serve_confirmed(shard);
        }
        self.renewal_confirmed(shard, epoch, ticket, index);
    }

    /// Answers what was confirmed and is applied.
    pub(crate) fn serve_confirmed(&mut self, shard: ShardId) {
        let Some(waiting) = self.current.remove(&shard) else {
            return;
        };
        let mut later = Vec::new();
        for (index, id) in waiting {
            let Some(slot) = self.slot_ref(shard) else {
                return;
            };
            if slot.shard.version().index < index {
                later.push((index, id));
                continue;
            }
            let Some(serving) = self.serving.get(&id) else {
                continue;
            };
            let sm = slot.shard.sm();
            let reached = sm.index();
            let here = match &serving.template {
                Some(template) => {
                    let found = sm.find(&serving.workspace, template);
                    found.map(|(_, tuple)| Some(tuple.clone()))
                }
                None if !holds(Guard::DeleteAway) => {
                    sm.variables(&serving.workspace).next().map(|_| None)
                }
                None => sm.has_any_of(&serving.workspace).then_some(None),
            };
            if let Some(serving) = self.serving.get_mut(&id) {
                serving.waiting -= 1;
                if serving.template.is_none() {
                    serving.reached.push((shard, reached));
                }
                match here {
                    None => serving.nothing.push(shard),
                    Some(tuple) if serving.found.is_none() => serving.found = Some((shard, tuple)),
                    Some(_) => serving.more.push(shard),
                }
            }
            self.answer_if_done(id);
        }
        if !later.is_empty() {
            self.current.insert(shard, later);
        }
    }

    /// This node leads the shard no longer: whoever asked it asks again.
    pub(crate) fn drop_confirming(&mut self, shard: ShardId) {
        let waiting = self.current.remove(&shard).unwrap_or_default();
        let first = (shard, 0, 0)..=(shard, u64::MAX, u64::MAX);
        let tickets: Vec<_> = self.confirming.range(first).map(|(key, _)| *key).collect();
        let tickets = tickets
            .into_iter()
            .filter_map(|key| self.confirming.remove(&key));
        let gone: Vec<u64> = tickets
            .chain(waiting.into_iter().map(|(_, id)| id))
            .collect();
        for id in gone {
            let leader = self.leader_of(shard);
            let map = self.slot_ref(shard).map(|slot| slot.map.clone());
            if let (Some(serving), Some(map)) = (self.serving.get_mut(&id), map) {
                serving.waiting -= 1;
                serving.elsewhere.push((shard, map, leader));
            }
            self.answer_if_done(id);
        }
    }

    fn answer_if_done(&mut self, id: u64) {
        if self
            .serving
            .get(&id)
            .is_none_or(|serving| serving.waiting > 0)
        {
            return;
        }
        if let Some(serving) = self.serving.remove(&id) {
            self.send_if(
                serving.from,
                Message::Answer {
                    query: serving.query,
                    nothing: serving.nothing,
                    found: serving.found,
                    more: serving.more,
                    elsewhere: serving.elsewhere,
                    reached: serving.reached,
                },
            );
        }
    }
}
