//! What a member does to lead (rules R5, R8 and R9).

use std::collections::{BTreeMap, VecDeque};

use crate::confirm::Confirms;
use crate::follower::MAX_SUFFIX_BYTES;
use crate::group::Role;
use crate::guard::Guard;
use crate::{Ballot, Entry, Group, Mark, Message, Output};

/// `Accept`s without an answer, per peer. More wait and leave together, so that batches grow with
/// the load.
pub const MAX_IN_FLIGHT: usize = 4;

/// Bytes of entries in one `Accept`: 1 MiB, or one entry. A peer's answer is never far.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// What another member promised to a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Promised<N, E> {
    pub(crate) accepted: Option<Ballot<N>>,
    pub(crate) len: u64,
    pub(crate) decided: u64,
    pub(crate) from: u64,
    pub(crate) suffix: Vec<E>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Candidate<N, E> {
    pub(crate) ballot: Ballot<N>,
    pub(crate) promises: BTreeMap<N, Promised<N, E>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader<N> {
    /// The ballot that was prepared. Everything the leader sends carries it (rule R2).
    pub(crate) ballot: Ballot<N>,
    /// The length of the log that was adopted: all that earlier ballots decided is in it.
    pub(crate) adopted: u64,
    /// How much of the log is on the leader's own disk under its ballot.
    pub(crate) own: u64,
    /// How much of it a mark was given out for.
    marked: u64,
    pub(crate) peers: BTreeMap<N, Peer>,
    pub(crate) confirms: Confirms<N>,
}

/// How far another member is, as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    /// What it has on disk under the leader's ballot; `None` before its log is in step. Once in
    /// step it stays so: its disk says so.
    pub(crate) acked: Option<u64>,
    /// Entries sent, as an index.
    sent: u64,
    /// Ends of the messages without an answer.
    in_flight: VecDeque<u64>,
    /// What it knows to be decided, by its own word.
    decided: u64,
    /// What it was told to be decided.
    told: u64,
    /// It acknowledged something new since the last round.
    moved: bool,
    /// It was asked or sent again since the last round.
    again: bool,
}

impl<N: Copy + Ord, E: Entry> Group<N, E> {
    /// Asks for promises (rule R2). A ballot is used for one attempt only.
    pub(crate) fn prepare(&mut self, out: &mut Vec<Output<N, E>>) {
        self.step_down(out);
        let ballot = self.election.own();
        if self.promised >= Some(ballot) {
            return; // the election will raise it
        }
        self.promised = Some(ballot);
        self.write_hard(out);
        self.role = Role::Candidate(Candidate {
            ballot,
            promises: BTreeMap::new(),
        });
        for peer in self.others() {
            self.send_prepare(peer, ballot, out);
        }
        self.try_lead(out);
    }

    fn send_prepare(&self, to: N, ballot: Ballot<N>, out: &mut Vec<Output<N, E>>) {
        out.push(Output::Send {
            to,
            message: Message::Prepare {
                ballot,
                decided: self.decided,
                accepted: self.accepted,
                len: self.log.len(),
            },
            // Were the ballot forgotten in a crash, it would be used twice.
            durable: self.guards.hold(Guard::PromiseFirst),
        });
    }

    pub(crate) fn on_promise(
        &mut self,
        from: N,
        ballot: Ballot<N>,
        promise: Promised<N, E>,
        out: &mut Vec<Output<N, E>>,
    ) {
        match &mut self.role {
            Role::Candidate(candidate) if candidate.ballot == ballot => {
                let end = promise.from.checked_add(promise.suffix.len() as u64);
                let is_whole = promise.suffix.is_empty() || end == Some(promise.len);
                if is_whole {
                    candidate.promises.insert(from, promise);
                    self.try_lead(out);
                }
            }
            Role::Leader(leader) if leader.ballot == ballot => {
                let is_new = leader
                    .peers
                    .get(&from)
                    .is_some_and(|peer| peer.acked.is_none());
                if promise.decided > self.log.len() && self.guards.hold(Guard::StepDown) {
                    self.fall_behind(from, promise.decided, out);
                } else if is_new {
                    self.sync(from, promise.decided, out);
                }
            }
            _ => {}
        }
    }

    /// Leads, once a majority has promised.
    fn try_lead(&mut self, out: &mut Vec<Output<N, E>>) {
        let majority = self.majority();
        let Role::Candidate(candidate) = &mut self.role else {
            return;
        };
        if candidate.promises.len() + 1 < majority {
            return;
        }
        let ballot = candidate.ballot;
        let promises = std::mem::take(&mut candidate.promises);
        // R5: the highest accepted ballot, then the longest log.
        let by_ballot = self.guards.hold(Guard::HighestBallot);
        let rank = |accepted: Option<Ballot<N>>, len| (accepted.filter(|_| by_ballot), len);
        let own = rank(self.accepted, self.log.len());
        let best = promises
            .values()
            .filter(|promise| rank(promise.accepted, promise.len) > own)
            .max_by_key(|promise| rank(promise.accepted, promise.len));
        let adopted = best.map_or(self.log.len(), |best| best.len.max(best.from));
        let ahead = promises
            .iter()
            .max_by_key(|(_, promise)| promise.decided)
            .filter(|(_, promise)| promise.decided > adopted);
        if let Some((peer, promise)) = ahead
            && self.guards.hold(Guard::StepDown)
        {
            return self.fall_behind(*peer, promise.decided, out); // R9
        }
        if let Some(best) = best
            && !self.adopt(best, out)
        {
            return self.step_down(out);
        }
        let decided: Vec<(N, u64)> = promises
            .iter()
            .map(|(peer, promise)| (*peer, promise.decided))
            .collect();
        self.lead(ballot, decided, out);
    }

    /// Takes over a promised log. False when it does not fit what was asked for.
    fn adopt(&mut self, best: &Promised<N, E>, out: &mut Vec<Output<N, E>>) -> bool {
        let is_newer = best.accepted > self.accepted;
        let after = if is_newer {
            self.decided
        } else {
            self.log.len()
        };
        let Some(held) = after.checked_sub(best.from) else {
            return false;
        };
        if held > 0 && !self.guards.hold(Guard::Splice) {
            return true; // and leads with what it has
        }
        // R5: by index, wherever the suffix begins.
        let held = usize::try_from(held).unwrap_or(usize::MAX);
        let suffix: Vec<E> = best.suffix.iter().skip(held).cloned().collect();
        self.replace(after, suffix, out);
        true
    }

    fn lead(&mut self, ballot: Ballot<N>, promised: Vec<(N, u64)>, out: &mut Vec<Output<N, E>>) {
        self.accepted = Some(ballot);
        self.write_hard(out);
        let others = self.others().into_iter();
        let adopted = self.log.len();
        self.role = Role::Leader(Leader {
            ballot,
            adopted,
            own: 0,
            marked: adopted,
            peers: others.map(|peer| (peer, Peer::default())).collect(),
            confirms: Confirms::default(),
        });
        out.push(Output::Mark(Mark {
            ballot,
            len: adopted,
        }));
        for (peer, decided) in promised {
            self.sync(peer, decided, out);
        }
        self.advance(out);
        if !self.is_sealed() {
            self.announced = true;
            out.push(Output::Lead);
        }
    }

    /// R9: a peer has decided entries that the own, adopted log lacks.
    fn fall_behind(&mut self, peer: N, index: u64, out: &mut Vec<Output<N, E>>) {
        self.step_down(out);
        if index > self.decided {
            out.push(Output::Behind { peer, index });
        }
    }

    /// Brings a peer in step that promised, and knows the log to be decided up to an index.
    fn sync(&mut self, to: N, decided: u64, out: &mut Vec<Output<N, E>>) {
        let mut from = decided;
        if !self.guards.hold(Guard::NoClamp) {
            from = from.max(self.log.base());
        }
        let is_gone = from < self.log.base();
        let is_long = !is_gone && self.log.bytes_after(from) > MAX_SUFFIX_BYTES;
        if is_gone || (is_long && self.decided > from) {
            let decided = self.decided;
            return self.send(to, Message::CatchUp { decided }, out); // R4
        }
        let len = self.log.len();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(peer) = leader.peers.get_mut(&to) else {
            return;
        };
        peer.sent = len;
        peer.in_flight = VecDeque::from([len]);
        peer.told = self.decided;
        let sync = Message::Sync {
            ballot: leader.ballot,
            from,
            suffix: self.log.suffix(from), // R6: all of it
            decided: self.decided,
        };
        self.send(to, sync, out);
    }

    /// A leader speaks under the ballot with which it stands for election, prepared or not: what
    /// rule R2 forbids.
    pub(crate) fn restamp(&mut self) {
        let own = self.election.own();
        if let Role::Leader(leader) = &mut self.role {
            leader.ballot = own;
        }
    }

    pub(crate) fn on_accepted(
        &mut self,
        from: N,
        ballot: Ballot<N>,
        len: u64,
        decided: u64,
        gap: bool,
        out: &mut Vec<Output<N, E>>,
    ) {
        let own_len = self.log.len();
        let any_ballot = !self.guards.hold(Guard::CountBallot);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if leader.ballot != ballot && !any_ballot {
            return; // R8
        }
        if len.max(decided) > own_len {
            if self.guards.hold(Guard::StepDown) {
                self.fall_behind(from, len.max(decided), out); // R9
            }
            return;
        }
        let Some(peer) = leader.peers.get_mut(&from) else {
            return;
        };
        peer.decided = peer.decided.max(decided);
        peer.moved |= peer.acked < Some(len);
        let acked = peer.acked.map_or(len, |acked| acked.max(len));
        peer.acked = Some(acked);
        peer.sent = peer.sent.max(acked);
        while peer.in_flight.front().is_some_and(|end| *end <= acked) {
            peer.in_flight.pop_front();
        }
        if gap && !peer.again {
            peer.again = true;
            peer.sent = acked;
            peer.in_flight.clear();
        }
        self.advance(out);
    }

    /// R8: decided is what a majority has on disk under this ballot.
    pub(crate) fn advance(&mut self, out: &mut Vec<Output<N, E>>) {
        let majority = self.majority();
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let own = if self.guards.hold(Guard::OwnDisk) {
            leader.own
        } else {
            self.log.len()
        };
        let mut on_disk: Vec<u64> = leader
            .peers
            .values()
            .map(|peer| peer.acked.unwrap_or(0))
            .chain([own])
            .collect();
        on_disk.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(index) = on_disk.get(majority - 1).copied() {
            self.decide(index.min(self.log.len()), out);
        }
        self.confirmed(out);
        if !self.is_voting() {
            self.replicate(true, out); // R11: no flush after this one
        }
    }

    /// Ends a batch of inputs: sends what a leader gathered.
    pub fn flush(&mut self, out: &mut Vec<Output<N, E>>) {
        if !self.is_voting() {
            return;
        }
        let len = self.log.len();
        if let Role::Leader(leader) = &mut self.role
            && leader.marked < len
        {
            leader.marked = len;
            let ballot = leader.ballot;
            out.push(Output::Mark(Mark { ballot, len }));
        }
        self.replicate(false, out);
        self.ask(out);
    }

    /// Sends entries, and news of what is decided, as far as peers keep up; the last news to all.
    fn replicate(&mut self, is_last: bool, out: &mut Vec<Output<N, E>>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let decided = self.decided;
        for (to, peer) in &mut leader.peers {
            if peer.acked.is_none() || peer.sent < self.log.base() {
                continue;
            }
            while peer.in_flight.len() < MAX_IN_FLIGHT && peer.sent < self.log.len()
                || (is_last || peer.in_flight.is_empty()) && peer.told < decided
            {
                let entries = self.log.chunk(peer.sent, MAX_MESSAGE_BYTES);
                let from = peer.sent;
                peer.sent += entries.len() as u64;
                peer.told = decided;
                if !entries.is_empty() {
                    peer.in_flight.push_back(peer.sent);
                }
                let message = Message::Accept {
                    ballot: leader.ballot,
                    from,
                    entries,
                    decided,
                };
                out.push(Output::Send {
                    to: *to,
                    message,
                    durable: false,
                });
            }
        }
    }

    /// Sends again what was not answered for a round.
    pub(crate) fn resend(&mut self, out: &mut Vec<Output<N, E>>) {
        let base = self.log.base();
        let decided = self.decided;
        let others = self.others();
        match &mut self.role {
            Role::Follower => {}
            Role::Candidate(candidate) => {
                let ballot = candidate.ballot;
                let heard: Vec<N> = candidate.promises.keys().copied().collect();
                for peer in others.into_iter().filter(|peer| !heard.contains(peer)) {
                    self.send_prepare(peer, ballot, out);
                }
            }
            Role::Leader(leader) => {
                let mut strangers = Vec::new();
                let mut late = Vec::new();
                for (to, peer) in &mut leader.peers {
                    peer.again = false;
                    match peer.acked {
                        None => strangers.push(*to),
                        Some(acked) if acked < base => late.push(*to),
                        Some(acked) => {
                            if acked < peer.sent && !peer.moved {
                                peer.sent = acked; // R7
                                peer.in_flight.clear();
                            }
                            if peer.decided < decided && peer.in_flight.is_empty() {
                                peer.told = 0;
                            }
                        }
                    }
                    peer.moved = false;
                }
                let ballot = leader.ballot;
                for to in strangers {
                    self.send_prepare(to, ballot, out);
                }
                for to in late {
                    self.send(to, Message::CatchUp { decided }, out); // R4
                }
                self.ask_again(out);
                self.replicate(false, out);
            }
        }
    }

    pub(crate) fn on_need_prepare(&mut self, from: N, out: &mut Vec<Output<N, E>>) {
        let ballot = match &mut self.role {
            Role::Follower => return,
            Role::Candidate(candidate) => candidate.ballot,
            Role::Leader(leader) => {
                // Once in step it stays so: the question is old.
                let peer = leader.peers.get_mut(&from);
                let Some(peer) = peer.filter(|peer| peer.acked.is_none() && !peer.again) else {
                    return;
                };
                peer.again = true;
                leader.ballot
            }
        };
        self.send_prepare(from, ballot, out);
    }

    /// Somebody promised a higher ballot. The election raises the own one if that lasts.
    pub(crate) fn on_refuse(&mut self, promised: Ballot<N>) {
        self.refused = self.refused.max(Some(promised));
    }
}
