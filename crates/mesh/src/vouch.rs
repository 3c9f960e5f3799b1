//! Who is to be in the next home group says first that it is there, under the incarnation it is
//! named by.
//!
//! Membership learns of a death within seconds. A group that ends meanwhile in favour of a member
//! that has just died, or has come back without its disk as another incarnation, waits for it, and
//! if the disk is gone waits for ever, although all of its own members hold everything. An answer
//! to a question asked for this purpose tells that the member was there after it was asked.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::ShardId;

use crate::peer::{Peer, Timer};
use crate::wire::Message;

/// How long an answer counts. A heartbeat's time, short beside what membership needs.
const FRESH: Duration = Duration::from_millis(200);

/// How long an answer is waited for before the question is repeated. One that took longer waited
/// here, while this node stood still, or there, and tells nothing of now.
const SLOW: Duration = Duration::from_secs(1);

/// What members were asked and have answered.
#[derive(Debug, Default)]
pub(crate) struct Vouchers {
    asked: BTreeMap<NodeId, Asked>,
}

#[derive(Debug)]
struct Asked {
    /// The question that is open.
    query: Option<u64>,
    at: Duration,
    /// The life that answered last.
    heard: Option<Heard>,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
struct Heard {
    life: Member,
    /// The start of that life: what it is called in volatile shards.
    start: Incarnation,
    at: Duration,
}

impl Asked {
    /// True while the answer to the last question counts.
    fn is_recent(&self, now: Duration) -> bool {
        let came = self.heard.map(|heard| heard.at);
        let in_time = came.is_some_and(|came| came <= self.at + SLOW && now < came + FRESH);
        self.query.is_none() && in_time
    }

    /// True when it is time for the next question.
    fn is_over(&self, now: Duration) -> bool {
        self.query.is_none() || self.at + SLOW <= now
    }
}

impl Vouchers {
    /// True when a later life of this node has answered. Membership may not tell of that one yet.
    pub(crate) fn is_over(&self, life: Member) -> bool {
        let heard = self.asked.get(&life.node).and_then(|asked| asked.heard);
        heard.is_some_and(|heard| heard.life.inc > life.inc)
    }
}

impl Peer {
    /// True when most of these, to be members of a shard's group, have just said that they are
    /// there in that life, or in that start if the shard is volatile. Asks those that have not;
    /// [`Timer::Look`] is due when they answer.
    pub(crate) fn are_there(&mut self, shard: ShardId, members: &[Member]) -> bool {
        let Some(slot) = self.slot_ref(shard) else {
            return false;
        };
        let (me, volatile, now) = (slot.me, slot.volatile, self.now);
        let mut there = 0;
        for member in members {
            let asked = self.vouchers.asked.get(&member.node);
            let heard = asked.and_then(|asked| asked.heard);
            let named = heard.map(|heard| match volatile {
                true => heard.start,
                false => heard.life.inc,
            });
            let recent =
                asked.is_some_and(|asked| asked.is_recent(now)) && named == Some(member.inc);
            if *member == me || recent {
                there += 1;
            } else if asked.is_none_or(|asked| asked.is_over(now)) {
                self.ask_whether_there(member.node);
            }
        }
        2 * there > members.len()
    }

    fn ask_whether_there(&mut self, node: NodeId) {
        let links = &self.links;
        self.vouchers.asked.retain(|node, _| links.contains(node));
        let (query, shards) = (self.next_query, Vec::new());
        if self.send_if(node, Message::Survey { query, shards }) {
            self.next_query += 1;
            let heard = self.vouchers.asked.get(&node).and_then(|asked| asked.heard);
            let asked = Asked {
                query: Some(query),
                at: self.now,
                heard,
            };
            self.vouchers.asked.insert(node, asked);
        }
    }

    /// A member has answered a question that is no recovery's.
    pub(crate) fn is_there(&mut self, query: u64, life: Member, start: Incarnation) {
        let asked = self.vouchers.asked.get_mut(&life.node);
        if let Some(asked) = asked.filter(|asked| asked.query == Some(query)) {
            asked.query = None;
            let at = self.now;
            asked.heard = Some(Heard { life, start, at });
            self.timers.set(Timer::Look, self.now);
        }
    }
}
