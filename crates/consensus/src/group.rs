//! One member's part in one epoch of a group.

use std::collections::BTreeMap;

use crate::election::{Election, Verdict};
use crate::guard::{Guard, Guards};
use crate::leader::{Candidate, Leader};
use crate::log::Log;
use crate::{Ballot, Entry, Hard, Heartbeat, Mark, Message, Output, Refused};

/// Entries proposed and not decided. Beyond this proposals are refused: the disks or the network
/// are behind, and whoever asks will ask again.
pub const MAX_TAIL: usize = 65_536;

/// Bytes proposed and not decided: 4 MiB, so that a member that lost its place can be sent all of
/// it in one message. One entry of any size fits an empty tail.
pub const MAX_TAIL_BYTES: usize = 4 * 1024 * 1024;

/// What a member does at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role<N, E> {
    Follower,
    Candidate(Candidate<N, E>),
    Leader(Leader<N>),
}

/// One member's part in one epoch of a group; see the crate's page for an example.
///
/// Whatever another member sends, no call panics. Trust ends there: members are taken to follow
/// the protocol and to keep what is on their disks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group<N, E> {
    pub(crate) me: N,
    epoch: u64,
    members: Vec<N>,
    pub(crate) log: Log<E>,
    /// Invariant: between `log.base()` and `log.len()`.
    pub(crate) decided: u64,
    /// Bytes of the entries after `decided`.
    pub(crate) tail_bytes: usize,
    pub(crate) promised: Option<Ballot<N>>,
    pub(crate) accepted: Option<Ballot<N>>,
    /// The highest ballot another member said it promised.
    pub(crate) refused: Option<Ballot<N>>,
    pub(crate) election: Election<N>,
    pub(crate) role: Role<N, E>,
    /// What a leader's replica learned elsewhere, beyond `decided`. It counts once the leader has
    /// decided it itself or leads no more.
    pub(crate) learned: u64,
    /// `Lead` was said and `Follow` not yet.
    pub(crate) announced: bool,
    pub(crate) guards: Guards,
}

impl<N: Copy + Ord, E: Entry> Group<N, E> {
    /// A member that enters an epoch for the first time. `members` lists all of them, the one
    /// that should lead first; `base` is the index of the state that the replica durably holds.
    ///
    /// [`Seat::open`](crate::Seat::open) is the door: it makes sure that the node may enter.
    #[must_use]
    pub fn new(me: N, epoch: u64, members: Vec<N>, base: u64) -> Self {
        let hard = Hard {
            epoch,
            promised: None,
            accepted: None,
        };
        Self::build(me, members, hard, Log::new(base, Vec::new()), base)
    }

    /// A member that comes back after a restart with all it had on disk (rule R10): its record,
    /// the index of its replica's state, its entries after that and how many of them it knows to
    /// be decided, as an index.
    #[must_use]
    pub fn restore(
        me: N,
        members: Vec<N>,
        hard: Hard<N>,
        base: u64,
        log: Vec<E>,
        decided: u64,
    ) -> Self {
        let mut group = Self::build(me, members, hard, Log::new(base, log), decided);
        if let Some(promised) = hard.promised {
            group.election.raise(promised.round); // R10
        }
        group
    }

    fn build(me: N, mut members: Vec<N>, hard: Hard<N>, log: Log<E>, decided: u64) -> Self {
        let mut seen = Vec::new();
        members.retain(|member| {
            let new = !seen.contains(member);
            seen.push(*member);
            new
        });
        let preferred = members.first() == Some(&me);
        let own = Ballot {
            round: u32::from(preferred),
            node: me,
        };
        let decided = decided.clamp(log.base(), log.len());
        Self {
            me,
            epoch: hard.epoch,
            tail_bytes: log.bytes_after(decided),
            decided,
            log,
            promised: hard.promised,
            accepted: hard.accepted,
            refused: None,
            election: Election::new(own, members.len() / 2 + 1),
            role: Role::Follower,
            learned: 0,
            announced: false,
            guards: Guards::default(),
            members,
        }
    }

    /// A restart that loses what was only promised or accepted.
    #[cfg(feature = "mutants")]
    pub(crate) fn forget(&mut self) {
        self.promised = None;
        self.accepted = None;
        self.log.truncate(self.decided);
        self.tail_bytes = 0;
    }

    /// What to answer when another member asks whether this one is there.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat<N> {
        let mut heartbeat = self.election.heartbeat();
        heartbeat.quorum &= self.is_voting();
        heartbeat
    }

    /// A round of heartbeats is over: these are the answers of other members to that round.
    ///
    /// Also sends again what seems lost. A group of one leads after its first round.
    pub fn tick(&mut self, replies: &[(N, Heartbeat<N>)], out: &mut Vec<Output<N, E>>) {
        if !self.is_voting() {
            return;
        }
        let others: BTreeMap<N, Heartbeat<N>> = replies
            .iter()
            .filter(|(from, reply)| self.is_other(*from) && reply.ballot.node == *from)
            .copied()
            .collect();
        let floor = self.promised.max(self.refused);
        let leading = !matches!(self.role, Role::Follower);
        let verdict = self.election.round(&others, floor, leading);
        if !self.guards.hold(Guard::Lead) {
            self.restamp();
        }
        match verdict {
            Verdict::Same => {}
            Verdict::Own => return self.prepare(out),
            Verdict::Other => {
                if self.guards.hold(Guard::Lead) {
                    self.step_down(out); // R2
                }
            }
            Verdict::Alone => self.step_down(out), // R1
        }
        self.resend(out);
    }

    /// Appends an entry, and returns the index it will have if it is decided. It leaves with the
    /// next [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Refused`], and the entry is certain not to be decided: this member does not lead, the
    /// epoch is sealed, or [`MAX_TAIL`] or [`MAX_TAIL_BYTES`] is reached.
    pub fn propose(&mut self, entry: E, out: &mut Vec<Output<N, E>>) -> Result<u64, Refused<N, E>> {
        if !self.is_leader() {
            let hint = self.leader();
            return Err(Refused::NotLeader { hint, entry });
        }
        if self.is_sealed() && self.guards.hold(Guard::Seal) {
            return Err(Refused::Sealed { entry }); // R11
        }
        let after = self.log.len();
        let tail_bytes = self.tail_bytes.saturating_add(entry.size());
        let is_full = after - self.decided >= MAX_TAIL as u64 || tail_bytes > MAX_TAIL_BYTES;
        if is_full && after > self.decided {
            return Err(Refused::Full { entry });
        }
        self.append(vec![entry], out);
        Ok(after + 1)
    }

    /// A message of another member arrived. Those of strangers are ignored.
    pub fn receive(&mut self, from: N, message: Message<N, E>, out: &mut Vec<Output<N, E>>) {
        if !self.is_voting() || !self.is_other(from) {
            return;
        }
        // Only its owner speaks under a ballot, and only to its owner others answer.
        let (ballot, owner) = match &message {
            Message::Prepare { ballot, .. }
            | Message::Sync { ballot, .. }
            | Message::Accept { ballot, .. }
            | Message::Confirm { ballot, .. } => (Some(ballot), from),
            Message::Promise { ballot, .. }
            | Message::Accepted { ballot, .. }
            | Message::Confirmed { ballot, .. } => (Some(ballot), self.me),
            Message::NeedPrepare | Message::Refuse { .. } | Message::CatchUp { .. } => (None, from),
        };
        if ballot.is_some_and(|ballot| ballot.node != owner) {
            return;
        }
        self.dispatch(from, message, out);
    }

    fn dispatch(&mut self, from: N, message: Message<N, E>, out: &mut Vec<Output<N, E>>) {
        match message {
            Message::Prepare {
                ballot,
                decided,
                accepted,
                len,
            } => self.on_prepare(ballot, decided, accepted, len, out),
            Message::Promise {
                ballot,
                accepted,
                len,
                decided,
                from: start,
                suffix,
            } => {
                let promise = crate::leader::Promised {
                    accepted,
                    len,
                    decided,
                    from: start,
                    suffix,
                };
                self.on_promise(from, ballot, promise, out);
            }
            Message::Sync {
                ballot,
                from: start,
                suffix,
                decided,
            } => self.on_sync(ballot, start, suffix, decided, out),
            Message::Accept {
                ballot,
                from: start,
                entries,
                decided,
            } => self.on_accept(ballot, start, entries, decided, out),
            Message::Accepted {
                ballot,
                len,
                decided,
                gap,
            } => self.on_accepted(from, ballot, len, decided, gap, out),
            Message::NeedPrepare => self.on_need_prepare(from, out),
            Message::Refuse { promised } => self.on_refuse(promised),
            Message::CatchUp { decided } => self.on_catch_up(from, decided, out),
            Message::Confirm { ballot, round } => self.on_confirm(ballot, round, out),
            Message::Confirmed { ballot, round } => self.on_confirmed(from, ballot, round, out),
        }
    }

    /// The replica durably holds the decided state up to `index`, learned from elsewhere. It must
    /// be a state of this epoch: once the replica is past a seal, the group is to be dropped.
    pub fn learn(&mut self, index: u64, out: &mut Vec<Output<N, E>>) {
        if !self.is_voting() || index <= self.decided.max(self.learned) {
            return;
        }
        match &self.role {
            // Followers believe a leader's `decided`. What it learned may have been decided under
            // a higher ballot, and its own entries may be others.
            Role::Leader(_) if index <= self.log.len() && self.guards.hold(Guard::OwnCount) => {
                self.learned = index;
            }
            Role::Leader(_) if index <= self.log.len() => self.install(index),
            Role::Leader(_) => {
                self.learned = index;
                self.step_down(out); // R9
            }
            Role::Candidate(_) if self.starts_over() => {
                // Promises were relative to what it had, and perhaps given before the decision.
                self.learned = index;
                self.step_down(out);
                self.election.retry();
            }
            Role::Candidate(_) => self.install(index),
            Role::Follower => {
                let len = self.log.len();
                self.install(index);
                self.tell_leader(index > len, out);
            }
        }
    }

    /// Whether a candidate that learns what was decided elsewhere starts over. Then no promise is
    /// relative to less than it has, which is why splicing (R5) is taken out together with it.
    fn starts_over(&self) -> bool {
        self.guards.hold(Guard::FreshBallot) && self.guards.hold(Guard::Splice)
    }

    /// Forgets entries up to an index, as far as they are decided. A peer that needs them will be
    /// told to fetch them elsewhere.
    pub fn trim(&mut self, index: u64) {
        self.log.rebase(index.min(self.decided));
    }

    /// R4: base and `decided` become `index`. Entries above were acknowledged and stay, and so do
    /// promise and accepted ballot.
    pub(crate) fn install(&mut self, index: u64) {
        if index > self.decided {
            self.log.rebase(index);
            self.log.unseal(index);
            self.decided = index;
            self.tail_bytes = self.log.bytes_after(index);
        }
    }

    /// Appends to the log, in memory and on disk.
    pub(crate) fn append(&mut self, entries: Vec<E>, out: &mut Vec<Output<N, E>>) {
        let after = self.log.len();
        self.replace(after, entries, out);
    }

    /// Replaces what follows an index, in memory and on disk. Nothing decided may be replaced.
    pub(crate) fn replace(&mut self, after: u64, entries: Vec<E>, out: &mut Vec<Output<N, E>>) {
        debug_assert!(
            after >= self.decided || cfg!(feature = "mutants"),
            "decided entries stay"
        );
        if after < self.log.len() {
            self.log.truncate(after);
            self.tail_bytes = self.log.bytes_after(self.decided.min(after));
        } else if entries.is_empty() {
            return;
        }
        for entry in &entries {
            self.tail_bytes = self.tail_bytes.saturating_add(entry.size());
        }
        out.push(Output::Append {
            after,
            entries: entries.clone(),
        });
        self.log.append(entries);
    }

    /// The log is decided up to an index that it reaches.
    pub(crate) fn decide(&mut self, index: u64, out: &mut Vec<Output<N, E>>) {
        if index <= self.decided {
            return;
        }
        let news = usize::try_from(index - self.decided).unwrap_or(usize::MAX);
        let bytes = self.log.after(self.decided).take(news).map(Entry::size);
        self.tail_bytes = bytes.fold(self.tail_bytes, usize::saturating_sub);
        self.decided = index;
        out.push(Output::Decided(index));
    }

    /// Gives up the lead: it is known that this epoch is over.
    pub fn resign(&mut self, out: &mut Vec<Output<N, E>>) {
        self.step_down(out);
    }

    /// Ends the role of candidate or leader, if it is one.
    pub(crate) fn step_down(&mut self, out: &mut Vec<Output<N, E>>) {
        self.role = Role::Follower;
        if self.announced {
            self.announced = false;
            out.push(Output::Follow);
        }
        self.install(self.learned);
        self.learned = 0;
    }

    /// Remembers a ballot and what is accepted under it.
    pub(crate) fn write_hard(&self, out: &mut Vec<Output<N, E>>) {
        out.push(Output::Hard(self.hard()));
    }

    pub(crate) fn send(&self, to: N, message: Message<N, E>, out: &mut Vec<Output<N, E>>) {
        out.push(Output::Send {
            to,
            message,
            durable: false,
        });
    }

    /// Sends once every write before is on disk.
    pub(crate) fn send_durable(&self, to: N, message: Message<N, E>, out: &mut Vec<Output<N, E>>) {
        out.push(Output::Send {
            to,
            message,
            durable: self.guards.hold(Guard::Durable), // R8
        });
    }

    /// The other members.
    pub(crate) fn others(&self) -> Vec<N> {
        let others = self.members.iter().filter(|member| **member != self.me);
        others.copied().collect()
    }

    pub(crate) fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    fn is_other(&self, node: N) -> bool {
        node != self.me && self.members.contains(&node)
    }

    /// False once the seal is decided (rule R11), and for a node that is no member.
    pub(crate) fn is_voting(&self) -> bool {
        let is_over = self.log.seal().is_some_and(|seal| seal <= self.decided);
        self.members.contains(&self.me) && !(is_over && self.guards.hold(Guard::Seal))
    }

    /// True while this member leads: it may propose, if the epoch is not sealed.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// True while this member leads and a majority, itself included, has the log that it adopted on
    /// disk under its ballot. From then on nothing is decided any more that an earlier leader
    /// proposes, or has proposed beyond that log: whoever leads next finds the ballot of this one
    /// with some member of that majority, and goes on from there (rule R5).
    ///
    /// What a leader says of the future on the strength of its clock needs this. A read does not:
    /// what is decided later is later.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        let own = usize::from(leader.own >= leader.adopted);
        let in_step = leader.peers.values().filter(|peer| peer.acked.is_some());
        own + in_step.count() >= self.majority()
    }

    /// Who leads, as far as this member knows. A hint.
    #[must_use]
    pub fn leader(&self) -> Option<N> {
        self.election.leader().map(|ballot| ballot.node)
    }

    /// The index up to which this member knows the log to be decided.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.decided
    }

    /// The index of the last entry.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is an index, not a count")]
    pub fn len(&self) -> u64 {
        self.log.len()
    }

    /// The index before the first entry that is still held.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.log.base()
    }

    /// True once an entry that ends the epoch is in the log, decided or not.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.log.seal().is_some()
    }

    /// The entry at an index, if it is held.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&E> {
        self.log.get(index)
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All members, the preferred leader first.
    #[must_use]
    pub fn members(&self) -> &[N] {
        &self.members
    }

    /// The durable record as it should be on disk now.
    #[must_use]
    pub fn hard(&self) -> Hard<N> {
        Hard {
            epoch: self.epoch,
            promised: self.promised,
            accepted: self.accepted,
        }
    }

    /// The leader's own log is on disk up to a mark.
    pub fn persisted(&mut self, mark: Mark<N>, out: &mut Vec<Output<N, E>>) {
        let len = self.log.len();
        if let Role::Leader(leader) = &mut self.role
            && leader.ballot == mark.ballot
        {
            leader.own = leader.own.max(mark.len.min(len));
            self.advance(out);
        }
    }
}
