//! Nodes that host actors: when each believes that it may let them act, and when its life is over.
//!
//! What is checked: a life is over, as any replica may have it, only once its holder believes no
//! more that it may act, whatever both clocks show; and after the faults all nodes hold their
//! leases on end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::Member;
use cpe_mesh::{Command, Input, Reply, RequestId};
use rand::RngExt;

use crate::check::Violation;
use crate::world::{Happening, World};

/// Milliseconds. So long a node takes at most to ask to host actors, or to ask again.
const ASK_MS: u64 = 300;

/// How long the node waits for a life.
const DEADLINE: Duration = Duration::from_secs(5);

/// For how many leases on end all nodes must hold theirs, after the faults.
const STEADY_LEASES: u32 = 3;

/// Within how long they must have begun to.
const STEADY_WITHIN: Duration = Duration::from_secs(60);

/// How often that is looked at.
const POLL: Duration = Duration::from_millis(100);

/// What is known of all lives.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// Until when each life believes that it may act, in the time of the world, and its node.
    until: BTreeMap<Member, (usize, Duration)>,
    /// Lives that some replica shows to be over.
    over: BTreeSet<Member>,
    asking: BTreeSet<RequestId>,
    /// When a node could not act, or lost its life, last.
    trouble: Duration,
}

impl Hosts {
    pub(crate) fn is_answered(&mut self, request: RequestId) -> bool {
        self.asking.remove(&request)
    }

    /// A node has ended: nothing runs on it.
    pub(crate) fn gone(&mut self, n: usize, now: Duration) {
        for (at, until) in self.until.values_mut() {
            if *at == n {
                *until = (*until).min(now);
            }
        }
    }

    /// Until when a life may act.
    pub(crate) fn until(&self, life: Member) -> Duration {
        self.until
            .get(&life)
            .map_or(Duration::ZERO, |(_, until)| *until)
    }

    /// Whether what runs on a node may act now.
    fn acts(&self, n: usize, now: Duration) -> bool {
        let mut all = self.until.values();
        all.any(|(at, until)| *at == n && *until > now)
    }
}

impl World {
    fn has_hosts(&self) -> bool {
        self.scenario.workload.node_lease_ms > 0.0
    }

    /// A node wants to host actors, in a moment.
    pub(crate) fn host_later(&mut self, n: usize) {
        if !self.has_hosts() {
            return;
        }
        let pause = Duration::from_millis(self.rng.random_range(0..ASK_MS));
        let boot = self.nodes.get(n).map_or(0, |node| node.boot);
        self.at(self.now + pause, Happening::Enlist { node: n, boot });
    }

    pub(crate) fn enlist(&mut self, n: usize) {
        let request = self.fresh_request();
        self.hosts.asking.insert(request);
        let deadline = DEADLINE;
        self.note(n, || format!("ask {} to host", request.0));
        self.input(n, Input::Command(request, Command::Enlist { deadline }));
    }

    pub(crate) fn enlisted(&mut self, n: usize, reply: &Reply) {
        self.note(n, || format!("asked to host: {reply:?}"));
        if !matches!(reply, Reply::Enlisted(_)) {
            self.host_later(n);
        }
    }

    /// A node may let actors act until its clock shows this.
    pub(crate) fn may_act(&mut self, n: usize, life: Member, until: Duration) {
        let Some(node) = self.nodes.get(n) else {
            return;
        };
        let (now, until) = (self.now, node.clock.reaches(until));
        self.report.may_act += 1;
        self.note(n, || format!("may act as {life} until {until:?}"));
        let more = until.saturating_sub(now);
        if self.hosts.over.contains(&life) && !more.is_zero() {
            self.violation = Some(Violation::ActsAfterEnd { life, more });
        }
        if !self.hosts.acts(n, now) {
            self.hosts.trouble = now;
        }
        self.hosts.until.insert(life, (n, until));
        self.look_at_life(life);
    }

    /// A node has lost a life, and drops what ran under it.
    pub(crate) fn voided(&mut self, n: usize, life: Member) {
        self.note(n, || format!("may act as {life} no more"));
        self.report.voided += 1;
        self.hosts.trouble = self.now;
        self.hosts.gone(n, self.now);
        self.actors.gone(n);
        self.mailboxes_lost(n);
        self.ends_life_over(n);
        self.host_later(n);
    }

    /// A replica shows that a life is over.
    pub(crate) fn life_is_over(&mut self, n: usize, life: Member) {
        if !self.hosts.over.insert(life) {
            return;
        }
        let until = self.hosts.until.get(&life).map(|(_, until)| *until);
        let more = until.unwrap_or_default().saturating_sub(self.now);
        self.note(n, || format!("host {life} is over"));
        if !more.is_zero() {
            self.violation = Some(Violation::ActsAfterEnd { life, more });
        }
    }

    /// With all nodes up and no faults, each must hold its lease for some time on end.
    pub(crate) fn demand_steady_hosts(&mut self) -> Result<(), Violation> {
        if !self.has_hosts() {
            return Ok(());
        }
        let span = self.scenario.node_lease() * STEADY_LEASES;
        let limit = self.now + STEADY_WITHIN + span;
        self.hosts.trouble = self.now;
        let began = self.now;
        while self.now < self.hosts.trouble + span || !self.actors_go_on(began) {
            if self.now >= limit {
                let node = (0..self.nodes.len()).find(|n| !self.hosts.acts(*n, self.now));
                if node.is_none() {
                    return Err(Violation::ActorsStopped(
                        limit.saturating_sub(began).as_secs(),
                    ));
                }
                return Err(Violation::Unsteady {
                    node: node.unwrap_or(0) + 1,
                    seconds: span.as_secs(),
                });
            }
            let next = self.now + POLL;
            self.run_until(next)?;
            if !(0..self.nodes.len()).all(|n| self.hosts.acts(n, self.now)) {
                self.hosts.trouble = self.now;
            }
        }
        self.actors_end = true;
        Ok(())
    }
}
