//! What a member does for another one that leads or wants to (rules R3, R4, R6 and R7).

use crate::group::{MAX_TAIL_BYTES, Role};
use crate::guard::Guard;
use crate::{Ballot, Entry, Group, Message, Output};

/// Bytes of a suffix beyond which a peer is asked to fetch the decided part elsewhere first. An
/// undecided tail is never above it in an honest group, and with what surrounds it the suffix stays
/// below 8 MiB.
pub(crate) const MAX_SUFFIX_BYTES: usize = MAX_TAIL_BYTES / 4 * 7;

/// Undecided bytes beyond which nothing more is accepted: more than any leader that keeps its own
/// bound can have under way.
const MAX_UNDECIDED_BYTES: usize = 4 * MAX_TAIL_BYTES;

impl<N: Copy + Ord, E: Entry> Group<N, E> {
    pub(crate) fn on_prepare(
        &mut self,
        ballot: Ballot<N>,
        decided: u64,
        accepted: Option<Ballot<N>>,
        len: u64,
        out: &mut Vec<Output<N, E>>,
    ) {
        if !self.promise(ballot, out) {
            return;
        }
        let is_newer = self.accepted > accepted;
        let from = if is_newer { decided } else { len };
        let lacks = is_newer || (self.accepted == accepted && self.log.len() > len);
        let mut suffix = Vec::new();
        if lacks {
            // R4: never clamp. What the candidate needs and is not here it must learn elsewhere.
            let is_gone = from < self.log.base();
            let is_long = !is_gone && self.log.bytes_after(from) > MAX_SUFFIX_BYTES;
            if (is_gone || is_long) && self.decided > decided {
                let decided = self.decided;
                return self.send(ballot.node, Message::CatchUp { decided }, out);
            }
            if is_gone {
                return; // nobody with `len` below `decided` is honest
            }
            suffix = self.log.suffix(from); // R3
        }
        let promise = Message::Promise {
            ballot,
            accepted: self.accepted,
            len: self.log.len(),
            decided: self.decided,
            from,
            suffix,
        };
        self.send_durable(ballot.node, promise, out);
    }

    /// Promises a ballot, unless a higher one was promised (rule R3).
    fn promise(&mut self, ballot: Ballot<N>, out: &mut Vec<Output<N, E>>) -> bool {
        if self.is_refused(ballot, out) {
            return false;
        }
        if self.promised < Some(ballot) {
            self.step_down(out);
            self.promised = Some(ballot);
            self.write_hard(out);
        }
        true
    }

    /// Refuses a ballot when a higher one was promised.
    fn is_refused(&self, ballot: Ballot<N>, out: &mut Vec<Output<N, E>>) -> bool {
        let Some(promised) = self.promised.filter(|promised| *promised > ballot) else {
            return false;
        };
        self.send(ballot.node, Message::Refuse { promised }, out);
        true
    }

    pub(crate) fn on_sync(
        &mut self,
        ballot: Ballot<N>,
        from: u64,
        mut suffix: Vec<E>,
        decided: u64,
        out: &mut Vec<Output<N, E>>,
    ) {
        if self.promised != Some(ballot) {
            return;
        }
        let Some(end) = from.checked_add(suffix.len() as u64) else {
            return;
        };
        let len = self.log.len();
        // Where the suffix takes over: everything up to there stays.
        let after = if self.accepted == Some(ballot) && self.guards.hold(Guard::NoShorten) {
            len // R6: it may only extend
        } else if from <= self.decided {
            self.decided // R6
        } else if !self.guards.hold(Guard::NoClamp) || !self.guards.hold(Guard::NoShorten) {
            from
        } else {
            return;
        };
        if from > after || from > len {
            return;
        }
        if end < self.decided && self.guards.hold(Guard::StepDown) {
            // R9: the leader has less than is decided.
            let decided = self.decided;
            return self.send(ballot.node, Message::CatchUp { decided }, out);
        }
        if end >= after {
            let held = usize::try_from(after - from).unwrap_or(usize::MAX);
            suffix.drain(..held.min(suffix.len()));
            self.replace(after, suffix, out);
        }
        if self.accepted != Some(ballot) {
            self.accepted = Some(ballot);
            self.write_hard(out);
        }
        self.decide(decided.min(self.log.len()), out);
        self.acknowledge(ballot, false, out);
    }

    pub(crate) fn on_accept(
        &mut self,
        ballot: Ballot<N>,
        from: u64,
        mut entries: Vec<E>,
        decided: u64,
        out: &mut Vec<Output<N, E>>,
    ) {
        if self.is_refused(ballot, out) {
            return;
        }
        let is_same = self.promised == Some(ballot) && self.accepted == Some(ballot);
        if !is_same && self.guards.hold(Guard::SameBallot) {
            return self.send(ballot.node, Message::NeedPrepare, out); // R7
        }
        let len = self.log.len();
        if from > len {
            return self.acknowledge(ballot, true, out); // R7
        }
        let has_entries = !entries.is_empty();
        let before = self.decided;
        self.decide(decided.min(len), out);
        if self.tail_bytes <= MAX_UNDECIDED_BYTES {
            let held = usize::try_from(len - from).unwrap_or(usize::MAX);
            entries.drain(..held.min(entries.len()));
            self.append(entries, out);
            self.decide(decided.min(self.log.len()), out);
        }
        // News of `decided` alone is answered only when it is old: the leader does not know then
        // that it arrived.
        if has_entries || self.decided == before {
            self.acknowledge(ballot, false, out);
        }
    }

    fn acknowledge(&self, ballot: Ballot<N>, gap: bool, out: &mut Vec<Output<N, E>>) {
        let accepted = Message::Accepted {
            ballot,
            len: self.log.len(),
            decided: self.decided,
            gap,
        };
        self.send_durable(ballot.node, accepted, out);
    }

    /// After catching up elsewhere: the leader can go on where it stopped.
    pub(crate) fn tell_leader(&self, is_longer: bool, out: &mut Vec<Output<N, E>>) {
        match self.promised.filter(|promised| promised.node != self.me) {
            Some(ballot) if self.accepted != Some(ballot) => {
                self.send(ballot.node, Message::NeedPrepare, out);
            }
            Some(ballot) if is_longer => self.acknowledge(ballot, false, out),
            _ => {}
        }
    }

    pub(crate) fn on_catch_up(&mut self, from: N, decided: u64, out: &mut Vec<Output<N, E>>) {
        let is_leader = matches!(self.role, Role::Leader(_));
        if is_leader && decided > self.log.len() && self.guards.hold(Guard::StepDown) {
            self.step_down(out); // R9
        }
        if decided > self.decided {
            out.push(Output::Behind {
                peer: from,
                index: decided,
            });
        }
    }

    pub(crate) fn on_confirm(
        &mut self,
        ballot: Ballot<N>,
        round: u64,
        out: &mut Vec<Output<N, E>>,
    ) {
        // It says that nothing higher is promised. Whether `ballot` itself is on disk yet does
        // not matter: after a crash a lower promise can elect nobody, since a majority has the
        // ballot on disk.
        if self.promised == Some(ballot) {
            self.send(ballot.node, Message::Confirmed { ballot, round }, out);
        } else {
            self.is_refused(ballot, out);
        }
    }
}
