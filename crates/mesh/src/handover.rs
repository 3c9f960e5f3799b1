//! How a shard's home moves (rules R11 to R14), and how a node learns the mesh.

use std::time::Duration;

use cpe_membership::{Member, MemberState, NodeCard, NodeId};
use cpe_space::{Command, Config, ShardId};

use crate::peer::{Event, Peer, Slot, Timer};
use crate::request::Request;
use crate::sync::{MAX_INDEX, Pull};
use crate::wire::{Genesis, Message};
use crate::{Reply, RequestId};

/// How often a sealed epoch's successor is told of it.
const EPOCH_RETRY: Duration = Duration::from_millis(500);

/// How often a draining node looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// The capability that says a node gives its homes away and takes none.
const DRAINING: &str = "draining";

impl Peer {
    /// Tells a node which mesh this is and where its shards live.
    pub(crate) fn greet(&mut self, to: NodeId) {
        let moved = self.slots.iter().filter(|slot| slot.map.epoch > 1);
        let map = moved
            .map(|slot| (slot.shard.id(), slot.map.clone()))
            .collect();
        let genesis = self.genesis.clone();
        self.send_if(to, Message::Hello { genesis, map });
    }

    pub(crate) fn hello(
        &mut self,
        from: NodeId,
        genesis: Option<Genesis>,
        map: Vec<(ShardId, Config)>,
    ) {
        match (&self.genesis, genesis) {
            (None, Some(genesis)) => {
                if genesis.shards == 0 || genesis.shards > Genesis::MAX_SHARDS {
                    let why = format!("a mesh of {} shards", genesis.shards);
                    return self.malformed(Some(from), why);
                }
                self.adopt(genesis);
            }
            (Some(own), Some(other)) if *own != other => {
                let why = if own.mesh == other.mesh {
                    // Both had the key and sought nobody.
                    format!(
                        "it belongs to a mesh of the same key that {} founded, this node to the \
                         one that {} founded: start one of the two with a bootstrap address of \
                         the other and an empty data folder",
                        other.founder, own.founder
                    )
                } else {
                    format!("it belongs to the mesh {}, not {}", other.mesh, own.mesh)
                };
                return self.malformed(Some(from), why);
            }
            (Some(_), None) => self.greet(from),
            _ => {}
        }
        for (shard, config) in map {
            self.learn_home(shard, config);
        }
    }

    /// The mesh is known now.
    pub(crate) fn adopt(&mut self, genesis: Genesis) {
        self.save_genesis(&genesis);
        self.found(genesis.clone());
        self.event(Event::Joined(genesis));
        for node in self.links.clone() {
            self.greet(node);
        }
        self.begin_early();
    }

    /// An entry that ends an epoch became part of the prefix.
    pub(crate) fn sealed(&mut self, shard: ShardId, config: Config) {
        if let Some(slot) = self.slot(shard) {
            slot.home = None;
        }
        self.learn_home(shard, config);
        self.outbox_instead(shard);
        self.settle_home(shard);
    }

    /// Takes up, or keeps pushing, what the replica's newest configuration says about this node.
    pub(crate) fn settle_home(&mut self, shard: ShardId) {
        let me = self.me;
        let Some(slot) = self.slot(shard) else { return };
        let config = slot.shard.sm().config();
        if config.epoch < slot.map.epoch {
            return;
        }
        if config.members.contains(&me) {
            if slot.home.is_none() {
                slot.pull = None;
                self.become_home(shard);
            }
        } else if slot.is_waiting_for_successor(me) {
            self.push_epoch(shard);
        }
    }

    /// Tells the next home group that it may begin, until it has (rule R11).
    pub(crate) fn push_epoch(&mut self, shard: ShardId) {
        let me = self.me;
        let Some(slot) = self.slot(shard) else { return };
        if !slot.is_waiting_for_successor(me) {
            return;
        }
        let config = slot.shard.sm().config().clone();
        let index = slot.shard.version().index;
        for member in config.members.clone() {
            self.send_if(
                member.node,
                Message::EpochStart {
                    shard,
                    config: config.clone(),
                    index,
                },
            );
        }
        self.timers.set(Timer::Epoch(shard), self.now + EPOCH_RETRY);
    }

    /// This node is in the next home group: it needs the state at the seal first (rule R12).
    pub(crate) fn epoch_start(&mut self, from: NodeId, shard: ShardId, config: Config, index: u64) {
        let now = self.now;
        if index > MAX_INDEX {
            return;
        }
        self.learn_home(shard, config);
        let Some(slot) = self.slot(shard) else { return };
        let own = slot.shard.version().index;
        if own >= index {
            // It has begun already; the sender has missed the feed that says so.
            if own > index {
                self.serve_feed(from, shard, index);
            }
            return;
        }
        match slot.pull.as_mut() {
            Some(pull) => {
                pull.from = from;
                pull.index = pull.index.max(index);
                self.timers.set_if_none(Timer::Pull(shard), now);
            }
            None => {
                slot.pull = Some(Pull::new(from, index));
                self.timers.set(Timer::Pull(shard), now);
            }
        }
    }

    /// Seals the shard's epoch in favour of another member; false when this node cannot.
    pub(crate) fn hand_over(&mut self, shard: ShardId, to: Member) -> bool {
        let Some(Slot {
            shard: replica,
            home: Some(home),
            ..
        }) = self.slot(shard)
        else {
            return false;
        };
        let epoch = replica.sm().config().epoch + 1;
        let sealed = home.propose_plain(Command::Seal {
            config: Config {
                epoch,
                members: vec![to],
            },
        });
        self.proposed.insert(shard);
        sealed
    }

    /// Hands every shard to another live member.
    pub(crate) fn drain(&mut self, request: RequestId, within: Duration) {
        self.draining = true;
        let mut card = self.membership.own_card().clone();
        card.capabilities
            .insert(DRAINING.to_owned(), "true".to_owned());
        if let Err(error) = self.membership.set_card(self.now, card) {
            self.malformed(None, error.to_string());
        }
        self.requests.insert(request, Request::Drain { within });
        self.timers.set(Timer::Drain, self.now);
    }

    /// Shows the others a new card, which says so while this node drains.
    pub(crate) fn set_card(&mut self, mut card: NodeCard) {
        if self.draining {
            card.capabilities
                .insert(DRAINING.to_owned(), "true".to_owned());
        }
        if let Err(error) = self.membership.set_card(self.now, card) {
            self.malformed(None, error.to_string());
        }
    }

    pub(crate) fn continue_drain(&mut self) {
        let successors: Vec<Member> = self
            .membership
            .members()
            .filter(|view| {
                view.member.node != self.me.node
                    && view.state == MemberState::Alive
                    && self.links.contains(&view.member.node)
                    && view
                        .card
                        .is_none_or(|card| !card.capabilities.contains_key(DRAINING))
            })
            .map(|view| view.member)
            .collect();
        for shard in self.all_shards() {
            let open = self.slot(shard).and_then(|slot| slot.home.as_ref());
            if open.is_some_and(|home| !home.is_sealed())
                && let Some(to) = rendezvous(shard, &successors)
            {
                self.hand_over(shard, to);
            }
        }
        let me = self.me;
        let busy = self.slots.iter().any(|slot| {
            (slot.home.is_some() && !successors.is_empty())
                || slot.is_waiting_for_successor(me)
                || (slot.client.outbox_len() > 0 && !self.links.is_empty())
        });
        if busy {
            self.timers.set(Timer::Drain, self.now + DRAIN_POLL);
            return;
        }
        let waiting: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, state)| matches!(state, Request::Drain { .. }))
            .map(|(request, _)| *request)
            .collect();
        for request in waiting {
            self.finish(request, Reply::Done);
        }
    }
}

impl Slot {
    /// True while this node ended an epoch and has not seen the next one begin.
    pub(crate) fn is_waiting_for_successor(&self, me: Member) -> bool {
        let sm = self.shard.sm();
        !sm.config().members.contains(&me)
            && sm.previous().is_some_and(|(old, sealed_at)| {
                *sealed_at == sm.index() && old.members.contains(&me)
            })
    }
}

/// The member with the highest weight for a shard (Thaler and Ravishankar, "Using name-based
/// mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998): each shard's
/// choice changes only when its member goes.
fn rendezvous(shard: ShardId, members: &[Member]) -> Option<Member> {
    let weight = |member: &Member| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&shard.0.to_be_bytes());
        hasher.update(&member.node.0.to_be_bytes());
        *hasher.finalize().as_bytes()
    };
    members.iter().copied().max_by_key(weight)
}
