//! What operations came to, kept for those who asked until they say that they know (rule R15).
//!
//! A node acknowledges what it received, and the shard forgets it. One that never comes back
//! acknowledges nothing, and keeps what it had under way in every replica. So the leader takes
//! nothing more out of a shard that keeps [`MAX_UNACKNOWLEDGED_BYTES`], and from half of that on
//! gives up sessions that have been silent for long ([`Command::GiveUp`](crate::Command::GiveUp)):
//! their operations stay done, what they took stays taken, and whoever asks what became of them is
//! told that it is not known any more.

use std::collections::BTreeMap;

use cpe_membership::NodeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Name, OpId, Outcome, RangeSet, Session};

/// Bytes of the outcomes of a shard that are not acknowledged, all together, at which a leader
/// proposes no more takes. They travel with a state that a replica fetches, in the part that is not
/// fetched by the tuple, beside [`MAX_LEASED_BYTES`](crate::MAX_LEASED_BYTES) of leases and the
/// records of actors.
pub const MAX_UNACKNOWLEDGED_BYTES: usize = 96 * 1024 * 1024;

/// Bytes of the outcomes of one session: a quarter of all, so that a node that reads slowly keeps
/// others from nothing.
const SESSION_BYTES: usize = MAX_UNACKNOWLEDGED_BYTES / 4;

/// What a session's client may still ask about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    /// Operations that have an outcome, acknowledged or not.
    done: RangeSet,
    /// Outcomes not yet acknowledged.
    results: BTreeMap<u64, Remembered>,
    /// Index of the entry that decided its latest operation.
    #[serde(default)]
    latest: u64,
    /// Bytes of the outcomes.
    #[serde(skip)]
    bytes: usize,
}

/// An outcome and what is needed to undo it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) outcome: Outcome,
    /// Workspace of a taken tuple; `None` when it cannot return because its variable was deleted.
    pub(super) home: Option<Name>,
}

impl Remembered {
    fn bytes(&self) -> usize {
        self.outcome.size()
    }
}

type ByNode = BTreeMap<NodeId, (Session, Record)>;

/// The sessions of a shard: at most one per node, as a later boot of a node replaces the earlier.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sessions {
    by_node: ByNode,
    /// Bytes of all outcomes kept.
    bytes: usize,
}

impl Serialize for Sessions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.by_node.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sessions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut by_node = ByNode::deserialize(deserializer)?;
        let mut bytes = 0;
        for (_, record) in by_node.values_mut() {
            record.bytes = record.results.values().map(Remembered::bytes).sum();
            bytes += record.bytes;
        }
        Ok(Self { by_node, bytes })
    }
}

impl Sessions {
    fn record(&mut self, session: Session) -> Option<&mut Record> {
        match self.by_node.get_mut(&session.member.node) {
            Some((current, record)) if *current == session => Some(record),
            _ => None,
        }
    }

    /// Makes sure that this session is the current one of its node, unless a later one is.
    pub(super) fn open(&mut self, session: Session) {
        let (current, record) = self
            .by_node
            .entry(session.member.node)
            .or_insert_with(|| (session, Record::default()));
        if *current < session {
            self.bytes -= record.bytes;
            *current = session;
            *record = Record::default();
        }
    }

    /// See [`Sm::outcome`](super::Sm::outcome).
    pub(super) fn outcome(&self, op: OpId) -> Option<Outcome> {
        let (session, record) = self.by_node.get(&op.session.member.node)?;
        if *session > op.session {
            return Some(Outcome::Stale);
        }
        if *session < op.session || !record.done.contains(op.seq) {
            return None;
        }
        let kept = record.results.get(&op.seq);
        Some(kept.map_or(Outcome::Stale, |kept| kept.outcome.clone()))
    }

    /// What is kept of an operation of the current session of its node.
    pub(super) fn kept(&self, op: OpId) -> Option<&Remembered> {
        let (session, record) = self.by_node.get(&op.session.member.node)?;
        let current = *session == op.session;
        record.results.get(&op.seq).filter(|_| current)
    }

    /// Forgets one outcome, which is to be another.
    pub(super) fn take_back(&mut self, op: OpId) -> Option<Remembered> {
        let record = self.record(op.session)?;
        let kept = record.results.remove(&op.seq)?;
        record.bytes -= kept.bytes();
        self.bytes -= kept.bytes();
        Some(kept)
    }

    /// The entry at `index` decided an operation.
    pub(super) fn conclude(&mut self, op: OpId, kept: Remembered, index: u64) {
        // One that was cancelled before and is now again.
        self.take_back(op);
        let bytes = kept.bytes();
        let Some(record) = self.record(op.session) else {
            return;
        };
        record.latest = index;
        record.done.insert(op.seq);
        record.results.insert(op.seq, kept);
        record.bytes += bytes;
        self.bytes += bytes;
    }

    /// Gives up what is kept for a session, if it had no operation decided since `latest`.
    pub(super) fn give_up(&mut self, session: Session, latest: u64) {
        if let Some(record) = self.record(session)
            && record.latest == latest
        {
            let freed = std::mem::take(&mut record.bytes);
            record.results.clear();
            self.bytes -= freed;
        }
    }

    /// Bytes of all outcomes kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when so much is kept, for this session or for all, that nothing more is taken for it.
    pub(super) fn is_full(&self, session: Session) -> bool {
        let own = self.by_node.get(&session.member.node);
        let own = own.filter(|(current, _)| *current == session);
        self.bytes >= MAX_UNACKNOWLEDGED_BYTES
            || own.is_some_and(|(_, record)| record.bytes >= SESSION_BYTES)
    }

    /// Sessions for which outcomes are kept, with the index of the latest.
    pub(super) fn owed(&self) -> impl Iterator<Item = (Session, u64)> {
        let owed = self.by_node.values();
        let owed = owed.filter(|(_, record)| !record.results.is_empty());
        owed.map(|(session, record)| (*session, record.latest))
    }

    /// A session has received these.
    pub(super) fn forget(&mut self, session: Session, seqs: &[u64]) {
        let Some(record) = self.record(session) else {
            return;
        };
        let mut freed = 0;
        for seq in seqs {
            record.done.insert(*seq);
            let kept = record.results.remove(seq);
            freed += kept.map_or(0, |kept| kept.bytes());
        }
        record.bytes -= freed;
        self.bytes -= freed;
    }

    /// How many outcomes are kept.
    pub(super) fn len(&self) -> usize {
        let records = self.by_node.values().map(|(_, record)| record);
        records.map(|record| record.results.len()).sum()
    }

    /// All outcomes kept, in an order that depends on the state alone.
    pub(super) fn all(&self) -> impl Iterator<Item = &Remembered> {
        let records = self.by_node.values().map(|(_, record)| record);
        records.flat_map(|record| record.results.values())
    }

    /// The same, to be changed in what has no size.
    pub(super) fn homes(&mut self) -> impl Iterator<Item = (&Outcome, &mut Option<Name>)> {
        let records = self.by_node.values_mut().map(|(_, record)| record);
        let kept = records.flat_map(|record| record.results.values_mut());
        kept.map(|kept| (&kept.outcome, &mut kept.home))
    }
}
