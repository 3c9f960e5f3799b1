//! Named actors under leases: claims (rule A3), and what their hosts commit (rule A4).
//!
//! When the life of a host is over, every other host looks for the actors it left, and claims each
//! after as many pauses as there are hosts better placed for it (rendezvous hashing, Thaler and
//! Ravishankar 1998, among those that meet its needs). One timer serves them all. Who comes late
//! finds a higher token and stands down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::{Member, MemberState, NodeCard, NodeId};
use cpe_space::{
    ActorRecord, Command as Decided, Effect, MAX_MARKS, MAX_NEEDS, Marked, OUTBOX_BYTES_MAX,
    OUTBOX_MAX, OpId, Outcome, SNAPSHOT_BYTES_MAX, Sent, ShardId,
};
use cpe_tuple::Value;

use crate::guard::{Guard, holds};
use crate::io::Output;
use crate::peer::{Peer, Timer};
use crate::placement::is_draining;
use crate::wire::Operation;
use crate::{Failure, Reply};

/// How much longer each next host waits before it claims (rule A3): an election, or the way of a
/// claim and its feed on a slow network.
const RANK_PAUSE: Duration = Duration::from_millis(500);

/// Claims of this node under way at a time, for actors that others left: the rest has its turn
/// after them.
const MAX_CLAIMS: usize = 1_024;

/// What this node claims by itself.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Lives that are over and may have left actors, and since when this node knows.
    left: BTreeMap<Member, Duration>,
    /// By shard and operation.
    asked: BTreeMap<(ShardId, u64), String>,
    names: BTreeSet<String>,
    /// Actors that were handed to this node in this life and that its shell has, with their tokens.
    moved: Option<(Member, BTreeMap<String, u64>)>,
}

/// A host that may claim.
struct Candidate<'a> {
    node: NodeId,
    card: &'a NodeCard,
}

impl Candidate<'_> {
    fn meets(&self, needs: &BTreeMap<String, String>) -> bool {
        meets(&self.card.capabilities, needs)
    }
}

/// Whether a node with these capabilities has what an actor needs. A capability may be a list with
/// commas, as the kinds that a node runs.
#[must_use]
pub fn meets(capabilities: &BTreeMap<String, String>, needs: &BTreeMap<String, String>) -> bool {
    needs.iter().all(|(key, value)| {
        let has = capabilities.get(key);
        has.is_some_and(|has| has == value || has.split(',').any(|one| one == value))
    })
}

/// Whether a plain actor that this node runs under a token is to be ended, as its record has this
/// token and host by now: while the node was frozen or cut off others believed it gone (decision
/// 034). A record that is older than the claim of the actor says nothing.
#[must_use]
pub fn is_replaced(me: Member, token: u64, (now, host): (u64, Option<Member>)) -> bool {
    let mine = token == now && host == Some(me);
    now >= token && !mine && holds(Guard::EndReplaced)
}

fn weight(name: &str, node: NodeId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&node.0.to_be_bytes());
    hasher.update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

/// Who has a name, for the shell.
fn named(name: &str, record: &ActorRecord) -> Output {
    Output::Named {
        name: name.to_owned(),
        token: record.token,
        host: record.host,
        leased: record.leased,
        from: record.from,
    }
}

/// What a host commits.
pub(crate) struct Commit {
    pub(crate) name: String,
    pub(crate) token: u64,
    pub(crate) seq: u64,
    pub(crate) snapshot: Value,
    pub(crate) marks: Vec<Marked>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) sent: Sent,
    pub(crate) rest_over: bool,
}

impl Commit {
    /// The operation, unless it is beyond the bounds.
    pub(crate) fn operation(self) -> Result<Operation, String> {
        let bytes = self.snapshot.size();
        if bytes > SNAPSHOT_BYTES_MAX {
            return Err(format!(
                "a state of {bytes} bytes is too large: commit at most {SNAPSHOT_BYTES_MAX} and \
                 keep the rest in tuples"
            ));
        }
        if self.marks.len() > MAX_MARKS {
            let count = self.marks.len();
            return Err(format!("{count} marks are too many: at most {MAX_MARKS}"));
        }
        let bytes: usize = self.effects.iter().map(Effect::size).sum();
        if self.effects.len() > OUTBOX_MAX || bytes > OUTBOX_BYTES_MAX {
            let count = self.effects.len();
            return Err(format!(
                "{count} effects of {bytes} bytes are too many for one commit: at most \
                 {OUTBOX_MAX} of {OUTBOX_BYTES_MAX} bytes"
            ));
        }
        Ok(Operation::Commit {
            name: self.name,
            token: self.token,
            seq: self.seq,
            snapshot: self.snapshot,
            marks: self.marks,
            effects: self.effects,
            sent: self.sent,
            rest_over: self.rest_over,
        })
    }
}

impl Peer {
    /// Whether this node has asked for a name and not heard what came of it. It is not to give up a
    /// name then: it may be given it, and start what it has given up.
    pub(crate) fn is_claiming(&self, shard: ShardId, name: &str) -> bool {
        let slots = self.slot_ref(shard).into_iter();
        let mut operations = slots.flat_map(|slot| slot.client.operations());
        operations.any(|operation| match operation {
            Operation::Claim { name: claimed, .. }
            | Operation::ClaimLeased { name: claimed, .. } => claimed == name,
            _ => false,
        })
    }

    /// The claim of a name for this node, in its present life as a host.
    pub(crate) fn claim_leased(
        &self,
        name: String,
        expect: u64,
        spec: Value,
        needs: BTreeMap<String, String>,
    ) -> Result<Operation, String> {
        if needs.len() > MAX_NEEDS {
            return Err(format!("an actor has at most {MAX_NEEDS} requirements"));
        }
        let Some(host) = self.acting_life() else {
            return Err("this node holds no lease as a host: enlist it first".to_owned());
        };
        let void = self.void_host_of(&name);
        Ok(Operation::ClaimLeased {
            name,
            expect,
            spec,
            needs,
            host,
            void,
        })
    }

    /// The life that hosts a name under a lease, if this replica shows that it is over.
    pub(crate) fn void_host_of(&self, name: &str) -> Option<Member> {
        let record = self.actor_record(name).filter(|record| record.leased)?;
        record.host.filter(|life| self.is_over(*life))
    }

    /// A name's record in this replica.
    fn actor_record(&self, name: &str) -> Option<&ActorRecord> {
        let shard = self.shard_of_actor(name)?;
        self.slot_ref(shard)?.shard.sm().actor(name)
    }

    /// What the leader of a name proposes when a host claims it; nothing if the host is not who
    /// asks.
    pub(crate) fn propose_claim(&self, op: OpId, operation: Operation) -> Option<Decided> {
        let Operation::ClaimLeased {
            name,
            expect,
            spec,
            needs,
            host,
            void,
        } = operation
        else {
            return None;
        };
        // Rule A3: that a life is over is for ever, so any replica that shows it will do. One that
        // does not show it yet, or has nobody enlisted of that name, is not enough.
        let over = |life: &Member| self.is_over(*life) || !holds(Guard::ClaimVoid);
        (host.node == op.session.member.node).then(|| Decided::ClaimLeased {
            op,
            name,
            expect,
            spec,
            needs,
            host,
            void: void.filter(over),
        })
    }

    /// A claim of this node is decided. `listens` if somebody asked for it and is still there.
    pub(crate) fn claim_decided(
        &mut self,
        shard: ShardId,
        seq: u64,
        name: String,
        outcome: &Outcome,
        listens: bool,
    ) {
        if self.claims.asked.remove(&(shard, seq)).is_some() {
            self.claims.names.remove(&name);
        }
        let Outcome::Claimed(record) = outcome else {
            return;
        };
        // In a life that is over by now it is for others to claim. A claim that was answered as
        // unknown is this node's all the same: to release it would end the actor, state and all.
        if !listens && record.host == self.life() {
            let record = Box::new(record.clone());
            self.count("actors_taken_over", 1);
            self.put_output(Output::Host { name, record });
        }
    }

    /// What to answer to whoever asked for a claim that was granted.
    pub(crate) fn hosted(&self, shard: ShardId, record: ActorRecord) -> Reply {
        if record.host == self.life() {
            return Reply::Hosted(Box::new(record));
        }
        let why = "the lease of this node ran out meanwhile; enlist it and claim anew".to_owned();
        let shard = shard.0;
        Reply::Failed(Failure::Unavailable { shard, why })
    }

    /// Gives the shell what others have handed to this node: found in the replica, as nobody asked
    /// for it.
    pub(crate) fn take_moved(&mut self, shard: ShardId) {
        // Not before the first grant: a life that ends without one was never told of.
        let Some((life, _)) = self.may_act() else {
            return;
        };
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let mine = |record: &ActorRecord| {
            let this = record.host == Some(life);
            let node = record.host.is_some_and(|host| host.node == life.node);
            record.from.is_some() && (this || (node && !holds(Guard::MovedToThisLife)))
        };
        let known = self.claims.moved.as_ref();
        let known = known.filter(|(of, _)| *of == life).map(|(_, names)| names);
        let is_known = |name: &str, token| known.and_then(|names| names.get(name)) == Some(&token);
        let moved: Vec<(String, ActorRecord)> = slot
            .shard
            .sm()
            .actors()
            .filter(|(name, record)| mine(record) && !is_known(name, record.token))
            .map(|(name, record)| (name.to_owned(), record.clone()))
            .collect();
        for (name, record) in moved {
            let names = match &mut self.claims.moved {
                Some((of, names)) if *of == life => names,
                other => &mut other.insert((life, BTreeMap::new())).1,
            };
            names.insert(name.clone(), record.token);
            self.count("actors_received", 1);
            let record = Box::new(record);
            self.put_output(Output::Host { name, record });
        }
    }

    /// Tells the shell who has the names that entries were about.
    pub(crate) fn tell_named(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let names = slot.shard.take_named();
        let sm = slot.shard.sm();
        let known = |name| Some(named(name, sm.actor(name)?));
        let told: Vec<Output> = names.iter().filter_map(|name| known(name)).collect();
        told.into_iter().for_each(|it| self.put_output(it));
    }

    /// Tells the shell who has each name of a shard: its replica took a state.
    pub(crate) fn tell_all_named(&mut self, shard: ShardId) {
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let all = slot.shard.sm().actors();
        let told: Vec<Output> = all.map(|(name, record)| named(name, record)).collect();
        told.into_iter().for_each(|it| self.put_output(it));
    }

    /// The life of a host is over: sees to the actors it leaves.
    pub(crate) fn left_by(&mut self, life: Member) {
        if self.life().is_some() {
            self.claims.left.entry(life).or_insert(self.now);
            self.timers.set_if_none(Timer::Claims, self.now);
        }
    }

    /// This node may act again.
    pub(crate) fn claim_soon(&mut self) {
        if !self.claims.left.is_empty() {
            self.timers.set_if_none(Timer::Claims, self.now);
        }
    }

    /// Looks for actors that lives which are over have left: what a new host missed.
    pub(crate) fn seek_left(&mut self) {
        let records = self.slots.iter().flat_map(|slot| slot.shard.sm().actors());
        let hosts: BTreeSet<Member> = records
            .filter(|(_, record)| record.leased)
            .filter_map(|(_, record)| record.host)
            .collect();
        if !hosts.is_empty() {
            self.stand_by();
        }
        for life in hosts {
            if self.is_over(life) {
                self.left_by(life);
            }
        }
    }

    /// Claims what it is this node's turn to claim.
    pub(crate) fn claim_left(&mut self) {
        if self.acting_life().is_none() {
            // Once it is granted again.
            return;
        }
        let now = self.now;
        let candidates = self.candidates();
        let me = self.me.node;
        let mut mine = Vec::new();
        let mut open = BTreeSet::new();
        let mut next = now + RANK_PAUSE;
        for (name, record) in self.slots.iter().flat_map(|slot| slot.shard.sm().actors()) {
            let Some(life) = record.host.filter(|_| record.leased) else {
                continue;
            };
            let Some(since) = self.claims.left.get(&life) else {
                continue;
            };
            open.insert(life);
            let able = |one: &&Candidate<'_>| one.meets(&record.needs);
            let able: Vec<NodeId> = candidates.iter().filter(able).map(|it| it.node).collect();
            if !able.contains(&me) || self.claims.names.contains(name) {
                continue;
            }
            let own = weight(name, me);
            let rank = able
                .iter()
                .filter(|node| weight(name, **node) > own)
                .count();
            let due = *since + RANK_PAUSE * u32::try_from(rank).unwrap_or(u32::MAX);
            if due > now {
                next = next.min(due);
            } else if self.claims.asked.len() + mine.len() < MAX_CLAIMS {
                let (spec, needs) = (record.spec.clone(), record.needs.clone());
                mine.push((name.to_owned(), record.token, spec, needs));
            }
        }
        self.claims.left.retain(|life, _| open.contains(life));
        for (name, token, spec, needs) in mine {
            let claim = self.claim_leased(name.clone(), token, spec, needs);
            if let (Ok(claim), Some(shard)) = (claim, self.shard_of_actor(&name))
                && let Some(seq) = self.new_op(None, shard, claim)
            {
                self.claims.names.insert(name.clone());
                self.claims.asked.insert((shard, seq), name);
                self.send_op(shard, seq);
            }
        }
        if !self.claims.left.is_empty() {
            self.timers.set(Timer::Claims, next);
        }
    }

    /// Hosts that may take over actors, as this node sees them.
    fn candidates(&self) -> Vec<Candidate<'_>> {
        let me = self.me.node;
        let lives = |node: NodeId| {
            let slot = self.slot_ref(self.host_shard(node));
            let record = slot.and_then(|slot| slot.shard.sm().host(node));
            record.and_then(|record| record.living()).is_some()
        };
        let own = Candidate {
            node: me,
            card: self.membership.own_card(),
        };
        let others = self.membership.members().filter_map(|view| {
            let there = view.state == MemberState::Alive && view.member.node != me;
            let node = view.member.node;
            there.then_some(Candidate {
                node,
                card: view.card?,
            })
        });
        let able = others.filter(|one| lives(one.node)).chain([own]);
        able.filter(|one| !is_draining(one.card)).collect()
    }
}
