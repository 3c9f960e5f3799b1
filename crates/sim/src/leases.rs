//! Leases in a run: what simulated holders do with theirs, and the books that must add up.
//!
//! What is checked: a committed tuple is handed out to nobody afterwards; it is committed once; of
//! one tuple, a lease asked for later has a higher token; a lease that was followed by another
//! cannot be committed any more; and all leases end, so that nothing set aside is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_mesh::{Command, Failure, Input, LeaseHandle, Peer, Reply, RequestId};
use cpe_space::{LeaseAct, LeaseEnd};
use rand::RngExt;

use crate::check::Violation;
use crate::work::Open;
use crate::world::{Happening, World};

/// Milliseconds. Leases of a run live this long: short enough for many to end by themselves.
const TTL_MS: std::ops::Range<u64> = 300..3_000;

/// A request about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acting {
    pub(crate) lease: LeaseHandle,
    pub(crate) act: LeaseAct,
    pub(crate) asked: Duration,
}

/// What is known of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Its holder may have been able to commit it.
    Held,
    Committed,
    /// Its tuple was back by then.
    Back,
}

/// Who was told to hold what.
#[derive(Debug, Default)]
pub(crate) struct LeaseBooks {
    /// Value and what is known, by handle.
    held: BTreeMap<LeaseHandle, (i64, Known, Duration)>,
    /// Tokens under which a value was received, and when.
    tokens: BTreeMap<i64, Vec<(Duration, u64)>>,
    /// Values that may have been committed: nobody was told.
    tried: BTreeSet<i64>,
    /// Committed values: when that was known, and the token.
    gone: BTreeMap<i64, (Duration, u64)>,
}

impl LeaseBooks {
    /// Somebody who had asked at `asked` received a tuple under a lease.
    fn received(
        &mut self,
        lease: LeaseHandle,
        value: i64,
        ttl: Duration,
        (asked, now): (Duration, Duration),
    ) -> Result<(), Violation> {
        let token = lease.token();
        let tokens = self.tokens.entry(value).or_default();
        let earlier = tokens.iter().filter(|(at, _)| *at <= asked);
        if earlier.map(|(_, token)| *token).max() >= Some(token)
            || tokens.iter().any(|(_, other)| *other == token)
        {
            return Err(Violation::TokenFell(value));
        }
        tokens.push((now, token));
        if let Some((at, committed)) = self.gone.get(&value)
            && (*at <= asked || *committed <= token)
        {
            return Err(Violation::SeenAfterCommit(value));
        }
        self.held.insert(lease, (value, Known::Held, ttl));
        Ok(())
    }

    /// A holder was told that its lease is committed; true when that is news.
    fn committed(
        &mut self,
        Acting { lease, asked, .. }: Acting,
        now: Duration,
    ) -> Result<Option<i64>, Violation> {
        let Some((value, known, _)) = self.held.get_mut(&lease) else {
            return Ok(None);
        };
        let value = *value;
        match std::mem::replace(known, Known::Committed) {
            Known::Committed => return Ok(None),
            Known::Back => return Err(Violation::CommittedLate(value)),
            Known::Held => {}
        }
        let token = lease.token();
        let tokens = self.tokens.get(&value).into_iter().flatten();
        let mut followed = tokens.filter(|(at, later)| *at <= asked && *later > token);
        if followed.next().is_some() {
            return Err(Violation::CommittedLate(value));
        }
        self.gone.insert(value, (now, token));
        Ok(Some(value))
    }

    /// A holder was told that the tuple went back.
    fn back(&mut self, lease: LeaseHandle) -> Result<(), Violation> {
        let Some((value, known, _)) = self.held.get_mut(&lease) else {
            return Ok(());
        };
        match std::mem::replace(known, Known::Back) {
            Known::Committed => Err(Violation::CommittedLate(*value)),
            Known::Held | Known::Back => Ok(()),
        }
    }

    /// True for a value that may have been committed without anybody being told.
    pub(crate) fn may_be_gone(&self, value: i64) -> bool {
        self.tried.contains(&value)
    }
}

impl World {
    /// How long a lease asked for now is to live.
    pub(crate) fn draw_ttl(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(TTL_MS))
    }

    /// Somebody holds a tuple: draws what becomes of it.
    pub(crate) fn hold(
        &mut self,
        n: usize,
        asked: Duration,
        lease: LeaseHandle,
        value: i64,
        ttl: Duration,
    ) {
        self.report.leased += 1;
        if !self.books.stored.contains_key(&value) {
            self.violation = Some(Violation::FromNowhere(value));
            return;
        }
        let times = (asked, self.now);
        if let Err(violation) = self.books.leases.received(lease, value, ttl, times) {
            self.violation = Some(violation);
            return;
        }
        let (act, most) = match self.rng.random_range(0..20) {
            0..=8 => (LeaseAct::Commit, 0.0),
            // Some of these come too late.
            9..=12 => (LeaseAct::Commit, 2.0),
            13..=15 => (LeaseAct::Renew, 1.2),
            16..=17 => (LeaseAct::Return, 1.2),
            _ => return,
        };
        self.act_later(n, lease, act, most);
    }

    /// Plans an act within so many times to live.
    fn act_later(&mut self, n: usize, lease: LeaseHandle, act: LeaseAct, most: f64) {
        let ttl = self.books.leases.held.get(&lease).map(|(_, _, ttl)| *ttl);
        let wait = ttl
            .unwrap_or_default()
            .mul_f64(self.rng.random_range(0.0..=most));
        // Whoever has the handle may act; the node that took it may be gone by then.
        let node = if self.rng.random_bool(0.2) {
            self.rng.random_range(0..self.nodes.len())
        } else {
            n
        };
        self.at(self.now + wait, Happening::Act { node, lease, act });
    }

    /// A holder acts on its lease.
    pub(crate) fn act(&mut self, n: usize, lease: LeaseHandle, act: LeaseAct) {
        if !self.is_up(n) {
            return;
        }
        let work = &self.scenario.workload;
        let deadline = Duration::from_secs_f64(work.deadline_ms / 1_000.0);
        let request = self.fresh_request();
        let asked = self.now;
        if act == LeaseAct::Commit
            && let Some((value, ..)) = self.books.leases.held.get(&lease)
        {
            self.books.leases.tried.insert(*value);
        }
        if let Some(node) = self.nodes.get_mut(n) {
            let open = Open::Act(Acting { lease, act, asked });
            node.open.insert(request, open);
        }
        let command = Command::ActOnLease {
            lease,
            act,
            deadline,
        };
        self.note(n, || format!("ask {} {command:?}", request.0));
        self.input(n, Input::Command(request, command));
    }

    /// A holder was answered.
    pub(crate) fn acted(&mut self, n: usize, acting: Acting, reply: &Reply) {
        let (lease, now) = (acting.lease, self.now);
        let result = match (acting.act, reply) {
            (LeaseAct::Commit, Reply::Done) => self.commit_is_known(n, acting),
            (LeaseAct::Return, Reply::Done) => self.lease_is_back(lease),
            (LeaseAct::Renew, Reply::Done) => {
                self.act_later(n, lease, LeaseAct::Commit, 1.5);
                Ok(())
            }
            (_, Reply::Failed(Failure::LeaseLost { end, .. })) => {
                self.report.leases_lost += 1;
                match end {
                    LeaseEnd::Committed => self.commit_is_known(n, acting),
                    LeaseEnd::Returned | LeaseEnd::Expired => self.lease_is_back(lease),
                    LeaseEnd::Forgotten => Ok(()),
                }
            }
            (act, Reply::Failed(_)) if now < self.scenario.span() => {
                // Not known: asking again is safe.
                self.act_later(n, lease, act, 0.5);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(violation) = result {
            self.violation = Some(violation);
        }
    }

    fn commit_is_known(&mut self, n: usize, acting: Acting) -> Result<(), Violation> {
        if let Some(value) = self.books.leases.committed(acting, self.now)? {
            self.report.committed += 1;
            self.report.taken += 1;
            self.books.take(value, n)?;
            self.record.committed(acting.lease);
        }
        Ok(())
    }

    fn lease_is_back(&mut self, lease: LeaseHandle) -> Result<(), Violation> {
        self.record.back(lease, self.now);
        self.books.leases.back(lease)
    }

    /// Leases that have not ended.
    pub(crate) fn leases_left(&self) -> usize {
        let peer = self.nodes.first().and_then(|node| node.peer.as_ref());
        let shards = peer.into_iter().flat_map(Peer::shards);
        shards.map(|shard| shard.sm().leases().count()).sum()
    }

    /// The request of a leased take was answered with a tuple.
    pub(crate) fn leased(&mut self, n: usize, request: RequestId, asked: Duration, reply: &Reply) {
        if let Reply::Leased { tuple, lease, ttl } = reply {
            let value = crate::record::value_of(tuple);
            self.hold(n, asked, *lease, value, *ttl);
            self.input(n, Input::Received(request));
        }
    }
}
