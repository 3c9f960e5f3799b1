//! This node's part in the home groups: what consensus wants written, sent and applied.

use std::collections::BTreeSet;

use cpe_consensus::{Group, Hard, Output};
use cpe_membership::{Member, NodeId};
use cpe_space::{Applied, Command, Entry, MAX_ENTRY_BYTES, Outcome, ShardId, Sm};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::boot;
use crate::guard::{Guard, holds};
use crate::home::{Home, Proposer};
use crate::peer::{After, Peer, Slot, Timer};
use crate::persist::Table;
use crate::wire::{GroupMessage, Message};

/// Decided entries a group keeps for members that are a little behind; those further behind fetch
/// the feed.
const KEPT_ENTRIES: u64 = 64;
/// Bytes. The same. With an undecided tail it must fit a message.
const KEPT_BYTES: usize = 256 * 1024;

/// An entry together with what it says, so that it is decoded once.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    entry: Entry,
    command: Command,
}

impl Proposal {
    /// Encodes a command; `None` when it is too large for an entry.
    #[must_use]
    pub fn new(command: Command) -> Option<Self> {
        let entry = Entry::new(&command).ok()?;
        (entry.as_bytes().len() <= MAX_ENTRY_BYTES).then_some(Self { entry, command })
    }

    /// Decodes an entry.
    ///
    /// # Errors
    /// When its bytes are not one command, whole.
    pub fn decode(entry: Entry) -> Result<Self, cpe_tuple::codec::CodecError> {
        let command = entry.command()?;
        Ok(Self { entry, command })
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// What it says.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }
}

impl cpe_consensus::Entry for Proposal {
    fn seals(&self) -> bool {
        matches!(self.command, Command::Seal { .. } | Command::Fork { .. })
    }

    fn size(&self) -> usize {
        self.entry.as_bytes().len()
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.entry.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::decode(Entry::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// What a group said, and in which epoch.
#[derive(Debug)]
pub(crate) struct Said {
    shard: ShardId,
    epoch: u64,
    output: Output<Member, Proposal>,
}

/// How many decided entries a group still holds for slow members.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    entries: u64,
    bytes: usize,
    /// Where the last count ended: up to here entries go when this one ends.
    mark: u64,
}

impl Peer {
    /// Lets this node's group of a shard do something, if there is one. What it says is done later,
    /// in order.
    pub(crate) fn with_group<T>(
        &mut self,
        shard: ShardId,
        act: impl FnOnce(&mut Group<Member, Proposal>, &mut Vec<Output<Member, Proposal>>) -> T,
    ) -> Option<T> {
        let mut out = Vec::new();
        let group = self.slot(shard)?.seat.group_mut()?;
        let epoch = group.epoch();
        let result = act(group, &mut out);
        self.hear_group(shard, epoch, out);
        Some(result)
    }

    pub(crate) fn hear_group(
        &mut self,
        shard: ShardId,
        epoch: u64,
        out: Vec<Output<Member, Proposal>>,
    ) {
        let said = out.into_iter().map(|output| Said {
            shard,
            epoch,
            output,
        });
        self.said.extend(said);
    }

    /// Lets the leading home of a shard do something, with a way to propose; `None` when this node
    /// does not lead it.
    pub(crate) fn with_home<T>(
        &mut self,
        shard: ShardId,
        act: impl FnOnce(&mut Home, &Sm, &mut Proposer<'_>) -> T,
    ) -> Option<T> {
        let mut out = Vec::new();
        let most = self.config.shard_bytes_max;
        let slot = self.slot(shard)?;
        let full = slot.is_full(most);
        let Slot {
            shard: replica,
            seat,
            home,
            ..
        } = slot;
        let (home, group) = (home.as_mut()?, seat.group_mut()?);
        let epoch = group.epoch();
        let result = act(
            home,
            replica.sm(),
            &mut Proposer::new(group, &mut out, replica.sm(), full),
        );
        self.hear_group(shard, epoch, out);
        self.proposed.insert(shard);
        Some(result)
    }

    /// Sends what was proposed since the last time.
    pub(crate) fn flush(&mut self, shard: ShardId) {
        self.with_group(shard, |group, out| group.flush(out));
    }

    /// Does one thing that a group wants; false when there is none.
    pub(crate) fn obey_group(&mut self) -> bool {
        let Some(Said {
            shard,
            epoch,
            output,
        }) = self.said.pop_front()
        else {
            return false;
        };
        match output {
            Output::Hard(hard) => self.save_seat(shard, &hard),
            Output::Append { after, entries } => self.append(shard, after, &entries),
            Output::Send {
                to,
                message,
                durable,
            } => {
                let message = Message::Group {
                    shard,
                    epoch,
                    message,
                };
                if durable && holds(Guard::DiskBeforeWord) {
                    self.once_kept(shard, After::Send(to.node, Box::new(message)));
                } else {
                    self.send_if(to.node, message);
                }
            }
            Output::Mark(mark) if !holds(Guard::DiskBeforeWord) => {
                self.mark_durable(shard, epoch, mark);
            }
            Output::Mark(mark) => self.once_kept(shard, After::Mark(shard, epoch, mark)),
            Output::Decided(index) => self.apply_decided(shard, index),
            Output::Behind { peer, index } => self.pull_from(shard, peer.node, index),
            Output::Lead => self.lead(shard),
            Output::Follow => self.follow(shard),
            Output::Confirmed { ticket, index } => self.confirmed(shard, epoch, ticket, index),
            _ => {}
        }
        true
    }

    fn save_seat(&mut self, shard: ShardId, hard: &Hard<Member>) {
        if let Some(batch) = self.disk(shard)
            && let Ok(bytes) = cpe_tuple::codec::encode(hard)
        {
            batch.put(Table::Seat, boot::shard_key(shard), bytes);
        }
    }

    /// Writes what the group accepted, in the place of what it had after that index.
    fn append(&mut self, shard: ShardId, after: u64, entries: &[Proposal]) {
        self.forget_tail(shard, after);
        let Some(batch) = self.disk(shard) else {
            return;
        };
        let mut index = after;
        for proposal in entries {
            index += 1;
            let bytes = proposal.entry.as_bytes().to_vec();
            batch.put(Table::Log, boot::indexed(shard, index), bytes);
        }
        if let Some(slot) = self.slot(shard) {
            slot.log_end = slot.log_end.max(index);
        }
    }

    /// Removes entries after an index from the disk.
    pub(crate) fn forget_tail(&mut self, shard: ShardId, after: u64) {
        let Some(slot) = self.slot(shard) else { return };
        let end = slot.log_end;
        if end > after {
            slot.log_end = after;
            let (from, to) = (
                boot::indexed(shard, after + 1),
                boot::indexed(shard, end + 1),
            );
            if let Some(batch) = self.disk(shard) {
                batch.delete_range(Table::Log, from, to);
            }
        }
    }

    pub(crate) fn mark_durable(
        &mut self,
        shard: ShardId,
        epoch: u64,
        mark: cpe_consensus::Mark<Member>,
    ) {
        self.with_group(shard, |group, out| {
            if group.epoch() == epoch {
                group.persisted(mark, out);
            }
        });
        self.proposed.insert(shard);
    }

    /// A message of another member.
    pub(crate) fn receive_group(
        &mut self,
        from: NodeId,
        shard: ShardId,
        epoch: u64,
        message: GroupMessage,
    ) {
        let Some(slot) = self.slot(shard) else { return };
        if slot.is_foreign(epoch) {
            return;
        }
        let own = slot.seat.group().map(Group::epoch);
        if own == Some(epoch) {
            if !self.has_bodies_of(from, shard, &message) {
                return;
            }
            self.with_group(shard, |group, out| {
                let sender = group.members().iter().find(|member| member.node == from);
                if let Some(sender) = sender.copied() {
                    group.receive(sender, message, out);
                }
            });
            self.proposed.insert(shard);
        } else if epoch > slot.shard.version().epoch {
            // There is history this node has not seen.
            let next = slot.shard.version().index + 1;
            self.pull_from(shard, from, next);
        } else {
            self.tell_epoch(from, shard);
        }
    }

    /// The log is decided up to an index: applies what is new.
    fn apply_decided(&mut self, shard: ShardId, upto: u64) {
        let mut admitted: Option<(Member, u64)> = None;
        let mut hosts = BTreeSet::new();
        let mut count = 0;
        while let Some(slot) = self.slot(shard)
            && slot.shard.version().index < upto
        {
            let next = slot.shard.version().index + 1;
            let group = slot.seat.group();
            let Some(Proposal { entry, command }) = group.and_then(|g| g.entry(next)).cloned()
            else {
                break;
            };
            slot.keep(entry.as_bytes().len());
            let applied = slot.shard.push(entry, &command);
            slot.proposed.decided(&applied);
            count += 1;
            self.acknowledged(shard, &command);
            self.applied_at_home(shard, &command, &applied);
            self.lease_applied(shard, &command, &applied);
            let index = self
                .slot_ref(shard)
                .map_or(0, |slot| slot.shard.version().index);
            if let Applied::Added { dot: Some(dot), .. } = &applied
                && let Some((origin, upto)) = admitted.replace((dot.origin, dot.n))
                && origin != dot.origin
            {
                self.tell_admitted(shard, origin, upto, index);
            }
            self.tell_outcome(shard, &command, &applied, index);
            if let Applied::Done(_, Outcome::Moved(record)) = &applied {
                hosts.extend(record.host.map(|host| host.node));
            }
            self.applied(shard, applied);
        }
        let Some(slot) = self.slot(shard) else { return };
        let index = slot.shard.version().index;
        let leads = slot.home.is_some();
        if let Some((origin, upto)) = admitted {
            self.tell_admitted(shard, origin, upto, index);
        }
        self.count("decided", count);
        self.mark_later(shard);
        if leads {
            self.feed_now(shard, hosts);
        }
        if leads || self.fed_by(shard) {
            self.dirty.insert(shard);
            self.timers
                .set_if_none(Timer::Feed, self.now + self.config.feed_interval);
        }
        self.compact(shard);
        self.serve_confirmed(shard);
        self.grant_confirmed(shard);
        self.synced(shard);
    }

    /// True for the leader of the epoch that a seal has just ended: the seal is its to publish.
    fn fed_by(&self, shard: ShardId) -> bool {
        self.slot_ref(shard).is_some_and(|slot| {
            slot.fed < slot.shard.version().index && slot.led_until == slot.shard.version().index
        })
    }

    /// What an entry just applied means for those who wait at the leading home.
    fn applied_at_home(&mut self, shard: ShardId, command: &Command, applied: &Applied) {
        self.with_home(shard, |home, sm, log| {
            home.applied(sm, command, applied, log)
        });
        if matches!(applied, Applied::Missed(_)) {
            let at = self.now + self.config.park_lease;
            self.timers.set_if_none(Timer::Park(shard), at);
        }
    }

    /// This node leads the shard's group now.
    pub(crate) fn lead(&mut self, shard: ShardId) {
        let me = self.me.node;
        if !self.may_serve(shard) {
            // It serves once it is registered.
            return self.timers.set(Timer::Register(shard), self.now);
        }
        let Some(slot) = self.slot(shard) else { return };
        let Some(group) = slot.seat.group() else {
            return;
        };
        let applied = slot.shard.version().index;
        let undecided = (applied + 1..=group.len()).filter_map(|index| group.entry(index));
        let home = Home::inherit(undecided.map(Proposal::command));
        slot.home = Some(home);
        slot.leader = Some(me);
        slot.fed = slot.fed.max(applied);
        self.count("elected", 1);
        // Nothing of an earlier ballot counts as decided before an entry of its own is.
        self.with_home(shard, |_, _, log| log.propose(Command::Noop));
        self.time_leases(shard);
        self.time_hosts(shard);
        self.wake_clients(shard);
        self.tell_askers(shard);
    }

    /// True while this node leads a shard's group and has nothing to learn from others: a leader is
    /// ahead of all that is decided in its epoch, or will step down and ask.
    ///
    /// `epoch` is one that exists, as others say. If a later one than the group's does, the seal is
    /// decided; a leader that has not seen it decides nothing any more, and steps down to learn.
    pub(crate) fn leads(&mut self, shard: ShardId, epoch: u64) -> bool {
        let Some(slot) = self.slot_ref(shard).filter(|slot| slot.home.is_some()) else {
            return false;
        };
        let own = slot.shard.version().epoch;
        if epoch.max(slot.map.epoch) <= own {
            return true;
        }
        self.with_group(shard, Group::resign);
        self.follow(shard);
        false
    }

    /// It no longer does. Whoever asked it asks the next leader, under the same numbers.
    pub(crate) fn follow(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let Some(home) = slot.home.take() else { return };
        slot.proposed.add(home.undecided());
        slot.leader = None;
        self.outbox_instead(shard);
        self.drop_confirming(shard);
        self.drop_hosts(shard);
        self.wake_clients(shard);
    }

    /// Writes how far logs are decided, along with something else if that can be.
    pub(crate) fn save_marks(&mut self) {
        for shard in std::mem::take(&mut self.marks) {
            let Some(slot) = self.slot(shard) else {
                continue;
            };
            let index = slot.shard.version().index;
            if slot.marked < index {
                slot.marked = index;
                let (key, value) = (boot::shard_key(shard), index.to_be_bytes().to_vec());
                if let Some(batch) = self.disk(shard) {
                    batch.put(Table::Decided, key, value);
                }
            }
        }
    }
}

impl Slot {
    /// Counts a decided entry that the group holds, and lets it forget older ones.
    fn keep(&mut self, bytes: usize) {
        self.kept.entries += 1;
        self.kept.bytes = self.kept.bytes.saturating_add(bytes);
        if self.kept.entries < KEPT_ENTRIES && self.kept.bytes < KEPT_BYTES {
            return;
        }
        let index = self.shard.version().index;
        let until = if self.kept.bytes >= 2 * KEPT_BYTES {
            index
        } else {
            self.kept.mark
        };
        if let Some(group) = self.seat.group_mut() {
            group.trim(until);
        }
        self.kept = Kept {
            entries: 0,
            bytes: 0,
            mark: index,
        };
    }
}
