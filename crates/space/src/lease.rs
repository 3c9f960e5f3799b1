//! Leased takes (guarantee G7): tuples set aside until their taker commits.
//!
//! A leased take removes a tuple from its variable and keeps it under the take's id. *Commit* makes
//! the removal final. *Return* puts the tuple back at its old index, and so does *expire*, which
//! the home proposes when the lease was not renewed for its time to live. So a tuple whose taker
//! died comes back, and may be handed out again: at least once instead of at most once.
//!
//! The fencing token of a lease is the index of its take in the shard's history. A later lease of
//! the same tuple has a higher one, so whatever remembers the highest token it has seen can refuse
//! a taker that went on after its lease was over.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_tuple::{Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::{Applied, Name, OpId, Outcome, Sm, variable_of};

/// The shortest time to live of a lease. 100 ms: below it a slow write to a disk ends leases.
pub const LEASE_TTL_MIN: Duration = Duration::from_millis(100);

/// The longest time to live of a lease. A day: what a crashed taker had is missing for no longer.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Leases of one shard at a time. Leased takes beyond are refused ([`Outcome::TooManyLeases`]).
pub const MAX_LEASES: usize = 16_384;

/// Bytes of all leased tuples of a shard together. Leased takes beyond are refused in the same way.
/// What is leased travels with a state that a replica fetches, in the part that is not fetched by
/// the tuple, and must fit there beside all else.
pub const MAX_LEASED_BYTES: usize = 64 * 1024 * 1024;

/// Leases of one shard whose end is remembered, so that a repeated commit is answered truly.
pub const MAX_ENDED_LEASES: usize = 4_096;

/// Which lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId {
    /// The leased take.
    pub op: OpId,
    /// The fencing token: index of the take in the shard's history.
    pub token: u64,
}

/// What a holder does with its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseAct {
    /// Its time to live begins anew.
    Renew,
    /// The tuple is removed for good.
    Commit,
    /// The tuple goes back to its old index.
    Return,
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseEnd {
    /// By commit: the tuple is gone.
    Committed,
    /// By return, or because the take was cancelled: the tuple went back.
    Returned,
    /// It was not renewed in time: the tuple went back.
    Expired,
    /// It is not there and too long ago to be remembered, or never was.
    Forgotten,
}

/// A tuple set aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    op: OpId,
    /// Where the tuple goes back to; `None` once its variable was deleted.
    home: Option<Name>,
    index: u64,
    tuple: Tuple,
    ttl_ms: u64,
    renewals: u64,
}

impl Lease {
    /// Its id: the take that made it.
    #[must_use]
    pub fn op(&self) -> OpId {
        self.op
    }

    /// Workspace the tuple came from; `None` when it cannot go back.
    #[must_use]
    pub fn workspace(&self) -> Option<&Name> {
        self.home.as_ref()
    }

    /// Index that admitted the tuple.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The tuple.
    #[must_use]
    pub fn tuple(&self) -> &Tuple {
        &self.tuple
    }

    /// How long it lives without being renewed.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// How often it was renewed.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        self.renewals
    }
}

/// All leases of a shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Kept")]
pub(crate) struct Leases {
    /// By token.
    open: BTreeMap<u64, Lease>,
    /// How the latest of the others ended, by token.
    ended: BTreeMap<u64, (OpId, LeaseEnd)>,
    /// Bytes of the tuples of the open ones.
    #[serde(skip)]
    bytes: usize,
}

/// Leases as they are kept.
#[derive(Deserialize)]
struct Kept {
    open: BTreeMap<u64, Lease>,
    ended: BTreeMap<u64, (OpId, LeaseEnd)>,
}

impl From<Kept> for Leases {
    fn from(Kept { open, ended }: Kept) -> Self {
        let bytes = open.values().map(|lease| lease.tuple.size()).sum();
        Self { open, ended, bytes }
    }
}

impl Leases {
    /// Whether a tuple may go back to this workspace.
    pub(crate) fn has_any_of(&self, workspace: &Name) -> bool {
        let mut open = self.open.values();
        open.any(|lease| lease.home.as_ref() == Some(workspace))
    }

    /// Tuples of a deleted variable must not come back.
    pub(crate) fn deleted(&mut self, workspace: &Name, key: Option<&Value>) {
        for lease in self.open.values_mut() {
            if lease.home.as_ref() == Some(workspace)
                && key.is_none_or(|key| *key == variable_of(&lease.tuple))
            {
                lease.home = None;
            }
        }
    }

    fn end(&mut self, id: LeaseId, end: LeaseEnd) -> Option<Lease> {
        self.open.get(&id.token).filter(|lease| lease.op == id.op)?;
        let lease = self.open.remove(&id.token)?;
        self.bytes = self.bytes.saturating_sub(lease.tuple.size());
        self.ended.insert(id.token, (id.op, end));
        if self.ended.len() > MAX_ENDED_LEASES {
            self.ended.pop_first();
        }
        Some(lease)
    }

    fn how_ended(&self, id: LeaseId) -> LeaseEnd {
        match self.ended.get(&id.token) {
            Some((op, end)) if *op == id.op => *end,
            _ => LeaseEnd::Forgotten,
        }
    }
}

impl Sm {
    /// The lease with this token.
    #[must_use]
    pub fn lease(&self, token: u64) -> Option<&Lease> {
        self.leases.open.get(&token)
    }

    /// All leases by token, oldest first.
    pub fn leases(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.leases
            .open
            .iter()
            .map(|(token, lease)| (*token, lease))
    }

    /// True when no further lease can be given.
    pub(crate) fn is_full_of_leases(&self) -> bool {
        self.leases.open.len() >= MAX_LEASES || self.leases.bytes >= MAX_LEASED_BYTES
    }

    /// Sets a tuple that was just removed from its variable aside.
    pub(crate) fn set_aside(
        &mut self,
        op: OpId,
        workspace: &Name,
        index: u64,
        tuple: Tuple,
        ttl_ms: u64,
    ) -> Outcome {
        let token = self.index();
        let bounds = (LEASE_TTL_MIN.as_millis(), LEASE_TTL_MAX.as_millis());
        let ttl_ms = u128::from(ttl_ms).clamp(bounds.0, bounds.1);
        let lease = Lease {
            op,
            home: Some(workspace.clone()),
            index,
            tuple: tuple.clone(),
            ttl_ms: u64::try_from(ttl_ms).unwrap_or(u64::MAX),
            renewals: 0,
        };
        self.leases.bytes += lease.tuple.size();
        self.leases.open.insert(token, lease);
        Outcome::Leased {
            index,
            tuple,
            token,
        }
    }

    /// A holder acts on its lease. Doing twice what ended it is no error.
    pub(crate) fn act_on_lease(&mut self, op: OpId, id: LeaseId, act: LeaseAct) -> Applied {
        let there = self.leases.open.get_mut(&id.token);
        if let Some(lease) = there.filter(|lease| lease.op == id.op) {
            let mut back = None;
            match act {
                LeaseAct::Renew => lease.renewals += 1,
                LeaseAct::Commit => {
                    self.leases.end(id, LeaseEnd::Committed);
                }
                LeaseAct::Return => back = self.end_lease(id, LeaseEnd::Returned),
            }
            let done = self.conclude(op, Outcome::Done, None);
            return back.unwrap_or(done);
        }
        let end = self.leases.how_ended(id);
        let repeated = matches!(
            (act, end),
            (LeaseAct::Commit, LeaseEnd::Committed) | (LeaseAct::Return, LeaseEnd::Returned)
        );
        let outcome = if repeated {
            Outcome::Done
        } else {
            Outcome::LeaseLost(end)
        };
        self.conclude(op, outcome, None)
    }

    /// The lease was not renewed since it was seen with `renewals`: it is over.
    pub(crate) fn expire_lease(&mut self, id: LeaseId, renewals: u64) -> Applied {
        let there = self.leases.open.get(&id.token);
        if there.is_none_or(|lease| lease.renewals != renewals) {
            return Applied::Nothing;
        }
        self.end_lease(id, LeaseEnd::Expired)
            .unwrap_or(Applied::Nothing)
    }

    /// Ends a lease and puts its tuple back; `None` when there is no such lease, or nowhere to put
    /// the tuple.
    pub(crate) fn end_lease(&mut self, id: LeaseId, end: LeaseEnd) -> Option<Applied> {
        let lease = self.leases.end(id, end)?;
        self.put_back(lease.home?, lease.index, lease.tuple)
    }
}
