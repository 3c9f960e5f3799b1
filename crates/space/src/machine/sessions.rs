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
/// proposes no more takes. They travel with a state that a replica fetches, in the part that is not fetched by the tuple, beside
/// [`MAX_LEASED_BYTES`](crate::MAX_LEASED_BYTES) of leases and the records of actors.
pub const MAX_UNACKNOWLEDGED_BYTES: usize = 96 * 1024 * 1024;

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
}

impl Record {
    fn bytes(&self) -> usize {
        self.results.values().map(Remembered::bytes).sum()
    }
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
        let by_node = ByNode::deserialize(deserializer)?;
        let bytes = by_node.values().map(|(_, record)| record.bytes()).sum();
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
            self.bytes = self.bytes.saturating_sub(record.bytes());
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
        let kept = self.record(op.session)?.results.remove(&op.seq)?;
        self.bytes = self.bytes.saturating_sub(kept.bytes());
        Some(kept)
    }

    /// The entry at `index` decided an operation.
    pub(super) fn conclude(&mut self, op: OpId, kept: Remembered, index: u64) {
        let bytes = kept.bytes();
        let Some(record) = self.record(op.session) else {
            return;
        };
        record.latest = index;
        record.done.insert(op.seq);
        let before = record.results.insert(op.seq, kept);
        let before = before.map_or(0, |before| before.bytes());
        self.bytes = (self.bytes + bytes).saturating_sub(before);
    }

    /// Gives up what is kept for a session, if it had no operation decided since `latest`.
    pub(super) fn give_up(&mut self, session: Session, latest: u64) {
        if let Some(record) = self.record(session)
            && record.latest == latest
        {
            let freed = record.bytes();
            record.results.clear();
            self.bytes = self.bytes.saturating_sub(freed);
        }
    }

    /// Bytes of all outcomes kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
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
        self.bytes = self.bytes.saturating_sub(freed);
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
